//! The configuration: turns file and environment into validated values, once. Nothing past this
//! module can be invalid. Each module parses its own settings; this one reads the text and calls
//! them.

mod environment;
mod load;
mod raw;

pub use environment::environment;
pub use load::{load, parse};

pub use crate::settings::ConfigError;

use std::path::PathBuf;

use crate::flaglog::{LogConfig, RetentionConfig};
use crate::health::MetricsConfig;
use crate::identity::Wanted;
use crate::publish::mqtt::MqttConfig;
use crate::publish::webhook::WebhookConfig;
use crate::source::SourceConfig;
use crate::verdict::VerdictConfig;
use crate::web::WebConfig;

/// Everything that is configured, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this box in records, topics and messages.
    pub node: String,
    /// Which model runs.
    pub model: ModelConfig,
    /// What is watched; at least one.
    pub sources: Vec<SourceConfig>,
    /// When a source counts as synthetic.
    pub verdict: VerdictConfig,
    /// Where the flag log is kept.
    pub log: LogConfig,
    /// How long it is kept.
    pub retention: RetentionConfig,
    /// Private key (PEM) that signs the flag log, if it should be signed.
    pub sign_key: Option<PathBuf>,
    /// The broker, if there is one.
    pub mqtt: Option<MqttConfig>,
    /// Web servers that receive events.
    pub webhooks: Vec<WebhookConfig>,
    /// Where metrics for Prometheus are written, if wanted.
    pub metrics: Option<MetricsConfig>,
    /// Where the operator's page is served, unless it is not wanted.
    pub web: Option<WebConfig>,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// The ONNX file, with its card beside it. `None`: the built-in model.
    pub path: Option<PathBuf>,
    /// The precision to run it in.
    pub precision: Wanted,
    /// A site's threshold and temperature, written by `spotd calibrate`.
    pub calibration: Option<PathBuf>,
    /// Inference threads; by default one per core.
    pub workers: usize,
    /// Tiles judged per frame at most; those with the most detail are chosen.
    pub max_tiles: usize,
}
