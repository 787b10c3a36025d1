//! What is fused: for each value that bytes or a last layer make, the operator that takes its
//! place.

use tract_onnx::tract_core::ops::array::TypedConcat;
use tract_onnx::tract_hir::internal::*;

use super::graph::{Graph, Source};
use super::layers::{Layer, Tail};
use super::markers::QuantizeLinear;
use super::ops::*;
use crate::{ByteMap, Isa, PackedAdd, PoolKind, Quant};

/// How the bytes of a value lie in memory, apart from the shape that the graph gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// As pictures in NHWC order; the shape here is `[N, C, H, W]`. The graph's shape is this one
    /// or another view of it.
    Pictures(ShapeFact),
    /// As the graph says.
    Plain,
}

/// An input of a fused operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Bytes, in the form that [`Plan::form`] says.
    Bytes(OutletId),
    /// A value as the graph has it.
    Graph(OutletId),
}

/// What takes a value's place.
#[derive(Debug)]
pub(super) struct Planned {
    /// The operator; `None` where the bytes of the only input already are the value.
    pub op: Option<Box<dyn TypedOp>>,
    /// What it reads.
    pub inputs: TVec<Input>,
    /// How the result lies; `None` for floats, which are as the graph has them.
    pub form: Option<Form>,
}

/// All that is fused.
pub(super) struct Plan<'a> {
    pub graph: Graph<'a>,
    pub isa: Isa,
    pub values: HashMap<OutletId, Planned>,
    /// Nodes that looked as if they could be fused, and why they were not.
    pub reasons: Vec<(String, String)>,
}

/// A layer that may or may not be fused, with the reason where not.
pub(super) type Fusable<T> = Result<T, String>;

/// A fused operator, the bytes that it reads, and whether it writes pictures.
pub(super) type Found = Fusable<(Box<dyn TypedOp>, TVec<Source>, bool)>;

impl<'a> Plan<'a> {
    /// Finds all that can be fused.
    ///
    /// # Errors
    /// A layer that cannot be computed with these scales, weights or biases, by name.
    pub fn new(model: &'a TypedModel, isa: Isa) -> TractResult<Plan<'a>> {
        let order = model.eval_order()?;
        let graph = Graph::new(model, &order)?;
        let mut plan = Plan { graph, isa, values: HashMap::new(), reasons: vec![] };
        for &id in &order {
            let node = model.node(id);
            if let Some(QuantizeLinear(affine)) = node.op_as() {
                let outlet = OutletId::new(id, 0);
                if let Some(quant) = affine.quant().filter(|_| !plan.graph.is_constant(outlet)) {
                    plan.bytes(outlet, quant).with_context(|| format!("fusing what makes {}", node.name))?;
                }
            }
        }
        for &id in &order {
            let outlet = OutletId::new(id, 0);
            plan.floats(outlet).with_context(|| format!("fusing {}", model.node(id).name))?;
        }
        Ok(plan)
    }

    /// How the bytes of a value lie, or will lie once [`Plan::claim`] has been called.
    pub fn form(&self, bytes: OutletId) -> TractResult<Form> {
        if let Some(planned) = self.values.get(&bytes) {
            return planned.form.clone().context("a value of floats read as bytes");
        }
        let shape = self.graph.shape(bytes)?;
        Ok(if shape.rank() == 4 { Form::Pictures(shape.clone()) } else { Form::Plain })
    }

    /// Sees to it that the bytes are there in their form: quantises, where floats of the graph come
    /// in.
    pub fn claim(&mut self, sources: &[&Source]) -> TractResult<TVec<Input>> {
        for source in sources {
            if !self.values.contains_key(&source.bytes) {
                self.quantise(source.bytes)?;
            }
        }
        Ok(sources.iter().map(|source| Input::Bytes(source.bytes)).collect())
    }

    /// Plans what makes bytes: looks backwards from a `QuantizeLinear`.
    fn bytes(&mut self, outlet: OutletId, output: Quant) -> TractResult<()> {
        let x = self.graph.producer(outlet).inputs[0];
        let shape = self.graph.shape(outlet)?.clone();
        if let Some(source) = self.graph.source(x)? {
            return self.map(outlet, source, output, Ok);
        }
        if !self.graph.used_once(x) {
            return Ok(());
        }
        let tail = Tail::bytes(&self.graph, x, output)?;
        let core = self.graph.unviewed(tail.core);
        if let Some(source) = self.graph.source(core)? {
            let (low, high) = (tail.low, tail.high);
            return self.map(outlet, source, output, |x| Ok(x.clamp(low, high)));
        }
        if core != tail.core && !self.graph.used_once(core) {
            return Ok(());
        }
        let found = match Layer::find(self, core, &tail)? {
            Some(found) => Some(found),
            None => self.pool(core, &tail, output)?,
        };
        if let Some(found) = found {
            return self.settle(outlet, core, found, &shape);
        }
        if let Some([a, b]) = self.graph.sum(core)
            && let (Some(a), Some(b)) = (self.graph.source(a)?, self.graph.source(b)?)
        {
            return self.add(outlet, a, b, &tail, output);
        }
        if self.graph.op::<TypedConcat>(core).is_some() {
            return self.concat(outlet, core, &tail, output);
        }
        self.function(outlet, x, output)
    }

    /// Registers an operator that writes pictures, or the reason why there is none.
    fn settle(
        &mut self,
        outlet: OutletId,
        core: OutletId,
        found: Found,
        shape: &ShapeFact,
    ) -> TractResult<()> {
        let (op, sources, pictures) = match found {
            Ok(found) => found,
            Err(reason) => {
                self.reasons.push((self.graph.producer(core).name.clone(), reason));
                return Ok(());
            }
        };
        let of_core = self.graph.shape(core)?.clone();
        // A view must leave the batch alone, or pictures could not be told apart.
        if shape.first() != of_core.first() {
            return Ok(());
        }
        if !pictures && *shape != of_core {
            return Ok(());
        }
        let form = if pictures { Form::Pictures(of_core) } else { Form::Plain };
        let inputs = self.claim(&sources.iter().collect::<Vec<_>>())?;
        self.values.insert(outlet, Planned { op: Some(op), inputs, form: Some(form) });
        Ok(())
    }

    fn add(&mut self, outlet: OutletId, a: Source, b: Source, tail: &Tail, output: Quant) -> TractResult<()> {
        let shape = self.graph.shape(outlet)?.clone();
        let forms = (self.form(a.bytes)?, self.form(b.bytes)?);
        let own = (self.graph.shape(a.bytes)?, self.graph.shape(b.bytes)?);
        if forms.0 != forms.1 || a.shape != b.shape || own.0 != own.1 || *own.0 != shape {
            return Ok(());
        }
        let add = PackedAdd::for_isa(self.isa, a.quant, b.quant, activation(tail.low, tail.high), output)?;
        let op = Int8Add(Arc::new((add, output)));
        let inputs = self.claim(&[&a, &b])?;
        let planned = Planned { op: Some(Box::new(op)), inputs, form: Some(forms.0) };
        self.values.insert(outlet, planned);
        Ok(())
    }

    fn concat(&mut self, outlet: OutletId, core: OutletId, tail: &Tail, output: Quant) -> TractResult<()> {
        let node = self.graph.producer(core);
        let shape = self.graph.shape(outlet)?.clone();
        if node.op_as::<TypedConcat>().is_none_or(|c| c.axis != 1) || self.graph.shape(core)? != &shape {
            return Ok(());
        }
        let mut sources = vec![];
        for &input in &node.inputs {
            let Some(source) = self.graph.source(input)? else { return Ok(()) };
            if self.form(source.bytes)? != Form::Pictures(source.shape.clone()) {
                return Ok(());
            }
            sources.push(source);
        }
        let map = |s: &Source| ByteMap::new(s.quant, output, |x| x.clamp(tail.low, tail.high));
        let maps = sources.iter().map(map).collect::<crate::Result<Vec<_>>>()?;
        let inputs = self.claim(&sources.iter().collect::<Vec<_>>())?;
        let op = Int8Concat(Arc::new((maps, output)));
        let planned = Planned { op: Some(Box::new(op)), inputs, form: Some(Form::Pictures(shape)) };
        self.values.insert(outlet, planned);
        Ok(())
    }

    /// Plans last layers, which write floats: dense layers and means that no `QuantizeLinear`
    /// follows.
    fn floats(&mut self, outlet: OutletId) -> TractResult<()> {
        if let Some(found) = Layer::find_last(self, outlet)? {
            let (top, found) = found;
            if self.values.contains_key(&top) {
                return Ok(());
            }
            match found {
                Ok((op, source)) => {
                    let inputs = self.claim(&[&source])?;
                    self.values.insert(top, Planned { op: Some(op), inputs, form: None });
                }
                Err(reason) => self.reasons.push((self.graph.producer(outlet).name.clone(), reason)),
            }
            return Ok(());
        }
        if let Some((input, PoolKind::Average)) = self.mean(outlet)?
            && let Some(source) = self.graph.source(input)?
            && self.form(source.bytes)? == Form::Pictures(source.shape.clone())
            && !self.is_covered(outlet)
        {
            let inputs = self.claim(&[&source])?;
            let op: Box<dyn TypedOp> = Box::new(Int8Mean(Arc::new(source.quant)));
            self.values.insert(outlet, Planned { op: Some(op), inputs, form: None });
        }
        Ok(())
    }

    /// Whether all that reads the value is a `QuantizeLinear` that has been fused, views between
    /// them aside.
    pub fn is_covered(&self, outlet: OutletId) -> bool {
        let mut at = outlet;
        loop {
            let [next] = self.graph.model.outlet_successors(at) else { return false };
            if self.graph.model.outputs.contains(&at) {
                return false;
            }
            let next = OutletId::new(next.node, 0);
            if self.values.contains_key(&next) {
                return true;
            }
            if self.graph.unviewed(next) == next && !self.graph.is_clamp(next) {
                return false;
            }
            at = next;
        }
    }
}
