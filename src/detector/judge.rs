//! One frame judged from tile choice to score, on the calling thread: what `scan` and the trainer use.
//! The daemon does the same steps spread over its workers.

use serde::{Deserialize, Serialize};

use super::coherence::{Grids, Luma, Readings};
use super::conditions::Conditions;
use super::tiles::{Limited, Selection, select};
use super::{Model, ModelError};
use crate::frame::{Frame, FrameError, Rect, one_field};
use crate::verdict::{Limits, Reason, Verdict};

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
    /// The factor by which the picture was scaled after it was generated, where the coherent part says most when it
    /// assumes one.
    pub scale: Option<f64>,
}

/// What is said of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameScore {
    /// Of both parts together, see [`Model::together`].
    pub logit: f32,
    /// What each part said.
    pub parts: Parts,
    /// The frame's block sums, for adding up over frames.
    pub readings: Option<Readings>,
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
pub fn read(model: &Model, frame: &Frame, grids: Grids) -> Result<Option<Readings>, FrameError> {
    if !model.is_coherent() {
        return Ok(None);
    }
    Ok(Readings::of(&Luma::of(frame)?, model.scales(), grids))
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
    readings: Option<Readings>,
) -> Result<FrameScore, ModelError> {
    let network = logits.iter().sum::<f32>() / logits.len() as f32;
    // A scaled grid that happens to have its turn says nothing of this frame against the next.
    let said = match &readings {
        Some(readings) if readings.all => model.coherent(readings)?,
        Some(readings) => model.coherent(&readings.own_alone())?,
        None => None,
    };
    let coherence = said.map(|said| said.logit);
    let score = |logit: f32| model.card().score(model.together(logit, coherence));
    Ok(FrameScore {
        logit: model.together(network, coherence),
        parts: Parts { network, coherence, scale: said.and_then(|said| said.scale) },
        score: score(network),
        tiles: (selection.tiles.iter().zip(logits))
            .map(|(t, &l)| TileScore { rect: t.rect, score: score(l) })
            .collect(),
        degraded: readings.as_ref().is_some_and(|r| model.card().is_degraded(Conditions::of(&r.own))),
        readings,
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
    judge_on(model, frame, max_tiles, Grids::All)
}

fn judge_on(model: &Model, frame: Frame, max_tiles: usize, grids: Grids) -> Result<FrameScore, JudgeError> {
    let frame = frame.decoded()?;
    let selection = select(&frame, model.card().tile, max_tiles)?;
    let logits = selection.tiles.iter().map(|t| model.logit(&t.pixels)).collect::<Result<Vec<_>, _>>()?;
    Ok(combine(model, &selection, &logits, read(model, &frame, grids)?)?)
}

/// The coherent part over the frames of one source: their block sums fade as a verdict's window moves on, so that
/// memory stays that of one frame.
#[derive(Debug, Clone)]
pub struct Accumulated {
    /// How much of what was added up is kept with each new frame.
    keep: f32,
    size: (u32, u32),
    readings: Option<Readings>,
    /// Frames judged so far: whose turn it is of the scaled grids.
    turn: usize,
}

impl Accumulated {
    /// Nothing yet; frames count for about as long as a window of `window` frames.
    pub fn new(window: usize) -> Self {
        Self { keep: 1.0 - 1.0 / window.max(1) as f32, size: (0, 0), readings: None, turn: 0 }
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
        let Some(new) = &score.readings else { return Ok(()) };
        match &mut self.readings {
            Some(readings) if self.size == (width, height) => readings.follow(new, self.keep),
            readings => *readings = Some(new.clone()),
        }
        self.size = (width, height);
        let said = model.coherent(self.readings.as_ref().expect("just put there"))?;
        score.parts.coherence = said.map(|said| said.logit);
        score.parts.scale = said.and_then(|said| said.scale);
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
        let mut score = judge_on(model, frame, max_tiles, Grids::OneMore(self.turn))?;
        self.turn += 1;
        self.add(model, size, &mut score)?;
        Ok(score)
    }

    /// Forgets what was added up: the feed was away, or is another one.
    pub fn forget(&mut self) {
        self.readings = None;
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
