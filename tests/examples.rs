//! The programs in `examples/` do what they say: on a picture, a log and a video that are made
//! here.

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use spotd::clock::SystemClock;
use spotd::flaglog::OsFs;
use spotd::flaglog::{FlagLog, NewRecord, Reader};
use spotd::forensics::scenes::SceneRenderer;
use spotd::frame::Rect;
use spotd::health::SourceState;
use spotd::judgement::ScoredTile;
use spotd::source::demo::{HEIGHT, Resynthesis, WIDTH};
use spotd::verdict::EventKind;

mod common;

#[allow(dead_code, reason = "its main is not called")]
#[path = "../examples/draw_evidence.rs"]
mod draw_evidence;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../examples/judge_picture.rs"]
mod judge_picture;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../examples/own_source.rs"]
mod own_source;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../examples/tail_log.rs"]
mod tail_log;

use common::records::{TILE, config, evidence, new_record, picture};

fn scene(seed: u64) -> RgbImage {
    SceneRenderer::new(seed, WIDTH, HEIGHT).frame(0)
}

fn judged(path: &Path) -> String {
    let mut out = Vec::new();
    judge_picture::judge(path, &mut out).expect("judged");
    String::from_utf8(out).expect("text")
}

#[test]
fn one_picture_is_judged_tile_by_tile() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("scene.png");
    scene(500_000).save(&path).expect("saved");
    let text = judged(&path);
    assert!(text.lines().next().expect("a verdict").contains(": clear, score 0."), "{text}");
    assert!(text.lines().filter(|l| l.starts_with("  224x224 at ")).count() >= 2, "{text}");

    let redrawn = Resynthesis::new().and_then(|network| network.apply(&scene(500_000))).expect("redrawn");
    redrawn.save(&path).expect("saved");
    let text = judged(&path);
    assert!(text.lines().next().expect("a verdict").contains(": synthetic, score"), "{text}");

    std::fs::write(&path, b"no picture").expect("written");
    assert!(judge_picture::judge(&path, &mut Vec::new()).is_err());
}

#[test]
fn a_log_is_printed_and_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = FlagLog::open(&config(dir.path()), "box", SystemClock::shared()).expect("opened");
    let mut reader = Reader::from_start(Arc::new(OsFs), dir.path());
    let mut out = Vec::new();
    let (frame, tiles) = (picture(1), [ScoredTile { rect: TILE, score: 0.9 }]);
    let evidence = evidence(&frame, &tiles);
    let start = log.append(new_record("door", EventKind::Start), Some(&evidence)).expect("appended");
    assert_eq!(tail_log::print_new(&mut reader, &mut out).expect("read"), 1);
    let text = String::from_utf8_lossy(&out).into_owned();
    assert!(text.contains("door start: synthetic"), "{text}");
    let kept = start.evidence.expect("evidence").frame.file;
    assert!(dir.path().join(&kept).exists() && text.contains(&kept), "{text}");

    out.clear();
    assert_eq!(tail_log::print_new(&mut reader, &mut out).expect("read"), 0, "nothing new");
    log.append(new_record("door", EventKind::End), None).expect("appended");
    assert_eq!(tail_log::print_new(&mut reader, &mut out).expect("read"), 1);
    assert!(String::from_utf8_lossy(&out).contains("door end"), "only what is new");
}

#[test]
fn tiles_of_a_flagged_frame_are_outlined() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = FlagLog::open(&config(dir.path()), "box", SystemClock::shared()).expect("opened");
    assert!(draw_evidence::draw(dir.path()).is_err(), "nothing is flagged yet");
    log.append(new_record("door", EventKind::Start), None).expect("appended");
    let (frame, tiles) = (picture(1), [ScoredTile { rect: TILE, score: 0.9 }]);
    let other = ScoredTile { rect: Rect { x: 56, ..TILE }, score: 0.1 };
    let record = NewRecord { tiles: vec![tiles[0], other], ..new_record("door", EventKind::Start) };
    log.append(record, Some(&evidence(&frame, &tiles))).expect("appended");
    let drawn = draw_evidence::draw(dir.path()).expect("drawn");
    assert_eq!(drawn.dimensions(), frame.dimensions());
    let corner = |tile: Rect| drawn.get_pixel(tile.x + tile.width - 1, tile.y + tile.height - 1).0;
    assert_eq!(corner(TILE), [230, 40, 40], "above the threshold");
    assert_eq!(corner(other.rect), [255; 3], "below it");
}

/// `frames` frames of a scene as YUV4MPEG2, in grey: chroma would only make the test longer.
fn raw_video(frames: u64) -> Vec<u8> {
    let mut bytes = format!("YUV4MPEG2 W{WIDTH} H{HEIGHT} F100:1 C420jpeg\n").into_bytes();
    let mut scene = SceneRenderer::new(500_000, WIDTH, HEIGHT);
    for index in 0..frames {
        bytes.extend(b"FRAME\n");
        bytes.extend(image::imageops::grayscale(&scene.frame(index)).into_raw());
        bytes.extend(vec![128; (WIDTH * HEIGHT / 2) as usize]);
    }
    bytes
}

#[test]
fn a_source_of_ones_own_is_watched_to_its_end() {
    let (clock, mut out) = (SystemClock::shared(), Vec::new());
    let mut video = raw_video(4);
    video.truncate(video.len() - 1);
    let source = own_source::RawVideo::new(std::io::Cursor::new(video), clock.clone());
    let board = own_source::watch(source, 100.0, clock, &mut out).expect("watched");
    let text = String::from_utf8(out).expect("text");
    let status = board.snapshot().pop().expect("the source").1;
    assert_eq!(status.state, SourceState::Ended);
    assert_eq!(status.size, Some((WIDTH, HEIGHT)));
    // Three are whole. Each was offered or came too soon; of those offered, the newest was judged.
    let dropped = |why: &str| status.dropped.get(why).copied().unwrap_or_default();
    assert_eq!(status.frames + dropped("rate"), 3, "{status:?}");
    assert_eq!(dropped("short"), 1, "{status:?}");
    let judged = text.lines().count() as u64;
    assert_eq!(judged + dropped("overwritten"), status.frames, "{text}{status:?}");
    assert!(
        judged > 0 && text.lines().all(|l| l.contains("verdict unsure")),
        "too few for a verdict: {text}"
    );
}

#[test]
fn what_is_no_raw_video_needs_a_person() {
    use spotd::clock::Stop;
    use spotd::source::{Source as _, SourceError, latest::LatestSink};
    let clock = SystemClock::shared();
    let board = spotd::health::Board::new(["raw".into()]);
    let (sink, _frames) = LatestSink::new("raw".into(), 1.0, board, clock.clone(), || {});
    for text in ["", "RIFF1234AVI LIST", "YUV4MPEG2 W640 H384 F25:1 C444\n", "YUV4MPEG2 W640 F25:1\n"] {
        let mut source = own_source::RawVideo::new(text.as_bytes(), clock.clone());
        let ended = source.run_once(&sink, &Stop::never());
        assert!(matches!(ended, Err(SourceError::Configuration(_))), "{text}: {ended:?}");
    }
}
