//! Layers of real networks, with data.

use spotd_kernels::*;

/// A packed layer with an input.
pub struct Layer {
    /// Kernel, stride, channels and size.
    pub name: String,
    /// Multiply-accumulates (MACs) of one run.
    pub macs: u64,
    packed: PackedConv,
    dims: Dims,
    input: Vec<u8>,
    residual: Option<Vec<u8>>,
    output: Vec<u8>,
}

impl Layer {
    #[allow(clippy::too_many_arguments)]
    fn new(
        isa: Isa,
        weights: Weights,
        cin: usize,
        cout: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
        size: usize,
    ) -> Layer {
        let conv = Conv {
            stride: [stride; 2],
            padding: Padding::same(kernel / 2),
            groups,
            activation: Activation::Relu,
            ..Conv::new(
                cin,
                cout,
                [kernel; 2],
                Quant::u8(0.02, 117),
                vec![0.001; cout],
                Output::Bytes(Quant::u8(0.05, 0)),
            )
        };
        let bytes =
            |count: usize| (0..count).map(|i| ((i as u64 * 2654435761) >> 8) as u8).collect::<Vec<u8>>();
        let dims = Dims::new(1, size, size);
        let out = conv.out_dims(dims).unwrap();
        let macs = conv.macs(dims).unwrap();
        let count = cout * cin / groups * kernel * kernel;
        let most = match weights {
            Weights::Any => 127,
            Weights::Half => 63,
        };
        let weights: Vec<i8> = bytes(count).iter().map(|&w| (w as i8 as i32 * most / 128) as i8).collect();
        Layer {
            name: format!(
                "{}{kernel}x{kernel}{} {cin}->{cout} {}x{}",
                if groups > 1 { "dw" } else { "" },
                if stride > 1 { format!("s{stride}") } else { String::new() },
                out.h,
                out.w,
            ),
            macs,
            input: bytes(dims.len(cin).unwrap()),
            residual: None,
            output: vec![0; out.len(cout).unwrap()],
            packed: PackedConv::for_isa(isa, conv, &weights, &vec![100; cout]).unwrap(),
            dims,
        }
    }

    /// One inference.
    pub fn run(&mut self, scratch: &mut Scratch) {
        let residual = self.residual.as_deref();
        self.packed.run(&self.input, self.dims, &mut self.output, residual, scratch).unwrap();
    }
}

/// Input channels, output channels, kernel, stride, groups, size of the input.
const LAYERS: &[(usize, usize, usize, usize, usize, usize)] = &[
    (3, 64, 7, 2, 1, 224),
    (3, 32, 3, 2, 1, 224),
    (3, 32, 3, 1, 1, 224),
    (32, 32, 3, 1, 1, 112),
    (64, 64, 3, 1, 1, 56),
    (96, 96, 3, 1, 1, 28),
    (128, 128, 3, 1, 1, 28),
    (256, 256, 3, 1, 1, 14),
    (512, 512, 3, 1, 1, 7),
    (64, 128, 3, 2, 1, 56),
    (64, 256, 1, 1, 1, 56),
    (256, 64, 1, 1, 1, 56),
    (1024, 256, 1, 1, 1, 14),
    (512, 2048, 1, 1, 1, 7),
    (2048, 1000, 1, 1, 1, 1),
    (32, 32, 3, 1, 32, 112),
    (96, 96, 3, 2, 96, 112),
    (384, 384, 3, 1, 384, 14),
    (576, 576, 5, 1, 576, 14),
];

/// The convolutions of the shipped detector on its tile of 224 x 224.
const EDGE: &[(usize, usize, usize, usize, usize, usize)] = &[
    (3, 16, 3, 1, 1, 224),
    (16, 32, 3, 2, 1, 224),
    (32, 48, 3, 2, 1, 112),
    (48, 48, 3, 1, 1, 56),
    (48, 96, 3, 2, 1, 56),
    (96, 96, 3, 1, 1, 28),
];

/// The convolutions of the shipped EfficientNet-lite0 on its tile of 224 x 224, without the residuals.
const LITE: &[(usize, usize, usize, usize, usize, usize)] = &[
    (3, 32, 3, 2, 1, 224),
    (32, 32, 3, 1, 32, 112),
    (32, 16, 1, 1, 1, 112),
    (16, 96, 1, 1, 1, 112),
    (96, 96, 3, 2, 96, 112),
    (96, 24, 1, 1, 1, 56),
    (24, 144, 1, 1, 1, 56),
    (144, 144, 3, 1, 144, 56),
    (144, 24, 1, 1, 1, 56),
    (24, 144, 1, 1, 1, 56),
    (144, 144, 5, 2, 144, 56),
    (144, 40, 1, 1, 1, 28),
    (40, 240, 1, 1, 1, 28),
    (240, 240, 5, 1, 240, 28),
    (240, 40, 1, 1, 1, 28),
    (40, 240, 1, 1, 1, 28),
    (240, 240, 3, 2, 240, 28),
    (240, 80, 1, 1, 1, 14),
    (80, 480, 1, 1, 1, 14),
    (480, 480, 3, 1, 480, 14),
    (480, 80, 1, 1, 1, 14),
    (80, 480, 1, 1, 1, 14),
    (480, 480, 3, 1, 480, 14),
    (480, 80, 1, 1, 1, 14),
    (80, 480, 1, 1, 1, 14),
    (480, 480, 5, 1, 480, 14),
    (480, 112, 1, 1, 1, 14),
    (112, 672, 1, 1, 1, 14),
    (672, 672, 5, 1, 672, 14),
    (672, 112, 1, 1, 1, 14),
    (112, 672, 1, 1, 1, 14),
    (672, 672, 5, 1, 672, 14),
    (672, 112, 1, 1, 1, 14),
    (112, 672, 1, 1, 1, 14),
    (672, 672, 5, 2, 672, 14),
    (672, 192, 1, 1, 1, 7),
    (192, 1152, 1, 1, 1, 7),
    (1152, 1152, 5, 1, 1152, 7),
    (1152, 192, 1, 1, 1, 7),
    (192, 1152, 1, 1, 1, 7),
    (1152, 1152, 5, 1, 1152, 7),
    (1152, 192, 1, 1, 1, 7),
    (192, 1152, 1, 1, 1, 7),
    (1152, 1152, 5, 1, 1152, 7),
    (1152, 192, 1, 1, 1, 7),
    (192, 1152, 1, 1, 1, 7),
    (1152, 1152, 3, 1, 1152, 7),
    (1152, 320, 1, 1, 1, 7),
    (320, 1280, 1, 1, 1, 7),
];

/// Range of the weights; AVX2 has a separate kernel for each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weights {
    /// -127..=127: pairs add up to more than 128 everywhere.
    Any,
    /// -63..=63: no pair does.
    Half,
}

/// All layers for one instruction set.
pub fn layers(isa: Isa, weights: Weights) -> impl Iterator<Item = Layer> {
    packed(LAYERS, isa, weights)
}

/// Only those of the shipped detector.
pub fn edge(isa: Isa, weights: Weights) -> impl Iterator<Item = Layer> {
    packed(EDGE, isa, weights)
}

/// Only those of the shipped EfficientNet-lite0.
pub fn lite(isa: Isa, weights: Weights) -> impl Iterator<Item = Layer> {
    packed(LITE, isa, weights)
}

fn packed(
    list: &'static [(usize, usize, usize, usize, usize, usize)],
    isa: Isa,
    weights: Weights,
) -> impl Iterator<Item = Layer> {
    list.iter().map(move |&(cin, cout, kernel, stride, groups, size)| {
        Layer::new(isa, weights, cin, cout, kernel, stride, groups, size)
    })
}
