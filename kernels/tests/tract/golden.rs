//! The pass answers as onnxruntime does, on graphs of onnxruntime's and PyTorch's own quantisers
//! and of training with fake quantisation: all bytes on the way to one step, and the logit.
//! `make golden-int8` writes the files.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use spotd_kernels::Isa;
use spotd_kernels::tract::{Report, fuse_for, unfused};
use tract_onnx::pb::{GraphProto, TensorProto, tensor_proto::DataType};
use tract_onnx::prelude::*;

use crate::net::{reals, run, typed};

struct Case {
    file: Vec<u8>,
    input: Tensor,
    /// In the order of the graph's outputs.
    outputs: Vec<(String, Tensor)>,
}

fn case(name: &str) -> Case {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let read = |ending: &str| std::fs::read(folder.join(format!("{name}.{ending}"))).expect(name);
    let golden = GraphProto::decode(&*read("golden")).expect("a GraphProto");
    let mut tensors = golden.initializer.iter().map(|t| (t.name.clone(), tensor(t)));
    let input = tensors.next().expect("an input").1;
    Case { file: read("onnx"), input, outputs: tensors.collect() }
}

fn tensor(proto: &TensorProto) -> Tensor {
    let shape: Vec<usize> = proto.dims.iter().map(|d| *d as usize).collect();
    let raw = &proto.raw_data;
    let made = match DataType::try_from(proto.data_type) {
        Ok(DataType::Uint8) => Tensor::from_shape(&shape, raw),
        Ok(DataType::Int8) => Tensor::from_shape(&shape, &raw.iter().map(|b| *b as i8).collect::<Vec<_>>()),
        Ok(DataType::Float) => {
            let floats = raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            Tensor::from_shape(&shape, &floats.collect::<Vec<f32>>())
        }
        other => panic!("{} is {other:?}", proto.name),
    };
    made.expect("as many values as the shape has")
}

/// Largest difference and share of values that differ.
fn difference(a: &Tensor, b: &Tensor) -> (f32, f32) {
    assert_eq!((a.datum_type(), a.shape()), (b.datum_type(), b.shape()));
    let floats = |t: &Tensor| reals(&t.cast_to::<f32>().expect("numbers"));
    let apart: Vec<f32> = floats(a).iter().zip(floats(b)).map(|(a, b)| (a - b).abs()).collect();
    let differ = apart.iter().filter(|d| **d > 0.0).count() as f32 / apart.len() as f32;
    (apart.into_iter().fold(0.0, f32::max), differ)
}

/// Compares with onnxruntime, for each instruction set of this processor: each layer alone, fed
/// with onnxruntime's bytes, to one step; and the whole graph, whose logit may differ by what such
/// steps make of it.
fn check(name: &str, logit: f32) -> Report {
    let Case { file, input, outputs } = case(name);
    let shape: [usize; 4] = input.shape().try_into().expect("a picture");
    let read = || typed(&file, shape).expect(name);
    let mut last = None;
    for isa in Isa::available() {
        let (model, _) = fuse_for(apart(read(), &outputs), isa).expect(name);
        let inputs = [input.clone()].into_iter().chain(bytes(&outputs).map(|(_, t)| t.clone()));
        let answers = run(model, inputs.collect()).expect(name);
        for (answer, (output, golden)) in answers.iter().zip(&outputs) {
            let (most, share) = difference(answer, golden);
            assert!(most <= 1.0, "{name}, {isa}: {output} is {most} from onnxruntime's");
            // A value between two steps is rare but for means of an even number of bytes.
            // Floats are the logit alone, which may be summed in another order.
            let same = if golden.datum_type() == f32::datum_type() { most < 1e-5 } else { share < 0.1 };
            assert!(same, "{name}, {isa}: {share} of {output} differ, by {most} at most");
        }
        let (model, report) = fuse_for(read(), isa).expect(name);
        whole(&format!("{name}, {isa}"), model, &input, &outputs, logit);
        last = Some(report);
    }
    whole(name, unfused(read()).expect(name), &input, &outputs, logit);
    last.expect("the portable path is always there")
}

fn bytes(outputs: &[(String, Tensor)]) -> impl Iterator<Item = &(String, Tensor)> {
    outputs.iter().filter(|(_, t)| t.datum_type() != f32::datum_type())
}

/// The model with an input in place of the bytes of each layer.
fn apart(mut model: TypedModel, outputs: &[(String, Tensor)]) -> TypedModel {
    let mut inputs = model.inputs.clone();
    for ((name, golden), outlet) in bytes(outputs).zip(model.outputs.clone()) {
        let fact = golden.datum_type().fact(golden.shape());
        let source = model.add_source(format!("{name}.golden"), fact).expect("a new name");
        for successor in model.outlet_successors(outlet).to_vec() {
            model.add_edge(source, successor).expect("an edge");
        }
        inputs.push(source);
    }
    model.set_input_outlets(&inputs).expect("inputs");
    model
}

fn whole(name: &str, model: TypedModel, input: &Tensor, outputs: &[(String, Tensor)], logit: f32) {
    let answers = run(model, vec![input.clone()]).expect(name);
    assert_eq!(answers.len(), outputs.len(), "{name}");
    let (answer, (_, golden)) = (answers.last().expect("a logit"), outputs.last().expect("a logit"));
    let (most, _) = difference(answer, golden);
    assert!(most <= logit, "{name}: {answer:?} {golden:?}");
}

/// The report's counts, of operators inside of the network: all bytes are outputs here, for which
/// they are brought back into the order of the file.
fn inside(report: &Report) -> BTreeMap<&str, usize> {
    let border = ["Int8Relayout", "Reshape"];
    report.census.iter().map(|(name, n)| (&**name, *n)).filter(|(name, _)| !border.contains(name)).collect()
}

#[test]
fn graphs_of_onnxruntimes_quantiser() {
    let networks: [(&str, &[(&str, usize)]); 3] = [
        ("residual", &[("Int8Add", 1), ("Int8Conv", 6), ("Int8Pool", 2)]),
        ("plain", &[("Int8Conv", 2), ("Int8Dense", 1), ("Int8Pool", 1)]),
        // The sigmoid and the leaky ReLU are maps of bytes.
        ("varied", &[("Int8Concat", 1), ("Int8Conv", 5), ("Int8Map", 2), ("Int8Pool", 3)]),
    ];
    for (net, own) in networks {
        // Symmetric activations keep a ReLU apart from its convolution, as a map.
        for (kind, maps) in [("u8s8-channel", 0), ("s8s8-tensor", 0), ("s8s8-symmetric", 1)] {
            let report = check(&format!("{net}-{kind}"), 0.05);
            let mut expected: BTreeMap<&str, usize> = own.iter().copied().collect();
            for (name, n) in [("Int8Quantise", 1), ("Int8Dequantise", 1), ("Int8Dense", 1)] {
                *expected.entry(name).or_insert(0) += n;
            }
            let mut found = inside(&report);
            if maps == 1 {
                let more = found.insert("Int8Map", expected.get("Int8Map").copied().unwrap_or(0));
                assert!(more > expected.get("Int8Map").copied(), "{net}-{kind}: {report:?}");
                if !expected.contains_key("Int8Map") {
                    found.remove("Int8Map");
                }
            }
            assert_eq!(found, expected, "{net}-{kind}");
            assert_eq!(report.left, [], "{net}-{kind}");
        }
    }
}

#[test]
fn asymmetric_weights_stay_with_tract_and_are_named() {
    for (net, convolutions) in [("residual", 6), ("plain", 2), ("varied", 5)] {
        let report = check(&format!("{net}-u8u8-tensor"), 0.05);
        let left: Vec<_> = report.left.iter().filter(|l| l.operator == "Conv").collect();
        assert_eq!((left.len(), report.layers()), (convolutions, 0), "{net}");
        assert!(
            left.iter().all(|l| l.reason.as_deref().is_some_and(|r| r.contains("asymmetric"))),
            "{left:?}"
        );
        let line = report.to_string();
        assert!(line.contains("Conv c1 (its weights are asymmetric") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn a_graph_of_training_with_fake_quantisation() {
    let report = check("fake-quantised", 0.01);
    let expected = [("Int8Conv", 3), ("Int8Dense", 1), ("Int8Map", 1), ("Int8Pool", 1), ("Int8Quantise", 1)];
    assert_eq!(inside(&report), expected.into_iter().collect());
    assert_eq!(report.left, []);
}

/// As PyTorch's own exporter writes it: zero points behind an Identity, float biases, a sum of two
/// rounded values, and a mean that is not rounded, so that the last layer is none of int8.
#[test]
fn a_graph_of_pytorchs_fake_quantisation() {
    let report = check("pytorch", 0.01);
    let found: BTreeMap<&str, usize> =
        inside(&report).into_iter().filter(|(name, _)| name.starts_with("Int8")).collect();
    let expected = [("Int8Add", 1), ("Int8Conv", 3), ("Int8Mean", 1), ("Int8Quantise", 1)];
    assert_eq!(found, expected.into_iter().collect());
    let left: Vec<&str> = report.left.iter().map(|l| l.operator.as_str()).collect();
    assert_eq!(left, ["EinSum", "Add"], "{report}");
}
