//! The paper's tables, reproduced with the user's data: the effect of augmentation, number of
//! classes and amount of data on generators that were not trained on. Each row is a run of `fit`;
//! existing ones are not repeated.

use crate::{
    checkpoint,
    fit::{self, data, recipe::Augment, settings::Settings, state},
    plot,
    score::Perturbation,
};
use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One of the paper's questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Table {
    /// None, blur, JPEG, both at 0.5, both at 0.1.
    Augmentation,
    /// 2, 4, 8, 16, ... classes.
    Classes,
    /// An eighth of the pictures, a quarter, half, all.
    Images,
}

/// What `ablate` is told.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "ablation")]
pub struct Options {
    /// Everything that `fit` takes; --run is the folder of all runs, --measure-on the sets of the
    /// table's columns.
    #[command(flatten)]
    pub base: fit::Options,
    /// Which tables.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "augmentation,classes,images")]
    pub tables: Vec<Table>,
    /// Numbers of classes; by default 2, 4, 8, ... and all.
    #[arg(long, value_delimiter = ',')]
    pub class_counts: Vec<usize>,
    /// Numbers of pictures; by default an eighth, a quarter, half and all.
    #[arg(long, value_delimiter = ',')]
    pub image_counts: Vec<usize>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which table.
    pub table: String,
    /// What was varied.
    pub name: String,
    /// How it was trained.
    pub settings: Settings,
    /// Steps taken.
    pub steps: u64,
    /// Whether its schedule has ended.
    pub finished: bool,
    /// Pictures trained on.
    pub pictures: usize,
    /// AP on the held-out pictures of the training's own kind.
    pub validation_ap: f64,
    /// AP by set: as stored, and after JPEG 75.
    pub sets: Vec<(String, f64, f64)>,
    /// The paper's mean AP for this row (its table 2; ResNet-50, ProGAN's 20 classes, eleven test
    /// sets).
    pub published: Option<f64>,
}

impl Row {
    fn mean(&self, of: fn(&(String, f64, f64)) -> f64) -> Option<f64> {
        (!self.sets.is_empty()).then(|| self.sets.iter().map(of).sum::<f64>() / self.sets.len() as f64)
    }

    /// Mean AP of the sets as stored; of the validation if there are no sets.
    fn headline(&self) -> f64 {
        self.mean(|set| set.1).unwrap_or(self.validation_ap)
    }
}

/// Mean AP over the paper's eleven sets, as published for the two models that its authors released.
fn published(augment: Augment) -> Option<f64> {
    match augment {
        Augment::Half => Some(0.908),
        Augment::Tenth => Some(0.926),
        Augment::None | Augment::Blur | Augment::Jpeg => None,
    }
}

/// A planned row.
struct Planned {
    table: Table,
    name: String,
    folder: String,
    options: fit::Options,
    published: Option<f64>,
}

/// Makes the missing rows; writes `ablation.md` and `ablation.svg` after each, and returns the
/// Markdown.
pub fn ablate(options: &Options) -> Result<String> {
    let home = options.base.run.as_path();
    std::fs::create_dir_all(home).with_context(|| format!("{}: cannot be made", home.display()))?;
    let planned = plan(options)?;
    let (count, mut rows, mut text) = (planned.len(), Vec::new(), String::new());
    for (at, planned) in planned.into_iter().enumerate() {
        log::info!("row {} of {count}: {}", at + 1, planned.name);
        rows.push(row(planned)?);
        // After each row: with hours in between, what there is should be visible.
        text = markdown(&rows);
        checkpoint::write(&home.join("ablation.md"), text.as_bytes())?;
        drawn(&rows, home)?;
    }
    Ok(text)
}

fn drawn(rows: &[Row], home: &Path) -> Result<()> {
    let bars: Vec<(String, String, f64)> =
        rows.iter().map(|row| (row.table.clone(), row.name.clone(), row.headline())).collect();
    let title =
        if rows.iter().any(|row| !row.sets.is_empty()) { "mean AP of the sets" } else { "validation AP" };
    let chance = 0.5;
    plot::bars(&bars, title, "AP", chance, &home.join("ablation.svg"))
}

fn plan(options: &Options) -> Result<Vec<Planned>> {
    let base = &options.base;
    let whole = data::collect(&base.places, base.seed)?;
    let mut planned = Vec::new();
    let mut add = |table: Table,
                   name: String,
                   folder: String,
                   published: Option<f64>,
                   change: &dyn Fn(&mut fit::Options)| {
        let mut options = base.clone();
        change(&mut options);
        options.run = base.run.join(&folder);
        planned.push(Planned { table, name, folder, options, published });
    };
    for table in &options.tables {
        match table {
            Table::Augmentation => {
                for augment in Augment::ALL {
                    let folder = format!("augment-{}", augment.name().replace([' ', '(', ')', '+'], ""));
                    add(*table, augment.name().into(), folder, published(augment), &|o| o.augment = augment);
                }
            }
            Table::Classes => {
                let all = whole.classes.len();
                let counts = counts(&options.class_counts, (1..).map(|i| 1 << i), all);
                ensure!(
                    all > 1 || !options.class_counts.is_empty(),
                    "--tables classes: the pictures have one class only; lay them out as <class>/{{0_real,1_fake}}, or leave this table out"
                );
                for n in counts {
                    add(*table, format!("{n} classes"), format!("classes-{n}"), None, &|o| {
                        o.places.classes = Some(n);
                    });
                }
            }
            Table::Images => {
                let kinds = [false, true].map(|fake| whole.train.iter().filter(|s| s.fake == fake).count());
                let all = 2 * kinds[0].min(kinds[1]);
                for n in counts(&options.image_counts, [all / 8, all / 4, all / 2].into_iter(), all) {
                    add(*table, format!("{n} pictures"), format!("images-{n}"), None, &|o| {
                        o.places.images = Some(n)
                    });
                }
            }
        }
    }
    Ok(planned)
}

/// Those asked for, or those of `usual` below `all`, and `all`.
fn counts(asked: &[usize], usual: impl Iterator<Item = usize>, all: usize) -> Vec<usize> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    let mut counts: Vec<usize> = usual.take_while(|n| *n < all).filter(|n| *n >= 2).collect();
    counts.push(all);
    counts
}

fn row(planned: Planned) -> Result<Row> {
    let Planned { table, name, options, published, folder } = planned;
    let file = options.run.join("row.json");
    let wanted = options.settings(crate::device::bf16_pays(tch::Device::Cpu));
    if file.exists() {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let row: Row =
            serde_json::from_str(&text).with_context(|| format!("{}: not a row", file.display()))?;
        same(&row.settings, &wanted, &folder)?;
        if row.finished || options.steps.is_some_and(|steps| steps <= row.steps) {
            return Ok(row);
        }
    }
    let resume = state::checkpoint_path(&options.run).exists();
    if resume {
        same(&state::read(&options.run)?.state.settings, &wanted, &folder)?;
    }
    let outcome = fit::train(&fit::Options { resume, ..options.clone() })?;
    let of = |perturbation: Perturbation, set: &str| {
        outcome
            .model
            .1
            .measured
            .iter()
            .find(|m| m.set == set && m.perturbation == perturbation.name())
            .map(|m| m.ap)
    };
    let mut sets: Vec<(String, f64, f64)> = Vec::new();
    for m in &outcome.model.1.measured {
        if m.perturbation == Perturbation::AsStored.name() {
            sets.push((m.set.clone(), m.ap, of(Perturbation::Jpeg75, &m.set).unwrap_or(f64::NAN)));
        }
    }
    let row = Row {
        table: format!("{table:?}").to_lowercase(),
        name,
        settings: outcome.state.settings,
        steps: outcome.state.step,
        finished: outcome.state.finished,
        pictures: outcome.pictures.0,
        validation_ap: outcome.state.best.map_or(f64::NAN, |(_, v)| v.ap),
        sets,
        published,
    };
    checkpoint::write(&file, serde_json::to_string_pretty(&row)?.as_bytes())?;
    Ok(row)
}

fn same(found: &Settings, wanted: &Settings, folder: &str) -> Result<()> {
    ensure!(
        Settings { bf16: wanted.bf16, ..found.clone() } == *wanted,
        "{folder}: was made with other settings; give another --run, or the settings of before"
    );
    Ok(())
}

/// One table of all rows.
pub fn markdown(rows: &[Row]) -> String {
    let sets: Vec<&str> =
        rows.first().map_or(vec![], |row| row.sets.iter().map(|set| set.0.as_str()).collect());
    let mut out = String::from("| varied | pictures | steps | validation AP |");
    for set in &sets {
        out += &format!(" {set} |");
    }
    out += " mean | mean after JPEG 75 | published mean |\n|---|---|---|---|";
    out += &"---|".repeat(sets.len() + 3);
    out.push('\n');
    let figure = |value: Option<f64>| value.map_or("".into(), |v| format!("{v:.3}"));
    let mut last = "";
    for row in rows {
        if row.table != last {
            out += &format!("| **{}** |{}\n", row.table, " |".repeat(sets.len() + 6));
            last = &row.table;
        }
        out += &format!("| {} | {} | {} | {:.3} |", row.name, row.pictures, row.steps, row.validation_ap);
        for set in &row.sets {
            out += &format!(" {:.3} |", set.1);
        }
        let (mean, after) = (figure(row.mean(|s| s.1)), figure(row.mean(|s| s.2)));
        out += &format!(" {mean} | {after} | {} |\n", figure(row.published));
    }
    out
}

/// The plots and tables of an ablation's folder.
pub fn files(home: &Path) -> [PathBuf; 2] {
    [home.join("ablation.md"), home.join("ablation.svg")]
}
