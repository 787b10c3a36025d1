//! `spotd log -f`: what is written while it follows, across segments and while old ones are
//! removed.

#[path = "common/records.rs"]
mod records;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crossbeam_channel::Receiver;
use records::{config, folder, new_record};
use serde_json::Value;
use spotd::clock::SystemClock;
use spotd::flaglog::RetentionConfig;
use spotd::flaglog::{FlagLog, Options, OsFs, Record, segment};
use spotd::verdict::EventKind;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// The command, and the lines that it prints.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(dir: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_spotd"))
            .arg("log")
            .arg(dir)
            .args(["--follow", "--json"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("spotd starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tx, lines) = crossbeam_channel::unbounded();
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|l| drop(tx.send(l))));
        Self { child, lines }
    }

    /// The next record of a source; notes are skipped.
    fn next(&self) -> Record {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("a line");
            let value: Value = serde_json::from_str(&line).expect("JSON");
            if value["type"] == "event" {
                return serde_json::from_value(value).expect("a record");
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(log: &mut FlagLog, source: &str) -> Record {
    log.append(new_record(source, EventKind::Start), None).expect("append")
}

#[test]
fn records_are_shown_as_they_are_written_across_segments_and_removals() {
    let dir = folder();
    // Before there is a log at all: it waits for one.
    let all = Follower::start(dir.path(), &[]);
    // Three records per segment, and room for about five segments.
    let keep = RetentionConfig { max_bytes: Some(15_000), ..RetentionConfig::default() };
    let options = Options { segment_bytes: 2500, keep, ..Options::default() };
    let mut log =
        FlagLog::open_with(&config(dir.path()), "box", SystemClock::shared(), options).expect("opened");
    let door = Follower::start(dir.path(), &["--source", "door", "--verdict", "synthetic"]);
    let mut segments = std::collections::BTreeSet::new();
    for n in 0..60 {
        let source = if n % 4 == 0 { "door" } else { "cam" };
        let record = append(&mut log, source);
        assert_eq!(all.next(), record, "record {n}");
        if source == "door" {
            assert_eq!(door.next(), record, "record {n}, filtered");
        }
        segments.extend(segment::list(&OsFs, dir.path()).expect("list"));
    }
    let left = segment::list(&OsFs, dir.path()).expect("list");
    assert!(segments.len() > 10, "it went across segments: {segments:?}");
    assert!(left.len() < 8 && left[0] > 1, "and old ones were removed meanwhile: {left:?}");
    drop(all);

    // One that starts late begins with the oldest record left, and goes on from there.
    let late = Follower::start(dir.path(), &[]);
    let first = late.next();
    assert!(first.seq >= left[0] && first.seq < left[0] + 4, "{}", first.seq);
    let record = append(&mut log, "cam");
    while late.next().id != record.id {}
}

#[test]
fn without_follow_a_folder_without_a_log_is_refused_and_with_it_waited_for() {
    let dir = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_spotd")).arg("log").arg(dir.path()).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("no flag log is here"), "{said}");
    let mut waiting = Follower::start(dir.path(), &[]);
    assert!(waiting.lines.recv_timeout(std::time::Duration::from_millis(700)).is_err());
    assert!(waiting.child.try_wait().expect("asked").is_none(), "it still waits");
}

#[test]
fn a_log_that_takes_the_place_of_another_is_followed_from_its_start() {
    for removed in [false, true] {
        let dir = folder();
        let flags = dir.path().join("flags");
        let open = || FlagLog::open(&config(&flags), "box", SystemClock::shared()).expect("open");
        let mut log = open();
        let first = log.append(new_record("cam", EventKind::Start), None).expect("append");
        let follower = Follower::start(&flags, &["--source", "cam"]);
        while follower.next().id != first.id {}
        if removed {
            std::fs::remove_dir_all(&flags).expect("removed");
        } else {
            std::fs::rename(&flags, dir.path().join("old")).expect("renamed");
        }
        let second = log.append(new_record("cam", EventKind::Start), None).expect("append");
        // The event that was open goes on first.
        let carried = follower.next();
        assert!(carried.event == first.event && carried.reason.is_some(), "{carried:?}");
        assert_eq!(follower.next(), second);
    }
}
