//! The configuration as written in the file: every key that exists, only its type checked.

use serde::Deserialize;

use crate::flaglog::RawLog;
use crate::health::RawMetrics;
use crate::publish::mqtt::RawMqtt;
use crate::publish::webhook::RawWebhook;
use crate::source::RawSource;
use crate::web::RawWeb;

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
    pub webhook: Vec<RawWebhook>,
    pub metrics: Option<RawMetrics>,
    pub web: RawWeb,
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
pub(super) struct RawVerdict {
    pub window: Option<i64>,
    pub min_frames: Option<i64>,
    pub threshold: Option<f64>,
    pub unsure_from: Option<f64>,
    pub hysteresis: Option<f64>,
    pub forget_seconds: Option<f64>,
    pub jump: Option<f64>,
}
