//! The head's training data: pictures by kind, each drawn several times with different
//! degradations.

use super::fate::Fate;
use anyhow::{Context as _, Result, ensure};
use image::RgbImage;
use spotd::{
    detector::coherence::{BlockSums, FEATURES, Luma, SIDE, features},
    forensics::{
        dataset, inventory,
        matched::{self, Matched},
        rng::{Rng, mix},
    },
    source::recode::VideoCodec,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// How the two sides of a kind are matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// Generated pictures are resynthesised photographs of the same name: see [`matched`].
    Pairs,
    /// Both sides have the same origin, with similar motifs, size and codec.
    Sets,
    /// Only one side, or sides that merely share a name.
    Loose,
}

/// The pictures of one kind: `real/<kind>` and `fake/<kind>`.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Name of both folders.
    pub name: String,
    /// How its sides are matched.
    pub matched: Match,
    /// True pictures.
    pub real: Vec<PathBuf>,
    /// Generated or redrawn ones.
    pub fake: Vec<PathBuf>,
}

/// The kinds below `folder/{real,fake}`, by name. A kind consists of pairs if at least half of its
/// generated pictures have a photograph with the same name, size and content.
///
/// # Errors
/// `folder` lies in or links to validation pictures, has no `real` or `fake`, or cannot be read.
pub fn kinds(folder: &Path) -> Result<Vec<Kind>> {
    dataset::refuse_validation(folder)?;
    let mut sides: BTreeMap<String, [Vec<PathBuf>; 2]> = BTreeMap::new();
    let mut found = false;
    for (side, name) in ["real", "fake"].into_iter().enumerate() {
        let Ok(entries) = std::fs::read_dir(folder.join(name)) else { continue };
        found = true;
        for entry in entries {
            let path = entry.with_context(|| folder.display().to_string())?.path();
            if path.is_dir() {
                dataset::refuse_validation(&path)?;
                let kind = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                sides.entry(kind).or_default()[side] = dataset::list_pictures(&path)?;
            }
        }
    }
    let size = |path: &Path| inventory::header(path).ok().map(|header| (header.width, header.height));
    ensure!(found, "{}: it has neither a folder real nor a folder fake", folder.display());
    Ok(sides
        .into_iter()
        .map(|(name, [real, fake])| {
            let [ours, theirs] =
                [&real, &fake].map(|side| side.iter().map(PathBuf::as_path).collect::<Vec<_>>());
            let pairs = || matched::pairs(&ours, &theirs, size).len();
            let matched = match (real.is_empty(), fake.is_empty()) {
                (false, false) if Matched::of(pairs(), fake.len(), &[], true).is_some() => Match::Pairs,
                (false, false) => Match::Sets,
                _ => Match::Loose,
            };
            Kind { name, matched, real, fake }
        })
        .collect())
}

/// Features with labels and weights.
#[derive(Debug, Default)]
pub struct Samples {
    /// Row by row, [`FEATURES`] each.
    pub rows: Vec<f32>,
    /// 1 for generated.
    pub labels: Vec<f32>,
    /// Weight of each row; those of all rows sum to 1.
    pub weights: Vec<f64>,
    /// The kind of each row.
    pub kinds: Vec<usize>,
    /// Whether each row is held out for measuring: a fifth of the pictures; both sides of a pair go
    /// together.
    pub held_out: Vec<bool>,
}

/// Shares of pairs, matched sets and loose kinds in the data; if one is missing, the others take
/// its share.
const SHARES: [(Match, f64); 3] = [(Match::Pairs, 0.36), (Match::Sets, 0.32), (Match::Loose, 0.32)];

/// Draws every picture of all kinds `times` times. Both sides of a pair undergo the same
/// degradations, seeded by the name.
///
/// # Errors
/// The OS cannot start a thread, or one side has no readable picture.
pub fn draw(kinds: &[Kind], times: u64, seed: u64, bar: &indicatif::ProgressBar) -> Result<Samples> {
    let jobs: Vec<(usize, bool, &Path)> = (kinds.iter().enumerate())
        .flat_map(|(at, kind)| {
            (kind.real.iter().map(move |p| (at, false, p.as_path())))
                .chain(kind.fake.iter().map(move |p| (at, true, p.as_path())))
        })
        .collect();
    bar.set_length(jobs.len() as u64);
    let video = VideoCodec::H264.available().is_ok();
    let drawn: Vec<Vec<[f32; FEATURES]>> =
        spotd::threads::side_by_side(spotd::threads::jobs(None), jobs.len(), |job| {
            let (_, fake, path) = jobs[job];
            bar.inc(1);
            let picture = match dataset::load(path) {
                Ok(picture) => picture,
                Err(bad) => {
                    log::warn!("{}: {}; left out", bad.path.display(), bad.reason);
                    return vec![];
                }
            };
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let word = name.bytes().fold(seed, |h, b| mix(h ^ u64::from(b)));
            (0..times)
                .filter_map(|time| one(&picture, fake, &mut Rng::new(mix(word ^ mix(time))), video))
                .collect()
        })?;
    let mut samples = Samples::default();
    let mut counts: BTreeMap<(usize, bool), usize> = BTreeMap::new();
    for ((kind, fake, _), rows) in jobs.iter().zip(&drawn) {
        *counts.entry((*kind, *fake)).or_default() += rows.len();
    }
    let shares = shares(kinds, &counts);
    for ((kind, fake, path), rows) in jobs.iter().zip(drawn) {
        let held_out = is_held_out(path);
        for row in rows {
            samples.rows.extend(row);
            samples.labels.push(f32::from(u8::from(*fake)));
            samples.kinds.push(*kind);
            samples.held_out.push(held_out);
            samples.weights.push(shares[&(*kind, *fake)] / counts[&(*kind, *fake)] as f64);
        }
    }
    for label in [0.0, 1.0] {
        ensure!(
            samples.labels.contains(&label),
            "no {} picture that can be read",
            if label > 0.5 { "generated" } else { "true" }
        );
    }
    Ok(samples)
}

/// One picture in five, by its name.
fn is_held_out(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name.bytes().fold(7, |h, b| mix(h ^ u64::from(b))) % 5 == 0
}

/// The weight of each side of each kind: half real, half generated within each sort of match, and
/// there by the square root of the numbers, so that a large set does not drown out small ones.
fn shares(kinds: &[Kind], counts: &BTreeMap<(usize, bool), usize>) -> BTreeMap<(usize, bool), f64> {
    let mut shares = BTreeMap::new();
    for (matched, share) in SHARES {
        for fake in [false, true] {
            let mine: Vec<_> = counts
                .iter()
                .filter(|((kind, f), n)| kinds[*kind].matched == matched && *f == fake && **n > 0)
                .collect();
            let roots: f64 = mine.iter().map(|(_, n)| (**n as f64).sqrt()).sum();
            shares.extend(mine.iter().map(|(key, n)| (**key, share / 2.0 * (**n as f64).sqrt() / roots)));
        }
    }
    for fake in [false, true] {
        let total: f64 = shares.iter().filter(|((_, f), _)| *f == fake).map(|(_, s)| s).sum();
        shares.iter_mut().filter(|((_, f), _)| *f == fake).for_each(|(_, s)| *s /= 2.0 * total);
    }
    shares
}

/// Sides of a crop in blocks: 160 to 384 pixels, or the whole picture. Drawing the same sizes on
/// both sides keeps the head from separating them by the number of blocks.
const CROPS: [usize; 8] = [10, 12, 14, 16, 16, 20, 24, 64];

/// Factors by which feeds and files are scaled after they were generated, and so the grids that a
/// frame is read on besides its own: 720p to 1080p, 1024x576 to 720p and to 1080p, and the factors
/// by which web sites shrink.
pub const SCALES: [f64; 6] = [1.5, 1.25, 1.875, 0.75, 2.0 / 3.0, 0.5];
/// Probability that a picture is read on a scaled grid.
const SCALED: f32 = 0.08;
/// Probability that such a real picture was not scaled by the assumed factor: the highest of many
/// readings counts, and all but one of them are wrong.
const MISTAKEN: f32 = 0.5;

/// The features of one degraded picture; `None` if it is too small.
fn one(picture: &RgbImage, fake: bool, rng: &mut Rng, video: bool) -> Option<[f32; FEATURES]> {
    let (scaled, mistaken) = (rng.chance(SCALED), rng.chance(MISTAKEN));
    let (at, other) = (rng.below(SCALES.len()), rng.below(SCALES.len() + 1));
    // Not by the assumed factor: by another one, or not at all.
    let factor = match SCALES.get(other) {
        _ if fake || !mistaken => SCALES[at],
        Some(&factor) if other != at => factor,
        _ => 1.0,
    };
    let fate = Fate::draw(rng);
    let (wanted, place) = (*rng.pick(&CROPS), (rng.unit(), rng.unit()));
    let plane = if scaled {
        let changed = fate.scaled_by(factor as f32).apply(picture, video)?;
        crop(&Luma::of_rgb(&changed).scaled_back(SCALES[at]), wanted, place)?
    } else {
        crop(&Luma::of_rgb(&fate.apply(picture, video)?), wanted, place)?
    };
    features(&BlockSums::of(&plane)).try_into().ok()
}

/// A part of `wanted` blocks a side, or all there is, on the grid; `place` 0..1 says where.
fn crop(plane: &Luma, wanted: usize, place: (f32, f32)) -> Option<Luma> {
    let (columns, rows) = (plane.width / SIDE, plane.height / SIDE);
    let (w, h) = (columns.min(wanted), rows.min(wanted));
    if w * h < 64 {
        return None;
    }
    let at = |room: usize, share: f32| ((room + 1) as f32 * share) as usize;
    let x = at(columns - w, place.0).min(columns - w) * SIDE;
    let y = at(rows - h, place.1).min(rows - h) * SIDE;
    let (width, height) = (w * SIDE, h * SIDE);
    let levels =
        (y..y + height).flat_map(|row| &plane.levels[row * plane.width + x..][..width]).copied().collect();
    Some(Luma { width, height, levels })
}
