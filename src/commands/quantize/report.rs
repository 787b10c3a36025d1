//! The output of `quantize`: lines for people, one JSON object for programs.

use std::path::Path;

use serde_json::{Value, json};

use super::BothRows;
use super::footage::Gathered;
use crate::commands::eval::Row;
use spotd::detector::card::{Card, Measured};
use spotd::quantize::Quantized;
use spotd::shown::{Shown as _, exact};

/// All results.
pub(super) struct Found<'a> {
    pub gathered: &'a Gathered,
    pub made: &'a Quantized,
    pub card: &'a Card,
    /// Rows of the float and of the int8 model.
    pub measured: Option<&'a BothRows>,
    /// Sizes of the two files in bytes.
    pub sizes: (usize, usize),
    /// How the new model runs here, such as `int8 on avx2, from pixels`.
    pub runs: &'a str,
}

/// A row in a card's form; means are left out.
pub(super) fn measured(row: &Row) -> Option<Measured> {
    let round = |v: f64| (v * 1e4).round() / 1e4;
    Some(Measured {
        auc: None,
        auc_content: None,
        seen: None,
        set: row.set.clone()?,
        perturbation: row.after.to_string(),
        ap: round(row.values[0]),
        ap_blur_alone: Some(round(row.values[6])),
        ap_chance: round(row.fake as f64 / (row.real + row.fake).max(1) as f64),
        real: row.real,
        fake: row.fake,
        real_flagged: round(row.values[7]),
        fake_flagged: round(row.values[8]),
        date: jiff::Zoned::now().date().to_string(),
    })
}

impl Found<'_> {
    /// For people.
    pub fn lines(&self, out: &Path) -> Vec<String> {
        let (report, gathered) = (&self.made.report, self.gathered);
        let mut lines = vec![format!(
            "{} pictures, {} tiles to calibrate with, {} held out ({} pictures too small or flat, {} unreadable)",
            gathered.pictures,
            gathered.tiles.calibrate.len(),
            gathered.tiles.held_out.len(),
            gathered.without,
            gathered.unreadable
        )];
        let inputs: Vec<String> =
            gathered.inputs.iter().map(|(input, pictures)| format!("{pictures} of {input}")).collect();
        lines.push(format!("calibrated with {}", inputs.join(", ")));
        lines.push(String::from("tried, with the error of the logit (root of the mean square):"));
        for trial in &report.trials {
            let mark = if trial.taken { "*" } else { " " };
            lines.push(format!("  {mark} {:9.5}  {}", trial.rms, trial.what));
        }
        lines.push(String::from("signal to noise behind each operator, with the noise of all before:"));
        for noise in &report.noise {
            lines.push(format!("  {:6.1} dB  {} ({})", noise.snr_db, noise.operator, noise.node));
        }
        let normalisation = &report.normalisation;
        if normalisation.folded {
            let exact = if normalisation.padding_error == 0.0 {
                "exact".to_owned()
            } else {
                format!("its padding is off by {:.1} levels of 255 at most", normalisation.padding_error)
            };
            lines.push(format!("the normalisation of pixels was folded into the first convolution; {exact}"));
        }
        lines.push(format!("{} layers in int8", report.layers.len()));
        if !report.kept.is_empty() {
            lines.push(format!("kept in float, because it pays off: {}", report.kept.join(", ")));
        }
        if !report.float.is_empty() {
            lines.push(format!("in float: {}", report.float.join(", ")));
        }
        lines.push(format!("runs here as {}", self.runs));
        let d = &report.difference;
        lines.push(format!(
            "logit against f32 over {} tiles: {:.4} in the mean, {:.4} at most; the logits spread by {:.3}",
            d.tiles, d.mean, d.max, d.spread
        ));
        if let Some((float, int8)) = self.measured {
            lines.push(format!("{:24}  {:16}  AP f32   int8  difference", "set", "after"));
            for (f, i) in float.iter().zip(int8) {
                lines.push(format!(
                    "{:24}  {:16}   {:.3}  {:.3}  {:+.4}",
                    f.name(),
                    f.after.to_string(),
                    f.values[0],
                    i.values[0],
                    i.values[0] - f.values[0]
                ));
            }
        }
        lines.push(format!(
            "written to {} ({} KiB instead of {}) and {}; run it with [model] path = \"{}\"",
            out.shown(),
            self.sizes.1 / 1024,
            self.sizes.0 / 1024,
            Card::path_for(out).shown(),
            out.shown()
        ));
        lines
    }

    /// For programs.
    pub fn json(&self, out: &Path) -> String {
        let (report, gathered) = (&self.made.report, self.gathered);
        let eval = self.measured.map(|(float, int8)| {
            float
                .iter()
                .zip(int8)
                .map(|(f, i)| {
                    json!({
                        "set": f.name(), "after": f.after.to_string(), "real": f.real, "fake": f.fake,
                        "ap_f32": f.values[0], "ap_int8": i.values[0],
                    })
                })
                .collect::<Vec<Value>>()
        });
        json!({
            "out": exact(out.as_os_str()).0,
            "sha256": self.card.sha256,
            "precision": self.card.precision,
            "bytes": self.sizes.1,
            "pictures": gathered.pictures,
            "calibrated_with": gathered
                .inputs
                .iter()
                .map(|(input, pictures)| json!({ "input": input, "pictures": pictures }))
                .collect::<Vec<Value>>(),
            "too_small_or_flat": gathered.without,
            "unreadable": gathered.unreadable,
            "tiles": gathered.tiles.calibrate.len(),
            "tiles_held_out": gathered.tiles.held_out.len(),
            "clipping": report.clipping.to_string(),
            "rounding_fitted": report.rounding_fitted,
            "bias_corrected": report.bias_corrected,
            "equalised": report.equalised,
            "normalisation_folded": report.normalisation.folded,
            "padding_error": report.normalisation.padding_error,
            "layers": report.layers,
            "float": report.float,
            "kept_in_float": report.kept,
            "runs": self.runs,
            "logit": report.difference,
            "noise": report.noise,
            "tried": report.trials,
            "eval": eval,
        })
        .to_string()
    }
}
