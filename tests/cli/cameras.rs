//! `spotd bench --cameras`: the daemon itself, fed with a clip.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use spotd::clock::SystemClock;
use spotd::source::SourceUri;
use spotd::source::clip::prolong;
use spotd::source::gstreamer::read_video;

use crate::setup::{Site, printed, said};
use crate::support::{play, wait_for};

/// Writes a clip of two seconds with a key frame every half second.
fn clip(site: &Site) {
    play(&format!(
        "videotestsrc num-buffers=20 pattern=snow ! video/x-raw,width=160,height=128,framerate=10/1 \
         ! x264enc key-int-max=5 bframes=0 speed-preset=ultrafast ! h264parse ! matroskamux ! filesink location=\"{}\"",
        site.path("clip.mkv").display()
    ));
}

fn measured(site: &Site, line: &str) -> Value {
    let output = site.spotd(line).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_str(&printed(&output)).expect("one object")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a count"))
}

/// How fast the machine is nobody knows, but what is said of it has to fit together.
fn assert_consistent(told: &Value) {
    let steps = told["steps"].as_array().expect("a list");
    let mut best = 0;
    for step in steps {
        let due = count(&step["due"]);
        let few = |key: &str| count(&step[key]) <= (due / 100).max(u64::from(due >= 10));
        let carried = count(&step["silent"]) == 0 && due > 0 && few("overwritten") && few("late");
        assert_eq!(step["carried"], carried, "{step}");
        assert!(number(&step["judged_per_second"]) >= 0.0 && number(&step["memory_mib"]) > 1.0, "{step}");
        if number(&step["cpus"]) > 0.0 {
            let shares =
                ["decoding", "choosing", "inference", "rest"].map(|part| number(&step["shares"][part]));
            assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{step}");
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{step}");
        }
        if carried {
            best = best.max(count(&step["cameras"]));
        }
    }
    assert_eq!(count(&told["cameras"]), best);
    let too_many = steps.iter().any(|step| step["carried"] == false);
    assert_eq!(told["limited"], !too_many);
    if best == 0 {
        assert!(told["shares"].is_null());
    }
}

#[test]
fn a_clip_of_ones_own_is_played_by_more_and_more_cameras() {
    let site = Site::new();
    clip(&site);
    let line = "bench --cameras --clip clip.mkv --model brightness.onnx --threads 1 --tiles 2 --fps 5 --decode all \
                --seconds 2 --max-cameras 3 --json";
    let told = measured(&site, line);
    assert_consistent(&told);
    let clip = &told["clip"];
    assert_eq!((&clip["path"], &clip["codec"]), (&"clip.mkv".into(), &"H.264".into()));
    assert_eq!((count(&clip["width"]), count(&clip["height"])), (160, 128));
    assert!(
        (number(&clip["fps"]) - 10.0).abs() < 0.1 && (number(&clip["key_frame_seconds"]) - 0.5).abs() < 0.01
    );
    let settings = (&told["threads"], &told["tiles"], &told["fps"], &told["decode"], &told["seconds"]);
    assert_eq!(settings, (&1.into(), &2.into(), &5.0.into(), &"all".into(), &2.into()));
    let steps = told["steps"].as_array().expect("a list");
    let cameras: Vec<u64> = steps.iter().map(|step| count(&step["cameras"])).collect();
    // Doubled up to the limit, or once there are too many, closed in on.
    assert!(cameras == [1, 2, 3] || told["limited"] == false, "{told}");
    // It plays in real time, of which all that is wanted is judged: five frames a second, of each ten that come.
    let first = &steps[0];
    if first["carried"] == true {
        let due = count(&first["due"]);
        assert!((5..=15).contains(&due), "{first}");
        assert!(number(&first["judged_per_second"]) > 1.0, "{first}");
    }
}

#[test]
fn the_built_in_clip_is_like_a_camera_and_key_frames_of_it_are_enough() {
    let site = Site::new();
    let line = "bench --cameras --model brightness.onnx --seconds 4 --max-cameras 1";
    let told = measured(&site, &format!("{line} --json"));
    assert_consistent(&told);
    let clip = &told["clip"];
    assert!(clip["path"].is_null());
    assert_eq!(
        (count(&clip["width"]), count(&clip["height"]), &clip["codec"]),
        (1920, 1080, &"H.264".into())
    );
    assert!(
        (number(&clip["fps"]) - 25.0).abs() < 0.1 && (number(&clip["key_frame_seconds"]) - 2.0).abs() < 0.01
    );
    assert!((1e6..3e6).contains(&number(&clip["bit_rate"])), "{clip}");
    let step = &told["steps"][0];
    if count(&step["due"]) > 0 {
        assert!(number(&step["decoded_share"]) < 0.2, "{step}");
    }

    let output = site.spotd(line).output().expect("runs");
    let text = printed(&output);
    for words in [
        "built-in clip: H.264 of 1920x1080",
        "decode = auto",
        "decoding  choosing  inference",
        "this machine carries",
    ] {
        assert!(text.contains(words), "'{words}' is missing in: {text}");
    }
}

#[test]
fn nothing_is_left_behind_where_it_is_ended_early() {
    let site = Site::new();
    clip(&site);
    let folder = site.path("tmp");
    std::fs::create_dir(&folder).expect("made");
    let left = || std::fs::read_dir(&folder).expect("a folder").count();
    let line = "bench --cameras --clip clip.mkv --model brightness.onnx --seconds 600";
    let mut child = site.spotd(line).env("TMPDIR", &folder).spawn().expect("starts");
    wait_for("the folder of the clip", || {
        let long = std::fs::read_dir(&folder).expect("a folder").flatten().next()?.path().join("long.mkv");
        long.exists().then_some(())
    });
    let asked = std::process::Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    assert!(asked.success() && !child.wait().expect("ends").success());
    assert_eq!(left(), 0);
}

#[test]
fn what_cannot_be_played_is_an_error_that_names_it() {
    let site = Site::new();
    std::fs::write(site.path("notes.txt"), "no video at all, but text that is long enough to look at")
        .expect("written");
    for (arguments, words) in [
        ("--clip nowhere.mkv", "nowhere.mkv"),
        ("--clip notes.txt", "notes.txt"),
        ("--clip footage/00.png", "00.png is a picture"),
        ("--clip footage", "is not a file"),
        ("--config nowhere.toml", "nowhere.toml"),
        ("--decode some", "auto, all"),
        ("--max-cameras 0", "max-cameras"),
    ] {
        let output = site.spotd(&format!("bench --cameras {arguments}")).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", printed(&output));
        assert!(said(&output).contains(words), "{arguments}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{arguments}");
    }
    let output = site.spotd("bench --clip clip.mkv").output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--cameras"), "{}", said(&output));
}

#[test]
fn a_clip_is_repeated_without_a_gap() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = SystemClock::shared();
    let video = "videotestsrc num-buffers=20 pattern=ball ! video/x-raw,width=160,height=120,framerate=10/1";
    let sound = "audiotestsrc num-buffers=20 ! opusenc ! mux.";
    for (coder, muxer, codec) in [
        ("x264enc key-int-max=5 bframes=2 ! h264parse", "matroskamux", "H.264"),
        ("x264enc key-int-max=5 bframes=0 ! h264parse", "mpegtsmux", "H.264"),
        ("jpegenc", "matroskamux", "Motion JPEG"),
    ] {
        let (path, long) = (dir.path().join("clip"), dir.path().join("long.mkv"));
        let end = format!("filesink location=\"{}\"", path.display());
        play(&format!("{video} ! {coder} ! mux. {sound} {muxer} name=mux ! {end}"));
        let found = prolong(&path, &long, Duration::from_secs(5), &clock).expect("prolonged");
        assert_eq!((found.codec, found.width, found.height), (codec, 160, 120));
        assert!((found.fps - 10.0).abs() < 0.01, "{found:?}");
        assert!((found.lasts.as_secs_f64() - 2.0).abs() < 0.01, "{found:?}");
        let key = if codec == "H.264" { 0.5 } else { 0.1 };
        assert!((found.key_frames_every.as_secs_f64() - key).abs() < 0.01, "{found:?}");
        let mut positions = Vec::new();
        read_video(&SourceUri::File(long), 100.0, &clock, |frame| {
            positions.push(frame.arrived.as_millis());
            ControlFlow::Continue(())
        })
        .expect("plays");
        let wanted = (0..60).map(|n| n * 100);
        let apart = positions.iter().zip(wanted).map(|(a, b): (&u128, u128)| a.abs_diff(b)).max();
        assert!(positions.len() == 60 && apart <= Some(2), "{codec} in {muxer}: {positions:?}");
    }
}

#[test]
fn what_is_no_video_is_not_prolonged() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = SystemClock::shared();
    let path = dir.path().join("clip");
    let refused = |path: &Path, words: &str| {
        let long = dir.path().join("long.mkv");
        let why = prolong(path, &long, Duration::from_secs(5), &clock).expect_err("refused").to_string();
        assert!(why.contains(words), "{why}");
    };
    refused(&path, "cannot open");
    refused(dir.path(), "is not a file");
    let make = |text: &str| play(&format!("{text} ! filesink location=\"{}\"", path.display()));
    make("videotestsrc num-buffers=1 ! jpegenc ! matroskamux");
    refused(&path, "single picture");
    make("videotestsrc num-buffers=9 ! x264enc ! video/x-h264,stream-format=byte-stream");
    refused(&path, "container");
    make("audiotestsrc num-buffers=50 ! opusenc ! oggmux");
    refused(&path, "holds no video");
}
