//! Contribution formats: RTMP and RIST from real senders, and the errors when a plug-in, a card or
//! trust is missing.

#[path = "common/authority.rs"]
mod authority;
mod support;
#[path = "common/tls.rs"]
mod tls;
#[path = "support/whep.rs"]
mod whep;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use spotd::frame::PixelFormat;
use spotd::health::SourceState;
use spotd::source::SourceUri;
use support::{Rig, Sender, assert_bars, config, free_port, h264, wait_for};

/// nginx with its RTMP module, and a sender that pushes the colour bars to it; both end when
/// dropped.
struct RtmpServer {
    nginx: Child,
    _pushes: Sender,
    _folder: tempfile::TempDir,
}

impl RtmpServer {
    fn new(port: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display();
        let text = format!(
            "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
             daemon off; master_process off; pid {path}/pid; error_log {path}/errors;\n\
             events {{}}\n\
             rtmp {{ access_log off; server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), text).expect("written");
        let nginx = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .arg("-e")
            .arg(folder.path().join("errors"))
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx runs (tools/setup.sh test installs it)");
        wait_for("the RTMP server", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let pushes = Sender::new(&format!(
            "{} ! h264parse ! flvmux streamable=true ! rtmp2sink location=rtmp://127.0.0.1:{port}/live/camera",
            h264(322, 242, 15)
        ));
        Self { nginx, _pushes: pushes, _folder: folder }
    }
}

impl Drop for RtmpServer {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

#[test]
fn rtmp_is_pulled_and_found_again_when_its_server_went_away() {
    let port = free_port();
    let server = RtmpServer::new(port);
    let rig = Rig::new(&config(&format!("rtmp://127.0.0.1:{port}/live/camera"), 15.0));
    let frame = rig.frame();
    assert_eq!((frame.width, frame.height, frame.format), (322, 242, PixelFormat::I420));
    assert_bars(&frame.to_rgb().expect("pixels"));
    assert_eq!(rig.status().state, SourceState::Live);
    drop(server);
    let SourceState::Retrying { why, .. } = rig.failure() else { panic!("{:?}", rig.status()) };
    assert!(why.contains(&format!("rtmp://127.0.0.1:{port}/live/camera")), "{why}");
    let before = rig.status().frames;
    let _server = RtmpServer::new(port);
    wait_for("frames of the new server", || (rig.status().frames > before + 2).then_some(()));
    rig.end();
}

#[test]
fn rtmp_runs_by_its_sender_and_scan_watches_it_for_as_long_as_it_is_told() {
    use spotd::clock::SystemClock;
    use std::ops::ControlFlow;

    let port = free_port();
    let _server = RtmpServer::new(port);
    let uri = SourceUri::parse(&format!("rtmp://127.0.0.1:{port}/live/camera")).expect("parses");
    let clock = SystemClock::shared();
    let mut seen: Vec<(f64, f64)> = Vec::new();
    let mut begun = 0.0;
    // Nobody may have pushed yet.
    wait_for("the stream", || {
        seen.clear();
        begun = clock.now().as_secs_f64();
        let read = spotd::source::gstreamer::read_video(&uri, 5.0, &clock, |frame| {
            seen.push((frame.arrived.as_secs_f64(), clock.now().as_secs_f64()));
            let first = seen[0].0;
            if frame.arrived.as_secs_f64() >= first + 9.0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        read.ok()
    });
    let spent = seen.last().expect("frames").1 - begun;
    assert!((8.0..30.0).contains(&spent), "9 s of the stream took {spent} s: {seen:?}");
    // Frames are not held back for sound that never comes: otherwise the first seconds would arrive
    // all at once.
    let (first, begins) = seen[0];
    let after = seen.iter().find(|(at, _)| *at >= first + 4.0).expect("frames").1 - begins;
    assert!(after > 2.0, "the first 4 s came within {after} s: {seen:?}");
}

#[test]
fn rtmp_with_sound_plays_and_sound_alone_is_called_that() {
    let port = free_port();
    let server = RtmpServer::new(port);
    let sound = "audiotestsrc is-live=true ! audio/x-raw,rate=44100 ! avenc_aac ! aacparse ! m.";
    let push = |pictures: &str, name: &str| {
        Sender::new(&format!(
            "flvmux name=m streamable=true ! rtmp2sink location=rtmp://127.0.0.1:{port}/live/{name}  {sound}  {pictures}"
        ))
    };
    let _both = push(&format!("{} ! h264parse ! m.", h264(322, 242, 15)), "both");
    let _alone = push("", "sound");
    let rig = Rig::new(&config(&format!("rtmp://127.0.0.1:{port}/live/both"), 15.0));
    assert_bars(&rig.frame().to_rgb().expect("pixels"));
    wait_for("more of them", || (rig.status().frames > 20).then_some(()));
    assert_eq!(rig.status().state, SourceState::Live);
    rig.end();
    let why = why(&format!("rtmp://127.0.0.1:{port}/live/sound"));
    assert!(why.contains("no video, only sound (audio/mpeg)"), "{why}");
    drop(server);
}

#[test]
fn rtmps_is_pulled_where_the_certificate_is_trusted() {
    let port = free_port();
    let _server = RtmpServer::new(port);
    let authority = authority::Authority::new();
    let port = tls::front(port, &authority.file("server.pem"), &authority.file("server.key"));
    let spotd = env!("CARGO_BIN_EXE_spotd");
    let scan = format!("{spotd} scan --json --seconds 2 rtmps://localhost:{port}/live/camera");
    // What this machine trusts is one file; a mount namespace has another in its place.
    let may = Command::new("unshare").args(["-m", "--propagation", "private", "true"]).status();
    if !may.is_ok_and(|may| may.success()) {
        eprintln!("\n*** SKIPPED: no mount namespace can be made here; run as root ***\n");
        return;
    }
    let trust =
        format!("mount --bind {} /etc/ssl/certs/ca-certificates.crt", authority.file("ca.pem").display());
    let run = |first: &str| {
        let script = format!("{first} && exec {scan}");
        let shell = ["-m", "--propagation", "private", "sh", "-c", &script];
        Command::new("unshare").args(shell).output().expect("unshare runs")
    };
    let refused = run("true");
    let said = String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("certificate") && said.contains("update-ca-certificates"), "{said}");
    let done = run(&trust);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let told: serde_json::Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert!(told["frames"].as_u64() > Some(1), "{told} {said}");
}

#[test]
fn rist_is_waited_for_and_arrives() {
    let port = free_port() & !1;
    let rig = Rig::new(&config(&format!("rist://127.0.0.1:{port}?buffer=200"), 5.0));
    let stream =
        format!("{} ! h264parse config-interval=-1 ! mpegtsmux alignment=7 ! rtpmp2tpay", h264(320, 240, 15));
    let send =
        || Sender::new(&format!("{stream} ! ristsink address=127.0.0.1 port={port} sender-buffer=500"));
    let sender = send();
    let frame = rig.frame();
    assert_eq!((frame.width, frame.height), (320, 240));
    assert_bars(&frame.to_rgb().expect("pixels"));
    drop(sender);
    while rig.try_frame().is_some() {}
    let before = rig.status().frames;
    let _sender = send();
    wait_for("frames of the next sender", || (rig.status().frames > before + 2).then_some(()));
    rig.end();
}

/// Why a source fails.
fn why(uri: &str) -> String {
    let rig = Rig::new(&config(uri, 5.0));
    let (SourceState::Retrying { why, .. } | SourceState::Failed { why }) = rig.failure() else { panic!() };
    rig.end();
    why
}

fn has(element: &str) -> bool {
    gstreamer::init().expect("GStreamer");
    gstreamer::ElementFactory::find(element).is_some()
}

#[test]
fn whep_goes_to_the_part_that_speaks_it() {
    gstreamer::init().expect("GStreamer");
    // In a separate process: other tests need the element to be missing.
    if std::env::var_os("SPOTD_WHEP_DOUBLE").is_none() {
        if has("whepclientsrc") {
            return;
        }
        let own = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "whep_goes_to_the_part_that_speaks_it", "--nocapture"])
            .env("SPOTD_WHEP_DOUBLE", "1")
            .status();
        assert!(own.expect("it starts").success());
        return;
    }
    whep::register();
    let rig = Rig::new(&config("wheps://server.lan/camera/whep?token=abc", 15.0));
    assert_bars(&rig.frame().to_rgb().expect("pixels"));
    rig.end();
    assert_eq!(whep::endpoint().as_deref(), Some("https://server.lan/camera/whep?token=abc"));
}

#[test]
fn an_element_that_is_missing_is_named_with_what_has_it() {
    for (uri, element, package) in [
        ("whep://127.0.0.1:1/camera/whep", "whepclientsrc", "rswebrtc"),
        ("ndi://STUDIO (Camera 1)", "ndisrc", "plug-in ndi of gst-plugins-rs"),
    ] {
        let why = why(uri);
        if !has(element) {
            assert!(why.contains(element) && why.contains(package), "{why}");
        }
    }
}

#[test]
fn a_card_that_is_not_there_and_a_mode_that_none_has_are_named() {
    let unknown = why("decklink://0?mode=1080q50");
    assert!(unknown.contains("mode=1080q50") && unknown.contains("1080i50"), "{unknown}");
    if !Path::new("/dev/blackmagic").exists() {
        let why = why("decklink://0?mode=1080i50&connection=sdi");
        assert!(why.contains("decklink://0") && why.contains("Desktop Video"), "{why}");
    }
}

#[test]
fn a_server_whose_certificate_nobody_signed_is_for_people_to_mend() {
    let dir = tempfile::tempdir().expect("a folder");
    let (key, certificate) = (dir.path().join("key.pem"), dir.path().join("cert.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl runs").success());
    let port = free_port();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-accept", &port.to_string(), "-key"])
        .arg(&key)
        .arg("-cert")
        .arg(&certificate)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let rig = Rig::new(&config(&format!("rtmps://127.0.0.1:{port}/live/camera"), 5.0));
    let why = wait_for("the refusal of its certificate", || match rig.status().state {
        SourceState::Failed { why } => Some(why),
        _ => None,
    });
    assert!(why.contains("certificate") && why.contains("update-ca-certificates"), "{why}");
    rig.end();
    let _ = server.kill();
    let _ = server.wait();
}
