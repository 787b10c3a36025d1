//! What was found of a frame and of the feed, as detector, verdict, log and publishers share it.

use serde::{Deserialize, Serialize};

use crate::raster::Rect;

/// A judged piece of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScoredTile {
    /// Where it lies in the frame, in pixels; of an interlaced frame, in the field.
    #[serde(flatten)]
    pub rect: Rect,
    /// Its score, 0..1: the network of the tile, the coherent part of the whole frame.
    pub score: f64,
}

/// What each part of the detector said of a frame, as logits: positive speaks for synthetic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Logits {
    /// The network's: the mean of the tiles'.
    pub network: f32,
    /// The coherent part's, of the frames added up so far; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coherence: Option<f32>,
    /// The factor by which the picture was scaled after it was generated, where the coherent part says most when it
    /// assumes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
}

/// What a verdict rests on. Records hold these members in this order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Score of the frame, 0..1; `None` when there was none.
    pub raw: Option<f64>,
    /// Median over the window, 0..1; `None` when the window is empty.
    pub smoothed: Option<f64>,
    /// Highest median since the event began (while there is an event), 0..1.
    pub peak: Option<f64>,
    /// From here on synthetic, 0..1.
    pub threshold: f64,
    /// From here on unsure, 0..1.
    pub unsure_from: f64,
    /// Frames that the window can hold.
    pub window: usize,
    /// Frames in the window.
    pub frames: usize,
}
