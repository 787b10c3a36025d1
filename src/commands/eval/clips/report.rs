//! The output of `eval` for clips: a table for people, JSON lines, CSV, Markdown, plots.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::super::report::{found_lines, json_line, laid_out, markdown_table, warnings};
use super::super::sets::Found;
use super::Set;
use super::figures::{Measure, Row, Side};
use super::watch::{Watched, Watcher};
use crate::commands::chart::{Axes, Line, lines};
use spotd::shown::{Shown as _, exact};

/// All results.
pub(super) struct Told<'a> {
    pub sets: &'a [Set],
    pub clips: &'a [PathBuf],
    pub watched: &'a [Watched],
    pub watcher: &'a Watcher,
    pub found: &'a [Found],
}

impl Told<'_> {
    /// Clips on which `run` never gives a verdict, and why.
    pub fn without_verdict(&self) -> Vec<String> {
        let tile = self.watcher.detector.card().tile;
        self.clips
            .iter()
            .zip(self.watched)
            .filter(|(_, w)| w.frames.len() < self.watcher.verdict.min_frames)
            .map(|(path, w)| {
                let (width, height) = w.size;
                let why = if width < tile || height < tile {
                    format!("{width}x{height} is smaller than a tile of {tile}x{tile}")
                } else {
                    format!(
                        "{} frames can be judged, {} are flat or damaged, and a verdict needs {}",
                        w.frames.len(),
                        w.without,
                        self.watcher.verdict.min_frames
                    )
                };
                format!("{}: no verdict is possible: {why}", path.shown())
            })
            .collect()
    }

    /// The objects of `--json`, one per line.
    pub fn json_lines(&self, rows: &[Row], measure: &Measure) -> Vec<String> {
        let (w, card) = (self.watcher, self.watcher.detector.card());
        let mut lines = vec![json_line(
            "model",
            json!({
                "name": card.name,
                "version": card.version,
                "sha256": card.sha256,
                "precision": w.detector.identity().precision,
                "threshold": w.detector.limits().threshold,
                "unsure_from": w.detector.limits().unsure_from,
                "fps": w.fps,
                "max_tiles": w.detector.max_tiles(),
                "window": w.verdict.window,
                "min_frames": w.verdict.min_frames,
                "recall": measure.recall,
                "bootstrap": measure.replicates,
                "seed": measure.seed,
            }),
        )];
        lines.extend(
            self.found.iter().map(|f| json_line("found", serde_json::to_value(f).expect("a plain struct"))),
        );
        for set in self.sets {
            for (side, label) in set.sides.iter().zip(["real", "fake"]) {
                lines.extend(side.iter().map(|&at| json_line("clip", self.clip(set, label, at, measure))));
            }
        }
        for row in rows {
            let of = if row.set.is_some() { "result" } else { "mean" };
            let fields = row.fields().into_iter().map(|(name, value)| (name.to_owned(), value));
            let mut all = Map::from_iter([("unit".to_owned(), json!("clip"))]);
            all.extend(fields);
            lines.push(json_line(of, Value::Object(all)));
        }
        lines
    }

    fn clip(&self, set: &Set, label: &str, at: usize, measure: &Measure) -> Value {
        let watched = &self.watched[at];
        let answer = |seconds: Option<f64>| {
            let answer = self.watcher.after(watched, seconds);
            json!({
                "seconds": seconds,
                "frames": answer.frames,
                "score": answer.score,
                "mean_logit": answer.mean_logit,
                "verdict": answer.verdict,
            })
        };
        let times = measure.seconds.iter().copied().map(Some).chain([None]);
        let (path, path_bytes) = exact(self.clips[at].as_os_str());
        let mut fields = json!({
            "set": set.name,
            "path": path,
            "label": label,
            "last": watched.last,
            "width": watched.size.0,
            "height": watched.size.1,
            "frames": watched.frames.len(),
            "without": watched.without,
            "flagged_at": watched.flagged_at(),
            "after": times.map(answer).collect::<Vec<_>>(),
        });
        if let Some(bytes) = path_bytes {
            fields["path_bytes"] = json!(bytes);
        }
        fields
    }

    /// The whole result as a Markdown page.
    pub fn markdown(&self, rows: &[Row], measure: &Measure) -> String {
        let (w, card) = (self.watcher, self.watcher.detector.card());
        let mut out = format!(
            "# Evaluation of {} {} on clips\n\nModel SHA-256 {}. Judged as `run` does: {} frames a second, {} tiles a \
             frame, a median over {} frames, a verdict from {} frames on, synthetic from {:.4}, unsure from {:.4}. \
             A clip is found, or falsely flagged, once it was called synthetic. In brackets: 95 %, of the AUC by {} \
             bootstrap replicates, of shares by Wilson's interval.\n\n",
            card.name,
            card.version,
            card.sha256,
            w.fps,
            w.detector.max_tiles(),
            w.verdict.window,
            w.verdict.min_frames,
            w.detector.limits().threshold,
            w.detector.limits().unsure_from,
            measure.replicates,
        );
        let (heads, cells) = columns(rows, measure.recall);
        out += &markdown_table(&heads, &cells);
        out += "\n## What was found\n\n";
        found_lines(self.found).iter().for_each(|line| out += &format!("- {line}\n"));
        let warnings = [warnings(self.found), self.without_verdict()].concat();
        if !warnings.is_empty() {
            out += "\n## Warnings\n\n";
            warnings.iter().for_each(|line| out += &format!("- {line}\n"));
        }
        out
    }
}

/// A table for a terminal.
pub(super) fn table(rows: &[Row], recall: f64) -> Vec<String> {
    let (heads, cells) = columns(rows, recall);
    laid_out(&heads, &cells)
}

/// Column headings, and the cells of each row.
fn columns(rows: &[Row], recall: f64) -> (Vec<String>, Vec<Vec<String>>) {
    let fpr = format!("FPR@{}%", recall * 100.0);
    let heads = [
        "set",
        "seconds",
        "real+fake",
        "so long",
        "AUC",
        "AUC of mean",
        "found",
        "false",
        &fpr,
        "real unsure",
        "fake unsure",
    ];
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let flagged = |side: &Side| match side.interval {
        None => percent(side.flagged),
        Some((low, high)) => {
            let count = (side.flagged * side.clips as f64).round();
            format!("{count} = {} [{:.0} {:.0}]", percent(side.flagged), 100.0 * low, 100.0 * high)
        }
    };
    let cells = |row: &Row| {
        let [real, fake] = &row.sides;
        let auc = number(row.ranks.map(|r| r.auc));
        vec![
            row.name().to_owned(),
            row.seconds.map_or("whole".to_owned(), |s| s.to_string()),
            format!("{}+{}", real.clips, fake.clips),
            format!("{}+{}", real.lasting, fake.lasting),
            row.auc_interval.map_or(auc.clone(), |(low, high)| format!("{auc} [{low:.2} {high:.2}]")),
            number(row.ranks.map(|r| r.auc_of_mean)),
            flagged(fake),
            flagged(real),
            row.ranks.map_or("-".to_owned(), |r| percent(r.fpr_at_recall)),
            percent(real.unsure),
            percent(fake.unsure),
        ]
    };
    (heads.map(str::to_owned).to_vec(), rows.iter().map(cells).collect())
}

/// Plots over the seconds watched, as file name and SVG text.
pub(super) fn plots(rows: &[Row]) -> anyhow::Result<Vec<(String, String)>> {
    type Of = fn(&Row) -> Option<f64>;
    let kinds: [(&str, &str, Of); 3] = [
        ("clips-auc.svg", "AUC", |row| row.ranks.map(|r| r.auc)),
        ("clips-found.svg", "share of the generated clips found", |row| Some(row.sides[1].flagged)),
        ("clips-false.svg", "share of the true clips flagged", |row| Some(row.sides[0].flagged)),
    ];
    let longest = rows.iter().filter_map(|row| row.seconds).fold(1.0, f64::max);
    let mut names: Vec<(&str, bool)> = Vec::new();
    for row in rows {
        if !names.iter().any(|(name, _)| *name == row.name()) {
            names.push((row.name(), row.set.is_none()));
        }
    }
    kinds
        .into_iter()
        .map(|(file, what, of)| {
            let all: Vec<Line> = names
                .iter()
                .map(|&(name, main)| {
                    let own = rows.iter().filter(|row| row.name() == name);
                    let points = own.filter_map(|row| Some((row.seconds?, of(row)?))).collect();
                    Line { name: name.to_owned(), points, main }
                })
                .collect();
            let axes = Axes { title: "Clips", x: ("seconds watched", 0.0..longest), y: (what, 0.0..1.02) };
            Ok((file.to_owned(), lines(&axes, &all)?))
        })
        .collect()
}
