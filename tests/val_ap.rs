//! `spotd scan` over pictures that the detector was not trained on has the AP that its card states.
//!
//! Needs the validation pictures, which are not part of the project: `SPOTD_VAL=FOLDER`, or the
//! folder `shared/data/val` beside the checkout. Without them the test says loudly that it was
//! skipped.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use spotd::detector::Model;
use spotd::forensics::ap::average_precision;
use spotd::identity::Wanted;

/// Decoders and kernels differ a little between machines; a wrong tile or channel order moves AP
/// more.
const TOLERANCE: f64 = 0.02;

fn val() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/val");
    let folder = std::env::var_os("SPOTD_VAL").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// The real photographs that a set of fakes is compared with.
fn reals_of(set: &str) -> &'static str {
    match set {
        "web-ai" => "web_real",
        "video-sd-fairy" => "video_real",
        "nano-banana" | "pixart" | "sd15" => "photos_real",
        "stylegan1-256" => "shrunk-ffhq_real",
        "stylegan2" => "ffhq_real",
        _ => "bsds_real",
    }
}

#[test]
fn scan_ranks_as_the_card_says() {
    let Some(val) = val() else {
        let mut err = std::io::stderr().lock();
        let _ = writeln!(
            err,
            "\n*** SKIPPED: no validation pictures; give SPOTD_VAL=FOLDER to hold the card to them ***\n"
        );
        return;
    };
    let output =
        Command::new(env!("CARGO_BIN_EXE_spotd")).args(["scan", "--json"]).arg(&val).output().expect("runs");
    assert_eq!(output.status.code(), Some(1), "some of them are flagged, and all can be judged");
    let mut scores: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let path = Path::new(row["path"].as_str().expect("a path"));
        let folder = path.strip_prefix(&val).expect("inside").components().next().expect("a set");
        let folder = folder.as_os_str().to_string_lossy().into_owned();
        scores.entry(folder).or_default().push(row["score"].as_f64().expect("a score") as f32);
    }
    let card = Model::open(None, Wanted::Auto).expect("the built-in detector").card().clone();
    let rows: Vec<_> = card.measured.iter().filter(|m| m.perturbation == "as stored").collect();
    assert!(!rows.is_empty(), "the card states no AP");
    for row in rows {
        let (fake, real) = (&scores[&row.set], &scores[reals_of(&row.set)]);
        assert_eq!((fake.len(), real.len()), (row.fake, row.real), "{}", row.set);
        let labels: Vec<bool> = fake.iter().map(|_| true).chain(real.iter().map(|_| false)).collect();
        let all: Vec<f32> = fake.iter().chain(real).copied().collect();
        let ap = average_precision(&all, &labels).expect("both classes");
        println!("{}: AP {ap:.4}, the card says {:.4}, chance is {:.4}", row.set, row.ap, row.ap_chance);
        assert!((ap - row.ap).abs() <= TOLERANCE, "{}: AP {ap:.4}, the card says {:.4}", row.set, row.ap);
    }
    let mean = card.mean_ap("as stored").expect("rows");
    let chance =
        card.measured.iter().filter(|m| m.perturbation == "as stored").map(|m| m.ap_chance).sum::<f64>()
            / card.measured.iter().filter(|m| m.perturbation == "as stored").count() as f64;
    assert!(mean > chance + 0.05, "mean AP {mean:.3} is not better than chance, {chance:.3}");
}
