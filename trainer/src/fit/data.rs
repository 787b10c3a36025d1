//! Which pictures a run is trained and validated on.

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use spotd::forensics::{
    dataset, inventory, matched,
    rng::{Rng, mix},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Where pictures lie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Places {
    /// Training pictures in the paper's layout, `[class/]{0_real,1_fake}`; may be given several
    /// times.
    #[arg(long)]
    pub data: Vec<PathBuf>,
    /// Folder of real pictures, searched; may be given several times.
    #[arg(long)]
    pub real: Vec<PathBuf>,
    /// Folder of generated pictures, searched; may be given several times.
    #[arg(long)]
    pub fake: Vec<PathBuf>,
    /// Pictures to validate on, in the paper's layout; without it a share of the training pictures
    /// is held out.
    #[arg(long)]
    pub val: Vec<PathBuf>,
    /// Share of the training pictures that is held out where --val is not given.
    #[arg(long, default_value_t = 0.1)]
    pub hold_out: f64,
    /// Train on so many classes (the paper has 2, 4, 8, 16, 20), drawn by the seed.
    #[arg(long)]
    pub classes: Option<usize>,
    /// Train on so many pictures, half of them real, evenly from the classes, drawn by the seed.
    #[arg(long)]
    pub images: Option<usize>,
}

/// One picture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// The file.
    pub path: PathBuf,
    /// Whether it was generated.
    pub fake: bool,
    /// Folder above `0_real` and `1_fake`, relative to what was given; empty where there is none.
    pub class: String,
}

/// A run's pictures, in an order that depends only on the files and the seed.
#[derive(Clone, Debug)]
pub struct Data {
    /// To train on.
    pub train: Vec<Sample>,
    /// To validate on.
    pub held: Vec<Sample>,
    /// Classes trained on.
    pub classes: Vec<String>,
    /// Indices into `train` of the real and the generated picture of each matched pair: same name,
    /// size and content.
    pub pairs: Vec<(usize, usize)>,
}

/// Names the two folders of the paper's layout.
const KINDS: [(&str, bool); 2] = [("0_real", false), ("1_fake", true)];

/// Lists what lies at `places`.
///
/// # Errors
/// A folder is missing, is inside `val`, or has a different layout; a class is empty, or has only
/// one of real and fake.
pub fn collect(places: &Places, seed: u64) -> Result<Data> {
    ensure!(
        !(places.data.is_empty() && places.real.is_empty() && places.fake.is_empty()),
        "no pictures to train on: give --data, or --real and --fake"
    );
    for folder in places.data.iter().chain(&places.real).chain(&places.fake) {
        dataset::refuse_validation(folder)?;
    }
    let mut samples = Vec::new();
    for folder in &places.data {
        samples.extend(laid_out(folder)?);
    }
    for (folders, fake) in [(&places.real, false), (&places.fake, true)] {
        for folder in folders {
            let found = dataset::list_pictures(folder)?;
            ensure!(!found.is_empty(), "{}: holds no pictures", folder.display());
            samples.extend(found.into_iter().map(|path| Sample { path, fake, class: String::new() }));
        }
    }
    let mut held = Vec::new();
    if places.val.is_empty() {
        ensure!(
            places.hold_out > 0.0 && places.hold_out < 1.0,
            "--hold-out {} must lie between 0 and 1",
            places.hold_out
        );
        (held, samples) = samples.into_iter().partition(|s| held_out(&s.path, places.hold_out));
    } else {
        for folder in &places.val {
            held.extend(laid_out(folder)?);
        }
    }
    let all: BTreeSet<String> = samples.iter().map(|s| s.class.clone()).collect();
    let mut classes: Vec<String> = all.into_iter().collect();
    let mut rng = Rng::new(seed).fork(0xc1a5);
    if let Some(n) = places.classes {
        ensure!(
            (1..=classes.len()).contains(&n),
            "--classes {n}: the training pictures have {} class(es), {classes:?}",
            classes.len()
        );
        shuffle(&mut classes, &mut rng);
        classes.truncate(n);
        classes.sort();
        samples.retain(|s| classes.contains(&s.class));
    }
    both_kinds(&samples, "training")?;
    if let Some(n) = places.images {
        samples = some(samples, n, &mut rng)?;
    }
    both_kinds(&held, "validation").context(if places.val.is_empty() {
        "give --val, a larger --hold-out or more pictures"
    } else {
        "--val"
    })?;
    let pairs = matched_pairs(&samples);
    Ok(Data { train: samples, held, classes, pairs })
}

/// Which real and generated samples belong together, class by class.
fn matched_pairs(samples: &[Sample]) -> Vec<(usize, usize)> {
    let mut classes: BTreeMap<&str, [Vec<usize>; 2]> = BTreeMap::new();
    for (at, sample) in samples.iter().enumerate() {
        classes.entry(&sample.class).or_default()[usize::from(sample.fake)].push(at);
    }
    let size = |path: &Path| inventory::header(path).ok().map(|h| (h.width, h.height));
    let mut all = Vec::new();
    for [real, fake] in classes.values() {
        let paths = |side: &[usize]| side.iter().map(|&at| samples[at].path.as_path()).collect::<Vec<_>>();
        let pairs = matched::pairs(&paths(real), &paths(fake), size);
        all.extend(pairs.into_iter().map(|(a, b)| (real[a], fake[b])));
    }
    all
}

impl Data {
    /// Describes what is matched, class by class; matched ones first.
    pub fn matched(&self) -> Vec<String> {
        let generated = |class: &str| self.train.iter().filter(|s| s.fake && s.class == class).count();
        let paired =
            |class: &str| self.pairs.iter().filter(|(real, _)| self.train[*real].class == class).count();
        let named =
            |class: &str| if class.is_empty() { "training pictures".to_owned() } else { class.to_owned() };
        let mut lines: Vec<(bool, String)> = self
            .classes
            .iter()
            .map(|class| match paired(class) {
                0 => (true, format!("{}: not matched by name", named(class))),
                n => (
                    false,
                    format!(
                        "{}: matched: {n} pairs of one name, size and content for {} generated pictures; both go into a \
                         batch together, cut and degraded alike",
                        named(class),
                        generated(class)
                    ),
                ),
            })
            .collect();
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// Pictures of each kind whose headers are read: enough to see a difference, seconds for any
/// collection.
const MOST_HEADERS: usize = 2000;

/// Giveaways, as in `eval`: what separates real from generated `samples` without looking at a
/// picture, which a network would learn. Of a large collection some are drawn by the seed;
/// unreadable files are left to the loader.
pub fn giveaways(samples: &[Sample], seed: u64) -> Vec<String> {
    let headers = |fake: bool| -> Vec<inventory::Header> {
        let mut paths: Vec<&Path> =
            samples.iter().filter(|s| s.fake == fake).map(|s| s.path.as_path()).collect();
        if paths.len() > MOST_HEADERS {
            shuffle(&mut paths, &mut Rng::new(seed).fork(0x4ead));
            paths.truncate(MOST_HEADERS);
        }
        paths.into_iter().filter_map(|path| inventory::header(path).ok()).collect()
    };
    let (real, fake) = (headers(false), headers(true));
    let (ours, theirs) = (inventory::side(&real), inventory::side(&fake));
    let found = inventory::giveaways(&real, &fake);
    found.iter().map(|giveaway| giveaway.warning("training pictures", &ours, &theirs)).collect()
}

/// Whether a picture belongs to the held-out `share` (0..1) of all.
pub fn held_out(path: &Path, share: f64) -> bool {
    name_hash(path) < (share * u64::MAX as f64) as u64
}

/// A hash of the file's name, so that a picture stays held out when others are added.
fn name_hash(path: &Path) -> u64 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.bytes().fold(1, |key, byte| mix(key ^ u64::from(byte)))
}

/// Shuffles in place (Fisher and Yates).
pub fn shuffle<T>(list: &mut [T], rng: &mut Rng) {
    for at in (1..list.len()).rev() {
        list.swap(at, rng.below(at + 1));
    }
}

/// Pictures below `folder` in the paper's layout, any depth of classes.
pub fn laid_out(folder: &Path) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for path in dataset::list_pictures(folder)? {
        let below = path.strip_prefix(folder).unwrap_or(&path);
        let parts: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let kind = parts.iter().position(|part| KINDS.iter().any(|(name, _)| part == name));
        let Some(at) = kind else { continue };
        let (class, fake) = (parts[..at].join("/"), parts[at] == KINDS[1].0);
        counts.entry(class.clone()).or_default()[usize::from(fake)] += 1;
        samples.push(Sample { path, fake, class });
    }
    if samples.is_empty() {
        bail!("{}: holds no pictures in [class/]{{0_real,1_fake}}", folder.display());
    }
    for (class, [real, fake]) in counts {
        let place = folder.join(&class);
        ensure!(real > 0, "{}: 0_real is empty or missing; fill it, or take the class away", place.display());
        ensure!(fake > 0, "{}: 1_fake is empty or missing; fill it, or take the class away", place.display());
    }
    Ok(samples)
}

/// Refuses a list with only one kind.
pub fn both_kinds(samples: &[Sample], what: &str) -> Result<()> {
    let fakes = samples.iter().filter(|s| s.fake).count();
    ensure!(fakes > 0, "no generated pictures for {what}: one kind alone teaches and proves nothing");
    ensure!(fakes < samples.len(), "no real pictures for {what}: one kind alone teaches and proves nothing");
    Ok(())
}

/// `n` of `samples`, half real, as evenly from the classes as possible.
fn some(samples: Vec<Sample>, n: usize, rng: &mut Rng) -> Result<Vec<Sample>> {
    ensure!(n >= 2, "--images {n}: at least one real and one generated picture are needed");
    let mut chosen = Vec::new();
    for (fake, wanted) in [(false, n / 2), (true, n - n / 2)] {
        let mut classes: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        for sample in samples.iter().filter(|s| s.fake == fake) {
            classes.entry(sample.class.clone()).or_default().push(sample.clone());
        }
        let there: usize = classes.values().map(Vec::len).sum();
        ensure!(
            there >= wanted,
            "--images {n}: {wanted} {} pictures are needed, {there} are there",
            if fake { "generated" } else { "real" }
        );
        for list in classes.values_mut() {
            shuffle(list, rng);
        }
        let before = chosen.len();
        while chosen.len() - before < wanted {
            for list in classes.values_mut() {
                if chosen.len() - before < wanted {
                    chosen.extend(list.pop());
                }
            }
        }
    }
    chosen.sort();
    Ok(chosen)
}
