//! What happens when the folder of the log is moved.
//!
//! Folders are renamed, removed and mounted over while a daemon runs. Everything is written by the descriptor of the
//! folder that was opened ([`super::held`]), so nothing of the log is ever torn apart; and before a record is
//! acknowledged the path must still lead to that folder, its segment must be the file that was written to, its
//! pictures must be there, and the lock must be ours. Otherwise the record is taken back, and:
//!
//! - **Another folder, or none, is where the path leads:** the log begins anew there, as at a start; a `moved` note
//!   says what stood there before, and every event that was open goes on in the new log with an `update`.
//! - **The segment is another file, or has another length:** it is left as it is, and a new one goes on with the chain.
//! - **The folder of evidence is another one:** said; new pictures go where it leads.
//! - **The lock is another file:** that one is locked, or nothing is written any more.
//!
//! Each is an alarm until the daemon is started again: records may be where nobody looks for them.

use ulid::Ulid;

use super::error::LogError;
use super::evidence::FOLDER;
use super::place::{Carried, Displaced, Opened, take_lock};
use super::record::{Entry, NewRecord, NoteKind};
use super::segment;
use super::writer::FlagLog;
use spotd_core::verdict::EventKind;

/// How often the path may lead elsewhere again while a new log is being begun.
const ROUNDS: u32 = 4;

impl FlagLog {
    /// Makes sure that the log stands where its path leads, before anything is written; to be called now and then
    /// also when nothing is. See `settle.rs` for what is done where it does not.
    ///
    /// # Errors
    /// [`LogError`]: where the path leads nothing can be written now. The next call tries anew.
    pub fn settle(&mut self) -> Result<(), LogError> {
        let settled = self.settle_now();
        if let Err(e) = &settled {
            self.trouble = Some(e.to_string());
        }
        settled
    }

    /// How often since it was opened the folder, or a part of it, was found renamed, removed, replaced or mounted over.
    pub fn displaced(&self) -> u64 {
        self.displaced
    }

    fn settle_now(&mut self) -> Result<(), LogError> {
        for _ in 0..ROUNDS {
            let look = self.place.look(self.segment.as_ref());
            match look.map_err(|error| LogError::Dir { dir: self.place.dir.clone(), error })? {
                None => match self.carry_over() {
                    Err(LogError::Displaced { .. }) => {}
                    done => return done,
                },
                Some(Displaced::Folder(how)) => self.begin_anew(how)?,
                Some(Displaced::Lock) => self.lock_again()?,
                Some(Displaced::Segment(how)) => self.leave_segment(how),
                Some(Displaced::Evidence) => self.follow_evidence(),
            }
        }
        Err(LogError::Displaced { dir: self.place.dir.clone() })
    }

    /// Begins a log where the path leads now.
    fn begin_anew(&mut self, how: &str) -> Result<(), LogError> {
        let dir = self.place.dir.clone();
        let until = self.next_seq - 1;
        let what = format!("the folder {how} while spotd ran");
        if !std::mem::replace(&mut self.homeless, true) {
            log::error!("flag log {}: {what}; a new log is begun where its path leads now", dir.display());
        }
        let Opened { place, found, index } = Opened::open(&self.options.fs, &dir)?;
        let mut events = std::mem::take(&mut self.carried.events);
        events.extend(std::mem::take(&mut self.index.open).into_values());
        events.sort_by_key(|r| std::cmp::Reverse((r.written, r.seq)));
        let ids: Vec<Ulid> = events.iter().map(|r| r.event).collect();
        let before = match until {
            0 => "had no records".to_owned(),
            _ => format!("ended with record {until} (hash {})", self.prev),
        };
        let note = format!(
            "{what}; the log that stood here before {before}; {} open event(s) go on here",
            ids.len()
        );
        self.tail = self.tail.succeed(place.fs.clone(), found.next_seq - 1);
        self.place = place;
        (self.next_seq, self.prev, self.latest) = (found.next_seq, found.prev, found.latest);
        self.segment = found.segment;
        // An event that goes on is not one that a crash has left, even where the folder before has come back.
        self.left_open =
            index.open.iter().filter(|(id, _)| !ids.contains(id)).map(|(i, r)| (*i, r.clone())).collect();
        self.index = index;
        self.carried = Carried { note: Some(note), events };
        self.homeless = false;
        self.alarm(format!(
            "{what}: records up to {until} are no longer at {}, and a new log was begun there; \
             bring the two in order and start spotd again",
            dir.display()
        ));
        self.say(found.notes);
        Ok(())
    }

    /// Says in a log that has taken another's place what that was, and lets its open events go on.
    fn carry_over(&mut self) -> Result<(), LogError> {
        if let Some(text) = self.carried.note.clone() {
            let events = self.carried.events.iter().rev().map(|r| r.event).collect();
            self.write_note(NoteKind::Moved, text, |note| note.events = events)?;
            self.carried.note = None;
        }
        while let Some(last) = self.carried.events.last() {
            let reason = format!(
                "the folder of the log was taken away while this event was open; it goes on here (last record \
                 before: {}, written {:.3})",
                last.seq, last.written
            );
            let new = NewRecord::without_frame(last, EventKind::Update, last.verdict, self.clock.wall());
            let mut record = self.record(new);
            record.reason = Some(reason);
            self.write_in_need(Entry::Event(Box::new(record)), 0)?;
            self.carried.events.pop();
        }
        Ok(())
    }

    fn lock_again(&mut self) -> Result<(), LogError> {
        self.place.lock = take_lock(&*self.place.fs, &self.place.dir)?;
        self.alarm(format!(
            "{}: the lock file was replaced or removed while spotd ran; it was taken again, but another process may have \
             written meanwhile",
            self.place.dir.display()
        ));
        Ok(())
    }

    /// Goes on in a new segment.
    fn leave_segment(&mut self, how: &str) {
        let Some(segment) = self.segment.take() else { return };
        let text = format!(
            "{} {how} while spotd ran, after record {}; records go on in a new segment",
            segment::file_name(segment.first),
            self.next_seq - 1
        );
        match self.place.fs.len(&segment.path) {
            Ok(bytes) => self.index.segment_is(segment.first, bytes),
            Err(_) => self.index.forget_segment(segment.first),
        }
        self.alarm(format!("{}: {text}", self.place.dir.display()));
        if let Err(e) = self.note(NoteKind::Damaged, text) {
            log::error!("{e}; it was not noted in the log itself");
        }
    }

    fn follow_evidence(&mut self) {
        let top = self.place.dir.join(FOLDER);
        self.place.evidence = self.place.fs.identity(&top).ok();
        let gone: Vec<Ulid> = self.index.evidence.values().map(|k| k.event).collect();
        let gone: Vec<Ulid> =
            gone.into_iter().filter(|e| self.place.fs.identity(&top.join(e.to_string())).is_err()).collect();
        for event in &gone {
            self.index.forget_evidence(*event);
        }
        let text = format!(
            "the folder {FOLDER} was renamed, removed or mounted over while spotd ran; pictures of {} event(s) are no \
             longer in it",
            gone.len()
        );
        self.alarm(format!("{}: {text}", self.place.dir.display()));
        if let Err(e) = self.note(NoteKind::Damaged, text) {
            log::error!("{e}; it was not noted in the log itself");
        }
    }

    /// Counts and says what needs a person, until the next start.
    fn alarm(&mut self, alarm: String) {
        log::error!("flag log: {alarm}");
        self.displaced += 1;
        self.lasting = Some(alarm);
    }

    /// An error where the log no longer stands where its path leads.
    pub(super) fn still_in_place(&self) -> Result<(), LogError> {
        let dir = || self.place.dir.clone();
        match self.place.look(self.segment.as_ref()) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(LogError::Displaced { dir: dir() }),
            Err(error) => Err(LogError::Dir { dir: dir(), error }),
        }
    }

    /// An error where the pictures of a record are no longer where it says.
    pub(super) fn evidence_in_place(&mut self, entry: &Entry) -> Result<(), LogError> {
        let Entry::Event(record) = entry else { return Ok(()) };
        let dir = self.place.dir.clone();
        match self.place.has_evidence(record) {
            Ok(true) => Ok(()),
            Ok(false) => Err(LogError::Displaced { dir }),
            Err(error) => Err(LogError::Dir { dir, error }),
        }
    }
}
