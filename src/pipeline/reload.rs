//! Another configuration while the daemon runs: what has changed is replaced, what has not is not touched.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;

use super::{Daemon, Watched, change};
use crate::clock::stop_signal;
use crate::config::{Config, ModelConfig};
use crate::detector::{Detector, Model};
use crate::health::{Board, SourceState};
use crate::schedule::ROOM;
use crate::source::latest::LatestSink;
use crate::source::supervise::{self, Policy};
use crate::source::{self, Source, SourceConfig};

/// A source that has not ended after this long is left to itself: an element or a driver holds it.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// The table that names the model.
const MODEL: &str = "[model]";

impl Daemon {
    /// Takes another configuration: sources, `[verdict]`, `[metrics]` and publishers change, and what is the same goes on
    /// undisturbed. Says in one line what has changed.
    ///
    /// # Errors
    /// Something in it cannot be used, or cannot change while the daemon runs (the error says which key); then the
    /// previous configuration stays.
    pub fn reload(&mut self, config: Config) -> anyhow::Result<String> {
        if let Some(key) = fixed(&self.config, &config) {
            // Better said now than by a restart that fails.
            let fails = match (key == MODEL).then(|| usable(&config.model)) {
                Some(Err(error)) => format!(", and would fail then: {error:#}"),
                _ => String::new(),
            };
            anyhow::bail!("{key} has changed, which takes a restart (systemctl restart spotd){fails}");
        }
        self.publishers.check(&config)?;
        let before = self.config.clone();
        self.apply(config).inspect_err(|error| {
            log::debug!("back to the previous configuration: {error:#}");
            if let Err(error) = self.apply(before) {
                log::error!("the previous configuration could not be restored entirely: {error:#}");
            }
        })
    }

    /// Makes what runs what a configuration says.
    pub(super) fn apply(&mut self, config: Config) -> anyhow::Result<String> {
        let number = config.sources.len();
        anyhow::ensure!(number <= ROOM, "there are {number} sources; one spotd watches {ROOM} at most");
        let detector = Detector::new(self.model.clone(), &config.verdict, config.model.max_tiles);
        let runs = |all: &[Watched], wanted: &SourceConfig| all.iter().any(|s| s.config == *wanted);
        let missing: Vec<&SourceConfig> =
            config.sources.iter().filter(|wanted| !runs(&self.sources, wanted)).collect();
        // Whatever is wrong with them shows before anything is touched.
        let opened = missing
            .iter()
            .map(|wanted| {
                let id = &wanted.id;
                source::open(wanted, &self.clock).map_err(|e| anyhow::anyhow!("source {id}: {e}"))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let ids: Vec<Arc<str>> = config.sources.iter().map(|s| s.id.clone()).collect();
        anyhow::ensure!(
            change(&self.to_verdict, |stage| stage.more_may_come = true),
            "the daemon is ending, every source has ended"
        );
        let verdicts = config.verdict != self.config.verdict;
        if verdicts {
            let (verdict, detector) = (config.verdict.clone(), detector.clone());
            change(&self.to_verdict, move |stage| stage.judge_by(verdict, detector));
        }
        self.publishers.end_others(&config, &ids, detector.limits());
        let removed = self.remove_others(&config);
        let added = missing.len();
        for (wanted, source) in missing.into_iter().zip(opened) {
            let paused = removed.iter().any(|(id, paused)| *id == wanted.id && *paused);
            self.add(wanted, source, paused)?;
        }
        let started = self.publishers.start_missing(&config, &ids, &detector);
        self.page.clone_from(&self.publishers.address);
        change(&self.to_verdict, |stage| stage.more_may_come = false);
        self.config = config;
        started?;
        let kept = self.sources.len() - added;
        let verdicts = if verdicts { ", [verdict] as it is now" } else { "" };
        Ok(format!("{added} source(s) opened, {} closed, {kept} untouched{verdicts}", removed.len()))
    }

    /// Ends the sources that a configuration does not have, or not so. Returns their ids, and whether they were paused.
    fn remove_others(&mut self, config: &Config) -> Vec<(Arc<str>, bool)> {
        let (stay, go): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.sources).into_iter().partition(|s| config.sources.contains(&s.config));
        self.sources = stay;
        go.iter().for_each(|source| source.stop.stop());
        let mut gone = Vec::new();
        for Watched { config: SourceConfig { id, .. }, index, thread, .. } in go {
            self.wait_for(&id, thread);
            change(&self.to_select, move |stage| stage.remove(index));
            let paused = self.board.is_paused(&id);
            change(&self.to_verdict, move |stage| stage.remove(index));
            self.controls.remove(&id);
            gone.push((id, paused));
        }
        gone
    }

    fn wait_for(&self, id: &str, thread: JoinHandle<()>) {
        let until = self.clock.now() + ENDS_WITHIN;
        while !thread.is_finished() {
            if self.clock.now() >= until {
                log::error!("source {id}: it does not end, and is left to itself");
                return;
            }
            let _ = self.clock.after(Duration::from_millis(10)).recv();
        }
        super::join(thread);
    }

    /// Watches one more source.
    fn add(&mut self, config: &SourceConfig, source: Box<dyn Source>, paused: bool) -> anyhow::Result<()> {
        let id = config.id.clone();
        let index = self.turns.add();
        let on_frame = {
            let turns = self.turns.clone();
            move || turns.frame_waits(index)
        };
        let (board, clock) = (self.board.clone(), self.clock.clone());
        put_on_board(&board, &id, paused);
        let (sink, frames) = LatestSink::new(id.clone(), config.fps, board.clone(), clock.clone(), on_frame);
        let sink = sink.with_control(Some(self.controls.add(id.clone())));
        change(&self.to_select, move |stage| stage.add(index, frames));
        change(&self.to_verdict, {
            let id = id.clone();
            move |stage| stage.add(index, id)
        });
        let (stop, stopped) = stop_signal();
        let policy = Policy::of(config);
        let thread = supervise::spawn(source, Arc::new(sink), board, clock, stopped, policy)
            .with_context(|| format!("source {id}"))?;
        self.sources.push(Watched { config: config.clone(), index, stop, thread });
        Ok(())
    }
}

fn usable(config: &ModelConfig) -> anyhow::Result<()> {
    Model::open(config.path.as_deref(), config.precision)?.calibrated(config.calibration.as_deref())?;
    Ok(())
}

fn put_on_board(board: &Board, id: &str, paused: bool) {
    board.update(id, |status| {
        status.state = SourceState::Starting;
        status.paused = paused;
    });
}

/// The first key, or table, that differs and cannot change while the daemon runs.
fn fixed(now: &Config, new: &Config) -> Option<&'static str> {
    [
        ("[node] name", now.node == new.node),
        (MODEL, now.model == new.model),
        ("[log]", now.log == new.log && now.retention == new.retention && now.sign_key == new.sign_key),
    ]
    .into_iter()
    .find_map(|(key, same)| (!same).then_some(key))
}
