//! Pooling, and the windows that slide over pictures.

use tract_onnx::tract_core::ops::cnn::{MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::math::Div;
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer};
use tract_onnx::tract_hir::internal::*;

use super::graph::Source;
use super::layers::Tail;
use super::ops::*;
use super::plan::{Form, Found, Fusable, Plan};
use crate::{PackedPool, Pool, PoolKind, Quant};

impl<'a> Plan<'a> {
    /// Pooling, and the mean over whole pictures.
    pub fn pool(&self, core: OutletId, tail: &Tail, output: Quant) -> TractResult<Option<Found>> {
        let node = self.graph.producer(core);
        let (spec, kind, input): (Option<&PoolSpec>, _, _) =
            if let Some(pool) = node.op_as::<MaxPool>().filter(|_| core.slot == 0) {
                (Some(&pool.pool_spec), PoolKind::Max, node.inputs[0])
            } else if let Some(pool) = node.op_as::<SumPool>().filter(|pool| pool.normalize) {
                let kind = if pool.count_include_pad { PoolKind::AveragePadded } else { PoolKind::Average };
                (Some(&pool.pool_spec), kind, node.inputs[0])
            } else if let Some((input, kind)) = self.mean(core)? {
                (None, kind, input)
            } else {
                return Ok(None);
            };
        let Some(source) = self.graph.source(input)? else { return Ok(None) };
        Ok(Some(self.pooled(spec, kind, source, core, tail, output)?))
    }

    fn pooled(
        &self,
        spec: Option<&PoolSpec>,
        kind: PoolKind,
        source: Source,
        core: OutletId,
        tail: &Tail,
        output: Quant,
    ) -> TractResult<Found> {
        if self.form(source.bytes)? != Form::Pictures(source.shape.clone()) {
            return Ok(Err("its input is not a picture".into()));
        }
        if (tail.low, tail.high) != (f32::NEG_INFINITY, f32::INFINITY) {
            return Ok(Err("an activation follows that is not of its own bytes".into()));
        }
        let Ok(channels) = source.shape[1].to_usize() else {
            return Ok(Err("the number of its channels is not known".into()));
        };
        let mut pool = Pool::global_average(channels, source.quant, output);
        pool.kind = kind;
        if let Some(spec) = spec {
            let window = match window(spec, &source.shape, self.graph.shape(core)?)? {
                Ok(window) => window,
                Err(reason) => return Ok(Err(reason)),
            };
            if kind == PoolKind::AveragePadded && window.is_ceiled(spec) {
                return Ok(Err("its last window reaches past the padding (ceil_mode)".into()));
            }
            pool.kernel = window.kernel;
            pool.stride = window.stride;
            pool.padding = padding(window.before, window.after);
        }
        match PackedPool::for_isa(self.isa, pool) {
            Ok(packed) => {
                let op: Box<dyn TypedOp> = Box::new(Int8Pool(Arc::new(packed)));
                Ok(Ok((op, tvec![source], true)))
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// The mean or the maximum over height and width, as tract writes it.
    pub fn mean(&self, core: OutletId) -> TractResult<Option<(OutletId, PoolKind)>> {
        let g = &self.graph;
        let over_picture = |outlet: OutletId| -> TractResult<Option<(&'a Reduce, OutletId)>> {
            let Some(reduce) = g.op::<Reduce>(outlet) else { return Ok(None) };
            let input = g.producer(outlet).inputs[0];
            Ok((*reduce.axes == [2, 3] && g.shape(input)?.rank() == 4).then_some((reduce, input)))
        };
        if let Some((reduce, input)) = over_picture(core)?
            && reduce.reducer == Reducer::Max
        {
            return Ok(Some((input, PoolKind::Max)));
        }
        let Some((sum, count)) = g.with_constant::<Div>(core) else { return Ok(None) };
        if g.producer(core).inputs[0] != sum || !g.used_once(sum) {
            return Ok(None);
        }
        let Some((reduce, input)) = over_picture(sum)? else { return Ok(None) };
        let shape = g.shape(input)?;
        let pixels = (shape[2].clone() * &shape[3]).to_usize().ok();
        let divides = pixels.is_some_and(|p| p > 0 && g.scalar(count).ok().flatten() == Some(p as f32));
        Ok((divides && reduce.reducer == Reducer::Sum).then_some((input, PoolKind::Average)))
    }
}

/// A sliding window over a picture, with its padding as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub before: [usize; 2],
    pub after: [usize; 2],
}

impl Window {
    /// Whether it goes beyond the padding that the file states.
    fn is_ceiled(&self, spec: &PoolSpec) -> bool {
        match &spec.padding {
            PaddingSpec::Explicit(_, after) | PaddingSpec::ExplicitOnnxPool(_, after, _) => {
                after.as_slice() != self.after
            }
            _ => false,
        }
    }
}

/// The window of a convolution or a pool over `[N, C, H, W]`, checked against the shape that tract
/// gives its result.
pub(super) fn window(spec: &PoolSpec, input: &ShapeFact, output: &ShapeFact) -> TractResult<Fusable<Window>> {
    if spec.data_format != DataFormat::NCHW || spec.kernel_shape.len() != 2 || input.rank() != 4 {
        return Ok(Err("it is not over pictures".into()));
    }
    if spec.dilations().iter().any(|&d| d != 1) {
        return Ok(Err(format!("its dilations are {:?}", spec.dilations())));
    }
    let hw = match (input[2].to_usize(), input[3].to_usize()) {
        (Ok(h), Ok(w)) => [h, w],
        _ => return Ok(Err("the size of its input is not known".into())),
    };
    let padded = spec.computed_padding(&hw);
    let pair = |i: usize| [spec.kernel_shape[i], spec.stride(i), padded[i].pad_before, padded[i].pad_after];
    let ([kh, sh, top, bottom], [kw, sw, left, right]) = (pair(0), pair(1));
    let mut padded_after = [0; 2];
    for (axis, (size, kernel, stride, before, mut after)) in
        [(hw[0], kh, sh, top, bottom), (hw[1], kw, sw, left, right)].into_iter().enumerate()
    {
        if kernel == 0 || stride == 0 {
            return Ok(Err("its window or stride is 0".into()));
        }
        let Ok(out) = output[2 + axis].to_usize() else {
            return Ok(Err("the size of its output is not known".into()));
        };
        let fits = |after: usize| {
            (size + before + after).checked_sub(kernel).is_some_and(|room| room / stride + 1 == out)
        };
        // Pooling with ceil_mode has more windows than its padding makes room for.
        while !fits(after) && after < kernel {
            after += 1;
        }
        if !fits(after) {
            return Ok(Err(format!("{size} padded by {before} and {after} does not give {out}")));
        }
        padded_after[axis] = after;
    }
    Ok(Ok(Window { kernel: [kh, kw], stride: [sh, sw], before: [top, left], after: padded_after }))
}
