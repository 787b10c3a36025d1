//! The configuration as it stands in the file: every key that exists, nothing checked but its type.

use serde::Deserialize;

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
    pub workers: Option<i64>,
    pub max_tiles: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSource {
    pub id: Option<String>,
    pub uri: Option<String>,
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

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMqtt {
    pub url: Option<String>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub password_file: Option<String>,
    pub ca_file: Option<String>,
    pub prefix: Option<String>,
}

impl std::fmt::Debug for RawMqtt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawMqtt(..)")
    }
}
