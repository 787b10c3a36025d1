//! Quantised bytes: what a byte means, and how a real number becomes one.

use crate::error::{Error, Result};

/// Whether a byte is read as unsigned or as signed. Signed bytes are stored in `[u8]` as their bit
/// pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Byte {
    /// 0..=255
    U8,
    /// -128..=127
    S8,
}

impl Byte {
    /// The least value.
    pub const fn low(self) -> i32 {
        match self {
            Byte::U8 => 0,
            Byte::S8 => -128,
        }
    }

    /// The greatest value.
    pub const fn high(self) -> i32 {
        self.low() + 255
    }

    /// The value of a bit pattern.
    #[inline(always)]
    pub const fn value(self, bits: u8) -> i32 {
        match self {
            Byte::U8 => bits as i32,
            Byte::S8 => bits as i8 as i32,
        }
    }
}

/// What a byte `q` stands for: the real number `(q - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quant {
    /// Real units per step: positive and finite.
    pub scale: f32,
    /// The byte value that stands for zero, within the range of `ty`.
    pub zero_point: i32,
    /// How the byte is read.
    pub ty: Byte,
}

impl Quant {
    /// Unsigned bytes.
    pub const fn u8(scale: f32, zero_point: i32) -> Quant {
        Quant { scale, zero_point, ty: Byte::U8 }
    }

    /// Signed bytes.
    pub const fn s8(scale: f32, zero_point: i32) -> Quant {
        Quant { scale, zero_point, ty: Byte::S8 }
    }

    /// The same numbers with the other byte type: bit patterns have their top bit flipped.
    pub const fn flipped(self) -> Quant {
        match self.ty {
            Byte::U8 => Quant::s8(self.scale, self.zero_point - 128),
            Byte::S8 => Quant::u8(self.scale, self.zero_point + 128),
        }
    }

    /// Refuses invalid values; `what` names the tensor.
    pub(crate) fn check(&self, what: &'static str) -> Result<()> {
        scale(self.scale, || format!("scale of the {what}"))?;
        let (low, high) = (self.ty.low(), self.ty.high());
        if self.zero_point < low || self.zero_point > high {
            let what = match what {
                "input" => "zero point of the input",
                "output" => "zero point of the output",
                "residual" => "zero point of the residual",
                _ => "zero point",
            };
            return Err(Error::ZeroPoint { what, value: self.zero_point, low, high });
        }
        Ok(())
    }

    /// The bit pattern of the byte nearest to `real`: `round_ties_even(real / scale) + zero_point`,
    /// clamped to the type's range. NaN becomes the least value.
    #[inline(always)]
    pub fn quantize(&self, real: f32) -> u8 {
        let low = (self.ty.low() - self.zero_point) as f32;
        let high = (self.ty.high() - self.zero_point) as f32;
        (round(clamp(real / self.scale, low, high)) + self.zero_point) as u8
    }

    /// The real number that a bit pattern stands for.
    #[inline(always)]
    pub fn dequantize(&self, bits: u8) -> f32 {
        (self.ty.value(bits) - self.zero_point) as f32 * self.scale
    }
}

/// The activation after the sum, before the result is quantised.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, min), max)` in real units; ReLU6 is `Clip { min: 0.0, max: 6.0 }`. Either may be
    /// infinite.
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
}

impl Activation {
    /// Lower and upper bound in real units; never NaN, never negative zero.
    pub(crate) fn bounds(self) -> Result<(f32, f32)> {
        match self {
            Activation::None => Ok((f32::NEG_INFINITY, f32::INFINITY)),
            Activation::Relu => Ok((0.0, f32::INFINITY)),
            Activation::Clip { min, max } if min <= max => Ok((min + 0.0, max + 0.0)),
            Activation::Clip { min, max } => Err(Error::Bounds { min, max }),
        }
    }

    /// Lower and upper bound in steps of the output, zero point not added: whole numbers within the
    /// type's range. Rounding is monotonic, so clamping to them equals clamping in real units and
    /// then rounding.
    pub(crate) fn steps(self, output: &Quant) -> Result<(f32, f32)> {
        let (min, max) = self.bounds()?;
        let low = (output.ty.low() - output.zero_point) as f32;
        let high = (output.ty.high() - output.zero_point) as f32;
        let step = |real: f32| clamp(real / output.scale, low, high).round_ties_even();
        Ok((step(min), step(max)))
    }
}

/// `low` where `x` is not above it (so also for NaN), `high` where `x` is not below it.
#[inline(always)]
pub(crate) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// The nearest integer, ties to even, of a number that [`clamp`] has brought near zero.
#[inline(always)]
pub(crate) fn round(x: f32) -> i32 {
    x.round_ties_even() as i32
}

pub(crate) fn scale(value: f32, what: impl FnOnce() -> String) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Error::Scale { what: what(), value, reason: "a scale must be positive and finite" })
}

/// Above this a multiplier could take a 32-bit sum out of the range of f32.
const LARGEST_MULTIPLIER: f64 = (1u128 << 90) as f64;

/// A product of scales as the single f32 multiplier of results: rounded once, from f64.
pub(crate) fn multiplier(value: f64, what: impl FnOnce() -> String) -> Result<f32> {
    if value < LARGEST_MULTIPLIER {
        return Ok(value as f32);
    }
    let reason = "the product of scales must be below 2^90";
    Err(Error::Scale { what: what(), value: value as f32, reason })
}
