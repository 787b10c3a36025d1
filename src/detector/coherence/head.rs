//! The small network that turns a frame's features into a logit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tract_onnx::prelude::*;

use super::{BlockSums, FEATURES, features};
use crate::detector::ModelError;
use crate::detector::bounds;

/// A network over [`features`]: ONNX, input float32 `[1, 972]`, output float32 `[1, 1]`, a logit.
/// Clones share it.
#[derive(Debug, Clone)]
pub struct Head {
    plan: Arc<TypedSimplePlan>,
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
        graph
            .set_input_fact(0, f32::fact([1, FEATURES]).into())
            .map_err(|e| contract(format!("its input differs: {e:#}")))?;
        let typed =
            graph.into_typed().map_err(|e| contract(format!("it does not take the features: {e:#}")))?;
        bounds::values(&typed).map_err(not_onnx)?;
        let output = typed.output_fact(0).map_err(|e| not_onnx(format!("{e:#}")))?;
        let shape = output.shape.as_concrete().map(<[usize]>::to_vec);
        if output.datum_type != f32::datum_type() || shape.as_deref() != Some(&[1, 1]) {
            return Err(contract(format!(
                "its output is {:?} {:?}",
                output.datum_type,
                shape.unwrap_or_default()
            )));
        }
        let plan =
            typed.into_optimized().and_then(|m| m.into_runnable()).map_err(|e| not_onnx(format!("{e:#}")))?;
        Ok(Self { plan })
    }

    /// Logit of accumulated sums: positive means synthetic.
    ///
    /// # Errors
    /// [`ModelError::Inference`] when tract fails or its output is not a finite number.
    pub fn logit(&self, sums: &BlockSums) -> Result<f32, ModelError> {
        self.of_features(&features(sums))
    }

    /// [`Head::logit`] of given features, [`FEATURES`] of them.
    ///
    /// # Errors
    /// As [`Head::logit`]; also for a wrong number of features.
    pub fn of_features(&self, row: &[f32]) -> Result<f32, ModelError> {
        let failed = |why: String| ModelError::Inference(format!("coherence: {why}"));
        let input = Tensor::from_shape(&[1, FEATURES], row)
            .map_err(|_| failed(format!("{} features were given instead of {FEATURES}", row.len())))?;
        let output = catch_unwind(AssertUnwindSafe(|| self.plan.run(tvec!(input.into()))))
            .map_err(|_| failed("tract panicked (see above); the file is damaged".into()))?
            .map_err(|e| failed(format!("{e:#}")))?;
        let answer = output[0].to_plain_array_view::<f32>().map_err(|e| failed(format!("{e:#}")))?;
        let logit = answer.iter().next().copied().filter(|l| l.is_finite());
        logit.ok_or_else(|| failed("the answer is not a finite number".into()))
    }
}
