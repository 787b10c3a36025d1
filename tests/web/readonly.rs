//! The log's folder becomes read-only under a running daemon: by a flag of the file system, and because a disk fails.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use spotd::clock::{Clock as _, SystemClock};

use crate::box_of::SpotdBox;
use crate::common::daemon::Daemon;
use crate::common::records::verified;
use crate::reviews::{id_of, judge};

/// Lets the feed show other pictures from its next frame on: `bright` says of each whether it is.
fn show(dir: &Path, bright: impl Fn(usize) -> bool) {
    let feed = dir.join("feed");
    for number in 0..std::fs::read_dir(&feed).expect("the feed").count() {
        let picture = dir.join(if bright(number) { "bright.jpg" } else { "dark.jpg" });
        let (next, path) = (feed.join("next"), feed.join(format!("{number}.jpg")));
        std::os::unix::fs::symlink(picture, &next).expect("a link");
        std::fs::rename(next, path).expect("replaced");
    }
}

/// A value of the metrics.
fn metric(watched: &SpotdBox, name: &str) -> Option<f64> {
    let text = watched.try_get("/metrics", &[])?.text();
    let line = text.lines().find(|l| l.split(' ').next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The events' records in a folder.
fn records(flags: &Path) -> Vec<Value> {
    let mut segments: Vec<PathBuf> =
        std::fs::read_dir(flags).expect("the log").map(|e| e.expect("an entry").path()).collect();
    segments.retain(|p| p.extension().is_some_and(|e| e == "jsonl"));
    segments.sort();
    let text: String = segments.iter().map(|p| std::fs::read_to_string(p).expect("read")).collect();
    let lines = text.lines().map(|l| serde_json::from_str(l).expect("a record"));
    lines.filter(|r: &Value| r["type"] == "event").collect()
}

fn time(record: &Value, member: &str) -> jiff::Timestamp {
    record[member].as_str().expect("a time").parse().expect("RFC 3339")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).output() {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Files and folders that nobody may change, root included, until this is dropped.
struct Immutable(Vec<String>);

impl Immutable {
    /// `None` where this may not be set; said loudly.
    fn make(paths: &[&Path]) -> Option<Self> {
        let paths: Vec<String> = paths.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        let (all, guard) = (paths.clone(), Self(paths));
        for path in &all {
            if let Err(why) = run("chattr", &["+i", path]) {
                eprintln!("\n*** SKIPPED: no file can be made immutable here ({why}); run as root ***\n");
                return None;
            }
        }
        Some(guard)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        self.0.iter().for_each(|path| drop(run("chattr", &["-i", path])));
    }
}

#[test]
fn what_happens_while_the_folder_is_read_only_is_in_the_log_afterwards() {
    let watched = SpotdBox::start("", "");
    let flags = watched.dir.path().join("flags");
    // Eight seconds dark, eight bright.
    show(watched.dir.path(), |n| (n / 40) % 2 == 1);
    let first = id_of(&watched.flagged());
    watched.wait("the end of an event", |_| records(&flags).iter().any(|r| r["kind"] == "end").then_some(()));
    assert_eq!(watched.get("/readyz", &[]).status, 200);

    let segment = flags.join("flags-00000000000000000001.jsonl");
    let Some(immutable) = Immutable::make(&[&segment, &flags.join("evidence"), &flags]) else { return };
    let before = records(&flags).len();
    // A whole event, and one more that has begun.
    watched.wait("records to wait", |b| metric(b, "spotd_log_waiting_records").filter(|&n| n >= 3.0));
    assert_eq!(records(&flags).len(), before);
    assert_eq!(metric(&watched, "spotd_log_alarm"), Some(1.0));
    assert_eq!(watched.get("/healthz", &[]).status, 200, "the daemon lives");
    let ready = watched.get("/readyz", &[]);
    assert_eq!(ready.status, 503);
    for words in [&*flags.to_string_lossy(), "not permitted", "[log] dir", "may write to"] {
        assert!(ready.text().contains(words), "'{words}' is missing: {}", ready.text());
    }
    let alarm = watched.get("/api/v1", &[]).json()["alarm"].clone();
    assert!(alarm.as_str().is_some_and(|a| a.contains(&*flags.to_string_lossy())), "{alarm}");
    // What is there is shown, and what cannot be kept is refused.
    let event = watched.get(&format!("/api/v1/events/{first}"), &[]);
    assert_eq!(event.status, 200, "{}", event.text());
    let refused = judge(&watched, &first, &json!({ "review": "confirmed", "by": "Jo" }));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("was not written"), "{}", refused.text());
    // Said once, although it is tried twice a second.
    let log = watched.daemon.log();
    let said = |what: &str| log.lines().filter(|l| l.contains("ERROR") && l.contains(what)).count();
    assert_eq!((said("alarm: flag log"), said("it waits in memory until it can be")), (1, 1), "{log}");
    assert_eq!((said("review of"), said("")), (1, 3), "{log}");

    drop(immutable);
    watched.wait("the log to be whole", |b| {
        let (waiting, alarm) = (metric(b, "spotd_log_waiting_records")?, metric(b, "spotd_log_alarm")?);
        (waiting == 0.0 && alarm == 0.0).then_some(())
    });
    assert_eq!(watched.get("/readyz", &[]).status, 200);
    assert_eq!(metric(&watched, "spotd_log_lost_records_total"), Some(0.0));
    let all = records(&flags);
    let late: Vec<&Value> = all
        .iter()
        .filter(|r| {
            time(r, "written").duration_since(time(r, "captured")) > jiff::SignedDuration::from_secs(2)
        })
        .collect();
    // The one that had begun last may not have waited long.
    assert!(late.len() >= 2, "{late:?}");
    // Each event begins once and ends once, in order, with pictures of when it began.
    let kinds: Vec<&str> =
        all.iter().map(|r| r["kind"].as_str().expect("a kind")).filter(|k| *k != "update").collect();
    let expected = ["start", "end"].into_iter().cycle().take(kinds.len());
    assert_eq!(kinds, expected.collect::<Vec<_>>());
    assert!(all.is_sorted_by_key(|r| time(r, "captured")), "{all:?}");
    for record in late.iter().filter(|r| r["kind"] == "start") {
        let picture = flags.join(record["evidence"]["frame"]["file"].as_str().expect("evidence"));
        assert!(picture.exists(), "{record}");
    }
    let mut daemon = watched.daemon;
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    let report = verified(&flags, None);
    assert!(report.holds, "{:?}", report.problems);
}

/// An ext4 in a file, mounted.
struct Ext4 {
    dir: tempfile::TempDir,
}

impl Ext4 {
    fn make() -> Option<Self> {
        let made = Self { dir: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir(made.mounted()).expect("a folder");
        let image = made.image();
        let done = std::fs::File::create(&image)
            .and_then(|f| f.set_len(32 << 20))
            .map_err(|e| e.to_string())
            .and_then(|()| run("mkfs.ext4", &["-q", "-F", &image]))
            .and_then(|()| made.mount());
        if let Err(why) = done {
            eprintln!(
                "\n*** SKIPPED: no file system in a file can be mounted here ({why}); run as root ***\n"
            );
            return None;
        }
        Some(made)
    }

    fn image(&self) -> String {
        self.dir.path().join("image").to_string_lossy().into_owned()
    }

    fn mounted(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop,errors=remount-ro", &self.image(), &self.mounted().to_string_lossy()])
    }

    /// What the kernel does when it finds that it cannot trust the disk any more.
    fn fail(&self) {
        run("mount", &["-o", "remount,abort", &self.mounted().to_string_lossy()]).expect("aborted");
    }

    /// Takes it out, checks it and puts it back.
    fn repair(&self) {
        run("umount", &[&*self.mounted().to_string_lossy()]).expect("unmounted");
        let checked = Command::new("e2fsck").args(["-f", "-p", &self.image()]).output().expect("e2fsck runs");
        assert!(checked.status.code().is_some_and(|c| c <= 1), "{checked:?}");
        self.mount().expect("mounted again");
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        drop(run("umount", &["-l", &*self.mounted().to_string_lossy()]));
    }
}

#[test]
fn a_disk_that_fails_is_an_alarm_even_where_nothing_is_flagged_and_what_is_lost_is_said() {
    let Some(disk) = Ext4::make() else { return };
    let flags = disk.mounted().join("flags");
    let log = format!("dir = {flags:?}\nmin_free_mib = 0\nupdate_seconds = 3600");
    let watched = SpotdBox::with_log(&log, "", "");
    watched.flagged();
    show(watched.dir.path(), |_| false);
    watched
        .wait("the end of the event", |_| records(&flags).iter().any(|r| r["kind"] == "end").then_some(()));
    let before = records(&flags);
    disk.fail();
    watched.wait("the alarm", |b| {
        let ready = b.get("/readyz", &[]);
        (ready.status == 503).then(|| {
            for words in [&*flags.to_string_lossy(), "Read-only", "dmesg", "mount it writable again"] {
                assert!(ready.text().contains(words), "'{words}' is missing: {}", ready.text());
            }
        })
    });
    assert_eq!(metric(&watched, "spotd_log_waiting_records"), Some(0.0), "nothing was flagged");
    show(watched.dir.path(), |_| true);
    watched.wait("a record to wait", |b| metric(b, "spotd_log_waiting_records").filter(|&n| n >= 1.0));
    assert_eq!(records(&flags), before);
    // Its start and its end.
    let SpotdBox { mut daemon, dir, .. } = watched;
    assert_eq!(daemon.terminate(), Some(2), "it does not end as if nothing had been");
    let said = daemon.log();
    assert!(said.contains("2 record(s) are lost") && said.contains("ERROR"), "{said}");
    assert!(!said.contains("panicked"), "{said}");

    disk.repair();
    assert_eq!(records(&flags), before, "what was acknowledged is there");
    let mut daemon = Daemon::start(&dir.path().join("spotd.toml"), dir.path());
    let clock = SystemClock::new();
    let more = (0..600).any(|_| {
        let _ = clock.after(Duration::from_millis(100)).recv();
        records(&flags).len() > before.len()
    });
    assert!(more, "it goes on: {}", daemon.log());
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    let report = verified(&flags, None);
    assert!(report.holds, "{:?}", report.problems);
}
