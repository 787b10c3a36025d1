//! Cameras with a real kernel driver, `vivid`, which fails on demand.
//!
//! Only for the guest of `make test-vm`: the tests load and unload kernel modules.

mod loopback;
#[path = "../common/model.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod model;
#[path = "../common/networks.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod networks;
mod power;
mod quantize;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use image::RgbImage;
use spotd::clock::SystemClock;
use spotd::frame::{Matrix, PixelFormat};
use spotd::health::SourceState;
use spotd::source::SourceConfig;
use spotd::source::probe::probe;
use support::{LONG, Rig, config, wait_for};
use v4l::control::{Control, Value};
use v4l::video::Capture;
use v4l::{Device, Format, FourCC};

const NODE: &str = "/dev/video0";
/// A webcam with one input.
const WEBCAM: &str = "num_inputs=1 input_types=0";
/// Small and slow enough for an emulated processor.
const SMALL: &str = "size=640x360&fps=10";

/// vivid's controls, numbered as in its source.
mod control {
    pub const PATTERN: u32 = 0x00f0_f000;
    pub const TEXT: u32 = 0x00f0_f001;
    pub const COLORSPACE: u32 = 0x00f0_f019;
    pub const TRANSFER: u32 = 0x00f0_f01a;
    pub const ENCODING: u32 = 0x00f0_f01b;
    pub const QUANTIZATION: u32 = 0x00f0_f01c;
    pub const SIGNAL_MODE: u32 = 0x00f0_f03e;
    pub const SIGNAL: u32 = 0x00f0_f03f;
    pub const PERCENT_DROPPED: u32 = 0x00f0_f040;
    pub const DISCONNECT: u32 = 0x00f0_f041;
    pub const BUFFER_ERROR: u32 = 0x00f0_f042;
    pub const SETUP_ERROR: u32 = 0x00f0_f043;
    pub const QUEUE_ERROR: u32 = 0x00f0_f044;
    pub const START_ERROR: u32 = 0x00f0_f045;
    pub const FATAL_ERROR: u32 = 0x00f0_f046;
}

fn busybox(applet: &str, arguments: &str) {
    let done = Command::new("/bin/busybox").arg(applet).args(arguments.split_whitespace()).output();
    let done = done.expect("busybox");
    assert!(done.status.success(), "{applet} {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The loaded driver; unloaded when dropped.
struct Vivid;

impl Vivid {
    fn load(parameters: &str) -> Self {
        busybox("modprobe", &format!("vivid n_devs=1 node_types=0x1 num_outputs=0 {parameters}"));
        wait_for(NODE, || Path::new(NODE).exists().then_some(()));
        // The text would hide the bars.
        set(control::TEXT, 2);
        Self
    }
}

impl Drop for Vivid {
    fn drop(&mut self) {
        // A source that a failed test left behind is told to stop, and holds the camera until it
        // does.
        let unloaded = || {
            Command::new("/bin/busybox").args(["rmmod", "vivid"]).output().expect("busybox").status.success()
        };
        let begun = Instant::now();
        while !unloaded() {
            if begun.elapsed() > Duration::from_secs(15) {
                let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
                let open: Vec<_> = open.filter_map(|e| std::fs::read_link(e.path()).ok()).collect();
                let modules = std::fs::read_to_string("/proc/modules").unwrap_or_default();
                println!("vivid does not unload, and what follows will fail; open: {open:?}\n{modules}");
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn set(id: u32, value: i64) {
    let device = Device::with_path(NODE).expect("opens");
    device.set_control(Control { id, value: Value::Integer(value) }).expect("a control of vivid");
}

/// The camera as a source, at most 30 frames a second.
fn camera(query: &str) -> SourceConfig {
    config(&format!("v4l2://{NODE}?{query}"), 30.0)
}

/// A running camera that has delivered.
fn live(query: &str) -> Rig {
    let rig = Rig::new(&camera(query));
    rig.frame();
    rig
}

/// Checks that frames come after the camera was disturbed, from a run that began later.
fn assert_back(rig: &Rig, reconnects: u64) {
    wait_for("another run", || (rig.status().reconnects > reconnects).then_some(()));
    rig.wait_for_state("frames again", |s| *s == SourceState::Live);
    while rig.try_frame().is_some() {}
    rig.frame();
}

/// Why a source fails.
fn why(state: SourceState) -> String {
    match state {
        SourceState::Retrying { why, .. } | SourceState::Failed { why } => why,
        other => panic!("{other:?}"),
    }
}

/// The colour of a bar of eight, as vivid draws them: at 75 %.
fn bar(n: usize) -> [u8; 3] {
    let on = [[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]];
    on[n].map(|on: u8| on * 191)
}

/// Checks that the picture is the eight colour bars.
fn assert_eight_bars(image: &RgbImage, colour: bool) {
    let (width, y) = (image.width(), image.height() / 2);
    let mut last = 256;
    for n in 0..8 {
        let got = image.get_pixel(width * (2 * n as u32 + 1) / 16, y).0.map(i32::from);
        if colour {
            let want = bar(n).map(i32::from);
            let near = got.iter().zip(want).all(|(g, w)| (g - w).abs() <= 6);
            assert!(near, "bar {n}: {got:?} instead of {want:?}");
        } else {
            // Only luma: the bars are in the order of their brightness.
            assert!(got[0] < last, "bar {n}: {} after {last}", got[0]);
            last = got[0];
        }
    }
}

#[test]
fn every_format_shows_the_drivers_picture() {
    let _vivid = Vivid::load(WEBCAM);
    for (fourcc, format) in [
        ("YUYV", PixelFormat::Yuyv),
        ("UYVY", PixelFormat::Uyvy),
        ("NV12", PixelFormat::Nv12),
        ("YU12", PixelFormat::I420),
        ("YV12", PixelFormat::I420),
        ("RGB3", PixelFormat::Rgb24),
        ("BGR3", PixelFormat::Bgr24),
        ("GREY", PixelFormat::Grey),
    ] {
        let rig = Rig::new(&camera(&format!("format={fourcc}&{SMALL}")));
        let frame = rig.frame();
        assert_eq!((frame.format, frame.width, frame.height), (format, 640, 360), "{fourcc}");
        println!("{fourcc}");
        assert_eight_bars(&frame.to_rgb().expect("pixels"), format != PixelFormat::Grey);
        rig.end();
    }
}

#[test]
fn colours_follow_what_the_driver_says_of_them() {
    let _vivid = Vivid::load(WEBCAM);
    // By the menus of vivid: Rec. 709 is 1 and sRGB 2; BT.601 is 1; full range is 1 and limited 2.
    for (colorspace, encoding, quantization, matrix, full) in
        [(1, 0, 0, Matrix::Bt709, false), (1, 1, 1, Matrix::Bt601, true), (2, 2, 2, Matrix::Bt709, false)]
    {
        set(control::COLORSPACE, colorspace);
        // Otherwise Rec. 709 has a curve of its own, and the bars other numbers.
        set(control::TRANSFER, 2);
        set(control::ENCODING, encoding);
        set(control::QUANTIZATION, quantization);
        let rig = live(&format!("format=YUYV&{SMALL}"));
        let frame = rig.frame();
        assert_eq!((frame.colour.matrix, frame.colour.full_range), (matrix, full));
        assert_eight_bars(&frame.to_rgb().expect("pixels"), true);
        rig.end();
    }
}

#[test]
fn the_best_that_a_camera_offers_is_taken_and_shown() {
    let _vivid = Vivid::load(WEBCAM);
    let found = probe(&config(NODE, 1.0), LONG, &SystemClock::shared()).expect("a camera");
    assert_eq!((found.width, found.height, found.format), (1920, 1080, PixelFormat::Yuyv));
}

#[test]
fn a_driver_that_answers_with_something_else_is_read_as_it_answers() {
    let _vivid = Vivid::load(WEBCAM);
    let rig = Rig::new(&camera("format=MJPG&size=600x350&fps=10"));
    let frame = rig.frame();
    let now = Device::with_path(NODE).expect("opens").format().expect("a format");
    assert_eq!((frame.width, frame.height), (now.width, now.height));
    assert_ne!((frame.width, frame.height), (600, 350));
    assert_eq!(frame.format, PixelFormat::Yuyv);
    assert_eight_bars(&frame.to_rgb().expect("pixels"), true);
    rig.end();
}

#[test]
fn a_stride_that_another_program_left_does_not_shear_the_picture() {
    let _vivid = Vivid::load(WEBCAM);
    let wide = Format { stride: 4096, ..Format::new(640, 360, FourCC::new(b"YUYV")) };
    let left = Device::with_path(NODE).expect("opens").set_format(&wide).expect("a format");
    assert_eq!(left.stride, 4096, "vivid takes strides");
    let rig = Rig::new(&camera(&format!("format=YUYV&{SMALL}")));
    let frame = rig.frame();
    assert_eq!(frame.planes[0].stride, 1280);
    assert_eight_bars(&frame.to_rgb().expect("pixels"), true);
    rig.end();
}

#[test]
fn the_rate_is_as_asked_and_the_fastest_otherwise() {
    let _vivid = Vivid::load(WEBCAM);
    let interval = || {
        let set = Device::with_path(NODE).expect("opens").params().expect("parameters").interval;
        (set.numerator, set.denominator)
    };
    let rig = Rig::new(&camera("format=GREY&size=320x180&fps=5"));
    let first = rig.frame();
    assert_eq!(interval(), (1, 5));
    let mut last = rig.frame();
    while last.seq < first.seq + 5 {
        last = rig.frame();
    }
    // A slow machine delivers later, never earlier.
    let took = last.at.duration_since(first.at).expect("later");
    assert!(took >= Duration::from_millis(900), "5 intervals of 200 ms in {took:?}");
    rig.end();

    let rig = live("format=GREY&size=320x180");
    assert_eq!(interval(), (1, 60));
    rig.end();
}

#[test]
fn a_buffer_that_the_driver_calls_damaged_is_counted_and_the_next_one_counts() {
    let _vivid = Vivid::load(WEBCAM);
    let rig = live(SMALL);
    set(control::BUFFER_ERROR, 1);
    wait_for("the damaged buffer", || rig.status().dropped.get("corrupt").copied());
    rig.frame();
    assert_eq!((rig.status().reconnects, rig.status().state), (0, SourceState::Live));
    rig.end();
}

#[test]
fn frames_that_the_driver_drops_are_counted() {
    let _vivid = Vivid::load(WEBCAM);
    let rig = live(SMALL);
    set(control::PERCENT_DROPPED, 50);
    wait_for("a gap", || rig.status().dropped.get("driver").copied());
    assert_eq!(rig.status().reconnects, 0);
    rig.end();
}

#[test]
fn a_camera_that_is_open_and_silent_is_stalled_then_opened_again() {
    let _vivid = Vivid::load(WEBCAM);
    let rig = Rig::new(&SourceConfig { stall_timeout: Some(Duration::from_secs(3)), ..camera(SMALL) });
    rig.frame();
    set(control::PERCENT_DROPPED, 100);
    rig.wait_for_state("the stall", |s| *s == SourceState::Stalled);
    let why = why(rig.failure());
    assert!(why.contains(NODE) && why.contains("no frame for"), "{why}");
    set(control::PERCENT_DROPPED, 0);
    assert_back(&rig, 0);
    rig.end();
}

#[test]
fn errors_of_a_running_stream_open_the_camera_anew() {
    let _vivid = Vivid::load(WEBCAM);
    let rig = live(SMALL);
    for error in [control::QUEUE_ERROR, control::FATAL_ERROR, control::DISCONNECT] {
        let before = rig.status().reconnects;
        set(error, 1);
        assert_back(&rig, before);
    }
    rig.end();
}

#[test]
fn errors_at_the_start_are_tried_again() {
    let _vivid = Vivid::load(WEBCAM);
    for error in [control::SETUP_ERROR, control::START_ERROR] {
        set(error, 1);
        let rig = live(SMALL);
        assert_eq!(rig.status().reconnects, 1, "the first try failed");
        rig.end();
    }
}

#[test]
fn an_unplugged_camera_is_named_and_comes_back_under_its_stable_name() {
    let _vivid = Vivid::load(WEBCAM);
    let stable = "/dev/v4l/by-id/usb-vivid-video-index0";
    busybox("mkdir", "-p /dev/v4l/by-id");
    busybox("ln", &format!("-sfn {NODE} {stable}"));
    let driver = Path::new("/sys/bus/platform/drivers/vivid");
    let rig = Rig::new(&config(&format!("v4l2://{stable}?{SMALL}"), 30.0));
    rig.frame();
    for plugged in 1..=3 {
        let before = rig.status().reconnects;
        std::fs::write(driver.join("unbind"), "vivid.0").expect("unbinds");
        let state = rig.wait_for_state(
            "what is missing",
            |s| matches!(s, SourceState::Retrying { why, .. } if why.contains("plugged in")),
        );
        let why = why(state);
        assert!(why.contains(stable), "{why}");
        std::fs::write(driver.join("bind"), "vivid.0").expect("binds");
        assert_back(&rig, before);
        assert!(rig.status().reconnects >= plugged);
    }
    rig.end();
}

#[test]
fn a_camera_that_another_program_uses_is_named_and_had_when_it_is_free() {
    let _vivid = Vivid::load(WEBCAM);
    let other = live(SMALL);
    let rig = Rig::new(&camera(SMALL));
    let why = why(rig.failure());
    assert!(why.contains("another program uses it"), "{why}");
    other.end();
    rig.frame();
    rig.end();
}

#[test]
fn relayed_camera_is_listed_with_its_formats() {
    let _vivid = Vivid::load(&format!("{WEBCAM} multiplanar=2"));
    let done = Command::new("/bin/spotd").args(["sources", "--json"]).output().expect("runs");
    let camera: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one object");
    assert!(camera["gstreamer"].as_str().is_some_and(|why| why.contains("separate buffers")), "{camera}");
    let formats = camera["formats"].as_array().expect("formats");
    let planes = formats.iter().find(|f| f["format"] == "NM12").expect("NV12 in two buffers");
    assert_eq!(planes["readable"], true);
    assert!(planes["sizes"].as_array().expect("sizes").iter().any(|s| s["size"] == "640x360"), "{planes}");
    assert!(formats.iter().any(|f| f["readable"] == false), "others are shown as what they are");
}

#[test]
fn relayed_camera_is_closed_before_it_is_opened_again() {
    let _vivid = Vivid::load(&format!("{WEBCAM} multiplanar=2"));
    let (config, log) = (Path::new("/tmp/relay.toml"), Path::new("/tmp/relay.log"));
    let text = format!(
        "[model]\nmax_tiles = 1\n[log]\ndir = \"/tmp/relay\"\nmin_free_mib = 0\n\
         [[source]]\nid = \"cam\"\nuri = \"v4l2://{NODE}?format=NV12&{SMALL}\"\nfps = 0.5\n"
    );
    std::fs::write(config, text).expect("written");
    let mut daemon = Command::new("/bin/spotd")
        .args(["run", "--config"])
        .arg(config)
        .stderr(std::fs::File::create(log).expect("a file"))
        .spawn()
        .expect("starts");
    let mut open = Vec::new();
    for n in 1..=4 {
        let said = || std::fs::read_to_string(log).expect("a log");
        wait_for("frames", || (said().matches("delivers").count() >= n).then_some(()));
        let files = std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).expect("it runs").flatten();
        open.push(
            files.filter(|e| std::fs::read_link(e.path()).is_ok_and(|to| to == Path::new(NODE))).count(),
        );
        set(control::FATAL_ERROR, 1);
    }
    daemon.kill().expect("runs");
    daemon.wait().expect("ends");
    // The element's own and one of its buffers, or none while it is taken down.
    assert!(open.iter().all(|n| *n <= 2), "descriptors of the camera, connection by connection: {open:?}");
}

#[test]
fn relayed_planes_in_separate_buffers() {
    let _vivid = Vivid::load(&format!("{WEBCAM} multiplanar=2"));
    let rig = Rig::new(&camera(&format!("format=NV12&{SMALL}")));
    let frame = rig.frame();
    assert_eq!((frame.format, frame.width, frame.height), (PixelFormat::Nv12, 640, 360));
    assert_eight_bars(&frame.to_rgb().expect("pixels"), true);
    drop(frame);
    rig.end();
}

/// v4l2src exports the driver's buffers as DMABUFs: a frame holds that memory itself, and no copy of it.
#[test]
fn relayed_dmabuf_is_mapped_and_not_copied() {
    let _vivid = Vivid::load(WEBCAM);
    let rig = Rig::new(&config(
        &format!(
            "pipeline:v4l2src device={NODE} io-mode=dmabuf ! \
             video/x-raw,format=YUY2,width=640,height=360,framerate=10/1 ! appsink"
        ),
        5.0,
    ));
    let frame = rig.frame();
    assert_eq!((frame.format, frame.width, frame.height), (PixelFormat::Yuyv, 640, 360));
    assert_eight_bars(&frame.to_rgb().expect("pixels"), true);
    let at = frame.bytes().as_ptr() as usize;
    let mappings = std::fs::read_to_string("/proc/self/maps").expect("this process's memory");
    let holds = |line: &&str| {
        let number = |hex: &str| usize::from_str_radix(hex, 16).expect("an address");
        let (from, to) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).expect("a range");
        (number(from)..number(to)).contains(&at)
    };
    let mapping = mappings.lines().find(holds).expect("its memory is mapped");
    assert!(mapping.contains("dmabuf"), "{mapping}");
    drop(frame);
    rig.end();
}

#[test]
fn relayed_receiver_has_the_size_of_its_signal() {
    let _vivid = Vivid::load("num_inputs=1 input_types=3");
    // The signal that is chosen in the list of timings: 720x480.
    set(control::SIGNAL_MODE, 4);
    set(control::SIGNAL, 2);
    let rig = Rig::new(&config(NODE, 5.0));
    let frame = rig.frame();
    assert_eq!((frame.width, frame.height), (720, 480));
    drop(frame);
    rig.end();
}

#[test]
fn sources_are_listed_with_what_they_offer() {
    let _vivid = Vivid::load(WEBCAM);
    busybox("mkdir", "-p /dev/v4l/by-id");
    busybox("ln", &format!("-sfn {NODE} /dev/v4l/by-id/usb-vivid-video-index0"));
    let sources = |arguments: &[&str]| {
        let done = Command::new("/bin/spotd").arg("sources").args(arguments).output().expect("runs");
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).expect("text")
    };
    let json = sources(&["--json"]);
    let camera: serde_json::Value = serde_json::from_str(json.trim()).expect("one object");
    assert_eq!(camera["device"], NODE);
    assert_eq!(camera["uri"], "/dev/v4l/by-id/usb-vivid-video-index0");
    assert_eq!(camera["driver"], "vivid");
    let formats = camera["formats"].as_array().expect("formats");
    let yuyv = formats.iter().find(|f| f["format"] == "YUYV").expect("YUYV");
    let sizes = yuyv["sizes"].as_array().expect("sizes");
    let small = sizes.iter().find(|s| s["size"] == "640x360").expect("640x360");
    assert!(small["rates"].as_array().expect("rates").contains(&10.0.into()), "{small}");
    assert!(yuyv["readable"].as_bool().expect("told"));

    let text = sources(&[]);
    for part in ["/dev/v4l/by-id/usb-vivid-video-index0", "YUYV", "640x360", "vivid"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}
