//! The log on a disk that is really full.

#[path = "common/model.rs"]
#[allow(dead_code, reason = "this file needs only the detector")]
mod model;
#[path = "common/records.rs"]
mod records;
#[path = "common/tmpfs.rs"]
mod tmpfs;

use std::path::Path;

use records::{TILE, config, evidence, new_record, picture, verified};
use spotd::clock::SystemClock;
use spotd::detector::{Detector, Model};
use spotd::flaglog::{FlagLog, LogError, Record};
use spotd::health::Board;
use spotd::identity::Wanted;
use spotd::judgement::{Judgement, ScoredTile};
use spotd::recorder::Recorder;
use spotd::verdict::{EventKind, Outcome, Verdict};
use tmpfs::SmallDisk;

fn event(log: &mut FlagLog, seed: u32) -> Result<Record, LogError> {
    let evidence = evidence(&picture(seed), &[ScoredTile { rect: TILE, score: 0.9 }]);
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
    let Some(disk) = SmallDisk::mount(2048) else { return };
    let dir = disk.log();
    let mut log = open(&dir);
    // Far more than fits: the oldest evidence is removed, no record is lost.
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
    let hog = disk.hog();
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

    // Space becomes available: work goes on, and everything that was acknowledged is there.
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

#[test]
fn a_full_disk_is_an_alarm_on_the_board_and_judging_goes_on() {
    let Some(disk) = SmallDisk::mount(2048) else { return };
    let models = tempfile::tempdir().expect("tempdir");
    let path = model::write_brightness(models.path());
    let text = format!(
        "[model]\npath = {path:?}\n[[source]]\nid = \"cam\"\nuri = \"demo://1\"\n\
         [log]\ndir = {:?}\nmin_free_mib = 0\n",
        disk.log()
    );
    let config = spotd::config::parse(&text, Path::new("test.toml"), std::iter::empty()).expect("valid");
    let detector = Detector::of(&Model::open(Some(path.as_path()), Wanted::Auto).expect("a model"), 9);
    let board = Board::new(["cam".into()]);
    let clock = SystemClock::shared();
    let mut recorder = Recorder::open(&config, &detector, board.clone(), clock).expect("opened");
    recorder.add("cam".into());
    assert_eq!(board.log().alarm, None);
    let outcome = |verdict| Outcome {
        verdict,
        before: Verdict::Clear,
        judgement: Judgement {
            raw: Some(0.9),
            smoothed: Some(0.9),
            peak: Some(0.9),
            threshold: 0.8,
            unsure_from: 0.5,
            window: 9,
            frames: 9,
        },
        reason: None,
        event: None,
    };
    let hog = disk.hog();
    assert!(std::fs::write(&hog, vec![0; 4 << 20]).is_err(), "the disk is full");
    for _ in 0..3 {
        recorder.outcome(0, &outcome(Verdict::Synthetic), None);
    }
    let alarm = board.log().alarm.expect("an alarm");
    assert!(alarm.contains("could not be written"), "{alarm}");
    assert_eq!(board.snapshot()[0].1.verdict, Verdict::Synthetic, "judging goes on");
    assert_eq!(verified(&disk.log(), None).records, 0);
    std::fs::remove_file(&hog).expect("removed");
    recorder.outcome(0, &outcome(Verdict::Synthetic), None);
    recorder.outcome(0, &outcome(Verdict::Clear), None);
    assert_eq!(board.log().alarm, None, "it is over");
    let report = verified(&disk.log(), None);
    assert!(report.holds && report.records == 2, "{report:?}");
}
