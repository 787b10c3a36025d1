//! The thread that follows the log and sends to a web server, one record after the other.
//!
//! Requests are made by a separate thread, because they cannot be cancelled: a shutdown waits for a
//! response for a while and then abandons it. A record whose response was not seen is sent again,
//! with the same id.

use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use ulid::Ulid;

use super::client::{Answer, Client, WebhookError};
use super::settings::WebhookConfig;
use crate::clock::{Moment, SharedClock, Stop};
use crate::flaglog::{Entry, Tail};
use crate::health::Board;
use crate::publish::backoff::backoff;
use crate::publish::delivery::{Delivery, Parcel, Place, Recipient};
use crate::verdict::EventKind;

/// Records per second at most, so that the backlog of an outage does not flood the server.
const RATE: f64 = 100.0;
/// How long a shutdown may wait for the server.
const END_WITHIN: Duration = Duration::from_secs(3);
/// Shortest wait for something that becomes due, so that rounding never makes a loop spin.
const TICK: Duration = Duration::from_millis(10);

/// Starts the publisher. It ends some time after `stop` is given: whatever is durable in the log by
/// then is still sent if the server accepts it within three seconds, so give the signal after the
/// last record has been appended.
///
/// # Errors
/// [`WebhookError::File`] and [`WebhookError::NoAuthorities`], which no retry can fix, and
/// [`WebhookError::Thread`]. A server that cannot be reached is not an error: it is retried for
/// ever.
pub fn spawn(
    config: WebhookConfig,
    log: &Tail,
    board: Board,
    clock: SharedClock,
    stop: Stop,
) -> Result<JoinHandle<()>, WebhookError> {
    let client = Client::new(&config, clock.clone())?;
    if config.is_plain() {
        log::warn!(
            "{} {}: records are sent in plain text; use https:// in [[webhook]] url",
            config.name,
            config.server
        );
    }
    let (posts, to_send) = bounded::<Parcel>(1);
    let (answered, answers) = bounded(1);
    std::thread::Builder::new()
        .name(format!("{} post", config.name))
        .spawn(move || {
            for parcel in to_send {
                let answer = client.post(&parcel.id, &parcel.line);
                if answered.send((parcel, answer)).is_err() {
                    break;
                }
            }
        })
        .map_err(WebhookError::Thread)?;
    let to = Recipient {
        name: config.name.clone(),
        label: format!("{} {}", config.name, config.server),
        peer: "the server",
        hint: "is url in [[webhook]] right, and does the server take spotd's records there?",
        rate: RATE,
        // In order: the next one is sent when this one has been accepted.
        window: 1,
    };
    let publisher = Publisher {
        label: to.label.clone(),
        delivery: Delivery::new(to, log, board, clock.now()),
        server: Server {
            events: config.events,
            reviews: config.reviews,
            target: config.server,
            posts,
            busy: false,
            waiting: None,
        },
        answers,
        again: None,
        failures: 0,
        told: None,
        connected: false,
        spread: Ulid::new().to_string(),
        wake: log.wake(),
        clock,
        stop,
    };
    std::thread::Builder::new().name(config.name).spawn(move || publisher.run()).map_err(WebhookError::Thread)
}

struct Publisher {
    /// Prefix of log messages.
    label: String,
    delivery: Delivery,
    server: Server,
    answers: Receiver<(Parcel, Answer)>,
    /// Nothing is sent until then.
    again: Option<Moment>,
    /// Failed requests in a row.
    failures: u32,
    /// The last reason that was logged.
    told: Option<String>,
    /// Whether the last request got a response.
    connected: bool,
    /// Differs from process to process.
    spread: String,
    wake: Receiver<()>,
    clock: SharedClock,
    stop: Stop,
}

/// Where records go: one request at a time.
struct Server {
    events: Vec<EventKind>,
    reviews: bool,
    target: String,
    posts: Sender<Parcel>,
    /// Whether a request is in flight.
    busy: bool,
    /// A record that was not accepted yet, to be sent again.
    waiting: Option<Parcel>,
}

/// The sending thread is gone.
struct Gone;

impl Place for Server {
    type Closed = Gone;

    fn room(&self) -> bool {
        !self.is_busy()
    }

    fn is_busy(&self) -> bool {
        self.busy || self.waiting.is_some()
    }

    fn wants(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Event(record) => self.events.contains(&record.kind),
            Entry::Review(_) => self.reviews,
            Entry::Note(_) => false,
        }
    }

    fn target(&self, _entry: &Entry) -> String {
        self.target.clone()
    }

    fn too_long(&self, _target: &str, _bytes: usize) -> Option<String> {
        None
    }

    fn send(&mut self, parcel: Parcel) -> Result<(), Gone> {
        self.busy = true;
        self.posts.send(parcel).map_err(|_| Gone)
    }
}

impl Publisher {
    fn run(mut self) {
        self.delivery.begin();
        let (stop, wake, answers) = (self.stop.clone(), self.wake.clone(), self.answers.clone());
        let mut deadline = None;
        loop {
            let now = self.clock.now();
            if self.send(now).is_err() {
                log::error!("{}: the sending thread is gone; nothing more is sent", self.label);
                break;
            }
            self.delivery.save(now, false);
            let behind = self.delivery.behind();
            self.delivery.tell(|p| p.behind = behind);
            let idle = self.delivery.is_idle() && !self.server.is_busy();
            if deadline.is_some() && (idle || self.again.is_some()) {
                break;
            }
            let due = match self.again {
                Some(again) => Some(again),
                None => self.delivery.due(now).filter(|_| !self.server.is_busy()),
            };
            let due = due.into_iter().chain(self.delivery.save_due()).min();
            let timer = due.map_or_else(never, |due| self.clock.after(due.saturating_sub(now).max(TICK)));
            let (unasked, endless) = (never(), never());
            select! {
                recv(answers) -> answer => if let Ok((parcel, answer)) = answer {
                    self.answered(parcel, answer);
                },
                recv(wake) -> _ => self.delivery.wake(),
                recv(timer) -> _ => {}
                recv(if deadline.is_some() { &unasked } else { stop.channel() }) -> _ => {
                    self.delivery.wake();
                    deadline = Some(self.clock.after(END_WITHIN));
                }
                recv(deadline.as_ref().unwrap_or(&endless)) -> _ => {
                    log::warn!(
                        "{}: not everything was taken in time; the rest is sent at the next start",
                        self.label
                    );
                    break;
                }
            }
        }
        self.delivery.save(self.clock.now(), true);
        self.delivery.tell(|p| p.connected = false);
    }

    fn send(&mut self, now: Moment) -> Result<(), Gone> {
        if self.again.is_some_and(|again| now < again) {
            return Ok(());
        }
        self.again = None;
        match self.server.waiting.take() {
            Some(parcel) => self.server.send(parcel),
            None => self.delivery.send(&mut self.server, now),
        }
    }

    fn answered(&mut self, parcel: Parcel, answer: Answer) {
        self.server.busy = false;
        let now = self.clock.now();
        let refused = match answer {
            Answer::Later { why, after } => {
                self.failures += 1;
                self.connected = false;
                self.delivery.tell(|p| p.connected = false);
                let wait = after.unwrap_or_else(|| backoff(self.failures, &self.spread)).max(TICK);
                let level =
                    if self.told.as_ref() == Some(&why) { log::Level::Debug } else { log::Level::Warn };
                log::log!(
                    level,
                    "{}: {why}; trying again in {:.1} s, the log keeps everything until then",
                    self.label,
                    wait.as_secs_f64()
                );
                self.told = Some(why);
                self.again = Some(now + wait);
                self.server.waiting = Some(parcel);
                return;
            }
            Answer::Taken => None,
            Answer::Refused(why) => Some(why),
        };
        self.failures = 0;
        if self.told.take().is_some() {
            log::info!("{}: it answers again", self.label);
        }
        if !std::mem::replace(&mut self.connected, true) {
            self.delivery.tell(|p| {
                p.connected = true;
                p.connections += 1;
            });
        }
        let wall = self.clock.wall();
        self.delivery.answered(parcel.seq, &parcel.target, refused.as_deref(), now, wall);
    }
}
