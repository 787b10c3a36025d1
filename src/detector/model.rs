//! A detector: an ONNX file that keeps the model contract, its card, and tract to run it.
//!
//! The contract: input float32 `[N, 3, S, S]`, RGB in 0..1, `S` from the card; output float32
//! `[N, 1]`, a logit. Normalisation and any fixed front end are part of the graph.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use thiserror::Error;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid as _;

use super::calibration::{Calibration, CalibrationError};
use super::card::{Card, Precision, sha256_hex};
pub use super::identity::ModelIdentity;

/// Why a model is refused.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The ONNX file cannot be read.
    #[error("model {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The card cannot be read.
    #[error("model card {path}: {error}; every model needs its card beside it, see docs/MODEL_CARD.md")]
    CardUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The card is not of its form.
    #[error("model card {path}: {reason}")]
    CardInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The bytes are not the ones that the card describes.
    #[error(
        "model {path}: its SHA-256 is {found}, but its card says {expected}; \
         the file was changed or belongs to another card"
    )]
    WrongHash {
        /// The ONNX file.
        path: PathBuf,
        /// What the card says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The bytes are no ONNX model that tract can read.
    #[error("model {path}: not an ONNX model that can be run: {reason}")]
    NotOnnx {
        /// The ONNX file.
        path: PathBuf,
        /// What tract said.
        reason: String,
    },
    /// It does not keep the model contract.
    #[error("model {path}: {reason}; the contract is input float32 [N, 3, S, S] and output float32 [N, 1]")]
    Contract {
        /// The ONNX file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The user insists on another precision than the card's.
    #[error(
        "model {path} is {has}, but [model] precision = \"{wanted}\" asks for another; change one of them"
    )]
    WrongPrecision {
        /// The ONNX file.
        path: PathBuf,
        /// What the card says.
        has: Precision,
        /// What the configuration says.
        wanted: Precision,
    },
    /// The site's calibration cannot be used.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// Inference failed.
    #[error("inference failed: {0}")]
    Inference(String),
}

pub(crate) type Plan = Arc<TypedSimplePlan>;

/// A loaded detector. Clones share the optimised plan; each thread runs its own state of it.
#[derive(Clone)]
pub struct Model {
    plan: Plan,
    card: Arc<Card>,
    path: PathBuf,
}

/// The detector that is built in.
const BUILT_IN: (&[u8], &str) =
    (include_bytes!("../../models/spotd-edge.onnx"), include_str!("../../models/spotd-edge.toml"));

impl Model {
    /// Loads the model at `path`, or the built-in one, and holds it against its card.
    ///
    /// # Errors
    /// [`ModelError`] names the file and what is wrong with it.
    pub fn open(path: Option<&Path>) -> Result<Self, ModelError> {
        let (bytes, card, path) = read(path)?;
        Self::from_bytes(&bytes, card, &path)
    }

    /// The built-in detector.
    ///
    /// # Errors
    /// As [`Model::load`]; only a broken build can cause one.
    pub fn built_in() -> Result<Self, ModelError> {
        Self::open(None)
    }

    /// Loads an ONNX file and the card beside it.
    ///
    /// # Errors
    /// [`ModelError`] names the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::open(Some(path))
    }

    /// Prepares a model from the bytes of its ONNX file; `path` is for the messages.
    ///
    /// # Errors
    /// [`ModelError`] names the file and what is wrong with it.
    pub fn from_bytes(bytes: &[u8], card: Card, path: &Path) -> Result<Self, ModelError> {
        check_hash(bytes, &card, path)?;
        let side = card.tile as usize;
        let plan = plan(bytes, Some(side), (side, side), path)?;
        Ok(Self { plan, card: Arc::new(card), path: path.to_owned() })
    }

    /// Refuses a model that is not of the wanted precision.
    ///
    /// # Errors
    /// [`ModelError::WrongPrecision`].
    pub fn require(self, wanted: Option<Precision>) -> Result<Self, ModelError> {
        match wanted {
            Some(wanted) if wanted != self.card.precision => {
                Err(ModelError::WrongPrecision { path: self.path, has: self.card.precision, wanted })
            }
            _ => Ok(self),
        }
    }

    /// The same model with the temperature and the limits of one site in place of the card's; without a path
    /// it stays as it is.
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

    /// What runs: for those who time its operators one by one.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Name, version, hash and precision for records.
    pub fn identity(&self) -> ModelIdentity {
        ModelIdentity {
            name: self.card.name.clone(),
            version: self.card.version.clone(),
            sha256: self.card.sha256.clone(),
            precision: self.card.precision,
        }
    }

    /// Logit of one tile of the card's size: positive speaks for synthetic.
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
        infer(&self.plan, tile)
    }
}

/// The bytes of a model, its card, and the path for messages; the built-in one without a path.
pub(crate) fn read(path: Option<&Path>) -> Result<(Cow<'static, [u8]>, Card, PathBuf), ModelError> {
    let Some(path) = path else {
        let path = PathBuf::from("(built in) spotd-edge.onnx");
        return Ok((Cow::Borrowed(BUILT_IN.0), Card::parse(BUILT_IN.1, &Card::path_for(&path))?, path));
    };
    let bytes =
        std::fs::read(path).map_err(|error| ModelError::Unreadable { path: path.to_owned(), error })?;
    Ok((Cow::Owned(bytes), Card::load(&Card::path_for(path))?, path.to_owned()))
}

/// Refuses bytes that are not the card's.
pub(crate) fn check_hash(bytes: &[u8], card: &Card, path: &Path) -> Result<(), ModelError> {
    let found = sha256_hex(bytes);
    if found.eq_ignore_ascii_case(&card.sha256) {
        return Ok(());
    }
    Err(ModelError::WrongHash { path: path.to_owned(), expected: card.sha256.clone(), found })
}

/// Runs a plan on a picture of its size.
pub(super) fn infer(plan: &Plan, picture: &RgbImage) -> Result<f32, ModelError> {
    let inference = |e: TractError| ModelError::Inference(format!("{e:#}"));
    let output = plan.run(tvec!(planar(picture).into())).map_err(inference)?;
    let logit = output[0].to_plain_array_view::<f32>().map_err(inference)?.iter().next().copied();
    logit
        .filter(|l| l.is_finite())
        .ok_or_else(|| ModelError::Inference("the network's answer is not a finite number".into()))
}

/// Interleaved bytes to planar floats in 0..1, shape `[1, 3, height, width]`.
pub fn planar(image: &RgbImage) -> Tensor {
    let (w, h) = (image.width() as usize, image.height() as usize);
    let mut data = vec![0f32; 3 * w * h];
    let (r, gb) = data.split_at_mut(w * h);
    let (g, b) = gb.split_at_mut(w * h);
    for (i, px) in image.as_raw().chunks_exact(3).enumerate() {
        r[i] = f32::from(px[0]) / 255.0;
        g[i] = f32::from(px[1]) / 255.0;
        b[i] = f32::from(px[2]) / 255.0;
    }
    Tensor::from_shape(&[1, 3, h, w], &data).expect("length fits the shape")
}

/// Parses, checks against the contract and optimises for one picture of `size` (width, height). `side` is
/// what the file may state as the size of its input; `None` lets it state any.
pub(super) fn plan(
    bytes: &[u8],
    side: Option<usize>,
    size: (usize, usize),
    path: &Path,
) -> Result<Plan, ModelError> {
    let (width, height) = size;
    let not_onnx = |e: TractError| ModelError::NotOnnx { path: path.to_owned(), reason: format!("{e:#}") };
    let contract = |reason: String| ModelError::Contract { path: path.to_owned(), reason };
    let mut graph = tract_onnx::onnx().model_for_read(&mut &*bytes).map_err(not_onnx)?;
    if graph.inputs.len() != 1 || graph.outputs.len() != 1 {
        return Err(contract(format!(
            "it has {} inputs and {} outputs",
            graph.inputs.len(),
            graph.outputs.len()
        )));
    }
    check_input(&graph, side).map_err(contract)?;
    graph.set_input_fact(0, f32::fact([1, 3, height, width]).into()).map_err(not_onnx)?;
    let typed = graph
        .into_typed()
        .map_err(|e| contract(format!("it does not accept {width}x{height} RGB pixels: {e:#}")))?;
    let output = typed.output_fact(0).map_err(not_onnx)?;
    let shape = output.shape.as_concrete().map(<[usize]>::to_vec);
    if output.datum_type != f32::datum_type() || shape.as_deref() != Some(&[1, 1]) {
        return Err(contract(format!(
            "its output for one picture is {:?} {:?}",
            output.datum_type,
            shape.unwrap_or_default()
        )));
    }
    typed.into_optimized().and_then(|m| m.into_runnable()).map_err(not_onnx)
}

/// What the file itself states of its input must not contradict the contract.
fn check_input(graph: &InferenceModel, side: Option<usize>) -> Result<(), String> {
    let fact = graph.input_fact(0).map_err(|e| e.to_string())?;
    if let Some(dt) = fact.datum_type.concretize()
        && dt != f32::datum_type()
    {
        return Err(format!("its input is {dt:?}"));
    }
    let dims: Vec<Option<i64>> =
        fact.shape.dims().map(|d| d.concretize().and_then(|d| d.to_i64().ok())).collect();
    if !fact.shape.is_open() && dims.len() != 4 {
        return Err(format!("its input has {} dimensions", dims.len()));
    }
    let side = side.map(|side| side as i64);
    let want = [None, Some(3), side, side];
    for (axis, (have, want)) in dims.iter().zip(want).enumerate() {
        if let (Some(have), Some(want)) = (have, want)
            && *have != want
        {
            return Err(format!("its input is {have} on axis {axis}, where the card's tile asks for {want}"));
        }
    }
    Ok(())
}
