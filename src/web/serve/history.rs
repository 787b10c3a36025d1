//! The scores of the last minutes, one point a second for each source, at constant memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::health::SourceStatus;

/// Points kept of a source: ten minutes.
pub(super) const POINTS: usize = 600;

/// One second of one source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Seconds since the Unix epoch.
    pub at: f64,
    /// Score of the newest frame, 0..1; none when no frame has been judged in this second.
    pub raw: Option<f64>,
    /// Median over the window, 0..1.
    pub smoothed: Option<f64>,
}

/// The points of all sources.
#[derive(Debug, Default)]
pub(super) struct History {
    sources: BTreeMap<Arc<str>, Series>,
}

#[derive(Debug, Default)]
struct Series {
    points: VecDeque<Point>,
    judged: u64,
}

/// The points of one source, as columns: what a chart draws.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Columns {
    /// Seconds since the Unix epoch, rising.
    pub at: Vec<f64>,
    /// Scores of frames, 0..1.
    pub raw: Vec<Option<f64>>,
    /// Medians over the window, 0..1.
    pub smoothed: Vec<Option<f64>>,
}

impl History {
    /// Adds a point for each source.
    pub fn take(&mut self, at: f64, all: &[(Arc<str>, SourceStatus)]) {
        for (id, status) in all {
            let series = self.sources.entry(id.clone()).or_default();
            let news = std::mem::replace(&mut series.judged, status.judged) != status.judged;
            // A wall clock that was set back would draw a line backwards.
            if series.points.back().is_some_and(|last| at <= last.at) {
                series.points.clear();
            }
            if series.points.len() == POINTS {
                series.points.pop_front();
            }
            let raw = status.raw.filter(|_| news);
            series.points.push_back(Point { at, raw, smoothed: status.smoothed });
        }
    }

    /// All points of a source, oldest first.
    pub fn of(&self, source: &str) -> Columns {
        let mut columns = Columns::default();
        for point in self.sources.get(source).map(|s| &s.points).into_iter().flatten() {
            columns.at.push(point.at);
            columns.raw.push(point.raw);
            columns.smoothed.push(point.smoothed);
        }
        columns
    }

    /// The newest point of a source.
    pub fn newest(&self, source: &str) -> Option<Point> {
        self.sources.get(source)?.points.back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(judged: u64, raw: f64) -> Vec<(Arc<str>, SourceStatus)> {
        vec![("cam".into(), SourceStatus { judged, raw: Some(raw), ..SourceStatus::default() })]
    }

    #[test]
    fn ten_minutes_are_kept_and_a_second_without_a_frame_has_no_score() {
        let mut history = History::default();
        for second in 0..POINTS as u64 + 5 {
            history.take(second as f64, &status(1 + second / 2, 0.25));
        }
        let columns = history.of("cam");
        assert_eq!(columns.at.len(), POINTS);
        assert_eq!(columns.at[0], 5.0);
        let judged = columns.raw.iter().flatten().count();
        assert_eq!(judged, POINTS / 2, "a frame every other second");
        assert!(history.of("nobody").at.is_empty());
    }

    #[test]
    fn a_clock_that_is_set_back_begins_the_curve_anew() {
        let mut history = History::default();
        history.take(100.0, &status(1, 0.5));
        history.take(40.0, &status(2, 0.5));
        assert_eq!(history.of("cam").at, [40.0]);
        assert_eq!(history.newest("cam").map(|p| p.at), Some(40.0));
    }
}
