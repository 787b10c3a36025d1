//! A model of the log, its cursor and its retention, run against the real thing on a file system that
//! fails, fills up and loses power.

use proptest::prelude::*;

use super::reviews::judge;
use super::*;
use crate::cursor::CursorFile;
use crate::{Finding, NewReview, RetentionConfig, Review, ReviewError};

#[derive(Debug, Clone)]
enum Step {
    /// A record of one of three sources, with or without pictures.
    Append {
        source: usize,
        pictures: bool,
    },
    /// Ends the event of a source, if one is open.
    End {
        source: usize,
    },
    /// An operator judges the newest event.
    Review {
        finding: usize,
    },
    /// A reader takes up to so many records and keeps its cursor.
    Read {
        records: usize,
    },
    /// Time goes on, or back.
    Days(i8),
    Tidy,
    /// The process dies; or the power goes, with so much of what was not synced on the disk.
    Kill,
    PowerCut {
        kept: usize,
        zeros: bool,
    },
    /// Some operations fail.
    Fail {
        from: u64,
        len: u64,
        full: bool,
    },
    /// Others take all but so many bytes.
    Fill {
        room: usize,
    },
    Heal,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..3usize, any::<bool>()).prop_map(|(source, pictures)| Step::Append { source, pictures }),
        4 => (0..3usize).prop_map(|source| Step::End { source }),
        2 => (0..3usize).prop_map(|finding| Step::Review { finding }),
        3 => (1..6usize).prop_map(|records| Step::Read { records }),
        2 => (-3..9i8).prop_map(Step::Days),
        1 => Just(Step::Tidy),
        1 => Just(Step::Kill),
        1 => (prop_oneof![Just(0), 1..3000usize, Just(usize::MAX)], any::<bool>())
            .prop_map(|(kept, zeros)| Step::PowerCut { kept, zeros }),
        2 => (0..40u64, 1..9u64, any::<bool>()).prop_map(|(from, len, full)| Step::Fail { from, len, full }),
        1 => (0..60_000usize).prop_map(|room| Step::Fill { room }),
        2 => Just(Step::Heal),
    ];
    prop::collection::vec(step, 1..60)
}

struct World {
    fs: MemFs,
    clock: ManualClock,
    keep: RetentionConfig,
    log: Option<FlagLog>,
    /// What was acknowledged, in order.
    acknowledged: Vec<Record>,
    /// The reviews that were acknowledged.
    reviews: Vec<Review>,
    /// The open event of each source.
    open: [Option<Ulid>; 3],
    /// What the reader got: `seq`s.
    got: Vec<u64>,
}

impl World {
    fn log(&mut self) -> Option<&mut FlagLog> {
        if self.log.is_none() {
            let options = Options {
                segment_bytes: 3000,
                fs: Arc::new(self.fs.clone()),
                keep: self.keep,
                signer: Some(Signer::from_bytes(&[3; 32])),
            };
            let clock = Arc::new(self.clock.clone());
            // A disk that fails at this very moment refuses; the next step tries again.
            self.log = FlagLog::open_with(&config(Path::new(DIR)), "box", clock, options).ok();
        }
        self.log.as_mut()
    }

    fn append(&mut self, source: usize, kind: EventKind, pictures: bool) {
        let event = self.open[source];
        let tiles = [ScoredTile { rect: rect(0), score: 0.9 }];
        let evidence = evidence(&tiles);
        let new = NewRecord { event, kind, ..new_record(["a", "b", "c"][source], 0.9) };
        let Some(log) = self.log() else { return };
        if let Ok(record) = log.append(new, pictures.then_some(&evidence)) {
            self.open[source] = (kind != EventKind::End).then_some(record.event);
            self.acknowledged.push(record);
        }
    }

    fn review(&mut self, finding: usize) {
        let Some(record) = self.acknowledged.last().cloned() else { return };
        let finding = [Finding::Confirmed, Finding::FalseAlarm, Finding::Withdrawn][finding];
        let Some(log) = self.log() else { return };
        let of = log.tail();
        let replaces = log.index.reviews.get(&record.event).map(|s| s.id);
        let new = NewReview { replaces, ..judge(&record, finding, None) };
        match log.review(new, &of) {
            Ok(review) => self.reviews.push(review),
            // A disk that fails, or nothing that could be taken back.
            Err(ReviewError::Log(_) | ReviewError::Invalid(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// A reader in another process: what it takes and what its cursor says must fit.
    fn read(&mut self, records: usize) {
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let cursor = CursorFile::new(fs.clone(), Path::new(DIR), "mqtt");
        let Some(log) = self.log.as_ref() else { return };
        let tail = log.tail();
        let mut reader = match cursor.load().expect("the cursor is whole or not there") {
            Some(mark) => tail.after(mark).expect("the cursor is of this log"),
            None => tail.from_start(),
        };
        for _ in 0..records {
            match reader.next_durable() {
                Ok(Some(item)) => {
                    let mark = item.mark();
                    // At least once: what it has got already, it knows by its number.
                    if self.got.last().is_none_or(|&last| last < mark.seq) {
                        self.got.push(mark.seq);
                    }
                    if cursor.save(mark).is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(ReadError::Missing { .. }) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }

    fn die(&mut self, cut: impl FnOnce(&MemFs)) {
        if let Some(log) = self.log.take() {
            // Its end must write nothing, as that of a killed process does not.
            std::mem::forget(log);
        }
        cut(&self.fs);
        self.open = [None; 3];
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn log_cursor_and_retention_keep_their_promises(
        steps in steps(),
        max_age in prop_oneof![Just(None), (2..12u64).prop_map(Some)],
        max_bytes in prop_oneof![Just(None), (20_000..90_000u64).prop_map(Some)],
        min_free in prop_oneof![Just(0), 1..30_000u64],
    ) {
        let day = Duration::from_secs(86_400);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_500_000);
        let keep = RetentionConfig { max_age: max_age.map(|d| day * d as u32), max_bytes, min_free };
        let mut world = World {
            fs: MemFs::default(),
            clock: ManualClock::new(start),
            keep,
            log: None,
            acknowledged: Vec::new(),
            reviews: Vec::new(),
            open: [None; 3],
            got: Vec::new(),
        };
        for step in steps {
            match step {
                Step::Append { source, pictures } => {
                    let kind = if world.open[source].is_some() { EventKind::Update } else { EventKind::Start };
                    world.append(source, kind, pictures);
                }
                Step::End { source } if world.open[source].is_some() => {
                    world.append(source, EventKind::End, false);
                }
                Step::End { .. } => {}
                Step::Review { finding } => world.review(finding),
                Step::Read { records } => world.read(records),
                Step::Days(days) => {
                    let by = day * u32::from(days.unsigned_abs());
                    if days < 0 {
                        let wall = spotd_core::clock::Clock::wall(&world.clock);
                        world.clock.set_wall(wall - by);
                    } else {
                        world.clock.advance(by);
                    }
                }
                Step::Tidy => if let Some(log) = world.log() { log.tidy() },
                Step::Kill => world.die(MemFs::kill),
                Step::PowerCut { kept, zeros } => world.die(|fs| fs.cut_power(kept, zeros)),
                Step::Fail { from, len, full } => {
                    let kind = if full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
                    world.fs.fail(from..from + len, kind);
                }
                Step::Fill { room } => world.fs.leave_room(room),
                Step::Heal => world.fs.heal(),
            }
        }
        // All is well again: one more start, one more record of each kind.
        world.fs.heal();
        world.die(MemFs::kill);
        world.log().expect("it opens");
        world.log().expect("open").close_left_open().expect("closed");
        world.append(0, EventKind::Start, true);
        world.append(0, EventKind::End, false);
        let status = world.log().expect("open").status();
        prop_assert_eq!(status.alarm, None);
        if let Some(max) = max_bytes {
            let used = status.evidence_bytes + status.record_bytes;
            prop_assert!(used <= max.max(12_000), "{used} bytes are kept, {max} were allowed");
        }

        let report = verified(&world.fs);
        prop_assert!(report.holds, "{:?}", report.problems);
        prop_assert!(report.unfinished.is_empty(), "{:?}", report.unfinished);
        let (items, errors) = read(&world.fs);
        prop_assert!(errors.is_empty(), "{errors:?}");
        let first = items.first().map_or(u64::MAX, |i| i.entry.seq());
        let found = events(&items);
        let mut rest = found.iter();
        for record in world.acknowledged.iter().filter(|r| r.seq >= first) {
            prop_assert!(rest.any(|r| r == record), "record {} is missing or out of order", record.seq);
        }
        let kept: Vec<Review> = items.iter().filter_map(|i| match &i.entry {
            Entry::Review(review) => Some(review.clone()),
            _ => None,
        }).collect();
        for review in world.reviews.iter().filter(|r| r.seq >= first) {
            prop_assert!(kept.contains(review), "review {} is missing", review.seq);
        }
        // Without a rule that lets records go, all are there.
        if max_age.is_none() && max_bytes.is_none() && min_free == 0 && report.records_removed_until.is_some() {
            // A crash may have interrupted what a full disk began; the next start finishes it and says so.
            let says_why = |n: &Note| n.text.contains("full") || n.text.contains("interrupted");
            prop_assert!(items.iter().any(|i| matches!(&i.entry, Entry::Note(n) if says_why(n))));
        }
        // No event is left open.
        let mut open = std::collections::BTreeSet::new();
        for record in &found {
            if record.kind == EventKind::End { open.remove(&record.event) } else { open.insert(record.event) };
        }
        prop_assert!(open.is_empty(), "{open:?}");
        // The reader got every record once and in order, with gaps only where records were removed.
        prop_assert!(world.got.windows(2).all(|w| w[0] < w[1]), "{:?}", world.got);
        loop {
            let got = world.got.len();
            world.read(10);
            if world.got.len() == got {
                break;
            }
        }
        prop_assert_eq!(world.got.last().copied(), report.last);
        for pair in world.got.windows(2) {
            prop_assert!(pair[1] == pair[0] + 1 || pair[1] <= first, "a gap between {} and {}", pair[0], pair[1]);
        }
    }
}
