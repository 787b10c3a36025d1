//! tract's ONNX reader, with `QuantizeLinear` and `DequantizeLinear` kept as they stand in the
//! file.
//!
//! tract's own reader folds `DequantizeLinear` of a weight into a float constant while it infers
//! shapes, and turns the scale of `QuantizeLinear` into its reciprocal: afterwards bytes and scales
//! cannot be had back. So the two operators get readers of their own. All else, types and shapes
//! included, stays tract's.

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::infer::InferenceOp;
use tract_onnx::tract_hir::internal::*;

use super::markers::{Affine, DequantizeLinear, QuantizeLinear};

/// What builds an inference operator from a node of the file.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// tract's ONNX reader, except that quantisation survives it: what [`fuse`](super::fuse) and
/// [`unfused`](super::unfused) take. A model read this way has to pass through one of the two.
///
/// Shapes that the file states for values in its middle are not read: quantisers write them with
/// the batch as a symbol, which tract refuses to unify with a batch of one that was set for the
/// input. It infers them itself.
pub fn onnx() -> Onnx {
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
    onnx.op_register.insert("QuantizeLinear", |cx, node| build(cx, node, Direction::Quantize));
    onnx.op_register.insert("DequantizeLinear", |cx, node| build(cx, node, Direction::Dequantize));
    onnx
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Quantize,
    Dequantize,
}

fn build(cx: &ParsingContext, node: &NodeProto, direction: Direction) -> Built {
    let inputs = node.input.iter().filter(|name| !name.is_empty()).count();
    ensure!((2..=3).contains(&inputs), "it has {inputs} inputs, where two or three are allowed");
    if direction == Direction::Quantize && inputs == 2 {
        // Without a zero point this attribute alone says the type; tract's reader does not know it.
        let output = node.get_attr_opt::<i64>("output_dtype")?.unwrap_or(0);
        ensure!(output == 0 || output == 2, "output_dtype {output} without a zero point is not supported");
    }
    let register = tract_onnx::onnx().op_register.0;
    let original = register.get(&node.op_type).context("tract's reader lacks the operator")?;
    let (original, closures) = original(cx, node)?;
    let axis = node.get_attr_opt("axis")?.unwrap_or(1);
    Ok((Box::new(Reader { original, direction, axis }), closures))
}

/// Infers as tract's operator does, but is never folded, and becomes a marker in the typed model.
#[derive(Debug, Clone)]
struct Reader {
    original: Box<dyn InferenceOp>,
    direction: Direction,
    axis: i64,
}

impl PartialEq for Reader {
    fn eq(&self, _: &Reader) -> bool {
        false
    }
}

impl Eq for Reader {}

impl Op for Reader {
    fn name(&self) -> StaticName {
        match self.direction {
            Direction::Quantize => "QuantizeLinear".into(),
            Direction::Dequantize => "DequantizeLinear".into(),
        }
    }

    not_a_typed_op!();
}

impl EvalOp for Reader {
    not_out_of_plan!();
}

impl InferenceOp for Reader {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.original.infer_facts(inputs, outputs, observed)
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let inputs: TVec<OutletId> = node.inputs.iter().map(|i| mapping[i]).collect();
        let name = |slot: usize| {
            let outlet = node.inputs[slot];
            source.outlet_label(outlet).unwrap_or(&source.node(outlet.node).name).to_owned()
        };
        let constant = |slot: usize| target.outlet_fact(inputs[slot]).map(|f| f.konst.clone());
        let scale = constant(1)?.with_context(|| format!("scale {} is computed, not a constant", name(1)))?;
        let zero_point = match inputs.len() {
            2 => None,
            _ => Some(
                constant(2)?
                    .with_context(|| format!("zero point {} is computed, not a constant", name(2)))?,
            ),
        };
        let input = target.outlet_fact(inputs[0])?;
        let bytes = match (self.direction, &zero_point) {
            (Direction::Dequantize, _) => input.datum_type,
            (Direction::Quantize, Some(zero_point)) => zero_point.datum_type(),
            (Direction::Quantize, None) => u8::datum_type(),
        };
        let names = (name(1), if zero_point.is_some() { name(2) } else { String::new() });
        let affine = Affine::new(
            bytes,
            self.axis,
            &input.shape,
            (&names.0, &scale),
            zero_point.as_deref().map(|z| (&*names.1, z)),
        )?;
        let op: Box<dyn TypedOp> = match self.direction {
            Direction::Quantize => Box::new(QuantizeLinear(affine)),
            Direction::Dequantize => Box::new(DequantizeLinear(affine)),
        };
        target.wire_node(&node.name, op, &inputs[..1])
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
}
