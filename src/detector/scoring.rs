//! The detector as one value, from tile selection to score. `scan` and the trainer score a frame on
//! the calling thread; the daemon spreads the same steps over its workers.

use super::card::Card;
use super::coherence::{Grids, Luma, Readings};
use super::conditions::Conditions;
use super::tiles::{Limited, Selection, cut_into, select};
use super::{Model, ModelError};
use crate::frame::{Frame, FrameError, one_field};
use crate::identity::ModelIdentity;
use crate::judgement::{Logits, ScoredTile};
use crate::raster::Rect;
use crate::verdict::{Limits, Reason, Verdict, VerdictConfig};

/// A frame's score.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameScore {
    /// The combined logit of both parts, see [`Model::together`].
    pub logit: f32,
    /// The logits of the parts.
    pub parts: Logits,
    /// The frame's block sums, for accumulating over frames.
    pub readings: Option<Readings>,
    /// `sigmoid(logit / temperature)`, 0..1, 1 = synthetic.
    pub score: f64,
    /// The tiles that were judged.
    pub tiles: Vec<ScoredTile>,
    /// The network's logit of each of them.
    pub network: Vec<f32>,
    /// Tiles skipped as flat.
    pub flat: usize,
    /// Whether the frame has lost so much detail that a low score means nothing, see
    /// [`super::conditions`].
    pub degraded: bool,
    /// Set when the score is not based on a proper tile, so that only the verdict unsure may be
    /// given.
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

    /// Each judged tile's place with the network's logit of it.
    pub fn pieces(&self) -> Vec<(Rect, f32)> {
        self.tiles.iter().map(|tile| tile.rect).zip(self.network.iter().copied()).collect()
    }

    /// Why the verdict is unsure although the score is that of a clear frame.
    pub fn reason(&self, limits: Limits) -> Option<Reason> {
        (self.degraded && Verdict::of_score(self.score, limits) == Verdict::Clear).then_some(Reason::Degraded)
    }
}

/// Why a frame has no score.
#[derive(Debug, thiserror::Error)]
pub enum ScoringError {
    /// Its pixels are damaged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What scores frames: the model, tile selection, the combination of its parts, and the limits of
/// its verdicts. Its users know nothing of the networks behind it. Clones share the model.
#[derive(Clone)]
pub struct Detector {
    model: Model,
    limits: Limits,
    max_tiles: usize,
}

impl Detector {
    /// `model` with at most `max_tiles` tiles per frame, and the card's limits unless `verdict`
    /// overrides them.
    pub fn new(model: Model, verdict: &VerdictConfig, max_tiles: usize) -> Self {
        let card = model.card();
        let threshold = verdict.threshold.unwrap_or(card.threshold);
        // A threshold below the card's unsure band lowers the band with it.
        let unsure_from = verdict.unsure_from.unwrap_or(card.unsure_from).min(threshold);
        Self { limits: Limits { threshold, unsure_from }, model, max_tiles }
    }

    /// `model` with the card's limits, and at most `max_tiles` tiles per frame.
    pub fn of(model: &Model, max_tiles: usize) -> Self {
        Self::new(model.clone(), &VerdictConfig::default(), max_tiles)
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The card, as overridden by the site's calibration.
    pub fn card(&self) -> &Card {
        self.model.card()
    }

    /// The model's identity, as records name it.
    pub fn identity(&self) -> ModelIdentity {
        self.model.identity()
    }

    /// Tiles judged per frame at most.
    pub fn max_tiles(&self) -> usize {
        self.max_tiles
    }

    /// Selects the tiles of a decoded frame, the `turn`th of its feed; 0 for a picture by itself.
    ///
    /// # Errors
    /// [`FrameError`] when its pixels are damaged.
    pub fn select(&self, frame: &Frame, turn: usize) -> Result<Selection, FrameError> {
        select(frame, self.card().tile, self.max_tiles, turn)
    }

    /// Scores one frame on the calling thread; of an interlaced one, only one field.
    ///
    /// # Errors
    /// [`ScoringError`] when its pixels are damaged or the network fails.
    pub fn score(&self, frame: Frame) -> Result<FrameScore, ScoringError> {
        self.score_lines(one_field(frame.decoded()?))
    }

    /// Scores all lines of a frame, without deinterlacing.
    ///
    /// # Errors
    /// As [`Detector::score`].
    pub fn score_lines(&self, frame: Frame) -> Result<FrameScore, ScoringError> {
        self.score_on(frame, Grids::All, 0)
    }

    fn score_on(&self, frame: Frame, grids: Grids, turn: usize) -> Result<FrameScore, ScoringError> {
        let frame = frame.decoded()?;
        let selection = self.select(&frame, turn)?;
        let logits = selection.tiles.iter().map(|&t| self.tile(&frame, t)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.combine(&selection, &logits, self.read(&frame, grids)?)?)
    }

    /// The model, for the parts of the detector that ask it about more than a frame.
    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// The network's logit of one selected tile, which is cut and converted only here.
    pub(super) fn tile(&self, frame: &Frame, tile: Rect) -> Result<f32, ScoringError> {
        self.model.logit_of(|pixels| Ok(cut_into(frame, tile, self.card().tile, pixels)?))
    }

    /// Whether frames are also read as a whole, by [`Detector::read`].
    pub(super) fn is_coherent(&self) -> bool {
        self.model.is_coherent()
    }

    /// The block sums of a decoded frame; `None` if the model has no coherent part or the frame too
    /// few blocks.
    ///
    /// # Errors
    /// [`FrameError`] when its pixels are damaged.
    pub fn read(&self, frame: &Frame, grids: Grids) -> Result<Option<Readings>, FrameError> {
        if !self.is_coherent() {
            return Ok(None);
        }
        Ok(Readings::of(&Luma::of(frame)?, self.model.scales(), grids))
    }

    /// Combines tile logits and block sums into the frame's score. The network's logit is the mean
    /// over the tiles: a generator paints the whole picture, so every tile is evidence, and a mean
    /// is steadier than a maximum, whose false alarms grow with the number of tiles.
    ///
    /// # Errors
    /// [`ModelError`] when the coherent part fails.
    pub(super) fn combine(
        &self,
        selection: &Selection,
        logits: &[f32],
        readings: Option<Readings>,
    ) -> Result<FrameScore, ModelError> {
        let model = &self.model;
        let network = logits.iter().sum::<f32>() / logits.len() as f32;
        // A single scaled grid that happens to have its turn must not make this frame differ from
        // the next.
        let said = match &readings {
            Some(Readings { own, scaled, all: true, .. }) => model.coherent(own, scaled)?,
            Some(readings) => model.coherent(&readings.own, &[])?,
            None => None,
        };
        let coherence = said.map(|said| said.logit);
        let score = |logit: f32| model.card().score(model.together(logit, coherence));
        Ok(FrameScore {
            logit: model.together(network, coherence),
            parts: Logits { network, coherence, scale: said.and_then(|said| said.scale) },
            score: score(network),
            tiles: (selection.tiles.iter().zip(logits))
                .map(|(&rect, &l)| ScoredTile { rect, score: score(l) })
                .collect(),
            network: logits.to_vec(),
            degraded: readings.as_ref().is_some_and(|r| model.card().is_degraded(Conditions::of(&r.own))),
            readings,
            flat: selection.flat,
            limited: selection.limited,
        })
    }
}

/// The coherent part accumulated over the frames of one source: their block sums fade as a
/// verdict's window moves on, so that it needs only the memory of one frame.
#[derive(Debug, Clone)]
pub struct Accumulated {
    /// The share of the accumulated sums that is kept with each new frame.
    keep: f32,
    size: (u32, u32),
    readings: Option<Readings>,
    /// Frames scored so far, which selects the next scaled grid.
    turn: usize,
}

impl Accumulated {
    /// An empty accumulator; a frame counts for about as long as a window of `window` frames.
    pub fn new(window: usize) -> Self {
        Self { keep: 1.0 - 1.0 / window.max(1) as f32, size: (0, 0), readings: None, turn: 0 }
    }

    /// As if it had been made for windows of `window` frames; what it has stays.
    pub fn set_window(&mut self, window: usize) {
        self.keep = Self::new(window).keep;
    }

    /// Adds a frame of `width` x `height` pixels and updates its score with the accumulated sums. A
    /// change of size starts over: the old grid means nothing in the new frame.
    ///
    /// # Errors
    /// [`ModelError`] when the coherent part fails.
    pub fn add(
        &mut self,
        detector: &Detector,
        (width, height): (u32, u32),
        score: &mut FrameScore,
    ) -> Result<(), ModelError> {
        let Some(new) = &score.readings else { return Ok(()) };
        match &mut self.readings {
            Some(readings) if self.size == (width, height) => readings.follow(new, self.keep),
            readings => *readings = Some(new.clone()),
        }
        self.size = (width, height);
        let model = &detector.model;
        let Readings { own, scaled, .. } = self.readings.as_ref().expect("just put there");
        let said = model.coherent(own, scaled)?;
        score.parts.coherence = said.map(|said| said.logit);
        score.parts.scale = said.and_then(|said| said.scale);
        score.logit = model.together(score.parts.network, score.parts.coherence);
        score.score = model.card().score(score.logit);
        Ok(())
    }

    /// [`Detector::score`], then [`Accumulated::add`].
    ///
    /// # Errors
    /// As [`Detector::score`].
    pub fn score(&mut self, detector: &Detector, frame: Frame) -> Result<FrameScore, ScoringError> {
        self.score_lines(detector, one_field(frame.decoded()?))
    }

    /// [`Detector::score_lines`], then [`Accumulated::add`].
    ///
    /// # Errors
    /// As [`Detector::score`].
    pub fn score_lines(&mut self, detector: &Detector, frame: Frame) -> Result<FrameScore, ScoringError> {
        let size = (frame.width, frame.height);
        let mut score = detector.score_on(frame, Grids::OneMore(self.turn), self.turn)?;
        self.turn += 1;
        self.add(detector, size, &mut score)?;
        Ok(score)
    }

    /// Forgets the accumulated sums: the feed was away, or is a different one.
    pub fn forget(&mut self) {
        self.readings = None;
    }
}
