//! The daemon's own binary, whose log folder is renamed, removed, or mounted over while it watches:
//! it reports that, goes on where the path leads, and does not exit as if nothing had happened.

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/model.rs"]
#[allow(dead_code, reason = "this file needs only the detector")]
mod model;
#[path = "common/records.rs"]
mod records;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use daemon::{Daemon, spotd};
use records::{folder, verified};
use serde_json::Value;
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
         [verdict]\nwindow = 3\nmin_frames = 1\n[log]\ndir = \"flags\"\nupdate_seconds = 1\nmin_free_mib = 0\n\
         [metrics]\nfile = \"spotd.prom\"\nevery_seconds = 1\n"
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn wait_for<T>(what: &str, daemon: &Daemon, mut so: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = so() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: it never was; the daemon said:\n{}", daemon.log());
        let _ = SystemClock::new().after(Duration::from_millis(50)).recv();
    }
}

/// The records in a folder, as whole as they are at this moment.
fn lines(dir: &Path) -> Vec<Value> {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    segments.sort();
    let text: String = segments.iter().filter_map(|p| std::fs::read_to_string(p).ok()).collect();
    text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
}

fn judged(dir: &Path) -> Vec<Value> {
    lines(dir).into_iter().filter(|r| r["evidence"].is_object()).collect()
}

/// Checks that the daemon has noticed that its log was taken away, and that the event goes on in
/// the folder `flags`.
fn goes_on(daemon: &Daemon, flags: &Path, prom: &Path, event: &Value) {
    let record = wait_for("a judged frame in the new log", daemon, || judged(flags).pop());
    assert_eq!(&record["event"], event, "the same event");
    let all = lines(flags);
    assert_eq!((&all[0]["note"], &all[0]["events"][0]), (&"moved".into(), event), "{all:?}");
    let picture = flags.join(record["evidence"]["frame"]["file"].as_str().expect("a name"));
    assert!(picture.exists(), "{} is where the record says", picture.display());
    wait_for("the alarm in the metrics", daemon, || {
        let text = std::fs::read_to_string(prom).ok()?;
        (text.contains("spotd_log_alarm 1\n") && text.contains("spotd_log_displaced_total 1\n")).then_some(())
    });
    let log = daemon.log();
    assert!(log.contains("ERROR") && log.contains("a new log is begun where its path leads now"), "{log}");
}

fn first_event(daemon: &Daemon, flags: &Path) -> Value {
    wait_for("an event", daemon, || judged(flags).first().map(|r| r["event"].clone()))
}

#[test]
fn a_renamed_folder_is_left_and_the_next_one_begun() {
    let dir = folder();
    let (flags, old) = (dir.path().join("flags"), dir.path().join("old"));
    let mut daemon = Daemon::start(&write_config(dir.path()), dir.path());
    let event = first_event(&daemon, &flags);
    std::fs::rename(&flags, &old).expect("renamed");
    goes_on(&daemon, &flags, &dir.path().join("spotd.prom"), &event);
    let report = verified(&old, None);
    assert!(report.holds && report.unfinished.is_empty(), "{report:?}");
    assert_eq!(daemon.terminate(), Some(2), "it does not end as if nothing had been");
    assert!(daemon.log().contains("records and pictures may be elsewhere or gone"), "{}", daemon.log());
    assert!(verified(&flags, None).holds);
    assert!(lines(&flags).iter().any(|r| r["kind"] == "end" && r["event"] == event));
    assert!(!lines(&old).iter().any(|r| r["kind"] == "end"));
}

#[test]
fn a_removed_folder_is_begun_anew_and_what_is_told_of_is_there() {
    let dir = folder();
    let flags = dir.path().join("flags");
    let mut daemon = Daemon::start(&write_config(dir.path()), dir.path());
    let event = first_event(&daemon, &flags);
    let removed = Command::new("rm").arg("-rf").arg(&flags).status();
    assert!(removed.expect("rm runs").success());
    goes_on(&daemon, &flags, &dir.path().join("spotd.prom"), &event);
    assert_eq!(daemon.terminate(), Some(2));
    let (code, text) = spotd(&["verify", &flags.to_string_lossy()]);
    assert_eq!(code, Some(0), "{text}");
}

/// Runs a program in the mount namespace of a process.
fn within(pid: u32, program: &str, args: &[&str]) -> Output {
    let output =
        Command::new("nsenter").args(["-t", &pid.to_string(), "-m", "--", program]).args(args).output();
    output.expect("nsenter runs")
}

#[test]
fn a_disk_that_is_mounted_over_the_folder_gets_the_records_from_then_on() {
    let dir = folder();
    let (flags, prom) = (dir.path().join("flags"), dir.path().join("spotd.prom"));
    let config = write_config(dir.path());
    // A separate namespace, so that this machine's mounts stay as they are.
    let may = Command::new("unshare").args(["-m", "--propagation", "private", "true"]).status();
    if !may.is_ok_and(|s| s.success()) {
        eprintln!("\n*** SKIPPED: no mount namespace can be made here; run as root ***\n");
        return;
    }
    let mut daemon = Daemon::start_under(&["unshare", "-m", "--propagation", "private"], &config, dir.path());
    let event = first_event(&daemon, &flags);
    let path = flags.to_string_lossy().into_owned();
    let mounted = within(daemon.id(), "mount", &["-t", "tmpfs", "-o", "size=32m", "spotd-test", &path]);
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    // What the daemon's namespace has at that path is seen from here through its root.
    let seen = PathBuf::from(format!("/proc/{}/root{path}", daemon.id()));
    goes_on(&daemon, &seen, &prom, &event);
    let under = lines(&flags).len();
    let over = lines(&seen).len();
    wait_for("more records on the disk that was mounted", &daemon, || {
        (lines(&seen).len() > over).then_some(())
    });
    assert_eq!(lines(&flags).len(), under, "nothing more goes into the folder below");
    assert!(verified(&flags, None).holds);
    let spotd = env!("CARGO_BIN_EXE_spotd");
    let verify = within(daemon.id(), spotd, &["verify", &path]);
    assert_eq!(verify.status.code(), Some(0), "{}", String::from_utf8_lossy(&verify.stdout));
    // The disk goes again, and the folder below is gone on with.
    let unmounted = within(daemon.id(), "umount", &["-l", &path]);
    assert!(unmounted.status.success(), "{}", String::from_utf8_lossy(&unmounted.stderr));
    wait_for("more records in the folder below", &daemon, || (judged(&flags).len() > under).then_some(()));
    assert_eq!(daemon.terminate(), Some(2));
    let report = verified(&flags, None);
    assert!(report.holds, "{:?}", report.problems);
    let moved = lines(&flags).iter().filter(|r| r["note"] == "moved").count();
    assert_eq!(moved, 1, "the one that came back says so");
    assert!(
        !lines(&flags).iter().any(|r| r["verdict"] == "unsure" && r["reason"].is_string()),
        "no event was closed as after a crash"
    );
}
