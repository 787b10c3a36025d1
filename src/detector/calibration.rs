//! A site's calibration: threshold and temperature for a stated rate of false alarms, as a TOML
//! file that overrides the model's card (`[model] calibration`). Written by `spotd calibrate`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::card::Card;
use super::error::CalibrationError;

/// How the threshold was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The footage has enough blocks above the threshold to count.
    Counted,
    /// The footage is too short for the requested rate: the threshold is extrapolated by an
    /// exponential tail.
    ExponentialTail,
}

/// A calibration, as written in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// SHA-256 of the ONNX file that it is for.
    pub model_sha256: String,
    /// Name and version of that model, for people.
    pub model: String,
    /// Divides the logit before the sigmoid, instead of the card's. Positive.
    pub temperature: f64,
    /// Score (0..1) from which a source is synthetic.
    pub threshold: f64,
    /// Score (0..1) from which it is unsure.
    pub unsure_from: f64,
    /// Requested false alarms per camera and day.
    pub per_day: f64,
    /// Lower end of the 95 % confidence interval of the true rate, if the site stays as it was
    /// filmed and the method's assumptions hold.
    pub per_day_low: f64,
    /// Upper end of that interval.
    pub per_day_high: f64,
    /// How the threshold was found.
    pub method: Method,
    /// Frames in the median for which it holds (`[verdict] window`).
    pub window: usize,
    /// Frames a second for which it holds (`[[source]] fps`).
    pub fps: f64,
    /// Tiles in a frame for which it holds (`[model] max_tiles`).
    pub max_tiles: usize,
    /// Seconds of footage known to be real.
    pub real_seconds: f64,
    /// Seconds after which scores of that footage are no longer correlated.
    pub block_seconds: f64,
    /// Blocks of that length in the footage.
    pub blocks: usize,
    /// How many of these are false alarms of a flag log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_alarms: Option<usize>,
    /// Share (0..1) of the known generated footage that is at or above the threshold, if there was
    /// any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fake_flagged: Option<f64>,
    /// Day on which it was made, `YYYY-MM-DD`.
    pub date: String,
}

impl Calibration {
    /// Reads and validates a calibration.
    ///
    /// # Errors
    /// [`CalibrationError`] names the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, CalibrationError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| CalibrationError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// Parses and validates a calibration's text; `path` is for the messages.
    ///
    /// # Errors
    /// [`CalibrationError::Invalid`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, CalibrationError> {
        let bad = |reason: String| CalibrationError::Invalid { path: path.to_owned(), reason };
        let own: Self = toml::from_str(text).map_err(|e| bad(e.to_string().trim_end().to_owned()))?;
        for (name, value) in [("threshold", own.threshold), ("unsure_from", own.unsure_from)] {
            if !(value > 0.0 && value < 1.0) {
                return Err(bad(format!("{name} = {value} must lie between 0 and 1")));
            }
        }
        if own.unsure_from > own.threshold {
            let Self { unsure_from, threshold, .. } = own;
            return Err(bad(format!(
                "unsure_from = {unsure_from} must not be above threshold = {threshold}"
            )));
        }
        if !(own.temperature.is_finite() && own.temperature > 0.0) {
            return Err(bad(format!("temperature = {} must be positive", own.temperature)));
        }
        Ok(own)
    }

    /// The calibration as the text of its file.
    pub fn to_toml(&self) -> String {
        let body = toml::to_string_pretty(self).expect("a calibration holds nothing that TOML cannot");
        format!("# Written by `spotd calibrate`; load it with [model] calibration.\n{body}")
    }

    /// Replaces temperature and limits in a model's card; `path` is for the message.
    ///
    /// # Errors
    /// [`CalibrationError::OtherModel`].
    pub fn apply(&self, card: &mut Card, path: &Path) -> Result<(), CalibrationError> {
        if !self.model_sha256.eq_ignore_ascii_case(&card.sha256) {
            return Err(CalibrationError::OtherModel {
                path: path.to_owned(),
                wanted: self.model_sha256.clone(),
                model: format!("{} {}", card.name, card.version),
                found: card.sha256.clone(),
            });
        }
        card.temperature = self.temperature;
        card.threshold = self.threshold;
        card.unsure_from = self.unsure_from;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Calibration {
        Calibration {
            model_sha256: "0".repeat(64),
            model: "test 1".into(),
            temperature: 2.0,
            threshold: 0.9,
            unsure_from: 0.7,
            per_day: 0.1,
            per_day_low: 0.05,
            per_day_high: 0.4,
            method: Method::ExponentialTail,
            window: 9,
            fps: 2.0,
            max_tiles: 9,
            real_seconds: 600.0,
            block_seconds: 9.0,
            blocks: 66,
            false_alarms: None,
            fake_flagged: None,
            date: "2026-11-24".into(),
        }
    }

    #[test]
    fn it_survives_its_own_file_and_odd_values_are_named() {
        let own = sample();
        let path = Path::new("site.toml");
        assert_eq!(Calibration::parse(&own.to_toml(), path).expect("parses"), own);
        for (from, to, word) in [
            ("threshold = 0.9", "threshold = 1.5", "threshold = 1.5"),
            ("unsure_from = 0.7", "unsure_from = 0.95", "must not be above"),
            ("temperature = 2.0", "temperature = -1.0", "must be positive"),
            ("window = 9", "windows = 9", "windows"),
            ("exponential-tail", "guessed", "guessed"),
        ] {
            let text = own.to_toml().replace(from, to);
            let error = Calibration::parse(&text, path).expect_err(to).to_string();
            assert!(error.contains("site.toml") && error.contains(word), "{error}");
        }
    }
}
