//! A feed that is cut into raises an alert before the verdict changes; a scene cut does not.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use common::daemon::Daemon;
use common::model;
use common::mosquitto::{Broker, Message, PATIENCE, Subscriber};
use common::records::verified;
use gstreamer as gst;
use gstreamer::prelude::*;
use image::RgbImage;
use serde_json::Value;
use spotd::detector::{Detector, Model};
use spotd::frame::Frame;
use spotd::identity::Wanted;
use spotd::jump::JumpDetector;

/// A dark scene, another one as dark, and one that the detector takes for generated, six seconds
/// each but the last.
fn feed() -> String {
    let scene = |number: usize, pattern: &str, brightness: f32| {
        // The last one goes on.
        let frames = if number < 2 { 60 } else { -1 };
        format!(
            "videotestsrc num-buffers={frames} pattern={pattern} ! video/x-raw,format=I420,width=160,height=128,framerate=10/1 ! \
             videobalance brightness={brightness} contrast=0.6 ! c.sink_{number} "
        )
    };
    scene(0, "zone-plate kx2=8 ky2=8", -0.2)
        + &scene(1, "zone-plate kx2=2 ky2=30", -0.2)
        + &scene(2, "zone-plate kx2=8 ky2=8", 0.35)
        + "concat name=c ! identity sync=true ! appsink"
}

fn write_config(dir: &Path, broker: u16, jump: &str) -> PathBuf {
    let model = model::write_brightness(dir);
    let path = dir.join("spotd.toml");
    let text = format!(
        "[node]\nname = \"box\"\n[model]\npath = {model:?}\nworkers = 1\n\
         [[source]]\nid = \"cam\"\nuri = \"{}\"\nfps = 20\n[verdict]\n{jump}\n\
         [log]\ndir = \"flags\"\nmin_free_mib = 0\n[mqtt]\nurl = \"mqtt://127.0.0.1:{broker}\"\n",
        feed()
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn until_flagged(daemon: &Daemon) {
    let end = Instant::now() + PATIENCE;
    while !daemon.log().contains(" start\n") {
        assert!(Instant::now() < end, "nothing was flagged; the daemon said:\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Records of events in the order of the log.
fn records(flags: &Path) -> Vec<Value> {
    let (code, text) = common::daemon::spotd(&["log", &flags.to_string_lossy(), "--json"]);
    assert_eq!(code, Some(0), "{text}");
    let all = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    all.filter(|r| r["type"] == "event").collect()
}

fn mean(picture: &RgbImage) -> f64 {
    picture.as_raw().iter().map(|v| f64::from(*v)).sum::<f64>() / picture.as_raw().len() as f64
}

#[test]
fn a_feed_that_is_cut_into_is_an_alert_with_both_frames_and_a_scene_cut_is_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = dir.path().join("flags");
    let broker = Broker::start();
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let mut daemon = Daemon::start(&write_config(dir.path(), broker.port(), "jump = 4.0"), dir.path());
    until_flagged(&daemon);
    let state = |m: &[Message]| -> Option<Value> {
        let last = m.iter().rev().find(|m| m.topic.ends_with("/source/cam/state"))?;
        serde_json::from_str(&last.payload).ok().filter(|s: &Value| s["alerts"] == 1)
    };
    let got = subscriber.wait("the alert in the state", |m| state(m).is_some());
    let state = state(&got).expect("there");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());

    let all = records(&flags);
    let kinds: Vec<&str> = all.iter().map(|r| r["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds.iter().filter(|k| **k == "alert").count(), 1, "{kinds:?}");
    assert_eq!(kinds[..2], ["alert", "start"], "before the verdict has turned");
    let (alert, start) = (&all[0], &all[1]);
    assert_ne!(alert["event"], start["event"], "an event of its own");
    assert_eq!(alert["verdict"], "clear");
    let found = &alert["alert"];
    assert_eq!(found["kind"], "jump");
    assert!(found["before"].as_f64() < Some(0.1) && found["after"].as_f64() > Some(0.9), "{found}");
    assert!(found["captured_before"].as_str() < alert["captured"].as_str(), "{alert}");
    let picture = |which: &str| {
        let file = alert["evidence"][which]["file"].as_str().expect("a file");
        image::open(flags.join(file)).expect("the evidence decodes").to_rgb8()
    };
    let (before, after) = (mean(&picture("before")), mean(&picture("frame")));
    assert!(before < 110.0 && after > 160.0, "{before} {after}: the frames on both sides of the cut");
    let report = verified(&flags, None);
    assert!(report.holds, "{:?}", report.problems);

    // The broker received the same, and the state shows it.
    let told = |m: &[Message]| -> Option<Value> {
        let events = m.iter().filter(|m| m.topic.ends_with("/source/cam/event"));
        events.filter_map(|m| serde_json::from_str(&m.payload).ok()).find(|r: &Value| r["kind"] == "alert")
    };
    let got = subscriber.wait("the alert", |m| told(m).is_some());
    assert_eq!(told(&got).as_ref(), Some(alert));
    assert_eq!((&state["alert"]["kind"], &state["alert"]["at"]), (&found["kind"], &alert["captured"]));

    // As one event it can be handed on.
    let to = dir.path().join("alert").to_string_lossy().into_owned();
    let event = alert["event"].as_str().expect("an id");
    let (code, text) =
        common::daemon::spotd(&["log", &flags.to_string_lossy(), "export", event, "--to", &to]);
    assert_eq!(code, Some(0), "{text}");
    assert!(verified(Path::new(&to), None).evidence_files >= 2);
}

#[test]
fn without_the_setting_there_are_no_alerts() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Broker::start();
    let mut daemon = Daemon::start(&write_config(dir.path(), broker.port(), ""), dir.path());
    until_flagged(&daemon);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    let all = records(&dir.path().join("flags"));
    assert!(all.iter().all(|r| r["kind"] != "alert") && all.iter().any(|r| r["kind"] == "start"), "{all:?}");
}

/// From this size on there was no alert, as stated in docs/CONFIG.md.
const QUIET: f64 = 7.0;

/// Frames of a clip's second that are judged at least, if it has so many: every frame of all clips
/// would take hours here.
const JUDGED: f64 = 4.0;

/// Scores of a clip's judged frames, and how many there are a second.
fn scores(model: &Model, clip: &Path) -> (f64, Vec<f64>) {
    let text = format!(
        "filesrc location=\"{}\" ! decodebin ! videoconvert ! video/x-raw,format=RGB ! appsink name=s sync=false",
        clip.display()
    );
    let bin = gst::parse::launch(&text).expect("a pipeline").downcast::<gst::Bin>().expect("a bin");
    let sink = bin.by_name("s").and_then(|s| s.downcast::<gstreamer_app::AppSink>().ok()).expect("a sink");
    bin.set_state(gst::State::Playing).expect("plays");
    let (mut rate, mut all) = (0.0, Vec::new());
    for number in 0.. {
        let Ok(sample) = sink.pull_sample() else { break };
        let info = gstreamer_video::VideoInfo::from_caps(sample.caps().expect("caps")).expect("video");
        let every = {
            let own = f64::from(info.fps().numer()) / f64::from(info.fps().denom());
            let every = (own / JUDGED).floor().max(1.0);
            rate = own / every;
            every as usize
        };
        if number % every > 0 {
            continue;
        }
        let map = sample.buffer().expect("a buffer").map_readable().expect("mapped");
        let (row, stride) = (info.width() as usize * 3, info.stride()[0] as usize);
        let rows: Vec<u8> = map.chunks(stride).flat_map(|r| &r[..row]).copied().collect();
        let image = RgbImage::from_raw(info.width(), info.height(), rows).expect("whole");
        let frame = Frame::from_rgb("clip".into(), 0, SystemTime::UNIX_EPOCH, Duration::ZERO, image);
        let score = Detector::of(model, 9).score(frame).expect("judged");
        all.extend(score.limited.is_none().then_some(score.score));
    }
    bin.set_state(gst::State::Null).expect("ends");
    eprintln!("{}: {} frames judged, {rate:.1} a second", clip.display(), all.len());
    (rate, all)
}

/// What a size of jump costs: with `SPOTD_REAL_CLIPS` naming a folder of clips that are known to be
/// real, shown one after the other in random order, two frames a second of each. See
/// docs/CONFIG.md.
#[test]
fn false_alerts_on_real_clips() {
    let Some(folder) = std::env::var_os("SPOTD_REAL_CLIPS") else {
        eprintln!("\n*** SKIPPED: set SPOTD_REAL_CLIPS to a folder of real clips ***\n");
        return;
    };
    gst::init().expect("GStreamer");
    let model = Model::open(None, Wanted::Auto).expect("the built-in detector");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("listed").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let clips: Vec<(f64, Vec<f64>)> = files.iter().map(|f| scores(&model, f)).collect();
    let seconds: f64 = clips.iter().map(|(rate, s)| s.len() as f64 / rate).sum();
    let log_odds = |p: &f64| (p.clamp(1e-4, 1.0 - 1e-4) / (1.0 - p.clamp(1e-4, 1.0 - 1e-4))).ln();
    let spread = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let middles: Vec<f64> =
        clips.iter().map(|(_, s)| s.iter().map(log_odds).sum::<f64>() / s.len() as f64).collect();
    let reach = |(_, s): &(f64, Vec<f64>)| {
        let odds: Vec<f64> = s.iter().map(log_odds).collect();
        odds.iter().copied().fold(f64::MIN, f64::max) - odds.iter().copied().fold(f64::MAX, f64::min)
    };
    println!(
        "{} clips, {seconds:.0} s; log odds of the clips from {:.2} to {:.2}, standard deviation {:.2}; within a clip {:.2} at most",
        clips.len(),
        middles.iter().copied().fold(f64::MAX, f64::min),
        middles.iter().copied().fold(f64::MIN, f64::max),
        spread(&middles),
        clips.iter().map(reach).fold(0.0, f64::max)
    );
    let (cuts, mut numbers, mut last, mut shown) =
        (20_000, common::records::Numbers(1), usize::MAX, Vec::new());
    while shown.len() < cuts {
        let clip = usize::try_from(numbers.below(clips.len() as u64)).expect("small");
        if clip != std::mem::replace(&mut last, clip) {
            let (rate, scores) = &clips[clip];
            let step = rate / 2.0;
            let phase = numbers.below(step as u64) as f64;
            let at = |i: usize| scores.get((phase + step * i as f64) as usize).copied();
            shown.push((0..).map_while(at).collect::<Vec<f64>>());
        }
    }
    let hours = shown.iter().map(Vec::len).sum::<usize>() as f64 / 2.0 / 3600.0;
    println!("a cut every {:.1} s", hours * 3600.0 / cuts as f64);
    for size in [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0] {
        let mut detector = JumpDetector::new(size, 9, 5);
        let alerts = shown.iter().flatten().filter(|s| detector.push(**s).is_some()).count();
        let mut steady = 0;
        for (_, scores) in &clips {
            // Every judged frame of a clip alone: no cut, more frames a second than a source is
            // asked for.
            let mut detector = JumpDetector::new(size, 9, 5);
            steady += scores.iter().filter(|s| detector.push(**s).is_some()).count();
        }
        println!(
            "jump = {size}: {alerts} at {cuts} cuts, {:.1} a day; {steady} within the clips",
            alerts as f64 / hours * 24.0
        );
        assert!(size < QUIET || alerts + steady == 0, "what docs/CONFIG.md says of {QUIET}");
    }
}
