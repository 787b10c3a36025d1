//! Calibration pictures from folders, videos, streams and cameras, cut into tiles as in the daemon.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;

use super::super::input::Input;
use super::super::video::read_frames;
use spotd::detector::model::planar;
use spotd::detector::tiles::{cut, select};
use spotd::forensics::dataset::{list_pictures, load};
use spotd::frame::{Frame, one_field};
use spotd::quantize::Tiles;
use spotd::source::{Pace, SourceUri};

/// Tiles taken from one picture: more would be much the same.
const TILES: usize = 2;

/// One in this many pictures is held out.
const HELD_OUT: usize = 3;

/// Gathers calibration tiles from footage.
pub(super) struct TileGatherer {
    /// Side of a tile in pixels.
    pub side: u32,
    /// Pictures or frames at most.
    pub images: usize,
    /// Frames taken per second of a video or stream.
    pub fps: f64,
    /// How long a live stream is watched.
    pub live: Duration,
}

/// What was gathered so far.
#[derive(Default)]
pub(super) struct Gathered {
    pub tiles: Tiles,
    /// Pictures with tiles.
    pub pictures: usize,
    /// Each input without its password, and the number of pictures from it.
    pub inputs: Vec<(String, usize)>,
    /// Pictures without tiles: too small or flat.
    pub without: usize,
    /// Files and frames that could not be read, and the first one's reason.
    pub unreadable: usize,
    pub reason: Option<String>,
}

impl Gathered {
    fn add(&mut self, frame: Frame, side: u32) {
        let tiles = frame.decoded().and_then(|frame| {
            let frame = one_field(frame);
            let selection = select(&frame, side, TILES, 0)?;
            let tiles = selection.limited.is_none().then_some(selection.tiles);
            tiles
                .unwrap_or_default()
                .into_iter()
                .map(|tile| cut(&frame, tile, side))
                .collect::<Result<Vec<_>, _>>()
        });
        match tiles {
            Ok(tiles) if !tiles.is_empty() => {
                // Tiles of one picture are similar: they stay on one side.
                let into = if self.pictures % HELD_OUT == HELD_OUT - 1 {
                    &mut self.tiles.held_out
                } else {
                    &mut self.tiles.calibrate
                };
                into.extend(tiles.iter().map(planar));
                self.pictures += 1;
            }
            Ok(_) => self.without += 1,
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&mut self, why: String) {
        self.unreadable += 1;
        self.reason.get_or_insert(why);
    }
}

impl TileGatherer {
    /// Gathers tiles from all inputs, with equally many pictures from each.
    pub fn gather(&self, inputs: &[OsString], bar: &ProgressBar) -> anyhow::Result<Gathered> {
        let mut gathered = Gathered::default();
        for (at, input) in inputs.iter().enumerate() {
            let most = (self.images * (at + 1)).div_ceil(inputs.len());
            let before = gathered.pictures;
            let input = Input::parse(input)?;
            self.watch(&input, most, &mut gathered, bar).with_context(|| input.shown.clone())?;
            let given = gathered.pictures - before;
            gathered.inputs.push((input.shown, given));
        }
        Ok(gathered)
    }

    fn watch(
        &self,
        input: &Input,
        most: usize,
        gathered: &mut Gathered,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        if let Some(folder) = input.folder() {
            return self.folder(folder, most, gathered, bar);
        }
        let each = |frame: Frame| {
            gathered.add(frame, self.side);
            bar.set_position(gathered.pictures as u64);
            if gathered.pictures >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match &input.uri {
            SourceUri::File(path) if !path.exists() => bail!("there is no such file or folder"),
            _ => {
                let pace = Pace { fps: self.fps, live: self.live, as_run: false };
                Ok(read_frames(input, pace, each)?)
            }
        }
    }

    /// Pictures spread evenly over a folder, which may be sorted by kind.
    fn folder(
        &self,
        folder: &Path,
        most: usize,
        gathered: &mut Gathered,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let files = list_pictures(folder)?;
        if files.is_empty() {
            bail!("holds no picture");
        }
        let wanted = most.saturating_sub(gathered.pictures).min(files.len());
        for at in 0..wanted {
            let path = &files[at * files.len() / wanted];
            match load(path) {
                Ok(picture) => gathered.add(Frame::still("file".into(), picture), self.side),
                Err(bad) => gathered.fail(format!("{}: {}", bad.path.display(), bad.reason)),
            }
            bar.set_position(gathered.pictures as u64);
        }
        Ok(())
    }
}
