//! `spotd quantize` calibrates with a camera, and reports a missing one.

use std::path::Path;
use std::process::{Command, Output};

use spotd::detector::Model;
use spotd::detector::card::Card;
use spotd::identity::Precision;
use spotd::identity::Wanted;

use super::model::{self, TILE};
use super::{NODE, SMALL, Vivid, WEBCAM, control, networks, set};

/// The pattern `Noise` in vivid's menu: no two frames are equal.
const NOISE: i64 = 21;

fn quantize(camera: &str, folder: &Path) -> Output {
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (float, int8) = (file("f32.onnx"), file("int8.onnx"));
    Command::new("/bin/spotd")
        .args(["quantize", "--model", &float, "--out", &int8, "--calibrate", camera])
        .args(["--images", "14", "--fps", "5", "--clip", "mse", "--json"])
        .output()
        .expect("runs")
}

#[test]
fn a_model_is_quantised_with_what_a_camera_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let (float, int8) = (folder.path().join("f32.onnx"), folder.path().join("int8.onnx"));
    // Small, for an emulated processor.
    let mut net = networks::Net::new("small", TILE as usize, 1, false);
    net.normalise(&[0.5], &[0.25]);
    net.conv(4, 3, 2, 1, networks::Act::Relu);
    net.conv(8, 3, 2, 1, networks::Act::Relu);
    net.mean();
    net.dense(1, networks::Act::None);
    let onnx = net.onnx();
    std::fs::write(&float, &onnx).expect("written");
    std::fs::write(Card::path_for(&float), model::card(&onnx).to_toml()).expect("written");

    let missing = quantize(&format!("v4l2://{NODE}"), folder.path());
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(2), "{said}");
    assert!(said.contains(NODE) && said.contains("plugged in"), "{said}");
    assert!(!int8.exists());

    let _vivid = Vivid::load(WEBCAM);
    set(control::PATTERN, NOISE);
    let camera = format!("v4l2://{NODE}?{SMALL}");
    let done = quantize(&camera, folder.path());
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one object");
    // Messages name a camera by its device.
    assert_eq!(told["calibrated_with"], serde_json::json!([{ "input": NODE, "pictures": 14 }]));
    let logit = &told["logit"];
    assert!(logit["tiles"].as_u64().is_some_and(|n| n >= 4) && logit["rms"].is_number(), "{logit}");

    let (float, int8) = (
        Model::open(Some(&float), Wanted::Auto).expect("loads"),
        Model::open(Some(&int8), Wanted::Auto).expect("loads"),
    );
    assert_eq!(int8.identity().precision, Precision::Int8);
    // What pays depends on the noise that the driver draws: the normalisation may stay in float,
    // and so may the first convolution with it. Only bytes right behind the input can be the
    // camera's own.
    let first_in_int8 = told["layers"].as_array().is_some_and(|l| l.contains(&serde_json::json!("conv_2")));
    let pixels = first_in_int8 && told["normalisation_folded"] == true;
    let runs = int8.engine().describe();
    assert_eq!(told["runs"], runs.as_str(), "{told}");
    assert!(runs.ends_with(if pixels { ", from pixels" } else { ", from floats" }), "{runs}: {told}");
    let tile = networks::tile(TILE, 5);
    let (a, b) = (float.logit(&tile).expect("runs"), int8.logit(&tile).expect("runs"));
    assert!((a - b).abs() < 0.5, "{a} {b}");
}
