//! The sets to evaluate: found in folders and lists, with their files' headers and what is wrong
//! with them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use spotd::forensics::dataset::{EvalSet, Skipped, find_all_sets};
use spotd::forensics::inventory::{Giveaway, Header, Side, giveaways, header, side};
use spotd::forensics::lists::{is_list, read_list};
use spotd::forensics::matched::{self, Matched};
use spotd::shown::Shown as _;
use spotd::threads::side_by_side;

/// A set that can be evaluated: both sides have readable files.
#[derive(Debug)]
pub(crate) struct Set {
    pub name: String,
    /// Indices into [`Collection::pictures`], photographs first.
    pub real: Vec<usize>,
    pub fake: Vec<usize>,
    /// Indices of the real and the generated picture of each pair.
    pub pairs: Vec<(usize, usize)>,
    /// Whether and why its sides are matched.
    pub matched: Option<Matched>,
}

/// What was found in a set, usable or not.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub set: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    pub real: Side,
    pub fake: Side,
    /// Files under a label without a picture's extension.
    pub other_files: usize,
    /// What separates real from generated without looking at a picture.
    pub giveaways: Vec<Giveaway>,
    /// Whether and why its sides are matched.
    pub matched: Option<Matched>,
    /// Pairs of one name, size and content.
    pub pairs: usize,
    /// Why it is left out, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

/// Everything that is evaluated.
#[derive(Debug)]
pub(crate) struct Collection {
    /// Every picture once, however many sets it is in.
    pub pictures: Vec<PathBuf>,
    pub sets: Vec<Set>,
    pub found: Vec<Found>,
    pub skipped: Vec<Skipped>,
}

impl Collection {
    /// # Errors
    /// No set is left; the error says why each was left out.
    pub fn require_sets(&self) -> anyhow::Result<()> {
        let why = || self.found.iter().filter_map(|f| Some(format!("{} {}", f.set, f.left_out.as_ref()?)));
        anyhow::ensure!(
            !self.sets.is_empty(),
            "there is no set with real and generated pictures: {}",
            why().collect::<Vec<_>>().join("; ")
        );
        Ok(())
    }
}

/// The sets in folders and lists, each under a unique name.
///
/// # Errors
/// A folder or list cannot be read, or holds no set.
pub(super) fn find(inputs: &[PathBuf]) -> anyhow::Result<Vec<EvalSet>> {
    let mut sets: Vec<(EvalSet, &Path)> = Vec::new();
    for input in inputs {
        let found = if is_list(input) && !input.is_dir() { read_list(input)? } else { find_all_sets(input)? };
        sets.extend(found.into_iter().map(|set| (set, input.as_path())));
    }
    name_apart(&mut sets);
    Ok(sets.into_iter().map(|(set, _)| set).collect())
}

/// Finds the sets of pictures in folders and lists and reads their files' headers, `jobs` at a
/// time.
///
/// # Errors
/// A folder or list cannot be read, or holds no set.
pub(crate) fn collect(inputs: &[PathBuf], jobs: usize) -> anyhow::Result<Collection> {
    arrange(find(inputs)?, jobs)
}

/// Reads the headers of the sets' pictures, `jobs` at a time.
///
/// # Errors
/// The OS cannot start a thread.
pub(super) fn arrange(sets: Vec<EvalSet>, jobs: usize) -> anyhow::Result<Collection> {
    let mut places: HashMap<PathBuf, usize> = HashMap::new();
    let mut pictures: Vec<PathBuf> = Vec::new();
    let mut place = |path: &PathBuf| {
        // The same photographs may be linked into many sets: they are judged once.
        let key = path.canonicalize().unwrap_or_else(|_| path.clone());
        *places.entry(key).or_insert_with(|| {
            pictures.push(path.clone());
            pictures.len() - 1
        })
    };
    let placed: Vec<[Vec<usize>; 2]> = sets
        .iter()
        .map(|set| [&set.real, &set.fake].map(|side| side.iter().map(&mut place).collect()))
        .collect();

    let mut skipped = Vec::new();
    let headers: Vec<Option<Header>> = side_by_side(jobs, pictures.len(), |at| header(&pictures[at]))
        .context("threads to read the files")?
        .into_iter()
        .map(|read| read.map_err(|bad| skipped.push(bad)).ok())
        .collect();

    // How many sets a photograph is in.
    let mut used: HashMap<usize, usize> = HashMap::new();
    for real in placed.iter().flat_map(|[real, _]| real.iter().collect::<BTreeSet<_>>()) {
        *used.entry(*real).or_default() += 1;
    }
    let size = |at: usize| headers[at].as_ref().map(|h| (h.width, h.height));
    let mut all = Vec::new();
    for (set, [real, fake]) in sets.into_iter().zip(placed) {
        let no_pictures = no_pictures(&set);
        let readable =
            |places: &[usize]| places.iter().copied().filter(|&at| headers[at].is_some()).collect();
        let (ours, theirs): (Vec<usize>, Vec<usize>) = (readable(&real), readable(&fake));
        let of = |places: &[usize]| places.iter().filter_map(|&at| headers[at].clone()).collect::<Vec<_>>();
        let left_out = left_out(&set, ours.len(), theirs.len());
        let giveaways = giveaways(&of(&ours), &of(&theirs));
        let pairs = pairs_of(&set, [&real, &fake], size);
        let shared = ours.iter().any(|at| used[at] > 1);
        let matched =
            left_out.is_none().then(|| Matched::of(pairs.len(), theirs.len(), &giveaways, shared)).flatten();
        let found = Found {
            set: set.name.clone(),
            classes: set.classes,
            real: side(&of(&ours)),
            fake: side(&of(&theirs)),
            other_files: no_pictures,
            giveaways,
            matched,
            pairs: pairs.len(),
            left_out,
        };
        all.push((found, Set { name: set.name, real: ours, fake: theirs, pairs, matched }));
    }
    // The most informative sets come first.
    all.sort_by_key(|(found, _)| found.matched.is_none());
    let mut collection = Collection { pictures, sets: vec![], found: vec![], skipped };
    for (found, set) in all {
        if found.left_out.is_none() {
            collection.sets.push(set);
        }
        collection.found.push(found);
    }
    Ok(collection)
}

/// Pairs as indices into the list of all pictures; a set may use its own paths for them.
fn pairs_of(
    set: &EvalSet,
    [real, fake]: [&[usize]; 2],
    size: impl Fn(usize) -> Option<(u32, u32)>,
) -> Vec<(usize, usize)> {
    let [ours, theirs] =
        [&set.real, &set.fake].map(|side| side.iter().map(PathBuf::as_path).collect::<Vec<&Path>>());
    let place: HashMap<&Path, usize> = ours
        .iter()
        .copied()
        .zip(real.iter().copied())
        .chain(theirs.iter().copied().zip(fake.iter().copied()))
        .collect();
    matched::pairs(&ours, &theirs, |path| size(*place.get(path)?))
        .into_iter()
        .map(|(a, b)| (real[a], fake[b]))
        .collect()
}

/// A ranking of one class means nothing.
fn left_out(set: &EvalSet, real: usize, fake: usize) -> Option<String> {
    let side = |listed: usize, name: &str| match listed {
        0 => format!("has no {name} pictures"),
        n => format!("has {n} {name} files, none of which is a picture that can be read"),
    };
    let mut missing = Vec::new();
    if real == 0 {
        missing.push(side(set.real.len(), "real"));
    }
    if fake == 0 {
        missing.push(side(set.fake.len(), "generated"));
    }
    let hint = match no_pictures(set) {
        0 => String::new(),
        n => format!(" ({n} files in it do not have a picture's extension)"),
    };
    (!missing.is_empty()).then(|| format!("{}{hint}", missing.join(" and ")))
}

/// Files that are skipped among pictures.
fn no_pictures(set: &EvalSet) -> usize {
    set.other.len() + set.clips.iter().map(Vec::len).sum::<usize>()
}

/// Two inputs may have sets of the same name: these are distinguished by where they came from.
fn name_apart(sets: &mut [(EvalSet, &Path)]) {
    let mut count: HashMap<String, usize> = HashMap::new();
    for (set, _) in sets.iter() {
        *count.entry(set.name.clone()).or_default() += 1;
    }
    for (set, input) in sets.iter_mut() {
        if count[&set.name] > 1 {
            set.name = format!("{}/{}", input.shown(), set.name);
        }
    }
}
