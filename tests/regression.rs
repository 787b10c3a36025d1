//! Pinned scores of pictures that any machine can make: a change to tiles, pixel conversion,
//! kernels or model that shifts one is noticed here. `UPDATE=1` (`make regression`) rewrites them,
//! and the difference is then part of the commit that shifted them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use image::RgbImage;
use image::imageops::FilterType;
use serde::{Deserialize, Serialize};
use spotd::detector::{Detector, Model};
use spotd::forensics::augment::{JpegCodec, gaussian_blur, jpeg, jpeg_bytes, resize};
use spotd::forensics::scenes::SceneRenderer;
use spotd::frame::{Captured, Colour, Frame, Interlacing, PixelFormat, Plane};
use spotd::identity::Wanted;
use spotd::source::demo::{HEIGHT, Resynthesis, WIDTH};
#[cfg(feature = "gstreamer")]
use spotd::source::recode::VideoCodec;
use spotd::verdict::Verdict;

/// Allowed difference of a logit. Machines differ only in the last bits of a sum; a tile that is
/// off by one pixel makes more difference.
const TOLERANCE: f32 = 0.02;
/// The default of `run`.
const TILES: usize = 9;
/// Seeds that are neither training scenes (from 1,000,000) nor in the demonstration (from 0).
const FIRST_SCENE: u64 = 500_000;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Pinned {
    logit: f32,
    verdict: Verdict,
}

fn frame(format: PixelFormat, (width, height): (u32, u32), planes: [Plane; 3], data: Vec<u8>) -> Frame {
    let captured = Captured {
        at: SystemTime::UNIX_EPOCH,
        format,
        width,
        height,
        planes,
        colour: Colour::default(),
        interlacing: Interlacing::Unsaid,
        data: Box::new(data),
    };
    captured.into_frame(Arc::from("set"), 0, Duration::ZERO)
}

fn rgb(picture: &RgbImage) -> Frame {
    Frame::from_rgb(Arc::from("set"), 0, SystemTime::UNIX_EPOCH, Duration::ZERO, picture.clone())
}

/// As sent by a camera: one JPEG per frame.
fn mjpg(picture: &RgbImage) -> Frame {
    let size = picture.dimensions();
    frame(PixelFormat::Mjpg, size, [Plane::default(); 3], jpeg_bytes(picture, JpegCodec::Quartered, 90))
}

/// Video range BT.601, chroma the mean of 2x2 pixels, rows longer than the picture.
fn nv12(picture: &RgbImage) -> Frame {
    let (width, height) = picture.dimensions();
    let stride = width as usize + 32;
    let mut data = vec![0u8; stride * height as usize * 3 / 2];
    let chroma = stride * height as usize;
    let yuv = |p: [f32; 3]| {
        let [r, g, b] = p.map(|v| v / 255.0);
        let y = 0.299 * r + 0.587 * g + 0.114 * b;
        [16.0 + 219.0 * y, 128.0 + 224.0 * (b - y) / 1.772, 128.0 + 224.0 * (r - y) / 1.402]
    };
    for y in 0..height {
        for x in 0..width {
            let luma = yuv(picture.get_pixel(x, y).0.map(f32::from))[0];
            data[y as usize * stride + x as usize] = luma.round() as u8;
        }
    }
    for y in 0..height / 2 {
        for x in 0..width / 2 {
            let mut sum = [0f32; 3];
            for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let pixel = picture.get_pixel(2 * x + dx, 2 * y + dy).0;
                sum.iter_mut().zip(pixel).for_each(|(s, v)| *s += f32::from(v) / 4.0);
            }
            let [_, u, v] = yuv(sum);
            let at = chroma + y as usize * stride + 2 * x as usize;
            data[at] = u.round() as u8;
            data[at + 1] = v.round() as u8;
        }
    }
    let planes = [Plane { offset: 0, stride }, Plane { offset: chroma, stride }, Plane::default()];
    frame(PixelFormat::Nv12, (width, height), planes, data)
}

/// The set: scenes as seen by a camera and as resynthesised by the demonstration's network, by
/// three routes into the detector, and after various degradations.
fn pictures() -> Vec<(String, Frame)> {
    let network = Resynthesis::new().expect("the demonstration's network");
    let mut all = Vec::new();
    for scene in 0..3 {
        let real = SceneRenderer::new(FIRST_SCENE + scene, WIDTH, HEIGHT).frame(7);
        let fake = network.apply(&real).expect("redraws");
        for (kind, picture) in [("scene", &real), ("redrawn", &fake)] {
            all.push((format!("{kind} {scene}, rgb"), rgb(picture)));
            all.push((format!("{kind} {scene}, nv12"), nv12(picture)));
            all.push((format!("{kind} {scene}, mjpg"), mjpg(picture)));
        }
        all.push((format!("scene {scene}, blurred"), rgb(&gaussian_blur(&real, 1.0))));
        // An odd size, and tiles elsewhere.
        let cut = image::imageops::crop_imm(&real, 3, 5, 451, 301).to_image();
        all.push((format!("scene {scene}, odd size"), rgb(&cut)));
    }
    all
}

#[test]
fn scores_are_where_they_were() {
    let model = Model::open(None, Wanted::Auto).expect("the built-in detector");
    let detector = Detector::of(&model, TILES);
    let limits = detector.limits();
    let found: BTreeMap<String, Pinned> = pictures()
        .into_iter()
        .map(|(name, frame)| {
            let score = detector.score(frame).expect("judged");
            (name, Pinned { logit: score.logit, verdict: score.verdict(limits) })
        })
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regression/scores.json");
    if std::env::var_os("UPDATE").is_some() {
        let text = serde_json::to_string_pretty(&found).expect("as text");
        std::fs::write(&path, text + "\n").expect("written");
        return;
    }
    let text = std::fs::read_to_string(&path).expect("the pinned scores; `make regression` writes them");
    let pinned: BTreeMap<String, Pinned> = serde_json::from_str(&text).expect("the pinned scores");
    assert_eq!(found.keys().collect::<Vec<_>>(), pinned.keys().collect::<Vec<_>>());
    let moved: Vec<String> = found
        .iter()
        .filter(|(name, now)| {
            let was = pinned[*name];
            (now.logit - was.logit).abs() > TOLERANCE || now.verdict != was.verdict
        })
        .map(|(name, now)| format!("{name}: {now:?}, was {:?}", pinned[name]))
        .collect();
    assert!(
        moved.is_empty(),
        "scores have moved; if that is meant, `make regression`:\n{}",
        moved.join("\n")
    );
}

/// Degradations of a camera's picture: the name, whether it is only a codec, and the picture.
fn ways(real: &RgbImage) -> Vec<(String, bool, RgbImage)> {
    let scaled = |factor: f32| resize(real, factor, FilterType::CatmullRom);
    let mut all = vec![
        // PNG and lossless WebP give back what went in.
        ("as rendered".to_owned(), true, real.clone()),
        ("half the size".to_owned(), false, scaled(0.5)),
        ("twice the size".to_owned(), false, scaled(2.0)),
    ];
    for quality in [95, 75, 50] {
        for codec in JpegCodec::ALL {
            all.push((format!("JPEG {quality} ({codec:?})"), true, jpeg(real, codec, quality)));
        }
    }
    for sigma in [0.7, 1.0, 2.0] {
        all.push((format!("blurred by {sigma} pixels"), false, gaussian_blur(real, sigma)));
    }
    #[cfg(feature = "gstreamer")]
    for (name, codec) in [("H.264", VideoCodec::H264), ("H.265", VideoCodec::H265)] {
        for crf in [23, 28, 35] {
            let coded = codec.recode(real, crf).expect("encoder and decoder are there");
            all.push((format!("{name} CRF {crf}"), true, coded));
        }
    }
    all
}

/// A codec alone changes no verdict: `clear` stays `clear`, unless so little detail is left that it
/// becomes unsure. Softness and size may make it unsure, but never flag it.
#[test]
fn what_happens_to_a_cameras_picture_makes_nothing_synthetic_of_it() {
    let model = Model::open(None, Wanted::Auto).expect("the built-in detector");
    let detector = Detector::of(&model, TILES);
    let limits = detector.limits();
    let mut wrong = Vec::new();
    for scene in 0..3 {
        let real = SceneRenderer::new(FIRST_SCENE + scene, WIDTH, HEIGHT).frame(7);
        for (way, codec, picture) in ways(&real) {
            let score = detector.score(rgb(&picture)).expect("judged");
            let verdict = score.verdict(limits);
            let moved = verdict != Verdict::Clear && score.reason(limits).is_none();
            if verdict == Verdict::Synthetic || (codec && moved) {
                wrong.push(format!("scene {scene}, {way}: {verdict:?}, logit {:.2}", score.logit));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
