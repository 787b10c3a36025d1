//! Why a model cannot be quantised.

use tract_onnx::prelude::TractError;

/// Why a model cannot be quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The bytes are not a readable ONNX model.
    #[error("not an ONNX model that can be read: {0}")]
    NotOnnx(String),
    /// It has quantised operators already.
    #[error("it is quantised already (operator {0}); give the float32 model that it was made from")]
    Quantized(String),
    /// Its graph has an unsupported form.
    #[error("its graph cannot be quantised: {0}")]
    Form(String),
    /// A named layer does not exist.
    #[error("there is no layer '{name}' to keep in float; the layers are: {layers}")]
    NoLayer {
        /// What was asked for.
        name: String,
        /// What there is.
        layers: String,
    },
    /// Nothing in it can run in int8.
    #[error("it has no operator that can run in int8 (convolution or dense layer with constant weights)")]
    Nothing,
    /// A number is not finite.
    #[error("{0}")]
    NotFinite(String),
    /// There are too few tiles to calibrate with.
    #[error("{0} tiles are too few: at least {1} are needed, some to calibrate with and some to measure on")]
    TooFew(usize, usize),
    /// tract could not run it.
    #[error("tract cannot run it: {0:#}")]
    Run(#[source] TractError),
    /// tract panicked on it.
    #[error("tract panicked on it (see above); the file is damaged")]
    Panicked,
    /// The OS cannot start a thread.
    #[error("the OS cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

impl From<TractError> for QuantizeError {
    fn from(error: TractError) -> Self {
        Self::Run(error)
    }
}

impl From<std::io::Error> for QuantizeError {
    fn from(error: std::io::Error) -> Self {
        Self::Thread(error)
    }
}
