//! The configuration as it stands in the file: every key that exists, nothing checked but its type.

use serde::Deserialize;

use crate::shown::Sensitive;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub node: RawNode,
    pub model: RawModel,
    pub source: Vec<RawSource>,
    pub verdict: RawVerdict,
    pub log: RawLog,
    pub mqtt: Option<RawMqtt>,
    pub metrics: Option<RawMetrics>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNode {
    pub name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawModel {
    pub path: Option<String>,
    pub precision: Option<String>,
    pub calibration: Option<String>,
    pub workers: Option<i64>,
    pub max_tiles: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSource {
    pub id: Option<String>,
    pub uri: Option<Sensitive>,
    pub fps: Option<f64>,
    pub stall_seconds: Option<f64>,
    pub repeat: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawVerdict {
    pub window: Option<i64>,
    pub min_frames: Option<i64>,
    pub threshold: Option<f64>,
    pub unsure_from: Option<f64>,
    pub hysteresis: Option<f64>,
    pub forget_seconds: Option<f64>,
    pub jump: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub dir: Option<String>,
    pub jpeg_quality: Option<i64>,
    pub update_seconds: Option<f64>,
    pub keep_days: Option<f64>,
    pub keep_mib: Option<i64>,
    pub min_free_mib: Option<i64>,
    pub sign_key: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    pub file: Option<String>,
    pub every_seconds: Option<f64>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMqtt {
    pub url: Option<String>,
    pub version: Option<String>,
    pub user: Option<String>,
    #[serde(deserialize_with = "secret")]
    pub password: Option<String>,
    pub password_file: Option<String>,
    pub ca_file: Option<String>,
    pub client_cert_file: Option<String>,
    pub client_key_file: Option<String>,
    pub prefix: Option<String>,
    pub catch_up_rate: Option<f64>,
    pub discovery: Option<bool>,
    pub discovery_prefix: Option<String>,
    pub snapshots: Option<bool>,
    pub commands: Option<bool>,
}

/// A text whose value is in no error, unlike serde's own: a password without quotes is still one.
fn secret<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    struct Text;
    impl<'de> serde::de::Visitor<'de> for Text {
        type Value = Option<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text in quotes")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: serde::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
            d.deserialize_any(self)
        }
    }
    d.deserialize_any(Text).map_err(|_| serde::de::Error::custom("the password must be a text in quotes"))
}

impl std::fmt::Debug for RawMqtt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawMqtt(..)")
    }
}
