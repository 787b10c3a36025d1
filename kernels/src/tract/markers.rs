//! `QuantizeLinear` and `DequantizeLinear` in the typed model: what the pass looks for. They can
//! also run, by ONNX's definition, where the pass leaves them.

use tract_onnx::tract_hir::internal::*;

use crate::quant::{Byte, Quant};

/// Why a file's quantisation is refused while it is read; names the tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// Fails with [`Refused`].
macro_rules! refuse {
    ($wrong:expr, $($text:tt)*) => {
        if $wrong {
            return Err(Refused(format!($($text)*)).into());
        }
    };
}

/// An affine quantisation, `(q - zero_point) * scale`, for the whole tensor or along one axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Affine {
    /// `U8`, `I8`, or `I32` (biases).
    pub integer: DatumType,
    /// One, or one per index along `axis`. Positive and finite.
    pub scale: Arc<[f32]>,
    /// As many as scales, each within `integer`.
    pub zero_point: Arc<[i32]>,
    /// The axis, if there are several.
    pub axis: usize,
}

impl Eq for Affine {}

impl Affine {
    /// From the constants of the file, each with its name.
    ///
    /// # Errors
    /// Names the invalid constant: scales that are not positive, numbers that do not fit.
    pub fn new(
        integer: DatumType,
        axis: i64,
        shape: &ShapeFact,
        (scale_name, scale): (&str, &Tensor),
        zero_point: Option<(&str, &Tensor)>,
    ) -> TractResult<Affine> {
        refuse!(
            ![u8::datum_type(), i8::datum_type(), i32::datum_type()].contains(&integer),
            "{scale_name} scales {integer:?}; only u8, i8 and (for biases) i32 are supported"
        );
        refuse!(
            scale.datum_type() != f32::datum_type(),
            "scale {scale_name} is {:?}; only f32 is supported",
            scale.datum_type()
        );
        let scales: Vec<f32> = scale.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        refuse!(scales.is_empty() || scale.rank() > 1, "scale {scale_name} is of shape {:?}", scale.shape());
        for (channel, &s) in scales.iter().enumerate() {
            refuse!(
                !(s > 0.0 && s.is_finite() && s.recip().is_finite()),
                "scale {scale_name}[{channel}] is {s}; a scale must be positive and finite"
            );
        }
        let zero_points: Vec<i32> = match zero_point {
            None => vec![0],
            Some((name, z)) => {
                refuse!(
                    z.datum_type() != integer,
                    "zero point {name} is {:?}, the tensor is {integer:?}",
                    z.datum_type()
                );
                refuse!(z.rank() > 1, "zero point {name} is of shape {:?}", z.shape());
                let z = z.cast_to::<i32>()?;
                z.try_as_plain_ram()?.as_slice::<i32>()?.to_vec()
            }
        };
        let count = scales.len();
        refuse!(
            zero_points.len() != count && zero_point.is_some(),
            "{scale_name} has {count} scales, but there are {} zero points",
            zero_points.len()
        );
        refuse!(
            integer == i32::datum_type() && zero_points.iter().any(|&z| z != 0),
            "{scale_name} scales i32 with a zero point"
        );
        let rank = shape.rank() as i64;
        let axis = if axis < 0 { axis + rank } else { axis };
        if count > 1 {
            refuse!(!(0..rank).contains(&axis), "{scale_name}: axis {axis} of a tensor of rank {rank}");
            let dim = &shape[axis as usize];
            refuse!(
                dim.to_usize().is_ok_and(|d| d != count),
                "{scale_name} has {count} scales for {dim} channels"
            );
        }
        let zero_points = if zero_points.len() == count { zero_points } else { vec![0; count] };
        Ok(Affine {
            integer,
            scale: scales.into(),
            zero_point: zero_points.into(),
            axis: axis.max(0) as usize,
        })
    }

    /// Scale and zero point of a tensor of bytes that has only one of each.
    pub fn quant(&self) -> Option<Quant> {
        let ty = byte(self.integer)?;
        (self.scale.len() == 1).then(|| Quant { scale: self.scale[0], zero_point: self.zero_point[0], ty })
    }

    /// Number of consecutive elements with the same channel in a tensor of `shape`.
    fn run(&self, shape: &[usize]) -> usize {
        if self.scale.len() == 1 { shape.iter().product() } else { shape[self.axis + 1..].iter().product() }
    }

    fn channels<'a, T>(&'a self, x: &'a [T], run: usize) -> impl Iterator<Item = (&'a [T], f32, i32)> {
        let count = self.scale.len();
        x.chunks(run.max(1)).enumerate().map(move |(i, x)| {
            let c = i % count;
            (x, self.scale[c], self.zero_point[c])
        })
    }

    fn dequantize<T: Copy + Datum>(&self, x: &Tensor, value: impl Fn(T) -> i32) -> TractResult<Tensor> {
        let mut y = Vec::with_capacity(x.len());
        for (x, scale, zero) in self.channels(x.try_as_plain_ram()?.as_slice::<T>()?, self.run(x.shape())) {
            y.extend(x.iter().map(|&q| value(q).wrapping_sub(zero) as f32 * scale));
        }
        Tensor::from_shape(x.shape(), &y)
    }

    fn quantize<T: Copy + Datum>(&self, x: &Tensor, integer: impl Fn(i32) -> T) -> TractResult<Tensor> {
        let (low, high) = byte(self.integer).map_or((i32::MIN, i32::MAX), |b| (b.low(), b.high()));
        let mut y = Vec::with_capacity(x.len());
        for (x, scale, zero) in self.channels(x.try_as_plain_ram()?.as_slice::<f32>()?, self.run(x.shape())) {
            let step = |x: f32| ((x / scale).round_ties_even() as i32).saturating_add(zero).clamp(low, high);
            y.extend(x.iter().map(|&x| integer(step(x))));
        }
        Tensor::from_shape(x.shape(), &y)
    }
}

/// How the bytes of a tensor of this type are read; `None` if it is not of bytes.
pub(super) fn byte(dt: DatumType) -> Option<Byte> {
    match dt {
        DatumType::U8 => Some(Byte::U8),
        DatumType::I8 => Some(Byte::S8),
        _ => None,
    }
}

/// Floats to integers: `clamp(round_ties_even(x / scale) + zero_point)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QuantizeLinear(pub Affine);

/// Integers to floats: `(q - zero_point) * scale`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DequantizeLinear(pub Affine);

impl Op for QuantizeLinear {
    fn name(&self) -> StaticName {
        "QuantizeLinear".into()
    }

    op_as_typed_op!();
}

// Never folded, because the pass must still find it; the pass folds what it leaves.
impl EvalOp for QuantizeLinear {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = args_1!(inputs);
        let y = match self.0.integer {
            DatumType::U8 => self.0.quantize(&x, |q| q as u8)?,
            DatumType::I8 => self.0.quantize(&x, |q| q as i8)?,
            _ => self.0.quantize(&x, |q| q)?,
        };
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for QuantizeLinear {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs[0].datum_type == f32::datum_type(), "quantises {:?}", inputs[0].datum_type);
        Ok(tvec!(self.0.integer.fact(inputs[0].shape.clone())))
    }

    as_op!();
}

impl Op for DequantizeLinear {
    fn name(&self) -> StaticName {
        "DequantizeLinear".into()
    }

    op_as_typed_op!();
}

impl EvalOp for DequantizeLinear {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = args_1!(inputs);
        let y = match x.datum_type() {
            DatumType::U8 => self.0.dequantize(&x, |q: u8| q.into())?,
            DatumType::I8 => self.0.dequantize(&x, |q: i8| q.into())?,
            _ => self.0.dequantize(&x, |q: i32| q)?,
        };
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for DequantizeLinear {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(
            inputs[0].datum_type == self.0.integer,
            "dequantises {:?}, but is made for {:?}",
            inputs[0].datum_type,
            self.0.integer
        );
        Ok(tvec!(f32::fact(inputs[0].shape.clone())))
    }

    as_op!();
}
