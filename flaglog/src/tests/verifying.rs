//! `spotd verify` and exports: what holds, and what is named when something does not.

use super::*;
use crate::verify::{Report, VerifyError, verify};

/// Two events with pictures and an end, on a real disk; gives the records.
fn real(dir: &Path, signer: Option<Signer>) -> Vec<Record> {
    let options = Options { signer, ..Options::default() };
    let mut log = FlagLog::open_with(&config(dir), "box", SystemClock::shared(), options).expect("open");
    let evidence =
        evidence(&[ScoredTile { rect: rect(0), score: 0.9 }, ScoredTile { rect: rect(32), score: 0.4 }]);
    let mut records = Vec::new();
    for source in ["a", "b"] {
        let start = log.append(new_record(source, 0.9), Some(&evidence)).expect("append");
        let end = NewRecord { event: Some(start.event), kind: EventKind::End, ..new_record(source, 0.1) };
        records.push(start);
        records.push(log.append(end, None).expect("append"));
    }
    records
}

fn check(dir: &Path, key: Option<PublicKey>) -> Report {
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    verify(&fs, dir, key).expect("it can be checked")
}

fn first_problem(dir: &Path) -> String {
    let report = check(dir, None);
    assert!(!report.holds);
    report.problems[0].text.clone()
}

fn segment_of(dir: &Path) -> PathBuf {
    segment::path(dir, segment::list(&OsFs, dir).expect("list")[0])
}

#[test]
fn a_whole_log_holds_and_says_what_is_in_it() {
    let dir = folder();
    let records = real(dir.path(), None);
    let report = check(dir.path(), None);
    assert!(report.holds, "{:?}", report.problems);
    assert_eq!((report.records, report.events, report.evidence_files), (4, 2, 6));
    assert_eq!((report.first, report.last, report.head), (Some(1), Some(4), Some(records[3].hash)));
    assert!(report.foreign.is_empty() && report.unfinished.is_empty(), "{report:?}");
}

#[test]
fn each_kind_of_damage_is_named_with_the_record_it_is_in() {
    type Damage = fn(&Path, &[Record]);
    let cases: [(&str, Damage, &[&str]); 7] = [
        (
            "an edited score",
            |dir, _| {
                let path = segment_of(dir);
                let text = std::fs::read_to_string(&path).expect("read");
                std::fs::write(&path, text.replacen("\"raw\":0.1", "\"raw\":0.2", 1)).expect("write");
            },
            &["record 2 ", "changed"],
        ),
        (
            "a line taken out",
            |dir, _| {
                let path = segment_of(dir);
                let text = std::fs::read_to_string(&path).expect("read");
                let lines: Vec<&str> =
                    text.lines().enumerate().filter(|(i, _)| *i != 1).map(|(_, l)| l).collect();
                std::fs::write(&path, lines.join("\n") + "\n").expect("write");
            },
            &["records 2 to 2 are missing"],
        ),
        (
            "a line cut short in the middle",
            |dir, _| {
                let path = segment_of(dir);
                let text = std::fs::read_to_string(&path).expect("read");
                let lines: Vec<&str> = text.lines().collect();
                let cut = &lines[1][..lines[1].len() - 100];
                std::fs::write(&path, format!("{}\n{cut}\n{}\n{}\n", lines[0], lines[2], lines[3]))
                    .expect("write");
            },
            &["record 2 ", "`prev` and `hash`"],
        ),
        (
            "a picture taken away",
            |dir, records| {
                let file = &records[2].evidence.as_ref().expect("evidence").frame;
                std::fs::remove_file(file.path_in(dir).expect("a path")).expect("remove");
            },
            &["record 3:", "missing", ".jpg"],
        ),
        (
            "a picture changed",
            |dir, records| {
                let file = &records[0].evidence.as_ref().expect("evidence").tiles[1].png;
                let path = file.path_in(dir).expect("a path");
                let mut bytes = std::fs::read(&path).expect("read");
                bytes[60] ^= 1;
                std::fs::write(&path, bytes).expect("write");
            },
            &["record 1:", "changed", ".png"],
        ),
        (
            "the beginning taken away",
            |dir, _| {
                let path = segment_of(dir);
                let text = std::fs::read_to_string(&path).expect("read");
                let rest: Vec<&str> = text.lines().skip(2).collect();
                std::fs::write(segment::path(dir, 3), rest.join("\n") + "\n").expect("write");
                std::fs::remove_file(path).expect("remove");
            },
            &["records 1 to 2 are missing", "no note"],
        ),
        (
            "a record that claims something before the first",
            |dir, records| {
                let body = serde_json::to_string(&Entry::Event(Box::new(Record {
                    prev: Hash::of(b"x"),
                    hash: Hash::ZERO,
                    evidence: None,
                    ..records[0].clone()
                })))
                .expect("json");
                std::fs::write(segment_of(dir), chain::seal(&body).1).expect("write");
            },
            &["record 1:", "is the first"],
        ),
    ];
    for (what, damage, expected) in cases {
        let dir = folder();
        let records = real(dir.path(), None);
        damage(dir.path(), &records);
        let said = first_problem(dir.path());
        for word in expected {
            assert!(said.contains(word), "{what}: {said}");
        }
    }
}

#[test]
fn foreign_files_and_unfinished_records_are_said_and_are_no_fault() {
    let dir = folder();
    let records = real(dir.path(), None);
    std::fs::write(dir.path().join("notes.txt"), "mine").expect("write");
    let inner = dir.path().join("evidence").join(records[0].event.to_string());
    std::fs::write(inner.join("thumbs.db"), "theirs").expect("write");
    let path = segment_of(dir.path());
    let mut bytes = std::fs::read(&path).expect("read");
    bytes.extend(b"{\"type\":\"event\",\"sch");
    std::fs::write(&path, bytes).expect("write");
    let report = check(dir.path(), None);
    assert!(report.holds, "{:?}", report.problems);
    assert_eq!(report.foreign.len(), 2, "{:?}", report.foreign);
    assert!(report.unfinished[0].contains("20 bytes"), "{:?}", report.unfinished);
    // Opening it cuts the record, and leaves what is not its own.
    drop(FlagLog::open(&config(dir.path()), "box", SystemClock::shared()).expect("open"));
    let report = check(dir.path(), None);
    assert!(report.holds && report.unfinished.is_empty(), "{report:?}");
    assert!(dir.path().join("notes.txt").exists() && inner.join("thumbs.db").exists());
}

#[test]
fn what_is_no_log_or_a_newer_one_cannot_be_checked_and_says_why() {
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let dir = folder();
    let error = verify(&fs, dir.path(), None).expect_err("empty");
    assert!(error.to_string().contains("no flag log is here"), "{error}");
    let error = verify(&fs, &dir.path().join("not-there"), None).expect_err("not there");
    assert!(matches!(error, VerifyError::Io { .. }) && error.to_string().contains("not-there"), "{error}");
    let body = format!("{{\"type\":\"hologram\",\"schema\":7,\"seq\":1,\"prev\":\"{}\"}}", Hash::ZERO);
    std::fs::write(segment::path(dir.path(), 1), chain::seal(&body).1).expect("write");
    let error = verify(&fs, dir.path(), None).expect_err("newer").to_string();
    assert!(error.contains("schema 7") && error.contains("newer spotd"), "{error}");
}

#[test]
fn a_signed_log_cannot_be_rewritten_as_a_whole() {
    let signer = Signer::from_bytes(&[1; 32]);
    let key = signer.public_key();
    let dir = folder();
    real(dir.path(), Some(signer));
    let report = check(dir.path(), Some(key));
    assert!(report.holds, "{:?}", report.problems);
    // A signature after each event; nothing is left to sign at the end.
    assert_eq!((report.signatures, report.signed_until, report.last), (2, Some(5), Some(6)));
    let other = Signer::from_bytes(&[2; 32]);
    let report = check(dir.path(), Some(other.public_key()));
    assert!(report.problems[0].text.contains("another key"), "{:?}", report.problems);

    // Somebody writes a log of their own in its place: sound in itself, but not signed, or by them.
    for (signer, expected) in [(None, "nothing in the log is signed"), (Some(other), "another key")] {
        let forged = folder();
        real(forged.path(), signer);
        assert!(check(forged.path(), None).holds);
        let report = check(forged.path(), Some(key));
        assert!(!report.holds && report.problems[0].text.contains(expected), "{:?}", report.problems);
    }

    // A signature that is put under other records does not hold.
    let path = segment_of(dir.path());
    let text = std::fs::read_to_string(&path).expect("read");
    let last: Entry = serde_json::from_str(text.lines().last().expect("a line")).expect("a note");
    let Entry::Note(note) = last else { panic!("a note") };
    let moved = Note { seq: 1, prev: Hash::ZERO, hash: Hash::ZERO, ..note };
    let body = serde_json::to_string(&Entry::Note(moved)).expect("json");
    std::fs::write(&path, chain::seal(&body).1).expect("write");
    let said = first_problem(dir.path());
    assert!(said.contains("does not hold") && said.contains("signature"), "{said}");
}

#[test]
fn an_export_holds_elsewhere_and_shows_what_is_done_to_it() {
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let signer = Signer::from_bytes(&[1; 32]);
    let key = signer.public_key();
    let dir = folder();
    let records = real(dir.path(), Some(signer));
    let second = &records[2];
    let to = dir.path().join("handed/over");
    let now = jiff::Timestamp::from_second(1_795_500_000).expect("a time");
    let done = export::export(&fs, dir.path(), records[3].id, &to, now).expect("export");
    assert_eq!((done.event, done.records, done.files, done.signed), (second.event, 3, 3, true));
    let report = check(&to, Some(key));
    assert!(report.holds, "{:?}", report.problems);
    assert_eq!((report.export_of, report.first, report.evidence_files), (Some(second.event), Some(4), 3));
    let page = std::fs::read_to_string(to.join(export::HOW_TO)).expect("a page");
    assert!(page.contains("spotd verify") && page.contains(&second.event.to_string()), "{page}");

    let again = export::export(&fs, dir.path(), second.event, &to, now).expect_err("in use");
    assert!(again.to_string().contains("another folder"), "{again}");
    let unknown =
        export::export(&fs, dir.path(), Ulid::nil(), &dir.path().join("x"), now).expect_err("unknown");
    assert!(unknown.to_string().contains("spotd log"), "{unknown}");

    let path = segment_of(&to);
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, text.lines().skip(1).map(|l| format!("{l}\n")).collect::<String>()).expect("write");
    assert!(!check(&to, None).holds, "its first record is gone");
    std::fs::write(&path, text).expect("write");
    assert!(check(&to, None).holds);
    let frame = &second.evidence.as_ref().expect("evidence").frame;
    std::fs::remove_file(frame.path_in(&to).expect("a path")).expect("remove");
    assert!(first_problem(&to).contains("record 4"), "{}", first_problem(&to));
}

#[test]
fn an_export_that_fails_leaves_no_file() {
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let dir = folder();
    let records = real(dir.path(), None);
    let now = jiff::Timestamp::from_second(1_795_500_000).expect("a time");
    let out = folder();
    let to = out.path().join("sent/event.zip");
    let names = || OsFs.list(to.parent().expect("a parent")).expect("list");
    // The second picture was changed: by then the file is begun.
    let tile = &records[0].evidence.as_ref().expect("evidence").tiles[0].png;
    std::fs::write(tile.path_in(dir.path()).expect("a path"), b"another one").expect("write");
    let error = export::export(&fs, dir.path(), records[0].event, &to, now).expect_err("damaged");
    assert!(error.to_string().contains("does not hold"), "{error}");
    assert_eq!(names(), Vec::<String>::new());
    // The other event is sound, and is not written over.
    let done = export::export(&fs, dir.path(), records[2].event, &to, now).expect("export");
    assert_eq!((done.path.as_path(), done.files), (to.as_path(), 3));
    assert_eq!(names(), ["event.zip"]);
    let before = std::fs::read(&to).expect("read");
    let again = export::export(&fs, dir.path(), records[2].event, &to, now).expect_err("there already");
    assert!(again.to_string().contains("another name"), "{again}");
    assert_eq!(std::fs::read(&to).expect("read"), before);
}
