//! Values one by one: quantisation with the normalisation before it, and functions of a byte.

use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Div, Max, Min, Mul, Sub};
use tract_onnx::tract_hir::internal::*;

use super::graph::Source;
use super::markers::QuantizeLinear;
use super::ops::*;
use super::plan::{Form, Input, Plan, Planned};
use crate::{ByteMap, Quant};

impl Plan<'_> {
    /// Plans what makes bytes of floats of the graph.
    pub fn quantise(&mut self, bytes: OutletId) -> TractResult<()> {
        let Some(QuantizeLinear(affine)) = self.graph.op(bytes) else { return Ok(()) };
        let Some(quant) = affine.quant() else { return Ok(()) };
        let form = self.form(bytes)?;
        let (mut x, mut steps) = (self.graph.producer(bytes).inputs[0], vec![]);
        while let Some((before, step)) = self.step(x)? {
            // Right before it, a bound that the bytes have anyway, as ReLU before bytes without a
            // sign.
            let (least, most) = real_range(&quant);
            let idle = match step {
                Step::AtLeast(bound) => bound <= least,
                Step::AtMost(bound) => bound >= most,
                _ => false,
            };
            if !(idle && steps.is_empty()) {
                steps.insert(0, step);
            }
            x = before;
        }
        let op = Int8Quantise(Arc::new(Quantise { isa: self.isa, steps, quant }));
        let planned = Planned { op: Some(Box::new(op)), inputs: tvec![Input::Graph(x)], form: Some(form) };
        self.values.insert(bytes, planned);
        Ok(())
    }

    /// A step of a normalisation that makes the value, with what it is made of.
    fn step(&self, outlet: OutletId) -> TractResult<Option<(OutletId, Step)>> {
        let g = &self.graph;
        let shape = g.shape(outlet)?;
        if shape.rank() != 4 || !g.used_once(outlet) {
            return Ok(None);
        }
        if let Some((x, bound)) = g.bounded::<Max>(outlet)? {
            return Ok(Some((x, Step::AtLeast(bound))));
        }
        if let Some((x, bound)) = g.bounded::<Min>(outlet)? {
            return Ok(Some((x, Step::AtMost(bound))));
        }
        let first = |x: Option<(OutletId, OutletId)>| x.filter(|(x, _)| g.producer(outlet).inputs[0] == *x);
        type Make = fn(Vec<f32>) -> Step;
        let found: Option<((OutletId, OutletId), Make)> = None
            .or(g.with_constant::<Add>(outlet).map(|f| (f, Step::Add as Make)))
            .or(g.with_constant::<Mul>(outlet).map(|f| (f, Step::Multiply as Make)))
            .or(first(g.with_constant::<Sub>(outlet)).map(|f| (f, Step::Subtract as Make)))
            .or(first(g.with_constant::<Div>(outlet)).map(|f| (f, Step::Divide as Make)));
        let Some(((x, constant), make)) = found else { return Ok(None) };
        let Some((dims, values)) = g.floats(constant)? else { return Ok(None) };
        let channels = shape[1].to_usize().ok();
        let a_channel_each = dims.len() == 4 && dims[1] == values.len() && channels == Some(values.len());
        Ok(((values.len() == 1 || a_channel_each) && g.shape(x)? == shape).then(|| (x, make(values))))
    }

    /// Bytes that become others one by one, or that stay as they are in another shape.
    pub fn map(
        &mut self,
        outlet: OutletId,
        source: Source,
        output: Quant,
        f: impl Fn(f32) -> TractResult<f32>,
    ) -> TractResult<()> {
        let shape = self.graph.shape(outlet)?;
        let form = self.form(source.bytes)?;
        let own = self.graph.shape(source.bytes)?;
        if shape.first() != own.first() || (form == Form::Plain && shape != own) {
            return Ok(());
        }
        // Each of 256 values once, so that an error can be told.
        let mut reals = [0f32; 256];
        for (bits, real) in reals.iter_mut().enumerate() {
            *real = f(source.quant.dequantize(bits as u8))?;
        }
        let same =
            (0..256).all(|bits| output.quantize(reals[bits]) == bits as u8) && source.quant.ty == output.ty;
        let op: Option<Box<dyn TypedOp>> = if same {
            None
        } else {
            let next = std::cell::Cell::new(0);
            let map = ByteMap::new(source.quant, output, |_| reals[next.replace(next.get() + 1) & 255])?;
            Some(Box::new(Int8Map(Arc::new((map, output)))))
        };
        let inputs = self.claim(&[&source])?;
        self.values.insert(outlet, Planned { op, inputs, form: Some(form) });
        Ok(())
    }

    /// Any function of one value between bytes and bytes, such as a sigmoid.
    pub fn function(&mut self, outlet: OutletId, x: OutletId, output: Quant) -> TractResult<()> {
        let (mut at, mut nodes) = (x, vec![]);
        let source = loop {
            if let Some(source) = self.graph.source(at)? {
                break source;
            }
            let node = self.graph.producer(at);
            let scalar = |slot: usize| {
                let other = node.inputs[1 - slot];
                self.graph.is_constant(other)
                    && self.graph.shape(other).is_ok_and(|s| s.volume().to_usize().ok() == Some(1))
            };
            let slot = match node.op_as::<TypedBinOp>() {
                Some(_) if node.inputs.len() == 2 => (0..2).find(|&slot| scalar(slot)),
                _ if node.op_is::<ElementWiseOp>() => Some(0),
                _ => None,
            };
            let Some(slot) = slot.filter(|_| self.graph.used_once(at) && nodes.len() < 16) else {
                return Ok(());
            };
            nodes.push((node, slot));
            at = node.inputs[slot];
        };
        let rank = source.shape.rank();
        let mut values: TVec<TValue> = tvec!();
        let all: Vec<f32> = (0..=255).map(|bits| source.quant.dequantize(bits)).collect();
        let mut shape = vec![1; rank.max(1) - 1];
        shape.push(256);
        values.push(Tensor::from_shape(&shape, &all)?.into_tvalue());
        for (node, slot) in nodes.iter().rev() {
            let mut inputs = tvec![values.remove(0)];
            if node.inputs.len() == 2 {
                let other = node.inputs[1 - slot];
                let constant = self.graph.constant(other)?.context("a constant without a value")?;
                inputs.insert(1 - slot, constant.into_tvalue());
            }
            values = node.op.eval(&EvalContext::out_of_plan(), inputs)?;
        }
        if values.len() != 1 || values[0].datum_type() != f32::datum_type() || values[0].len() != 256 {
            return Ok(());
        }
        let reals = values[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        let next = std::cell::Cell::new(0);
        self.map(outlet, source, output, |_| Ok(reals[next.replace(next.get() + 1) & 255]))
    }
}

/// The least and the greatest number that bytes stand for.
fn real_range(quant: &Quant) -> (f32, f32) {
    let real = |value: i32| (value - quant.zero_point) as f32 * quant.scale;
    (real(quant.ty.low()), real(quant.ty.high()))
}
