//! Draws two spectra side by side as a picture, with a labelled scale.

use std::convert::Infallible;

use embedded_graphics::Drawable as _;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_6X13;
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::{Alignment, Text};
use image::{Rgb, RgbImage};

/// Pixels around and between panels.
const MARGIN: u32 = 14;
/// Height of the line of names.
const HEAD: u32 = 22;
/// Width of the colour bar, and of the numbers beside it.
const BAR: (u32, u32) = (16, 60);

/// One spectrum: its name and its values, row by row.
pub(super) struct Panel<'a> {
    pub name: String,
    pub values: &'a [f64],
}

/// Panels of `side` x `side` values on one scale from `low` to `high`, each value at least one
/// pixel.
pub(super) fn draw(panels: &[Panel<'_>], side: u32, (low, high): (f64, f64), unit: &str) -> RgbImage {
    // Small spectra are enlarged, each value to a square: nothing is interpolated.
    let zoom = (256 / side).max(1);
    let shown = side * zoom;
    let count = panels.len() as u32;
    let width = MARGIN + count * (shown + MARGIN) + BAR.0 + BAR.1;
    let mut canvas = Canvas(RgbImage::from_pixel(width, HEAD + shown + 2 * MARGIN, Rgb([255; 3])));
    let top = HEAD;
    for (at, panel) in panels.iter().enumerate() {
        let left = MARGIN + at as u32 * (shown + MARGIN);
        canvas.text(&panel.name, left, top - 6, Alignment::Left);
        for y in 0..shown {
            for x in 0..shown {
                let value = panel.values[((y / zoom) * side + x / zoom) as usize];
                canvas.0.put_pixel(left + x, top + y, colour((value - low) / (high - low)));
            }
        }
    }
    let left = width - BAR.0 - BAR.1;
    canvas.text(unit, left, top - 6, Alignment::Left);
    for y in 0..shown {
        let share = 1.0 - f64::from(y) / f64::from(shown - 1);
        for x in 0..BAR.0 {
            canvas.0.put_pixel(left + x, top + y, colour(share));
        }
    }
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let y = top + ((1.0 - share) * f64::from(shown - 1)) as u32;
        for x in 0..4 {
            canvas.0.put_pixel(left + BAR.0 + x, y, Rgb([0; 3]));
        }
        canvas.text(&format!("{:.2}", low + share * (high - low)), left + BAR.0 + 7, y + 4, Alignment::Left);
    }
    canvas.0
}

fn colour(share: f64) -> Rgb<u8> {
    let colour = colorous::VIRIDIS.eval_continuous(if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) });
    Rgb([colour.r, colour.g, colour.b])
}

/// The target that embedded-graphics draws letters on.
struct Canvas(RgbImage);

impl Canvas {
    /// Writes in black; (`x`, `y`) is the anchor on the text's baseline.
    fn text(&mut self, text: &str, x: u32, y: u32, alignment: Alignment) {
        let style = MonoTextStyle::new(&FONT_6X13, BinaryColor::On);
        // Letters outside the picture are clipped below.
        let _ = Text::with_alignment(text, Point::new(x as i32, y as i32), style, alignment).draw(self);
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(at, colour) in pixels {
            let inside = u32::try_from(at.x).ok().zip(u32::try_from(at.y).ok());
            if let Some(pixel) = inside.and_then(|(x, y)| self.0.get_pixel_mut_checked(x, y))
                && colour.is_on()
            {
                *pixel = Rgb([0; 3]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_coloured_by_the_scale_and_numbers_stand_beside_it() {
        let (dark, bright): (Vec<f64>, Vec<f64>) = (vec![-3.0; 64 * 64], vec![1.0; 64 * 64]);
        let panels = [
            Panel { name: "real (2)".into(), values: &dark },
            Panel { name: "generated (3)".into(), values: &bright },
        ];
        let picture = draw(&panels, 64, (-3.0, 1.0), "log10");
        let at = |x: u32, y: u32| picture.get_pixel(x, y).0;
        assert_eq!(at(MARGIN + 5, HEAD + 5), colour(0.0).0);
        assert_eq!(at(MARGIN + 256 + MARGIN + 5, HEAD + 5), colour(1.0).0);
        let bar = picture.width() - BAR.0 - BAR.1;
        assert_eq!((at(bar, HEAD), at(bar, HEAD + 255)), (colour(1.0).0, colour(0.0).0));
        // Five numbers and the unit above them: six bands of black pixels to the right of the bar.
        let inked = |y: u32| (bar + BAR.0 + 6..picture.width()).any(|x| at(x, y) == [0; 3]);
        let rows: Vec<bool> = (0..picture.height()).map(inked).collect();
        let bands = rows.windows(2).filter(|w| !w[0] && w[1]).count();
        assert_eq!(bands, 6);
    }
}
