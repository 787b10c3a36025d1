//! Records made durable per second, including fsync: with pictures as the daemon writes them, and
//! without.

#[path = "../tests/common/records.rs"]
mod records;

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::RgbImage;
use spotd::clock::SystemClock;
use spotd::flaglog::{FlagLog, FrameInfo, Hash, NewRecord};
use spotd::frame::Rect;
use spotd::judgement::ScoredTile;
use spotd::verdict::EventKind;

/// Nine tiles in a frame of 1280x720, the default of `max_tiles`.
fn tiles() -> Vec<ScoredTile> {
    (0..9u32)
        .map(|i| {
            let (x, y) = (224 * (i % 5), 224 * (i / 5));
            ScoredTile { rect: Rect { x, y, width: 224, height: 224 }, score: 0.9 + f64::from(i) / 100.0 }
        })
        .collect()
}

fn record() -> NewRecord {
    NewRecord {
        frame: Some(FrameInfo { sha256: Hash::of(b"frame"), width: 1280, height: 720, interlaced: None }),
        tiles: tiles(),
        ..records::new_record("cam", EventKind::Start)
    }
}

/// A frame with the detail of a picture, a new one each time.
fn frame(seed: u32) -> RgbImage {
    RgbImage::from_fn(1280, 720, |x, y| {
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503).wrapping_add(seed)) >> 27;
        image::Rgb([(x / 5) as u8, (y / 3) as u8, ((x + y) / 8 + noise) as u8])
    })
}

fn durable(c: &mut Criterion) {
    // On the disk to measure; a folder in memory would be meaningless.
    let base = std::env::var_os("SPOTD_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let mut group = c.benchmark_group("flaglog");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for (name, pictures) in [("record", false), ("record with frame and four tiles, 1280x720", true)] {
        let dir = tempfile::tempdir_in(&base).expect("a folder");
        let mut log =
            FlagLog::open(&records::config(dir.path()), "bench", SystemClock::shared()).expect("opened");
        let tiles = tiles();
        let mut seed = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                seed += 1;
                let frame = pictures.then(|| frame(seed));
                let evidence = frame.as_ref().map(|frame| records::evidence(frame, &tiles));
                black_box(log.append(record(), evidence.as_ref()).expect("appended"));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, durable);
criterion_main!(benches);
