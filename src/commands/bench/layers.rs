//! Where the time goes: each operator of the optimised plan, timed individually.

use serde::Serialize;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::Cost;
use tract_onnx::tract_core::plan::{SimpleState, eval};

use spotd::clock::Clock;

/// One operator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Layer {
    /// Its name in the plan, which begins with its name in the ONNX file.
    pub name: String,
    /// tract's operator.
    pub operator: String,
    /// The shortest of all runs, in ms.
    pub ms: f64,
    /// Millions of multiply-accumulates, as tract counts them; 0 for operators that only move or
    /// compare data.
    pub mmac: f64,
}

impl Layer {
    /// Whether it is one of our int8 operators.
    pub fn is_int8(&self) -> bool {
        self.operator.starts_with("Int8")
    }

    /// Billions of multiply-accumulates (MACs) per second.
    pub fn gmacs(&self) -> f64 {
        self.mmac / self.ms.max(1e-9)
    }
}

/// Runs a plan `times` times on a tile and keeps each operator's shortest time.
///
/// # Errors
/// tract fails.
pub(super) fn layers(
    plan: &Arc<TypedSimplePlan>,
    tile: &Tensor,
    times: usize,
    clock: &dyn Clock,
) -> TractResult<Vec<Layer>> {
    let model = plan.model();
    let mut best = vec![f64::INFINITY; model.nodes().len()];
    let mut state = SimpleState::new(plan)?;
    for _ in 0..times.max(1) {
        state.run_plan_with_eval(tvec!(tile.clone().into()), |context, own, node, inputs| {
            let from = clock.now();
            let outputs = eval(context, own, node, inputs);
            best[node.id] = best[node.id].min((clock.now() - from).as_secs_f64());
            outputs
        })?;
    }
    let mut layers = Vec::new();
    for id in plan.order_without_consts() {
        let node = model.node(*id);
        if best[*id].is_finite() {
            let facts = model.node_input_facts(*id)?;
            let mmac = node
                .op
                .cost(&facts)?
                .into_iter()
                .filter(|(cost, _)| matches!(cost, Cost::FMA(_)))
                .filter_map(|(_, count)| count.to_i64().ok())
                .sum::<i64>() as f64
                / 1e6;
            layers.push(Layer {
                name: node.name.clone(),
                operator: node.op.name().into_owned(),
                ms: best[*id] * 1e3,
                mmac,
            });
        }
    }
    Ok(layers)
}
