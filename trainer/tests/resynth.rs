//! Training on tiny generated pictures: it runs, it learns, it never sees `val`, and what it saves
//! is what loads again.

use image::{Rgb, RgbImage};
#[cfg(feature = "gstreamer")]
use spotd::forensics::augment::Policy;
use spotd::forensics::rng::Rng;
use spotd_train::{
    bank,
    checkpoint::Run,
    module::Module,
    net::{self, Layer, Net},
    onnx::{self, Ends},
    photos,
    resynth::{self, Options},
    start,
};
#[cfg(feature = "gstreamer")]
use spotd_train::{
    fit::recipe::Video,
    pairs::{Pairs, Strangers},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tch::{Device, Kind, Tensor, nn::VarStore};

/// Noisy textures: a photograph's stand-in with detail at the pixel, which a decoder cannot redraw.
fn put_pictures(folder: &Path, n: u64) {
    std::fs::create_dir_all(folder).unwrap();
    for seed in 0..n {
        let mut rng = Rng::new(seed);
        let base = rng.range(60.0, 180.0);
        let picture = RgbImage::from_fn(260, 250, |x, y| {
            let wave = 30.0 * ((x as f32 / 11.0).sin() + (y as f32 / 7.0).cos());
            Rgb([0, 1, 2].map(|_| (base + wave + 14.0 * rng.normal()).clamp(0.0, 255.0) as u8))
        });
        picture.save(folder.join(format!("{seed}.png"))).unwrap();
    }
}

fn tiny() -> Net {
    let layers = vec![
        Layer::Normalise { mean: 0.5, deviation: 0.25 },
        Layer::Conv { channels: (3, 8), kernel: 3, stride: 2, bias: false, zero_sum: true },
        Layer::BatchNorm { channels: 8 },
        Layer::Relu,
        Layer::MeanPool,
        Layer::Linear { features: (8, 1) },
    ];
    Net { name: "tiny".into(), layers }
}

/// Enough that the loss falls whatever order the loader's threads bring the pairs in.
const STEPS: u64 = 300;

fn options(photos: &Path, run: &Path) -> Options {
    Options {
        photos: vec![photos.to_path_buf()],
        run: run.to_path_buf(),
        scenes: 0,
        // Counted in steps: a busy machine must not decide how much is learned.
        budget: Duration::from_secs(3600),
        bank_budget: Duration::ZERO,
        batch: 4,
        side: 64,
        bf16: Some(false),
        most_steps: STEPS,
        rate: 5e-2,
        calibration_windows: 24,
        ..Options::default()
    }
}

#[test]
fn fit_learns_and_its_checkpoint_loads() {
    // Beside other tests, more threads only wait for each other.
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let (folder, run) = (dir.path().join("photographs"), dir.path().join("run"));
    put_pictures(&folder, 16);
    let outcome = resynth::train(&tiny(), &options(&folder, &run)).unwrap();
    assert_eq!(outcome.state.steps, STEPS);
    assert!(outcome.loss.1 < 0.9 * outcome.loss.0, "loss {:?}", outcome.loss);
    let calibration = outcome.state.calibration.clone().unwrap();
    assert!(calibration.unsure_from <= calibration.threshold && calibration.temperature > 0.0);

    // What lies in the folder is the run: state, weights, average.
    let run = Run::new(&run).unwrap();
    let state = run.state().unwrap();
    assert_eq!((state.net, state.calibration), (tiny(), Some(calibration)));
    let (store, module) = resynth::load_average(&run, &tiny(), tch::Device::Cpu).unwrap();
    let again = resynth::load_average(&run, &tiny(), tch::Device::Cpu).unwrap();
    let x = tch::Tensor::rand([2, 3, 32, 32], (tch::Kind::Float, tch::Device::Cpu));
    assert_eq!(module.infer(&x), again.1.infer(&x));
    assert!(!store.is_empty());

    // A second fit does not overwrite it; a resumption goes on from it.
    let refused = resynth::train(&tiny(), &options(&folder, &run.folder)).unwrap_err().to_string();
    assert!(refused.contains("--resume"), "{refused}");
    let more = Options { resume: true, most_steps: 3, ..options(&folder, &run.folder) };
    assert_eq!(resynth::train(&tiny(), &more).unwrap().state.steps, STEPS + 3);
    let other = resynth::train(&net::edge(), &more).unwrap_err().to_string();
    assert!(other.contains("another network"), "{other}");
}

#[test]
fn a_run_starts_from_exported_models_or_from_their_mean() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let exported = |name: &str| {
        let mut store = VarStore::new(Device::Cpu);
        let module = Module::new(&store.root(), &tiny());
        let x = Tensor::rand([8, 3, 64, 64], (Kind::Float, Device::Cpu));
        // Statistics of its own, which the file has folded.
        let _ = module.forward(&x, true);
        store.freeze();
        let file = at(name);
        std::fs::write(&file, onnx::write(&tiny(), &store, &Ends::detector(64)).unwrap()).unwrap();
        (file, module)
    };
    tch::manual_seed(3);
    let ((a, of_a), (b, of_b)) = (exported("a.onnx"), exported("b.onnx"));
    let x = Tensor::rand([2, 3, 64, 64], (Kind::Float, Device::Cpu));
    let started = |models: &[&PathBuf]| {
        let models: Vec<PathBuf> = models.iter().copied().cloned().collect();
        let mut store = VarStore::new(Device::Cpu);
        let module = Module::new(&store.root(), &tiny());
        start::load_mean(&mut store, &tiny(), &models).map(|()| (module.infer(&x), store.variables()))
    };
    let far = |p: &Tensor, q: &Tensor| f64::try_from((p - q).abs().max()).unwrap();
    let ((y_a, w_a), (y_b, w_b)) = (started(&[&a]).unwrap(), started(&[&b]).unwrap());
    assert!(far(&y_a, &of_a.infer(&x)) < 1e-5, "one model alone answers as it did");
    assert!(far(&y_b, &of_b.infer(&x)) < 1e-5);
    assert!(far(&y_a, &y_b) > 1e-3, "two models that differ");
    let (_, mean) = started(&[&a, &b]).unwrap();
    for (name, tensor) in &mean {
        assert!(far(tensor, &((&w_a[name] + &w_b[name]) * 0.5)) < 1e-6, "{name}");
    }

    // Trained on, its answers move, the folded statistics do not; and the run goes on so.
    let (folder, run) = (at("photographs"), at("run"));
    put_pictures(&folder, 16);
    let from = Options { from: vec![a.clone()], most_steps: 5, rate: 1e-3, ..options(&folder, &run) };
    assert!(resynth::train(&tiny(), &from).unwrap().state.frozen_norm);
    let more = Options { from: vec![], resume: true, ..from.clone() };
    let state = resynth::train(&tiny(), &more).unwrap().state;
    assert!(state.frozen_norm && state.steps == 10, "{state:?}");
    let (store, module) = resynth::load_average(&Run::new(&run).unwrap(), &tiny(), Device::Cpu).unwrap();
    let moved = far(&module.infer(&x), &y_a);
    assert!(moved > 0.0 && moved < 1.0, "{moved}");
    assert_eq!(far(&store.variables()["2.running_var"], &Tensor::ones([8], (Kind::Float, Device::Cpu))), 0.0);

    // Another network's file, none at all, and something else: each is named.
    for (name, says) in [
        ("edge.onnx", "not a model of tiny: it has no 5.weight"),
        ("none.onnx", "No such file"),
        ("text.onnx", "ONNX"),
    ] {
        match name {
            "edge.onnx" => drop(
                std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/spotd-edge.onnx"), at(name))
                    .unwrap(),
            ),
            "text.onnx" => std::fs::write(at(name), "not a model").unwrap(),
            _ => {}
        }
        let error = format!("{:#}", started(&[&at(name)]).unwrap_err());
        assert!(error.contains(name) && error.contains(says), "{error}");
    }
    let quantised = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/spotd-edge-int8.onnx");
    let error = format!("{:#}", started(&[&quantised.into()]).unwrap_err());
    assert!(error.contains("float32"), "{error}");
}

#[test]
fn training_never_sees_val() {
    let dir = tempfile::tempdir().unwrap();
    put_pictures(&dir.path().join("data/val/set"), 2);
    put_pictures(&dir.path().join("data/train"), 2);
    for folder in ["data/val", "data/val/set", "data"] {
        let bad = options(&dir.path().join(folder), &dir.path().join("run"));
        let error = format!("{:#}", resynth::train(&tiny(), &bad).unwrap_err());
        assert!(error.contains("training never sees val"), "{error}");
    }
    let fakes = Options {
        fakes: vec![dir.path().join("data/val/set")],
        ..options(&dir.path().join("data/train"), &dir.path().join("run"))
    };
    assert!(
        format!("{:#}", resynth::train(&tiny(), &fakes).unwrap_err()).contains("training never sees val")
    );
    assert!(!dir.path().join("run").exists(), "refused before anything is written");
}

#[test]
fn unreadable_and_missing_photographs_are_named() {
    let dir = tempfile::tempdir().unwrap();
    put_pictures(dir.path(), 20);
    std::fs::write(dir.path().join("broken.jpg"), b"\xff\xd8\xff\xe0 not a picture").unwrap();
    let split = photos::load(&[dir.path().to_path_buf()], 0, 1).unwrap();
    assert_eq!(split.train.photographs().len() + split.held.photographs().len(), 20);
    assert!(!split.held.photographs().is_empty());
    let missing = dir.path().join("nowhere");
    let error = format!("{:#}", photos::load(&[missing], 0, 1).err().unwrap());
    assert!(error.contains("nowhere"), "{error}");

    let unreadable = dir.path().join("unreadable");
    std::fs::create_dir_all(&unreadable).unwrap();
    std::fs::write(unreadable.join("a.png"), "no picture").unwrap();
    let error = photos::load(&[unreadable], 20, 1).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("none of the 1 pictures can be read"), "{error:#}");
}

#[test]
fn every_member_of_the_bank_redraws_in_size_and_range_and_loads_again() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    put_pictures(dir.path(), 4);
    let pictures = photos::load(&[dir.path().to_path_buf()], 0, 1).unwrap().train;
    let build = || {
        let device = tch::Device::Cpu;
        bank::build(&dir.path().join("bank"), &pictures, Duration::ZERO, 1, device, false).unwrap()
    };
    let x = pictures.batch(2, 64, &mut Rng::new(1));
    let redraw = |bank: &[bank::Trained]| bank.iter().map(|b| b.redraw(&x)).collect::<Vec<_>>();
    let (first, again) = (redraw(&build()), redraw(&build()));
    assert_eq!(first.len(), bank::members().len());
    for (member, (a, b)) in bank::members().iter().zip(first.iter().zip(&again)) {
        assert_eq!(a.size(), x.size(), "{}", member.net.name);
        let (low, high) = (a.min().double_value(&[]), a.max().double_value(&[]));
        assert!(low >= 0.0 && high <= 1.0, "{}: {low} to {high}", member.net.name);
        // Noise is drawn anew each time; its strength is small after one step.
        assert!((a - b).abs().max().double_value(&[]) < 0.2, "{}", member.net.name);
    }
}

#[test]
fn a_quantised_latent_has_its_levels_and_lets_gradients_through() {
    let net = Net { name: "latent".into(), layers: vec![Layer::Quantise { levels: 5 }] };
    let store = tch::nn::VarStore::new(tch::Device::Cpu);
    let module = Module::new(&store.root(), &net);
    let x =
        tch::Tensor::linspace(-3.0, 3.0, 61, (tch::Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
    let y = module.forward(&x, true);
    let mut values = Vec::<f32>::try_from(&y).unwrap();
    values.dedup();
    assert_eq!(values, [-1.0, -0.5, 0.0, 0.5, 1.0]);
    y.sum(tch::Kind::Float).backward();
    let slope = x.grad();
    // That of tanh, as if nothing were rounded.
    assert!((slope.double_value(&[30]) - 1.0).abs() < 1e-6 && slope.double_value(&[0]) > 0.0);
}

#[cfg(feature = "gstreamer")]
#[test]
fn both_of_a_pair_go_through_the_video_codec() {
    let pictures = |seed| {
        let mut rng = Rng::new(seed);
        (0..2)
            .map(|_| {
                RgbImage::from_fn(131, 131, |x, y| {
                    let wave = 60.0 * ((x as f32 / 9.0).sin() + (y as f32 / 5.0).cos());
                    Rgb([0, 1, 2].map(|_| (120.0 + wave + 9.0 * rng.normal()).clamp(0.0, 255.0) as u8))
                })
            })
            .collect::<Vec<_>>()
    };
    // Two sets fill half of each side; no degradation but the codec.
    let set = |seed| Strangers { real: pictures(seed), fake: pictures(seed + 1), pairs: vec![] };
    let sets = [set(1), set(3)];
    let dir = tempfile::tempdir().unwrap();
    put_pictures(dir.path(), 4);
    let photographs = photos::load(&[dir.path().to_path_buf()], 0, 1).unwrap().train;
    let batch = |video| {
        let device = tch::Device::Cpu;
        let bank =
            bank::build(&dir.path().join("bank"), &photographs, Duration::ZERO, 1, device, false).unwrap();
        let mut pairs =
            Pairs::new(&photographs, bank, &sets, &[Policy::NONE], device, Rng::new(3)).through(video);
        pairs.batch(4, 96).unwrap().pixels(device)
    };
    let (plain, coded) = (batch(None), batch(Some(Video { chance: 1.0, crf: (30, 30) })));
    assert_eq!(plain.size(), coded.size());
    // What lies in the sets is all equally noisy, whichever was drawn; the codec takes noise away.
    let rough = |x: &tch::Tensor, from| {
        let some = x.narrow(0, from, 2);
        (some.narrow(3, 1, 95) - some.narrow(3, 0, 95)).abs().mean(tch::Kind::Float).double_value(&[])
    };
    for (class, from) in [("real", 2), ("generated", 6)] {
        let (before, after) = (rough(&plain, from), rough(&coded, from));
        assert!(after < 0.8 * before, "{class}: {before} to {after}");
    }
}
