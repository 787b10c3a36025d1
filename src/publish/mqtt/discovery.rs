//! Home Assistant discovery: the messages that announce a box's entities.
//!
//! Each source is a device of its own, connected via the box's. All entities read topics that exist
//! anyway; nothing is published just for Home Assistant.

use serde_json::{Map, Value, json};

use super::topics::{HomeAssistant, Topic, Topics, plain_id};
use crate::flaglog::record::SOFTWARE;

/// A message that announces one entity.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Announcement {
    pub topic: String,
    pub payload: String,
}

/// What the box can do besides publishing state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    pub snapshots: bool,
    pub commands: bool,
}

/// All entities of a box.
pub(super) fn announce<'a>(
    ha: &HomeAssistant,
    topics: &Topics,
    node: &str,
    sources: impl IntoIterator<Item = &'a str>,
    abilities: Abilities,
) -> Vec<Announcement> {
    let announcer = Announcer { ha, topics, node };
    let mut all = announcer.node();
    for source in sources {
        all.extend(announcer.source(source, abilities));
    }
    all
}

struct Announcer<'a> {
    ha: &'a HomeAssistant,
    topics: &'a Topics,
    node: &'a str,
}

/// A template for a number that may be missing: a missing one must not become 0.
fn number(member: &str) -> Value {
    format!("{{{{ value_json.{member} if value_json.{member} is number else None }}}}").into()
}

/// Members of an entity that differ from one to the next.
type Members = [(&'static str, Value)];

impl Announcer<'_> {
    fn node(&self) -> Vec<Announcement> {
        let device = json!({
            "identifiers": [self.device_id()],
            "name": format!("spotd {}", self.node),
            "manufacturer": "spotd",
            "model": "detector of CNN-generated video",
            "sw_version": SOFTWARE,
        });
        let publisher = self.topics.name(Topic::Publisher);
        let log = self.topics.name(Topic::Log);
        let counter = |object: &str, name: &str, topic: &str, member: &str, class: &str| {
            self.entity(
                "sensor",
                object,
                &device,
                &[
                    ("name", name.into()),
                    ("state_topic", topic.into()),
                    ("value_template", format!("{{{{ value_json.{member} }}}}").into()),
                    ("state_class", class.into()),
                    ("entity_category", "diagnostic".into()),
                ],
            )
        };
        vec![
            self.entity(
                "binary_sensor",
                "online",
                &device,
                &[
                    ("name", "Online".into()),
                    ("state_topic", self.topics.name(Topic::Status).into()),
                    ("payload_on", "online".into()),
                    ("payload_off", "offline".into()),
                    ("device_class", "connectivity".into()),
                    ("entity_category", "diagnostic".into()),
                ],
            ),
            counter("behind", "Records not sent yet", &publisher, "behind", "measurement"),
            counter("refused", "Records refused by the broker", &publisher, "refused", "total_increasing"),
            self.entity(
                "binary_sensor",
                "log-alarm",
                &device,
                &[
                    ("name", "Flag log".into()),
                    ("state_topic", log.clone().into()),
                    ("value_template", "{{ 'ON' if value_json.alarm else 'OFF' }}".into()),
                    ("device_class", "problem".into()),
                    ("json_attributes_topic", log.clone().into()),
                    ("entity_category", "diagnostic".into()),
                ],
            ),
            self.entity(
                "sensor",
                "log-free",
                &device,
                &[
                    ("name", "Free room for the flag log".into()),
                    ("state_topic", log.clone().into()),
                    ("value_template", number("free_bytes")),
                    ("unit_of_measurement", "B".into()),
                    ("device_class", "data_size".into()),
                    ("state_class", "measurement".into()),
                    ("entity_category", "diagnostic".into()),
                ],
            ),
            counter(
                "evidence-removed",
                "Events without pictures",
                &log,
                "evidence_removed",
                "total_increasing",
            ),
        ]
    }

    fn source(&self, source: &str, abilities: Abilities) -> Vec<Announcement> {
        let device = json!({
            "identifiers": [format!("{}-{}", self.device_id(), plain_id(source))],
            "name": format!("{} {source}", self.node),
            "manufacturer": "spotd",
            "via_device": self.device_id(),
        });
        let id = plain_id(source);
        let object = |what: &str| format!("{id}-{what}");
        let state = self.topics.name(Topic::State { source });
        let of_state = |component: &str, what: &str, members: &Members| {
            let mut all = vec![("state_topic", state.clone().into())];
            all.extend(members.iter().cloned());
            self.entity(component, &object(what), &device, &all)
        };
        let score = |what: &str, name: &str, diagnostic: bool| {
            let mut members = vec![
                ("name", name.into()),
                ("value_template", number(what)),
                ("state_class", "measurement".into()),
                ("suggested_display_precision", 2.into()),
            ];
            if diagnostic {
                members.push(("entity_category", "diagnostic".into()));
            }
            of_state("sensor", what, &members)
        };
        let mut all = vec![
            of_state(
                "binary_sensor",
                "synthetic",
                &[
                    ("name", "Looks synthetic".into()),
                    ("value_template", "{{ 'ON' if value_json.verdict == 'synthetic' else 'OFF' }}".into()),
                    ("device_class", "problem".into()),
                    ("json_attributes_topic", state.clone().into()),
                ],
            ),
            score("smoothed", "Score", false),
            score("raw", "Score of the last frame", true),
            score("peak", "Highest score", true),
            of_state(
                "sensor",
                "state",
                &[
                    ("name", "State".into()),
                    ("value_template", "{{ value_json.state }}".into()),
                    ("entity_category", "diagnostic".into()),
                ],
            ),
            of_state(
                "sensor",
                "latency",
                &[
                    ("name", "Latency".into()),
                    ("value_template", number("latency_ms")),
                    ("unit_of_measurement", "ms".into()),
                    ("device_class", "duration".into()),
                    ("state_class", "measurement".into()),
                    ("entity_category", "diagnostic".into()),
                ],
            ),
            of_state(
                "sensor",
                "reconnects",
                &[
                    ("name", "Opened again".into()),
                    ("value_template", "{{ value_json.reconnects }}".into()),
                    ("state_class", "total_increasing".into()),
                    ("entity_category", "diagnostic".into()),
                ],
            ),
            of_state(
                "sensor",
                "alerts",
                &[
                    ("name", "Alerts".into()),
                    ("value_template", "{{ value_json.alerts }}".into()),
                    ("state_class", "total_increasing".into()),
                ],
            ),
            of_state(
                "sensor",
                "dropped",
                &[
                    ("name", "Frames not judged".into()),
                    ("value_template", "{{ value_json.dropped.values() | sum }}".into()),
                    ("state_class", "total_increasing".into()),
                    ("entity_category", "diagnostic".into()),
                ],
            ),
        ];
        if abilities.snapshots {
            all.push(self.entity(
                "image",
                &object("picture"),
                &device,
                &[
                    ("name", "Picture".into()),
                    ("image_topic", self.topics.name(Topic::Snapshot { source }).into()),
                    ("content_type", "image/jpeg".into()),
                ],
            ));
        }
        let command = self.topics.name(Topic::Command { source });
        if abilities.commands {
            all.push(of_state(
                "switch",
                "watching",
                &[
                    ("name", "Watching".into()),
                    ("command_topic", command.clone().into()),
                    ("payload_on", "resume".into()),
                    ("payload_off", "pause".into()),
                    ("state_on", "on".into()),
                    ("state_off", "off".into()),
                    ("value_template", "{{ 'off' if value_json.paused else 'on' }}".into()),
                    ("qos", 1.into()),
                ],
            ));
        }
        if abilities.commands && abilities.snapshots {
            all.push(self.entity(
                "button",
                &object("snapshot"),
                &device,
                &[
                    ("name", "Take a picture".into()),
                    ("command_topic", command.into()),
                    ("payload_press", "snapshot".into()),
                    ("qos", 1.into()),
                ],
            ));
        }
        all
    }

    fn entity(&self, component: &str, object: &str, device: &Value, members: &Members) -> Announcement {
        let mut payload = Map::new();
        payload.insert("unique_id".into(), format!("{}-{object}", self.device_id()).into());
        for (key, value) in members {
            payload.insert((*key).into(), value.clone());
        }
        // When the box is away, this entity is off rather than unavailable.
        if object != "online" {
            payload.insert("availability_topic".into(), self.topics.name(Topic::Status).into());
        }
        payload.insert("device".into(), device.clone());
        // No `url`: an empty or invalid one makes Home Assistant discard the whole announcement.
        payload.insert("origin".into(), json!({"name": "spotd", "sw": SOFTWARE}));
        Announcement { topic: self.ha.config(component, object), payload: Value::Object(payload).to_string() }
    }

    fn device_id(&self) -> String {
        format!("spotd-{}", self.ha.node())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all(sources: &[&str], on: bool) -> Vec<Announcement> {
        let (ha, topics) = (HomeAssistant::new("homeassistant", "box/1"), Topics::new("spotd", "box/1"));
        let abilities = Abilities { snapshots: on, commands: on };
        announce(&ha, &topics, "box/1", sources.iter().copied(), abilities)
    }

    fn parsed(a: &Announcement) -> Value {
        serde_json::from_str(&a.payload).expect("JSON")
    }

    #[test]
    fn every_entity_has_a_topic_and_an_id_of_its_own_and_a_device() {
        let all = all(&["cam", "Außen 1", "a.b"], true);
        let topics: BTreeSet<_> = all.iter().map(|a| a.topic.clone()).collect();
        let ids: BTreeSet<_> = all.iter().map(|a| parsed(a)["unique_id"].to_string()).collect();
        assert_eq!((topics.len(), ids.len()), (all.len(), all.len()));
        for a in &all {
            let levels: Vec<&str> = a.topic.split('/').collect();
            assert!(
                matches!(levels[..], ["homeassistant", _, node, _, "config"] if node.starts_with("box_1-"))
            );
            let payload = parsed(a);
            assert!(
                payload["device"]["identifiers"][0].as_str().is_some_and(|i| i.starts_with("spotd-box_1-"))
            );
            let mut places =
                payload.as_object().expect("object").iter().filter(|(k, _)| k.ends_with("_topic"));
            assert!(
                places.all(|(_, v)| v.as_str().is_some_and(|t| t.starts_with("spotd/box%2F1/"))),
                "{a:?}"
            );
        }
    }

    #[test]
    fn nothing_that_is_announced_is_empty() {
        // Home Assistant discards an announcement for a single invalid member, such as an empty
        // `url`.
        fn check(value: &Value, whole: &Announcement) {
            match value {
                Value::Object(members) => members.values().for_each(|v| check(v, whole)),
                Value::Array(items) => items.iter().for_each(|v| check(v, whole)),
                Value::String(text) => assert!(!text.is_empty(), "{whole:?}"),
                other => assert!(!other.is_null(), "{whole:?}"),
            }
        }
        all(&["cam"], true).iter().for_each(|a| check(&parsed(a), a));
    }

    #[test]
    fn only_what_the_box_can_do_is_announced() {
        let components = |on| -> BTreeSet<String> {
            all(&["cam"], on).iter().filter_map(|a| a.topic.split('/').nth(1)).map(str::to_owned).collect()
        };
        assert_eq!(components(false), ["binary_sensor", "sensor"].map(str::to_owned).into());
        let more = ["binary_sensor", "button", "image", "sensor", "switch"].map(str::to_owned);
        assert_eq!(components(true), more.into());
    }

    #[test]
    fn templates_name_members_that_the_state_has() {
        let state = serde_json::to_value(crate::health::SourceStatus::default()).expect("JSON");
        let publisher = serde_json::to_value(crate::health::PublisherStatus::default()).expect("JSON");
        let log = serde_json::to_value(crate::flaglog::LogStatus::default()).expect("JSON");
        for a in all(&["cam"], true) {
            let payload = parsed(&a);
            let Some(template) = payload["value_template"].as_str() else { continue };
            let topic = payload["state_topic"].as_str().expect("a topic");
            let there = match topic.rsplit('/').next() {
                Some("publisher") => &publisher,
                Some("log") => &log,
                _ => &state,
            };
            for part in template.split("value_json.").skip(1) {
                let member: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(there.get(&member).is_some(), "{member} in {a:?}");
            }
        }
    }
}
