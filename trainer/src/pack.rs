//! Packs what `resynth` needs, small enough to be copied to a machine with a GPU: crops of
//! photographs, matched pairs and other sets as JPEG, and the models and the bank to start from.

use crate::{bank, checkpoint::Run, decoder::Decoder, pairs, photos, start};
use anyhow::{Context as _, Result, bail, ensure};
use image::{RgbImage, imageops};
use spotd::forensics::{
    augment::{JpegCodec, jpeg_bytes},
    dataset, matched,
    rng::Rng,
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};
use tch::{Device, nn::VarStore};

/// What `pack` is told.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "packing")]
pub struct Options {
    /// Folder of photographs, searched; may be given several times. Never val.
    #[arg(long, required = true)]
    pub photos: Vec<PathBuf>,
    /// Folder of sets, `<set>/{0_real,1_fake}` or `{real,fake}/<set>`; may be given several times.
    #[arg(long)]
    pub sets: Vec<PathBuf>,
    /// A decoder as `resynth --decoder` takes it; may be given several times.
    #[arg(long, value_name = "FILE.onnx")]
    pub decoder: Vec<PathBuf>,
    /// Exported float32 models to start from, as `resynth --from` takes them.
    #[arg(long, value_name = "ONNX")]
    pub from: Vec<PathBuf>,
    /// Folder of a run of `resynth` whose bank goes along, so that none has to be trained.
    #[arg(long, value_name = "RUN")]
    pub bank: Option<PathBuf>,
    /// New folder to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Megabytes (of a million bytes) that all of it may have.
    #[arg(long, default_value_t = 50.0)]
    pub limit_mb: f64,
    /// Crops of each photograph.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub crops: u32,
    /// Side of a photograph's crop, at least 208 pixels; of sets 176 are taken, as much as training
    /// ever sees.
    #[arg(long, default_value_t = 288, value_parser = clap::value_parser!(u32).range(208..=4096))]
    pub side: u32,
    /// Quality of the JPEGs, 4:4:4.
    #[arg(long, default_value_t = 93, value_parser = clap::value_parser!(u8).range(60..=100))]
    pub quality: u8,
    /// Seed of what is cut where.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What a pack holds.
#[derive(Debug, Default)]
pub struct Packed {
    /// Bytes of all files.
    pub bytes: u64,
    /// Crops of photographs.
    pub photos: usize,
    /// Names of the sets, with their pairs (none: not matched) and pictures.
    pub sets: Vec<(String, usize, usize)>,
    /// Pictures that were left out as unreadable or too small.
    pub left_out: usize,
}

impl Packed {
    /// A few lines for people.
    pub fn report(&self) -> String {
        let mut out = format!("{:.1} MB: {} crops of photographs", self.bytes as f64 / 1e6, self.photos);
        for (name, pairs, pictures) in &self.sets {
            out += &match pairs {
                0 => format!("; set {name}: {pictures} crops"),
                pairs => format!("; set {name}: {pairs} matched pairs"),
            };
        }
        if self.left_out > 0 {
            out += &format!("; {} pictures unreadable or too small", self.left_out);
        }
        out
    }
}

/// Names of the pack's folders, which `tools/gpu-run.sh` knows.
const PHOTOS: &str = "photos";
const SETS: &str = "sets";
const DECODERS: &str = "decoders";
const FROM: &str = "from";
const BANK: &str = "bank";

/// Writes the pack, completely or not at all.
///
/// # Errors
/// Something to be packed is missing, unusable or `val`; the total is larger than the limit; the
/// folder exists already or cannot be written.
pub fn pack(options: &Options) -> Result<Packed> {
    ensure!(!options.out.exists(), "{}: is there already; choose another folder", options.out.display());
    ensure!(options.limit_mb > 0.0, "--limit-mb {}: must be above 0", options.limit_mb);
    for folder in options.photos.iter().chain(&options.sets) {
        dataset::refuse_validation(folder)?;
    }
    let mut name = options.out.file_name().context("--out: needs a name")?.to_os_string();
    name.push(".partial");
    let partial = options.out.with_file_name(name);
    if partial.exists() {
        std::fs::remove_dir_all(&partial).with_context(|| partial.display().to_string())?;
    }
    let packed = Packer { options, folder: &partial, packed: Packed::default() }.pack().and_then(|packed| {
        std::fs::rename(&partial, &options.out)?;
        Ok(packed)
    });
    if packed.is_err() {
        let _ = std::fs::remove_dir_all(&partial);
    }
    packed
}

struct Packer<'a> {
    options: &'a Options,
    folder: &'a Path,
    packed: Packed,
}

impl Packer<'_> {
    fn pack(mut self) -> Result<Packed> {
        self.models()?;
        self.photographs()?;
        self.sets()?;
        let limit = self.options.limit_mb * 1e6;
        let bytes = self.packed.bytes as f64;
        ensure!(
            bytes <= limit,
            "the pack would have {:.1} MB, {:.1} times the {} MB of --limit-mb: take fewer pictures or --crops, a smaller \
             --side or a lower --quality",
            bytes / 1e6,
            bytes / limit,
            self.options.limit_mb
        );
        Ok(self.packed)
    }

    /// What training starts from, each tested, since a mistake would otherwise be noticed on rented
    /// time.
    fn models(&mut self) -> Result<()> {
        for path in &self.options.decoder {
            Decoder::open(path, pairs::DRAWN.into())?;
            self.copy(path, DECODERS)?;
        }
        if !self.options.from.is_empty() {
            let net = crate::net::edge();
            let mut store = VarStore::new(Device::Cpu);
            crate::module::Module::new(&store.root(), &net);
            start::load_mean(&mut store, &net, &self.options.from)?;
        }
        for path in &self.options.from {
            self.copy(path, FROM)?;
        }
        if let Some(run) = &self.options.bank {
            let bank = Run { folder: run.clone() }.bank();
            let members = bank::load_all(&bank, Device::Cpu)?;
            ensure!(!members.is_empty(), "--bank {}: holds no members", bank.display());
            for member in members {
                for ending in ["json", "safetensors"] {
                    self.copy(&bank.join(format!("{}.{ending}", member.member.net.name)), BANK)?;
                }
            }
        }
        Ok(())
    }

    fn photographs(&mut self) -> Result<()> {
        let mut paths = Vec::new();
        for folder in &self.options.photos {
            let found = dataset::list_pictures(folder)?;
            ensure!(!found.is_empty(), "{}: holds no pictures", folder.display());
            paths.extend(found);
        }
        let progress = photos::bar(paths.len() as u64, "packing photographs");
        let rng = Rng::new(self.options.seed).fork(1);
        for (at, path) in paths.iter().enumerate() {
            progress.inc(1);
            let mut rng = rng.fork(at as u64);
            let Some(picture) = self.readable(path) else { continue };
            let side = self.options.side.min(picture.width()).min(picture.height());
            if side < pairs::DRAWN {
                self.packed.left_out += 1;
                continue;
            }
            for crop in 0..self.options.crops {
                let place = (rng.unit(), rng.unit());
                let name = held_as(path, &format!("{at:06}-{crop}"));
                self.crop(&picture, side, place, &Path::new(PHOTOS).join(name))?;
                self.packed.photos += 1;
            }
        }
        progress.finish_and_clear();
        ensure!(self.packed.photos > 0, "no photograph can be read and has {0}x{0} pixels", pairs::DRAWN);
        Ok(())
    }

    fn sets(&mut self) -> Result<()> {
        for folder in &self.options.sets {
            for set in dataset::find_sets(folder)? {
                let read = |packer: &mut Self, paths: &[PathBuf]| -> Vec<(PathBuf, RgbImage)> {
                    paths.iter().filter_map(|path| Some((path.clone(), packer.readable(path)?))).collect()
                };
                let (real, fake) = (read(self, &set.real), read(self, &set.fake));
                let sizes: HashMap<&Path, (u32, u32)> = real
                    .iter()
                    .chain(&fake)
                    .map(|(path, picture)| (path.as_path(), picture.dimensions()))
                    .collect();
                let [ours, theirs] =
                    [&real, &fake].map(|side| side.iter().map(|(p, _)| p.as_path()).collect::<Vec<_>>());
                let pairs = matched::pairs(&ours, &theirs, |path| sizes.get(path).copied());
                let into = Path::new(SETS).join(&set.name);
                ensure!(
                    !self.folder.join(&into).exists(),
                    "two sets are called {}; give one of them another name",
                    set.name
                );
                let mut rng = Rng::new(self.options.seed).fork(2);
                for (at, (a, b)) in pairs.iter().enumerate() {
                    let place = (rng.unit(), rng.unit());
                    let name = held_as(&real[*a].0, &format!("{at:06}"));
                    self.crop(&real[*a].1, pairs::KEPT, place, &into.join("0_real").join(&name))?;
                    self.crop(&fake[*b].1, pairs::KEPT, place, &into.join("1_fake").join(&name))?;
                }
                if pairs.is_empty() {
                    for (label, side) in [("0_real", &real), ("1_fake", &fake)] {
                        for (at, (path, picture)) in side.iter().enumerate() {
                            let name = held_as(path, &format!("{label}-{at:06}"));
                            let place = (rng.unit(), rng.unit());
                            self.crop(picture, pairs::KEPT, place, &into.join(label).join(name))?;
                        }
                    }
                }
                self.packed.sets.push((set.name, pairs.len(), real.len() + fake.len()));
            }
        }
        Ok(())
    }

    fn readable(&mut self, path: &Path) -> Option<RgbImage> {
        dataset::load(path)
            .inspect_err(|bad| {
                self.packed.left_out += 1;
                log::warn!("{}: left out, cannot be read: {}", bad.path.display(), bad.reason);
            })
            .ok()
    }

    /// At most `side` x `side` of a picture as JPEG.
    fn crop(&mut self, picture: &RgbImage, side: u32, place: (f32, f32), to: &Path) -> Result<()> {
        let (width, height) = (side.min(picture.width()), side.min(picture.height()));
        let at = |all: u32, part: u32, place: f32| (((all - part + 1) as f32 * place) as u32).min(all - part);
        let (x, y) = (at(picture.width(), width, place.0), at(picture.height(), height, place.1));
        let crop = imageops::crop_imm(picture, x, y, width, height).to_image();
        self.put(to, &jpeg_bytes(&crop, JpegCodec::Full, self.options.quality))
    }

    fn copy(&mut self, path: &Path, into: &str) -> Result<()> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let to = Path::new(into).join(path.file_name().unwrap_or_default());
        if self.folder.join(&to).exists() {
            bail!("{}: another file of that name is in the pack already", path.display());
        }
        self.put(&to, &bytes)
    }

    /// Counts everything, and writes as long as it fits.
    fn put(&mut self, to: &Path, bytes: &[u8]) -> Result<()> {
        self.packed.bytes += bytes.len() as u64;
        if self.packed.bytes as f64 > self.options.limit_mb * 1e6 {
            return Ok(());
        }
        let to = self.folder.join(to);
        let folder = to.parent().expect("lies in a folder");
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        std::fs::write(&to, bytes).with_context(|| format!("{}: cannot be written", to.display()))
    }
}

/// A name for a crop of `path` that is held out of training exactly if the picture itself is: what
/// is trained on elsewhere must not be used for thresholds here.
fn held_as(path: &Path, stem: &str) -> String {
    let held = photos::is_held_out(path);
    (0u32..)
        .map(|n| format!("{stem}-{n}.jpg"))
        .find(|name| photos::is_held_out(Path::new(name)) == held)
        .expect("one name in ten is held out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_is_held_out_where_its_picture_is() {
        let (mut held, mut all) = (0, 0);
        for n in 0..200 {
            let path = PathBuf::from(format!("somewhere/{n}.png"));
            let name = held_as(&path, &format!("{n:06}-0"));
            assert_eq!(photos::is_held_out(Path::new(&name)), photos::is_held_out(&path));
            held += u32::from(photos::is_held_out(&path));
            all += 1;
        }
        assert!(held > 5 && held < all / 3, "{held} of {all}");
    }
}
