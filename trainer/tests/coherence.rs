//! The coherent part's head: fitted on pairs with a lattice it tells others like them apart, the
//! file runs in the daemon's own reader, and what cannot be fitted on is named.

mod common;

use std::path::{Path, PathBuf};

use clap::Parser as _;
use spotd::detector::coherence::{BlockSums, Head, Luma};
use spotd_train::coherence::{MeanOptions, Options, coherence, mean_head};

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options(data: &Path, out: &Path, words: &str) -> Options {
    let line = format!("x --scenes 0 --times 2 --members 4 --hidden 16 --epochs 30 {words}");
    let mut words: Vec<String> = line.split_whitespace().map(Into::into).collect();
    for (flag, path) in [("--data", data), ("--out", out)] {
        words.extend([flag.into(), path.display().to_string()]);
    }
    Line::try_parse_from(words).map_err(|e| e.to_string()).expect("a command line").options
}

/// `n` pairs below `folder/{real,fake}/pairs`: the same picture, once with a lattice.
fn put_pairs(folder: &Path, n: u64) {
    for at in 0..n {
        for (side, fake) in [("real", false), ("fake", true)] {
            let place = folder.join(side).join("pairs");
            std::fs::create_dir_all(&place).unwrap();
            common::picture(at, fake, 192, 176).save(place.join(format!("{at}.png"))).unwrap();
        }
    }
}

#[test]
fn a_head_that_was_fitted_on_pairs_finds_the_lattice_in_others() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    put_pairs(&dir.path().join("data"), 40);
    let out = dir.path().join("head.onnx");
    let said = coherence(&options(&dir.path().join("data"), &out, "")).unwrap();
    assert!(said.contains("pairs"), "{said}");
    let auc = said.lines().find_map(|l| l.split("held out: AUC ").nth(1)).unwrap_or_else(|| panic!("{said}"));
    assert!(auc.trim().parse::<f64>().unwrap() > 0.9, "{said}");
    let head = Head::new(&std::fs::read(&out).unwrap(), &out).unwrap();
    let logit = |seed, fake| {
        head.logits(&[BlockSums::of(&Luma::of_rgb(&common::picture(seed, fake, 256, 256)))]).unwrap()[0]
    };
    for seed in 900..905 {
        let (real, fake) = (logit(seed, false), logit(seed, true));
        assert!(fake > real, "picture {seed}: {real} and, with a lattice, {fake}");
    }
}

#[test]
fn the_mean_of_heads_is_one_head_and_what_is_no_head_is_named() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    put_pairs(&at("data"), 6);
    for (name, seed) in [("a.onnx", 1), ("b.onnx", 2)] {
        let mut options = options(&at("data"), &at(name), "");
        (options.seed, options.epochs) = (seed, 3.0);
        coherence(&options).unwrap();
    }
    let of = |heads: &[&str], out: &str| MeanOptions {
        heads: heads.iter().map(|head| at(head)).collect(),
        out: at(out),
    };
    mean_head(&of(&["a.onnx", "b.onnx"], "mean.onnx")).unwrap();
    let read = |name: &str| Head::new(&std::fs::read(at(name)).unwrap(), &at(name)).unwrap();
    let heads = [read("a.onnx"), read("b.onnx"), read("mean.onnx")];
    for seed in 900..903 {
        let sums = BlockSums::of(&Luma::of_rgb(&common::picture(seed, true, 256, 256)));
        let [a, b, mean] = [0, 1, 2].map(|head| heads[head].logits([&sums]).unwrap()[0]);
        assert!((a - b).abs() > 0.01, "two fits: {a} {b}");
        // Matrices are rounded to 8 bits.
        assert!((mean - (a + b) / 2.0).abs() < 0.01, "{a} and {b} give {mean}");
    }
    let size = |name: &str| std::fs::metadata(at(name)).unwrap().len();
    assert!(size("mean.onnx") < size("a.onnx") * 6 / 10, "matrices are stored in 8 bits");

    std::fs::write(at("none.onnx"), "no head").unwrap();
    for (heads, name) in
        [(["a.onnx", "none.onnx"], "none.onnx"), (["missing.onnx", "a.onnx"], "missing.onnx")]
    {
        let error = format!("{:#}", mean_head(&of(&heads, "never.onnx")).expect_err(name));
        assert!(error.contains(name), "{error}");
        assert!(!at("never.onnx").exists(), "{name}: something was written");
    }
}

#[test]
fn what_cannot_be_fitted_on_is_named_and_nothing_is_written() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    put_pairs(&at("fine"), 4);
    std::fs::create_dir_all(at("empty")).unwrap();
    std::fs::create_dir_all(at("one-side/real/photos")).unwrap();
    // Large enough for a crop however it is shrunk.
    common::picture(1, false, 448, 448).save(at("one-side/real/photos/a.png")).unwrap();
    std::fs::create_dir_all(at("unreadable/real/a")).unwrap();
    std::fs::create_dir_all(at("unreadable/fake/a")).unwrap();
    std::fs::write(at("unreadable/real/a/x.png"), "no picture").unwrap();
    std::fs::write(at("unreadable/fake/a/x.png"), "no picture").unwrap();
    put_pairs(&at("val"), 2);
    for (folder, words, reason) in [
        ("missing", "", "neither a folder real nor a folder fake"),
        ("empty", "", "neither a folder real nor a folder fake"),
        ("one-side", "", "no generated picture"),
        ("unreadable", "", "no true picture"),
        ("val", "", "val"),
        ("fine", "--times 0", "--times must be 1 to 100"),
        ("fine", "--epochs 0", "--epochs must be above 0"),
    ] {
        let line = format!("--times 1 {words}");
        let mut options = options(&at(folder), &at("out.onnx"), "");
        let mut words = line.split_whitespace();
        while let (Some(flag), Some(value)) = (words.next(), words.next()) {
            match flag {
                "--times" => options.times = value.parse().unwrap(),
                _ => options.epochs = value.parse().unwrap(),
            }
        }
        let error = format!("{:#}", coherence(&options).expect_err(folder));
        assert!(error.contains(reason), "{folder}: {error}");
        assert!(!at("out.onnx").exists(), "{folder}: something was written");
    }
}
