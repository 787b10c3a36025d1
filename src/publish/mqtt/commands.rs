//! Commands to sources over the broker, when `[mqtt] commands` is on.

use std::sync::Arc;

use super::link::Incoming;
use super::topics::{Topic, Topics};
use crate::control::Controls;
use crate::health::Board;

/// Which commands can be carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    pub snapshots: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Pause,
    Resume,
    Snapshot,
    Map,
}

/// What a command wants to be sent, of which source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A picture of its next frame.
    Picture(Arc<str>),
    /// Its map.
    Map(Arc<str>),
}

/// Carries out a message if it is a valid command; logs it either way. Returns what was requested, if something was.
pub(super) fn obey(
    message: &Incoming,
    topics: &Topics,
    controls: &Controls,
    board: &Board,
    abilities: Abilities,
) -> Option<Wanted> {
    let Some(source) =
        controls.ids().into_iter().find(|s| topics.name(Topic::Command { source: s }) == message.topic)
    else {
        log::warn!("MQTT: a command for a source that this box does not have, on {}", message.topic);
        return None;
    };
    if message.retained {
        // It would be carried out again on every connection.
        log::warn!("MQTT: {source}: a retained command is not obeyed; send commands without the retain flag");
        return None;
    }
    let control = controls.source(&source)?;
    match parse(&message.payload) {
        Some(Command::Snapshot) if !abilities.snapshots => {
            log::warn!("MQTT: {source}: no picture without [mqtt] snapshots = true");
        }
        Some(Command::Snapshot) => {
            control.ask_snapshot();
            return Some(Wanted::Picture(source.clone()));
        }
        Some(Command::Map) => return Some(Wanted::Map(source.clone())),
        Some(command) => {
            let paused = command == Command::Pause;
            log::info!("MQTT: {source}: {} by command", if paused { "paused" } else { "resumed" });
            board.pause(&source, paused);
        }
        None => log::warn!("MQTT: {source}: unknown command; known are pause, resume, snapshot and map"),
    }
    None
}

fn parse(payload: &[u8]) -> Option<Command> {
    match payload {
        b"pause" => Some(Command::Pause),
        b"resume" => Some(Command::Resume),
        b"snapshot" => Some(Command::Snapshot),
        b"map" => Some(Command::Map),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(topic: &str, payload: &[u8], retained: bool, snapshots: bool) -> (bool, bool, bool) {
        let controls = Controls::new(["cam".into(), "a.b".into()]);
        let board = Board::new(["cam".into(), "a.b".into()]);
        let message = Incoming { topic: topic.into(), payload: payload.into(), retained };
        let asked =
            obey(&message, &Topics::new("spotd", "box/1"), &controls, &board, Abilities { snapshots });
        let pictured = matches!(&asked, Some(Wanted::Picture(source)) if **source == *"cam");
        assert_eq!(pictured, controls.source("cam").is_some_and(|c| c.wants_snapshot()));
        assert_eq!(asked == Some(Wanted::Map("cam".into())), payload == b"map" && !retained);
        let other = controls.source("a.b").expect("there");
        assert!(!board.is_paused("a.b") && !other.wants_snapshot(), "only the one that is named");
        let shown = board.snapshot().iter().any(|(id, s)| **id == *"cam" && s.paused);
        (board.is_paused("cam"), shown, controls.source("cam").expect("there").wants_snapshot())
    }

    #[test]
    fn only_a_plain_command_on_the_sources_own_topic_is_obeyed() {
        let topic = "spotd/box%2F1/source/cam/command";
        assert_eq!(send(topic, b"pause", false, true), (true, true, false));
        assert_eq!(send(topic, b"resume", false, true), (false, false, false));
        assert_eq!(send(topic, b"snapshot", false, true), (false, false, true));
        let nothing = (false, false, false);
        assert_eq!(send(topic, b"map", false, false), nothing, "it only asks");
        assert_eq!(send(topic, b"map", true, false), nothing);
        assert_eq!(send(topic, b"snapshot", false, false), nothing);
        assert_eq!(send(topic, b"pause", true, true), nothing);
        for odd in [&b""[..], b"PAUSE", b"pause ", b"\xff\xfe", &[b'x'; 70_000]] {
            assert_eq!(send(topic, odd, false, true), nothing);
        }
        for odd in ["spotd/box/1/source/cam/command", "spotd/box%2F1/source/gone/command", ""] {
            assert_eq!(send(odd, b"pause", false, true), nothing);
        }
    }
}
