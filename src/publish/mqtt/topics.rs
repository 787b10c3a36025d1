//! All topics, typed, in one place; `docs/MQTT.md` lists them and a test holds the two together.

use std::fmt::Write as _;

use crate::flaglog::Hash;

/// A topic of one box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic<'a> {
    /// Whether the box is connected: `online` or `offline`, retained, also its last will.
    Status,
    /// Live state of a source, JSON, retained.
    State {
        /// The source's id.
        source: &'a str,
    },
    /// A source's flag log records, JSON, each at least once and in order, not retained.
    Event {
        /// The source's id.
        source: &'a str,
    },
    /// What operators say of a source's events, the flag log's reviews, JSON, as events are sent.
    Review {
        /// The source's id.
        source: &'a str,
    },
    /// The newest picture of a source, JPEG, retained.
    Snapshot {
        /// The source's id.
        source: &'a str,
    },
    /// How synthetic each place of a source's frames has looked over the last minutes, JSON, when a command asks for it, not
    /// retained.
    Map {
        /// The source's id.
        source: &'a str,
    },
    /// Commands to a source: `pause`, `resume`, `snapshot`, `map`.
    Command {
        /// The source's id.
        source: &'a str,
    },
    /// This publisher's delivery status, JSON, retained.
    Publisher,
    /// The flag log's status, with its alarm, JSON, retained.
    Log,
}

impl Topic<'_> {
    /// One of each kind, for the documentation's test.
    pub const KINDS: [Topic<'static>; 9] = [
        Topic::Status,
        Topic::State { source: "<source>" },
        Topic::Event { source: "<source>" },
        Topic::Review { source: "<source>" },
        Topic::Snapshot { source: "<source>" },
        Topic::Map { source: "<source>" },
        Topic::Command { source: "<source>" },
        Topic::Publisher,
        Topic::Log,
    ];

    /// Whether the broker retains the last message for later subscribers.
    pub(crate) fn is_retained(self) -> bool {
        match self {
            Topic::Status | Topic::State { .. } | Topic::Snapshot { .. } | Topic::Publisher | Topic::Log => {
                true
            }
            Topic::Event { .. } | Topic::Review { .. } | Topic::Map { .. } | Topic::Command { .. } => false,
        }
    }
}

/// The topics of one box.
#[derive(Debug, Clone)]
pub struct Topics {
    base: String,
}

impl Topics {
    /// Topics under `prefix` (which may have several levels) and the box's name.
    pub fn new(prefix: &str, node: &str) -> Self {
        let mut base = String::new();
        for part in prefix.split('/').filter(|p| !p.is_empty()) {
            let _ = write!(base, "{}/", level(part));
        }
        Self { base: base + &level(node) }
    }

    /// A topic's name.
    pub fn name(&self, topic: Topic<'_>) -> String {
        let base = &self.base;
        match topic {
            Topic::Status => format!("{base}/status"),
            Topic::State { source } => format!("{base}/source/{}/state", level(source)),
            Topic::Event { source } => format!("{base}/source/{}/event", level(source)),
            Topic::Review { source } => format!("{base}/source/{}/review", level(source)),
            Topic::Snapshot { source } => format!("{base}/source/{}/snapshot", level(source)),
            Topic::Map { source } => format!("{base}/source/{}/map", level(source)),
            Topic::Command { source } => format!("{base}/source/{}/command", level(source)),
            Topic::Publisher => format!("{base}/publisher"),
            Topic::Log => format!("{base}/log"),
        }
    }

    /// A filter that matches the commands for all sources.
    pub(crate) fn all_commands(&self) -> String {
        format!("{}/source/+/command", self.base)
    }
}

/// Home Assistant's own topics.
#[derive(Debug, Clone)]
pub struct HomeAssistant {
    prefix: String,
    node: String,
}

impl HomeAssistant {
    /// Topics under `prefix` for the box `node`.
    pub fn new(prefix: &str, node: &str) -> Self {
        Self { prefix: level(prefix), node: plain_id(node) }
    }

    /// The box's id there.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Where an entity is announced; retained, an empty message removes it.
    pub fn config(&self, component: &str, object: &str) -> String {
        format!("{}/{component}/{}/{object}/config", self.prefix, self.node)
    }

    /// Where Home Assistant publishes `online` when it has started.
    pub(crate) fn birth(&self) -> String {
        format!("{}/status", self.prefix)
    }
}

/// A name in the form of Home Assistant's ids: letters, digits, `_` and `-`. A name with other
/// characters gets part of its hash appended, so that different names stay different.
pub(crate) fn plain_id(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !name.is_empty() && name.chars().all(is_plain) {
        return name.to_owned();
    }
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let hash = Hash::of(name.as_bytes()).to_string();
    format!("{plain}-{}", &hash[..12])
}

/// A name as one topic level: characters with a meaning in MQTT (`/`, `+`, `#`, a leading `$`),
/// control characters and `%` are written as `%` and two hex digits per byte, so that different
/// names stay different; an empty name becomes `%`.
pub fn level(name: &str) -> String {
    if name.is_empty() {
        return "%".to_owned();
    }
    let mut out = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        let special = matches!(c, '/' | '+' | '#' | '%') || c.is_control() || (c == '$' && at == 0);
        // Code points that brokers may refuse although they are valid UTF-8.
        let refused =
            matches!(u32::from(c) & 0xffff, 0xfffe | 0xffff) || matches!(u32::from(c), 0xfdd0..=0xfdef);
        if special || refused {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "%{byte:02X}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// The client id of a box.
pub(super) fn client_id(node: &str) -> String {
    format!("spotd-{}", level(node))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_with_a_meaning_are_escaped() {
        for (name, expected) in [
            ("studio-1", "studio-1"),
            ("a/b", "a%2Fb"),
            ("+", "%2B"),
            ("#", "%23"),
            ("100%", "100%25"),
            ("$SYS", "%24SYS"),
            ("a$", "a$"),
            ("Außenstelle 北", "Außenstelle 北"),
            ("nul\0", "nul%00"),
            ("\u{fffe}", "%EF%BF%BE"),
            ("", "%"),
        ] {
            assert_eq!(level(name), expected);
        }
        let topics = Topics::new("/site/spotd/", "box/1");
        assert_eq!(topics.name(Topic::Status), "site/spotd/box%2F1/status");
        assert_eq!(
            Topics::new("spotd", "box").name(Topic::Event { source: "cam#1" }),
            "spotd/box/source/cam%231/event"
        );
    }

    #[test]
    fn home_assistant_gets_ids_that_it_takes() {
        assert_eq!(plain_id("studio-1_b"), "studio-1_b");
        let odd: BTreeSet<String> =
            ["a/b", "a b", "a#b", "a+b", "a.b", "äöb", "北京市", ""].map(plain_id).into_iter().collect();
        assert_eq!(odd.len(), 8, "different names stay different: {odd:?}");
        for id in &odd {
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)), "{id}");
        }
    }

    proptest! {
        #[test]
        fn any_name_becomes_one_level_and_stays_itself(a in any::<String>(), b in any::<String>()) {
            let (la, lb) = (level(&a), level(&b));
            prop_assert!(!la.is_empty() && !la.contains(['/', '+', '#']) && !la.contains(char::is_control));
            prop_assert_eq!(a == b, la == lb);
        }
    }

    #[test]
    fn the_documentation_lists_exactly_these_topics() {
        let docs = include_str!("../../../docs/MQTT.md");
        let topics = Topics::new("spotd", "<node>");
        let ours: BTreeSet<String> = Topic::KINDS.iter().map(|&t| topics.name(t)).collect();
        let listed: BTreeSet<String> = docs
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .filter(|(name, _)| name.starts_with("spotd/"))
            .map(|(name, _)| name.to_owned())
            .collect();
        assert_eq!(ours, listed);
        let ha = HomeAssistant { prefix: "homeassistant".into(), node: "<node>".into() };
        for topic in [ha.config("<component>", "<object>"), ha.birth()] {
            assert!(docs.contains(&format!("| `{topic}` |")), "{topic} is not listed");
        }
        for topic in Topic::KINDS {
            let name = topics.name(topic);
            let row = docs.lines().find(|l| l.starts_with(&format!("| `{name}`"))).expect("a row");
            let retained = row.split('|').nth(2).expect("a second column").trim();
            assert_eq!(retained, if topic.is_retained() { "yes" } else { "no" }, "{name}");
        }
    }
}
