//! What quantisation did and what it cost.

use serde::Serialize;

use super::pixels::Normalisation;
use super::ranges::Clipping;

/// Logits of the quantised model against those of the float model, over the held-out tiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Mean magnitude.
    pub mean: f64,
    /// Largest magnitude.
    pub max: f64,
    /// Square root of the mean square.
    pub rms: f64,
    /// Standard deviation of the float model's logits, for comparison with the others.
    pub spread: f64,
    /// Number of tiles.
    pub tiles: usize,
}

impl Difference {
    /// Between two lists of logits, tile by tile.
    pub(super) fn between(float: &[f32], quantised: &[f32]) -> Self {
        let n = float.len().max(1) as f64;
        let mean_of = |f: &dyn Fn(f64, f64) -> f64| {
            float.iter().zip(quantised).map(|(a, b)| f(f64::from(*a), f64::from(*b))).sum::<f64>() / n
        };
        let centre = mean_of(&|a, _| a);
        Self {
            mean: mean_of(&|a, b| (a - b).abs()),
            max: float.iter().zip(quantised).map(|(a, b)| f64::from(a - b).abs()).fold(0.0, f64::max),
            rms: mean_of(&|a, b| (a - b).powi(2)).sqrt(),
            spread: mean_of(&|a, _| (a - centre).powi(2)).sqrt(),
            tiles: float.len(),
        }
    }
}

/// Signal and noise of one value between layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Noise {
    /// Node that computes it.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// Ratio of signal to noise in dB, with the noise of all layers before.
    pub snr_db: f64,
}

/// A variant that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// Its description.
    pub what: String,
    /// Its logit error: square root of the mean square.
    pub rms: f64,
    /// Whether it was the best so far.
    pub taken: bool,
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Report {
    /// How ranges were clipped.
    pub clipping: Clipping,
    /// Whether weights were rounded to minimise the error of their layer's sums, not to the
    /// nearest.
    pub rounding_fitted: bool,
    /// Whether biases were corrected.
    pub bias_corrected: bool,
    /// Whether channels were equalised across layers.
    pub equalised: bool,
    /// What became of the normalisation of pixels.
    pub normalisation: Normalisation,
    /// Largest difference of a logit that folding alone makes, before anything is rounded.
    pub folding: f64,
    /// Layers that run in int8, by name.
    pub layers: Vec<String>,
    /// Operators that stay in float, each with its name.
    pub float: Vec<String>,
    /// Layers that were kept in float because it pays off.
    pub kept: Vec<String>,
    /// Error of the logit.
    pub difference: Difference,
    /// Value by value, the logit last.
    pub noise: Vec<Noise>,
    /// What was tried, in order.
    pub trials: Vec<Trial>,
}
