//! Layers: what a network computes with.

use tract_onnx::tract_hir::internal::*;

use super::{SCRATCH, blank, bytes, datum, fill_bytes, fill_floats, nhwc, slid};
use crate::{ByteMap, Dims, Output, PackedAdd, PackedConv, PackedPool, Quant};

/// A convolution with all that follows it: bias, residual, activation, requantisation.
#[derive(Clone)]
pub(in crate::tract) struct Int8Conv(pub Arc<PackedConv>);

operator!(Int8Conv, "Int8Conv", Rounding);

impl EvalOp for Int8Conv {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (dims, _) = nhwc(&inputs[0])?;
        let conv = self.0.conv();
        let out = self.0.out_dims(dims)?;
        let dt = output_type(&conv.output);
        let mut y = blank(dt, &[out.n, out.h, out.w, conv.out_channels])?;
        convolve(&self.0, &inputs, dims, &mut y)?;
        Ok(tvec!(y.into_tvalue()))
    }
}

fn output_type(output: &Output) -> DatumType {
    match output {
        Output::Bytes(quant) => datum(quant),
        Output::F32 => f32::datum_type(),
    }
}

fn convolve(packed: &PackedConv, inputs: &[TValue], dims: Dims, y: &mut Tensor) -> TractResult<()> {
    let x = bytes(&inputs[0])?;
    let residual = inputs.get(1).map(|r| bytes(r)).transpose()?;
    SCRATCH.with_borrow_mut(|scratch| match packed.conv().output {
        Output::Bytes(_) => fill_bytes(y, |y| packed.run(x, dims, y, residual, scratch)),
        Output::F32 => fill_floats(y, |y| packed.run_f32(x, dims, y, residual, scratch)),
    })??;
    Ok(())
}

impl TypedOp for Int8Conv {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(output_type(&self.0.conv().output).fact(convolved(&self.0, inputs[0])?)))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let conv = self.0.conv();
        let per_output = conv.kernel[0] * conv.kernel[1] * conv.in_channels / conv.groups;
        let outputs: TDim = convolved(&self.0, inputs[0])?.iter().product();
        Ok(tvec!((Cost::FMA(i8::datum_type()), outputs * per_output as i64)))
    }

    as_op!();
}

fn convolved(packed: &PackedConv, input: &TypedFact) -> TractResult<TVec<TDim>> {
    let conv = packed.conv();
    ensure!(input.rank() == 4, "an NHWC tensor has four dimensions, this one is {:?}", input.shape);
    let p = &conv.padding;
    Ok(tvec![
        input.shape[0].clone(),
        slid(&input.shape[1], p.top + p.bottom, conv.kernel[0], conv.stride[0]),
        slid(&input.shape[2], p.left + p.right, conv.kernel[1], conv.stride[1]),
        conv.out_channels.to_dim(),
    ])
}

/// A dense layer: all that follows the batch in its input is one row.
#[derive(Clone)]
pub(in crate::tract) struct Int8Dense(pub Arc<PackedConv>);

operator!(Int8Dense, "Int8Dense", Rounding);

impl EvalOp for Int8Dense {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let conv = self.0.conv();
        let rows = *inputs[0].shape().first().context("a dense layer needs rows")?;
        let mut y = blank(output_type(&conv.output), &[rows, conv.out_channels])?;
        convolve(&self.0, &inputs, Dims::new(rows, 1, 1), &mut y)?;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Int8Dense {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let conv = self.0.conv();
        let shape = tvec![inputs[0].shape[0].clone(), conv.out_channels.to_dim()];
        Ok(tvec!(output_type(&conv.output).fact(shape)))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let conv = self.0.conv();
        let rows = inputs[0].shape[0].clone();
        Ok(tvec!((Cost::FMA(i8::datum_type()), rows * (conv.in_channels * conv.out_channels) as i64)))
    }

    as_op!();
}

/// A sum of two tensors of bytes.
#[derive(Clone)]
pub(in crate::tract) struct Int8Add(pub Arc<(PackedAdd, Quant)>);

operator!(Int8Add, "Int8Add", Rounding);

impl EvalOp for Int8Add {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (add, quant) = &*self.0;
        let mut y = blank(datum(quant), inputs[0].shape())?;
        let (a, b) = (bytes(&inputs[0])?, bytes(&inputs[1])?);
        fill_bytes(&mut y, |y| add.run(a, b, y))??;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Int8Add {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(datum(&self.0.1).fact(inputs[0].shape.clone())))
    }

    as_op!();
}

/// Max or average pooling, also over the whole picture.
#[derive(Clone)]
pub(in crate::tract) struct Int8Pool(pub Arc<PackedPool>);

operator!(Int8Pool, "Int8Pool", Rounding);

impl EvalOp for Int8Pool {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (dims, c) = nhwc(&inputs[0])?;
        let out = self.0.out_dims(dims)?;
        let mut y = blank(datum(&self.0.pool().output), &[out.n, out.h, out.w, c])?;
        let x = bytes(&inputs[0])?;
        SCRATCH.with_borrow_mut(|scratch| fill_bytes(&mut y, |y| self.0.run(x, dims, y, scratch)))??;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Int8Pool {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let pool = self.0.pool();
        let x = &inputs[0].shape;
        ensure!(x.rank() == 4, "an NHWC tensor has four dimensions, this one is {x:?}");
        let p = &pool.padding;
        let [h, w] = match pool.kernel {
            [0, 0] => [1.to_dim(), 1.to_dim()],
            [kh, kw] => [
                slid(&x[1], p.top + p.bottom, kh, pool.stride[0]),
                slid(&x[2], p.left + p.right, kw, pool.stride[1]),
            ],
        };
        Ok(tvec!(datum(&pool.output).fact(tvec![x[0].clone(), h, w, x[3].clone()])))
    }

    as_op!();
}

/// The mean of each channel over the whole picture, in floats and of shape `[N, C, 1, 1]`: where a
/// graph's last layer stays in float.
#[derive(Clone)]
pub(in crate::tract) struct Int8Mean(pub Arc<Quant>);

operator!(Int8Mean, "Int8Mean", Rounding);

impl EvalOp for Int8Mean {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (dims, c) = nhwc(&inputs[0])?;
        let quant = &*self.0;
        let pixels = dims.h * dims.w;
        ensure!(pixels > 0 && c > 0, "the mean of a picture of {}x{} with {c} channels", dims.w, dims.h);
        let mut sums = vec![0i64; c];
        let mut y = Vec::with_capacity(dims.n * c);
        for picture in bytes(&inputs[0])?.chunks_exact(pixels * c) {
            sums.fill(0);
            for pixel in picture.chunks_exact(c) {
                for (sum, &bits) in sums.iter_mut().zip(pixel) {
                    *sum += i64::from(quant.ty.value(bits) - quant.zero_point);
                }
            }
            y.extend(sums.iter().map(|&s| (s as f64 * f64::from(quant.scale) / pixels as f64) as f32));
        }
        Ok(tvec!(Tensor::from_shape(&[dims.n, c, 1, 1], &y)?.into_tvalue()))
    }
}

impl TypedOp for Int8Mean {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let x = &inputs[0].shape;
        ensure!(x.rank() == 4, "an NHWC tensor has four dimensions, this one is {x:?}");
        Ok(tvec!(f32::fact(tvec![x[0].clone(), x[3].clone(), 1.to_dim(), 1.to_dim()])))
    }

    as_op!();
}

/// Channels of several pictures one after another, each first mapped to the meaning of the result.
#[derive(Clone)]
pub(in crate::tract) struct Int8Concat(pub Arc<(Vec<ByteMap>, Quant)>);

operator!(Int8Concat, "Int8Concat", Rounding);

impl EvalOp for Int8Concat {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (maps, quant) = &*self.0;
        let (dims, _) = nhwc(&inputs[0])?;
        let widths = inputs.iter().map(|x| Ok(nhwc(x)?.1)).collect::<TractResult<TVec<usize>>>()?;
        let all: usize = widths.iter().sum();
        let mut y = blank(datum(quant), &[dims.n, dims.h, dims.w, all])?;
        let mut start = 0;
        for ((x, &c), map) in inputs.iter().zip(&widths).zip(maps) {
            let (other, _) = nhwc(x)?;
            ensure!(other == dims, "{:?} beside {:?}", x.shape(), inputs[0].shape());
            let x = bytes(x)?;
            fill_bytes(&mut y, |y| {
                y.chunks_exact_mut(all)
                    .zip(x.chunks_exact(c))
                    .try_for_each(|(y, x)| map.run(x, &mut y[start..start + c]))
            })??;
            start += c;
        }
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Int8Concat {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        ensure!(inputs.iter().all(|x| x.rank() == 4), "NHWC tensors have four dimensions");
        shape[3] = inputs.iter().map(|x| x.shape[3].clone()).sum();
        Ok(tvec!(datum(&self.0.1).fact(shape)))
    }

    as_op!();
}
