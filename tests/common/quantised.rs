//! The brightness detector as a quantised file.

use tract_onnx::pb::{GraphProto, TensorProto};

use super::model::{file, floats, node, value};

/// The brightness detector as written by a quantiser: pixels, mean and weights are bytes.
pub fn onnx() -> Vec<u8> {
    onnx_with([1.0 / 255.0, 0.08], 0)
}

/// [`onnx`] with other scales of pixels and weights, and a zero point of unsigned weights.
pub fn onnx_with([pixel, weight]: [f32; 2], zero_point: u8) -> Vec<u8> {
    let bytes = |name: &str, dims: &[i64], data: Vec<u8>| TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 2, // UINT8
        raw_data: data,
        ..TensorProto::default()
    };
    file(GraphProto {
        name: "brightness".into(),
        node: vec![
            node("QuantizeLinear", &["x", "pixel_scale", "zero"], "q"),
            node("DequantizeLinear", &["q", "pixel_scale", "zero"], "d"),
            node("GlobalAveragePool", &["d"], "mean"),
            node("QuantizeLinear", &["mean", "pixel_scale", "zero"], "qm"),
            node("DequantizeLinear", &["qm", "pixel_scale", "zero"], "dm"),
            node("Flatten", &["dm"], "flat"),
            node("DequantizeLinear", &["w", "weight_scale", "weight_zero"], "dw"),
            node("Gemm", &["flat", "dw", "b"], "logit"),
        ],
        initializer: vec![
            floats("pixel_scale", &[], vec![pixel]),
            floats("weight_scale", &[], vec![weight]),
            bytes("zero", &[], vec![0]),
            bytes("weight_zero", &[], vec![zero_point]),
            bytes("w", &[3, 1], vec![100 + zero_point; 3]),
            floats("b", &[1], vec![-12.0]),
        ],
        input: vec![value("x", &[None, Some(3), None, None])],
        output: vec![value("logit", &[None, Some(1)])],
        ..GraphProto::default()
    })
}
