//! The plots of an evaluation: rankings, distributions of scores, the cost of perturbations.

use std::collections::BTreeMap;

use super::super::chart::{Axes, Line, Panel, histograms, lines, thinned};
use super::figures::Row;
use super::perturb::Perturbation;

/// All plots as file name and SVG text.
pub(crate) fn plots(rows: &[Row], threshold: f64) -> anyhow::Result<Vec<(String, String)>> {
    let stored: Vec<&Row> =
        rows.iter().filter(|r| r.after == Perturbation::AsStored && r.curve.is_some()).collect();
    let mut files = vec![
        ("roc.svg".to_owned(), roc(&stored)?),
        ("precision-recall.svg".to_owned(), precision_recall(&stored)?),
    ];
    let panels: Vec<Panel<'_>> =
        stored.iter().map(|r| Panel { name: r.name(), real: &r.scores[0], fake: &r.scores[1] }).collect();
    let title = "Share of the pictures at each score, as stored";
    files.push(("scores.svg".to_owned(), histograms(title, threshold, &panels)?));
    for kind in ["jpeg", "blur", "resize", "h264", "h265"] {
        if let Some(text) = robustness(rows, kind)? {
            files.push((format!("robustness-{kind}.svg"), text));
        }
    }
    Ok(files)
}

fn roc(rows: &[&Row]) -> anyhow::Result<String> {
    let axes = Axes {
        title: "ROC, pictures as stored",
        x: ("false positive rate", 0.0..1.0),
        y: ("true positive rate", 0.0..1.0),
    };
    let mut all: Vec<Line> = rows
        .iter()
        .filter_map(|row| {
            let curve = row.curve.as_ref()?;
            let points =
                curve.points.iter().map(|p| (p.false_alarms / curve.negatives, p.hits / curve.positives));
            let points = thinned(std::iter::once((0.0, 0.0)).chain(points));
            Some(Line { name: format!("{} {:.3}", row.name(), row.values[1]), points, main: false })
        })
        .collect();
    all.push(Line { name: "chance".into(), points: vec![(0.0, 0.0), (1.0, 1.0)], main: true });
    lines(&axes, &all)
}

fn precision_recall(rows: &[&Row]) -> anyhow::Result<String> {
    let axes = Axes {
        title: "Precision and recall, pictures as stored",
        x: ("recall", 0.0..1.0),
        y: ("precision", 0.0..1.02),
    };
    let all: Vec<Line> = rows
        .iter()
        .filter_map(|row| {
            let curve = row.curve.as_ref()?;
            let points =
                curve.points.iter().map(|p| (p.hits / curve.positives, p.hits / (p.hits + p.false_alarms)));
            Some(Line {
                name: format!("{} {:.3}", row.name(), row.values[0]),
                points: thinned(points),
                main: false,
            })
        })
        .collect();
    lines(&axes, &all)
}

/// AP against the strength of one kind of perturbation; `None` if it was not requested.
fn robustness(rows: &[Row], kind: &str) -> anyhow::Result<Option<String>> {
    let Some(some) = rows.iter().find(|r| r.after.kind() == kind) else { return Ok(None) };
    let (_, label) = some.after.strength();
    let mut of_set: BTreeMap<(bool, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for row in rows {
        let strength = match row.after {
            Perturbation::AsStored => some.after.harmless(),
            after if after.kind() == kind => Some(after.strength().0),
            _ => None,
        };
        if let Some(strength) = strength {
            of_set.entry((row.set.is_none(), row.name())).or_default().push((strength, row.values[0]));
        }
    }
    let all: Vec<Line> = of_set
        .into_iter()
        .map(|((main, name), mut points)| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line { name: name.to_owned(), points, main }
        })
        .collect();
    let strengths = || all.iter().flat_map(|l| l.points.iter().map(|p| p.0));
    let (low, high) = (strengths().fold(f64::MAX, f64::min), strengths().fold(f64::MIN, f64::max));
    // A single strength is a dot: give it some width.
    let margin = if high > low { 0.0 } else { 0.5 };
    let title = format!("Average precision after {kind}");
    let axes =
        Axes { title: &title, x: (label, low - margin..high + margin), y: ("average precision", 0.0..1.02) };
    lines(&axes, &all).map(Some)
}
