//! The reader of a [`Net`] for training: tensors in a `VarStore`, named by the layer's position in
//! the list.

use crate::{
    net::{Interpolation, Layer, Net},
    photos,
};
use anyhow::Result;
use tch::{Device, Kind, Tensor, nn, nn::Module as _};

/// Epsilon of batch normalisation, here and where it is folded.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

/// A network with weights.
#[derive(Debug)]
pub struct Module {
    layers: Vec<Built>,
}

#[derive(Debug)]
enum Built {
    Normalise(f64, f64),
    NormaliseChannels { mean: Tensor, deviation: Tensor },
    HighPass { kernel: Tensor, channels: i64 },
    Conv { weight: Tensor, bias: Option<Tensor>, stride: i64, padding: i64, zero_sum: bool },
    ConvTranspose { weight: Tensor, bias: Tensor, kernel: i64 },
    BatchNorm(nn::BatchNorm),
    GroupNorm(nn::GroupNorm),
    Relu,
    LeakyRelu(f64),
    Sigmoid,
    Clip(f64),
    Upsample(i64, Interpolation),
    PixelShuffle(i64),
    Binomial { kernel: Tensor, channels: i64 },
    Noise { strength: Tensor },
    Quantise { half: f64 },
    Residual(Vec<Built>),
    Sum(Vec<Built>, Vec<Built>),
    MaxPool(i64, i64),
    MeanPool,
    Linear(nn::Linear),
}

impl Module {
    /// The output for a batch, without training.
    pub fn infer(&self, x: &Tensor) -> Tensor {
        tch::no_grad(|| self.forward(x, false))
    }

    /// Logits of pictures of the same size.
    ///
    /// # Errors
    /// The network's output is not one number per picture.
    pub fn logits(&self, pictures: &[image::RgbImage], device: Device) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        for some in pictures.chunks(16) {
            let x = photos::to_tensor(some).to_device(device);
            out.extend(Vec::<f32>::try_from(self.infer(&x).to_device(Device::Cpu).view(-1))?);
        }
        Ok(out)
    }

    /// Adds the network's variables below `path` and reads them from there.
    pub fn new(path: &nn::Path, net: &Net) -> Module {
        Module { layers: build(path, &net.layers) }
    }

    /// The network's output for `x` `[N, C, H, W]`. `train` uses the batch's own statistics.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        run(&self.layers, x, train)
    }
}

fn build(path: &nn::Path, layers: &[Layer]) -> Vec<Built> {
    layers.iter().enumerate().map(|(at, layer)| build_one(&(path / at), layer)).collect()
}

fn build_one(path: &nn::Path, layer: &Layer) -> Built {
    match layer {
        Layer::Normalise { mean, deviation } => Built::Normalise((*mean).into(), (*deviation).into()),
        Layer::NormaliseChannels { mean, deviation } => {
            let three = |v: &[f32; 3]| Tensor::from_slice(v).reshape([1, 3, 1, 1]).to_device(path.device());
            Built::NormaliseChannels { mean: three(mean), deviation: three(deviation) }
        }
        Layer::HighPass { channels } => Built::HighPass {
            kernel: high_pass().repeat([*channels, 1, 1, 1]).to_device(path.device()),
            channels: *channels,
        },
        Layer::Conv { channels: (from, to), kernel, stride, bias, zero_sum } => {
            let weight = path.kaiming_normal("weight", &[*to, *from, *kernel, *kernel]);
            if *zero_sum {
                tch::no_grad(|| weight.shallow_clone().copy_(&residual_filters(&weight)));
            }
            let bias = bias.then(|| path.zeros("bias", &[*to]));
            Built::Conv { weight, bias, stride: *stride, padding: kernel / 2, zero_sum: *zero_sum }
        }
        Layer::ConvTranspose { channels: (from, to), kernel } => {
            // Each output depends on about a quarter of the kernel's taps.
            let deviation = (2.0 / (from * kernel * kernel / 4) as f64).sqrt();
            let weight = path.randn("weight", &[*from, *to, *kernel, *kernel], 0.0, deviation);
            Built::ConvTranspose { weight, bias: path.zeros("bias", &[*to]), kernel: *kernel }
        }
        Layer::BatchNorm { channels } => {
            let config = nn::BatchNormConfig {
                eps: BATCH_NORM_EPSILON,
                ws_init: nn::Init::Const(1.0),
                ..Default::default()
            };
            Built::BatchNorm(nn::batch_norm2d(path, *channels, config))
        }
        Layer::GroupNorm { channels, groups } => {
            Built::GroupNorm(nn::group_norm(path, *groups, *channels, Default::default()))
        }
        Layer::Relu => Built::Relu,
        Layer::LeakyRelu { slope } => Built::LeakyRelu((*slope).into()),
        Layer::Sigmoid => Built::Sigmoid,
        Layer::Clip { limit } => Built::Clip((*limit).into()),
        Layer::Upsample { factor, by } => Built::Upsample(*factor, *by),
        Layer::PixelShuffle { factor } => Built::PixelShuffle(*factor),
        Layer::Binomial { channels } => {
            let row = Tensor::from_slice(&[0.25f32, 0.5, 0.25]).to_device(path.device());
            let kernel = row.outer(&row).reshape([1, 1, 3, 3]).repeat([*channels, 1, 1, 1]);
            Built::Binomial { kernel, channels: *channels }
        }
        Layer::Noise { channels } => Built::Noise { strength: path.zeros("strength", &[1, *channels, 1, 1]) },
        Layer::Quantise { levels } => Built::Quantise { half: (levels / 2) as f64 },
        Layer::Residual { layers } => Built::Residual(build(path, layers)),
        Layer::Sum { a, b } => Built::Sum(build(&(path / "a"), a), build(&(path / "b"), b)),
        Layer::MaxPool { kernel, stride } => Built::MaxPool(*kernel, *stride),
        Layer::MeanPool => Built::MeanPool,
        Layer::Linear { features: (from, to) } => {
            Built::Linear(nn::linear(path, *from, *to, Default::default()))
        }
    }
}

/// `[1, 1, 5, 5]`: one pixel minus the binomial mean of its neighbourhood.
pub fn high_pass() -> Tensor {
    let row = Tensor::from_slice(&[1f32, 4.0, 6.0, 4.0, 1.0]) / 16.0;
    let kernel = -row.outer(&row);
    let _ = kernel.get(2).get(2).g_add_scalar_(1.0);
    kernel.reshape([1, 1, 5, 5])
}

/// Initial weights of a zero-sum stem: the basic 3x3 residual filters of SRM, each applied to one
/// colour or to grey, plus small random ones; the mean is subtracted in the forward pass.
fn residual_filters(random: &Tensor) -> Tensor {
    const FILTERS: [[f32; 9]; 6] = [
        [0., 0., 0., -1., 1., 0., 0., 0., 0.],
        [0., -1., 0., 0., 1., 0., 0., 0., 0.],
        [0., 0., 0., 0.5, -1., 0.5, 0., 0., 0.],
        [0., 0.5, 0., 0., -1., 0., 0., 0.5, 0.],
        [-0.25, 0.5, -0.25, 0.5, -1., 0.5, -0.25, 0.5, -0.25],
        [0., 0.25, 0., 0.25, -1., 0.25, 0., 0.25, 0.],
    ];
    let size = random.size();
    let (outputs, inputs, kernel) = (size[0], size[1], size[2]);
    let out = random * 0.1;
    if kernel != 3 {
        return out;
    }
    for filter in 0..outputs {
        let pattern = Tensor::from_slice(&FILTERS[filter as usize % FILTERS.len()]).reshape([3, 3]);
        // First for grey, then for each colour.
        let round = filter / FILTERS.len() as i64;
        for input in 0..inputs {
            if round == 0 || (filter + round) % inputs == input {
                let strength = if round == 0 { 1.0 / inputs as f64 } else { 1.0 };
                let mut target = out.get(filter).get(input);
                let _ = target.g_add_(&(&pattern * strength).to_device(random.device()));
            }
        }
    }
    out
}

/// The effective weight: with each filter's mean subtracted if the layer is zero-sum.
pub fn effective_weight(weight: &Tensor, zero_sum: bool) -> Tensor {
    if zero_sum { weight - weight.mean_dim([2i64, 3].as_slice(), true, None) } else { weight.shallow_clone() }
}

fn run(layers: &[Built], x: &Tensor, train: bool) -> Tensor {
    layers.iter().fold(x.shallow_clone(), |x, layer| run_one(layer, &x, train))
}

fn run_one(layer: &Built, x: &Tensor, train: bool) -> Tensor {
    match layer {
        Built::Normalise(mean, deviation) => (x - *mean) / *deviation,
        Built::NormaliseChannels { mean, deviation } => (x - mean) / deviation,
        Built::HighPass { kernel, channels } => x.replication_pad2d([2, 2, 2, 2]).conv2d(
            &kernel.to_kind(x.kind()),
            None::<&Tensor>,
            [1, 1],
            [0, 0],
            [1, 1],
            *channels,
        ),
        Built::Conv { weight, bias, stride, padding, zero_sum } => {
            let weight = effective_weight(weight, *zero_sum);
            x.conv2d(&weight, bias.as_ref(), [*stride; 2], [*padding; 2], [1, 1], 1)
        }
        Built::ConvTranspose { weight, bias, kernel } => {
            let extra = if *kernel == 3 { 1 } else { 0 };
            x.conv_transpose2d(weight, Some(bias), [2, 2], [1, 1], [extra; 2], 1, [1, 1])
        }
        Built::BatchNorm(norm) => nn::ModuleT::forward_t(norm, x, train),
        Built::GroupNorm(norm) => norm.forward(x),
        Built::Relu => x.relu(),
        // max(x, slope x) for slopes below 1; cheaper to differentiate than a mask.
        Built::LeakyRelu(slope) => x.maximum(&(x * *slope)),
        Built::Sigmoid => x.sigmoid(),
        Built::Clip(limit) => x.clamp(-*limit, *limit),
        Built::Upsample(factor, by) => {
            let size = x.size();
            let to = [size[2] * factor, size[3] * factor];
            match by {
                Interpolation::Nearest => x.upsample_nearest2d(to, None, None),
                Interpolation::Bilinear => x.upsample_bilinear2d(to, false, None, None),
            }
        }
        Built::PixelShuffle(factor) => x.pixel_shuffle(*factor),
        Built::Binomial { kernel, channels } => {
            x.conv2d(&kernel.to_kind(x.kind()), None::<&Tensor>, [1, 1], [1, 1], [1, 1], *channels)
        }
        Built::Noise { strength } => {
            let size = x.size();
            let noise = Tensor::randn([size[0], 1, size[2], size[3]], (Kind::Float, x.device()));
            x + noise * strength
        }
        Built::Quantise { half } => {
            let bounded = x.tanh() * *half;
            (&bounded + (bounded.round() - &bounded).detach()) / *half
        }
        Built::Residual(layers) => x + run(layers, x, train),
        Built::Sum(a, b) => run(a, x, train) + run(b, x, train),
        Built::MaxPool(kernel, stride) => {
            x.max_pool2d([*kernel; 2], [*stride; 2], [kernel / 2; 2], [1, 1], false)
        }
        Built::MeanPool => x.mean_dim([2i64, 3].as_slice(), false, Kind::Float),
        Built::Linear(linear) => linear.forward(x),
    }
}
