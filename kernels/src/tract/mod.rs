//! A pass over tract's models that puts the kernels of this crate in place of quantised layers.
//!
//! A quantised ONNX file (QDQ) is a float network in which `QuantizeLinear` and `DequantizeLinear` stand around
//! each layer. Run as it is, each layer is computed in float and pays for the conversions besides. [`fuse`] finds
//! `DequantizeLinear, Conv, [Relu], [Add], [Relu or Clip], QuantizeLinear` and the like, and puts one operator
//! there that takes bytes and writes bytes. Between such operators bytes lie in NHWC order, so that nothing else
//! is left inside of the network; at its borders an operator quantises or dequantises and changes the order
//! in the same step.
//!
//! ```no_run
//! use spotd_kernels::tract::{fuse, onnx};
//! use tract_onnx::prelude::*;
//!
//! # fn main() -> TractResult<()> {
//! let model = onnx() // instead of tract_onnx::onnx()
//!     .model_for_path("int8.onnx")?
//!     .with_input_fact(0, f32::fact([1, 3, 224, 224]).into())?
//!     .into_typed()?;
//! let (model, report) = fuse(model)?;
//! println!("{report}");
//! let plan = model.into_optimized()?.into_runnable()?;
//! let answer = plan.run(tvec![Tensor::zero::<f32>(&[1, 3, 224, 224])?.into()])?;
//! # drop(answer);
//! # Ok(())
//! # }
//! ```
//!
//! # Where in tract
//!
//! tract folds dequantised weights into float constants while it still infers shapes, so a pass over its typed
//! model comes too late for them; and at the level of the file, each operator has several spellings (`Clip` of
//! two kinds, padding of four, `ReduceMean` by attribute or input), all of which tract knows. So [`onnx`]
//! replaces two operators of tract's reader by markers that are not folded, tract reads and types the graph, and
//! [`fuse`] runs on the typed model before anything else does: there all spellings are one, shapes and constants
//! are known, and scales are the file's own.
//!
//! # Pixels
//!
//! Whoever has pixels as bytes need not make floats of them: [`take_pixels`] gives the same model for them.
//!
//! # What stays with tract
//!
//! All that the pass does not know, float layers, weights that are asymmetric beyond signed bytes, dilations:
//! such a layer runs as tract runs it, and fused parts around it quantise and dequantise at their borders.
//! [`Report::left`] names them.

mod emit;
mod graph;
mod layers;
mod maps;
mod markers;
mod ops;
mod pixels;
mod plan;
mod pools;
mod reader;
mod report;

pub use markers::Refused;
pub use pixels::take_pixels;
pub use reader::onnx;
pub use report::{Input, Left, Report, census};

use tract_onnx::prelude::{TractResult, TypedModel};

use crate::Isa;
use emit::Emitter;
use graph::Graph;
use plan::Plan;

/// Replaces what it can by int8 operators, for the fastest instruction set of this processor
/// ([`Isa::chosen`]). `model` comes from [`onnx`] and has not been decluttered.
///
/// # Errors
/// Scales, biases or weights that cannot be computed with, by the name of the tensor; an instruction set that
/// the environment asks for and this processor lacks.
pub fn fuse(model: TypedModel) -> TractResult<(TypedModel, Report)> {
    fuse_for(model, Isa::chosen()?)
}

/// [`fuse`] for an instruction set of the caller's choice.
///
/// # Errors
/// As [`fuse`].
pub fn fuse_for(model: TypedModel, isa: Isa) -> TractResult<(TypedModel, Report)> {
    let quantised = is_quantised(&model);
    let mut plan = Plan::new(&model, isa)?;
    let (fused, left) = Emitter::new(&mut plan).run()?;
    let reasons = std::mem::take(&mut plan.reasons);
    let report = Report::new(&fused, isa, quantised, left, reasons);
    Ok((fused, report))
}

/// Whether the model that [`onnx`] read has quantised values.
pub fn is_quantised(model: &TypedModel) -> bool {
    model.nodes.iter().any(|n| n.op_is::<markers::QuantizeLinear>() || n.op_is::<markers::DequantizeLinear>())
}

/// The model as the file states it, in float wherever it computes: the reference for what [`fuse`] gives.
///
/// # Errors
/// Constants that cannot be computed.
pub fn unfused(model: TypedModel) -> TractResult<TypedModel> {
    let graph = Graph::new(&model, &model.eval_order()?)?;
    emit::plain(&model, graph, Isa::Portable)
}
