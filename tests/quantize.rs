//! Quantisation of networks of well-known shapes, and `spotd quantize` as a user runs it.

mod common;

use common::networks::{self, Act, Net};
use spotd::detector::model::planar;
use spotd::quantize::{Options, Quantized, Residual, Tiles, quantize};
use tract_onnx::prelude::*;

fn tiles(side: u32, calibrate: u64, held_out: u64) -> Tiles {
    let of = |seeds: std::ops::Range<u64>| seeds.map(|s| planar(&networks::tile(side, s))).collect();
    Tiles { calibrate: of(0..calibrate), held_out: of(1000..1000 + held_out) }
}

/// Bytes of a model on tiles, by tract, without the quantiser's own runner.
fn logits(onnx: &[u8], tiles: &[Tensor]) -> Vec<f32> {
    let mut model = tract_onnx::onnx().model_for_read(&mut &*onnx).expect("ONNX");
    model.set_input_fact(0, f32::fact(tiles[0].shape()).into()).expect("input");
    let plan = model.into_optimized().expect("optimises").into_runnable().expect("runs");
    tiles
        .iter()
        .map(|t| {
            let out = plan.run(tvec!(t.clone().into())).expect("runs");
            out[0].to_plain_array_view::<f32>().expect("floats").iter().copied().next().expect("a logit")
        })
        .collect()
}

/// Quantises, and checks what holds for any network: the file says what the report says.
fn checked(onnx: &[u8], tiles: &Tiles, options: &Options) -> Quantized {
    let made = quantize(onnx, tiles, options, &()).expect("quantises");
    let (float, bytes) = (logits(onnx, &tiles.held_out), logits(&made.onnx, &tiles.held_out));
    let worst = float.iter().zip(&bytes).map(|(a, b)| f64::from(a - b).abs()).fold(0.0, f64::max);
    let said = made.report.difference;
    assert!((worst - said.max).abs() < 1e-4 * (1.0 + worst), "{worst} {said:?}");
    made
}

#[test]
fn networks_of_every_shape_keep_their_logits() {
    for (name, onnx, side, share) in [
        ("plain", networks::plain(64, 8, 1), 64, 0.05),
        ("vgg", networks::vgg(32, 8, 2), 32, 0.05),
        ("resnet-18", networks::resnet_basic(64, 8, &[2, 2, 2, 2], 3), 64, 0.1),
        ("resnet-50", networks::resnet_bottleneck(64, 8, &[3, 4, 6, 3], 4), 64, 0.15),
        ("mobilenet", networks::mobilenet(64, 4, 5), 64, 0.2),
    ] {
        let tiles = tiles(side, 12, 12);
        for symmetric in [false, true] {
            let made = checked(&onnx, &tiles, &Options { symmetric, jobs: 2, ..Options::default() });
            let report = &made.report;
            println!("{name} {symmetric} {:?} folding {} {:?} eq {} bc {}", report.difference, report.folding, report.normalisation, report.equalised, report.bias_corrected);
            for t in &report.trials { println!("   {t:?}"); }
            for t in &report.noise { println!("   {t:?}"); }
            println!("float {:?}", report.float);
            assert!(report.difference.rms < share * report.difference.spread, "{name}");
        }
    }
    let _ = (Act::None, Net::new("", 1, 1, false), Residual::Apart);
}
