//! Defines the result, in plain Rust. Every other kernel equals it bit for bit.
//!
//! Taps outside the picture have the value of the input's zero point, so they add nothing and are
//! left out.

use super::{Conv, Dims, Epilogue};

/// Weights as `[group][ky][kx][in][out]`, so that the inner loop runs over output channels.
pub(super) fn pack(conv: &Conv, weights: &[i8]) -> Vec<i8> {
    let [kh, kw] = conv.kernel;
    let (cin, cout) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
    let mut packed = Vec::with_capacity(weights.len());
    for group in 0..conv.groups {
        for tap in 0..kh * kw {
            for ci in 0..cin {
                packed.extend((0..cout).map(|co| weights[((group * cout + co) * cin + ci) * kh * kw + tap]));
            }
        }
    }
    packed
}

/// Receives results in the order `[pixel][channel]`; `sums` are those of one pixel.
pub(super) trait Sink {
    fn pixel(&mut self, index: usize, sums: &[i32], epilogue: &Epilogue, residual: Option<&[u8]>);
}

impl Sink for [u8] {
    fn pixel(&mut self, index: usize, sums: &[i32], epilogue: &Epilogue, residual: Option<&[u8]>) {
        let at = index * sums.len();
        for (channel, (out, &sum)) in self[at..at + sums.len()].iter_mut().zip(sums).enumerate() {
            *out = epilogue.byte(sum, channel, residual.map(|r| r[at + channel]));
        }
    }
}

impl Sink for [f32] {
    fn pixel(&mut self, index: usize, sums: &[i32], epilogue: &Epilogue, residual: Option<&[u8]>) {
        let at = index * sums.len();
        for (channel, (out, &sum)) in self[at..at + sums.len()].iter_mut().zip(sums).enumerate() {
            *out = epilogue.real(sum, channel, residual.map(|r| r[at + channel]));
        }
    }
}

/// Runs one layer. Lengths have been checked; `sums` has one i32 per output channel.
#[allow(clippy::too_many_arguments)]
pub(super) fn run<S: Sink + ?Sized>(
    conv: &Conv,
    weights: &[i8],
    epilogue: &Epilogue,
    input: &[u8],
    dims: Dims,
    out: Dims,
    output: &mut S,
    residual: Option<&[u8]>,
    sums: &mut [i32],
) {
    let [kh, kw] = conv.kernel;
    let (cin, cout) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
    let (ty, zero) = (conv.input.ty, conv.input.zero_point);
    for index in 0..out.n * out.h * out.w {
        let (n, y, x) = (index / (out.h * out.w), index / out.w % out.h, index % out.w);
        sums.copy_from_slice(&epilogue.bias);
        for tap in 0..kh * kw {
            let iy = (y * conv.stride[0] + tap / kw).wrapping_sub(conv.padding.top);
            let ix = (x * conv.stride[1] + tap % kw).wrapping_sub(conv.padding.left);
            if iy >= dims.h || ix >= dims.w {
                continue;
            }
            let pixel = &input[((n * dims.h + iy) * dims.w + ix) * conv.in_channels..][..conv.in_channels];
            for group in 0..conv.groups {
                let sums = &mut sums[group * cout..(group + 1) * cout];
                let at = (group * kh * kw + tap) * cin * cout;
                for ci in 0..cin {
                    let value = ty.value(pixel[group * cin + ci]) - zero;
                    let row = &weights[at + ci * cout..at + (ci + 1) * cout];
                    for (sum, &w) in sums.iter_mut().zip(row) {
                        *sum += value * w as i32;
                    }
                }
            }
        }
        output.pixel(index, sums, epilogue, residual);
    }
}
