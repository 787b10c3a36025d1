//! Interlaced feeds, as broadcasters and older cameras send them: real H.264 and MPEG-2 streams of
//! both field orders. Lines of two moments must not pass for a generator's trace, and state and
//! record report the interlacing.

mod common;
mod support;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use common::daemon::Daemon;
use common::model;
use common::mosquitto::{Broker, Subscriber};
use image::RgbImage;
use serde_json::Value;
use spotd::clock::SystemClock;
use spotd::detector::{Detector, Model};
use spotd::forensics::scenes::SceneRenderer;
use spotd::frame::{FieldOrder, Frame, Interlacing, PixelFormat, one_field};
use spotd::identity::Wanted;
use spotd::source::SourceUri;
use support::{LONG, wait_for};

/// The smallest frame with room for a tile of the built-in detector in one field.
const SIZE: (u32, u32) = (448, 448);
/// Frames of a clip: as many as a verdict needs.
const FRAMES: u64 = 5;
/// Seeds of scenes that neither training nor other tests use.
const FIRST_SCENE: u64 = 520_000;
const SCENES: usize = 2;

/// Even lines of one picture, odd lines of the other.
fn woven(top: &RgbImage, bottom: &RgbImage) -> RgbImage {
    RgbImage::from_fn(top.width(), top.height(), |x, y| *[top, bottom][y as usize % 2].get_pixel(x, y))
}

/// The picture shifted by a few pixels, as of a panning camera a moment later.
fn panned(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width, height, |x, y| *image.get_pixel((x + 6) % width, y))
}

/// Frames of scenes without stripes as fine as combs, of which there are some.
fn scenes() -> impl Iterator<Item = Vec<RgbImage>> {
    (FIRST_SCENE..)
        .map(|seed| {
            let mut scene = SceneRenderer::new(seed, SIZE.0, SIZE.1);
            (0..FRAMES).map(|n| scene.frame(n)).collect::<Vec<_>>()
        })
        .filter(|frames| {
            let mut first = frame(&frames[0]);
            first.interlacing = Interlacing::Said(FieldOrder::TopFirst);
            one_field(first).height == SIZE.1
        })
        .take(SCENES)
}

fn frame(image: &RgbImage) -> Frame {
    Frame::from_rgb("x".into(), 0, SystemTime::UNIX_EPOCH, Duration::ZERO, image.clone())
}

/// The same frames with a later moment in every second line.
fn interlaced(frames: &[RgbImage], top_first: bool) -> Vec<RgbImage> {
    let weave = |first: &RgbImage| {
        let second = panned(first);
        if top_first { woven(first, &second) } else { woven(&second, first) }
    };
    frames.iter().map(weave).collect()
}

/// How a clip is encoded.
#[derive(Debug, Clone, Copy)]
enum Fields {
    TopFirst,
    BottomFirst,
    /// Called progressive, whatever is in it.
    Unsaid,
}

/// Encodes frames with ffmpeg into a transport stream.
fn encode(frames: &[RgbImage], codec: &str, fields: Fields, path: &Path) {
    let chroma = if matches!(fields, Fields::Unsaid) { "scale=interl=0" } else { "scale=interl=1" };
    let order: &[&str] = match fields {
        Fields::TopFirst => &["-flags", "+ilme+ildct", "-top", "1"],
        Fields::BottomFirst => &["-flags", "+ilme+ildct", "-top", "0"],
        Fields::Unsaid => &[],
    };
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-r", "25", "-s"])
        .arg(format!("{}x{}", SIZE.0, SIZE.1))
        .args(["-i", "-", "-vf", chroma, "-pix_fmt", "yuv420p", "-threads", "1", "-c:v", codec])
        .args(["-b:v", "6M", "-bf", "0", "-f", "mpegts"])
        .args(order)
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("ffmpeg runs (tools/setup.sh test installs it)");
    let mut input = child.stdin.take().expect("its input");
    for frame in frames {
        input.write_all(frame.as_raw()).expect("it reads");
    }
    drop(input);
    assert!(child.wait().expect("waited").success());
}

/// The result of `scan --json` for files.
fn scan(paths: &[PathBuf], extra: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_spotd"))
        .args(["scan", "--json", "--fps", "25"])
        .args(extra)
        .args(paths)
        .output()
        .expect("spotd runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn no_scene_is_flagged_that_is_not_flagged_progressive() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut clips = Vec::new();
    for (number, frames) in scenes().enumerate() {
        let path = |name: &str| dir.path().join(format!("{number}-{name}.ts"));
        let mut clip = |name: &str, frames: &[RgbImage], codec, fields, said: Option<&'static str>| {
            encode(frames, codec, fields, &path(name));
            clips.push((path(name), said));
        };
        clip("progressive", &frames, "libx264", Fields::Unsaid, None);
        let (top, bottom) = (interlaced(&frames, true), interlaced(&frames, false));
        for codec in ["libx264", "mpeg2video"] {
            clip(&format!("{codec}-top"), &top, codec, Fields::TopFirst, Some("top-field-first"));
            clip(&format!("{codec}-bottom"), &bottom, codec, Fields::BottomFirst, Some("bottom-field-first"));
        }
        clip("lie", &top, "libx264", Fields::Unsaid, Some("unknown-order"));
    }
    let paths: Vec<PathBuf> = clips.iter().map(|(path, _)| path.clone()).collect();
    let rows = scan(&paths, &[]);
    assert_eq!(rows.len(), clips.len());
    let each = clips.len() / SCENES;
    for (scene, rows) in rows.chunks(each).enumerate() {
        let plain = &rows[0];
        for (row, (path, said)) in rows.iter().zip(&clips[scene * each..]) {
            assert!(row["score"].is_number(), "{row}");
            assert_eq!(row["frames"], FRAMES, "{row}");
            assert_eq!(row.get("interlaced").and_then(Value::as_str), *said, "{}: {row}", path.display());
            let flagged = |row: &Value| row["verdict"] == "synthetic";
            assert!(!flagged(row) || flagged(plain), "{row} against {plain}");
        }
    }
}

#[test]
fn a_still_picture_with_combs_is_judged_whole_unless_its_source_says_interlaced() {
    let model = Model::open(None, Wanted::Auto).expect("the built-in detector");
    let combed = interlaced(&scenes().next().expect("a scene")[..1], true).remove(0);
    let detector = Detector::of(&model, 9);
    let lines = detector.score_lines(frame(&combed)).expect("judged");
    assert_eq!(detector.score(frame(&combed)).expect("judged"), lines);
    assert!(lines.tiles.iter().any(|t| t.rect.y + t.rect.height > SIZE.1 / 2), "{:?}", lines.tiles);
    let mut said = frame(&combed);
    said.interlacing = Interlacing::Said(FieldOrder::TopFirst);
    let field = detector.score(said).expect("judged");
    assert!(field.tiles.iter().all(|t| t.rect.y + t.rect.height <= SIZE.1 / 2), "{:?}", field.tiles);
    // And as `scan` does it.
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("still.png");
    combed.save(&path).expect("written");
    let row = scan(&[path], &[]).remove(0);
    assert!(row.get("interlaced").is_none_or(Value::is_null), "{row}");
    assert!(
        (row["score"].as_f64().expect("a score") - lines.score).abs() < 0.02,
        "{row} and {}",
        lines.score
    );
}

#[test]
fn state_and_record_say_interlaced() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Broker::start();
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let model = model::write_brightness(dir.path());
    let picture = "videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 horizontal-speed=5 \
                   ! video/x-raw,format=I420,width=320,height=240,framerate=20/1 \
                   ! videobalance brightness=0.35 contrast=0.6";
    let path = dir.path().join("spotd.toml");
    let text = format!(
        "[node]\nname = \"box\"\n[model]\npath = {model:?}\n\
         [[source]]\nid = \"woven\"\nuri = \"{picture} ! interlace field-pattern=1:1 top-field-first=true ! appsink\"\n\
         [[source]]\nid = \"plain\"\nuri = \"{picture} ! appsink\"\n\
         [verdict]\nwindow = 3\nmin_frames = 2\n[log]\ndir = \"flags\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n",
        broker.port()
    );
    std::fs::write(&path, text).expect("written");
    let mut daemon = Daemon::start(&path, dir.path());
    let event = |source: &str| -> Option<Value> {
        let folder = std::fs::read_dir(dir.path().join("flags")).ok()?;
        let lines: String = folder
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|e| e == "jsonl"))
            .map(|e| std::fs::read_to_string(e.path()).expect("readable"))
            .collect();
        lines
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|r| r["kind"] == "start" && r["source"] == source)
    };
    let woven = wait_for("a record of the interlaced source", || event("woven"));
    assert_eq!(woven["frame"]["interlaced"], "top-field-first", "{woven}");
    assert_eq!((&woven["frame"]["width"], &woven["frame"]["height"]), (&320.into(), &120.into()));
    let file = woven["evidence"]["frame"]["file"].as_str().expect("a file");
    let evidence = image::open(dir.path().join("flags").join(file)).expect("it decodes");
    assert_eq!((evidence.width(), evidence.height()), (320, 120), "what was judged is what is kept");
    let plain = wait_for("a record of the other", || event("plain"));
    assert_eq!((&plain["frame"]["interlaced"], &plain["frame"]["height"]), (&Value::Null, &240.into()));

    for (source, said) in [("woven", "top-field-first".into()), ("plain", Value::Null)] {
        let topic = format!("spotd/box/source/{source}/state");
        subscriber.wait("a state that says it", |messages| {
            let last = messages.iter().rev().find(|m| m.topic == topic);
            last.and_then(|m| serde_json::from_str::<Value>(&m.payload).ok()).is_some_and(|state| {
                state["judged"].as_u64() > Some(0) && state.get("interlaced") == Some(&said)
            })
        });
    }
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert!(daemon.log().contains("woven: interlaced (top-field-first)"), "{}", daemon.log());
}

/// Broadcast contribution is 4:2:2, often in ten bits: GStreamer converts it, with the fields in
/// mind.
#[test]
fn interlaced_formats_that_a_frame_does_not_know_are_converted() {
    for (format, tail) in [
        ("Y42B", "appsink sync=false"),
        ("I422_10LE", "appsink sync=false"),
        ("I420_10LE", "appsink sync=false"),
        ("Y42B", "x264enc interlaced=true ! avdec_h264 ! appsink sync=false"),
    ] {
        let text = format!(
            "videotestsrc num-buffers=12 pattern=smpte75 ! video/x-raw,format={format},width=320,height=240,framerate=50/1 \
             ! interlace field-pattern=1:1 top-field-first=false ! {tail}"
        );
        let mut seen = 0;
        let uri = SourceUri::parse(&text).expect("parses");
        let read = spotd::source::gstreamer::read_video(&uri, 100.0, &SystemClock::shared(), |frame| {
            assert_eq!((frame.format, frame.height), (PixelFormat::Rgb24, 240));
            assert_eq!(frame.interlacing, Interlacing::Said(FieldOrder::BottomFirst), "{text}");
            support::assert_bars(&frame.to_rgb().expect("pixels"));
            seen += 1;
            ControlFlow::Continue(())
        });
        read.unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(seen >= 5, "{text}: {seen} frames within {LONG:?}");
    }
}
