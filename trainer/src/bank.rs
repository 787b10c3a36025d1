//! The resynthesis bank: small networks of our own that resynthesise photographs, each with its own
//! way of upsampling, so that every resynthesised photograph carries the trace that generators
//! leave.

use crate::{
    checkpoint,
    device::Autocast,
    module::Module,
    net::{Interpolation, Layer, Net},
    photos::{Photos, bar},
    spectrum::Rings,
};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use spotd::forensics::rng::Rng;
use std::{path::Path, time::Duration, time::Instant};
use tch::{Device, Kind, Reduction, Tensor, nn, nn::OptimizerConfig as _};

/// One member: its network and how it is trained.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Picture in, picture out.
    pub net: Net,
    /// Whether the input is the picture at half its size: super-resolution.
    pub halve: bool,
    /// Weight of the adversarial loss relative to L1.
    pub adversarial: f64,
    /// Weight of the difference of log radial spectra: without it an L1 decoder's pictures lack
    /// fine detail by a factor of ten or more, unlike those of real generators.
    pub spectral: f64,
    /// Seconds that it was trained for.
    #[serde(default)]
    pub seconds: f64,
}

/// A member with weights.
#[derive(Debug)]
pub struct Trained {
    /// What it is.
    pub member: Member,
    /// Its weights.
    pub store: nn::VarStore,
    module: Module,
}

/// Side of the crops that members are trained on.
const CROP: u32 = 64;
const BATCH: usize = 8;

#[derive(Clone, Copy)]
enum Up {
    Transposed(i64),
    Resize(Interpolation),
    Shuffle,
    /// Nearest, convolution, smoothing, noise: StyleGAN's order.
    Style,
}

#[derive(Clone, Copy)]
enum Norm {
    None,
    Batch,
    Group,
    Instance,
}

fn conv(from: i64, to: i64, kernel: i64, stride: i64) -> Layer {
    Layer::Conv { channels: (from, to), kernel, stride, bias: true, zero_sum: false }
}

fn normalise(norm: Norm, channels: i64) -> Vec<Layer> {
    match norm {
        Norm::None => vec![],
        Norm::Batch => vec![Layer::BatchNorm { channels }],
        Norm::Group => vec![Layer::GroupNorm { channels, groups: channels / 8 }],
        Norm::Instance => vec![Layer::GroupNorm { channels, groups: channels }],
    }
}

/// Doubles the side, from `from` to `to` channels.
fn double(up: Up, from: i64, to: i64) -> Vec<Layer> {
    match up {
        Up::Transposed(kernel) => vec![Layer::ConvTranspose { channels: (from, to), kernel }],
        Up::Resize(by) => vec![Layer::Upsample { factor: 2, by }, conv(from, to, 3, 1)],
        Up::Shuffle => vec![conv(from, 4 * to, 3, 1), Layer::PixelShuffle { factor: 2 }],
        Up::Style => vec![
            Layer::Upsample { factor: 2, by: Interpolation::Nearest },
            conv(from, to, 3, 1),
            Layer::Binomial { channels: to },
            Layer::Noise { channels: to },
        ],
    }
}

/// Encoder by strides, decoder by `up`; `widths` are the channels after each halving.
fn autoencoder(name: &str, widths: &[i64], up: Up, norm: Norm) -> Net {
    let mut layers = vec![Layer::Normalise { mean: 0.5, deviation: 0.25 }];
    let mut from = 3;
    for width in widths {
        layers.extend([conv(from, *width, 3, 2), Layer::LeakyRelu { slope: 0.1 }]);
        from = *width;
    }
    layers.push(Layer::Residual {
        layers: [vec![conv(from, from, 3, 1)], normalise(norm, from), vec![Layer::Relu]].concat(),
    });
    for step in (0..widths.len()).rev() {
        let to = if step == 0 { 16 } else { widths[step - 1] };
        layers.extend(double(up, from, to));
        layers.extend(normalise(norm, to));
        layers.push(Layer::Relu);
        from = to;
    }
    layers.extend([conv(from, 3, 3, 1), Layer::Sigmoid]);
    Net { name: name.into(), layers }
}

/// Doubles the size of its input.
fn super_resolution(name: &str, up: Up) -> Net {
    let mut layers = vec![Layer::Normalise { mean: 0.5, deviation: 0.25 }, conv(3, 24, 3, 1), Layer::Relu];
    for _ in 0..2 {
        layers.push(Layer::Residual { layers: vec![conv(24, 24, 3, 1), Layer::Relu] });
    }
    layers.extend(double(up, 24, 12));
    layers.extend([Layer::Relu, conv(12, 3, 3, 1), Layer::Sigmoid]);
    Net { name: name.into(), layers }
}

/// Doubles the size of its input; deeper, and trained without a discriminator, as in published
/// plain super-resolution.
fn deep_super_resolution(name: &str, up: Up) -> Net {
    let mut layers = vec![Layer::Normalise { mean: 0.5, deviation: 0.25 }, conv(3, 32, 3, 1)];
    for _ in 0..4 {
        let leaky = Layer::LeakyRelu { slope: 0.1 };
        layers.push(Layer::Residual { layers: vec![conv(32, 32, 3, 1), leaky.clone(), conv(32, 32, 3, 1)] });
        layers.push(leaky);
    }
    // A transposed convolution as the very last layer, or the output convolution after the
    // doubling.
    match up {
        Up::Transposed(kernel) => layers.push(Layer::ConvTranspose { channels: (32, 3), kernel }),
        Up::Shuffle => layers.extend([conv(32, 12, 3, 1), Layer::PixelShuffle { factor: 2 }]),
        _ => layers.extend([double(up, 32, 16), vec![Layer::Relu, conv(16, 3, 3, 1)]].concat()),
    }
    layers.push(Layer::Sigmoid);
    Net { name: name.into(), layers }
}

/// An [`autoencoder`] whose narrow latent is quantised before it is decoded, as those of latent
/// diffusion are.
fn quantised(name: &str, widths: &[i64], latent: i64, up: Up, norm: Norm) -> Net {
    let mut net = autoencoder(name, widths, up, norm);
    let deepest = *widths.last().expect("an autoencoder halves at least once");
    // After the encoder's convolutions, normalisation and activations.
    let latent = [conv(deepest, latent, 1, 1), Layer::Quantise { levels: 7 }, conv(latent, deepest, 1, 1)];
    net.layers.splice(1 + 2 * widths.len()..1 + 2 * widths.len(), latent);
    net
}

/// An hourglass beside a path that keeps the full size, as image-to-image networks have.
fn skip_connected(name: &str, up: Up) -> Net {
    let inner =
        [vec![conv(16, 32, 3, 2), Layer::Relu, conv(32, 32, 3, 1), Layer::Relu], double(up, 32, 16)].concat();
    let layers = vec![
        Layer::Normalise { mean: 0.5, deviation: 0.25 },
        conv(3, 24, 3, 2),
        Layer::Relu,
        conv(24, 16, 3, 1),
        Layer::Residual { layers: inner },
        Layer::Relu,
    ];
    let tail = [double(up, 16, 16), vec![Layer::Relu, conv(16, 3, 3, 1), Layer::Sigmoid]].concat();
    Net { name: name.into(), layers: [layers, tail].concat() }
}

/// The network that the daemon's demonstration runs: a factor of 4 by transposed convolution, about
/// 400 M multiply-adds on 640x384.
pub fn demo() -> Net {
    let layers = vec![
        Layer::Normalise { mean: 0.5, deviation: 0.25 },
        conv(3, 16, 3, 2),
        Layer::Relu,
        conv(16, 32, 3, 2),
        Layer::Relu,
        Layer::ConvTranspose { channels: (32, 16), kernel: 4 },
        Layer::Relu,
        Layer::ConvTranspose { channels: (16, 8), kernel: 4 },
        Layer::Relu,
        conv(8, 3, 3, 1),
        Layer::Sigmoid,
    ];
    Net { name: "resynth-demo".into(), layers }
}

/// The members of the shipped bank.
pub fn members() -> Vec<Member> {
    use Interpolation::{Bilinear, Nearest};
    let plain =
        |net, adversarial, spectral| Member { net, halve: false, adversarial, spectral, seconds: 0.0 };
    vec![
        plain(demo(), 0.02, 0.03),
        plain(autoencoder("transposed4-x4", &[24, 48], Up::Transposed(4), Norm::Batch), 0.03, 0.03),
        plain(autoencoder("nearest-x2", &[24], Up::Resize(Nearest), Norm::None), 0.02, 0.0),
        plain(autoencoder("style-x4", &[24, 48], Up::Style, Norm::Instance), 0.05, 0.05),
        plain(autoencoder("shuffle-x4", &[24, 48], Up::Shuffle, Norm::None), 0.03, 0.03),
        Member {
            net: super_resolution("sr-shuffle", Up::Shuffle),
            halve: true,
            adversarial: 0.0,
            spectral: 0.0,
            seconds: 0.0,
        },
        plain(autoencoder("transposed3-x2", &[24], Up::Transposed(3), Norm::Group), 0.02, 0.03),
        plain(autoencoder("nearest-x8", &[24, 48, 64], Up::Resize(Nearest), Norm::Batch), 0.05, 0.05),
        plain(autoencoder("bilinear-x4", &[24, 48], Up::Resize(Bilinear), Norm::Group), 0.03, 0.05),
        Member {
            net: super_resolution("sr-transposed", Up::Transposed(4)),
            halve: true,
            adversarial: 0.02,
            spectral: 0.05,
            seconds: 0.0,
        },
        plain(skip_connected("hourglass-nearest", Up::Resize(Nearest)), 0.03, 0.03),
        plain(autoencoder("transposed4-x8", &[24, 48, 64], Up::Transposed(4), Norm::None), 0.05, 0.05),
        plain(autoencoder("critic-style-x4", &[32, 64], Up::Style, Norm::Instance), 0.3, 0.05),
        plain(autoencoder("critic-transposed4-x4", &[32, 64], Up::Transposed(4), Norm::Batch), 0.3, 0.05),
        plain(quantised("quantised-nearest-x4", &[32, 64], 8, Up::Resize(Nearest), Norm::Group), 0.2, 0.05),
        Member {
            net: deep_super_resolution("sr-deep-shuffle", Up::Shuffle),
            halve: true,
            adversarial: 0.0,
            spectral: 0.0,
            seconds: 0.0,
        },
        Member {
            net: deep_super_resolution("sr-deep-transposed", Up::Transposed(4)),
            halve: true,
            adversarial: 0.0,
            spectral: 0.0,
            seconds: 0.0,
        },
    ]
}

/// From this weight on the adversarial loss shapes a member's output, and the discriminator is a
/// larger one.
const STRONG: f64 = 0.1;

/// The discriminator, which classifies patches as real or resynthesised.
fn critic(weight: f64) -> Net {
    let widths: &[i64] = if weight < STRONG { &[16, 32] } else { &[32, 64, 96] };
    let mut layers = vec![Layer::Normalise { mean: 0.5, deviation: 0.25 }];
    let mut from = 3;
    for width in widths {
        layers.extend([conv(from, *width, 3, 2), Layer::LeakyRelu { slope: 0.2 }]);
        from = *width;
    }
    layers.push(conv(from, 1, 3, 1));
    Net { name: "critic".into(), layers }
}

impl Trained {
    fn untrained(member: &Member, device: Device) -> Trained {
        let store = nn::VarStore::new(device);
        let module = Module::new(&store.root(), &member.net);
        Trained { member: member.clone(), store, module }
    }

    /// Reads a member from `DIR/<name>.{json,safetensors}`.
    pub fn load(folder: &Path, name: &str, device: Device) -> Result<Trained> {
        let file = folder.join(format!("{name}.json"));
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("{}: no such bank member", file.display()))?;
        let member =
            serde_json::from_str(&text).with_context(|| format!("{}: not a bank member", file.display()))?;
        let mut trained = Trained::untrained(&member, device);
        checkpoint::load(&mut trained.store, &folder.join(format!("{name}.safetensors")))?;
        trained.store.freeze();
        Ok(trained)
    }

    fn save(&self, folder: &Path) -> Result<()> {
        let name = &self.member.net.name;
        checkpoint::save(&self.store, &folder.join(format!("{name}.safetensors")))?;
        checkpoint::write(
            &folder.join(format!("{name}.json")),
            serde_json::to_string_pretty(&self.member)?.as_bytes(),
        )
    }

    /// `x` `[N, 3, S, S]` in 0..1, resynthesised, with the same size and range. S is a multiple of
    /// 16.
    pub fn redraw(&self, x: &Tensor) -> Tensor {
        tch::no_grad(|| self.forward(x, false))
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        if self.member.halve {
            let size = x.size();
            let small = x.internal_upsample_bicubic2d_aa([size[2] / 2, size[3] / 2], false, None, None);
            self.module.forward(&small.clamp(0.0, 1.0), train)
        } else {
            self.module.forward(x, train)
        }
    }
}

/// Trains `member` for `budget` on crops of `photos`.
pub fn train(
    member: &Member,
    photos: &Photos,
    budget: Duration,
    seed: u64,
    device: Device,
    bf16: bool,
) -> Result<Trained> {
    tch::manual_seed(seed as i64);
    let mut rng = Rng::new(seed);
    let mut trained = Trained::untrained(member, device);
    let mut optimiser = nn::adam(0.9, 0.99, 0.0).build(&trained.store, 2e-3)?;
    let critic_store = nn::VarStore::new(device);
    let discriminator = Module::new(&critic_store.root(), &critic(member.adversarial));
    let mut critic_optimiser = nn::adam(0.5, 0.99, 0.0).build(&critic_store, 1e-3)?;
    let rings = Rings::new(CROP.into(), device);
    let progress = bar(budget.as_secs(), &format!("bank: {}", member.net.name));
    let start = Instant::now();
    let mut steps = 0u64;
    let mut last = (0.0, 0.0);
    loop {
        let done = start.elapsed().as_secs_f64() / budget.as_secs_f64().max(1e-3);
        if steps > 0 && done >= 1.0 {
            break;
        }
        optimiser.set_lr(2e-3 * (0.05 + 0.95 * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())));
        let real = photos.batch(BATCH, CROP, &mut rng).to_device(device);
        let (fake, verdict) = {
            let _cast = Autocast::new(device, bf16);
            let fake = trained.forward(&real, true).to_kind(Kind::Float);
            // The discriminator joins once there is something to discriminate.
            let judged = member.adversarial > 0.0 && done > 0.25;
            if judged {
                let told = discriminator.forward(&real, true).to_kind(Kind::Float);
                let guess = discriminator.forward(&fake.detach(), true).to_kind(Kind::Float);
                let loss = (told - 1.0).square().mean(Kind::Float) + guess.square().mean(Kind::Float);
                critic_optimiser.backward_step(&loss);
            }
            let verdict = judged.then(|| discriminator.forward(&fake, true).to_kind(Kind::Float));
            (fake, verdict)
        };
        let mut loss = fake.l1_loss(&real, Reduction::Mean) + gradient_loss(&fake, &real) * 0.5;
        last = (f64::try_from(&loss)?, last.1);
        if let Some(verdict) = verdict {
            loss += (verdict - 1.0).square().mean(Kind::Float) * member.adversarial;
        }
        if member.spectral > 0.0 {
            let apart = (rings.power(&fake).log() - rings.power(&real).log()).abs().mean(Kind::Float);
            last.1 = f64::try_from(&apart)?;
            loss += apart * member.spectral;
        }
        optimiser.backward_step_clip(&loss, 0.5);
        steps += 1;
        progress.set_position(start.elapsed().as_secs());
    }
    progress.finish_and_clear();
    log::info!(
        "bank: {} trained, {steps} steps in {:.0} s, L1 {:.4}, log-spectrum distance {:.2}",
        member.net.name,
        start.elapsed().as_secs_f64(),
        last.0,
        last.1,
    );
    trained.member.seconds = start.elapsed().as_secs_f64();
    trained.store.freeze();
    Ok(trained)
}

/// Mean absolute difference of horizontal and vertical neighbours' differences.
fn gradient_loss(a: &Tensor, b: &Tensor) -> Tensor {
    let slope = |x: &Tensor, dim: i64| {
        x.narrow(dim, 1, x.size()[dim as usize] - 1) - x.narrow(dim, 0, x.size()[dim as usize] - 1)
    };
    let part = |dim| slope(a, dim).l1_loss(&slope(b, dim), Reduction::Mean);
    part(2) + part(3)
}

/// Every member of [`members`]: those found in `folder` are loaded, the others are trained for
/// `each` and saved there.
pub fn build(
    folder: &Path,
    photos: &Photos,
    each: Duration,
    seed: u64,
    device: Device,
    bf16: bool,
) -> Result<Vec<Trained>> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    let mut bank = Vec::new();
    for (at, member) in members().iter().enumerate() {
        let known = folder.join(format!("{}.json", member.net.name)).is_file();
        if known {
            bank.push(Trained::load(folder, &member.net.name, device)?);
        } else {
            let trained = train(member, photos, each, seed.wrapping_add(at as u64), device, bf16)?;
            trained.save(folder)?;
            bank.push(trained);
        }
    }
    Ok(bank)
}

/// Members already in `folder`, whatever their names.
pub fn load_all(folder: &Path, device: Device) -> Result<Vec<Trained>> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .with_context(|| format!("{}: no bank here", folder.display()))?
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_string()))
        .collect();
    names.sort();
    names.iter().map(|name| Trained::load(folder, name, device)).collect()
}
