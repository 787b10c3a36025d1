//! The complete path of a frame with real parts: an RTSP server in this process streams H.264, the
//! daemon's own binary watches it, a real mosquitto and a web server receive what is flagged, and
//! the evidence is the frame.

mod common;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::daemon::Daemon;
use common::model;
use common::mosquitto::{Broker, Subscriber};
use gstreamer as gst;
use gstreamer::prelude::*;
use image::RgbImage;
use serde_json::Value;
use support::rtsp::RtspServer;
use support::wait_for;

/// A still picture that is bright overall and has no flat tile.
const PICTURE: &str = "videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 ! \
     video/x-raw,format=I420,width=320,height=240,framerate=10/1 ! videobalance brightness=0.35 contrast=0.6";
const ENCODER: &str = "x264enc tune=zerolatency speed-preset=superfast bitrate=3000 key-int-max=10";
const PAYLOADER: &str = "rtph264pay";

/// The picture that the stream shows, before H.264 and RTSP.
fn original() -> RgbImage {
    let text = format!("{PICTURE} ! videoconvert ! video/x-raw,format=RGB ! appsink name=s max-buffers=1");
    let pipeline = gst::parse::launch(&text).expect("a pipeline");
    pipeline.set_state(gst::State::Playing).expect("plays");
    let bin = pipeline.clone().downcast::<gst::Bin>().expect("a bin");
    let sink = bin.by_name("s").and_then(|s| s.downcast::<gstreamer_app::AppSink>().ok()).expect("a sink");
    let sample = sink.pull_sample().expect("a picture");
    let map = sample.buffer().expect("a buffer").map_readable().expect("mapped");
    let image = RgbImage::from_raw(320, 240, map.to_vec()).expect("320x240");
    pipeline.set_state(gst::State::Null).expect("ends");
    image
}

fn mean_difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let sum: u64 = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.as_raw().len() as f64
}

/// A web server that accepts whatever is posted to it.
struct Desk {
    port: u16,
    posted: Arc<Mutex<Vec<String>>>,
}

impl Desk {
    fn start() -> Self {
        let server = tiny_http::Server::http("127.0.0.1:0").expect("a free port");
        let port = server.server_addr().to_ip().expect("an address").port();
        let posted = Arc::new(Mutex::new(Vec::new()));
        let taken = posted.clone();
        std::thread::spawn(move || {
            for mut request in server.incoming_requests() {
                let mut body = String::new();
                request.as_reader().read_to_string(&mut body).expect("a text");
                taken.lock().expect("lock").push(body);
                // The client may be gone.
                let _ = request.respond(tiny_http::Response::empty(204));
            }
        });
        Self { port, posted }
    }

    fn posted(&self) -> Vec<String> {
        self.posted.lock().expect("lock").clone()
    }
}

fn write_config(dir: &Path, url: &str, broker: u16) -> PathBuf {
    let model = model::write_brightness(dir);
    let path = dir.join("spotd.toml");
    let text = format!(
        "[node]\nname = \"test box\"\n[model]\npath = {model:?}\n\
         [[source]]\nid = \"cam\"\nuri = \"{url}\"\nfps = 5\nstall_seconds = 3\n\
         [[source]]\nid = \"gone\"\nuri = \"/dev/video-that-is-not-there\"\n\
         [verdict]\nwindow = 5\nmin_frames = 3\n[log]\ndir = \"flags\"\n\
         [mqtt]\nurl = \"mqtt://127.0.0.1:{broker}\"\n"
    );
    std::fs::write(&path, text).expect("written");
    path
}

/// The log's lines, as whole as they are at this moment.
fn records(dir: &Path) -> Vec<Value> {
    let mut segments: Vec<_> = std::fs::read_dir(dir.join("flags"))
        .map(|d| {
            d.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect()
        })
        .unwrap_or_default();
    segments.sort();
    segments
        .iter()
        .flat_map(|p| {
            let text = std::fs::read_to_string(p).expect("readable");
            text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).collect::<Vec<_>>()
        })
        .filter(|r| r["kind"].is_string())
        .collect()
}

#[test]
fn a_frame_from_rtsp_is_flagged_kept_and_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut server = RtspServer::new(&format!("{PICTURE} ! {ENCODER}"), PAYLOADER);
    let broker = Broker::start();
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let desk = Desk::start();
    let config = write_config(dir.path(), &server.url("/live"), broker.port());
    let hook = format!("[[webhook]]\nurl = \"http://127.0.0.1:{}/flags\"\n", desk.port);
    let text = std::fs::read_to_string(&config).expect("read") + &hook;
    std::fs::write(&config, text).expect("written");
    let mut daemon = Daemon::start(&config, dir.path());

    // The event arrives over MQTT, and it is the record that the log has.
    let of = |suffix: &'static str| move |m: &common::mosquitto::Message| m.topic.ends_with(suffix);
    let got = subscriber.wait("the start of an event", |m| m.iter().any(of("/source/cam/event")));
    let told: Value =
        serde_json::from_str(&got.iter().find(|m| of("/source/cam/event")(m)).expect("there").payload)
            .expect("JSON");
    let kept = &records(dir.path())[0];
    assert_eq!(told["id"], kept["id"]);
    assert_eq!((&told["kind"], &told["verdict"]), (&"start".into(), &"synthetic".into()));
    assert_eq!((&kept["node"], &kept["source"]), (&"test box".into(), &"cam".into()));
    assert_eq!(kept["model"]["name"], "brightness");
    assert!(kept["smoothed"].as_f64().is_some_and(|s| s >= 0.8), "{kept}");
    assert!(!kept["tiles"].as_array().expect("tiles").is_empty());

    // The evidence decodes and is the frame that was streamed.
    let file = kept["evidence"]["frame"]["file"].as_str().expect("a file");
    let jpeg = image::open(dir.path().join("flags").join(file)).expect("the evidence decodes").to_rgb8();
    let difference = mean_difference(&jpeg, &original());
    assert!(difference < 6.0, "the evidence differs from the stream by {difference} levels");

    // A missing camera does not disturb the other one, and is reported.
    let state = |m: &[common::mosquitto::Message], source: &str| -> Option<Value> {
        let topic = format!("spotd/test box/source/{source}/state");
        m.iter().rev().find(|m| m.topic == topic).and_then(|m| serde_json::from_str(&m.payload).ok())
    };
    subscriber.wait("the missing camera's state", |m| {
        state(m, "gone")
            .is_some_and(|s| s["why"].as_str().is_some_and(|w| w.contains("video-that-is-not-there")))
    });

    // The server dies and comes back: so does the source.
    server.kill();
    subscriber
        .wait("the source to be retried", |m| state(m, "cam").is_some_and(|s| s["state"] == "retrying"));
    server.start();
    subscriber.wait("the source to be live again", |m| {
        state(m, "cam").is_some_and(|s| s["state"] == "live" && s["reconnects"].as_u64() > Some(0))
    });

    // It ends in order: the event is closed, in the log and for subscribers.
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    let all = records(dir.path());
    assert_eq!(all.last().expect("records")["kind"], "end");
    let last = all.last().expect("records")["id"].clone();
    subscriber.wait("the end of the event", |m| {
        m.iter()
            .filter(|m| m.topic.ends_with("/event"))
            .any(|m| serde_json::from_str::<Value>(&m.payload).is_ok_and(|v| v["id"] == last))
    });

    // The web server has had every record too, as the log's own lines and in their order.
    let posted = desk.posted();
    let ids = posted.iter().map(|body| serde_json::from_str::<Value>(body).expect("JSON")["id"].clone());
    assert_eq!(ids.collect::<Vec<_>>(), all.iter().map(|r| r["id"].clone()).collect::<Vec<_>>());
    let mut files = std::fs::read_dir(dir.path().join("flags")).expect("the log").flatten().map(|e| e.path());
    let segment = files.find(|p| p.extension().is_some_and(|e| e == "jsonl")).expect("a segment");
    let log = std::fs::read_to_string(segment).expect("readable");
    assert!(posted.iter().all(|body| log.lines().any(|line| line == body)), "{posted:?}");
}

#[test]
fn without_a_broker_the_log_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = RtspServer::new(&format!("{PICTURE} ! {ENCODER}"), PAYLOADER);
    // A port that nobody listens on.
    let broker = support::free_port();
    let mut daemon = Daemon::start(&write_config(dir.path(), &server.url("/live"), broker), dir.path());
    wait_for("a record in the log", || (!records(dir.path()).is_empty()).then_some(()));
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn check_says_what_works_and_what_mends_the_rest() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = RtspServer::new(&format!("{PICTURE} ! {ENCODER}"), PAYLOADER);
    let broker = Broker::start();
    let config = write_config(dir.path(), &server.url("/live"), broker.port());
    let check = |config: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_spotd"))
            .args(["check", "--json", "--timeout", "60", "--config"])
            .arg(config)
            .output()
            .expect("spotd runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let findings: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        (output.status.code(), findings)
    };
    let (code, findings) = check(&config);
    let ok: Vec<(&str, bool)> = findings
        .iter()
        .map(|f| (f["part"].as_str().expect("a part"), f["ok"].as_bool().expect("a flag")))
        .collect();
    assert_eq!(code, Some(1));
    let expected = [
        ("config", true),
        ("model", true),
        ("source cam", true),
        ("source gone", false),
        ("log", true),
        ("broker", true),
        ("page", true),
    ];
    assert_eq!(ok, expected, "{findings:?}");
    assert!(findings[2]["text"].as_str().expect("a text").contains("320x240"), "{}", findings[2]);
    assert!(!dir.path().join("flags").exists(), "check leaves nothing behind");

    // Without the missing camera all is well; with a misspelt key nothing is.
    let text = std::fs::read_to_string(&config).expect("read");
    let gone = "[[source]]\nid = \"gone\"\nuri = \"/dev/video-that-is-not-there\"\n";
    std::fs::write(&config, text.replace(gone, "")).expect("written");
    assert_eq!(check(&config).0, Some(0));
    std::fs::write(&config, text.replace("window", "windwo")).expect("written");
    let (code, findings) = check(&config);
    assert_eq!((code, findings.len()), (Some(1), 1));
    assert!(
        findings[0]["text"].as_str().expect("a text").contains("did you mean `window`"),
        "{}",
        findings[0]
    );
}
