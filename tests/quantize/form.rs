//! The form of the written file, and that it means what integer arithmetic says: one layer computed
//! by hand from the bytes in the file equals tract's answer.

use proptest::prelude::*;
use spotd::quantize::{Clipping, Options, Residual};
use tract_onnx::pb::{GraphProto, TensorProto};
use tract_onnx::prelude::Tensor;

use crate::networks::{self, Act, Net};
use crate::setup::{checked, decode, logits, tiles};

fn constant<'a>(graph: &'a GraphProto, name: &str) -> &'a TensorProto {
    graph.initializer.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no constant {name}"))
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    assert_eq!(tensor.data_type, 1, "{} is float32", tensor.name);
    tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4"))).collect()
}

fn int32s(tensor: &TensorProto) -> Vec<i32> {
    assert_eq!(tensor.data_type, 6, "{} is int32", tensor.name);
    tensor.raw_data.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().expect("4"))).collect()
}

/// int8 (3) or uint8 (2).
fn bytes(tensor: &TensorProto, data_type: i32) -> Vec<i32> {
    assert_eq!(tensor.data_type, data_type, "{}", tensor.name);
    tensor
        .raw_data
        .iter()
        .map(|b| if data_type == 3 { i32::from(b.cast_signed()) } else { i32::from(*b) })
        .collect()
}

/// The constants of the `DequantizeLinear`s at a layer's inputs, in the order data, weights, bias.
fn dequantised<'a>(graph: &'a GraphProto, layer: &str, at: usize) -> [&'a TensorProto; 2] {
    let node = graph.node.iter().find(|n| n.name == layer).expect("the layer");
    let of = graph.node.iter().find(|n| n.output[0] == node.input[at]).expect("computed");
    assert_eq!(of.op_type, "DequantizeLinear");
    [constant(graph, &of.input[1]), constant(graph, &of.input[2])]
}

#[test]
fn each_layer_has_the_scales_that_belong_together() {
    let onnx = networks::mobilenet(32, 4, 5);
    for symmetric in [false, true] {
        let made = checked(
            &onnx,
            &tiles(32, 4, 4),
            &Options { symmetric, may_keep_ends: false, ..Options::default() },
        );
        let graph = decode(&made.onnx);
        for layer in &made.report.layers {
            let [data, zero] = dequantised(&graph, layer, 0);
            assert_eq!(data.dims, Vec::<i64>::new());
            assert_eq!(bytes(zero, if symmetric { 3 } else { 2 }).len(), 1);
            if symmetric {
                assert_eq!(bytes(zero, 3), [0]);
            }
            let [weights, zeros] = dequantised(&graph, layer, 1);
            let scales = floats(weights);
            assert!(scales.iter().all(|s| s.is_finite() && *s > 0.0));
            assert!(bytes(zeros, 3).iter().all(|z| *z == 0));
            if symmetric {
                let node = graph.node.iter().find(|n| n.name == *layer).expect("the layer");
                assert_eq!(constant(&graph, &node.input[2]).data_type, 1, "a float bias");
            } else {
                let [bias, zeros] = dequantised(&graph, layer, 2);
                assert!(int32s(zeros).iter().all(|z| *z == 0));
                let input = floats(data)[0];
                for (b, s) in floats(bias).iter().zip(&scales) {
                    assert!((b - s * input).abs() <= f32::EPSILON * b, "{b} {s} {input}");
                }
            }
        }
        // Pixels keep their bytes.
        let pixels = graph.node.iter().find(|n| n.op_type == "QuantizeLinear").expect("the first");
        assert_eq!(floats(constant(&graph, &pixels.input[1])), [1.0 / 255.0]);
        if !symmetric {
            assert_eq!(pixels.input[0], "x");
            assert_eq!(bytes(constant(&graph, &pixels.input[2]), 2), [0]);
        }
    }
}

/// TensorRT's requirements on a file (its developer guide, "Working with Quantized Types"), as far
/// as they can be checked without it.
#[test]
fn a_symmetric_file_keeps_the_rules_of_tensorrt() {
    for (onnx, sums, residual) in [
        (networks::resnet_basic(32, 4, &[1, 2], 3), 3, Residual::Fused),
        (networks::resnet_basic(32, 4, &[1, 2], 3), 3, Residual::Apart),
        (networks::mobilenet(32, 4, 5), 0, Residual::Fused),
    ] {
        let options = Options {
            symmetric: true,
            residual,
            clipping: Some(Clipping::MinMax),
            may_keep_ends: false,
            ..Options::default()
        };
        let made = checked(&onnx, &tiles(32, 4, 4), &options);
        let graph = decode(&made.onnx);
        let of = |value: &str| graph.node.iter().find(|n| n.output[0] == value);
        let is = |value: &str, operator: &str| of(value).is_some_and(|n| n.op_type == operator);
        let readers = |value: &str| graph.node.iter().filter(|n| n.input.iter().any(|i| i == value)).count();
        // Signed bytes and float32 are all that there is, so no bias is quantised.
        assert!(graph.initializer.iter().all(|t| t.data_type == 1 || t.data_type == 3));
        let mut weights = 0;
        for node in graph.node.iter().filter(|n| n.op_type.to_lowercase().ends_with("quantizelinear")) {
            let (scales, zeros) = (constant(&graph, &node.input[1]), constant(&graph, &node.input[2]));
            assert!(bytes(zeros, 3).iter().all(|z| *z == 0), "{}", node.name);
            assert!(floats(scales).iter().all(|s| s.is_normal() && *s > 0.0), "{}", node.name);
            if let Some(stored) = graph.initializer.iter().find(|t| t.name == node.input[0]) {
                // One scale per output channel, which is axis 0 of convolutions and of `Gemm` with
                // transposed weights.
                let axis = node.attribute.iter().find(|a| a.name == "axis").expect("an axis");
                assert_eq!((axis.i, &scales.dims[..]), (0, &stored.dims[..1]), "{}", node.name);
                weights += 1;
            } else if node.op_type == "QuantizeLinear" {
                assert!(scales.dims.is_empty(), "{}: one scale a tensor", node.name);
                let next = graph.node.iter().find(|n| n.input[0] == node.output[0]).expect("it is read");
                assert_eq!((&*next.op_type, &next.input[1..]), ("DequantizeLinear", &node.input[1..]));
                assert_eq!(readers(&node.output[0]), 1, "{}", node.name);
            }
        }
        assert_eq!(weights, made.report.layers.len());
        for layer in &made.report.layers {
            let node = graph.node.iter().find(|n| n.name == *layer).expect("the layer");
            assert!(node.input[..2].iter().all(|i| is(i, "DequantizeLinear")), "{layer}");
            if node.op_type == "Gemm" {
                assert!(node.attribute.iter().any(|a| a.name == "transB" && a.i == 1), "{layer}");
            }
        }
        let mut found = 0;
        for sum in graph.node.iter().filter(|n| n.op_type == "Add") {
            // What is added to a convolution's own sum must be bytes, or the two are not fused.
            let rounded = sum.input.iter().filter(|i| is(i, "DequantizeLinear")).count();
            assert_eq!(rounded, if residual == Residual::Apart { 2 } else { 1 }, "{}", sum.name);
            if residual == Residual::Fused {
                let own = sum.input.iter().find(|i| is(i, "Conv")).expect("a convolution's sum");
                assert_eq!(readers(own), 1, "{}", sum.name);
            }
            let after = |value: &str| graph.node.iter().filter(|n| n.input[0] == *value).collect::<Vec<_>>();
            let mut next = after(&sum.output[0]);
            if next[0].op_type == "Relu" {
                next = after(&next[0].output[0]);
            }
            assert!(next.iter().all(|n| n.op_type == "QuantizeLinear"), "{}", sum.name);
            found += 1;
        }
        assert!(found >= sums, "{found}");
    }
}

#[test]
fn rounding_to_the_nearest_is_quicker_and_says_so() {
    let onnx = networks::mobilenet(32, 4, 5);
    let tiles = tiles(32, 8, 8);
    let nearest = Options { round_to_nearest: true, may_keep_ends: false, ..Options::default() };
    let report = checked(&onnx, &tiles, &nearest).report;
    assert!(
        !report.rounding_fitted && report.trials.iter().all(|t| t.what.contains("to the nearest")),
        "{report:?}"
    );
}

#[test]
fn weights_of_a_reduced_range_fit_in_pairs_and_cost_little() {
    let onnx = networks::mobilenet(32, 4, 5);
    let tiles = tiles(32, 8, 8);
    let of = |reduce_range| {
        checked(&onnx, &tiles, &Options { reduce_range, may_keep_ends: false, ..Options::default() })
    };
    let (full, reduced) = (of(false), of(true));
    let largest = |made: &spotd::quantize::Quantized| {
        let graph = decode(&made.onnx);
        let weights = |layer: &String| {
            let node = graph.node.iter().find(|n| n.name == *layer).expect("the layer");
            let of = graph.node.iter().find(|n| n.output[0] == node.input[1]).expect("computed");
            bytes(constant(&graph, &of.input[0]), 3).into_iter().map(i32::abs).max().expect("not empty")
        };
        made.report.layers.iter().map(weights).max().expect("layers")
    };
    assert!(largest(&full) > 100);
    // Two products with bytes of at most 255: 2 * 64 * 255 < 2^15.
    assert_eq!(largest(&reduced), 64);
    let (full, reduced) = (full.report.difference, reduced.report.difference);
    assert!(reduced.mean < 3.0 * full.mean.max(0.02 * full.spread), "{full:?} {reduced:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A convolution over pixels whose normalisation was folded, positions averaged by a second,
    /// dense layer: by integer arithmetic from the file's bytes and by tract.
    #[test]
    fn a_written_layer_computes_what_its_bytes_say(
        seed in 0u64..1000, kernel in prop::sample::select(vec![1usize, 3, 5]), stride in 1usize..3,
        outputs in 1usize..6, mean in 0.0f32..1.0, deviation in 0.1f32..1.0, relu: bool,
    ) {
        const SIDE: usize = 16;
        let mut net = Net::new("one", SIDE, seed, false);
        net.normalise(&[mean], &[deviation]);
        net.conv(outputs, kernel, stride, 1, if relu { Act::Relu } else { Act::None });
        net.flatten();
        net.dense(1, Act::None);
        let tiles = tiles(SIDE as u32, 4, 4);
        let options =
            Options { clipping: Some(Clipping::Mse), may_keep_ends: false, ..Options::default() };
        let made = checked(&net.onnx(), &tiles, &options);
        let graph = decode(&made.onnx);
        let logits = logits(&made.onnx, &tiles.held_out);
        for (tile, logit) in tiles.held_out.iter().zip(logits) {
            let by_hand = by_hand(&graph, tile, SIDE, (kernel, stride, outputs, relu));
            // A byte may round the other way if a float is just between two.
            prop_assert!((by_hand - logit).abs() < 2e-2 * (1.0 + logit.abs()), "{by_hand} {logit}");
        }
    }
}

fn by_hand(
    graph: &GraphProto,
    tile: &Tensor,
    side: usize,
    (kernel, stride, outputs, relu): (usize, usize, usize, bool),
) -> f32 {
    let pixels: Vec<i32> = tile
        .to_plain_array_view::<f32>()
        .expect("floats")
        .iter()
        .map(|v| (v * 255.0).round_ties_even() as i32)
        .collect();
    let layers: Vec<String> = graph
        .node
        .iter()
        .filter(|n| matches!(n.op_type.as_str(), "Conv" | "Gemm"))
        .map(|n| n.name.clone())
        .collect();
    let zero = bytes(dequantised(graph, &layers[0], 0)[1], 2)[0];
    let weights = bytes(constant(graph, &format!("{}.weight.quantized", layers[0])), 3);
    let scales = floats(dequantised(graph, &layers[0], 2)[0]);
    let bias = int32s(constant(graph, &format!("{}.bias.quantized", layers[0])));
    let [step, middle] = dequantised(graph, &layers[1], 0);
    let (step, middle) = (floats(step)[0], bytes(middle, 2)[0]);
    let (pad, small) = (((kernel - 1) / 2) as isize, side.div_ceil(stride));
    let mut hidden = Vec::new();
    for output in 0..outputs {
        for y in 0..small {
            for x in 0..small {
                let mut sum = bias[output];
                for channel in 0..3 {
                    for ky in 0..kernel {
                        for kx in 0..kernel {
                            let (v, u) = ((y * stride + ky) as isize - pad, (x * stride + kx) as isize - pad);
                            let inside = (0..side as isize).contains(&v) && (0..side as isize).contains(&u);
                            if inside {
                                let pixel = pixels[(channel * side + v as usize) * side + u as usize] - zero;
                                sum += pixel * weights[((output * 3 + channel) * kernel + ky) * kernel + kx];
                            }
                        }
                    }
                }
                let value = sum as f32 * scales[output];
                let value = if relu { value.max(0.0) } else { value };
                hidden.push(((value / step).round_ties_even() as i32 + middle).clamp(0, 255) - middle);
            }
        }
    }
    let weights = bytes(constant(graph, &format!("{}.weight.quantized", layers[1])), 3);
    let bias = int32s(constant(graph, &format!("{}.bias.quantized", layers[1])))[0];
    let scale = floats(dequantised(graph, &layers[1], 2)[0])[0];
    let sum: i32 = hidden.iter().zip(&weights).map(|(h, w)| h * w).sum();
    (sum + bias) as f32 * scale
}
