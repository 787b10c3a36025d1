//! Finds layers with weights: convolutions and dense layers, with everything around them.

use tract_onnx::tract_core::ops::cnn::{Conv as TractConv, KernelFormat};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math::Add;
use tract_onnx::tract_hir::internal::*;

use super::graph::{Graph, Integers, Source};
use super::ops::*;
use super::plan::{Form, Found, Fusable, Plan};
use super::pools::window;
use crate::{Conv, Output, PackedConv, Quant};

/// What follows a layer's sum.
pub(super) struct Tail {
    /// The value before it.
    pub core: OutletId,
    /// Bounds of the activation, in real units.
    pub low: f32,
    pub high: f32,
    pub output: Output,
}

impl Tail {
    /// For a value that is quantised: with its activation.
    pub fn bytes(graph: &Graph, x: OutletId, output: Quant) -> TractResult<Tail> {
        let (core, low, high) = graph.unclamped(x)?;
        Ok(Tail { core, low, high, output: Output::Bytes(output) })
    }

    /// For a value that stays in float: without an activation.
    fn floats(core: OutletId) -> Tail {
        Tail { core, low: f32::NEG_INFINITY, high: f32::INFINITY, output: Output::F32 }
    }

    fn is_open(&self) -> bool {
        (self.low, self.high) == (f32::NEG_INFINITY, f32::INFINITY)
    }
}

/// A dense layer and its input bytes.
type FoundDense = Fusable<(Box<dyn TypedOp>, Source)>;

/// Looks for layers.
pub(super) struct Layer;

impl Layer {
    /// The layer whose sum, with or without a residual, is `core`.
    pub fn find(plan: &Plan, core: OutletId, tail: &Tail) -> TractResult<Option<Found>> {
        let graph = &plan.graph;
        if graph.op::<TractConv>(core).is_some() {
            return convolution(plan, core, None, tail);
        }
        if let Some([a, b]) = graph.sum(core) {
            for (residual, other) in [(b, a), (a, b)] {
                let Some(residual) = graph.source(residual)? else { continue };
                if !graph.used_once(other) {
                    continue;
                }
                let inner = graph.unclamped(other)?;
                if graph.op::<TractConv>(inner.0).is_some() {
                    return convolution(plan, core, Some((residual, inner)), tail);
                }
            }
        }
        Ok(dense(plan, core, tail)?.map(|found| found.map(|(op, source)| (op, tvec![source], false))))
    }

    /// The dense layer whose product is `outlet`, if it writes floats, with the value that it
    /// computes.
    pub fn find_last(plan: &Plan, outlet: OutletId) -> TractResult<Option<(OutletId, FoundDense)>> {
        let graph = &plan.graph;
        if graph.op::<EinSum>(outlet).is_none() {
            return Ok(None);
        }
        let mut top = outlet;
        let next = |top: OutletId| {
            let [next] = graph.model.outlet_successors(top) else { return None };
            graph.used_once(top).then(|| OutletId::new(next.node, 0))
        };
        if let Some(after) = next(top)
            && graph.scaled(after)?.is_some()
        {
            top = after;
        }
        if let Some(after) = next(top)
            && graph.with_constant::<Add>(after).is_some()
        {
            top = after;
        }
        if plan.is_covered(top) {
            return Ok(None);
        }
        Ok(dense(plan, top, &Tail::floats(top))?.map(|found| (top, found)))
    }
}

/// Weights as signed bytes without a zero point, with their scales.
fn symmetric(weights: &Integers, axis: usize) -> TractResult<Fusable<(Vec<i8>, Vec<f32>)>> {
    let affine = &weights.affine;
    if affine.scale.len() > 1 && affine.axis != axis {
        return Ok(Err(format!("its weights have a scale for each step of axis {}", affine.axis)));
    }
    let values = weights.values.cast_to::<i32>()?;
    let run: usize = values.shape().iter().skip(axis + 1).product();
    let channels = affine.scale.len();
    let signed = values.try_as_plain_ram()?.as_slice::<i32>()?.iter().enumerate();
    let signed = signed.map(|(i, &w)| {
        let zero = affine.zero_point[if channels == 1 { 0 } else { i / run.max(1) % channels }];
        i8::try_from(i64::from(w) - i64::from(zero)).ok()
    });
    Ok(match signed.collect::<Option<Vec<i8>>>() {
        Some(signed) => Ok((signed, affine.scale.to_vec())),
        None => Err("its weights are asymmetric and do not fit in signed bytes".into()),
    })
}

/// The bias, one value per output channel, in real units; `None` if it is not constant or has
/// another shape.
fn bias(graph: &Graph, outlet: OutletId, outputs: usize) -> TractResult<Option<Vec<f32>>> {
    let Some((shape, values)) = graph.floats(outlet)? else { return Ok(None) };
    Ok(match values.len() {
        1 => Some(vec![values[0]; outputs]),
        n if n == outputs && shape.last() == Some(&outputs) => Some(values),
        _ => None,
    })
}

fn pack(plan: &Plan, name: &str, conv: Conv, weights: &[i8], bias: &[f32]) -> TractResult<PackedConv> {
    let pack = || {
        let bias = conv.fold_bias(bias)?;
        PackedConv::for_isa(plan.isa, conv, weights, &bias)
    };
    pack().with_context(|| format!("the layer with the weights {name}"))
}

fn convolution(
    plan: &Plan,
    core: OutletId,
    added: Option<(Source, (OutletId, f32, f32))>,
    tail: &Tail,
) -> TractResult<Option<Found>> {
    let graph = &plan.graph;
    let outlet = added.as_ref().map_or(core, |(_, (outlet, ..))| *outlet);
    let node = graph.producer(outlet);
    let op = node.op_as::<TractConv>().context("no convolution")?;
    let [x, w, b] = node.inputs[..] else { return Ok(None) };
    let (Some(source), Some(integers)) = (graph.source(x)?, graph.integers(w)?) else { return Ok(None) };
    if op.q_params.is_some() || op.kernel_fmt != KernelFormat::OIHW {
        return Ok(Some(Err("its weights are in another order".into())));
    }
    if plan.form(source.bytes)? != Form::Pictures(source.shape.clone()) {
        return Ok(Some(Err("its input is not a picture".into())));
    }
    let shape = graph.shape(outlet)?;
    let window = match window(&op.pool_spec, &source.shape, shape)? {
        Ok(window) => window,
        Err(reason) => return Ok(Some(Err(reason))),
    };
    let (weights, weight_scales) = match symmetric(&integers, 0)? {
        Ok(weights) => weights,
        Err(reason) => return Ok(Some(Err(reason))),
    };
    let Some(bias) = bias(graph, b, op.output_channels())? else {
        return Ok(Some(Err("its bias is not constant".into())));
    };
    let mut conv = Conv {
        stride: window.stride,
        padding: padding(window.before, window.after),
        groups: op.group,
        activation: activation(tail.low, tail.high),
        ..Conv::new(
            op.input_channels(),
            op.output_channels(),
            window.kernel,
            source.quant,
            weight_scales,
            tail.output,
        )
    };
    let name = &graph.producer(graph.producer(w).inputs[0]).name;
    let Some((residual, (_, low, high))) = added else {
        let op = Int8Conv(Arc::new(pack(plan, name, conv, &weights, &bias)?));
        return Ok(Some(Ok((Box::new(op), tvec![source], true))));
    };
    if residual.shape != *shape || plan.form(residual.bytes)? != Form::Pictures(shape.clone()) {
        return Ok(Some(Err("what is added to it is of another shape".into())));
    }
    (conv.residual, conv.inner) = (Some(residual.quant), activation(low, high));
    let op = Box::new(Int8Conv(Arc::new(pack(plan, name, conv, &weights, &bias)?)));
    Ok(Some(Ok((op, tvec![source, residual], true))))
}

/// The weights of a dense layer, before their own transposition, and whether there is one.
fn matrix(graph: &Graph, outlet: OutletId) -> TractResult<Option<(Integers, bool)>> {
    let swapped = matches!(graph.op(outlet), Some(AxisOp::Move(0, 1) | AxisOp::Move(1, 0)));
    let outlet = if swapped { graph.producer(outlet).inputs[0] } else { outlet };
    let integers = graph.integers(outlet)?.filter(|i| i.values.rank() == 2);
    Ok(integers.map(|integers| (integers, swapped)))
}

fn dense(plan: &Plan, core: OutletId, tail: &Tail) -> TractResult<Option<FoundDense>> {
    let graph = &plan.graph;
    let (mut at, mut added, mut alpha) = (core, None, 1.0);
    if let Some((value, constant)) = graph.with_constant::<Add>(at)
        && graph.used_once(value)
    {
        (at, added) = (value, Some(constant));
    }
    if let Some((value, factor)) = graph.scaled(at)?
        && graph.used_once(value)
    {
        (at, alpha) = (value, factor);
    }
    let node = graph.producer(at);
    let (Some(op), [a, b]) = (node.op_as::<EinSum>(), &node.inputs[..]) else { return Ok(None) };
    let (Some(source), Some((integers, swapped))) = (graph.source(*a)?, matrix(graph, *b)?) else {
        return Ok(None);
    };
    let Some(k) = contracted(op).filter(|_| source.shape.rank() == 2) else {
        return Ok(Some(Err("it is no plain product of rows and weights".into())));
    };
    // The axis of the stored weights that is summed over.
    let k = if swapped { 1 - k } else { k };
    let (inputs, outputs) = (integers.values.shape()[k], integers.values.shape()[1 - k]);
    let (stored, mut scales) = match symmetric(&integers, 1 - k)? {
        Ok(weights) => weights,
        Err(reason) => return Ok(Some(Err(reason))),
    };
    if !(alpha > 0.0 && alpha.is_finite()) {
        return Ok(Some(Err(format!("its product is multiplied by {alpha}"))));
    }
    scales.iter_mut().for_each(|s| *s *= alpha);
    let bias = match added {
        None => Some(vec![0.0; outputs]),
        Some(added) => bias(graph, added, outputs)?,
    };
    let Some(bias) = bias else { return Ok(Some(Err("its bias is not one an output".into()))) };
    let own = graph.shape(source.bytes)?;
    let place = match plan.form(source.bytes)? {
        _ if own.first() != source.shape.first() => None,
        Form::Plain => Some(vec![inputs, 1, 1]),
        Form::Pictures(shape) => shape.iter().skip(1).map(|d| d.to_usize().ok()).collect(),
    };
    let Some([channels, height, width]) = place.as_deref() else {
        return Ok(Some(Err("its input is of another shape".into())));
    };
    if channels * height * width != inputs {
        return Ok(Some(Err("its input is of another shape".into())));
    }
    // The graph is in channel order, the bytes are in pixel order.
    let mut weights = Vec::with_capacity(stored.len());
    for output in 0..outputs {
        for pixel in 0..height * width {
            for channel in 0..*channels {
                let input = channel * height * width + pixel;
                weights.push(stored[if k == 1 { output * inputs + input } else { input * outputs + output }]);
            }
        }
    }
    let mut conv = Conv::dense(inputs, outputs, source.quant, scales, tail.output);
    if !tail.is_open() {
        conv.activation = activation(tail.low, tail.high);
    }
    let name = &graph.producer(*b).name;
    let op = Int8Dense(Arc::new(pack(plan, name, conv, &weights, &bias)?));
    Ok(Some(Ok((Box::new(op), source))))
}

/// Which axis of its second operand a matrix product sums over, if the result has the rows of the
/// first and the other axis of the second.
fn contracted(op: &EinSum) -> Option<usize> {
    let at = |io: InOut, axis: usize| op.axes.axis((io, axis)).ok();
    if op.q_params.is_some() || op.axes.rank(InOut::In(0)) != 2 || op.axes.rank(InOut::In(1)) != 2 {
        return None;
    }
    let (rows, summed) = (at(InOut::In(0), 0)?, at(InOut::In(0), 1)?);
    let [k] = summed.inputs[1][..] else { return None };
    let columns = at(InOut::In(1), 1 - k)?;
    let plain = rows.inputs[1].is_empty()
        && *rows.outputs[0] == [0]
        && summed.outputs[0].is_empty()
        && columns.inputs[0].is_empty()
        && *columns.outputs[0] == [1];
    plain.then_some(k)
}
