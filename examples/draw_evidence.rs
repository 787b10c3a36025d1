//! Draws the first flagged frame of a flag log, with the tiles that were judged outlined and their scores.
//!
//! ```sh
//! make run                                  # until something is flagged, then Ctrl-C
//! cargo run --example draw_evidence -- flags flagged.jpg
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_9X18_BOLD;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor as _};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};
use image::{Rgb, RgbImage};
use spotd::flaglog::OsFs;
use spotd::flaglog::record::EvidenceFiles;
use spotd::flaglog::{Entry, Reader, Record};

/// The first record with pictures.
fn first_flagged(dir: &Path) -> Result<(Record, EvidenceFiles), Box<dyn Error>> {
    let mut reader = Reader::from_start(Arc::new(OsFs), dir);
    while let Some(item) = reader.next()? {
        if let Entry::Event(mut record) = item.entry
            && let Some(files) = record.evidence.take()
        {
            return Ok((*record, files));
        }
    }
    Err(format!("{}: nothing with pictures was flagged", dir.display()).into())
}

/// The frame of that record with its tiles outlined: red from the threshold on, white below it.
pub fn draw(dir: &Path) -> Result<RgbImage, Box<dyn Error>> {
    let (record, files) = first_flagged(dir)?;
    let mut canvas = Canvas(image::open(dir.join(&files.frame.file))?.to_rgb8());
    for tile in &record.tiles {
        let colour =
            if tile.score >= record.judgement.threshold { Rgb888::new(230, 40, 40) } else { Rgb888::WHITE };
        let at = Point::new(tile.rect.x as i32 + 1, tile.rect.y as i32 + 1);
        let outline = Rectangle::new(at, Size::new(tile.rect.width - 2, tile.rect.height - 2));
        outline.into_styled(PrimitiveStyle::with_stroke(colour, 2)).draw(&mut canvas)?;
        let label = Rectangle::new(at, Size::new(46, 20));
        label.into_styled(PrimitiveStyle::with_fill(colour)).draw(&mut canvas)?;
        let ink = if colour == Rgb888::WHITE { Rgb888::BLACK } else { Rgb888::WHITE };
        let style = MonoTextStyle::new(&FONT_9X18_BOLD, ink);
        let text = format!("{:.2}", tile.score);
        Text::with_baseline(&text, at + Point::new(5, 1), style, Baseline::Top).draw(&mut canvas)?;
    }
    Ok(canvas.0)
}

/// A picture to draw on.
struct Canvas(RgbImage);

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(at, colour) in pixels {
            let inside = u32::try_from(at.x).ok().zip(u32::try_from(at.y).ok());
            if let Some(pixel) = inside.and_then(|(x, y)| self.0.get_pixel_mut_checked(x, y)) {
                *pixel = Rgb([colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [dir, out] = &arguments[..] else { return Err("usage: draw_evidence FOLDER PICTURE".into()) };
    draw(Path::new(dir))?.save(out)?;
    Ok(())
}
