//! What `spotd bench --cameras` says.

use std::path::Path;

use serde_json::json;

use super::super::machine::{self, MachineState};
use super::step::{LATE, Player, Shares, Step};
use spotd::detector::Model;
use spotd::shown::exact;
use spotd::source::Decode;

/// Everything that was measured.
pub(super) struct Found<'a> {
    pub model: &'a Model,
    pub player: &'a Player<'a>,
    /// The clip, if it is not the built-in one.
    pub path: Option<&'a Path>,
    /// Cameras tried at most.
    pub limit: usize,
    /// In the order in which they were tried.
    pub steps: Vec<Step>,
    pub before: MachineState,
    pub after: MachineState,
}

impl Found<'_> {
    /// The highest number of cameras that is carried.
    fn best(&self) -> Option<&Step> {
        self.steps.iter().filter(|step| step.is_carried()).max_by_key(|step| step.cameras)
    }

    /// The lowest number that is not.
    fn too_many(&self) -> Option<&Step> {
        self.steps.iter().filter(|step| !step.is_carried()).min_by_key(|step| step.cameras)
    }

    fn decode(&self) -> &'static str {
        match self.player.decode {
            Decode::Auto => "auto",
            Decode::All => "all",
        }
    }

    pub fn lines(&self) -> Vec<String> {
        let (card, clip, player) = (self.model.card(), self.player.clip, self.player);
        let workers = player.config.model.workers;
        let mut lines = vec![format!(
            "{} {} ({}) on {}, {workers} worker(s)",
            card.name,
            card.version,
            self.model.engine().describe(),
            machine::processor().unwrap_or_else(|| "this processor".into()),
        )];
        if cfg!(debug_assertions) {
            lines.push("THIS IS A DEBUG BUILD: the figures mean nothing; build with --release".into());
        }
        lines.push(format!(
            "{}: {} of {}x{}, {:.1} frames and {:.1} Mbit a second, a key frame every {:.1} s",
            self.path.map_or_else(|| "built-in clip".to_owned(), |path| exact(path.as_os_str()).0),
            clip.codec,
            clip.width,
            clip.height,
            clip.fps,
            clip.bit_rate / 1e6,
            clip.key_frames_every.as_secs_f64()
        ));
        lines.push(format!(
            "each camera: up to {} frames a second judged, up to {} tiles of each; decode = {}; {} s each",
            player.fps,
            player.config.model.max_tiles,
            self.decode(),
            player.seconds.as_secs()
        ));
        lines.push(format!(
            "{:>7} {:>9} {:>12} {:>6} {:>8} {:>9} {:>9} {:>10} {:>6} {:>9}",
            "cameras",
            "judged/s",
            "overwritten",
            "late",
            "CPUs",
            "decoding",
            "choosing",
            "inference",
            "rest",
            "memory"
        ));
        let mut steps: Vec<&Step> = self.steps.iter().collect();
        steps.sort_by_key(|step| step.cameras);
        lines.extend(steps.into_iter().map(row));
        if let Some(why) = self.after.slowed_since(&self.before) {
            lines.push(format!("SLOWED DOWN: {why}"));
        }
        let carried = self.best().map_or(0, |step| step.cameras);
        lines.push(match self.too_many() {
            Some(step) => format!(
                "this machine carries {carried} such camera(s); {} are too many: {}",
                step.cameras,
                step.why()
            ),
            None => format!("this machine carries {carried} such camera(s) or more (--max-cameras)"),
        });
        lines
    }

    pub fn json(&self) -> String {
        let (card, clip, player) = (self.model.card(), self.player.clip, self.player);
        let (path, path_bytes) = self.path.map(|path| exact(path.as_os_str())).unzip();
        let best = self.best();
        json!({
            "model": card.name,
            "version": card.version,
            "sha256": card.sha256,
            "precision": self.model.identity().precision,
            "runs": self.model.engine().describe(),
            "processor": machine::processor(),
            "debug_build": cfg!(debug_assertions),
            "threads": player.config.model.workers,
            "tiles": player.config.model.max_tiles,
            "fps": player.fps,
            "decode": self.decode(),
            "seconds": player.seconds.as_secs(),
            "late_ms": LATE.as_millis() as u64,
            "clip": {
                "path": path,
                "path_bytes": path_bytes.flatten(),
                "codec": clip.codec,
                "width": clip.width,
                "height": clip.height,
                "fps": clip.fps,
                "key_frame_seconds": clip.key_frames_every.as_secs_f64(),
                "bit_rate": clip.bit_rate,
            },
            "cameras": best.map_or(0, |step| step.cameras),
            "max_cameras": self.limit,
            "limited": self.too_many().is_none(),
            "shares": best.and_then(|step| step.shares),
            "steps": self.steps,
            "before": self.before,
            "after": self.after,
            "slowed": self.after.slowed_since(&self.before),
        })
        .to_string()
    }
}

fn row(step: &Step) -> String {
    let share = |n: u64| format!("{:.1} %", 100.0 * n as f64 / step.due.max(1) as f64);
    let of = |part: fn(&Shares) -> f64| {
        step.shares.as_ref().map_or_else(|| "-".to_owned(), |s| format!("{:.0} %", 100.0 * part(s)))
    };
    let number = |value: Option<f64>, unit: &str, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}{unit}"))
    };
    format!(
        "{:>7} {:>9.1} {:>12} {:>6} {:>8} {:>9} {:>9} {:>10} {:>6} {:>9}{}",
        step.cameras,
        step.judged_per_second,
        share(step.overwritten),
        share(step.late),
        number(step.cpus, "", 2),
        of(|s| s.decoding),
        of(|s| s.choosing),
        of(|s| s.inference),
        of(|s| s.rest),
        number(step.memory_mib, " MiB", 0),
        if step.is_carried() { "" } else { "  too many" }
    )
}
