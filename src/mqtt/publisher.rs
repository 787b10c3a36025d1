//! The thread that follows the log and tells the broker.
//!
//! One session is one connection. It first says that the box is online and what each source's live state
//! is, then sends the log's records from behind the cursor on, [`WINDOW`] of them in flight at most. The
//! cursor moves only over records that the broker has acknowledged, in the log's order. When a
//! connection ends in any way, the next session begins at the cursor: a record may come twice (same
//! `id`), none is left out, and their order stays.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, select};

use super::link::{Full, Link, Signal, Will};
use super::topics::{Topic, Topics, level};
use super::{MqttError, broker};
use crate::clock::{Moment, SharedClock, Stop};
use crate::config::MqttConfig;
use crate::flaglog::chain::Hash;
use crate::flaglog::cursor::{CursorFile, Mark};
use crate::flaglog::tail::TailReader;
use crate::flaglog::{Entry, Tail};
use crate::health::Board;

/// Records in flight at most.
const WINDOW: usize = 32;
/// Messages in flight at most, live state included: of each source one may be in flight.
const CAPACITY: u16 = 256;
/// Live state of a source is sent this often at most.
const STATE_EVERY: Duration = Duration::from_secs(1);
/// A broker that acknowledges nothing for this long, while something is in flight, is given up.
const ACK_WITHIN: Duration = Duration::from_secs(30);
/// After an acknowledgement the cursor is written within this time.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long the end may wait for the broker.
const END_WITHIN: Duration = Duration::from_secs(3);
/// First and longest wait before connecting again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

const ONLINE: &str = "online";
const OFFLINE: &str = "offline";

/// Starts the publisher. It ends some time after `stop` is given: whatever is durable in the log by then
/// is still sent if the broker takes it within three seconds, so give the signal after the last record
/// was appended.
///
/// # Errors
/// [`MqttError::CaFile`] and [`MqttError::NoAuthorities`], which no retry can mend, and
/// [`MqttError::Thread`]. A broker that cannot be reached is no error: it is tried again for ever.
pub fn spawn(
    config: MqttConfig,
    node: &str,
    log: &Tail,
    board: Board,
    clock: SharedClock,
    stop: Stop,
) -> Result<JoinHandle<()>, MqttError> {
    Link::check(&config)?;
    if config.password.is_some() && !config.tls {
        log::warn!(
            "broker {}: the password is sent in plain text; use mqtts:// in [mqtt] url",
            broker(&config)
        );
    }
    let publisher = Publisher::new(config, node, log, board, clock, stop);
    let run = move || publisher.run();
    std::thread::Builder::new()
        .name("mqtt".to_owned())
        .spawn(run)
        .map_err(|e| MqttError::Thread(e.to_string()))
}

struct Publisher {
    config: MqttConfig,
    topics: Topics,
    client_id: String,
    log: Tail,
    wake: Receiver<()>,
    board: Board,
    clock: SharedClock,
    stop: Stop,
    cursor: CursorFile,
    /// The last record that is done with.
    done: Option<Mark>,
    /// What the cursor file says.
    saved: Option<Mark>,
    next_save: Moment,
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Record(u64),
    State(Arc<str>),
    Status,
}

/// A record that the cursor has not passed yet.
struct Pending {
    mark: Mark,
    done: bool,
}

/// What belongs to one connection.
struct Session {
    link: Link,
    reader: TailReader,
    /// Given to the link, without a packet id yet.
    queued: VecDeque<Token>,
    /// By packet id.
    in_flight: BTreeMap<u16, Token>,
    /// Records between the cursor and the reader, in order.
    records: VecDeque<Pending>,
    /// The live state that was sent last, and whether it is still on its way.
    states: BTreeMap<Arc<str>, (String, bool)>,
    next_state: Moment,
    /// When the last acknowledgement came, or the first message went out after a pause.
    quiet_since: Moment,
}

impl Publisher {
    fn new(config: MqttConfig, node: &str, log: &Tail, board: Board, clock: SharedClock, stop: Stop) -> Self {
        let cursor = CursorFile::new(log.fs().clone(), log.dir(), "mqtt");
        let saved = cursor.load().unwrap_or_else(|e| {
            log::warn!("{}: {e}; all records are sent again", cursor.path().display());
            None
        });
        Self {
            topics: Topics::new(&config.prefix, node),
            client_id: format!("spotd-{}", level(node)),
            config,
            wake: log.wake(),
            log: log.clone(),
            board,
            stop,
            cursor,
            done: saved,
            saved,
            next_save: clock.now(),
            clock,
        }
    }

    fn run(mut self) {
        let mut failures = 0;
        let mut told = None;
        loop {
            let mut connected = false;
            match self.session(&mut connected) {
                Ok(()) => break,
                Err(error) => {
                    failures = if connected { 1 } else { failures + 1 };
                    let wait = backoff(failures, &self.client_id);
                    let level =
                        if told.as_ref() == Some(&error) { log::Level::Debug } else { log::Level::Warn };
                    log::log!(
                        level,
                        "MQTT: {error}; trying again in {:.1} s, the log keeps everything until then",
                        wait.as_secs_f64()
                    );
                    told = (!connected).then_some(error);
                    self.save(true);
                    if !self.stop.wait(&*self.clock, wait) {
                        break;
                    }
                }
            }
        }
        self.save(true);
    }

    /// One connection, to its end: `Ok` when the stop signal was given.
    fn session(&mut self, connected: &mut bool) -> Result<(), MqttError> {
        let status = self.topics.name(Topic::Status);
        let will = Will { topic: status.clone(), payload: OFFLINE };
        let link = Link::open(&self.config, &self.client_id, Some(will), CAPACITY)?;
        let (signals, stop) = (link.signals().clone(), self.stop.clone());
        let first = select! {
            recv(signals) -> signal => signal,
            // The end waits a little for a connection that is being made, as it does for one that is there.
            recv(stop.channel()) -> _ => {
                let deadline = self.clock.after(END_WITHIN);
                select! {
                    recv(signals) -> signal => signal,
                    recv(deadline) -> _ => return Ok(()),
                }
            }
        };
        match first {
            Ok(Signal::Connected) => *connected = true,
            Ok(Signal::Down(error)) => return Err(error),
            Ok(_) | Err(RecvError) => return Err(self.lost("it ended before it began")),
        }
        log::info!("MQTT: connected to {}", broker(&self.config));
        let now = self.clock.now();
        let mut session = Session {
            link,
            reader: self.reader(),
            queued: VecDeque::new(),
            in_flight: BTreeMap::new(),
            records: VecDeque::new(),
            states: BTreeMap::new(),
            next_state: now,
            quiet_since: now,
        };
        session
            .send(Topic::Status, &self.topics, ONLINE, Token::Status)
            .map_err(|Full| self.lost("no room"))?;
        self.serve(&mut session, &signals)?;
        self.end(session, &signals)
    }

    /// Until the stop signal is given.
    fn serve(&mut self, session: &mut Session, signals: &Receiver<Signal>) -> Result<(), MqttError> {
        let (stop, wake) = (self.stop.clone(), self.wake.clone());
        loop {
            self.send_states(session);
            self.send_records(session)?;
            self.save(false);
            let now = self.clock.now();
            if session.is_idle() {
                session.quiet_since = now;
            } else if now.saturating_sub(session.quiet_since) > ACK_WITHIN {
                let what = format!("nothing acknowledged for {} s", ACK_WITHIN.as_secs());
                return Err(MqttError::Silent { broker: broker(&self.config), what });
            }
            let timer =
                self.clock.after(session.next_state.saturating_sub(now).max(Duration::from_millis(10)));
            select! {
                recv(signals) -> signal => self.take(session, signal)?,
                recv(wake) -> _ => {}
                recv(timer) -> _ => {}
                recv(stop.channel()) -> _ => return Ok(()),
            }
            while let Ok(signal) = signals.try_recv() {
                self.take(session, Ok(signal))?;
            }
        }
    }

    /// Sends what is left, says goodbye, and waits a little for the broker to take it.
    fn end(&mut self, mut session: Session, signals: &Receiver<Signal>) -> Result<(), MqttError> {
        let deadline = self.clock.after(END_WITHIN);
        loop {
            self.send_records(&mut session)?;
            if session.records.is_empty() && session.is_idle() {
                break;
            }
            select! {
                recv(signals) -> signal => self.take(&mut session, signal)?,
                recv(deadline) -> _ => {
                    log::warn!(
                        "MQTT: {} did not take everything in time; the rest is sent at the next start",
                        broker(&self.config)
                    );
                    break;
                }
            }
        }
        // The last will is for ends without a goodbye; this is one with.
        let _ = session.send(Topic::Status, &self.topics, OFFLINE, Token::Status);
        session.link.disconnect();
        let deadline = self.clock.after(END_WITHIN);
        loop {
            select! {
                recv(signals) -> signal => if signal.is_err() { return Ok(()) },
                recv(deadline) -> _ => return Ok(()),
            }
        }
    }

    fn take(&mut self, session: &mut Session, signal: Result<Signal, RecvError>) -> Result<(), MqttError> {
        match signal {
            Ok(Signal::Sent(id)) => {
                let token = session.queued.pop_front();
                session.in_flight.extend(token.map(|t| (id, t)));
            }
            Ok(Signal::Acked(id)) => {
                session.quiet_since = self.clock.now();
                match session.in_flight.remove(&id) {
                    Some(Token::Record(seq)) => {
                        session.records.iter_mut().filter(|r| r.mark.seq == seq).for_each(|r| r.done = true);
                        self.pass_done(session);
                    }
                    Some(Token::State(source)) => {
                        if let Some((_, on_its_way)) = session.states.get_mut(&source) {
                            *on_its_way = false;
                        }
                    }
                    Some(Token::Status) | None => {}
                }
            }
            Ok(Signal::Connected) => {}
            Ok(Signal::Down(error)) => return Err(error),
            Err(RecvError) => return Err(self.lost("its thread ended")),
        }
        Ok(())
    }

    /// Moves the cursor over the records at the front that are done with.
    fn pass_done(&mut self, session: &mut Session) {
        while session.records.front().is_some_and(|r| r.done) {
            self.done = session.records.pop_front().map(|r| r.mark);
        }
    }

    fn send_records(&mut self, session: &mut Session) -> Result<(), MqttError> {
        while session.records.len() < WINDOW && session.room() {
            let item = match session.reader.next_durable() {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(e) if e.is_passed() => {
                    log::error!("MQTT: the flag log is damaged, what does not hold is not sent: {e}");
                    continue;
                }
                Err(e) => {
                    log::error!("MQTT: the flag log cannot be read: {e}");
                    break;
                }
            };
            let mark = Mark { seq: item.entry.seq(), hash: item.entry.hash() };
            // Notes are the log's own business.
            let mut done = true;
            if let Entry::Event(record) = &item.entry {
                let topic = Topic::Event { source: &record.source };
                let sent = session.send(topic, &self.topics, &item.line, Token::Record(mark.seq));
                // The reader has passed it already: only a new session comes back to it.
                sent.map_err(|Full| self.lost("its queue is full although few messages are in flight"))?;
                done = false;
            }
            session.records.push_back(Pending { mark, done });
        }
        self.pass_done(session);
        Ok(())
    }

    fn send_states(&mut self, session: &mut Session) {
        let now = self.clock.now();
        if now < session.next_state {
            return;
        }
        session.next_state = now + STATE_EVERY;
        for (source, status) in self.board.snapshot() {
            let text = match serde_json::to_string(&status) {
                Ok(text) => text,
                Err(e) => {
                    log::error!("MQTT: the state of {source} cannot be written: {e}");
                    continue;
                }
            };
            let news =
                session.states.get(&source).is_none_or(|(last, on_its_way)| *last != text && !on_its_way);
            let topic = Topic::State { source: &source };
            if news
                && session.room()
                && session.send(topic, &self.topics, &text, Token::State(source.clone())).is_ok()
            {
                session.states.insert(source, (text, true));
            }
        }
    }

    fn reader(&self) -> TailReader {
        match self.done {
            None => self.log.from_start(),
            Some(mark) => self.log.after(mark).unwrap_or_else(|e| {
                log::warn!("{}: {e}; all records are sent again", self.cursor.path().display());
                self.log.from_start()
            }),
        }
    }

    /// Writes the cursor file when it is due, or `now`.
    fn save(&mut self, now: bool) {
        if self.done == self.saved || (!now && self.clock.now() < self.next_save) {
            return;
        }
        self.next_save = self.clock.now() + SAVE_EVERY;
        let Some(mark) = self.done else { return };
        match self.cursor.save(mark) {
            Ok(()) => self.saved = Some(mark),
            Err(e) => {
                log::warn!("{}: {e}; after a restart records may be sent twice", self.cursor.path().display())
            }
        }
    }

    fn lost(&self, reason: &str) -> MqttError {
        MqttError::Lost { broker: broker(&self.config), reason: reason.to_owned() }
    }
}

impl Session {
    fn send(&mut self, topic: Topic<'_>, topics: &Topics, payload: &str, token: Token) -> Result<(), Full> {
        self.link.publish(topics.name(topic), topic.is_retained(), payload)?;
        self.queued.push_back(token);
        Ok(())
    }

    /// Whether the link takes another message, with some to spare for the goodbye.
    fn room(&self) -> bool {
        self.queued.len() + self.in_flight.len() + 8 < usize::from(CAPACITY)
    }

    fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.in_flight.is_empty()
    }
}

/// Wait before attempt `failures + 1`: doubles up to the longest, less up to a quarter that differs from
/// box to box, so that a broker which comes back is not met by all of them at once.
fn backoff(failures: u32, id: &str) -> Duration {
    let full = BACKOFF.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACKOFF.1);
    let spread = Hash::of(format!("{id} {failures}").as_bytes()).first_byte();
    full.mul_f64(1.0 - f64::from(spread) / 255.0 / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_cap_and_differs_between_boxes() {
        for failures in 1..100 {
            let full = Duration::from_secs(1 << (failures - 1).min(6)).min(BACKOFF.1);
            let wait = backoff(failures, "spotd-a");
            assert!(wait <= full && wait >= full.mul_f64(0.75), "{failures}: {wait:?}");
        }
        let waits: std::collections::BTreeSet<_> = (0..20).map(|i| backoff(3, &format!("box{i}"))).collect();
        assert!(waits.len() > 10);
    }
}
