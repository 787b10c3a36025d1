//! The log's records on their way to the broker: where the cursor stands, what is in flight, how fast it
//! may go, and what becomes of a record that the broker does not want.
//!
//! The cursor moves only over records that are done with, in the log's order. A record is done with when
//! the broker has acknowledged it, or when it was given up: it is too long, the broker has refused it
//! [`TRIES`] times, or [`LAST_STRAWS`] connections in a row have broken over it and it alone. What is given up
//! stays in the log, is counted and is said.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::link::Full;
use super::outbox::{Outbox, Token};
use super::topics::{Topic, Topics};
use crate::clock::Moment;
use crate::flaglog::cursor::{CursorFile, Mark};
use crate::flaglog::record::EvidenceFile;
use crate::flaglog::tail::TailReader;
use crate::flaglog::{Entry, Tail};
use crate::health::Board;
use crate::verdict::EventKind;

/// Records in flight at most.
pub(super) const WINDOW: usize = 32;
/// After an acknowledgement the cursor is written within this time.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How often a refused record is sent, and the first pause between two of them, which doubles.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// After so many connections that broke over the same record, records go one at a time, to see which it is.
const STRAWS: u32 = 3;
/// After so many it is given up.
const LAST_STRAWS: u32 = 10;

/// The records of one log for one broker.
pub(super) struct Records {
    log: Tail,
    cursor: CursorFile,
    board: Board,
    /// The last record that is done with.
    done: Option<Mark>,
    /// What the cursor file says.
    saved: Option<Mark>,
    next_save: Moment,
    reader: Option<TailReader>,
    /// Between the cursor and the reader, in order.
    pending: VecDeque<Pending>,
    caught_up: bool,
    pace: Pace,
    refusals: Refusals,
    /// The record over which connections broke, and how many in a row.
    straw: (u64, u32),
}

/// A record that the cursor has not passed yet.
struct Pending {
    mark: Mark,
    done: bool,
}

/// What the broker has refused.
#[derive(Default)]
struct Refusals {
    seq: u64,
    times: u32,
    /// Nothing is sent until then; afterwards sending begins anew at the cursor.
    until: Option<Moment>,
    /// Topics of which a record was given up: the next one is not tried again.
    topics: BTreeSet<String>,
}

/// The picture that a record names.
pub(super) struct Picture {
    pub source: String,
    pub file: EvidenceFile,
    /// The log that has it.
    pub log: Tail,
}

impl Records {
    pub fn new(log: &Tail, board: Board, rate: f64, now: Moment) -> Self {
        let cursor = CursorFile::new(log.fs().clone(), log.dir(), "mqtt");
        let saved = cursor.load().unwrap_or_else(|e| {
            log::warn!("{}: {e}; all records are sent again", cursor.path().display());
            None
        });
        Self {
            log: log.clone(),
            cursor,
            board,
            done: saved,
            saved,
            next_save: now,
            reader: None,
            pending: VecDeque::new(),
            caught_up: false,
            pace: Pace::new(rate, now),
            refusals: Refusals::default(),
            straw: (0, 0),
        }
    }

    /// A connection begins: all that was in flight on the last one is sent again.
    pub fn begin(&mut self) {
        self.pending.clear();
        self.caught_up = false;
        self.refusals.until = None;
        self.reader = Some(match self.done {
            None => self.log.from_start(),
            Some(mark) => self.log.after(mark).unwrap_or_else(|e| {
                log::warn!("{}: {e}; all records are sent again", self.cursor.path().display());
                self.log.from_start()
            }),
        });
    }

    /// A connection has broken, `by_peer` when the other side ended it; `greeted` when the broker had
    /// answered something on it. Whether a record is why can only be told from repetition.
    pub fn broke(&mut self, by_peer: bool, greeted: bool) {
        let Some(head) = self.pending.iter().find(|p| !p.done).map(|p| p.mark.seq) else { return };
        if by_peer && greeted {
            self.straw = (head, if self.straw.0 == head { self.straw.1 + 1 } else { 1 });
        }
    }

    /// Sends what may be sent now; `show` gets the pictures that the records name.
    pub fn send(
        &mut self,
        outbox: &mut Outbox,
        topics: &Topics,
        now: Moment,
        mut show: impl FnMut(Picture),
    ) -> Result<(), Full> {
        if let Some(until) = self.refusals.until {
            if now < until || outbox.has(|t| matches!(t, Token::Record(_))) {
                return Ok(());
            }
            self.begin();
        }
        let window = if self.straw.1 >= STRAWS { 1 } else { WINDOW };
        while self.pending.len() < window && outbox.room() && self.pace.has(now) {
            let Some(reader) = &mut self.reader else { break };
            let item = match reader.next_durable() {
                Ok(Some(item)) => item,
                Ok(None) => {
                    if self.follow_on(now) {
                        continue;
                    }
                    self.caught_up = true;
                    break;
                }
                Err(e) if e.is_passed() => {
                    log::error!("MQTT: the flag log is damaged, what does not hold is not sent: {e}");
                    continue;
                }
                // The folder is gone, and another log stands in its place.
                Err(_) if self.follow_on(now) => continue,
                Err(e) => {
                    log::error!("MQTT: the flag log cannot be read: {e}");
                    break;
                }
            };
            let mark = item.mark();
            // Notes are the log's own business.
            let mut done = true;
            if let Entry::Event(record) = item.entry {
                let topic = topics.name(Topic::Event { source: &record.source });
                if !outbox.fits(&topic, item.line.len()) {
                    let why = format!("its {} bytes are more than the broker takes", item.line.len());
                    self.give_up(mark.seq, &topic, &why);
                } else if self.straw == (mark.seq, LAST_STRAWS) {
                    let why = format!("{LAST_STRAWS} connections in a row broke when it was sent");
                    self.give_up(mark.seq, &topic, &why);
                } else {
                    // The reader has passed it already: only a new connection comes back to it.
                    let line = item.line.as_bytes().to_vec();
                    outbox.send(topic, false, line, Token::Record(mark.seq))?;
                    self.pace.take();
                    done = false;
                }
                // The end of an event has no picture; an alert's is that of the frame it is about.
                if record.kind != EventKind::End
                    && let Some(evidence) = record.evidence
                {
                    show(Picture { source: record.source, file: evidence.frame, log: self.log.clone() });
                }
            }
            self.pending.push_back(Pending { mark, done });
            self.pass_done();
        }
        Ok(())
    }

    /// Goes on with the log that has taken the place of this one, if there is one and all that this one had is
    /// answered.
    fn follow_on(&mut self, now: Moment) -> bool {
        let Some(next) = self.log.successor().filter(|_| self.pending.is_empty()) else { return false };
        match self.own_behind() {
            0 => log::info!("MQTT: going on with the log that has taken the place of the one before"),
            lost => log::error!(
                "MQTT: {lost} record(s) of the log that stood in {} before are not sent: they can no longer be read",
                next.dir().display()
            ),
        }
        self.save(now, true);
        *self = Self { straw: (0, 0), ..Self::new(&next, self.board.clone(), self.pace.rate, now) };
        self.begin();
        true
    }

    /// The broker has answered a record.
    pub fn settled(&mut self, seq: u64, topic: &str, refused: Option<&str>, now: Moment) {
        let done = match refused {
            None => {
                self.board.update_publisher(|p| p.sent += 1);
                if self.refusals.topics.remove(topic) {
                    log::info!("MQTT: the broker takes records on {topic} again");
                }
                true
            }
            Some(why) => self.refused(seq, topic, why, now),
        };
        if done {
            self.pending.iter_mut().filter(|p| p.mark.seq == seq).for_each(|p| p.done = true);
            self.pass_done();
        }
    }

    /// Whether a refused record is given up now.
    fn refused(&mut self, seq: u64, topic: &str, why: &str, now: Moment) -> bool {
        let r = &mut self.refusals;
        if r.until.is_some() && seq > r.seq {
            // It is sent again with the one before it.
            return false;
        }
        (r.seq, r.times) = (seq, if r.seq == seq { r.times + 1 } else { 1 });
        if r.times >= TRIES || r.topics.contains(topic) {
            let why = format!("the broker refuses it: {why}; may this user publish there?");
            self.give_up(seq, topic, &why);
            return true;
        }
        let pause = PAUSE * (1 << (r.times - 1));
        // Said once; that it is given up is said too.
        let level = if r.times == 1 { log::Level::Warn } else { log::Level::Debug };
        log::log!(
            level,
            "MQTT: the broker refuses record {seq} on {topic}: {why}; trying again in {} s",
            pause.as_secs()
        );
        r.until = Some(now + pause);
        false
    }

    fn give_up(&mut self, seq: u64, topic: &str, why: &str) {
        self.board.update_publisher(|p| p.refused += 1);
        // One line a topic is enough; how many there were is counted.
        let level =
            if self.refusals.topics.insert(topic.to_owned()) { log::Level::Error } else { log::Level::Debug };
        log::log!(
            level,
            "MQTT: record {seq} on {topic} is not sent: {why} (the log has it; counted as refused)"
        );
    }

    /// Moves the cursor over the records at the front that are done with.
    fn pass_done(&mut self) {
        while let Some(mark) = self.pending.front().filter(|p| p.done).map(|p| p.mark) {
            self.pending.pop_front();
            if mark.seq >= self.straw.0 {
                self.straw = (0, 0);
            }
            self.done = Some(mark);
        }
    }

    /// Whether all that the log had is sent and answered.
    pub fn is_idle(&self) -> bool {
        self.caught_up && self.pending.is_empty() && self.log.successor().is_none()
    }

    /// Whether the reader has seen the log's end on this connection.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// How many of the log's records are not done with; those of a log that has taken its place since are all
    /// counted, until they are its own.
    pub fn behind(&self) -> u64 {
        self.own_behind() + self.log.successor().map_or(0, |next| next.durable())
    }

    fn own_behind(&self) -> u64 {
        self.log.durable().saturating_sub(self.done.map_or(0, |m| m.seq))
    }

    /// The last record that is done with.
    pub fn position(&self) -> Option<Mark> {
        self.done
    }

    /// When [`Records::send`] has something to do again although nothing else happens.
    pub fn due(&self, now: Moment) -> Option<Moment> {
        match self.refusals.until {
            Some(until) => Some(until),
            None if !self.caught_up => self.pace.due(now),
            None => None,
        }
    }

    /// A record has become durable.
    pub fn wake(&mut self) {
        self.caught_up = false;
    }

    /// Writes the cursor file when it is due, or `at_once`.
    pub fn save(&mut self, now: Moment, at_once: bool) {
        if self.done == self.saved || (!at_once && now < self.next_save) {
            return;
        }
        self.next_save = now + SAVE_EVERY;
        let Some(mark) = self.done else { return };
        match self.cursor.save(mark) {
            Ok(()) => self.saved = Some(mark),
            Err(e) => {
                log::warn!(
                    "{}: {e}; after a restart records may be sent twice",
                    self.cursor.path().display()
                );
            }
        }
    }
}

/// A bound on records a second: short bursts pass, what an outage has left is spread.
struct Pace {
    rate: f64,
    tokens: f64,
    at: Moment,
}

impl Pace {
    fn new(rate: f64, now: Moment) -> Self {
        Self { rate, tokens: Self::BURST, at: now }
    }

    const BURST: f64 = WINDOW as f64;

    fn has(&mut self, now: Moment) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.rate).min(Self::BURST);
        self.tokens >= 1.0
    }

    fn take(&mut self) {
        self.tokens -= 1.0;
    }

    /// When there is a token again; `None` when there is one.
    fn due(&self, now: Moment) -> Option<Moment> {
        let missing = 1.0 - self.tokens;
        (missing > 0.0).then(|| now.max(self.at + Duration::from_secs_f64(missing / self.rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut pace = Pace::new(10.0, Duration::ZERO);
        let mut sent = 0;
        // Ten seconds in steps of a millisecond, with always something to send.
        for ms in 0..10_000 {
            let now = Duration::from_millis(ms);
            while pace.has(now) {
                pace.take();
                sent += 1;
            }
            let due = pace.due(now).expect("nothing is left");
            assert!(due >= now && due <= now + Duration::from_millis(101), "{due:?} at {now:?}");
        }
        assert!((131..=132).contains(&sent), "{sent}");
        // A long rest does not save up more than one burst.
        let later = Duration::from_secs(3600);
        let mut again = 0;
        while pace.has(later) {
            pace.take();
            again += 1;
        }
        assert_eq!(again, WINDOW);
    }
}
