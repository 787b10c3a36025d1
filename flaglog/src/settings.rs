//! `[log]`: where flags are kept, and how long.

use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "settings")]
use serde::Deserialize;
#[cfg(feature = "settings")]
use spotd_core::settings::{ConfigError, Context};

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// The table as it stands in the file.
#[cfg(feature = "settings")]
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    /// Folder, from the configuration file.
    pub dir: Option<String>,
    /// Quality of evidence JPEGs, 1..=100.
    pub jpeg_quality: Option<i64>,
    /// Seconds between `update` records, 1..=86400.
    pub update_seconds: Option<f64>,
    /// Days until evidence and records go, 0.01..=36500.
    pub keep_days: Option<f64>,
    /// MiB that evidence and records may take, from 16.
    pub keep_mib: Option<i64>,
    /// MiB that are left free on the disk.
    pub min_free_mib: Option<i64>,
    /// File of the private key that signs the chain.
    pub sign_key: Option<String>,
}

#[cfg(feature = "settings")]
impl RawLog {
    /// Folder and evidence, and how long they are kept.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line and key.
    pub fn validate(&self, cx: &Context<'_>) -> Result<(LogConfig, RetentionConfig), ConfigError> {
        let log = LogConfig {
            dir: self.dir.as_deref().map_or_else(|| PathBuf::from("/var/lib/spotd/flags"), |d| cx.path(d)),
            jpeg_quality: u8::try_from(cx.count("log.jpeg_quality", self.jpeg_quality, 95, 1, 100)?)
                .expect("at most 100"),
            update_every: cx.seconds("log.update_seconds", self.update_seconds, 60.0, 1.0, 86_400.0)?,
        };
        let retention = RetentionConfig {
            max_age: self
                .keep_days
                .map(|d| cx.number("log.keep_days", Some(d), d, 0.01, 36_500.0))
                .transpose()?
                .map(|days| Duration::from_secs_f64(days * 86_400.0)),
            max_bytes: self.keep_mib.map(|m| cx.mib("log.keep_mib", Some(m), m, 16)).transpose()?,
            min_free: cx.mib("log.min_free_mib", self.min_free_mib, 256, 0)?,
        };
        Ok((log, retention))
    }
}
