//! Which real pictures belong to which generated ones.
//!
//! A set is *matched* where its real side belongs to its generated side, so that content, size and
//! codec say nothing and only the generator's trace is left to tell them apart. A result on such a
//! set means more than one on a set whose photographs came from elsewhere. A set is matched in one
//! of two ways:
//!
//! - **pairs**: at least half of the generated pictures have a real one of the same name (without
//!   its ending) and the same size, in the same place below the label, that shows the same: a
//!   photograph and its resynthesis. Names are often mere numbers, so a few pairs are compared;
//! - **its own photographs, alike in form**: no other set shares them, and neither format nor JPEG
//!   quality nor size separates the sides.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use image::{RgbImage, imageops};
use serde::Serialize;

use super::dataset::{LABELS, load};
use super::inventory::Giveaway;

/// Why a set counts as matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matched {
    /// Pictures of the same name and size form pairs.
    Pairs,
    /// The real ones belong to this set only and look the same from outside.
    Form,
}

impl Matched {
    /// Classifies a set with `pairs` of `fake` generated pictures, whose sides are separated by
    /// `giveaways` and whose real pictures are `shared` with another set or not.
    pub fn of(pairs: usize, fake: usize, giveaways: &[Giveaway], shared: bool) -> Option<Self> {
        if fake > 0 && 2 * pairs >= fake {
            Some(Self::Pairs)
        } else {
            (!shared && giveaways.is_empty()).then_some(Self::Form)
        }
    }
}

/// Indices into `real` and `fake` of the pictures that belong together: the same name without its
/// extension in the same place below the label, the same `size`, and, for a few that are compared,
/// the same content. A name that occurs twice on a side is ignored.
pub fn pairs(
    real: &[&Path],
    fake: &[&Path],
    size: impl Fn(&Path) -> Option<(u32, u32)>,
) -> Vec<(usize, usize)> {
    let mut pairs = by_name(real, fake);
    let files: Vec<(&Path, &Path)> = pairs.iter().map(|&(a, b)| (real[a], fake[b])).collect();
    // Compared before reading every size, which takes long for a large collection whose files are
    // merely numbered.
    if !show_the_same(&files) {
        return vec![];
    }
    pairs.retain(|&(a, b)| size(real[a]).is_some_and(|a| size(fake[b]) == Some(a)));
    pairs
}

/// Indices of the files that have the same name.
fn by_name(real: &[&Path], fake: &[&Path]) -> Vec<(usize, usize)> {
    let real = named(real);
    let mut pairs: Vec<(usize, usize)> = named(fake)
        .into_iter()
        .filter_map(|(name, fake)| Some((real.get(&name).copied().flatten()?, fake?)))
        .collect();
    pairs.sort_unstable();
    pairs
}

/// Pairs that are compared.
const COMPARED: usize = 24;
/// Side of the mosaic that stands for a picture.
const MOSAIC: u32 = 12;
/// Least mean correlation of partners' mosaics: resynthesised photographs have 0.9 to 1, unrelated
/// ones about 0.
const ALIKE: f64 = 0.5;
/// By how much the correlation must exceed that of pictures of different pairs, which are similar
/// too if they show one scene.
const MORE_ALIKE: f64 = 0.2;

/// Whether partners show the same, judged by some that have the same size. A single pair cannot be
/// compared with others.
fn show_the_same(pairs: &[(&Path, &Path)]) -> bool {
    let some = pairs.len().min(COMPARED);
    let mosaics: Vec<(Vec<f64>, Vec<f64>)> = (0..some)
        .filter_map(|at| {
            let (real, fake) = pairs[at * pairs.len() / some];
            let (real, fake) = (load(real).ok()?, load(fake).ok()?);
            (real.dimensions() == fake.dimensions()).then(|| (mosaic(&real), mosaic(&fake)))
        })
        .collect();
    let mean = |shift: usize| {
        let n = mosaics.len();
        (0..n).map(|at| correlation(&mosaics[at].0, &mosaics[(at + shift) % n].1)).sum::<f64>() / n as f64
    };
    match mosaics.len() {
        0 => false,
        1 => mean(0) >= ALIKE,
        n => mean(0) >= ALIKE && mean(0) - mean(n / 2) >= MORE_ALIKE,
    }
}

/// Grey means of a few fields, minus their mean.
fn mosaic(picture: &RgbImage) -> Vec<f64> {
    let small = imageops::thumbnail(picture, MOSAIC, MOSAIC);
    let grey: Vec<f64> = small.pixels().map(|p| p.0.iter().map(|v| f64::from(*v)).sum()).collect();
    let mean = grey.iter().sum::<f64>() / grey.len() as f64;
    grey.into_iter().map(|v| v - mean).collect()
}

/// -1..=1; 0 if one of them is uniform.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let strength = (product(a, a) * product(b, b)).sqrt();
    if strength > 0.0 { product(a, b) / strength } else { 0.0 }
}

/// Index by name; `None` for one that occurs twice.
fn named(paths: &[&Path]) -> HashMap<(PathBuf, OsString), Option<usize>> {
    let mut all = HashMap::new();
    for (at, path) in paths.iter().enumerate() {
        match all.entry(name(path)) {
            Entry::Vacant(free) => {
                free.insert(Some(at));
            }
            Entry::Occupied(mut taken) => {
                taken.insert(None);
            }
        }
    }
    all
}

/// What a file and its partner have in common: the place below the label, including classes, and
/// the name without its extension. Without a label only the name.
fn name(path: &Path) -> (PathBuf, OsString) {
    let stem = path.file_stem().unwrap_or_default().to_owned();
    let parts: Vec<Component> = path.parent().into_iter().flat_map(Path::components).collect();
    let label = |part: &Component| LABELS.iter().any(|label| part.as_os_str() == *label);
    let place = match parts.iter().rposition(label) {
        Some(at) => parts[..at].iter().chain(&parts[at + 1..]).collect(),
        None => PathBuf::new(),
    };
    (place, stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths<'a>(names: &[&'a str]) -> Vec<&'a Path> {
        names.iter().map(|name| Path::new(*name)).collect()
    }

    #[test]
    fn names_pair_within_a_class_and_once() {
        let real = paths(&["s/cat/0_real/1.png", "s/dog/0_real/1.png", "s/0_real/x/2.jpg", "s/0_real/3.png"]);
        let fake = paths(&[
            "s/cat/1_fake/1.jpg",
            "s/1_fake/x/2.png",
            "s/1_fake/3.png",
            "s/1_fake/3.jpg",
            "s/1_fake/9.png",
        ]);
        assert_eq!(by_name(&real, &fake), [(0, 0), (2, 1)]);
        // Lists and `{real,fake}/<set>` have no label in their paths.
        assert_eq!(by_name(&paths(&["real/a/7.jpg"]), &paths(&["elsewhere/7.png"])), [(0, 0)]);
    }

    #[test]
    fn numbers_that_happen_to_agree_make_no_pairs() {
        let dir = tempfile::tempdir().expect("a folder");
        let put = |name: String, seed: u32| {
            let path = dir.path().join(name);
            let picture = RgbImage::from_fn(48, 48, |x, y| {
                image::Rgb([((x / 8 * (seed * 37 + 11) + y / 8 * (seed * 53 + 29)) % 256) as u8; 3])
            });
            picture.save(&path).expect("saved");
            path
        };
        let real: Vec<_> = (0..6).map(|n| put(format!("real-{n}.png"), n)).collect();
        let same: Vec<_> = (0..6).map(|n| put(format!("same-{n}.png"), n)).collect();
        let other: Vec<_> = (0..6).map(|n| put(format!("other-{n}.png"), n + 70)).collect();
        let judged = |fake: &[std::path::PathBuf]| {
            let files: Vec<(&Path, &Path)> =
                real.iter().zip(fake).map(|(a, b)| (a.as_path(), b.as_path())).collect();
            show_the_same(&files)
        };
        assert!(judged(&same) && !judged(&other));
        // If all pictures are the same, partners are no more alike than others.
        let one = vec![real[0].clone(); 6];
        let files: Vec<(&Path, &Path)> =
            one.iter().zip(&one).map(|(a, b)| (a.as_path(), b.as_path())).collect();
        assert!(!show_the_same(&files) && show_the_same(&files[..1]) && !show_the_same(&[]));
    }

    #[test]
    fn half_of_the_generated_or_form_alone() {
        let giveaway = [Giveaway { what: "size", separates: 1.0 }];
        assert_eq!(Matched::of(5, 10, &giveaway, true), Some(Matched::Pairs));
        assert_eq!(Matched::of(4, 10, &giveaway, false), None);
        assert_eq!(Matched::of(0, 10, &[], false), Some(Matched::Form));
        assert_eq!(Matched::of(0, 10, &[], true), None);
    }
}
