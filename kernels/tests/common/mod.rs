//! Random layers, and their answer in 64 bits: the plainest loops, apart from the crate's own.
#![allow(dead_code)]

use std::io::Write;

use proptest::prelude::*;
use spotd_kernels::*;

/// So many cases, unless `PROPTEST_CASES` says less: an emulator is slow.
pub fn cases(cases: u32) -> ProptestConfig {
    let most = std::env::var("PROPTEST_CASES").ok().and_then(|most| most.parse().ok());
    ProptestConfig {
        cases: cases.min(most.unwrap_or(cases)),
        failure_persistence: None,
        ..Default::default()
    }
}

/// A layer with its data.
#[derive(Debug, Clone)]
pub struct Case {
    pub conv: Conv,
    pub dims: Dims,
    pub weights: Vec<i8>,
    pub bias: Vec<i32>,
    pub input: Vec<u8>,
    pub residual: Option<Vec<u8>>,
}

/// All that this processor has, and on stderr, once, those that are not run.
pub fn isas() -> Vec<Isa> {
    static SAID: std::sync::Once = std::sync::Once::new();
    let available = Isa::available();
    SAID.call_once(|| {
        if cfg!(feature = "__emulate") {
            let text = b"*** EMULATED, not run on hardware: avx512vnni, avxvnni ***\n";
            std::io::stderr().write_all(text).unwrap();
        }
        for isa in Isa::ALL.iter().filter(|isa| !available.contains(isa)) {
            // Not by a macro of std: the test harness would keep it to itself.
            let text = format!("*** NOT RUN: {isa}, this processor does not have it ***\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
        }
    });
    available
}

pub fn quant() -> impl Strategy<Value = Quant> {
    (any::<bool>(), prop_oneof![Just(0), Just(255), 0..=255i32], 1e-3f32..0.1).prop_map(
        |(signed, zero, scale)| {
            if signed { Quant::s8(scale, zero - 128) } else { Quant::u8(scale, zero) }
        },
    )
}

pub fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::None),
        Just(Activation::Relu),
        (-4f32..4.0, 0f32..8.0).prop_map(|(min, more)| Activation::Clip { min, max: min + more }),
    ]
}

/// What the bytes of a tensor look like: random, or as far out as they can be.
#[derive(Debug, Clone, Copy)]
pub enum Fill {
    Random(u64),
    All(u8),
    Ends(u64),
    /// Around zero, as trained weights: the sum of four.
    Bell(u64),
    /// Two or four of them add up to 128 or a little more or less, which is as much as 16 bits hold
    /// beside 255.
    Edge(u64),
    /// -64..=64: weights of the reduced range.
    Reduced(u64),
}

pub fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![
        4 => any::<u64>().prop_map(Fill::Random),
        1 => prop_oneof![Just(0), Just(127), Just(128), Just(255u8)].prop_map(Fill::All),
        1 => any::<u64>().prop_map(Fill::Ends),
        2 => any::<u64>().prop_map(Fill::Bell),
        2 => any::<u64>().prop_map(Fill::Edge),
    ]
}

impl Fill {
    pub fn bytes(self, count: usize) -> Vec<u8> {
        let mut state = match self {
            Fill::Random(seed)
            | Fill::Ends(seed)
            | Fill::Bell(seed)
            | Fill::Edge(seed)
            | Fill::Reduced(seed) => seed | 1,
            Fill::All(_) => 1,
        };
        let mut next = move || {
            // Marsaglia's xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        let byte = |_| match self {
            Fill::Random(_) => next(),
            Fill::All(byte) => byte,
            Fill::Bell(_) => ((0..4).map(|_| next() as i8 as i32).sum::<i32>() / 6) as u8,
            Fill::Edge(_) => {
                // Signs seldom change, so that whole steps reach the bound.
                let (size, sign) = ([32i8, 32, 32, 31, 33, 64, 0, 1][next() as usize & 7], next() & 15 == 0);
                if sign { (-size) as u8 } else { size as u8 }
            }
            Fill::Reduced(_) => (next() % 129).wrapping_sub(64),
            Fill::Ends(_) => [0, 255, 128, 127][next() as usize & 3],
        };
        (0..count).map(byte).collect()
    }
}

/// Kernel, stride, padding on each side, dimensions of the input.
type Geometry = ([usize; 2], [usize; 2], Padding, Dims);

pub fn geometry() -> impl Strategy<Value = Geometry> {
    let kernel = prop_oneof![
        3 => Just([1, 1]), 4 => Just([3, 3]), 1 => Just([5, 5]), 1 => Just([7, 7]),
        1 => (1usize..5, 1usize..5).prop_map(|(h, w)| [h, w]),
    ];
    let stride = prop_oneof![3 => Just([1, 1]), 2 => Just([2, 2]), 1 => (1usize..4, 1usize..4).prop_map(|(h, w)| [h, w])];
    geometry_of(kernel, stride)
}

fn geometry_of(
    kernel: impl Strategy<Value = [usize; 2]>,
    stride: impl Strategy<Value = [usize; 2]>,
) -> impl Strategy<Value = Geometry> {
    let side = || prop_oneof![3 => 0usize..3, 1 => 0usize..9];
    let padding = prop_oneof![
        2 => Just(Padding::default()),
        2 => Just(Padding::same(1)),
        2 => (side(), side(), side(), side())
            .prop_map(|(top, left, bottom, right)| Padding { top, left, bottom, right }),
    ];
    let dims = (1usize..3, 1usize..15, 1usize..20).prop_map(|(n, h, w)| Dims { n, h, w });
    (kernel, stride, padding, dims).prop_map(|(kernel, stride, padding, mut dims)| {
        // Large enough for one output pixel.
        dims.h = dims.h.max(kernel[0].saturating_sub(padding.top + padding.bottom));
        dims.w = dims.w.max(kernel[1].saturating_sub(padding.left + padding.right));
        (kernel, stride, padding, dims)
    })
}

/// Input channels, output channels, groups.
pub fn channels() -> impl Strategy<Value = (usize, usize, usize)> {
    let count = || prop_oneof![2 => 1usize..20, 1 => prop_oneof![Just(16usize), Just(32), Just(48), Just(64), Just(80)]];
    prop_oneof![
        5 => (count(), count()).prop_map(|(i, o)| (i, o, 1)),
        2 => prop_oneof![1usize..50, Just(64)].prop_map(|c| (c, c, c)),
        1 => (1usize..5, 1usize..6, 2usize..5).prop_map(|(i, o, g)| (i * g, o * g, g)),
    ]
}

/// Depthwise layers of every geometry, with weights that AVX2 multiplies as bytes.
pub fn depthwise() -> impl Strategy<Value = Case> {
    let kernel = prop_oneof![
        4 => Just([3, 3]), 4 => Just([5, 5]), 1 => Just([7, 7]),
        2 => (1usize..9, 1usize..6).prop_map(|(h, w)| [h, w]),
    ];
    let stride = prop_oneof![3 => Just([1, 1]), 3 => Just([2, 2]), 1 => (1usize..5, 1usize..4).prop_map(|(h, w)| [h, w])];
    let channels = prop_oneof![1usize..70, Just(16), Just(32), Just(48)].prop_map(|c| (c, c, c));
    let weights = prop_oneof![3 => any::<u64>().prop_map(Fill::Reduced), 1 => fill()];
    case_of(geometry_of(kernel, stride), channels, weights)
}

/// Layers over one to four channels: pixels.
pub fn pixels() -> impl Strategy<Value = Case> {
    let kernel = prop_oneof![4 => Just([3, 3]), 1 => (1usize..6, 1usize..6).prop_map(|(h, w)| [h, w])];
    let stride = prop_oneof![Just([1, 1]), Just([2, 2]), (1usize..4, 1usize..4).prop_map(|(h, w)| [h, w])];
    let channels = (prop_oneof![3 => Just(3usize), 1 => 1usize..5], 1usize..50).prop_map(|(i, o)| (i, o, 1));
    let weights = prop_oneof![2 => any::<u64>().prop_map(Fill::Reduced), 1 => fill()];
    case_of(geometry_of(kernel, stride), channels, weights)
}

pub fn case() -> impl Strategy<Value = Case> {
    case_of(geometry(), channels(), fill())
}

fn case_of(
    geometry: impl Strategy<Value = Geometry>,
    channels: impl Strategy<Value = (usize, usize, usize)>,
    weights: impl Strategy<Value = Fill>,
) -> impl Strategy<Value = Case> {
    let residual = proptest::option::of((quant(), activation()));
    let meaning = (quant(), proptest::option::of(quant()), activation(), residual);
    // Now and then results go far beyond the 32 bits that are rounded to.
    let scale = prop_oneof![9 => Just(1e-3f32), 1 => Just(1e4)];
    let data = (weights, fill(), fill(), prop_oneof![Just(0), -100_000i32..100_000], any::<bool>(), scale);
    (geometry, channels, meaning, data).prop_map(|(geometry, channels, meaning, data)| {
        let (kernel, stride, padding, dims) = geometry;
        let (in_channels, out_channels, groups) = channels;
        let (input, output, activation, residual) = meaning;
        let (weights, bytes, residual_bytes, bias, per_channel, scale) = data;
        let weights = weights.bytes(out_channels * in_channels / groups * kernel[0] * kernel[1]);
        let scale = |c: usize| scale * (1 + c % 7) as f32;
        let conv = Conv {
            stride,
            padding,
            groups,
            residual: residual.map(|(quant, _)| quant),
            inner: residual.map_or(Activation::None, |(_, inner)| inner),
            activation,
            ..Conv::new(
                in_channels,
                out_channels,
                kernel,
                input,
                (0..if per_channel { out_channels } else { 1 }).map(scale).collect(),
                output.map_or(Output::F32, Output::Bytes),
            )
        };
        let out = conv.out_dims(dims).unwrap().len(out_channels).unwrap();
        Case {
            input: bytes.bytes(dims.len(in_channels).unwrap()),
            residual: residual.map(|_| residual_bytes.bytes(out)),
            weights: weights.iter().map(|&w| w as i8).collect(),
            bias: (0..out_channels).map(|c| bias.wrapping_mul(c as i32 + 1)).collect(),
            conv,
            dims,
        }
    })
}

/// What a layer wrote, bytes or bits of f32.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Bytes(Vec<u8>),
    Real(Vec<u32>),
}

impl Case {
    pub fn run(&self, isa: Isa, scratch: &mut Scratch) -> Answer {
        let packed = PackedConv::for_isa(isa, self.conv.clone(), &self.weights, &self.bias).unwrap();
        let count = packed.out_dims(self.dims).unwrap().len(self.conv.out_channels).unwrap();
        let residual = self.residual.as_deref();
        if self.conv.output == Output::F32 {
            let mut output = vec![f32::NAN; count];
            packed.run_f32(&self.input, self.dims, &mut output, residual, scratch).unwrap();
            Answer::Real(output.iter().map(|x| x.to_bits()).collect())
        } else {
            let mut output = vec![0xa5; count];
            packed.run(&self.input, self.dims, &mut output, residual, scratch).unwrap();
            Answer::Bytes(output)
        }
    }

    /// Each output value before rounding and the zero point, in steps of the output; computed in
    /// f64.
    pub fn naive(&self) -> Vec<f64> {
        let (conv, dims) = (&self.conv, self.dims);
        let out = conv.out_dims(dims).unwrap();
        let (cin, cout) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
        let value = |q: &Quant, bits: u8| match q.ty {
            Byte::U8 => bits as i64 - q.zero_point as i64,
            Byte::S8 => bits as i8 as i64 - q.zero_point as i64,
        };
        let step = match conv.output {
            Output::Bytes(q) => q.scale as f64,
            Output::F32 => 1.0,
        };
        let bounds = |activation| match activation {
            Activation::None => (f64::MIN, f64::MAX),
            Activation::Relu => (0.0, f64::MAX),
            Activation::Clip { min, max } => (min as f64, max as f64),
        };
        let ((low, high), (inner_low, inner_high)) = (bounds(conv.activation), bounds(conv.inner));
        let mut answer = Vec::new();
        for n in 0..out.n {
            for y in 0..out.h {
                for x in 0..out.w {
                    for o in 0..conv.out_channels {
                        let mut sum = self.bias[o] as i64;
                        for ky in 0..conv.kernel[0] {
                            for kx in 0..conv.kernel[1] {
                                let iy = (y * conv.stride[0] + ky) as isize - conv.padding.top as isize;
                                let ix = (x * conv.stride[1] + kx) as isize - conv.padding.left as isize;
                                if iy < 0 || ix < 0 || iy >= dims.h as isize || ix >= dims.w as isize {
                                    continue;
                                }
                                for i in 0..cin {
                                    let channel = o / cout * cin + i;
                                    let pixel = (n * dims.h + iy as usize) * dims.w + ix as usize;
                                    let bits = self.input[pixel * conv.in_channels + channel];
                                    let w = self.weights
                                        [((o * cin + i) * conv.kernel[0] + ky) * conv.kernel[1] + kx];
                                    sum += w as i64 * value(&conv.input, bits);
                                }
                            }
                        }
                        let scales = &conv.weight_scales;
                        let scale = scales[if scales.len() == 1 { 0 } else { o }];
                        let mut real = sum as f64 * scale as f64 * conv.input.scale as f64;
                        if let (Some(q), Some(r)) = (&conv.residual, &self.residual) {
                            real = real.max(inner_low).min(inner_high);
                            real += value(q, r[answer.len()]) as f64 * q.scale as f64;
                        }
                        answer.push(real.max(low).min(high) / step);
                    }
                }
            }
        }
        answer
    }
}
