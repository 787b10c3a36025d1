//! A folder, or a part of it, that is renamed, removed, replaced or mounted over while the log is written.

use std::os::unix::fs::symlink;
use std::sync::Mutex;

use super::super::fs::{Identity, Lock, LogFile};
use super::*;

/// A folder for logs, and the path of the one that is written to.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        Self { dir: folder() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> PathBuf {
        self.path("flags")
    }

    fn open(&self) -> FlagLog {
        open_at(&self.log(), Options::default())
    }
}

fn open_at(dir: &Path, options: Options) -> FlagLog {
    FlagLog::open_with(&config(dir), "box", SystemClock::shared(), options).expect("open")
}

fn check(dir: &Path) -> verify::Report {
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    verify::verify(&fs, dir, None).expect("it can be checked")
}

fn holds(dir: &Path) -> verify::Report {
    let report = check(dir);
    assert!(report.holds, "{}: {:?}", dir.display(), report.problems);
    report
}

fn items(dir: &Path) -> Vec<Item> {
    let mut reader = Reader::from_start(Arc::new(OsFs), dir);
    std::iter::from_fn(|| reader.next().expect("sound")).collect()
}

/// All files with what is in them.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("listed").flatten() {
        match entry.path() {
            path if path.is_dir() => all.extend(contents(&path)),
            path => all.push((path.clone(), std::fs::read(&path).expect("read"))),
        }
    }
    all.sort();
    all
}

fn with_picture(log: &mut FlagLog, new: NewRecord) -> Record {
    log.append(new, Some(&evidence(&[ScoredTile { rect: rect(0), score: 0.9 }]))).expect("append")
}

fn begin(log: &mut FlagLog) -> Record {
    with_picture(log, new_record("cam", 0.9))
}

fn more(event: Ulid, kind: EventKind) -> NewRecord {
    NewRecord { event: Some(event), kind, ..new_record("cam", 0.8) }
}

/// That the log at `dir` took another's place while `event` was open, with what came then.
fn took_over(dir: &Path, event: Ulid, then: &[Record]) {
    let items = items(dir);
    let note = items.iter().find_map(|i| match &i.entry {
        Entry::Note(note) if note.note == NoteKind::Moved => Some(note),
        _ => None,
    });
    let note = note.expect("a note says so");
    assert_eq!(note.events, [event], "{}", note.text);
    assert!(note.text.contains("ended with record"), "{}", note.text);
    let of_event: Vec<Record> = events(&items).into_iter().filter(|r| r.event == event).collect();
    let (first, rest) = of_event.split_first().expect("it goes on");
    assert_eq!((first.kind, first.verdict, &first.evidence), (EventKind::Update, Verdict::Synthetic, &None));
    assert!(first.reason.as_deref().is_some_and(|r| r.contains("goes on here")), "{first:?}");
    assert_eq!(rest, then);
    holds(dir);
}

#[test]
fn a_folder_that_is_renamed_removed_or_replaced_is_left_and_its_events_go_on_where_the_path_leads() {
    type Change = (&'static str, fn(&Ground));
    let changes: [Change; 4] = [
        ("renamed", |g| std::fs::rename(g.log(), g.path("old")).expect("renamed")),
        ("removed", |g| std::fs::remove_dir_all(g.log()).expect("removed")),
        ("replaced by an empty one", |g| {
            std::fs::rename(g.log(), g.path("old")).expect("renamed");
            std::fs::create_dir(g.log()).expect("made");
        }),
        ("replaced by a link", |g| {
            std::fs::rename(g.log(), g.path("old")).expect("renamed");
            std::fs::create_dir(g.path("elsewhere")).expect("made");
            symlink(g.path("elsewhere"), g.log()).expect("linked");
        }),
    ];
    for (what, change) in changes {
        let ground = Ground::new();
        let mut log = ground.open();
        let start = begin(&mut log);
        assert_eq!(log.status().alarm, None);
        change(&ground);
        let old = ground.path("old");
        let before = old.exists().then(|| contents(&old));
        let update = with_picture(&mut log, more(start.event, EventKind::Update));
        let end = log.append(more(start.event, EventKind::End), None).expect("append");
        let status = log.status();
        assert_eq!(status.displaced, 1, "{what}");
        assert!(status.alarm.is_some_and(|a| a.contains("a new log was begun")), "{what}");
        took_over(&ground.log(), start.event, &[update.clone(), end]);
        let picture = update.evidence.expect("evidence").frame;
        let path = picture.path_in(&ground.log()).expect("ours");
        assert_eq!(Hash::of(&std::fs::read(path).expect("it is there")), picture.sha256, "{what}");
        if let Some(before) = before {
            assert!(contents(&old) == before, "{what}: nothing more goes into the folder that was left");
            assert_eq!(events(&items(&old)), [start], "{what}");
            holds(&old);
        }
        // The alarm stays, whatever is written; the next start has none.
        log.tidy();
        assert!(log.status().alarm.is_some(), "{what}");
        drop(log);
        let mut log = ground.open();
        assert_eq!(log.close_left_open().expect("closed"), 0, "{what}");
        assert_eq!(log.status().alarm, None, "{what}");
    }
}

#[test]
fn it_is_seen_although_nothing_is_flagged() {
    let ground = Ground::new();
    let mut log = ground.open();
    std::fs::remove_dir_all(ground.log()).expect("removed");
    log.settle().expect("a new log");
    assert_eq!(log.displaced(), 1);
    assert_eq!(notes(&items(&ground.log())), [NoteKind::Moved]);
    log.settle().expect("all is well");
    assert_eq!(log.displaced(), 1);
}

#[test]
fn a_folder_that_comes_back_and_one_with_another_log_in_it_are_gone_on_with() {
    let ground = Ground::new();
    let other = {
        let mut log = open_at(&ground.path("other"), Options::default());
        begin(&mut log).event
    };
    let mut log = ground.open();
    let start = begin(&mut log);
    // Another log, whose last run had left an event open.
    std::fs::rename(ground.log(), ground.path("first")).expect("renamed");
    std::fs::rename(ground.path("other"), ground.log()).expect("renamed");
    log.settle().expect("gone on with");
    assert_eq!(log.close_left_open().expect("closed"), 1);
    let ends: Vec<Ulid> =
        events(&items(&ground.log())).iter().filter(|r| r.kind == EventKind::End).map(|r| r.event).collect();
    assert_eq!(ends, [other], "the event of this run is not closed");
    // And back again: there our event was left open, and it still is.
    std::fs::rename(ground.log(), ground.path("other")).expect("renamed");
    std::fs::rename(ground.path("first"), ground.log()).expect("renamed");
    let end = log.append(more(start.event, EventKind::End), None).expect("append");
    assert_eq!(log.close_left_open().expect("closed"), 0);
    assert_eq!(log.status().displaced, 2);
    let kinds: Vec<EventKind> = events(&items(&ground.log())).iter().map(|r| r.kind).collect();
    assert_eq!(kinds, [EventKind::Start, EventKind::Update, EventKind::End]);
    assert_eq!(events(&items(&ground.log())).last(), Some(&end));
    holds(&ground.log());
    holds(&ground.path("other"));
}

#[test]
fn where_no_log_can_be_begun_nothing_is_acknowledged_until_it_can() {
    let ground = Ground::new();
    let mut log = ground.open();
    let start = begin(&mut log);
    std::fs::rename(ground.log(), ground.path("old")).expect("renamed");
    std::fs::write(ground.log(), "a file stands here").expect("written");
    let before = contents(&ground.path("old"));
    for _ in 0..3 {
        let error = log.append(more(start.event, EventKind::Update), None).expect_err("nowhere to write to");
        assert!(matches!(error, LogError::Dir { .. }), "{error}");
    }
    assert!(log.status().alarm.is_some());
    assert!(contents(&ground.path("old")) == before);
    // Another process writes there now.
    std::fs::remove_file(ground.log()).expect("removed");
    let rival = ground.open();
    let error = log.append(more(start.event, EventKind::Update), None).expect_err("locked");
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
    drop(rival);
    let update = log.append(more(start.event, EventKind::Update), None).expect("append");
    took_over(&ground.log(), start.event, &[update]);
}

/// The machine's file system, with something done at the moment when a segment's line has just been synced.
#[derive(Debug, Clone)]
struct Meddled {
    inner: Arc<dyn Fs>,
    deed: Deed,
}

type Once = Box<dyn FnOnce() + Send>;

#[derive(Clone, Default)]
struct Deed(Arc<Mutex<Option<Once>>>);

impl std::fmt::Debug for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deed")
    }
}

impl Deed {
    fn set(&self, deed: impl FnOnce() + Send + 'static) {
        *self.0.lock().expect("lock") = Some(Box::new(deed));
    }
}

struct MeddledFile {
    inner: Box<dyn LogFile>,
    deed: Option<Deed>,
}

impl Fs for Meddled {
    fn hold(&self, dir: &Path) -> io::Result<Arc<dyn Fs>> {
        Ok(Arc::new(Self { inner: self.inner.hold(dir)?, deed: self.deed.clone() }))
    }
    fn identity(&self, path: &Path) -> io::Result<Identity> {
        self.inner.identity(path)
    }
    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dirs(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.inner.len(path)
    }
    fn read(&self, path: &Path, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        self.inner.read(path, offset, max)
    }
    fn append(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let segment = path.extension().is_some_and(|e| e == "jsonl");
        let deed = segment.then(|| self.deed.clone());
        Ok(Box::new(MeddledFile { inner: self.inner.append(path)?, deed }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir(dir)
    }
    fn free(&self, dir: &Path) -> io::Result<u64> {
        self.inner.free(dir)
    }
    fn may_write(&self, path: &Path) -> io::Result<()> {
        self.inner.may_write(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }
}

impl LogFile for MeddledFile {
    fn identity(&self) -> io::Result<Identity> {
        self.inner.identity()
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.inner.sync()?;
        if let Some(deed) = self.deed.as_ref().and_then(|d| d.0.lock().expect("lock").take()) {
            deed();
        }
        Ok(())
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }
}

#[test]
fn a_record_is_taken_back_when_its_folder_goes_before_it_is_acknowledged() {
    for removed in [false, true] {
        let ground = Ground::new();
        let deed = Deed::default();
        let fs = Arc::new(Meddled { inner: Arc::new(OsFs), deed: deed.clone() });
        let mut log = open_at(&ground.log(), Options { fs, ..Options::default() });
        let tail = log.tail();
        let start = begin(&mut log);
        let (from, to) = (ground.log(), ground.path("old"));
        deed.set(move || {
            if removed {
                std::fs::remove_dir_all(&from).expect("removed");
            } else {
                std::fs::rename(&from, &to).expect("renamed");
            }
        });
        let update = with_picture(&mut log, more(start.event, EventKind::Update));
        assert_eq!(tail.durable(), start.seq, "in the log before nothing more was acknowledged");
        assert_eq!(tail.successor().expect("another log").durable(), update.seq);
        took_over(&ground.log(), start.event, &[update]);
        if !removed {
            let old = ground.path("old");
            assert_eq!(events(&items(&old)), [start], "what was not acknowledged is not in the log before");
            assert_eq!(holds(&old).evidence_files, 2);
        }
    }
}

#[test]
fn a_record_is_not_acknowledged_without_the_pictures_that_it_names() {
    let ground = Ground::new();
    let deed = Deed::default();
    let fs = Arc::new(Meddled { inner: Arc::new(OsFs), deed: deed.clone() });
    let mut log = open_at(&ground.log(), Options { fs, ..Options::default() });
    begin(&mut log);
    let evidence = ground.log().join("evidence");
    deed.set(move || std::fs::remove_dir_all(evidence).expect("removed"));
    let second = begin(&mut log);
    let file = second.evidence.expect("evidence").frame;
    assert!(file.path_in(&ground.log()).expect("ours").exists());
    assert!(log.status().alarm.is_some_and(|a| a.contains("evidence")), "the first one's are gone");
    let report = check(&ground.log());
    assert_eq!((report.problem_count, report.evidence_files), (2, 2), "{:?}", report.problems);
    assert!(notes(&items(&ground.log())).contains(&NoteKind::Damaged));
}

#[test]
fn a_tail_reads_the_log_before_to_its_end_and_then_the_next() {
    let ground = Ground::new();
    let mut log = ground.open();
    let tail = log.tail();
    let wake = tail.wake();
    let old: Vec<Record> =
        (0..3).map(|_| log.append(new_record("cam", 0.9), None).expect("append")).collect();
    let _ = wake.try_recv();
    std::fs::rename(ground.log(), ground.path("old")).expect("renamed");
    let next = log.append(new_record("door", 0.9), None).expect("append");
    assert!(wake.try_recv().is_ok(), "readers are woken for the new log too");
    let mut reader = tail.from_start();
    for record in &old {
        let item = reader.next_durable().expect("read").expect("still there");
        assert_eq!(item.entry.id(), record.id);
    }
    assert_eq!(reader.next_durable().expect("read"), None);
    let tail = tail.successor().expect("another log");
    let mut reader = tail.from_start();
    let all = std::iter::from_fn(|| reader.next_durable().expect("read")).collect::<Vec<_>>();
    assert_eq!(all.last().map(|i| i.entry.id()), Some(next.id));
    // A second move wakes them as well.
    std::fs::remove_dir_all(ground.log()).expect("removed");
    let wake_late = log.tail().wake();
    log.settle().expect("a new log");
    assert!(wake.try_recv().is_ok() && wake_late.try_recv().is_ok());
}

#[test]
fn a_segment_that_is_taken_cut_or_written_to_by_others_is_left_and_the_chain_goes_on() {
    type Change = (&'static str, fn(&Path));
    let changes: [Change; 5] = [
        ("removed", |p| std::fs::remove_file(p).expect("removed")),
        ("renamed", |p| std::fs::rename(p, p.with_extension("jsonl.1")).expect("renamed")),
        ("cut", |p| std::fs::write(p, "").expect("cut")),
        ("written to", |p| {
            let mut bytes = std::fs::read(p).expect("read");
            bytes.extend(b"not a record\n");
            std::fs::write(p, bytes).expect("written");
        }),
        ("replaced", |p| {
            let copy = p.with_extension("copy");
            std::fs::copy(p, &copy).expect("copied");
            std::fs::rename(copy, p).expect("renamed");
        }),
    ];
    for (what, change) in changes {
        let ground = Ground::new();
        let mut log = ground.open();
        let start = begin(&mut log);
        let first = segment::path(&ground.log(), 1);
        change(&first);
        let update = log.append(more(start.event, EventKind::Update), None).expect("append");
        let end = log.append(more(start.event, EventKind::End), None).expect("append");
        assert_eq!((update.seq, end.seq), (3, 4), "{what}: behind the note");
        assert!(log.status().alarm.is_some_and(|a| a.contains("new segment")), "{what}");
        let second = segment::path(&ground.log(), 2);
        let text = std::fs::read_to_string(&second).expect("another segment");
        assert!(text.starts_with("{\"type\":\"note\"") && text.lines().count() == 3, "{what}: {text}");
        assert!(text.contains(&format!("\"prev\":\"{}\"", start.hash)), "{what}: the chain goes on");
        let report = check(&ground.log());
        let whole = what == "replaced";
        assert_eq!(report.holds, whole, "{what}: {:?}", report.problems);
        // All that was acknowledged and not taken is there, and nothing was written over it.
        if whole {
            assert_eq!(report.records, 4, "{what}");
        }
        assert_eq!(log.close_left_open().expect("none"), 0);
        drop(log);
        ground.open();
    }
}

#[test]
fn a_lock_that_is_taken_away_is_taken_again_or_nothing_is_written() {
    let ground = Ground::new();
    let mut log = ground.open();
    std::fs::remove_file(ground.log().join("lock")).expect("removed");
    log.append(new_record("cam", 0.9), None).expect("append");
    assert!(log.status().alarm.is_some_and(|a| a.contains("lock")));
    let second = FlagLog::open(&config(&ground.log()), "box", SystemClock::shared()).map(drop);
    assert!(matches!(second, Err(LogError::Locked { .. })), "{second:?}");
    // Another one was faster.
    std::fs::remove_file(ground.log().join("lock")).expect("removed");
    let rival = OsFs.lock(&ground.log().join("lock")).expect("locked");
    let error = log.append(new_record("cam", 0.9), None).expect_err("another one may write");
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
    drop(rival);
    log.append(new_record("cam", 0.9), None).expect("append");
    assert_eq!(events(&items(&ground.log())).len(), 2);
    holds(&ground.log());
}
