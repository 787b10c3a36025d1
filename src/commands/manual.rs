//! What `--help` and the man pages say beside the options. Each command keeps its own [`Manual`]
//! next to its arguments; `tests/man.rs` makes a section of each part, and parses every example.

use std::fmt::Write as _;

/// The parts of a manual. Lines are pairs of a term and a sentence about it.
pub(super) struct Manual {
    /// Command lines, each with what it does.
    pub examples: &'static [(&'static str, &'static str)],
    /// Exit codes, each with its meaning.
    pub exit_status: &'static [(&'static str, &'static str)],
    /// Files that are read or written by themselves, without being named on the command line.
    pub files: &'static [(&'static str, &'static str)],
    /// Environment variables of its own; those of all commands are told by `spotd --help`.
    pub environment: &'static [(&'static str, &'static str)],
}

/// Of a command that answers without a verdict.
pub(super) const DONE_OR_FAILED: &[(&str, &str)] = &[
    ("0", "Done"),
    ("2", "The command line is wrong, or the work could not be done; standard error says why"),
];

/// Keys of a configuration that is read.
pub(super) const KEYS: &[(&str, &str)] = &[(
    "SPOTD__TABLE__KEY",
    "Sets a key of the configuration, whatever the file says: SPOTD__MODEL__WORKERS=2 is [model] workers = 2. \
     Sources and webhooks are set in the file alone",
)];

impl Manual {
    /// The text below the options of `--help`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (heading, lines) in [
            ("Examples", self.examples),
            ("Exit status", self.exit_status),
            ("Files", self.files),
            ("Environment", self.environment),
        ] {
            if !lines.is_empty() {
                let _ = write!(text, "{}{heading}:", if text.is_empty() { "" } else { "\n\n" });
                for (term, meaning) in lines {
                    let _ = write!(text, "\n  {term}\n      {meaning}");
                }
            }
        }
        text
    }
}
