//! Models that must be refused, by name, and one that must run.

mod common;

use std::path::Path;

use common::{model, quantised};
use image::{Rgb, RgbImage};
use spotd::detector::card::Card;
use spotd::detector::model::planar;
use spotd::detector::{Model, WholePicture};
use spotd::forensics::scenes::SceneRenderer;
use spotd::identity::Precision;
use spotd::identity::Wanted;
use spotd_kernels::tract::{fuse, onnx};
use tract_onnx::prelude::*;

fn refused(path: &Path) -> String {
    match Model::open(Some(path), Wanted::Auto) {
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
    let model = Model::open(Some(&model::write_brightness(dir.path())), Wanted::Auto).expect("loads");
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
fn with_a_model_for_another_tile_the_daemon_does_not_start_and_both_sizes_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = write(dir.path(), &model::onnx(3, 96), |_| {});
    let config = dir.path().join("spotd.toml");
    let text = format!(
        "[model]\npath = {path:?}\n[log]\ndir = \"flags\"\n[web]\nenabled = false\n\
         [[source]]\nid = \"cam\"\nuri = \"demo://1\"\n"
    );
    std::fs::write(&config, text).expect("written");
    for (command, expected) in [("run", 2), ("check", 1)] {
        let (code, said) = common::daemon::spotd(&[command, "--config", &config.to_string_lossy()]);
        assert_eq!(code, Some(expected), "{said}");
        for words in ["m.onnx", "its input is 96", "card's tile asks for 64"] {
            assert!(said.contains(words), "'{words}' is missing: {said}");
        }
    }
}

#[test]
fn int8_of_a_float_model_is_refused_with_the_way_to_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = model::write_brightness(dir.path());
    let int8 = Wanted::Only(Precision::Int8);
    let Err(error) = Model::open(Some(&path), int8) else { panic!("accepted") };
    let error = error.to_string();
    assert!(error.contains("is f32") && error.contains("spotd quantize --model"), "{error}");
    for wanted in [Wanted::Auto, Wanted::Only(Precision::F32)] {
        let model = Model::open(Some(&path), wanted).expect("loads");
        assert_eq!((model.identity().precision, &*model.engine().describe()), (Precision::F32, "f32"));
    }
}

#[test]
fn a_quantised_model_runs_in_int8_or_on_request_in_float() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = write(dir.path(), &quantised::onnx(), |card| card.precision = Precision::Int8);
    let tile = |v: u8| RgbImage::from_pixel(model::TILE, model::TILE, Rgb([v; 3]));
    for (wanted, precision, words) in [
        (Wanted::Auto, Precision::Int8, ", from pixels"),
        (Wanted::Only(Precision::Int8), Precision::Int8, ", from pixels"),
        (Wanted::Only(Precision::F32), Precision::F32, "f32, from a quantised file"),
    ] {
        let model = Model::open(Some(&path), wanted).expect("loads");
        assert_eq!(model.identity().precision, precision, "{wanted:?}");
        let described = model.engine().describe();
        assert!(described.ends_with(words) && described.starts_with(&precision.to_string()), "{described}");
        let whole = WholePicture::open(Some(&path), wanted).expect("loads");
        for v in [0, 77, 128, 255] {
            let expected = 24.0 * f32::from(v) / 255.0 - 12.0;
            let logit = model.logit(&tile(v)).expect("runs");
            assert!((logit - expected).abs() < 1e-4, "{wanted:?}: {logit} {expected}");
            let logit = whole.logit(&RgbImage::from_pixel(90, 51, Rgb([v; 3]))).expect("runs");
            assert!((logit - expected).abs() < 1e-4, "{wanted:?}, whole: {logit} {expected}");
        }
    }
    let report =
        Model::open(Some(&path), Wanted::Auto).expect("loads").engine().report().expect("a report").clone();
    assert_eq!((report.layers(), report.left.len()), (1, 0), "{report}");
    assert!(report.to_string().contains(" from pixels"), "{report}");
}

/// The fast and the comparable way are both available without a path.
#[test]
fn the_built_in_detector_runs_in_int8_and_on_request_in_floats() {
    let tile = SceneRenderer::new(4, 224, 224).frame(1);
    let logit = |wanted| {
        let model = Model::open(None, wanted).expect("built in");
        (model.identity(), model.logit(&tile).expect("runs"))
    };
    let (auto, int8) = logit(Wanted::Auto);
    let (same, again) = logit(Wanted::Only(Precision::Int8));
    let (float, f32) = logit(Wanted::Only(Precision::F32));
    assert_eq!((auto.precision, int8.to_bits()), (Precision::Int8, again.to_bits()));
    assert_eq!(auto.sha256, same.sha256);
    assert_eq!(float.precision, Precision::F32);
    assert_eq!(auto.sha256, float.sha256, "one file");
    assert!((int8 - f32).abs() < 0.5, "{int8} {f32}");
}

/// The daemon's result, from the same file with float input.
#[test]
fn a_shipped_detector_in_int8_gives_pixels_the_logit_of_their_floats() {
    let name = "spotd-edge-int8";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/{name}.onnx"));
    let (model, whole) = (
        Model::open(Some(&path), Wanted::Auto).expect("loads"),
        WholePicture::open(Some(&path), Wanted::Auto).expect("loads"),
    );
    assert!(model.engine().describe().ends_with(", from pixels"), "{}", model.engine().describe());
    let side = model.card().tile;
    for (width, height) in [(side, side), (side - 21, side + 40)] {
        let picture = SceneRenderer::new(3, width, height).frame(2);
        let shape = [1, 3, height as usize, width as usize];
        let mut graph = onnx().model_for_path(&path).expect("ONNX");
        graph.set_input_fact(0, f32::fact(shape).into()).expect("an input");
        let (fused, _) = fuse(graph.into_typed().expect("types")).expect("fuses");
        let plan = fused.into_optimized().expect("optimises").into_runnable().expect("runs");
        let by_floats = plan.run(tvec!(planar(&picture).into())).expect("runs");
        let by_floats = by_floats[0].to_plain_array_view::<f32>().expect("floats")[[0, 0]];
        assert_eq!(whole.logit(&picture).expect("runs").to_bits(), by_floats.to_bits(), "{name}");
        if width == height {
            assert_eq!(model.logit(&picture).expect("runs").to_bits(), by_floats.to_bits(), "{name}");
        }
    }
}

#[test]
fn a_card_of_another_precision_than_its_file_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let error = refused(&write(dir.path(), &quantised::onnx(), |_| {}));
    assert!(error.contains("precision = \"f32\"") && error.contains("is quantised"), "{error}");
    let error = refused(&write(dir.path(), &model::brightness_onnx(), |c| c.precision = Precision::Int8));
    assert!(error.contains("precision = \"int8\"") && error.contains("is not quantised"), "{error}");
}

#[test]
fn quantisation_that_cannot_be_computed_with_is_refused_by_the_tensor_s_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let int8 = |card: &mut Card| card.precision = Precision::Int8;
    for (scales, words) in [
        ([0.0, 0.08], "scale pixel_scale[0] is 0"),
        ([f32::NAN, 0.08], "scale pixel_scale[0] is NaN"),
        ([1.0 / 255.0, -0.08], "scale weight_scale[0] is -0.08"),
        ([1.0 / 255.0, 1e-30], "bias of output channel 0"),
    ] {
        let error = refused(&write(dir.path(), &quantised::onnx_with(scales, 0), int8));
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_quantised_model_without_a_layer_for_int8_runs_in_float_and_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    // The value 100 lies at byte 130, so that zero would be at 30; and byte 0, which no weight has,
    // is -30: fits.
    let int8 = |card: &mut Card| card.precision = Precision::Int8;
    let fits = write(dir.path(), &quantised::onnx_with([1.0 / 255.0, 0.08], 30), int8);
    assert_eq!(Model::open(Some(&fits), Wanted::Auto).expect("loads").identity().precision, Precision::Int8);
    // -200 is no signed byte.
    let mut asymmetric = quantised::onnx_with([1.0 / 255.0, 0.08], 200 - 100);
    let at = asymmetric.windows(3).position(|w| w == [200; 3]).expect("the weights");
    asymmetric[at..at + 3].copy_from_slice(&[255, 255, 255]);
    let path = write(dir.path(), &asymmetric, int8);
    let model = Model::open(Some(&path), Wanted::Auto).expect("loads");
    assert_eq!(model.identity().precision, Precision::F32);
    assert!(model.engine().report().expect("a report").to_string().contains("asymmetric"));
    let Err(error) = Model::open(Some(&path), Wanted::Only(Precision::Int8)) else { panic!("accepted") };
    assert!(error.to_string().contains("no layer of it can run in int8"), "{error}");
}
