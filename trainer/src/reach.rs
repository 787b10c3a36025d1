//! Recall under various conditions: measures the card's table that tells the daemon when a low
//! score means nothing (`spotd::detector::conditions`).

use anyhow::{Context as _, Result, ensure};
use image::{RgbImage, imageops::FilterType};
use spotd::{
    detector::{
        Detector, Model,
        card::Card,
        conditions::{Conditions, Reach},
    },
    forensics::{
        augment::{JpegCodec, Plan, gaussian_blur, jpeg, resize},
        dataset,
    },
    frame::Frame,
    identity::Wanted,
    source::recode::VideoCodec,
    threads,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Options of the measurement.
#[derive(clap::Args)]
pub struct Options {
    /// Exported model; its card lies beside it.
    #[arg(long)]
    pub model: PathBuf,
    /// Pictures of each side of a set that are measured, spread evenly over it.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..))]
    pub pictures: u32,
    /// Share of generated pictures that must be found for a low score to mean "clear", 0 to 1.
    #[arg(long, default_value_t = 0.05)]
    pub least: f64,
    /// Write the table into the card.
    #[arg(long)]
    pub write: bool,
    /// Sets in the paper's layout, `<set>/{0_real,1_fake}`.
    pub layout: PathBuf,
}

/// A feed's effect on a picture.
#[derive(Clone, Copy)]
enum Way {
    Stored,
    Jpeg(u8),
    H264(u8),
    Blur(f32),
    Scale(f32),
}

const WAYS: [Way; 16] = [
    Way::Stored,
    Way::Jpeg(90),
    Way::Jpeg(75),
    Way::Jpeg(50),
    Way::Jpeg(30),
    Way::Jpeg(15),
    Way::H264(18),
    Way::H264(23),
    Way::H264(30),
    Way::H264(37),
    Way::H264(44),
    Way::Blur(0.7),
    Way::Blur(1.4),
    Way::Scale(0.75),
    Way::Scale(0.5),
    Way::Scale(2.0),
];

impl Way {
    fn name(self) -> String {
        match self {
            Way::Stored => "as stored".into(),
            Way::Jpeg(quality) => format!("jpeg {quality}"),
            Way::H264(crf) => format!("h264 {crf}"),
            Way::Blur(sigma) => format!("blur {sigma}"),
            Way::Scale(factor) => format!("scaled by {factor}"),
        }
    }

    /// Scaled and blurred pictures are compressed again, as a site or a recorder would.
    fn apply(self, picture: &RgbImage) -> Result<RgbImage> {
        let stored = |p: &RgbImage| Plan { jpeg: Some((JpegCodec::Quartered, 90)), ..Plan::NONE }.apply(p);
        Ok(match self {
            Way::Stored => picture.clone(),
            Way::Jpeg(quality) => jpeg(picture, JpegCodec::Quartered, quality),
            Way::H264(crf) => VideoCodec::H264.recode(picture, crf)?,
            Way::Blur(sigma) => stored(&gaussian_blur(picture, sigma)),
            Way::Scale(factor) => stored(&resize(picture, factor, FilterType::CatmullRom)),
        })
    }
}

/// Pictures are cropped to this side in pixels before they are enlarged: the trace is the same in
/// the rest.
const PART: u32 = 512;
/// Blocks from which the rows apply. There is one row for all: in the validation sets larger
/// pictures come from newer generators, so rows by size would separate generators, not conditions.
const BLOCKS: [f32; 0] = [];
/// Columns of the table.
const COLUMNS: usize = 8;
/// A share of fewer pictures is noise; such a cell uses its column's.
const ENOUGH: u32 = 40;

/// The result for one picture under one condition.
struct Seen {
    way: usize,
    generated: bool,
    conditions: Conditions,
    found: bool,
}

/// Measures, writes the table into the card if requested, and returns a report.
///
/// # Errors
/// No set, a model without a coherent part, or a card that cannot be written.
pub fn reach(options: &Options) -> Result<String> {
    ensure!((0.0..=1.0).contains(&options.least), "--least {}: a share lies between 0 and 1", options.least);
    let model = Model::open(Some(&options.model), Wanted::Auto)?;
    ensure!(
        model.is_coherent(),
        "{}: it has no coherent part, from whose sums conditions are told",
        options.model.display()
    );
    let jobs = pictures(&options.layout, options.pictures as usize)?;
    let ways: Vec<Way> = match VideoCodec::H264.available() {
        Ok(()) => WAYS.to_vec(),
        Err(why) => {
            log::warn!("not measured after H.264: {why}");
            WAYS.into_iter().filter(|way| !matches!(way, Way::H264(_))).collect()
        }
    };
    let bar = crate::photos::bar(jobs.len() as u64, "pictures on all ways");
    let seen: Vec<Result<Vec<Seen>>> = threads::side_by_side(threads::jobs(None), jobs.len(), |job| {
        let (generated, path) = &jobs[job];
        bar.inc(1);
        one(&model, &ways, path, *generated)
    })?;
    bar.finish_and_clear();
    let seen: Vec<Seen> = seen.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let table = table(&seen, options.least)?;
    if options.write {
        let at = Card::path_for(&options.model);
        let card = Card { reach: Some(table.clone()), ..Card::load(&at)? };
        crate::checkpoint::write(&at, card.to_toml().as_bytes())?;
    }
    Ok(report(&seen, &ways, &table))
}

/// Generated and true pictures of all sets, each once.
fn pictures(layout: &Path, most: usize) -> Result<Vec<(bool, PathBuf)>> {
    let sets = dataset::find_sets(layout)?;
    let mut all = BTreeSet::new();
    for set in &sets {
        for (generated, side) in [(false, &set.real), (true, &set.fake)] {
            let step = side.len().div_ceil(most).max(1);
            all.extend(
                side.iter()
                    .step_by(step)
                    .map(|path| (generated, path.canonicalize().unwrap_or_else(|_| path.clone()))),
            );
        }
    }
    ensure!(all.iter().any(|(generated, _)| *generated), "{}: it has no generated picture", layout.display());
    Ok(all.into_iter().collect())
}

fn one(model: &Model, ways: &[Way], path: &Path, generated: bool) -> Result<Vec<Seen>> {
    let picture = match dataset::load(path) {
        Ok(picture) => picture,
        Err(bad) => {
            log::warn!("{}: skipped, cannot be read: {}", bad.path.display(), bad.reason);
            return Ok(vec![]);
        }
    };
    let mut all = vec![];
    for (at, way) in ways.iter().enumerate() {
        let picture = match way {
            Way::Scale(factor) if *factor > 1.0 => {
                let (w, h) = (picture.width().min(PART), picture.height().min(PART));
                way.apply(&image::imageops::crop_imm(&picture, 0, 0, w, h).to_image())?
            }
            _ => way.apply(&picture)?,
        };
        let name = path.display().to_string();
        let frame = Frame::still(name.as_str().into(), picture);
        // For real pictures only the conditions are needed.
        let tiles = if generated { crate::score::MOST_TILES } else { 1 };
        let score = Detector::of(model, tiles).score_lines(frame).context(name)?;
        if let (Some(readings), None) = (&score.readings, score.limited) {
            all.push(Seen {
                way: at,
                generated,
                conditions: Conditions::of(&readings.own),
                found: score.score >= model.card().threshold,
            });
        }
    }
    Ok(all)
}

/// The table over all generated pictures, with equally many per column.
fn table(seen: &[Seen], least: f64) -> Result<Reach> {
    let generated: Vec<&Seen> = seen.iter().filter(|s| s.generated).collect();
    let mut details: Vec<f32> = generated.iter().map(|s| s.conditions.detail).collect();
    ensure!(details.len() >= COLUMNS, "no more than {} pictures could be judged", details.len());
    details.sort_by(f32::total_cmp);
    let mut detail: Vec<f32> =
        (1..COLUMNS).map(|at| (details[at * details.len() / COLUMNS] * 10.0).round() / 10.0).collect();
    detail.dedup();
    let (rows, columns) = (BLOCKS.len() + 1, detail.len() + 1);
    let mut reach = Reach {
        least,
        blocks: BLOCKS.to_vec(),
        detail,
        found: vec![vec![0.0; columns]; rows],
        pictures: vec![vec![0; columns]; rows],
    };
    let mut found = vec![vec![0u32; columns]; rows];
    for one in &generated {
        let (row, column) = reach.cell(one.conditions);
        reach.pictures[row][column] += 1;
        found[row][column] += u32::from(one.found);
    }
    let share = |found: u32, of: u32| (f64::from(found) / f64::from(of.max(1)) * 1e3).round() / 1e3;
    for column in 0..columns {
        let sum = |table: &[Vec<u32>]| table.iter().map(|row| row[column]).sum::<u32>();
        let all = share(sum(&found), sum(&reach.pictures));
        for (row, found) in found.iter().enumerate() {
            let of = reach.pictures[row][column];
            reach.found[row][column] = if of >= ENOUGH { share(found[column], of) } else { all };
        }
    }
    Ok(reach)
}

/// For each condition: recall, and the share of pictures that count as degraded.
fn report(seen: &[Seen], ways: &[Way], reach: &Reach) -> String {
    let mut out = format!("{:<16}{:>9}{:>20}{:>15}\n", "", "found", "generated degraded", "true degraded");
    for (at, way) in ways.iter().enumerate() {
        let share = |of: bool, what: &dyn Fn(&Seen) -> bool| {
            let mine: Vec<_> = seen.iter().filter(|s| s.way == at && s.generated == of).collect();
            100.0 * mine.iter().filter(|s| what(s)).count() as f64 / mine.len().max(1) as f64
        };
        let degraded = |s: &Seen| reach.is_degraded(s.conditions);
        out += &format!(
            "{:<16}{:>8.1}%{:>19.1}%{:>14.1}%\n",
            way.name(),
            share(true, &|s| s.found),
            share(true, &degraded),
            share(false, &degraded)
        );
    }
    out += "\nfound, by detail (columns, dB) and blocks (rows)\n";
    let edges = |list: &[f32]| {
        std::iter::once("below".to_owned()).chain(list.iter().map(f32::to_string)).collect::<Vec<_>>()
    };
    out += &format!("{:>8}", "");
    edges(&reach.detail).iter().for_each(|edge| out += &format!("{edge:>8}"));
    for (row, edge) in edges(&reach.blocks).iter().enumerate() {
        out += &format!("\n{edge:>8}");
        reach.found[row].iter().for_each(|found| out += &format!("{found:>8.3}"));
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(blocks: f32, detail: f32, found: bool) -> Seen {
        Seen { way: 0, generated: true, conditions: Conditions { blocks, detail }, found }
    }

    #[test]
    fn the_table_counts_what_was_found_where() {
        let mut all: Vec<Seen> = (0..800).map(|i| seen(256.0, -40.0 + i as f32 / 40.0, i >= 400)).collect();
        // Size makes no difference.
        all.extend((0..10).map(|_| seen(5000.0, -39.9, true)));
        all.push(Seen { generated: false, ..seen(256.0, -40.0, true) });
        let reach = table(&all, 0.05).unwrap();
        assert_eq!(reach.detail.len(), 7);
        let found = |blocks, detail| reach.found(Conditions { blocks, detail });
        assert_eq!((found(256.0, -35.0), found(256.0, -25.0)), (0.0, 1.0));
        let first = found(256.0, -39.9);
        assert!((0.08..0.11).contains(&first), "of 101 or so in the column 10 were found: {first}");
        assert_eq!(found(5000.0, -39.9), first);
        assert_eq!(reach.pictures.iter().flatten().sum::<u32>(), 810);
    }
}
