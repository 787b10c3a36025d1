//! The block sums of a frame region by region, for telling where something repeats.
//!
//! What is summed over the whole frame is summed here over squares of 4x4 blocks first: the same additions, and as many
//! Fourier transforms, since blocks are added before they are transformed. A window of 2x2 regions has as many blocks as the
//! smallest picture that is read as a whole.

use super::luma::SIDE;
use super::readings::LEAST_BLOCKS;
use super::sums::{AREA, BlockSums, CHANNELS};
use crate::frame::Rect;

/// Blocks along the side of a region.
pub(super) const BLOCKS: usize = 4;

/// Numbers kept of a channel of a region: the sum of its blocks, and that of their power.
const NUMBERS: usize = 2 * AREA;

/// Blocks of a window at the edge, at least; inside it has [`LEAST_BLOCKS`].
const LEAST: f32 = LEAST_BLOCKS / 2.0;

/// Mean square of the residual (0..1) below which there is nothing to read: a surface of one colour, a burnt-out sky.
const FLAT: f32 = 1e-3;

/// Sums over the blocks of one or several frames, region by region.
#[derive(Debug, Clone, PartialEq)]
pub struct Regions {
    /// Blocks from left to right and from top to bottom of a frame.
    size: (usize, usize),
    /// Blocks along the side of a region.
    side: usize,
    /// Regions from left to right.
    columns: usize,
    /// Of each region and channel the summed blocks, then their summed power.
    values: Vec<f32>,
    /// Of each region the blocks that were added, minus what has faded.
    blocks: Vec<f32>,
    /// Blocks behind the power, likewise.
    measured: Vec<f32>,
}

impl Regions {
    /// Regions of `side` blocks for a picture of so many blocks, without any sums.
    pub(super) fn new(across: usize, down: usize, side: usize) -> Self {
        let (columns, rows) = (across.div_ceil(side), down.div_ceil(side));
        let mut regions = Self {
            size: (across, down),
            side,
            columns,
            values: vec![0.0; columns * rows * CHANNELS * NUMBERS],
            blocks: Vec::new(),
            measured: vec![0.0; columns * rows],
        };
        regions.blocks = (0..columns * rows).map(|region| regions.of_one_frame(region)).collect();
        regions
    }

    /// Blocks of a region in one frame.
    fn of_one_frame(&self, region: usize) -> f32 {
        let within = |at: usize, all: usize| self.side.min(all - at * self.side);
        (within(region % self.columns, self.size.0) * within(region / self.columns, self.size.1)) as f32
    }

    /// Regions from left to right and from top to bottom.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.columns, self.blocks.len() / self.columns.max(1))
    }

    /// The region of a block.
    pub(super) fn region(&self, column: usize, row: usize) -> usize {
        row / self.side * self.columns + column / self.side
    }

    /// A region's channel and the next one: each with the summed blocks, then their summed power.
    pub(super) fn two_channels(&mut self, region: usize, channel: usize) -> [&mut [f32]; 2] {
        let from = (region * CHANNELS + channel) * NUMBERS;
        let (first, second) = self.values[from..from + 2 * NUMBERS].split_at_mut(NUMBERS);
        [first, second]
    }

    /// Counts a block whose power was added.
    pub(super) fn measured_one(&mut self, region: usize) {
        self.measured[region] += 1.0;
    }

    /// Blocks and measured blocks of all regions.
    pub(super) fn counts(&self) -> (f32, f32) {
        (self.blocks.iter().sum(), self.measured.iter().sum())
    }

    /// Sums of several regions, of one channel.
    pub(super) fn total(&self, regions: impl Iterator<Item = usize>, channel: usize) -> [f32; NUMBERS] {
        let mut total = [0.0; NUMBERS];
        for region in regions {
            let from = (region * CHANNELS + channel) * NUMBERS;
            total.iter_mut().zip(&self.values[from..]).for_each(|(to, &v)| *to += v);
        }
        total
    }

    /// Whether these are regions of frames of the same size.
    pub(super) fn fits(&self, other: &Self) -> bool {
        (self.size, self.side) == (other.size, other.side)
    }

    /// Fades the accumulated sums to `keep` (0..1) of their weight and adds the next frame's.
    pub(super) fn follow(&mut self, next: &Self, keep: f32) {
        let pairs = [
            (&mut self.values, &next.values),
            (&mut self.blocks, &next.blocks),
            (&mut self.measured, &next.measured),
        ];
        for (mine, theirs) in pairs {
            mine.iter_mut().zip(theirs).for_each(|(a, b)| *a = *a * keep + b);
        }
    }

    /// How many windows of 2x2 regions there are, from left to right and from top to bottom.
    pub(super) fn windows(&self) -> (usize, usize) {
        let (columns, rows) = self.shape();
        (columns.saturating_sub(1), rows.saturating_sub(1))
    }

    /// The regions of a window.
    pub(super) fn of_window(&self, window: usize) -> [usize; 4] {
        let across = self.windows().0;
        let first = window / across * self.columns + window % across;
        [first, first + 1, first + self.columns, first + self.columns + 1]
    }

    /// The sums of a window; `None` where it has too few blocks or nothing in it.
    pub(super) fn window(&self, window: usize) -> Option<BlockSums> {
        let regions = self.of_window(window);
        let sum = |of: &[f32]| regions.iter().map(|&r| of[r]).sum::<f32>();
        let (blocks, measured) = (sum(&self.blocks), sum(&self.measured));
        let fresh: f32 = regions.iter().map(|&region| self.of_one_frame(region)).sum();
        if fresh < LEAST || measured <= 0.0 {
            return None;
        }
        let sums = BlockSums::of_regions(self, regions, blocks, measured);
        (sums.energy() >= FLAT).then_some(sums)
    }
}

/// Where a region lies in the frame, in pixels, given the part of it that is examined and how many regions that has. The last
/// ones reach to the edge, which has no whole block.
pub(super) fn place(examined: Rect, (columns, rows): (usize, usize), at: usize) -> Rect {
    let side = (BLOCKS * SIDE) as u32;
    let part = |at: usize, all: usize, whole: u32| {
        let from = at as u32 * side;
        (from, if at + 1 == all { whole - from } else { side })
    };
    let (x, width) = part(at % columns, columns, examined.width);
    let (y, height) = part(at / columns, rows, examined.height);
    Rect { x: examined.x + x, y: examined.y + y, width, height }
}
