//! Does a flag log, or an export of it, still hold?
//!
//! `spotd` keeps what it flags in a log whose records are chained by hashes, with the pictures that they rest on and, where a
//! key is given, signatures. Whoever receives such a log, a newsroom or a court, should be able to check it without the
//! daemon: without an inference engine, a media framework or a network. This crate is that check, for the program
//! `spotd-verify` and for `spotd verify`, which say the same in the same words.
//!
//! ```
//! use spotd_verify::VerifyArgs;
//!
//! # let folder = tempfile::tempdir()?;
//! # let config = spotd_flaglog::LogConfig {
//! #     dir: folder.path().to_owned(),
//! #     jpeg_quality: 95,
//! #     update_every: std::time::Duration::from_secs(60),
//! # };
//! # drop(spotd_flaglog::FlagLog::open(&config, "box", spotd_core::clock::SystemClock::shared())?);
//! # let dir = folder.path();
//! let answer = VerifyArgs::new(dir).verify()?;
//! assert!(answer.holds);
//! assert!(answer.lines[0].ends_with(": holds"));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use spotd_core::shown::{Shown as _, plain};
use spotd_flaglog::fs::Fs;
use spotd_flaglog::sign::KeyError;
use spotd_flaglog::verify::{Report, VerifyError, verify};
use spotd_flaglog::{OsFs, PublicKey};
use thiserror::Error;

/// Exit code when all of a log holds.
pub const EXIT_HOLDS: u8 = 0;
/// Exit code when something in it does not.
pub const EXIT_DOES_NOT_HOLD: u8 = 1;
/// Exit code when it could not be checked.
pub const EXIT_ERROR: u8 = 2;

/// What is to be checked, as the command line has it.
#[derive(Debug, Clone, Args)]
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

/// Why a log could not be checked.
#[derive(Debug, Error)]
pub enum Error {
    /// The file of the public key holds none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no log, or it cannot be read.
    #[error(transparent)]
    Log(#[from] VerifyError),
    /// The report cannot be written as JSON.
    #[error("the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What there is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether all of it holds.
    pub holds: bool,
    /// Lines for people, or with `--json` one object.
    pub lines: Vec<String>,
}

impl Answer {
    /// [`EXIT_HOLDS`] or [`EXIT_DOES_NOT_HOLD`].
    pub fn exit_code(&self) -> u8 {
        if self.holds { EXIT_HOLDS } else { EXIT_DOES_NOT_HOLD }
    }
}

impl VerifyArgs {
    /// Checks the log or the export in a folder, without a key, for people.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), public_key: None, json: false }
    }

    /// Whether the answer is for programs: one JSON object.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Checks it.
    ///
    /// # Errors
    /// [`enum@Error`]: the folder is no flag log or cannot be read, or the key file is no key. What does not hold is no error.
    pub fn verify(&self) -> Result<Answer, Error> {
        let key = self.public_key.as_deref().map(PublicKey::read).transpose()?;
        let fs: Arc<dyn Fs> = Arc::new(OsFs);
        let report = verify(&fs, &self.dir, key)?;
        let lines = if self.json {
            vec![serde_json::to_string(&report)?]
        } else {
            let dir = self.dir.shown();
            lines(&report, key.is_some()).iter().map(|line| format!("{dir}: {line}")).collect()
        };
        Ok(Answer { holds: report.holds, lines })
    }
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
