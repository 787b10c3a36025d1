//! Files that are damaged, or that say what cannot be: an error that names the tensor, never a
//! panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use prost::Message as _;
use spotd_kernels::tract::{Refused, fuse, unfused};
use tract_onnx::pb::{ModelProto, TensorProto, tensor_proto::DataType};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::Approximation;

use crate::net::{Attribute, Net, pixels, run, slide, typed};

const SHAPE: [usize; 4] = [1, 3, 8, 8];

/// A small network with each kind of operator.
fn file() -> Vec<u8> {
    let mut net = Net::new(8);
    let x = net.quantised("x", 3, 1.0 / 255.0, 0);
    let x = net.conv_relu("c1", &x, 4, slide(3, 1));
    let y = net.conv("c2", &x, 4, slide(3, 1));
    let y = net.node("Add", "sum", &[&y, &x.name], vec![]);
    let x = net.quantised(&y, 4, 0.04, 100);
    let a = net.max_pool("pool", &x, 2, 2, 0);
    let b = net.conv_relu("c3", &x, 6, slide(3, 2));
    let y = net.node("Concat", "both", &[&a.name, &b.name], vec![("axis", Attribute::Int(1))]);
    let x = net.quantised(&y, 10, 0.03, 0);
    let y = net.node("Sigmoid", "sigmoid", &[&x.name], vec![]);
    let x = net.quantised(&y, 10, 1.0 / 255.0, 0);
    let x = net.mean("mean", &x);
    let logit = net.dense("logit", &x, 1);
    net.finish(&logit)
}

fn constant<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut TensorProto {
    let graph = model.graph.as_mut().expect("a graph");
    graph.initializer.iter_mut().find(|t| t.name == name).expect(name)
}

fn changed(name: &str, change: impl FnOnce(&mut TensorProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(&*file()).expect("a model");
    change(constant(&mut model, name));
    model.encode_to_vec()
}

/// The text of the error that a file causes on its way to a plan.
fn error(file: &[u8]) -> TractError {
    match typed(file, SHAPE).and_then(fuse) {
        Ok((_, report)) => panic!("accepted: {report}"),
        Err(error) => error,
    }
}

#[test]
fn scales_that_cannot_be_are_refused_by_name() {
    for bad in [0.0f32, -0.1, f32::NAN, f32::INFINITY, 1e-42] {
        for name in ["x.scale", "c1.weight_scale", "c1.relu.scale", "logit.weight_scale"] {
            let file = changed(name, |t| t.raw_data[..4].copy_from_slice(&bad.to_le_bytes()));
            let error = error(&file);
            let refused = error.root_cause().downcast_ref::<Refused>().expect("refused");
            assert!(refused.to_string().contains(&format!("scale {name}[0] is {bad}")), "{refused}");
        }
    }
}

#[test]
fn sums_that_overflow_are_refused_by_name() {
    // A bias of 1e9 is 1e14 steps.
    let file = changed("c3.bias", |t| t.raw_data[..4].copy_from_slice(&1e9f32.to_le_bytes()));
    let text = format!("{:#}", error(&file));
    assert!(text.contains("c3.weight") && text.contains("bias of output channel 0"), "{text}");
    // Each scale may be, but not their product.
    let file = changed("c3.weight_scale", |t| t.raw_data[..4].copy_from_slice(&3e38f32.to_le_bytes()));
    let text = format!("{:#}", error(&file));
    assert!(text.contains("c3.weight") && text.contains("output channel 0"), "{text}");
}

#[test]
fn numbers_of_scales_and_zero_points_must_agree() {
    let cut = |t: &mut TensorProto| {
        t.dims = vec![3];
        t.raw_data.truncate(3 * t.raw_data.len() / 4);
    };
    for (name, word) in [("c1.weight_scale", "3 scales"), ("c1.weight_zero", "3 zero points")] {
        let text = format!("{:#}", error(&changed(name, cut)));
        assert!(text.contains("c1.weight_scale") && text.contains(word), "{text}");
    }
    let file = changed("c1.weight_zero", |t| t.data_type = DataType::Uint8 as i32);
    assert!(typed(&file, SHAPE).is_err());
}

#[test]
fn an_unknown_operator_runs_in_tract_between_fused_parts() {
    let mut net = Net::new(8);
    let x = net.quantised("x", 3, 1.0 / 255.0, 0);
    let x = net.conv_relu("c1", &x, 4, slide(3, 1));
    let y = net.node("Softmax", "soft", &[&x.name], vec![("axis", Attribute::Int(1))]);
    let x = net.quantised(&y, 4, 1.0 / 255.0, 0);
    let x = net.conv_relu("c2", &x, 4, slide(3, 1));
    let x = net.mean("mean", &x);
    let logit = net.dense("logit", &x, 1);
    let file = net.finish(&logit);
    let (fused, report) = fuse(typed(&file, SHAPE).expect("types")).expect("fuses");
    assert_eq!((report.layers(), report.census["Int8Dequantise"], report.census["Int8Quantise"]), (3, 1, 2));
    let line = report.to_string();
    assert!(line.contains("Softmax soft") && !line.contains('\n'), "{line}");
    let plain = unfused(typed(&file, SHAPE).expect("types")).expect("lowers");
    let (a, b) = (run(fused, vec![pixels(SHAPE)]), run(plain, vec![pixels(SHAPE)]));
    let (a, b) = (a.expect("runs"), b.expect("runs"));
    a[0].close_enough(&b[0], Approximation::SuperApproximate).expect("the same logit");
}

/// First layers are often kept in float: what lies between the layer and its bytes belongs to the
/// quantisation.
#[test]
fn a_first_layer_in_float_stays_and_its_activation_is_fused() {
    for high in [None, Some(2.0)] {
        let mut net = Net::new(8);
        let w: Vec<f32> = (0..4 * 27).map(|i| ((i * 7) % 11) as f32 * 0.05 - 0.2).collect();
        let w = net.floats("w", &[4, 3, 3, 3], &w);
        let y = net.node("Conv", "c1", &["x", &w], vec![("pads", Attribute::Ints(vec![1; 4]))]);
        let y = match high {
            None => net.node("Relu", "act", &[&y], vec![]),
            Some(high) => {
                let (low, high) = (net.floats("low", &[], &[0.0]), net.floats("high", &[], &[high]));
                net.node("Clip", "act", &[&y, &low, &high], vec![])
            }
        };
        let x = net.quantised(&y, 4, 0.02, 0);
        let x = net.conv_relu("c2", &x, 4, slide(3, 1));
        let x = net.mean("mean", &x);
        let logit = net.dense("logit", &x, 1);
        let file = net.finish(&logit);
        let (fused, report) = fuse(typed(&file, SHAPE).expect("types")).expect("fuses");
        let left: Vec<&str> = report.left.iter().map(|l| l.operator.as_str()).collect();
        assert_eq!((left, report.census["Int8Quantise"]), (vec!["Conv"], 1), "{report}");
        let plain = unfused(typed(&file, SHAPE).expect("types")).expect("lowers");
        let (a, b) = (run(fused, vec![pixels(SHAPE)]), run(plain, vec![pixels(SHAPE)]));
        let (a, b) = (a.expect("runs"), b.expect("runs"));
        a[0].close_enough(&b[0], Approximation::SuperApproximate).expect("the same logit");
    }
}

#[test]
fn a_float_model_stays_as_it_is() {
    let mut net = Net::new(8);
    let w = net.floats("w", &[1, 3, 8, 8], &[0.01; 192]);
    let y = net.node("Conv", "c", &["x", &w], vec![]);
    let y = net.node("Flatten", "logit", &[&y], vec![("axis", Attribute::Int(1))]);
    let file = net.finish(&y);
    let (fused, report) = fuse(typed(&file, SHAPE).expect("types")).expect("passes");
    assert!(!report.quantised && report.fused() == 0, "{report}");
    let sum: f32 = crate::net::reals(&pixels(SHAPE)).iter().sum();
    let logit = crate::net::reals(&run(fused, vec![pixels(SHAPE)]).expect("runs")[0])[0];
    assert!((logit - 0.01 * sum).abs() < 1e-3, "{logit} {sum}");
}

/// What is done to a file.
#[derive(Debug, Clone)]
enum Damage {
    /// Other bytes in a constant.
    Bytes(usize, usize, Vec<u8>),
    /// Another shape of a constant, with its bytes or with as many as the shape takes.
    Shape(usize, Vec<i64>, bool),
    /// Another type of a constant.
    Type(usize, i32),
    /// Another value of an attribute.
    Attribute(usize, i64),
    /// An input of one node read from elsewhere.
    Input(usize, usize, usize),
    /// Another operator.
    Operator(usize, usize),
    /// A node that is missing.
    Gone(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = 0usize..1000;
    let dims = proptest::collection::vec(-1i64..20, 0..5);
    prop_oneof![
        (index.clone(), index.clone(), proptest::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(t, at, b)| Damage::Bytes(t, at, b)),
        (index.clone(), dims, any::<bool>()).prop_map(|(t, d, fit)| Damage::Shape(t, d, fit)),
        (index.clone(), 0..17i32).prop_map(|(t, kind)| Damage::Type(t, kind)),
        (index.clone(), -3i64..40).prop_map(|(n, value)| Damage::Attribute(n, value)),
        (index.clone(), 0usize..3, index.clone()).prop_map(|(n, slot, from)| Damage::Input(n, slot, from)),
        (index.clone(), index.clone()).prop_map(|(n, from)| Damage::Operator(n, from)),
        index.prop_map(Damage::Gone),
    ]
}

fn apply(model: &mut ModelProto, damage: Damage) {
    let graph = model.graph.as_mut().expect("a graph");
    let (constants, nodes) = (graph.initializer.len(), graph.node.len());
    match damage {
        Damage::Bytes(t, at, bytes) => {
            let raw = &mut graph.initializer[t % constants].raw_data;
            let at = at % raw.len().max(1);
            for (old, new) in raw[at..].iter_mut().zip(bytes) {
                *old = new;
            }
        }
        Damage::Shape(t, dims, fit) => {
            let tensor = &mut graph.initializer[t % constants];
            let count: i64 = dims.iter().product();
            if fit && count >= 0 {
                let size = if tensor.data_type == DataType::Float as i32 { 4 } else { 1 };
                tensor.raw_data.resize(count as usize * size, 1);
            }
            tensor.dims = dims;
        }
        Damage::Type(t, kind) => graph.initializer[t % constants].data_type = kind,
        Damage::Attribute(n, value) => {
            for attribute in &mut graph.node[n % nodes].attribute {
                attribute.i = value;
                attribute.ints.iter_mut().for_each(|i| *i = value);
            }
        }
        Damage::Input(n, slot, from) => {
            let from = graph.node[from % nodes].output[0].clone();
            if let Some(input) = graph.node[n % nodes].input.get_mut(slot) {
                *input = from;
            }
        }
        Damage::Operator(n, from) => graph.node[n % nodes].op_type = graph.node[from % nodes].op_type.clone(),
        Damage::Gone(n) => {
            let at = n % (nodes - 1);
            graph.node.remove(at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// What tract reads, the pass takes or refuses; and what it makes runs, or fails with an error.
    #[test]
    fn damaged_files_cause_errors_and_no_panics(damages in proptest::collection::vec(damage(), 1..4)) {
        let mut model = ModelProto::decode(&*file()).expect("a model");
        damages.into_iter().for_each(|damage| apply(&mut model, damage));
        let bytes = model.encode_to_vec();
        // Reading is tract's, which panics over some files: that is not what is tested here.
        let read = catch_unwind(|| typed(&bytes, SHAPE));
        let Ok(Ok(read)) = read else { return Ok(()) };
        if let Ok((fused, report)) = fuse(read) {
            prop_assert!(!report.to_string().contains('\n'));
            let optimised = catch_unwind(AssertUnwindSafe(|| fused.into_optimized()?.into_runnable()));
            if report.left.is_empty() {
                let plan = optimised.expect("no panic where nothing is tract's");
                if let Ok(plan) = plan {
                    let _ = plan.run(tvec![pixels(SHAPE).into()]);
                }
            }
        }
    }
}
