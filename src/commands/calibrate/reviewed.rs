//! What operators have said of the events of a flag log, as footage: see `--log`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use spotd::detector::Detector;
use spotd::flaglog::fs::Fs;
use spotd::flaglog::record::EvidenceFile;
use spotd::flaglog::review::reviewed;
use spotd::flaglog::{Finding, OsFs};
use spotd::forensics::alarms::Recording;
use spotd::frame::{Frame, picture};
use spotd::shown::Shown as _;

/// The events of a log that somebody has judged.
#[derive(Default)]
pub(super) struct Reviewed {
    /// Logits of the pictures of each false alarm, at least one.
    pub false_alarms: Vec<Recording>,
    /// The same of what was confirmed.
    pub confirmed: Vec<Recording>,
}

impl Reviewed {
    /// The highest logit of each false alarm.
    pub fn maxima(&self) -> Vec<f64> {
        let highest = |r: &Recording| r.logits.iter().copied().reduce(f64::max);
        self.false_alarms.iter().filter_map(highest).collect()
    }
}

/// Judges the pictures of these events anew. A picture was taken when the median over a window was at its height, and
/// stands for that window.
///
/// # Errors
/// The log cannot be read, nobody has judged any of its events, or their pictures have made room.
pub(super) fn read(detector: &Detector, dir: &Path) -> anyhow::Result<Reviewed> {
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let events = reviewed(&fs, dir).with_context(|| dir.shown().to_string())?;
    if events.is_empty() {
        bail!(
            "{}: nobody has judged any event of this log; do so on the operator's page, or leave --log out",
            dir.shown()
        );
    }
    let mut all = Reviewed::default();
    let (count, mut without) = (events.len(), 0);
    for event in events {
        let mut recording = Recording::default();
        let began = event.records.first().map(|r| r.captured);
        for record in &event.records {
            match logit(detector, &*fs, dir, &record.files.frame) {
                Ok(Some(logit)) => {
                    let since =
                        began.map_or(0.0, |began| record.captured.duration_since(began).as_secs_f64());
                    recording.times.push(since);
                    recording.logits.push(logit);
                }
                Ok(None) => {}
                Err(error) => log::warn!("{}: event {}: left out: {error:#}", dir.shown(), event.event),
            }
        }
        match event.finding {
            _ if recording.logits.is_empty() => without += 1,
            Finding::FalseAlarm => all.false_alarms.push(recording),
            _ => all.confirmed.push(recording),
        }
    }
    if without == count {
        bail!(
            "{}: of {count} event(s) that were judged none has a picture any more; [log] keep_days and the like say how \
             long they are kept",
            dir.shown()
        );
    }
    log::info!(
        "{}: {} false alarm(s), {} confirmed, {without} without a picture",
        dir.shown(),
        all.false_alarms.len(),
        all.confirmed.len()
    );
    Ok(all)
}

/// The logit of a picture; `None` where it has made room, or is too small or flat to be judged.
fn logit(detector: &Detector, fs: &dyn Fs, dir: &Path, file: &EvidenceFile) -> anyhow::Result<Option<f64>> {
    let Some(bytes) = file.read_in(fs, dir)? else { return Ok(None) };
    let shot = picture::first(&bytes).with_context(|| file.file.clone())?;
    // Of an interlaced frame, one field was kept: its lines are all there are.
    let score = detector.score_lines(Frame::still("log".into(), shot.image))?;
    Ok(score.limited.is_none().then_some(f64::from(score.logit)))
}
