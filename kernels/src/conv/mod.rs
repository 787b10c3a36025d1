//! Convolutions over NHWC bytes: the description of a layer, and its validation.

pub(crate) mod band;
mod folded;
pub(crate) mod pack;
mod packed;
mod portable;
pub(crate) mod vector;
mod woven;

pub use packed::PackedConv;

use crate::error::{Error, Result, length};
use crate::quant::{Activation, Quant, multiplier, scale};

/// Largest size of any one dimension; keeps sums of sizes far from overflow on 32-bit machines too.
const LARGEST: usize = 1 << 24;

/// The sum of two numbers up to this, rounded to f32, is well within 32 bits.
const NARROW: f64 = (1u32 << 29) as f64;

/// Rows and columns of the input's zero point around the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on all four sides.
    pub const fn same(n: usize) -> Padding {
        Padding { top: n, left: n, bottom: n, right: n }
    }
}

/// What a layer writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Output {
    /// Bytes, for the next layer.
    Bytes(Quant),
    /// Real numbers, for a last layer.
    F32,
}

/// Batch, height and width of a tensor in NHWC order; channels belong to the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    /// Pictures.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Dims {
    /// Batch, height, width.
    pub const fn new(n: usize, h: usize, w: usize) -> Dims {
        Dims { n, h, w }
    }

    /// `n * h * w`, which must fit.
    pub fn pixels(&self) -> Result<usize> {
        size("batch", self.n)?;
        size("height", self.h)?;
        size("width", self.w)?;
        product(&[self.n, self.h, self.w], "pixels")
    }

    /// Bytes of the tensor with this many channels.
    pub fn len(&self, channels: usize) -> Result<usize> {
        product(&[self.pixels()?, channels], "bytes of a tensor")
    }
}

/// A convolution: what it computes, apart from its weights.
///
/// Weights are signed bytes in OIHW order, `[out_channels][in_channels / groups][height][width]`,
/// symmetric (zero point 0), with one scale or one per output channel. See the [crate] for the
/// arithmetic.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Vertical and horizontal distance of taps; only `[1, 1]` is supported.
    pub dilation: [usize; 2],
    /// What surrounds the picture.
    pub padding: Padding,
    /// Groups; divides both channel counts. Equal to both: a depthwise convolution.
    pub groups: usize,
    /// What the input's bytes mean.
    pub input: Quant,
    /// One scale, or one per output channel.
    pub weight_scales: Vec<f32>,
    /// A tensor of the output's shape that is added before the activation.
    pub residual: Option<Quant>,
    /// Activation before the residual is added, as in `Conv, Relu, Add`. Only with a residual.
    pub inner: Activation,
    /// The activation at the end.
    pub activation: Activation,
    /// What is written.
    pub output: Output,
}

impl Conv {
    /// A plain convolution with stride 1, no padding, one group and no activation.
    pub fn new(
        in_channels: usize,
        out_channels: usize,
        kernel: [usize; 2],
        input: Quant,
        weight_scales: Vec<f32>,
        output: Output,
    ) -> Conv {
        Conv {
            in_channels,
            out_channels,
            kernel,
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::default(),
            groups: 1,
            input,
            weight_scales,
            residual: None,
            inner: Activation::None,
            activation: Activation::None,
            output,
        }
    }

    /// A dense layer: a 1x1 convolution over [`Dims`] of `n` x 1 x 1.
    pub fn dense(
        inputs: usize,
        outputs: usize,
        input: Quant,
        weight_scales: Vec<f32>,
        output: Output,
    ) -> Conv {
        Conv::new(inputs, outputs, [1, 1], input, weight_scales, output)
    }

    /// Whether each channel has its own filter.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.in_channels && self.groups == self.out_channels
    }

    /// Dimensions of the output for an input of `dims`.
    ///
    /// # Errors
    /// The padded input is smaller than the kernel, or a size is zero or absurd.
    pub fn out_dims(&self, dims: Dims) -> Result<Dims> {
        self.check_shape()?;
        dims.pixels()?;
        let p = &self.padding;
        let side = |what, size: usize, before: usize, after: usize, kernel: usize, stride: usize| {
            let padded = size + before + after;
            if padded < kernel {
                return Err(Error::Shape { what, value: padded, reason: "smaller than the kernel" });
            }
            Ok((padded - kernel) / stride + 1)
        };
        let h = side("padded height", dims.h, p.top, p.bottom, self.kernel[0], self.stride[0])?;
        let w = side("padded width", dims.w, p.left, p.right, self.kernel[1], self.stride[1])?;
        Ok(Dims { n: dims.n, h, w })
    }

    /// MACs of the layer for an input of `dims`, including padding.
    pub fn macs(&self, dims: Dims) -> Result<u64> {
        let values = self.out_dims(dims)?.len(self.out_channels)? as u64;
        let too_many = Error::Shape { what: "products", value: usize::MAX, reason: "must be below 2^64" };
        values.checked_mul(self.check_shape()? as u64).ok_or(too_many)
    }

    /// Converts a bias in real units to integer steps of the sum:
    /// `round(bias / (input.scale * weight_scale))`.
    ///
    /// # Errors
    /// A wrong length, or a bias that does not fit in 32 bits.
    pub fn fold_bias(&self, bias: &[f32]) -> Result<Vec<i32>> {
        length("bias", bias.len(), self.out_channels)?;
        self.check_scales()?;
        let fold = |(channel, &real): (usize, &f32)| {
            let step = self.input.scale as f64 * self.weight_scale(channel) as f64;
            let folded = (real as f64 / step).round_ties_even();
            if folded.abs() <= i32::MAX as f64 {
                return Ok(folded as i32);
            }
            let reason = "the bias in steps of input scale * weight scale must fit in 32 bits";
            Err(Error::Scale { what: format!("bias of output channel {channel}"), value: real, reason })
        };
        bias.iter().enumerate().map(fold).collect()
    }

    pub(crate) fn weight_scale(&self, channel: usize) -> f32 {
        self.weight_scales[if self.weight_scales.len() == 1 { 0 } else { channel }]
    }

    fn check_scales(&self) -> Result<()> {
        self.input.check("input")?;
        if self.weight_scales.len() != 1 {
            length("weight scales", self.weight_scales.len(), self.out_channels)?;
        }
        for (channel, &s) in self.weight_scales.iter().enumerate() {
            scale(s, || format!("weight scale of output channel {channel}"))?;
        }
        Ok(())
    }

    /// Refuses invalid sizes; returns the number of weights per output channel.
    fn check_shape(&self) -> Result<usize> {
        for (what, value) in [
            ("input channels", self.in_channels),
            ("output channels", self.out_channels),
            ("groups", self.groups),
            ("kernel height", self.kernel[0]),
            ("kernel width", self.kernel[1]),
            ("vertical stride", self.stride[0]),
            ("horizontal stride", self.stride[1]),
        ] {
            size(what, value)?;
        }
        let p = &self.padding;
        for (what, value) in [
            ("top padding", p.top),
            ("left padding", p.left),
            ("bottom padding", p.bottom),
            ("right padding", p.right),
        ] {
            size(what, value.max(1))?;
        }
        if let Some(&value) = self.dilation.iter().find(|&&d| d != 1) {
            return Err(Error::Shape { what: "dilation", value, reason: "only 1 is computed" });
        }
        for (what, channels) in [("input channels", self.in_channels), ("output channels", self.out_channels)]
        {
            if channels % self.groups != 0 {
                return Err(Error::Shape { what, value: channels, reason: "not a multiple of the groups" });
            }
        }
        let [kh, kw] = self.kernel;
        product(&[self.in_channels / self.groups, kh, kw], "weights of a channel")
    }

    /// Refuses invalid values, and computes the constants of the epilogue.
    pub(crate) fn check(&self, weights: &[i8], bias: &[i32]) -> Result<Epilogue> {
        let per_channel = self.check_shape()?;
        length("weights", weights.len(), product(&[self.out_channels, per_channel], "weights")?)?;
        length("bias", bias.len(), self.out_channels)?;
        self.check_scales()?;

        let (low, high) = (self.input.ty.low(), self.input.ty.high());
        let largest = (self.input.zero_point - low).max(high - self.input.zero_point) as i64;
        let mut epilogue = self.epilogue(bias)?;
        for (channel, (w, &b)) in weights.chunks_exact(per_channel).zip(bias).enumerate() {
            let sum: i64 = w.iter().map(|&w| (w as i64).abs()).sum();
            let bound = sum.saturating_mul(largest).saturating_add((b as i64).abs());
            if bound > i32::MAX as i64 {
                return Err(Error::Overflow { channel, bound });
            }
            epilogue.narrow &= bound as f64 * (epilogue.scales[channel] as f64) < NARROW;
        }
        Ok(epilogue)
    }

    fn epilogue(&self, bias: &[i32]) -> Result<Epilogue> {
        let (step, low, high, zero) = match self.output {
            Output::Bytes(q) => {
                q.check("output")?;
                let (low, high) = self.activation.steps(&q)?;
                (q.scale as f64, low, high, q.zero_point)
            }
            Output::F32 => {
                let (low, high) = self.activation.bounds()?;
                (1.0, low, high, 0)
            }
        };
        let scales = (0..self.out_channels).map(|channel| {
            let product = self.input.scale as f64 * self.weight_scale(channel) as f64 / step;
            multiplier(product, || format!("scale of output channel {channel}"))
        });
        if self.residual.is_none() && self.inner != Activation::None {
            return Err(Error::Inner);
        }
        let residual = self.residual.map(|quant| {
            quant.check("residual")?;
            let scale = multiplier(quant.scale as f64 / step, || "scale of the residual".to_string())?;
            let (low, high) = self.inner.bounds()?;
            let [low, high] = [low, high].map(|bound| (bound as f64 / step) as f32);
            Ok(Residual { quant, scale, low, high })
        });
        let residual = residual.transpose()?;
        Ok(Epilogue {
            bias: bias.to_vec(),
            scales: scales.collect::<Result<_>>()?,
            narrow: residual.is_none_or(|r| {
                let [low, high, scale] = [r.low, r.high, r.scale].map(f64::from);
                255.0 * scale < NARROW && low < NARROW && high > -NARROW
            }),
            residual,
            low,
            high,
            zero,
        })
    }
}

/// What is added to a sum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Residual {
    /// What its bytes mean.
    pub quant: Quant,
    /// Its scale in steps of the output.
    pub scale: f32,
    /// Bounds of the sum before it is added, in steps of the output; infinite without an inner
    /// activation.
    pub low: f32,
    /// As `low`.
    pub high: f32,
}

/// What happens to a sum: `clamp(sum * scale, low, high)`, or with a residual `r`
/// `clamp(clamp(sum * scale, r.low, r.high) + (r - zr) * r.scale, low, high)`, then for bytes
/// rounding, ties to even, and `+ zero`.
#[derive(Debug, Clone)]
pub(crate) struct Epilogue {
    /// Initial value of the sum, one per output channel.
    pub bias: Vec<i32>,
    /// Multiplies the sum, one per output channel.
    pub scales: Vec<f32>,
    /// What is added, if anything.
    pub residual: Option<Residual>,
    /// Whether rounded values fit into 32 bits before they are clamped, so that clamping may happen
    /// after rounding.
    pub narrow: bool,
    pub low: f32,
    pub high: f32,
    pub zero: i32,
}

impl Epilogue {
    /// Defines the arithmetic after the sum. Each line rounds once; none may be fused.
    #[inline(always)]
    pub(crate) fn real(&self, sum: i32, channel: usize, residual: Option<u8>) -> f32 {
        let mut x = sum as f32 * self.scales[channel];
        if let (Some(Residual { quant, scale, low, high }), Some(bits)) = (self.residual, residual) {
            let r = (quant.ty.value(bits) - quant.zero_point) as f32 * scale;
            x = crate::quant::clamp(x, low, high) + r;
        }
        crate::quant::clamp(x, self.low, self.high)
    }

    /// [`Epilogue::real`] as a byte.
    #[inline(always)]
    pub(crate) fn byte(&self, sum: i32, channel: usize, residual: Option<u8>) -> u8 {
        (crate::quant::round(self.real(sum, channel, residual)) + self.zero) as u8
    }
}

pub(crate) fn size(what: &'static str, value: usize) -> Result<()> {
    match value {
        0 => Err(Error::Shape { what, value, reason: "must be at least 1" }),
        1..=LARGEST => Ok(()),
        _ => Err(Error::Shape { what, value, reason: "must be at most 16777216" }),
    }
}

pub(crate) fn product(factors: &[usize], what: &'static str) -> Result<usize> {
    let product = factors.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    let fits = product.filter(|&p| p <= isize::MAX as usize);
    fits.ok_or(Error::Shape { what, value: usize::MAX, reason: "too many for this machine's memory" })
}
