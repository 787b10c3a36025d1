//! `spotd scan` as a user runs it: exit codes, JSON lines, bad files.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::model;
use common::pictures::textured;
use image::{Rgb, RgbImage};

fn scan(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spotd")).arg("scan").args(args).output().expect("spotd runs")
}

/// Saves a picture around a brightness.
fn picture(path: &Path, brightness: u8, width: u32, height: u32) {
    textured(brightness, width, height).save(path).expect("saved");
}

struct Bench {
    dir: tempfile::TempDir,
    model: String,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let model = model::write_brightness(dir.path()).to_string_lossy().into_owned();
        std::fs::create_dir(dir.path().join("in")).expect("a folder");
        Self { dir, model }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("in").join(name)
    }

    fn json(&self, extra: &[&str]) -> (Option<i32>, Vec<serde_json::Value>) {
        let folder = self.dir.path().join("in").to_string_lossy().into_owned();
        let output = scan(&[&["--json", "--model", &self.model, &folder], extra].concat());
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        (output.status.code(), text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect())
    }
}

#[test]
fn nothing_flagged_is_0_and_something_flagged_is_1() {
    let bench = Bench::new();
    picture(&bench.path("a-dark.png"), 30, 200, 130);
    let (code, rows) = bench.json(&[]);
    assert_eq!((code, rows.len()), (Some(0), 1));
    assert_eq!(rows[0]["verdict"], "clear");
    picture(&bench.path("b-bright.jpg"), 230, 200, 130);
    let (code, rows) = bench.json(&[]);
    assert_eq!((code, rows.len()), (Some(1), 2));
    assert_eq!(rows[1]["verdict"], "synthetic");
    assert!(rows[1]["path"].as_str().expect("a path").ends_with("b-bright.jpg"));
    let (low, high) =
        (rows[0]["score"].as_f64().expect("a score"), rows[1]["score"].as_f64().expect("a score"));
    assert!(low < 0.1 && high > 0.9, "{low} {high}");
    assert_eq!(rows[1]["tiles"].as_array().expect("tiles").len(), 12);
}

#[test]
fn damaged_files_are_named_and_the_others_judged() {
    let bench = Bench::new();
    picture(&bench.path("a.jpg"), 230, 300, 200);
    let whole = std::fs::read(bench.path("a.jpg")).expect("read");
    std::fs::write(bench.path("b-empty.jpg"), b"").expect("written");
    std::fs::write(bench.path("c-text.png"), b"this is no picture").expect("written");
    std::fs::write(bench.path("d-head.jpg"), &whole[..40]).expect("written");
    std::fs::write(bench.path("e-half.jpg"), &whole[..whole.len() / 2]).expect("written");
    let (code, rows) = bench.json(&[]);
    assert_eq!((code, rows.len()), (Some(2), 5));
    assert_eq!(rows[0]["verdict"], "synthetic");
    for row in &rows[1..] {
        assert!(row["error"].as_str().is_some_and(|e| !e.is_empty()), "{row}");
        assert!(row["score"].is_null());
    }
}

#[test]
fn small_and_flat_pictures_get_a_score_but_no_verdict() {
    let bench = Bench::new();
    picture(&bench.path("a-small.png"), 230, 40, 30);
    picture(&bench.path("b-one-pixel.png"), 230, 1, 1);
    RgbImage::from_pixel(200, 200, Rgb([255; 3])).save(bench.path("c-white.png")).expect("saved");
    let (code, rows) = bench.json(&[]);
    assert_eq!(code, Some(0));
    let notes: Vec<_> = rows.iter().map(|r| r["note"].as_str().expect("a note")).collect();
    assert_eq!(notes, ["too-small", "too-small", "flat"]);
    for row in rows {
        assert_eq!(row["verdict"], "unsure");
        assert!(row["score"].as_f64().is_some_and(|s| s > 0.5));
    }
}

#[test]
fn the_table_is_for_people() {
    let bench = Bench::new();
    picture(&bench.path("dark.png"), 30, 100, 100);
    picture(&bench.path("grey.png"), 133, 100, 100);
    let folder = bench.dir.path().join("in").to_string_lossy().into_owned();
    let output = scan(&["--model", &bench.model, &folder]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("verdict") && text.contains("clear"), "{text}");
    assert!(text.contains("2 inputs: 0 synthetic, 1 unsure, 1 clear, 0 could not be judged"), "{text}");
}

#[test]
fn wrong_arguments_and_models_are_errors() {
    assert_eq!(scan(&[]).status.code(), Some(2));
    assert_eq!(scan(&["--threshold", "7", "x.png"]).status.code(), Some(2));
    let output = scan(&["--model", "/nowhere/m.onnx", "x.png"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/m.onnx"));
    let bench = Bench::new();
    let output = scan(&["--model", &bench.model, "/nowhere/x.png"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("/nowhere/x.png"));
}

#[test]
fn sixteen_bit_grey_and_alpha_pictures_are_read() {
    let bench = Bench::new();
    let wide: image::ImageBuffer<image::Luma<u16>, Vec<u16>> =
        image::ImageBuffer::from_fn(100, 100, |x, y| {
            image::Luma([57_000 + ((x * 31 + y * 17) % 21) as u16 * 257])
        });
    image::DynamicImage::ImageLuma16(wide).save(bench.path("a-16bit.png")).expect("saved");
    let alpha = image::RgbaImage::from_fn(100, 100, |x, y| {
        let v = 220 + ((x * 31 + y * 17) % 21) as u8;
        image::Rgba([v, v, v, 128])
    });
    alpha.save(bench.path("b-alpha.png")).expect("saved");
    let (code, rows) = bench.json(&[]);
    assert_eq!((code, rows.len()), (Some(1), 2));
    assert!(rows.iter().all(|r| r["verdict"] == "synthetic"), "{rows:?}");
}

fn report(bench: &Bench, extra: &[&str]) -> (Option<i32>, String, String) {
    let folder = bench.dir.path().join("in").to_string_lossy().into_owned();
    let file = bench.dir.path().join("out.html").to_string_lossy().into_owned();
    let output = scan(&[&["--model", &bench.model, "--report", &file, &folder], extra].concat());
    let html = std::fs::read_to_string(&file).unwrap_or_default();
    (output.status.code(), html, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_report_is_one_file_with_everything_in_it() {
    let bench = Bench::new();
    picture(&bench.path("dark & dull.png"), 30, 200, 130);
    picture(&bench.path("bright.jpg"), 230, 200, 130);
    std::fs::write(bench.path("broken.jpg"), b"\xff\xd8\xff\xe0 and no more").expect("written");
    let (code, html, said) = report(&bench, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(html.matches("<article").count(), 3);
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    // Highest score first, and what could not be judged last.
    assert!(at("bright.jpg") < at("dark &amp; dull.png") && at("dark &amp; dull.png") < at("broken.jpg"));
    assert_eq!(html.matches("data:image/jpeg;base64,").count(), 2);
    for name in ["dark & dull.png", "bright.jpg", "broken.jpg"] {
        let bytes = std::fs::read(bench.path(name)).expect("read");
        at(&spotd::detector::card::sha256_hex(&bytes));
    }
    for part in [
        "<td>3</td><td>1</td><td>0</td><td>1</td><td>1</td>",
        "synthetic from",
        "Model card",
        "class=\"bar\"",
    ] {
        at(part);
    }
    for foreign in ["<script", "http://", "https://", "<link"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(
        !bench.dir.path().join("out.html.journal").exists()
            && !bench.dir.path().join("out.html.part").exists()
    );
}

#[test]
fn a_scan_that_was_interrupted_goes_on_and_judges_nothing_twice() {
    let bench = Bench::new();
    for n in 0..40 {
        picture(&bench.path(&format!("{n:02}.png")), if n % 4 == 0 { 230 } else { 30 }, 200, 130);
    }
    let folder = bench.dir.path().join("in").to_string_lossy().into_owned();
    let file = bench.dir.path().join("out.html").to_string_lossy().into_owned();
    let journal = bench.dir.path().join("out.html.journal");
    let lines = || std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
    let arguments = ["--model", &bench.model, "--report", &file, &folder, "--jobs", "1"];
    let mut first = Command::new(env!("CARGO_BIN_EXE_spotd"))
        .arg("scan")
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("spotd runs");
    while lines() < 3 && first.try_wait().expect("running").is_none() {
        std::thread::yield_now();
    }
    first.kill().expect("killed");
    first.wait().expect("ended");
    // A kill may come between two inputs or in the middle of a line.
    assert!(journal.exists(), "there was nothing to interrupt");
    let (code, _, said) = report(&bench, &[]);
    assert_eq!(code, Some(2), "without --resume: {said}");
    assert!(said.contains("--resume"), "{said}");
    let (code, html, said) = report(&bench, &["--resume"]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(html.matches("<article").count(), 40);
    assert!(!journal.exists());

    // One that has changed since is judged again.
    picture(&bench.path("00.png"), 30, 200, 130);
    let (code, html, _) = report(&bench, &["--resume"]);
    assert_eq!((code, html.matches("<article class=\"synthetic\"").count()), (Some(1), 9));
    let output = scan(&["--resume", &folder]);
    assert_eq!(output.status.code(), Some(2), "--resume without --report");
}
