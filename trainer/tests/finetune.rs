//! A trained model is taught a new kind of fake, and keeps what it knew.

mod common;

use image::RgbImage;
use spotd::{
    clock::SystemClock,
    detector::{Model, card::Card},
    flaglog::{Evidence, Finding, FlagLog, LogConfig, NewRecord, NewReview},
    forensics::rng::Rng,
    identity::Precision,
    identity::Wanted,
    judgement::{Judgement, ScoredTile},
    raster::Rect,
    verdict::{EventKind, Verdict},
};
use spotd_train::{
    ablate, export,
    finetune::{self, Options},
    fit,
    graph::Graph,
    module::Module,
    net::{Layer, Net},
    onnx::{self, Ends},
    resnet::{Depth, imagenet, resnet},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tch::{Device, Kind, Tensor, nn::VarStore};

/// A fake of another kind: rows repeated in pairs, as a bad upsampling leaves them.
fn double(picture: &mut RgbImage) {
    for y in (0..picture.height() - 1).step_by(2) {
        for x in 0..picture.width() {
            let pixel = *picture.get_pixel(x, y);
            picture.put_pixel(x, y + 1, pixel);
        }
    }
}

fn put_doubled(folder: &Path, n: u64) {
    std::fs::create_dir_all(folder).unwrap();
    for seed in 0..n {
        let mut picture = common::picture(7000 + seed, false, 72, 66);
        double(&mut picture);
        picture.save(folder.join(format!("doubled-{seed}.png"))).unwrap();
    }
}

fn options(model: PathBuf, replay: PathBuf, out: PathBuf) -> Options {
    Options {
        model,
        real: vec![],
        fake: vec![],
        log: vec![],
        photos: vec![],
        bank: None,
        replay: vec![replay],
        measure_on: None,
        out,
        name: None,
        fps: 2.0,
        minutes: 60.0,
        steps: 60,
        batch: 8,
        rate: 2e-3,
        crop: 224,
        distil: 0.25,
        anchor: 0.01,
        hold_out: 0.3,
        seed: 1,
    }
}

#[derive(clap::Parser)]
struct FitLine {
    #[command(flatten)]
    options: fit::Options,
}

#[derive(clap::Parser)]
struct AblateLine {
    #[command(flatten)]
    options: ablate::Options,
}

fn parse<P: clap::Parser>(words: &str, paths: &[(&str, &Path)]) -> P {
    let mut all: Vec<String> = words.split(' ').map(String::from).collect();
    for (flag, path) in paths {
        all.extend([flag.to_string(), path.display().to_string()]);
    }
    P::parse_from(all)
}

const SMALL: &str = "x --preset edge --crop 48 --resize 0 --batch 8 --bf16 false --workers 1 --hold-out 0.3";

#[test]
fn a_new_kind_of_fake_is_learned_and_the_old_one_kept() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    common::put_classes(&at("known"), &["cat", "dog"], 20);
    let words = format!("{SMALL} --augment none --rate 3e-3 --steps 60 --validate-every 30");
    let trained =
        fit::train(&parse::<FitLine>(&words, &[("--data", &at("known")), ("--run", &at("run"))]).options);
    let (model, card) = trained.unwrap().model;
    put_doubled(&at("new"), 32);
    let sets = at("sets");
    common::put_classes(&sets, &["lattice"], 10);

    let tuned = Options {
        fake: vec![at("new")],
        measure_on: Some(sets),
        ..options(model.clone(), at("known"), at("out"))
    };
    let outcome = finetune::finetune(&tuned).unwrap();
    let (before, after) = outcome.aps;
    assert!(after.new > before.new + 0.2 && after.new > 0.75, "{:?}", outcome.aps);
    assert!(after.known > before.known - 0.05, "{:?}", outcome.aps);
    let (was, is) = &outcome.sets[0];
    assert_eq!((was.set.as_str(), is.set.as_str()), ("lattice", "lattice"));
    assert!(is.ap > was.ap - 0.05, "{was:?} {is:?}");
    let report = outcome.report();
    assert!(report.contains("known pictures") && report.contains("lattice"), "{report}");
    let new = Model::open(Some(&outcome.model.0), Wanted::Auto).unwrap();
    assert_eq!(new.card().name, format!("{}-tuned", card.name));
    assert!(new.card().training.recipe.contains("fine-tuned from") && new.card().sha256 != card.sha256);

    // What cannot be: nothing new, one kind alone in the replay, no step that is better.
    let fails = |options: Options| format!("{:#}", finetune::finetune(&options).expect_err("an error"));
    assert!(fails(Options { fake: vec![], ..tuned.clone() }).contains("--real, --fake"));
    let none = Options { out: at("none"), rate: 1e-12, steps: 2, ..tuned.clone() };
    assert!(fails(none).contains("nothing was written"));
    assert!(!at("none").join(format!("{}-tuned.onnx", card.name)).exists());
    let same = Options { out: at("run"), name: Some(card.name.clone()), ..tuned.clone() };
    assert!(fails(same).contains("the old one's place"));
    assert_eq!(Card::load(&Card::path_for(&model)).unwrap(), card, "the old model is as it was");
}

#[test]
fn bad_input_is_named_and_nothing_is_written() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    common::put_classes(&at("known"), &["cat"], 16);
    let words = format!("{SMALL} --augment none --steps 2 --validate-every 2");
    let trained =
        fit::train(&parse::<FitLine>(&words, &[("--data", &at("known")), ("--run", &at("run"))]).options);
    let model = trained.unwrap().model.0;
    put_doubled(&at("new"), 12);
    std::fs::create_dir_all(at("texts")).unwrap();
    std::fs::write(at("texts/a.txt"), "no picture").unwrap();
    std::fs::create_dir_all(at("broken")).unwrap();
    std::fs::create_dir_all(at("tiny")).unwrap();
    for n in 0..12 {
        std::fs::write(at("broken").join(format!("{n}.png")), "no picture").unwrap();
        common::picture(n, true, 1, 1).save(at("tiny").join(format!("{n}.png"))).unwrap();
    }
    std::fs::create_dir_all(at("real-only/0_real")).unwrap();
    common::picture(1, false, 64, 64).save(at("real-only/0_real/1.png")).unwrap();
    let base = Options { fake: vec![at("new")], ..options(model, at("known"), at("out")) };
    for (what, options, words) in [
        ("non-images", Options { fake: vec![at("texts")], ..base.clone() }, "texts: holds"),
        ("unreadable", Options { fake: vec![at("broken")], ..base.clone() }, "held-out new pictures"),
        ("too small", Options { fake: vec![at("tiny")], ..base.clone() }, "held-out new pictures"),
        ("one kind", Options { replay: vec![at("real-only")], ..base.clone() }, "1_fake is empty"),
        ("no model", Options { model: at("texts/a.txt"), ..base.clone() }, "needs its card"),
        ("no number", Options { rate: 1e30, steps: 40, ..base.clone() }, "lower --rate. Nothing was written"),
    ] {
        let error = format!("{:#}", finetune::finetune(&options).expect_err(what));
        assert!(error.contains(words), "{what}: {error}");
        assert!(!at("out").exists() || std::fs::read_dir(at("out")).unwrap().count() == 0, "{what}");
    }
}

/// A flag log whose operators have found pictures of a new kind of fake, and true ones that were flagged.
fn put_judged(dir: &Path, n: u64) {
    let config = LogConfig { dir: dir.to_owned(), jpeg_quality: 95, update_every: Duration::from_secs(60) };
    let mut log = FlagLog::open(&config, "box", SystemClock::shared()).unwrap();
    let of = log.tail();
    let png = |picture: &RgbImage| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    for seed in 0..2 * n {
        let fake = seed % 2 == 0;
        let mut picture = common::picture(9000 + seed, false, 72, 66);
        if fake {
            double(&mut picture);
        }
        let tile = ScoredTile { rect: Rect { x: 0, y: 0, width: 72, height: 66 }, score: 0.9 };
        let new = NewRecord {
            // By this it is decided what is held out: the same in each run.
            event: Some(format!("{seed:026}").parse().expect("an id")),
            source: "cam".into(),
            kind: EventKind::Alert,
            verdict: Verdict::Synthetic,
            judgement: Judgement {
                raw: None,
                smoothed: None,
                peak: None,
                threshold: 0.8,
                unsure_from: 0.5,
                window: 9,
                frames: 9,
            },
            frame: None,
            captured: std::time::SystemTime::UNIX_EPOCH,
            tiles: vec![],
            logits: None,
            model: Model::open(None, Wanted::Auto).unwrap().identity(),
            alert: None,
        };
        let kept =
            Evidence { frame: png(&picture), before: None, tiles: vec![(tile, png(&picture))], map: None };
        let record = log.append(new, Some(&kept)).unwrap();
        let finding = if fake { Finding::Confirmed } else { Finding::FalseAlarm };
        let by = "Jo".to_owned();
        let review = NewReview {
            event: record.event,
            source: record.source,
            finding,
            by,
            comment: None,
            replaces: None,
        };
        log.review(review, &of).unwrap();
    }
}

#[test]
fn what_operators_have_judged_is_training_material() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    common::put_classes(&at("known"), &["cat"], 16);
    let words = format!("{SMALL} --augment none --rate 3e-3 --steps 30 --validate-every 30");
    let trained =
        fit::train(&parse::<FitLine>(&words, &[("--data", &at("known")), ("--run", &at("run"))]).options);
    put_judged(&at("flags"), 24);
    let tuned =
        Options { log: vec![at("flags")], ..options(trained.unwrap().model.0, at("known"), at("out")) };
    let outcome = finetune::finetune(&tuned).unwrap();
    let (before, after) = outcome.aps;
    assert!(after.new > before.new + 0.1, "{:?}", outcome.aps);
    for folder in ["confirmed", "false-alarms"] {
        assert_eq!(std::fs::read_dir(at("out/reviewed-0").join(folder)).unwrap().count(), 24, "{folder}");
    }
    assert!(outcome.model.1.training.data.contains("new pictures"));

    let fails = |log: PathBuf| {
        let options = Options { log: vec![log], out: at("none"), ..tuned.clone() };
        format!("{:#}", finetune::finetune(&options).expect_err("an error"))
    };
    put_judged(&at("nobody"), 0);
    assert!(fails(at("nobody")).contains("nobody has judged"));
    std::fs::remove_dir_all(at("flags/evidence")).unwrap();
    assert!(fails(at("flags")).contains("none has a picture any more"));
}

#[test]
fn a_clip_is_training_material() {
    tch::set_num_threads(1);
    if std::process::Command::new("gst-launch-1.0").arg("--version").output().is_err() {
        eprintln!("\n*** SKIPPED: no gst-launch-1.0 to make a clip with ***\n");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    common::put_classes(&at("known"), &["cat"], 16);
    let words = format!("{SMALL} --augment none --steps 4");
    let trained =
        fit::train(&parse::<FitLine>(&words, &[("--data", &at("known")), ("--run", &at("run"))]).options);
    let clip = at("site.mkv");
    let made = std::process::Command::new("gst-launch-1.0")
        .args("-q videotestsrc pattern=snow num-buffers=40 ! video/x-raw,format=I420,width=96,height=80,framerate=10/1".split(' '))
        .args("! x264enc bitrate=400 ! h264parse ! matroskamux ! filesink".split(' '))
        .arg(format!("location={}", clip.display()))
        .status()
        .unwrap();
    assert!(made.success());
    let tuned = Options {
        real: vec![clip],
        fps: 5.0,
        rate: 3e-3,
        steps: 40,
        ..options(trained.unwrap().model.0, at("known"), at("out"))
    };
    let outcome = finetune::finetune(&tuned).unwrap();
    assert!(outcome.aps.1.new >= outcome.aps.0.new, "{:?}", outcome.aps);
    let frames = std::fs::read_dir(at("out/frames-real-0")).unwrap().count();
    assert!((18..=22).contains(&frames), "four seconds at five a second: {frames}");
    assert!(outcome.model.1.training.data.contains("new pictures"));
}

#[test]
fn the_graph_says_what_the_module_says() {
    tch::manual_seed(3);
    let edge = spotd_train::net::edge();
    let mut high = resnet(Depth::Resnet18, 1, imagenet()).net;
    high.layers.splice(..1, [Layer::HighPass { channels: 3 }, Layer::Clip { limit: 0.3 }]);
    for (net, side) in [(edge, 64), (resnet(Depth::Resnet18, 1, imagenet()).net, 64), (high, 64)] {
        let store = VarStore::new(Device::Cpu);
        let module = Module::new(&store.root(), &net);
        let bytes = onnx::write(&net, &store, &Ends::detector(side)).unwrap();
        let graph = Graph::read(&bytes, Device::Cpu).unwrap();
        let x = Tensor::rand([2, 3, side, side], (Kind::Float, Device::Cpu));
        let (a, b) = tch::no_grad(|| (module.forward(&x, false), graph.forward(&x).unwrap()));
        let apart = ((&a - &b).abs().max() / a.abs().max().clamp_min(1.0)).double_value(&[]);
        assert!(apart < 1e-4, "{}: {apart}", net.name);
        assert_eq!(graph.to_bytes().unwrap(), bytes, "{}: nothing was trained, nothing changes", net.name);
    }
    let odd = Net { name: "odd".into(), layers: vec![Layer::PixelShuffle { factor: 1 }] };
    let bytes = onnx::write(&odd, &VarStore::new(Device::Cpu), &Ends::detector(32)).unwrap();
    let error = format!("{:#}", Graph::read(&bytes, Device::Cpu).err().unwrap());
    assert!(error.contains("cannot be trained here"), "{error}");
    assert!(Graph::read(b"no graph", Device::Cpu).is_err());
}

#[test]
fn an_ablation_goes_on_where_it_stopped() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    common::put_classes(&at("data"), &["a", "b", "c"], 14);
    common::put_classes(&at("sets"), &["one", "two"], 3);
    let run = |tables: &str, steps: u64| {
        let words = format!("{SMALL} --steps {steps} --tables {tables}");
        let paths = [("--data", at("data")), ("--run", at("all")), ("--measure-on", at("sets"))];
        let paths: Vec<(&str, &Path)> = paths.iter().map(|(flag, path)| (*flag, path.as_path())).collect();
        ablate::ablate(&parse::<AblateLine>(&words, &paths).options)
    };
    let first = run("augmentation", 2).unwrap();
    assert_eq!(first.lines().filter(|l| l.contains("| 2 |")).count(), 5, "{first}");
    assert!(first.contains("| one | two | mean |") && first.contains("0.908"), "{first}");
    let made =
        |row: &str| std::fs::metadata(at("all").join(row).join("row.json")).unwrap().modified().unwrap();
    let kept = made("augment-blurJPEG0.5");
    let both = run("augmentation,classes,images", 2).unwrap();
    assert!(both.starts_with(first.trim_end()), "rows that are there are kept:\n{both}");
    assert_eq!(made("augment-blurJPEG0.5"), kept);
    for row in ["| 2 classes |", "| 3 classes |", "pictures |"] {
        assert!(both.contains(row), "{row}: {both}");
    }
    assert!(std::fs::read_to_string(at("all/ablation.svg")).unwrap().contains("2 classes"));
    // More steps go on from the checkpoint.
    let more = run("augmentation", 3).unwrap();
    assert_eq!(more.lines().filter(|l| l.contains("| 3 |")).count(), 5, "{more}");
    let words = format!("{SMALL} --steps 3 --rate 1e-4 --tables augmentation");
    let other: AblateLine = parse(&words, &[("--data", &at("data")), ("--run", &at("all"))]);
    let error = format!("{:#}", ablate::ablate(&other.options).unwrap_err());
    assert!(error.contains("other settings"), "{error}");
}

#[test]
fn a_card_is_checked_before_it_is_written() {
    // `publish` refuses a model whose answers are not libtorch's.
    let net = resnet(Depth::Resnet18, 1, imagenet()).net;
    let store = VarStore::new(Device::Cpu);
    Module::new(&store.root(), &net);
    let bytes = onnx::write(&net, &store, &Ends::detector(64)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let card = Card {
        name: "wrong".into(),
        tile: 64,
        precision: Precision::F32,
        ..Model::open(None, Wanted::Auto).unwrap().card().clone()
    };
    let mut rng = Rng::new(1);
    let noise = move || rng.normal();
    let noise = std::cell::RefCell::new(noise);
    let wrong = |tiles: &[image::RgbImage]| Ok(tiles.iter().map(|_| 50.0 + (noise.borrow_mut())()).collect());
    let error = export::publish(&bytes, card, wrong, None, dir.path()).unwrap_err().to_string();
    assert!(error.contains("nothing was written"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
