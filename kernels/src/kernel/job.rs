//! The input of a kernel: one band of one group, checked and laid out by [`crate::conv`].

/// One band of one group. The pointers satisfy [the contract](super#the-contract).
pub(crate) struct Job<'a> {
    /// What is read.
    pub input: Input<'a>,
    /// What it is multiplied with.
    pub weights: Weights<'a>,
    /// What becomes of the sums.
    pub epilogue: Epilogue,
    /// Where that goes.
    pub output: Output,
}

/// Input pixels.
pub(crate) struct Input<'a> {
    /// The first tap of the first output pixel.
    pub source: *const u8,
    /// Bytes between input rows.
    pub row_bytes: usize,
    /// Offset of each output pixel's first tap, in bytes from `source`.
    pub pixels: &'a [usize],
    /// For depthwise kernels that take two taps at a time: the offset of each in bytes, an even
    /// number of them.
    pub taps: &'a [usize],
    /// Input columns between output pixels, in the band.
    pub right: usize,
    /// Output pixels per row.
    pub width: usize,
    /// Bytes between input columns, in the band; 0 without a band.
    pub pixel_bytes: usize,
    /// Where the input is woven.
    pub woven: Woven,
}

/// A band of [woven](super::woven) input of 16 channels.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Woven {
    /// The first of the 16 channels.
    pub channel: usize,
    /// Output rows.
    pub rows: usize,
    /// Input rows between output rows, in the band.
    pub down: usize,
    /// Groups of four input rows that an output row reads.
    pub groups: usize,
    /// Bytes from the first of these groups to the last.
    pub last: usize,
}

/// Packed constants of the group.
pub(crate) struct Weights<'a> {
    /// The packed weights.
    pub first: *const u8,
    /// Kernel rows.
    pub rows: usize,
    /// Kernel columns.
    pub columns: usize,
    /// Offset of each step, in bytes from the row's first tap; for each part of the blocks, for
    /// each row.
    pub steps: &'a [u32],
    /// The number of `steps` for each part of the blocks, for each row.
    pub counts: &'a [Count],
    /// Output channels of the group.
    pub channels: usize,
    /// Bias, padded to whole blocks.
    pub bias: *const i32,
    /// As `bias`.
    pub scales: *const f32,
}

/// Everything between a sum and its output value.
pub(crate) struct Epilogue {
    /// Whether f32 is written.
    pub real: bool,
    /// Whether values may be clamped after rounding.
    pub narrow: bool,
    /// Scale of the residual in steps of the output.
    pub residual_scale: f32,
    /// Flips the residual to unsigned.
    pub residual_flip: u8,
    /// Zero point of the flipped residual.
    pub residual_zero: i32,
    /// Bounds before the residual is added.
    pub inner: (f32, f32),
    /// Bounds before rounding.
    pub low: f32,
    /// As `low`.
    pub high: f32,
    /// Added after rounding, so that the result is in 0..=255.
    pub zero: i32,
    /// Flips the unsigned result to the output's type.
    pub flip: u8,
}

/// Output pixels, and the residual's, which have the same layout.
pub(crate) struct Output {
    /// The first output value of the band and group, bytes or f32.
    pub first: *mut u8,
    /// Values between output pixels.
    pub stride: usize,
    /// The first residual byte; null without one.
    pub residual: *const u8,
}

impl Job<'_> {
    /// The first taps of `P` neighbouring output pixels.
    ///
    /// # Safety
    /// They are in the band.
    #[inline(always)]
    pub(crate) unsafe fn taps_of<const P: usize>(&self, first: usize) -> [*const u8; P] {
        // SAFETY: the band holds all taps of all its pixels.
        std::array::from_fn(|p| unsafe { self.input.source.add(*self.input.pixels.get_unchecked(first + p)) })
    }
}

/// How many steps a row of the kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// Two steps each, whose products [`super::Dot::join`] may add before they are widened. They
    /// come first.
    pub pairs: u32,
    /// Steps on their own.
    pub singles: u32,
}

impl Count {
    /// Steps of both kinds.
    pub(crate) fn steps(self) -> usize {
        2 * self.pairs as usize + self.singles as usize
    }
}

/// A tile's position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    /// The first pixel of the band.
    pub first: usize,
    pub pixels: usize,
    /// The first channel of the group; those at and past the group's end are not written.
    pub channel: usize,
    /// Blocks of 16 channels.
    pub blocks: usize,
}
