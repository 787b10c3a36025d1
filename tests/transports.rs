//! Every transport of streams, each from a real sender in the test's own process.

mod support;

use std::path::Path;

use spotd::frame::PixelFormat;
use spotd::health::SourceState;
use spotd::source::SourceConfig;
use support::http::HttpServer;
use support::rtsp::RtspServer;
use support::{Rig, Sender, assert_bars, config, free_port, h264, play, wait_for};

/// Waits for a picture of the colour bars with this size and format, and ends the watch.
fn assert_arrives(rig: Rig, format: PixelFormat, size: (u32, u32)) {
    let frame = rig.frame();
    assert_eq!((frame.width, frame.height, frame.format), (size.0, size.1, format));
    assert_bars(&frame.decoded().expect("decodes").to_rgb().expect("pixels"));
    wait_for("its size on the board", || (rig.status().size == Some(size)).then_some(()));
    rig.end();
}

fn bars(width: u32, height: u32) -> String {
    format!(
        "videotestsrc is-live=true pattern=smpte75 ! video/x-raw,format=I420,width={width},height={height},framerate=15/1"
    )
}

/// H.264 in a transport stream.
fn transport_stream(width: u32, height: u32) -> String {
    format!("{} ! h264parse config-interval=-1 ! mpegtsmux alignment=7", h264(width, height, 15))
}

#[test]
fn h265_over_rtsp() {
    let encoder =
        "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=15 option-string=log-level=none";
    let server = RtspServer::new(&format!("{} ! {encoder} ! h265parse", bars(320, 240)), "rtph265pay");
    assert_arrives(Rig::new(&config(&server.url("/live"), 5.0)), PixelFormat::I420, (320, 240));
}

#[test]
fn a_motion_jpeg_camera_over_rtsp_stays_jpeg_until_it_is_cut() {
    let server = RtspServer::new(&format!("{} ! jpegenc quality=90", bars(320, 240)), "rtpjpegpay");
    assert_arrives(Rig::new(&config(&server.url("/live"), 5.0)), PixelFormat::Mjpg, (320, 240));
}

#[test]
fn a_portrait_over_rtsp() {
    let server = RtspServer::new(&h264(182, 322, 15), "rtph264pay");
    assert_arrives(Rig::new(&config(&server.url("/live"), 5.0)), PixelFormat::I420, (182, 322));
}

#[test]
fn rtsp_over_udp() {
    let server = RtspServer::new(&h264(320, 240, 15), "rtph264pay");
    let url = server.url("/live").replace("rtsp://", "rtspu://");
    assert_arrives(Rig::new(&config(&url, 5.0)), PixelFormat::I420, (320, 240));
}

#[test]
fn rtsp_with_a_login() {
    // Empty; with characters that must be escaped; and with characters that need not be.
    for (password, written) in
        [("s3cret", "s3cret"), ("", ""), ("p#/?%s", "p%23%2F%3F%25s"), ("p@:s s", "p@:s s")]
    {
        let stream = ("/live", &*h264(320, 240, 15), "rtph264pay");
        let server = RtspServer::with(&[stream], Some(("editor", password)));
        let url = server.url("/live").replace("rtsp://", &format!("RTSP://editor:{written}@"));
        assert_arrives(Rig::new(&config(&url, 5.0)), PixelFormat::I420, (320, 240));
    }
}

#[test]
fn srt_to_a_listener_that_takes_one_caller_after_the_other() {
    let port = free_port();
    let rig = Rig::new(&config(&format!("srt://:{port}?mode=listener"), 5.0));
    let call = || {
        let stream = transport_stream(320, 240);
        Sender::new(&format!(
            "{stream} ! srtsink uri=srt://127.0.0.1:{port}?mode=caller wait-for-connection=false"
        ))
    };
    let caller = call();
    assert_bars(&rig.frame().to_rgb().expect("pixels"));
    drop(caller);
    while rig.try_frame().is_some() {}
    let before = rig.status().frames;
    let _caller = call();
    wait_for("frames of the second caller", || (rig.status().frames > before + 2).then_some(()));
    assert_bars(&rig.frame().to_rgb().expect("pixels"));
    rig.end();
}

#[test]
fn a_transport_stream_over_udp() {
    let port = free_port();
    let stream = transport_stream(320, 240);
    let _sender = Sender::new(&format!("{stream} ! udpsink host=127.0.0.1 port={port}"));
    let rig = Rig::new(&config(&format!("udp://127.0.0.1:{port}"), 5.0));
    assert_arrives(rig, PixelFormat::I420, (320, 240));
}

#[test]
fn rtp_with_its_encoding_in_the_address_or_its_caps_in_a_pipeline() {
    let port = free_port();
    let sender = |pay: &str| Sender::new(&format!("{pay} ! udpsink host=127.0.0.1 port={port}"));
    let h264 = h264(320, 240, 15);
    let _video = sender(&format!("{h264} ! rtph264pay pt=96 config-interval=-1"));
    let rig = Rig::new(&config(&format!("rtp://127.0.0.1:{port}?encoding-name=H264"), 5.0));
    assert_arrives(rig, PixelFormat::I420, (320, 240));

    let text = format!(
        "udpsrc address=127.0.0.1 port={port} \
         caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96 \
         ! rtpjitterbuffer ! rtph264depay ! decodebin ! appsink"
    );
    assert_arrives(Rig::new(&config(&text, 5.0)), PixelFormat::I420, (320, 240));
}

#[test]
fn a_transport_stream_in_rtp() {
    let port = free_port();
    let stream = transport_stream(320, 240);
    let _sender = Sender::new(&format!("{stream} ! rtpmp2tpay ! udpsink host=127.0.0.1 port={port}"));
    let rig = Rig::new(&config(&format!("rtp://127.0.0.1:{port}?encoding-name=MP2T"), 5.0));
    assert_arrives(rig, PixelFormat::I420, (320, 240));
}

/// One second of colour bars as a file.
fn clip(path: &Path, size: (u32, u32), tail: &str) {
    play(&format!(
        "videotestsrc pattern=smpte75 num-buffers=10 \
         ! video/x-raw,format=I420,width={},height={},framerate=10/1 ! {tail} ! filesink location=\"{}\"",
        size.0,
        size.1,
        path.display()
    ));
}

const H264: &str = "x264enc speed-preset=ultrafast key-int-max=5";

#[test]
fn a_clip_from_a_web_server_ends_or_begins_again() {
    let dir = tempfile::tempdir().expect("folder");
    clip(&dir.path().join("clip.mp4"), (320, 240), &format!("{H264} ! mp4mux"));
    let server = HttpServer::new(dir.path());
    assert_arrives(Rig::new(&config(&server.url("clip.mp4"), 50.0)), PixelFormat::I420, (320, 240));

    let again = SourceConfig { repeat: true, ..config(&server.url("clip.mp4"), 50.0) };
    let rig = Rig::new(&again);
    wait_for("the clip's third showing", || (rig.status().reconnects >= 2).then_some(()));
    rig.end();

    let rig = Rig::new(&config(&server.url("missing.mp4"), 50.0));
    let SourceState::Retrying { why, .. } = rig.failure() else { panic!("{:?}", rig.status()) };
    assert!(why.contains("missing.mp4"), "{why}");
    rig.end();
}

#[test]
fn http_live_streaming() {
    let dir = tempfile::tempdir().expect("folder");
    let mut list = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n".to_owned();
    for n in 0..4 {
        clip(&dir.path().join(format!("{n}.ts")), (320, 240), &format!("{H264} ! h264parse ! mpegtsmux"));
        list += &format!("#EXT-X-DISCONTINUITY\n#EXTINF:1.0,\n{n}.ts\n");
    }
    list += "#EXT-X-ENDLIST\n";
    std::fs::write(dir.path().join("list.m3u8"), list).expect("written");
    let server = HttpServer::new(dir.path());
    assert_arrives(Rig::new(&config(&server.url("list.m3u8"), 5.0)), PixelFormat::I420, (320, 240));
}

#[test]
fn a_motion_jpeg_camera_over_http_with_an_odd_size() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("camera.multipart");
    clip(&file, (321, 241), "jpegenc quality=90 ! multipartmux boundary=frame");
    let server = HttpServer::new(dir.path());
    assert_arrives(Rig::new(&config(&server.url("camera.multipart"), 50.0)), PixelFormat::Mjpg, (321, 241));
}

#[test]
fn odd_sizes_in_full_chroma() {
    // With chroma in half resolution H.264 has even sizes only.
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("odd.mkv");
    clip(&path, (321, 241), &format!("videoconvert ! video/x-raw,format=Y444 ! {H264} ! matroskamux"));
    assert_arrives(Rig::new(&config(path.to_str().expect("text"), 50.0)), PixelFormat::Rgb24, (321, 241));
}
