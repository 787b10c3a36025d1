//! Camera-like scenes without a camera: the demonstration's stream, and photographs that any
//! machine has.
//!
//! A scene is deterministic: (`seed`, size, frame index) give the same pixels everywhere. The world
//! is painted once at twice the frame's scale; each frame moves the camera and the movers, and goes
//! through a sensor ([`sensor`]), because a detector of generated pictures examines exactly what a
//! sensor leaves behind.

mod canvas;
pub mod sensor;
mod world;

use super::rng::{Rng, mix};
use canvas::Canvas;
use image::RgbImage;
use sensor::{Scratch, Sensor, filter_at};
use world::Mover;

/// The frame rate that the motion is designed for.
pub(crate) const FRAME_RATE: f32 = 25.0;

/// Canvas pixels per frame pixel: the optics average over them.
const SCALE: usize = 2;
/// Share of the frame that the camera can wander, each way.
const MARGIN: f32 = 0.04;

/// Renders one scene's frames.
pub struct SceneRenderer {
    seed: u64,
    width: usize,
    height: usize,
    still: Canvas,
    movers: Vec<Mover>,
    sensor: Sensor,
    sway: [f32; 6],
    light: Vec<f32>,
    scratch: Scratch,
}

impl SceneRenderer {
    /// Paints the world of `seed` for frames of `width` x `height` pixels (about 0.1 s for 640x360
    /// in a release build).
    ///
    /// # Panics
    /// If a side is under 16 pixels.
    pub fn new(seed: u64, width: u32, height: u32) -> Self {
        assert!(width >= 16 && height >= 16, "a scene of {width}x{height} is too small to show anything");
        let (width, height) = (width as usize, height as usize);
        let mut rng = Rng::new(seed);
        let extent = |n: usize| (n as f32 * (1.0 + 2.0 * MARGIN)) as usize * SCALE + 4;
        let (still, movers) = world::build(&mut rng, extent(width), extent(height));
        let sensor = Sensor::draw(&mut rng);
        let sway = std::array::from_fn(|_| rng.unit());
        SceneRenderer {
            seed,
            width,
            height,
            still,
            movers,
            sensor,
            sway,
            light: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// Frame `index`, at 25 frames a second. In any order; a frame does not depend on those before
    /// it.
    pub fn frame(&mut self, index: u64) -> RgbImage {
        // A day of frames, so that a float can still distinguish neighbours; then the motion starts
        // again.
        let time = (index % 2_160_000) as f32 / FRAME_RATE;
        let view = self.camera(time);
        self.light.clear();
        self.light.resize(self.width * self.height, 0.0);
        composite(&self.still, view.map(|v| -v), self.width, self.height, &mut self.light);
        for mover in &self.movers {
            let at = place(mover, time, self.still.width as f32);
            composite(
                &mover.sprite,
                [at[0] - view[0], at[1] - view[1]],
                self.width,
                self.height,
                &mut self.light,
            );
        }
        let seed = mix(self.seed ^ mix(index));
        let flicker = 1.0 + 0.006 * (time * 1.7 + self.sway[4] * 9.0).sin();
        let sensor = Sensor { exposure: self.sensor.exposure * flicker, ..self.sensor.clone() };
        sensor::develop(&sensor, &self.light, self.width, self.height, seed, &mut self.scratch)
    }

    /// The position of the frame's top left on the canvas: a slow pan and a hand's tremor.
    fn camera(&self, time: f32) -> [f32; 2] {
        let [a, b, c, d, e, f] = self.sway;
        let wander = |rate: f32, phase: f32| (time * rate + phase * std::f32::consts::TAU).sin();
        let side = |n: usize| n as f32 * MARGIN * SCALE as f32;
        let (w, h) = (side(self.width), side(self.height));
        let tremor = 0.5 * SCALE as f32;
        [
            w * (1.0 + 0.8 * wander(0.25 + 0.3 * a, b)) + tremor * wander(5.0 + 2.0 * c, d),
            h * (1.0 + 0.6 * wander(0.2 + 0.3 * e, f)) + tremor * wander(6.0 + 2.0 * b, a),
        ]
    }
}

fn place(mover: &Mover, time: f32, world: f32) -> [f32; 2] {
    let span = world + mover.sprite.width as f32;
    let x = (mover.start[0] + mover.speed * time).rem_euclid(span) - mover.sprite.width as f32;
    [x, mover.start[1] + mover.bob.0 * (mover.bob.1 * time).sin()]
}

/// Adds `layer` over `light` (`[height x width]`, one colour per site), with its top left at `at`
/// in canvas pixels relative to the frame's. Each site sees the canvas through the optics' point
/// spread, at a sub-pixel position.
fn composite(layer: &Canvas, at: [f32; 2], width: usize, height: usize, light: &mut [f32]) {
    let scale = SCALE as f32;
    let first = |offset: f32| (offset / scale - 1.0).floor().max(0.0) as usize;
    let end = |offset: f32, side: usize, n: usize| {
        ((offset + side as f32) / scale + 1.0).ceil().clamp(0.0, n as f32) as usize
    };
    let columns: Vec<(isize, [f32; TAPS])> = (0..width).map(|x| taps(x as f32 * scale - at[0])).collect();
    for y in first(at[1])..end(at[1], layer.height, height) {
        let (top, rows) = taps(y as f32 * scale - at[1]);
        for x in first(at[0])..end(at[0], layer.width, width) {
            let (left, across) = &columns[x];
            let channel = filter_at(x, y);
            let (mut value, mut alpha) = (0f32, 0f32);
            for (v, row) in rows.iter().enumerate() {
                let line = top + v as isize;
                if line < 0 || line >= layer.height as isize {
                    continue;
                }
                let line = &layer.pixels[line as usize * layer.width..][..layer.width];
                for (u, column) in across.iter().enumerate() {
                    // Negative positions wrap to huge ones and are outside as well.
                    if let Some(pixel) = line.get(left.wrapping_add(u as isize) as usize) {
                        let weight = row * column;
                        value += weight * pixel[channel];
                        alpha += weight * pixel[3];
                    }
                }
            }
            let site = &mut light[y * width + x];
            *site = *site * (1.0 - alpha) + value;
        }
    }
}

/// Canvas pixels that one site sees on each axis.
const TAPS: usize = 4;

/// The canvas pixels that the site whose square begins at `start` sees, and their shares: a tent
/// two sites wide. It models lens and anti-alias filter, without which a mosaic produces false
/// colour at every edge.
fn taps(start: f32) -> (isize, [f32; TAPS]) {
    // In canvas pixels: the site's centre, and the first pixel whose centre the tent reaches.
    let centre = start + 1.0;
    let first = (centre - 2.0 - 0.5).ceil();
    let shares: [f32; TAPS] =
        std::array::from_fn(|n| (2.0 - (first + n as f32 + 0.5 - centre).abs()).max(0.0) / 4.0);
    (first as isize, shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forensics::baseline::sharpness;

    fn difference(a: &RgbImage, b: &RgbImage) -> f32 {
        let sum: f32 = a.as_raw().iter().zip(b.as_raw()).map(|(p, q)| f32::from(p.abs_diff(*q))).sum();
        sum / a.as_raw().len() as f32
    }

    #[test]
    fn a_frame_depends_on_seed_and_index_alone() {
        let mut scene = SceneRenderer::new(4, 96, 64);
        let (first, tenth) = (scene.frame(0), scene.frame(10));
        assert_eq!(first.dimensions(), (96, 64));
        assert_eq!(scene.frame(0), first, "order does not matter");
        assert_eq!(SceneRenderer::new(4, 96, 64).frame(10), tenth);
        assert!(difference(&first, &tenth) > 1.0, "the scene moves");
        assert!(difference(&first, &SceneRenderer::new(5, 96, 64).frame(0)) > 10.0, "seeds are other scenes");
    }

    #[test]
    fn scenes_are_lit_and_detailed_as_photographs_are() {
        for seed in 0..6 {
            let frame = SceneRenderer::new(seed, 160, 96).frame(seed);
            let mean =
                frame.as_raw().iter().map(|v| f32::from(*v)).sum::<f32>() / frame.as_raw().len() as f32;
            assert!((40.0..215.0).contains(&mean), "seed {seed}: mean {mean}");
            let sharp = sharpness(&frame);
            assert!((1.0..4.2).contains(&sharp), "seed {seed}: sharpness {sharp}");
        }
    }

    #[test]
    fn a_site_sees_all_of_the_light_wherever_it_lies() {
        for n in 0..40 {
            let (first, shares) = taps(n as f32 * 0.173 - 3.0);
            assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            let centre: f32 =
                shares.iter().enumerate().map(|(i, s)| s * (first as f32 + i as f32 + 0.5)).sum();
            assert!((centre - (n as f32 * 0.173 - 2.0)).abs() < 0.02, "{centre}");
        }
    }

    #[test]
    fn neighbouring_frames_differ_by_noise_and_a_little_motion() {
        let mut scene = SceneRenderer::new(9, 96, 64);
        let (a, b, far) = (scene.frame(100), scene.frame(101), scene.frame(160));
        assert!(difference(&a, &b) > 0.1, "no two frames of a camera are equal");
        assert!(difference(&a, &b) < difference(&a, &far));
    }
}
