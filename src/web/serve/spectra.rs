//! Mean spectra: of an event's frame, computed when somebody asks for it, and of the source while nothing is flagged, kept
//! up to date with one picture a minute. Upsampling leaves points and lines in a spectrum that a camera's pictures lack.
//! Both come from pictures that were encoded alike, in the same small blocks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use crossbeam_channel::{Receiver, select};
use image::{RgbImage, imageops};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::answer::Problem;
use super::detail::{blocking, bytes, find, read};
use super::view::View;
use crate::clock::{Moment, Stop};
use crate::control::Snapshot;
use crate::forensics::spectrum::{MeanSpectrum, Transform};
use crate::frame::picture;
use crate::health::{SourceState, SourceStatus};
use crate::verdict::Verdict;

/// Side of a block in pixels, a multiple of what JPEG and coherent upsamplers repeat with.
const SIDE: usize = 64;
/// Pixels of the median's side: what it leaves is subtracted.
const MEDIAN: usize = 3;
/// Blocks of a picture that are taken at most, so that a large one costs no more than a quarter of a second.
const BLOCKS: usize = 256;
/// How often a picture of a source is taken.
const EVERY: Duration = Duration::from_secs(60);
/// How often it is looked which sources are clear.
const TICK: Duration = Duration::from_secs(1);
/// Pictures in the mean of a source; older ones fade.
const MOST: u32 = 64;

/// The normal spectra of all sources: so many bytes a source, however long it is watched.
pub(super) struct Spectra {
    normal: Mutex<BTreeMap<Arc<str>, Normal>>,
    /// One is computed at a time, so that others who wait for a file do not wait for these.
    turn: Semaphore,
}

/// Mean over the pictures of a source that were clear.
#[derive(Debug, Clone, Default, PartialEq)]
struct Normal {
    mean: Vec<f32>,
    pictures: u32,
}

impl Normal {
    fn add(&mut self, spectrum: &[f32]) {
        self.mean.resize(spectrum.len(), 0.0);
        self.pictures = self.pictures.saturating_add(1);
        let weight = 1.0 / self.pictures.min(MOST) as f32;
        self.mean.iter_mut().zip(spectrum).for_each(|(mean, new)| *mean += weight * (new - *mean));
    }
}

/// An event's spectrum beside its source's.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Beside {
    /// Rows and columns: frequency zero stands at `side / 2`, and a step is 1/`side` cycles per pixel.
    side: usize,
    /// Log10 of the magnitude in the event's first picture, row by row.
    event: Vec<f32>,
    /// The same of its source; none where no picture of it was clear since the start.
    normal: Option<Vec<f32>>,
    /// Pictures in that, of which the newest 64 count most.
    pictures: u32,
}

impl Default for Spectra {
    fn default() -> Self {
        Self { normal: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Spectra {
    fn normal(&self, source: &str) -> Option<Normal> {
        self.normal.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    fn add(&self, source: Arc<str>, spectrum: &[f32]) {
        self.normal.lock().unwrap_or_else(PoisonError::into_inner).entry(source).or_default().add(spectrum);
    }
}

/// Keeps the sources' normal spectra up to date until the stop signal.
pub(super) fn follow(view: &View, snapshots: &Receiver<Snapshot>, stop: &Stop) {
    let mut due: BTreeMap<Arc<str>, Moment> = BTreeMap::new();
    let mut tick = view.clock.after(TICK);
    let is_clear = |status: &SourceStatus| {
        status.verdict == Verdict::Clear && status.state == SourceState::Live && !status.paused
    };
    loop {
        select! {
            recv(snapshots) -> taken => if let Ok(Snapshot { source, jpeg }) = taken {
                let now = view.clock.now();
                let wanted = due.get(&source).is_none_or(|due| now >= *due);
                let clear = |(id, status): &(Arc<str>, SourceStatus)| *id == source && is_clear(status);
                if wanted && view.board.snapshot().iter().any(clear) {
                    match spectrum(&jpeg) {
                        Ok(spectrum) => view.spectra.add(source.clone(), &spectrum),
                        Err(why) => log::debug!("web: {source}: no spectrum: {why}"),
                    }
                    due.insert(source, now + EVERY);
                }
            },
            recv(tick) -> _ => {
                let now = view.clock.now();
                for (id, status) in view.board.snapshot() {
                    if is_clear(&status) && due.get(&id).is_none_or(|due| now >= *due)
                        && let Some(control) = view.controls.source(&id)
                    {
                        control.ask_snapshot();
                    }
                }
                tick = view.clock.after(TICK);
            }
            recv(stop.channel()) -> _ => return,
        }
    }
}

/// `GET /api/v1/events/{id}/spectrum`
#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/events/{id}/spectrum",
    params(("id" = String, Path, description = "Id of an event")),
    responses(
        (status = 200, description = "Mean spectra", body = Beside),
        (status = 400, description = "No id", body = Problem),
        (status = 404, description = "No such event", body = Problem),
        (status = 410, description = "No picture", body = Problem),
        (status = 409, description = "Not what was written", body = Problem),
    )
))]
pub(super) async fn beside(
    State(view): State<Arc<View>>,
    Path(id): Path<String>,
) -> Result<Json<Beside>, Problem> {
    let (event, log, _) = find(&view, &id)?;
    let source = event.source.clone();
    let ended = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "spotd is ending");
    let _turn = view.spectra.turn.acquire().await.map_err(ended)?;
    let own = blocking(move || {
        let none =
            |why: String| Problem::new(StatusCode::GONE, format!("event {}: no spectrum: {why}", event.id));
        let record = read(&log, event.first).map_err(none)?;
        let files = record.evidence.ok_or_else(|| none("no picture was kept".into()))?;
        spectrum(&bytes(&log, &files.frame, event.removed)?).map_err(none)
    })
    .await??;
    let normal = view.spectra.normal(&source);
    Ok(Json(Beside {
        side: SIDE,
        event: rounded(own),
        pictures: normal.as_ref().map_or(0, |n| n.pictures),
        normal: normal.map(|n| rounded(n.mean)),
    }))
}

/// A thousandth is far less than two pictures of the same scene differ by.
fn rounded(mut values: Vec<f32>) -> Vec<f32> {
    values.iter_mut().for_each(|v| *v = (*v * 1000.0).round() / 1000.0);
    values
}

/// The mean log spectrum over blocks of a picture.
fn spectrum(file: &[u8]) -> Result<Vec<f32>, String> {
    let picture = picture::first(file).map_err(|e| e.to_string())?.image;
    let corners = blocks(&picture);
    if corners.is_empty() {
        return Err(format!("it is smaller than {SIDE}x{SIDE} pixels"));
    }
    let transform = Transform::new(SIDE, MEDIAN);
    let mut mean = MeanSpectrum::new(SIDE);
    for (x, y) in corners {
        let block = imageops::crop_imm(&picture, x, y, SIDE as u32, SIDE as u32).to_image();
        mean.add(&transform.log_magnitude(&block));
    }
    Ok(mean.mean().into_iter().map(|v| v as f32).collect())
}

/// Corners of blocks side by side, spread over all of the picture.
fn blocks(picture: &RgbImage) -> Vec<(u32, u32)> {
    let side = SIDE as u32;
    let (columns, rows) = (picture.width() / side, picture.height() / side);
    let all = columns as usize * rows as usize;
    let taken = all.min(BLOCKS);
    let corner = |n: usize| {
        let at = (n * all / taken) as u32;
        (at % columns * side, at / columns * side)
    };
    (0..taken).map(corner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn jpeg(picture: &RgbImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.encode_image(picture).expect("encoded");
        bytes
    }

    #[test]
    fn a_grid_of_eight_pixels_stands_at_its_frequency_and_a_large_picture_costs_no_more() {
        let grid = RgbImage::from_fn(320, 200, |x, y| {
            let noise = (x * 7919 + y * 104_729) % 13;
            Rgb([(100 + noise + if x % 8 == 0 { 40 } else { 0 }) as u8; 3])
        });
        let spectrum = spectrum(&jpeg(&grid)).expect("a spectrum");
        let at = |x: usize, y: usize| spectrum[y * SIDE + x];
        assert!(at(32 + 8, 32) > at(32 + 7, 32) + 0.3, "{} {}", at(40, 32), at(39, 32));
        assert_eq!(blocks(&grid).len(), 15);
        let large = blocks(&RgbImage::new(3840, 2160));
        assert_eq!(large.len(), BLOCKS);
        assert!(large.iter().all(|(x, y)| x + 64 <= 3840 && y + 64 <= 2160));
        assert!(large.last().is_some_and(|(_, y)| *y >= 2000), "over all of it");
        assert!(super::spectrum(&jpeg(&RgbImage::new(63, 200))).expect_err("too small").contains("64x64"));
        assert!(super::spectrum(b"no picture").is_err());
    }

    #[test]
    fn the_mean_is_exact_at_first_and_then_fades() {
        let mut normal = Normal::default();
        for value in [1.0, 2.0, 6.0] {
            normal.add(&[value]);
        }
        assert!((normal.mean[0] - 3.0).abs() < 1e-6);
        for _ in 0..1000 {
            normal.add(&[10.0]);
        }
        assert!((normal.mean[0] - 10.0).abs() < 0.01);
    }
}
