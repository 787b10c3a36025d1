//! Readers that go away: `spotd ... | head -1`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};

use crate::setup::Site;
use crate::support::rtsp::RtspServer;
use crate::support::{h264, wait_for};

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spotd starts")
}

/// Closes the reading end, and waits for a silent end by SIGPIPE.
fn assert_ends(mut child: Child, what: &str) {
    drop(child.stdout.take());
    let status = wait_for(what, || child.try_wait().expect("asked"));
    assert_eq!((status.code(), status.signal()), (None, Some(13)), "{what}");
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("UTF-8");
    // It may log what it is doing, but not that it ends.
    assert!(!said.contains("rror") && !said.contains("panicked"), "{what}: {said}");
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    // Only one line is read.
    let out = child.stdout.as_mut().expect("a pipe");
    BufReader::with_capacity(1, out).read_line(&mut line).expect("a line");
    line
}

#[test]
fn a_log_that_is_followed_ends_with_its_reader() {
    let site = Site::new();
    let mut child = start(&mut site.spotd("log --follow flags"));
    assert!(first_line(&mut child).contains("cam"));
    assert_ends(child, "log --follow, which waits for records");
}

#[test]
fn a_scan_ends_with_its_reader() {
    let site = Site::new();
    let mut child = start(&mut site.spotd("scan --jobs 1 --model brightness.onnx footage"));
    first_line(&mut child);
    assert_ends(child, "scan of a folder");
}

#[test]
fn so_does_one_that_waits_or_watches() {
    let site = Site::new();
    // It accepts connections and stays silent.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port();
    let live = RtspServer::new(&h264(320, 240, 15), "rtph264pay");
    for address in [format!("rtsp://127.0.0.1:{port}/x"), live.url("/live")] {
        for command in [
            format!("scan --seconds 3600 --model brightness.onnx {address}"),
            format!(
                "calibrate --seconds 3600 --model brightness.onnx --per-day 1 --out x.toml --real {address}"
            ),
        ] {
            let child = start(&mut site.spotd(&command));
            assert_ends(child, &command);
        }
    }
}

#[test]
fn the_daemon_does_not_depend_on_a_reader() {
    let site = Site::new();
    let mut child = start(&mut site.spotd("run --source footage --fps 20 --log-dir new"));
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("waited").code(), Some(0));
}
