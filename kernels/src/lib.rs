//! int8 convolution kernels: NHWC bytes in, NHWC bytes out, everything in between in registers.
//!
//! A layer is described once ([`Conv`]), checked and packed once ([`PackedConv`]) for the best
//! instruction set of the processor ([`Isa`]), and then run without allocation. The portable kernel
//! defines the result; all others equal it bit for bit.
//!
//! ```
//! use spotd_kernels::{Activation, Conv, Dims, Output, PackedConv, Padding, Quant, Scratch};
//!
//! let conv = Conv {
//!     padding: Padding::same(1),
//!     activation: Activation::Relu,
//!     ..Conv::new(3, 8, [3, 3], Quant::u8(1.0 / 255.0, 0), vec![0.01; 8], Output::Bytes(Quant::u8(0.02, 0)))
//! };
//! let bias = conv.fold_bias(&[0.5; 8])?;
//! let packed = PackedConv::new(conv, &[1; 8 * 3 * 3 * 3], &bias)?;
//!
//! let (input, dims) = (vec![100; 16 * 16 * 3], Dims::new(1, 16, 16));
//! let mut output = vec![0; packed.out_dims(dims)?.len(8)?];
//! packed.run(&input, dims, &mut output, None, &mut Scratch::new())?;
//! assert_eq!(output[(8 * 16 + 8) * 8], 30); // (27 * 100 / 255 * 0.01 + 0.5) / 0.02
//! # Ok::<(), spotd_kernels::Error>(())
//! ```
//!
//! # The arithmetic
//!
//! With an input byte `x` of zero point `zx` and scale `sx`, weights `w` (zero point 0) with scale
//! `sw` of their output channel, a bias `b` in steps of `sx * sw`, and an output of scale `so` and
//! zero point `zo`:
//!
//! 1. `sum = b + Σ w * (x - zx)`, exact, in 32 bits. Padding is `zx`, so it adds nothing. A layer
//!    whose sum could overflow, judged by its own weights, is refused when it is packed.
//! 2. `t = f32(sum) * m`, `m = f32(sx * sw / so)` (computed in f64, rounded once); both operations
//!    round to nearest, ties to even, and nothing is fused.
//! 3. With a residual `r`: `t = min(max(t, l), h) + f32(r - zr) * f32(sr / so)`, where `l` and `h`
//!    are the inner activation's bounds in steps of `so`, if it has any; the product is rounded
//!    before the addition.
//! 4. `t = min(max(t, low), high)`, the bounds of the activation and of the output's type less
//!    `zo`, both whole.
//! 5. `byte = round(t) + zo`, ties to even.
//!
//! A layer with [`Output::F32`] stops after step 4, with `so = 1` and real bounds.
//!
//! # Choice of signed and unsigned
//!
//! Kernels read unsigned bytes, except that `sdot` (NEON without i8mm) reads signed ones; the other
//! kind costs a copy of the input with its top bits flipped. That only matters for a 1x1 layer with
//! stride 1, whose input is otherwise read in place. [`Quant::flipped`] tells what flipped bytes
//! mean.

// Other architectures only have the portable path.
#![cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, unused_macros, unused_imports)
)]

mod conv;
mod elementwise;
mod error;
mod isa;
mod kernel;
mod pool;
mod quant;
mod scratch;
#[cfg(feature = "tract")]
pub mod tract;

pub use conv::{Conv, Dims, Output, PackedConv, Padding};
pub use elementwise::{ByteMap, PackedAdd, dequantize_nhwc, quantize_nchw};
pub use error::{Error, Result};
pub use isa::peak::peak_gmacs;
pub use isa::{ISA_ENV, Isa};
pub use pool::{PackedPool, Pool, PoolKind};
pub use quant::{Activation, Byte, Quant};
pub use scratch::Scratch;
