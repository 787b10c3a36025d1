//! What has to hold for a flag log's folder, whatever lies in it: reading comes to an end, what is given out is what
//! stands there, and a cursor leads where it says or is refused.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use spotd_flaglog::chain::{self, Hash};
use spotd_flaglog::cursor::CursorFile;
use spotd_flaglog::fs::{Fs, Identity, Lock, LogFile};
use spotd_flaglog::review::reviewed;
use spotd_flaglog::{Finding, Item, ReadError, Reader, segment};

const DIR: &str = "/log";

/// Files in memory: as much as reading a log and keeping a cursor asks for.
#[derive(Debug, Clone, Default)]
struct Files(Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>);

impl Files {
    fn put(&self, path: &Path, bytes: &[u8]) {
        self.0.lock().expect("lock").insert(path.to_owned(), bytes.to_vec());
    }

    fn get<T>(&self, path: &Path, take: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
        self.0.lock().expect("lock").get_mut(path).map(take).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Fs for Files {
    fn hold(&self, _: &Path) -> io::Result<Arc<dyn Fs>> {
        Ok(Arc::new(self.clone()))
    }

    fn identity(&self, _: &Path) -> io::Result<Identity> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create_dirs(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.0.lock().expect("lock");
        let here = files.keys().filter(|p| p.parent() == Some(dir));
        Ok(here.filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.get(path, |bytes| bytes.len() as u64)
    }

    fn read(&self, path: &Path, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        self.get(path, |bytes| bytes.iter().skip(from).take(max).copied().collect())
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        self.0.lock().expect("lock").entry(path.to_owned()).or_default();
        Ok(Box::new(Open(self.clone(), path.to_owned())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.0.lock().expect("lock");
        let bytes = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().expect("lock").remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn may_write(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Lock>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct Open(Files, PathBuf);

impl LogFile for Open {
    fn len(&self) -> io::Result<u64> {
        self.0.len(&self.1)
    }

    fn identity(&self) -> io::Result<Identity> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get(&self.1, |all| all.extend_from_slice(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.get(&self.1, |all| all.truncate(usize::try_from(len).unwrap_or(usize::MAX)))
    }
}

/// A record of a log, in its shortest form, closed as the log closes one.
pub fn note(seq: u64, prev: Hash) -> (Hash, String) {
    chain::seal(&format!(
        "{{\"type\":\"note\",\"schema\":1,\"seq\":{seq},\"id\":\"01KAT5Z0M3B7T1K8P5R2V6H4QE\",\"node\":\"n\",\
         \"written\":\"2026-11-24T09:17:10.004Z\",\"note\":\"recovered\",\"text\":\"t\",\"software\":\"s\",\
         \"prev\":\"{prev}\"}}"
    ))
}

/// A review, likewise.
pub fn review(seq: u64, prev: Hash) -> (Hash, String) {
    chain::seal(&format!(
        "{{\"type\":\"review\",\"schema\":2,\"seq\":{seq},\"id\":\"01KAT5Z0M3B7T1K8P5R2V6H4QE\",\
         \"event\":\"01KAT5V3JFQ8Z6W2C4N9X7D1RB\",\"node\":\"n\",\"source\":\"s\",\"review\":\"confirmed\",\"by\":\"b\",\
         \"written\":\"2026-11-24T09:17:10.004Z\",\"clock\":\"unknown\",\"software\":\"s\",\"prev\":\"{prev}\"}}"
    ))
}

/// Two segments. No mutation hits upon a SHA-256, so lines that begin with a mark become sound ones: `!` and members
/// are closed as a record's, `#` and a number give a whole note, `@` a whole review, and `~` ends the first segment. All other bytes
/// stay as they are.
pub fn segments(data: &[u8]) {
    let files = Files::default();
    let (mut content, mut prev, mut first) = (Vec::new(), Hash::ZERO, 1u64);
    for line in data.split_inclusive(|&b| b == b'\n') {
        let text = std::str::from_utf8(line).unwrap_or_default().trim_end_matches('\n');
        let number = |text: &str| text.parse().unwrap_or(1u64);
        if let Some(members) = text.strip_prefix('!') {
            let (hash, sealed) = chain::seal(&format!("{{{members},\"prev\":\"{prev}\"}}"));
            (prev, _) = (hash, content.extend_from_slice(sealed.as_bytes()));
        } else if let Some(seq) = text.strip_prefix('#') {
            let (hash, sealed) = note(number(seq), prev);
            (prev, _) = (hash, content.extend_from_slice(sealed.as_bytes()));
        } else if let Some(seq) = text.strip_prefix('@') {
            let (hash, sealed) = review(number(seq), prev);
            (prev, _) = (hash, content.extend_from_slice(sealed.as_bytes()));
        } else if let Some(next) = text.strip_prefix('~') {
            files.put(&segment::path(Path::new(DIR), first), &content);
            content.clear();
            first = number(next);
        } else {
            content.extend_from_slice(line);
        }
    }
    files.put(&segment::path(Path::new(DIR), first), &content);
    read_all(&files);
    // What people have judged is read twice, and both times comes to an end.
    let shared: Arc<dyn Fs> = Arc::new(files);
    for event in reviewed(&shared, Path::new(DIR)).expect("files in memory") {
        assert!(matches!(event.finding, Finding::Confirmed | Finding::FalseAlarm));
    }
}

fn read_all(files: &Files) {
    let shared: Arc<dyn Fs> = Arc::new(files.clone());
    let mut reader = Reader::from_start(shared.clone(), Path::new(DIR));
    let lines: usize = files.0.lock().expect("lock").values().map(|b| b.split(|&b| b == b'\n').count()).sum();
    let mut last: Option<Item> = None;
    // A line gives a record, an error, or a gap and then a record.
    for _ in 0..=2 * lines + 2 {
        let (item, gap) = match reader.next() {
            Ok(None) => {
                assert_eq!(reader.next().expect("still the end"), None);
                return;
            }
            Ok(Some(item)) => (item, false),
            Err(ReadError::Io { error, .. }) => panic!("{error}"),
            Err(_) => (
                match reader.next() {
                    Ok(Some(item)) => item,
                    _ => {
                        last = None;
                        continue;
                    }
                },
                true,
            ),
        };
        // What is given out is what stands there, and its hash is that of its bytes.
        let path = Path::new(DIR).join(&item.place.segment);
        let line = [item.line.as_bytes(), b"\n"].concat();
        assert_eq!(shared.read(&path, item.place.offset, line.len()).expect("read"), line);
        let link = chain::link(item.line.as_bytes()).expect("a link");
        assert!(link.fits && link.hash == item.entry.hash() && link.prev == item.entry.prev());
        if let (Some(before), false) = (&last, gap) {
            assert_eq!(Some(item.entry.seq()), before.entry.seq().checked_add(1), "no gap goes unsaid");
            assert_eq!(item.entry.prev(), before.entry.hash(), "nor another line before");
        }
        // A cursor leads back to it, by its place or without.
        let mark = item.mark();
        Reader::after(shared.clone(), Path::new(DIR), mark).expect("it was just read there");
        last = Some(item);
    }
    panic!("reading does not come to an end");
}

/// A cursor file beside a log of four records.
pub fn cursor(data: &[u8]) {
    let files = Files::default();
    let (mut content, mut prev, mut marks) = (String::new(), Hash::ZERO, Vec::new());
    for seq in 1..=4 {
        let (hash, line) = note(seq, prev);
        marks.push((seq, hash));
        content += &line;
        prev = hash;
    }
    files.put(&segment::path(Path::new(DIR), 1), content.as_bytes());
    let shared: Arc<dyn Fs> = Arc::new(files.clone());
    let file = CursorFile::new(shared.clone(), Path::new(DIR), "fuzz");
    // No mutation hits upon a hash: `H1` to `H4` stand for those of the log.
    let mut text = String::from_utf8_lossy(data).into_owned();
    for (seq, hash) in &marks {
        text = text.replace(&format!("H{seq}"), &hash.to_string());
    }
    let is_text = std::str::from_utf8(data).is_ok();
    files.put(file.path(), if is_text { text.as_bytes() } else { data });
    match file.load() {
        Err(why) => assert!(!why.is_empty()),
        Ok(None) => panic!("the file is there"),
        Ok(Some(mark)) => {
            let right = marks.contains(&(mark.seq, mark.hash));
            let reader = Reader::after(shared, Path::new(DIR), mark);
            assert_eq!(reader.is_ok(), right || mark.seq == 0, "{mark:?}");
            if let Ok(mut reader) = reader
                && right
            {
                let next = reader.next().expect("sound").map(|i| i.entry.seq());
                assert_eq!(next, (mark.seq < 4).then_some(mark.seq + 1), "{mark:?}");
            }
            file.save(mark).expect("saved");
            assert_eq!(file.load(), Ok(Some(mark)), "what was saved is read");
        }
    }
}
