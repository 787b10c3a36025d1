//! `spotd-train coherence`: fits the head of the coherent part (see `spotd::detector::coherence`)
//! on pairs of a photograph and its resynthesis, on matched sets, and on whatever else there is.

mod data;
mod fate;
mod head;
mod mean;

pub use mean::{Options as MeanOptions, mean_head};

use crate::{
    bank, checkpoint,
    photos::{self, bar},
};
use anyhow::{Context as _, Result, ensure};
use data::{Kind, Match};
use image::RgbImage;
use spotd::{
    detector::{card::sha256_hex, coherence},
    forensics::{
        metrics,
        rng::{Rng, mix},
        scenes::SceneRenderer,
    },
    source::demo::{HEIGHT, Resynthesis, WIDTH},
};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use tch::{Device, Tensor};

/// What to fit on, and how long.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Folder with `real/<kind>/` and `fake/<kind>/`; may be given several times. A kind whose
    /// sides have the same file names is one of pairs, one with both sides a matched set, one with
    /// a single side counts less. Never val.
    #[arg(long, required = true)]
    pub data: Vec<PathBuf>,
    /// Where the ONNX file goes.
    #[arg(long, default_value = "models/spotd-coherence.onnx")]
    pub out: PathBuf,
    /// Pairs of a rendered scene and what the demonstration's network makes of it.
    #[arg(long, default_value_t = 100)]
    pub scenes: u64,
    /// Folder with networks of a `resynth` run that redraw photographs of `--photos`, as pairs of
    /// one kind.
    #[arg(long, requires = "photos")]
    pub bank: Option<PathBuf>,
    /// Folder of photographs for `--bank`; may be given several times. Never val.
    #[arg(long, requires = "bank")]
    pub photos: Vec<PathBuf>,
    /// Pairs by each network of the bank.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub bank_pairs: u32,
    /// How often each picture is drawn, each time through other degradations and as another crop.
    #[arg(long, default_value_t = 4)]
    pub times: u64,
    /// Networks whose mean logit counts.
    #[arg(long, default_value_t = 4)]
    pub members: u64,
    /// Units of a network's first hidden layer.
    #[arg(long, default_value_t = 96)]
    pub hidden: i64,
    /// How often each drawn sample is seen, in the mean.
    #[arg(long, default_value_t = 25.0)]
    pub epochs: f64,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Fits a head, reports how well it separates held-out data, then fits on everything and writes the
/// file.
///
/// # Errors
/// A folder cannot be used, nothing can be read, or the file cannot be written; then nothing is
/// written.
pub fn coherence(options: &Options) -> Result<String> {
    for (what, value) in [("--times", options.times), ("--members", options.members)] {
        ensure!((1..=100).contains(&value), "{what} must be 1 to 100");
    }
    ensure!((1..=1024).contains(&options.hidden), "--hidden must be 1 to 1024");
    ensure!(options.epochs > 0.0 && options.epochs <= 1000.0, "--epochs must be above 0 and at most 1000");
    let mut kinds = Vec::new();
    for folder in &options.data {
        kinds.extend(data::kinds(folder)?);
    }
    let rendered = tempfile::tempdir().context("a folder for rendered scenes")?;
    if options.scenes > 0 {
        kinds.push(render(rendered.path(), options.scenes)?);
    }
    if let Some(bank) = &options.bank {
        kinds.push(redraw(rendered.path(), bank, options)?);
    }
    let how = head::Fit {
        members: options.members,
        hidden: options.hidden,
        epochs: options.epochs,
        seed: options.seed,
    };
    let mut said = String::new();
    for kind in &kinds {
        let sort = match kind.matched {
            Match::Pairs => "pairs",
            Match::Sets => "matched set",
            Match::Loose => "one side",
        };
        writeln!(
            said,
            "{:24} {:>6} true {:>6} generated  {sort}",
            kind.name,
            kind.real.len(),
            kind.fake.len()
        )?;
    }
    let samples = data::draw(&kinds, options.times, options.seed, &bar(0, "features"))?;
    let trial =
        head::fit(&samples, |at| !samples.held_out[at], how, &bar(0, "fitting without what is held out"))?;
    said += &measure(&trial, &samples, &kinds);
    let fitted = head::fit(&samples, |_| true, how, &bar(0, "fitting"))?;
    let bytes = fitted.onnx();
    agree(&fitted, &bytes, &options.out)?;
    if let Some(folder) = options.out.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    }
    checkpoint::write(&options.out, &bytes)?;
    writeln!(said, "wrote {}, sha256 {}", options.out.display(), sha256_hex(&bytes))?;
    Ok(said)
}

/// First seed of the scenes, distinct from those of the demonstration and of the tests.
const FIRST_SCENE: u64 = 2_000_000;

/// Writes `n` rendered scenes and their resyntheses as PNG below `folder`.
fn render(folder: &Path, n: u64) -> Result<Kind> {
    let network = Resynthesis::new().context("the demonstration's network")?;
    let mut kind = Kind { name: "scenes".into(), matched: Match::Pairs, real: vec![], fake: vec![] };
    let progress = bar(n, "scenes");
    for scene in 0..n {
        let real = SceneRenderer::new(FIRST_SCENE + scene, WIDTH, HEIGHT).frame(scene % 50);
        let fake = network.apply(&real).map_err(|e| anyhow::anyhow!("redrawing a scene: {e}"))?;
        put(&mut kind, folder, &format!("scene-{scene:04}"), [&real, &fake])?;
        progress.inc(1);
    }
    Ok(kind)
}

/// Writes a picture and its resynthesis as PNG to `folder/<kind>/{real,fake}/<stem>.png`, and adds
/// them to their kind.
fn put(kind: &mut Kind, folder: &Path, stem: &str, [real, fake]: [&RgbImage; 2]) -> Result<()> {
    for (side, picture, paths) in [("real", real, &mut kind.real), ("fake", fake, &mut kind.fake)] {
        let folder = folder.join(&kind.name).join(side);
        std::fs::create_dir_all(&folder).context("a folder for redrawn pictures")?;
        let path = folder.join(format!("{stem}.png"));
        picture.save(&path).with_context(|| path.display().to_string())?;
        paths.push(path);
    }
    Ok(())
}

/// Side of what the bank resynthesises, in pixels, and the margin that is cut off, where padding
/// shows.
const REDRAWN: u32 = 352;
const MARGIN: u32 = 16;

/// Writes photographs and their resyntheses by each network of the bank as PNG below `folder`.
fn redraw(folder: &Path, bank: &Path, options: &Options) -> Result<Kind> {
    let bank = bank::load_all(bank, Device::Cpu)?;
    let photos = photos::load(&options.photos, 0, options.seed)?.train;
    let mut rng = Rng::new(options.seed ^ 0xba4c);
    let mut kind = Kind { name: "bank".into(), matched: Match::Pairs, real: vec![], fake: vec![] };
    let progress = bar(bank.len() as u64 * u64::from(options.bank_pairs), "redrawing");
    for (at, member) in bank.iter().enumerate() {
        for number in 0..options.bank_pairs {
            let real = photos.batch(1, REDRAWN, &mut rng);
            let fake = member.redraw(&real);
            let (margin, side) = (i64::from(MARGIN), i64::from(REDRAWN - 2 * MARGIN));
            let inner = |x: &Tensor| photos::to_pictures(&x.narrow(2, margin, side).narrow(3, margin, side));
            put(&mut kind, folder, &format!("{at:02}-{number:04}"), [&inner(&real)?[0], &inner(&fake)?[0]])?;
            progress.inc(1);
        }
    }
    Ok(kind)
}

/// How well held-out data are separated, kind by kind, and where the tail of the real samples ends.
fn measure(trial: &head::Head, samples: &data::Samples, kinds: &[Kind]) -> String {
    let logits = trial.logits(&samples.rows);
    let mut said = String::new();
    let (mut truth, mut found) = (Vec::new(), Vec::new());
    for (at, kind) in kinds.iter().enumerate() {
        let mine = |row: &usize| samples.held_out[*row] && samples.kinds[*row] == at;
        let rows: Vec<usize> = (0..logits.len()).filter(mine).collect();
        let scores: Vec<f32> = rows.iter().map(|row| logits[*row]).collect();
        let labels: Vec<bool> = rows.iter().map(|row| samples.labels[*row] > 0.5).collect();
        for (logit, generated) in scores.iter().zip(&labels) {
            if *generated { &mut found } else { &mut truth }.push(*logit);
        }
        let curve = metrics::Ranking::new(&scores, &labels).map(|ranking| ranking.curve(None));
        if let Some(curve) = curve.filter(metrics::Curve::has_both) {
            let _ = writeln!(said, "{:24} held out: AUC {:.3}", kind.name, curve.auc());
        }
    }
    said + &tail(truth, &found)
}

/// Logits that few of the real samples reach, and the recall at these: candidates for a threshold.
fn tail(mut truth: Vec<f32>, found: &[f32]) -> String {
    truth.sort_by(f32::total_cmp);
    let mut said = String::new();
    for share in [0.05, 0.01, 0.005, 0.002] {
        let Some(limit) = truth.get(((1.0 - share) * truth.len() as f64) as usize) else { continue };
        let above = found.iter().filter(|l| *l >= limit).count() as f64 / found.len().max(1) as f64;
        let _ = writeln!(
            said,
            "held out: {:.1} % of the true samples have a logit of {limit:.2} or more, and {:.0} % of the generated ones",
            share * 100.0,
            above * 100.0
        );
    }
    said
}

/// Largest allowed difference between libtorch's and tract's logits.
const MOST_APART: f32 = 1e-3;

/// Four rows of features, anything in their range.
fn rows() -> impl Iterator<Item = Vec<f32>> {
    (0..4u64).map(|seed| {
        (0..coherence::FEATURES as u64).map(|i| (mix(seed ^ mix(i)) % 1000) as f32 / 200.0 - 3.0).collect()
    })
}

/// Refuses a file for which tract and libtorch disagree.
fn agree(fitted: &head::Head, bytes: &[u8], path: &Path) -> Result<()> {
    let read = coherence::Head::new(bytes, path)?;
    for row in rows() {
        let (ours, theirs) = (fitted.logits(&row)[0], read.of_features(&row)?[0]);
        ensure!(
            (ours - theirs).abs() <= MOST_APART * ours.abs().max(1.0),
            "libtorch says {ours} and tract {theirs}: the export is wrong, nothing was written"
        );
    }
    Ok(())
}
