//! `[[source]]`: what is watched, and how.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::SourceUri;
use crate::settings::{ConfigError, Context};
use crate::shown::Sensitive;

/// Which frames of an encoded stream are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// Key frames alone where they come at least every 2.5 s, or as often as frames are wanted; neighbours tell little new.
    #[default]
    Auto,
    /// Those between them too, unless key frames alone come as often as frames are wanted.
    All,
}

/// `[[source]]`
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Name in records, topics and messages; unique.
    pub id: Arc<str>,
    /// What is opened.
    pub uri: SourceUri,
    /// Frames judged per second at most, 0.01..=120.
    pub fps: f64,
    /// Which frames of an encoded stream are decoded.
    pub decode: Decode,
    /// After this long without a frame the source is closed and opened again; `None`: derived from
    /// its rate.
    pub stall_timeout: Option<Duration>,
    /// Whether a file starts again at its end.
    pub repeat: bool,
}

/// The table as written in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSource {
    pub id: Option<String>,
    pub uri: Option<Sensitive>,
    pub fps: Option<f64>,
    pub decode: Option<Decode>,
    pub stall_seconds: Option<f64>,
    pub repeat: Option<bool>,
}

impl RawSource {
    /// Source `i`, from 0 in the order of the file.
    pub(crate) fn validate(self, i: usize, cx: &Context<'_>) -> Result<SourceConfig, ConfigError> {
        let key = |name: &str| format!("source[{i}].{name}");
        let id = self.id.ok_or_else(|| cx.key(&key("id"), "is missing; give each source a short name"))?;
        let named = !id.is_empty()
            && id.len() <= 64
            && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !named || id.starts_with('.') {
            return Err(cx.key(
                &key("id"),
                format!(
                    "= \"{id}\" must be 1 to 64 letters, digits, '-', '_' or '.', and not begin with '.'"
                ),
            ));
        }
        let uri = self.uri.ok_or_else(|| {
            cx.key(&key("uri"), "is missing; give /dev/video0, rtsp://..., a file or pipeline:TEXT")
        })?;
        let uri = uri.expose_text();
        let uri = match SourceUri::parse(&uri).map_err(|e| cx.key(&key("uri"), e))? {
            SourceUri::File(path) => SourceUri::File(cx.path(path)),
            SourceUri::Pipeline(text) => match SourceUri::existing(&cx.path(&*uri)) {
                Some(file) => file,
                None => {
                    if spotd_address::is_bare_pipeline(&uri) {
                        let hint = "is a pipeline; write pipeline: in front of it, without which it is refused from 1.0 on";
                        log::warn!("{}", cx.key(&key("uri"), hint));
                    }
                    SourceUri::Pipeline(text)
                }
            },
            other => other,
        };
        Ok(SourceConfig {
            id: id.into(),
            uri,
            fps: cx.number(&key("fps"), self.fps, 2.0, 0.01, 120.0)?,
            decode: self.decode.unwrap_or_default(),
            stall_timeout: self
                .stall_seconds
                .map(|s| cx.seconds(&key("stall_seconds"), Some(s), s, 0.5, 3600.0))
                .transpose()?,
            repeat: self.repeat.unwrap_or(false),
        })
    }
}
