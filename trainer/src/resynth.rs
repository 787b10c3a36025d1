//! Training of a detector: pairs in, checkpoints out.

use crate::{
    bank,
    checkpoint::{self, Run, State},
    decoder::Decoder,
    device::{self, Autocast},
    feed::{How, Speed, feed},
    fit::recipe::Video,
    module::Module,
    net::Net,
    pairs::{self, Batch, Cutter, Degrade, Pairs, Strangers},
    photos::{self, bar},
    start, thresholds,
};
use anyhow::{Result, anyhow, bail, ensure};
use image::RgbImage;
use spotd::forensics::{dataset, matched, rng::Rng};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};
use tch::{Device, Kind, nn, nn::OptimizerConfig as _};

/// Options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folders of photographs.
    pub photos: Vec<PathBuf>,
    /// Folders of generated pictures, none by default; each is a collection.
    pub fakes: Vec<PathBuf>,
    /// Folders of sets in the paper's layout, none by default: generated pictures with photographs
    /// that they are held against.
    pub sets: Vec<PathBuf>,
    /// Where the run lives.
    pub run: PathBuf,
    /// Scenes to render beside the photographs.
    pub scenes: u64,
    /// Detector training.
    pub budget: Duration,
    /// Training of each bank member.
    pub bank_budget: Duration,
    /// Seed.
    pub seed: u64,
    /// Goes on from the run's last checkpoint.
    pub resume: bool,
    /// Exported models whose mean weights a new run starts from, none by default.
    pub from: Vec<PathBuf>,
    /// Pairs a batch.
    pub batch: usize,
    /// Side of a training crop.
    pub side: u32,
    /// bfloat16 convolutions; where it is not said, as [`device::bf16_pays`] says.
    pub bf16: Option<bool>,
    /// Stops after so many steps, for tests.
    pub most_steps: u64,
    /// Weight of the pair loss.
    pub pair_weight: f64,
    /// First learning rate.
    pub rate: f64,
    /// Video codecs that pairs meet, none by default.
    pub video: Option<Video>,
    /// ONNX files of decoders that redraw beside the bank, none by default.
    pub decoders: Vec<PathBuf>,
    /// Neither bank nor random upsamplers: decoders alone.
    pub decoders_only: bool,
    /// What pairs go through: the step of the curriculum.
    pub degrade: Degrade,
    /// Threads that degrade and cut; by default one for each processor but one.
    pub workers: Option<usize>,
    /// Windows of held-out photographs that set the thresholds.
    pub calibration_windows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            photos: vec![],
            fakes: vec![],
            sets: vec![],
            run: PathBuf::new(),
            scenes: 200,
            budget: Duration::from_secs(40 * 60),
            bank_budget: Duration::from_secs(75),
            seed: 1,
            resume: false,
            from: vec![],
            batch: 16,
            side: 96,
            bf16: None,
            most_steps: u64::MAX,
            pair_weight: 0.5,
            rate: 2e-3,
            video: None,
            decoders: vec![],
            decoders_only: false,
            degrade: Degrade::default(),
            workers: None,
            calibration_windows: 768,
        }
    }
}

const SAVE_EVERY: Duration = Duration::from_secs(120);
const AVERAGE_DECAY: f64 = 0.998;
const WARM_UP: u64 = 100;
/// Steps between two lines of output.
const LINE_EVERY: u64 = 100;

/// The result of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Mean loss of the first and of the last 20 steps.
    pub loss: (f64, f64),
    /// State as saved.
    pub state: State,
}

/// Trains the bank and then `net`; checkpoints are in `options.run`.
pub fn train(net: &Net, options: &Options) -> Result<Outcome> {
    for folder in options.photos.iter().chain(&options.fakes).chain(&options.sets) {
        dataset::refuse_validation(folder)?;
    }
    if options.video.is_some() {
        Video::available()?;
    }
    ensure!(
        !options.decoders_only || !options.decoders.is_empty(),
        "--decoders-only: give decoders, --decoder FILE.onnx"
    );
    let workers = match options.workers {
        Some(0) => bail!("--workers 0: at least one thread must make batches"),
        Some(workers) => workers,
        None => std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1)).max(1),
    };
    let device = device::choose();
    let bf16 = options.bf16.unwrap_or_else(|| device::bf16_pays(device));
    let run = Run::new(&options.run)?;
    let earlier = if options.resume { Some(run.state()?) } else { None };
    if let Some(state) = &earlier
        && state.net != *net
    {
        bail!("{}: was trained with another network than this version's {}", run.folder.display(), net.name);
    }
    if !options.resume && run.weights().exists() {
        bail!("{}: holds a run already; go on with --resume, or choose another folder", run.folder.display());
    }
    if !options.from.is_empty() {
        // An unusable file is noticed before the bank is trained.
        let mut store = nn::VarStore::new(Device::Cpu);
        Module::new(&store.root(), net);
        start::load_mean(&mut store, net, &options.from)?;
    }
    // Unusable decoders are, too.
    let decoders: Vec<Decoder> = options
        .decoders
        .iter()
        .map(|path| Decoder::open(path, pairs::DRAWN.into()))
        .collect::<Result<_>>()?;
    let split = photos::load(&options.photos, options.scenes, options.seed)?;
    let (strangers, held_out) = load_strangers(&options.fakes, &options.sets)?;
    let bank = if options.decoders_only {
        vec![]
    } else {
        bank::build(&run.bank(), &split.train, options.bank_budget, options.seed, device, bf16)?
    };
    let bank_seconds = bank.iter().fold(0.0, |sum, b| sum + b.member.seconds);

    let mut state = earlier.unwrap_or_else(|| State {
        net: net.clone(),
        steps: 0,
        seconds: 0.0,
        budget_seconds: 0.0,
        bank_seconds: 0.0,
        seed: options.seed,
        photographs: split.train.photographs().len(),
        scenes: split.train.scenes().len(),
        fakes: strangers.iter().map(|s| s.fake.len()).sum(),
        decoders: vec![],
        decoders_only: false,
        matched: 0,
        frozen_norm: !options.from.is_empty(),
        calibration: None,
    });
    // What was trained with once stays in the weights.
    for decoder in &decoders {
        if !state.decoders.contains(&decoder.name) {
            state.decoders.push(decoder.name.clone());
        }
    }
    state.decoders_only = options.decoders_only && (state.decoders_only || state.steps == 0);
    state.matched = strangers.iter().map(|s| s.pairs.len()).sum();
    state.bank_seconds = bank_seconds;
    state.budget_seconds = state.seconds + options.budget.as_secs_f64();
    // A different random stream after a resumption, so that it does not see the same pairs again.
    let rng = Rng::new(options.seed).fork(state.steps);
    let pairs = Pairs::new(&split.train, bank, &strangers, options.degrade.policies(), device, rng.fork(1))
        .through(options.video)
        .with_decoders(&decoders)?;

    let (sender, receiver) = mpsc::sync_channel::<Result<Batch>>(2 * workers + 2);
    let how = How { workers, batch: options.batch, side: options.side };
    let speed = Speed::default();
    let (outcome, bank) = std::thread::scope(|scope| {
        let (rng, speed) = (rng.fork(3), &speed);
        // Ends when the trainer drops its end.
        let maker = scope.spawn(move || feed(pairs, how, &rng, sender, speed).into_bank());
        let outcome = optimise(net, options, &run, state, (device, bf16), (receiver, speed), &held_out);
        (outcome, maker.join())
    });
    let mut outcome = outcome?;
    let bank = bank.map_err(|_| anyhow!("the thread that makes pairs has panicked"))?;
    let mut held = Pairs::new(&split.held, bank, &[], Degrade::Field.policies(), device, rng.fork(2))
        .with_decoders(&decoders)?;
    let (_store, module) = load_average(&run, &outcome.state.net, device)?;
    let seed = outcome.state.seed;
    let calibration =
        thresholds::of_windows(&module, &split.held, &mut held, device, options.calibration_windows, seed)?;
    log::info!("calibrated: {calibration:?}");
    outcome.state.calibration = Some(calibration);
    run.put_state(&outcome.state)?;
    Ok(outcome)
}

/// The training collections, and the matched pairs whose photographs are held out.
fn load_strangers(fakes: &[PathBuf], sets: &[PathBuf]) -> Result<(Vec<Strangers>, Vec<Strangers>)> {
    let (mut all, mut held_out) = (Vec::new(), Vec::new());
    for folder in fakes {
        let fake = load_all(&dataset::list_pictures(folder)?);
        if fake.is_empty() {
            bail!("--fakes {}: no picture could be read", folder.display());
        }
        let fake = fake.into_iter().map(|(_, picture)| picture).collect();
        all.push(Strangers { fake, ..Strangers::default() });
    }
    // Matched ones are logged first.
    let (mut lines, mut of_sets) = (Vec::new(), Vec::new());
    for folder in sets {
        for set in dataset::find_sets(folder)? {
            // Held-out photographs may be in a set too.
            let (held, trained): (Vec<PathBuf>, Vec<PathBuf>) =
                set.real.iter().cloned().partition(|path| photos::is_held_out(path));
            let (real, fake) = (load_all(&trained), load_all(&set.fake));
            let held = matched_or_not(load_all(&held), fake.clone());
            held_out.extend((!held.pairs.is_empty()).then_some(held));
            if real.is_empty() || fake.is_empty() {
                bail!("--sets {}: of set {} one kind cannot be read", folder.display(), set.name);
            }
            let strangers = matched_or_not(real, fake);
            let pairs = match strangers.pairs.len() {
                0 => "not matched by name".to_owned(),
                n => format!("matched: {n} pairs with the same name, size and content; only these are drawn"),
            };
            lines.push((
                strangers.pairs.is_empty(),
                format!(
                    "set {}: {} real and {} generated pictures, {pairs}",
                    set.name,
                    strangers.real.len(),
                    strangers.fake.len()
                ),
            ));
            of_sets.push(strangers);
        }
    }
    lines.sort();
    lines.iter().for_each(|(_, line)| log::info!("{line}"));
    of_sets.sort_by_key(|strangers| strangers.pairs.is_empty());
    all.extend(of_sets);
    Ok((all, held_out))
}

/// Matched pairs of a batch of those held out.
const WATCHED: usize = 16;
/// Such batches.
const WATCHES: usize = 6;

/// How well held-out matched pairs are separated, mildly degraded: the share of pictures with the
/// right sign, and of pairs whose generated half has the higher logit. `None` if there are none.
fn watch(module: &Module, held_out: &[Strangers], side: u32, device: Device) -> Result<Option<(f64, f64)>> {
    if held_out.is_empty() {
        return Ok(None);
    }
    let (mut rng, cutter) = (Rng::new(17), Cutter::mild(held_out));
    let (mut right, mut ordered) = (0.0, 0.0);
    for _ in 0..WATCHES {
        let x = cutter.pairs_alone(WATCHED, side, &mut rng)?.pixels(device);
        let z = tch::no_grad(|| module.forward(&x, false)).to_kind(Kind::Float).squeeze_dim(1);
        let (real, fake) = (z.narrow(0, 0, WATCHED as i64), z.narrow(0, WATCHED as i64, WATCHED as i64));
        right += f64::try_from(real.lt(0.0).sum(Kind::Float) + fake.gt(0.0).sum(Kind::Float))? / 2.0;
        ordered += f64::try_from(fake.gt_tensor(&real).sum(Kind::Float))?;
    }
    let all = (WATCHES * WATCHED) as f64;
    Ok(Some((right / all, ordered / all)))
}

/// A set's pictures with its matched pairs, if it has any. If the photograph of a pair is held out,
/// its resynthesis is too, since only pairs are drawn then.
fn matched_or_not(real: Vec<(PathBuf, RgbImage)>, fake: Vec<(PathBuf, RgbImage)>) -> Strangers {
    let sizes: HashMap<&Path, (u32, u32)> =
        real.iter().chain(&fake).map(|(path, picture)| (path.as_path(), picture.dimensions())).collect();
    let [ours, theirs] =
        [&real, &fake].map(|side| side.iter().map(|(path, _)| path.as_path()).collect::<Vec<_>>());
    let pairs = matched::pairs(&ours, &theirs, |path| sizes.get(path).copied());
    let pictures = |side: Vec<(PathBuf, RgbImage)>| side.into_iter().map(|(_, picture)| picture).collect();
    Strangers { real: pictures(real), fake: pictures(fake), pairs }
}

/// The readable pictures, by path; the rest is logged.
fn load_all(paths: &[PathBuf]) -> Vec<(PathBuf, RgbImage)> {
    let mut pictures = Vec::new();
    for path in paths {
        match dataset::load(path) {
            Ok(picture) => pictures.push((path.clone(), picture)),
            Err(bad) => log::warn!("{}: skipped, cannot be read: {}", bad.path.display(), bad.reason),
        }
    }
    pictures
}

/// Moves the average towards `from`; the average is what is exported.
fn follow(average: &nn::VarStore, from: &nn::VarStore, decay: f64) {
    tch::no_grad(|| {
        let source = from.variables();
        for (name, mut tensor) in average.variables() {
            let _ = tensor.lerp_(&source[&name], 1.0 - decay);
        }
    });
}

fn optimise(
    net: &Net,
    options: &Options,
    run: &Run,
    mut state: State,
    (device, bf16): (Device, bool),
    (batches, speed): (mpsc::Receiver<Result<Batch>>, &Speed),
    held_out: &[Strangers],
) -> Result<Outcome> {
    tch::manual_seed(options.seed as i64);
    let mut store = nn::VarStore::new(device);
    let module = Module::new(&store.root(), net);
    let mut average = nn::VarStore::new(device);
    let averaged = Module::new(&average.root(), net);
    if options.resume {
        checkpoint::load(&mut store, &run.weights())?;
        checkpoint::load(&mut average, &run.average())?;
    } else {
        if !options.from.is_empty() {
            start::load_mean(&mut store, net, &options.from)?;
        }
        average.copy(&store)?;
    }
    let mut optimiser = nn::adamw(0.9, 0.999, 0.01).build(&store, options.rate)?;
    let progress = bar(options.budget.as_secs(), "detector");
    let over = || anyhow!("the threads that make pairs have ended");
    // The time budget is for training: slow decoders take a while for the first pairs.
    let mut first = Some(batches.recv().map_err(|_| over())??);
    let (start, already) = (Instant::now(), state.seconds);
    let (first_step, mut saved) = (state.steps, Instant::now());
    let mut losses = Vec::new();
    let mut hits = 0.9;
    // Since the last line: when it was, and the time spent waiting for batches.
    let (mut told, mut waited, mut all_waited) = (Instant::now(), Duration::ZERO, Duration::ZERO);
    while start.elapsed() < options.budget && state.steps - first_step < options.most_steps {
        let done = start.elapsed().as_secs_f64() / options.budget.as_secs_f64();
        let warm = ((state.steps - first_step + 1) as f64 / WARM_UP as f64).min(1.0);
        optimiser
            .set_lr(options.rate * warm * (0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())));
        let asked = Instant::now();
        let batch = match first.take() {
            Some(batch) => batch,
            None => batches.recv().map_err(|_| over())??,
        };
        waited += asked.elapsed();
        all_waited += asked.elapsed();
        let x = batch.pixels(device);
        let z = {
            let _cast = Autocast::new(device, bf16);
            module.forward(&x, !state.frozen_norm).to_kind(Kind::Float).squeeze_dim(1)
        };
        let n = z.size()[0] / 2;
        let (real, fake) = (z.narrow(0, 0, n), z.narrow(0, n, n));
        let single = real.softplus().mean(Kind::Float) + fake.neg().softplus().mean(Kind::Float);
        let paired =
            (real.narrow(0, 0, batch.paired) - fake.narrow(0, 0, batch.paired)).softplus().mean(Kind::Float);
        let loss = single * 0.5 + paired * options.pair_weight;
        optimiser.backward_step_clip_norm(&loss, 2.0);
        state.steps += 1;
        // A short memory at first, so that the average does not hold on to the random start.
        let age = (state.steps + 1) as f64;
        follow(&average, &store, AVERAGE_DECAY.min(age / (age + 20.0)));
        let value = f64::try_from(&loss)?;
        if !value.is_finite() {
            bail!("the loss is {value} after {} steps; lower --rate", state.steps);
        }
        losses.push(value);
        let right =
            f64::try_from((real.lt(0.0).sum(Kind::Float) + fake.gt(0.0).sum(Kind::Float)) / (2 * n) as f64)?;
        hits += 0.01 * (right - hits);
        progress.set_position(start.elapsed().as_secs());
        if state.steps.is_multiple_of(LINE_EVERY) {
            let recent = mean_of_last(&losses, LINE_EVERY as usize);
            let since = told.elapsed().as_secs_f64();
            log::info!(
                "step {}: loss {recent:.3}, right {hits:.3}, {:.0} s; {:.2} steps/s, {:.0} % of it waiting for batches, which \
                 {} thread(s) can make at {:.0} crops/s",
                state.steps,
                start.elapsed().as_secs_f64(),
                LINE_EVERY as f64 / since,
                100.0 * waited.as_secs_f64() / since,
                speed.workers(),
                speed.crops_a_second(),
            );
            (told, waited) = (Instant::now(), Duration::ZERO);
        }
        if saved.elapsed() >= SAVE_EVERY {
            state.seconds = already + start.elapsed().as_secs_f64();
            save(run, &store, &average, &state)?;
            if let Some((right, ordered)) = watch(&averaged, held_out, options.side, device)? {
                log::info!("step {}: held-out pairs: right {right:.3}, in order {ordered:.3}", state.steps);
            }
            saved = Instant::now();
        }
    }
    progress.finish_and_clear();
    drop(batches);
    let spent = start.elapsed().as_secs_f64();
    log::info!(
        "{} steps in {spent:.0} s: {:.2} steps/s, {:.0} % of it waiting for batches, which {} thread(s) can make at {:.0} \
         crops/s",
        losses.len(),
        losses.len() as f64 / spent,
        100.0 * all_waited.as_secs_f64() / spent,
        speed.workers(),
        speed.crops_a_second(),
    );
    if losses.is_empty() {
        bail!("the time given was over before the first step; give more --minutes");
    }
    state.seconds = already + start.elapsed().as_secs_f64();
    save(run, &store, &average, &state)?;
    let first = losses.iter().take(20).sum::<f64>() / losses.len().min(20) as f64;
    Ok(Outcome { loss: (first, mean_of_last(&losses, 20)), state })
}

fn mean_of_last(values: &[f64], n: usize) -> f64 {
    let n = n.min(values.len());
    values[values.len() - n..].iter().sum::<f64>() / n as f64
}

fn save(run: &Run, store: &nn::VarStore, average: &nn::VarStore, state: &State) -> Result<()> {
    checkpoint::save(store, &run.weights())?;
    checkpoint::save(average, &run.average())?;
    run.put_state(state)
}

/// The exported weights of a run: the average, frozen.
pub fn load_average(run: &Run, net: &Net, device: Device) -> Result<(nn::VarStore, Module)> {
    let mut store = nn::VarStore::new(device);
    let module = Module::new(&store.root(), net);
    checkpoint::load(&mut store, &run.average())?;
    store.freeze();
    Ok((store, module))
}
