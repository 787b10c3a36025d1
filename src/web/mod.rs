//! The operator's page: which sources are fine, which are not, and why this frame was flagged; the same as JSON under
//! `/api/v1`, and figures for Prometheus under `/metrics`. `settings` is `[web]`; `serve` needs the feature `web`.

#[cfg(feature = "web")]
mod serve;
mod settings;

#[cfg(feature = "web")]
pub use serve::{Facts, Web, WebError, spawn, try_out};
pub(crate) use settings::RawWeb;
pub use settings::{PORT, TlsFiles, WebConfig};
