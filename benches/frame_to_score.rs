//! From a raw frame to its score, on one thread, with the built-in detector: the throughput of one
//! core.
//!
//! `elem/s` in the output are frames per second and core; the peak memory of the whole process
//! follows at the end. For comparison, "all converted" chooses tiles as spotd once did: all of them become RGB first.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, Throughput};
use image::RgbImage;
use spotd::detector::coherence::Grids;
use spotd::detector::mapped::{Judged, Mapped};
use spotd::detector::tiles::{cut, moved, select};
use spotd::detector::{Detector, Model};
use spotd::forensics::scenes::SceneRenderer;
use spotd::frame::{Frame, one_field};
use spotd::identity::Precision;
use spotd::identity::Wanted;
use spotd::judgement::Logits;

/// Tiles per frame, the daemon's default.
const MAX_TILES: usize = 9;

/// A rendered scene as a camera would deliver it: NV12, BT.601, limited range.
fn nv12(image: &RgbImage) -> Vec<u8> {
    let (w, h) = image.dimensions();
    let mut out = Vec::with_capacity((w * h * 3 / 2) as usize);
    for px in image.pixels() {
        let [r, g, b] = px.0.map(f32::from);
        out.push((16.0 + 0.257 * r + 0.504 * g + 0.098 * b) as u8);
    }
    for y in (0..h).step_by(2) {
        for x in (0..w).step_by(2) {
            let [r, g, b] = image.get_pixel(x, y).0.map(f32::from);
            out.push((128.0 - 0.148 * r - 0.291 * g + 0.439 * b) as u8);
            out.push((128.0 + 0.439 * r - 0.368 * g - 0.071 * b) as u8);
        }
    }
    out
}

/// The liveliest tiles, at most [`MAX_TILES`], by their RGB pixels.
fn all_converted(frame: &Frame, side: u32) -> Vec<RgbImage> {
    let liveliness = |tile: &RgbImage| {
        let (mut n, mut sum, mut squares) = (0u64, 0u64, 0u64);
        for row in tile.as_raw().chunks_exact(side as usize * 3).step_by(3) {
            for px in row.chunks_exact(3).step_by(3) {
                let y = (77 * u64::from(px[0]) + 150 * u64::from(px[1]) + 29 * u64::from(px[2])) / 256;
                (n, sum, squares) = (n + 1, sum + y, squares + y * y);
            }
        }
        squares as f64 / n as f64 - (sum as f64 / n as f64).powi(2)
    };
    let places = moved(frame.width, frame.height, side, 0);
    let mut tiles: Vec<_> = (places.into_iter())
        .map(|place| cut(frame, place, side).expect("inside"))
        .map(|tile| (liveliness(&tile), tile))
        .collect();
    tiles.sort_by(|a, b| b.0.total_cmp(&a.0));
    tiles.truncate(MAX_TILES);
    tiles.into_iter().map(|(_, tile)| tile).collect()
}

fn main() {
    let model = Model::open(None, Wanted::Auto).expect("the built-in detector");
    let side = model.card().tile;
    let detector = Detector::of(&model, MAX_TILES);
    let mut c = Criterion::default().configure_from_args().sample_size(10);
    let mut group = c.benchmark_group("frame to score");
    for (name, width, height) in [("640x480", 640, 480), ("1920x1080", 1920, 1080)] {
        let bytes = nv12(&SceneRenderer::new(1, width, height).frame(0));
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{name} NV12, at most {MAX_TILES} tiles"), |b| {
            b.iter_batched(
                || Frame::nv12("bench".into(), width, height, bytes.clone()),
                |f| detector.score(black_box(f)).expect("judges"),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("{name} NV12, choice of tiles alone"), |b| {
            b.iter_batched_ref(
                || Frame::nv12("bench".into(), width, height, bytes.clone()),
                |f| select(black_box(f), side, MAX_TILES, 0).expect("selects"),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("{name} NV12, choice of tiles alone, all converted"), |b| {
            b.iter_batched_ref(
                || Frame::nv12("bench".into(), width, height, bytes.clone()),
                |f| all_converted(black_box(f), side),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("{name} NV12, at most {MAX_TILES} tiles, all converted"), |b| {
            b.iter_batched(
                || Frame::nv12("bench".into(), width, height, bytes.clone()),
                |f| {
                    let frame = one_field(black_box(f));
                    let logits: Vec<f32> = all_converted(&frame, side)
                        .iter()
                        .map(|tile| model.logit(tile).expect("runs"))
                        .collect();
                    let readings = detector.read(&frame, Grids::All).expect("luma").expect("enough blocks");
                    (logits, model.coherent(&readings.own, &readings.scaled).expect("runs"))
                },
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("{name} NV12, a look for combs"), |b| {
            b.iter_batched(
                || Frame::nv12("bench".into(), width, height, bytes.clone()),
                |f| one_field(black_box(f)),
                BatchSize::LargeInput,
            );
        });
        // What the map of a feed adds to a frame: sums by region in the pass over the frame, and the map itself.
        let frame = Frame::nv12("bench".into(), width, height, bytes.clone());
        group.bench_function(format!("{name} NV12, coherent part by regions too"), |b| {
            b.iter(|| detector.read(black_box(&frame), Grids::OneMoreAndRegions(0)).expect("luma"));
        });
        group.bench_function(format!("{name} NV12, coherent part without regions"), |b| {
            b.iter(|| detector.read(black_box(&frame), Grids::OneMore(0)).expect("luma"));
        });
        let readings = detector.read(&frame, Grids::OneMoreAndRegions(0)).expect("luma");
        let regions = readings.and_then(|readings| readings.regions).expect("enough blocks");
        let tiles = select(&frame, side, MAX_TILES, 1).expect("selects").tiles;
        let tiles: Vec<_> = tiles.iter().map(|&tile| (tile, -1.0)).collect();
        let mut map = Mapped::default();
        let mut at = Duration::ZERO;
        group.bench_function(format!("{name} NV12, a frame into the map"), |b| {
            b.iter_batched(
                || regions.clone(),
                |regions| {
                    at += Duration::from_millis(500);
                    let logits = Logits { network: -1.0, coherence: Some(-1.0), scale: None };
                    let captured = SystemTime::UNIX_EPOCH + at;
                    let (size, regions) = ((width, height), Some(regions));
                    let frame = Judged { at, captured, size, tiles: &tiles, logits, regions };
                    map.add(&detector, frame).expect("runs");
                },
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("{name} NV12, a copy of the map"), |b| {
            b.iter(|| map.copy(black_box(&detector)).expect("a map"));
        });
        group.bench_function(format!("{name} NV12, coherent part alone"), |b| {
            b.iter_batched_ref(
                || Frame::nv12("bench".into(), width, height, bytes.clone()),
                |f| {
                    let readings = detector.read(black_box(f), Grids::OneMore(0)).expect("luma");
                    let readings = readings.expect("enough blocks");
                    model.coherent(&readings.own, &readings.scaled).expect("runs")
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
    let tile = SceneRenderer::new(1, side, side).frame(0);
    let mut group = c.benchmark_group("tile");
    group.throughput(Throughput::Elements(1));
    let float = Model::open(None, Wanted::Only(Precision::F32)).expect("in floats");
    for model in [&model, &float] {
        group.bench_function(format!("{side}x{side} {}", model.identity().precision), |b| {
            b.iter(|| model.logit(black_box(&tile)).expect("runs"));
        });
    }
    group.finish();
    c.final_summary();
    println!("peak memory of this process: {}", peak_memory().unwrap_or_else(|| "unknown".into()));
}

/// The kernel's own record of the largest resident set.
fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(format!("{:.1} MiB", kib / 1024.0))
}
