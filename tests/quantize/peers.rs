//! Written files in onnxruntime and OpenVINO, where `SPOTD_INT8_PYTHON` names an interpreter that
//! has them (`make test-peers`).

use std::path::Path;
use std::process::Command;

use serde_json::json;
use spotd::quantize::{Clipping, Options, Residual, Tiles};

use crate::networks;
use crate::setup::{checked, logits, tiles};

#[test]
fn other_runtimes_give_the_same_answers() {
    let Some(python) = std::env::var_os("SPOTD_INT8_PYTHON") else {
        println!("skipped: SPOTD_INT8_PYTHON names no interpreter; `make test-peers` installs one");
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/spotd-edge-int8.onnx");
    let shipped = std::fs::read(shipped).expect("the shipped model");
    let float = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/spotd-edge.onnx");
    let float = std::fs::read(float).expect("the shipped model");
    put(dir.path(), "shipped", &shipped, &float, &tiles(224, 4, 4), None);
    for (name, onnx, side) in [
        ("plain", networks::plain(64, 8, 1), 64),
        ("vgg", networks::vgg(32, 8, 2), 32),
        ("resnet-18", networks::resnet_basic(64, 8, &[2, 2, 2, 2], 3), 64),
        ("resnet-50", networks::resnet_bottleneck(64, 8, &[3, 4, 6, 3], 4), 64),
        ("mobilenet", networks::mobilenet(64, 4, 5), 64),
    ] {
        let tiles = tiles(side, 8, 8);
        for (form, symmetric, residual) in [
            ("", false, Residual::Fused),
            ("-symmetric", true, Residual::Fused),
            ("-apart", false, Residual::Apart),
        ] {
            // One way of clipping: only the form is tested here.
            let clipping = Some(Clipping::Percentile(0.9999));
            let options = Options {
                symmetric,
                residual,
                clipping,
                may_keep_ends: false,
                jobs: 2,
                ..Options::default()
            };
            let made = checked(&onnx, &tiles, &options);
            put(
                dir.path(),
                &format!("{name}{form}"),
                &made.onnx,
                &onnx,
                &tiles,
                Some(made.report.difference.spread),
            );
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quantize/check.py");
    let output = Command::new(python).arg(script).arg(dir.path()).output().expect("Python runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{told}");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Writes a model, its tiles, and tract's logits for them, of this and of the float model.
fn put(folder: &Path, name: &str, onnx: &[u8], float: &[u8], tiles: &Tiles, spread: Option<f64>) {
    let path = folder.join(format!("{name}.onnx"));
    std::fs::write(&path, onnx).expect("written");
    let bytes: Vec<u8> = tiles
        .held_out
        .iter()
        .flat_map(|t| t.to_plain_array_view::<f32>().expect("floats").iter().copied().collect::<Vec<f32>>())
        .flat_map(f32::to_le_bytes)
        .collect();
    std::fs::write(path.with_extension("tiles"), bytes).expect("written");
    let spread = spread.unwrap_or(1.0);
    let about = json!({
        "shape": &tiles.held_out[0].shape()[1..],
        "logits": logits(onnx, &tiles.held_out),
        "float": logits(float, &tiles.held_out),
        "spread": spread,
        // Float sums in another order change a byte here and there.
        "close": 0.03 * spread,
        // Integer sums are rounded once more.
        "near": 0.05 * spread,
    });
    std::fs::write(path.with_extension("json"), about.to_string()).expect("written");
}
