//! What `tests/vm/power.sh` cuts the power of: a daemon that watches a camera and pictures, and writes to a real disk.

use std::path::Path;
use std::process::Command;

use image::RgbImage;

use crate::{NODE, Vivid, WEBCAM, control, model, set};

/// vivid's chessboard of 16 pixels: of middle brightness, and nowhere flat.
const CHESSBOARD: i64 = 10;

#[test]
#[ignore = "tests/vm/power.sh runs it, and ends it with its machine"]
fn watches_until_the_power_is_cut() {
    let _vivid = Vivid::load(WEBCAM);
    set(control::PATTERN, CHESSBOARD);
    let pictures = Path::new("/tmp/pictures");
    std::fs::create_dir_all(pictures).expect("a folder");
    let picture = RgbImage::from_fn(160, 120, |x, y| [200 + ((x * 7 + y * 13) % 56) as u8; 3].into());
    picture.save(pictures.join("a.png")).expect("saved");
    let model = model::write_brightness(Path::new("/tmp"));
    // Several sources, so that something is nearly always being written.
    let mut text = format!(
        "[model]\npath = {model:?}\nworkers = 1\nmax_tiles = 4\n[web]\nenabled = false\n\
         [verdict]\nwindow = 3\nmin_frames = 1\nthreshold = 0.01\nunsure_from = 0.005\n\
         [log]\ndir = \"/disk/flags\"\nmin_free_mib = 0\nkeep_mib = 40\nupdate_seconds = 1\n\
         [[source]]\nid = \"cam\"\nuri = \"v4l2://{NODE}?size=320x180&fps=5\"\nfps = 2\n"
    );
    for n in 1..=3 {
        text += &format!("[[source]]\nid = \"still{n}\"\nuri = {pictures:?}\nfps = 2\nrepeat = true\n");
    }
    let config = Path::new("/tmp/power.toml");
    std::fs::write(config, text).expect("written");
    // What it says goes to the serial line: what is acknowledged there has to survive.
    let mut spotd = Command::new("/bin/spotd");
    // The serial line is a terminal, and must not get lines that are drawn again and again.
    spotd.args(["run", "--config"]).arg(config).env("TERM", "dumb");
    let ended = spotd.status().expect("starts");
    panic!("it ended by itself: {ended}");
}
