//! Convolutions: the portable path against plain loops in f64, every other path against the
//! portable one.

mod common;

use common::{Answer, Case, case, depthwise, isas, pixels};
use proptest::prelude::*;
use spotd_kernels::*;

proptest! {
    #![proptest_config(common::cases(1500))]

    #[test]
    fn every_instruction_set_gives_the_same_bits(case in case()) {
        let scratch = &mut Scratch::new();
        let answer = case.run(Isa::Portable, scratch);
        for isa in isas() {
            prop_assert_eq!(&case.run(isa, scratch), &answer, "{}", isa);
        }
    }
}

proptest! {
    #![proptest_config(common::cases(1000))]

    #[test]
    fn depthwise_layers_give_the_same_bits(case in depthwise()) {
        let scratch = &mut Scratch::new();
        let answer = case.run(Isa::Portable, scratch);
        for isa in isas() {
            prop_assert_eq!(&case.run(isa, scratch), &answer, "{}", isa);
        }
    }

    #[test]
    fn layers_over_pixels_give_the_same_bits(case in pixels()) {
        let scratch = &mut Scratch::new();
        let answer = case.run(Isa::Portable, scratch);
        for isa in isas() {
            prop_assert_eq!(&case.run(isa, scratch), &answer, "{}", isa);
        }
    }
}

proptest! {
    #![proptest_config(common::cases(300))]

    #[test]
    fn portable_is_right(case in case()) {
        let naive = case.naive();
        match case.run(Isa::Portable, &mut Scratch::new()) {
            Answer::Bytes(bytes) => {
                let Output::Bytes(q) = case.conv.output else { unreachable!() };
                prop_assert_eq!(bytes.len(), naive.len());
                for (&bits, &exact) in bytes.iter().zip(&naive) {
                    let value = (q.ty.value(bits) - q.zero_point) as f64;
                    let low = (q.ty.low() - q.zero_point) as f64;
                    let exact = exact.clamp(low, low + 255.0);
                    // Half a step of rounding, and what f32 may add to it.
                    prop_assert!((value - exact).abs() < 0.5 + 1e-3, "{value} for {exact}");
                }
            }
            Answer::Real(reals) => {
                for (&bits, &exact) in reals.iter().zip(&naive) {
                    let real = f32::from_bits(bits) as f64;
                    prop_assert!((real - exact).abs() <= 1e-5 * exact.abs().max(1.0) * 100.0, "{real} for {exact}");
                }
            }
        }
    }
}

/// Sums as large as inputs and weights can make them, in each kind of layer.
#[test]
fn extremes_do_not_saturate() {
    for isa in isas() {
        for input in [Quant::u8(1.0, 0), Quant::u8(1.0, 255), Quant::s8(1.0, -128), Quant::s8(1.0, 127)] {
            for (weight, bits) in [
                (-128i8, 255u8),
                (127, 255),
                (-128, 0),
                (-128, 127),
                (-128, 128),
                (127, 128),
                (64, 255),
                (-64, 255),
                // Four of them: as much as 16 bits hold, and a little more.
                (32, 255),
                (-32, 255),
                (33, 255),
                (-33, 255),
            ] {
                for (channels, groups, kernel) in
                    [(64, 1, 3), (64, 64, 3), (33, 1, 1), (8, 2, 5), (20, 20, 7)]
                {
                    let case = Case {
                        conv: Conv {
                            groups,
                            ..Conv::new(channels, channels, [kernel; 2], input, vec![1.0], Output::F32)
                        },
                        dims: Dims::new(1, kernel + 1, kernel + 2),
                        weights: vec![weight; channels * channels / groups * kernel * kernel],
                        bias: vec![7; channels],
                        input: vec![bits; (kernel + 1) * (kernel + 2) * channels],
                        residual: None,
                    };
                    let count = (channels / groups * kernel * kernel) as i32;
                    let sum = 7 + count * weight as i32 * (input.ty.value(bits) - input.zero_point);
                    let answer = case.run(isa, &mut Scratch::new());
                    assert_eq!(
                        answer,
                        Answer::Real(vec![(sum as f32).to_bits(); 6 * channels]),
                        "{isa} {case:?}"
                    );
                }
            }
        }
    }
}

/// Sizes of real networks, where a band, a tile and a block of channels end in the middle of
/// nothing.
#[test]
fn layers_of_networks_agree() {
    let layers = [
        (3, 32, [7, 7], 2, 3, 1, 112),
        (3, 64, [3, 3], 2, 1, 1, 75),
        (32, 32, [3, 3], 1, 1, 1, 112),
        (64, 128, [3, 3], 2, 1, 1, 57),
        (96, 96, [3, 3], 1, 1, 1, 28),
        (64, 256, [1, 1], 1, 0, 1, 56),
        (256, 512, [1, 1], 2, 0, 1, 28),
        (512, 512, [3, 3], 1, 1, 1, 7),
        (96, 96, [3, 3], 2, 1, 96, 112),
        (960, 960, [5, 5], 1, 2, 960, 7),
        (144, 144, [5, 5], 2, 2, 144, 56),
        (40, 40, [3, 3], 1, 1, 40, 112),
        (2048, 1000, [1, 1], 1, 0, 1, 1),
    ];
    for (index, (cin, cout, kernel, stride, padding, groups, size)) in layers.into_iter().enumerate() {
        let random = |count, seed: u64| common::Fill::Random(seed + 1000 * index as u64).bytes(count);
        let conv = Conv {
            stride: [stride; 2],
            padding: Padding::same(padding),
            groups,
            residual: (index % 2 == 0).then_some(Quant::u8(0.02, 120)),
            inner: if index % 4 == 0 { Activation::Relu } else { Activation::None },
            activation: Activation::Relu,
            ..Conv::new(
                cin,
                cout,
                kernel,
                if index % 3 == 0 { Quant::s8(0.02, -3) } else { Quant::u8(0.02, 117) },
                vec![0.001; cout],
                Output::Bytes(Quant::u8(0.05, 10)),
            )
        };
        let dims = Dims::new(1, size, size);
        let out = conv.out_dims(dims).unwrap().len(cout).unwrap();
        let case = Case {
            weights: random(cout * cin / groups * kernel[0] * kernel[1], 1)
                .iter()
                .map(|&w| w as i8)
                .collect(),
            bias: (0..cout as i32).map(|c| c * 100 - 3000).collect(),
            input: random(size * size * cin, 2),
            residual: conv.residual.map(|_| random(out, 3)),
            conv,
            dims,
        };
        let answer = case.run(Isa::Portable, &mut Scratch::new());
        for isa in isas() {
            assert!(case.run(isa, &mut Scratch::new()) == answer, "{isa}, layer {index}");
        }
    }
}
