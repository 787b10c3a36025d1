//! The coherent part of the detector: what repeats on the frame's own 16-pixel grid, summed over
//! the whole frame and over the frames of a window.
//!
//! A decoder that upsamples by 2, 4, 8 or 16 leaves a weak pattern of that period with one phase
//! over the whole picture. A network with strides and mean pooling sums such a pattern incoherently
//! and sees nothing below its local noise. So here the residual (`residual`) is cut into blocks
//! of 16x16 on the frame's grid, and their complex spectra F are summed before the power is taken:
//!
//! ```text
//! C(u, v) = |sum of F|^2 / sum of |F|^2
//! ```
//!
//! C is about 1 for content and noise, whose phase differs from block to block, and up to the
//! number of blocks for what repeats. The same is done with the residual's absolute value, because
//! upsampling leaves noise that is stronger at some positions of the period than at others
//! (Gallagher, 2005), whatever its sign; and with a second difference and its absolute value. A
//! small network ([`Head`]) turns the logarithms of C and of the mean power into a logit. The
//! signal grows with the number of blocks, content only with its square root: a whole frame tells
//! more than nine tiles, and many frames more than one.

mod features;
mod head;
mod luma;
mod places;
mod readings;
mod regions;
mod residual;
mod sums;

pub use features::{FEATURES, features, is_coherence};
pub use head::Head;
pub use luma::{Luma, SIDE};
pub use places::Places;
pub use readings::{Grids, Readings};
pub use regions::Regions;
pub use sums::BlockSums;

#[cfg(test)]
mod tests;
