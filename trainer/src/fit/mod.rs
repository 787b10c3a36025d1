//! The paper's training (Wang et al., CVPR 2020): one classifier on real and generated pictures,
//! with blur and JPEG so that it carries over to generators that it never saw.

pub mod adam;
pub mod data;
pub mod eta;
pub mod loader;
pub mod metrics;
pub mod plateau;
pub mod recipe;
pub mod settings;
pub mod state;

use crate::{
    checkpoint::{self, Calibration},
    device::{self, Autocast},
    export, import,
    module::Module,
    net::{Layer, Net},
    plot,
    thresholds::temperature,
};
use adam::Adam;
use anyhow::{Context as _, Result, bail, ensure};
use data::Data;
use eta::Eta;
use indicatif::{ProgressBar, ProgressStyle};
use loader::Loader;
use metrics::{Line, Metrics, Validation};
use plateau::{Plateau, Turn};
pub use settings::Options;
use settings::Settings;
use spotd::{
    detector::card::{Card, Training},
    forensics::ap,
};
use state::State;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};
use tch::{Device, Kind, Reduction, Tensor, nn::VarStore};

/// The result of a run.
#[derive(Debug)]
pub struct Outcome {
    /// As saved.
    pub state: State,
    /// Pictures trained on and validated on.
    pub pictures: (usize, usize),
    /// The exported model and its card.
    pub model: (PathBuf, Card),
}

/// Steps between two lines of metrics.
const LINE_EVERY: u64 = 20;

/// Trains with `options`, or resumes; afterwards the folder contains all results.
pub fn train(options: &Options) -> Result<Outcome> {
    let run = options.run.as_path();
    let device = device::choose();
    let saved = if options.resume { Some(state::read(run)?) } else { None };
    if saved.is_none() && state::checkpoint_path(run).exists() {
        bail!("{}: holds a run already; go on with --resume, or choose another folder", run.display());
    }
    let settings = match &saved {
        Some(saved) => saved.state.settings.clone(),
        None => options.settings(device::bf16_pays(device)),
    };
    check(&settings)?;
    let data = data::collect(&settings.places, settings.seed)?;
    log::info!(
        "{} pictures of {} class(es) to train on, {} to validate on",
        data.train.len(),
        data.classes.len(),
        data.held.len()
    );
    data.matched().iter().for_each(|line| log::info!("{line}"));
    for warning in data::giveaways(&data.train, settings.seed) {
        log::warn!("{warning}");
    }
    std::fs::create_dir_all(run).with_context(|| format!("{}: cannot be made", run.display()))?;
    let (net, known) = settings.network.build(settings.high_pass);
    tch::manual_seed(settings.seed as i64);
    let store = VarStore::new(device);
    let module = Module::new(&store.root(), &net);
    let mut adam = Adam::new(&store);
    let state = match saved {
        Some(saved) => {
            saved.restore(&store, &mut adam).with_context(|| run.display().to_string())?;
            saved.state
        }
        None => {
            last_layer(&net, &store);
            if let Some(path) = &settings.init {
                import::initialise(&store, known.as_ref(), path)?;
            }
            State {
                step: 0,
                seconds: 0.0,
                plateau: Plateau::new(settings.rate, settings.patience, settings.least_rate),
                best: None,
                finished: false,
                settings,
            }
        }
    };
    let workers = options
        .workers
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()).min(16));
    ensure!(workers > 0, "--workers 0: at least one thread must load pictures");
    let mut run = Trainer {
        run: run.to_path_buf(),
        device,
        module,
        store,
        adam,
        state,
        held: data.held.clone(),
        train: data.train.len(),
        workers,
    };
    run.train(&data, options)?;
    run.finish(&net, &data, options.measure_on.as_deref())
}

fn check(settings: &Settings) -> Result<()> {
    ensure!(settings.batch > 0, "--batch 0: a batch needs a picture");
    ensure!((32..=1024).contains(&settings.recipe.crop), "--crop must be 32 to 1024 pixels");
    ensure!(
        settings.rate.is_finite() && settings.rate >= settings.least_rate,
        "--rate {} must not be below --least-rate {}",
        settings.rate,
        settings.least_rate
    );
    ensure!(
        settings.patience > 0 && settings.validate_every != Some(0),
        "--patience and --validate-every start at 1"
    );
    settings.recipe.available()
}

/// The paper's initial weights of the last layer: normal, deviation 0.02.
fn last_layer(net: &Net, store: &VarStore) {
    if let Some(Layer::Linear { .. }) = net.layers.last() {
        let name = format!("{}.weight", net.layers.len() - 1);
        if let Some(weight) = store.variables().get_mut(&name) {
            let _ = tch::no_grad(|| weight.normal_(0.0, 0.02));
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// What a run works with.
struct Trainer {
    run: PathBuf,
    device: Device,
    module: Module,
    store: VarStore,
    adam: Adam,
    state: State,
    held: Vec<data::Sample>,
    train: usize,
    workers: usize,
}

/// Sums since the last line of metrics.
struct Tally {
    since: Instant,
    /// Time of checkpoints, which is neither training nor waiting.
    paused: Duration,
    waited: Duration,
    loss: f64,
    steps: u64,
    images: u64,
}

impl Trainer {
    fn train(&mut self, data: &Data, options: &Options) -> Result<()> {
        let settings = self.state.settings.clone();
        let per_epoch = loader::steps_per_epoch(data.train.len(), settings.batch);
        let every = settings.validate_every.unwrap_or(per_epoch);
        let most = options.steps.unwrap_or(u64::MAX);
        let budget = options.minutes.map_or(Duration::MAX, |m| Duration::from_secs_f64(m.max(0.0) * 60.0));
        let mut loader = Loader::new(
            data.train.clone(),
            &data.pairs,
            settings.recipe.clone(),
            settings.seed,
            settings.batch,
            self.state.step,
            self.workers,
        );
        let mut metrics = Metrics::open(&self.run, self.state.step, now())?;
        let (start, already) = (Instant::now(), self.state.seconds);
        let began_at = self.state.step;
        let mut saved = Instant::now();
        let progress = progress(every);
        let mut tally = Tally::new(&loader);
        let mut dirty = false;
        while !self.state.finished && self.state.step < most && start.elapsed() < budget {
            let batch = loader.batch()?;
            let loss = self.step(&batch, settings.bf16)?;
            self.state.step += 1;
            dirty = true;
            let step = self.state.step;
            tally.add(loss, batch.len() as u64);
            progress.set_position((step - 1) % every + 1);
            let epoch_ends = step.is_multiple_of(every);
            if step.is_multiple_of(LINE_EVERY) || epoch_ends {
                let line = tally.line(step, step as f64 / per_epoch as f64, self.state.plateau.rate, &loader);
                let line = if epoch_ends { self.validated(line)? } else { line };
                let eta = Eta {
                    spent: start.elapsed(),
                    done: step - began_at,
                    steps: options.steps.map(|most| most.saturating_sub(step)),
                    time: options.minutes.map(|_| budget.saturating_sub(start.elapsed())),
                    schedule: eta::steps_of_validations(self.state.plateau.least_validations(), step, every),
                };
                let over = self.state.finished || step >= most || start.elapsed() >= budget;
                if epoch_ends && !over {
                    log::info!("{eta}");
                }
                progress.set_message(format!(
                    "{eta}; loss {:.3}, rate {:.0e}, {:.1} img/s, waiting {:.0} %",
                    line.loss,
                    line.rate,
                    line.images_per_second,
                    100.0 * line.waiting
                ));
                metrics.write(&line, now())?;
                tally = Tally::new(&loader);
                if epoch_ends {
                    progress.reset();
                }
            }
            if epoch_ends || saved.elapsed().as_secs_f64() >= 60.0 * options.save_minutes {
                let pause = Instant::now();
                self.state.seconds = already + start.elapsed().as_secs_f64();
                state::save(&self.run, &self.store, &self.adam, &self.state)?;
                (saved, dirty) = (Instant::now(), false);
                tally.paused += pause.elapsed();
            }
        }
        progress.finish_and_clear();
        if dirty {
            self.state.seconds = already + start.elapsed().as_secs_f64();
            state::save(&self.run, &self.store, &self.adam, &self.state)?;
        }
        if loader.skipped() > 0 {
            log::warn!("{} picture(s) could not be used, others took their places", loader.skipped());
        }
        ensure!(self.state.step > 0, "the time given was over before the first step; give more --minutes");
        Ok(())
    }

    /// One step of training; gives its loss.
    fn step(&mut self, batch: &loader::Batch, bf16: bool) -> Result<f64> {
        let (x, labels) = batch.tensors(self.device);
        let logits = {
            let _cast = Autocast::new(self.device, bf16);
            self.module.forward(&x, true).to_kind(Kind::Float).squeeze_dim(1)
        };
        let loss = logits.binary_cross_entropy_with_logits(
            &labels,
            None::<&Tensor>,
            None::<&Tensor>,
            Reduction::Mean,
        );
        let value = loss.double_value(&[]);
        ensure!(
            value.is_finite(),
            "the loss is {value} after {} steps; the last checkpoint is whole. Start again with a lower --rate \
             than {:.0e}{}",
            self.state.step,
            self.state.plateau.rate,
            if bf16 { ", or with --bf16 false" } else { "" }
        );
        self.adam.zero_grad();
        loss.backward();
        self.adam.step(self.state.plateau.rate);
        Ok(value)
    }

    /// Validates, advances the schedule, keeps the best.
    fn validated(&mut self, mut line: Line) -> Result<Line> {
        let (logits, labels) = self.scores()?;
        let validation = validate(&logits, &labels)?;
        line.validation = Some(validation);
        log::info!(
            "step {}: loss {:.4}, validation accuracy {:.4}, AP {:.4}, loss {:.4}; {:.1} img/s, {:.0} % of it waiting",
            line.step,
            line.loss,
            validation.accuracy,
            validation.ap,
            validation.loss,
            line.images_per_second,
            100.0 * line.waiting
        );
        let better = |old: &Validation| (validation.accuracy, -validation.loss) > (old.accuracy, -old.loss);
        if self.state.best.as_ref().is_none_or(|(_, old)| better(old)) {
            self.state.best = Some((line.step, validation));
            checkpoint::save(&self.store, &state::best_path(&self.run))?;
        }
        match self.state.plateau.step(validation.accuracy) {
            Turn::Go => {}
            Turn::Drop => log::info!("no gain: learning rate {:.0e} from here", self.state.plateau.rate),
            Turn::Stop => {
                log::info!("no gain at the least learning rate: done");
                self.state.finished = true;
            }
        }
        Ok(line)
    }

    /// Logits and labels of the validation pictures.
    fn scores(&self) -> Result<(Vec<f32>, Vec<bool>)> {
        let settings = &self.state.settings;
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        let batch = settings.batch.min(32);
        let left_out = loader::validation(&self.held, &settings.recipe, batch, self.workers, |batch| {
            let (x, y) = batch.tensors(self.device);
            let z = tch::no_grad(|| {
                let _cast = Autocast::new(self.device, settings.bf16);
                self.module.forward(&x, false).to_kind(Kind::Float).to_device(Device::Cpu).view(-1)
            });
            logits.extend(Vec::<f32>::try_from(z)?);
            labels
                .extend(Vec::<f32>::try_from(y.to_device(Device::Cpu))?.into_iter().map(|label| label > 0.5));
            Ok(())
        })?;
        if left_out == self.held.len() {
            bail!("none of the {left_out} validation pictures can be used");
        }
        Ok((logits, labels))
    }

    /// Plots, calibrates the best weights and exports them.
    fn finish(mut self, net: &Net, data: &Data, measure_on: Option<&Path>) -> Result<Outcome> {
        if self.state.best.is_none() {
            // Ended before its first validation: the current weights have to do.
            let (logits, labels) = self.scores()?;
            self.state.best = Some((self.state.step, validate(&logits, &labels)?));
            checkpoint::save(&self.store, &state::best_path(&self.run))?;
            state::save(&self.run, &self.store, &self.adam, &self.state)?;
        }
        let lines = metrics::read(&metrics::lines_path(&self.run))?;
        plot::run(&lines, &format!("{}, {}", net.name, self.run.display()), &self.run.join("run.svg"))?;
        checkpoint::load(&mut self.store, &state::best_path(&self.run))?;
        let (logits, labels) = self.scores()?;
        let calibration = calibration(&logits, &labels)?;
        let mut store = VarStore::new(Device::Cpu);
        let module = Module::new(&store.root(), net);
        checkpoint::load(&mut store, &state::best_path(&self.run))?;
        store.freeze();
        let about = export::About {
            name: net.name.clone(),
            version: "0.1.0".into(),
            tile: self.state.settings.recipe.crop.into(),
            calibration: (calibration.temperature, calibration.threshold, calibration.unsure_from),
            licence: "MIT OR Apache-2.0".into(),
            known_failures: vec![
                "thresholds come from the training's own kind of pictures; calibrate on the site's".into(),
            ],
            training: training(&self.state, data),
        };
        let (card, path) = export::ship(net, &store, &module, about, measure_on, &self.run)?;
        Ok(Outcome { pictures: (self.train, self.held.len()), state: self.state, model: (path, card) })
    }
}

fn training(state: &State, data: &Data) -> Training {
    let settings = &state.settings;
    let fakes = data.train.iter().filter(|s| s.fake).count();
    let best = state.best.map_or(String::new(), |(step, v)| {
        format!(
            "; best of step {step}: accuracy {:.4}, AP {:.4} on {} held-out pictures",
            v.accuracy,
            v.ap,
            data.held.len()
        )
    });
    Training {
        data: format!(
            "{} real and {fakes} generated pictures of {} class(es)",
            data.train.len() - fakes,
            data.classes.len()
        ),
        recipe: format!(
            "the paper's: {}{}, crop {}{}{}, Adam {:.0e} with plateau, batches of {}, {} steps{best}",
            settings.recipe.augment.name(),
            settings.recipe.video.map_or(String::new(), |video| format!(" + {video}")),
            settings.recipe.crop,
            settings.recipe.resize.map_or(String::new(), |side| format!(" after resize to {side}")),
            if settings.high_pass { ", high-pass" } else { "" },
            settings.rate,
            settings.batch,
            state.step
        ),
        minutes: (state.seconds / 6.0).round() / 10.0,
        seed: settings.seed,
    }
}

impl Tally {
    fn new(loader: &Loader) -> Tally {
        let zero = Duration::ZERO;
        Tally { since: Instant::now(), paused: zero, waited: loader.waited(), loss: 0.0, steps: 0, images: 0 }
    }

    fn add(&mut self, loss: f64, images: u64) {
        self.loss += loss;
        self.steps += 1;
        self.images += images;
    }

    fn line(&self, step: u64, epoch: f64, rate: f64, loader: &Loader) -> Line {
        let seconds = self.since.elapsed().saturating_sub(self.paused).as_secs_f64().max(1e-9);
        Line {
            step,
            epoch,
            loss: self.loss / self.steps.max(1) as f64,
            rate,
            images_per_second: self.images as f64 / seconds,
            waiting: ((loader.waited() - self.waited).as_secs_f64() / seconds).min(1.0),
            validation: None,
        }
    }
}

/// Accuracy at logit 0, AP and cross-entropy.
pub fn validate(logits: &[f32], labels: &[bool]) -> Result<Validation> {
    let n = logits.len() as f64;
    let right = logits.iter().zip(labels).filter(|(z, fake)| (**z > 0.0) == **fake).count() as f64;
    let entropy = |(z, fake): (&f32, &bool)| {
        let z = f64::from(if *fake { -*z } else { *z });
        z.max(0.0) + (-z.abs()).exp().ln_1p()
    };
    Ok(Validation {
        accuracy: right / n,
        ap: ap::average_precision(logits, labels)
            .context("validation needs readable real and generated pictures, and finite logits")?,
        loss: logits.iter().zip(labels).map(entropy).sum::<f64>() / n,
    })
}

/// Temperature of least cross-entropy; thresholds that 1 % and 5 % of the real pictures exceed.
pub fn calibration(logits: &[f32], labels: &[bool]) -> Result<Calibration> {
    let of = |kind: bool| -> Vec<f32> {
        logits.iter().zip(labels).filter(|(_, fake)| **fake == kind).map(|(z, _)| *z).collect()
    };
    let (real, fake) = (of(false), of(true));
    let temperature = temperature(&real, &fake);
    // A card's thresholds are between 0 and 1; so few pictures support none closer to either end.
    let score = |z: f32| (1.0 / (1.0 + (-z / temperature).exp())).clamp(1e-3, 1.0 - 1e-3);
    let at = |q: f64| ap::quantile(&real, q).map(score).context("no real picture was scored");
    let (threshold, unsure_from) = (at(0.99)?, at(0.95)?);
    Ok(Calibration {
        temperature,
        threshold,
        unsure_from: unsure_from.min(threshold),
        windows: real.len(),
        held_out_ap: ap::average_precision(logits, labels).context("one kind alone")?,
    })
}

fn progress(steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} to the next validation; {msg}")
        .expect("a valid template");
    ProgressBar::new(steps).with_style(style)
}
