//! Which model it was, as records and cards name it, and which precision is asked for; apart from the detector, so that who
//! only reads records or settings needs no inference engine.

use serde::{Deserialize, Serialize};

/// Number format of a model's weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// 8-bit integers with scales (QDQ ONNX).
    Int8,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Int8 => "int8",
        })
    }
}

/// Which precision is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// int8 where the file is quantised, else f32.
    #[default]
    Auto,
    /// This one. A quantised file can be run in f32 too, for comparison: bytes stand between its layers, but each
    /// layer is computed in floating point.
    Only(Precision),
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Wanted::Auto),
            "f32" => Ok(Wanted::Only(Precision::F32)),
            "int8" => Ok(Wanted::Only(Precision::Int8)),
            _ => Err("must be \"auto\", \"f32\" or \"int8\"".into()),
        }
    }
}

/// Who judged, as a record names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Name from the card.
    pub name: String,
    /// Version from the card.
    pub version: String,
    /// SHA-256 of the ONNX file.
    pub sha256: String,
    /// Number format that ran.
    pub precision: Precision,
    /// SHA-256 of the head of the coherent part, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coherence: Option<String>,
}
