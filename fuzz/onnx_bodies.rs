//! What has to hold for any file that is given as a model or as its card: it ends, with an error that names the file, or
//! with a model that answers.

use std::path::Path;

use spotd::detector::card::{Card, sha256_hex};
use spotd::detector::{Model, ModelError};
use spotd::identity::Precision;
use spotd::quantize::{self, Options, Tiles};

/// The smallest tile that a card may state.
const SIDE: u32 = 32;

fn card_of(bytes: &[u8], precision: Precision) -> Card {
    let text = include_str!("seeds/card/edge.toml");
    Card {
        sha256: sha256_hex(bytes),
        tile: SIDE,
        precision,
        ..Card::parse(text, Path::new("edge.toml")).expect("a card")
    }
}

fn tile(seed: u32) -> image::RgbImage {
    let byte = |n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8;
    image::RgbImage::from_fn(SIDE, SIDE, |x, y| {
        image::Rgb([0, 1, 2].map(|c| byte(seed.wrapping_mul(4096) + 3 * (SIDE * y + x) + c)))
    })
}

/// A model file, float or quantised.
pub fn model(bytes: &[u8]) {
    let path = Path::new("fuzz.onnx");
    for precision in [Precision::F32, Precision::Int8] {
        match Model::from_bytes(bytes, card_of(bytes, precision), path) {
            Ok(model) => match model.logit(&tile(1)) {
                Ok(logit) => assert!(logit.is_finite()),
                Err(error) => assert!(matches!(error, ModelError::Inference(_)), "{error}"),
            },
            Err(ModelError::CardPrecision { .. }) => continue,
            Err(error) => assert!(error.to_string().contains("fuzz.onnx"), "{error}"),
        }
        return;
    }
}

/// A float model that is to be quantised: what comes out is a model.
pub fn quantize(bytes: &[u8]) {
    let tiles = |from: u32| (from..from + 4).map(|n| spotd::detector::engine::planar(&tile(n))).collect();
    let tiles = Tiles { calibrate: tiles(0), held_out: tiles(4) };
    let options = Options { clipping: Some(quantize::Clipping::MinMax), ..Options::default() };
    match quantize::quantize(bytes, &tiles, &options, &()) {
        Ok(quantized) => model(&quantized.onnx),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A model card: what is taken for one is one.
pub fn card(text: &str) {
    let path = Path::new("fuzz.toml");
    match Card::parse(text, path) {
        Ok(card) => {
            assert!(
                card.unsure_from <= card.threshold && (0.0..1.0).contains(&card.score(1.0))
                    || card.score(1.0) == 1.0
            );
            let again = Card::parse(&card.to_toml(), path).expect("a card's own text");
            assert_eq!(format!("{again:?}"), format!("{card:?}"));
        }
        Err(error) => assert!(error.to_string().contains("fuzz.toml"), "{error}"),
    }
}
