//! The map of a source: how synthetic each place of its frames has looked over the last minutes.
//!
//! Nothing is inferred for it. The network's part is the mean logit of the tiles that have covered a place
//! ([`crate::heat`]); the coherent part is what the head says of the frame's regions, whose block sums are added up over
//! minutes instead of a verdict's window ([`Places`]). Of a decoder's trace in a part of the frame the network sees next to
//! nothing, and the regions nothing in one frame either, but much in a hundred. The two are weighted as for a frame.

use std::time::{Duration, SystemTime};

use super::coherence::{BlockSums, Places, Regions};
use super::{Detector, ModelError};
use crate::clock::Moment;
use crate::heat::{Heat, TIME_CONSTANT};
use crate::judgement::{HeatMap, Logits};
use crate::raster::Rect;

/// Windows of the frame that the head is asked about with each frame; a frame has at most 225.
const TURNS: usize = 4;

/// How often a copy is made for those who show it.
const COPY_EVERY: Duration = Duration::from_secs(1);

/// The map of one source, in constant memory.
#[derive(Debug, Clone)]
pub struct Mapped {
    /// SHA-256 of the network that has judged so far.
    model: String,
    network: Heat,
    coherent: Places,
    /// What the parts said of the newest frame, for places of which they say nothing by themselves.
    frame: Option<Logits>,
    since: SystemTime,
    at: SystemTime,
    copied: Option<Moment>,
}

impl Default for Mapped {
    fn default() -> Self {
        Self {
            model: String::new(),
            network: Heat::new(TIME_CONSTANT),
            coherent: Places::default(),
            frame: None,
            since: SystemTime::UNIX_EPOCH,
            at: SystemTime::UNIX_EPOCH,
            copied: None,
        }
    }
}

/// A judged frame, as the map takes it.
#[derive(Debug)]
pub struct Judged<'a> {
    /// When it was judged.
    pub at: Moment,
    /// When it was captured.
    pub captured: SystemTime,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// The tiles, each with the network's logit.
    pub tiles: &'a [(Rect, f32)],
    /// What the parts said of the whole frame.
    pub logits: Logits,
    /// Its block sums by regions, if the model has a coherent part.
    pub regions: Option<Box<Regions>>,
}

impl Mapped {
    /// Adds a frame. Another size, or another model than before, starts the map anew.
    ///
    /// # Errors
    /// [`ModelError`] when the coherent part fails.
    pub fn add(&mut self, detector: &Detector, frame: Judged<'_>) -> Result<(), ModelError> {
        let model = &detector.card().sha256;
        if self.model != *model {
            *self = Self { model: model.clone(), ..Self::default() };
        }
        let keep = self.network.keep(frame.at);
        if self.network.add(frame.at, frame.size, frame.tiles.iter().copied()) {
            self.since = frame.captured;
        }
        (self.at, self.frame) = (frame.captured, Some(frame.logits));
        match frame.regions {
            Some(regions) => self.coherent.follow(regions, frame.size, keep, TURNS, head(detector)),
            None => Ok(()),
        }
    }

    /// [`Mapped::add`], and a copy: now and then, or, where something is to be recorded, now and of a map that is up to date
    /// everywhere.
    ///
    /// # Errors
    /// [`ModelError`] when the coherent part fails.
    pub fn follow(
        &mut self,
        detector: &Detector,
        frame: Judged<'_>,
        recorded: bool,
    ) -> Result<Option<HeatMap>, ModelError> {
        let now = frame.at;
        self.add(detector, frame)?;
        if recorded {
            self.refresh(detector)?;
        }
        if !recorded && self.copied.is_some_and(|at| now.saturating_sub(at) < COPY_EVERY) {
            return Ok(None);
        }
        self.copied = Some(now);
        Ok(self.copy(detector))
    }

    /// Brings all of the map up to date, of which otherwise a part has its turn with each frame: some tens of milliseconds
    /// for a large frame.
    ///
    /// # Errors
    /// [`ModelError`] when the coherent part fails.
    pub fn refresh(&mut self, detector: &Detector) -> Result<(), ModelError> {
        self.coherent.judge(usize::MAX, head(detector))
    }

    /// The map as it is now; `None` before the first frame.
    pub fn copy(&self, detector: &Detector) -> Option<HeatMap> {
        let (frame, cells) = (self.frame?, self.network.cells());
        let coherent = self.coherent(frame);
        let network: Vec<Option<f32>> = (0..cells.len()).map(|cell| self.network.logit(cell)).collect();
        let known: Vec<f32> = network.iter().copied().flatten().collect();
        let mean =
            if known.is_empty() { frame.network } else { known.iter().sum::<f32>() / known.len() as f32 };
        let value = |cell: usize| {
            let (network, own) = (network[cell], coherent.get(cell).copied().flatten());
            if network.is_none() && own.is_none() {
                return None;
            }
            // Where one of the parts has not judged, it counts as on the whole.
            let logit = detector.model().together(network.unwrap_or(mean), own.or(frame.coherence));
            Some(detector.card().score(logit) as f32)
        };
        Some(HeatMap {
            since: self.since,
            at: self.at,
            width: cells.width,
            height: cells.height,
            columns: cells.columns,
            rows: cells.rows,
            side: cells.side,
            values: (0..cells.len()).map(value).collect(),
            judged: (0..cells.len()).map(|cell| self.network.judged(cell)).collect(),
        })
    }

    /// The coherent logit of each cell.
    fn coherent(&self, frame: Logits) -> Vec<Option<f32>> {
        let cells = self.network.cells();
        let mut said = vec![None; cells.len()];
        if frame.coherence.is_some() {
            for (rect, logit) in self.coherent.regions() {
                cells.within(rect).for_each(|cell| said[cell] = Some(logit));
            }
        }
        said
    }

    /// Forgets everything: the feed was away.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Asks the model's coherent part about windows. Of many windows the highest is looked at, so each needs stronger evidence
/// than the frame as a whole: as much as a reading on another grid.
fn head(detector: &Detector) -> impl Fn(&[BlockSums]) -> Result<Vec<f32>, ModelError> + '_ {
    |places| {
        let mut said = detector.model().coherent_logits(places)?;
        said.iter_mut().for_each(|logit| *logit -= detector.model().scaled_less());
        Ok(said)
    }
}
