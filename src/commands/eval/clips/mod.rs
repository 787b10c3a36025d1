//! `spotd eval` of video clips: the verdict `run` would have given on each, and how it depends on
//! the seconds watched.

mod figures;
mod report;
mod watch;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::scorer::View;
use super::sets::Found;
use super::{EvalArgs, output, progress_bar};
use crate::commands::EXIT_FINE;
use crate::commands::console;
use figures::{Measure, Set};
use spotd::detector::{Detector, Model};
use spotd::forensics::dataset::EvalSet;
use spotd::forensics::inventory::{Giveaway, Header, giveaways, separates, side};
use spotd::forensics::matched::Matched;
use spotd::shown::Shown as _;
use spotd::threads::{self, side_by_side};
use spotd::verdict::VerdictConfig;
use watch::{Watched, Watcher};

/// Default number of tiles judged per frame, as in `run`.
const TILES: usize = 9;

/// Whether these are sets of clips.
///
/// # Errors
/// Some are and some are not.
pub(super) fn are_meant(sets: &[EvalSet]) -> anyhow::Result<bool> {
    let pictures = sets.iter().find(|s| !s.real.is_empty() || !s.fake.is_empty());
    let clips = sets.iter().find(|s| s.real.is_empty() && s.fake.is_empty() && has_clips(s));
    if let (Some(pictures), Some(clips)) = (pictures, clips) {
        bail!(
            "{} holds pictures and {} holds video clips; evaluate sets of pictures and sets of clips apart",
            pictures.name,
            clips.name
        );
    }
    Ok(clips.is_some())
}

fn has_clips(set: &EvalSet) -> bool {
    set.clips.iter().any(|side| !side.is_empty())
}

/// Evaluates sets of clips.
///
/// # Errors
/// A set has only one side; clips cannot be watched or are too short for a verdict (all of them are
/// named before anything is judged); the model is unusable, or a file cannot be written.
pub(super) fn eval(args: &EvalArgs, found: &[EvalSet]) -> anyhow::Result<u8> {
    if args.view != View::Tiles || !args.perturb.is_empty() {
        bail!("clips are judged as run judges them: leave out --view and --perturb, which are for pictures");
    }
    refuse("cannot be evaluated", found.iter().filter_map(one_sided).collect())?;
    let (sets, clips) = place(found);

    let model = Model::open(args.model.as_deref(), args.precision)?;
    let verdict = VerdictConfig { threshold: args.threshold, ..VerdictConfig::default() };
    let detector = Detector::new(model, &verdict, args.max_tiles.map_or(TILES, NonZeroUsize::get));
    let watcher = Watcher { detector, verdict, fps: args.fps };
    let jobs = threads::jobs(args.jobs);
    // Hours of work must not be lost to a file that is not a clip.
    let checked = side_by_side(jobs, clips.len(), |at| watcher.check(&clips[at]))
        .context("threads to check the clips with")?;
    refuse("cannot be judged", named(&clips, checked).1)?;

    let bar = progress_bar(clips.len());
    let watched = side_by_side(jobs, clips.len(), |at| {
        let watched = watcher.watch(&clips[at]);
        bar.inc(1);
        watched
    })
    .context("threads to judge with")?;
    bar.finish_and_clear();
    let (watched, failed) = named(&clips, watched);
    refuse("cannot be judged", failed)?;

    let inventory: Vec<Found> =
        sets.iter().zip(found).map(|(s, f)| inventory(s, f, &clips, &watched, is_shared(s, &sets))).collect();
    // As with pictures, the most informative sets come first.
    let mut both: Vec<(Set, Found)> = sets.into_iter().zip(inventory).collect();
    both.sort_by_key(|(_, found)| found.matched.is_none());
    let (sets, inventory): (Vec<Set>, Vec<Found>) = both.into_iter().unzip();
    let measure = Measure {
        seconds: seconds(&args.seconds),
        recall: args.recall,
        replicates: args.bootstrap,
        seed: args.seed,
    };
    let rows = figures::rows(&sets, &watched, &watcher, &measure);
    let told =
        report::Told { sets: &sets, clips: &clips, watched: &watched, watcher: &watcher, found: &inventory };
    super::warn(&inventory);
    told.without_verdict().iter().for_each(|line| log::warn!("{line}"));
    // Files first: the table's reader may stop after its beginning.
    if let Some(path) = &args.csv {
        output::write(path, &super::report::csv_of(rows.iter().map(figures::Row::fields))?)?;
    }
    if let Some(path) = &args.markdown {
        output::write(path, told.markdown(&rows, &measure).as_bytes())?;
    }
    if let Some(folder) = &args.plots {
        for (name, text) in report::plots(&rows).context("plots")? {
            output::write(&folder.join(name), text.as_bytes())?;
        }
    }
    if args.json {
        for line in told.json_lines(&rows, &measure) {
            console::print_json(&line)?;
        }
    } else {
        console::print_lines(&super::report::found_lines(&inventory))?;
        console::print_lines(&report::table(&rows, args.recall))?;
    }
    Ok(EXIT_FINE)
}

/// Each once, from short to long.
fn seconds(asked: &[f64]) -> Vec<f64> {
    let mut seconds = asked.to_vec();
    seconds.sort_by(f64::total_cmp);
    seconds.dedup();
    seconds
}

/// What a set lacks, if it lacks a side.
fn one_sided(set: &EvalSet) -> Option<String> {
    let missing: Vec<&str> = ["real", "generated"]
        .into_iter()
        .zip(&set.clips)
        .filter(|(_, side)| side.is_empty())
        .map(|(name, _)| name)
        .collect();
    (!missing.is_empty()).then(|| {
        format!("{}: has no {} clips; a ranking needs 0_real and 1_fake", set.name, missing.join(" and no "))
    })
}

/// One error for everything that is wrong.
fn refuse(what: &str, wrong: Vec<String>) -> anyhow::Result<()> {
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => bail!("{what}: {one}"),
        many => bail!("{} {what}:\n  {}", many.len(), many.join("\n  ")),
    }
}

/// Lists every clip once, however many sets it is in.
fn place(found: &[EvalSet]) -> (Vec<Set>, Vec<PathBuf>) {
    let (mut places, mut clips) = (HashMap::new(), Vec::new());
    let mut place = |path: &PathBuf| {
        let key = path.canonicalize().unwrap_or_else(|_| path.clone());
        *places.entry(key).or_insert_with(|| {
            clips.push(path.clone());
            clips.len() - 1
        })
    };
    let sets = found
        .iter()
        .map(|set| Set {
            name: set.name.clone(),
            sides: [0, 1].map(|side: usize| set.clips[side].iter().map(&mut place).collect()),
        })
        .collect();
    (sets, clips)
}

/// Splits results into values, and errors with their file's name.
fn named<T>(clips: &[PathBuf], results: Vec<Result<T, String>>) -> (Vec<T>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (path, result) in clips.iter().zip(results) {
        match result {
            Ok(value) => good.push(value),
            // Most errors of a source name the file already.
            Err(why) if why.contains(&path.shown()) => bad.push(why),
            Err(why) => bad.push(format!("{}: {why}", path.shown())),
        }
    }
    (good, bad)
}

/// Whether a real clip of the set is in another one too.
fn is_shared(set: &Set, sets: &[Set]) -> bool {
    let holds = |other: &Set, clip: &usize| other.sides[0].contains(clip);
    set.sides[0].iter().any(|clip| sets.iter().filter(|other| holds(other, clip)).count() > 1)
}

/// What a set's clips look like from outside, and which of that gives the sides away.
fn inventory(set: &Set, found: &EvalSet, clips: &[PathBuf], watched: &[Watched], shared: bool) -> Found {
    let header = |at: &usize| {
        let ending = clips[*at].extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let (width, height) = watched[*at].size;
        Header { format: ending, width, height, quality: None }
    };
    let [real, fake] = [0, 1].map(|at: usize| set.sides[at].iter().map(header).collect::<Vec<_>>());
    let lengths = [0, 1]
        .map(|at: usize| set.sides[at].iter().map(|clip| watched[*clip].last as f32).collect::<Vec<f32>>());
    let mut all = giveaways(&real, &fake);
    // A longer clip has more frames to be flagged in.
    all.extend(separates(&lengths[0], &lengths[1]).and_then(|s| Giveaway::worth_telling("length", s)));
    Found {
        set: set.name.clone(),
        classes: found.classes.clone(),
        real: side(&real),
        fake: side(&fake),
        other_files: found.other.len(),
        matched: Matched::of(0, fake.len(), &all, shared),
        pairs: 0,
        giveaways: all,
        left_out: None,
    }
}
