//! What coherence finds, and that it agrees with the reference.

use std::path::Path;

use prost::Message as _;

use super::*;

/// A picture of `width` x `height` with noise around mid-grey, the same for the same seed.
fn noise(width: usize, height: usize, seed: u64) -> Luma {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let levels = (0..width * height)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            100.0 + (state >> 11) as f32 / (1u64 << 53) as f32 * 40.0
        })
        .collect();
    Luma { width, height, levels }
}

/// `luma` with a checkerboard of period 8 added, `strength` levels high: a tenth of the noise.
fn with_lattice(mut luma: Luma, strength: f32) -> Luma {
    for y in 0..luma.height {
        for x in 0..luma.width {
            let wave = (x % 8 == 3) != (y % 8 == 5);
            luma.levels[y * luma.width + x] += if wave { strength } else { 0.0 };
        }
    }
    luma
}

/// `log(C + 0.05)` of the residual at frequency (u, v).
fn log_coherence(sums: &BlockSums, u: usize, v: usize) -> f32 {
    features(sums)[v * 9 + u]
}

#[test]
fn a_weak_lattice_is_found_where_it_repeats_and_nowhere_else() {
    let plain = BlockSums::of(&noise(512, 512, 1));
    let found = BlockSums::of(&with_lattice(noise(512, 512, 1), 4.0));
    // Period 8 is two sixteenths of a cycle per pixel.
    assert!(log_coherence(&plain, 2, 2) < 2.0, "{}", log_coherence(&plain, 2, 2));
    assert!(log_coherence(&found, 2, 2) > 3.0, "{}", log_coherence(&found, 2, 2));
    assert!(log_coherence(&found, 1, 3) < 2.0, "period 16 has nothing: {}", log_coherence(&found, 1, 3));
}

#[test]
fn frames_add_up_where_the_scene_moves() {
    let of = |seed| BlockSums::of(&with_lattice(noise(256, 256, seed), 2.0));
    let one = log_coherence(&of(1), 2, 2);
    let mut sums = of(1);
    (2..40).for_each(|seed| sums.follow(&of(seed), 0.95));
    let many = log_coherence(&sums, 2, 2);
    assert!(many > one + 1.0, "one frame {one}, many {many}");
    let other = log_coherence(&sums, 3, 5);
    assert!(other < 2.0, "what does not repeat stays: {other}");
}

#[test]
fn a_still_scene_is_no_lattice() {
    let frame = BlockSums::of(&noise(256, 256, 5));
    let mut sums = frame.clone();
    (0..40).for_each(|_| sums.follow(&frame, 0.95));
    for (one, many) in features(&frame).into_iter().zip(features(&sums)) {
        assert!((one - many).abs() < 0.05, "{one} has become {many}");
    }
}

#[test]
fn pixels_of_one_colour_give_finite_features() {
    let flat = Luma { width: 128, height: 128, levels: vec![70.0; 128 * 128] };
    assert!(features(&BlockSums::of(&flat)).iter().all(|f| f.is_finite()));
}

/// The reference is `numpy` and `OpenCV`; the picture is made by the same formula there. See
/// golden.py.
#[test]
fn features_are_the_references() {
    let (width, height) = (160usize, 96usize);
    let levels = (0..width * height)
        .map(|i| {
            let (x, y) = ((i % width) as u64, (i / width) as u64);
            let hash = (x * 7919 + y * 104_729 + x * y * 31) % 251;
            let lattice = if (x % 8 == 3) != (y % 4 == 1) { 6 } else { 0 };
            (hash / 4 + lattice + x / 2 + y / 3) as f32
        })
        .collect();
    let sums = BlockSums::of(&Luma { width, height, levels });
    let want: Vec<f32> = include_str!("golden.txt").lines().map(|l| l.parse().expect("a number")).collect();
    let got = features(&sums);
    assert_eq!(got.len(), want.len());
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((got - want).abs() < 1e-3, "feature {at} is {got}, not {want}");
    }
}

/// The built-in head takes any number of rows; with its first dimension said to be 1, as an exporter may write it, it is
/// asked row by row.
#[test]
fn a_rows_logit_is_its_own_however_many_are_judged_together() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/spotd-coherence.onnx");
    let bytes = std::fs::read(&path).expect("the head");
    let mut proto = tract_onnx::pb::ModelProto::decode(&bytes[..]).expect("ONNX");
    let graph = proto.graph.as_mut().expect("a graph");
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        set_rows(value, 1);
    }
    let (any, one) = [bytes, proto.encode_to_vec()].map(|b| Head::new(&b, &path).expect("a head")).into();
    let rows: Vec<f32> = (0..19 * FEATURES).map(|i| ((i * 7919) % 601) as f32 / 100.0 - 3.0).collect();
    let together = any.of_features(&rows).expect("logits");
    assert_eq!(together.len(), 19);
    for (row, logit) in rows.chunks(FEATURES).zip(&together) {
        assert_eq!(any.of_features(row).expect("a logit"), [*logit]);
    }
    for (logit, alone) in together.iter().zip(one.of_features(&rows).expect("logits")) {
        assert!((logit - alone).abs() < 1e-3, "{logit} and, in a head for one row, {alone}");
    }
    assert!(any.of_features(&rows[1..]).expect_err("a feature is missing").to_string().contains("972"));
}

fn set_rows(value: &mut tract_onnx::pb::ValueInfoProto, rows: i64) {
    use tract_onnx::pb::{tensor_shape_proto::dimension, type_proto};
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|t| t.value.as_mut())
    else {
        panic!("{} is no tensor", value.name)
    };
    let shape = tensor.shape.as_mut().expect("a shape");
    shape.dim[0].value = Some(dimension::Value::DimValue(rows));
}
