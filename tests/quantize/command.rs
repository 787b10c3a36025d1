//! `spotd quantize` and `spotd bench` as a user runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use spotd::detector::Model;
use spotd::detector::card::Card;
use spotd::forensics::scenes::SceneRenderer;
use spotd::identity::Precision;
use spotd::identity::Wanted;

use crate::model;
use crate::networks::{self};

fn spotd(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spotd")).args(args).output().expect("spotd runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().expect("a folder") };
        let onnx = networks::plain(model::TILE as usize, 4, 1);
        std::fs::write(site.path("f32.onnx"), &onnx).expect("written");
        std::fs::write(site.path("f32.toml"), model::card(&onnx).to_toml()).expect("written");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn pictures(&self, folder: &str, count: u64, side: u32) {
        std::fs::create_dir_all(self.path(folder)).expect("a folder");
        for seed in 0..count {
            networks::tile(side, seed).save(self.path(&format!("{folder}/{seed:03}.png"))).expect("saved");
        }
    }

    fn quantize(&self, more: &[&str]) -> Output {
        let (model, out) = (self.text("f32.onnx"), self.text("int8.onnx"));
        spotd(&[&["quantize", "--model", &model, "--out", &out], more].concat())
    }
}

#[test]
fn a_model_is_quantised_measured_and_runs() {
    let site = Site::new();
    site.pictures("pictures", 14, 96);
    site.pictures("sets/one/0_real", 6, 80);
    site.pictures("sets/one/1_fake", 5, 80);
    let (pictures, sets) = (site.text("pictures"), site.text("sets"));
    let output = site.quantize(&["--calibrate", &pictures, "--eval", &sets, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!((&told["precision"], &told["pictures"]), (&"int8".into(), &14.into()));
    assert_eq!(told["eval"][0]["set"], "one");
    assert!(told["noise"].as_array().is_some_and(|n| n.len() > 8), "{told}");
    let logit = &told["logit"];
    assert!(logit["rms"].as_f64() < logit["spread"].as_f64(), "{logit}");

    let card = Card::load(&site.path("int8.toml")).expect("its card");
    assert_eq!(
        (card.precision, card.sha256.as_str()),
        (Precision::Int8, told["sha256"].as_str().expect("text"))
    );
    let float = Card::load(&site.path("f32.toml")).expect("the float one's");
    assert_eq!(
        (card.threshold, card.temperature, card.tile),
        (float.threshold, float.temperature, float.tile)
    );
    assert!(
        card.training.recipe.contains("the logit differs from the float model's"),
        "{}",
        card.training.recipe
    );
    assert_eq!(card.measured.len(), 1);
    let tile = networks::tile(model::TILE, 77);
    let of = |name: &str| {
        Model::open(Some(&site.path(name)), Wanted::Auto).expect("loads").logit(&tile).expect("runs")
    };
    assert!((of("int8.onnx") - of("f32.onnx")).abs() < 0.2, "{} {}", of("int8.onnx"), of("f32.onnx"));
    let left: Vec<_> =
        std::fs::read_dir(site.dir.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 6, "two models, two cards, two folders: {left:?}");

    // Not from an int8 model, and not over the float one.
    let out = site.text("again.onnx");
    let again =
        spotd(&["quantize", "--model", &site.text("int8.onnx"), "--out", &out, "--calibrate", &pictures]);
    assert_eq!(again.status.code(), Some(2));
    assert!(said(&again).contains("its card says int8"), "{}", said(&again));
    let over = site.text("f32.onnx");
    let over = spotd(&["quantize", "--model", &over, "--out", &over, "--calibrate", &pictures]);
    assert!(said(&over).contains("is the float32 model itself"), "{}", said(&over));

    let text = site.quantize(&["--calibrate", &pictures, "--symmetric", "--keep-float", "conv_2"]);
    assert_eq!(text.status.code(), Some(0), "{}", said(&text));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(&format!("calibrated with 14 of {pictures}")), "{text}");
    for words in ["signal to noise", "logit against f32 over", "Conv (conv_2)", "[model] path"] {
        assert!(text.contains(words), "'{words}' is missing in: {text}");
    }
}

#[test]
fn bad_input_is_said_and_nothing_is_written() {
    let site = Site::new();
    site.pictures("few", 5, 96);
    site.pictures("small", 20, 40);
    site.pictures("pictures", 12, 96);
    std::fs::create_dir_all(site.path("empty")).expect("a folder");
    std::fs::create_dir_all(site.path("texts")).expect("a folder");
    for at in 0..20 {
        std::fs::write(site.path(&format!("texts/{at}.png")), "no picture").expect("written");
    }
    for (folder, words) in [
        ("empty", "holds no picture"),
        ("nowhere", "there is no such file or folder"),
        ("few", "5 pictures can be calibrated with"),
        ("small", "20 are smaller than 64x64 or flat"),
        ("texts", "20 cannot be read"),
    ] {
        let output = site.quantize(&["--calibrate", &site.text(folder)]);
        assert_eq!(output.status.code(), Some(2), "{folder}");
        assert!(said(&output).contains(words), "{folder}: {}", said(&output));
    }
    #[cfg(feature = "v4l")]
    for camera in ["v4l2:///dev/video63", "/dev/video63"] {
        let output = site.quantize(&["--calibrate", camera]);
        assert_eq!(output.status.code(), Some(2), "{camera}");
        assert!(said(&output).contains("is the camera plugged in"), "{camera}: {}", said(&output));
    }
    let pictures = site.text("pictures");
    for (more, words) in [
        (&["--keep-float", "nothing"][..], "no layer 'nothing'"),
        (&["--images", "3"], "12..=100000"),
        (&["--clip", "wild"], "possible values"),
        (&["--perturb", "jpeg=90"], "--eval"),
        (&["--eval", "nowhere"], "nowhere"),
    ] {
        let output = site.quantize(&[&["--calibrate", &pictures], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(said(&output).contains(words), "{more:?}: {}", said(&output));
    }
    let bare = site.text("int8");
    let output =
        spotd(&["quantize", "--model", &site.text("f32.onnx"), "--out", &bare, "--calibrate", &pictures]);
    assert!(said(&output).contains("must end in .onnx"), "{}", said(&output));
    assert!(!site.path("int8.onnx").exists() && !site.path("int8.toml").exists());
}

#[test]
fn what_the_report_says_of_the_first_layer_is_what_runs() {
    let mut net = networks::Net::new("small", model::TILE as usize, 1, false);
    net.normalise(&[0.5], &[0.25]);
    net.conv(4, 3, 2, 1, networks::Act::Relu);
    net.conv(8, 3, 2, 1, networks::Act::Relu);
    net.mean();
    net.dense(1, networks::Act::None);
    let onnx = net.onnx();
    let site = Site::new();
    std::fs::write(site.path("f32.onnx"), &onnx).expect("written");
    std::fs::write(site.path("f32.toml"), model::card(&onnx).to_toml()).expect("written");
    site.pictures("pictures", 14, 96);
    // The normalisation is folded into the first convolution either way, and only bytes right
    // behind the input are pixels.
    for (more, first, from) in
        [(&["--all-int8"][..], true, "pixels"), (&["--keep-float", "conv_2"], false, "floats")]
    {
        let pictures = site.text("pictures");
        let output = site.quantize(&[&["--calibrate", &pictures, "--clip", "mse", "--json"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let told: Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert_eq!(told["normalisation_folded"], true, "{told}");
        assert_eq!(told["layers"].as_array().expect("names").contains(&"conv_2".into()), first, "{told}");
        let runs =
            Model::open(Some(&site.path("int8.onnx")), Wanted::Auto).expect("loads").engine().describe();
        assert_eq!(told["runs"], runs.as_str());
        assert!(runs.ends_with(&format!(", from {from}")), "{runs}");
    }
}

#[test]
fn the_boxs_own_source_will_do() {
    let site = Site::new();
    // The demonstration is a source like a camera, in real time.
    let output = site.quantize(&["--calibrate", "demo://3", "--fps", "20", "--images", "14", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(told["pictures"], 14);
    assert_eq!(told["calibrated_with"], serde_json::json!([{ "input": "demo://3", "pictures": 14 }]));
}

#[cfg(feature = "gstreamer")]
#[test]
fn a_video_will_do() {
    let site = Site::new();
    let noise = "pipeline:videotestsrc pattern=snow num-buffers=60 ! video/x-raw,width=160,height=120,framerate=1/1 ! appsink";
    let output = site.quantize(&["--calibrate", noise, "--images", "16", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(told["pictures"], 16);
}

#[test]
fn bench_measures_the_model() {
    let site = Site::new();
    let onnx = site.text("f32.onnx");
    let output = spotd(&["bench", "--model", &onnx, "--seconds", "1", "--threads", "2", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!((&told["precision"], &told["threads"]), (&"f32".into(), &2.into()));
    let number = |key: &str| told[key].as_f64().unwrap_or_else(|| panic!("{key}: {told}"));
    assert!(0.0 < number("min_ms") && number("min_ms") <= number("median_ms"));
    assert!(number("tiles_per_second") > 0.0 && number("peak_gmacs_f32") > 0.0 && number("memory_mib") > 1.0);
    // tract's layers are the network's own: nine convolutions and dense layers.
    let layers = told["layers"].as_array().expect("a list");
    let mmac: f64 = layers.iter().filter_map(|l| l["mmac"].as_f64()).sum();
    let own = mmac_of_plain(model::TILE as usize, 4);
    assert!((mmac / own - 1.0).abs() < 0.1, "{mmac} {own}");
    let text = spotd(&["bench", "--model", &onnx, "--seconds", "1"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for words in ["one core:", "workers:", "GMAC/s", "temperature:"] {
        assert!(text.contains(words), "'{words}' is missing in: {text}");
    }
    let other = spotd(&["bench", "--model", &onnx, "--precision", "int8"]);
    assert_eq!(other.status.code(), Some(2), "an f32 model is no int8 one");
}

/// Millions of multiply-accumulates of [`networks::plain`].
fn mmac_of_plain(side: usize, width: usize) -> f64 {
    let (mut side, mut channels, mut all) = (side, 3, 0);
    for (times, stride) in [(1, 2), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1), (6, 2), (6, 1)] {
        side /= stride;
        all += side * side * 9 * channels * times * width;
        channels = times * width;
    }
    (all + channels) as f64 / 1e6
}

#[test]
fn the_shipped_int8_model_belongs_to_the_float_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let (float, int8) = ("spotd-edge.onnx", "spotd-edge-int8.onnx");
    let (float, int8) = (
        Model::open(Some(&folder.join(float)), Wanted::Auto).expect("loads"),
        Model::open(Some(&folder.join(int8)), Wanted::Auto).expect("loads"),
    );
    assert_eq!(int8.card().precision, Precision::Int8);
    assert_eq!(float.card().threshold, int8.card().threshold);
    for perturbation in ["as stored", "jpeg 75"] {
        let (a, b) = (float.card().mean_ap(perturbation), int8.card().mean_ap(perturbation));
        let (a, b) = (a.expect("measured"), b.expect("measured"));
        assert!((a - b).abs() < 0.005, "{perturbation}: {a} {b}");
    }
    let mut worst = 0f32;
    for seed in 0..6 {
        // Pictures like a camera's, not noise: activations are clipped to the range seen in
        // calibration.
        let tile = SceneRenderer::new(500_100 + seed, 224, 224).frame(0);
        worst = worst.max((float.logit(&tile).expect("runs") - int8.logit(&tile).expect("runs")).abs());
    }
    assert!(worst < 0.5, "{worst}");
}
