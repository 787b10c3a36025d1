//! `spotd check`: whether it would work, and if not, how to fix it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::manual::{KEYS, Manual};
use super::{EXIT_FINE, EXIT_FLAGGED, calibrate, console};
use spotd::clock::{SharedClock, SystemClock};
use spotd::config::{self, Config};
use spotd::detector::Model;
use spotd::identity::Wanted;
#[cfg(feature = "webhook")]
use spotd::publish::webhook;
use spotd::publish::webhook::WebhookConfig;
use spotd::shown::Shown as _;
use spotd::source;
use spotd::source::SourceConfig;
#[cfg(feature = "web")]
use spotd::web;
use spotd::web::WebConfig;

const MANUAL: Manual = Manual {
    examples: &[
        ("spotd check --config spotd.toml", "Try model, sources, log folder and broker"),
        ("spotd check --config spotd.toml --timeout 60", "Wait a minute for each source's first frame"),
        ("spotd check --config spotd.toml --json | jq 'select(.ok | not)'", "Print only what would not work"),
    ],
    exit_status: &[
        ("0", "All of it would work"),
        ("1", "Something would not; its line says how to mend it"),
        ("2", "The command line is wrong, or the answer could not be written"),
    ],
    files: &[],
    environment: KEYS,
};

/// Arguments of `spotd check`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct CheckArgs {
    /// Configuration file (TOML) to check; see docs/CONFIG.md.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,

    /// Precision to try the model in, instead of the configuration's: auto (int8 where the model is
    /// quantised), f32 or int8.
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Wanted>,

    /// Seconds to wait for a source's first frame and for the broker; a webhook has its own.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,

    /// Print one JSON object per line instead of text.
    #[arg(long)]
    json: bool,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Finding {
    /// `config`, `model`, `source cam1`, `log`, `broker`, `page`, `webhook`.
    part: String,
    ok: bool,
    /// What was found, or what is wrong and how to fix it.
    text: String,
}

/// Checks everything in the configuration; 1 if something would not work.
///
/// # Errors
/// Standard output cannot be written. That something would not work is a result, not an error.
pub fn check(args: CheckArgs) -> anyhow::Result<u8> {
    let clock = SystemClock::shared();
    let timeout = Duration::from_secs(args.timeout);
    let mut all_well = true;
    let mut tell = |part: &str, result: Result<String, String>| -> anyhow::Result<()> {
        let ok = result.is_ok();
        all_well &= ok;
        let text = result.unwrap_or_else(|e| e);
        if args.json {
            let finding = Finding { part: part.to_owned(), ok, text };
            console::print_json(&serde_json::to_string(&finding).expect("text serialises"))
        } else {
            console::print_line(&format!("{} {part}: {text}", if ok { "ok  " } else { "FAIL" }))
        }
    };
    match config::load(&args.config) {
        Err(error) => tell("config", Err(error.to_string()))?,
        Ok(config) => {
            let sources = config.sources.len();
            tell(
                "config",
                Ok(format!("{}: {sources} source(s), node {}", args.config.shown(), config.node)),
            )?;
            tell("model", model(&config, args.precision.unwrap_or(config.model.precision)))?;
            for source in &config.sources {
                tell(&format!("source {}", source.id), probe(source, &clock, timeout))?;
            }
            tell("log", log_folder(&config.log.dir))?;
            if let Some(metrics) = &config.metrics {
                tell("metrics", metrics_file(&metrics.file))?;
            }
            match broker(&config, timeout) {
                Some(result) => tell("broker", result)?,
                None if config.webhooks.is_empty() => {
                    tell("broker", Ok("none configured; events stay in the log".into()))?;
                }
                None => {}
            }
            if let Some(page) = &config.web {
                tell("page", try_page(page, &clock))?;
            }
            for webhook in &config.webhooks {
                tell(&webhook.name, try_webhook(webhook, &config.node, &clock))?;
            }
        }
    }
    Ok(if all_well { EXIT_FINE } else { EXIT_FLAGGED })
}

fn model(config: &Config, wanted: Wanted) -> Result<String, String> {
    let model = Model::open(config.model.path.as_deref(), wanted)
        .and_then(|m| m.calibrated(config.model.calibration.as_deref()))
        .map_err(|e| e.to_string())?;
    let card = model.card();
    // A loaded plan can still fail on its first tile; a grey one is enough to find out.
    let grey = image::RgbImage::from_pixel(card.tile, card.tile, image::Rgb([128; 3]));
    model.logit(&grey).map_err(|e| e.to_string())?;
    let ap = card.mean_ap("as stored").map_or_else(String::new, |ap| format!(", mean AP {ap:.3}"));
    let odd = calibrate::mismatches(config).map_err(|e| e.to_string())?;
    if !odd.is_empty() {
        return Err(odd.join("; "));
    }
    let site = config.model.calibration.as_deref().map_or_else(String::new, |path| {
        format!(", calibrated by {}: synthetic from {:.4}", path.shown(), card.threshold)
    });
    Ok(format!(
        "{} {} ({}, {:.0} MMAC a tile of {}x{}{ap}{site})",
        card.name,
        card.version,
        model.engine().describe(),
        card.mmac,
        card.tile,
        card.tile
    ))
}

fn probe(config: &SourceConfig, clock: &SharedClock, timeout: Duration) -> Result<String, String> {
    match source::probe::probe(config, timeout, clock) {
        Ok(found) => Ok(format!("{} gives {}x{} {:?}", found.what, found.width, found.height, found.format)),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the folder can be created and written to, by writing a file that is removed again.
fn log_folder(dir: &Path) -> Result<String, String> {
    let _whole = console::whole_files();
    let existed = dir.exists();
    let mend = || {
        format!(
            "cannot write to {}; make it writable for this user (install -d -m 0750 -o USER {}) or change [log] dir",
            dir.shown(),
            dir.shown()
        )
    };
    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", mend()))?;
    let probe = dir.join(".spotd-check.tmp");
    let written = std::fs::write(&probe, b"spotd check\n");
    let _ = std::fs::remove_file(&probe);
    if !existed {
        let _ = std::fs::remove_dir(dir);
    }
    written.map_err(|e| format!("{}: {e}", mend()))?;
    Ok(format!("{} can be written", dir.shown()))
}

/// Whether the file can be written, by writing another one beside it.
fn metrics_file(file: &Path) -> Result<String, String> {
    let mut probe = file.as_os_str().to_owned();
    probe.push(".check.tmp");
    let _whole = console::whole_files();
    let written = std::fs::write(&probe, b"");
    let _ = std::fs::remove_file(&probe);
    written.map_err(|e| {
        format!("cannot write to {}: {e}; make its folder, or change [metrics] file", file.shown())
    })?;
    Ok(format!("{} can be written", file.shown()))
}

#[cfg(feature = "mqtt")]
fn broker(config: &Config, timeout: Duration) -> Option<Result<String, String>> {
    let mqtt = config.mqtt.as_ref()?;
    let probed = spotd::publish::mqtt::probe(mqtt, &config.node, timeout).map_err(|e| e.to_string());
    Some(probed.map(|p| match p.online && !daemon_runs(&config.log.dir) {
        true => format!(
            "{}; WARNING: a box called \"{}\" is online there already, and no spotd writes to {} here: boxes of one name \
             push each other off, give each a [node] name of its own",
            p.text,
            config.node,
            config.log.dir.shown()
        ),
        false => p.text,
    }))
}

#[cfg(feature = "web")]
fn try_page(page: &WebConfig, clock: &SharedClock) -> Result<String, String> {
    web::try_out(page, clock).map_err(|e| e.to_string())
}

#[cfg(not(feature = "web"))]
fn try_page(page: &WebConfig, _: &SharedClock) -> Result<String, String> {
    if page.chosen {
        return Err("this spotd was built without the page; build with --features web or remove [web]".into());
    }
    Ok("this spotd was built without it".into())
}

#[cfg(feature = "webhook")]
fn try_webhook(webhook: &WebhookConfig, node: &str, clock: &SharedClock) -> Result<String, String> {
    let client = webhook::Client::new(webhook, clock.clone()).map_err(|e| e.to_string())?;
    client.probe(node).map_err(|e| e.to_string())
}

#[cfg(not(feature = "webhook"))]
fn try_webhook(_: &WebhookConfig, _: &str, _: &SharedClock) -> Result<String, String> {
    Err("this spotd was built without webhooks; build with --features webhook or remove [[webhook]]".into())
}

/// Whether a daemon writes to this flag log now.
#[cfg(feature = "mqtt")]
fn daemon_runs(dir: &Path) -> bool {
    let lock = std::fs::File::open(dir.join("lock"));
    lock.is_ok_and(|l| matches!(l.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

#[cfg(not(feature = "mqtt"))]
fn broker(config: &Config, _: Duration) -> Option<Result<String, String>> {
    config
        .mqtt
        .as_ref()
        .map(|_| Err("this spotd was built without MQTT; build with --features mqtt or remove [mqtt]".into()))
}
