//! The cost of the coherent part, for a whole frame.

use spotd::clock::Clock;
use spotd::detector::coherence::Grids;
use spotd::detector::{Detector, Model};
use spotd::forensics::scenes::SceneRenderer;
use spotd::frame::Frame;

/// Width and height of the frame.
pub(super) const SIZE: (u32, u32) = (1920, 1080);

/// Number of runs, whose median counts.
const RUNS: usize = 15;

/// Median milliseconds for a frame on one core; `None` if the detector has no coherent part.
pub(super) fn milliseconds(model: &Model, clock: &dyn Clock) -> anyhow::Result<Option<f64>> {
    if !model.is_coherent() {
        return Ok(None);
    }
    let (detector, frame) = (Detector::of(model, 1), frame());
    let mut times = Vec::with_capacity(RUNS);
    for run in 0..RUNS {
        let from = clock.now();
        if let Some(readings) = detector.read(&frame, Grids::OneMore(run))? {
            std::hint::black_box(model.coherent(&readings.own, &readings.scaled)?);
        }
        times.push((clock.now() - from).as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(Some(times[RUNS / 2]))
}

/// A rendered scene as decoders deliver it: NV12, here without colour.
fn frame() -> Frame {
    let (width, height) = SIZE;
    let scene = SceneRenderer::new(1, width, height).frame(0);
    let area = (width * height) as usize;
    let mut bytes: Vec<u8> = scene.pixels().map(|pixel| pixel.0[1]).collect();
    bytes.resize(area * 3 / 2, 128);
    Frame::nv12("bench".into(), width, height, bytes)
}
