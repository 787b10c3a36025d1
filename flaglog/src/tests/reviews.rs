//! What operators say of events: one writer decides which counts, and the chain keeps all.

use super::*;
use crate::review::{Finding, MAX_COMMENT, MAX_NAME, NewReview, ReviewError, reviewed};
use crate::{RetentionConfig, Review};

pub(super) fn judge(record: &Record, finding: Finding, replaces: Option<&Review>) -> NewReview {
    NewReview {
        event: record.event,
        source: record.source.clone(),
        finding,
        by: "Jo".into(),
        comment: None,
        replaces: replaces.map(|r| r.id),
    }
}

fn reviews(items: &[Item]) -> Vec<Review> {
    items
        .iter()
        .filter_map(|i| if let Entry::Review(r) = &i.entry { Some(r.clone()) } else { None })
        .collect()
}

fn with(fs: &MemFs, clock: &ManualClock, keep: RetentionConfig, signer: Option<Signer>) -> FlagLog {
    let options = Options { segment_bytes: 3000, fs: Arc::new(fs.clone()), keep, signer };
    FlagLog::open_with(&config(Path::new(DIR)), "box", Arc::new(clock.clone()), options).expect("open")
}

fn clock() -> ManualClock {
    ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_500_000))
}

#[test]
fn the_newest_review_counts_and_whoever_has_not_seen_it_is_told() {
    let fs = MemFs::default();
    let mut log = open(&fs, 2500).expect("open");
    let of = log.tail();
    let event = log.append(new_record("cam", 0.9), None).expect("append");
    let other = log.append(new_record("cam", 0.9), None).expect("append");
    let said = NewReview {
        comment: Some("a poster\nbehind glass".into()),
        ..judge(&event, Finding::FalseAlarm, None)
    };
    let first = log.review(said, &of).expect("kept");
    assert_eq!((first.seq, first.schema, first.prev), (3, record::SCHEMA, other.hash));
    assert_eq!(of.durable(), 3, "it is durable before it is answered");

    // A second window still shows that nobody has judged.
    let error = log.review(judge(&event, Finding::Confirmed, None), &of).expect_err("overtaken");
    let ReviewError::Overtaken(Some(standing)) = &error else { panic!("{error}") };
    assert_eq!((standing.id, standing.review, &*standing.by), (first.id, Finding::FalseAlarm, "Jo"));
    assert!(error.to_string().contains("false-alarm by Jo"), "{error}");
    // Another event is judged by itself.
    log.review(judge(&other, Finding::Confirmed, None), &of).expect("kept");
    let back = log.review(judge(&event, Finding::Withdrawn, Some(&first)), &of).expect("kept");
    assert_eq!(back.replaces, Some(first.id));

    // Also after a restart.
    drop(log);
    let mut log = open(&fs, 2500).expect("open");
    let of = log.tail();
    log.review(judge(&event, Finding::Confirmed, Some(&first)), &of).map(drop).expect_err("overtaken");
    let last = log.review(judge(&event, Finding::Confirmed, Some(&back)), &of).expect("kept");
    let (items, errors) = read(&fs);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(reviews(&items).last(), Some(&last));
    for item in &items {
        assert_eq!(serde_json::to_string(&item.entry).expect("json"), item.line);
    }
    let report = verified(&fs);
    assert!(report.holds && report.reviews == 4 && report.events == 2, "{report:?}");
    // Its line, changed by somebody, does not hold.
    fs.edit(&segments(&fs)[0], |bytes| {
        let text = String::from_utf8(bytes.clone()).expect("text");
        *bytes = text.replace("\"by\":\"Jo\"", "\"by\":\"Al\"").into_bytes();
    });
    assert!(!verified(&fs).holds);
}

#[test]
fn what_cannot_be_kept_is_named_and_nothing_is_written() {
    let fs = MemFs::default();
    let mut log = open(&fs, 1 << 20).expect("open");
    let of = log.tail();
    let event = log.append(new_record("cam", 0.9), None).expect("append");
    let good = judge(&event, Finding::Confirmed, None);
    for (bad, said) in [
        (NewReview { by: String::new(), ..good.clone() }, "needs the name"),
        (NewReview { by: " Jo".into(), ..good.clone() }, "without blanks"),
        (NewReview { by: "J".repeat(MAX_NAME + 1), ..good.clone() }, "1 to 80"),
        (NewReview { by: "Jo\u{1b}[2J".into(), ..good.clone() }, "control"),
        (NewReview { by: "Jo\u{202e}oJ".into(), ..good.clone() }, "control"),
        (NewReview { comment: Some("x".repeat(MAX_COMMENT + 1)), ..good.clone() }, "longer than 1000"),
        (NewReview { comment: Some("a\0b".into()), ..good.clone() }, "control"),
        (NewReview { finding: Finding::Other, ..good.clone() }, "one of confirmed"),
        (NewReview { finding: Finding::Withdrawn, ..good.clone() }, "no review"),
    ] {
        let error = log.review(bad.clone(), &of).expect_err("refused").to_string();
        assert!(error.contains(said), "{bad:?}: {error}");
    }
    assert_eq!(of.durable(), 1);
    // The longest that there can be is a line.
    let long = NewReview {
        by: "\u{10ffff}".repeat(MAX_NAME),
        comment: Some("\u{10ffff}\n".repeat(MAX_COMMENT / 2)),
        ..good
    };
    log.review(long, &of).expect("kept");
    assert!(read(&fs).1.is_empty());
}

#[test]
fn a_disk_that_fails_costs_the_review_and_is_said() {
    let fs = MemFs::default();
    let mut log = open(&fs, 1 << 20).expect("open");
    let of = log.tail();
    let event = log.append(new_record("cam", 0.9), None).expect("append");
    fs.fail(0..u64::MAX, io::ErrorKind::ReadOnlyFilesystem);
    let error = log.review(judge(&event, Finding::Confirmed, None), &of).expect_err("refused");
    assert!(matches!(error, ReviewError::Log(_)), "{error}");
    assert!(log.status().alarm.is_some());
    fs.heal();
    log.review(judge(&event, Finding::Confirmed, None), &of).expect("kept");
    assert_eq!(log.status().alarm, None);
    assert_eq!(reviews(&read(&fs).0).len(), 1);
}

#[test]
fn a_review_of_an_event_in_a_log_that_was_taken_away_is_not_put_into_the_next() {
    let dir = tempfile::tempdir().expect("tempdir");
    let flags = dir.path().join("flags");
    let mut log = FlagLog::open(&config(&flags), "box", SystemClock::shared()).expect("open");
    let of = log.tail();
    let event = log.append(new_record("cam", 0.9), None).expect("append");
    std::fs::rename(&flags, dir.path().join("away")).expect("renamed");
    let error = log.review(judge(&event, Finding::Confirmed, None), &of).expect_err("elsewhere");
    assert!(matches!(error, ReviewError::Elsewhere), "{error}");
    let next = of.successor().expect("another log");
    log.review(judge(&event, Finding::Confirmed, None), &next).expect("of the event that goes on there");
}

#[test]
fn a_clock_set_back_is_said_and_a_review_is_signed_at_once() {
    let (fs, clock) = (MemFs::default(), clock());
    let signer = Signer::from_bytes(&[3; 32]);
    let mut log = with(&fs, &clock, RetentionConfig::default(), Some(signer));
    let of = log.tail();
    let event = log.append(new_record("cam", 0.9), None).expect("append");
    let before = spotd_core::clock::Clock::wall(&clock);
    clock.set_wall(before - Duration::from_secs(365 * 86_400));
    let review = log.review(judge(&event, Finding::Confirmed, None), &of).expect("kept");
    assert_eq!(review.clock, ClockStatus::SetBack);
    assert_eq!(verified(&fs).signed_until, Some(review.seq));
}

#[test]
fn reviews_go_with_the_records_behind_their_event_and_are_forgotten() {
    let (fs, clock) = (MemFs::default(), clock());
    let keep = RetentionConfig { max_age: Some(Duration::from_secs(86_400)), max_bytes: None, min_free: 0 };
    let mut log = with(&fs, &clock, keep, None);
    let of = log.tail();
    let tiles = [ScoredTile { rect: rect(0), score: 0.9 }];
    let event = log.append(new_record("cam", 0.9), Some(&evidence(&tiles))).expect("append");
    let end = NewRecord { event: Some(event.event), kind: EventKind::End, ..new_record("cam", 0.1) };
    log.append(end, None).expect("append");
    let fs_dyn: Arc<dyn Fs> = Arc::new(fs.clone());
    log.review(judge(&event, Finding::FalseAlarm, None), &of).expect("kept");
    let found = reviewed(&fs_dyn, Path::new(DIR)).expect("read");
    assert_eq!((found.len(), found[0].event, found[0].finding), (1, event.event, Finding::FalseAlarm));
    assert_eq!(found[0].records.len(), 1);

    // The evidence makes room: the review stays, and so does what it is about.
    clock.advance(Duration::from_secs(2 * 86_400));
    log.tidy();
    assert!(verified(&fs).holds && verified(&fs).evidence_removed > 0);
    let standing = log.index.reviews.get(&event.event).cloned().expect("it stands");
    for _ in 0..6 {
        clock.advance(Duration::from_secs(2 * 86_400));
        log.append(NewRecord { kind: EventKind::Alert, ..new_record("cam", 0.9) }, None).expect("append");
        log.tidy();
    }
    assert!(verified(&fs).records_removed_until.is_some_and(|until| until >= standing.seq));
    assert!(log.index.reviews.is_empty());
    assert!(reviewed(&fs_dyn, Path::new(DIR)).expect("read").is_empty());
}

#[test]
fn an_export_has_what_was_said_of_the_event() {
    let dir = tempfile::tempdir().expect("tempdir");
    let flags = dir.path().join("flags");
    let mut log = FlagLog::open(&config(&flags), "box", SystemClock::shared()).expect("open");
    let of = log.tail();
    let tiles = [ScoredTile { rect: rect(0), score: 0.9 }];
    let event = log.append(new_record("cam", 0.9), Some(&evidence(&tiles))).expect("append");
    log.append(new_record("another", 0.9), None).expect("append");
    log.review(judge(&event, Finding::Confirmed, None), &of).expect("kept");
    log.append(new_record("another", 0.9), None).expect("append");
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let to = dir.path().join("export");
    let done = export::export(&fs, &flags, event.event, &to, jiff::Timestamp::UNIX_EPOCH).expect("exported");
    assert_eq!((done.records, done.files), (3, 2));
    let report = verify::verify(&fs, &to, None).expect("checked");
    assert!(report.holds && report.reviews == 1, "{report:?}");
}

/// Takes so many bytes, then nothing more.
struct Narrow(Vec<u8>, usize);

impl io::Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() >= self.1 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(self.1 - self.0.len());
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_bundle_that_is_sent_away_has_what_an_export_has_and_a_reader_that_leaves_ends_it() {
    let fs = MemFs::default();
    let mut log = open(&fs, 2500).expect("open");
    let of = log.tail();
    let tiles = [ScoredTile { rect: rect(0), score: 0.9 }];
    log.append(new_record("another", 0.9), Some(&evidence(&tiles))).expect("append");
    let event = log.append(new_record("cam", 0.9), Some(&evidence(&tiles))).expect("append");
    log.review(judge(&event, Finding::Confirmed, None), &of).expect("kept");
    let (items, _) = read(&fs);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let mut whole = Vec::new();
    // Where its first record stands may be known; a mark of another log is of no use and does no harm.
    for before in [None, Some(items[0].mark()), Some(cursor::Mark::new(1, Hash::of(b"another")))] {
        let bundle = of.bundle(event.event, before).expect("it is there");
        assert_eq!(bundle.file_name(), format!("event-{}.zip", event.event));
        let mut bytes = Vec::new();
        let done = bundle.write(&mut bytes, now).expect("written");
        assert_eq!((done.records, done.files, done.signed), (2, 2, false));
        whole = bytes;
    }
    let mut zip = zip::ZipArchive::new(io::Cursor::new(&whole)).expect("a ZIP file");
    let root = format!("event-{}/", event.event);
    assert!(zip.file_names().all(|name| name.is_ok_and(|n| n.starts_with(&root) && !n.contains(".."))));
    let mut lines = String::new();
    let segment = format!("{root}{}", segment::file_name(event.seq));
    io::Read::read_to_string(&mut zip.by_name(&segment).expect("records"), &mut lines).expect("text");
    let expected: Vec<&str> = items[1..].iter().map(|i| i.line.as_str()).collect();
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);

    let bundle = of.bundle(event.event, None).expect("it is there");
    for most in [0, 1, 3000, whole.len() - 1] {
        let mut narrow = Narrow(Vec::new(), most);
        bundle.write(&mut narrow, now).map(drop).expect_err("nobody takes it");
        assert_eq!(narrow.0, whole[..most]);
    }
    of.bundle(event.id, None).expect("an event is also named by one of its records");
    assert!(matches!(of.bundle(Ulid::new(), None), Err(export::ExportError::Unknown { .. })));
    // One picture is changed, or missing without a word.
    let frame = event.evidence.expect("pictures").frame.path_in(Path::new(DIR)).expect("inside");
    fs.edit(&frame, |bytes| bytes[7] ^= 1);
    assert!(matches!(of.bundle(event.event, None), Err(export::ExportError::Damaged(_))));
    fs.remove(&frame).expect("removed");
    assert!(matches!(of.bundle(event.event, None), Err(export::ExportError::Damaged(_))));
}
