//! A float canvas in linear light, and the textures that are painted on it.

use crate::forensics::rng::{Rng, mix};
use std::sync::OnceLock;

/// Linear RGB, 0 = black, 1 = white under the scene's light; above 1 is a highlight.
pub type Colour = [f32; 3];

/// `width` x `height` premultiplied linear RGBA.
pub struct Canvas {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Row by row: red, green, blue times alpha, then alpha.
    pub pixels: Vec<[f32; 4]>,
}

impl Canvas {
    /// Transparent black.
    pub fn new(width: usize, height: usize) -> Self {
        Canvas { width, height, pixels: vec![[0.0; 4]; width * height] }
    }

    /// Paints over the pixels inside `bounds` (left, top, right, bottom, in pixels, clipped to the
    /// canvas). `brush` gets a pixel's centre and returns its colour and coverage 0..=1.
    pub(crate) fn paint(&mut self, bounds: [f32; 4], mut brush: impl FnMut(f32, f32) -> (Colour, f32)) {
        let clip = |at: f32, n: usize| (at.max(0.0) as usize).min(n);
        let (left, right) = (clip(bounds[0].floor(), self.width), clip(bounds[2].ceil(), self.width));
        let (top, bottom) = (clip(bounds[1].floor(), self.height), clip(bounds[3].ceil(), self.height));
        for y in top..bottom {
            for x in left..right {
                let (colour, alpha) = brush(x as f32 + 0.5, y as f32 + 0.5);
                if alpha > 0.0 {
                    let pixel = &mut self.pixels[y * self.width + x];
                    for (to, from) in pixel.iter_mut().zip([colour[0], colour[1], colour[2], 1.0]) {
                        *to = *to * (1.0 - alpha) + from * alpha;
                    }
                }
            }
        }
    }
}

/// Coverage of a pixel whose centre lies `distance` inside an edge (negative: outside) that is
/// `softness` pixels wide.
pub(crate) fn coverage(distance: f32, softness: f32) -> f32 {
    let t = (distance / softness.max(1.0) + 0.5).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A tile of noise whose power falls as 1/f^a, as that of photographs does (Field, 1987), with zero
/// mean and unit deviation, seamlessly repeatable.
pub struct Texture {
    values: Vec<f32>,
}

const SIDE: usize = 512;

/// Four textures from rough to smooth, the same for every scene (each samples them at its own place
/// and scale), because making them costs more than painting a scene.
pub fn textures() -> &'static [Texture; 4] {
    static TEXTURES: OnceLock<[Texture; 4]> = OnceLock::new();
    TEXTURES.get_or_init(|| {
        let mut rng = Rng::new(0x7465_7874_7572_6573);
        [1.3, 1.7, 2.1, 2.5].map(|slope| Texture::new(&mut rng, slope))
    })
}

impl Texture {
    /// `slope` is a: about 1.2 (rough) to 2.6 (smooth).
    pub fn new(rng: &mut Rng, slope: f32) -> Self {
        let mut values = vec![0f32; SIDE * SIDE];
        let mut cells = 4usize;
        while cells <= SIDE {
            // One octave of value noise; its amplitude falls with half the power's slope.
            let gain = (4.0 / cells as f32).powf(slope / 2.0);
            let lattice: Vec<f32> = (0..cells * cells).map(|_| rng.normal()).collect();
            let step = SIDE / cells;
            for y in 0..SIDE {
                let (v, fy) = (y / step, smooth((y % step) as f32 / step as f32));
                let (row, next) = (v * cells, (v + 1) % cells * cells);
                for x in 0..SIDE {
                    let (u, fx) = (x / step, smooth((x % step) as f32 / step as f32));
                    let w = (u + 1) % cells;
                    let above = lattice[row + u] * (1.0 - fx) + lattice[row + w] * fx;
                    let below = lattice[next + u] * (1.0 - fx) + lattice[next + w] * fx;
                    values[y * SIDE + x] += gain * (above * (1.0 - fy) + below * fy);
                }
            }
            cells *= 2;
        }
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        let scale = 1.0 / variance.sqrt().max(1e-6);
        values.iter_mut().for_each(|v| *v = (*v - mean) * scale);
        Texture { values }
    }

    /// The value at (`x`, `y`), bilinear, repeating every 512.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let wrap = |v: f32| (v as i64).rem_euclid(SIDE as i64) as usize;
        let (u, v) = (wrap(left), wrap(top));
        let (w, z) = ((u + 1) % SIDE, (v + 1) % SIDE);
        let above = self.values[v * SIDE + u] * (1.0 - fx) + self.values[v * SIDE + w] * fx;
        let below = self.values[z * SIDE + u] * (1.0 - fx) + self.values[z * SIDE + w] * fx;
        above * (1.0 - fy) + below * fy
    }
}

fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// A number in 0..1 that depends only on the cell (`x`, `y`) and `key`.
pub(crate) fn cell_value(x: i32, y: i32, key: u64) -> f32 {
    let word = mix((x as u32 as u64) << 32 | y as u32 as u64).wrapping_add(key);
    (mix(word) >> 40) as f32 / (1u32 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rougher_textures_have_more_fine_detail_and_wrap() {
        let fine = |slope: f32| {
            let texture = Texture::new(&mut Rng::new(2), slope);
            (0..2000)
                .map(|i| (texture.at(i as f32, 9.0) - texture.at(i as f32 + 1.0, 9.0)).abs())
                .sum::<f32>()
        };
        assert!(fine(1.2) > 2.0 * fine(2.4));
        let texture = Texture::new(&mut Rng::new(2), 2.0);
        assert!((texture.at(3.25, 4.5) - texture.at(3.25 + 512.0, 4.5 - 1024.0)).abs() < 1e-4);
    }

    #[test]
    fn paint_is_clipped_and_blends() {
        let mut canvas = Canvas::new(4, 4);
        canvas.paint([-9.0, -9.0, 9.0, 9.0], |_, _| ([1.0, 0.5, 0.0], 1.0));
        canvas.paint([2.0, 2.0, 99.0, 99.0], |_, _| ([0.0; 3], 0.5));
        assert_eq!(canvas.pixels[0], [1.0, 0.5, 0.0, 1.0]);
        assert_eq!(canvas.pixels[15], [0.5, 0.25, 0.0, 1.0]);
        assert_eq!(coverage(-5.0, 1.0), 0.0);
        assert_eq!(coverage(0.0, 3.0), 0.5);
    }
}
