//! What is in flight to the broker on one connection.

use std::collections::{BTreeMap, VecDeque};

use super::link::{Full, Link, MAX_HEAD, MAX_PAYLOAD, Signal};
use crate::clock::Moment;

/// Messages in flight at most.
pub(super) const CAPACITY: u16 = 256;
/// Kept free for the final messages.
const SPARE: usize = 8;

/// What a message was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// The log's record with this `seq`.
    Record(u64),
    /// Live state.
    State,
    /// A picture of a source.
    Snapshot,
    /// An empty message that removes a retained one.
    Removal,
    /// Anything else.
    Other,
}

/// A message that the broker has answered.
#[derive(Debug)]
pub(super) struct Settled {
    pub token: Token,
    pub topic: String,
    /// Why the broker refuses it.
    pub refused: Option<String>,
}

/// One connection's messages.
pub(super) struct Outbox {
    link: Link,
    /// Handed to the link, without a packet id yet.
    queued: VecDeque<(Token, String)>,
    /// By packet id.
    in_flight: BTreeMap<u16, (Token, String)>,
    max_packet: usize,
    settled: u64,
    /// When the last answer came, or when nothing was in flight.
    pub quiet_since: Moment,
}

impl Outbox {
    pub fn new(link: Link, max_packet: Option<usize>, now: Moment) -> Self {
        let max_packet = max_packet.unwrap_or(usize::MAX).min(MAX_PAYLOAD + MAX_HEAD);
        Self {
            link,
            queued: VecDeque::new(),
            in_flight: BTreeMap::new(),
            max_packet,
            settled: 0,
            quiet_since: now,
        }
    }

    /// Whether broker and library accept a message of this size at all.
    pub fn fits(&self, topic: &str, payload: usize) -> bool {
        // Fixed header, packet id, length of the topic, properties.
        payload <= MAX_PAYLOAD && topic.len() + payload + 16 <= self.max_packet
    }

    pub fn send(&mut self, topic: String, retain: bool, payload: Vec<u8>, token: Token) -> Result<(), Full> {
        self.link.publish(topic.clone(), retain, payload)?;
        self.queued.push_back((token, topic));
        Ok(())
    }

    pub fn subscribe(&self, filter: String) -> Result<(), Full> {
        self.link.subscribe(filter)
    }

    /// Notes what a signal means for a message; returns the message if it is settled by that.
    pub fn note(&mut self, signal: &Signal, now: Moment) -> Option<Settled> {
        let (id, refused) = match signal {
            Signal::Sent(id) => {
                let sent = self.queued.pop_front();
                self.in_flight.extend(sent.map(|s| (*id, s)));
                return None;
            }
            Signal::Acked(id) => (id, None),
            Signal::Refused(id, why) => (id, Some(why.clone())),
            _ => return None,
        };
        self.quiet_since = now;
        self.settled += 1;
        let (token, topic) = self.in_flight.remove(id)?;
        Some(Settled { token, topic, refused })
    }

    /// Whether there is room for another message, with some to spare for the final ones.
    pub fn room(&self) -> bool {
        self.queued.len() + self.in_flight.len() + SPARE < usize::from(CAPACITY)
    }

    /// Whether everything has been answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.in_flight.is_empty()
    }

    /// Whether the broker has answered anything yet.
    pub(crate) fn has_settled(&self) -> bool {
        self.settled > 0
    }

    /// Whether a message of this kind is in flight.
    pub fn has(&self, wanted: impl Fn(&Token) -> bool) -> bool {
        self.queued.iter().chain(self.in_flight.values()).any(|(t, _)| wanted(t))
    }

    pub(crate) fn disconnect(&self) {
        self.link.disconnect();
    }
}
