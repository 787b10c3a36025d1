//! Elementwise layers: addition, maps of bytes, and conversion from and to real numbers.

use crate::conv::product;
use crate::error::{Result, length};
use crate::isa::{Isa, multiversion};
use crate::quant::{Activation, Quant, clamp, multiplier, round};

/// `a + b` of two quantised tensors of the same shape:
/// `clamp(round((a - za) * (sa / so) + (b - zb) * (sb / so)))`, each product rounded to f32.
#[derive(Debug, Clone)]
pub struct PackedAdd {
    isa: Isa,
    a: (Quant, f32),
    b: (Quant, f32),
    low: f32,
    high: f32,
    zero: i32,
}

struct AddJob<'a> {
    add: &'a PackedAdd,
    a: &'a [u8],
    b: &'a [u8],
    output: &'a mut [u8],
}

impl PackedAdd {
    /// Checks the layer, for [`Isa::chosen`].
    ///
    /// # Errors
    /// Invalid scales, zero points or bounds.
    pub fn new(a: Quant, b: Quant, activation: Activation, output: Quant) -> Result<PackedAdd> {
        PackedAdd::for_isa(Isa::chosen()?, a, b, activation, output)
    }

    /// [`PackedAdd::new`] for an instruction set of the caller's choice.
    ///
    /// # Errors
    /// As [`PackedAdd::new`], and where this processor does not have `isa`.
    pub fn for_isa(isa: Isa, a: Quant, b: Quant, activation: Activation, output: Quant) -> Result<PackedAdd> {
        isa.require()?;
        a.check("first term")?;
        b.check("second term")?;
        output.check("output")?;
        let (low, high) = activation.steps(&output)?;
        let scale = |q: Quant, what: &str| {
            multiplier(q.scale as f64 / output.scale as f64, || format!("scale of the {what}"))
        };
        let (a, b) = ((a, scale(a, "first term")?), (b, scale(b, "second term")?));
        Ok(PackedAdd { isa, a, b, low, high, zero: output.zero_point })
    }

    /// Adds; all three must have the same length.
    ///
    /// # Errors
    /// The lengths differ.
    pub fn run(&self, a: &[u8], b: &[u8], output: &mut [u8]) -> Result<()> {
        length("second term", b.len(), a.len())?;
        length("output", output.len(), a.len())?;
        add_any(self.isa, &mut AddJob { add: self, a, b, output });
        Ok(())
    }
}

multiversion! {
    fn add_any(job: &mut AddJob<'_>) = add_body;
}

#[inline(always)]
fn add_body(job: &mut AddJob<'_>) {
    use crate::Byte::{S8, U8};
    let (u, s) = (|bits: u8| bits as i32, |bits: u8| bits as i8 as i32);
    match (job.add.a.0.ty, job.add.b.0.ty) {
        (U8, U8) => add_typed(job, u, u),
        (U8, S8) => add_typed(job, u, s),
        (S8, U8) => add_typed(job, s, u),
        (S8, S8) => add_typed(job, s, s),
    }
}

#[inline(always)]
fn add_typed(job: &mut AddJob<'_>, value_a: impl Fn(u8) -> i32, value_b: impl Fn(u8) -> i32) {
    let PackedAdd { a: (qa, sa), b: (qb, sb), low, high, zero, .. } = *job.add;
    for ((out, &a), &b) in job.output.iter_mut().zip(job.a).zip(job.b) {
        let x = (value_a(a) - qa.zero_point) as f32 * sa;
        let y = (value_b(b) - qb.zero_point) as f32 * sb;
        *out = (round(clamp(x + y, low, high)) + zero) as u8;
    }
}

/// A function of one byte as a table: requantisation, or any activation (sigmoid, hard swish, leaky
/// ReLU).
#[derive(Debug, Clone)]
pub struct ByteMap {
    table: [u8; 256],
}

impl ByteMap {
    /// The table of `output.quantize(f(input.dequantize(byte)))`.
    ///
    /// # Errors
    /// Invalid scales or zero points.
    pub fn new(input: Quant, output: Quant, f: impl Fn(f32) -> f32) -> Result<ByteMap> {
        input.check("input")?;
        output.check("output")?;
        Ok(ByteMap { table: std::array::from_fn(|bits| output.quantize(f(input.dequantize(bits as u8)))) })
    }

    /// Maps `input` to `output`.
    ///
    /// # Errors
    /// The lengths differ.
    pub fn run(&self, input: &[u8], output: &mut [u8]) -> Result<()> {
        length("output", output.len(), input.len())?;
        for (out, &bits) in output.iter_mut().zip(input) {
            *out = self.table[bits as usize];
        }
        Ok(())
    }
}

struct QuantizeJob<'a> {
    quant: &'a Quant,
    input: &'a [f32],
    channels: usize,
    pixels: usize,
    output: &'a mut [u8],
}

/// Real numbers in NCHW order to bytes in NHWC order: ONNX's `QuantizeLinear` and a change of
/// layout. `pixels` are those of one picture, `h * w`.
///
/// # Errors
/// An invalid scale or zero point; lengths that do not fit.
pub fn quantize_nchw(
    isa: Isa,
    quant: &Quant,
    input: &[f32],
    n: usize,
    channels: usize,
    pixels: usize,
    output: &mut [u8],
) -> Result<()> {
    isa.require()?;
    quant.check("output")?;
    let expected = product(&[n, channels, pixels], "values")?;
    length("input", input.len(), expected)?;
    length("output", output.len(), expected)?;
    if expected > 0 {
        quantize_any(isa, &mut QuantizeJob { quant, input, channels, pixels, output });
    }
    Ok(())
}

multiversion! {
    fn quantize_any(job: &mut QuantizeJob<'_>) = quantize_body;
}

#[inline(always)]
fn quantize_body(job: &mut QuantizeJob<'_>) {
    /// Pixels that are quantised together, channel by channel, before they are interleaved.
    const BLOCK: usize = 64;
    let picture = job.channels * job.pixels;
    let mut block = [0u8; BLOCK];
    for (input, output) in job.input.chunks_exact(picture).zip(job.output.chunks_exact_mut(picture)) {
        for (channel, plane) in input.chunks_exact(job.pixels).enumerate() {
            for (index, reals) in plane.chunks(BLOCK).enumerate() {
                for (bits, &real) in block.iter_mut().zip(reals) {
                    *bits = job.quant.quantize(real);
                }
                let output = &mut output[index * BLOCK * job.channels + channel..];
                for (out, &bits) in output.iter_mut().step_by(job.channels).zip(&block[..reals.len()]) {
                    *out = bits;
                }
            }
        }
    }
}

/// Bytes in NHWC order to real numbers in NCHW order: ONNX's `DequantizeLinear` and a change of
/// layout.
///
/// # Errors
/// An invalid scale or zero point; lengths that do not fit.
pub fn dequantize_nhwc(
    quant: &Quant,
    input: &[u8],
    n: usize,
    channels: usize,
    pixels: usize,
    output: &mut [f32],
) -> Result<()> {
    quant.check("input")?;
    let expected = product(&[n, channels, pixels], "values")?;
    length("input", input.len(), expected)?;
    length("output", output.len(), expected)?;
    if expected == 0 {
        return Ok(());
    }
    let picture = channels * pixels;
    let table: [f32; 256] = std::array::from_fn(|bits| quant.dequantize(bits as u8));
    for (input, output) in input.chunks_exact(picture).zip(output.chunks_exact_mut(picture)) {
        for (channel, plane) in output.chunks_exact_mut(pixels).enumerate() {
            for (out, &bits) in plane.iter_mut().zip(input[channel..].iter().step_by(channels)) {
                *out = table[bits as usize];
            }
        }
    }
    Ok(())
}
