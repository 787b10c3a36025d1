//! The log as a whole: records, evidence, segments, cursors.

mod bytes;
mod faults;
mod model;
mod moved;
mod retention;
mod reviews;
mod verifying;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ulid::Ulid;

use super::fs::Fs;
use super::memfs::MemFs;
use super::record::NoteKind;
use super::*;
use spotd_core::clock::{ManualClock, SystemClock};
use spotd_core::identity::{ModelIdentity, Precision};
use spotd_core::judgement::{Judgement, ScoredTile};
use spotd_core::raster::Rect;
use spotd_core::verdict::{EventKind, Verdict};

const DIR: &str = "/log";

pub(crate) fn config(dir: &Path) -> LogConfig {
    LogConfig { dir: dir.to_owned(), jpeg_quality: 95, update_every: Duration::from_secs(30) }
}

pub(crate) fn new_record(source: &str, score: f64) -> NewRecord {
    NewRecord {
        event: None,
        source: source.to_owned(),
        kind: EventKind::Start,
        verdict: Verdict::Synthetic,
        judgement: Judgement {
            raw: Some(score),
            smoothed: Some(score / 3.0),
            peak: Some(score),
            threshold: 0.8,
            unsure_from: 0.5,
            window: 9,
            frames: 7,
        },
        frame: Some(FrameInfo { sha256: Hash::of(b"frame"), width: 96, height: 64, interlaced: None }),
        tiles: vec![ScoredTile { rect: rect(0), score }, ScoredTile { rect: rect(32), score: score / 2.0 }],
        logits: None,
        captured: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_500_000_123),
        model: ModelIdentity {
            name: "test".into(),
            version: "1".into(),
            sha256: Hash::of(b"model").to_string(),
            precision: Precision::Int8,
            coherence: None,
        },
        alert: None,
    }
}

pub(crate) fn rect(x: u32) -> Rect {
    Rect { x, y: 8, width: 32, height: 32 }
}

/// Pictures of a frame and of tiles in it; the log does not look into them.
pub(crate) fn evidence(tiles: &[ScoredTile]) -> Evidence {
    let file = |magic: &[u8], seed: u32, len: u32| {
        let noise =
            (0..len).map(|i| ((i + 1).wrapping_mul(seed | 1).wrapping_mul(2_654_435_761) >> 24) as u8);
        magic.iter().copied().chain(noise).collect::<Vec<u8>>()
    };
    let tile = |tile: &ScoredTile| (*tile, file(b"\x89PNG\r\n\x1a\n", 3 + tile.rect.x, 1200));
    let tiles = tiles.iter().map(tile).collect();
    Evidence { frame: file(b"\xff\xd8", 1, 3000), before: None, tiles, map: None }
}

fn open(fs: &MemFs, segment_bytes: u64) -> Result<FlagLog, LogError> {
    let options = Options { segment_bytes, fs: Arc::new(fs.clone()), ..Options::default() };
    FlagLog::open_with(&config(Path::new(DIR)), "box", SystemClock::shared(), options)
}

/// Everything that a reader finds, with errors as texts.
fn read(fs: &MemFs) -> (Vec<Item>, Vec<ReadError>) {
    let mut reader = Reader::from_start(Arc::new(fs.clone()), Path::new(DIR));
    let (mut items, mut errors) = (Vec::new(), Vec::new());
    loop {
        match reader.next() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, errors),
            Err(e) => errors.push(e),
        }
        assert!(errors.len() < 1000, "the reader does not come to an end: {:?}", errors.last());
    }
}

fn events(items: &[Item]) -> Vec<Record> {
    let event = |i: &Item| match &i.entry {
        Entry::Event(r) => Some((**r).clone()),
        Entry::Note(_) | Entry::Review(_) => None,
    };
    items.iter().filter_map(event).collect()
}

fn notes(items: &[Item]) -> Vec<NoteKind> {
    let note = |i: &Item| match &i.entry {
        Entry::Note(n) => Some(n.note),
        Entry::Event(_) | Entry::Review(_) => None,
    };
    items.iter().filter_map(note).collect()
}

fn segments(fs: &MemFs) -> Vec<PathBuf> {
    let firsts = segment::list(fs, Path::new(DIR)).expect("list");
    firsts.into_iter().map(|f| segment::path(Path::new(DIR), f)).collect()
}

/// A folder in memory where there is one: what is tested needs real files, not a real disk.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("tempdir")
}

/// What `spotd verify` finds.
fn verified(fs: &MemFs) -> verify::Report {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    verify::verify(&fs, Path::new(DIR), None).expect("it can be checked")
}

fn fill(fs: &MemFs, records: usize, segment_bytes: u64) -> Vec<Record> {
    let mut log = open(fs, segment_bytes).expect("open");
    (0..records).map(|i| log.append(new_record("cam", i as f64 / 100.0), None).expect("append")).collect()
}

#[test]
fn records_come_back_as_they_were_appended_across_segments_and_reopening() {
    let fs = MemFs::default();
    let mut all = fill(&fs, 5, 2500);
    all.extend(fill(&fs, 5, 2500));
    let (items, errors) = read(&fs);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(events(&items), all);
    assert!(segments(&fs).len() > 2, "{:?}", segments(&fs));
    assert_eq!(items.iter().map(|i| i.entry.seq()).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    // The text on the disk is exactly what the record serialises to, hash included.
    for item in &items {
        assert_eq!(serde_json::to_string(&item.entry).expect("json"), item.line);
    }
}

#[test]
fn evidence_is_kept_byte_for_byte_under_its_hash_and_in_its_order() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = FlagLog::open(&config(dir.path()), "box", SystemClock::shared()).expect("open");
    let tiles = [ScoredTile { rect: rect(0), score: 0.9 }, ScoredTile { rect: rect(8), score: 0.95 }];
    let since = std::time::UNIX_EPOCH + Duration::from_millis(1_795_500_000_123);
    let map = MapPicture { side: 32, since, png: b"\x89PNG a map".to_vec() };
    let kept = Evidence { before: Some(b"the frame before".to_vec()), map: Some(map), ..evidence(&tiles) };
    let record = log.append(new_record("door/1", 0.9), Some(&kept)).expect("append");
    let files = record.evidence.expect("evidence");
    let load = |file: &record::EvidenceFile| {
        let bytes = std::fs::read(file.path_in(dir.path()).expect("a path of ours")).expect("read");
        assert_eq!((Hash::of(&bytes), bytes.len() as u64), (file.sha256, file.bytes));
        bytes
    };
    assert_eq!(load(&files.frame), kept.frame);
    assert_eq!(files.before.as_ref().map(load), kept.before);
    let written: Vec<_> = files.tiles.iter().map(|t| (t.tile, load(&t.png))).collect();
    assert_eq!(written, kept.tiles);
    let (map, wanted) = (files.map.as_ref().expect("a map"), kept.map.as_ref().expect("one"));
    assert_eq!((load(&map.png), map.side, map.since), (wanted.png.clone(), 32, record::timestamp(since)));
    // Whoever removes, exports or checks evidence sees it too.
    assert_eq!(files.files().map(|f| f.bytes).sum::<u64>(), kept.bytes());
    assert_eq!(files.files().last(), Some(&map.png));
    let text = serde_json::to_string(&files).expect("JSON");
    assert!(
        text.contains(r#""map":{"side":32,"since":"2026-11-24T06:00:00.123Z","file":"evidence/"#),
        "{text}"
    );
}

#[test]
fn a_record_whose_pictures_could_not_be_made_says_why() {
    let fs = MemFs::default();
    let mut log = open(&fs, 1 << 20).expect("open");
    let record = log.append_without_evidence(new_record("cam", 0.9), "it is too large").expect("append");
    assert_eq!((record.evidence, record.evidence_error.as_deref()), (None, Some("it is too large")));
    assert!(log.status().alarm.is_some_and(|alarm| alarm.contains("cam not kept: it is too large")));
    log.append(new_record("cam", 0.9), Some(&evidence(&[]))).expect("append");
    assert_eq!(log.status().alarm, None);
}

#[test]
fn the_same_picture_again_is_not_written_again() {
    let fs = MemFs::default();
    let mut log = open(&fs, 1 << 20).expect("open");
    let evidence = evidence(&[ScoredTile { rect: rect(0), score: 0.9 }]);
    let first = log.append(new_record("cam", 0.9), Some(&evidence)).expect("append");
    let before = fs.files().len();
    let again = NewRecord { event: Some(first.event), ..new_record("cam", 0.9) };
    let second = log.append(again, Some(&evidence)).expect("append");
    assert_eq!(second.evidence, first.evidence);
    assert_eq!(second.event, first.id);
    assert_eq!(fs.files().len(), before);
}

#[test]
fn two_writers_are_refused() {
    let fs = MemFs::default();
    let _first = open(&fs, 1 << 20).expect("open");
    let error = open(&fs, 1 << 20).map(drop).expect_err("second");
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
}

#[test]
fn a_newer_schema_is_refused_by_the_writer_and_named_by_the_reader() {
    let fs = MemFs::default();
    fill(&fs, 1, 1 << 20);
    let body = format!(
        "{{\"type\":\"hologram\",\"schema\":3,\"seq\":2,\"prev\":\"{}\"}}",
        read(&fs).0[0].entry.hash()
    );
    fs.edit(&segments(&fs)[0], |bytes| bytes.extend(chain::seal(&body).1.into_bytes()));
    let (items, errors) = read(&fs);
    assert_eq!(items.len(), 1);
    assert!(matches!(errors[..], [ReadError::Newer { found: 3, .. }]), "{errors:?}");
    let error = open(&fs, 1 << 20).map(drop).expect_err("newer");
    assert!(error.to_string().contains("schema 3"), "{error}");
}

#[test]
fn foreign_files_are_left_alone() {
    let fs = MemFs::default();
    let foreign = Path::new(DIR).join("flags-notes.jsonl");
    fs.put(&foreign, b"not mine\n");
    let records = fill(&fs, 2, 1 << 20);
    assert_eq!(events(&read(&fs).0), records);
    assert_eq!(fs.read(&foreign, 0, 100).expect("read"), b"not mine\n");
}

#[test]
fn a_clock_set_back_is_said_and_holds_nothing_up() {
    let fs = MemFs::default();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_500_000);
    let clock = ManualClock::new(start);
    let options = Options { segment_bytes: 1 << 20, fs: Arc::new(fs.clone()), ..Options::default() };
    let config = config(Path::new(DIR));
    let mut log = FlagLog::open_with(&config, "box", Arc::new(clock.clone()), options).expect("open");
    let first = log.append(new_record("cam", 0.9), None).expect("append");
    assert_ne!(first.clock, ClockStatus::SetBack);
    clock.set_wall(start - Duration::from_secs(365 * 24 * 3600));
    let second = log.append(new_record("cam", 0.9), None).expect("append");
    assert_eq!((second.clock, second.seq), (ClockStatus::SetBack, 2));
    let third = log.append(new_record("cam", 0.9), None).expect("append");
    assert_ne!(third.clock, ClockStatus::SetBack);
    assert!(read(&fs).1.is_empty());
}

#[test]
fn a_tail_shows_only_what_is_durable_and_wakes() {
    let fs = MemFs::default();
    let mut log = open(&fs, 1 << 20).expect("open");
    let tail = log.tail();
    let wake = tail.wake();
    let mut reader = tail.from_start();
    assert!(reader.next_durable().expect("read").is_none());
    // Operations of an append to a new segment: open, cut, sync, write, then the sync that fails.
    fs.fail(4..5, io::ErrorKind::Other);
    fs.fail(4..u64::MAX, io::ErrorKind::Other);
    log.append(new_record("cam", 0.1), None).expect_err("sync fails");
    let whole_line = fs.len(&segments(&fs)[0]).expect("len");
    assert!(whole_line > 0, "the line is written, but not durable");
    assert!(reader.next_durable().expect("read").is_none());
    assert!(wake.try_recv().is_err());
    fs.heal();
    let record = log.append(new_record("cam", 0.2), None).expect("append");
    assert!(wake.try_recv().is_ok());
    let item = reader.next_durable().expect("read").expect("a record");
    assert_eq!(item.entry, Entry::Event(Box::new(record.clone())));
    let mark = cursor::Mark::new(record.seq, record.hash);
    let next = log.append(new_record("cam", 0.3), None).expect("append");
    let item = tail.after(mark).expect("after").next_durable().expect("read").expect("a record");
    assert_eq!(item.entry.id(), next.id);
}

#[test]
fn a_cursor_of_another_log_or_beyond_the_end_is_refused() {
    let fs = MemFs::default();
    let records = fill(&fs, 6, 2500);
    let after = |mark| Reader::after(Arc::new(fs.clone()), Path::new(DIR), mark);
    for record in &records {
        let mark = cursor::Mark::new(record.seq, record.hash);
        let next = after(mark).expect("after").next().expect("next").map(|i| i.entry.seq());
        assert_eq!(next, (record.seq < 6).then_some(record.seq + 1));
    }
    let beyond = after(cursor::Mark::new(7, Hash::ZERO)).map(drop).expect_err("beyond");
    assert!(beyond.contains("beyond the end"), "{beyond}");
    let other = after(cursor::Mark::new(3, Hash::ZERO)).map(drop).expect_err("other");
    assert!(other.contains("another one"), "{other}");
    let empty = MemFs::default();
    empty.create_dirs(Path::new(DIR)).expect("a folder");
    let empty = Reader::after(Arc::new(empty), Path::new(DIR), cursor::Mark::new(3, Hash::ZERO));
    assert!(empty.map(drop).expect_err("empty").contains("the log is empty"));
}

#[test]
fn where_a_record_stood_is_a_hint_that_is_checked() {
    let fs = MemFs::default();
    fill(&fs, 9, 2500);
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let next = |mark| {
        let mut reader = Reader::after(shared.clone(), Path::new(DIR), mark).expect("after");
        reader.next().expect("read").map(|i| i.entry.seq())
    };
    let (items, _) = read(&fs);
    assert!(segments(&fs).len() > 2);
    for item in &items {
        let mark = item.mark();
        let at = mark.at.expect("a place");
        let seq = (mark.seq < 9).then_some(mark.seq + 1);
        assert_eq!(next(mark), seq);
        // Of another record, within a line, behind the end, of a segment that is not there.
        for (segment, offset) in
            [(1, 0), (at.segment, at.offset + 1), (at.segment, 1 << 40), (7777, 0), (u64::MAX, u64::MAX)]
        {
            assert_eq!(next(cursor::Mark { at: Some(cursor::At { segment, offset }), ..mark }), seq);
        }
        let other = cursor::Mark { hash: Hash::of(b"another"), ..mark };
        Reader::after(shared.clone(), Path::new(DIR), other).map(drop).expect_err("another log's");
    }
    // The search goes from the segment's start, the hint does not: damage before the record is not met again.
    let last = items.last().expect("records").mark();
    fs.put(&segments(&fs)[0], b"damaged\n");
    assert_eq!(next(last), None);
}

#[test]
fn a_removed_segment_is_a_gap_that_is_told_once() {
    let fs = MemFs::default();
    fill(&fs, 9, 2500);
    let all = segments(&fs);
    assert!(all.len() >= 3, "{all:?}");
    let lost =
        segment::parse_name(all[1].file_name().expect("name").to_str().expect("utf-8")).expect("first");
    let until =
        segment::parse_name(all[2].file_name().expect("name").to_str().expect("utf-8")).expect("first") - 1;
    fs.remove(&all[1]).expect("remove");
    let (items, errors) = read(&fs);
    assert!(
        matches!(errors[..], [ReadError::Missing { from, to, .. }] if (from, to) == (lost, until)),
        "{errors:?}"
    );
    assert_eq!(items.len() as u64, 9 - (until - lost + 1));
    // The oldest segments may go without a word: the chain begins later then.
    fs.remove(&all[0]).expect("remove");
    assert!(read(&fs).1.is_empty());
}

#[test]
fn it_works_on_a_real_disk_too() {
    let dir = tempfile::tempdir().expect("tempdir");
    let options = Options { segment_bytes: 2500, ..Options::default() };
    let config = config(&dir.path().join("made/for/it"));
    for round in 0..2 {
        let mut log =
            FlagLog::open_with(&config, "box", SystemClock::shared(), options.clone()).expect("open");
        for _ in 0..4 {
            let pictures = evidence(&[ScoredTile { rect: rect(0), score: 1.0 }]);
            log.append(new_record("cam", 0.9), Some(&pictures)).expect("append");
        }
        let error = FlagLog::open(&config, "box", SystemClock::shared()).map(drop).expect_err("locked");
        assert!(matches!(error, LogError::Locked { .. }), "{error}");
        drop(log);
        let newest = segment::list(&OsFs, &config.dir).expect("list").pop().expect("a segment");
        let path = segment::path(&config.dir, newest);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.extend(b"{\"type\":\"event\",");
        std::fs::write(&path, bytes).expect("write");
        let mut reader = Reader::from_start(Arc::new(OsFs), &config.dir);
        let mut count = 0;
        while reader.next().expect("sound").is_some() {
            count += 1;
        }
        assert_eq!(count, (round + 1) * 4 + round, "events and the notes of what was cut");
    }
}

#[test]
fn the_documented_example_is_a_record_of_this_schema_and_its_hash_fits() {
    let docs = include_str!("../../../docs/FLAGLOG.md");
    let block = |title: &str| {
        let from = docs.find(title).unwrap_or_else(|| panic!("{title} is in the document"));
        let json = docs[from..].split("```json\n").nth(1).expect("an example follows");
        json.split("```").next().expect("it ends").trim().to_owned()
    };
    let line = block("## An event");
    let link = chain::link(line.as_bytes()).expect("it ends in prev and hash");
    assert!(link.fits, "the example's hash is not that of its bytes");
    let entry: Entry = serde_json::from_str(&line).expect("an event");
    assert_eq!(serde_json::to_string(&entry).expect("json"), line, "members and their order");
    let note: Entry = serde_json::from_str(&block("## A note")).expect("a note");
    let removed: Entry = serde_json::from_str(&block("### Removed")).expect("a note");
    let moved: Entry = serde_json::from_str(&block("### Moved")).expect("a note");
    let signed: Entry = serde_json::from_str(&block("### Signed")).expect("a note");
    // Every member of the examples, at any depth, is explained in a table.
    fn names(value: &serde_json::Value, out: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(k, v)| {
                out.insert(k.clone());
                names(v, out);
            }),
            serde_json::Value::Array(all) => all.iter().for_each(|v| names(v, out)),
            _ => {}
        }
    }
    let mut all = std::collections::BTreeSet::new();
    let alert: Entry = serde_json::from_str(&block("## An alert")).expect("an alert");
    assert_eq!(serde_json::to_string(&alert).expect("json"), block("## An alert"));
    let review = block("## A review");
    assert!(
        chain::link(review.as_bytes()).is_some_and(|link| link.fits),
        "the review's hash is not that of its bytes"
    );
    let judged: Entry = serde_json::from_str(&review).expect("a review");
    assert_eq!(serde_json::to_string(&judged).expect("json"), review, "members and their order");
    for entry in [&entry, &alert, &judged, &note, &removed, &moved, &signed] {
        names(&serde_json::to_value(entry).expect("json"), &mut all);
    }
    for name in all {
        assert!(docs.contains(&format!("| `{name}`")), "`{name}` is not explained");
    }
    assert!(docs.contains(&format!("Schema version: {}", record::SCHEMA)));
    let Entry::Event(record) = entry else { panic!("an event") };
    assert_eq!(record.event, record.id, "the example is a start");
    assert!(Ulid::from_string(&record.id.to_string()).is_ok());
}

#[test]
fn the_documented_way_to_check_a_line_by_hand_gives_its_hash() {
    let docs = include_str!("../../../docs/FLAGLOG.md");
    let command = docs.split("```sh\n").nth(1).and_then(|d| d.split("```").next()).expect("a shell command");
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = FlagLog::open(&config(dir.path()), "box", SystemClock::shared()).expect("open");
    let record = log.append(new_record("cam", 0.9), None).expect("append");
    let output = std::process::Command::new("sh").args(["-c", command]).current_dir(dir.path()).output();
    let said = String::from_utf8(output.expect("sh starts").stdout).expect("text");
    assert_eq!(said.split_whitespace().next(), Some(record.hash.to_string().as_str()));
}
