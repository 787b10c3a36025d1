//! Injected stream faults: connections that stay open but deliver nothing, truncated pictures,
//! senders that change their picture, wrong passwords.

#[path = "common/proxy.rs"]
mod proxy;
mod support;

use std::net::TcpListener;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use proxy::Proxy;
use spotd::health::SourceState;
use spotd::source::SourceConfig;
use support::rtsp::RtspServer;
use support::{Rig, assert_bars, config, h264, wait_for};

/// A stream through a proxy, watched with little patience.
fn behind_a_proxy(server: &RtspServer) -> (Proxy, Rig) {
    let proxy = Proxy::start(server.port());
    let url = format!("rtsp://127.0.0.1:{}/live", proxy.port());
    let rig = Rig::new(&SourceConfig { stall_timeout: Some(Duration::from_secs(3)), ..config(&url, 15.0) });
    (proxy, rig)
}

/// Waits for frames that come from now on.
fn new_frames(rig: &Rig) {
    let before = rig.status().frames;
    wait_for("new frames", || (rig.status().frames > before + 2).then_some(()));
    assert_bars(&rig.frame().to_rgb().expect("pixels"));
}

fn assert_stalls_and_comes_back(proxy: &Proxy, rig: Rig) {
    rig.wait_for_state("the stall to be shown", |s| *s == SourceState::Stalled);
    let SourceState::Retrying { why, .. } = rig.failure() else { panic!("{:?}", rig.status()) };
    assert!(why.contains("no frame for") && why.contains("stall_seconds"), "{why}");
    proxy.thaw();
    new_frames(&rig);
    assert!(rig.status().reconnects >= 1);
    rig.end();
}

#[test]
fn a_stream_that_goes_silent_without_closing_is_made_anew() {
    let server = RtspServer::new(&h264(320, 240, 15), "rtph264pay");
    let (proxy, rig) = behind_a_proxy(&server);
    rig.frame();
    proxy.freeze_after(0);
    assert_stalls_and_comes_back(&proxy, rig);
}

#[test]
fn half_a_frame_and_then_silence_is_a_stall_and_never_a_picture() {
    let server = RtspServer::new(&h264(640, 480, 15), "rtph264pay");
    let (proxy, rig) = behind_a_proxy(&server);
    rig.frame();
    // Far less than a second of the stream, and it ends within a packet.
    proxy.freeze_after(10_001);
    wait_for("the stall", || {
        if let Some(frame) = rig.try_frame() {
            assert_bars(&frame.to_rgb().expect("pixels"));
        }
        (rig.status().state == SourceState::Stalled).then_some(())
    });
    assert_stalls_and_comes_back(&proxy, rig);
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let accepting = std::thread::spawn(move || {
        // Both connections stay open to the end.
        (0..2).map(|_| listener.accept().expect("a connection")).collect::<Vec<_>>()
    });
    let rig = Rig::new(&config(&format!("rtsp://{address}/live"), 5.0));
    let SourceState::Retrying { why, .. } = rig.failure() else { panic!("{:?}", rig.status()) };
    assert!(why.contains(&address.to_string()), "{why}");
    assert_eq!(accepting.join().expect("two connections").len(), 2);
    rig.end();
}

#[test]
fn a_change_of_resolution_within_a_stream_is_followed() {
    gst::init().expect("GStreamer");
    let caps = |width: i32, height: i32| {
        gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", width)
            .field("height", height)
            .field("framerate", gst::Fraction::new(15, 1))
            .build()
    };
    let launch = format!(
        "videotestsrc is-live=true pattern=smpte75 ! capsfilter name=size caps=\"{}\" \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15",
        caps(320, 240)
    );
    let server = RtspServer::new(&launch, "rtph264pay config-interval=-1");
    let rig = Rig::new(&config(&server.url("/live"), 15.0));
    for size in [(320, 240), (242, 422), (640, 360)] {
        let filter = || server.element("size");
        if size != (320, 240) {
            filter().set_property("caps", caps(size.0, size.1));
        }
        let frame = wait_for("the new size", || {
            rig.try_frame().filter(|f| (f.width, f.height) == (size.0 as u32, size.1 as u32))
        });
        assert_bars(&frame.to_rgb().expect("pixels"));
    }
    assert_eq!(rig.status().reconnects, 0);
    rig.end();
}

#[test]
fn a_wrong_password_is_for_people_to_mend_and_is_not_shown() {
    let server =
        RtspServer::with(&[("/live", &h264(320, 240, 15), "rtph264pay")], Some(("editor", "s3cret")));
    for login in ["editor:gue55ed@", ""] {
        let rig = Rig::new(&config(&server.url("/live").replace("rtsp://", &format!("rtsp://{login}")), 5.0));
        let SourceState::Failed { why } = rig.failure() else { panic!("{:?}", rig.status()) };
        assert!(why.contains("password") && why.contains("127.0.0.1"), "{why}");
        assert!(!why.contains("gue55ed"), "{why}");
        rig.end();
    }
}

#[test]
fn a_server_is_told_goodbye() {
    let server = RtspServer::new(&h264(320, 240, 15), "rtph264pay");
    let rig = Rig::new(&config(&server.url("/live"), 5.0));
    rig.frame();
    assert_eq!(server.teardowns(), 0);
    rig.end();
    wait_for("the TEARDOWN", || (server.teardowns() == 1).then_some(()));
}

#[test]
fn key_frames_alone_are_decoded_where_they_come_often_enough() {
    // 15 frames a second, a key frame every second, and one frame in two seconds is wanted.
    let server = RtspServer::new(&h264(320, 240, 15), "rtph264pay");
    let rig = Rig::new(&config(&server.url("/live"), 0.5));
    let undecoded = || rig.status().dropped.get("undecoded").copied().unwrap_or(0);
    wait_for("frames that are not decoded", || (undecoded() > 30).then_some(()));
    let before = rig.status().frames;
    wait_for("pictures all the same", || (rig.status().frames > before + 1).then_some(()));
    while rig.try_frame().is_some() {}
    assert_bars(&rig.frame().to_rgb().expect("pixels"));
    assert_eq!(rig.status().state, SourceState::Live);
    rig.end();
}
