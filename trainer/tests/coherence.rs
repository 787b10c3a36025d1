//! The coherent part's head: fitted on pairs with a lattice it tells others like them apart, the
//! file runs in the daemon's own reader, and what cannot be fitted on is named.

mod common;

use std::path::{Path, PathBuf};

use clap::Parser as _;
use spotd::detector::coherence::{BlockSums, Head, Luma};
use spotd_train::coherence::{Options, coherence};

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
        head.logit(&BlockSums::of(&Luma::of_rgb(&common::picture(seed, fake, 256, 256)))).unwrap()
    };
    for seed in 900..905 {
        let (real, fake) = (logit(seed, false), logit(seed, true));
        assert!(fake > real, "picture {seed}: {real} and, with a lattice, {fake}");
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
