//! A run's metrics, written as JSON lines and as TensorBoard event files.

use anyhow::{Context as _, Result};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Steps taken.
    pub step: u64,
    /// Passes over the training pictures, with fraction.
    pub epoch: f64,
    /// Mean training loss since the previous line.
    pub loss: f64,
    /// Learning rate.
    pub rate: f64,
    /// Training pictures per second since the previous line, without validation.
    pub images_per_second: f64,
    /// Share of that time spent waiting for the loader, 0..1.
    pub waiting: f64,
    /// Validation, where this line ends an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
}

/// One validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Share of the pictures on the right side of logit 0.
    pub accuracy: f64,
    /// Average precision.
    pub ap: f64,
    /// Cross-entropy.
    pub loss: f64,
}

/// Writes both.
pub struct Metrics {
    lines: File,
    lines_path: PathBuf,
    events: File,
    events_path: PathBuf,
}

/// The path of the lines in a run's folder.
pub fn lines_path(run: &Path) -> PathBuf {
    run.join("metrics.jsonl")
}

impl Metrics {
    /// Continues in `run` after `step`: later lines, from a run that was stopped before its next
    /// checkpoint, are removed. `now` is in seconds since 1970, and names the new event file.
    pub fn open(run: &Path, step: u64, now: f64) -> Result<Metrics> {
        let lines_path = lines_path(run);
        if lines_path.exists() {
            let keep: String = read(&lines_path)?
                .iter()
                .filter(|line| line.step <= step)
                .map(|line| serde_json::to_string(line).map(|text| text + "\n"))
                .collect::<Result<_, _>>()?;
            crate::checkpoint::write(&lines_path, keep.as_bytes())?;
        }
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("{}: cannot be written", path.display()))
        };
        // TensorBoard reads every file of the folder with "tfevents" in its name, in the order of
        // names.
        let events_path = run.join(format!("events.out.tfevents.{:010}.{step:010}", now as u64));
        let mut metrics =
            Metrics { lines: open(&lines_path)?, events: open(&events_path)?, lines_path, events_path };
        metrics.record(&Event {
            wall_time: now,
            file_version: Some("brain.Event:2".into()),
            ..Event::default()
        })?;
        if step > 0 {
            // Tells TensorBoard to forget steps from here on that an earlier file holds.
            let start = SessionLog { status: Some(1) };
            metrics.record(&Event {
                wall_time: now,
                step: Some(step as i64 + 1),
                session_log: Some(start),
                ..Event::default()
            })?;
        }
        Ok(metrics)
    }

    /// Writes one line and its scalars.
    pub fn write(&mut self, line: &Line, now: f64) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.lines
            .write_all(text.as_bytes())
            .with_context(|| format!("{}: cannot be written", self.lines_path.display()))?;
        let mut scalars = vec![
            ("train/loss", line.loss),
            ("train/rate", line.rate),
            ("speed/images_per_second", line.images_per_second),
            ("speed/waiting", line.waiting),
        ];
        if let Some(v) = line.validation {
            scalars.extend([
                ("validation/accuracy", v.accuracy),
                ("validation/ap", v.ap),
                ("validation/loss", v.loss),
            ]);
        }
        let value = scalars
            .into_iter()
            .map(|(tag, value)| Scalar { tag: Some(tag.into()), simple_value: Some(value as f32) })
            .collect();
        self.record(&Event {
            wall_time: now,
            step: Some(line.step as i64),
            summary: Some(Summary { value }),
            ..Event::default()
        })
    }

    /// A TFRecord: length, its checksum, bytes, their checksum.
    fn record(&mut self, event: &Event) -> Result<()> {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        let masked =
            |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
        let record = [&length[..], &masked(&length), &data, &masked(&data)].concat();
        self.events
            .write_all(&record)
            .with_context(|| format!("{}: cannot be written", self.events_path.display()))
    }
}

/// The lines of a run.
///
/// # Errors
/// The file is missing, or a line other than the last is malformed. The last may have been
/// truncated by a crash.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let file = File::open(path).with_context(|| format!("{}: no metrics", path.display()))?;
    let texts: Vec<String> = BufReader::new(file).lines().collect::<Result<_, _>>()?;
    let mut lines = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        match serde_json::from_str(text) {
            Ok(line) => lines.push(line),
            Err(_) if at + 1 == texts.len() => {}
            Err(error) => {
                return Err(error).with_context(|| format!("{}: line {}", path.display(), at + 1));
            }
        }
    }
    Ok(lines)
}

// The parts of tensorflow/core/util/event.proto and framework/summary.proto that scalars need.

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, optional, tag = "2")]
    step: Option<i64>,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, optional, tag = "1")]
    tag: Option<String>,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, optional, tag = "1")]
    status: Option<i32>,
}
