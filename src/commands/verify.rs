//! `spotd verify`: checks whether a flag log, or an export of it, is intact.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::manual::Manual;
use super::{EXIT_FINE, EXIT_FLAGGED, console};
use crate::flaglog::PublicKey;
use crate::flaglog::fs::{Fs, OsFs};
use crate::flaglog::verify::{Report, verify as check};
use crate::shown::Shown as _;
use crate::shown::plain;

const MANUAL: Manual = Manual {
    examples: &[
        ("spotd verify /var/lib/spotd/flags", "Check a flag log, record by record and picture by picture"),
        (
            "spotd verify --public-key key.pub.pem event-01KAT5V3JFQ8Z6W2C4N9X7D1RB",
            "Check an export and who signed it",
        ),
    ],
    exit_status: &[
        ("0", "All of it holds"),
        ("1", "Something does not hold; the first such record is named"),
        ("2", "The folder is no flag log or cannot be read, or the key cannot be used"),
    ],
    files: &[],
    environment: &[],
};

/// Arguments of `spotd verify`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct VerifyArgs {
    /// Folder of the flag log ([log] dir), or of an export.
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Public key (PEM, or 64 hex digits in a file) that must have signed the log.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,

    /// Print the report as one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Checks a log; 1 if something does not verify.
///
/// # Errors
/// The folder is not a flag log or cannot be read, or the key file is invalid.
pub fn verify(args: VerifyArgs) -> anyhow::Result<u8> {
    let key = args.public_key.as_deref().map(PublicKey::read).transpose()?;
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let report = check(&fs, &args.dir, key)?;
    if args.json {
        console::print_json(&serde_json::to_string(&report)?)?;
    } else {
        let dir = args.dir.shown();
        for line in lines(&report, key.is_some()) {
            console::print_line(&format!("{dir}: {line}"))?;
        }
    }
    Ok(if report.holds { EXIT_FINE } else { EXIT_FLAGGED })
}

fn lines(report: &Report, trusted: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(problem) = report.problems.first() {
        lines.push(format!("DOES NOT HOLD; first: {}", plain(&problem.text)));
        for problem in report.problems.iter().skip(1).take(19) {
            lines.push(format!("then: {}", plain(&problem.text)));
        }
        if report.problem_count > 20 {
            lines.push(format!("and {} more", report.problem_count - 20));
        }
    } else {
        lines.push("holds".to_owned());
    }
    let range = match (report.first, report.last) {
        (Some(first), Some(last)) => format!(" ({first} to {last})"),
        _ => String::new(),
    };
    lines.push(format!(
        "{} sound records{range} of {} events, {} evidence files with {} bytes",
        report.records, report.events, report.evidence_files, report.evidence_bytes
    ));
    if let Some(event) = report.export_of {
        lines.push(format!("an export of event {event}; pictures of other events are not in it"));
    }
    if let Some(head) = report.head {
        lines.push(format!("hash of the last record: {head}"));
    }
    match (report.signed_until, trusted) {
        (None, _) => lines.push("not signed; compare that hash with one that left the box".to_owned()),
        (Some(until), true) => lines.push(format!("signed with that key up to record {until}")),
        (Some(until), false) => {
            let keys: Vec<&str> = report.keys.iter().map(String::as_str).collect();
            lines.push(format!(
                "signed up to record {until} with key {}; whether that is the box's key, --public-key says",
                keys.join(" and ")
            ));
        }
    }
    if let Some(until) = report.records_removed_until {
        lines.push(format!("records up to {until} had made room, as the log says itself"));
    }
    if report.evidence_removed > 0 {
        let files = report.evidence_removed;
        lines.push(format!("{files} evidence files had made room, as the log says itself"));
    }
    for unfinished in &report.unfinished {
        lines.push(format!("unfinished, which the next start of spotd repairs: {unfinished}"));
    }
    if !report.foreign.is_empty() {
        let names: Vec<String> = report.foreign.iter().take(5).map(|n| plain(n)).collect();
        let more = if report.foreign.len() > 5 { ", ..." } else { "" };
        lines.push(format!("not of the log, and left alone: {}{more}", names.join(", ")));
    }
    lines
}
