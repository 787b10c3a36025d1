//! Bytes that become others one by one, and the way from floats to bytes and back.

use tract_onnx::tract_hir::internal::*;

use super::{blank, bytes, datum, fill_bytes, fill_floats, nhwc};
use crate::{ByteMap, Isa, Quant, dequantize_nhwc, quantize_nchw};

/// A function of one byte: another scale, or an activation of its own.
#[derive(Clone)]
pub(in crate::tract) struct Int8Map(pub Arc<(ByteMap, Quant)>);

operator!(Int8Map, "Int8Map", Rounding);

impl EvalOp for Int8Map {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (map, quant) = &*self.0;
        let mut y = blank(datum(quant), inputs[0].shape())?;
        let x = bytes(&inputs[0])?;
        fill_bytes(&mut y, |y| map.run(x, y))??;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Int8Map {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(datum(&self.0.1).fact(inputs[0].shape.clone())))
    }

    as_op!();
}

/// A step before quantisation: of a normalisation, for all channels or for each, or a bound.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::tract) enum Step {
    Add(Vec<f32>),
    Subtract(Vec<f32>),
    Multiply(Vec<f32>),
    Divide(Vec<f32>),
    AtLeast(f32),
    AtMost(f32),
}

impl Step {
    /// In the order of the graph and with its roundings.
    fn apply(&self, channel: usize, plane: &mut [f32]) {
        let pick = |values: &[f32]| values[if values.len() == 1 { 0 } else { channel }];
        match self {
            Step::Add(v) => plane.iter_mut().for_each(|x| *x += pick(v)),
            Step::Subtract(v) => plane.iter_mut().for_each(|x| *x -= pick(v)),
            Step::Multiply(v) => plane.iter_mut().for_each(|x| *x *= pick(v)),
            Step::Divide(v) => plane.iter_mut().for_each(|x| *x /= pick(v)),
            Step::AtLeast(bound) => plane.iter_mut().for_each(|x| *x = x.max(*bound)),
            Step::AtMost(bound) => plane.iter_mut().for_each(|x| *x = x.min(*bound)),
        }
    }
}

/// Floats, NCHW or of any other rank, to bytes; a normalisation before it included.
#[derive(Clone)]
pub(in crate::tract) struct Int8Quantise(pub Arc<Quantise>);

/// What [`Int8Quantise`] does.
pub(in crate::tract) struct Quantise {
    /// For which the kernel is chosen.
    pub isa: Isa,
    /// What comes first; only of pictures.
    pub steps: Vec<Step>,
    /// What the bytes mean.
    pub quant: Quant,
}

impl Quantise {
    /// The same of one channel for a byte that stands for the number `real(byte)`, bit for bit.
    fn table(&self, channel: usize, real: &dyn Fn(u8) -> f32) -> [u8; 256] {
        let mut reals: [f32; 256] = std::array::from_fn(|byte| real(byte as u8));
        self.steps.iter().for_each(|step| step.apply(channel, &mut reals));
        reals.map(|real| self.quant.quantize(real))
    }
}

operator!(Int8Quantise, "Int8Quantise", Rounding);

impl EvalOp for Int8Quantise {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Quantise { isa, steps, quant } = &*self.0;
        let x = args_1!(inputs);
        let (shape, n, c, pixels): (TVec<usize>, _, _, _) = match *x.shape() {
            [n, c, h, w] => (tvec![n, h, w, c], n, c, h * w),
            ref shape => (shape.into(), 1, 1, x.len()),
        };
        let mut y = blank(datum(quant), &shape)?;
        let changed;
        let x = if steps.is_empty() {
            &x
        } else {
            let mut copy = x.clone().into_tensor();
            fill_floats(&mut copy, |x| {
                for (i, plane) in x.chunks_exact_mut(pixels.max(1)).enumerate() {
                    steps.iter().for_each(|step| step.apply(i % c, plane));
                }
            })?;
            changed = copy.into_tvalue();
            &changed
        };
        let x = x.try_as_plain_ram()?.as_slice::<f32>()?;
        fill_bytes(&mut y, |y| quantize_nchw(*isa, quant, x, n, c, pixels, y))??;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Int8Quantise {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        if shape.len() == 4 {
            shape[1..].rotate_left(1);
        }
        Ok(tvec!(datum(&self.0.quant).fact(shape)))
    }

    as_op!();
}

/// Pixels `[N, H, W, C]`, unsigned bytes, to the bytes of a first layer: what [`Int8Quantise`] does
/// to the numbers that they stand for, as a table of each channel.
///
/// An operator of its own, and not a part of the convolution's copy of its input: that one copies a
/// row as often as output rows see it.
#[derive(Clone)]
pub(in crate::tract) struct Int8Pixels(pub Arc<Pixels>);

/// What [`Int8Pixels`] does.
pub(in crate::tract) struct Pixels {
    tables: Vec<[u8; 256]>,
    quant: Quant,
}

impl Pixels {
    /// Of so many channels.
    pub fn new(quantise: &Quantise, channels: usize, real: &dyn Fn(u8) -> f32) -> Pixels {
        let tables = (0..channels).map(|channel| quantise.table(channel, real)).collect();
        Pixels { tables, quant: quantise.quant }
    }

    /// Whether pixels already are the bytes that the layer reads.
    pub fn is_idle(&self) -> bool {
        self.quant.ty == crate::Byte::U8 && self.is(|byte| byte)
    }

    fn is(&self, f: impl Fn(u8) -> u8) -> bool {
        self.tables.iter().all(|table| (0..=255).all(|byte| table[usize::from(byte)] == f(byte)))
    }
}

operator!(Int8Pixels, "Int8Pixels", Rounding);

impl EvalOp for Int8Pixels {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Pixels { tables, quant } = &*self.0;
        let (_, c) = nhwc(&inputs[0])?;
        ensure!(
            c == tables.len(),
            "pixels of {} channels expected, found {:?}",
            tables.len(),
            inputs[0].shape()
        );
        let x = bytes(&inputs[0])?;
        let mut y = blank(datum(quant), inputs[0].shape())?;
        fill_bytes(&mut y, |y| match &tables[..] {
            // Pixels counted from their middle, as signed bytes are.
            _ if self.0.is(|byte| byte ^ 0x80) => {
                y.iter_mut().zip(x).for_each(|(y, byte)| *y = byte ^ 0x80);
            }
            [r, g, b] => {
                for (y, x) in y.chunks_exact_mut(3).zip(x.chunks_exact(3)) {
                    (y[0], y[1], y[2]) = (r[usize::from(x[0])], g[usize::from(x[1])], b[usize::from(x[2])]);
                }
            }
            tables => {
                for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                    for ((y, &byte), table) in y.iter_mut().zip(x).zip(tables) {
                        *y = table[usize::from(byte)];
                    }
                }
            }
        })?;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Int8Pixels {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs[0].datum_type == u8::datum_type(), "pixels are {:?}", inputs[0].datum_type);
        Ok(tvec!(datum(&self.0.quant).fact(inputs[0].shape.clone())))
    }

    as_op!();
}

/// Bytes to floats; pictures become NCHW.
#[derive(Clone)]
pub(in crate::tract) struct Int8Dequantise(pub Arc<Quant>);

operator!(Int8Dequantise, "Int8Dequantise", Rounding);

impl EvalOp for Int8Dequantise {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = args_1!(inputs);
        let (shape, n, c, pixels): (TVec<usize>, _, _, _) = match *x.shape() {
            [n, h, w, c] => (tvec![n, c, h, w], n, c, h * w),
            ref shape => (shape.into(), 1, 1, x.len()),
        };
        let mut y = blank(f32::datum_type(), &shape)?;
        let x = bytes(&x)?;
        fill_floats(&mut y, |y| dequantize_nhwc(&self.0, x, n, c, pixels, y))??;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Int8Dequantise {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        if shape.len() == 4 {
            shape[1..].rotate_right(1);
        }
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}

/// A tensor of four dimensions to or from NHWC, where values outside of the fused part meet it.
#[derive(Clone)]
pub(in crate::tract) struct Relayout(pub Arc<Order>);

/// Which way [`Relayout`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tract) enum Order {
    ToNhwc,
    ToNchw,
}

operator!(Relayout, "Int8Relayout", Accurate);

impl Relayout {
    fn turn<T>(&self, shape: &mut [T]) {
        match *self.0 {
            Order::ToNhwc => shape[1..].rotate_left(1),
            Order::ToNchw => shape[1..].rotate_right(1),
        }
    }
}

impl EvalOp for Relayout {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = args_1!(inputs);
        let axes: [usize; 4] = match *self.0 {
            Order::ToNhwc => [0, 2, 3, 1],
            Order::ToNchw => [0, 3, 1, 2],
        };
        Ok(tvec!(x.into_tensor().permute_axes(&axes)?.into_tvalue()))
    }
}

impl TypedOp for Relayout {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        ensure!(shape.len() == 4, "four dimensions expected, found {:?}", inputs[0].shape);
        self.turn(&mut shape);
        Ok(tvec!(inputs[0].datum_type.fact(shape)))
    }

    as_op!();
}
