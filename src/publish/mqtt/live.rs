//! What the broker retains for those who subscribe later: live state, announcements, pictures. It
//! is sent besides the log's records and before them, and only ever in its newest form.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::NAME;
use super::discovery::{Abilities, Announcement, announce};
use super::link::Full;
use super::outbox::{Outbox, Settled, Token};
use super::retained::Retained;
use super::topics::{HomeAssistant, Topic, Topics};
use crate::clock::Moment;
use crate::control::Controls;
use crate::flaglog::Tail;
use crate::flaglog::record::EvidenceFile;
use crate::health::{Board, ShownMap};
use crate::judgement::HeatMap;
use crate::publish::mqtt::MqttConfig;

/// The shortest interval between two live states of a source.
const STATE_EVERY: Duration = Duration::from_secs(1);
/// Longest live state that is sent; the reason for a source's failure is the only part of unbounded
/// length.
const MAX_STATE: usize = 64 * 1024;

/// Everything that is retained for one box.
pub(super) struct Live {
    config: MqttConfig,
    topics: Topics,
    ids: Vec<Arc<str>>,
    board: Board,
    announcements: Vec<Announcement>,
    memory: Retained,
    /// Removals and announcements still to be sent on this connection.
    waiting: VecDeque<(String, Vec<u8>, Token)>,
    /// The last state sent on this connection and whether it is still in flight, by topic.
    states: BTreeMap<String, (String, bool)>,
    next_state: Moment,
    /// The newest picture of each source that has not been sent yet.
    snapshots: BTreeMap<Arc<str>, Snapshot>,
    /// Sources whose map was requested and not sent yet: there may be none before the first frame.
    maps: BTreeSet<Arc<str>>,
    /// Topics that the broker has refused and whose refusal has been logged.
    refused: BTreeSet<String>,
}

enum Snapshot {
    Here(Vec<u8>),
    Evidence(EvidenceFile, Tail),
}

impl Live {
    pub fn new(config: &MqttConfig, node: &str, log: &Tail, board: Board, controls: &Controls) -> Self {
        let topics = Topics::new(&config.prefix, node);
        let mut ids: Vec<Arc<str>> = controls.ids();
        ids.extend(board.snapshot().into_iter().map(|(id, _)| id).filter(|id| controls.source(id).is_none()));
        let announcements = announcements(config, &topics, node, &ids);
        let memory =
            Retained::load(log, wanted(config, &topics, &ids, announcements.iter().map(|a| a.topic.clone())));
        Self {
            config: config.clone(),
            topics,
            ids,
            board,
            announcements,
            memory,
            waiting: VecDeque::new(),
            states: BTreeMap::new(),
            next_state: Moment::ZERO,
            snapshots: BTreeMap::new(),
            maps: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    /// A connection begins: everything is new to the broker.
    pub fn begin(&mut self, now: Moment) {
        self.states.clear();
        self.next_state = now;
        self.waiting.clear();
        let gone = self.memory.stale();
        if !gone.is_empty() {
            log::info!("MQTT: removing {} retained messages that are obsolete", gone.len());
        }
        self.waiting.extend(gone.into_iter().map(|topic| (topic, Vec::new(), Token::Removal)));
        self.announce_all();
    }

    /// Home Assistant has started: everything has to be announced to it again.
    pub(crate) fn born(&mut self, now: Moment) {
        self.announce_all();
        self.states.clear();
        self.next_state = now;
    }

    fn announce_all(&mut self) {
        self.waiting.retain(|(_, _, token)| *token == Token::Removal);
        let all = self.announcements.iter();
        self.waiting.extend(all.map(|a| (a.topic.clone(), a.payload.clone().into_bytes(), Token::Other)));
    }

    /// A map that was requested.
    pub fn ask_map(&mut self, source: Arc<str>) {
        self.maps.insert(source);
    }

    /// A picture that was requested.
    pub fn show(&mut self, source: &str, jpeg: Vec<u8>) {
        self.remember(source, Snapshot::Here(jpeg));
    }

    /// The picture of a record.
    pub(crate) fn show_evidence(&mut self, source: &str, file: EvidenceFile, log: Tail) {
        self.remember(source, Snapshot::Evidence(file, log));
    }

    fn remember(&mut self, source: &str, snapshot: Snapshot) {
        // Records may be about sources that no longer exist.
        if let Some(id) = self.ids.iter().find(|id| ***id == *source)
            && self.config.snapshots
        {
            self.snapshots.insert(id.clone(), snapshot);
        }
    }

    /// Sends what is due. Pictures are sent only when `caught_up`: after an outage, the newest one
    /// is enough.
    pub fn send(&mut self, outbox: &mut Outbox, now: Moment, caught_up: bool) -> Result<(), Full> {
        if now >= self.next_state {
            self.next_state = now + STATE_EVERY;
            self.memory.follow();
            for (source, status) in self.board.snapshot() {
                self.send_state(outbox, Topic::State { source: &source }, &status)?;
            }
            self.send_state(outbox, Topic::Publisher, &self.board.publisher(NAME))?;
            self.send_state(outbox, Topic::Log, &self.board.log())?;
        }
        while outbox.room() {
            let Some((topic, payload, token)) = self.waiting.pop_front() else { break };
            outbox.send(topic, true, payload, token)?;
        }
        let waiting = std::mem::take(&mut self.maps);
        for source in waiting {
            match self.board.map(&source) {
                Some(map) if outbox.room() => self.send_map(outbox, &source, &map)?,
                _ => drop(self.maps.insert(source)),
            }
        }
        // One at a time: they are large.
        if caught_up
            && outbox.room()
            && !outbox.has(|t| *t == Token::Snapshot)
            && let Some((source, snapshot)) = self.snapshots.pop_first()
        {
            self.send_snapshot(outbox, &source, snapshot)?;
        }
        Ok(())
    }

    fn send_state(
        &mut self,
        outbox: &mut Outbox,
        topic: Topic<'_>,
        state: &impl Serialize,
    ) -> Result<(), Full> {
        let name = self.topics.name(topic);
        let text = match serde_json::to_string(state) {
            Ok(text) if text.len() <= MAX_STATE && outbox.fits(&name, text.len()) => text,
            Ok(text) => {
                self.complain(&name, &format!("its {} bytes are too many", text.len()));
                return Ok(());
            }
            Err(e) => {
                log::error!("MQTT: {name}: {e}");
                return Ok(());
            }
        };
        let news = self.states.get(&name).is_none_or(|(last, on_its_way)| *last != text && !on_its_way);
        if news && outbox.room() {
            outbox.send(name.clone(), topic.is_retained(), text.clone().into_bytes(), Token::State)?;
            self.states.insert(name, (text, true));
        }
        Ok(())
    }

    fn send_map(&mut self, outbox: &mut Outbox, source: &str, map: &HeatMap) -> Result<(), Full> {
        let topic = Topic::Map { source };
        let name = self.topics.name(topic);
        match serde_json::to_vec(&ShownMap::from(map)) {
            Ok(text) if outbox.fits(&name, text.len()) => {
                outbox.send(name, topic.is_retained(), text, Token::Other)?;
            }
            Ok(text) => {
                self.complain(&name, &format!("its {} bytes are more than the broker takes", text.len()));
            }
            Err(e) => log::error!("MQTT: {name}: {e}"),
        }
        Ok(())
    }

    fn send_snapshot(&mut self, outbox: &mut Outbox, source: &str, snapshot: Snapshot) -> Result<(), Full> {
        let name = self.topics.name(Topic::Snapshot { source });
        let jpeg = match snapshot {
            Snapshot::Here(jpeg) => jpeg,
            Snapshot::Evidence(file, log) => {
                let most = usize::try_from(file.bytes).unwrap_or(usize::MAX);
                let read = if outbox.fits(&name, most) {
                    log.evidence(&file)
                } else {
                    Err(format!("its {most} bytes are more than the broker takes"))
                };
                match read {
                    Ok(jpeg) => jpeg,
                    Err(why) => {
                        log::warn!("MQTT: {name}: no picture, {}: {why}", file.file);
                        return Ok(());
                    }
                }
            }
        };
        if outbox.fits(&name, jpeg.len()) {
            outbox.send(name, Topic::Snapshot { source }.is_retained(), jpeg, Token::Snapshot)?;
        } else {
            self.complain(&name, &format!("its {} bytes are more than the broker takes", jpeg.len()));
        }
        Ok(())
    }

    /// The broker has answered a message other than a record.
    pub(crate) fn settled(&mut self, settled: &Settled) {
        match &settled.token {
            Token::State => {
                if let Some((_, on_its_way)) = self.states.get_mut(&settled.topic) {
                    *on_its_way = false;
                }
            }
            Token::Removal if settled.refused.is_none() => self.memory.removed(&settled.topic),
            Token::Removal | Token::Snapshot | Token::Other | Token::Record(_) => {}
        }
        if let Some(why) = &settled.refused {
            self.complain(
                &settled.topic,
                &format!("the broker refuses it: {why}; may this user publish there?"),
            );
        }
    }

    fn complain(&mut self, topic: &str, why: &str) {
        if self.refused.insert(topic.to_owned()) {
            log::warn!("MQTT: {topic}: {why} (logged once)");
        }
    }

    /// When [`Live::send`] has something to do again although nothing else happens.
    pub fn due(&self) -> Moment {
        self.next_state
    }

    /// The box's topics.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }
}

fn announcements(config: &MqttConfig, topics: &Topics, node: &str, ids: &[Arc<str>]) -> Vec<Announcement> {
    let Some(prefix) = &config.discovery else { return Vec::new() };
    let abilities = Abilities { snapshots: config.snapshots, commands: config.commands };
    announce(&HomeAssistant::new(prefix, node), topics, node, ids.iter().map(|id| &**id), abilities)
}

/// All topics with retained messages.
fn wanted(
    config: &MqttConfig,
    topics: &Topics,
    ids: &[Arc<str>],
    announced: impl Iterator<Item = String>,
) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = announced.collect();
    all.extend([Topic::Status, Topic::Publisher, Topic::Log].map(|t| topics.name(t)));
    for source in ids {
        all.insert(topics.name(Topic::State { source }));
        if config.snapshots {
            all.insert(topics.name(Topic::Snapshot { source }));
        }
    }
    all
}
