//! The configuration: file and environment to validated values, once. Nothing past this room can be invalid. Each room
//! reads the settings that it obeys; this one reads the text and asks them.

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

/// Everything that the daemon is told, validated.
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
    /// Where flags are kept.
    pub log: LogConfig,
    /// And how long.
    pub retention: RetentionConfig,
    /// Private key (PEM) that signs the flag log, if it is to be signed.
    pub sign_key: Option<PathBuf>,
    /// The broker, if there is one.
    pub mqtt: Option<MqttConfig>,
    /// Web servers that are told.
    pub webhooks: Vec<WebhookConfig>,
    /// Where figures go for Prometheus, if they are wanted.
    pub metrics: Option<MetricsConfig>,
}

/// `[model]`
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The ONNX file; its card lies beside it. `None`: the model that is built in.
    pub path: Option<PathBuf>,
    /// The precision in which it is to run.
    pub precision: Wanted,
    /// A site's threshold and temperature, written by `spotd calibrate`.
    pub calibration: Option<PathBuf>,
    /// Inference threads; one a core unless told otherwise.
    pub workers: usize,
    /// Tiles judged in one frame at most; the ones with the most detail are taken.
    pub max_tiles: usize,
}
