//! Compares several models on the same sets: what a change of a model costs.

use std::path::PathBuf;

use super::figures::{self, Measure, Row};
use super::perturb::Perturbations;
use super::scorer::{self, Scorer};
use super::{conditions, sets, tell_failures};
use crate::commands::progress_bar;
use spotd::detector::{Detector, Model};
use spotd::shown::Shown as _;

/// Refuses sets and conditions that [`compare`] would refuse, before any work.
///
/// # Errors
/// As [`compare`].
pub(in crate::commands) fn comparable(
    inputs: &[PathBuf],
    perturb: &[Perturbations],
    jobs: usize,
) -> anyhow::Result<()> {
    conditions(perturb)?;
    sets::collect(inputs, jobs)?.require_sets()
}

/// The rows of each model over the same sets, conditions and tiles, without intervals.
///
/// # Errors
/// No set can be evaluated.
pub(in crate::commands) fn compare(
    inputs: &[PathBuf],
    models: &[&Model],
    perturb: &[Perturbations],
    max_tiles: usize,
    jobs: usize,
) -> anyhow::Result<Vec<Vec<Row>>> {
    let conditions = conditions(perturb)?;
    let collection = sets::collect(inputs, jobs)?;
    super::warn(&collection.found);
    collection.require_sets()?;
    let mut wanted: Vec<usize> =
        collection.sets.iter().flat_map(|s| s.real.iter().chain(&s.fake).copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut all = Vec::new();
    for model in models {
        let scorer = Scorer::Tiles(Detector::of(model, max_tiles));
        let bar = progress_bar(wanted.len());
        let (answers, skipped) =
            scorer::score_all(&scorer, &collection.pictures, &wanted, &conditions, jobs, &bar)?;
        bar.finish_and_clear();
        for skipped in &skipped {
            log::warn!("{}: skipped, cannot be read: {}", skipped.path.shown(), skipped.reason);
        }
        tell_failures(&collection, &conditions, &answers);
        let card = scorer.card();
        let measure = Measure { threshold: card.threshold, recall: 0.9, replicates: 0, seed: 1 };
        all.push(figures::rows(
            &collection.sets,
            collection.pictures.len(),
            &conditions,
            &answers,
            &measure,
            |logit| card.score(logit),
        ));
    }
    Ok(all)
}
