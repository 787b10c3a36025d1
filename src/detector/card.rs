//! The model card: a TOML file beside the ONNX file that says what the model is and how well it
//! performed when measured. The daemon takes tile size, threshold and temperature from it, and
//! refuses a model whose bytes differ from the ones that the card describes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ModelError;
use super::conditions::{Conditions, Reach};
use crate::identity::Precision;

/// One measurement: how well the model ranks a set's generated pictures above its real ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Name of the set.
    pub set: String,
    /// What was done to the images first: `as stored`, `jpeg 75`, ...
    pub perturbation: String,
    /// Average precision, 0..1, as scikit-learn defines it.
    pub ap: f64,
    /// Area under the ROC curve, 0..1; chance is 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// The same for the pictures shrunk by four, which leaves content but no traces: a model that
    /// does well there has learnt the set's motifs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc_content: Option<f64>,
    /// Whether training saw other pictures of the same generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<bool>,
    /// AP of a baseline on the same images, which ranks by blur (minus high-frequency energy): what
    /// the model has to beat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ap_blur_alone: Option<f64>,
    /// AP of chance: the share of generated pictures.
    pub ap_chance: f64,
    /// Number of real images.
    pub real: usize,
    /// Number of generated images.
    pub fake: usize,
    /// Share of the real images above the threshold, 0..1.
    pub real_flagged: f64,
    /// Share of the generated images above the threshold, 0..1.
    pub fake_flagged: f64,
    /// Day of the measurement, `YYYY-MM-DD`.
    pub date: String,
}

/// Where the weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The training data, by name and number.
    pub data: String,
    /// How, in a sentence or two; the commands are in `docs/TRAINING.md`.
    pub recipe: String,
    /// Minutes of wall-clock time.
    pub minutes: f64,
    /// Seed of the run.
    pub seed: u64,
}

/// The coherent part beside the network, and how the two are combined: the logit of a frame is
/// `network * (mean of its tiles' logits) + weight * (coherent logit) + bias`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoherentPart {
    /// ONNX file of the head, in the card's folder: float32 `[1, 972]` to `[1, 1]`, see
    /// `detector::coherence`.
    pub file: String,
    /// SHA-256 of that file, lower-case hexadecimal.
    pub sha256: String,
    /// Weight of the network's logit, at least 0.
    pub network: f64,
    /// Weight of the coherent logit, at least 0.
    pub weight: f64,
    /// Constant that is added.
    pub bias: f64,
    /// Factors by which a picture may have been scaled after it was generated, see
    /// `detector::coherence::readings`; 1.5 means enlarged. Each is 0.25 to 4, but not 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scales: Vec<f64>,
    /// Subtracted from the logit of a reading that assumes such a factor, at least 0: since the
    /// highest of several readings counts, each needs stronger evidence than a single one would.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub scaled_less: f64,
    /// The head's training data, by name and number.
    pub data: String,
}

/// A model card, as written in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Name of the model, as used in records and messages.
    pub name: String,
    /// Version of the weights.
    pub version: String,
    /// SHA-256 of the ONNX file, lower-case hexadecimal.
    pub sha256: String,
    /// Number format.
    pub precision: Precision,
    /// Side of the model's square input tile, in pixels.
    pub tile: u32,
    /// Divides the logit before the sigmoid, so that a score can be read as a probability.
    /// Positive.
    pub temperature: f64,
    /// Score (0..1) from which a frame counts as synthetic.
    pub threshold: f64,
    /// Score (0..1) from which a frame is no longer clear; between this and `threshold` it is
    /// unsure.
    pub unsure_from: f64,
    /// Multiply-accumulate operations for one tile, in millions.
    pub mmac: f64,
    /// Number of weights.
    pub parameters: u64,
    /// Licence of the weights.
    pub licence: String,
    /// What the model is known to miss or to get wrong.
    pub known_failures: Vec<String>,
    /// Where the weights come from.
    pub training: Training,
    /// The coherent part; without one the network judges alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coherence: Option<CoherentPart>,
    /// The recall under various conditions; without it no frame counts as degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// Results, each with its conditions.
    #[serde(default)]
    pub measured: Vec<Measured>,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl CoherentPart {
    fn check(&self, is_hash: impl Fn(&str) -> bool) -> Result<(), String> {
        let path = Path::new(&self.file);
        if path.file_name() != Some(path.as_os_str()) {
            return Err(format!("file = {:?} must be the name of a file in the card's folder", self.file));
        }
        if !is_hash(&self.sha256) {
            return Err("sha256 must be 64 hexadecimal digits".into());
        }
        if let Some(wrong) = self.scales.iter().find(|&&s| !(0.25..=4.0).contains(&s) || s == 1.0) {
            return Err(format!("scales holds {wrong}; factors must be 0.25 to 4, and not 1"));
        }
        let weights = [("network", self.network), ("weight", self.weight), ("scaled_less", self.scaled_less)];
        for (name, weight) in weights {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(format!("{name} = {weight} must be 0 or more"));
            }
        }
        if !self.bias.is_finite() {
            return Err(format!("bias = {} must be a number", self.bias));
        }
        Ok(())
    }
}

impl Card {
    /// The card that belongs to an ONNX file: same folder, same name, ending `.toml`.
    pub fn path_for(model: &Path) -> PathBuf {
        model.with_extension("toml")
    }

    /// Reads and validates a card.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML of this form, or holds a value out of range.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ModelError::CardUnreadable { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// Parses and validates a card's text; `path` is for the messages.
    ///
    /// # Errors
    /// As [`Card::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::CardInvalid { path: path.to_owned(), reason };
        let card: Card = toml::from_str(text).map_err(|e| bad(e.to_string().trim_end().to_owned()))?;
        let unit = |name: &str, v: f64| {
            (v > 0.0 && v < 1.0)
                .then_some(())
                .ok_or_else(|| bad(format!("{name} = {v} must lie between 0 and 1")))
        };
        unit("threshold", card.threshold)?;
        unit("unsure_from", card.unsure_from)?;
        if card.unsure_from > card.threshold {
            return Err(bad(format!(
                "unsure_from = {} must not be above threshold = {}",
                card.unsure_from, card.threshold
            )));
        }
        if !(card.temperature.is_finite() && card.temperature > 0.0) {
            return Err(bad(format!("temperature = {} must be positive", card.temperature)));
        }
        if !(32..=1024).contains(&card.tile) {
            return Err(bad(format!("tile = {} must be 32 to 1024 pixels", card.tile)));
        }
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hash(&card.sha256) {
            return Err(bad("sha256 must be 64 hexadecimal digits".into()));
        }
        if let Some(part) = &card.coherence {
            part.check(is_hash).map_err(|reason| bad(format!("[coherence] {reason}")))?;
        }
        if let Some(reach) = &card.reach {
            reach.check().map_err(|reason| bad(format!("[reach] {reason}")))?;
        }
        Ok(card)
    }

    /// Whether recall under these conditions is too low for "clear" to mean anything.
    pub fn is_degraded(&self, conditions: Conditions) -> bool {
        self.reach.as_ref().is_some_and(|reach| reach.is_degraded(conditions))
    }

    /// The card as the text of its file.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a card holds nothing that TOML cannot")
    }

    /// Score of a logit: `sigmoid(logit / temperature)`, 0..1, 1 = synthetic.
    pub fn score(&self, logit: f32) -> f64 {
        1.0 / (1.0 + (-f64::from(logit) / self.temperature).exp())
    }

    /// Mean AP of the sets measured under one perturbation; `None` if there is none.
    pub fn mean_ap(&self, perturbation: &str) -> Option<f64> {
        let aps: Vec<f64> =
            self.measured.iter().filter(|m| m.perturbation == perturbation).map(|m| m.ap).collect();
        (!aps.is_empty()).then(|| aps.iter().sum::<f64>() / aps.len() as f64)
    }
}

/// SHA-256 of bytes as lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> Card {
        Card {
            name: "test".into(),
            version: "1".into(),
            sha256: "0".repeat(64),
            precision: Precision::F32,
            tile: 64,
            temperature: 1.5,
            threshold: 0.8,
            unsure_from: 0.5,
            mmac: 1.0,
            parameters: 10,
            licence: "MIT".into(),
            known_failures: vec!["everything".into()],
            training: Training { data: "none".into(), recipe: "none".into(), minutes: 0.0, seed: 1 },
            coherence: None,
            reach: None,
            measured: vec![],
        }
    }

    #[test]
    fn a_card_survives_its_own_file() {
        let card = sample();
        assert_eq!(Card::parse(&card.to_toml(), Path::new("c.toml")).expect("parses"), card);
    }

    #[test]
    fn out_of_range_values_are_named() {
        for (from, to, word) in [
            ("threshold = 0.8", "threshold = 1.2", "threshold"),
            ("unsure_from = 0.5", "unsure_from = 0.9", "unsure_from"),
            ("temperature = 1.5", "temperature = 0.0", "temperature"),
            ("tile = 64", "tile = 8", "tile"),
            ("version = \"1\"", "versoin = \"1\"", "versoin"),
        ] {
            let text = sample().to_toml().replace(from, to);
            let error = Card::parse(&text, Path::new("c.toml")).expect_err("refused").to_string();
            assert!(error.contains(word) && error.contains("c.toml"), "{error}");
        }
    }

    #[test]
    fn temperature_softens_a_score() {
        let mut card = sample();
        card.temperature = 1.0;
        let sharp = card.score(2.0);
        card.temperature = 2.0;
        assert!(card.score(2.0) < sharp);
        assert!((card.score(0.0) - 0.5).abs() < 1e-12);
    }
}
