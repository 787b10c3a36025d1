//! The same tiles are chosen, and the same scores come out, whatever layout a frame's pixels have and whoever judges it.

use std::collections::BTreeSet;
#[cfg(feature = "gstreamer")]
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use image::RgbImage;
use proptest::prelude::*;
use spotd::detector::coherence::Grids;
use spotd::detector::pool::{Arrival, Done, Feed, Pool, Refusal};
use spotd::detector::scoring::FrameScore;
use spotd::detector::tiles::{Limited, cut, moved, select};
use spotd::detector::{Detector, Model};
use spotd::forensics::augment::{JpegCodec, jpeg_bytes};
use spotd::forensics::scenes::SceneRenderer;
use spotd::frame::{Captured, Colour, Frame, Interlacing, Matrix, PixelFormat, Plane, Rect};
use spotd::identity::{Precision, Wanted};
#[cfg(feature = "gstreamer")]
use spotd::source::{Pace, SourceUri, read::read};

/// The daemon's default.
const TILES: usize = 9;
/// Neither training scenes (from 1,000,000) nor the demonstration's (from 0).
const FIRST_SCENE: u64 = 540_000;

const COLOURS: [Colour; 3] = [
    Colour { matrix: Matrix::Bt601, full_range: false },
    Colour { matrix: Matrix::Bt709, full_range: false },
    Colour { matrix: Matrix::Bt601, full_range: true },
];
const YUV: [PixelFormat; 4] = [PixelFormat::Yuyv, PixelFormat::Uyvy, PixelFormat::Nv12, PixelFormat::I420];

/// The picture as a camera or decoder would deliver it, each row followed by `pad` bytes.
fn laid_out(picture: &RgbImage, format: PixelFormat, colour: Colour, pad: usize) -> Frame {
    let (width, height) = picture.dimensions();
    let (w, h) = (width as usize, height as usize);
    let (kr, kb) = match colour.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let (black, luma, chroma) = if colour.full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
    let yuv = |x: usize, y: usize| {
        let pixel = picture.get_pixel(x.min(w - 1) as u32, y.min(h - 1) as u32);
        let [r, g, b] = pixel.0.map(|v| f64::from(v) / 255.0);
        let level = kr * r + (1.0 - kr - kb) * g + kb * b;
        let (u, v) = ((b - level) / (2.0 - 2.0 * kb), (r - level) / (2.0 - 2.0 * kr));
        [black + luma * level, 128.0 + chroma * u, 128.0 + chroma * v]
    };
    let byte = |v: f64| v.round().clamp(0.0, 255.0) as u8;
    // Chroma of a pixel and its right neighbour; of four pixels where it has half the rows.
    let shared = |x: usize, y: usize, rows: usize, which: usize| {
        let sum: f64 = (0..rows).map(|dy| yuv(2 * x, y + dy)[which] + yuv(2 * x + 1, y + dy)[which]).sum();
        byte(sum / (2 * rows) as f64)
    };
    let (half_w, half_h) = (w.div_ceil(2), h.div_ceil(2));
    let mut data = Vec::new();
    let mut planes = [Plane::default(); 3];
    let mut plane = |at: usize, rows: usize, row: &dyn Fn(usize) -> Vec<u8>| {
        planes[at].offset = data.len();
        for y in 0..rows {
            let mut row = row(y);
            row.resize(row.len() + pad, 77);
            planes[at].stride = row.len();
            data.extend(row);
        }
    };
    let luma = |y: usize| (0..w).map(|x| byte(yuv(x, y)[0])).collect::<Vec<u8>>();
    match format {
        PixelFormat::Nv12 => {
            plane(0, h, &luma);
            let uv = |y: usize| (0..half_w).flat_map(|x| [1, 2].map(|c| shared(x, 2 * y, 2, c))).collect();
            plane(1, half_h, &uv);
        }
        PixelFormat::I420 => {
            plane(0, h, &luma);
            for c in [1, 2] {
                plane(c, half_h, &|y| (0..half_w).map(|x| shared(x, 2 * y, 2, c)).collect());
            }
        }
        PixelFormat::Yuyv | PixelFormat::Uyvy => plane(0, h, &|y| {
            let pair = |x: usize| {
                let [a, b] = [2 * x, 2 * x + 1].map(|x| byte(yuv(x, y)[0]));
                let [u, v] = [1, 2].map(|c| shared(x, y, 1, c));
                if format == PixelFormat::Yuyv { [a, u, b, v] } else { [u, a, v, b] }
            };
            (0..half_w).flat_map(pair).collect()
        }),
        PixelFormat::Grey => plane(0, h, &luma),
        PixelFormat::Rgb24 => plane(0, h, &|y| picture.as_raw()[y * w * 3..(y + 1) * w * 3].to_vec()),
        PixelFormat::Bgr24 => plane(0, h, &|y| {
            let row = picture.as_raw()[y * w * 3..(y + 1) * w * 3].chunks_exact(3);
            row.flat_map(|px| [px[2], px[1], px[0]]).collect()
        }),
        PixelFormat::Mjpg => data = jpeg_bytes(picture, JpegCodec::Quartered, 90),
    }
    let at = SystemTime::UNIX_EPOCH;
    let data = Box::new(data);
    let interlacing = Interlacing::Whole;
    let captured = Captured { at, format, width, height, planes, colour, interlacing, data };
    captured.into_frame("cam".into(), 0, Duration::ZERO)
}

/// How lively a tile is by its RGB pixels: the rule by which tiles were chosen when all of them were converted first.
fn liveliness_in_rgb(frame: &Frame, tile: Rect) -> f64 {
    let pixels = frame.crop(tile).expect("inside");
    let rows = pixels.rows().step_by(3).flat_map(|row| row.step_by(3).collect::<Vec<_>>());
    let levels: Vec<f64> = rows
        .map(|px| (77 * u32::from(px[0]) + 150 * u32::from(px[1]) + 29 * u32::from(px[2])) / 256)
        .map(f64::from)
        .collect();
    let n = levels.len() as f64;
    let mean = levels.iter().sum::<f64>() / n;
    (levels.iter().map(|l| l * l).sum::<f64>() / n - mean * mean).max(0.0).sqrt()
}

/// By how much, in levels and in shares, the liveliness of tiles has to differ before the choice between them is more than
/// a tie. Chroma is in what RGB pixels say of luma and not in the luma plane, by rounding, by what RGB cannot hold, and
/// where a frame has not the weights of BT.601.
const TIE: (f64, f64) = (0.5, 0.03);

/// Whether the tiles chosen in a frame are those chosen by their RGB pixels; panics if they differ by more than ties.
fn is_chosen_alike(frame: &Frame, turn: usize, what: &str) -> bool {
    let side = INT8.model.card().tile;
    let grid = moved(frame.width, frame.height, side, turn);
    // A small frame leaves a choice, too.
    let most = TILES.min(grid.len().div_ceil(2));
    let chosen = places(&select(frame, side, most, turn).expect("selects").tiles);
    let mut before: Vec<(f64, Rect)> =
        grid.into_iter().map(|tile| (liveliness_in_rgb(frame, tile), tile)).collect();
    before.sort_by(|a, b| b.0.total_cmp(&a.0));
    // Those below are flat by either rule.
    let lively = before.iter().filter(|(liveliness, _)| *liveliness >= 2.0).count().clamp(1, most);
    let was = places(&before[..lively].iter().map(|(_, tile)| *tile).collect::<Vec<_>>());
    let last = before[lively - 1].0;
    for place in chosen.symmetric_difference(&was) {
        let (liveliness, _) =
            before.iter().find(|(_, tile)| (tile.x, tile.y) == *place).expect("of the grid");
        let apart = (liveliness - last).abs();
        assert!(
            apart <= TIE.0.max(TIE.1 * last),
            "{what}: {place:?} has {liveliness:.2}, the last of the chosen {last:.2}"
        );
    }
    chosen == was
}

#[test]
fn what_is_chosen_from_planes_is_what_was_chosen_from_rgb_pixels_but_for_ties() {
    let (mut same, mut all) = (0, 0);
    for scene in 0..4 {
        let picture = SceneRenderer::new(FIRST_SCENE + scene, 960, 540).frame(scene);
        let layouts = YUV.into_iter().flat_map(|f| COLOURS.map(|c| (f, c)));
        let others = [PixelFormat::Grey, PixelFormat::Rgb24, PixelFormat::Bgr24].map(|f| (f, COLOURS[2]));
        for (turn, (format, colour)) in layouts.chain(others).enumerate() {
            let frame = laid_out(&picture, format, colour, 0);
            let what = format!("scene {scene}, {format:?} {colour:?}");
            let alike = is_chosen_alike(&frame, turn, &what);
            // Pixels that are RGB already are weighed as they were.
            let exact = matches!(format, PixelFormat::Rgb24 | PixelFormat::Bgr24 | PixelFormat::Grey);
            assert!(!exact || alike, "{what}");
            (same, all) = (same + usize::from(alike), all + 1);
        }
    }
    println!("{same} of {all} selections are the same tile by tile");
    assert!(same * 10 >= all * 9, "{same} of {all}");
}

/// The same of decoded video: with `SPOTD_REAL_CLIPS` naming a folder of clips.
#[cfg(feature = "gstreamer")]
#[test]
fn of_real_clips_the_same_tiles_are_chosen_but_for_ties() {
    let Some(folder) = std::env::var_os("SPOTD_REAL_CLIPS") else {
        eprintln!("\n*** SKIPPED: set SPOTD_REAL_CLIPS to a folder of real clips ***\n");
        return;
    };
    let clock = spotd::clock::SystemClock::shared();
    let (mut same, mut all) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("listed") {
        let path = entry.expect("an entry").path();
        let pace = Pace { fps: 0.5, live: Duration::MAX, as_run: false };
        let each = |frame: Frame| {
            let what =
                format!("{} at {:?}, {:?} {:?}", path.display(), frame.arrived, frame.format, frame.colour);
            same += usize::from(is_chosen_alike(&frame, all, &what));
            all += 1;
            if frame.seq < 9 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        read(&SourceUri::File(path.clone()), pace, &clock, each).expect("a clip");
    }
    println!("{same} of {all} selections are the same tile by tile");
    assert!(all > 0 && same * 10 >= all * 9, "{same} of {all}");
}

fn places(tiles: &[Rect]) -> BTreeSet<(u32, u32)> {
    tiles.iter().map(|tile| (tile.x, tile.y)).collect()
}

struct Judge {
    model: Model,
    detector: Detector,
}

impl Judge {
    fn new(precision: Precision) -> Self {
        let model = Model::open(None, Wanted::Only(precision)).expect("the built-in detector");
        Self { detector: Detector::of(&model, 3), model }
    }
}

static INT8: LazyLock<Judge> = LazyLock::new(|| Judge::new(Precision::Int8));
static F32: LazyLock<Judge> = LazyLock::new(|| Judge::new(Precision::F32));

/// What becomes of a feed's first frame in a pool.
fn pooled(detector: &Detector, frame: Frame) -> Done {
    let (pool, done) = Pool::start(detector, 2).expect("threads");
    assert!(pool.submit(Arrival { source: 7, frame, feed: Arc::default(), mapped: false }));
    let answer = done.recv().expect("an answer");
    pool.join();
    answer
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// From planes, from the RGB pixels of each tile and from those of the whole frame; on one thread and in the pool.
    #[test]
    fn scores_are_the_same_bit_for_bit_by_all_ways(
        layout in 0usize..8, colour in 0usize..3, width in 225u32..500, height in 225u32..400, pad in 0usize..40,
        scene in 0u64..50, float: bool,
    ) {
        let format = [YUV[0], YUV[1], YUV[2], YUV[3], PixelFormat::Grey, PixelFormat::Rgb24, PixelFormat::Bgr24,
            PixelFormat::Mjpg][layout];
        let Judge { model, detector } = if float { &*F32 } else { &*INT8 };
        let side = model.card().tile;
        let picture = SceneRenderer::new(FIRST_SCENE + scene, width, height).frame(scene);
        let frame = laid_out(&picture, format, COLOURS[colour], pad);
        let alone = detector.score_lines(frame.owned()).expect("a score");

        let decoded = frame.owned().decoded().expect("pixels");
        let rgb = decoded.to_rgb().expect("pixels");
        let chosen = detector.select(&decoded, 0).expect("tiles").tiles;
        prop_assert_eq!(alone.tiles.iter().map(|tile| tile.rect).collect::<Vec<_>>(), chosen);
        for (tile, logit) in alone.tiles.iter().zip(&alone.network) {
            let Rect { x, y, width, height } = tile.rect;
            let of_whole = image::imageops::crop_imm(&rgb, x, y, width, height).to_image();
            let of_tile = cut(&decoded, tile.rect, side).expect("pixels");
            prop_assert_eq!(&of_whole, &of_tile);
            prop_assert_eq!(model.logit(&of_tile).expect("runs").to_bits(), logit.to_bits());
        }

        let Done::Judged(work) = pooled(detector, frame) else { return Err(TestCaseError::fail("refused")) };
        let together = work.score(detector).expect("a score");
        prop_assert_eq!(work.source, 7);
        // Their scores differ: a picture alone is read on all grids, a feed's frame on one more than its own.
        let places = |score: &FrameScore| score.tiles.iter().map(|tile| tile.rect).collect::<Vec<_>>();
        prop_assert_eq!(places(&together), places(&alone));
        prop_assert_eq!(bits(&together.network), bits(&alone.network));
        prop_assert_eq!(together.readings, detector.read(&decoded, Grids::OneMore(0)).expect("luma"));
    }
}

#[test]
fn what_cannot_be_judged_comes_out_of_the_pool_with_its_reason() {
    let detector = &INT8.detector;
    let refusal = |frame| match pooled(detector, frame) {
        Done::Refused(refused) => {
            assert_eq!((refused.source, &*refused.id), (7, "cam"));
            refused.why
        }
        Done::Judged(_) => panic!("judged"),
    };
    let picture = |width, height| RgbImage::from_pixel(width, height, image::Rgb([90, 120, 90]));
    let small = laid_out(&picture(300, 100), PixelFormat::Nv12, COLOURS[0], 0);
    assert!(matches!(refusal(small), Refusal::Limited(Limited::TooSmall, (300, 100))));
    let flat = laid_out(&picture(300, 300), PixelFormat::I420, COLOURS[0], 0);
    assert!(matches!(refusal(flat), Refusal::Limited(Limited::Flat, (300, 300))));
    let mut cut = laid_out(&picture(300, 300), PixelFormat::Mjpg, COLOURS[0], 0);
    let bytes = cut.bytes();
    cut.picture.data = Box::new(bytes[..bytes.len() / 2].to_vec());
    assert!(matches!(refusal(cut), Refusal::Damaged(_)));
}

#[test]
fn of_many_feeds_at_once_no_frame_is_lost() {
    let (detector, scene) = (&INT8.detector, SceneRenderer::new(FIRST_SCENE, 480, 300).frame(0));
    let (feeds, frames) = (5, 4);
    let (pool, done) = Pool::start(detector, 3).expect("threads");
    std::thread::scope(|scope| {
        let submit = || {
            let states: Vec<Arc<Mutex<Feed>>> = (0..feeds).map(|_| Arc::default()).collect();
            for seq in 0..frames {
                for (source, feed) in states.iter().enumerate() {
                    let mut frame = laid_out(&scene, PixelFormat::Nv12, COLOURS[0], 0);
                    frame.seq = seq;
                    assert!(pool.submit(Arrival { source, frame, feed: feed.clone(), mapped: true }));
                }
            }
            pool.join();
        };
        let submitted = scope.spawn(submit);
        let mut judged: Vec<Vec<u64>> = vec![Vec::new(); feeds];
        for done in &done {
            let Done::Judged(work) = done else { panic!("refused") };
            assert!(work.score(detector).is_some());
            judged[work.source].push(work.frame.seq);
        }
        submitted.join().expect("all submitted");
        for seen in &mut judged {
            // They may overtake each other here, where a feed has several in work.
            seen.sort_unstable();
            assert_eq!(*seen, (0..frames).collect::<Vec<_>>());
        }
    });
}
