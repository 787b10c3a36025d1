//! How synthetic each place of a frame looks, accumulated over minutes. Pure: no clock, no I/O.
//!
//! A frame's score says nothing about where: a face that was pasted into a true feed is lost in the mean. The tiles that
//! are judged anyway do say where, coarsely. Their grid is moved from frame to frame (see `detector/tiles` of the daemon), so
//! that a place is seen by tiles that lie differently around it; the mean of all that covered it is finer than a tile.
//!
//! The map has at most [`MOST`] cells along either side, however large the frame is, and keeps two sums a cell. What was
//! found fades with time, not with frames: see [`TIME_CONSTANT`].

use std::time::Duration;

use crate::clock::Moment;
use crate::raster::Rect;

/// A judgement counts 1/e after this time. Two minutes: at the daemon's default of two frames a second with nine tiles,
/// a place of a frame of 1280x720 is judged about a hundred times meanwhile, which leaves a tenth of the spread of a single
/// tile's logit; and what was taken out of a feed is gone from its map within five minutes.
pub const TIME_CONSTANT: Duration = Duration::from_secs(120);

/// The smallest side of a cell in pixels.
pub const SIDE: u32 = 32;

/// Cells along either side of the map at most.
pub const MOST: u32 = 64;

/// A place whose judgements have faded to less than this part of one is unknown again.
const LEAST: f32 = 0.05;

/// The cells into which a frame is divided, row by row. Those at the right and lower edge may reach beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cells {
    /// Width of the frame in pixels.
    pub width: u32,
    /// Height of the frame in pixels.
    pub height: u32,
    /// Side of a cell in pixels, a multiple of [`SIDE`].
    pub side: u32,
    /// Cells from left to right, at most [`MOST`].
    pub columns: u32,
    /// Cells from top to bottom, at most [`MOST`].
    pub rows: u32,
}

impl Cells {
    /// The cells of a frame of this size in pixels.
    pub fn of((width, height): (u32, u32)) -> Self {
        let side = SIDE * width.max(height).div_ceil(SIDE * MOST).max(1);
        Self { width, height, side, columns: width.div_ceil(side), rows: height.div_ceil(side) }
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.columns as usize * self.rows as usize
    }

    /// Whether the frame has no pixels.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cells whose middle lies in a rectangle, as indices. The middle of a cell that reaches beyond the frame is that of
    /// its part inside.
    pub fn within(&self, rect: Rect) -> impl Iterator<Item = usize> + use<> {
        let Self { side, columns, rows, width, height, .. } = *self;
        let range = move |from: u32, length: u32, count: u32, whole: u32| {
            let inside = move |cell: &u32| {
                let (first, last) = (cell * side, ((cell + 1) * side).min(whole));
                let middle = first + (last - first) / 2;
                middle >= from && middle - from < length
            };
            (0..count).filter(inside)
        };
        let across: Vec<u32> = range(rect.x, rect.width, columns, width).collect();
        range(rect.y, rect.height, rows, height).flat_map(move |row| {
            across.clone().into_iter().map(move |column| (row * columns + column) as usize)
        })
    }
}

/// What was found of one place so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Place {
    /// Faded sum of the logits.
    sum: f32,
    /// Faded number of judgements.
    weight: f32,
    /// Judgements, none faded.
    judged: u32,
}

/// The map of one source: the faded mean of all that was said of each place.
#[derive(Debug, Clone)]
pub struct Heat {
    fade: Duration,
    cells: Cells,
    places: Vec<Place>,
    last: Option<Moment>,
}

impl Heat {
    /// A map of nothing, whose judgements count 1/e after `fade`, for instance [`TIME_CONSTANT`].
    pub fn new(fade: Duration) -> Self {
        Self { fade, cells: Cells::of((0, 0)), places: Vec::new(), last: None }
    }

    /// Adds a frame of this size in pixels: its judged pieces, each with its logit. A change of size starts the map anew, since
    /// the old places mean nothing in the new picture. A logit that is not a number is left out. `at` is when the frame was
    /// judged; an earlier moment than the last one counts as the same.
    ///
    /// Returns whether the map was started anew.
    pub fn add(
        &mut self,
        at: Moment,
        size: (u32, u32),
        pieces: impl IntoIterator<Item = (Rect, f32)>,
    ) -> bool {
        let anew = self.places.is_empty() || (self.cells.width, self.cells.height) != size;
        if anew {
            self.cells = Cells::of(size);
            self.places.clear();
            self.places.resize(self.cells.len(), Place::default());
            self.last = None;
        }
        let keep = self.keep(at);
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        if keep < 1.0 {
            for place in &mut self.places {
                place.sum *= keep;
                place.weight *= keep;
            }
        }
        for (rect, logit) in pieces.into_iter().filter(|(_, logit)| logit.is_finite()) {
            for cell in self.cells.within(rect) {
                let place = &mut self.places[cell];
                place.sum += logit;
                place.weight += 1.0;
                place.judged = place.judged.saturating_add(1);
            }
        }
        anew
    }

    /// How much of its weight a judgement keeps until `at`, 0..1.
    pub fn keep(&self, at: Moment) -> f32 {
        let gone = self.last.map_or(Duration::ZERO, |last| at.saturating_sub(last));
        (-gone.as_secs_f64() / self.fade.as_secs_f64().max(f64::MIN_POSITIVE)).exp() as f32
    }

    /// The cells.
    pub fn cells(&self) -> Cells {
        self.cells
    }

    /// The mean logit of a cell; `None` where nothing was judged, or so long ago that it has faded.
    pub fn logit(&self, cell: usize) -> Option<f32> {
        self.places.get(cell).filter(|p| p.weight >= LEAST).map(|p| p.sum / p.weight)
    }

    /// How often a cell was judged since the map began.
    pub fn judged(&self, cell: usize) -> u32 {
        self.places.get(cell).map_or(0, |p| p.judged)
    }

    /// Forgets everything: the feed was away, or another model judges.
    pub fn forget(&mut self) {
        *self = Self::new(self.fade);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FADE: Duration = Duration::from_secs(120);

    fn seconds(s: u64) -> Moment {
        Duration::from_secs(s)
    }

    fn square(x: u32, y: u32, side: u32) -> Rect {
        Rect { x, y, width: side, height: side }
    }

    #[test]
    fn what_was_never_judged_is_unknown_and_not_clear() {
        let mut heat = Heat::new(FADE);
        assert_eq!((heat.logit(0), heat.judged(0)), (None, 0));
        assert!(heat.add(seconds(0), (128, 64), [(square(0, 0, 64), -3.0)]));
        let all: Vec<_> = (0..8).map(|cell| heat.logit(cell)).collect();
        let said = Some(-3.0);
        assert_eq!(all, [said, said, None, None, said, said, None, None]);
        assert_eq!((heat.judged(0), heat.judged(2), heat.logit(8)), (1, 0, None));
    }

    #[test]
    fn tiles_that_lie_differently_show_what_is_smaller_than_a_tile() {
        // Something of 64 pixels raises the logit of each tile of 224 by its share of it.
        let (size, thing) = ((640, 224), square(320, 96, 64));
        let share = |tile: Rect| {
            let overlap = |a: u32, b: u32, c: u32, d: u32| (b.min(d)).saturating_sub(a.max(c));
            let across = overlap(tile.x, tile.x + tile.width, thing.x, thing.x + thing.width);
            let down = overlap(tile.y, tile.y + tile.height, thing.y, thing.y + thing.height);
            (across * down) as f32 / (thing.width * thing.height) as f32
        };
        let mut heat = Heat::new(FADE);
        for frame in 0..416 {
            let tile = square(frame, 0, 224);
            heat.add(seconds(0), size, [(tile, share(tile) * 4.0 - 2.0)]);
        }
        let row: Vec<f32> = (0..20).map(|cell| heat.logit(cell).expect("judged")).collect();
        let hottest = (0..20).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("cells");
        assert!([10, 11].contains(&hottest), "{row:?}");
        let warm = row.iter().filter(|&&l| l > 1.0).count();
        assert!((1..=4).contains(&warm), "a tile is 7 cells wide, the place 2: {row:?}");
    }

    #[test]
    fn a_judgement_counts_a_third_after_the_time_constant_and_nothing_after_three() {
        let mut heat = Heat::new(FADE);
        let size = (32, 32);
        heat.add(seconds(0), size, [(square(0, 0, 32), 1.0)]);
        heat.add(seconds(120), size, [(square(0, 0, 32), 0.0)]);
        let e = std::f32::consts::E;
        let expected = (1.0 / e) / (1.0 + 1.0 / e);
        assert!((heat.logit(0).expect("judged") - expected).abs() < 1e-6);
        heat.add(seconds(120 + 3 * 120), size, []);
        assert!(heat.logit(0).is_some());
        heat.add(seconds(120 + 4 * 120), size, []);
        assert_eq!((heat.logit(0), heat.judged(0)), (None, 2));
    }

    #[test]
    fn another_size_and_forgetting_start_anew() {
        let mut heat = Heat::new(FADE);
        assert!(heat.add(seconds(0), (64, 64), [(square(0, 0, 64), 2.0)]));
        assert!(!heat.add(seconds(1), (64, 64), []));
        assert!(heat.add(seconds(2), (64, 96), [(square(0, 0, 32), 1.0)]));
        assert_eq!((heat.logit(0), heat.logit(1), heat.cells().rows), (Some(1.0), None, 3));
        heat.forget();
        assert_eq!((heat.logit(0), heat.cells().len()), (None, 0));
    }

    proptest! {
        #[test]
        fn memory_is_bounded_for_frames_of_any_size(width in 1u32..20_000, height in 1u32..20_000) {
            let cells = Cells::of((width, height));
            prop_assert!(cells.columns <= MOST && cells.rows <= MOST && !cells.is_empty());
            prop_assert!(cells.columns * cells.side >= width && (cells.columns - 1) * cells.side < width);
            prop_assert!(cells.rows * cells.side >= height && (cells.rows - 1) * cells.side < height);
            prop_assert_eq!(cells.side % SIDE, 0);
            // Every cell belongs to the whole frame, so none stays unknown where everything is judged.
            let whole = Rect { x: 0, y: 0, width, height };
            prop_assert_eq!(cells.within(whole).collect::<Vec<_>>(), (0..cells.len()).collect::<Vec<_>>());
        }

        #[test]
        fn it_keeps_no_more_after_a_thousand_frames_than_after_one(
            frames in prop::collection::vec((0u64..5, 0u32..300, 0u32..200, -9f32..9.0), 1000)
        ) {
            let mut heat = Heat::new(FADE);
            heat.add(seconds(0), (400, 300), [(square(0, 0, 100), 1.0)]);
            let (places, room) = (heat.places.len(), heat.places.capacity());
            let (mut at, mut most, mut least) = (0, 1f32, 1f32);
            for (gap, x, y, logit) in frames {
                at += gap;
                heat.add(seconds(at), (400, 300), [(square(x, y, 100), logit)]);
                (most, least) = (most.max(logit), least.min(logit));
            }
            prop_assert_eq!((heat.places.len(), heat.places.capacity()), (places, room));
            // A mean lies among what it is of.
            for logit in (0..places).filter_map(|cell| heat.logit(cell)) {
                prop_assert!(logit <= most + 1e-3 && logit >= least - 1e-3, "{}", logit);
            }
        }

        #[test]
        fn the_order_of_a_frames_tiles_is_nothing_and_that_of_frames_is_what_counts(
            a in -8f32..8.0, b in -8f32..8.0, gap in 30u64..300
        ) {
            prop_assume!((a - b).abs() > 0.1);
            let (size, place) = ((64, 64), square(0, 0, 64));
            let of = |frames: &[(u64, &[f32])]| {
                let mut heat = Heat::new(FADE);
                for (at, logits) in frames {
                    heat.add(seconds(*at), size, logits.iter().map(|&l| (place, l)));
                }
                heat.logit(0).expect("judged")
            };
            prop_assert!((of(&[(0, &[a, b])]) - of(&[(0, &[b, a])])).abs() < 1e-5);
            // What came later counts more.
            let (ab, ba) = (of(&[(0, &[a]), (gap, &[b])]), of(&[(0, &[b]), (gap, &[a])]));
            prop_assert!((ab - b).abs() < (ab - a).abs() && (ba - a).abs() < (ba - b).abs());
            // Time that steps back fades nothing.
            prop_assert!((of(&[(gap, &[a]), (0, &[b])]) - (a + b) / 2.0).abs() < 1e-5);
        }

        #[test]
        fn what_is_no_number_changes_nothing(logit in -8f32..8.0) {
            let mut heat = Heat::new(FADE);
            let place = square(0, 0, 64);
            heat.add(seconds(0), (64, 64), [(place, logit), (place, f32::NAN), (place, f32::INFINITY)]);
            prop_assert_eq!((heat.logit(0), heat.judged(0)), (Some(logit), 1));
        }
    }
}
