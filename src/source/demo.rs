//! The embedded demonstration: a camera-like scene is rendered frame by frame and, every other
//! phase, passed through a small resynthesis network of our own, so that the verdict can be seen to
//! change without a camera, a stream or a file at hand.
//!
//! The network is not the detector's: it is an image-to-image autoencoder that leaves the traces of
//! its upsampling in the picture, as generators do. See `docs/TRAINING.md` for how both were made.

use std::sync::Arc;
use std::time::Duration;

use image::RgbImage;
use tract_onnx::prelude::*;

use super::{Ended, FrameSink, Source, SourceError};
use crate::built_in;
use crate::clock::{SharedClock, Stop};
use crate::detector::model::planar;
use crate::forensics::scenes::SceneRenderer;
use crate::frame::{Captured, Interlacing};

/// Width of the rendered picture in pixels.
pub const WIDTH: u32 = 640;
/// Height of the rendered picture in pixels.
pub const HEIGHT: u32 = 384;
/// Frames a second, on a machine that can render them.
pub const RATE: f64 = 5.0;
/// Frames for which the picture stays untouched, then resynthesised, then untouched, ... Counted in
/// frames rather than seconds, so that a slow machine judges enough of each kind too.
pub(crate) const PHASE: u64 = 60;

/// The resynthesis network at the demonstration's size.
pub struct Resynthesis {
    plan: Arc<TypedSimplePlan>,
}

impl Resynthesis {
    /// Prepares the built-in network.
    ///
    /// # Errors
    /// tract cannot read it, which only a broken build can cause.
    pub fn new() -> Result<Self, SourceError> {
        let shape = [1, 3, HEIGHT as usize, WIDTH as usize];
        let plan = tract_onnx::onnx()
            .model_for_read(&mut &*built_in::RESYNTHESIS.bytes())
            .and_then(|m| m.with_input_fact(0, f32::fact(shape).into()))
            .and_then(|m| m.into_optimized())
            .and_then(|m| m.into_runnable())
            .map_err(|e| SourceError::Configuration(format!("the demonstration's network: {e:#}")))?;
        Ok(Self { plan })
    }

    /// A picture of [`WIDTH`] x [`HEIGHT`] passed through the network.
    ///
    /// # Errors
    /// tract fails.
    pub fn apply(&self, image: &RgbImage) -> Result<RgbImage, SourceError> {
        let failed = |e: TractError| SourceError::Retry(format!("the demonstration's network: {e:#}"));
        let output = self.plan.run(tvec!(planar(image).into())).map_err(failed)?;
        let output = output[0].to_plain_array_view::<f32>().map_err(failed)?;
        Ok(RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
            let channel =
                |c: usize| (output[[0, c, y as usize, x as usize]] * 255.0).round().clamp(0.0, 255.0) as u8;
            image::Rgb([channel(0), channel(1), channel(2)])
        }))
    }
}

/// Renders scenes in real time until stopped.
pub struct DemoSource {
    seed: u64,
    clock: SharedClock,
}

impl DemoSource {
    /// A demonstration whose scenes follow from `seed`.
    pub fn new(seed: u64, clock: SharedClock) -> Self {
        Self { seed, clock }
    }
}

/// Which half of the demonstration a frame belongs to, counted from 0.
pub fn resynthesised(frame: u64) -> bool {
    (frame / PHASE) % 2 == 1
}

impl Source for DemoSource {
    fn run_once(&mut self, sink: &dyn FrameSink, stop: &Stop) -> Result<Ended, SourceError> {
        let network = Resynthesis::new()?;
        let mut scene = SceneRenderer::new(self.seed, WIDTH, HEIGHT);
        let mut due = self.clock.now();
        for index in 0u64.. {
            let synthetic = resynthesised(index);
            if index % PHASE == 0 {
                log::info!(
                    "{}: the picture is now {}",
                    sink.source(),
                    if synthetic { "resynthesised by a network" } else { "as rendered, untouched" }
                );
                if !synthetic {
                    scene = SceneRenderer::new(self.seed.wrapping_add(index / (2 * PHASE)), WIDTH, HEIGHT);
                }
            }
            if sink.wants_frame() {
                let rendered = scene.frame(index);
                let image = if synthetic { network.apply(&rendered)? } else { rendered };
                sink.offer(Captured {
                    interlacing: Interlacing::Whole,
                    ..Captured::rgb(self.clock.wall(), image)
                });
            }
            due = (due + Duration::from_secs_f64(1.0 / RATE)).max(self.clock.now());
            if !stop.wait(&*self.clock, due.saturating_sub(self.clock.now())) {
                return Ok(Ended::Stopped);
            }
        }
        unreachable!("a frame counter of 64 bits does not end")
    }

    fn describe(&self) -> String {
        format!("demonstration, scenes from seed {}", self.seed)
    }
}
