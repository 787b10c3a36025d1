//! Age, size, free space; what a crash in between leaves; events that a crash has left open.

use super::*;
use crate::RetentionConfig;

const START: Duration = Duration::from_secs(1_795_500_000);
const DAY: Duration = Duration::from_secs(86_400);

struct Box {
    fs: MemFs,
    clock: ManualClock,
    keep: RetentionConfig,
    segment_bytes: u64,
}

impl Box {
    fn new(keep: RetentionConfig) -> Self {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + START);
        Self { fs: MemFs::default(), clock, keep, segment_bytes: 1 << 20 }
    }

    fn open(&self) -> FlagLog {
        let options = Options {
            segment_bytes: self.segment_bytes,
            fs: Arc::new(self.fs.clone()),
            keep: self.keep,
            signer: None,
        };
        let clock = Arc::new(self.clock.clone());
        FlagLog::open_with(&config(Path::new(DIR)), "box", clock, options).expect("open")
    }

    fn folders(&self) -> Vec<String> {
        let mut names = self.fs.list(&Path::new(DIR).join("evidence")).unwrap_or_default();
        names.sort();
        names
    }

    fn holds(&self) -> verify::Report {
        let report = verified(&self.fs);
        assert!(report.holds, "{:?}", report.problems);
        report
    }
}

/// An event with pictures, begun and ended.
fn event(log: &mut FlagLog, source: &str) -> Record {
    let start = begin(log, source);
    let end = NewRecord { event: Some(start.event), kind: EventKind::End, ..new_record(source, 0.1) };
    log.append(end, None).expect("append");
    start
}

fn begin(log: &mut FlagLog, source: &str) -> Record {
    let evidence = evidence(&[ScoredTile { rect: rect(0), score: 0.9 }]);
    log.append(new_record(source, 0.9), Some(&evidence)).expect("append")
}

#[test]
fn old_evidence_goes_then_old_segments_and_the_chain_still_holds() {
    let mut keep = Box::new(RetentionConfig { max_age: Some(10 * DAY), ..Default::default() });
    keep.segment_bytes = 3000;
    let mut log = keep.open();
    for _ in 0..30 {
        event(&mut log, "cam");
        keep.clock.advance(DAY);
    }
    log.tidy();
    let report = keep.holds();
    assert!(log.status().evidence_removed > 15, "{:?}", log.status());
    assert!(report.records_removed_until.is_some_and(|until| until > 10), "{report:?}");
    let left = keep.folders().len();
    assert!((9..=11).contains(&left), "{left} events of ten days");
    assert_eq!(log.status().alarm, None);
    // Also without anything new, age goes on.
    keep.clock.advance(20 * DAY);
    log.tidy();
    assert!(keep.folders().is_empty());
    drop(log);
    let mut log = keep.open();
    event(&mut log, "cam");
    keep.holds();
}

#[test]
fn too_much_costs_the_oldest_events_as_a_whole_and_an_open_one_last() {
    let keep = Box::new(RetentionConfig { max_bytes: Some(150_000), ..Default::default() });
    let mut log = keep.open();
    let open = begin(&mut log, "long");
    let mut last = open.event;
    for _ in 0..40 {
        keep.clock.advance(Duration::from_secs(60));
        last = event(&mut log, "cam").event;
    }
    let status = log.status();
    assert!(status.evidence_bytes + status.record_bytes <= 150_000, "{status:?}");
    assert!(status.evidence_removed > 0);
    let folders = keep.folders();
    assert!(folders.contains(&last.to_string()), "the newest is kept");
    if folders.len() > 1 {
        assert!(folders.contains(&open.event.to_string()), "the open one goes last");
    }
    let report = keep.holds();
    assert!(report.evidence_removed > 0);
    // What it says of itself is what is there.
    let bytes: u64 = keep
        .fs
        .files()
        .iter()
        .filter(|p| p.starts_with(Path::new(DIR).join("evidence")))
        .map(|p| keep.fs.len(p).expect("len"))
        .sum();
    assert_eq!(status.evidence_bytes, bytes);
}

#[test]
fn a_disk_that_others_fill_is_an_alarm_and_evidence_makes_room_first() {
    let keep = Box::new(RetentionConfig { min_free: 50_000, ..Default::default() });
    let mut log = keep.open();
    keep.fs.leave_room(90_000);
    for _ in 0..10 {
        event(&mut log, "cam");
    }
    assert!(keep.fs.free(Path::new(DIR)).expect("free") >= 50_000);
    assert_eq!(log.status().alarm, None);
    // Others take nearly all: every picture goes, and that is not enough.
    keep.fs.leave_room(20_000);
    log.tidy();
    assert!(keep.folders().is_empty());
    let alarm = log.status().alarm.expect("an alarm");
    assert!(alarm.contains("min_free_mib"), "{alarm}");
    keep.fs.heal();
    log.tidy();
    assert_eq!(log.status().alarm, None);
    keep.holds();
}

#[test]
fn on_a_full_disk_the_oldest_evidence_makes_room_for_new() {
    let keep = Box::new(RetentionConfig::default());
    let mut log = keep.open();
    let first = event(&mut log, "cam");
    keep.fs.leave_room(200_000);
    for _ in 0..60 {
        let start = event(&mut log, "cam");
        assert!(start.evidence.is_some(), "{:?}", start.evidence_error);
    }
    let alarm = log.status().alarm.expect("an alarm");
    assert!(alarm.contains("full"), "{alarm}");
    assert!(!keep.folders().contains(&first.event.to_string()));
    let report = keep.holds();
    assert_eq!(report.events, 61, "no record is lost");
    keep.fs.heal();
    log.tidy();
    assert_eq!(log.status().alarm, None);
}

#[test]
fn a_clock_that_was_wrong_does_not_cost_evidence_before_its_time() {
    let keep = Box::new(RetentionConfig { max_age: Some(10 * DAY), ..Default::default() });
    let mut log = keep.open();
    event(&mut log, "cam");
    // The battery is empty: a year back, until the time server answers.
    keep.clock.set_wall(SystemTime::UNIX_EPOCH + START - 365 * DAY);
    let early = event(&mut log, "cam");
    assert_eq!(early.clock, ClockStatus::SetBack);
    keep.clock.set_wall(SystemTime::UNIX_EPOCH + START + DAY);
    event(&mut log, "cam");
    drop(log);
    let mut log = keep.open();
    log.tidy();
    assert_eq!(keep.folders().len(), 3, "nothing is older than ten days");
    keep.clock.advance(20 * DAY);
    log.tidy();
    assert!(keep.folders().is_empty());
    keep.holds();
}

#[test]
fn a_crash_at_any_step_of_a_removal_is_made_good_at_the_next_start() {
    for step in 0..40 {
        let mut keep = Box::new(RetentionConfig { max_age: Some(10 * DAY), ..Default::default() });
        keep.segment_bytes = 2000;
        let mut log = keep.open();
        for _ in 0..4 {
            // Two records with pictures: both lose them at once.
            let start = begin(&mut log, "cam");
            let evidence = evidence(&[ScoredTile { rect: rect(16), score: 0.9 }]);
            for (kind, pictures) in [(EventKind::Update, Some(&evidence)), (EventKind::End, None)] {
                let next = NewRecord { event: Some(start.event), kind, ..new_record("cam", 0.9) };
                log.append(next, pictures).expect("append");
            }
        }
        keep.clock.advance(11 * DAY);
        keep.fs.fail(step..u64::MAX, io::ErrorKind::Other);
        log.tidy();
        if step % 2 == 0 {
            keep.fs.kill()
        } else {
            keep.fs.cut_power(0, false)
        }
        std::mem::forget(log);
        let report = keep.holds();
        assert!(report.problems.is_empty());
        let mut log = keep.open();
        log.tidy();
        let report = keep.holds();
        assert!(report.unfinished.is_empty(), "step {step}: {:?}", report.unfinished);
        assert!(keep.folders().is_empty(), "step {step}: {:?}", keep.folders());
        let odd: Vec<PathBuf> =
            keep.fs.files().into_iter().filter(|p| p.to_string_lossy().contains("removing")).collect();
        assert!(odd.is_empty(), "step {step}: {odd:?}");
    }
}

#[test]
fn a_foreign_file_in_a_folder_of_evidence_survives() {
    let keep = Box::new(RetentionConfig { max_age: Some(10 * DAY), ..Default::default() });
    let mut log = keep.open();
    let start = event(&mut log, "cam");
    let foreign = Path::new(DIR).join("evidence").join(start.event.to_string()).join("mine.txt");
    keep.fs.put(&foreign, b"not spotd's");
    keep.clock.advance(20 * DAY);
    log.tidy();
    assert_eq!(keep.fs.read(&foreign, 0, 100).expect("still there"), b"not spotd's");
    drop(log);
    keep.open().tidy();
    assert!(keep.fs.len(&foreign).is_ok());
    assert_eq!(notes(&read(&keep.fs).0), [NoteKind::Removed], "once is enough");
}

#[test]
fn leftovers_of_crashes_are_cleaned_and_evidence_of_damaged_records_is_kept() {
    let keep = Box::new(RetentionConfig::default());
    let start = event(&mut keep.open(), "cam");
    let top = Path::new(DIR).join("evidence");
    let hash = Hash::of(b"nobody's");
    let folder = top.join(start.event.to_string());
    let unfinished = folder.join(format!("{hash}.png.tmp"));
    let orphan = top.join(Ulid::from_parts(1, 2).to_string()).join(format!("{hash}.jpg"));
    let cursor = Path::new(DIR).join("cursor-mqtt.json.tmp");
    keep.fs.create_dirs(orphan.parent().expect("a folder")).expect("a folder");
    for path in [&unfinished, &orphan, &cursor] {
        keep.fs.put(path, b"left by a crash");
    }
    // With a damaged record, nobody knows what it named: only what is unfinished goes.
    let path = &segments(&keep.fs)[0];
    let line = keep.fs.read(path, 0, usize::MAX).expect("read");
    keep.fs.edit(path, |bytes| bytes[20] ^= 1);
    drop(keep.open());
    assert!(keep.fs.len(&orphan).is_ok() && keep.fs.len(&unfinished).is_err());
    keep.fs.edit(path, |bytes| *bytes = line);
    drop(keep.open());
    assert!(keep.fs.len(&orphan).is_err() && keep.fs.len(&cursor).is_err());
    assert_eq!(keep.folders(), [start.event.to_string()]);
    keep.holds();
}

#[test]
fn a_reader_that_had_not_got_removed_records_is_named() {
    let mut keep = Box::new(RetentionConfig { max_age: Some(10 * DAY), ..Default::default() });
    keep.segment_bytes = 3000;
    let mut log = keep.open();
    let first = event(&mut log, "cam");
    let fs: Arc<dyn Fs> = Arc::new(keep.fs.clone());
    let cursor = cursor::CursorFile::new(fs, Path::new(DIR), "mqtt");
    cursor.save(cursor::Mark::new(1, first.hash)).expect("save");
    for _ in 0..6 {
        event(&mut log, "cam");
    }
    keep.clock.advance(11 * DAY);
    log.tidy();
    let texts: Vec<String> = read(&keep.fs)
        .0
        .into_iter()
        .filter_map(|i| if let Entry::Note(n) = i.entry { Some(n.text) } else { None })
        .collect();
    assert!(texts.iter().any(|t| t.contains("reader mqtt had not got those after 1")), "{texts:?}");
}

#[test]
fn an_event_left_open_by_a_crash_is_closed_at_the_next_start_and_says_why() {
    let keep = Box::new(RetentionConfig::default());
    let mut log = keep.open();
    let open = begin(&mut log, "door");
    event(&mut log, "cam");
    keep.fs.kill();
    std::mem::forget(log);
    let mut log = keep.open();
    // Full: it stays open, and the next call tries again.
    keep.fs.leave_room(0);
    keep.fs.fail(0..u64::MAX, io::ErrorKind::Other);
    log.close_left_open().expect_err("it cannot be written");
    keep.fs.heal();
    assert_eq!(log.close_left_open().expect("closed"), 1);
    assert_eq!(log.close_left_open().expect("nothing is left"), 0);
    let all = events(&read(&keep.fs).0);
    let end = all.last().expect("records");
    assert_eq!((end.kind, end.event, end.source.as_str()), (EventKind::End, open.event, "door"));
    assert_eq!(
        (end.verdict, end.judgement.raw, end.judgement.smoothed, end.judgement.peak),
        (Verdict::Unsure, None, None, open.judgement.peak)
    );
    let reason = end.reason.as_deref().expect("a reason");
    assert!(reason.contains("without closing") && reason.contains("not known"), "{reason}");
    drop(log);
    assert_eq!(keep.open().close_left_open().expect("closed already"), 0);
    keep.holds();
}
