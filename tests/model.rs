//! Models that must be refused, by name, and one that must run.

mod common;

use std::path::Path;

use common::model;
use image::{Rgb, RgbImage};
use spotd::detector::Model;
use spotd::detector::card::{Card, Precision};

fn refused(path: &Path) -> String {
    match Model::load(path) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(&*path.file_stem().expect("named").to_string_lossy()), "not named: {text}");
            text
        }
    }
}

fn write(dir: &Path, bytes: &[u8], change: impl FnOnce(&mut Card)) -> std::path::PathBuf {
    let path = dir.join("m.onnx");
    let mut card = model::card(bytes);
    change(&mut card);
    std::fs::write(&path, bytes).expect("written");
    std::fs::write(Card::path_for(&path), card.to_toml()).expect("written");
    path
}

#[test]
fn a_model_of_the_contract_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = Model::load(&model::write_brightness(dir.path())).expect("loads");
    let tile = |v: u8| RgbImage::from_pixel(model::TILE, model::TILE, Rgb([v; 3]));
    let logit = |v| model.logit(&tile(v)).expect("runs");
    assert!((logit(255) - 12.0).abs() < 1e-4 && (logit(0) + 12.0).abs() < 1e-4);
    let wrong = model.logit(&RgbImage::new(10, 10)).expect_err("wrong size").to_string();
    assert!(wrong.contains("10x10") && wrong.contains("64x64"), "{wrong}");
}

#[test]
fn missing_files_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(refused(&dir.path().join("m.onnx")).contains("No such file"));
    let path = model::write_brightness(dir.path());
    std::fs::remove_file(Card::path_for(&path)).expect("removed");
    assert!(refused(&path).contains("card"));
}

#[test]
fn other_bytes_than_the_card_says_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = model::write_brightness(dir.path());
    let mut bytes = std::fs::read(&path).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let error = refused(&path);
    assert!(error.contains("SHA-256") && error.contains("card"), "{error}");
}

#[test]
fn what_is_not_onnx_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for bytes in [&b"not a model at all"[..], &[], &model::brightness_onnx()[..100]] {
        let error = refused(&write(dir.path(), bytes, |_| {}));
        assert!(error.contains("not an ONNX model") || error.contains("contract"), "{error}");
    }
}

#[test]
fn another_shape_than_the_contract_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let grey = refused(&write(dir.path(), &model::onnx(1, 64), |_| {}));
    assert!(grey.contains("contract is"), "{grey}");
    let side = refused(&write(dir.path(), &model::onnx(3, 96), |_| {}));
    assert!(side.contains("96") && side.contains("64"), "{side}");
}

#[test]
fn another_precision_than_wanted_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = Model::load(&model::write_brightness(dir.path())).expect("loads");
    let Err(error) = model.require(Some(Precision::Int8)) else { panic!("accepted") };
    assert!(error.to_string().contains("f32") && error.to_string().contains("int8"), "{error}");
}
