//! `kill -9` of a process that writes to the log, at random moments, 320 times: the log verifies,
//! nothing that was acknowledged is missing, and the next start repairs everything.

#[path = "common/records.rs"]
mod records;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use records::{Numbers, TILE, config, evidence, folder, new_record, picture, verified};
use spotd::clock::{Clock as _, SystemClock};
use spotd::flaglog::RetentionConfig;
use spotd::flaglog::{Entry, FlagLog, Hash, Options, OsFs, Reader, Signer, segment};
use spotd::judgement::ScoredTile;
use spotd::verdict::EventKind;

const DIR: &str = "SPOTD_TEST_KILL_DIR";
const LOGS: u64 = 16;
const KILLS: u64 = 20;

fn open(dir: &Path) -> FlagLog {
    let keep = RetentionConfig { max_bytes: Some(300_000), ..RetentionConfig::default() };
    let signer = Some(Signer::from_bytes(&[5; 32]));
    let options = Options { segment_bytes: 12_000, keep, signer, ..Options::default() };
    FlagLog::open_with(&config(dir), "box", SystemClock::shared(), options).expect("the log opens")
}

/// Writes records for ever and reports on standard output that each was acknowledged.
#[test]
#[ignore = "not a test: the process that the other test kills"]
fn child() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("started by the other test"));
    let mut log = open(&dir);
    log.close_left_open().expect("closed");
    println!("\nREADY");
    let mut event = None;
    for i in 0u32.. {
        let kind = match (event, i % 5) {
            (None, _) => EventKind::Start,
            (Some(_), 4) => EventKind::End,
            (Some(_), _) => EventKind::Update,
        };
        let evidence = evidence(&picture(i), &[ScoredTile { rect: TILE, score: 0.9 }]);
        let pictures = (kind != EventKind::End).then_some(&evidence);
        let mut new = new_record("cam", kind);
        new.event = event;
        let record = log.append(new, pictures).expect("appended");
        event = (kind != EventKind::End).then_some(record.event);
        println!("\nACK {} {}", record.seq, record.hash);
        std::io::stdout().flush().expect("flushed");
    }
}

/// The name that the bytes of an unfinished record get when they are cut off.
fn name_of_cut(dir: &Path) -> Option<PathBuf> {
    let newest = segment::list(&OsFs, dir).expect("list").pop()?;
    let bytes = std::fs::read(segment::path(dir, newest)).expect("read");
    let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let hash = Hash::of(&bytes[end..]).to_string();
    (end < bytes.len()).then(|| dir.join(format!("cut-{newest:020}-{}.bin", &hash[..16])))
}

/// Lets a child write until it has acknowledged this many records and a little longer, then kills
/// it. Returns what it acknowledged, and whether it had begun to write.
fn killed(dir: &Path, acks: u64, longer: Duration) -> (bool, Vec<(u64, Hash)>) {
    let mut child = Command::new(std::env::current_exe().expect("this file"))
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (mut ready, mut acknowledged) = (false, Vec::new());
    let mut take = |line: &str| {
        ready |= line == "READY";
        let mut words = line.strip_prefix("ACK ")?.split(' ');
        let seq = words.next()?.parse().ok()?;
        acknowledged.push((seq, Hash::parse(words.next()?)?));
        Some(acknowledged.len() as u64)
    };
    // With none asked for, it may be killed while it opens the log.
    let mut taken = 0;
    while taken < acks {
        let line = lines.next().expect("it writes until it is killed").expect("a line");
        taken = take(&line).unwrap_or(taken);
    }
    let _ = SystemClock::new().after(longer).recv();
    child.kill().expect("killed");
    child.wait().expect("gone");
    // What it had said before.
    for line in lines.map_while(Result::ok) {
        take(&line);
    }
    (ready, acknowledged)
}

/// All records that are left, by number, and the first of them.
fn hashes(dir: &Path) -> (u64, std::collections::HashMap<u64, Hash>) {
    let mut reader = Reader::from_start(Arc::new(OsFs), dir);
    let mut all = std::collections::HashMap::new();
    let mut first = u64::MAX;
    while let Some(item) = reader.next().expect("sound") {
        first = first.min(item.entry.seq());
        all.insert(item.entry.seq(), item.entry.hash());
    }
    (first, all)
}

#[test]
fn killed_at_random_moments_nothing_acknowledged_is_missing() {
    let mut numbers = Numbers(20_261_124);
    let (mut kills, mut said, mut while_opening) = (0, 0, 0);
    for _ in 0..LOGS {
        let folder = folder();
        let dir = folder.path().join("log");
        let mut acknowledged = Vec::new();
        let mut cut: Option<PathBuf> = None;
        for _ in 0..KILLS {
            let acks = numbers.below(14);
            let longer = Duration::from_micros(numbers.below(if acks == 0 { 60_000 } else { 4000 }));
            let (ready, more) = killed(&dir, acks, longer);
            kills += 1;
            while_opening += u32::from(!ready);
            said += more.len();
            acknowledged.extend(more);
            if !dir.join("lock").exists() {
                continue; // killed before it had made anything
            }
            if let (true, Some(cut)) = (ready, &cut) {
                assert!(cut.exists(), "the start has cut {} and kept it", cut.display());
            }
            let report = verified(&dir, None);
            assert!(report.holds, "after {kills} kills: {:?}", report.problems);
            cut = name_of_cut(&dir);
            let (first, all) = hashes(&dir);
            for (seq, hash) in acknowledged.iter().filter(|(seq, _)| *seq >= first) {
                assert_eq!(all.get(seq), Some(hash), "record {seq} was acknowledged; {kills} kills");
            }
        }
        // One more start, and an orderly end: nothing is left to repair.
        let mut log = open(&dir);
        log.close_left_open().expect("closed");
        drop(log);
        let report = verified(&dir, Some(Signer::from_bytes(&[5; 32]).public_key()));
        assert!(report.holds && report.unfinished.is_empty(), "{report:?}");
        assert_eq!(report.signed_until.map(|s| s + 1), report.last, "all of it is signed");
        let odd: Vec<_> = walkdir::WalkDir::new(&dir)
            .into_iter()
            .map(|e| e.expect("listed").path().to_string_lossy().into_owned())
            .filter(|p| p.ends_with(".tmp") || p.contains("removing-"))
            .collect();
        assert!(odd.is_empty(), "left behind: {odd:?}");
        let mut open_events = std::collections::BTreeSet::new();
        let mut reader = Reader::from_start(Arc::new(OsFs), &dir);
        while let Some(item) = reader.next().expect("sound") {
            if let Entry::Event(r) = item.entry {
                if r.kind == EventKind::End {
                    open_events.remove(&r.event);
                } else {
                    open_events.insert(r.event);
                }
            }
        }
        assert!(open_events.is_empty(), "{open_events:?}");
    }
    println!("{kills} kills, {while_opening} of them before the log was open; {said} records acknowledged");
    assert_eq!(kills, LOGS * KILLS);
    assert!(said > 500, "{said} records are too few to mean anything");
}
