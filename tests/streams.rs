//! Sources against real senders: RTSP, SRT, video files, pipelines.
#![cfg(feature = "gstreamer")]

mod support;

use std::ops::ControlFlow;
use std::time::Duration;

use spotd::clock::SystemClock;
use spotd::frame::PixelFormat;
use spotd::health::SourceState;
use spotd::source::SourceError;
use spotd::source::SourceUri;
use spotd::source::gstreamer::read_video;
use spotd::source::probe::probe;
use support::rtsp::RtspServer;
use support::{LONG, Rig, Sender, assert_bars, config, free_port, h264, play, wait_for};

#[test]
fn h264_over_rtsp_arrives_as_it_was_decoded() {
    let server = RtspServer::new(&h264(322, 242, 15), "rtph264pay");
    let rig = Rig::new(&config(&server.url("/live"), 5.0));
    let frame = rig.frame();
    assert_eq!((frame.width, frame.height, frame.format), (322, 242, PixelFormat::I420));
    assert_bars(&frame.to_rgb().expect("pixels"));
    assert_eq!(rig.status().state, SourceState::Live);
    rig.end();
}

#[test]
fn a_killed_rtsp_server_is_found_again() {
    let mut server = RtspServer::new(&h264(320, 240, 15), "rtph264pay");
    let rig = Rig::new(&config(&server.url("/live"), 15.0));
    rig.frame();
    server.kill();
    let SourceState::Retrying { why, .. } = rig.failure() else { panic!("{:?}", rig.status()) };
    assert!(why.contains("127.0.0.1"), "{why}");
    while rig.try_frame().is_some() {}
    server.start();
    rig.wait_for_state("the stream", |s| *s == SourceState::Live);
    let before = rig.status().frames;
    wait_for("new frames", || (rig.status().frames > before).then_some(()));
    assert_bars(&rig.frame().to_rgb().expect("pixels"));
    assert!(rig.status().reconnects >= 1);
    rig.end();
}

#[test]
fn a_wrong_mount_is_named_and_tried_again() {
    let server = RtspServer::new(&h264(320, 240, 15), "rtph264pay");
    let url = server.url("/nothing");
    let rig = Rig::new(&config(&url, 5.0));
    let SourceState::Retrying { why, .. } = rig.failure() else { panic!("{:?}", rig.status()) };
    assert!(why.contains(&url), "{why}");
    rig.end();
}

#[test]
fn srt_arrives_from_a_listening_sender() {
    let port = free_port();
    let address = format!("srt://127.0.0.1:{port}");
    let encoder = h264(320, 240, 15);
    let _sender = Sender::new(&format!(
        "{encoder} ! h264parse config-interval=-1 ! mpegtsmux alignment=7 ! srtsink uri={address}?mode=listener wait-for-connection=false"
    ));
    let rig = Rig::new(&config(&format!("{address}?mode=caller"), 5.0));
    let frame = rig.frame();
    assert_eq!((frame.width, frame.height), (320, 240));
    assert_bars(&frame.to_rgb().expect("pixels"));
    rig.end();
}

#[test]
fn nobody_at_the_other_end_is_a_failure_that_is_tried_again() {
    for address in
        [format!("rtsp://127.0.0.1:{}/live", free_port()), format!("http://127.0.0.1:{}/a.ts", free_port())]
    {
        let rig = Rig::new(&config(&address, 5.0));
        let SourceState::Retrying { why, .. } = rig.failure() else { panic!("{:?}", rig.status()) };
        assert!(why.contains(&address), "{why}");
        rig.end();
    }
}

/// A file of `frames` frames of 10 a second.
fn clip(
    folder: &std::path::Path,
    name: &str,
    size: (u32, u32),
    frames: u32,
    mux: &str,
) -> std::path::PathBuf {
    let path = folder.join(name);
    let (width, height) = size;
    play(&format!(
        "videotestsrc pattern=smpte75 num-buffers={frames} \
         ! video/x-raw,format=I420,width={width},height={height},framerate=10/1 \
         ! x264enc speed-preset=ultrafast key-int-max=5 ! {mux} ! filesink location=\"{}\"",
        path.display()
    ));
    path
}

fn read(uri: &SourceUri, per_second: f64) -> (spotd::source::gstreamer::VideoSummary, Vec<(u32, u32, u64)>) {
    let mut seen = Vec::new();
    let summary = read_video(uri, per_second, &SystemClock::shared(), |frame| {
        assert_bars(&frame.to_rgb().expect("pixels"));
        seen.push((frame.width, frame.height, frame.arrived.as_millis() as u64));
        ControlFlow::Continue(())
    });
    (summary.expect("reads"), seen)
}

#[test]
fn a_video_file_is_read_in_order_at_the_wanted_rate() {
    let dir = tempfile::tempdir().expect("folder");
    let uri = SourceUri::File(clip(dir.path(), "a b#1.mp4", (320, 180), 30, "mp4mux"));
    let (summary, seen) = read(&uri, 1000.0);
    assert_eq!((summary.decoded, summary.taken, summary.lost), (30, 30, 0));
    assert_eq!(seen, (0..30).map(|n| (320, 180, n * 100)).collect::<Vec<_>>());
    let (summary, seen) = read(&uri, 2.0);
    assert_eq!((summary.decoded, summary.taken), (30, 6));
    assert_eq!(seen.iter().map(|s| s.2).collect::<Vec<_>>(), [0, 500, 1000, 1500, 2000, 2500]);

    let mut count = 0;
    let summary = read_video(&uri, 1000.0, &SystemClock::shared(), |_| {
        count += 1;
        if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((summary.expect("reads").taken, count), (3, 3));
}

#[test]
fn a_change_of_resolution_within_a_file_is_followed() {
    let dir = tempfile::tempdir().expect("folder");
    // Elementary streams may be concatenated.
    let format = "video/x-h264,stream-format=byte-stream";
    let mut bytes = std::fs::read(clip(dir.path(), "1.h264", (320, 180), 10, format)).expect("read");
    bytes.extend(std::fs::read(clip(dir.path(), "2.h264", (182, 322), 10, format)).expect("read"));
    let path = dir.path().join("both.h264");
    std::fs::write(&path, bytes).expect("written");
    let (summary, seen) = read(&SourceUri::File(path), 1000.0);
    assert_eq!(summary.lost, 0);
    for size in [(320, 180), (182, 322)] {
        assert!(seen.iter().filter(|s| (s.0, s.1) == size).count() >= 8, "{size:?} in {seen:?}");
    }
}

#[test]
fn a_file_under_its_supervisor_runs_by_its_own_clock_and_ends() {
    let dir = tempfile::tempdir().expect("folder");
    let path = clip(dir.path(), "a.mp4", (160, 90), 15, "mp4mux");
    let begun = std::time::Instant::now();
    let rig = Rig::new(&config(path.to_str().expect("text"), 120.0));
    rig.wait_for_state("the end", |s| *s == SourceState::Ended);
    // The last of 15 frames is due after 1.4 s, however fast the machine.
    assert!(begun.elapsed() > Duration::from_millis(1300), "{:?}", begun.elapsed());
    assert!(rig.status().frames >= 1);
    rig.end();
}

#[test]
fn a_pipeline_is_watched_and_a_damaged_file_named() {
    let text =
        "videotestsrc is-live=true pattern=smpte75 ! video/x-raw,format=UYVY,width=322,height=242 ! queue";
    let rig = Rig::new(&config(text, 5.0));
    let frame = rig.frame();
    assert_eq!((frame.format, frame.width, frame.height), (PixelFormat::Uyvy, 322, 242));
    assert_bars(&frame.to_rgb().expect("pixels"));
    rig.end();

    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("noise.mp4");
    std::fs::write(&path, vec![0xA5; 50_000]).expect("written");
    let rig = Rig::new(&config(path.to_str().expect("text"), 5.0));
    let SourceState::Failed { why } = rig.failure() else { panic!("{:?}", rig.status()) };
    assert!(why.contains("noise.mp4"), "{why}");
    rig.end();
}

#[test]
fn a_probe_tells_what_comes_and_what_does_not() {
    let clock = SystemClock::shared();
    let found = probe(
        &config("videotestsrc ! video/x-raw,format=NV12,width=64,height=48 ! appsink", 5.0),
        LONG,
        &clock,
    );
    let found = found.expect("found");
    assert_eq!((found.format, found.width, found.height), (PixelFormat::Nv12, 64, 48));

    let silent = config("appsrc is-live=true ! video/x-raw,format=RGB ! appsink", 5.0);
    match probe(&silent, Duration::from_secs(1), &clock) {
        Err(SourceError::Retry(why)) => assert!(why.contains("no frame"), "{why}"),
        other => panic!("{other:?}"),
    }
}
