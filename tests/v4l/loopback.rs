//! A camera that sends JPEG images: v4l2loopback passes on what is written into it, complete or
//! not.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use spotd::frame::PixelFormat;
use spotd::health::SourceState;
use v4l::video::Output;
use v4l::{Device, Format, FourCC};

use super::support::{Rig, wait_for};
use super::{NODE, assert_eight_bars, bar, busybox, camera, why};
use crate::SMALL;

const SIZE: (u32, u32) = (640, 360);

/// The loaded driver; unloaded when dropped.
struct Loopback;

impl Loopback {
    fn load() -> Self {
        // With these the node shows itself as a camera only while somebody writes, as programs
        // expect it.
        busybox("modprobe", "v4l2loopback exclusive_caps=1 video_nr=0 max_buffers=4");
        wait_for(NODE, || std::path::Path::new(NODE).exists().then_some(()));
        Self
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        busybox("rmmod", "v4l2loopback");
    }
}

/// What the camera does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Doing {
    Whole,
    /// Every second image lacks its second half.
    Cut,
    Silent,
    Gone,
}

/// Writes ten images a second until stopped.
struct Camera {
    doing: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
}

impl Camera {
    fn start() -> Self {
        let format = Format::new(SIZE.0, SIZE.1, FourCC::new(b"MJPG"));
        let mut device = Device::with_path(NODE).expect("opens");
        let got = Output::set_format(&device, &format).expect("a format of the driver");
        assert_eq!(&got.fourcc.repr, b"MJPG");
        let image = RgbImage::from_fn(SIZE.0, SIZE.1, |x, _| image::Rgb(bar((x * 8 / SIZE.0) as usize)));
        let mut file = Vec::new();
        JpegEncoder::new_with_quality(&mut file, 95).encode_image(&image).expect("encodes");
        assert!(file.len() < got.size as usize, "{} bytes in a buffer of {}", file.len(), got.size);
        let doing = Arc::new(AtomicU8::new(Doing::Whole as u8));
        let told = doing.clone();
        let thread = std::thread::spawn(move || {
            for n in 0u64.. {
                let what = told.load(Ordering::SeqCst);
                if what == Doing::Gone as u8 {
                    break;
                }
                let half = what == Doing::Cut as u8 && n % 2 == 0;
                let bytes = if half { &file[..file.len() / 2] } else { &file[..] };
                if what != Doing::Silent as u8 {
                    device.write_all(bytes).expect("written");
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { doing, thread: Some(thread) }
    }

    fn now(&self, doing: Doing) {
        self.doing.store(doing as u8, Ordering::SeqCst);
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.now(Doing::Gone);
        let ended = self.thread.take().expect("once").join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

#[test]
fn jpeg_camera_sends_whole_and_cut_images() {
    let _driver = Loopback::load();
    let jpeg = Camera::start();
    let rig = Rig::new(&camera(&format!("format=MJPG&{SMALL}")));
    let frame = rig.frame();
    assert_eq!((frame.format, frame.width, frame.height), (PixelFormat::Mjpg, SIZE.0, SIZE.1));
    assert_eight_bars(&frame.to_rgb().expect("pixels"), true);
    drop(frame);
    jpeg.now(Doing::Cut);
    let cut = || rig.status().dropped.get("corrupt-jpeg").copied().unwrap_or(0);
    wait_for("cut images", || (cut() >= 5).then_some(()));
    let frame = rig.frame();
    assert_eight_bars(&frame.to_rgb().expect("pixels"), true);
    drop(frame);
    assert_eq!(rig.status().reconnects, 0, "whole images kept it alive");
    rig.end();
}

#[test]
fn jpeg_camera_falls_silent_and_comes_back() {
    let _driver = Loopback::load();
    let jpeg = Camera::start();
    let mut config = camera(&format!("format=MJPG&{SMALL}"));
    config.stall_timeout = Some(Duration::from_secs(2));
    let rig = Rig::new(&config);
    rig.frame();
    jpeg.now(Doing::Silent);
    rig.wait_for_state("silence", |s| *s == SourceState::Stalled);
    let why = why(rig.failure());
    assert!(why.contains("no frame"), "{why}");
    jpeg.now(Doing::Whole);
    rig.wait_for_state("frames again", |s| *s == SourceState::Live);
    while rig.try_frame().is_some() {}
    let frame = rig.frame();
    assert_eight_bars(&frame.to_rgb().expect("pixels"), true);
    drop(frame);
    rig.end();
}
