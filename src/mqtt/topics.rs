//! All topics, typed, in one place; `docs/MQTT.md` lists them and a test holds the two together.

use std::fmt::Write as _;

/// A topic of one box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic<'a> {
    /// Whether the box is there: `online` or `offline`, retained, also its last will.
    Status,
    /// Live state of a source, JSON, retained.
    State {
        /// The source's id.
        source: &'a str,
    },
    /// Flag log records of a source, JSON, each at least once and in order, not retained.
    Event {
        /// The source's id.
        source: &'a str,
    },
}

impl Topic<'_> {
    /// One of each kind, for the documentation's test.
    pub const KINDS: [Topic<'static>; 3] =
        [Topic::Status, Topic::State { source: "<source>" }, Topic::Event { source: "<source>" }];

    /// Whether the broker keeps the last message for those who subscribe later.
    pub fn is_retained(self) -> bool {
        match self {
            Topic::Status | Topic::State { .. } => true,
            Topic::Event { .. } => false,
        }
    }
}

/// The topics of one box.
#[derive(Debug, Clone)]
pub struct Topics {
    base: String,
}

impl Topics {
    /// Topics that begin with `prefix` (which may have several levels) and the box's name.
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
        }
    }
}

/// A name as one topic level: what MQTT gives a meaning to (`/`, `+`, `#`, a leading `$`), control
/// characters and `%` are written as `%` and two hex digits a byte, so that different names stay
/// different; an empty name becomes `%`.
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
        let docs = include_str!("../../docs/MQTT.md");
        let topics = Topics::new("spotd", "<node>");
        let ours: BTreeSet<String> = Topic::KINDS.iter().map(|&t| topics.name(t)).collect();
        let listed: BTreeSet<String> = docs
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .filter(|(name, _)| name.starts_with("spotd/"))
            .map(|(name, _)| name.to_owned())
            .collect();
        assert_eq!(ours, listed);
        for topic in Topic::KINDS {
            let name = topics.name(topic);
            let row = docs.lines().find(|l| l.starts_with(&format!("| `{name}`"))).expect("a row");
            let retained = row.split('|').nth(2).expect("a second column").trim();
            assert_eq!(retained, if topic.is_retained() { "yes" } else { "no" }, "{name}");
        }
    }
}
