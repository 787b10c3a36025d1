//! Tiles, and models run by tract without the quantiser's own runner.

use prost::Message as _;
use spotd::detector::model::planar;
use spotd::quantize::{Options, Quantized, Tiles, quantize};
use tract_onnx::pb::{GraphProto, ModelProto};
use tract_onnx::prelude::*;

use crate::networks;

/// So many tiles of either kind.
pub fn tiles(side: u32, calibrate: u64, held_out: u64) -> Tiles {
    let of = |seeds: std::ops::Range<u64>| seeds.map(|s| planar(&networks::tile(side, s))).collect();
    Tiles { calibrate: of(0..calibrate), held_out: of(1000..1000 + held_out) }
}

/// The logits of a model on tiles.
pub fn logits(onnx: &[u8], tiles: &[Tensor]) -> Vec<f32> {
    let mut model = tract_onnx::onnx().model_for_read(&mut &*onnx).expect("ONNX");
    model.set_input_fact(0, f32::fact(tiles[0].shape()).into()).expect("input");
    let plan = model.into_optimized().expect("optimises").into_runnable().expect("runs");
    tiles
        .iter()
        .map(|t| {
            let out = plan.run(tvec!(t.clone().into())).expect("runs");
            out[0].to_plain_array_view::<f32>().expect("floats").iter().copied().next().expect("a logit")
        })
        .collect()
}

/// Quantises, and checks what holds for any network: the file does what the report says.
pub fn checked(onnx: &[u8], tiles: &Tiles, options: &Options) -> Quantized {
    let made = quantize(onnx, tiles, options, &()).expect("quantises");
    let (float, bytes) = (logits(onnx, &tiles.held_out), logits(&made.onnx, &tiles.held_out));
    let worst = float.iter().zip(&bytes).map(|(a, b)| f64::from(a - b).abs()).fold(0.0, f64::max);
    let said = made.report.difference;
    assert!((worst - said.max).abs() < 1e-4 * (1.0 + worst), "{worst} {said:?}");
    assert_eq!(made.report.noise.last().expect("the logit").operator, "Gemm");
    made
}

/// A file's graph.
pub fn decode(onnx: &[u8]) -> GraphProto {
    ModelProto::decode(onnx).expect("ONNX").graph.expect("a graph")
}

/// How many nodes of an operator there are.
pub fn count(graph: &GraphProto, operator: &str) -> usize {
    graph.node.iter().filter(|n| n.op_type == operator).count()
}
