//! What was found of a frame and of the feed, as detector, verdict, log and publishers share it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize, Serializer};

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

/// How synthetic each place of a source's frames has looked over the last minutes: a copy for those who show it. See
/// [`crate::heat`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeatMap {
    /// When the first frame that counts was captured.
    #[serde(skip)]
    pub since: SystemTime,
    /// When the newest one was.
    #[serde(skip)]
    pub at: SystemTime,
    /// Width of the frame in pixels.
    pub width: u32,
    /// Height of the frame in pixels, of the field where one is judged.
    pub height: u32,
    /// Cells from left to right.
    pub columns: u32,
    /// Cells from top to bottom.
    pub rows: u32,
    /// Side of a cell in pixels; those at the right and lower edge may reach beyond the frame.
    pub side: u32,
    /// A score for each cell, 0..1, row by row; `None` where nothing was judged.
    #[serde(serialize_with = "thousandths")]
    pub values: Vec<Option<f32>>,
    /// How many tiles that were judged have covered each cell, row by row.
    pub judged: Vec<u32>,
}

/// Three digits: a map has thousands of numbers, and more would be noise.
fn thousandths<S: Serializer>(values: &[Option<f32>], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(values.iter().map(|value| value.map(|v| (f64::from(v) * 1e3).round() / 1e3)))
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
