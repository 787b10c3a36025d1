//! `[metrics]`: where metrics for Prometheus are written.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::settings::{ConfigError, Context};

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The file, replaced as a whole each time.
    pub file: PathBuf,
    /// How often it is written.
    pub every: Duration,
}

/// The table as written in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawMetrics {
    pub file: Option<String>,
    pub every_seconds: Option<f64>,
}

impl RawMetrics {
    pub(crate) fn validate(self, cx: &Context<'_>) -> Result<MetricsConfig, ConfigError> {
        let file = self.file.ok_or_else(|| {
            let folder = "the folder that node_exporter's --collector.textfile.directory names";
            cx.key("metrics.file", format!("is missing; give a file ending in .prom in {folder}"))
        })?;
        // node_exporter reads only files with this ending and silently ignores others.
        if !file.ends_with(".prom") {
            return Err(cx.key("metrics.file", format!("= \"{file}\" must end in .prom")));
        }
        let every = cx.seconds("metrics.every_seconds", self.every_seconds, 15.0, 1.0, 3600.0)?;
        Ok(MetricsConfig { file: cx.path(&file), every })
    }
}
