//! Turns a run's folder into what ships: an ONNX file, its card with measured results, and the
//! demonstration's resynthesis network.

use crate::{
    bank::Trained,
    checkpoint::{self, Run, State},
    module::Module,
    net,
    onnx::{self, Ends},
    photos, resynth, score,
};
use anyhow::{Context as _, Result, bail, ensure};
use image::RgbImage;
use spotd::{
    detector::{
        Model,
        card::{Card, Training, sha256_hex},
    },
    forensics::{rng::Rng, scenes::SceneRenderer},
    identity::Precision,
};
use std::path::{Path, PathBuf};
use tch::{Device, nn::VarStore};

/// Largest allowed difference between libtorch's and tract's logits.
pub const MOST_APART: f32 = 1e-4;

/// Frame size of the demonstration.
pub const DEMO_SIZE: (i64, i64) = (640, 384);

/// What `export` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// A finished run.
    pub run: PathBuf,
    /// Where the files go.
    pub out: PathBuf,
    /// Validation sets in the paper's layout, to measure on.
    pub measure_on: Option<PathBuf>,
    /// Version on the card.
    pub version: String,
    /// Words on the training machine and photographs, for the card.
    pub data: String,
    /// What the model is known not to see.
    pub known_failures: Vec<String>,
}

/// Writes `<name>.onnx`, `<name>.toml` and `resynth-demo.onnx` into `options.out`; returns the
/// card.
pub fn export(options: &Options) -> Result<Card> {
    let run = Run::new(&options.run)?;
    let state = run.state()?;
    let calibration = state.calibration.clone().with_context(|| {
        format!(
            "{}: the run has not ended: it has no calibration yet; go on with `resynth --resume`",
            run.folder.display()
        )
    })?;
    let (store, module) = resynth::load_average(&run, &state.net, Device::Cpu)?;
    let about = About {
        name: state.net.name.clone(),
        version: options.version.clone(),
        tile: net::TILE,
        calibration: (calibration.temperature, calibration.threshold, calibration.unsure_from),
        licence: "MIT OR Apache-2.0".into(),
        known_failures: options.known_failures.clone(),
        training: training(&state, options),
    };
    let (card, path) = ship(&state.net, &store, &module, about, options.measure_on.as_deref(), &options.out)?;
    let mut written = vec![path.display().to_string(), Card::path_for(&path).display().to_string()];
    if state.decoders_only {
        log::info!("no demonstration network: the run had decoders alone and trained no bank");
    } else {
        written.push(demo(&run, &options.out)?.display().to_string());
    }
    println!("wrote {}", written.join(", "));
    Ok(card)
}

/// The parts of a card that do not follow from the weights.
#[derive(Clone, Debug)]
pub struct About {
    /// Name of the model and of its files.
    pub name: String,
    /// Version of the weights.
    pub version: String,
    /// Side of the tile in pixels.
    pub tile: i64,
    /// Temperature, threshold and `unsure_from`.
    pub calibration: (f32, f32, f32),
    /// Licence of the weights.
    pub licence: String,
    /// What it does not see or gets wrong.
    pub known_failures: Vec<String>,
    /// Where the weights come from.
    pub training: Training,
}

/// Writes `<name>.onnx` and its card into `out`, measured on the sets of `measure_on` if given;
/// returns the card and the path of the ONNX file. Nothing is written unless tract agrees with
/// libtorch.
pub fn ship(
    net: &net::Net,
    store: &VarStore,
    module: &Module,
    about: About,
    measure_on: Option<&Path>,
    out: &Path,
) -> Result<(Card, PathBuf)> {
    let bytes = onnx::write(net, store, &Ends::detector(about.tile))?;
    let (multiply_adds, parameters) = net.cost(about.tile, about.tile);
    let (temperature, threshold, unsure_from) = about.calibration;
    let card = Card {
        name: about.name,
        version: about.version,
        sha256: String::new(),
        precision: Precision::F32,
        tile: about.tile as u32,
        temperature: temperature.into(),
        threshold: threshold.into(),
        unsure_from: unsure_from.into(),
        mmac: (multiply_adds as f64 / 1e5).round() / 10.0,
        parameters,
        licence: about.licence,
        known_failures: about.known_failures,
        training: about.training,
        coherence: None,
        reach: None,
        measured: vec![],
    };
    publish(&bytes, card, |tiles| module.logits(tiles, Device::Cpu), measure_on, out)
}

/// Writes `bytes` as `<name>.onnx` and the card, which needs neither hash nor measurements yet,
/// into `out`; `logits` computes libtorch's logits of tiles, which tract's must equal.
pub fn publish(
    bytes: &[u8],
    mut card: Card,
    logits: impl Fn(&[RgbImage]) -> Result<Vec<f32>>,
    measure_on: Option<&Path>,
    out: &Path,
) -> Result<(Card, PathBuf)> {
    card.sha256 = sha256_hex(bytes);
    let path = out.join(format!("{}.onnx", card.name));
    let model = Model::from_bytes(bytes, card.clone(), &path)?;
    let apart = parity(&model, logits)?;
    ensure!(
        apart < MOST_APART,
        "libtorch and tract differ by {apart} on the logit: the export is wrong, nothing was written"
    );
    log::info!("libtorch and tract agree within {apart:.1e} on the logit");
    if let Some(layout) = measure_on {
        card.measured = score::measure(&model, layout, &score::possible())?;
        println!("{}", score::table(&card.measured));
    }
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be made", out.display()))?;
    // What is written must load as the daemon loads it.
    let text = card.to_toml();
    Model::from_bytes(bytes, Card::parse(&text, &Card::path_for(&path))?, &path)?;
    checkpoint::write(&path, bytes)?;
    checkpoint::write(&Card::path_for(&path), text.as_bytes())?;
    Ok((card, path))
}

fn training(state: &State, options: &Options) -> Training {
    let with_fakes = if state.fakes > 0 {
        format!(", {} generated pictures without pairs", state.fakes)
    } else {
        String::new()
    };
    let matched =
        if state.matched > 0 { format!(", {} matched pairs", state.matched) } else { String::new() };
    let mut redrawn = Vec::new();
    if !state.decoders_only {
        redrawn.push(format!(
            "{} small networks of our own ({:.0} min) and by random upsamplers",
            crate::bank::members().len(),
            state.bank_seconds / 60.0
        ));
    }
    if !state.decoders.is_empty() {
        redrawn.push(format!("decoders of real generators ({})", state.decoders.join(", ")));
    }
    Training {
        data: format!(
            "{}: {} photographs, {} rendered scenes{with_fakes}{matched}",
            options.data, state.photographs, state.scenes
        ),
        recipe: format!(
            "pairs of a photograph and its resynthesis by {}, raw and spectrum-equalised; \
             resize, blur, sharpening, noise, 4:2:0 and JPEG by two encoders, once or twice; cross-entropy and a pair loss; AdamW, cosine, moving average; \
             {} steps of the detector",
            redrawn.join(" and by "),
            state.steps
        ),
        minutes: ((state.seconds + state.bank_seconds) / 6.0).round() / 10.0,
        seed: state.seed,
    }
}

/// Largest difference of logits between libtorch and the daemon's model over tiles of scenes and
/// noise.
fn parity(model: &Model, logits: impl Fn(&[RgbImage]) -> Result<Vec<f32>>) -> Result<f32> {
    let side = model.card().tile;
    let mut rng = Rng::new(11);
    let mut tiles: Vec<RgbImage> = (0..4)
        .map(|seed| {
            let frame = SceneRenderer::new(seed, side.max(300) + 20, side.max(220) + 20).frame(seed);
            image::imageops::crop_imm(&frame, 8 * seed as u32, 5, side, side).to_image()
        })
        .collect();
    tiles.push(RgbImage::from_fn(side, side, |_, _| image::Rgb([0; 3].map(|_: u8| rng.below(256) as u8))));
    let torch = logits(&tiles)?;
    let mut apart = 0f32;
    for (tile, expected) in tiles.iter().zip(torch) {
        // Relative if logits are large: a network trained elsewhere may have logits in the
        // hundreds.
        apart = apart.max((model.logit(tile)? - expected).abs() / expected.abs().max(1.0));
    }
    Ok(apart)
}

/// Writes the bank's demonstration network for frames of [`DEMO_SIZE`].
fn demo(run: &Run, out: &Path) -> Result<PathBuf> {
    let name = crate::bank::demo().name;
    let trained = Trained::load(&run.bank(), &name, Device::Cpu)?;
    let bytes = onnx::write(&trained.member.net, &trained.store, &Ends::picture(DEMO_SIZE.1, DEMO_SIZE.0))?;
    let path = out.join(format!("{name}.onnx"));
    checkpoint::write(&path, &bytes)?;
    Ok(path)
}

/// How well the detector separates rendered scenes from their resyntheses by the demonstration's
/// network: the score of each, as the median over `frames` frames of each scene.
pub fn tell_scenes_apart(
    model: &Model,
    run: &Run,
    seeds: std::ops::Range<u64>,
    frames: u64,
) -> Result<Vec<(u64, f64, f64)>> {
    let demo = Trained::load(&run.bank(), &crate::bank::demo().name, Device::Cpu)?;
    if frames == 0 || seeds.is_empty() {
        bail!("no scenes to tell apart");
    }
    let mut rows = Vec::new();
    for seed in seeds {
        let mut renderer = SceneRenderer::new(seed, DEMO_SIZE.0 as u32, DEMO_SIZE.1 as u32);
        let (mut real, mut fake) = (Vec::new(), Vec::new());
        for n in 0..frames {
            let frame = renderer.frame(n * 37);
            let redrawn =
                photos::to_pictures(&demo.redraw(&photos::to_tensor(std::slice::from_ref(&frame))))?;
            real.push(score(model, frame)?);
            fake.push(score(model, redrawn.into_iter().next().context("one picture in, one out")?)?);
        }
        rows.push((seed, median(&mut real), median(&mut fake)));
    }
    Ok(rows)
}

fn score(model: &Model, picture: RgbImage) -> Result<f64> {
    let frame = spotd::frame::Frame::still("scene".into(), picture);
    Ok(spotd::detector::Detector::of(model, 6).score(frame)?.score)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
