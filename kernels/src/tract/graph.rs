//! Queries of the pass about a typed model: which node computes a value, whether it is constant,
//! whether it is just another view of bytes.

use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::math::{Add, Max, Min, Mul};
use tract_onnx::tract_hir::internal::*;

use super::markers::{Affine, DequantizeLinear};
use crate::quant::Quant;

/// Longest chain of nodes that computes a constant; a longer one does not count as constant.
const CONSTANT_DEPTH: usize = 64;

/// Bytes with their meaning: what an operand of a fused operator is.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The value that holds the bytes, in the model as it was read.
    pub bytes: OutletId,
    /// What they mean, as the `DequantizeLinear` says that reads them.
    pub quant: Quant,
    /// Their shape for the operator: that of `bytes` or another view of it.
    pub shape: ShapeFact,
}

/// A constant weight: integers with their meaning.
#[derive(Debug, Clone)]
pub(super) struct Integers {
    /// The integers, as the file has them.
    pub values: Arc<Tensor>,
    /// What they mean.
    pub affine: Affine,
}

/// The model being analysed.
pub(super) struct Graph<'a> {
    pub model: &'a TypedModel,
    /// For each node, whether its value is the same in every run.
    constant: Vec<bool>,
}

impl<'a> Graph<'a> {
    pub fn new(model: &'a TypedModel, order: &[usize]) -> TractResult<Graph<'a>> {
        let mut constant = vec![false; model.nodes.len()];
        let mut depth = vec![0; model.nodes.len()];
        for &id in order {
            let node = model.node(id);
            let behind = node.inputs.iter().map(|i| depth[i.node]).max().unwrap_or(0) + 1;
            depth[id] = behind;
            constant[id] = node.op_is::<Const>()
                || (!node.inputs.is_empty()
                    && behind <= CONSTANT_DEPTH
                    && node.inputs.iter().all(|i| constant[i.node])
                    && node.op.state(&EvalContext::out_of_plan())?.is_none());
        }
        Ok(Graph { model, constant })
    }

    pub fn producer(&self, outlet: OutletId) -> &'a TypedNode {
        self.model.node(outlet.node)
    }

    pub fn op<T: Op>(&self, outlet: OutletId) -> Option<&'a T> {
        self.producer(outlet).op_as::<T>()
    }

    pub fn shape(&self, outlet: OutletId) -> TractResult<&'a ShapeFact> {
        Ok(&self.model.outlet_fact(outlet)?.shape)
    }

    /// Whether exactly one node reads the value, and it is not an output.
    pub fn used_once(&self, outlet: OutletId) -> bool {
        self.model.outlet_successors(outlet).len() == 1 && !self.model.outputs.contains(&outlet)
    }

    /// Whether the value is the same in every run.
    pub fn is_constant(&self, outlet: OutletId) -> bool {
        self.constant[outlet.node]
    }

    /// The value if it is the same in every run; it is computed if necessary.
    pub fn constant(&self, outlet: OutletId) -> TractResult<Option<Arc<Tensor>>> {
        if !self.is_constant(outlet) {
            return Ok(None);
        }
        if let Some(konst) = &self.model.outlet_fact(outlet)?.konst {
            return Ok(Some(konst.clone()));
        }
        let node = self.producer(outlet);
        let mut inputs = tvec!();
        for &input in &node.inputs {
            let Some(value) = self.constant(input)? else { return Ok(None) };
            inputs.push(value.into_tvalue());
        }
        let values = node.op.eval(&EvalContext::out_of_plan(), inputs);
        let mut values = values.with_context(|| format!("computing the constant {}", node.name))?;
        ensure!(outlet.slot < values.len(), "{} has no output {}", node.name, outlet.slot);
        Ok(Some(values.swap_remove(outlet.slot).into_arc_tensor()))
    }

    /// The value as floats, if it is constant.
    pub fn floats(&self, outlet: OutletId) -> TractResult<Option<(TVec<usize>, Vec<f32>)>> {
        let Some(value) = self.constant(outlet)? else { return Ok(None) };
        if value.datum_type() != f32::datum_type() {
            return Ok(None);
        }
        Ok(Some((value.shape().into(), value.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())))
    }

    /// The float of a one-element constant.
    pub fn scalar(&self, outlet: OutletId) -> TractResult<Option<f32>> {
        Ok(self.floats(outlet)?.and_then(|(_, values)| match values[..] {
            [value] => Some(value),
            _ => None,
        }))
    }

    /// The constant integers behind a `DequantizeLinear`.
    pub fn integers(&self, outlet: OutletId) -> TractResult<Option<Integers>> {
        let Some(DequantizeLinear(affine)) = self.op(outlet) else { return Ok(None) };
        let values = self.constant(self.producer(outlet).inputs[0])?;
        Ok(values.map(|values| Integers { values, affine: affine.clone() }))
    }

    /// The value before operators that only change its shape, such as `Flatten`, which keep the
    /// order of its elements.
    pub fn unviewed(&self, mut outlet: OutletId) -> OutletId {
        loop {
            let node = self.producer(outlet);
            let same = match node.op_as::<AxisOp>() {
                Some(AxisOp::Move(..)) => false,
                Some(_) => true,
                None => node.op_is::<Identity>() || self.is_no_cast(node),
            };
            if !same {
                return outlet;
            }
            outlet = node.inputs[0];
        }
    }

    fn is_no_cast(&self, node: &TypedNode) -> bool {
        let from = self.model.outlet_fact(node.inputs.first().copied().unwrap_or(OutletId::new(node.id, 0)));
        node.op_as::<Cast>().is_some_and(|cast| from.is_ok_and(|fact| fact.datum_type == cast.to))
    }

    /// The bytes behind a float value, if it consists of dequantised bytes.
    pub fn source(&self, outlet: OutletId) -> TractResult<Option<Source>> {
        let origin = self.unviewed(outlet);
        let Some(DequantizeLinear(affine)) = self.op(origin) else { return Ok(None) };
        let bytes = self.producer(origin).inputs[0];
        if self.is_constant(bytes) {
            return Ok(None);
        }
        let shape = self.shape(outlet)?.clone();
        Ok(affine.quant().map(|quant| Source { bytes, quant, shape }))
    }

    /// Both operands of a binary operator, if it is the given one.
    pub fn binary<T: BinMiniOp>(&self, outlet: OutletId) -> Option<[OutletId; 2]> {
        let node = self.producer(outlet);
        let op = node.op_as::<TypedBinOp>()?;
        (op.0.is::<T>() && node.inputs.len() == 2).then(|| [node.inputs[0], node.inputs[1]])
    }

    /// A binary operator with one constant operand: the other one, and the constant's position.
    pub fn with_constant<T: BinMiniOp>(&self, outlet: OutletId) -> Option<(OutletId, OutletId)> {
        let [a, b] = self.binary::<T>(outlet)?;
        if self.is_constant(a) {
            return (!self.is_constant(b)).then_some((b, a));
        }
        self.is_constant(b).then_some((a, b))
    }

    /// The value before `Relu` and `Clip`, and the bounds that they set. Nothing else reads the
    /// values in between.
    pub fn unclamped(&self, mut outlet: OutletId) -> TractResult<(OutletId, f32, f32)> {
        let (mut low, mut high) = (f32::NEG_INFINITY, f32::INFINITY);
        loop {
            if let Some((value, bound)) = self.bounded::<Max>(outlet)? {
                // The bounds found so far apply after this one.
                low = low.max(bound).min(high);
                outlet = value;
            } else if let Some((value, bound)) = self.bounded::<Min>(outlet)? {
                high = high.min(bound).max(low);
                outlet = value;
            } else if self.is_no_cast(self.producer(outlet))
                && self.used_once(self.producer(outlet).inputs[0])
            {
                outlet = self.producer(outlet).inputs[0];
            } else {
                return Ok((outlet, low, high));
            }
        }
    }

    /// A bound on a value that nothing else reads, as half of `Clip`.
    pub fn bounded<T: BinMiniOp>(&self, outlet: OutletId) -> TractResult<Option<(OutletId, f32)>> {
        let Some((value, bound)) = self.with_constant::<T>(outlet) else { return Ok(None) };
        let bound = self.scalar(bound)?.filter(|bound| !bound.is_nan());
        Ok(bound.filter(|_| self.used_once(value)).map(|bound| (value, bound)))
    }

    /// Whether the value is another one with a bound.
    pub fn is_clamp(&self, outlet: OutletId) -> bool {
        self.with_constant::<Max>(outlet).or_else(|| self.with_constant::<Min>(outlet)).is_some()
    }

    /// The two operands of a sum.
    pub fn sum(&self, outlet: OutletId) -> Option<[OutletId; 2]> {
        self.binary::<Add>(outlet)
    }

    /// A product with a one-element constant: the other operand and the constant's value.
    pub fn scaled(&self, outlet: OutletId) -> TractResult<Option<(OutletId, f32)>> {
        let Some((value, factor)) = self.with_constant::<Mul>(outlet) else { return Ok(None) };
        Ok(self.scalar(factor)?.map(|factor| (value, factor)))
    }
}
