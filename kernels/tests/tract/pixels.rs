//! Pixels as they come give the logit of the floats made of them, bit for bit.

use std::path::Path;

use spotd_kernels::Isa;
use spotd_kernels::tract::{Input, Report, fuse, fuse_for, take_pixels};
use tract_onnx::prelude::*;

use crate::net::{Attribute, Net, reals, run, slide, typed};

/// As the daemon counts pixels.
fn real(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

/// What the tiles show.
#[derive(Debug, Clone, Copy)]
enum Scene {
    Noise,
    /// Slopes and edges, with a little noise upon them.
    Picture,
    /// Each byte in turn, so that no entry of a table is left out.
    Every,
}

/// NHWC bytes.
fn bytes(scene: Scene, [n, c, h, w]: [usize; 4]) -> Vec<u8> {
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let byte = |i: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (x, y, channel) = (i / c % w, i / (c * w) % h, i % c);
        match scene {
            Scene::Noise => (random >> 32) as u8,
            Scene::Every => (i / c) as u8,
            Scene::Picture => {
                let edge = if (x / 9 + y / 7).is_multiple_of(2) { 60 } else { 0 };
                (x * 150 / w + y * (20 + 10 * channel) / h + edge + (random >> 62) as usize) as u8
            }
        }
    };
    (0..n * c * h * w).map(byte).collect()
}

/// The floats that they stand for, NCHW.
fn floats(bytes: &[u8], [n, c, h, w]: [usize; 4]) -> Tensor {
    let mut values = vec![0.0; n * c * h * w];
    for (at, &byte) in bytes.iter().enumerate() {
        let (picture, pixel, channel) = (at / (c * h * w), at / c % (h * w), at % c);
        values[(picture * c + channel) * h * w + pixel] = real(byte);
    }
    Tensor::from_shape(&[n, c, h, w], &values).expect("as many as the shape has")
}

/// Runs both forms; the report of the one for pixels.
fn check(name: &str, file: &[u8], shape: [usize; 4]) -> Report {
    let [n, c, h, w] = shape;
    let (floating, before) = fuse(typed(file, shape).expect(name)).expect(name);
    assert_eq!(before.input, Input::Floats { because: None });
    let (taking, report) = take_pixels(floating.clone(), before.clone(), real).expect(name);
    assert_eq!(report.input, Input::Pixels, "{name}: {report}");
    assert!(report.to_string().contains(" from pixels"), "{report}");
    // Both forms are the same but for the first operator.
    let mut inside = [&before, &report].map(|r| r.census.clone());
    assert_eq!(inside[0].remove("Int8Quantise"), Some(1), "{name}: {before:?}");
    inside[1].remove("Int8Pixels");
    assert_eq!(inside[0], inside[1], "{name}");
    assert_eq!(report.left, before.left);
    let fact = taking.input_fact(0).expect(name);
    assert_eq!((fact.datum_type, fact.shape.as_concrete()), (u8::datum_type(), Some(&[n, h, w, c][..])));
    let plan = |model: TypedModel| model.into_optimized().expect(name).into_runnable().expect(name);
    let (floating, taking) = (plan(floating), plan(taking));
    for scene in [Scene::Noise, Scene::Picture, Scene::Every] {
        let bytes = bytes(scene, shape);
        let by_floats = floating.run(tvec![floats(&bytes, shape).into()]).expect(name);
        let tensor = Tensor::from_shape(&[n, h, w, c], &bytes).expect("as many as the shape has");
        let by_pixels = taking.run(tvec![tensor.into()]).expect(name);
        let bits = |outputs: &[TValue]| reals(&outputs[0]).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&by_pixels).len(), n, "{name}");
        assert_eq!(bits(&by_pixels), bits(&by_floats), "{name}, {scene:?}");
    }
    report
}

#[test]
fn the_shipped_detector_reads_the_cameras_own_bytes() {
    let name = "spotd-edge-int8";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/{name}.onnx"));
    let file = std::fs::read(path).expect(name);
    for shape in [[1, 3, 224, 224], [2, 3, 224, 224], [1, 3, 91, 150]] {
        let report = check(name, &file, shape);
        // Steps of 1/255 from 0: there is nothing to look up.
        assert_eq!(report.census.get("Int8Pixels"), None, "{name}: {report:?}");
        assert_eq!((report.left.len(), report.fused()), (0, report.census.values().sum()), "{report}");
    }
}

/// Normalisation in front of two layers, bytes as given.
fn network(steps: &[(&str, &[f32])], scale: f32, zero: u8, signed: bool) -> Vec<u8> {
    let mut net = Net::new(20);
    let mut x = "x".to_owned();
    for (at, (operator, values)) in steps.iter().enumerate() {
        let dims: &[i64] = if values.len() == 1 { &[] } else { &[1, 3, 1, 1] };
        let constant = net.floats(&format!("step{at}"), dims, values);
        x = net.node(operator, &format!("normal{at}"), &[&x, &constant], vec![]);
    }
    let mut x = net.quantised(&x, 3, scale, zero);
    if signed {
        let zero = net.graph.initializer.last_mut().expect("the zero point");
        zero.data_type = tract_onnx::pb::tensor_proto::DataType::Int8 as i32;
        zero.raw_data[0] ^= 0x80;
    }
    x = net.conv_relu("c1", &x, 8, slide(3, 2));
    x = net.conv_relu("c2", &x, 8, slide(3, 1));
    let x = net.mean("mean", &x);
    let logit = net.dense("logit", &x, 1);
    net.finish(&logit)
}

#[test]
fn normalisation_becomes_a_table_of_each_channel() {
    let imagenet: &[(&str, &[f32])] = &[("Sub", &[0.485, 0.456, 0.406]), ("Div", &[0.229, 0.224, 0.225])];
    let folded: &[(&str, &[f32])] = &[("Mul", &[4.37, 4.46, 4.44]), ("Add", &[-2.12, -2.04, -1.8])];
    let clipped: &[(&str, &[f32])] = &[("Sub", &[0.5]), ("Max", &[-0.3]), ("Min", &[0.4])];
    for (name, steps, scale, zero, signed) in [
        ("ImageNet", imagenet, 0.0187, 114, false),
        ("ImageNet, signed", imagenet, 0.0211, 128, true),
        ("factor and sum", folded, 0.0187, 114, false),
        ("bounds", clipped, 1.0 / 255.0, 128, false),
        ("coarse", &[], 3.0 / 255.0, 7, false),
        ("from the middle", &[("Sub", &[128.0 / 255.0])], 1.0 / 255.0, 128, true),
    ] {
        let file = network(steps, scale, zero, signed);
        for shape in [[1, 3, 20, 20], [3, 3, 17, 33]] {
            let report = check(name, &file, shape);
            assert_eq!(report.census["Int8Pixels"], 1, "{name}");
        }
    }
    let report = check("plain", &network(&[], 1.0 / 255.0, 0, false), [1, 3, 20, 20]);
    assert_eq!(report.census.get("Int8Pixels"), None, "{report:?}");
}

#[test]
fn every_instruction_set_takes_pixels() {
    let (shape, file) = ([1, 3, 21, 34], network(&[("Sub", &[0.485, 0.456, 0.406])], 0.004, 120, false));
    let bytes = bytes(Scene::Picture, shape);
    let mut answers = vec![];
    for isa in Isa::available() {
        let (model, report) = fuse_for(typed(&file, shape).expect("types"), isa).expect("fuses");
        let (model, _) = take_pixels(model, report, real).expect("takes");
        let tensor = Tensor::from_shape(&[1, 21, 34, 3], &bytes).expect("as many as the shape has");
        answers.push(reals(&run(model, vec![tensor]).expect("runs")[0])[0].to_bits());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[test]
fn a_model_that_needs_floats_keeps_them_and_says_why() {
    let shape = [1, 3, 8, 8];
    let plain = {
        let mut net = Net::new(8);
        let w = net.floats("w", &[1, 3, 8, 8], &[0.01; 192]);
        let y = net.node("Conv", "c", &["x", &w], vec![]);
        let y = net.node("Flatten", "logit", &[&y], vec![("axis", Attribute::Int(1))]);
        net.finish(&y)
    };
    let rooted = {
        let mut net = Net::new(8);
        let root = net.node("Sqrt", "root", &["x"], vec![]);
        let x = net.quantised(&root, 3, 1.0 / 255.0, 0);
        let x = net.conv_relu("c1", &x, 4, slide(3, 1));
        let x = net.mean("mean", &x);
        let logit = net.dense("logit", &x, 1);
        net.finish(&logit)
    };
    // A layer in float reads the same pixels as one in int8.
    let both = {
        let mut net = Net::new(8);
        let x = net.quantised("x", 3, 1.0 / 255.0, 0);
        let x = net.conv_relu("c1", &x, 4, slide(3, 1));
        let x = net.mean("mean", &x);
        let logit = net.dense("half", &x, 1);
        let other = net.node("ReduceMax", "most", &["x"], vec![("keepdims", Attribute::Int(0))]);
        let sum = net.node("Add", "logit", &[&logit, &other], vec![]);
        net.finish(&sum)
    };
    for (file, reason) in [(plain, "Conv c reads"), (rooted, "root reads"), (both, "most reads")] {
        let (model, report) = fuse(typed(&file, shape).expect("types")).expect("fuses");
        let (left, census) = (report.left.clone(), report.census.clone());
        let (model, report) = take_pixels(model, report, real).expect("passes");
        let Input::Floats { because: Some(why) } = &report.input else { panic!("{report}") };
        assert!(why.contains(reason), "{why}");
        assert!(report.to_string().contains(&format!(" from floats ({why})")), "{report}");
        assert_eq!((report.left, report.census), (left, census));
        let zeros = Tensor::zero::<f32>(&shape).expect("a tensor");
        assert!(reals(&run(model, vec![zeros]).expect("takes floats")[0])[0].is_finite());
    }
}
