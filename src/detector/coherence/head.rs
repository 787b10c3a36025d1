//! The small network that turns a frame's features into a logit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

use super::{BlockSums, FEATURES, features};
use crate::detector::ModelError;
use crate::detector::bounds;

/// Rows of features that are judged together where the network takes any number. Reading its weights, 10 MB in floats,
/// takes longer than a row's arithmetic, and a frame of video asks about its own grid, those of the card's `scales` and some
/// of its windows.
const BATCH: usize = 8;

/// A network over [`features`]: ONNX, input float32 `[N, 972]` or `[1, 972]`, output float32 `[N, 1]`, logits.
/// Clones share it.
#[derive(Debug, Clone)]
pub struct Head {
    plan: Arc<TypedSimplePlan>,
    /// Rows that the plan takes at once.
    batch: usize,
}

impl Head {
    /// Reads and checks the ONNX file's bytes; `path` is for the messages.
    ///
    /// # Errors
    /// [`ModelError::NotOnnx`] when tract cannot read it, [`ModelError::HeadContract`] when its
    /// input or output has another shape.
    pub fn new(bytes: &[u8], path: &Path) -> Result<Self, ModelError> {
        let not_onnx = |reason: String| ModelError::NotOnnx { path: path.to_owned(), reason };
        // tract panics on some damaged files, and offers no check beforehand.
        catch_unwind(AssertUnwindSafe(|| Self::prepare(bytes, path)))
            .unwrap_or_else(|_| Err(not_onnx("tract panicked on it (see above); the file is damaged".into())))
    }

    fn prepare(bytes: &[u8], path: &Path) -> Result<Self, ModelError> {
        let not_onnx = |reason: String| ModelError::NotOnnx { path: path.to_owned(), reason };
        let contract =
            |reason: String| ModelError::HeadContract { path: path.to_owned(), reason, features: FEATURES };
        let proto = bounds::read(bytes).map_err(not_onnx)?;
        let mut graph =
            tract_onnx::onnx().model_for_proto_model(&proto).map_err(|e| not_onnx(format!("{e:#}")))?;
        if graph.inputs.len() != 1 || graph.outputs.len() != 1 {
            let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
            return Err(contract(format!("it has {inputs} inputs and {outputs} outputs")));
        }
        let one = graph
            .input_fact(0)
            .is_ok_and(|f| f.shape.dim(0).is_some_and(|d| d.concretize() == Some(1.into())));
        let batch = if one { 1 } else { BATCH };
        graph
            .set_input_fact(0, f32::fact([batch, FEATURES]).into())
            .map_err(|e| contract(format!("its input differs: {e:#}")))?;
        let typed =
            graph.into_typed().map_err(|e| contract(format!("it does not take the features: {e:#}")))?;
        bounds::values(&typed).map_err(not_onnx)?;
        let output = typed.output_fact(0).map_err(|e| not_onnx(format!("{e:#}")))?;
        let shape = output.shape.as_concrete().map(<[usize]>::to_vec);
        if output.datum_type != f32::datum_type() || shape.as_deref() != Some(&[batch, 1]) {
            return Err(contract(format!(
                "its output is {:?} {:?}",
                output.datum_type,
                shape.unwrap_or_default()
            )));
        }
        let plan =
            typed.into_optimized().and_then(|m| m.into_runnable()).map_err(|e| not_onnx(format!("{e:#}")))?;
        Ok(Self { plan, batch })
    }

    /// Logits of accumulated sums, each by itself: positive means synthetic. Judged together they cost less.
    ///
    /// # Errors
    /// [`ModelError::Inference`] when tract fails or its output is not a finite number.
    pub fn logits<'a>(&self, sums: impl IntoIterator<Item = &'a BlockSums>) -> Result<Vec<f32>, ModelError> {
        let rows: Vec<f32> = sums.into_iter().flat_map(features).collect();
        self.of_features(&rows)
    }

    /// [`Head::logits`] of given features, [`FEATURES`] of them for each.
    ///
    /// # Errors
    /// As [`Head::logits`]; also for a wrong number of features.
    pub fn of_features(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        if !rows.len().is_multiple_of(FEATURES) {
            return Err(failed(format!("{} features were given instead of {FEATURES} for each", rows.len())));
        }
        let mut logits = Vec::with_capacity(rows.len() / FEATURES);
        for some in rows.chunks(self.batch * FEATURES) {
            logits.extend(self.of_batch(some)?);
        }
        Ok(logits)
    }

    /// Logits of at most as many rows as the plan takes. Always that many are given to it, so that a row's logit does not
    /// depend on how many there are beside it.
    fn of_batch(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        let mut input = vec![0.0; self.batch * FEATURES];
        input[..rows.len()].copy_from_slice(rows);
        let input =
            Tensor::from_shape(&[self.batch, FEATURES], &input).map_err(|e| failed(format!("{e:#}")))?;
        let output = catch_unwind(AssertUnwindSafe(|| self.plan.run(tvec!(input.into()))))
            .map_err(|_| failed("tract panicked (see above); the file is damaged".into()))?
            .map_err(|e| failed(format!("{e:#}")))?;
        let answer = output[0].to_plain_array_view::<f32>().map_err(|e| failed(format!("{e:#}")))?;
        let logits: Vec<f32> = answer.iter().copied().take(rows.len() / FEATURES).collect();
        match logits.iter().all(|logit| logit.is_finite()) {
            true => Ok(logits),
            false => Err(failed("the answer is not a finite number".into())),
        }
    }
}

fn failed(why: String) -> ModelError {
    ModelError::Inference(format!("coherence: {why}"))
}
