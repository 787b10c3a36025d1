//! A network is a value: a list of layers that two readers understand, [`crate::module`] for
//! training and [`crate::onnx`] for export.

use serde::{Deserialize, Serialize};

/// How a picture or a feature map is enlarged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Each value is repeated.
    Nearest,
    /// Half-pixel centres, as PyTorch's `align_corners = false`.
    Bilinear,
}

/// One layer. Feature maps are `[N, C, H, W]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "snake_case")]
pub enum Layer {
    /// `(x - mean) / deviation`, one pair for all channels.
    Normalise {
        /// Subtracted.
        mean: f32,
        /// Divided by.
        deviation: f32,
    },
    /// `(x - mean) / deviation`, one pair per channel.
    NormaliseChannels {
        /// Subtracted; of red, green and blue.
        mean: [f32; 3],
        /// Divided by.
        deviation: [f32; 3],
    },
    /// Each channel minus its 5x5 binomial smoothing, edges replicated, which removes low
    /// frequencies.
    HighPass {
        /// Channels.
        channels: i64,
    },
    /// Convolution with zero padding of `(kernel - 1) / 2`.
    Conv {
        /// Channels in and out.
        channels: (i64, i64),
        /// Odd side of the kernel.
        kernel: i64,
        /// Step.
        stride: i64,
        /// Whether a bias is added.
        bias: bool,
        /// Whether each filter sums to zero over each input channel, so that flat areas give zero:
        /// a high-pass front end initialised with filters of steganalysis (SRM; Fridrich and
        /// Kodovsky, 2012).
        zero_sum: bool,
    },
    /// Transposed convolution, stride 2, exactly twice the size. Kernel 4 (even overlap) or 3
    /// (uneven, the well-known checkerboard).
    ConvTranspose {
        /// Channels in and out.
        channels: (i64, i64),
        /// 3 or 4.
        kernel: i64,
    },
    /// Batch normalisation; in ONNX it is folded into the convolution before it.
    BatchNorm {
        /// Channels.
        channels: i64,
    },
    /// Group normalisation, for networks that are not exported.
    GroupNorm {
        /// Channels.
        channels: i64,
        /// Groups; as many as channels makes it instance normalisation.
        groups: i64,
    },
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, else `slope * x`.
    LeakyRelu {
        /// Factor below zero.
        slope: f32,
    },
    /// To 0..1.
    Sigmoid,
    /// `min(max(x, -limit), limit)`.
    Clip {
        /// The limit.
        limit: f32,
    },
    /// Enlargement by an integer factor.
    Upsample {
        /// Factor of the side.
        factor: i64,
        /// How.
        by: Interpolation,
    },
    /// `[N, C f^2, H, W]` to `[N, C, f H, f W]`.
    PixelShuffle {
        /// Factor of the side.
        factor: i64,
    },
    /// Channel-wise [1 2 1] smoothing, for networks that are not exported.
    Binomial {
        /// Channels.
        channels: i64,
    },
    /// Adds noise with a learned strength per channel, as StyleGAN does; for networks that are not
    /// exported.
    Noise {
        /// Channels.
        channels: i64,
    },
    /// Each value to one of `levels` between -1 and 1 after a tanh: finite scalar quantisation
    /// (Mentzer et al., 2023), the simplest form of a latent with a codebook, with a
    /// straight-through gradient. For networks that are not exported.
    Quantise {
        /// Odd, at least 3.
        levels: i64,
    },
    /// `x + layers(x)`.
    Residual {
        /// What is added.
        layers: Vec<Layer>,
    },
    /// Two branches over one input, added: `a(x) + b(x)`.
    Sum {
        /// First.
        a: Vec<Layer>,
        /// Second.
        b: Vec<Layer>,
    },
    /// Max pooling with an odd kernel and `(kernel - 1) / 2` padding.
    MaxPool {
        /// Side of the kernel.
        kernel: i64,
        /// Step.
        stride: i64,
    },
    /// Mean over the map: `[N, C, H, W]` to `[N, C]`.
    MeanPool,
    /// `[N, in]` to `[N, out]`.
    Linear {
        /// In and out.
        features: (i64, i64),
    },
}

/// A whole network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Net {
    /// Its name, for files and messages.
    pub name: String,
    /// Its layers, in order.
    pub layers: Vec<Layer>,
}

impl Layer {
    /// 3x3 or 1x1 convolution without bias, for a batch normalisation to follow.
    pub fn conv(from: i64, to: i64, kernel: i64, stride: i64) -> Layer {
        Layer::Conv { channels: (from, to), kernel, stride, bias: false, zero_sum: false }
    }
}

/// Convolution, batch normalisation, ReLU.
fn unit(from: i64, to: i64, stride: i64) -> Vec<Layer> {
    vec![Layer::conv(from, to, 3, stride), Layer::BatchNorm { channels: to }, Layer::Relu]
}

/// Side of the shipped detector's tile, in pixels.
pub const TILE: i64 = 224;

/// The detector for edge machines: 3x3 convolutions, channels in multiples of 16 (which suits int8
/// kernels), one logit. 287 M MACs on a 224x224 tile.
pub fn edge() -> Net {
    let stem = vec![
        Layer::Normalise { mean: 0.5, deviation: 0.25 },
        Layer::Conv { channels: (3, 16), kernel: 3, stride: 1, bias: false, zero_sum: true },
        Layer::BatchNorm { channels: 16 },
        Layer::Relu,
    ];
    let residual = |channels| Layer::Residual { layers: unit(channels, channels, 1) };
    let layers = [
        stem,
        unit(16, 32, 2),
        unit(32, 48, 2),
        vec![residual(48)],
        unit(48, 96, 2),
        vec![residual(96)],
        vec![Layer::MeanPool, Layer::Linear { features: (96, 1) }],
    ];
    Net { name: "spotd-edge".into(), layers: layers.concat() }
}

impl Net {
    /// MACs for one input of `channels` x `height` x `width`, and the number of parameters, with
    /// normalisation folded.
    pub fn cost(&self, height: i64, width: i64) -> (u64, u64) {
        let mut cost = (0, 0);
        walk(&self.layers, (height, width), &mut cost);
        cost
    }
}

fn walk(layers: &[Layer], mut size: (i64, i64), cost: &mut (u64, u64)) -> (i64, i64) {
    for layer in layers {
        match layer {
            Layer::Conv { channels, kernel, stride, .. } => {
                size = ((size.0 + stride - 1) / stride, (size.1 + stride - 1) / stride);
                let weights = channels.0 * channels.1 * kernel * kernel;
                cost.0 += (weights * size.0 * size.1) as u64;
                cost.1 += (weights + channels.1) as u64;
            }
            Layer::ConvTranspose { channels, kernel } => {
                let weights = channels.0 * channels.1 * kernel * kernel;
                cost.0 += (weights * size.0 * size.1) as u64;
                cost.1 += (weights + channels.1) as u64;
                size = (2 * size.0, 2 * size.1);
            }
            Layer::MaxPool { stride, .. } => {
                size = ((size.0 + stride - 1) / stride, (size.1 + stride - 1) / stride);
            }
            Layer::HighPass { channels } => cost.0 += (channels * 25 * size.0 * size.1) as u64,
            Layer::Upsample { factor, .. } | Layer::PixelShuffle { factor } => {
                size = (factor * size.0, factor * size.1);
            }
            Layer::Residual { layers } => {
                walk(layers, size, cost);
            }
            Layer::Sum { a, b } => {
                walk(a, size, cost);
                size = walk(b, size, cost);
            }
            Layer::Linear { features } => {
                cost.0 += (features.0 * features.1) as u64;
                cost.1 += (features.0 * features.1 + features.1) as u64;
            }
            // Folded into their neighbours, or without weights to multiply by.
            Layer::Normalise { .. }
            | Layer::NormaliseChannels { .. }
            | Layer::BatchNorm { .. }
            | Layer::Relu
            | Layer::LeakyRelu { .. }
            | Layer::Sigmoid
            | Layer::Clip { .. }
            | Layer::MeanPool => {}
            // Only in networks that are not exported, whose cost is not needed.
            Layer::GroupNorm { .. }
            | Layer::Binomial { .. }
            | Layer::Noise { .. }
            | Layer::Quantise { .. } => {}
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_detector_is_as_small_as_it_says() {
        let (multiply_adds, parameters) = edge().cost(TILE, TILE);
        assert!((280..295).contains(&(multiply_adds / 1_000_000)), "{multiply_adds}");
        assert!(parameters < 200_000, "{parameters}");
    }

    #[test]
    fn a_net_survives_json() {
        let net = edge();
        let text = serde_json::to_string(&net).unwrap();
        assert_eq!(serde_json::from_str::<Net>(&text).unwrap(), net);
    }
}
