//! Cameras and web servers as found in the field: Motion JPEG without timestamps or without its
//! first boundary, a login page instead of a stream, sound without video, pictures with alpha.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gstreamer::prelude::*;
use image::{Rgb, RgbImage};
use spotd::clock::SystemClock;
use spotd::frame::PixelFormat;
use spotd::health::SourceState;
use spotd::source::SourceError;
use spotd::source::SourceUri;
use spotd::source::gstreamer::read_video;
use support::{Rig, config, play};

/// What a camera's web server sends to every client.
#[derive(Clone)]
struct Camera {
    /// Its content type.
    content: String,
    /// In front of everything.
    head: Vec<u8>,
    /// Repeated, one after each pause.
    part: Vec<u8>,
    pause: Duration,
}

impl Camera {
    /// Starts it, and returns its address.
    fn start(self) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let camera = self.clone();
                // A client that goes away in the middle does not matter.
                std::thread::spawn(move || drop(camera.serve(&client)));
            }
        });
        format!("http://127.0.0.1:{port}/stream")
    }

    fn serve(&self, client: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(client);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let mut out = client;
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nConnection: close\r\n\r\n", self.content)?;
        out.write_all(&self.head)?;
        while !self.part.is_empty() {
            out.write_all(&self.part)?;
            std::thread::sleep(self.pause);
        }
        Ok(())
    }
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| Rgb([(x * 3 % 200) as u8, (y * 5 % 200) as u8, 90]));
    let mut bytes = Vec::new();
    image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).expect("encoded");
    bytes
}

/// A Motion JPEG camera of five frames a second.
fn motion_jpeg(head: &str, part: &str) -> Camera {
    let jpeg = jpeg(160, 120);
    let header = format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
    let part = part.replace("HEADER", &header);
    let (before, after) = part.split_once("JPEG").expect("a picture");
    Camera {
        content: "multipart/x-mixed-replace;boundary=frame".into(),
        head: head.replace("HEADER", &header).into_bytes(),
        part: [before.as_bytes(), &jpeg, after.as_bytes()].concat(),
        pause: Duration::from_millis(200),
    }
}

#[test]
fn a_stream_without_times_is_timed_by_its_arrival() {
    let url = motion_jpeg("", "--frame\r\nHEADERJPEG\r\n").start();
    let begun = Instant::now();
    let mut at = Vec::new();
    let uri = SourceUri::parse(&url).expect("parses");
    let summary = read_video(&uri, 2.0, &SystemClock::shared(), |frame| {
        at.push(frame.arrived.as_secs_f64());
        if frame.arrived > Duration::from_secs(4) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    // Five frames a second, so 4 s are 20 frames, and 25 frames a second would have made 20 s of
    // them.
    let (spent, summary) = (begun.elapsed(), summary.expect("reads"));
    assert!((Duration::from_secs(4)..Duration::from_secs(12)).contains(&spent), "4 s took {spent:?}");
    assert!(summary.decoded <= 25, "{summary:?}");
    // One in each half of a second.
    assert!(at.len() >= 5 && at.windows(2).all(|w| (w[0] * 2.0).floor() < (w[1] * 2.0).floor()), "{at:?}");
}

/// Raw H.264 without a container, which states 25 frames a second, split into access units.
fn bare_h264(frames: usize) -> Vec<Vec<u8>> {
    gstreamer::init().expect("GStreamer");
    let text = format!(
        "videotestsrc num-buffers={frames} ! video/x-raw,format=I420,width=160,height=120,framerate=25/1 \
         ! x264enc tune=zerolatency key-int-max=5 ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=s sync=false"
    );
    let bin =
        gstreamer::parse::launch(&text).expect("a pipeline").downcast::<gstreamer::Bin>().expect("a bin");
    let sink = bin.by_name("s").and_then(|s| s.downcast::<gstreamer_app::AppSink>().ok()).expect("a sink");
    bin.set_state(gstreamer::State::Playing).expect("plays");
    let units = std::iter::from_fn(|| sink.pull_sample().ok())
        .map(|sample| sample.buffer().expect("a buffer").map_readable().expect("mapped").to_vec())
        .collect();
    bin.set_state(gstreamer::State::Null).expect("ends");
    units
}

#[test]
fn bare_h264_is_timed_by_its_arrival_too_and_a_file_of_it_by_its_rate() {
    let units = bare_h264(60);
    // Five frames a second, whatever the stream states.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("its address");
    let sent = units.clone();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: video/h264\r\nConnection: close\r\n\r\n";
            // A client that goes away in the middle does not matter.
            let _ = client.write_all(head.as_bytes());
            for unit in &sent {
                let _ = client.write_all(unit);
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    });
    let uri = SourceUri::parse(&format!("http://{address}/live")).expect("parses");
    let mut at = Vec::new();
    let read = read_video(&uri, 25.0, &SystemClock::shared(), |frame| {
        at.push(frame.arrived.as_secs_f64());
        if frame.arrived > Duration::from_secs(4) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    // 4 s are 20 frames; by the stated rate they would have been 100, more than there are.
    read.expect("reads");
    assert!(at.len() <= 30 && at.last() > Some(&4.0), "{at:?}");

    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("film.h264");
    std::fs::write(&path, units.concat()).expect("written");
    let uri = SourceUri::parse(path.to_str().expect("text")).expect("parses");
    let mut last = 0.0;
    let read = read_video(&uri, 25.0, &SystemClock::shared(), |frame| {
        last = frame.arrived.as_secs_f64();
        ControlFlow::Continue(())
    });
    assert_eq!(read.expect("reads").decoded, 60);
    assert!((2.2..2.5).contains(&last), "{last}");
}

#[test]
fn motion_jpeg_without_its_first_boundary_is_read() {
    // As older ESP32-CAM send it, with the picture alone in front, and as most do, with a blank
    // line in front.
    for (head, part) in [
        ("", "HEADERJPEG\r\n--frame\r\n"),
        ("", "JPEG\r\n--frame\r\nHEADER"),
        ("\r\n", "--frame\r\nHEADERJPEG\r\n"),
    ] {
        let rig = Rig::new(&config(&motion_jpeg(head, part).start(), 50.0));
        for _ in 0..3 {
            let frame = rig.frame();
            assert_eq!((frame.format, frame.width, frame.height), (PixelFormat::Mjpg, 160, 120), "{part}");
            frame.decoded().expect("a whole picture");
        }
        assert_eq!(rig.status().reconnects, 0, "{part}");
        rig.end();
    }
}

#[test]
fn a_web_page_is_called_one() {
    let page = |content: &str, body: &str| {
        let body = body.as_bytes().to_vec();
        Camera { content: content.into(), head: body, part: vec![], pause: Duration::ZERO }.start()
    };
    for url in [
        page(
            "text/html; charset=utf-8",
            "<!DOCTYPE html><html><head><title>Login</title></head><body><form></form></body></html>",
        ),
        page("text/html", "<script>location = '/login'</script>"),
        page("application/octet-stream", "<!DOCTYPE html><html><body>Please log in</body></html>"),
    ] {
        let rig = Rig::new(&config(&url, 5.0));
        let SourceState::Failed { why } = rig.failure() else { panic!("{:?}", rig.status()) };
        assert!(why.contains("web page") && why.contains("login") && why.contains(&url), "{why}");
        rig.end();
    }
}

/// The error of reading a file.
fn failure(path: &Path) -> SourceError {
    let uri = SourceUri::File(path.into());
    read_video(&uri, 5.0, &SystemClock::shared(), |_| ControlFlow::Continue(())).expect_err("has no video")
}

#[test]
fn sound_without_pictures_is_called_that_with_and_without_a_cover() {
    let dir = tempfile::tempdir().expect("a folder");
    let cover = dir.path().join("cover.jpg");
    std::fs::write(&cover, jpeg(64, 64)).expect("written");
    for name in ["plain.wav", "plain.flac", "plain.ogg", "plain.m4a"] {
        let path = dir.path().join(name);
        let encoder = match name.rsplit_once('.').expect("an ending").1 {
            "wav" => "wavenc",
            "flac" => "flacenc",
            "ogg" => "vorbisenc ! oggmux",
            _ => "avenc_aac ! mp4mux",
        };
        play(&format!(
            "audiotestsrc num-buffers=20 ! audioconvert ! {encoder} ! filesink location=\"{}\"",
            path.display()
        ));
        assert_sound(&path);
    }
    for name in ["cover.mp3", "cover.m4a", "cover.flac"] {
        let path = dir.path().join(name);
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", "sine=duration=1", "-i"])
            .arg(&cover)
            .args(["-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic"])
            .arg(&path)
            .status();
        assert!(made.expect("ffmpeg runs").success());
        assert_sound(&path);
    }
}

fn assert_sound(path: &Path) {
    match failure(path) {
        SourceError::Configuration(why) => {
            assert!(why.contains("has no video, only sound"), "{why}");
            assert!(!why.contains("install"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pictures_with_alpha_play() {
    let dir = tempfile::tempdir().expect("a folder");
    for codec in ["libvpx", "libvpx-vp9"] {
        let path = dir.path().join(format!("{codec}.webm"));
        let made = Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                "smptebars=size=320x240:rate=10:duration=3,format=yuva420p",
            ])
            .args(["-c:v", codec, "-auto-alt-ref", "0", "-pix_fmt", "yuva420p", "-b:v", "2M", "-g", "5"])
            .arg(&path)
            .status();
        assert!(made.expect("ffmpeg runs").success());
        let mut seen = 0;
        let read = read_video(&SourceUri::File(path.clone()), 100.0, &SystemClock::shared(), |frame| {
            assert_eq!((frame.format, frame.width, frame.height), (PixelFormat::Rgb24, 320, 240));
            support::assert_bars(&frame.to_rgb().expect("pixels"));
            seen += 1;
            ControlFlow::Continue(())
        });
        read.unwrap_or_else(|e| panic!("{codec}: {e}"));
        assert!(seen >= 25, "{codec}: {seen} of 30 frames");
        // And as the daemon plays it, which decodes key frames alone where it can.
        let rig = Rig::new(&config(path.to_str().expect("text"), 1.0));
        support::assert_bars(&rig.frame().to_rgb().expect("pixels"));
        rig.wait_for_state("the end", |s| *s == SourceState::Ended);
        rig.end();
    }
}
