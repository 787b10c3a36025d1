//! The thread that follows the log and publishes to the broker.
//!
//! One session is one connection. It first publishes that the box is online and each source's live
//! state, then the log's records after the cursor. However a connection ends, the next session
//! starts at the cursor: a record may arrive twice (with the same `id`), none is left out, and
//! their order is kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, select};
use ulid::Ulid;

use super::commands::{self, Wanted};
use super::link::{Full, Incoming, Link, Signal, Will};
use super::live::Live;
use super::outbox::{CAPACITY, Outbox, Token};
use super::rival::Rival;
use super::topics::{self, HomeAssistant, Topic};
use super::{MqttConfig, MqttError, NAME};
use crate::clock::{Moment, SharedClock, Stop};
use crate::control::{Controls, Snapshot};
use crate::flaglog::{Entry, Tail};
use crate::health::Board;
use crate::publish::backoff::backoff;
use crate::publish::delivery::{Delivery, Parcel, Place, Recipient};
use crate::verdict::EventKind;

/// A broker that acknowledges nothing for this long while something is in flight is given up.
const ACK_WITHIN: Duration = Duration::from_secs(30);
/// How long a shutdown may wait for the broker.
const END_WITHIN: Duration = Duration::from_secs(3);
/// Records in flight at most.
const WINDOW: usize = 32;
/// Shortest wait for something that becomes due, so that rounding never makes a loop spin.
const TICK: Duration = Duration::from_millis(10);

/// How long to wait for the last signals of a connection that is over.
const ENDING: Duration = Duration::from_secs(1);

pub(super) const ONLINE: &str = "online";
const OFFLINE: &str = "offline";

/// Starts the publisher. It ends some time after `stop` is given: whatever is durable in the log by
/// then is still sent if the broker accepts it within three seconds, so give the signal after the
/// last record has been appended.
///
/// # Errors
/// [`MqttError::File`] and [`MqttError::NoAuthorities`], which no retry can fix, and
/// [`MqttError::Thread`]. A broker that cannot be reached is not an error: it is retried for ever.
pub fn spawn(
    config: MqttConfig,
    node: &str,
    log: &Tail,
    board: Board,
    controls: Controls,
    clock: SharedClock,
    stop: Stop,
) -> Result<JoinHandle<()>, MqttError> {
    Link::check(&config)?;
    if config.password.is_some() && !config.tls {
        log::warn!(
            "broker {}: the password is sent in plain text; use mqtts:// in [mqtt] url",
            config.broker()
        );
    }
    let to = Recipient {
        name: NAME.to_owned(),
        label: "MQTT".to_owned(),
        peer: "the broker",
        hint: "may this user publish there?",
        rate: config.catch_up_rate,
        window: WINDOW,
    };
    let publisher = Publisher {
        records: Delivery::new(to, log, board.clone(), clock.now()),
        snapshots: controls.snapshots(),
        asked: BTreeSet::new(),
        live: Live::new(&config, node, log, board.clone(), &controls),
        client_id: topics::client_id(node),
        spread: Ulid::new().to_string(),
        birth: config.discovery.as_ref().map(|prefix| HomeAssistant::new(prefix, node).birth()),
        wake: log.wake(),
        config,
        controls,
        board,
        clock,
        stop,
    };
    std::thread::Builder::new()
        .name("mqtt".to_owned())
        .spawn(move || publisher.run())
        .map_err(|e| MqttError::Thread(e.to_string()))
}

/// Where records go: one connection, and the live state that follows them.
struct Broker<'a> {
    outbox: &'a mut Outbox,
    live: &'a mut Live,
}

impl Place for Broker<'_> {
    type Closed = Full;

    fn room(&self) -> bool {
        self.outbox.room()
    }

    fn is_busy(&self) -> bool {
        self.outbox.has(|t| matches!(t, Token::Record(_)))
    }

    fn target(&self, entry: &Entry) -> String {
        self.live.topics().name(match entry {
            Entry::Event(record) => Topic::Event { source: &record.source },
            Entry::Review(review) => Topic::Review { source: &review.source },
            Entry::Note(_) => Topic::Log,
        })
    }

    fn too_long(&self, topic: &str, bytes: usize) -> Option<String> {
        let fits = self.outbox.fits(topic, bytes);
        (!fits).then(|| format!("its {bytes} bytes are more than the broker takes"))
    }

    fn send(&mut self, parcel: Parcel) -> Result<(), Full> {
        self.outbox.send(parcel.target, false, parcel.line, Token::Record(parcel.seq))
    }

    fn reached(&mut self, entry: Entry, log: &Tail) {
        // The end of an event has no picture; an alert's is the frame that it is about.
        if let Entry::Event(record) = entry
            && record.kind != EventKind::End
            && let Some(evidence) = record.evidence
        {
            self.live.show_evidence(&record.source, evidence.frame, log.clone());
        }
    }
}

struct Publisher {
    config: MqttConfig,
    client_id: String,
    /// Differs from process to process, so that two boxes of the same name do not stay in step.
    spread: String,
    records: Delivery,
    live: Live,
    /// Pictures that were requested, by anyone.
    snapshots: Receiver<Snapshot>,
    /// Sources whose picture was requested over the broker. Others' pictures, such as those of an open page once a
    /// second, are not published.
    asked: BTreeSet<Arc<str>>,
    /// The topic on which Home Assistant reports that it has started.
    birth: Option<String>,
    wake: Receiver<()>,
    controls: Controls,
    board: Board,
    clock: SharedClock,
    stop: Stop,
}

impl Publisher {
    fn run(mut self) {
        let mut failures = 0;
        let mut told = None;
        let mut rival = Rival::default();
        loop {
            let (before, mut connected) = (self.records.position(), None);
            let ended = self.session(&mut connected);
            self.records.save(self.clock.now(), true);
            self.records.tell(|p| p.connected = false);
            let Err(error) = ended else { break };
            let lived = connected.map(|since| self.clock.now().saturating_sub(since));
            let further = self.records.position() != before || self.records.behind() == 0;
            // A connection that keeps ending at the same record has another reason.
            let error = rival.connection_ended(error, lived, !further, &self.client_id);
            // The backoff is not reset by a connection that made no progress, nor by one that
            // another client keeps taking from us.
            let progress = connected.is_some() && further && rival.times() == 0;
            failures = if progress { 1 } else { failures + 1 };
            let wait = backoff(failures.max(rival.times()), &self.spread);
            let level = if told.as_ref() == Some(&error) { log::Level::Debug } else { log::Level::Warn };
            log::log!(
                level,
                "MQTT: {error}; trying again in {:.1} s, the log keeps everything until then",
                wait.as_secs_f64()
            );
            told = (!progress).then_some(error);
            if !self.stop.wait(&*self.clock, wait) {
                break;
            }
        }
    }

    /// One connection, to its end: `Ok` when the stop signal was given. `connected`: when the
    /// broker accepted us.
    fn session(&mut self, connected: &mut Option<Moment>) -> Result<(), MqttError> {
        let will = Will { topic: self.live.topics().name(Topic::Status), payload: OFFLINE };
        let link = Link::open(&self.config, &self.client_id, Some(will), CAPACITY)?;
        let (signals, stop) = (link.signals().clone(), self.stop.clone());
        let first = select! {
            recv(signals) -> signal => signal,
            // A shutdown waits a little for a connection that is being made, as it does for an
            // existing one.
            recv(stop.channel()) -> _ => {
                let deadline = self.clock.after(END_WITHIN);
                select! {
                    recv(signals) -> signal => signal,
                    recv(deadline) -> _ => return Ok(()),
                }
            }
        };
        let max_packet = match first {
            Ok(Signal::Connected { max_packet }) => max_packet,
            Ok(Signal::Down(error)) => return Err(error),
            Ok(_) | Err(RecvError) => return Err(self.lost("it ended before it began")),
        };
        let now = self.clock.now();
        *connected = Some(now);
        log::info!("MQTT: connected to {}", self.config.broker());
        self.records.tell(|p| {
            p.connected = true;
            p.connections += 1;
        });
        let mut outbox = Outbox::new(link, max_packet, now);
        self.records.begin();
        self.live.begin(now);
        self.greet(&mut outbox).map_err(|Full| self.lost("no room"))?;
        let served = self.serve(&mut outbox, &signals);
        if let Err(error) = &served {
            self.records.broke(
                matches!(error, MqttError::Lost { .. } | MqttError::Closed { .. }),
                outbox.has_settled(),
            );
        }
        served?;
        self.end(outbox, &signals)
    }

    fn greet(&self, outbox: &mut Outbox) -> Result<(), Full> {
        let status = self.live.topics().name(Topic::Status);
        outbox.send(status, Topic::Status.is_retained(), ONLINE.into(), Token::Other)?;
        if let Some(birth) = &self.birth {
            outbox.subscribe(birth.clone())?;
        }
        if self.config.commands {
            outbox.subscribe(self.live.topics().all_commands())?;
        }
        Ok(())
    }

    /// Serves the connection until the stop signal is given.
    fn serve(&mut self, outbox: &mut Outbox, signals: &Receiver<Signal>) -> Result<(), MqttError> {
        let (stop, wake, snapshots) = (self.stop.clone(), self.wake.clone(), self.snapshots.clone());
        loop {
            self.send(outbox, signals)?;
            let now = self.clock.now();
            self.records.save(now, false);
            if outbox.is_idle() {
                outbox.quiet_since = now;
            } else if now.saturating_sub(outbox.quiet_since) > ACK_WITHIN {
                let what = format!("nothing acknowledged for {} s", ACK_WITHIN.as_secs());
                return Err(MqttError::Silent { broker: self.config.broker(), what });
            }
            let due = self.records.due(now).map_or(self.live.due(), |r| r.min(self.live.due()));
            let timer = self.clock.after(due.saturating_sub(now).max(TICK));
            select! {
                recv(signals) -> signal => self.take(outbox, signal)?,
                recv(wake) -> _ => self.records.wake(),
                recv(snapshots) -> taken => if let Ok(taken) = taken
                    && self.asked.remove(&taken.source)
                {
                    self.live.show(&taken.source, taken.jpeg);
                },
                recv(timer) -> _ => {}
                recv(stop.channel()) -> _ => return Ok(()),
            }
            while let Ok(signal) = signals.try_recv() {
                self.take(outbox, Ok(signal))?;
            }
        }
    }

    /// Live state first, then records.
    fn send(&mut self, outbox: &mut Outbox, signals: &Receiver<Signal>) -> Result<(), MqttError> {
        let now = self.clock.now();
        let behind = self.records.behind();
        self.records.tell(|p| p.behind = behind);
        let caught_up = self.records.is_caught_up();
        let live = &mut self.live;
        let sent = live
            .send(outbox, now, caught_up)
            .and_then(|()| self.records.send(&mut Broker { outbox, live }, now));
        if let Err(Full) = sent {
            // A connection that is over accepts nothing: its last signals tell why.
            let deadline = self.clock.after(ENDING);
            loop {
                select! {
                    recv(signals) -> signal => self.take(outbox, signal)?,
                    recv(deadline) -> _ => break,
                }
            }
            return Err(self.lost("its queue is full although few messages are in flight"));
        }
        Ok(())
    }

    /// Sends what is left and the final messages, and waits a little for the broker to accept them.
    fn end(&mut self, mut outbox: Outbox, signals: &Receiver<Signal>) -> Result<(), MqttError> {
        self.records.wake();
        let deadline = self.clock.after(END_WITHIN);
        loop {
            self.send(&mut outbox, signals)?;
            if self.records.is_idle() && outbox.is_idle() {
                break;
            }
            let timer = self.clock.after(TICK);
            select! {
                recv(signals) -> signal => self.take(&mut outbox, signal)?,
                recv(timer) -> _ => {}
                recv(deadline) -> _ => {
                    log::warn!(
                        "MQTT: {} did not take everything in time; the rest is sent at the next start",
                        self.config.broker()
                    );
                    break;
                }
            }
        }
        // The last will is for unclean disconnects; this is a clean one.
        let status = self.live.topics().name(Topic::Status);
        let _ = outbox.send(status, Topic::Status.is_retained(), OFFLINE.into(), Token::Other);
        outbox.disconnect();
        let deadline = self.clock.after(END_WITHIN);
        loop {
            select! {
                recv(signals) -> signal => if signal.is_err() { return Ok(()) },
                recv(deadline) -> _ => return Ok(()),
            }
        }
    }

    fn take(&mut self, outbox: &mut Outbox, signal: Result<Signal, RecvError>) -> Result<(), MqttError> {
        let Ok(signal) = signal else { return Err(self.lost("its thread ended")) };
        let now = self.clock.now();
        if let Some(settled) = outbox.note(&signal, now) {
            match settled.token {
                Token::Record(seq) => {
                    let wall = self.clock.wall();
                    self.records.answered(seq, &settled.topic, settled.refused.as_deref(), now, wall);
                }
                _ => self.live.settled(&settled),
            }
        }
        match signal {
            Signal::Down(error) => Err(error),
            Signal::Message(message) => {
                self.heard(&message);
                Ok(())
            }
            Signal::NotSubscribed(why) => {
                log::warn!(
                    "MQTT: the broker does not let us subscribe ({why}): commands and Home Assistant's birth message do not arrive; may this user read these topics?"
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn heard(&mut self, message: &Incoming) {
        if self.birth.as_ref() == Some(&message.topic) {
            // A retained one is older than this connection's announcements.
            if message.payload == ONLINE.as_bytes() && !message.retained {
                log::info!("MQTT: Home Assistant has started, announcing everything again");
                self.live.born(self.clock.now());
            }
        } else if self.config.commands {
            let abilities = commands::Abilities { snapshots: self.config.snapshots };
            let topics = self.live.topics();
            match commands::obey(message, topics, &self.controls, &self.board, abilities) {
                Some(Wanted::Picture(source)) => drop(self.asked.insert(source)),
                Some(Wanted::Map(source)) => self.live.ask_map(source),
                None => {}
            }
        }
    }

    fn lost(&self, reason: &str) -> MqttError {
        MqttError::Lost { broker: self.config.broker(), reason: reason.to_owned() }
    }
}
