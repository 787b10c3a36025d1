//! How much is found under which conditions goes into the card, and the daemon reads it there.

mod common;

use std::path::{Path, PathBuf};

use clap::Parser as _;
use spotd::detector::{Model, card::Card};
use spotd::identity::Wanted;
use spotd_train::reach::{Options, reach};

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options(model: &Path, layout: &Path, words: &str) -> Options {
    let mut line: Vec<String> = format!("x {words}").split_whitespace().map(Into::into).collect();
    line.extend(["--model".into(), model.display().to_string(), layout.display().to_string()]);
    Line::try_parse_from(line).map_err(|e| e.to_string()).expect("a command line").options
}

/// A copy of a shipped model with all that belongs to it.
fn copy(name: &str, to: &Path) -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let model = to.join(name);
    let card = Card::load(&Card::path_for(&models.join(name))).unwrap();
    let head = card.coherence.map(|part| part.file);
    for file in [Some(name.to_owned()), Some(name.replace(".onnx", ".toml")), head].into_iter().flatten() {
        std::fs::copy(models.join(&file), to.join(&file)).unwrap();
    }
    model
}

fn put_set(layout: &Path, n: u64) {
    for (side, fake) in [("0_real", false), ("1_fake", true)] {
        let folder = layout.join("lattice").join(side);
        std::fs::create_dir_all(&folder).unwrap();
        for at in 0..n {
            common::picture(at, fake, 256, 240).save(folder.join(format!("{at}.png"))).unwrap();
        }
    }
}

#[test]
fn the_table_is_measured_and_written_and_the_model_still_opens() {
    let dir = tempfile::tempdir().unwrap();
    let model = copy("spotd-edge-int8.onnx", dir.path());
    let layout = dir.path().join("sets");
    put_set(&layout, 3);
    let before = Card::load(&Card::path_for(&model)).unwrap();
    let said = reach(&options(&model, &layout, "--pictures 2 --least 0.25 --write")).unwrap();
    for way in ["as stored", "jpeg 15", "blur 1.4", "scaled by 2"] {
        assert!(said.contains(way), "{said}");
    }
    let card = Card::load(&Card::path_for(&model)).unwrap();
    let table = card.reach.clone().expect("a table");
    assert_eq!(table.least, 0.25);
    let ways = said.lines().skip(1).take_while(|line| !line.is_empty()).count() as u32;
    // Of 240 lines half are too few for a tile, so one way shows nothing.
    assert_eq!(table.pictures.iter().flatten().sum::<u32>(), 2 * (ways - 2), "{said}");
    assert_eq!(Card { reach: before.reach.clone(), ..card }, before, "nothing else in the card has changed");
    Model::open(Some(&model), Wanted::Auto).expect("opens");
}

#[test]
fn what_cannot_be_measured_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let coherent = copy("spotd-edge-int8.onnx", dir.path());
    let layout = dir.path().join("sets");
    std::fs::create_dir_all(&layout).unwrap();
    assert!(reach(&options(&coherent, &layout, "")).is_err(), "there is no set");
    put_set(&layout, 1);
    let wrong = reach(&options(&coherent, &layout, "--least 1.5")).unwrap_err().to_string();
    assert!(wrong.contains("--least 1.5"), "{wrong}");
    let text = std::fs::read_to_string(Card::path_for(&coherent)).unwrap();
    let mut card = Card::parse(&text, Path::new("card")).unwrap();
    card.coherence = None;
    std::fs::write(Card::path_for(&coherent), card.to_toml()).unwrap();
    let wrong = reach(&options(&coherent, &layout, "")).unwrap_err().to_string();
    assert!(wrong.contains("no coherent part"), "{wrong}");
}
