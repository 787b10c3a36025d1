//! The operators that the pass puts into a model. Bytes lie in NHWC order; `u8` and `i8` are as the file has
//! them.

use std::cell::RefCell;

use tract_onnx::tract_hir::internal::*;

use crate::{
    Activation, ByteMap, Dims, Isa, Output, PackedAdd, PackedConv, PackedPool, Padding, Quant, Scratch,
    dequantize_nhwc, quantize_nchw,
};

use super::markers::byte;

thread_local! {
    // A layer's working memory, shared by all layers that run on the thread.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// The type of tensors that hold these bytes.
pub(super) fn datum(quant: &Quant) -> DatumType {
    match quant.ty {
        crate::Byte::U8 => u8::datum_type(),
        crate::Byte::S8 => i8::datum_type(),
    }
}

/// The bytes of a tensor of `u8` or `i8`.
fn bytes(tensor: &Tensor) -> TractResult<&[u8]> {
    ensure!(byte(tensor.datum_type()).is_some(), "bytes expected, found {:?}", tensor.datum_type());
    Ok(tensor.try_as_plain_ram()?.as_bytes())
}

/// A tensor that a kernel is about to fill.
fn blank(dt: DatumType, shape: &[usize]) -> TractResult<Tensor> {
    // SAFETY: u8, i8 and f32 have no invalid bit patterns; every operator here fills all of it, or fails and
    // drops it. Clearing it first would cost as much as a cheap layer.
    unsafe { Tensor::uninitialized_dt(dt, shape) }
}

fn fill_bytes<R>(tensor: &mut Tensor, fill: impl FnOnce(&mut [u8]) -> R) -> TractResult<R> {
    Ok(fill(tensor.try_as_plain_ram_mut()?.as_bytes_mut()))
}

fn fill_floats<R>(tensor: &mut Tensor, fill: impl FnOnce(&mut [f32]) -> R) -> TractResult<R> {
    Ok(fill(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?))
}

fn nhwc(tensor: &Tensor) -> TractResult<(Dims, usize)> {
    match *tensor.shape() {
        [n, h, w, c] => Ok((Dims::new(n, h, w), c)),
        ref shape => bail!("an NHWC tensor has four dimensions, this one is {shape:?}"),
    }
}

/// `(size + before + after - kernel) / stride + 1`, for sizes that may be symbols.
fn slid(size: &TDim, around: usize, kernel: usize, stride: usize) -> TDim {
    (size.clone() + around as i64 - kernel as i64) / stride as u64 + 1
}

/// Every operator here is compared by identity: two layers with equal weights are still two layers.
macro_rules! operator {
    ($op:ident, $name:literal, $validation:ident) => {
        impl std::fmt::Debug for $op {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($name)
            }
        }

        impl PartialEq for $op {
            fn eq(&self, other: &$op) -> bool {
                Arc::ptr_eq(&self.0, &other.0)
            }
        }

        impl Eq for $op {}

        impl Op for $op {
            fn name(&self) -> StaticName {
                $name.into()
            }

            fn validation(&self) -> Validation {
                Validation::$validation
            }

            op_as_typed_op!();
        }
    };
}

/// A convolution with all that follows it: bias, residual, activation, requantisation.
#[derive(Clone)]
pub(super) struct Int8Conv(pub Arc<PackedConv>);

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

/// A convolution whose result is bounded before a residual is added to it, as in `Conv, Relu, Add`: the
/// kernel adds before it bounds, so here it writes floats, and a second step adds and quantises.
#[derive(Clone)]
pub(super) struct Int8ConvThenAdd(pub Arc<ConvThenAdd>);

/// What [`Int8ConvThenAdd`] does.
pub(super) struct ConvThenAdd {
    /// Writes floats, with the first activation.
    pub conv: PackedConv,
    /// What the second input means.
    pub residual: Quant,
    /// Bounds after the addition.
    pub bounds: (f32, f32),
    /// What the result means.
    pub output: Quant,
}

operator!(Int8ConvThenAdd, "Int8Conv", Rounding);

impl EvalOp for Int8ConvThenAdd {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let it = &*self.0;
        let (dims, _) = nhwc(&inputs[0])?;
        let out = it.conv.out_dims(dims)?;
        let shape = [out.n, out.h, out.w, it.conv.conv().out_channels];
        let mut sum = blank(f32::datum_type(), &shape)?;
        convolve(&it.conv, &inputs[..1], dims, &mut sum)?;
        let residual = bytes(&inputs[1])?;
        ensure!(residual.len() == sum.len(), "the residual is {:?}, not {shape:?}", inputs[1].shape());
        let table: [f32; 256] = std::array::from_fn(|bits| it.residual.dequantize(bits as u8));
        let (low, high) = it.bounds;
        let mut y = blank(datum(&it.output), &shape)?;
        let sum = sum.try_as_plain_ram()?.as_slice::<f32>()?;
        fill_bytes(&mut y, |y| {
            for ((y, &sum), &r) in y.iter_mut().zip(sum).zip(residual) {
                *y = it.output.quantize((sum + table[r as usize]).clamp(low, high));
            }
        })?;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Int8ConvThenAdd {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(datum(&self.0.output).fact(convolved(&self.0.conv, inputs[0])?)))
    }

    as_op!();
}

/// A dense layer: all that follows the batch in its input is one row.
#[derive(Clone)]
pub(super) struct Int8Dense(pub Arc<PackedConv>);

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
pub(super) struct Int8Add(pub Arc<(PackedAdd, Quant)>);

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
pub(super) struct Int8Pool(pub Arc<PackedPool>);

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

/// The mean of each channel over the whole picture, in floats and of shape `[N, C, 1, 1]`: where a graph's last layer stays in float.
#[derive(Clone)]
pub(super) struct Int8Mean(pub Arc<Quant>);

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
pub(super) struct Int8Concat(pub Arc<(Vec<ByteMap>, Quant)>);

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

/// A function of one byte: another scale, or an activation of its own.
#[derive(Clone)]
pub(super) struct Int8Map(pub Arc<(ByteMap, Quant)>);

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

/// A step of a normalisation, for all channels or for each.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Add(Vec<f32>),
    Subtract(Vec<f32>),
    Multiply(Vec<f32>),
    Divide(Vec<f32>),
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
        }
    }
}

/// Floats, NCHW or of any other rank, to bytes; a normalisation before it included.
#[derive(Clone)]
pub(super) struct Int8Quantise(pub Arc<Quantise>);

/// What [`Int8Quantise`] does.
pub(super) struct Quantise {
    /// For which the kernel is chosen.
    pub isa: Isa,
    /// What comes first; only of pictures.
    pub steps: Vec<Step>,
    /// What the bytes mean.
    pub quant: Quant,
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

/// Bytes to floats; pictures become NCHW.
#[derive(Clone)]
pub(super) struct Int8Dequantise(pub Arc<Quant>);

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
pub(super) struct Relayout(pub Arc<Order>);

/// Which way [`Relayout`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
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

/// Padding of a window as tract computed it for a picture.
pub(super) fn padding(before: [usize; 2], after: [usize; 2]) -> Padding {
    Padding { top: before[0], left: before[1], bottom: after[0], right: after[1] }
}

/// Bounds as the kernels take them.
pub(super) fn activation(low: f32, high: f32) -> Activation {
    match (low, high) {
        (f32::NEG_INFINITY, f32::INFINITY) => Activation::None,
        (0.0, f32::INFINITY) => Activation::Relu,
        (min, max) => Activation::Clip { min, max },
    }
}
