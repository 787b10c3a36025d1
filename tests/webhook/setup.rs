//! What all of these tests need: a webhook's settings and a publisher.

use std::path::Path;

use spotd::clock::{SharedClock, SystemClock};
use spotd::flaglog::FlagLog;
use spotd::health::{Board, PublisherStatus};
use spotd::publish::webhook::{self, WebhookConfig};

pub use crate::publishing::*;

/// Settings as a file has them; `more` lines in the table.
pub fn config(url: &str, more: &str) -> WebhookConfig {
    let text =
        format!("[[source]]\nid = \"cam\"\nuri = \"demo://1\"\n[[webhook]]\nurl = \"{url}\"\n{more}\n");
    let config = spotd::config::parse(&text, Path::new("spotd.toml"), std::iter::empty());
    config.unwrap_or_else(|e| panic!("{e}")).webhooks.remove(0)
}

/// A publisher that is stopped when dropped.
pub struct Running {
    thread: Thread,
    name: String,
    board: Board,
}

impl Running {
    pub fn start(config: WebhookConfig, log: &FlagLog) -> Self {
        Self::with(config, log, SystemClock::shared())
    }

    pub fn with(config: WebhookConfig, log: &FlagLog, clock: SharedClock) -> Self {
        let (board, name) = (Board::default(), config.name.clone());
        let thread = Thread::start(|stop| webhook::spawn(config, &log.tail(), board.clone(), clock, stop));
        Self { thread, name, board }
    }

    /// The publisher's status on the board.
    pub fn status(&self) -> PublisherStatus {
        self.board.publisher(&self.name)
    }

    pub fn stop(mut self) -> PublisherStatus {
        self.thread.end();
        self.status()
    }
}

/// The verbatim lines of events in a log's folder.
pub fn lines(dir: &Path) -> Vec<String> {
    let mut segments: Vec<_> = std::fs::read_dir(dir)
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    segments.sort();
    let text: String = segments.iter().map(|s| std::fs::read_to_string(s).expect("read")).collect();
    text.lines().filter(|line| line.contains("\"type\":\"event\"")).map(str::to_owned).collect()
}
