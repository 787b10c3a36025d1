//! A model that runs on whole pictures of any size, for evaluation: networks that end in a mean
//! over positions accept any. The daemon judges tiles instead, whose cost does not depend on the
//! camera.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use image::RgbImage;

use super::card::Card;
use super::engine::Engine;
use super::error::ModelError;
use super::model::{check_hash, check_precision, read};
use crate::identity::Wanted;

/// Plans kept at most; one more evicts all others, which costs time but not correctness.
const MOST_PLANS: usize = 32;

/// A model with one plan for each picture size.
pub struct WholePicture {
    bytes: Vec<u8>,
    card: Card,
    path: PathBuf,
    wanted: Wanted,
    plans: Mutex<HashMap<(u32, u32), Engine>>,
}

impl WholePicture {
    /// Loads the model at `path`, or the built-in one, for the precision that is `wanted`.
    ///
    /// # Errors
    /// As [`super::Model::open`]. Whether it takes other sizes than its tile, and runs in that
    /// precision, shows with the first picture.
    pub fn open(path: Option<&Path>, wanted: Wanted) -> Result<Self, ModelError> {
        let (bytes, card, path) = read(path)?;
        check_hash(&bytes, &card, &path)?;
        Ok(Self { bytes, card, path, wanted, plans: Mutex::default() })
    }

    /// Logit of a whole picture: positive means synthetic.
    ///
    /// # Errors
    /// [`ModelError::Contract`] when the network cannot take that size, [`ModelError::Inference`]
    /// when it fails on it.
    pub fn logit(&self, picture: &RgbImage) -> Result<f32, ModelError> {
        let size = picture.dimensions();
        // Two threads may make the same plan; neither waits for the other.
        let known = self.plans.lock().expect("plans").get(&size).cloned();
        let engine = match known {
            Some(engine) => engine,
            None => {
                let pixels = (size.0 as usize, size.1 as usize);
                let made = Engine::new(&self.bytes, None, pixels, self.wanted, &self.path)?;
                check_precision(&made, &self.card, &self.path)?;
                let mut plans = self.plans.lock().expect("plans");
                if plans.len() >= MOST_PLANS {
                    plans.clear();
                }
                plans.insert(size, made.clone());
                made
            }
        };
        engine.logit(picture)
    }

    /// The model's card.
    pub fn card(&self) -> &Card {
        &self.card
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::Model;
    use image::Rgb;

    #[test]
    fn a_picture_of_the_tile_s_size_gets_the_tile_s_logit_and_others_get_one_too() {
        let whole = WholePicture::open(None, Wanted::Auto).expect("built in");
        let model = Model::open(None, Wanted::Auto).expect("built in");
        let side = model.card().tile;
        let picture = |w: u32, h: u32| {
            RgbImage::from_fn(w, h, |x, y| {
                Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, (x * y % 251) as u8])
            })
        };
        let tile = picture(side, side);
        let (a, b) = (whole.logit(&tile).expect("runs"), model.logit(&tile).expect("runs"));
        assert!((a - b).abs() < 1e-4, "{a} {b}");
        assert!(whole.logit(&picture(side + 77, side - 40)).expect("runs").is_finite());
    }
}
