//! Pooling, addition, maps and changes of layout: against plain loops, and on every instruction set
//! the same.

mod common;

use common::{activation, fill, isas, quant};
use proptest::prelude::*;
use spotd_kernels::*;

fn value(q: &Quant, bits: u8) -> f64 {
    (q.ty.value(bits) - q.zero_point) as f64 * q.scale as f64
}

/// `bits` is within half a step, and what f32 may add, of `exact` clamped to the range.
fn near(q: &Quant, bits: u8, exact: f64) -> bool {
    let low = (q.ty.low() - q.zero_point) as f64;
    let exact = (exact / q.scale as f64).clamp(low, low + 255.0);
    (value(q, bits) / q.scale as f64 - exact).abs() < 0.5 + 1e-3
}

fn pools() -> impl Strategy<Value = (Pool, Dims)> {
    let kind = prop_oneof![Just(PoolKind::Max), Just(PoolKind::Average), Just(PoolKind::AveragePadded)];
    let sizes = (1usize..4, 1usize..4, 1usize..4, 1usize..4, 0usize..3, 0usize..3, any::<bool>());
    let dims = (1usize..3, 3usize..10, 3usize..10);
    (kind, sizes, dims, 1usize..40, quant(), quant(), any::<bool>()).prop_map(
        |(kind, (kh, kw, sh, sw, before, after, global), (n, h, w), channels, input, output, same)| {
            let side = |wanted: usize, kernel: usize| wanted.min(kernel - 1);
            let padding = Padding {
                top: side(before, kh),
                left: side(after, kw),
                bottom: side(after, kh),
                right: side(before, kw),
            };
            let output = if same { input } else { output };
            let (kernel, padding) = if global { ([0, 0], Padding::default()) } else { ([kh, kw], padding) };
            (Pool { kind, kernel, stride: [sh, sw], padding, channels, input, output }, Dims::new(n, h, w))
        },
    )
}

proptest! {
    #![proptest_config(common::cases(500))]

    #[test]
    fn pooling((pool, dims) in pools(), bytes in fill()) {
        let input = bytes.bytes(dims.len(pool.channels).unwrap());
        let run = |isa| {
            let packed = PackedPool::for_isa(isa, pool).unwrap();
            let out = packed.out_dims(dims).unwrap();
            let mut output = vec![0xa5; out.len(pool.channels).unwrap()];
            packed.run(&input, dims, &mut output, &mut Scratch::new()).unwrap();
            (out, output)
        };
        let (out, output) = run(Isa::Portable);
        for isa in isas() {
            prop_assert_eq!(&run(isa).1, &output, "{}", isa);
        }
        let [kh, kw] = if pool.kernel == [0, 0] { [dims.h, dims.w] } else { pool.kernel };
        for (index, &bits) in output.iter().enumerate() {
            let (pixel, c) = (index / pool.channels, index % pool.channels);
            let (n, y, x) = (pixel / (out.h * out.w), pixel / out.w % out.h, pixel % out.w);
            let mut window = Vec::new();
            for tap in 0..kh * kw {
                let iy = (y * pool.stride[0] + tap / kw) as isize - pool.padding.top as isize;
                let ix = (x * pool.stride[1] + tap % kw) as isize - pool.padding.left as isize;
                if (0..dims.h as isize).contains(&iy) && (0..dims.w as isize).contains(&ix) {
                    let at = ((n * dims.h + iy as usize) * dims.w + ix as usize) * pool.channels + c;
                    window.push(value(&pool.input, input[at]));
                }
            }
            let sum: f64 = window.iter().sum();
            let exact = match pool.kind {
                PoolKind::Max => window.iter().copied().fold(f64::MIN, f64::max),
                PoolKind::Average => sum / window.len() as f64,
                PoolKind::AveragePadded => sum / (kh * kw) as f64,
            };
            prop_assert!(near(&pool.output, bits, exact), "{bits} for {exact}, {window:?}");
        }
    }

    #[test]
    fn addition(
        (qa, qb, qo, activation) in (quant(), quant(), quant(), activation()),
        (a, b, count) in (fill(), fill(), 0usize..200),
    ) {
        let (a, b) = (a.bytes(count), b.bytes(count));
        let run = |isa| {
            let mut output = vec![0xa5; count];
            PackedAdd::for_isa(isa, qa, qb, activation, qo).unwrap().run(&a, &b, &mut output).unwrap();
            output
        };
        let output = run(Isa::Portable);
        for isa in isas() {
            prop_assert_eq!(&run(isa), &output, "{}", isa);
        }
        for ((&a, &b), &bits) in a.iter().zip(&b).zip(&output) {
            let sum = value(&qa, a) + value(&qb, b);
            let exact = match activation {
                Activation::None => sum,
                Activation::Relu => sum.max(0.0),
                Activation::Clip { min, max } => sum.max(min as f64).min(max as f64),
            };
            prop_assert!(near(&qo, bits, exact), "{bits} for {exact}");
        }
    }

    #[test]
    fn layouts(
        q in quant(),
        (n, channels, pixels) in (0usize..3, 1usize..20, 1usize..150),
        seed in any::<u64>(),
    ) {
        let count = n * channels * pixels;
        let reals: Vec<f32> = common::Fill::Random(seed)
            .bytes(count)
            .iter()
            .map(|&bits| (bits as f32 - 128.0) * q.scale * 0.75)
            .collect();
        let run = |isa| {
            let mut bytes = vec![0; count];
            quantize_nchw(isa, &q, &reals, n, channels, pixels, &mut bytes).unwrap();
            bytes
        };
        let bytes = run(Isa::Portable);
        for isa in isas() {
            prop_assert_eq!(&run(isa), &bytes, "{}", isa);
        }
        let mut back = vec![f32::NAN; count];
        dequantize_nhwc(&q, &bytes, n, channels, pixels, &mut back).unwrap();
        for (index, &real) in reals.iter().enumerate() {
            let (picture, channel, pixel) =
                (index / (channels * pixels), index / pixels % channels, index % pixels);
            let bits = bytes[(picture * pixels + pixel) * channels + channel];
            prop_assert_eq!(bits, q.quantize(real));
            prop_assert!(near(&q, bits, real as f64), "{bits} for {real}");
            prop_assert_eq!(back[index], q.dequantize(bits));
        }
    }
}

#[test]
fn a_map_is_the_function_of_each_byte() {
    let (from, to) = (Quant::s8(0.05, 3), Quant::u8(1.0 / 255.0, 0));
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let map = ByteMap::new(from, to, sigmoid).unwrap();
    let input: Vec<u8> = (0..=255).collect();
    let mut output = [0; 256];
    map.run(&input, &mut output).unwrap();
    for (bits, out) in input.iter().zip(output) {
        assert!(near(&to, out, sigmoid(value(&from, *bits) as f32) as f64));
    }
    assert!(map.run(&input, &mut output[1..]).is_err());
}

#[test]
fn numbers_far_out_are_clamped() {
    let q = Quant::u8(0.1, 7);
    let bytes = [f32::INFINITY, 1e30, -1e30, f32::NEG_INFINITY, f32::NAN, 0.0].map(|real| q.quantize(real));
    assert_eq!(bytes, [255, 255, 0, 0, 0, 7]);
    assert_eq!(
        [0.05, 0.15, 0.25, -0.05, -0.15].map(|x| Quant::u8(0.1, 128).quantize(x)),
        [128, 130, 130, 128, 126]
    );
}
