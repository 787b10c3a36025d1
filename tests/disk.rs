//! A disk that is really full: a small tmpfs. Needs the right to mount; says so loudly where it is not
//! given.

#[path = "common/records.rs"]
mod records;

use std::path::{Path, PathBuf};
use std::process::Command;

use records::{TILE, config, new_record, picture, verified};
use spotd::clock::SystemClock;
use spotd::flaglog::{Evidence, FlagLog, LogError, Record};
use spotd::verdict::EventKind;

/// A tmpfs of two megabytes, unmounted at the end.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("tempdir");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "spotd-test"])
            .arg(dir.path())
            .output();
        match done {
            Ok(output) if output.status.success() => Some(Self { dir }),
            refused => {
                eprintln!(
                    "\n*** SKIPPED: no small tmpfs can be mounted here ({refused:?}); run as root ***\n"
                );
                None
            }
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("flags")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

fn event(log: &mut FlagLog, seed: u32) -> Result<Record, LogError> {
    let frame = picture(seed);
    let evidence = Evidence { frame: &frame, tiles: &[(TILE, 0.9)] };
    let start = log.append(new_record("cam", EventKind::Start), Some(&evidence))?;
    let mut end = new_record("cam", EventKind::End);
    end.event = Some(start.event);
    log.append(end, None)?;
    Ok(start)
}

fn open(dir: &Path) -> FlagLog {
    FlagLog::open(&config(dir), "box", SystemClock::shared()).expect("the log opens")
}

#[test]
fn a_full_disk_costs_the_oldest_evidence_and_work_goes_on_when_space_returns() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.log();
    let mut log = open(&dir);
    // Far more than fits: the oldest evidence makes room, no record is lost.
    for seed in 0..400 {
        let start = event(&mut log, seed).unwrap_or_else(|e| panic!("event {seed}: {e}"));
        assert!(start.evidence.is_some(), "event {seed}: {:?}", start.evidence_error);
    }
    let status = log.status();
    assert!(status.evidence_removed > 50, "{status:?}");
    let report = verified(&dir, None);
    assert!(report.holds, "{:?}", report.problems);
    assert_eq!(report.events, 400);
    assert!(report.evidence_removed > 0 && report.evidence_files > 0, "{report:?}");

    // Something else takes the rest, to the last byte: first pictures go, then records are refused.
    let hog = disk.dir.path().join("hog");
    let mut refused = None;
    for seed in 400..4000 {
        let _ = std::process::Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "count=64", "conv=notrunc", "oflag=append", "status=none"])
            .arg(format!("of={}", hog.display()))
            .stderr(std::process::Stdio::null())
            .status()
            .expect("dd runs");
        if let Err(e) = event(&mut log, seed) {
            refused = Some(e);
            break;
        }
    }
    let refused = refused.expect("a disk without a byte takes no record");
    assert!(refused.to_string().contains("could not be written"), "{refused}");
    assert!(log.status().alarm.is_some_and(|a| a.contains("could not be written")), "an alarm");
    let last = verified(&dir, None);
    assert!(last.holds, "{:?}", last.problems);

    // Space returns: work goes on, and what was acknowledged is all there.
    std::fs::remove_file(&hog).expect("removed");
    let start = event(&mut log, 9999).expect("work goes on");
    assert!(start.evidence.is_some(), "{:?}", start.evidence_error);
    assert!(start.seq > last.last.expect("records"));
    drop(log);
    drop(open(&dir));
    let report = verified(&dir, None);
    assert!(report.holds && report.unfinished.is_empty(), "{report:?}");
    // It also starts on a full disk.
    let fill = std::fs::write(&hog, vec![0; 4 << 20]);
    assert!(fill.is_err(), "the disk is full");
    drop(open(&dir));
}
