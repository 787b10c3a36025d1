//! A detector that a test can steer: a real ONNX file that follows the model contract, and gives
//! "synthetic" for bright pictures and "clear" for dark ones.

use std::path::{Path, PathBuf};

use prost::Message;
use spotd::detector::card::{Card, Training, sha256_hex};
use spotd::identity::Precision;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
};

/// Side of the tiles that the brightness detector takes.
pub const TILE: u32 = 64;

/// `logit = 24 * (mean of all channels - 0.5)`: mid grey is exactly undecided.
pub fn brightness_onnx() -> Vec<u8> {
    onnx(3, i64::from(TILE))
}

/// The same graph with a different input, for tests of refusals.
pub fn onnx(channels: i64, side: i64) -> Vec<u8> {
    let weight = 24.0 / channels as f32;
    file(GraphProto {
        name: "brightness".into(),
        node: vec![
            node("GlobalAveragePool", &["x"], "mean"),
            node("Conv", &["mean", "w", "b"], "sum"),
            node("Flatten", &["sum"], "logit"),
        ],
        initializer: vec![
            floats("w", &[1, channels, 1, 1], vec![weight; channels as usize]),
            floats("b", &[1], vec![-12.0]),
        ],
        input: vec![value("x", &[None, Some(channels), Some(side), Some(side)])],
        output: vec![value("logit", &[None, Some(1)])],
        ..GraphProto::default()
    })
}

/// A node named after its output.
pub fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.iter().map(|s| (*s).to_owned()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// A constant.
pub fn floats(name: &str, dims: &[i64], data: Vec<f32>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1, // FLOAT
        float_data: data,
        ..TensorProto::default()
    }
}

/// The file of a graph.
pub fn file(graph: GraphProto) -> Vec<u8> {
    ModelProto {
        ir_version: 8,
        producer_name: "spotd tests".into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(graph),
        ..ModelProto::default()
    }
    .encode_to_vec()
}

/// Input or output of a graph; `None` is any size.
pub fn value(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .enumerate()
        .map(|(axis, d)| Dimension {
            value: Some(match d {
                Some(d) => dimension::Value::DimValue(*d),
                None => dimension::Value::DimParam(["N", "C", "H", "W"][axis].into()),
            }),
            ..Dimension::default()
        })
        .collect();
    let tensor = Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// A card for the bytes of a model.
pub fn card(onnx: &[u8]) -> Card {
    Card {
        name: "brightness".into(),
        version: "test".into(),
        sha256: sha256_hex(onnx),
        precision: Precision::F32,
        tile: TILE,
        temperature: 1.0,
        threshold: 0.8,
        unsure_from: 0.6,
        mmac: 0.0,
        parameters: 4,
        licence: "MIT OR Apache-2.0".into(),
        known_failures: vec!["says 'synthetic' of anything bright".into()],
        training: Training { data: "none".into(), recipe: "made by a test".into(), minutes: 0.0, seed: 0 },
        coherence: None,
        reach: None,
        measured: vec![],
    }
}

/// Writes the brightness detector and its card into a folder and returns the path of the ONNX file.
pub fn write_brightness(dir: &Path) -> PathBuf {
    let (path, bytes) = (dir.join("brightness.onnx"), brightness_onnx());
    std::fs::write(&path, &bytes).expect("model written");
    std::fs::write(Card::path_for(&path), card(&bytes).to_toml()).expect("card written");
    path
}
