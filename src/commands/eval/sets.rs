//! What is evaluated: sets from folders and lists, their files' headers, and what is wrong with them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::super::pool::side_by_side;
use crate::forensics::dataset::{EvalSet, Skipped, find_all_sets};
use crate::forensics::inventory::{Giveaway, Header, Side, giveaways, header, side};
use crate::forensics::lists::{is_list, read_list};

/// A set that can be evaluated: both sides have readable files.
#[derive(Debug)]
pub(crate) struct Set {
    pub name: String,
    /// Places in [`Collection::pictures`], photographs first.
    pub real: Vec<usize>,
    pub fake: Vec<usize>,
}

/// What was found of a set, usable or not.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub set: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    pub real: Side,
    pub fake: Side,
    /// Files under a label that do not end like a picture.
    pub other_files: usize,
    /// What tells real from generated without looking at a picture.
    pub giveaways: Vec<Giveaway>,
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
    /// No set is left; why each was left out.
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

/// Finds the sets in folders and lists and reads their files' headers, `jobs` at a time.
///
/// # Errors
/// A folder or list cannot be read, or holds no set.
pub(crate) fn collect(inputs: &[PathBuf], jobs: usize) -> anyhow::Result<Collection> {
    let mut sets: Vec<(EvalSet, &Path)> = Vec::new();
    for input in inputs {
        let found = if is_list(input) && !input.is_dir() { read_list(input)? } else { find_all_sets(input)? };
        sets.extend(found.into_iter().map(|set| (set, input.as_path())));
    }
    name_apart(&mut sets);

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
        .map(|(set, _)| [&set.real, &set.fake].map(|side| side.iter().map(&mut place).collect()))
        .collect();

    let mut skipped = Vec::new();
    let headers: Vec<Option<Header>> = side_by_side(jobs, pictures.len(), |at| header(&pictures[at]))
        .context("threads to read the files")?
        .into_iter()
        .map(|read| read.map_err(|bad| skipped.push(bad)).ok())
        .collect();

    let mut collection = Collection { pictures, sets: vec![], found: vec![], skipped };
    for ((set, _), [real, fake]) in sets.into_iter().zip(placed) {
        let readable =
            |places: &[usize]| places.iter().copied().filter(|&at| headers[at].is_some()).collect();
        let (ours, theirs): (Vec<usize>, Vec<usize>) = (readable(&real), readable(&fake));
        let of = |places: &[usize]| places.iter().filter_map(|&at| headers[at].clone()).collect::<Vec<_>>();
        let left_out = left_out(&set, ours.len(), theirs.len());
        collection.found.push(Found {
            set: set.name.clone(),
            classes: set.classes,
            real: side(&of(&ours)),
            fake: side(&of(&theirs)),
            other_files: set.other.len(),
            giveaways: giveaways(&of(&ours), &of(&theirs)),
            left_out: left_out.clone(),
        });
        if left_out.is_none() {
            collection.sets.push(Set { name: set.name, real: ours, fake: theirs });
        }
    }
    Ok(collection)
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
    let hint = if set.other.is_empty() {
        String::new()
    } else {
        format!(" ({} files in it do not end like pictures)", set.other.len())
    };
    (!missing.is_empty()).then(|| format!("{}{hint}", missing.join(" and ")))
}

/// Two inputs may hold sets of one name: these are told apart by where they came from.
fn name_apart(sets: &mut [(EvalSet, &Path)]) {
    let mut count: HashMap<String, usize> = HashMap::new();
    for (set, _) in sets.iter() {
        *count.entry(set.name.clone()).or_default() += 1;
    }
    for (set, input) in sets.iter_mut() {
        if count[&set.name] > 1 {
            set.name = format!("{}/{}", input.display(), set.name);
        }
    }
}
