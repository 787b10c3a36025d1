//! Networks of well-known shapes keep their logits, and the written file has the form that runtimes
//! look for.

use spotd::quantize::{Options, Residual, quantize};

use crate::networks::{self, Act, Net, int};
use crate::setup::{checked, count, decode, tiles};

#[test]
fn networks_of_every_shape_keep_their_logits() {
    for (name, onnx, side, share) in [
        ("plain", networks::plain(64, 8, 1), 64, 0.08),
        ("vgg", networks::vgg(32, 8, 2), 32, 0.12),
        ("resnet-18", networks::resnet_basic(64, 8, &[2, 2, 2, 2], 3), 64, 0.2),
        ("resnet-50", networks::resnet_bottleneck(64, 8, &[3, 4, 6, 3], 4), 64, 0.3),
        ("mobilenet", networks::mobilenet(64, 4, 5), 64, 0.3),
    ] {
        let tiles = tiles(side, 12, 12);
        for symmetric in [false, true] {
            let options = Options { symmetric, may_keep_ends: false, jobs: 2, ..Options::default() };
            let made = checked(&onnx, &tiles, &options);
            let (report, graph) = (&made.report, decode(&made.onnx));
            let d = report.difference;
            // One of twelve tiles may be outside the range that was seen.
            assert!(d.mean < share * d.spread, "{name}, symmetric {symmetric}: {d:?}");
            // Nothing is left in float but what belongs to a layer, or the normalisation where it
            // cannot be folded.
            assert!(
                report.float.iter().all(|f| f.starts_with("Sub") || f.starts_with("Div")),
                "{:?}",
                report.float
            );
            assert_eq!(count(&graph, "BatchNormalization"), 0, "{name}");
            let layers = count(&graph, "Conv") + count(&graph, "Gemm");
            assert_eq!(report.layers.len(), layers, "{name}");
            // Weights, and biases unless TensorRT is to read it.
            let values = count(&graph, "QuantizeLinear");
            let constants = layers * if symmetric { 1 } else { 2 };
            assert_eq!(count(&graph, "DequantizeLinear"), values + constants, "{name}");
            // Every variant is reported, and the best was chosen.
            let best = report.trials.iter().map(|t| t.rms).fold(f64::INFINITY, f64::min);
            assert!(d.rms <= best / 0.8 + 1e-9, "{name}: {best} {d:?}");
        }
    }
}

#[test]
fn a_residual_sum_is_fused_or_stands_apart() {
    let onnx = networks::resnet_basic(32, 4, &[1, 1], 3);
    let tiles = tiles(32, 4, 4);
    let of = |residual| {
        let made = checked(&onnx, &tiles, &Options { residual, may_keep_ends: false, ..Options::default() });
        count(&decode(&made.onnx), "QuantizeLinear")
    };
    let (fused, apart) = (of(Residual::Fused), of(Residual::Apart));
    // Two additions, one rounding each.
    assert_eq!(apart, fused + 2);
}

#[test]
fn an_operator_without_an_int8_form_stays_in_float_and_is_named() {
    let mut net = Net::new("odd", 32, 1, false);
    net.conv(8, 3, 2, 1, Act::Relu);
    net.node("Softplus", &[], vec![]);
    net.conv(8, 3, 2, 1, Act::Relu);
    net.mean();
    net.dense(1, Act::None);
    let made =
        checked(&net.onnx(), &tiles(32, 4, 4), &Options { may_keep_ends: false, ..Options::default() });
    assert_eq!(made.report.float, ["Softplus (softplus_2)"]);
    assert_eq!(made.report.layers.len(), 3);
}

#[test]
fn a_layer_that_is_to_stay_in_float_does() {
    let onnx = networks::plain(32, 4, 1);
    let options = Options { keep_float: vec!["conv_2".into()], may_keep_ends: false, ..Options::default() };
    let made = checked(&onnx, &tiles(32, 4, 4), &options);
    assert!(!made.report.layers.contains(&"conv_2".to_owned()));
    assert!(made.report.float.contains(&"Conv (conv_2)".to_owned()), "{:?}", made.report.float);
    let graph = decode(&made.onnx);
    let conv = graph.node.iter().find(|n| n.name == "conv_2").expect("still there");
    assert!(conv.input.iter().all(|i| !i.ends_with(".dequantized")), "{:?}", conv.input);
}

#[test]
fn pooling_and_flattening_share_the_steps_of_what_they_read() {
    let mut net = Net::new("pools", 32, 1, false);
    net.conv(8, 3, 1, 1, Act::Relu);
    net.max_pool(2, 2);
    net.conv(8, 3, 2, 1, Act::Relu);
    net.node(
        "AveragePool",
        &[],
        vec![networks::ints("kernel_shape", &[2, 2]), networks::ints("strides", &[2, 2])],
    );
    net.node("Flatten", &[], vec![int("axis", 1)]);
    let mut graph = net;
    graph.go_to(("v6".into(), 8 * 16, 1));
    graph.dense(1, Act::None);
    let onnx = graph.onnx();
    let made = checked(&onnx, &tiles(32, 4, 4), &Options { may_keep_ends: false, ..Options::default() });
    let graph = decode(&made.onnx);
    let scale_of = |value: &str| {
        let node = graph.node.iter().find(|n| n.op_type == "QuantizeLinear" && n.input[0] == value);
        node.unwrap_or_else(|| panic!("{value} is not quantised")).input[1].clone()
    };
    let produced = |op: &str| graph.node.iter().find(|n| n.op_type == op).expect("there").output[0].clone();
    assert_eq!(scale_of(&produced("MaxPool")), scale_of("v1"));
    assert_eq!(scale_of(&produced("Flatten")), scale_of(&produced("AveragePool")));
}

#[test]
fn what_cannot_be_quantised_is_said() {
    let tiles = tiles(32, 4, 4);
    let refused = |onnx: &[u8], options: &Options| {
        quantize(onnx, &tiles, options, &()).expect_err("refused").to_string()
    };
    let plain = networks::plain(32, 4, 1);
    let default = Options::default();
    let made = quantize(&plain, &tiles, &default, &()).expect("quantises").onnx;
    let mut empty = Net::new("empty", 32, 1, false);
    empty.mean();
    let mut broken = decode_model(&plain);
    broken.opset_import[0].version = 9;
    let mut infinite = decode_model(&plain);
    let weights =
        infinite.graph.as_mut().expect("a graph").initializer.iter_mut().find(|t| t.dims.len() == 4);
    weights.expect("weights").raw_data[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    for (onnx, options, words) in [
        (&b"no ONNX at all"[..], &default, "not an ONNX"),
        (&made, &default, "quantised already (operator QuantizeLinear)"),
        (&empty.onnx(), &default, "no operator that can run in int8"),
        (&prost::Message::encode_to_vec(&broken), &default, "operator set 9"),
        (&prost::Message::encode_to_vec(&infinite), &default, "finite"),
        (
            &plain,
            &Options { keep_float: vec!["conv_99".into()], ..Options::default() },
            "no layer 'conv_99' to keep in float; the layers are: conv_2, conv_4",
        ),
    ] {
        let said = refused(onnx, options);
        assert!(said.contains(words), "{said}");
    }
    let few = crate::setup::tiles(32, 3, 4);
    let said = quantize(&plain, &few, &default, &()).expect_err("refused").to_string();
    assert!(said.contains("7 tiles are too few"), "{said}");
}

fn decode_model(onnx: &[u8]) -> tract_onnx::pb::ModelProto {
    prost::Message::decode(onnx).expect("ONNX")
}
