//! `spotd spectrum` as a user runs it: pictures with a known grid, the files that come out, what is
//! left out.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use spotd::forensics::rng::Rng;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spotd")).arg("spectrum").args(args).output().expect("spotd runs")
}

/// Noise like that of photographs; optionally with a grid of every fourth pixel, as in a badly
/// upsampled picture.
fn picture(path: &Path, seed: u64, grid: bool, side: u32) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let mut rng = Rng::new(seed);
    RgbImage::from_fn(side, side, |x, y| {
        let lifted = if grid && (x % 4 == 0) { 12.0 } else { 0.0 };
        let shade = 60.0 * (x as f32 / 40.0).sin() + 30.0 * (y as f32 / 30.0).cos();
        Rgb([(120.0 + shade + lifted + 6.0 * rng.normal()).clamp(0.0, 255.0) as u8; 3])
    })
    .save(path)
    .expect("saved");
}

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        for at in 0..6 {
            picture(&dir.path().join(format!("in/s/0_real/{at}.png")), at, false, 70);
            picture(&dir.path().join(format!("in/s/1_fake/{at}.png")), 50 + at, true, 70);
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

/// Value of one side of set `s` at a frequency.
fn at(csv: &Path, side: &str, frequency: f64) -> f64 {
    let mut reader = csv::Reader::from_path(csv).expect("CSV");
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("records");
    let row = rows
        .iter()
        .find(|r| &r[1] == side && (r[3].parse::<f64>().expect("a number") - frequency).abs() < 1e-5);
    row.unwrap_or_else(|| panic!("no row for {side} at {frequency}"))[4].parse().expect("a number")
}

#[test]
fn a_grid_shows_at_its_frequency_and_files_are_whole() {
    let bench = Bench::new();
    let output = run(&[&bench.text("in"), "--out", &bench.text("out"), "--size", "64"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("s: 6 real, 6 generated"));
    let csv = bench.path("out/profiles.csv");
    // Every fourth pixel is a quarter of a cycle per pixel; its ring has one such point among many
    // others.
    let gain = at(&csv, "generated", 0.25) - at(&csv, "real", 0.25);
    assert!(gain > 0.01, "{gain}");
    let beside = at(&csv, "generated", 0.375) - at(&csv, "real", 0.375);
    assert!(beside < gain / 2.0, "{beside} {gain}");
    let png = image::open(bench.path("out/s.png")).expect("a PNG").into_rgb8();
    assert_eq!(png.height(), 256 + 22 + 28);
    // The grid's point: a quarter of the width right of the middle of the second panel, brighter
    // than around.
    let light = |x: u32, y: u32| png.get_pixel(x, y).0.iter().map(|v| u32::from(*v)).sum::<u32>();
    let (left, middle) = (14 + 256 + 14, 22 + 128 + 1);
    assert!(light(left + 128 + 64 + 1, middle) > light(left + 128 + 40 + 1, middle) + 100);
    let svg = std::fs::read_to_string(bench.path("out/profiles.svg")).expect("written");
    assert!(svg.contains("s generated") && svg.contains("cycles per pixel"));
    assert_eq!(std::fs::read_dir(bench.path("out")).expect("a folder").count(), 3);
    // The same again, with other threads, is the same.
    run(&[&bench.text("in"), "--out", &bench.text("again"), "--size", "64", "--jobs", "1"]);
    let read = |name: &str| std::fs::read_to_string(bench.path(name)).expect("written");
    assert_eq!(read("out/profiles.csv"), read("again/profiles.csv"));
}

#[test]
fn what_is_too_small_or_damaged_is_named() {
    let bench = Bench::new();
    picture(&bench.path("in/s/0_real/small.png"), 9, false, 40);
    std::fs::write(bench.path("in/s/1_fake/bad.png"), b"no picture").expect("written");
    picture(&bench.path("in/tiny/0_real/1.png"), 1, false, 30);
    picture(&bench.path("in/tiny/1_fake/1.png"), 2, true, 30);
    let output = run(&[&bench.text("in"), "--out", &bench.text("out"), "--size", "64"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in
        ["s: 1 real pictures are smaller than 64x64", "bad.png: skipped", "tiny: left out", "lower --size"]
    {
        assert!(said.contains(words), "'{words}' is missing in: {said}");
    }
    let output = run(&[&bench.text("in"), "--out", &bench.text("none"), "--size", "512"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!bench.path("none/profiles.csv").exists());
    let output = run(&[&bench.text("in"), "--out", &bench.text("none"), "--median", "4"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("odd number"));
}
