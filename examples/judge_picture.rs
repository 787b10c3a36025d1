//! Judges one picture with the built-in detector, as `spotd scan` does, and lists its tiles.
//!
//! ```sh
//! cargo run --example judge_picture -- photo.jpg
//! ```

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use spotd::detector::{Detector, Model};
use spotd::frame::{Frame, picture};
use spotd::identity::Wanted;

/// Tiles judged at most. The daemon takes 9 of a frame, `spotd scan` 64 of a picture.
const MAX_TILES: usize = 64;

/// Writes the verdict on the picture at `path`, then each tile that was judged.
pub fn judge(path: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let model = Model::open(None, Wanted::Auto)?;
    let detector = Detector::of(&model, MAX_TILES);

    // The same decoder as everywhere in spotd: the pixels are those of the file, nothing is scaled.
    let shot = picture::first(&picture::read(path)?)?;
    let frame = Frame::still("picture".into(), shot.image);

    // `score` would judge one field of an interlaced frame; the lines of a picture are judged as
    // they are.
    let score = detector.score_lines(frame)?;
    let verdict = score.verdict(detector.limits());
    writeln!(out, "{}: {verdict}, score {:.2}", path.display(), score.score)?;
    if let Some(limited) = score.limited {
        writeln!(out, "  no proper tile: {}", limited.as_str())?;
    }
    for tile in &score.tiles {
        let at = tile.rect;
        writeln!(out, "  {}x{} at {},{}: {:.2}", at.width, at.height, at.x, at.y, tile.score)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: judge_picture PICTURE")?;
    judge(Path::new(&path), &mut io::stdout().lock())
}
