//! Limits on what a model file may ask for, checked before tract follows it: a few bytes can claim
//! gigabytes, and tract computes constant expressions while it reads. What a graph builds up step
//! by step (a constant concatenated with itself forty times) is not caught here: a model has to be
//! trusted like a program, and its card's SHA-256 says which one it is.

use std::collections::HashMap;

use prost::Message as _;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::TypedModel;

/// Largest number of elements in one value: a gigabyte of float32, twice the first layer of
/// ResNet-50 on an 8K picture.
const MOST: u128 = 1 << 28;

/// Largest padding on a side, in pixels: the side of the largest tile. A damaged byte can make it
/// millions, and each following layer then takes minutes.
const MOST_PADDING: u64 = 1024;

/// Operators whose output size depends on the values of these inputs.
const GROWING: [(&str, &[usize]); 8] = [
    ("ConstantOfShape", &[0]),
    ("Expand", &[1]),
    ("OneHot", &[1]),
    ("Pad", &[1]),
    ("Range", &[0, 1, 2]),
    ("Resize", &[3]),
    ("Tile", &[1]),
    ("TopK", &[1]),
];

/// Attributes that state how large something is.
const SIZES: [&str; 7] =
    ["dilations", "kernel_shape", "output_padding", "output_shape", "pads", "shape", "strides"];

/// Decodes a model file and refuses what no image classifier needs.
pub(crate) fn read(bytes: &[u8]) -> Result<ModelProto, String> {
    let model = ModelProto::decode(bytes).map_err(|error| format!("{error}; the file is damaged"))?;
    model.graph.iter().try_for_each(graph)?;
    Ok(model)
}

fn graph(graph: &GraphProto) -> Result<(), String> {
    let mut constants: HashMap<&str, &TensorProto> = HashMap::new();
    for tensor in &graph.initializer {
        inside(tensor)?;
        constants.insert(&tensor.name, tensor);
    }
    for node in &graph.node {
        if ["Loop", "Scan"].contains(&node.op_type.as_str()) {
            return Err(format!("{} runs in a loop; export it without", called(node)));
        }
        for attribute in &node.attribute {
            if let Some(tensor) = &attribute.t {
                inside(tensor)?;
                if let ("Constant", Some(output)) = (node.op_type.as_str(), node.output.first()) {
                    constants.insert(output, tensor);
                }
            }
            if SIZES.contains(&attribute.name.as_str()) {
                size(node, &attribute.ints)?;
            }
            if attribute.name == "pads" {
                padding(node, &attribute.ints)?;
            }
            attribute.g.iter().chain(&attribute.graphs).try_for_each(self::graph)?;
        }
    }
    for node in &graph.node {
        let growing = GROWING.iter().find(|(op, _)| *op == node.op_type);
        for at in growing.map_or(&[][..], |(_, at)| *at) {
            let tensor = node.input.get(*at).and_then(|name| constants.get(name.as_str()));
            let sizes = tensor.map_or(vec![], |tensor| integers(tensor));
            size(node, &sizes)?;
            if node.op_type == "Pad" {
                padding(node, &sizes)?;
            }
        }
    }
    Ok(())
}

/// Refuses a tensor whose data are in another file: the card's SHA-256 would not cover them.
fn inside(tensor: &TensorProto) -> Result<(), String> {
    if tensor.data_location == Some(DataLocation::External as i32) {
        return Err(format!("the data of {} are in another file; export it as one file", tensor.name));
    }
    Ok(())
}

fn size(node: &NodeProto, sizes: &[i64]) -> Result<(), String> {
    let product =
        sizes.iter().try_fold(1u128, |product, n| product.checked_mul(n.unsigned_abs().max(1).into()));
    if product.is_some_and(|product| product <= MOST) {
        return Ok(());
    }
    Err(format!("{} asks for {sizes:?}, more than {MOST} numbers; the file is damaged", called(node)))
}

fn padding(node: &NodeProto, sides: &[i64]) -> Result<(), String> {
    match sides.iter().find(|n| n.unsigned_abs() > MOST_PADDING) {
        Some(n) => {
            Err(format!("{} pads by {n} pixels, more than {MOST_PADDING}; the file is damaged", called(node)))
        }
        None => Ok(()),
    }
}

fn called(node: &NodeProto) -> String {
    format!("its operator {} {:?}", node.op_type, node.name)
}

/// The integers of a constant; none if it holds another type.
fn integers(tensor: &TensorProto) -> Vec<i64> {
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Int64) if tensor.raw_data.is_empty() => tensor.int64_data.clone(),
        Ok(DataType::Int32) if tensor.raw_data.is_empty() => {
            tensor.int32_data.iter().map(|n| i64::from(*n)).collect()
        }
        Ok(DataType::Int64) => tensor.raw_data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        Ok(DataType::Int32) => {
            tensor.raw_data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()
        }
        _ => vec![],
    }
}

/// Refuses a model with a value that would be too large to compute.
pub(crate) fn values(model: &TypedModel) -> Result<(), String> {
    for node in &model.nodes {
        for output in &node.outputs {
            let shape = output.fact.shape.as_concrete().unwrap_or(&[]);
            let product = shape.iter().try_fold(1u128, |product, n| product.checked_mul(*n as u128));
            if product.is_none_or(|product| product > MOST) {
                return Err(format!("its value {:?} is of {shape:?}, more than {MOST} numbers", node.name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::AttributeProto;

    fn pads(sides: &[i64], in_a_constant: bool) -> Result<ModelProto, String> {
        let mut node = NodeProto { op_type: "Conv".into(), name: "c1".into(), ..Default::default() };
        let mut graph = GraphProto::default();
        if in_a_constant {
            node.op_type = "Pad".into();
            node.input = vec!["x".into(), "p".into()];
            let raw_data = sides.iter().flat_map(|n| n.to_le_bytes()).collect();
            let data_type = DataType::Int64 as i32;
            graph.initializer.push(TensorProto {
                name: "p".into(),
                data_type,
                raw_data,
                ..Default::default()
            });
        } else {
            let ints = sides.to_vec();
            node.attribute.push(AttributeProto { name: "pads".into(), ints, ..Default::default() });
        }
        graph.node.push(node);
        read(&ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec())
    }

    #[test]
    fn padding_beyond_a_tile_is_refused_by_name() {
        for in_a_constant in [true, false] {
            assert!(pads(&[0, 1024, 2, 2], in_a_constant).is_ok());
            for wrong in [1025, -70_000] {
                let error = pads(&[0, 1, wrong, 2], in_a_constant).unwrap_err();
                assert!(
                    error.contains("c1") && error.contains(&format!("pads by {wrong} pixels")),
                    "{error}"
                );
            }
        }
    }
}
