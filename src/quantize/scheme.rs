//! Decides which values of a float graph become bytes, so that every layer that can run in int8
//! does, and chains such as `Conv, Add, Relu` stay intact, with bytes as input and output.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::error::QuantizeError;
use super::graph::Graph;
use super::pixels::OFFSET;
use super::simplify::Layer;

/// How a residual addition is quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residual {
    /// The addition belongs to the convolution before it, whose sum is not rounded in between:
    /// `Conv, Add, Relu` is one operator.
    #[default]
    Fused,
    /// Both summands are bytes, for runtimes that add in a separate operator.
    Apart,
}

/// What is quantised.
#[derive(Debug, Clone, Default)]
pub(super) struct Scheme {
    /// Values that become bytes, each with the value whose range it shares.
    pub values: BTreeMap<String, String>,
    /// Values in the order in which they are computed.
    pub order: Vec<String>,
    /// Convolutions and dense layers that run in int8, by the name of their node.
    pub layers: Vec<String>,
    /// Operators that stay in float although their inputs are bytes, or that could run in int8
    /// except for the stated reason.
    pub float: Vec<String>,
}

/// How the quantiser treats a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Has weights.
    Layer,
    /// Adds two computed values.
    Add,
    /// Computes on bytes and has its own range: means, concatenation.
    Computes,
    /// Outputs the same bytes in other places.
    Moves,
    /// Can be part of the layer before it.
    Activation,
    /// Stays in float.
    Float,
}

fn kind(graph: &Graph, at: usize) -> Kind {
    let node = &graph.nodes[at];
    match node.op_type.as_str() {
        "Conv" | "Gemm" if Layer::of(graph, at).is_some() && graph.activations(node).count() == 1 => {
            Kind::Layer
        }
        "Add" if graph.activations(node).count() == 2 => Kind::Add,
        "GlobalAveragePool" | "AveragePool" | "Concat" => Kind::Computes,
        "MaxPool" | "Flatten" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" => Kind::Moves,
        "Pad" => {
            let mode = node.get_attr_opt::<String>("mode").ok().flatten().unwrap_or_default();
            if matches!(mode.as_str(), "edge" | "reflect") { Kind::Moves } else { Kind::Float }
        }
        "Relu" | "Clip" if graph.activations(node).count() == 1 => Kind::Activation,
        _ => Kind::Float,
    }
}

struct Walk<'a> {
    graph: &'a Graph,
    kinds: Vec<Kind>,
    /// Additions that belong to a convolution.
    claimed: HashSet<usize>,
}

impl Walk<'_> {
    /// The last value of the chain that begins with the output of a node.
    fn end(&self, at: usize, claims: Option<usize>) -> String {
        let graph = self.graph;
        let mut value = graph.nodes[at].output[0].clone();
        while let Some(next) = graph.only_consumer(&value) {
            let inside = match self.kinds[next] {
                Kind::Activation => true,
                Kind::Add => claims == Some(next),
                _ => false,
            };
            if !inside {
                break;
            }
            value.clone_from(&graph.nodes[next].output[0]);
        }
        value
    }

    /// The addition that a convolution can absorb: the next node, apart from activations.
    fn addition(&self, at: usize) -> Option<usize> {
        let next = self.graph.only_consumer(&self.end(at, None))?;
        (self.kinds[next] == Kind::Add && !self.claimed.contains(&next)).then_some(next)
    }

    /// Whether any of the operators that a value leads to runs in int8.
    fn feeds_bytes(&self, value: &str) -> bool {
        self.graph.consumers(value).into_iter().any(|at| match self.kinds[at] {
            Kind::Layer | Kind::Add | Kind::Computes => true,
            _ => self.graph.nodes[at].output.iter().any(|o| self.feeds_bytes(o)),
        })
    }

    /// Whether an operator that runs in int8 reads the value, directly or moved.
    fn read_as_bytes(&self, value: &str) -> bool {
        self.graph.consumers(value).into_iter().any(|at| match self.kinds[at] {
            Kind::Layer | Kind::Add | Kind::Computes => true,
            Kind::Moves => self.read_as_bytes(&self.graph.nodes[at].output[0]),
            _ => false,
        })
    }
}

/// Makes the decision. Layers in `keep` stay in float.
///
/// # Errors
/// [`QuantizeError::NoLayer`] for an unknown name, [`QuantizeError::Nothing`] if nothing can run in
/// int8.
pub(super) fn scheme(graph: &Graph, residual: Residual, keep: &[String]) -> Result<Scheme, QuantizeError> {
    let mut kinds: Vec<Kind> = (0..graph.nodes.len()).map(|at| kind(graph, at)).collect();
    for name in keep {
        let found = graph.nodes.iter().position(|n| n.name == *name || n.output.contains(name));
        let Some(at) = found else {
            let layers = graph.nodes.iter().zip(&kinds).filter(|(_, k)| **k == Kind::Layer);
            let layers = layers.map(|(n, _)| n.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(QuantizeError::NoLayer { name: name.clone(), layers });
        };
        kinds[at] = Kind::Float;
    }
    if !kinds.contains(&Kind::Layer) {
        return Err(QuantizeError::Nothing);
    }
    let mut walk = Walk { graph, kinds, claimed: HashSet::new() };
    // The last convolution before an addition absorbs it: by then the other summand has been
    // computed.
    let mut claims = BTreeMap::new();
    if residual == Residual::Fused {
        for at in (0..graph.nodes.len()).rev() {
            let conv = walk.kinds[at] == Kind::Layer && graph.nodes[at].op_type == "Conv";
            if let (true, Some(addition)) = (conv, walk.addition(at)) {
                walk.claimed.insert(addition);
                claims.insert(at, addition);
            }
        }
    }
    let mut bytes: BTreeSet<String> = BTreeSet::new();
    let computed = |input: &String| !input.is_empty() && !graph.constants.contains_key(input);
    for (at, node) in graph.nodes.iter().enumerate() {
        let kind = walk.kinds[at];
        // Inputs; inside a chain they are not rounded.
        if matches!(kind, Kind::Layer | Kind::Add | Kind::Computes) {
            for input in node.input.iter().filter(|i| computed(i)) {
                let chained = walk.claimed.contains(&at)
                    && claims.iter().any(|(conv, add)| *add == at && walk.end(*conv, None) == *input);
                if !chained {
                    bytes.insert(input.clone());
                }
            }
        }
        // Outputs of what runs in int8, if something in int8 follows.
        let ends = match kind {
            Kind::Layer => Some(walk.end(at, claims.get(&at).copied())),
            Kind::Add if !walk.claimed.contains(&at) => Some(walk.end(at, None)),
            Kind::Computes => Some(walk.end(at, None)),
            _ => None,
        };
        if let Some(end) = ends.filter(|end| walk.feeds_bytes(end)) {
            bytes.insert(end);
        }
    }
    let mut scheme = Scheme::default();
    if bytes.contains(&graph.input) {
        let input = graph.input.clone();
        scheme.values.insert(input.clone(), input.clone());
        scheme.order.push(input);
    }
    for (at, node) in graph.nodes.iter().enumerate() {
        let output = &node.output[0];
        match walk.kinds[at] {
            Kind::Moves => {
                let moved = scheme.values.get(&node.input[0]).cloned();
                if let Some(root) = moved.filter(|_| walk.read_as_bytes(output)) {
                    scheme.values.insert(output.clone(), root);
                    scheme.order.push(output.clone());
                    continue;
                }
            }
            Kind::Layer => scheme.layers.push(node.name.clone()),
            Kind::Float if node.name != OFFSET => {
                scheme.float.push(format!("{} ({})", node.op_type, node.name))
            }
            _ => {}
        }
        if bytes.contains(output) {
            scheme.values.insert(output.clone(), output.clone());
            scheme.order.push(output.clone());
        }
    }
    Ok(scheme)
}
