//! ResNet-18 and ResNet-50 (He et al., 2016) as in torchvision, and torchvision's names of their
//! weights.

use crate::net::{Layer, Net};

/// ImageNet's mean, of red, green and blue in 0..1.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation.
pub const IMAGENET_DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Two basic blocks per stage.
    Resnet18,
    /// Bottlenecks, 3, 4, 6 and 3 of them.
    Resnet50,
}

impl Depth {
    /// The network's name.
    pub fn name(self) -> &'static str {
        match self {
            Depth::Resnet18 => "resnet18",
            Depth::Resnet50 => "resnet50",
        }
    }

    fn blocks(self) -> [usize; 4] {
        match self {
            Depth::Resnet18 => [2; 4],
            Depth::Resnet50 => [3, 4, 6, 3],
        }
    }

    fn expansion(self) -> i64 {
        match self {
            Depth::Resnet18 => 1,
            Depth::Resnet50 => 4,
        }
    }
}

/// A network together with torchvision's name for each of its layers with weights:
/// `(theirs, ours)`, both without `.weight` and the like.
#[derive(Clone, Debug)]
pub struct Resnet {
    /// The layers.
    pub net: Net,
    /// Prefixes of the weights' names.
    pub names: Vec<(String, String)>,
}

/// Convolutions of one block: channels in and out, kernel, step.
type Convolutions = Vec<((i64, i64), i64, i64)>;

/// The network of `outputs` logits. `front` comes before the first convolution; for weights trained
/// on ImageNet it is the normalisation by [`IMAGENET_MEAN`].
pub fn resnet(depth: Depth, outputs: i64, front: Vec<Layer>) -> Resnet {
    let mut names = Vec::new();
    let mut layers = front;
    let mut name = |theirs: String, ours: String| names.push((theirs, ours));
    name("conv1".into(), layers.len().to_string());
    name("bn1".into(), (layers.len() + 1).to_string());
    layers.extend([
        Layer::conv(3, 64, 7, 2),
        Layer::BatchNorm { channels: 64 },
        Layer::Relu,
        Layer::MaxPool { kernel: 3, stride: 2 },
    ]);
    let mut channels = 64;
    for (stage, blocks) in depth.blocks().into_iter().enumerate() {
        let width = 64 << stage;
        let wide = width * depth.expansion();
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let convolutions: Convolutions = match depth {
                Depth::Resnet18 => vec![((channels, width), 3, stride), ((width, width), 3, 1)],
                // The stride is in the 3x3 convolution, as in torchvision ("ResNet V1.5").
                Depth::Resnet50 => {
                    vec![((channels, width), 1, 1), ((width, width), 3, stride), ((width, wide), 1, 1)]
                }
            };
            let (theirs, ours) = (format!("layer{}.{block}", stage + 1), layers.len());
            let shortcut = stride != 1 || channels != wide;
            let part = if shortcut { format!("{ours}.a") } else { ours.to_string() };
            let mut main = Vec::new();
            for (at, ((from, to), kernel, stride)) in convolutions.into_iter().enumerate() {
                if at > 0 {
                    main.push(Layer::Relu);
                }
                name(format!("{theirs}.conv{}", at + 1), format!("{part}.{}", main.len()));
                name(format!("{theirs}.bn{}", at + 1), format!("{part}.{}", main.len() + 1));
                main.extend([Layer::conv(from, to, kernel, stride), Layer::BatchNorm { channels: to }]);
            }
            layers.push(if shortcut {
                name(format!("{theirs}.downsample.0"), format!("{ours}.b.0"));
                name(format!("{theirs}.downsample.1"), format!("{ours}.b.1"));
                let b = vec![Layer::conv(channels, wide, 1, stride), Layer::BatchNorm { channels: wide }];
                Layer::Sum { a: main, b }
            } else {
                Layer::Residual { layers: main }
            });
            layers.push(Layer::Relu);
            channels = wide;
        }
    }
    layers.push(Layer::MeanPool);
    name("fc".into(), layers.len().to_string());
    layers.push(Layer::Linear { features: (channels, outputs) });
    Resnet { net: Net { name: depth.name().into(), layers }, names }
}

/// The normalisation of ImageNet's statistics.
pub fn imagenet() -> Vec<Layer> {
    vec![Layer::NormaliseChannels { mean: IMAGENET_MEAN, deviation: IMAGENET_DEVIATION }]
}

#[cfg(test)]
mod tests {
    use super::*;

    // torchvision's documentation: 11,689,512 and 25,557,032 parameters, 1.81 and 4.09 GFLOPS
    // (multiply-adds).
    #[test]
    fn as_large_as_torchvision_says() {
        for (depth, parameters, giga) in
            [(Depth::Resnet18, 11_689_512, 1.81), (Depth::Resnet50, 25_557_032, 4.09)]
        {
            let net = resnet(depth, 1000, imagenet()).net;
            let (multiply_adds, counted) = net.cost(224, 224);
            // Ours counts one folded bias per channel where torchvision has a scale and a shift.
            let folded: i64 = channels_of(&net.layers);
            assert_eq!(counted as i64 + folded, parameters, "{}", net.name);
            assert!((multiply_adds as f64 / 1e9 - giga).abs() < 0.01, "{multiply_adds}");
        }
    }

    fn channels_of(layers: &[Layer]) -> i64 {
        layers
            .iter()
            .map(|layer| match layer {
                Layer::BatchNorm { channels } => *channels,
                Layer::Residual { layers } => channels_of(layers),
                Layer::Sum { a, b } => channels_of(a) + channels_of(b),
                _ => 0,
            })
            .sum()
    }
}
