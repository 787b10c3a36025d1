//! Records that the log could not take yet: they wait in memory with their pictures, in order, until it can.
//!
//! Only so much is kept, because nobody knows for how long: so many records a source, and so many bytes of pictures in
//! all. The end of an event is always kept, since the event would else stay open for ever.

use std::collections::VecDeque;

use crate::clock::Moment;
use crate::flaglog::{Evidence, NewRecord};
use crate::verdict::EventKind;

/// Records of a source that wait at most, ends of events aside.
const RECORDS: usize = 16;
/// Bytes of pictures that wait at most, of all sources together.
const PICTURES: u64 = 64 << 20;

/// A record with its pictures, or why it has none.
pub(super) struct Ready {
    /// Which event it belongs to is filled in when it is written.
    pub record: NewRecord,
    /// Its pictures.
    pub evidence: Result<Option<Evidence>, String>,
    /// When it was made.
    pub made: Moment,
}

impl Ready {
    fn bytes(&self) -> u64 {
        self.evidence.as_ref().ok().and_then(Option::as_ref).map_or(0, Evidence::bytes)
    }
}

/// The records of one source that wait.
#[derive(Default)]
pub(super) struct Waiting {
    records: VecDeque<Ready>,
}

impl Waiting {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes of their pictures.
    pub fn bytes(&self) -> u64 {
        self.records.iter().map(Ready::bytes).sum()
    }

    /// Whether an event will be open when all are written, `now` being whether one is in the log.
    pub fn leaves_open(&self, now: bool) -> bool {
        let last = self.records.iter().rev().map(|r| r.record.kind).find(|kind| *kind != EventKind::Alert);
        last.map_or(now, |kind| kind != EventKind::End)
    }

    /// The one that is to be written first.
    pub fn first(&self) -> Option<&Ready> {
        self.records.front()
    }

    /// Takes it away, because it was written or cannot be.
    pub fn pop(&mut self) -> Option<Ready> {
        self.records.pop_front()
    }

    /// Takes one more; false where it is given up, because too many wait already. `elsewhere`: bytes of pictures that
    /// other sources' records hold.
    pub fn push(&mut self, mut ready: Ready, elsewhere: u64) -> bool {
        // Of what an event has to say while it goes on only the newest matters.
        if ready.record.kind == EventKind::Update
            && self.records.back().is_some_and(|last| last.record.kind == EventKind::Update)
        {
            self.records.pop_back();
        }
        let kept = self.records.iter().filter(|r| r.record.kind != EventKind::End).count();
        if ready.record.kind != EventKind::End && kept >= RECORDS {
            return false;
        }
        if !self.records.is_empty() && elsewhere + self.bytes() + ready.bytes() > PICTURES {
            ready.evidence = Err("the log could not be written, and memory holds no more pictures".into());
        }
        self.records.push_back(ready);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use EventKind::{Alert, End, Start, Update};

    use super::*;
    use crate::identity::{ModelIdentity, Precision};
    use crate::recorder::tests::judgement;
    use crate::verdict::Verdict;

    fn ready(kind: EventKind, bytes: usize) -> Ready {
        let model = ModelIdentity {
            name: "test".into(),
            version: "1".into(),
            sha256: String::new(),
            precision: Precision::F32,
            coherence: None,
        };
        let record = NewRecord {
            event: None,
            source: "cam".into(),
            kind,
            verdict: Verdict::Synthetic,
            judgement: judgement(),
            frame: None,
            tiles: vec![],
            captured: SystemTime::UNIX_EPOCH,
            logits: None,
            model,
            alert: None,
        };
        let evidence = Evidence { frame: vec![0; bytes], ..Evidence::default() };
        Ready { record, evidence: Ok(Some(evidence)), made: Duration::ZERO }
    }

    fn kinds(waiting: &Waiting) -> Vec<EventKind> {
        waiting.records.iter().map(|r| r.record.kind).collect()
    }

    #[test]
    fn an_event_that_waits_is_open_until_its_end_waits_too() {
        let mut waiting = Waiting::default();
        assert!(waiting.leaves_open(true) && !waiting.leaves_open(false));
        for (kind, open) in [(Alert, false), (Start, true), (Update, true), (Alert, true), (End, false)] {
            assert!(waiting.push(ready(kind, 1), 0));
            assert_eq!(waiting.leaves_open(false), open, "{kind:?}");
        }
        assert_eq!(kinds(&waiting), [Alert, Start, Update, Alert, End]);
    }

    #[test]
    fn only_the_newest_update_waits_and_too_many_records_are_refused_but_no_end() {
        let mut waiting = Waiting::default();
        for kind in [Update, Update, Update] {
            assert!(waiting.push(ready(kind, 1), 0));
        }
        assert_eq!(kinds(&waiting), [Update]);
        while waiting.push(ready(Start, 1), 0) {
            assert!(waiting.push(ready(End, 1), 0));
        }
        assert_eq!(waiting.len(), 2 * RECORDS - 1);
        assert!(waiting.push(ready(End, 1), 0));
    }

    #[test]
    fn pictures_take_so_many_bytes_and_those_that_have_no_room_say_so() {
        let mut waiting = Waiting::default();
        let third = usize::try_from(PICTURES / 3).expect("small") + 1;
        for _ in 0..3 {
            assert!(waiting.push(ready(Start, third), 0));
        }
        let why = waiting.records[2].evidence.as_ref().expect_err("no room");
        assert!(why.contains("no more pictures"), "{why}");
        assert!(waiting.records[1].evidence.is_ok() && waiting.bytes() <= PICTURES);
        // What other sources hold counts as well, but the first record keeps its own: it is written next.
        let mut other = Waiting::default();
        for _ in 0..2 {
            assert!(other.push(ready(Start, third), PICTURES));
        }
        assert_eq!(other.records.iter().map(|r| r.evidence.is_ok()).collect::<Vec<_>>(), [true, false]);
    }
}
