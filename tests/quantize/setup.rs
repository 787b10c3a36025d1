//! What the tests of quantised files have in common.

use prost::Message as _;
use spotd::quantize::{Options, Quantized, Tiles, quantize};
use tract_onnx::pb::{GraphProto, ModelProto};

use crate::networks::{apart, logits_as_defined};
pub use crate::networks::{logits, tiles};

/// Quantises, and checks what holds for any network: the file agrees with the report.
pub fn checked(onnx: &[u8], tiles: &Tiles, options: &Options) -> Quantized {
    let made = quantize(onnx, tiles, options, &()).expect("quantises");
    let (float, bytes) = (logits(onnx, &tiles.held_out), logits_as_defined(&made.onnx, &tiles.held_out));
    let (worst, said) = (f64::from(apart(&float, &bytes)), made.report.difference);
    assert!((worst - said.max).abs() < 1e-4 * (1.0 + worst), "{worst} {said:?}");
    // Two that are equally far from the float model are within twice that distance of one another.
    let tracts = logits(&made.onnx, &tiles.held_out);
    assert!(f64::from(apart(&bytes, &tracts)) <= 2.0 * said.max + 1e-4, "{bytes:?} {tracts:?}");
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
