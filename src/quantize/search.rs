//! Tries several ways to quantise and chooses the one with the smallest error of the logit.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::activations::{bias_tiles, corrected_biases, histograms, signal_to_noise};
use super::equalise::equalise;
use super::error::QuantizeError;
use super::graph::Graph;
use super::pixels::{self, Normalisation, OFFSET, Pixels};
use super::ranges::{Clipping, Step, step};
use super::report::{Difference, Noise, Report, Trial};
use super::rounding::rounded_weights;
use super::run::Runner;
use super::scheme::{Scheme, scheme};
use super::simplify::simplify;
use super::statistics::Histogram;
use super::weights::Bytes;
use super::write::{Recipe, dequantised};
use super::{Options, Progress, Quantized, Tiles};

/// Fewest tiles for calibration and for measuring.
const FEWEST: usize = 4;

/// Tiles for measuring signal and noise at most.
const NOISE_TILES: usize = 8;

/// Equalisation, normalisation in float and layers in float must reduce the error to less than this
/// fraction of what it was: none of them is free, in range or in time.
const WORTH_EQUALISING: f64 = 0.9;
const WORTH_UNFOLDED: f64 = 0.8;
const WORTH_FLOAT: f64 = 0.6;

/// Below this fraction of the logits' spread the error does not matter, and nothing is kept in
/// float because of it.
const HARMLESS: f64 = 0.02;

/// A border that is off by this many levels of 0..255 or less is as good as exact.
const EXACT_ENOUGH: f32 = 0.5;

/// How a graph is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// Channels are equalised across layers.
    Equalised,
    /// The normalisation of pixels stays in float, since its padding cannot be folded exactly.
    Unfolded,
}

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounding {
    Nearest,
    /// Minimises the error of each layer's sums.
    Fitted,
}

/// One way to quantise.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Way {
    clipping: Clipping,
    rounding: Rounding,
    /// Whether biases are corrected.
    corrected: bool,
}

/// A prepared float graph, with its activation statistics.
struct Prepared {
    variant: Variant,
    graph: Graph,
    pixels: Option<Pixels>,
    normalisation: Normalisation,
    scheme: Scheme,
    histograms: HashMap<String, Histogram>,
    /// Weights rounded for the layers' inputs.
    weights: HashMap<String, Bytes>,
}

/// The best so far.
struct Best {
    prepared: usize,
    way: Way,
    biases: HashMap<String, Vec<f32>>,
    rms: f64,
}

struct Search<'a> {
    options: &'a Options,
    tiles: &'a Tiles,
    shape: [usize; 4],
    progress: &'a dyn Progress,
    /// The float model's logits on the held-out tiles.
    reference: Vec<f32>,
    trials: Vec<Trial>,
}

/// Quantises the float32 model `onnx`.
///
/// # Errors
/// [`QuantizeError`] says what is wrong with the model, the tiles or the options.
pub fn quantize(
    onnx: &[u8],
    tiles: &Tiles,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Quantized, QuantizeError> {
    let original = Graph::parse(onnx)?;
    // tract panics on some damaged files, and offers no check beforehand.
    catch_unwind(AssertUnwindSafe(|| quantize_graph(onnx, &original, tiles, options, progress)))
        .unwrap_or_else(|_| Err(QuantizeError::Panicked))
}

fn quantize_graph(
    onnx: &[u8],
    original: &Graph,
    tiles: &Tiles,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Quantized, QuantizeError> {
    let fewest = tiles.calibrate.len().min(tiles.held_out.len());
    if fewest < FEWEST {
        return Err(QuantizeError::TooFew(tiles.calibrate.len() + tiles.held_out.len(), 2 * FEWEST));
    }
    let shape: [usize; 4] = tiles.calibrate[0]
        .shape()
        .try_into()
        .map_err(|_| QuantizeError::Form("tiles have four dimensions".into()))?;
    progress.begin("float model", tiles.held_out.len());
    let reference = Runner::of_bytes(onnx, &shape)?.logits(&tiles.held_out, options.jobs, progress)?;
    let mut search = Search { options, tiles, shape, progress, reference, trials: vec![] };
    let mut keep = options.keep_float.clone();
    let (mut prepared, mut best) = search.best_of(original, &keep)?;
    let mut kept = Vec::new();
    let spread = Difference::between(&search.reference, &search.reference).spread;
    if options.may_keep_ends && best.rms > HARMLESS * spread {
        for layer in ends(&prepared[best.prepared].scheme) {
            let more: Vec<String> = keep.iter().cloned().chain([layer.clone()]).collect();
            // A network of one layer then has nothing left.
            let Ok((others, other)) = search.again(original, &more, &prepared, &best) else { continue };
            let taken = other.rms < WORTH_FLOAT * best.rms;
            search.tried(format!("{layer} in float"), other.rms, taken);
            if taken {
                kept.push(layer);
                (keep, prepared, best) = (more, others, other);
            }
        }
    }
    let chosen = &prepared[best.prepared];
    let recipe = search.recipe(chosen, best.way, best.biases.clone());
    let graph = recipe.write()?;
    let onnx = graph.encode();
    progress.begin("check", tiles.held_out.len());
    let logits = Runner::of_bytes(&onnx, &search.shape)?.logits(&tiles.held_out, options.jobs, progress)?;
    let noise = search.noise(chosen, &graph)?;
    let folded = Runner::new(&chosen.graph, &search.shape, &[])?;
    progress.begin("folding", tiles.held_out.len());
    let folded = folded.logits(&tiles.held_out, options.jobs, progress)?;
    let report = Report {
        clipping: best.way.clipping,
        rounding_fitted: best.way.rounding == Rounding::Fitted,
        bias_corrected: best.way.corrected,
        equalised: chosen.variant == Variant::Equalised,
        normalisation: chosen.normalisation.clone(),
        folding: Difference::between(&search.reference, &folded).max,
        layers: chosen.scheme.layers.clone(),
        float: chosen.scheme.float.clone(),
        kept,
        difference: Difference::between(&search.reference, &logits),
        noise,
        trials: search.trials,
    };
    Ok(Quantized { onnx, report })
}

/// The last and the first layer.
fn ends(scheme: &Scheme) -> Vec<String> {
    let mut ends: Vec<String> =
        scheme.layers.last().into_iter().chain(scheme.layers.first()).cloned().collect();
    ends.dedup();
    ends
}

impl Search<'_> {
    /// Prepares a graph and collects its statistics. `None`: the variant does not differ from the
    /// plain one.
    fn prepare(
        &self,
        original: &Graph,
        keep: &[String],
        variant: Variant,
    ) -> Result<Option<Prepared>, QuantizeError> {
        let mut graph = original.clone();
        simplify(&mut graph)?;
        let (pixels, normalisation) = match variant {
            Variant::Unfolded => (None, Normalisation::default()),
            _ => pixels::fold(&mut graph, self.options.symmetric)?,
        };
        if variant == Variant::Equalised && equalise(&mut graph) == 0 {
            return Ok(None);
        }
        let scheme = scheme(&graph, self.options.residual, keep)?;
        let mut names: Vec<String> = scheme.values.values().cloned().collect();
        names.sort();
        names.dedup();
        names.retain(|name| fixed(&graph, pixels, name, self.options.symmetric).is_none());
        self.progress.begin("ranges", self.tiles.calibrate.len());
        let histograms =
            histograms(&graph, &names, &self.tiles.calibrate, &self.shape, self.options.jobs, self.progress)?;
        let weights = if self.options.round_to_nearest {
            HashMap::new()
        } else {
            rounded_weights(
                &graph,
                &scheme,
                &self.tiles.calibrate,
                &self.shape,
                self.options.most(),
                self.options.jobs,
                self.progress,
            )?
        };
        Ok(Some(Prepared { variant, graph, pixels, normalisation, scheme, histograms, weights }))
    }

    /// Tries every way on a graph; layers in `keep` stay in float. Returns the prepared graphs,
    /// plain and equalised.
    fn best_of(&mut self, original: &Graph, keep: &[String]) -> Result<(Vec<Prepared>, Best), QuantizeError> {
        let plain = self
            .prepare(original, keep, Variant::Plain)?
            .ok_or_else(|| QuantizeError::Form("it cannot be made ready".into()))?;
        let asked = self.options.clipping.map_or_else(|| Clipping::ALL.to_vec(), |c| vec![c]);
        let rounding = if self.options.round_to_nearest { Rounding::Nearest } else { Rounding::Fitted };
        let mut best: Option<Best> = None;
        for clipping in asked.iter().copied() {
            for corrected in [true, false] {
                let way = Way { clipping, rounding, corrected };
                self.try_one(&mut best, 0, &plain, way, 1.0)?;
            }
        }
        if let Some(so_far) = best.as_ref().map(|b| b.way).filter(|way| way.rounding == Rounding::Fitted) {
            let way = Way { rounding: Rounding::Nearest, ..so_far };
            self.try_one(&mut best, 0, &plain, way, 1.0)?;
        }
        let mut others = vec![(Variant::Equalised, WORTH_EQUALISING)];
        if plain.normalisation.padding_error > EXACT_ENOUGH {
            others.push((Variant::Unfolded, WORTH_UNFOLDED));
        }
        let mut prepared = vec![plain];
        for (variant, share) in others {
            let Some(other) = self.prepare(original, keep, variant)? else { continue };
            let Some(so_far) = best.as_ref().map(|b| b.way) else { continue };
            let clippings = asked.iter().filter(|c| so_far.clipping == **c || **c == Clipping::Mse);
            for clipping in clippings.copied().collect::<Vec<_>>() {
                let way = Way { clipping, corrected: true, ..so_far };
                self.try_one(&mut best, prepared.len(), &other, way, share)?;
            }
            prepared.push(other);
        }
        let best = best.ok_or_else(|| QuantizeError::Form("nothing was tried".into()))?;
        Ok((prepared, best))
    }

    /// Repeats the best way so far with different layers in float.
    fn again(
        &self,
        original: &Graph,
        keep: &[String],
        before: &[Prepared],
        best: &Best,
    ) -> Result<(Vec<Prepared>, Best), QuantizeError> {
        let variant = before[best.prepared].variant;
        let prepared = self.prepare(original, keep, variant)?.ok_or(QuantizeError::Nothing)?;
        let biases = if best.way.corrected { self.correct(&prepared, best.way)? } else { HashMap::new() };
        let rms = self.measure(&self.recipe(&prepared, best.way, biases.clone()))?.rms;
        Ok((vec![prepared], Best { prepared: 0, way: best.way, biases, rms }))
    }

    /// Measures one way and adopts it if its error is less than `share` of the best so far.
    fn try_one(
        &mut self,
        best: &mut Option<Best>,
        at: usize,
        prepared: &Prepared,
        way: Way,
        share: f64,
    ) -> Result<(), QuantizeError> {
        let biases = if way.corrected { self.correct(prepared, way)? } else { HashMap::new() };
        let rms = self.measure(&self.recipe(prepared, way, biases.clone()))?.rms;
        let taken = best.as_ref().is_none_or(|b| rms < share * b.rms);
        let what = format!(
            "{}{}{}{}",
            way.clipping,
            if way.rounding == Rounding::Nearest { ", weights rounded to the nearest" } else { "" },
            if way.corrected { ", biases corrected" } else { "" },
            match prepared.variant {
                Variant::Plain => "",
                Variant::Equalised => ", equalised",
                Variant::Unfolded => ", normalisation in float",
            }
        );
        self.tried(what, rms, taken);
        if taken {
            *best = Some(Best { prepared: at, way, biases, rms });
        }
        Ok(())
    }

    fn tried(&mut self, what: String, rms: f64, taken: bool) {
        log::debug!("{what}: logit error {rms:.5}{}", if taken { ", best so far" } else { "" });
        self.trials.push(Trial { what, rms, taken });
    }

    fn correct(&self, prepared: &Prepared, way: Way) -> Result<HashMap<String, Vec<f32>>, QuantizeError> {
        let tiles = &self.tiles.calibrate;
        self.progress.begin(&format!("{}: biases", way.clipping), bias_tiles(tiles.len()));
        let recipe = self.recipe(prepared, way, HashMap::new());
        corrected_biases(&recipe, tiles, &self.shape, self.options.jobs, self.progress)
    }

    fn measure(&self, recipe: &Recipe<'_>) -> Result<Difference, QuantizeError> {
        self.progress.begin("logit error", self.tiles.held_out.len());
        let runner = Runner::new(&recipe.write()?, &self.shape, &[])?;
        let logits = runner.logits(&self.tiles.held_out, self.options.jobs, self.progress)?;
        Ok(Difference::between(&self.reference, &logits))
    }

    fn recipe<'p>(&self, prepared: &'p Prepared, way: Way, biases: HashMap<String, Vec<f32>>) -> Recipe<'p> {
        let (symmetric, rounding) = (self.options.symmetric, way.rounding);
        let of = |root: &String| {
            fixed(&prepared.graph, prepared.pixels, root, symmetric)
                .unwrap_or_else(|| step(&prepared.histograms[root], way.clipping, symmetric))
        };
        Recipe {
            graph: &prepared.graph,
            scheme: &prepared.scheme,
            pixels: prepared.pixels,
            steps: prepared.scheme.values.values().map(|root| (root.clone(), of(root))).collect(),
            biases,
            weights: (rounding == Rounding::Fitted).then_some(&prepared.weights),
            most: self.options.most(),
            signed: symmetric,
        }
    }

    /// Signal and noise of every value that is quantised, and of the logit.
    fn noise(&self, prepared: &Prepared, quantised: &Graph) -> Result<Vec<Noise>, QuantizeError> {
        let graph = &prepared.graph;
        let values: Vec<&String> = prepared.scheme.order.iter().chain([&graph.output]).collect();
        let float: Vec<String> = values.iter().map(|v| (*v).clone()).collect();
        let bytes: Vec<String> =
            values.iter().map(|v| if **v == graph.output { (*v).clone() } else { dequantised(v) }).collect();
        let float = Runner::new(graph, &self.shape, &float)?;
        let bytes = Runner::new(quantised, &self.shape, &bytes)?;
        let tiles = &self.tiles.held_out[..self.tiles.held_out.len().min(NOISE_TILES)];
        let ratios = signal_to_noise(&float, &bytes, tiles)?;
        let noise = |(value, snr_db): (&&String, f64)| {
            let node = graph.producer(value).map(|at| &graph.nodes[at]);
            Noise {
                node: node.map_or_else(|| (*value).clone(), |n| n.name.clone()),
                operator: node.map_or_else(|| "input".into(), |n| n.op_type.clone()),
                snr_db,
            }
        };
        Ok(values.iter().zip(ratios).map(noise).collect())
    }
}

/// Quantisation that does not depend on statistics: that of the pixels.
fn fixed(graph: &Graph, pixels: Option<Pixels>, value: &str, signed: bool) -> Option<Step> {
    let pixels = pixels?;
    let offset = graph.producer(value).is_some_and(|at| graph.nodes[at].name == OFFSET);
    if offset {
        let zero = if signed { 0 } else { i32::from(pixels.zero) };
        return Some(Step { scale: 1.0 / 255.0, zero, signed });
    }
    (value == graph.input && !signed).then_some(Step { scale: 1.0 / 255.0, zero: 0, signed })
}
