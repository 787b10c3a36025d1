//! Runs a graph on tiles with tract, several in parallel.

use tract_onnx::prelude::*;

use super::Progress;
use super::error::QuantizeError;
use super::graph::Graph;
use crate::detector::bounds;
use crate::threads::side_by_side;

/// A tensor: its shape and its values, row by row.
pub(super) type Value = (Vec<usize>, Vec<f32>);

/// A graph that is ready to run.
pub(super) struct Runner {
    plan: Arc<TypedSimplePlan>,
}

impl Runner {
    /// Prepares a graph for inputs of `shape`; its outputs are `outputs`, or its own if that list
    /// is empty.
    pub fn new(graph: &Graph, shape: &[usize; 4], outputs: &[String]) -> Result<Self, QuantizeError> {
        Self::of_bytes(&graph.encode_with(outputs), shape)
    }

    /// The same from the bytes of a file.
    pub(crate) fn of_bytes(bytes: &[u8], shape: &[usize; 4]) -> Result<Self, QuantizeError> {
        // Not tract's own reader: it computes dequantised weights in several slow passes while it
        // infers shapes.
        let mut model = spotd_kernels::tract::onnx().model_for_read(&mut &*bytes)?;
        model.set_input_fact(0, f32::fact(shape).into())?;
        let model = spotd_kernels::tract::unfused(model.into_typed()?)?;
        bounds::values(&model).map_err(TractError::msg)?;
        Ok(Self { plan: model.into_optimized()?.into_runnable()? })
    }

    /// The outputs for one tile.
    pub fn run(&self, tile: &Tensor) -> Result<Vec<Vec<f32>>, QuantizeError> {
        let outputs = self.plan.run(tvec!(tile.clone().into()))?;
        outputs
            .iter()
            .map(|o| Ok(o.to_plain_array_view::<f32>()?.iter().copied().collect()))
            .collect::<TractResult<Vec<Vec<f32>>>>()
            .map_err(Into::into)
    }

    /// The same with their shapes.
    pub(crate) fn run_with_shapes(&self, tile: &Tensor) -> Result<Vec<Value>, QuantizeError> {
        let outputs = self.plan.run(tvec!(tile.clone().into()))?;
        outputs
            .iter()
            .map(|o| Ok((o.shape().to_vec(), o.to_plain_array_view::<f32>()?.iter().copied().collect())))
            .collect::<TractResult<Vec<_>>>()
            .map_err(Into::into)
    }

    /// The first element of the first output for each tile, in order: a detector's logit.
    pub fn logits(
        &self,
        tiles: &[Tensor],
        jobs: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<f32>, QuantizeError> {
        side_by_side(jobs, tiles.len(), |at| {
            let outputs = self.run(&tiles[at])?;
            progress.step();
            let logit = outputs.first().and_then(|o| o.first()).copied();
            logit.filter(|l| l.is_finite()).ok_or_else(|| {
                QuantizeError::NotFinite("its answer to a calibration tile is not a finite number".into())
            })
        })?
        .into_iter()
        .collect()
    }
}
