//! Evidence on a full disk, and with a signing key: the daemon's own binary, a real broker, a real
//! full disk.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::daemon::{Daemon, spotd};
use common::model;
use common::mosquitto::{Broker, Message, PATIENCE, Subscriber};
use common::records::{folder, verified};
use common::tmpfs::SmallDisk;
use serde_json::Value;

/// Bright overall, without flat tiles, and with no two equal frames.
const SOURCE: &str = "videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 kt=3 ! \
     video/x-raw,format=I420,width=320,height=256,framerate=10/1 ! videobalance brightness=0.35 contrast=0.6 ! \
     appsink";

/// Sources that are always synthetic, each with a record with pictures every second.
fn write_config(dir: &Path, log: &Path, sources: usize, more: &str) -> PathBuf {
    let model = model::write_brightness(dir);
    let path = dir.join("spotd.toml");
    let mut text = format!(
        "[node]\nname = \"box\"\n[model]\npath = {model:?}\nworkers = 1\nmax_tiles = 4\n\
         [verdict]\nwindow = 3\nmin_frames = 1\n\
         [log]\ndir = {log:?}\nupdate_seconds = 1\nmin_free_mib = 0\n"
    );
    // Tables follow: these lines belong to [log].
    text += more;
    for n in 1..=sources {
        text += &format!("[[source]]\nid = \"cam{n}\"\nuri = \"{SOURCE}\"\nfps = 4\n");
    }
    std::fs::write(&path, text).expect("written");
    path
}

fn wait_for<T>(what: &str, daemon: &Daemon, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(std::time::Instant::now() < end, "{what}: it never was; the daemon said\n{}", daemon.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn openssl(dir: &Path, args: &[&str]) {
    let done = Command::new("openssl").current_dir(dir).args(args).output();
    let done = done.expect("openssl starts; `make test` installs it");
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_daemon_with_a_key_signs_and_verify_holds_it_against_the_public_one() {
    let dir = folder();
    // As described in docs/FLAGLOG.md.
    for name in ["key", "other"] {
        let (private, public) = (format!("{name}.pem"), format!("{name}-public.pem"));
        openssl(dir.path(), &["genpkey", "-algorithm", "ed25519", "-out", &private]);
        openssl(dir.path(), &["pkey", "-in", &private, "-pubout", "-out", &public]);
    }
    let log = dir.path().join("flags");
    let config = write_config(dir.path(), &log, 1, "sign_key = \"key.pem\"\n");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    for run in 1..=2u64 {
        let mut daemon = Daemon::start(&config, dir.path());
        wait_for("an event", &daemon, || (log.is_dir() && verified(&log, None).events >= run).then_some(()));
        assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    }
    let (code, text) = spotd(&["verify", &path("flags"), "--public-key", &path("key-public.pem"), "--json"]);
    let report: Value = serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!((code, &report["holds"]), (Some(0), &true.into()), "{text}");
    // An orderly end leaves nothing unsigned: the signature is the last record and under all before
    // it.
    let (_, lines) = spotd(&["log", &path("flags"), "--json"]);
    let last: Value = serde_json::from_str(lines.lines().last().expect("records")).expect("JSON");
    assert_eq!(last["note"], "signed", "{last}");
    assert_eq!(report["signed_until"], last["seq"].as_u64().expect("a number") - 1, "{text}");
    let (code, text) = spotd(&["verify", &path("flags"), "--public-key", &path("other-public.pem")]);
    assert!(code == Some(1) && text.contains("DOES NOT HOLD"), "{text}");

    // An unusable key is reported before anything is watched.
    for (key, why) in [("gone.pem", "No such file"), ("key-public.pem", "private")] {
        let bad = write_config(dir.path(), &log, 1, &format!("sign_key = \"{key}\"\n"));
        let (code, text) = spotd(&["run", "--config", &bad.to_string_lossy()]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("sign_key") && text.contains(key) && text.contains(why), "{text}");
    }
}

#[test]
fn on_a_full_disk_the_daemon_judges_on_says_so_and_goes_on_when_space_returns() {
    let Some(disk) = SmallDisk::mount(3072) else { return };
    let dir = folder();
    let broker = Broker::start();
    let prom = dir.path().join("spotd.prom");
    let more = format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n[metrics]\nfile = {prom:?}\nevery_seconds = 1\n",
        broker.port()
    );
    let config = write_config(dir.path(), &disk.log(), 4, &more);
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let mut daemon = Daemon::start(&config, dir.path());
    let newest = |m: &[Message], topic: &str| -> Option<Value> {
        serde_json::from_str(&m.iter().rfind(|m| m.topic == topic)?.payload).ok()
    };
    let log_state = || newest(&subscriber.messages(), "spotd/box/log");
    let alarm = || log_state()?["alarm"].as_str().map(str::to_owned);
    let judged = || newest(&subscriber.messages(), "spotd/box/source/cam1/state")?["judged"].as_u64();
    let metric = |name: &str| -> Option<f64> {
        let text = std::fs::read_to_string(&prom).ok()?;
        text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok())
    };

    wait_for("the first record", &daemon, || log_state().filter(|l| l["record_bytes"].as_u64() > Some(0)));
    assert_eq!(alarm(), None);
    // Something else takes almost all space: the oldest evidence makes room for new evidence.
    assert!(std::fs::write(disk.hog(), vec![0; 1800 << 10]).is_ok());
    let said = wait_for("an alarm in the log's state", &daemon, alarm);
    assert!(said.contains("full"), "{said}");
    wait_for("evidence to make room", &daemon, || {
        log_state().filter(|l| l["evidence_removed"].as_u64() > Some(0))
    });
    wait_for("the alarm in the metrics", &daemon, || metric("spotd_log_alarm").filter(|&a| a == 1.0));

    // It takes the rest too: nothing can be recorded, and judging goes on.
    std::thread::scope(|s| {
        let (done, until) = crossbeam_channel::bounded::<()>(0);
        let hog = format!("of={}", disk.hog().display());
        s.spawn(move || {
            // What the daemon frees is taken at once.
            while until.try_recv() != Err(crossbeam_channel::TryRecvError::Disconnected) {
                let _ = Command::new("dd")
                    .args([
                        "if=/dev/zero",
                        "bs=16k",
                        "count=256",
                        "oflag=append",
                        "conv=notrunc",
                        "status=none",
                    ])
                    .arg(&hog)
                    .stderr(std::process::Stdio::null())
                    .status();
            }
        });
        wait_for("an alarm that nothing can be written", &daemon, || {
            alarm().filter(|a| a.contains("could not be written") || a.contains("not kept"))
        });
        let before = judged().expect("a state");
        wait_for("more frames to be judged", &daemon, || judged().filter(|&n| n > before + 8));
        drop(done);
    });
    let report = verified(&disk.log(), None);
    assert!(report.holds, "{:?}", report.problems);

    // Space becomes available: records and pictures are written again, and the alarm ends.
    let records = report.last.unwrap_or(0);
    std::fs::remove_file(disk.hog()).expect("removed");
    wait_for("the alarm to end", &daemon, || log_state().filter(|l| l["alarm"].is_null()));
    wait_for("the alarm to end in the metrics", &daemon, || metric("spotd_log_alarm").filter(|&a| a == 0.0));
    let with_pictures = |m: &Message| {
        serde_json::from_str::<Value>(&m.payload)
            .is_ok_and(|r| r["seq"].as_u64() > Some(records) && r["evidence"].is_object())
    };
    subscriber.wait("a record with pictures", |m| {
        m.iter().any(|m| m.topic.ends_with("/event") && with_pictures(m))
    });
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    let report = verified(&disk.log(), None);
    assert!(report.holds && report.unfinished.is_empty(), "{report:?}");
    assert!(!prom.exists(), "a daemon that has ended leaves no figures");
    assert!(daemon.log().contains("alarm: flag log:") && daemon.log().contains("the alarm is over"));
}
