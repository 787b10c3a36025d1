//! Plots as SVG text, in one style for all commands.

use std::ops::Range;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;

/// Colours that can be distinguished even with colour blindness (Okabe and Ito, 2008), without
/// yellow.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(110, 110, 110),
];

/// A line with its name.
pub(super) struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Whether it is drawn thick and black, as the summary of the others.
    pub main: bool,
}

/// A plot's title and axes.
pub(super) struct Axes<'a> {
    pub title: &'a str,
    pub x: (&'a str, Range<f64>),
    pub y: (&'a str, Range<f64>),
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn svg(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE).map_err(|e| anyhow!("{e}"))?;
        draw(&area)?;
        area.present().map_err(|e| anyhow!("{e}"))?;
    }
    Ok(text)
}

/// A plot of lines, with a legend to the right.
pub(super) fn lines(axes: &Axes<'_>, lines: &[Line]) -> anyhow::Result<String> {
    let longest = lines.iter().map(|l| l.name.chars().count()).max().unwrap_or(0) as u32;
    let legend = 60 + 7 * longest;
    svg((620 + legend, 460), |area| {
        let (plot, right) = area.split_horizontally(620);
        draw_lines(&plot, axes, lines).map_err(|e| anyhow!("{e}"))?;
        for (at, line) in lines.iter().enumerate() {
            let y = 44 + 18 * at as i32;
            right
                .draw(&PathElement::new(vec![(4, y), (28, y)], style(at, line)))
                .map_err(|e| anyhow!("{e}"))?;
            let font = ("sans-serif", 13).into_font().color(&BLACK);
            right.draw(&Text::new(line.name.clone(), (34, y - 7), font)).map_err(|e| anyhow!("{e}"))?;
        }
        Ok(())
    })
}

fn style(at: usize, line: &Line) -> ShapeStyle {
    if line.main {
        return BLACK.stroke_width(3);
    }
    // After the last colour they repeat, paler.
    let alpha = if at < COLOURS.len() { 1.0 } else { 0.5 };
    COLOURS[at % COLOURS.len()].mix(alpha).stroke_width(2)
}

fn draw_lines<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    axes: &Axes<'_>,
    lines: &[Line],
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let mut chart = ChartBuilder::on(area)
        .caption(axes.title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(axes.x.1.clone(), axes.y.1.clone())?;
    chart
        .configure_mesh()
        .x_desc(axes.x.0)
        .y_desc(axes.y.0)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 12))
        .draw()?;
    for (at, line) in lines.iter().enumerate() {
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style(at, line)))?;
    }
    Ok(())
}

/// Scores of two classes in one panel.
pub(super) struct Panel<'a> {
    pub name: &'a str,
    pub real: &'a [f64],
    pub fake: &'a [f64],
}

/// Bins of a histogram over 0..1.
const BINS: usize = 40;

/// Histograms of scores 0..1, one panel per set, three in a row: photographs blue, generated
/// orange, a line at the threshold. They show shares, so that sides of different sizes are
/// comparable.
pub(super) fn histograms(title: &str, threshold: f64, panels: &[Panel<'_>]) -> anyhow::Result<String> {
    let rows = panels.len().div_ceil(3).max(1);
    svg((960, 70 + 210 * rows as u32), |area| {
        let (head, body) = area.split_vertically(60);
        let font = ("sans-serif", 16).into_font().color(&BLACK);
        head.draw(&Text::new(title.to_owned(), (16, 10), font)).map_err(|e| anyhow!("{e}"))?;
        let small = |colour: RGBColor| ("sans-serif", 13).into_font().color(&colour);
        head.draw(&Text::new("photographs", (16, 34), small(COLOURS[0]))).map_err(|e| anyhow!("{e}"))?;
        head.draw(&Text::new("generated", (110, 34), small(COLOURS[1]))).map_err(|e| anyhow!("{e}"))?;
        head.draw(&Text::new(format!("| threshold {threshold:.3}"), (190, 34), small(BLACK)))
            .map_err(|e| anyhow!("{e}"))?;
        for (panel, area) in panels.iter().zip(body.split_evenly((rows, 3))) {
            draw_histogram(&area, threshold, panel).map_err(|e| anyhow!("{e}"))?;
        }
        Ok(())
    })
}

fn shares(scores: &[f64]) -> [f64; BINS] {
    let mut bins = [0.0; BINS];
    for score in scores {
        bins[((score * BINS as f64) as usize).min(BINS - 1)] += 1.0 / scores.len() as f64;
    }
    bins
}

fn draw_histogram<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    threshold: f64,
    panel: &Panel<'_>,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let sides = [(shares(panel.real), COLOURS[0]), (shares(panel.fake), COLOURS[1])];
    let top = sides.iter().flat_map(|(bins, _)| bins).fold(0.0f64, |a, b| a.max(*b)) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(panel.name, ("sans-serif", 13))
        .margin(6)
        .x_label_area_size(22)
        .y_label_area_size(36)
        .build_cartesian_2d(0.0..1.0, 0.0..top.max(0.01))?;
    chart.configure_mesh().disable_mesh().x_labels(6).y_labels(4).label_style(("sans-serif", 11)).draw()?;
    for (bins, colour) in sides {
        let bar = |(at, share): (usize, &f64)| {
            let x = |n: usize| n as f64 / BINS as f64;
            Rectangle::new([(x(at), 0.0), (x(at + 1), *share)], colour.mix(0.55).filled())
        };
        chart.draw_series(bins.iter().enumerate().filter(|(_, share)| **share > 0.0).map(bar))?;
    }
    chart.draw_series(LineSeries::new([(threshold, 0.0), (threshold, top)], BLACK.stroke_width(1)))?;
    Ok(())
}

/// Leaves out points close to the one before them: they are invisible, and files of many megabytes
/// are slow to display. Both axes must span about 1.
pub(super) fn thinned(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    let mut last = None;
    for point in points {
        let near = kept.last().is_some_and(|k| (k.0 - point.0).abs() + (k.1 - point.1).abs() < 0.002);
        last = Some(point);
        if !near {
            kept.push(point);
        }
    }
    if let Some(last) = last
        && kept.last() != Some(&last)
    {
        kept.push(last);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_names_its_axes_and_lines_and_draws_each() {
        let line = |name: &str, main| Line { name: name.into(), points: vec![(0.0, 0.0), (1.0, 0.5)], main };
        let axes = Axes { title: "T <1>", x: ("across", 0.0..1.0), y: ("up", 0.0..1.0) };
        let text = lines(&axes, &[line("one", false), line("all", true)]).expect("drawn");
        for word in ["<svg", "T &lt;1&gt;", "across", "up", "one", "all", "</svg>"] {
            assert!(text.contains(word), "{word} is missing");
        }
        // Each occurs in the plot and in the legend.
        assert_eq!(text.matches("#0072B2").count(), 2, "{text}");
    }

    #[test]
    fn histograms_are_shares() {
        assert_eq!(shares(&[0.0, 0.001, 1.0, 1.0])[0], 0.5);
        assert_eq!(shares(&[0.0, 0.001, 1.0, 1.0])[BINS - 1], 0.5);
        let panels = [Panel { name: "set a", real: &[0.1, 0.2], fake: &[0.9] }];
        let text = histograms("scores", 0.7, &panels).expect("drawn");
        assert!(text.contains("set a") && text.contains("threshold 0.700"));
    }

    #[test]
    fn thinning_keeps_both_ends() {
        let many = (0..=10_000).map(|n| (f64::from(n) / 1e4, 0.0));
        let few = thinned(many);
        assert!(few.len() < 600);
        assert_eq!((few[0], few[few.len() - 1]), ((0.0, 0.0), (1.0, 0.0)));
    }
}
