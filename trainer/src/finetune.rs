//! Teaches an existing model a site's or a new generator's pictures in minutes, without forgetting:
//! by replay of known pictures, including resynthesised photographs, whose logits are kept close to
//! its former ones (Li and Hoiem, 2016), and weights kept close to where they were (L2-SP; Li et
//! al., 2018).

mod known;
mod reviewed;

use crate::{
    device, export,
    fit::{
        adam::Adam,
        calibration,
        data::{self, Sample},
        loader::{self, Loader},
        recipe::{Augment, Recipe},
    },
    graph::Graph,
    photos,
    score::{self, Perturbation},
};
use anyhow::{Context as _, Result, bail, ensure};
use spotd::{
    detector::{
        Model,
        card::{Card, Measured, Training, sha256_hex},
    },
    forensics::{ap, dataset},
    identity::Wanted,
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tch::{Device, Reduction, Tensor};

/// What `finetune` is told.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "finetuning")]
pub struct Options {
    /// The model to start from: a float32 ONNX file with its card beside it.
    #[arg(long)]
    pub model: PathBuf,
    /// New real pictures: a folder, or a video; may be given several times.
    #[arg(long)]
    pub real: Vec<PathBuf>,
    /// New generated pictures: a folder, or a video; may be given several times.
    #[arg(long)]
    pub fake: Vec<PathBuf>,
    /// Flag log whose events operators have judged on the page: tiles of false alarms are new real
    /// pictures, those of confirmed events new generated ones; may be given several times.
    #[arg(long)]
    pub log: Vec<PathBuf>,
    /// Photographs of any kind: they, and crops of them redrawn by random upsamplers, are what it
    /// must not forget; may be given several times.
    #[arg(long, required_unless_present = "replay")]
    pub photos: Vec<PathBuf>,
    /// A run of `resynth`, whose bank redraws photographs too: the model's own, if it was trained
    /// here.
    #[arg(long, requires = "photos")]
    pub bank: Option<PathBuf>,
    /// Pictures of what it must not forget, in the paper's layout, [class/]{0_real,1_fake}; may be
    /// given several times.
    #[arg(long)]
    pub replay: Vec<PathBuf>,
    /// Sets in the paper's layout to measure on, before and after.
    #[arg(long)]
    pub measure_on: Option<PathBuf>,
    /// Where the new model, its card, redrawn photographs and frames of videos go.
    #[arg(long)]
    pub out: PathBuf,
    /// Name of the new model; by default the old one's with -tuned.
    #[arg(long)]
    pub name: Option<String>,
    /// Frames taken of each second of a video.
    #[arg(long, default_value_t = 2.0)]
    pub fps: f64,
    /// Minutes of training.
    #[arg(long, default_value_t = 5.0)]
    pub minutes: f64,
    /// At most so many steps.
    #[arg(long, default_value_t = 400)]
    pub steps: u64,
    /// New pictures in a batch; as many are replayed.
    #[arg(long, default_value_t = 16)]
    pub batch: usize,
    /// Learning rate.
    #[arg(long, default_value_t = 1e-4)]
    pub rate: f64,
    /// Side of the crops that are learned from, at most the model's tile: smaller ones are more of
    /// them in the same time.
    #[arg(long, default_value_t = 128)]
    pub crop: u32,
    /// Strength of the pull of logits on known pictures to those of before.
    #[arg(long, default_value_t = 1.0)]
    pub distil: f64,
    /// Strength of the pull of weights to where they were.
    #[arg(long, default_value_t = 0.01)]
    pub anchor: f64,
    /// Share of the new and of the replayed pictures that is held out.
    #[arg(long, default_value_t = 0.25)]
    pub hold_out: f64,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Average precision (AP) on held-out pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aps {
    /// On the new ones.
    pub new: f64,
    /// On the replayed ones.
    pub known: f64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Before and after.
    pub aps: (Aps, Aps),
    /// Step whose weights were kept, and total number of steps.
    pub steps: (u64, u64),
    /// The sets of `measure_on`, before and after, as stored.
    pub sets: Vec<(Measured, Measured)>,
    /// The new model and its card.
    pub model: (PathBuf, Card),
}

impl Outcome {
    /// A table for a terminal.
    pub fn report(&self) -> String {
        let (before, after) = self.aps;
        let mut out = format!("{:<32}{:>8}{:>8}{:>8}\n", "average precision", "before", "after", "change");
        let mut row = |name: &str, a: f64, b: f64| {
            out += &format!("{name:<32}{a:>8.3}{b:>8.3}{:>+8.3}\n", b - a);
        };
        row("new pictures, held out", before.new, after.new);
        row("known pictures, held out", before.known, after.known);
        for (a, b) in &self.sets {
            row(&a.set, a.ap, b.ap);
        }
        if self.sets.len() > 1 {
            let mean = |of: fn(&(Measured, Measured)) -> f64| {
                self.sets.iter().map(of).sum::<f64>() / self.sets.len() as f64
            };
            row("mean of sets", mean(|s| s.0.ap), mean(|s| s.1.ap));
        }
        let (path, (kept, all)) = (self.model.0.display(), self.steps);
        out + &format!("wrote {path}, weights of step {kept} of {all}\n")
    }
}

/// Trains and writes the new model into `options.out`.
///
/// # Errors
/// Bad pictures or a model that cannot be trained; or no step improved the model, in which case
/// nothing is written.
pub fn finetune(options: &Options) -> Result<Outcome> {
    ensure!(options.batch > 0 && options.steps > 0, "--batch and --steps start at 1");
    ensure!(options.hold_out > 0.0 && options.hold_out < 1.0, "--hold-out must lie between 0 and 1");
    ensure!(options.fps > 0.0 && options.fps.is_finite(), "--fps must be positive");
    ensure!(options.rate > 0.0 && options.rate.is_finite(), "--rate must be positive");
    ensure!(
        !(options.real.is_empty() && options.fake.is_empty() && options.log.is_empty()),
        "nothing new: give --real, --fake, --log or several of them"
    );
    let device = device::choose();
    let bytes = std::fs::read(&options.model).with_context(|| format!("{}", options.model.display()))?;
    let old = Model::open(Some(&options.model), Wanted::Auto)?;
    let name = || options.model.display().to_string();
    let (graph, teacher) =
        (Graph::read(&bytes, device).with_context(name)?, Graph::read(&bytes, device).with_context(name)?);
    let recipe = Recipe {
        augment: Augment::Tenth,
        resize: None,
        crop: options.crop.min(old.card().tile),
        video: None,
    };

    let mut known = Vec::new();
    for folder in &options.replay {
        dataset::refuse_validation(folder)?;
        known.extend(data::laid_out(folder)?);
    }
    let holds = |path: &Path| data::held_out(path, options.hold_out);
    let (mut known_held, mut known): (Vec<_>, Vec<_>) = known.into_iter().partition(|s| holds(&s.path));
    if !options.photos.is_empty() {
        let folder = options.out.join("known");
        let (train, held) =
            known::known(&options.photos, options.bank.as_deref(), &folder, options.seed, device, holds)?;
        known.extend(train);
        known_held.extend(held);
    }
    data::both_kinds(&known, "--photos and --replay")?;
    data::both_kinds(&known_held, "the held-out part of --photos and --replay")?;
    let (new, mut new_held) = news(options)?;
    // A class that the new pictures lack is taken from the known ones.
    for fake in [false, true] {
        if new_held.iter().all(|s| s.fake != fake) {
            new_held.extend(known_held.iter().filter(|s| s.fake == fake).cloned());
        }
    }
    log::info!("{} new and {} known pictures to train on", new.len(), known.len());

    let tuning = Tuning { graph, teacher, recipe, device, distil: options.distil, new_held, known_held };
    let before = tuning.aps()?;
    log::info!("before: AP {:.4} on new, {:.4} on known pictures", before.new, before.known);
    let (kept, all, after) = tuning.train(options, &new, &known, before)?;
    if kept == 0 {
        bail!(
            "no step was better than the model as it was (AP {:.4} on new, {:.4} on known pictures), without being \
             worse on the new ones: nothing was written; give more pictures, more --minutes or another --rate",
            before.new,
            before.known
        );
    }
    tuning.publish(options, &old, (new.len(), known.len()), (before, after), (kept, all))
}

/// New pictures to train on, and those held out.
fn news(options: &Options) -> Result<(Vec<Sample>, Vec<Sample>)> {
    let (mut train, mut held) = (Vec::new(), Vec::new());
    for (places, fake) in [(&options.real, false), (&options.fake, true)] {
        for (number, place) in places.iter().enumerate() {
            dataset::refuse_validation(place)?;
            let sample = |path| Sample { path, fake, class: String::new() };
            let (some, rest): (Vec<PathBuf>, Vec<PathBuf>) = if place.is_file() {
                let kind = if fake { "fake" } else { "real" };
                let frames =
                    frames(place, &options.out.join(format!("frames-{kind}-{number}")), options.fps)?;
                // Neighbouring frames are almost the same picture, so the clip's end is held out.
                let cut = (frames.len() as f64 * (1.0 - options.hold_out)) as usize;
                let cut = cut.clamp(1, frames.len() - 1);
                (frames[..cut].to_vec(), frames[cut..].to_vec())
            } else {
                let found = dataset::list_pictures(place)?;
                ensure!(
                    found.len() > 1,
                    "{}: holds {} picture(s); give a few dozen",
                    place.display(),
                    found.len()
                );
                let (rest, some): (Vec<_>, Vec<_>) =
                    found.into_iter().partition(|path| data::held_out(path, options.hold_out));
                (some, rest)
            };
            train.extend(some.into_iter().map(sample));
            held.extend(rest.into_iter().map(sample));
        }
    }
    for (number, dir) in options.log.iter().enumerate() {
        let folder = options.out.join(format!("reviewed-{number}"));
        let (some, rest) = reviewed::reviewed_pictures(dir, &folder, options.hold_out)?;
        train.extend(some);
        held.extend(rest);
    }
    ensure!(
        !train.is_empty() && !held.is_empty(),
        "too few new pictures to train on some and hold out others"
    );
    Ok((train, held))
}

/// The frames of a video as PNG files in `folder`.
fn frames(video: &Path, folder: &Path, fps: f64) -> Result<Vec<PathBuf>> {
    use spotd::{
        clock::SystemClock,
        source::{Pace, SourceUri, read::read},
    };
    use std::{ops::ControlFlow, time::Duration};
    let name = video.display();
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    let full = video.canonicalize().with_context(|| name.to_string())?;
    let uri = SourceUri::File(full);
    let pace = Pace { fps, live: Duration::MAX, as_run: false };
    let mut frames = Vec::new();
    let mut failed = None;
    read(&uri, pace, &SystemClock::shared(), |frame| {
        let path = folder.join(format!("{:06}.png", frames.len()));
        let written =
            frame.to_rgb().map_err(anyhow::Error::from).and_then(|picture| Ok(picture.save(&path)?));
        match written {
            Ok(()) => frames.push(path),
            Err(error) => failed = Some(error.context(path.display().to_string())),
        }
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .with_context(|| name.to_string())?;
    if let Some(error) = failed {
        return Err(error);
    }
    ensure!(
        frames.len() > 1,
        "{name}: {} frame(s) at {fps} a second; give a longer clip or more --fps",
        frames.len()
    );
    Ok(frames)
}

struct Tuning {
    graph: Graph,
    teacher: Graph,
    recipe: Recipe,
    device: Device,
    distil: f64,
    new_held: Vec<Sample>,
    known_held: Vec<Sample>,
}

/// How often the held-out pictures are scored.
const LOOKS: u64 = 8;
/// Loss of AP on known pictures that is accepted.
const FORGIVEN: f64 = 0.01;
const WORKERS: usize = 1;

impl Tuning {
    fn scores(&self, held: &[Sample]) -> Result<(Vec<f32>, Vec<bool>)> {
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        loader::validation(held, &self.recipe, 16, WORKERS, |batch| {
            let (x, y) = batch.tensors(self.device);
            let z = tch::no_grad(|| self.graph.forward(&x))?.to_device(Device::Cpu).view(-1);
            logits.extend(Vec::<f32>::try_from(z)?);
            labels
                .extend(Vec::<f32>::try_from(y.to_device(Device::Cpu))?.into_iter().map(|label| label > 0.5));
            Ok(())
        })?;
        Ok((logits, labels))
    }

    fn aps(&self) -> Result<Aps> {
        let of = |held: &[Sample], what: &str| -> Result<f64> {
            let (logits, labels) = self.scores(held)?;
            ap::average_precision(&logits, &labels).with_context(|| {
                format!("held-out {what} pictures: real and generated ones are needed, and finite logits")
            })
        };
        Ok(Aps { new: of(&self.new_held, "new")?, known: of(&self.known_held, "known")? })
    }

    /// Trains and leaves the best weights in the graph. Returns their step (0: as before), the
    /// total number of steps, and their average precisions.
    fn train(
        &self,
        options: &Options,
        new: &[Sample],
        known: &[Sample],
        before: Aps,
    ) -> Result<(u64, u64, Aps)> {
        let weights = self.graph.weights();
        let copy = || -> Vec<Tensor> { weights.iter().map(|(_, w)| w.detach().copy()).collect() };
        let start = copy();
        let mut adam = Adam::of(self.graph.weights());
        let load = |samples: &[Sample], seed: u64| {
            Loader::new(samples.to_vec(), &[], self.recipe.clone(), seed, options.batch, 0, WORKERS)
        };
        let (mut fresh, mut replayed) = (load(new, options.seed), load(known, options.seed + 1));
        // The mean of both parts: half for what is new, half for what was known.
        let worth = |aps: &Aps| aps.new + aps.known;
        let (mut best, mut kept, mut best_weights) = (before, 0, copy());
        let budget = Duration::from_secs_f64(options.minutes.max(0.0) * 60.0);
        let began = Instant::now();
        let progress = photos::bar(options.steps, "fine-tuning");
        let (mut step, mut looks) = (0, 0);
        while step < options.steps && began.elapsed() < budget {
            let done = (step as f64 / options.steps as f64)
                .max(began.elapsed().as_secs_f64() / budget.as_secs_f64().max(1e-9));
            let rate = options.rate * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
            let loss = self.loss(&fresh.batch()?, &replayed.batch()?)?;
            let value = loss.double_value(&[]);
            ensure!(
                value.is_finite(),
                "the loss is {value} after {step} steps; lower --rate. Nothing was written"
            );
            adam.zero_grad();
            loss.backward();
            tch::no_grad(|| {
                for ((_, weight), start) in weights.iter().zip(&start) {
                    let mut gradient = weight.grad();
                    if gradient.defined() {
                        let _ = gradient.g_add_(&((weight - start) * (2.0 * options.anchor)));
                    }
                }
            });
            adam.step(rate);
            step += 1;
            progress.set_position(step);
            let over = step == options.steps || began.elapsed() >= budget;
            let share = (done * LOOKS as f64) as u64;
            if share > looks || over {
                looks = share.max(looks);
                let aps = self.aps()?;
                log::info!(
                    "step {step}: loss {value:.4}, AP {:.4} on new, {:.4} on known pictures",
                    aps.new,
                    aps.known
                );
                // A gain on one must not outweigh a loss on the other.
                let forgot = aps.known < before.known - FORGIVEN;
                if aps.new >= before.new && !forgot && worth(&aps) > worth(&best) {
                    (best, kept, best_weights) = (aps, step, copy());
                }
            }
        }
        progress.finish_and_clear();
        tch::no_grad(|| -> Result<()> {
            for ((_, weight), best) in weights.iter().zip(&best_weights) {
                weight.shallow_clone().f_copy_(best)?;
            }
            Ok(())
        })?;
        Ok((kept, step, best))
    }

    fn loss(&self, new: &loader::Batch, known: &loader::Batch) -> Result<Tensor> {
        let ((x, y), (u, _)) = (new.tensors(self.device), known.tensors(self.device));
        let n = x.size()[0];
        let z = self.graph.forward(&Tensor::cat(&[x, u.shallow_clone()], 0))?.view(-1);
        let (z_new, z_known) = (z.narrow(0, 0, n), z.narrow(0, n, z.size()[0] - n));
        let taught = tch::no_grad(|| self.teacher.forward(&u))?.view(-1);
        let entropy = |z: &Tensor, goal: &Tensor| {
            z.binary_cross_entropy_with_logits(goal, None::<&Tensor>, None::<&Tensor>, Reduction::Mean)
        };
        let held = z_known.mse_loss(&taught, Reduction::Mean);
        Ok(entropy(&z_new, &y) + held * self.distil)
    }

    fn publish(
        &self,
        options: &Options,
        old: &Model,
        (new, known): (usize, usize),
        (before, after): (Aps, Aps),
        (kept, all): (u64, u64),
    ) -> Result<Outcome> {
        let (mut logits, mut labels) = self.scores(&self.known_held)?;
        let (z, y) = self.scores(&self.new_held)?;
        logits.extend(z);
        labels.extend(y);
        let calibration = calibration(&logits, &labels)?;
        let origin = old.card();
        let figures = format!(
            "AP on held-out new pictures {:.3}, before {:.3}; on known ones {:.3}, before {:.3}",
            after.new, before.new, after.known, before.known
        );
        let card = Card {
            name: options.name.clone().unwrap_or_else(|| format!("{}-tuned", origin.name)),
            temperature: calibration.temperature.into(),
            threshold: calibration.threshold.into(),
            unsure_from: calibration.unsure_from.into(),
            training: Training {
                data: format!("{}; then {new} new pictures and {known} replayed ones", origin.training.data),
                recipe: format!(
                    "{}; fine-tuned from {} {} ({}), {kept} steps of {} at {:.0e}, distilled and anchored (L2-SP \
                     {}); {figures}",
                    origin.training.recipe,
                    origin.name,
                    origin.version,
                    &origin.sha256[..12],
                    2 * options.batch,
                    options.rate,
                    options.anchor
                ),
                ..origin.training.clone()
            },
            coherence: None,
            reach: None,
            measured: vec![],
            ..origin.clone()
        };
        ensure!(
            card.name != origin.name
                || options.out.canonicalize().ok()
                    != options.model.parent().and_then(|p| p.canonicalize().ok()),
            "the new model would take the old one's place; give another --name or --out"
        );
        let answers = |tiles: &[image::RgbImage]| -> Result<Vec<f32>> {
            let x = photos::to_tensor(tiles).to_device(self.device);
            let z = tch::no_grad(|| self.graph.forward(&x))?.to_device(Device::Cpu).view(-1);
            Ok(Vec::<f32>::try_from(z)?)
        };
        let sets_before = match &options.measure_on {
            Some(layout) => score::measure(old, layout, &[Perturbation::AsStored])?,
            None => vec![],
        };
        let bytes = self.graph.to_bytes()?;
        ensure!(sha256_hex(&bytes) != origin.sha256, "the weights are as they were");
        let (card, path) =
            export::publish(&bytes, card, answers, options.measure_on.as_deref(), &options.out)?;
        let after_of = |set: &str| {
            card.measured.iter().find(|m| m.set == set && m.perturbation == Perturbation::AsStored.name())
        };
        let sets = sets_before
            .into_iter()
            .filter_map(|m| {
                let after = after_of(&m.set)?.clone();
                Some((m, after))
            })
            .collect();
        Ok(Outcome { aps: (before, after), steps: (kept, all), sets, model: (path, card) })
    }
}
