//! A pass over tract's models that puts the kernels of this crate in place of quantised layers.
//!
//! A quantised ONNX file (QDQ) is a float network with `QuantizeLinear` and `DequantizeLinear`
//! around each layer. Run as it is, each layer is computed in float, plus the cost of the
//! conversions. [`fuse`] finds
//! `DequantizeLinear, Conv, [Relu], [Add], [Relu or Clip], QuantizeLinear` and similar patterns,
//! and replaces them by one operator that reads and writes bytes. Between such operators bytes are
//! in NHWC order, so that nothing else is left inside the network; at its borders an operator
//! quantises or dequantises and changes the order in the same step.
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
//! tract folds dequantised weights into float constants while it still infers shapes, so a pass
//! over its typed model comes too late for them; and in the file each operator has several
//! spellings (`Clip` of two kinds, padding of four, `ReduceMean` by attribute or input), all of
//! which tract knows. So [`onnx`] replaces two operators of tract's reader by markers that are not
//! folded, tract reads and types the graph, and [`fuse`] runs on the typed model before anything
//! else: there all spellings are unified, shapes and constants are known, and scales are still the
//! file's own.
//!
//! # Pixels
//!
//! Pixels that are bytes already need not be converted to floats: [`take_pixels`] returns the same
//! model for them.
//!
//! # What stays with tract
//!
//! Everything that the pass does not support: float layers, asymmetric weights beyond signed bytes,
//! dilations. Such a layer runs as in tract, and fused parts around it quantise and dequantise at
//! their borders. [`Report::left`] names them.

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
/// ([`Isa::chosen`]). `model` must come from [`onnx`] and must not have been decluttered.
///
/// # Errors
/// Invalid scales, biases or weights, with the tensor's name; an instruction set that the
/// environment asks for but this processor lacks.
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

/// The model exactly as in the file, with all computation in float: the reference for the result of
/// [`fuse`].
///
/// # Errors
/// Constants that cannot be computed.
pub fn unfused(model: TypedModel) -> TractResult<TypedModel> {
    let graph = Graph::new(&model, &model.eval_order()?)?;
    emit::plain(&model, graph, Isa::Portable)
}
