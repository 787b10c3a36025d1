//! One frame judged from tile choice to score, on the calling thread: what `scan` and the trainer use.
//! The daemon does the same steps spread over its workers.

use serde::{Deserialize, Serialize};

use super::coherence::{self, BlockSums, Luma};
use super::conditions::Conditions;
use super::tiles::{Limited, Selection, select};
use super::{Model, ModelError};
use crate::frame::{Frame, FrameError, Rect, one_field};
use crate::verdict::{Limits, Reason, Verdict};

/// Blocks below which the coherent part says nothing: those of 128x128 pixels.
const LEAST_BLOCKS: u32 = 64;

/// What the detector said of one tile: the network of the tile, the coherent part of the whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TileScore {
    /// Where the tile lies in the frame.
    #[serde(flatten)]
    pub rect: Rect,
    /// Its score, 0..1, 1 = synthetic.
    pub score: f64,
}

/// What each part of the detector said, as logits: positive speaks for synthetic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// Mean of the tiles' logits.
    pub network: f32,
    /// The coherent part's, of the frame or of the frames added up so far; `None` where the detector has no such
    /// part, or the frame too few blocks.
    pub coherence: Option<f32>,
}

/// What is said of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameScore {
    /// Of both parts together, see [`Model::together`].
    pub logit: f32,
    /// What each part said.
    pub parts: Parts,
    /// The frame's block sums, for adding up over frames.
    pub sums: Option<BlockSums>,
    /// `sigmoid(logit / temperature)`, 0..1, 1 = synthetic.
    pub score: f64,
    /// The tiles that were judged.
    pub tiles: Vec<TileScore>,
    /// Tiles skipped as flat.
    pub flat: usize,
    /// Whether the frame has lost so much that a low score says nothing, see [`super::conditions`].
    pub degraded: bool,
    /// Set when the score rests on no proper tile, so that no verdict but unsure may be given.
    pub limited: Option<Limited>,
}

impl FrameScore {
    /// The verdict of this frame alone.
    pub fn verdict(&self, limits: Limits) -> Verdict {
        match self.limited {
            Some(_) => Verdict::Unsure,
            None if self.reason(limits).is_some() => Verdict::Unsure,
            None => Verdict::of_score(self.score, limits),
        }
    }

    /// Why it is unsure although the score is that of a clear frame.
    pub fn reason(&self, limits: Limits) -> Option<Reason> {
        (self.degraded && Verdict::of_score(self.score, limits) == Verdict::Clear).then_some(Reason::Degraded)
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

/// The block sums of a decoded frame; `None` where the model has no coherent part or the frame fewer blocks than
/// anything can be said of.
///
/// # Errors
/// [`FrameError`] when its pixels are damaged.
pub fn sums(model: &Model, frame: &Frame) -> Result<Option<BlockSums>, FrameError> {
    let side = coherence::SIDE as u32;
    if !model.is_coherent() || (frame.width / side) * (frame.height / side) < LEAST_BLOCKS {
        return Ok(None);
    }
    Ok(Some(BlockSums::of(&Luma::of(frame)?)))
}

/// The frame score of tile logits and block sums. Of the network it is the mean of the logits: a generator paints the
/// whole picture, so every tile speaks for it, and a mean is steadier than a maximum, whose false alarms grow with the
/// tile count.
///
/// # Errors
/// [`ModelError`] when the coherent part fails.
pub fn combine(
    model: &Model,
    selection: &Selection,
    logits: &[f32],
    sums: Option<BlockSums>,
) -> Result<FrameScore, ModelError> {
    let network = logits.iter().sum::<f32>() / logits.len() as f32;
    let coherence = match &sums {
        Some(sums) => model.coherent_logit(sums)?,
        None => None,
    };
    let score = |logit: f32| model.card().score(model.together(logit, coherence));
    Ok(FrameScore {
        logit: model.together(network, coherence),
        parts: Parts { network, coherence },
        score: score(network),
        tiles: (selection.tiles.iter().zip(logits))
            .map(|(t, &l)| TileScore { rect: t.rect, score: score(l) })
            .collect(),
        degraded: sums.as_ref().is_some_and(|sums| model.card().is_degraded(Conditions::of(sums))),
        sums,
        flat: selection.flat,
        limited: selection.limited,
    })
}

/// Judges one frame by at most `max_tiles` tiles; of an interlaced one, a field.
///
/// # Errors
/// [`JudgeError`] when its pixels are damaged or the network fails.
pub fn judge(model: &Model, frame: Frame, max_tiles: usize) -> Result<FrameScore, JudgeError> {
    judge_lines(model, one_field(frame.decoded()?), max_tiles)
}

/// Judges all lines of a frame as they are, by at most `max_tiles` tiles.
///
/// # Errors
/// As [`judge`].
pub fn judge_lines(model: &Model, frame: Frame, max_tiles: usize) -> Result<FrameScore, JudgeError> {
    let frame = frame.decoded()?;
    let selection = select(&frame, model.card().tile, max_tiles)?;
    let logits = selection.tiles.iter().map(|t| model.logit(&t.pixels)).collect::<Result<Vec<_>, _>>()?;
    Ok(combine(model, &selection, &logits, sums(model, &frame)?)?)
}

/// The coherent part over the frames of one source: their block sums fade as a verdict's window moves on, so that
/// memory stays that of one frame.
#[derive(Debug, Clone)]
pub struct Accumulated {
    /// How much of what was added up is kept with each new frame.
    keep: f32,
    size: (u32, u32),
    sums: Option<BlockSums>,
}

impl Accumulated {
    /// Nothing yet; frames count for about as long as a window of `window` frames.
    pub fn new(window: usize) -> Self {
        Self { keep: 1.0 - 1.0 / window.max(1) as f32, size: (0, 0), sums: None }
    }

    /// Adds a frame of `width` x `height` pixels and puts what all say together into its score. A change of size
    /// begins anew: the old grid means nothing in the new frame.
    ///
    /// # Errors
    /// [`ModelError`] when the coherent part fails.
    pub fn add(
        &mut self,
        model: &Model,
        (width, height): (u32, u32),
        score: &mut FrameScore,
    ) -> Result<(), ModelError> {
        let Some(new) = &score.sums else { return Ok(()) };
        match &mut self.sums {
            Some(sums) if self.size == (width, height) => sums.follow(new, self.keep),
            sums => *sums = Some(new.clone()),
        }
        self.size = (width, height);
        let sums = self.sums.as_ref().expect("just put there");
        score.parts.coherence = model.coherent_logit(sums)?;
        score.logit = model.together(score.parts.network, score.parts.coherence);
        score.score = model.card().score(score.logit);
        Ok(())
    }

    /// [`judge`], then [`Accumulated::add`].
    ///
    /// # Errors
    /// As [`judge`].
    pub fn judge(&mut self, model: &Model, frame: Frame, max_tiles: usize) -> Result<FrameScore, JudgeError> {
        self.judge_lines(model, one_field(frame.decoded()?), max_tiles)
    }

    /// [`judge_lines`], then [`Accumulated::add`].
    ///
    /// # Errors
    /// As [`judge`].
    pub fn judge_lines(
        &mut self,
        model: &Model,
        frame: Frame,
        max_tiles: usize,
    ) -> Result<FrameScore, JudgeError> {
        let size = (frame.width, frame.height);
        let mut score = judge_lines(model, frame, max_tiles)?;
        self.add(model, size, &mut score)?;
        Ok(score)
    }

    /// Forgets what was added up: the feed was away, or is another one.
    pub fn forget(&mut self) {
        self.sums = None;
    }
}

/// The limits in force: the card's, unless the configuration overrides them.
pub fn limits(model: &Model, config: &crate::verdict::VerdictConfig) -> Limits {
    let card = model.card();
    let threshold = config.threshold.unwrap_or(card.threshold);
    // A threshold lowered below the card's unsure band takes the band down with it.
    let unsure_from = config.unsure_from.unwrap_or(card.unsure_from).min(threshold);
    Limits { threshold, unsure_from }
}
