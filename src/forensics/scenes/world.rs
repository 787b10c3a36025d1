//! What is in front of the camera: sky, hills, buildings, a road, trees, objects of every size that
//! occlude each other, and a few that move.

use super::canvas::{self, Canvas, Colour, Texture, cell_value, coverage};
use crate::forensics::rng::Rng;

/// Something that moves: a picture with transparency and its path.
pub struct Mover {
    /// Its appearance, at the canvas' scale.
    pub sprite: Canvas,
    /// Top left at time 0, in canvas pixels.
    pub start: [f32; 2],
    /// Canvas pixels per second.
    pub speed: f32,
    /// Amplitude of bobbing up and down in canvas pixels, and its rate in radians per second.
    pub bob: (f32, f32),
}

struct Palette {
    light: Colour,
    haze: Colour,
    textures: &'static [Texture; 4],
}

impl Palette {
    fn draw(rng: &mut Rng) -> Self {
        let warm = rng.range(-0.12, 0.12);
        let haze = [0.45 + warm, 0.52, 0.6 - warm].map(|c| c * rng.range(0.7, 1.2));
        Palette { light: [1.0 + warm, 1.0, 1.0 - warm], haze, textures: canvas::textures() }
    }

    fn texture(&self, rng: &mut Rng) -> &'static Texture {
        rng.pick(self.textures)
    }

    /// A surface's colour: mostly muted, now and then vivid.
    fn colour(&self, rng: &mut Rng) -> Colour {
        let value = rng.range(0.12, 0.8).powf(1.8);
        let spread = if rng.chance(0.2) { 0.7 } else { 0.12 };
        [0, 1, 2].map(|c| value * (1.0 + spread * rng.range(-1.0, 1.0)) * self.light[c])
    }
}

/// The still part, `width` x `height` pixels of linear light, opaque; and the movers, back to
/// front.
pub fn build(rng: &mut Rng, width: usize, height: usize) -> (Canvas, Vec<Mover>) {
    let mut canvas = Canvas::new(width, height);
    let palette = Palette::draw(rng);
    let (w, h) = (width as f32, height as f32);
    let horizon = h * rng.range(0.4, 0.65);
    sky(&mut canvas, rng, &palette, horizon);
    for distance in [0.75, 0.4] {
        ridge(&mut canvas, rng, &palette, horizon, distance);
    }
    ground(&mut canvas, rng, &palette, horizon);
    for _ in 0..rng.below(7) {
        building(&mut canvas, rng, &palette, horizon);
    }
    for _ in 0..1 + rng.below(4) {
        let at = [rng.range(0.0, w), horizon + rng.range(-0.1, 0.25) * h];
        let (size, blur) = (h * rng.range(0.06, 0.22), rng.range(1.0, 2.5));
        tree(&mut canvas, rng, &palette, at, size, blur);
    }
    leaves(&mut canvas, rng, &palette, horizon);
    for _ in 0..rng.below(4) {
        let size = h * rng.range(0.012, 0.05);
        let at = [rng.range(0.05, 0.7) * w, rng.range(0.1, 0.9) * h];
        text(&mut canvas, rng, &palette, at, size);
    }
    let movers = (0..2 + rng.below(4)).map(|_| mover(rng, &palette, w, h, horizon)).collect();
    (canvas, movers)
}

fn sky(canvas: &mut Canvas, rng: &mut Rng, palette: &Palette, horizon: f32) {
    let (clouds, fine) = (&palette.textures[3], &palette.textures[2]);
    let (dx, dy) = (rng.range(0.0, 512.0), rng.range(0.0, 512.0));
    let cover = rng.range(-0.8, 0.8);
    let zenith = [0.12, 0.28, 0.62].map(|c| c * rng.range(0.5, 1.3));
    let width = canvas.width as f32;
    canvas.paint([0.0, 0.0, width, horizon + 2.0], |x, y| {
        let down = (y / horizon).clamp(0.0, 1.0);
        let cloud = clouds.at(x * 0.22 + dx, y * 0.4 + dy) + 0.25 * fine.at(x * 0.8 + dy, y + dx);
        let amount = coverage(cloud - cover, 1.6) * 0.8;
        let colour = [0, 1, 2].map(|c| {
            let clear = zenith[c] * (1.0 - down) + palette.haze[c] * down;
            clear * (1.0 - amount) + (0.8 + 0.08 * cloud) * palette.light[c] * amount
        });
        (colour, 1.0)
    });
}

fn ridge(canvas: &mut Canvas, rng: &mut Rng, palette: &Palette, horizon: f32, distance: f32) {
    let (shape, surface) = (&palette.textures[3], palette.texture(rng));
    let (row, shift) = (rng.range(0.0, 512.0), rng.range(0.0, 512.0));
    let rise = horizon * rng.range(0.08, 0.25) * distance;
    let own = palette.colour(rng);
    let width = canvas.width as f32;
    canvas.paint([0.0, 0.0, width, horizon + 2.0], |x, y| {
        let top = horizon - rise * (1.0 + 0.55 * shape.at(x * 0.15 + shift, row));
        let shade = 1.0 + 0.25 * surface.at(x + shift, y * 1.7);
        let colour = [0, 1, 2].map(|c| (own[c] * (1.0 - distance) + palette.haze[c] * distance) * shade);
        (colour, coverage(y - top, 1.5))
    });
}

fn ground(canvas: &mut Canvas, rng: &mut Rng, palette: &Palette, horizon: f32) {
    let (coarse, fine) = (&palette.textures[2], &palette.textures[0]);
    let own = palette.colour(rng);
    let road = palette.colour(rng).map(|c| c * 0.6);
    let (centre, half) = (rng.range(-0.5, 0.5), rng.range(0.15, 0.6));
    let shift = rng.range(0.0, 512.0);
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    canvas.paint([0.0, horizon, w, h], |x, y| {
        // Perspective: a row near the horizon is far away, so that its texture is finer.
        let depth = (y - horizon + 6.0) / (h - horizon);
        let (u, v) = ((x / w - 0.5) / depth, 1.0 / depth);
        let grain =
            0.16 * coarse.at(u * 260.0 + shift, v * 240.0) + 0.14 * fine.at(x + shift, y * 1.3 + shift);
        let inside = coverage((half - (u - centre).abs()) * depth * w, 2.0);
        let marked = (u - centre).abs() < 0.02 && (v * 2.2).fract() < 0.5;
        let colour = [0, 1, 2].map(|c| {
            let surface = own[c] * (1.0 - inside) + road[c] * inside;
            let painted = if marked { surface * 0.3 + 0.45 } else { surface };
            painted * (1.0 + grain) * (0.75 + 0.35 * depth)
        });
        (colour, 1.0)
    });
}

fn building(canvas: &mut Canvas, rng: &mut Rng, palette: &Palette, horizon: f32) {
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    let (wide, tall) = (w * rng.range(0.06, 0.25), h * rng.range(0.12, 0.5));
    let (left, base) = (rng.range(-0.1, 0.95) * w, horizon + h * rng.range(0.0, 0.12));
    let (wall, glass) = (palette.colour(rng), palette.colour(rng).map(|c| c * 0.4));
    let surface = palette.texture(rng);
    let (cell, gap) = (rng.range(14.0, 46.0), rng.range(0.2, 0.45));
    let (key, lit, shift) = (rng.next_u64(), rng.range(0.0, 0.3), rng.range(0.0, 512.0));
    let side = rng.range(-0.25, 0.25);
    canvas.paint([left, base - tall, left + wide, base], |x, y| {
        let (u, v) = ((x - left) / cell, (y - base + tall) / (cell * 1.3));
        let edge = (x - left).min(left + wide - x).min(y - base + tall);
        let pane = |t: f32| coverage((0.5 - gap - (t.fract() - 0.5).abs()) * cell, 1.5);
        let window = if edge > cell * 0.4 { pane(u) * pane(v) } else { 0.0 };
        let glow = cell_value(u as i32, v as i32, key);
        let shade = (1.0 + side * (x - left) / wide) * (1.0 + 0.12 * surface.at(x + shift, y));
        let colour = [0, 1, 2].map(|c| {
            let dark = if glow < lit { 0.9 * palette.light[c] } else { glass[c] * (0.5 + glow) };
            wall[c] * shade * (1.0 - window) + dark * window
        });
        (colour, coverage(edge, 1.0))
    });
}

fn tree(canvas: &mut Canvas, rng: &mut Rng, palette: &Palette, at: [f32; 2], size: f32, blur: f32) {
    let bark = [0.09, 0.06, 0.04].map(|c| c * rng.range(0.5, 1.8));
    let surface = &palette.textures[0];
    let thick = size * rng.range(0.06, 0.12);
    canvas.paint([at[0] - thick, at[1] - size, at[0] + thick, at[1] + size * 1.2], |x, y| {
        let shade = 1.0 + 0.35 * surface.at(x * 2.0, y * 0.5);
        (bark.map(|c| c * shade), coverage(thick - (x - at[0]).abs(), blur))
    });
    let hue = [rng.range(0.04, 0.3), rng.range(0.1, 0.32), rng.range(0.02, 0.08)];
    for _ in 0..(size * 2.2) as usize {
        let (angle, reach) = (rng.range(0.0, std::f32::consts::TAU), size * rng.unit().sqrt());
        let (x, y) = (at[0] + reach * angle.cos(), at[1] - size + 0.8 * reach * angle.sin());
        let radius = rng.range(2.0, 7.0);
        // Leaves at the top catch the light.
        let lit = rng.range(0.4, 1.3) * (1.0 - 0.5 * (y - at[1] + size) / size);
        let (own, squash) = (hue.map(|c| c * lit), rng.range(0.4, 1.0));
        canvas.paint([x - radius, y - radius, x + radius, y + radius], |u, v| {
            let d = ((u - x).powi(2) + ((v - y) / squash).powi(2)).sqrt();
            (own, coverage(radius - 1.0 - d, blur))
        });
    }
}

/// Dead leaves (Lee, Mumford and Huang, 2001): opaque shapes whose sizes follow r^-3, each with its
/// own texture, light and focus, in the order of their distance.
fn leaves(canvas: &mut Canvas, rng: &mut Rng, palette: &Palette, horizon: f32) {
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    let count = 40 + rng.below(160);
    let focus = rng.range(0.0, 1.0);
    for n in 0..count {
        let nearness = n as f32 / count as f32;
        let (x, y) = (rng.range(0.0, w), horizon + rng.range(-0.2, 1.0) * (h - horizon));
        // Objects nearer the camera are lower in the picture and larger.
        let near = 0.35 + 1.3 * ((y - horizon) / (h - horizon)).max(0.0);
        let radius = near * (h * 0.012 / (1.0 - rng.unit()).max(0.004).sqrt()).min(h * 0.13);
        let softness = 1.0 + 9.0 * (nearness - focus).abs() * rng.unit();
        shape(canvas, rng, palette, [x, y], radius, softness);
    }
}

fn shape(canvas: &mut Canvas, rng: &mut Rng, palette: &Palette, at: [f32; 2], radius: f32, softness: f32) {
    let own = palette.colour(rng);
    let surface = palette.texture(rng);
    let (contrast, scale) = (rng.range(0.05, 0.4) / softness.sqrt(), rng.range(0.5, 2.0) / softness.sqrt());
    let (sin, cos) = rng.range(0.0, std::f32::consts::TAU).sin_cos();
    let (kind, squash) = (rng.below(3), rng.range(0.35, 1.0));
    let (light, shift) = (rng.range(0.0, 0.6), rng.range(0.0, 512.0));
    let reach = radius * 1.45 + softness;
    canvas.paint([at[0] - reach, at[1] - reach, at[0] + reach, at[1] + reach], |x, y| {
        let (dx, dy) = (x - at[0], y - at[1]);
        let (u, v) = (dx * cos + dy * sin, (dy * cos - dx * sin) / squash);
        let inside = match kind {
            0 => radius - u.hypot(v),
            1 => radius - u.abs().max(v.abs()),
            _ => (radius * 0.5 - v).min(radius * 0.5 + v * 0.5 - u.abs() * 0.87),
        };
        let shade = 1.0 + contrast * surface.at(x * scale + shift, y * scale) - light * dy / radius * 0.5;
        (own.map(|c| c * shade.max(0.05)), coverage(inside, softness))
    });
}

/// Rows of letter-like marks on a board: thin strokes at high contrast, as signs and captions have.
fn text(canvas: &mut Canvas, rng: &mut Rng, palette: &Palette, at: [f32; 2], size: f32) {
    let (rows, columns) = (1 + rng.below(4), 5 + rng.below(14));
    let (board, ink) = if rng.chance(0.5) { ([0.75; 3], [0.03; 3]) } else { ([0.03; 3], [0.8; 3]) };
    let tint = palette.colour(rng);
    let board = [0, 1, 2].map(|c| 0.7 * board[c] + 0.3 * tint[c]);
    let (wide, tall) = (columns as f32 * size * 0.75, rows as f32 * size * 1.5);
    let margin = size * 0.4;
    let box_ = [at[0] - margin, at[1] - margin, at[0] + wide + margin, at[1] + tall];
    canvas.paint(box_, |x, y| {
        (board, coverage((x - box_[0]).min(box_[2] - x).min(y - box_[1]).min(box_[3] - y), 1.0))
    });
    for row in 0..rows {
        for column in 0..columns {
            if rng.chance(0.15) {
                continue;
            }
            let origin = [at[0] + column as f32 * size * 0.75, at[1] + row as f32 * size * 1.5];
            // A letter is two to four strokes between the nine points of a 3x3 grid.
            for _ in 0..2 + rng.below(3) {
                let mut point = || {
                    [
                        0.26 * rng.below(3) as f32 * size + origin[0],
                        0.5 * rng.below(3) as f32 * size + origin[1],
                    ]
                };
                stroke(canvas, point(), point(), size * 0.11, ink);
            }
        }
    }
}

fn stroke(canvas: &mut Canvas, from: [f32; 2], to: [f32; 2], thick: f32, ink: Colour) {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let length = (dx * dx + dy * dy).max(1e-3);
    let bounds = [
        from[0].min(to[0]) - thick - 1.0,
        from[1].min(to[1]) - thick - 1.0,
        from[0].max(to[0]) + thick + 1.0,
        from[1].max(to[1]) + thick + 1.0,
    ];
    canvas.paint(bounds, |x, y| {
        let along = (((x - from[0]) * dx + (y - from[1]) * dy) / length).clamp(0.0, 1.0);
        let away = (x - from[0] - along * dx).hypot(y - from[1] - along * dy);
        (ink, coverage(thick - away, 1.0))
    });
}

/// A vehicle, a ball or a bird, drawn once.
fn mover(rng: &mut Rng, palette: &Palette, w: f32, h: f32, horizon: f32) -> Mover {
    let size = h * rng.range(0.05, 0.2);
    let mut sprite = Canvas::new((size * 2.4) as usize + 8, (size * 1.3) as usize + 8);
    let (sw, sh) = (sprite.width as f32, sprite.height as f32);
    let vehicle = rng.chance(0.6);
    if vehicle {
        let body = [sw * 0.5, sh * 0.52];
        let (own, glass) = (palette.colour(rng), [0.05, 0.07, 0.09]);
        let surface = palette.texture(rng);
        sprite.paint([0.0, 0.0, sw, sh], |x, y| {
            let low = (sw * 0.45 - (x - body[0]).abs()).min(sh * 0.18 - (y - body[1] - sh * 0.08).abs());
            let cabin = (sw * 0.26 - (x - body[0]).abs()).min(sh * 0.34 - (y - body[1] + sh * 0.06).abs());
            let pane =
                (sw * 0.1 - ((x - body[0]).abs() - sw * 0.12).abs()).min(sh * 0.1 - (y - sh * 0.3).abs());
            let shade = 1.15 - 0.5 * y / sh + 0.05 * surface.at(x, y);
            let window = coverage(pane, 1.5);
            let colour = [0, 1, 2].map(|c| own[c] * shade * (1.0 - window) + glass[c] * window);
            (colour, coverage(low.max(cabin), 1.5))
        });
        for wheel in [0.25, 0.75] {
            let (cx, cy, r) = (sw * wheel, sh * 0.8, sh * 0.15);
            sprite.paint([cx - r, cy - r, cx + r, cy + r], |x, y| {
                let d = (x - cx).hypot(y - cy);
                (if d < r * 0.45 { [0.35; 3] } else { [0.02; 3] }, coverage(r - 1.0 - d, 1.5))
            });
        }
    } else {
        shape(&mut sprite, rng, palette, [sw * 0.5, sh * 0.5], size * 0.42, 1.5);
    }
    let level =
        if vehicle { horizon + rng.range(0.0, 0.9) * (h - horizon) - sh } else { rng.range(0.1, 0.8) * h };
    let speed = w * rng.range(0.04, 0.2) * if rng.chance(0.5) { 1.0 } else { -1.0 };
    let bob =
        if vehicle { (rng.range(0.0, 1.5), 9.0) } else { (h * rng.range(0.01, 0.08), rng.range(0.8, 2.5)) };
    Mover { sprite, start: [rng.range(0.0, w), level], speed, bob }
}
