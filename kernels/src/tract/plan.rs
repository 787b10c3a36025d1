//! What is fused: for each value that bytes or a last layer make, the operator that takes its place.

use tract_onnx::tract_core::ops::array::TypedConcat;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{MaxPool, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Div, Mul, Sub};
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer};
use tract_onnx::tract_hir::internal::*;

use super::graph::{Graph, Source};
use super::layers::{Layer, Tail};
use super::markers::QuantizeLinear;
use super::ops::*;
use crate::{ByteMap, Isa, PackedAdd, PackedPool, Pool, PoolKind, Quant};

/// How the bytes of a value lie in memory, apart from the shape that the graph gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// As pictures in NHWC order; the shape here is `[N, C, H, W]`. The graph's shape is this one or another
    /// view of it.
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

    /// Sees to it that the bytes are there in their form: quantises, where floats of the graph come in.
    fn claim(&mut self, sources: &[&Source]) -> TractResult<TVec<Input>> {
        for source in sources {
            if !self.values.contains_key(&source.bytes) {
                self.quantise(source.bytes)?;
            }
        }
        Ok(sources.iter().map(|source| Input::Bytes(source.bytes)).collect())
    }

    fn quantise(&mut self, bytes: OutletId) -> TractResult<()> {
        let Some(QuantizeLinear(affine)) = self.graph.op(bytes) else { return Ok(()) };
        let Some(quant) = affine.quant() else { return Ok(()) };
        let form = self.form(bytes)?;
        let (mut x, mut steps) = (self.graph.producer(bytes).inputs[0], vec![]);
        while let Some((before, step)) = self.step(x)? {
            steps.insert(0, step);
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

    /// Plans what makes bytes: looks backwards from a `QuantizeLinear`.
    fn bytes(&mut self, outlet: OutletId, output: Quant) -> TractResult<()> {
        let x = self.graph.producer(outlet).inputs[0];
        let shape = self.graph.shape(outlet)?.clone();
        if let Some(source) = self.graph.source(x)? {
            return self.map(outlet, source, output, |x| Ok(x));
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

    /// Bytes that become others one by one, or that stay as they are in another shape.
    fn map(
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
    fn function(&mut self, outlet: OutletId, x: OutletId, output: Quant) -> TractResult<()> {
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

    /// Pooling, and the mean over whole pictures.
    fn pool(&self, core: OutletId, tail: &Tail, output: Quant) -> TractResult<Option<Found>> {
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
    fn mean(&self, core: OutletId) -> TractResult<Option<(OutletId, PoolKind)>> {
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

    /// Plans last layers, which write floats: dense layers and means that no `QuantizeLinear` follows.
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

    /// Whether all that reads the value is a `QuantizeLinear` that has been fused, views between them aside.
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
        use tract_onnx::tract_core::ops::cnn::PaddingSpec;
        match &spec.padding {
            PaddingSpec::Explicit(_, after) | PaddingSpec::ExplicitOnnxPool(_, after, _) => {
                after.as_slice() != self.after
            }
            _ => false,
        }
    }
}

/// The window of a convolution or a pool over `[N, C, H, W]`, checked against the shape that tract gives its
/// result.
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
