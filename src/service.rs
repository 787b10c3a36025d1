//! What a service manager (systemd) is told: that the daemon is ready, how its sources are, that it reloads or ends, and,
//! for the watchdog, that every stage gets on with its work. Without a manager nothing is told.

use std::collections::BTreeMap;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::{Moment, SharedClock};
use crate::health::{Board, SourceState};
use crate::shown::plain_lines;
use crate::verdict::Verdict;

/// A source that has been tried for this long without an answer holds up the start no longer.
const LONGEST_START: Duration = Duration::from_secs(30);
/// Characters of the status line at most: `systemctl status` shows it in one.
const STATUS: usize = 400;

/// The service manager.
pub struct Manager {
    clock: SharedClock,
    begun: Moment,
    /// How often the watchdog wants to hear of us, if there is one.
    watchdog: Option<Duration>,
    fed: Option<Moment>,
    ready: bool,
    hung: bool,
    status: String,
    /// What the last reload came to, if it was refused.
    refused: Option<String>,
}

impl Manager {
    /// The one that the environment names, if any.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            begun: clock.now(),
            clock,
            watchdog: sd_notify::watchdog_enabled(),
            fed: None,
            ready: false,
            hung: false,
            status: String::new(),
            refused: None,
        }
    }

    /// Tells what has changed; for every turn of the daemon's main loop, several times a second.
    pub fn tell(&mut self, board: &Board) {
        let now = self.clock.now();
        let mut news = Vec::new();
        let status = status(board, self.refused.as_deref());
        if status != self.status {
            news.push(NotifyState::Status(&status));
        }
        let tried = || !board.snapshot().iter().any(|(_, s)| s.state == SourceState::Starting);
        if !self.ready && (now.saturating_sub(self.begun) >= LONGEST_START || tried()) {
            self.ready = true;
            news.push(NotifyState::Ready);
        }
        if self.is_well(board, now) {
            self.fed = Some(now);
            news.push(NotifyState::Watchdog);
        }
        send(&news);
        self.status = status;
    }

    /// Whether the watchdog is to be fed now.
    fn is_well(&mut self, board: &Board, now: Moment) -> bool {
        let Some(every) = self.watchdog else { return false };
        if self.fed.is_some_and(|fed| now.saturating_sub(fed) < every / 4) {
            return false;
        }
        let hung = board.progress().hung(now, every / 2);
        if hung.is_empty() {
            self.hung = false;
            return true;
        }
        if !std::mem::replace(&mut self.hung, true) {
            for (stage, at_it) in hung {
                let seconds = at_it.as_secs();
                log::error!(
                    "stage '{stage}' has hung: {seconds} s at one piece of work; the watchdog will end and restart spotd"
                );
            }
        }
        false
    }

    /// Tells that the configuration is being read again.
    pub fn reloading(&self) {
        let mut news = vec![NotifyState::Reloading];
        news.extend(NotifyState::monotonic_usec_now());
        send(&news);
    }

    /// Tells that it was read; why it was refused, if it was, stays in the status line until the next one.
    pub fn reloaded(&mut self, refused: Option<String>, board: &Board) {
        self.refused = refused;
        self.ready = true;
        send(&[NotifyState::Ready]);
        self.tell(board);
    }

    /// Tells that the daemon ends.
    pub fn stopping(&self, why: &str) {
        send(&[NotifyState::Stopping, NotifyState::Status(&format!("stopping: {}", plain_lines(why)))]);
    }
}

fn send(news: &[NotifyState<'_>]) {
    if news.is_empty() {
        return;
    }
    if let Err(error) = sd_notify::notify(news) {
        log::debug!("the service manager was not told: {error}");
    }
}

/// One line about everything: what needs somebody's attention first.
fn status(board: &Board, refused: Option<&str>) -> String {
    let sources = board.snapshot();
    let mut parts = Vec::new();
    if let Some(alarm) = board.log().alarm {
        parts.push(format!("ALARM: flag log: {alarm}"));
    }
    if let Some(why) = refused {
        parts.push(format!("reload refused, the previous configuration stays: {why}"));
    }
    let named = |verdict: Verdict| {
        let ids = sources.iter().filter(|(_, s)| s.verdict == verdict).map(|(id, _)| &**id);
        ids.collect::<Vec<_>>().join(", ")
    };
    if sources.iter().any(|(_, s)| s.verdict == Verdict::Synthetic) {
        parts.push(format!("SYNTHETIC: {}", named(Verdict::Synthetic)));
    }
    let mut states = BTreeMap::<_, usize>::new();
    let mut verdicts = BTreeMap::<_, usize>::new();
    for (_, source) in &sources {
        *states.entry(source.state.name()).or_default() += 1;
        *verdicts.entry(source.verdict.as_str()).or_default() += 1;
    }
    let counted = |all: BTreeMap<&str, usize>| {
        all.into_iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
    };
    parts.push(format!("sources: {}", counted(states)));
    parts.push(format!("verdicts: {}", counted(verdicts)));
    let text = plain_lines(&parts.join("; ")).replace('\n', " ");
    match text.char_indices().nth(STATUS) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::flaglog::LogStatus;

    #[test]
    fn the_status_names_what_needs_attention_first() {
        let board = Board::new(["door".into(), "roof".into(), "yard".into()]);
        board.update("door", |s| (s.state, s.verdict) = (SourceState::Live, Verdict::Synthetic));
        board.update("roof", |s| (s.state, s.verdict) = (SourceState::Live, Verdict::Clear));
        let at = SystemTime::UNIX_EPOCH;
        board.update("yard", |s| s.state = SourceState::Retrying { why: "no\nroute".into(), attempt: 1, at });
        let plain = "SYNTHETIC: door; sources: 2 live, 1 retrying; verdicts: 1 clear, 1 synthetic, 1 unsure";
        assert_eq!(status(&board, None), plain);
        board.set_log(LogStatus { alarm: Some("no room".into()), ..LogStatus::default() });
        let refused = "spotd.toml:3: unknown\nkey";
        assert_eq!(
            status(&board, Some(refused)),
            format!(
                "ALARM: flag log: no room; reload refused, the previous configuration stays: spotd.toml:3: unknown key; \
                 {plain}"
            )
        );
        assert_eq!(status(&board, Some(&"x".repeat(999))).chars().count(), STATUS + 3);
    }
}
