//! Plots as SVG, with plotters: this needs no fonts or images.

use crate::{checkpoint, fit::metrics::Line};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

/// A named curve.
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Points, by x.
    pub points: Vec<(f64, f64)>,
}

/// Loss above, accuracy and AP of the validations below, over the steps of a run.
pub fn run(lines: &[Line], title: &str, path: &Path) -> Result<()> {
    let losses = lines.iter().map(|line| (line.step as f64, line.loss)).collect();
    let of = |value: fn(&crate::fit::metrics::Validation) -> f64| {
        lines.iter().filter_map(|line| Some((line.step as f64, value(line.validation.as_ref()?)))).collect()
    };
    let above = [
        Curve { name: "training loss".into(), points: losses },
        Curve { name: "validation loss".into(), points: of(|v| v.loss) },
    ];
    let below = [
        Curve { name: "validation accuracy".into(), points: of(|v| v.accuracy) },
        Curve { name: "validation AP".into(), points: of(|v| v.ap) },
    ];
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (900, 700)).into_drawing_area();
        area.fill(&WHITE).map_err(fail)?;
        let (upper, lower) = area.split_vertically(350);
        curves(&upper, title, "step", &above, None)?;
        curves(&lower, "", "step", &below, Some((0.0, 1.0)))?;
        area.present().map_err(fail)?;
    }
    checkpoint::write(path, text.as_bytes())
}

fn fail(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot cannot be drawn: {error}")
}

fn curves<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    title: &str,
    x_name: &str,
    curves: &[Curve],
    range: Option<(f64, f64)>,
) -> Result<()> {
    let all = || curves.iter().flat_map(|curve| &curve.points).filter(|(_, y)| y.is_finite());
    let right = all().map(|(x, _)| *x).fold(1.0, f64::max);
    let (low, high) = range.unwrap_or((0.0, 1.05 * all().map(|(_, y)| *y).fold(1e-3, f64::max)));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..right, low..high)
        .map_err(fail)?;
    chart.configure_mesh().x_desc(x_name).light_line_style(WHITE).draw().map_err(fail)?;
    for (at, curve) in curves.iter().enumerate() {
        let colour = Palette99::pick(at).to_rgba();
        chart
            .draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)))
            .map_err(fail)?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart
            .draw_series(curve.points.iter().map(|point| Circle::new(*point, 2, colour.filled())))
            .map_err(fail)?;
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw().map_err(fail)?;
    Ok(())
}

/// A bar for each `(group, bar, value)`, values in 0..1, with groups side by side and a line at
/// `chance`.
pub fn bars(
    rows: &[(String, String, f64)],
    title: &str,
    y_name: &str,
    chance: f64,
    path: &Path,
) -> Result<()> {
    let mut text = String::new();
    {
        let width = (160 + 62 * rows.len() as u32).max(700);
        let area = SVGBackend::with_string(&mut text, (width, 460)).into_drawing_area();
        area.fill(&WHITE).map_err(fail)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(96)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..rows.len() as f64, 0.0..1.0)
            .map_err(fail)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_desc(y_name)
            .light_line_style(WHITE)
            .draw()
            .map_err(fail)?;
        let mut groups: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        groups.dedup();
        for (at, (group, name, value)) in rows.iter().enumerate() {
            let colour = Palette99::pick(groups.iter().position(|g| g == group).unwrap_or(0)).to_rgba();
            let x = at as f64;
            chart
                .draw_series([Rectangle::new(
                    [(x + 0.15, 0.0), (x + 0.85, value.clamp(0.0, 1.0))],
                    colour.filled(),
                )])
                .map_err(fail)?;
            let figure = ("sans-serif", 12).into_font();
            let put = |text: String, at: (f64, f64), down: i32, turned: bool| {
                let (px, py) = chart.backend_coord(&at);
                let font = if turned { figure.transform(FontTransform::Rotate90) } else { figure.clone() };
                let style = TextStyle::from(font).color(&BLACK);
                area.draw_text(&text, &style, (px, py + down)).map_err(fail)
            };
            put(format!("{value:.3}"), (x + 0.2, value.clamp(0.0, 1.0)), -14, false)?;
            put(name.clone(), (x + 0.6, 0.0), 4, true)?;
        }
        chart
            .draw_series(LineSeries::new([(0.0, chance), (rows.len() as f64, chance)], BLACK.stroke_width(1)))
            .map_err(fail)?;
        area.present().map_err(fail)?;
    }
    checkpoint::write(path, text.as_bytes())
}
