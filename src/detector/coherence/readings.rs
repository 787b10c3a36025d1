//! Reads one frame on several grids: its own, and those of pictures that were scaled after they
//! were generated.
//!
//! A decoder's pattern of period 16 has a period of 24 after enlarging by 1.5, and does not add up
//! on the frame's own grid. Scaled back by the same factor, it is on the 16-pixel grid again. The
//! factor by which a feed was scaled is unknown, but feeds and files come in few sizes, so a
//! handful of factors is tried.

use super::regions::Regions;
use super::{BlockSums, Luma};

/// Fewest blocks for a reading: those of 128x128 pixels.
pub(crate) const LEAST_BLOCKS: f32 = 64.0;

/// Which grids to read a frame on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grids {
    /// Only its own.
    Own,
    /// Its own, and one of the others, selected in turn by this number: for frames of a video.
    OneMore(usize),
    /// As [`Grids::OneMore`], and its own also region by region: for frames of a feed that is mapped.
    OneMoreAndRegions(usize),
    /// All of them: for still pictures.
    All,
}

/// The block sums of a frame, or of several, on each grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Readings {
    /// On the frame's own grid.
    pub own: BlockSums,
    /// One for each factor by which the picture may have been scaled; `None` where it was not read
    /// on that grid.
    pub scaled: Vec<Option<BlockSums>>,
    /// Whether it was read on all grids.
    pub all: bool,
    /// The sums on its own grid region by region, if wanted; those of several frames are not kept here.
    pub regions: Option<Box<Regions>>,
}

impl Readings {
    /// Reads a plane that may have been scaled by one of `scales`; `None` where it has too few
    /// blocks.
    pub fn of(luma: &Luma, scales: &[f64], grids: Grids) -> Option<Self> {
        let enough = |sums: &BlockSums| sums.blocks() >= LEAST_BLOCKS;
        let (own, regions) = match grids {
            Grids::OneMoreAndRegions(_) => {
                let (own, regions) = BlockSums::with_regions(luma);
                (own, Some(Box::new(regions)))
            }
            _ => (BlockSums::of(luma), None),
        };
        let own = Some(own).filter(enough)?;
        let wanted = |at: usize| match grids {
            Grids::Own => false,
            Grids::OneMore(turn) | Grids::OneMoreAndRegions(turn) => turn % scales.len() == at,
            Grids::All => true,
        };
        let scaled = (scales.iter().enumerate())
            .map(|(at, &scale)| wanted(at).then(|| BlockSums::of(&luma.scaled_back(scale))).filter(enough))
            .collect();
        Some(Self { own, scaled, all: grids == Grids::All, regions })
    }

    /// Fades the accumulated sums to `keep` (0..1) of their weight and adds the next frame's. A
    /// scaled grid fades as much in one of its turns as the frame's own grid does in all the frames
    /// in between.
    pub fn follow(&mut self, next: &Self, keep: f32) {
        self.own.follow(&next.own, keep);
        let turn = if next.all { 1 } else { self.scaled.len().max(1) };
        for (mine, theirs) in self.scaled.iter_mut().zip(&next.scaled) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => mine.follow(theirs, keep.powi(turn as i32)),
                (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
                (_, None) => {}
            }
        }
        self.all = self.all && next.all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise with a lattice of period 4, `scale` times as large.
    fn lattice(side: usize, scale: f64) -> Luma {
        let mut state = 7u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as f32 / 16.0
        };
        let levels = (0..side * side)
            .map(|at| {
                let phase = |n: usize| (n as f64 / scale * std::f64::consts::TAU / 4.0).sin() as f32;
                120.0 + 12.0 * phase(at % side) * phase(at / side) + noise()
            })
            .collect();
        Luma { width: side, height: side, levels }
    }

    /// Coherence at 4/16 of a cycle per pixel in both directions, the frequency of period 4.
    fn at_four(sums: &BlockSums) -> f32 {
        sums.coherence(0, 4 * super::super::SIDE + 4)
    }

    #[test]
    fn what_was_enlarged_adds_up_on_the_grid_of_its_factor_alone() {
        let scales = [1.25, 1.5];
        let readings = Readings::of(&lattice(384, 1.5), &scales, Grids::All).expect("enough blocks");
        let [wrong, right] = [0, 1].map(|at| at_four(readings.scaled[at].as_ref().expect("read")));
        assert!(right > 20.0 * wrong && right > 20.0 * at_four(&readings.own), "{right} {wrong}");
        let own = Readings::of(&lattice(384, 1.0), &scales, Grids::All).expect("enough blocks");
        assert!(at_four(&own.own) > 20.0 * at_four(own.scaled[1].as_ref().expect("read")));
    }

    #[test]
    fn of_many_frames_each_grid_has_its_turn() {
        let (luma, scales) = (lattice(192, 1.0), [1.25, 1.5, 0.75]);
        let read = |grids| Readings::of(&luma, &scales, grids).expect("enough blocks");
        let given = |readings: &Readings| readings.scaled.iter().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!(given(&read(Grids::Own)), [false; 3]);
        assert_eq!(given(&read(Grids::OneMore(4))), [false, true, false]);
        let mut sum = read(Grids::OneMore(0));
        sum.follow(&read(Grids::OneMore(1)), 0.9);
        assert_eq!(given(&sum), [true, true, false]);
        assert!(!sum.all && read(Grids::All).all);
        let before = sum.scaled[0].clone();
        sum.follow(&read(Grids::OneMore(2)), 0.9);
        assert_eq!(sum.scaled[0], before, "what had no turn stays");
        // 49 blocks of 90x90 pixels are too few.
        assert_eq!(Readings::of(&lattice(112, 1.0), &scales, Grids::All), None);
    }
}
