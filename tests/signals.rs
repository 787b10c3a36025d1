//! How the daemon ends on signals; `tests/reload.rs` has how it reads its configuration again.

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/model.rs"]
#[allow(dead_code, reason = "this file needs only the detector")]
mod model;
#[path = "common/records.rs"]
mod records;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use daemon::Daemon;
use records::{folder, verified};
use spotd::clock::{Clock as _, SystemClock};

const PATIENCE: Duration = Duration::from_secs(90);
/// Bright overall, without flat tiles.
const SOURCE: &str = "videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 ! \
     video/x-raw,format=I420,width=128,height=96,framerate=20/1 ! videobalance brightness=0.35 contrast=0.6 ! \
     appsink";

fn write_config(dir: &Path) -> PathBuf {
    let model = model::write_brightness(dir);
    let path = dir.join("spotd.toml");
    let text = format!(
        "[model]\npath = {model:?}\nworkers = 1\n[[source]]\nid = \"cam\"\nuri = \"{SOURCE}\"\nfps = 20\n\
         [verdict]\nwindow = 3\nmin_frames = 1\n[log]\ndir = \"flags\"\nupdate_seconds = 1\nmin_free_mib = 0\n"
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn wait_for(what: &str, daemon: &Daemon, mut so: impl FnMut(&str) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so(&daemon.log()) {
        assert!(Instant::now() < end, "{what}: it never was; the daemon said:\n{}", daemon.log());
        let _ = SystemClock::new().after(Duration::from_millis(50)).recv();
    }
}

/// Checks that the open event has its end, which no later start had to write.
fn ended_in_order(daemon: &Daemon, flags: &Path) {
    let log = daemon.log();
    assert!(log.contains("stopping: ") && log.contains(" end\n"), "{log}");
    let report = verified(flags, None);
    assert!(report.holds && report.unfinished.is_empty(), "{report:?}");
    let (code, text) = daemon::spotd(&["log", &flags.to_string_lossy(), "--json"]);
    assert_eq!(code, Some(0));
    let last = text.lines().rev().find(|l| l.contains("\"type\":\"event\"")).expect("records");
    assert!(last.contains("\"kind\":\"end\"") && !last.contains("\"reason\""), "{last}");
}

/// Whether this process, and so every daemon that it starts, ignores SIGHUP.
fn hang_ups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let ignored = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).expect("a mask of signals");
    u64::from_str_radix(ignored.trim(), 16).expect("hexadecimal") & 1 == 1
}

#[test]
fn each_signal_that_asks_for_an_end_gets_an_orderly_one() {
    for signal in ["TERM", "INT"] {
        let dir = folder();
        let mut daemon = Daemon::start(&write_config(dir.path()), dir.path());
        wait_for("an event", &daemon, |log| log.contains(" start\n"));
        assert_eq!(daemon.signal(signal), Some(0), "{signal}");
        assert!(
            daemon.log().contains(if signal == "INT" { "interrupted" } else { signal }),
            "{}",
            daemon.log()
        );
        ended_in_order(&daemon, &dir.path().join("flags"));
    }
}

/// Whatever has a terminal ends with it, and so does what has no configuration that could be read again.
#[test]
fn a_terminal_that_closes_asks_for_an_end() {
    if hang_ups_are_ignored() {
        eprintln!(
            "\n*** SKIPPED: SIGHUP, which these tests were told to ignore (nohup): the daemon inherits that ***\n"
        );
        return;
    }
    let dir = folder();
    // `script` gives what it runs a terminal of its own, and closes it when it is ended.
    let program =
        format!("exec {} run --config {}", env!("CARGO_BIN_EXE_spotd"), write_config(dir.path()).display());
    let typed = dir.path().join("typed");
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &program])
        .arg(&typed)
        .env("SPOTD__WEB__ENABLED", "false")
        .env("TERM", "dumb")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("script (util-linux) runs");
    let said = || std::fs::read_to_string(&typed).unwrap_or_default().replace('\r', "");
    let until = |what: &str, so: &dyn Fn(&str) -> bool| {
        let end = Instant::now() + PATIENCE;
        while !so(&said()) {
            assert!(Instant::now() < end, "{what}: it never was; the daemon said:\n{}", said());
            let _ = SystemClock::new().after(Duration::from_millis(50)).recv();
        }
    };
    until("an event", &|log| log.contains(" start\n"));
    // A terminal that closes sends it more than once; the daemon may have ended before the last.
    let daemon = children(script.id()).pop().expect("script runs spotd").to_string();
    for _ in 0..3 {
        let _ = Command::new("kill").args(["-HUP", &daemon]).status().expect("kill");
    }
    let code = script.wait().expect("waited").code();
    assert_eq!(code, Some(0), "{}", said());
    assert!(said().contains("stopping: SIGHUP") && said().contains(" end\n"), "{}", said());
    let report = verified(&dir.path().join("flags"), None);
    assert!(report.holds && report.unfinished.is_empty(), "{report:?}");
}

/// The processes that this one has started.
fn children(of: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).expect("it runs");
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn a_hang_up_that_was_to_be_ignored_is() {
    let dir = folder();
    let mut daemon = Daemon::start_under(&["nohup"], &write_config(dir.path()), dir.path());
    wait_for("an event", &daemon, |log| log.contains(" start\n"));
    assert!(Command::new("kill").args(["-HUP", &daemon.id().to_string()]).status().expect("kill").success());
    let before = daemon.log().len();
    wait_for("it goes on", &daemon, |log| log[before..].contains(" update\n"));
    assert_eq!(daemon.terminate(), Some(0));
    ended_in_order(&daemon, &dir.path().join("flags"));
}
