//! What a model knew, made from photographs only: they themselves, and crops of them resynthesised
//! by random upsamplers and, if a run of `resynth` is at hand, by its bank. A detector trained on
//! such pairs forgets them first, and no folder contains them.

use crate::{
    bank::{self, Trained},
    fit::data::Sample,
    photos,
    photos::Photos,
    spectrum::Rings,
    traces,
};
use anyhow::{Context as _, Result, ensure};
use image::imageops;
use spotd::forensics::{dataset, rng::Rng};
use std::path::{Path, PathBuf};
use tch::Device;

/// Side of what is resynthesised, a multiple of what any member needs, and the margin that is cut
/// off, where padding shows.
const DRAWN: u32 = 256;
const MARGIN: u32 = 16;
/// Photographs that are used, spread evenly over all, and crops of each that are resynthesised.
const PHOTOGRAPHS: usize = 400;
const CROPS: usize = 2;
/// Crops per call of a bank member.
const AT_ONCE: usize = 8;
/// Share of crops that random upsamplers resynthesise if there is a bank, and share that is
/// equalised to one spectrum, as in training by `resynth`.
const RANDOM_UPSAMPLERS: f32 = 0.35;
const EQUALISED: f32 = 0.5;
/// Folders of the crops and of what was made of them.
const KINDS: [&str; 2] = ["0_real", "1_fake"];

/// The members of the bank of a run of `resynth`.
fn members(run: &Path, device: Device) -> Result<Vec<Trained>> {
    let folder = crate::checkpoint::Run { folder: run.to_path_buf() }.bank();
    let bank = bank::load_all(&folder, device)
        .with_context(|| format!("--bank {}: takes the folder of a run of `resynth`", run.display()))?;
    ensure!(!bank.is_empty(), "{}: holds no members", folder.display());
    Ok(bank)
}

/// Samples from the photographs below `folders`: the files, and pairs of a crop and its
/// resynthesis, written to `out` as PNG files. Everything made from one photograph is held out or
/// not, as `held_out` decides for its path.
///
/// # Errors
/// No pictures, `val` among them, an unreadable bank, or an unwritable disk.
pub fn known(
    folders: &[PathBuf],
    run: Option<&Path>,
    out: &Path,
    seed: u64,
    device: Device,
    held_out: impl Fn(&Path) -> bool,
) -> Result<(Vec<Sample>, Vec<Sample>)> {
    let mut files = Vec::new();
    for folder in folders {
        dataset::refuse_validation(folder)?;
        let found = dataset::list_pictures(folder)?;
        ensure!(!found.is_empty(), "{}: holds no pictures", folder.display());
        files.extend(found);
    }
    let count = files.len().min(PHOTOGRAPHS);
    let files: Vec<PathBuf> = (0..count).map(|at| files[at * files.len() / count].clone()).collect();
    let bank = run.map(|run| members(run, device)).transpose()?.unwrap_or_default();
    let rings = Rings::new(DRAWN.into(), device);
    let mut rng = Rng::new(seed).fork(0x0601d);
    for kind in KINDS {
        let folder = out.join(kind);
        std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    }
    let (mut train, mut held) = (Vec::new(), Vec::new());
    let progress = photos::bar(files.len() as u64, "redrawing photographs");
    let numbered: Vec<(usize, &PathBuf)> = files.iter().enumerate().collect();
    for some in numbered.chunks(AT_ONCE / CROPS) {
        let mut crops = Vec::new();
        for &(at, file) in some {
            progress.inc(1);
            let picture = match dataset::load(file) {
                Ok(picture) => picture,
                Err(reason) => {
                    log::warn!("{}: left out: {}", file.display(), reason.reason);
                    continue;
                }
            };
            let list = if held_out(file) { &mut held } else { &mut train };
            list.push(Sample { path: file.clone(), fake: false, class: String::new() });
            let photo = Photos::new(vec![picture], vec![])?;
            crops.extend((0..CROPS).map(|n| (file, format!("{at:04}-{n}.png"), photo.crop(DRAWN, &mut rng))));
        }
        if crops.is_empty() {
            continue;
        }
        let pictures: Vec<_> = crops.iter().map(|(_, _, crop)| crop.clone()).collect();
        let x = photos::to_tensor(&pictures).to_device(device);
        let redrawn = if bank.is_empty() || rng.chance(RANDOM_UPSAMPLERS) {
            traces::redraw(&x, &mut rng)
        } else {
            rng.pick(&bank).redraw(&x)
        };
        let (x, redrawn) =
            if rng.chance(EQUALISED) { rings.equalise(&x, &redrawn, &mut rng) } else { (x, redrawn) };
        for (kind, tensor) in KINDS.into_iter().zip([&x, &redrawn]) {
            for ((file, name, _), picture) in crops.iter().zip(photos::to_pictures(tensor)?) {
                let side = DRAWN - 2 * MARGIN;
                let inner = imageops::crop_imm(&picture, MARGIN, MARGIN, side, side).to_image();
                let list = if held_out(file) { &mut held } else { &mut train };
                let path = out.join(kind).join(name);
                inner.save(&path).with_context(|| format!("{}: cannot be written", path.display()))?;
                list.push(Sample { path, fake: kind == KINDS[1], class: "redrawn".into() });
            }
        }
    }
    progress.finish_and_clear();
    Ok((train, held))
}
