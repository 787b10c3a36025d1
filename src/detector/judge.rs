//! One frame judged from tile choice to score, on the calling thread: what `scan` and the trainer use.
//! The daemon does the same steps spread over its workers.

use serde::{Deserialize, Serialize};

use super::tiles::{Limited, Selection, select};
use super::{Model, ModelError};
use crate::frame::{Frame, FrameError, Rect};
use crate::verdict::{Limits, Verdict};

/// What the network said of one tile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TileScore {
    /// Where the tile lies in the frame.
    #[serde(flatten)]
    pub rect: Rect,
    /// Its score, 0..1, 1 = synthetic.
    pub score: f64,
}

/// What is said of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameScore {
    /// Mean of the tiles' logits.
    pub logit: f32,
    /// `sigmoid(logit / temperature)`, 0..1, 1 = synthetic.
    pub score: f64,
    /// The tiles that were judged.
    pub tiles: Vec<TileScore>,
    /// Tiles skipped as flat.
    pub flat: usize,
    /// Set when the score rests on no proper tile, so that no verdict but unsure may be given.
    pub limited: Option<Limited>,
}

impl FrameScore {
    /// The verdict of this frame alone.
    pub fn verdict(&self, limits: Limits) -> Verdict {
        match self.limited {
            Some(_) => Verdict::Unsure,
            None => Verdict::of_score(self.score, limits),
        }
    }
}

/// Why a frame has no score.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// Its pixels could not be had.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The frame score of tile logits: their mean. A generator paints the whole picture, so every tile
/// speaks for it, and a mean is steadier than a maximum, whose false alarms grow with the tile count.
pub fn combine(model: &Model, selection: &Selection, logits: &[f32]) -> FrameScore {
    let logit = logits.iter().sum::<f32>() / logits.len() as f32;
    let tiles = selection
        .tiles
        .iter()
        .zip(logits)
        .map(|(t, &l)| TileScore { rect: t.rect, score: model.card().score(l) })
        .collect();
    FrameScore {
        logit,
        score: model.card().score(logit),
        tiles,
        flat: selection.flat,
        limited: selection.limited,
    }
}

/// Judges one frame by at most `max_tiles` tiles.
///
/// # Errors
/// [`JudgeError`] when its pixels are damaged or the network fails.
pub fn judge(model: &Model, frame: Frame, max_tiles: usize) -> Result<FrameScore, JudgeError> {
    let frame = frame.decoded()?;
    let selection = select(&frame, model.card().tile, max_tiles)?;
    let logits = selection.tiles.iter().map(|t| model.logit(&t.pixels)).collect::<Result<Vec<_>, _>>()?;
    Ok(combine(model, &selection, &logits))
}

/// The limits in force: the card's, unless the configuration overrides them.
pub fn limits(model: &Model, config: &crate::verdict::VerdictConfig) -> Limits {
    let card = model.card();
    let threshold = config.threshold.unwrap_or(card.threshold);
    // A threshold lowered below the card's unsure band takes the band down with it.
    let unsure_from = config.unsure_from.unwrap_or(card.unsure_from).min(threshold);
    Limits { threshold, unsure_from }
}
