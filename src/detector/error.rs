//! Why a model, its card or a site's calibration is refused.

use std::path::PathBuf;

use thiserror::Error;

use crate::identity::Precision;
use crate::shown::Shown as _;

/// Why a model is refused.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The ONNX file cannot be read.
    #[error("model {}: {error}", path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: std::io::Error,
    },
    /// The card cannot be read.
    #[error("model card {}: {error}; every model needs its card beside it, see docs/MODEL_CARD.md", path.shown())]
    CardUnreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: std::io::Error,
    },
    /// The card is malformed.
    #[error("model card {}: {reason}", path.shown())]
    CardInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The bytes are not the ones that the card describes.
    #[error(
        "model {}: its SHA-256 is {found}, but its card says {expected}; \
         the file was changed or belongs to another card", path.shown()
    )]
    WrongHash {
        /// The ONNX file.
        path: PathBuf,
        /// What the card says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The bytes are not an ONNX model that tract can read.
    #[error("model {}: not an ONNX model that can be run: {reason}", path.shown())]
    NotOnnx {
        /// The ONNX file.
        path: PathBuf,
        /// What tract said.
        reason: String,
    },
    /// It violates the model contract.
    #[error("model {}: {reason}; the contract is input float32 [N, 3, S, S] and output float32 [N, 1]", path.shown())]
    Contract {
        /// The ONNX file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The head of the coherent part violates its contract.
    #[error("head {path}: {reason}; its contract is input float32 [1, {features}] and output float32 [1, 1]")]
    HeadContract {
        /// The ONNX file.
        path: PathBuf,
        /// What differs.
        reason: String,
        /// Number of features that it is given.
        features: usize,
    },
    /// int8 is requested, but the file is not quantised.
    #[error(
        "model {} is f32, but int8 is asked for; quantise it (spotd quantize --model FILE --calibrate DIR \
         --out int8.onnx) and use the result, or ask for \"auto\"", path.shown()
    )]
    NotQuantised {
        /// The ONNX file.
        path: PathBuf,
    },
    /// Its quantisation is unusable.
    #[error(
        "model {}: {reason}; precision \"f32\" runs a quantised model without int8 layers, where its scales allow", path.shown()
    )]
    Quantisation {
        /// The ONNX file.
        path: PathBuf,
        /// The tensor, and what is wrong with it.
        reason: String,
    },
    /// The card states a precision that the file does not have.
    #[error(
        "model {}: its card says precision = \"{card}\", but the file {file}; change the card, or take the file \
         that belongs to it", path.shown()
    )]
    CardPrecision {
        /// The ONNX file.
        path: PathBuf,
        /// What the card says.
        card: Precision,
        /// What the file is.
        file: &'static str,
    },
    /// The site's calibration cannot be used.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// Inference failed.
    #[error("inference failed: {0}")]
    Inference(String),
}

/// Why a calibration is refused.
#[derive(Debug, Error)]
pub enum CalibrationError {
    /// The file cannot be read.
    #[error("calibration {}: {error}; make one with spotd calibrate", path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: std::io::Error,
    },
    /// It is malformed.
    #[error("calibration {}: {reason}", path.shown())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It was made for another model.
    #[error(
        "calibration {} is for the model with SHA-256 {wanted}, but {model} has {found}; \
         a threshold means nothing to another model: run spotd calibrate again", path.shown()
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// SHA-256 in it.
        wanted: String,
        /// The model's name and version.
        model: String,
        /// The model's SHA-256.
        found: String,
    },
}
