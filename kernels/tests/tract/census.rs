//! Which operators are left, by name and number, for the kinds of networks that detectors are made
//! of; and that they answer as the file says.

use std::collections::BTreeMap;

use spotd_kernels::tract::{Report, fuse, unfused};

use crate::net::{Bytes, Net, Slide, pixels, reals, run, slide, typed};

/// Fuses, compares with the file run in float, and gives what was done.
fn check(name: &str, file: &[u8], side: usize, tolerance: f32) -> Report {
    let shape = [2, 3, side, side];
    let (fused, report) = fuse(typed(file, shape).expect(name)).expect(name);
    let fused = run(fused, vec![pixels(shape)]).expect(name);
    let plain = unfused(typed(file, shape).expect(name)).expect(name);
    let plain = run(plain, vec![pixels(shape)]).expect(name);
    let (fused, plain) = (reals(&fused[0]), reals(&plain[0]));
    assert_eq!(fused.len(), 2, "{name}");
    for (a, b) in fused.iter().zip(&plain) {
        assert!((a - b).abs() <= tolerance, "{name}: {fused:?} {plain:?}");
    }
    report
}

fn census(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(name, n)| (name.to_string(), *n)).collect()
}

/// The trainer's small detector: normalisation in front, residual blocks that add behind the ReLU.
fn edge(rounded_before_sum: bool) -> Vec<u8> {
    let mut net = Net::new(32);
    let mean = net.floats("mean", &[], &[0.5]);
    let scale = net.floats("scale", &[], &[4.0]);
    let x = net.node("Sub", "centred", &["x", &mean], vec![]);
    let x = net.node("Mul", "normal", &[&x, &scale], vec![]);
    let x = net.quantised(&x, 3, 4.0 / 255.0, 128);
    let x = net.conv_relu("c1", &x, 16, slide(3, 1));
    let x = net.conv_relu("c2", &x, 24, slide(3, 2));
    let mut x = net.conv_relu("c3", &x, 32, slide(3, 2));
    for (i, outputs) in [32, 48].into_iter().enumerate() {
        if i == 1 {
            x = net.conv_relu("c4", &x, outputs, slide(3, 2));
        }
        let name = format!("r{i}");
        let y = if rounded_before_sum {
            net.conv_relu(&name, &x, outputs, slide(3, 1)).name
        } else {
            let y = net.conv(&name, &x, outputs, slide(3, 1));
            net.node("Relu", &format!("{name}.relu"), &[&y], vec![])
        };
        let y = net.node("Add", &format!("{name}.sum"), &[&x.name, &y], vec![]);
        x = net.quantised(&y, outputs, 0.04, 0);
    }
    let x = net.mean("pool", &x);
    let logit = net.dense("logit", &x, 1);
    net.finish(&logit)
}

#[test]
fn our_edge_network() {
    let whole = [("Int8Quantise", 1), ("Int8Conv", 6), ("Int8Pool", 1), ("Int8Dense", 1)];
    let report = check("edge", &edge(false), 32, 0.02);
    assert_eq!(report.census, census(&whole));
    assert_eq!((report.left, report.quantised), (vec![], true));
    let report = check("edge, rounded", &edge(true), 32, 0.02);
    assert_eq!(report.census, census(&[&whole[..], &[("Int8Add", 2)]].concat()));
}

/// A residual network in torchvision's form, an eighth as wide.
fn resnet(blocks: [usize; 4], bottleneck: bool) -> Vec<u8> {
    let mut net = Net::new(64);
    let x = net.quantised("x", 3, 1.0 / 255.0, 0);
    let x = net.conv_relu("stem", &x, 8, slide(7, 2));
    let mut x = net.max_pool("pool", &x, 3, 2, 1);
    for (stage, count) in blocks.into_iter().enumerate() {
        let inner = 8 << stage;
        let outer = if bottleneck { inner * 4 } else { inner };
        for block in 0..count {
            let name = format!("s{stage}.b{block}");
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let y = if bottleneck {
                let y = net.conv_relu(&format!("{name}.c1"), &x, inner, slide(1, 1));
                let y = net.conv_relu(&format!("{name}.c2"), &y, inner, slide(3, stride));
                net.conv(&format!("{name}.c3"), &y, outer, slide(1, 1))
            } else {
                let y = net.conv_relu(&format!("{name}.c1"), &x, inner, slide(3, stride));
                net.conv(&format!("{name}.c2"), &y, outer, slide(3, 1))
            };
            let short = if x.channels == outer && stride == 1 {
                x.clone()
            } else {
                let short = net.conv(&format!("{name}.short"), &x, outer, slide(1, stride));
                net.quantised(&short, outer, 0.04, 120)
            };
            let y = net.node("Add", &format!("{name}.sum"), &[&y, &short.name], vec![]);
            let y = net.node("Relu", &format!("{name}.relu"), &[&y], vec![]);
            x = net.quantised(&y, outer, 0.04, 0);
        }
    }
    let x = net.mean("mean", &x);
    let logit = net.dense("logit", &x, 1);
    net.finish(&logit)
}

#[test]
fn resnet_18_and_50() {
    let report = check("resnet-18", &resnet([2, 2, 2, 2], false), 64, 0.05);
    let whole = |convolutions| {
        census(&[("Int8Quantise", 1), ("Int8Conv", convolutions), ("Int8Pool", 2), ("Int8Dense", 1)])
    };
    assert_eq!(report.census, whole(1 + 16 + 3));
    assert_eq!(report.left, []);
    let report = check("resnet-50", &resnet([3, 4, 6, 3], true), 64, 0.05);
    assert_eq!(report.census, whole(1 + 48 + 4));
    assert_eq!(report.left, []);
}

#[test]
fn a_depthwise_network() {
    let mut net = Net::new(32);
    let x = net.quantised("x", 3, 1.0 / 255.0, 0);
    let relu6 = |net: &mut Net, name: &str, x: &Bytes, outputs, by| {
        let y = net.conv(name, x, outputs, by);
        let (low, high) = (
            net.floats(&format!("{name}.low"), &[], &[0.0]),
            net.floats(&format!("{name}.high"), &[], &[6.0]),
        );
        let y = net.node("Clip", &format!("{name}.clip"), &[&y, &low, &high], vec![]);
        net.quantised(&y, outputs, 6.0 / 255.0, 0)
    };
    let mut x = relu6(&mut net, "stem", &x, 16, slide(3, 2));
    for (i, (outputs, stride)) in [(16, 1), (24, 2), (24, 1), (40, 2), (40, 1)].into_iter().enumerate() {
        let wide = x.channels * 3;
        let y = relu6(&mut net, &format!("b{i}.expand"), &x, wide, slide(1, 1));
        let by = Slide { kernel: if i % 2 == 0 { 3 } else { 5 }, stride, groups: wide };
        let y = relu6(&mut net, &format!("b{i}.depth"), &y, wide, by);
        let y = net.conv(&format!("b{i}.project"), &y, outputs, slide(1, 1));
        let y = if outputs == x.channels && stride == 1 {
            net.node("Add", &format!("b{i}.sum"), &[&x.name, &y], vec![])
        } else {
            y
        };
        x = net.quantised(&y, outputs, 0.05, 128);
    }
    let x = net.mean("mean", &x);
    let logit = net.dense("logit", &x, 1);
    let report = check("depthwise", &net.finish(&logit), 32, 0.05);
    let whole = [("Int8Quantise", 1), ("Int8Conv", 16), ("Int8Pool", 1), ("Int8Dense", 1)];
    assert_eq!(report.census, census(&whole));
    assert_eq!(report.left, []);
}

#[test]
fn a_plain_network_with_dense_layers() {
    let mut net = Net::new(32);
    let mut x = net.quantised("x", 3, 1.0 / 255.0, 0);
    for (stage, (outputs, layers)) in [(8, 2), (16, 2), (32, 3)].into_iter().enumerate() {
        for layer in 0..layers {
            x = net.conv_relu(&format!("s{stage}.c{layer}"), &x, outputs, slide(3, 1));
        }
        x = net.max_pool(&format!("s{stage}.pool"), &x, 2, 2, 0);
    }
    // 32 channels of 4x4, flattened between bytes: the order of the weights has to follow.
    let y = net.node("Flatten", "flat", &[&x.name], vec![("axis", crate::net::Attribute::Int(1))]);
    let x = net.quantised(&y, 32 * 16, 0.025, 0);
    let y = net.dense("d1", &x, 64);
    let y = net.node("Relu", "d1.relu", &[&y], vec![]);
    let x = net.quantised(&y, 64, 0.025, 0);
    let logit = net.dense("logit", &x, 1);
    let report = check("plain", &net.finish(&logit), 32, 0.05);
    let whole = [("Int8Quantise", 1), ("Int8Conv", 7), ("Int8Pool", 3), ("Int8Dense", 2)];
    assert_eq!(report.census, census(&whole));
    assert_eq!(report.left, []);
}
