//! Writes the board in Prometheus's text format (version 0.0.4), and keeps it in a file for
//! node_exporter's textfile collector, so that no server is needed.
//!
//! Written by hand because the figures are on the board already; the libraries would add a registry
//! of their own beside it. <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use super::stages::{BOUNDS, Stage, Stages};
use super::{Board, MetricsConfig, PublisherStatus, SourceState, SourceStatus};
use crate::clock::{SharedClock, Stop};
use crate::verdict::{Reason, Verdict};

/// Mode of the file: everybody may read it.
const MODE: u32 = 0o644;

/// Where the metrics come from.
#[derive(Clone)]
pub struct Metrics {
    /// The board they are read from.
    pub board: Board,
    /// Name of the box.
    pub node: String,
}

impl Metrics {
    /// All metrics in OpenMetrics 1.0, as Prometheus asks for it when it scrapes: counters' families are named without
    /// `_total`, and the text has an end. <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    pub fn render_open(&self) -> String {
        let mut out = Text { open: true, ..Text::default() };
        self.write(&mut out);
        out.text + "# EOF\n"
    }

    /// All current metrics, each family with its help and type.
    pub fn render(&self) -> String {
        let mut out = Text::default();
        self.write(&mut out);
        out.text
    }

    fn write(&self, out: &mut Text) {
        let version = env!("CARGO_PKG_VERSION");
        out.family("spotd_info", Kind::Gauge, "Always 1; which program this is.");
        out.sample("spotd_info", &[("node", &self.node), ("version", version)], 1.0);
        sources(out, &self.board.snapshot());
        self.log(out);
        publishers(out, &self.board.publishers());
        stages(out, self.board.stages());
        process(out);
    }

    fn log(&self, out: &mut Text) {
        let log = self.board.log();
        let alarm = f64::from(u8::from(log.alarm.is_some()));
        out.single(
            "spotd_log_alarm",
            Kind::Gauge,
            "1 while the flag log needs a person: disk full, read-only or failing, or its folder taken away.",
            alarm,
        );
        let evidence = log.evidence_bytes as f64;
        out.single("spotd_log_evidence_bytes", Kind::Gauge, "Bytes of evidence.", evidence);
        out.single("spotd_log_record_bytes", Kind::Gauge, "Bytes of records.", log.record_bytes as f64);
        if let Some(free) = log.free_bytes {
            out.single("spotd_log_free_bytes", Kind::Gauge, "Bytes left on the log's disk.", free as f64);
        }
        let removed = log.evidence_removed as f64;
        let help = "Events whose evidence has made room.";
        out.single("spotd_log_evidence_removed_total", Kind::Counter, help, removed);
        let help =
            "Times that the log's folder or a part of it was renamed, removed, replaced or mounted over.";
        out.single("spotd_log_displaced_total", Kind::Counter, help, log.displaced as f64);
        let help = "Records that wait in memory because the flag log cannot be written.";
        out.single("spotd_log_waiting_records", Kind::Gauge, help, log.waiting as f64);
        let help = "Records that were given up because the flag log could not be written.";
        out.single("spotd_log_lost_records_total", Kind::Counter, help, log.lost as f64);
    }
}

/// Metrics of the publishers, labelled by name; nothing if there are none, which would only raise
/// alarms.
fn publishers(out: &mut Text, all: &BTreeMap<String, PublisherStatus>) {
    type Figure = fn(&PublisherStatus) -> u64;
    let figures: [(&str, Kind, &str, Figure); 5] = [
        ("spotd_publisher_connected", Kind::Gauge, "1 while the publisher's server can be reached.", |p| {
            u64::from(p.connected)
        }),
        ("spotd_publisher_behind", Kind::Gauge, "Records that are not acknowledged yet.", |p| p.behind),
        ("spotd_publisher_connections_total", Kind::Counter, "Connections that were made.", |p| {
            p.connections
        }),
        ("spotd_publisher_sent_total", Kind::Counter, "Records acknowledged, repeated ones too.", |p| p.sent),
        ("spotd_publisher_refused_total", Kind::Counter, "Records that were refused.", |p| p.refused),
    ];
    for (name, kind, help, figure) in figures.into_iter().filter(|_| !all.is_empty()) {
        out.family(name, kind, help);
        for (publisher, status) in all {
            out.sample(name, &[("publisher", publisher)], figure(status) as f64);
        }
    }
}

/// How long stages take.
fn stages(out: &mut Text, stages: &Stages) {
    let name = "spotd_stage_seconds";
    out.family(name, Kind::Histogram, "How long each stage of a frame's and a record's way takes.");
    for stage in Stage::ALL {
        let histogram = stages.histogram(stage);
        let label = ("stage", stage.as_str());
        let mut bucket = |bound: &str, count: u64| {
            out.sample(&format!("{name}_bucket"), &[label, ("le", bound)], count as f64);
        };
        for (bound, count) in BOUNDS.iter().zip(histogram.cumulative) {
            bucket(&format!("{bound:?}"), count);
        }
        bucket("+Inf", histogram.count);
        out.sample(&format!("{name}_sum"), &[label], histogram.sum);
        out.sample(&format!("{name}_count"), &[label], histogram.count as f64);
    }
}

/// What the process uses, by the names that Prometheus's client libraries have.
fn process(out: &mut Text) {
    let process = super::process::process();
    for (name, kind, help, value) in [
        ("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", process.resident_bytes),
        ("process_cpu_seconds_total", Kind::Counter, "CPU time of all threads.", process.cpu_seconds),
        ("process_open_fds", Kind::Gauge, "Open file descriptors.", process.open_files),
    ] {
        if let Some(value) = value {
            out.single(name, kind, help, value);
        }
    }
    let zones = super::process::temperatures();
    if !zones.is_empty() {
        let name = "spotd_temperature_celsius";
        out.family(name, Kind::Gauge, "Temperature of each of the machine's zones.");
        for (zone, kind, celsius) in &zones {
            out.sample(name, &[("zone", zone), ("type", kind)], *celsius);
        }
    }
}

/// One family after the other: the format requires a family's samples to be together.
fn sources(out: &mut Text, all: &[(std::sync::Arc<str>, SourceStatus)]) {
    let each = |out: &mut Text, name: &str, kind, help, value: &dyn Fn(&SourceStatus) -> Option<f64>| {
        let values: Vec<_> = all.iter().filter_map(|(id, s)| Some((id, value(s)?))).collect();
        if !values.is_empty() {
            out.family(name, kind, help);
            values.iter().for_each(|(id, v)| out.sample(name, &[("source", id)], *v));
        }
    };
    let one_of = |out: &mut Text,
                  name: &str,
                  label,
                  help,
                  values: &[&str],
                  is: &dyn Fn(&SourceStatus) -> &'static str| {
        if !all.is_empty() {
            out.family(name, Kind::Gauge, help);
        }
        for (id, status) in all {
            let now = is(status);
            for value in values {
                let on = f64::from(u8::from(*value == now));
                out.sample(name, &[("source", id), (label, value)], on);
            }
        }
    };
    let states = SourceState::NAMES;
    one_of(out, "spotd_source_state", "state", "1 for the state that the source is in.", &states, &|s| {
        s.state.name()
    });
    let verdicts = [Verdict::Clear, Verdict::Unsure, Verdict::Synthetic].map(Verdict::as_str);
    one_of(out, "spotd_source_verdict", "verdict", "1 for the verdict now.", &verdicts, &|s| {
        s.verdict.as_str()
    });
    let paused = |s: &SourceStatus| Some(f64::from(u8::from(s.paused)));
    each(
        out,
        "spotd_source_paused",
        Kind::Gauge,
        "1 while a command keeps its frames from being judged.",
        &paused,
    );
    let degraded = |s: &SourceStatus| Some(f64::from(u8::from(s.reason == Some(Reason::Degraded))));
    each(
        out,
        "spotd_source_degraded",
        Kind::Gauge,
        "1 while its frames have lost too much for a low score to say anything.",
        &degraded,
    );
    for (name, help, score) in [
        (
            "spotd_source_score_raw",
            "Score of the last frame, 0 to 1.",
            (|s| s.raw) as fn(&SourceStatus) -> Option<f64>,
        ),
        ("spotd_source_score_smoothed", "Median score over the window, 0 to 1.", |s| s.smoothed),
        ("spotd_source_score_peak", "Highest median of the event, 0 to 1.", |s| s.peak),
        ("spotd_source_latency_seconds", "From the last judged frame's arrival to its verdict.", |s| {
            Some(s.latency?.as_secs_f64())
        }),
        ("spotd_source_last_frame_timestamp_seconds", "When the last frame was captured.", |s| {
            unix(s.last_frame?)
        }),
    ] {
        each(out, name, Kind::Gauge, help, &score);
    }
    for (name, help, count) in [
        ("spotd_source_frames_total", "Frames handed over.", (|s| s.frames) as fn(&SourceStatus) -> u64),
        ("spotd_source_judged_total", "Frames judged.", |s| s.judged),
        ("spotd_source_reconnects_total", "Times that the source was opened again.", |s| s.reconnects),
        ("spotd_source_alerts_total", "Alerts, such as a jump of the score.", |s| s.alerts),
    ] {
        each(out, name, Kind::Counter, help, &|s| Some(count(s) as f64));
    }
    if all.iter().any(|(_, s)| !s.dropped.is_empty()) {
        let name = "spotd_source_dropped_total";
        out.family(name, Kind::Counter, "Frames not judged, by reason.");
        for (id, status) in all {
            for (reason, count) in &status.dropped {
                out.sample(name, &[("source", id), ("reason", reason)], *count as f64);
            }
        }
    }
}

/// Seconds since 1970; `None` before that.
fn unix(time: SystemTime) -> Option<f64> {
    time.duration_since(UNIX_EPOCH).ok().map(|d| d.as_secs_f64())
}

#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
    Histogram,
}

#[derive(Default)]
struct Text {
    text: String,
    /// OpenMetrics instead of Prometheus's text format.
    open: bool,
}

impl Text {
    /// `help` is one of ours: without `\` and line feeds.
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let name = if self.open { name.strip_suffix("_total").unwrap_or(name) } else { name };
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (n, (label, text)) in labels.iter().enumerate() {
            let before = if n == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{before}{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// Keeps the file up to date until `stop`, and then removes it: a daemon that has ended has no
/// metrics. A failure to write is logged once and retried.
///
/// # Errors
/// The OS cannot start a thread.
pub fn spawn(
    config: MetricsConfig,
    metrics: Metrics,
    clock: SharedClock,
    stop: Stop,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        let mut failing = false;
        loop {
            match replace(&config.file, &metrics.render()) {
                Ok(()) => failing = false,
                Err(e) if !std::mem::replace(&mut failing, true) => log::error!(
                    "metrics {}: {e}; does the folder of [metrics] file exist, and may this user write to it? \
                     Trying again every {} s",
                    config.file.display(),
                    config.every.as_secs_f64()
                ),
                Err(_) => {}
            }
            if !stop.wait(&*clock, config.every) {
                break;
            }
        }
        let _ = std::fs::remove_file(&config.file);
    })
}

/// Replaces the file as a whole, so that nobody ever reads half of one. Nothing is synced: losing
/// the last version in a power failure does not matter.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // node_exporter ignores names that do not end in `.prom`.
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".tmp");
    let tmp = PathBuf::from(tmp);
    // Readable by other users, whatever the umask.
    std::fs::write(&tmp, text)
        .and_then(|()| std::fs::set_permissions(&tmp, Permissions::from_mode(MODE)))
        .and_then(|()| std::fs::rename(&tmp, path))
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&tmp);
        })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{ManualClock, stop_signal};
    use crate::flaglog::LogStatus;

    type Labels = BTreeMap<String, String>;

    /// Parses the text format as specified, and refuses what is not well-formed. Returns samples by
    /// name.
    fn parse(text: &str) -> Result<Vec<(String, Labels, f64)>, String> {
        let (mut families, mut samples) = (BTreeMap::new(), Vec::new());
        let mut current = String::new();
        let body = text.strip_suffix('\n').ok_or("no line feed at the end")?;
        for line in body.split('\n') {
            let bad = |why: &str| format!("{why}: {line:?}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or(bad("no help"))?;
                if help.is_empty() || families.insert(name.to_owned(), None).is_some() {
                    return Err(bad("a family twice, or without help"));
                }
                current = name.to_owned();
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or(bad("no type"))?;
                let expected = match name {
                    "spotd_stage_seconds" => "histogram",
                    name if name.ends_with("_total") => "counter",
                    _ => "gauge",
                };
                if name != current || kind != expected {
                    return Err(bad("not the type of this family"));
                }
                families.insert(name.to_owned(), Some(()));
                continue;
            }
            let name: String = line.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let of_family = match current.as_str() {
                "spotd_stage_seconds" => {
                    ["_bucket", "_sum", "_count"].iter().any(|s| name == current.clone() + s)
                }
                _ => name == current,
            };
            let ours = name.starts_with("spotd_") || name.starts_with("process_");
            if !of_family || families.get(&current) != Some(&Some(())) || !ours {
                return Err(bad("a sample outside of its family"));
            }
            let mut rest = &line[name.len()..];
            let mut labels = Labels::new();
            if let Some(inner) = rest.strip_prefix('{') {
                rest = inner;
                loop {
                    let (label, after) = rest.split_once("=\"").ok_or(bad("no label"))?;
                    let (mut value, mut chars) = (String::new(), after.char_indices());
                    let end = loop {
                        match chars.next().ok_or(bad("an open quote"))? {
                            (at, '"') => break at,
                            (_, '\\') => match chars.next() {
                                Some((_, 'n')) => value.push('\n'),
                                Some((_, c @ ('"' | '\\'))) => value.push(c),
                                _ => return Err(bad("an unknown escape")),
                            },
                            (_, c) => value.push(c),
                        }
                    };
                    if labels.insert(label.to_owned(), value).is_some() {
                        return Err(bad("a label twice"));
                    }
                    rest = &after[end + 1..];
                    match (rest.strip_prefix(','), rest.strip_prefix('}')) {
                        (Some(more), _) => rest = more,
                        (_, Some(over)) => {
                            rest = over;
                            break;
                        }
                        _ => return Err(bad("no end of the labels")),
                    }
                }
            }
            let value = rest.strip_prefix(' ').ok_or(bad("no space"))?;
            let value: f64 = value.parse().map_err(|_| bad("no number"))?;
            samples.push((name, labels, value));
        }
        let keys: BTreeSet<_> = samples.iter().map(|(n, l, _)| (n, l)).collect();
        if keys.len() != samples.len() {
            return Err("a sample twice".to_owned());
        }
        Ok(samples)
    }

    fn board() -> Board {
        let board = Board::new(["cam".into(), "door".into()]);
        board.update("cam", |s| {
            s.state = SourceState::Retrying { why: "x".into(), attempt: 3, at: UNIX_EPOCH };
            s.verdict = Verdict::Synthetic;
            (s.raw, s.smoothed) = (Some(0.25), Some(0.875));
            (s.frames, s.judged, s.reconnects, s.alerts) = (12, 7, 2, 3);
            s.latency = Some(Duration::from_millis(125));
            s.last_frame = Some(UNIX_EPOCH + Duration::from_millis(1_795_500_000_500));
        });
        for _ in 0..5 {
            board.drop_frame("cam", "overwritten");
        }
        board.set_log(LogStatus {
            alarm: Some("full".into()),
            evidence_bytes: 1 << 40,
            record_bytes: 9,
            free_bytes: Some(0),
            evidence_removed: 4,
            displaced: 2,
            waiting: 6,
            lost: 1,
        });
        board.update_publisher("mqtt", |p| p.behind = 17);
        board.update_publisher("webhook", |p| p.connected = true);
        board
    }

    #[test]
    fn every_figure_of_the_board_is_there() {
        let metrics = Metrics { board: board(), node: "box".into() };
        let text = metrics.render();
        let samples = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let value = |name: &str, wanted: &[(&str, &str)]| {
            let wanted: Labels = wanted.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            samples.iter().find(|(n, l, _)| n == name && *l == wanted).map(|s| s.2)
        };
        let cam = ("source", "cam");
        for (name, labels, expected) in [
            ("spotd_source_state", vec![cam, ("state", "retrying")], 1.0),
            ("spotd_source_state", vec![cam, ("state", "live")], 0.0),
            ("spotd_source_state", vec![("source", "door"), ("state", "starting")], 1.0),
            ("spotd_source_verdict", vec![cam, ("verdict", "synthetic")], 1.0),
            ("spotd_source_score_raw", vec![cam], 0.25),
            ("spotd_source_score_smoothed", vec![cam], 0.875),
            ("spotd_source_frames_total", vec![cam], 12.0),
            ("spotd_source_judged_total", vec![cam], 7.0),
            ("spotd_source_reconnects_total", vec![cam], 2.0),
            ("spotd_source_alerts_total", vec![cam], 3.0),
            ("spotd_source_dropped_total", vec![cam, ("reason", "overwritten")], 5.0),
            ("spotd_source_latency_seconds", vec![cam], 0.125),
            ("spotd_source_last_frame_timestamp_seconds", vec![cam], 1_795_500_000.5),
            ("spotd_log_alarm", vec![], 1.0),
            ("spotd_log_evidence_bytes", vec![], 1_099_511_627_776.0),
            ("spotd_log_free_bytes", vec![], 0.0),
            ("spotd_log_evidence_removed_total", vec![], 4.0),
            ("spotd_log_displaced_total", vec![], 2.0),
            ("spotd_log_waiting_records", vec![], 6.0),
            ("spotd_log_lost_records_total", vec![], 1.0),
            ("spotd_publisher_behind", vec![("publisher", "mqtt")], 17.0),
            ("spotd_publisher_connected", vec![("publisher", "mqtt")], 0.0),
            ("spotd_publisher_connected", vec![("publisher", "webhook")], 1.0),
        ] {
            assert_eq!(value(name, &labels), Some(expected), "{name} {labels:?}\n{text}");
        }
        // What has no value is left out, not 0.
        assert_eq!(value("spotd_source_score_peak", &[cam]), None);
        assert_eq!(value("spotd_source_score_raw", &[("source", "door")]), None);
        let alone = Metrics { board: Board::new(["cam".into()]), ..metrics }.render();
        assert!(parse(&alone).is_ok() && !alone.contains("publisher"), "{alone}");
    }

    proptest! {
        #[test]
        fn any_name_is_well_formed_and_comes_back(node in any::<String>(), id in any::<String>()) {
            let board = Board::new([Arc::from(id.as_str())]);
            board.drop_frame(&id, "flat");
            let text = Metrics { board, node: node.clone() }.render();
            let samples = parse(&text).map_err(TestCaseError::fail)?;
            let label = |name: &str, label: &str| {
                samples.iter().find(|(n, ..)| n == name).and_then(|(_, l, _)| l.get(label).cloned())
            };
            prop_assert_eq!(label("spotd_info", "node"), Some(node));
            prop_assert_eq!(label("spotd_source_dropped_total", "source"), Some(id));
        }
    }

    #[test]
    fn the_documentation_lists_exactly_these_families() {
        let board = board();
        board.update("cam", |s| s.peak = Some(0.5));
        let text = Metrics { board, node: "box".into() }.render();
        let ours: BTreeSet<&str> =
            text.lines().filter_map(|l| l.strip_prefix("# HELP ")?.split(' ').next()).collect();
        let docs = include_str!("../../docs/METRICS.md");
        let listed: BTreeSet<&str> = docs
            .lines()
            .filter_map(|l| l.strip_prefix("| `")?.split(['`', '{']).next())
            .filter(|name| name.starts_with("spotd_") || name.starts_with("process_"))
            // Not every machine has a thermometer.
            .filter(|name| *name != "spotd_temperature_celsius" || ours.contains(name))
            .collect();
        assert_eq!(ours, listed);
    }

    #[test]
    fn the_file_is_replaced_as_a_whole_and_goes_with_the_daemon() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("not yet/spotd.prom");
        let (clock, board) = (Arc::new(ManualClock::new(UNIX_EPOCH)), board());
        let (stop, signal) = stop_signal();
        let config = MetricsConfig { file: file.clone(), every: Duration::from_secs(15) };
        let metrics = Metrics { board: board.clone(), node: "box".into() };
        let thread = spawn(config, metrics, clock.clone(), signal).expect("a thread");
        let waits = || {
            while clock.waiting() == 0 {
                std::thread::yield_now();
            }
        };
        // Its folder is created later: writing is retried.
        waits();
        assert!(!file.exists());
        std::fs::create_dir(file.parent().expect("a folder")).expect("made");
        for frames in [100, 200] {
            board.update("cam", |s| s.frames = frames);
            clock.advance(Duration::from_secs(15));
            waits();
            let text = std::fs::read_to_string(&file).expect("written");
            assert!(
                parse(&text).is_ok() && text.contains(&format!("{{source=\"cam\"}} {frames}\n")),
                "{text}"
            );
            let mode = std::fs::metadata(&file).expect("metadata").permissions().mode() & 0o777;
            assert_eq!(mode, MODE);
            let names = std::fs::read_dir(file.parent().expect("a folder")).expect("listed").count();
            assert_eq!(names, 1, "nothing lies beside it");
        }
        stop.stop();
        thread.join().expect("no panic");
        assert!(!file.exists(), "figures of a daemon that has ended are none");
    }
}
