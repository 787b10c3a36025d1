//! Which model it was, as records and cards name it; apart from the engine, so that who only reads records needs none.

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
