//! Macros with which an instruction set defines its kernel, out of functions, and the loops over a
//! band, compiled with its features.

/// Defines a kernel (its type, [`Lanes`] and [`Dot`]) out of its instruction set's functions.
macro_rules! kernel {
    ($(#[$meta:meta])* $kernel:ident, sums: $sums:ty = $start:path, $finish:path $(, end: $end:path)?,
     weights: $weights:ty = $load:path, input: $input:ty = $read:path, $opaque:path, $dot:path
     $(, join: $join:path)? $(, prefetch: $prefetch:path)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub(crate) struct $kernel;

        impl $crate::kernel::Lanes for $kernel {
            type Sums = $sums;

            #[inline(always)]
            unsafe fn start(bias: *const i32) -> $sums {
                // SAFETY: the bias is filled up to 16.
                unsafe { $start(bias) }
            }

            #[inline(always)]
            unsafe fn finish(
                job: &$crate::kernel::Job<'_>,
                sums: *const $sums,
                tile: $crate::kernel::Tile,
            ) {
                // SAFETY: passed on.
                unsafe { $finish(job, sums, tile) }
            }

            $(
                #[inline(always)]
                unsafe fn end<const P: usize, const B: usize>(
                    job: &$crate::kernel::Job<'_>,
                    sums: &[[$sums; B]; P],
                    tile: $crate::kernel::Tile,
                ) {
                    // SAFETY: passed on.
                    unsafe { $end(job, sums, tile) }
                }
            )?
        }

        impl $crate::kernel::Dot for $kernel {
            type Weights = $weights;
            type Input = $input;
            $crate::kernel::engine::joins!($($join)?);

            $(
                #[inline(always)]
                unsafe fn prefetch(at: *const u8) {
                    $prefetch(at);
                }
            )?

            #[inline(always)]
            unsafe fn weights(at: *const u8) -> $weights {
                // SAFETY: a step of weights is as large.
                unsafe { $load(at) }
            }

            #[inline(always)]
            unsafe fn input(at: *const u8) -> $input {
                // SAFETY: the band has room for a whole step behind the last element.
                unsafe { $read(at) }
            }

            #[inline(always)]
            unsafe fn opaque(input: $input) -> $input {
                // SAFETY: passed on.
                unsafe { $opaque(input) }
            }

            #[inline(always)]
            unsafe fn dot(sums: $sums, weights: $weights, input: $input) -> $sums {
                // SAFETY: registers only, of an instruction set that the caller has.
                unsafe { $dot(sums, weights, input) }
            }
        }
    };
}
pub(crate) use kernel;

/// The part of [`kernel`] for joined steps.
macro_rules! joins {
    () => {
        const JOINS: bool = false;

        #[inline(always)]
        unsafe fn join(sums: Self::Sums, weights: [Self::Weights; 2], input: [Self::Input; 2]) -> Self::Sums {
            // SAFETY: as `dot`.
            unsafe { Self::dot(Self::dot(sums, weights[0], input[0]), weights[1], input[1]) }
        }
    };
    ($join:path) => {
        const JOINS: bool = true;

        #[inline(always)]
        unsafe fn join(sums: Self::Sums, weights: [Self::Weights; 2], input: [Self::Input; 2]) -> Self::Sums {
            // SAFETY: registers only, of an instruction set that the caller has.
            unsafe { $join(sums, weights, input) }
        }
    };
}
pub(crate) use joins;

/// Defines `run` and `burn` of one instruction set: the loops over a band, compiled with its
/// features, or for AVX2 where it is emulated.
macro_rules! engine {
    ($kernel:ty, $features:literal, shape: $shape:expr,
     tiles: { $($blocks:literal => [$($pixels:literal)+]),+ }, burn: $chains:literal x $step:literal) => {
        /// Products on registers only.
        ///
        /// # Safety
        /// The processor has the instruction set.
        #[cfg_attr(not(all(feature = "__emulate", target_arch = "x86_64")), target_feature(enable = $features))]
        #[cfg_attr(all(feature = "__emulate", target_arch = "x86_64"), target_feature(enable = "avx2"))]
        pub(super) unsafe fn burn(steps: usize) -> u64 {
            // SAFETY: features as promised.
            unsafe { $crate::kernel::burn::<$kernel, $chains>(steps, $step) }
        }

        /// Runs a band.
        ///
        /// # Safety
        /// As [the contract](crate::kernel#the-contract) says.
        #[cfg_attr(not(all(feature = "__emulate", target_arch = "x86_64")), target_feature(enable = $features))]
        #[cfg_attr(all(feature = "__emulate", target_arch = "x86_64"), target_feature(enable = "avx2"))]
        pub(super) unsafe fn run(job: &$crate::kernel::Job<'_>) {
            use $crate::kernel::{Dot, parts, tile};
            let (mut weights, mut steps, mut counts) = (job.weights.first, job.weights.steps, job.weights.counts);
            for blocks in parts(job.weights.channels.div_ceil(16), $shape.most_blocks()) {
                let (now, later) = counts.split_at(job.weights.rows);
                counts = later;
                let count = now.iter().map(|count| count.steps()).sum::<usize>();
                let (here, rest) = steps.split_at(count);
                steps = rest;
                let bytes = count * blocks.len() * <$kernel>::WEIGHT_BYTES;
                let next = weights.wrapping_add(bytes);
                // Prefetches the next part of the blocks while this one is used, a share with each
                // tile.
                let mut ahead = next;
                for pixels in parts(job.input.pixels.len(), $shape.pixels[blocks.len() - 1]) {
                    // SAFETY: the parts cover the job's pixels and blocks; features as promised.
                    unsafe {
                        match (blocks.len(), pixels.len()) {
                            $($(($blocks, $pixels) => tile::<$kernel, $pixels, $blocks>(
                                job, weights, here, now, ahead, pixels.start, blocks.start * 16),)+)+
                            _ => unreachable!("no tile of this shape"),
                        }
                    }
                    ahead = ahead.wrapping_add(64 * count);
                    if ahead >= next.wrapping_add(bytes) {
                        ahead = next;
                    }
                }
                weights = next;
            }
        }
    };
}
pub(crate) use engine;

/// Defines `run_depthwise` of one instruction set.
macro_rules! depthwise_engine {
    ($kernel:ty, $features:literal, tiles: [$($dw:literal)+]) => {
        /// Runs a band of a depthwise layer.
        ///
        /// # Safety
        /// As [`run`].
        #[cfg_attr(not(all(feature = "__emulate", target_arch = "x86_64")), target_feature(enable = $features))]
        #[cfg_attr(all(feature = "__emulate", target_arch = "x86_64"), target_feature(enable = "avx2"))]
        pub(super) unsafe fn run_depthwise(job: &$crate::kernel::Job<'_>) {
            use $crate::kernel::{depthwise_tile, parts};
            const MOST: usize = {
                let list = [$($dw),+];
                list[list.len() - 1]
            };
            for pixels in parts(job.input.pixels.len(), MOST) {
                // SAFETY: as in `run`.
                unsafe {
                    match pixels.len() {
                        $($dw => depthwise_tile::<$kernel, $dw>(job, pixels.start),)+
                        _ => unreachable!("no tile of this shape"),
                    }
                }
            }
        }
    };
}
pub(crate) use depthwise_engine;
