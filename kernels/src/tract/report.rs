//! What the pass did, in numbers and in one line.

use std::collections::BTreeMap;
use std::fmt;

use tract_onnx::prelude::TypedModel;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;

use crate::Isa;

/// An operator that tract runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// tract's name of the operator, such as `Conv`.
    pub operator: String,
    /// The name of its node in the file, or what tract made of it.
    pub node: String,
    /// Why it was not fused, where it might have been.
    pub reason: Option<String>,
}

/// What a fused model takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Floats, as the file says.
    Floats {
        /// Why not pixels, where [`take_pixels`](super::take_pixels) was asked for them.
        because: Option<String>,
    },
    /// Bytes of pixels, `[N, H, W, C]`.
    Pixels,
}

/// What [`fuse`](super::fuse) did. Its text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// For which instruction set.
    pub isa: Isa,
    /// Whether the file quantises anything.
    pub quantised: bool,
    /// What the new model takes.
    pub input: Input,
    /// All operators of the new model but constants and inputs, counted by name.
    pub census: BTreeMap<String, usize>,
    /// Operators that are tract's.
    pub left: Vec<Left>,
}

impl Report {
    pub(super) fn new(
        model: &TypedModel,
        isa: Isa,
        quantised: bool,
        left: Vec<(String, String)>,
        reasons: Vec<(String, String)>,
    ) -> Report {
        let reasons: BTreeMap<String, String> = reasons.into_iter().collect();
        let left = left
            .into_iter()
            .map(|(operator, node)| Left { operator, reason: reasons.get(&node).cloned(), node })
            .collect();
        let input = Input::Floats { because: None };
        Report { isa, quantised, input, census: census(model), left }
    }

    /// Number of layers with weights that run on bytes: 0 says that the model runs in float.
    pub fn layers(&self) -> usize {
        ["Int8Conv", "Int8Dense"].iter().filter_map(|name| self.census.get(*name)).sum()
    }

    /// Number of operators that are not tract's.
    pub fn fused(&self) -> usize {
        self.census.iter().filter(|(name, _)| name.starts_with("Int8")).map(|(_, n)| n).sum()
    }
}

/// Operators of a model by name, constants and inputs aside.
pub fn census(model: &TypedModel) -> BTreeMap<String, usize> {
    let mut census = BTreeMap::new();
    for node in model.nodes() {
        if !node.op_is::<Const>() && !node.op_is::<TypedSource>() {
            *census.entry(node.op.name().into_owned()).or_insert(0) += 1;
        }
    }
    census
}

/// Operators that are named at most; more are counted.
const NAMED: usize = 8;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} int8 operators ({})", self.fused(), self.isa)?;
        match &self.input {
            Input::Pixels => write!(f, " from pixels")?,
            Input::Floats { because: Some(reason) } => write!(f, " from floats ({reason})")?,
            Input::Floats { because: None } => {}
        }
        if self.left.is_empty() {
            return Ok(());
        }
        write!(f, "; {} run in float by tract: ", self.left.len())?;
        for (i, left) in self.left.iter().take(NAMED).enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", left.operator, left.node)?;
            if let Some(reason) = &left.reason {
                write!(f, " ({reason})")?;
            }
        }
        match self.left.len() {
            n if n > NAMED => write!(f, " and {} more", n - NAMED),
            _ => Ok(()),
        }
    }
}
