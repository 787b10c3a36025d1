//! Builds the new model: fused operators where the plan has them, everything else unchanged.

use std::collections::HashSet;

use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_hir::internal::*;

use super::graph::Graph;
use super::markers::{DequantizeLinear, QuantizeLinear};
use super::ops::*;
use super::plan::{Form, Input, Plan};

/// The form in which the new model needs a value of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Need {
    /// As in the graph.
    Graph(OutletId),
    /// Its bytes in the form of the plan.
    Bytes(OutletId),
}

impl From<Input> for Need {
    fn from(input: Input) -> Need {
        match input {
            Input::Bytes(outlet) => Need::Bytes(outlet),
            Input::Graph(outlet) => Need::Graph(outlet),
        }
    }
}

pub(super) struct Emitter<'p, 'a> {
    plan: &'p mut Plan<'a>,
    target: TypedModel,
    done: HashMap<Need, OutletId>,
    /// The new model's operators that are tract's, by the name of their node.
    pub left: Vec<(String, String)>,
}

impl<'p, 'a> Emitter<'p, 'a> {
    pub fn new(plan: &'p mut Plan<'a>) -> Emitter<'p, 'a> {
        let source = plan.graph.model;
        let target = TypedModel {
            symbols: source.symbols.clone(),
            properties: source.properties.clone(),
            ..Default::default()
        };
        Emitter { plan, target, done: HashMap::new(), left: vec![] }
    }

    /// The new model and, by node name, the operators in it that are tract's.
    pub fn run(mut self) -> TractResult<(TypedModel, Vec<(String, String)>)> {
        let model = self.plan.graph.model;
        let needs = self.needs()?;
        for &input in &model.inputs {
            let node = model.node(input.node);
            let made = self.target.add_source(&node.name, model.outlet_fact(input)?.clone())?;
            self.done.insert(Need::Graph(input), made);
        }
        for id in model.eval_order()? {
            let node = model.node(id);
            let outlets = (0..node.outputs.len()).map(|slot| OutletId::new(id, slot));
            let wanted: Vec<OutletId> = outlets
                .filter(|&o| needs.contains(&Need::Graph(o)) || needs.contains(&Need::Bytes(o)))
                .collect();
            if !wanted.is_empty() {
                self.node(node, &wanted, &needs).with_context(|| format!("rewriting {}", node.name))?;
            }
        }
        let outputs = model.outputs.iter().map(|o| self.done[&Need::Graph(*o)]).collect::<TVec<_>>();
        self.target.select_output_outlets(&outputs)?;
        for (outlet, label) in &model.outlet_labels {
            if let Some(new) = self.done.get(&Need::Graph(*outlet)) {
                self.target.outlet_labels.entry(*new).or_insert_with(|| label.clone());
            }
        }
        Ok((self.target, self.left))
    }

    /// What a need is made of.
    fn behind(&self, need: Need) -> TVec<Need> {
        let graph = &self.plan.graph;
        match need {
            Need::Graph(outlet) | Need::Bytes(outlet) if graph.is_constant(outlet) => {
                if matches!(need, Need::Bytes(_)) { tvec![Need::Graph(outlet)] } else { tvec![] }
            }
            Need::Bytes(outlet) => match self.plan.values.get(&outlet) {
                Some(planned) => planned.inputs.iter().map(|&i| i.into()).collect(),
                None => tvec![Need::Graph(outlet)],
            },
            Need::Graph(outlet) => match self.plan.values.get(&outlet) {
                Some(planned) if planned.form.is_some() => tvec![Need::Bytes(outlet)],
                Some(planned) => planned.inputs.iter().map(|&i| i.into()).collect(),
                None => match self.dequantised(outlet) {
                    Some(bytes) => tvec![Need::Bytes(bytes)],
                    None => graph.producer(outlet).inputs.iter().map(|&i| Need::Graph(i)).collect(),
                },
            },
        }
    }

    /// The fused bytes that a float value is dequantised from.
    fn dequantised(&self, outlet: OutletId) -> Option<OutletId> {
        let DequantizeLinear(affine) = self.plan.graph.op(outlet)?;
        let bytes = self.plan.graph.producer(outlet).inputs[0];
        (affine.quant().is_some() && self.plan.values.contains_key(&bytes)).then_some(bytes)
    }

    fn needs(&self) -> TractResult<HashSet<Need>> {
        let mut open: Vec<Need> = self.plan.graph.model.outputs.iter().map(|&o| Need::Graph(o)).collect();
        let mut needs = HashSet::new();
        while let Some(need) = open.pop() {
            if needs.insert(need) {
                open.extend(self.behind(need));
            }
        }
        Ok(needs)
    }

    fn node(&mut self, node: &TypedNode, wanted: &[OutletId], needs: &HashSet<Need>) -> TractResult<()> {
        let first = OutletId::new(node.id, 0);
        let as_bytes = |o: &OutletId| needs.contains(&Need::Bytes(*o));
        let as_graph = |o: &OutletId| needs.contains(&Need::Graph(*o));
        if self.plan.graph.is_constant(first) {
            for &outlet in wanted {
                let value = self.plan.graph.constant(outlet)?.context("a constant without a value")?;
                let made = self.target.add_const(format!("{}.{}", node.name, outlet.slot), value)?;
                self.done.insert(Need::Graph(outlet), made);
            }
        } else if let Some(planned) = self.plan.values.get_mut(&first) {
            let inputs: TVec<OutletId> =
                planned.inputs.iter().map(|&input| self.done[&Need::from(input)]).collect();
            let made = match planned.op.take() {
                Some(op) => self.target.wire_node(&node.name, op, &inputs)?[0],
                None => inputs[0],
            };
            if planned.form.is_none() {
                // Shapes may differ in axes of size one, which a dense layer does not have.
                let shape = self.plan.graph.shape(first)?.clone();
                let made = self.viewed(&node.name, made, &shape)?;
                self.done.insert(Need::Graph(first), made);
                return Ok(());
            }
            self.done.insert(Need::Bytes(first), made);
            if as_graph(&first) {
                let made = self.restored(&node.name, first, made)?;
                self.done.insert(Need::Graph(first), made);
            }
            return Ok(());
        } else if let Some(bytes) = self.dequantised(first) {
            let made = self.dequantise(node, bytes)?;
            self.done.insert(Need::Graph(first), made);
            return Ok(());
        } else if !node.op_is::<TypedSource>() {
            let inputs: TVec<OutletId> = node.inputs.iter().map(|i| self.done[&Need::Graph(*i)]).collect();
            let made = self.target.wire_node(&node.name, node.op.clone(), &inputs)?;
            let changes_nothing = node.op_is::<AxisOp>() || node.op_is::<Const>();
            let quantises = node.op_is::<QuantizeLinear>() || node.op_is::<DequantizeLinear>();
            if !changes_nothing && !quantises {
                self.left.push((node.op.name().into_owned(), node.name.clone()));
            }
            for (slot, made) in made.into_iter().enumerate() {
                self.done.insert(Need::Graph(OutletId::new(node.id, slot)), made);
            }
        }
        for &outlet in wanted.iter().filter(|o| as_bytes(o)) {
            let made = self.done[&Need::Graph(outlet)];
            let made = match self.plan.form(outlet)? {
                Form::Plain => made,
                Form::Pictures(_) => {
                    let name = format!("{}.nhwc", node.name);
                    self.target.wire_node(name, Relayout(Arc::new(Order::ToNhwc)), &[made])?[0]
                }
            };
            self.done.insert(Need::Bytes(outlet), made);
        }
        Ok(())
    }

    /// A value of the new model with the shape that the graph gives it.
    fn viewed(&mut self, name: &str, made: OutletId, shape: &ShapeFact) -> TractResult<OutletId> {
        let have = self.target.outlet_fact(made)?.shape.to_tvec();
        let want = shape.to_tvec();
        if have == want {
            return Ok(made);
        }
        let name = format!("{name}.shape");
        Ok(self.target.wire_node(name, AxisOp::Reshape(0, have, want), &[made])?[0])
    }

    /// The plan's bytes in the graph's form.
    fn restored(&mut self, name: &str, bytes: OutletId, made: OutletId) -> TractResult<OutletId> {
        if self.plan.form(bytes)? == Form::Plain {
            return Ok(made);
        }
        let made =
            self.target.wire_node(format!("{name}.nchw"), Relayout(Arc::new(Order::ToNchw)), &[made])?[0];
        let shape = self.plan.graph.shape(bytes)?.clone();
        self.viewed(name, made, &shape)
    }

    fn dequantise(&mut self, node: &TypedNode, bytes: OutletId) -> TractResult<OutletId> {
        let DequantizeLinear(affine) = node.op_as().context("no DequantizeLinear")?;
        let quant = affine.quant().context("bytes with several scales")?;
        let made = self.done[&Need::Bytes(bytes)];
        let made = self.target.wire_node(&node.name, Int8Dequantise(Arc::new(quant)), &[made])?[0];
        let shape = self.plan.graph.shape(OutletId::new(node.id, 0))?.clone();
        self.viewed(&node.name, made, &shape)
    }
}

/// The model with its constants computed and nothing fused.
pub(super) fn plain(model: &TypedModel, graph: Graph, isa: crate::Isa) -> TractResult<TypedModel> {
    debug_assert!(std::ptr::eq(graph.model, model));
    let mut plan = Plan { graph, isa, values: HashMap::new(), reasons: vec![] };
    Ok(Emitter::new(&mut plan).run()?.0)
}
