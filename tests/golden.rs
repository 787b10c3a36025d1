//! Records keep their bytes: a log that an earlier version wrote reads, and is written again byte
//! for byte.
//!
//! `golden/events.jsonl` was written by `spotd run` on the demonstration with `verdict.jump = 1.5`,
//! before detector, verdict and log shared one `Judgement`. A hash is taken of a line's very bytes,
//! so a member that moves is a change of format: it takes a new schema, and a file beside this one.
//! `golden/reviews.jsonl` holds reviews in the form that they came with, in schema 2.

use std::sync::Arc;

use spotd::flaglog::{Entry, Finding, OsFs, Reader};
use spotd::verdict::EventKind;

#[test]
fn reviews_are_written_byte_for_byte_as_in_the_first_version_that_had_them() {
    let golden = include_str!("golden/reviews.jsonl");
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("flags-00000000000000000001.jsonl"), golden).expect("written");
    let mut reader = Reader::from_start(Arc::new(OsFs), dir.path());
    let mut findings = Vec::new();
    for line in golden.lines() {
        let item = reader.next().expect("a sound record").expect("a record");
        assert_eq!(serde_json::to_string(&item.entry).expect("JSON"), line);
        let Entry::Review(review) = item.entry else { panic!("no review") };
        assert_eq!(review.schema, 2);
        findings.push(review.review);
    }
    assert!(reader.next().expect("its end").is_none());
    assert_eq!(findings, [Finding::Confirmed, Finding::FalseAlarm, Finding::Withdrawn]);
}

#[test]
fn records_are_written_byte_for_byte_as_before() {
    let golden = include_str!("golden/events.jsonl");
    let dir = tempfile::tempdir().expect("a folder");
    let segment = dir.path().join("flags-00000000000000000001.jsonl");
    std::fs::write(segment, golden).expect("written");

    let mut reader = Reader::from_start(Arc::new(OsFs), dir.path());
    let mut kinds = Vec::new();
    for line in golden.lines() {
        let item = reader.next().expect("a sound record").expect("a record");
        assert_eq!(serde_json::to_string(&item.entry).expect("JSON"), line);
        let Entry::Event(record) = item.entry else { panic!("a note") };
        let kept = record.evidence.is_some_and(|e| !e.tiles.is_empty());
        assert_eq!(kept, record.kind != EventKind::End, "line {}", record.seq);
        kinds.push(record.kind);
    }
    assert!(reader.next().expect("its end").is_none());
    for kind in [EventKind::Alert, EventKind::Start, EventKind::End] {
        assert!(kinds.contains(&kind), "no {kind:?} among {kinds:?}");
    }
}
