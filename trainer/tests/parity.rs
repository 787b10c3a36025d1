//! The two readers of a network must agree: what libtorch computes and what tract computes from the
//! exported file, on the same weights.

use spotd_train::{
    bank,
    module::Module,
    net::{self, Interpolation, Layer, Net},
    onnx::{self, Ends, Side},
    resnet::{Depth, imagenet, resnet},
};
use tch::{Device, Kind, Tensor, nn::VarStore};
use tract_onnx::prelude::*;

/// Random weights, and batch statistics far from the fresh ones, so that folding is put to the
/// test.
fn randomised(net: &Net, seed: i64) -> (VarStore, Module) {
    tch::manual_seed(seed);
    let store = VarStore::new(Device::Cpu);
    let module = Module::new(&store.root(), net);
    tch::no_grad(|| {
        for (name, mut tensor) in store.variables() {
            if name.ends_with("running_mean") {
                let _ = tensor.normal_(0.0, 0.3);
            } else if name.ends_with("running_var") {
                let _ = tensor.uniform_(0.3, 3.0);
            } else if name.ends_with("bias") {
                let _ = tensor.normal_(0.0, 0.2);
            }
        }
    });
    (store, module)
}

fn run_tract(bytes: &[u8], x: &Tensor) -> Vec<f32> {
    let shape: Vec<usize> = x.size().iter().map(|n| *n as usize).collect();
    let values = Vec::<f32>::try_from(x.contiguous().view(-1)).unwrap();
    let input = tract_onnx::prelude::Tensor::from_shape(&shape, &values).unwrap();
    let model = tract_onnx::onnx()
        .model_for_read(&mut std::io::Cursor::new(bytes))
        .unwrap()
        .with_input_fact(0, f32::fact(&shape).into())
        .unwrap()
        .into_optimized()
        .unwrap()
        .into_runnable()
        .unwrap();
    let output = model.run(tvec!(input.into())).unwrap();
    output[0].to_plain_array_view::<f32>().unwrap().iter().copied().collect()
}

fn worst(net: &Net, ends: &Ends, shape: [i64; 4], seed: i64) -> f32 {
    let (store, module) = randomised(net, seed);
    let bytes = onnx::write(net, &store, ends).unwrap();
    let x = Tensor::rand(shape, (Kind::Float, Device::Cpu));
    let torch =
        Vec::<f32>::try_from(tch::no_grad(|| module.forward(&x, false)).contiguous().view(-1)).unwrap();
    let tract = run_tract(&bytes, &x);
    assert_eq!(torch.len(), tract.len(), "{}", net.name);
    assert!(torch.iter().any(|v| v.abs() > 1e-3), "{}: an answer of zeros proves nothing", net.name);
    // Sixteen residual blocks of random weights answer with hundreds: the error is relative to
    // that.
    let scale = torch.iter().fold(1f32, |most, v| most.max(v.abs()));
    torch.iter().zip(&tract).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max)
}

fn unit(from: i64, to: i64, kernel: i64, stride: i64) -> Vec<Layer> {
    vec![Layer::conv(from, to, kernel, stride), Layer::BatchNorm { channels: to }, Layer::Relu]
}

#[test]
fn the_edge_detector_says_the_same_in_torch_and_in_tract() {
    let shape = [1, 3, net::TILE, net::TILE];
    let apart = worst(&net::edge(), &Ends::detector(net::TILE), shape, 1);
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn detectors_of_many_shapes_agree() {
    for seed in 0..6 {
        let (width, side) = (16 * (1 + seed % 3), 32 + 16 * (seed % 2));
        let stem = Layer::Conv {
            channels: (3, width),
            kernel: 3,
            stride: 1 + seed % 2,
            bias: seed % 2 == 0,
            zero_sum: seed % 3 != 0,
        };
        let mut layers = vec![
            Layer::Normalise { mean: 0.45, deviation: 0.22 },
            stem,
            Layer::BatchNorm { channels: width },
        ];
        layers.push(if seed % 2 == 0 { Layer::Clip { limit: 0.7 } } else { Layer::LeakyRelu { slope: 0.2 } });
        layers.push(Layer::Residual { layers: [unit(width, 16, 1, 1), unit(16, width, 3, 1)].concat() });
        layers.extend(unit(width, 32, 3, 2));
        layers.extend([
            Layer::MeanPool,
            Layer::Linear { features: (32, 16) },
            Layer::Relu,
            Layer::Linear { features: (16, 1) },
        ]);
        let net = Net { name: format!("shape-{seed}"), layers };
        let ends = Ends::detector(side);
        let apart = worst(&net, &ends, [2, 3, side, side], seed);
        assert!(apart < 1e-4, "{}: {apart}", net.name);
    }
}

#[test]
fn residual_networks_agree() {
    for (seed, depth, side) in [(1, Depth::Resnet18, 64), (2, Depth::Resnet50, 96)] {
        let net = resnet(depth, 1, imagenet()).net;
        let apart = worst(&net, &Ends::detector(side), [2, 3, side, side], seed);
        assert!(apart < 1e-4, "{}: {apart}", net.name);
    }
    let front = vec![Layer::HighPass { channels: 3 }, Layer::Normalise { mean: 0.0, deviation: 0.05 }];
    let net = resnet(Depth::Resnet18, 1, front).net;
    let apart = worst(&net, &Ends::detector(64), [1, 3, 64, 64], 3);
    assert!(apart < 1e-4, "high-pass: {apart}");
}

#[test]
fn two_readings_of_one_input_agree() {
    let branch = vec![
        Layer::Conv { channels: (3, 4), kernel: 3, stride: 1, bias: false, zero_sum: true },
        Layer::Clip { limit: 0.2 },
        Layer::MeanPool,
        Layer::Linear { features: (4, 1) },
    ];
    let other = [unit(3, 16, 3, 2), vec![Layer::MeanPool, Layer::Linear { features: (16, 1) }]].concat();
    let net = Net { name: "sum".into(), layers: vec![Layer::Sum { a: other, b: branch }] };
    let apart = worst(&net, &Ends::detector(32), [3, 3, 32, 32], 8);
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn decoders_agree_whatever_their_upsampling() {
    let conv =
        |from, to| Layer::Conv { channels: (from, to), kernel: 3, stride: 1, bias: true, zero_sum: false };
    let ups: [Vec<Layer>; 5] = [
        vec![Layer::ConvTranspose { channels: (8, 8), kernel: 4 }, Layer::BatchNorm { channels: 8 }],
        vec![Layer::ConvTranspose { channels: (8, 8), kernel: 3 }],
        vec![Layer::Upsample { factor: 2, by: Interpolation::Nearest }],
        vec![Layer::Upsample { factor: 2, by: Interpolation::Bilinear }],
        vec![conv(8, 32), Layer::PixelShuffle { factor: 2 }],
    ];
    for (seed, up) in ups.into_iter().enumerate() {
        let layers = [unit(3, 8, 3, 2), up, vec![Layer::Relu, conv(8, 3), Layer::Sigmoid]].concat();
        let net = Net { name: format!("decoder-{seed}"), layers };
        let apart = worst(&net, &Ends::picture(18, 24), [1, 3, 18, 24], seed as i64);
        assert!(apart < 1e-5, "{}: {apart}", net.name);
    }
}

#[test]
fn the_demonstrations_network_agrees_on_a_small_picture() {
    let apart = worst(&bank::demo(), &Ends::picture(36, 64), [1, 3, 36, 64], 3);
    assert!(apart < 1e-5, "{apart}");
}

#[test]
fn what_has_no_plain_form_is_refused_by_name() {
    let net = Net { name: "noisy".into(), layers: vec![Layer::Noise { channels: 3 }] };
    let store = VarStore::new(Device::Cpu);
    Module::new(&store.root(), &net);
    let error = format!("{:#}", onnx::write(&net, &store, &Ends::detector(32)).unwrap_err());
    assert!(error.contains("noisy") && error.contains("Noise"), "{error}");
    let net = Net { name: "loose".into(), layers: vec![Layer::Relu, Layer::BatchNorm { channels: 3 }] };
    let error =
        format!("{:#}", onnx::write(&net, &VarStore::new(Device::Cpu), &Ends::detector(32)).unwrap_err());
    assert!(error.contains("no convolution before it"), "{error}");
}

#[test]
fn the_batch_is_symbolic() {
    let net = Net {
        name: "n".into(),
        layers: [unit(3, 16, 3, 2), vec![Layer::MeanPool, Layer::Linear { features: (16, 1) }]].concat(),
    };
    let (store, _) = randomised(&net, 4);
    let ends = Ends {
        input: [Side::Any("N"), Side::Fixed(3), Side::Fixed(32), Side::Fixed(32)],
        ..Ends::detector(32)
    };
    let bytes = onnx::write(&net, &store, &ends).unwrap();
    let one = Tensor::rand([1, 3, 32, 32], (Kind::Float, Device::Cpu));
    let three = Tensor::cat(&[one.shallow_clone(), &one * 0.5, &one * 0.2], 0);
    let (a, b) = (run_tract(&bytes, &one), run_tract(&bytes, &three));
    assert_eq!((a.len(), b.len()), (1, 3));
    assert!((a[0] - b[0]).abs() < 1e-5);
}
