//! Where in a picture something lies, and in which order its lines were filmed: what records say of a frame without having
//! its pixels.

use serde::{Deserialize, Serialize};

/// A rectangle in pixels, from the top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// Which of the two fields was filmed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum FieldOrder {
    /// The source does not say.
    #[default]
    #[serde(rename = "unknown-order")]
    Unknown,
    /// Even lines, counted from 0.
    #[serde(rename = "top-field-first")]
    TopFirst,
    /// Odd lines.
    #[serde(rename = "bottom-field-first")]
    BottomFirst,
}

impl FieldOrder {
    /// The words used in records, states and logs: `top-field-first`, `bottom-field-first`, `unknown-order`.
    pub fn as_str(self) -> &'static str {
        match self {
            FieldOrder::Unknown => "unknown-order",
            FieldOrder::TopFirst => "top-field-first",
            FieldOrder::BottomFirst => "bottom-field-first",
        }
    }
}
