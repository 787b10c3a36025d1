//! Constructors of ONNX nodes, attributes and tensors.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

/// A node with one output.
pub(super) fn node(op: &str, name: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: name.into(),
        input: inputs.iter().map(|i| (*i).to_owned()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// An integer attribute.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

/// A float32 tensor; no dimensions make a scalar.
pub(super) fn floats(name: &str, dims: &[usize], data: &[f32]) -> TensorProto {
    raw(name, dims, DataType::Float, data.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// An int8 tensor.
pub(super) fn int8s(name: &str, dims: &[usize], data: &[i8]) -> TensorProto {
    raw(name, dims, DataType::Int8, data.iter().map(|v| v.cast_unsigned()).collect())
}

/// A uint8 tensor.
pub(super) fn uint8s(name: &str, dims: &[usize], data: &[u8]) -> TensorProto {
    raw(name, dims, DataType::Uint8, data.to_vec())
}

/// An int32 tensor.
pub(super) fn int32s(name: &str, dims: &[usize], data: &[i32]) -> TensorProto {
    raw(name, dims, DataType::Int32, data.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn raw(name: &str, dims: &[usize], kind: DataType, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.iter().map(|d| *d as i64).collect(),
        data_type: kind as i32,
        raw_data: bytes,
        ..TensorProto::default()
    }
}
