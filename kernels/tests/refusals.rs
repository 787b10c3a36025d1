//! What cannot be computed is refused with an error that names the value; nothing panics.

mod common;

use proptest::prelude::*;
use spotd_kernels::*;

const BYTES: Output = Output::Bytes(Quant::u8(0.1, 0));

fn plain() -> Conv {
    Conv::new(2, 3, [1, 1], Quant::u8(0.1, 5), vec![0.1], BYTES)
}

fn error(conv: Conv, weights: &[i8], bias: &[i32]) -> String {
    PackedConv::new(conv, weights, bias).expect_err("it should be refused").to_string()
}

#[test]
fn scales_are_refused() {
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY, -0.0] {
        let conv = Conv { weight_scales: vec![0.1, 0.1, bad], ..plain() };
        let text = error(conv, &[1; 6], &[0; 3]);
        assert!(text.starts_with(&format!("weight scale of output channel 2 is {bad}")), "{text}");
        let text = error(Conv { input: Quant::u8(bad, 0), ..plain() }, &[1; 6], &[0; 3]);
        assert!(text.starts_with(&format!("scale of the input is {bad}")), "{text}");
        let text = error(Conv { output: Output::Bytes(Quant::s8(bad, 0)), ..plain() }, &[1; 6], &[0; 3]);
        assert!(text.starts_with(&format!("scale of the output is {bad}")), "{text}");
        let text = error(Conv { residual: Some(Quant::s8(bad, 0)), ..plain() }, &[1; 6], &[0; 3]);
        assert!(text.starts_with(&format!("scale of the residual is {bad}")), "{text}");
        assert!(
            PackedAdd::new(Quant::u8(bad, 0), Quant::u8(1.0, 0), Activation::None, Quant::u8(1.0, 0))
                .is_err()
        );
        assert!(PackedPool::new(Pool::global_average(3, Quant::u8(bad, 0), Quant::u8(1.0, 0))).is_err());
        assert!(ByteMap::new(Quant::u8(1.0, 0), Quant::u8(bad, 0), |x| x).is_err());
        let mut out = [0];
        assert!(quantize_nchw(Isa::Portable, &Quant::u8(bad, 0), &[1.0], 1, 1, 1, &mut out).is_err());
    }
    let conv = Conv { input: Quant::u8(1e30, 0), weight_scales: vec![1e30], ..plain() };
    let text = error(conv, &[1; 6], &[0; 3]);
    assert!(text.contains("below 2^90"), "{text}");
}

#[test]
fn zero_points_are_refused() {
    let text = error(Conv { input: Quant::u8(0.1, 256), ..plain() }, &[1; 6], &[0; 3]);
    assert_eq!(text, "zero point of the input is 256, outside of 0..=255");
    let text = error(Conv { residual: Some(Quant::s8(0.1, -129)), ..plain() }, &[1; 6], &[0; 3]);
    assert_eq!(text, "zero point of the residual is -129, outside of -128..=127");
    let text = error(Conv { output: Output::Bytes(Quant::s8(0.1, i32::MAX)), ..plain() }, &[1; 6], &[0; 3]);
    assert_eq!(text, "zero point of the output is 2147483647, outside of -128..=127");
}

#[test]
fn an_inner_activation_needs_a_residual() {
    let inner = Conv { inner: spotd_kernels::Activation::Relu, ..plain() };
    assert!(error(inner.clone(), &[1; 6], &[0; 3]).contains("before a residual"));
    let with = Conv { residual: Some(Quant::u8(0.1, 0)), ..inner };
    assert!(PackedConv::new(with, &[1; 6], &[0; 3]).is_ok());
}

#[test]
fn overflow_is_refused_by_the_weights_themselves() {
    let inputs = 80_000;
    let conv = Conv::dense(inputs, 2, Quant::u8(1e-6, 0), vec![1e-6], Output::F32);
    let mut weights = vec![1i8; 2 * inputs];
    assert!(PackedConv::new(conv.clone(), &weights, &[0; 2]).is_ok());
    weights[inputs..].fill(-128);
    let text = error(conv, &weights, &[0; 2]);
    assert_eq!(text, "the sum of output channel 1 could reach 2611200000, which 32 bits do not hold");
    let text = error(plain(), &[1; 6], &[0, i32::MIN, 0]);
    assert!(text.starts_with("the sum of output channel 1 could reach"), "{text}");
}

#[test]
fn shapes_are_refused() {
    let refused = |conv: Conv, expected: &str| {
        let text = error(conv, &[1; 6], &[0; 3]);
        assert!(text.starts_with(expected), "{text}");
    };
    refused(Conv { groups: 0, ..plain() }, "groups is 0");
    refused(Conv { groups: 2, ..plain() }, "output channels is 3: not a multiple of the groups");
    refused(Conv { stride: [0, 1], ..plain() }, "vertical stride is 0");
    refused(Conv { dilation: [1, 2], ..plain() }, "dilation is 2: only 1 is computed");
    refused(Conv { kernel: [1, 0], ..plain() }, "kernel width is 0");
    refused(Conv { kernel: [usize::MAX, 1], ..plain() }, "kernel height is 18446744073709551615");
    refused(Conv { kernel: [3, 3], ..plain() }, "weights has length 6, expected 54");
    refused(Conv { weight_scales: vec![1.0; 2], ..plain() }, "weight scales has length 2, expected 3");
    refused(Conv { padding: Padding::same(usize::MAX), ..plain() }, "top padding is");
    refused(
        Conv { activation: Activation::Clip { min: 1.0, max: 0.0 }, ..plain() },
        "the activation's bounds are 1 and 0",
    );
    refused(Conv { activation: Activation::Clip { min: f32::NAN, max: 0.0 }, ..plain() }, "the activation's");
    assert_eq!(error(plain(), &[1; 6], &[0; 2]), "bias has length 2, expected 3");
}

#[test]
fn calls_are_refused() {
    let scratch = &mut Scratch::new();
    let packed = PackedConv::new(plain(), &[1; 6], &[0; 3]).unwrap();
    let dims = Dims::new(1, 2, 2);
    let mut output = [0; 12];
    assert!(packed.run(&[0; 8], dims, &mut output, None, scratch).is_ok());
    let text = packed.run(&[0; 7], dims, &mut output, None, scratch).unwrap_err().to_string();
    assert_eq!(text, "input has length 7, expected 8");
    let text = packed.run(&[0; 8], dims, &mut output[1..], None, scratch).unwrap_err().to_string();
    assert_eq!(text, "output has length 11, expected 12");
    let text = packed.run(&[0; 8], dims, &mut output, Some(&[0; 12]), scratch).unwrap_err().to_string();
    assert_eq!(text, "this layer was packed without a residual and was called with one");
    let text = packed.run_f32(&[0; 8], dims, &mut [0.0; 12], None, scratch).unwrap_err().to_string();
    assert_eq!(text, "this layer writes bytes, the call asks for f32");
    for dims in [Dims::new(0, 2, 2), Dims::new(1, usize::MAX, 2), Dims::new(1 << 24, 1 << 24, 1 << 24)] {
        assert!(packed.run(&[0; 8], dims, &mut output, None, scratch).is_err(), "{dims:?}");
    }
    let conv = Conv { kernel: [3, 3], padding: Padding { top: 1, ..Padding::default() }, ..plain() };
    let packed = PackedConv::new(conv, &[1; 54], &[0; 3]).unwrap();
    let text = packed.out_dims(Dims::new(1, 1, 3)).unwrap_err().to_string();
    assert_eq!(text, "padded height is 2: smaller than the kernel");
}

#[test]
fn bias_folds_to_steps_of_the_sum() {
    assert_eq!(plain().fold_bias(&[0.5, -0.25, 0.015]).unwrap(), [50, -25, 1]);
    let text = plain().fold_bias(&[0.0, 1e9, 0.0]).unwrap_err().to_string();
    assert!(text.starts_with("bias of output channel 1 is 1000000000"), "{text}");
    assert!(plain().fold_bias(&[f32::NAN; 3]).is_err());
    assert!(plain().fold_bias(&[0.0; 2]).is_err());
}

#[test]
fn instruction_sets_are_named() {
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse(), Ok(isa));
    }
    let text = "sse9".parse::<Isa>().unwrap_err().to_string();
    assert!(text.contains("\"sse9\"") && text.contains("avx2"), "{text}");
    let foreign = if cfg!(target_arch = "x86_64") { Isa::Neon } else { Isa::Avx2 };
    let text = PackedConv::for_isa(foreign, plain(), &[1; 6], &[0; 3]).unwrap_err().to_string();
    assert!(text.contains("is not available on this processor; available: "), "{text}");
    assert!(peak_gmacs(foreign).is_err());
    assert_eq!(Isa::available().last(), Some(&Isa::Portable));
}

fn absurd() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0usize..6,
        1 => any::<usize>(),
        1 => any::<u8>().prop_map(|shift| 1usize.checked_shl(shift as u32 % 64).unwrap_or(0)),
        1 => Just(usize::MAX),
    ]
}

proptest! {
    #![proptest_config(common::cases(20_000))]

    /// Any numbers at all give an error or a layer that runs; never a panic.
    #[test]
    fn absurd_layers_never_panic(
        (i, o, kh, kw) in (absurd(), absurd(), absurd(), absurd()),
        (sh, sw, groups, dilation) in (absurd(), absurd(), absurd(), absurd()),
        (top, left, bottom, right) in (absurd(), absurd(), absurd(), absurd()),
        (n, h, w) in (absurd(), absurd(), absurd()),
        (scale, zero, count) in (any::<f32>(), -300i32..300, 0usize..200),
    ) {
        let count = [Some(i), Some(kh), Some(kw), o.checked_div(groups)]
            .into_iter()
            .try_fold(1usize, |product, factor| product.checked_mul(factor?))
            .filter(|&product| product < 10_000)
            .unwrap_or(count);
        let conv = Conv {
            stride: [sh, sw],
            dilation: [dilation.min(1), 1],
            padding: Padding { top, left, bottom, right },
            groups,
            ..Conv::new(i, o, [kh, kw], Quant::u8(scale.abs(), zero), vec![0.1], BYTES)
        };
        let dims = Dims::new(n, h, w);
        let _ = (conv.out_dims(dims), conv.fold_bias(&[1.0; 4]));
        if let Ok(packed) = PackedConv::new(conv, &vec![1; count], &vec![0; o.min(1000)]) {
            let lens = (dims.len(i), packed.out_dims(dims).and_then(|out| out.len(o)));
            if let (Ok(input), Ok(output)) = lens && input < 1 << 20 && output < 1 << 20 {
                let _ = packed.run(&vec![0; input], dims, &mut vec![0; output], None, &mut Scratch::new());
            }
        }
        let pool = Pool {
            kind: PoolKind::AveragePadded,
            kernel: [kh, kw],
            stride: [sh, sw],
            padding: Padding { top, left, bottom, right },
            channels: i,
            input: Quant::u8(scale.abs(), zero),
            output: Quant::s8(0.1, 3),
        };
        if let Ok(packed) = PackedPool::new(pool) {
            let lens = (dims.len(i), packed.out_dims(dims).and_then(|out| out.len(i)));
            if let (Ok(input), Ok(output)) = lens && input < 1 << 20 && output < 1 << 20 {
                let _ = packed.run(&vec![0; input], dims, &mut vec![0; output], &mut Scratch::new());
            }
        }
    }
}
