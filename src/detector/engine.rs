//! Turns the bytes of an ONNX file into something that runs: the contract, the precision, tract's
//! plan.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use spotd_kernels::tract::{Input, Refused, Report, fuse, is_quantised, onnx, take_pixels, unfused};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid as _;

use super::bounds;
use super::error::ModelError;
use crate::identity::{Precision, Wanted};

/// A network that is ready to run on pictures of one size. Clones share it; each thread runs its
/// own state.
#[derive(Debug, Clone)]
pub struct Engine {
    plan: Arc<TypedSimplePlan>,
    /// What became of the layers, if the file is quantised and was not explicitly run in f32.
    report: Option<Arc<Report>>,
    quantised: bool,
}

impl Engine {
    /// Parses the file, checks it against the contract and optimises it for one picture of `size`
    /// (width, height). `side` is the input size that the file may state; `None` accepts any.
    pub(super) fn new(
        bytes: &[u8],
        side: Option<usize>,
        size: (usize, usize),
        wanted: Wanted,
        path: &Path,
    ) -> Result<Self, ModelError> {
        // tract panics on some damaged files, and offers no check beforehand.
        catch_unwind(AssertUnwindSafe(|| Self::prepare(bytes, side, size, wanted, path))).unwrap_or_else(
            |_| {
                let reason = "tract panicked on it (see above); the file is damaged".into();
                Err(ModelError::NotOnnx { path: path.to_owned(), reason })
            },
        )
    }

    fn prepare(
        bytes: &[u8],
        side: Option<usize>,
        size: (usize, usize),
        wanted: Wanted,
        path: &Path,
    ) -> Result<Self, ModelError> {
        let not_onnx =
            |e: TractError| ModelError::NotOnnx { path: path.to_owned(), reason: format!("{e:#}") };
        let typed = typed(bytes, side, size, path)?;
        let quantised = is_quantised(&typed);
        let (model, report) = match wanted {
            Wanted::Only(Precision::Int8) if !quantised => {
                return Err(ModelError::NotQuantised { path: path.to_owned() });
            }
            Wanted::Only(Precision::F32) if quantised => (unfused(typed).map_err(not_onnx)?, None),
            _ if !quantised => (typed, None),
            _ => {
                let fused = fuse(typed).and_then(|(model, report)| take_pixels(model, report, real));
                let (model, report) = fused.map_err(|e| ModelError::Quantisation {
                    path: path.to_owned(),
                    reason: format!("{e:#}"),
                })?;
                if report.layers() == 0 && wanted != Wanted::Auto {
                    let reason = format!("no layer of it can run in int8: {report}");
                    return Err(ModelError::Quantisation { path: path.to_owned(), reason });
                }
                (model, Some(Arc::new(report)))
            }
        };
        let plan = model.into_optimized().and_then(|m| m.into_runnable()).map_err(not_onnx)?;
        Ok(Self { plan, report, quantised })
    }

    /// Whether the file is quantised, no matter how it runs.
    pub(crate) fn is_quantised(&self) -> bool {
        self.quantised
    }

    /// The plan, for timing its operators one by one.
    pub fn plan(&self) -> &Arc<TypedSimplePlan> {
        &self.plan
    }

    /// The precision in which layers run.
    pub fn precision(&self) -> Precision {
        match &self.report {
            Some(report) if report.layers() > 0 => Precision::Int8,
            _ => Precision::F32,
        }
    }

    /// What runs in int8 and what does not; `None` if nothing was meant to.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_deref()
    }

    /// Precision and, for int8, the instruction set and what the first operator reads, as
    /// `int8 on avx2, from pixels`.
    pub fn describe(&self) -> String {
        match &self.report {
            Some(report) if report.layers() > 0 => {
                let from = if self.takes_pixels() { "pixels" } else { "floats" };
                format!("{} on {}, from {from}", Precision::Int8, report.isa)
            }
            _ if self.quantised => format!("{}, from a quantised file", Precision::F32),
            _ => Precision::F32.to_string(),
        }
    }

    /// Whether the plan reads the camera's bytes, with nothing in float before the first layer.
    fn takes_pixels(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.input == Input::Pixels)
    }

    /// A picture in the form that the plan takes: its bytes unchanged, or converted to floats.
    pub fn input(&self, picture: &RgbImage) -> Tensor {
        if !self.takes_pixels() {
            return planar(picture);
        }
        let (w, h) = (picture.width() as usize, picture.height() as usize);
        Tensor::from_shape(&[1, h, w, 3], picture.as_raw()).expect("length fits the shape")
    }

    /// The input for a picture of `size` (width, height) whose pixels `fill` writes, three bytes each, row by row: into the
    /// tensor itself where the plan takes pixels.
    fn filled<E>(
        &self,
        (width, height): (u32, u32),
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Tensor, E> {
        if !self.takes_pixels() {
            let mut picture = RgbImage::new(width, height);
            fill(&mut picture)?;
            return Ok(planar(&picture));
        }
        let mut input =
            Tensor::zero::<u8>(&[1, height as usize, width as usize, 3]).expect("a picture's size");
        let mut view = input.to_plain_array_view_mut::<u8>().expect("bytes");
        fill(view.as_slice_mut().expect("one after the other"))?;
        Ok(input)
    }

    /// The logit of a picture of the engine's size.
    pub(super) fn logit(&self, picture: &RgbImage) -> Result<f32, ModelError> {
        self.run(|| self.input(picture))
    }

    /// The logit of a picture of the engine's `size` (width, height) whose pixels `fill` writes, three bytes each, row by
    /// row.
    pub(super) fn logit_of<E: From<ModelError>>(
        &self,
        size: (u32, u32),
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<f32, E> {
        let input = self.filled(size, fill)?;
        Ok(self.run(|| input)?)
    }

    fn run(&self, input: impl FnOnce() -> Tensor) -> Result<f32, ModelError> {
        let inference = |e: TractError| ModelError::Inference(format!("{e:#}"));
        // What tract accepted while reading the file may still panic here; each run has its own
        // state, which is lost with it.
        let output = catch_unwind(AssertUnwindSafe(|| self.plan.run(tvec!(input().into()))))
            .map_err(|_| {
                ModelError::Inference("tract panicked (see above); the model's file is damaged".into())
            })?
            .map_err(inference)?;
        let logit = output[0].to_plain_array_view::<f32>().map_err(inference)?.iter().next().copied();
        logit
            .filter(|l| l.is_finite())
            .ok_or_else(|| ModelError::Inference("the network's answer is not a finite number".into()))
    }
}

/// The value that a pixel's byte stands for.
fn real(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

/// Interleaved bytes to planar floats in 0..1, shape `[1, 3, height, width]`.
pub fn planar(image: &RgbImage) -> Tensor {
    let (w, h) = (image.width() as usize, image.height() as usize);
    let mut data = vec![0f32; 3 * w * h];
    let (r, gb) = data.split_at_mut(w * h);
    let (g, b) = gb.split_at_mut(w * h);
    for (i, px) in image.as_raw().chunks_exact(3).enumerate() {
        (r[i], g[i], b[i]) = (real(px[0]), real(px[1]), real(px[2]));
    }
    Tensor::from_shape(&[1, 3, h, w], &data).expect("length fits the shape")
}

/// The typed model for one picture, checked against the contract.
fn typed(
    bytes: &[u8],
    side: Option<usize>,
    size: (usize, usize),
    path: &Path,
) -> Result<TypedModel, ModelError> {
    let (width, height) = size;
    let not_onnx = |e: TractError| ModelError::NotOnnx { path: path.to_owned(), reason: format!("{e:#}") };
    let contract = |reason: String| ModelError::Contract { path: path.to_owned(), reason };
    let damaged = |reason| ModelError::NotOnnx { path: path.to_owned(), reason };
    let proto = bounds::read(bytes).map_err(damaged)?;
    let mut graph = onnx().model_for_proto_model(&proto).map_err(not_onnx)?;
    if graph.inputs.len() != 1 || graph.outputs.len() != 1 {
        return Err(contract(format!(
            "it has {} inputs and {} outputs",
            graph.inputs.len(),
            graph.outputs.len()
        )));
    }
    check_input(&graph, side).map_err(contract)?;
    graph.set_input_fact(0, f32::fact([1, 3, height, width]).into()).map_err(not_onnx)?;
    let typed = graph.into_typed().map_err(|e| match e.root_cause().downcast_ref::<Refused>() {
        Some(refused) => ModelError::Quantisation { path: path.to_owned(), reason: refused.to_string() },
        None => contract(format!("it does not accept {width}x{height} RGB pixels: {e:#}")),
    })?;
    bounds::values(&typed).map_err(damaged)?;
    let output = typed.output_fact(0).map_err(not_onnx)?;
    let shape = output.shape.as_concrete().map(<[usize]>::to_vec);
    if output.datum_type != f32::datum_type() || shape.as_deref() != Some(&[1, 1]) {
        return Err(contract(format!(
            "its output for one picture is {:?} {:?}",
            output.datum_type,
            shape.unwrap_or_default()
        )));
    }
    Ok(typed)
}

/// What the file itself states about its input must not contradict the contract.
fn check_input(graph: &InferenceModel, side: Option<usize>) -> Result<(), String> {
    let fact = graph.input_fact(0).map_err(|e| e.to_string())?;
    if let Some(dt) = fact.datum_type.concretize()
        && dt != f32::datum_type()
    {
        return Err(format!("its input is {dt:?}"));
    }
    let dims: Vec<Option<i64>> =
        fact.shape.dims().map(|d| d.concretize().and_then(|d| d.to_i64().ok())).collect();
    if !fact.shape.is_open() && dims.len() != 4 {
        return Err(format!("its input has {} dimensions", dims.len()));
    }
    let side = side.map(|side| side as i64);
    let want = [None, Some(3), side, side];
    for (axis, (have, want)) in dims.iter().zip(want).enumerate() {
        if let (Some(have), Some(want)) = (have, want)
            && *have != want
        {
            return Err(format!("its input is {have} on axis {axis}, where the card's tile asks for {want}"));
        }
    }
    Ok(())
}
