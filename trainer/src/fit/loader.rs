//! Worker threads make batches while the trainer trains. A batch depends only on the seed and its
//! number, not on the threads, so that a run can be repeated and resumed at any step.

use super::{
    data::{Sample, shuffle},
    recipe::Recipe,
};
use anyhow::{Context as _, Result, ensure};
use image::RgbImage;
use spotd::forensics::{dataset, rng::Rng};
use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};
use tch::{Device, Kind, Tensor};

/// Pictures smaller than this carry no information, however they are enlarged.
const LEAST_SIDE: u32 = 16;
/// Pictures in a row that may fail before loading is given up.
const MOST_FAILURES: usize = 50;

/// Decoded and cropped pictures of one step.
pub struct Batch {
    bytes: Vec<u8>,
    /// 1 for a generated picture.
    labels: Vec<f32>,
    side: i64,
}

impl Batch {
    /// Pictures in it.
    #[allow(clippy::len_without_is_empty, reason = "no batch is empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// `[n, 3, side, side]` in 0..1, and labels `[n]`.
    pub fn tensors(&self, device: Device) -> (Tensor, Tensor) {
        let x = Tensor::from_slice(&self.bytes)
            .to_device(device)
            .reshape([self.labels.len() as i64, self.side, self.side, 3])
            .permute([0, 3, 1, 2])
            .to_kind(Kind::Float)
            / 255.0;
        (x, Tensor::from_slice(&self.labels).to_device(device))
    }
}

/// What the workers share.
struct Job {
    samples: Vec<Sample>,
    /// Each sample's index, or the two of a matched pair.
    units: Vec<(u32, Option<u32>)>,
    recipe: Recipe,
    seed: u64,
    batch: usize,
    bad: Mutex<HashSet<PathBuf>>,
}

/// Training batches, in order.
pub struct Loader {
    job: Arc<Job>,
    lanes: Vec<Receiver<Result<Batch>>>,
    next: u64,
    waited: Duration,
}

/// Steps that one pass over `n` pictures takes.
pub fn steps_per_epoch(n: usize, batch: usize) -> u64 {
    n.div_ceil(batch) as u64
}

impl Loader {
    /// Starts `workers` threads at step `first`. They end when this is dropped. `pairs` are indices
    /// of matched samples: these follow each other, cropped and degraded alike.
    pub fn new(
        samples: Vec<Sample>,
        pairs: &[(usize, usize)],
        recipe: Recipe,
        seed: u64,
        batch: usize,
        first: u64,
        workers: usize,
    ) -> Loader {
        let units = units(samples.len(), pairs);
        let job = Arc::new(Job { samples, units, recipe, seed, batch, bad: Mutex::default() });
        let lanes = (0..workers as u64)
            .map(|worker| {
                let (sender, receiver) = sync_channel(2);
                let job = job.clone();
                std::thread::spawn(move || {
                    let mut order = Order::default();
                    // The worker whose turn is first, whatever the step.
                    let mut step =
                        first + (worker + workers as u64 - first % workers as u64) % workers as u64;
                    while sender.send(job.make(step, &mut order)).is_ok() {
                        step += workers as u64;
                    }
                });
                receiver
            })
            .collect();
        Loader { job, lanes, next: first, waited: Duration::ZERO }
    }

    /// The next step's batch.
    ///
    /// # Errors
    /// Too many pictures in a row cannot be read.
    pub fn batch(&mut self) -> Result<Batch> {
        let start = Instant::now();
        let lane = (self.next % self.lanes.len() as u64) as usize;
        let batch = self.lanes[lane].recv().ok().context("a thread that loads pictures has panicked")?;
        self.next += 1;
        self.waited += start.elapsed();
        batch
    }

    /// Total time that [`Loader::batch`] has waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Files that could not be used so far.
    pub fn skipped(&self) -> usize {
        self.job.bad.lock().map_or(0, |bad| bad.len())
    }
}

/// The units of shuffling: samples, but both of a pair as one.
fn units(samples: usize, pairs: &[(usize, usize)]) -> Vec<(u32, Option<u32>)> {
    let mut partner: Vec<Option<u32>> = vec![None; samples];
    let mut second = vec![false; samples];
    for &(real, fake) in pairs {
        (partner[real], second[fake]) = (Some(fake as u32), true);
    }
    (0..samples).filter(|at| !second[*at]).map(|at| (at as u32, partner[at])).collect()
}

/// The order of one pass.
#[derive(Default)]
struct Order {
    epoch: Option<u64>,
    /// Indices of samples, and whether each is the second of a pair.
    places: Vec<(u32, bool)>,
}

impl Order {
    fn of(&mut self, epoch: u64, units: &[(u32, Option<u32>)], seed: u64) -> &[(u32, bool)] {
        if self.epoch != Some(epoch) {
            let mut units = units.to_vec();
            shuffle(&mut units, &mut Rng::new(seed).fork(epoch));
            self.places = units
                .into_iter()
                .flat_map(|(first, second)| [Some((first, false)), second.map(|second| (second, true))])
                .flatten()
                .collect();
            self.epoch = Some(epoch);
        }
        &self.places
    }
}

impl Job {
    fn make(&self, step: u64, order: &mut Order) -> Result<Batch> {
        let n = self.samples.len();
        let per_epoch = steps_per_epoch(n, self.batch);
        let order = order.of(step / per_epoch, &self.units, self.seed);
        let from = (step % per_epoch) as usize * self.batch;
        let all = Rng::new(self.seed ^ 0x5eed);
        let (mut bytes, mut labels) = (Vec::new(), Vec::new());
        for (at, (index, second)) in order[from..(from + self.batch).min(n)].iter().enumerate() {
            // The second of a pair uses the draws of the first, which may be the last of the
            // previous batch.
            let mut rng = match (at, second) {
                (0, true) => all.fork(step - 1).fork(self.batch as u64 - 1),
                (at, second) => all.fork(step).fork(at as u64 - u64::from(*second)),
            };
            let mut sample = &self.samples[*index as usize];
            let mut tries = 0;
            let picture = loop {
                let reason = match usable(sample) {
                    Ok(picture) => break picture,
                    Err(reason) => reason,
                };
                self.skip(sample, &reason);
                tries += 1;
                ensure!(
                    tries < MOST_FAILURES,
                    "{}: {reason}; nor could any of {} others of its kind be used",
                    sample.path.display(),
                    tries - 1
                );
                // An unreadable one is replaced by another of its kind.
                let fake = sample.fake;
                sample = rng.pick(&self.samples);
                while sample.fake != fake {
                    sample = rng.pick(&self.samples);
                }
            };
            bytes.extend(self.recipe.training(&picture, &mut rng)?.into_raw());
            labels.push(if sample.fake { 1.0 } else { 0.0 });
        }
        Ok(Batch { bytes, labels, side: self.recipe.crop.into() })
    }

    fn skip(&self, sample: &Sample, reason: &str) {
        if self.bad.lock().is_ok_and(|mut bad| bad.insert(sample.path.clone())) {
            log::warn!("{}: skipped: {reason}", sample.path.display());
        }
    }
}

fn usable(sample: &Sample) -> Result<RgbImage, String> {
    let picture = dataset::load(&sample.path).map_err(|bad| format!("cannot be read: {}", bad.reason))?;
    let (width, height) = picture.dimensions();
    if width.min(height) < LEAST_SIDE {
        return Err(format!("{width}x{height} pixels are too few"));
    }
    Ok(picture)
}

/// Calls `each` with validation batches of all `samples`, made by `workers` threads; what cannot be
/// read is named and left out. Returns how many were left out.
pub fn validation(
    samples: &[Sample],
    recipe: &Recipe,
    batch: usize,
    workers: usize,
    mut each: impl FnMut(Batch) -> Result<()>,
) -> Result<usize> {
    let chunks: Vec<(usize, &[Sample])> = samples.chunks(batch).enumerate().collect();
    let skipped = AtomicUsize::new(0);
    std::thread::scope(|scope| -> Result<()> {
        let lanes: Vec<Receiver<Result<Batch>>> = (0..workers)
            .map(|worker| {
                let (sender, receiver) = sync_channel(1);
                let (chunks, skipped) = (&chunks, &skipped);
                scope.spawn(move || {
                    for (number, chunk) in chunks.iter().skip(worker).step_by(workers) {
                        if sender.send(validation_batch(*number, chunk, recipe, batch, skipped)).is_err() {
                            break;
                        }
                    }
                });
                receiver
            })
            .collect();
        for number in 0..chunks.len() {
            let made = lanes[number % workers].recv().ok();
            let made = made.context("a thread that loads pictures has panicked")??;
            if !made.labels.is_empty() {
                each(made)?;
            }
        }
        Ok(())
    })?;
    Ok(skipped.into_inner())
}

fn validation_batch(
    number: usize,
    chunk: &[Sample],
    recipe: &Recipe,
    batch: usize,
    skipped: &AtomicUsize,
) -> Result<Batch> {
    let (mut bytes, mut labels) = (Vec::new(), Vec::new());
    for (at, sample) in chunk.iter().enumerate() {
        match usable(sample) {
            // The same draw for a picture at every validation, so that scores do not differ at
            // random.
            Ok(picture) => {
                let mut rng = Rng::new(0x7a1).fork((number * batch + at) as u64);
                bytes.extend(recipe.validation(&picture, &mut rng)?.into_raw());
                labels.push(if sample.fake { 1.0 } else { 0.0 });
            }
            Err(reason) => {
                skipped.fetch_add(1, Ordering::Relaxed);
                log::warn!("{}: left out of validation: {reason}", sample.path.display());
            }
        }
    }
    Ok(Batch { bytes, labels, side: recipe.crop.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::recipe::Augment;
    use image::Rgb;

    #[test]
    fn both_of_a_pair_follow_each_other_and_are_cut_alike() {
        let dir = tempfile::tempdir().unwrap();
        let mut samples = Vec::new();
        // Of each pair the generated picture is the real one, 40 levels brighter.
        for at in 0..5u8 {
            for fake in [false, true] {
                let path = dir.path().join(format!("{at}-{fake}.png"));
                let lift = if fake { 40 } else { 0 };
                RgbImage::from_fn(60, 50, |x, y| Rgb([x as u8 + lift, y as u8 + lift, 3 * at + lift]))
                    .save(&path)
                    .unwrap();
                samples.push(Sample { path, fake, class: String::new() });
            }
        }
        // Three pairs, and four samples that have no partner.
        let pairs = [(0, 1), (2, 3), (4, 5)];
        let recipe = Recipe { augment: Augment::None, resize: None, crop: 32, video: None };
        // Of an odd batch a pair is divided now and then.
        let mut loader = Loader::new(samples, &pairs, recipe, 7, 3, 0, 2);
        let (mut seen, mut bytes, mut labels) = (0, Vec::new(), Vec::new());
        for _ in 0..4 {
            let batch = loader.batch().unwrap();
            bytes.extend_from_slice(&batch.bytes);
            labels.extend_from_slice(&batch.labels);
        }
        let crops: Vec<&[u8]> = bytes.chunks_exact(32 * 32 * 3).collect();
        assert_eq!(crops.len(), 10);
        for (at, two) in crops.windows(2).enumerate() {
            let paired = two[0].iter().zip(two[1]).all(|(a, b)| *b == a + 40);
            seen += u32::from(paired && labels[at..at + 2] == [0.0, 1.0]);
        }
        assert_eq!(seen, 3, "pairs, cut in one place");
    }
}
