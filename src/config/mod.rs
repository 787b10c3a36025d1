//! The configuration: raw text to validated values, once. Nothing past this room can be invalid.

mod contribution;
mod environment;
mod load;
mod locate;
mod mqtt;
mod raw;
mod stream;
mod uri;

pub use contribution::Contribution;
pub use environment::environment;
pub use load::{ConfigError, load, parse};
pub use stream::StreamUrl;
pub use uri::{SourceUri, V4lUri, is_bare_pipeline};

pub use crate::shown::redact;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::detector::Wanted;
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
    /// Where figures go for Prometheus, if they are wanted.
    pub metrics: Option<MetricsConfig>,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The file, replaced as a whole each time.
    pub file: PathBuf,
    /// How often.
    pub every: Duration,
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

/// `[[source]]`
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Name in records, topics and messages; unique.
    pub id: Arc<str>,
    /// What is opened.
    pub uri: SourceUri,
    /// Frames a second to judge at most, 0.01..=120.
    pub fps: f64,
    /// Without a frame for this long the source is taken down and opened again; `None`: from its rate.
    pub stall_timeout: Option<Duration>,
    /// Begin again at the end of a file.
    pub repeat: bool,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Folder of the flag log and its evidence.
    pub dir: PathBuf,
    /// Quality of evidence JPEGs, 1..=100.
    pub jpeg_quality: u8,
    /// While an event lasts, an `update` record at most this often.
    pub update_every: Duration,
}

/// `[log]`: how much of it is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Evidence and records older than this go.
    pub max_age: Option<Duration>,
    /// Evidence and records together have at most so many bytes.
    pub max_bytes: Option<u64>,
    /// So many bytes are left free on the disk.
    pub min_free: u64,
}

/// `[mqtt]`
#[derive(Clone)]
pub struct MqttConfig {
    /// Broker's host name or address.
    pub host: String,
    /// Broker's port.
    pub port: u16,
    /// `mqtts://`: encrypted, the broker's certificate checked.
    pub tls: bool,
    /// PEM file of the authorities to trust for TLS.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key, for a broker that asks for one.
    pub client_cert: Option<ClientCert>,
    /// Version of the protocol.
    pub version: MqttVersion,
    /// User name.
    pub user: Option<String>,
    /// Password; never in a log or an error.
    pub password: Option<Secret>,
    /// First level of all topics, `spotd` unless told otherwise.
    pub prefix: String,
    /// Records a second at most, so that what an outage has left does not flood the broker.
    pub catch_up_rate: f64,
    /// First level of Home Assistant's discovery topics; `None`: nothing is announced.
    pub discovery: Option<String>,
    /// Publish pictures.
    pub snapshots: bool,
    /// Obey commands.
    pub commands: bool,
}

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCert {
    /// PEM file of the certificate and what is between it and its authority.
    pub cert_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
}

/// Versions of the protocol that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttVersion {
    /// 3.1.1
    V3,
    /// 5.0
    V5,
}

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl std::fmt::Debug for MqttConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MqttConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("version", &self.version)
            .field("user", &self.user)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
