//! `spotd spectrum`: what a generator's pictures have in common and photographs do not.

mod picture;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use image::{ImageFormat, RgbImage};
use indicatif::ProgressBar;

use super::chart::{Axes, Line, lines};
use super::eval::LEFT_OUT;
use super::eval::scorer::centre;
use super::eval::sets::{Collection, Set, collect};
use super::manual::Manual;
use super::{EXIT_FINE, EXIT_FLAGGED, console, eval, output, progress_bar};
use picture::{Panel, draw};
use spotd::forensics::ap::quantile;
use spotd::forensics::dataset::{Skipped, load};
use spotd::forensics::rng::Rng;
use spotd::forensics::spectrum::{MeanSpectrum, Transform};
use spotd::shown::Shown as _;
use spotd::threads;

const MANUAL: Manual = Manual {
    examples: &[
        ("spotd spectrum SETS/ --out spectra/", "Draw a picture for each set"),
        ("spotd spectrum SETS/ --out spectra/ --size 256 --images 500", "Larger crops of fewer pictures"),
    ],
    exit_status: LEFT_OUT,
    files: &[],
    environment: &[],
};

/// Arguments of `spotd spectrum`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct SpectrumArgs {
    /// Folders of sets, <set>/[class/]{0_real,1_fake}, or one such set; or lists, *.csv or *.jsonl,
    /// of path,label[,set] with the labels real and fake.
    #[arg(required = true, value_name = "DIR|LIST")]
    inputs: Vec<PathBuf>,

    /// Folder for the results: a PNG for each set, profiles.svg and profiles.csv.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,

    /// Side of the centre crop in pixels; smaller pictures are left out.
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = clap::value_parser!(u32).range(16..=2048))]
    size: u32,

    /// Side of the median filter whose result is subtracted, odd.
    #[arg(long, value_name = "PIXELS", default_value_t = 3, value_parser = odd)]
    median: u32,

    /// Take at most so many pictures of each side of a set, drawn at random.
    #[arg(long, value_name = "N", default_value = "2000")]
    images: NonZeroUsize,

    /// Seed of that draw.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Threads; by default one per core.
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

fn odd(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|v| (3..=31).contains(v) && v % 2 == 1)
        .ok_or_else(|| "must be an odd number from 3 to 31".into())
}

/// The two sides of a set.
const SIDES: [&str; 2] = ["real", "generated"];

/// Computes and writes the spectra; 1 if a file or a set had to be left out.
///
/// # Errors
/// There is nothing to compute, or a file cannot be written.
pub fn spectrum(args: SpectrumArgs) -> anyhow::Result<u8> {
    let jobs = threads::jobs(args.jobs);
    let mut collection = collect(&args.inputs, jobs)?;
    eval::warn(&collection.found);
    collection.require_sets()?;
    let side = args.size as usize;
    let transform = Transform::new(side, args.median as usize);
    let rng = Rng::new(args.seed);
    let (mut plots, mut csv) = (Vec::new(), csv::Writer::from_writer(vec![]));
    csv.write_record(["set", "side", "pictures", "cycles_per_pixel", "log10_magnitude"])?;
    let mut left_out = collection.found.iter().any(|f| f.left_out.is_some());
    let chosen = |set: &Set, of: usize| {
        let all = if of == 0 { &set.real } else { &set.fake };
        draw_some(all, args.images.get(), &mut rng.fork(of as u64))
    };
    let total = collection.sets.iter().map(|s| chosen(s, 0).len() + chosen(s, 1).len()).sum();
    let bar = progress_bar(total);
    let mut skipped: Vec<Skipped> = std::mem::take(&mut collection.skipped);
    for set in &collection.sets {
        let mut both = Vec::new();
        for (of, name) in SIDES.iter().enumerate() {
            let (mean, small, bad) =
                mean_of(&collection, &chosen(set, of), &transform, args.size, jobs, &bar)?;
            skipped.extend(bad);
            if small > 0 {
                log::warn!(
                    "{}: {small} {name} pictures are smaller than {side}x{side} and were left out",
                    set.name
                );
            }
            both.push(mean);
        }
        if let Some(empty) = both.iter().position(|m| m.pictures == 0) {
            log::warn!("{}: left out, no {} picture is {side}x{side}; lower --size", set.name, SIDES[empty]);
            left_out = true;
            continue;
        }
        let path = args.out.join(format!("{}.png", set.name.replace(['/', '\\'], "-")));
        write_picture(&path, &set.name, &both, args.size)?;
        for (mean, side) in both.iter().zip(SIDES) {
            let profile = mean.profile();
            for (frequency, value) in &profile {
                let fields = [mean.pictures.to_string(), format!("{frequency:.6}"), format!("{value:.6}")];
                csv.write_record(
                    [set.name.as_str(), side].into_iter().chain(fields.iter().map(String::as_str)),
                )?;
            }
            plots.push(Line { name: format!("{} {side}", set.name), points: profile, main: false });
        }
        console::print_line(&format!(
            "{}: {} real, {} generated, {}",
            set.name,
            both[0].pictures,
            both[1].pictures,
            path.shown()
        ))?;
    }
    bar.finish_and_clear();
    for skipped in &skipped {
        log::warn!("{}: skipped, cannot be read: {}", skipped.path.shown(), skipped.reason);
    }
    if plots.is_empty() {
        bail!("no set has real and generated pictures of at least {side}x{side}; lower --size");
    }
    output::write(&args.out.join("profiles.csv"), &csv.into_inner()?)?;
    output::write(&args.out.join("profiles.svg"), profiles(&plots)?.as_bytes())?;
    Ok(if left_out || !skipped.is_empty() { EXIT_FLAGGED } else { EXIT_FINE })
}

/// At most `most` of `all`, drawn uniformly, in their order.
fn draw_some(all: &[usize], most: usize, rng: &mut Rng) -> Vec<usize> {
    let mut chosen = all.to_vec();
    for at in 0..most.min(all.len()) {
        let other = at + rng.below(chosen.len() - at);
        chosen.swap(at, other);
    }
    chosen.truncate(most);
    chosen.sort_unstable();
    chosen
}

/// Mean spectrum of these pictures, how many were too small, and which could not be read.
fn mean_of(
    collection: &Collection,
    places: &[usize],
    transform: &Transform,
    size: u32,
    jobs: usize,
    bar: &ProgressBar,
) -> anyhow::Result<(MeanSpectrum, usize, Vec<Skipped>)> {
    let parts = jobs.clamp(1, places.len().max(1));
    // One mean per thread: the spectra of all pictures at once would take gigabytes.
    let done = threads::side_by_side(parts, parts, |part| {
        let (mut mean, mut small, mut bad) = (MeanSpectrum::new(size as usize), 0, Vec::new());
        for place in places.iter().skip(part).step_by(parts) {
            match load(&collection.pictures[*place]) {
                Ok(picture) if picture.width() < size || picture.height() < size => small += 1,
                Ok(picture) => mean.add(&transform.log_magnitude(&centre(&picture, size))),
                Err(skipped) => bad.push(skipped),
            }
            bar.inc(1);
        }
        (mean, small, bad)
    })
    .context("threads")?;
    let mut all = (MeanSpectrum::new(size as usize), 0, Vec::new());
    for (mean, small, bad) in done {
        all.0.merge(&mean);
        all.1 += small;
        all.2.extend(bad);
    }
    Ok(all)
}

/// Both sides on one scale: from the 0.5th to the 99.95th percentile of all values, so that a few
/// bright points do not darken the rest.
fn write_picture(path: &Path, name: &str, both: &[MeanSpectrum], size: u32) -> anyhow::Result<()> {
    let means: Vec<Vec<f64>> = both.iter().map(MeanSpectrum::mean).collect();
    let all: Vec<f32> = means.iter().flatten().map(|v| *v as f32).collect();
    let bound = |q: f64| f64::from(quantile(&all, q).expect("pictures have values"));
    let (low, high) = (bound(0.005), bound(0.9995));
    let panels: Vec<Panel<'_>> = means
        .iter()
        .zip(both)
        .zip(SIDES)
        .map(|((values, mean), side)| Panel { name: format!("{name} {side} ({})", mean.pictures), values })
        .collect();
    let picture: RgbImage = draw(&panels, size, (low, high.max(low + 1e-6)), "log10");
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).context("PNG")?;
    output::write(path, bytes.get_ref())
}

fn profiles(all: &[Line]) -> anyhow::Result<String> {
    let values = || all.iter().flat_map(|l| l.points.iter().map(|p| p.1));
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    let axes = Axes {
        title: "Radial profile of the mean log spectrum, high-pass filtered",
        x: ("cycles per pixel", 0.0..0.5),
        y: ("mean log10 magnitude", low..high.max(low + 1e-6)),
    };
    lines(&axes, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_without_repetition_and_reproducible() {
        let all: Vec<usize> = (100..200).collect();
        let mut once = draw_some(&all, 30, &mut Rng::new(1));
        assert_eq!(once, draw_some(&all, 30, &mut Rng::new(1)));
        assert_ne!(once, draw_some(&all, 30, &mut Rng::new(2)));
        once.dedup();
        assert_eq!(once.len(), 30);
        assert_eq!(draw_some(&all, 500, &mut Rng::new(1)), all);
    }
}
