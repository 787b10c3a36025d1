//! Depthwise layers over woven bytes: four input rows lie side by side, for each column and each of
//! 16 channels a byte of each row, so that an instruction that adds four products needs nothing
//! else.
//!
//! A band has 16 channels, `[every second row][column][16 channels][4 rows]`: a row is woven twice,
//! with those behind it and with those before. An output row begins in the first of the four or,
//! if rows begin at odd ones too, in the second, which has weights of its own (a phase):
//! `[16 channels of a block][phase][column][group of four rows][16 channels][4 rows]`. The last group
//! may share rows with the one before it, which then have no weights in one of them.

use super::{Job, Lanes, Tile};

/// Bytes of 16 channels of four rows.
pub(crate) const FOUR: usize = 64;

/// Products of 16 channels with four rows each.
///
/// # Safety
/// As [`Lanes`].
pub(crate) trait Columns: Lanes {
    /// Weights of four rows for 16 channels.
    type Four: Copy;

    /// Reads weights, 64 bytes.
    unsafe fn four(at: *const u8) -> Self::Four;
    /// Adds the products with the 64 bytes at `input`.
    unsafe fn column(sums: Self::Sums, weights: Self::Four, input: *const u8) -> Self::Sums;
}

/// Columns of the kernel, groups of four rows, and columns between output pixels, for which there
/// is code of its own.
pub(crate) trait Geometry {
    /// These three; `None` for any.
    const KNOWN: Option<[usize; 3]>;
}

/// Any geometry.
pub(crate) struct Any;
impl Geometry for Any {
    const KNOWN: Option<[usize; 3]> = None;
}

/// A geometry known to the compiler.
pub(crate) struct Known<const COLUMNS: usize, const GROUPS: usize, const RIGHT: usize>;
impl<const COLUMNS: usize, const GROUPS: usize, const RIGHT: usize> Geometry
    for Known<COLUMNS, GROUPS, RIGHT>
{
    const KNOWN: Option<[usize; 3]> = Some([COLUMNS, GROUPS, RIGHT]);
}

/// The three values of a job's geometry.
#[inline(always)]
pub(crate) fn geometry<G: Geometry>(job: &Job<'_>) -> [usize; 3] {
    G::KNOWN.unwrap_or([job.weights.columns, job.input.woven.groups, job.input.right])
}

/// Hides an address from the compiler, which would else keep in registers, of which there are too
/// few, what neighbouring pixels share.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)]
fn hidden(mut at: *const u8) -> *const u8 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: no instruction.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) at, options(nomem, nostack, preserves_flags));
    }
    at
}

/// `P` output pixels of a row from `first` of the band on; `source` is the first tap of the first.
///
/// # Safety
/// As [`Lanes`]; the pixels are in the job.
#[inline(always)]
pub(crate) unsafe fn tile<K: Columns, G: Geometry, const P: usize>(
    job: &Job<'_>,
    source: *const u8,
    weights: *const u8,
    first: usize,
) {
    let [columns, groups, right] = geometry::<G>(job);
    let channel = job.input.woven.channel;
    // SAFETY: the band holds all groups of all taps of all its pixels.
    unsafe {
        let mut sums = [[K::start(job.weights.bias.add(channel))]; P];
        for x in 0..columns {
            for group in 0..groups {
                let w = K::four(weights.add((x * groups + group) * FOUR));
                let last = group + 1 == groups;
                let down = if last { job.input.woven.last } else { 2 * group * job.input.row_bytes };
                let source = hidden(source.add(x * FOUR + down));
                for (p, sums) in sums.iter_mut().enumerate() {
                    sums[0] = K::column(sums[0], w, source.add(p * right * FOUR));
                }
            }
        }
        K::end(job, &sums, Tile { first, pixels: P, channel, blocks: 1 });
    }
}

/// Defines `run_woven` of one instruction set, for tiles of 1 to 4 pixels.
macro_rules! woven_engine {
    ($kernel:ty, $features:literal) => {
        /// Runs a band of a depthwise layer whose input is woven.
        ///
        /// # Safety
        /// As [`run`].
        #[cfg_attr(not(all(feature = "__emulate", target_arch = "x86_64")), target_feature(enable = $features))]
        #[cfg_attr(all(feature = "__emulate", target_arch = "x86_64"), target_feature(enable = "avx2"))]
        pub(super) unsafe fn run_woven(job: &$crate::kernel::Job<'_>) {
            use $crate::kernel::{parts, woven};

            #[inline(always)]
            unsafe fn band<G: woven::Geometry>(job: &$crate::kernel::Job<'_>) {
                let [columns, groups, right] = woven::geometry::<G>(job);
                let input = &job.input;
                for y in 0..input.woven.rows {
                    let row = y * input.woven.down;
                    // SAFETY: the band has all rows, and there are weights for each phase.
                    unsafe {
                        let source = input.source.add(row / 2 * input.row_bytes);
                        let phase = row % 2 * columns * groups * woven::FOUR;
                        let weights = job.weights.first.add(phase);
                        for pixels in parts(input.width, 4) {
                            let source = source.add(pixels.start * right * woven::FOUR);
                            let first = y * input.width + pixels.start;
                            match pixels.len() {
                                1 => woven::tile::<$kernel, G, 1>(job, source, weights, first),
                                2 => woven::tile::<$kernel, G, 2>(job, source, weights, first),
                                3 => woven::tile::<$kernel, G, 3>(job, source, weights, first),
                                _ => woven::tile::<$kernel, G, 4>(job, source, weights, first),
                            }
                        }
                    }
                }
            }

            // SAFETY: passed on.
            unsafe {
                match (job.weights.columns, job.input.woven.groups, job.input.right) {
                    (3, 1, 1) => band::<woven::Known<3, 1, 1>>(job),
                    (3, 1, 2) => band::<woven::Known<3, 1, 2>>(job),
                    (5, 2, 1) => band::<woven::Known<5, 2, 1>>(job),
                    (5, 2, 2) => band::<woven::Known<5, 2, 2>>(job),
                    _ => band::<woven::Any>(job),
                }
            }
        }
    };
}
pub(crate) use woven_engine;
