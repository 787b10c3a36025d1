//! A model: an ONNX file that follows the model contract, its card, and tract to run it.
//!
//! The contract: input float32 `[N, 3, S, S]`, RGB in 0..1, `S` from the card; output float32
//! `[N, 1]`, a logit. Normalisation and any fixed front end are part of the graph.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;

use super::calibration::Calibration;
use super::card::{Card, CoherentPart, sha256_hex};
use super::coherence::{BlockSums, Head};
use super::engine::Engine;
pub use super::engine::planar;
use super::error::ModelError;
use crate::built_in;
use crate::identity::{ModelIdentity, Precision, Wanted};
use crate::shown::Shown as _;

/// A loaded model. Clones share the optimised plan; each thread runs its own state of it.
#[derive(Clone)]
pub struct Model {
    engine: Engine,
    card: Arc<Card>,
    path: PathBuf,
    coherent: Option<Arc<Coherent>>,
}

/// The coherent part as it runs.
struct Coherent {
    head: Head,
    part: CoherentPart,
}

/// The coherent part's answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coherence {
    /// Positive means synthetic.
    pub logit: f32,
    /// The factor by which the picture was scaled after it was generated, if the strongest reading
    /// assumes one.
    pub scale: Option<f64>,
}

/// The card of the detector that is built in.
const BUILT_IN_CARD: &str = include_str!("../../models/spotd-lite-int8.toml");

impl Model {
    /// Loads the model at `path` with the card beside it, or the built-in one, checks it against
    /// its card, and prepares it for tiles in the precision that is `wanted`: for f32, a quantised file is run in
    /// floats.
    ///
    /// # Errors
    /// [`ModelError`] names the file and what is wrong with it; [`ModelError::NotQuantised`] where
    /// int8 cannot be had.
    pub fn open(path: Option<&Path>, wanted: Wanted) -> Result<Self, ModelError> {
        let (bytes, card, at) = read(path)?;
        let mut model = Self::prepare(&bytes, card, &at, wanted)?;
        if let Some(part) = model.card.coherence.clone() {
            let (head, file) = read_head(path, &part)?;
            model.coherent = Some(Arc::new(Coherent::new(&head, part, &file)?));
        }
        Ok(model)
    }

    /// Prepares a network from the bytes of its ONNX file, without a coherent part even if its card
    /// names one; `path` is for the messages.
    ///
    /// # Errors
    /// [`ModelError`] names the file and what is wrong with it.
    pub fn from_bytes(bytes: &[u8], card: Card, path: &Path) -> Result<Self, ModelError> {
        Self::prepare(bytes, card, path, Wanted::Auto)
    }

    fn prepare(bytes: &[u8], card: Card, path: &Path, wanted: Wanted) -> Result<Self, ModelError> {
        check_hash(bytes, &card, path)?;
        let side = card.tile as usize;
        let engine = Engine::new(bytes, Some(side), (side, side), wanted, path)?;
        check_precision(&engine, &card, path)?;
        if let Some(report) = engine.report() {
            log::info!("model {}: {report}", path.shown());
        }
        Ok(Self { engine, card: Arc::new(card), path: path.to_owned(), coherent: None })
    }

    /// The same model with a site's temperature and limits instead of the card's; unchanged without
    /// a path.
    ///
    /// # Errors
    /// [`ModelError::Calibration`] when the file is unusable or made for another model.
    pub fn calibrated(mut self, path: Option<&Path>) -> Result<Self, ModelError> {
        if let Some(path) = path {
            let mut card = Card::clone(&self.card);
            Calibration::load(path)?.apply(&mut card, path)?;
            self.card = Arc::new(card);
        }
        Ok(self)
    }

    /// The model's card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Name, version, hash and precision for records.
    pub fn identity(&self) -> ModelIdentity {
        ModelIdentity {
            name: self.card.name.clone(),
            version: self.card.version.clone(),
            sha256: self.card.sha256.clone(),
            precision: self.engine.precision(),
            coherence: self.coherent.as_ref().map(|c| c.part.sha256.clone()),
        }
    }

    /// How it runs: precision, instruction set, what was fused.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether it has a coherent part beside the network.
    pub fn is_coherent(&self) -> bool {
        self.coherent.is_some()
    }

    /// Factors by which a picture may have been scaled after it was generated; empty without a
    /// coherent part.
    pub fn scales(&self) -> &[f64] {
        self.coherent.as_ref().map_or(&[], |c| &c.part.scales)
    }

    /// By how much the logit of a reading counts less that is one of several; 0 without a coherent part.
    pub(super) fn scaled_less(&self) -> f32 {
        self.coherent.as_ref().map_or(0.0, |c| c.part.scaled_less as f32)
    }

    /// The coherent part's answer to the sums on the frame's `own` grid and on those of
    /// [`Model::scales`], from the strongest reading; `None` without a coherent part.
    ///
    /// # Errors
    /// [`ModelError::Inference`] when tract fails.
    pub fn coherent(
        &self,
        own: &BlockSums,
        scaled: &[Option<BlockSums>],
    ) -> Result<Option<Coherence>, ModelError> {
        let Some(coherent) = &self.coherent else { return Ok(None) };
        let Coherent { head, part } = &**coherent;
        let read: Vec<(&BlockSums, f64)> = scaled
            .iter()
            .zip(&part.scales)
            .filter_map(|(sums, &scale)| Some((sums.as_ref()?, scale)))
            .collect();
        let logits = head.logits([own].into_iter().chain(read.iter().map(|(sums, _)| *sums)))?;
        let mut most = Coherence { logit: logits[0], scale: None };
        for (logit, (_, scale)) in logits[1..].iter().zip(read) {
            let logit = logit - part.scaled_less as f32;
            if logit > most.logit {
                most = Coherence { logit, scale: Some(scale) };
            }
        }
        Ok(Some(most))
    }

    /// The coherent part's logits of some places' sums, each by itself; zeros without a coherent part.
    ///
    /// # Errors
    /// [`ModelError::Inference`] when tract fails.
    pub(super) fn coherent_logits(&self, places: &[BlockSums]) -> Result<Vec<f32>, ModelError> {
        self.coherent.as_ref().map_or_else(|| Ok(vec![0.0; places.len()]), |c| c.head.logits(places))
    }

    /// The combined logit of network and coherent part, weighted as the card says; the network's
    /// own if there is no coherent logit.
    pub fn together(&self, network: f32, coherent: Option<f32>) -> f32 {
        match (&self.coherent, coherent) {
            (Some(c), Some(logit)) => {
                let sum =
                    c.part.network * f64::from(network) + c.part.weight * f64::from(logit) + c.part.bias;
                sum as f32
            }
            _ => network,
        }
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Logit of one tile of the card's size: positive means synthetic.
    ///
    /// # Errors
    /// [`ModelError::Inference`] when the tile has another size or tract fails.
    pub fn logit(&self, tile: &RgbImage) -> Result<f32, ModelError> {
        let side = self.card.tile;
        if tile.dimensions() != (side, side) {
            let (w, h) = tile.dimensions();
            return Err(ModelError::Inference(format!(
                "a tile of {w}x{h} was given to a model of {side}x{side}"
            )));
        }
        self.engine.logit(tile)
    }

    /// As [`Model::logit`], of a tile whose pixels `fill` writes, three bytes each, row by row, to where the network reads
    /// them.
    ///
    /// # Errors
    /// That of `fill`, or [`ModelError::Inference`] when tract fails.
    pub(super) fn logit_of<E: From<ModelError>>(
        &self,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<f32, E> {
        self.engine.logit_of((self.card.tile, self.card.tile), fill)
    }
}

impl Coherent {
    fn new(bytes: &[u8], part: CoherentPart, path: &Path) -> Result<Self, ModelError> {
        let found = sha256_hex(bytes);
        if !found.eq_ignore_ascii_case(&part.sha256) {
            return Err(ModelError::WrongHash { path: path.to_owned(), expected: part.sha256, found });
        }
        Ok(Self { head: Head::new(bytes, path)?, part })
    }
}

/// The bytes of a model, its card, and the path for messages; without a path, those of the built-in
/// one.
///
/// # Errors
/// [`ModelError`]: model or card cannot be read, or the card is wrong.
pub fn read(path: Option<&Path>) -> Result<(Vec<u8>, Card, PathBuf), ModelError> {
    let Some(path) = path else {
        let path = PathBuf::from("(built in) spotd-lite-int8.onnx");
        let card = Card::parse(BUILT_IN_CARD, &Card::path_for(&path))?;
        return Ok((built_in::DETECTOR.bytes(), card, path));
    };
    let bytes =
        std::fs::read(path).map_err(|error| ModelError::Unreadable { path: path.to_owned(), error })?;
    Ok((bytes, Card::load(&Card::path_for(path))?, path.to_owned()))
}

/// The bytes of the head that a model's card names, and its path: beside the model, or the built-in
/// one.
///
/// # Errors
/// [`ModelError::Unreadable`].
pub fn read_head(model: Option<&Path>, part: &CoherentPart) -> Result<(Vec<u8>, PathBuf), ModelError> {
    let Some(model) = model else {
        return Ok((built_in::HEAD.bytes(), PathBuf::from(format!("(built in) {}", part.file))));
    };
    let path = model.with_file_name(&part.file);
    match std::fs::read(&path) {
        Ok(bytes) => Ok((bytes, path)),
        Err(error) => Err(ModelError::Unreadable { path, error }),
    }
}

/// Refuses bytes that are not the card's.
///
/// # Errors
/// [`ModelError::WrongHash`].
pub fn check_hash(bytes: &[u8], card: &Card, path: &Path) -> Result<(), ModelError> {
    let found = sha256_hex(bytes);
    if found.eq_ignore_ascii_case(&card.sha256) {
        return Ok(());
    }
    Err(ModelError::WrongHash { path: path.to_owned(), expected: card.sha256.clone(), found })
}

/// Refuses a file of another precision than its card's.
pub(super) fn check_precision(engine: &Engine, card: &Card, path: &Path) -> Result<(), ModelError> {
    let file = match (card.precision, engine.is_quantised()) {
        (Precision::F32, true) => "is quantised",
        (Precision::Int8, false) => "is not quantised",
        _ => return Ok(()),
    };
    Err(ModelError::CardPrecision { path: path.to_owned(), card: card.precision, file })
}
