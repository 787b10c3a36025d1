//! Delivers the log's records to one publisher's destination, a broker or a web server: where the
//! cursor stands, what is in flight, how fast records may go, and what becomes of a record that is
//! refused.
//!
//! The cursor moves only past records that are done, in the log's order. A record is done when the
//! destination has accepted it, or when it was given up: it is too long, it was refused [`TRIES`]
//! times, or [`MAX_BREAKS`] connections in a row broke while it alone was in flight. What is given
//! up stays in the log, is counted and is logged.
//!
//! A publisher implements [`Place`], which has room for a record or not and sends it, and reports
//! by [`Delivery::answered`] whether it was accepted.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::pace::Pace;
use crate::clock::Moment;
use crate::flaglog::cursor::{CursorFile, Mark};
use crate::flaglog::tail::TailReader;
use crate::flaglog::{Entry, Tail};
use crate::health::{Board, PublisherStatus, Stage};

/// After an acknowledgement the cursor is written within this time.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How often a refused record is sent, and the first pause between two attempts, which doubles.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// After this many broken connections with the same record at the head, records are sent one at a
/// time, to find out which one causes it.
const BREAKS_UNTIL_ALONE: u32 = 3;
/// After this many it is given up.
const MAX_BREAKS: u32 = 10;

/// Where records go: a connection to a broker, or requests to a web server.
pub(super) trait Place {
    /// Nothing can be sent there any more.
    type Closed;

    /// Whether there is room for one more record now.
    fn room(&self) -> bool;

    /// Whether any record is in flight.
    fn is_busy(&self) -> bool;

    /// Whether a record, an event's or a review, should be sent there at all.
    fn wants(&self, _entry: &Entry) -> bool {
        true
    }

    /// Where a record is sent to, such as a topic. After one was given up there, the next one is
    /// not retried.
    fn target(&self, entry: &Entry) -> String;

    /// Why a record of `bytes` can never be sent there, if it cannot.
    fn too_long(&self, target: &str, bytes: usize) -> Option<String>;

    /// Sends a record; its fate is reported to [`Delivery::answered`].
    fn send(&mut self, parcel: Parcel) -> Result<(), Self::Closed>;

    /// A record has been reached, whether it is sent or given up.
    fn reached(&mut self, _entry: Entry, _log: &Tail) {}
}

/// A record to be sent.
pub(super) struct Parcel {
    /// Its sequence number in the log.
    pub seq: u64,
    /// The result of [`Place::target`].
    pub target: String,
    /// Its id.
    #[cfg_attr(not(feature = "webhook"), allow(dead_code, reason = "MQTT needs it only inside the line"))]
    pub id: String,
    /// The log's line, verbatim, without the line feed.
    pub line: Vec<u8>,
}

/// For whom records are delivered.
#[derive(Debug, Clone)]
pub(super) struct Recipient {
    /// Name of its cursor, and of its status on the board and in metrics.
    pub name: String,
    /// Prefix of log messages: `MQTT`.
    pub label: String,
    /// Who accepts or refuses records: `the broker`.
    pub peer: &'static str,
    /// What to check when they are refused, as a question.
    pub hint: &'static str,
    /// Records per second at most.
    pub rate: f64,
    /// Records in flight at most.
    pub window: usize,
}

/// The records of one log for one publisher.
pub(super) struct Delivery {
    to: Recipient,
    log: Tail,
    cursor: CursorFile,
    board: Board,
    /// The last record that is done.
    done: Option<Mark>,
    /// What the cursor file says.
    saved: Option<Mark>,
    next_save: Moment,
    /// Whether it could not be written the last time; said once.
    unsaved: bool,
    reader: Option<TailReader>,
    /// Between the cursor and the reader, in order.
    pending: VecDeque<Pending>,
    caught_up: bool,
    pace: Pace,
    refusals: Refusals,
    /// The record at which connections seem to break, and how many did so in a row.
    suspect: (u64, u32),
}

/// A record that the cursor has not passed yet.
struct Pending {
    mark: Mark,
    written: Timestamp,
    done: bool,
}

/// Refused records.
#[derive(Default)]
struct Refusals {
    seq: u64,
    times: u32,
    /// Nothing is sent until then; afterwards sending starts again at the cursor.
    until: Option<Moment>,
    /// Targets at which a record was given up: the next one is not retried.
    targets: BTreeSet<String>,
}

impl Delivery {
    pub fn new(to: Recipient, log: &Tail, board: Board, now: Moment) -> Self {
        let cursor = log.cursor(&to.name);
        let saved = cursor.load().unwrap_or_else(|e| {
            log::warn!("{}: {e}; all records are sent again", cursor.path().display());
            None
        });
        let delivery = Self {
            pace: Pace::new(to.rate, to.window, now),
            to,
            log: log.clone(),
            cursor,
            board,
            done: saved,
            saved,
            next_save: now,
            unsaved: false,
            reader: None,
            pending: VecDeque::new(),
            caught_up: false,
            refusals: Refusals::default(),
            suspect: (0, 0),
        };
        // It is on the board from the start, whatever happens later.
        let behind = delivery.behind();
        delivery.tell(|p| p.behind = behind);
        delivery
    }

    /// A connection begins: everything that was in flight on the last one is sent again.
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

    /// A connection has broken; `by_peer`: the other side ended it; `greeted`: it had answered
    /// something before. Only repetition tells whether a record is the reason.
    #[cfg_attr(not(feature = "mqtt"), allow(dead_code, reason = "a webhook has no connection"))]
    pub fn broke(&mut self, by_peer: bool, greeted: bool) {
        let Some(head) = self.pending.iter().find(|p| !p.done).map(|p| p.mark.seq) else { return };
        if by_peer && greeted {
            self.suspect = (head, if self.suspect.0 == head { self.suspect.1 + 1 } else { 1 });
        }
    }

    /// Sends what can be sent now.
    pub fn send<P: Place>(&mut self, place: &mut P, now: Moment) -> Result<(), P::Closed> {
        if let Some(until) = self.refusals.until {
            if now < until || place.is_busy() {
                return Ok(());
            }
            self.begin();
        }
        let window = if self.suspect.1 >= BREAKS_UNTIL_ALONE { 1 } else { self.to.window };
        while self.pending.len() < window && place.room() && self.pace.has(now) {
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
                    log::error!(
                        "{}: the flag log is damaged; records that do not verify are not sent: {e}",
                        self.to.label
                    );
                    continue;
                }
                // The folder is gone, and another log has taken its place.
                Err(_) if self.follow_on(now) => continue,
                Err(e) => {
                    log::error!("{}: the flag log cannot be read: {e}", self.to.label);
                    break;
                }
            };
            let (mark, written) = (item.mark(), item.entry.written());
            // Notes are internal to the log.
            let mut done = true;
            if !matches!(item.entry, Entry::Note(_)) && place.wants(&item.entry) {
                let target = place.target(&item.entry);
                if let Some(why) = place.too_long(&target, item.line.len()) {
                    self.give_up(mark.seq, &target, &why);
                } else if self.suspect == (mark.seq, MAX_BREAKS) {
                    let why = format!("{MAX_BREAKS} connections in a row broke when it was sent");
                    self.give_up(mark.seq, &target, &why);
                } else {
                    // The reader has passed it already: only a new connection returns to it.
                    let (id, line) = (item.entry.id().to_string(), item.line.as_bytes().to_vec());
                    place.send(Parcel { seq: mark.seq, target, id, line })?;
                    self.pace.take();
                    done = false;
                }
                place.reached(item.entry, &self.log);
            }
            self.pending.push_back(Pending { mark, written, done });
            self.pass_done();
        }
        Ok(())
    }

    /// Continues with the log that has taken this one's place, if there is one and everything in
    /// this one is answered.
    fn follow_on(&mut self, now: Moment) -> bool {
        let Some(next) = self.log.successor().filter(|_| self.pending.is_empty()) else { return false };
        match self.own_behind() {
            0 => log::info!(
                "{}: going on with the log that has taken the place of the one before",
                self.to.label
            ),
            lost => log::error!(
                "{}: {lost} record(s) of the log that stood in {} before are not sent: they can no longer be read",
                self.to.label,
                next.dir().display()
            ),
        }
        self.save(now, true);
        *self = Self { suspect: (0, 0), ..Self::new(self.to.clone(), &next, self.board.clone(), now) };
        self.begin();
        true
    }

    /// A record was accepted or, for the given reason, refused.
    pub fn answered(&mut self, seq: u64, target: &str, refused: Option<&str>, now: Moment, wall: SystemTime) {
        let done = match refused {
            None => {
                self.tell(|p| p.sent += 1);
                let written = self.pending.iter().find(|p| p.mark.seq == seq).map(|p| p.written);
                // A clock that was set back says nothing.
                if let Some(took) = written.and_then(|written| wall.duration_since(written.into()).ok()) {
                    self.board.stages().observe(Stage::Delivery, took);
                }
                if self.refusals.targets.remove(target) {
                    log::info!("{}: {} takes records on {target} again", self.to.label, self.to.peer);
                }
                true
            }
            Some(why) => self.refused(seq, target, why, now),
        };
        if done {
            self.pending.iter_mut().filter(|p| p.mark.seq == seq).for_each(|p| p.done = true);
            self.pass_done();
        }
    }

    /// Whether a refused record is given up now.
    fn refused(&mut self, seq: u64, target: &str, why: &str, now: Moment) -> bool {
        let r = &mut self.refusals;
        if r.until.is_some() && seq > r.seq {
            // It is sent again with the one before it.
            return false;
        }
        (r.seq, r.times) = (seq, if r.seq == seq { r.times + 1 } else { 1 });
        if r.times >= TRIES || r.targets.contains(target) {
            let why = format!("{} refuses it: {why}; {}", self.to.peer, self.to.hint);
            self.give_up(seq, target, &why);
            return true;
        }
        let pause = PAUSE * (1 << (r.times - 1));
        // Logged once; giving up is logged too.
        let level = if r.times == 1 { log::Level::Warn } else { log::Level::Debug };
        log::log!(
            level,
            "{}: {} refuses record {seq} on {target}: {why}; trying again in {} s",
            self.to.label,
            self.to.peer,
            pause.as_secs()
        );
        r.until = Some(now + pause);
        false
    }

    fn give_up(&mut self, seq: u64, target: &str, why: &str) {
        self.tell(|p| p.refused += 1);
        // One line per target is enough; the number is counted.
        let news = self.refusals.targets.insert(target.to_owned());
        let level = if news { log::Level::Error } else { log::Level::Debug };
        log::log!(
            level,
            "{}: record {seq} on {target} is not sent: {why} (the log has it; counted as refused)",
            self.to.label
        );
    }

    /// Moves the cursor past the leading records that are done.
    fn pass_done(&mut self) {
        while let Some(mark) = self.pending.front().filter(|p| p.done).map(|p| p.mark) {
            self.pending.pop_front();
            if mark.seq >= self.suspect.0 {
                self.suspect = (0, 0);
            }
            self.done = Some(mark);
        }
    }

    /// Changes this publisher's status on the board.
    pub fn tell(&self, change: impl FnOnce(&mut PublisherStatus)) {
        self.board.update_publisher(&self.to.name, change);
    }

    /// Whether everything in the log is sent and answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.caught_up && self.pending.is_empty() && self.log.successor().is_none()
    }

    /// Whether the reader has reached the log's end on this connection.
    #[cfg_attr(not(feature = "mqtt"), allow(dead_code, reason = "a webhook has no connection"))]
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// How many of the log's records are not done; those of a log that has since taken its place
    /// all count, until delivery has moved on to it.
    pub fn behind(&self) -> u64 {
        self.own_behind() + self.log.successor().map_or(0, |next| next.durable())
    }

    fn own_behind(&self) -> u64 {
        self.log.durable().saturating_sub(self.done.map_or(0, |m| m.seq))
    }

    /// The last record that is done.
    #[cfg_attr(not(feature = "mqtt"), allow(dead_code, reason = "a webhook has no connection"))]
    pub fn position(&self) -> Option<Mark> {
        self.done
    }

    /// When [`Delivery::send`] has something to do again although nothing else happens.
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

    /// When to write the cursor file, if it is not up to date.
    #[cfg_attr(
        not(feature = "webhook"),
        allow(dead_code, reason = "MQTT's live state wakes it often enough")
    )]
    pub(crate) fn save_due(&self) -> Option<Moment> {
        (self.done != self.saved).then_some(self.next_save)
    }

    /// Writes the cursor file when it is due, or `at_once`.
    pub fn save(&mut self, now: Moment, at_once: bool) {
        if self.done == self.saved || (!at_once && now < self.next_save) {
            return;
        }
        self.next_save = now + SAVE_EVERY;
        let Some(mark) = self.done else { return };
        match self.cursor.save(mark) {
            Ok(()) => (self.saved, self.unsaved) = (Some(mark), false),
            Err(e) => {
                let level = if std::mem::replace(&mut self.unsaved, true) {
                    log::Level::Debug
                } else {
                    log::Level::Warn
                };
                log::log!(
                    level,
                    "{}: {e}; after a restart records may be sent twice",
                    self.cursor.path().display()
                );
            }
        }
    }
}
