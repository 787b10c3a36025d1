//! `spotd eval` as a user runs it, with a detector that ranks by brightness: metrics, layouts,
//! lists, bad files, outputs.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::model;
use common::pictures::textured as picture;
use image::{DynamicImage, GrayImage, ImageBuffer, ImageEncoder, Luma, Rgb, RgbImage};
use serde_json::Value;

struct Bench {
    dir: tempfile::TempDir,
    model: String,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let model = model::write_brightness(dir.path()).to_string_lossy().into_owned();
        std::fs::create_dir(dir.path().join("sets")).expect("a folder");
        Self { dir, model }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("sets")
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        path
    }

    fn put(&self, name: &str, brightness: u8) {
        picture(brightness, 100, 80).save(self.path(name)).expect("saved");
    }

    /// A set whose pictures are ranked correctly except for one photograph.
    fn set(&self, name: &str) {
        for (at, brightness) in [40, 60, 80, 210].into_iter().enumerate() {
            self.put(&format!("{name}/0_real/{at}.png"), brightness);
        }
        for (at, brightness) in [150, 180, 220, 240].into_iter().enumerate() {
            self.put(&format!("{name}/1_fake/{at}.png"), brightness);
        }
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_spotd"))
            .args(["eval", "--model", &self.model])
            .args(args)
            .output()
            .expect("spotd runs")
    }

    /// Exit code, JSON lines and standard error.
    fn json(&self, input: &Path, more: &[&str]) -> (Option<i32>, Vec<Value>, String) {
        let input = input.to_string_lossy().into_owned();
        let output = self.run(&[&[input.as_str(), "--json"], more].concat());
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let lines = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        (output.status.code(), lines, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|l| l["kind"] == kind).collect()
}

fn near(value: &Value, wanted: f64) {
    let value = value.as_f64().expect("a number");
    assert!((value - wanted).abs() < 1e-9, "{value} is not {wanted}");
}

#[test]
fn figures_of_two_sets_and_their_mean() {
    let bench = Bench::new();
    bench.set("a");
    bench.put("b/horse/0_real/1.png", 20);
    bench.put("b/zebra/1_fake/2.png", 250);
    let (code, lines, said) = bench.json(&bench.root(), &["--bootstrap", "200"]);
    assert_eq!(code, Some(0), "{said}");
    let results = of_kind(&lines, "result");
    assert_eq!(results.len(), 2);
    let a = results[0];
    // Ranked: 240, 220 generated, 210 real, 180, 150 generated, 80, 60, 40 real.
    near(&a["ap"], (1.0 + 1.0 + 3.0 / 4.0 + 4.0 / 5.0) / 4.0);
    near(&a["auc"], 14.0 / 16.0);
    // The card's threshold of 0.8 is brightness 142.
    near(&a["accuracy"], 7.0 / 8.0);
    near(&a["best_accuracy"], 7.0 / 8.0);
    near(&a["fpr_at_recall"], 0.25);
    near(&a["real_flagged"], 0.25);
    near(&a["fake_flagged"], 1.0);
    assert!(a["ap_low"].as_f64() <= a["ap"].as_f64() && a["ap"].as_f64() <= a["ap_high"].as_f64());
    assert_eq!((&a["set"], &a["after"], &a["view"]), (&"a".into(), &"as stored".into(), &"tiles".into()));
    near(&results[1]["ap"], 1.0);
    let means = of_kind(&lines, "mean");
    near(&means[0]["auc"], (14.0 / 16.0 + 1.0) / 2.0);
    let found = of_kind(&lines, "found");
    assert_eq!(found[1]["classes"], serde_json::json!(["horse", "zebra"]));
    assert_eq!(of_kind(&lines, "model")[0]["name"], "brightness");
}

#[test]
fn matched_sets_come_first_and_have_a_mean_of_their_own() {
    let bench = Bench::new();
    bench.set("a-loose");
    // Different sizes: this set is separated without looking at the pictures.
    picture(90, 128, 128).save(bench.path("a-loose/1_fake/0.png")).expect("saved");
    picture(90, 128, 128).save(bench.path("a-loose/1_fake/1.png")).expect("saved");
    for at in 0..6u32 {
        // A picture with its own pattern, and its resynthesis: brighter, except once.
        let real = RgbImage::from_fn(96, 96, |x, y| {
            Rgb([60 + ((x / 8 * (at * 37 + 11) + y / 8 * (at * 53 + 29)) % 60) as u8; 3])
        });
        let mut fake = real.clone();
        fake.iter_mut().for_each(|v| *v = if at == 0 { *v - 20 } else { *v + 30 });
        real.save(bench.path(&format!("pairs/0_real/{at}.png"))).expect("saved");
        fake.save(bench.path(&format!("pairs/1_fake/{at}.png"))).expect("saved");
    }
    let (code, lines, said) = bench.json(&bench.root(), &["--bootstrap", "50"]);
    assert_eq!(code, Some(0), "{said}");
    let found: Vec<(&Value, &Value)> =
        of_kind(&lines, "found").iter().map(|f| (&f["matched"], &f["pairs"])).collect();
    assert_eq!(found, [(&"pairs".into(), &6.into()), (&Value::Null, &0.into())]);
    let results = of_kind(&lines, "result");
    assert_eq!((&results[0]["set"], &results[1]["set"]), (&"pairs".into(), &"a-loose".into()));
    near(&results[0]["pair_accuracy"], 5.0 / 6.0);
    assert_eq!((&results[1]["matched"], &results[1]["pair_accuracy"]), (&Value::Null, &Value::Null));
    let means = of_kind(&lines, "mean");
    assert_eq!(
        (&means[0]["set"], &means[1]["set"]),
        (&"mean of matched sets".into(), &"mean of sets".into())
    );
    assert_eq!(means[0]["auc"], results[0]["auc"]);
    assert!(means[0]["auc_low"].as_f64() <= means[0]["auc"].as_f64());
    let root = bench.root().to_string_lossy().into_owned();
    let text = String::from_utf8(bench.run(&[&root, "--bootstrap", "0"]).stdout).expect("UTF-8");
    assert!(
        text.contains("pairs: 6 real (6 png, 96x96), 6 generated (6 png, 96x96); matched: 6 pairs"),
        "{text}"
    );
    assert!(text.contains("pairs right") && text.contains("83.3%"), "{text}");
}

#[test]
fn a_set_itself_and_lists_give_the_same() {
    let bench = Bench::new();
    bench.set("a");
    let (_, folder, _) = bench.json(&bench.root().join("a"), &[]);
    let mut csv = String::from("path,label,set\n");
    let mut jsonl = String::new();
    for (side, label) in [("0_real", "real"), ("1_fake", "fake")] {
        for at in 0..4 {
            csv += &format!("a/{side}/{at}.png,{label},a\n");
            jsonl += &format!("{{\"path\":\"a/{side}/{at}.png\",\"label\":\"{label}\",\"set\":\"a\"}}\n");
        }
    }
    std::fs::write(bench.path("list.csv"), csv).expect("written");
    std::fs::write(bench.path("list.jsonl"), jsonl).expect("written");
    let want = of_kind(&folder, "result");
    for list in ["list.csv", "list.jsonl"] {
        let (code, lines, said) = bench.json(&bench.path(list), &[]);
        assert_eq!((code, of_kind(&lines, "result")), (Some(0), want.clone()), "{said}");
    }
    std::fs::write(bench.path("bad.csv"), "a/0_real/0.png,maybe\n").expect("written");
    let (code, _, said) = bench.json(&bench.path("bad.csv"), &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("bad.csv:1") && said.contains("real or fake"), "{said}");
}

#[test]
fn perturbations_are_conditions_of_their_own() {
    let bench = Bench::new();
    bench.set("a");
    let (code, lines, said) = bench.json(
        &bench.root(),
        &["--perturb", "jpeg=90,50", "--perturb", "blur=2", "--perturb", "resize=0.5,0.5"],
    );
    assert_eq!(code, Some(0), "{said}");
    let after: Vec<&str> = of_kind(&lines, "result").iter().filter_map(|r| r["after"].as_str()).collect();
    assert_eq!(after, ["as stored", "jpeg 90", "jpeg 50", "blur 2", "resize 0.5"]);
    // Halved, 100x80 is smaller than the tile of 64.
    assert_eq!(of_kind(&lines, "result")[4]["limited"], 8);
    let (code, _, said) = bench.json(&bench.root(), &["--perturb", "sharpen=1"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("jpeg, blur, resize, h264, h265"), "{said}");
}

#[cfg(feature = "gstreamer")]
#[test]
fn video_codecs_leave_brightness_and_take_texture() {
    let bench = Bench::new();
    bench.set("a");
    let (code, lines, said) = bench.json(&bench.root(), &["--perturb", "h264=23,45", "--perturb", "h265=28"]);
    assert_eq!(code, Some(0), "{said}");
    let results = of_kind(&lines, "result");
    let after: Vec<&str> = results.iter().filter_map(|r| r["after"].as_str()).collect();
    assert_eq!(after, ["as stored", "h264 23", "h264 45", "h265 28"]);
    for row in results {
        near(&row["auc"], 14.0 / 16.0);
    }
}

#[test]
fn the_view_decides_what_is_seen() {
    let bench = Bench::new();
    // Bright only in the middle: the crop sees it, tiles see a mean.
    for (name, middle) in [("s/0_real/1.png", 100), ("s/1_fake/1.png", 250)] {
        let mut whole = picture(if middle == 100 { 240 } else { 60 }, 256, 256);
        image::imageops::replace(&mut whole, &picture(middle, 64, 64), 96, 96);
        whole.save(bench.path(name)).expect("saved");
    }
    let auc = |view: &str| {
        let (code, lines, said) = bench.json(&bench.root(), &["--view", view, "--bootstrap", "0"]);
        assert_eq!(code, Some(0), "{said}");
        of_kind(&lines, "result")[0]["auc"].as_f64()
    };
    assert_eq!((auc("crop"), auc("tiles"), auc("whole")), (Some(1.0), Some(0.0), Some(0.0)));
}

#[test]
fn what_differs_besides_the_pictures_is_warned_about() {
    let bench = Bench::new();
    for at in 0..4 {
        picture(50, 100, 80).save(bench.path(&format!("s/0_real/{at}.jpg"))).expect("saved");
        picture(200, 128, 128).save(bench.path(&format!("s/1_fake/{at}.png"))).expect("saved");
    }
    let (code, lines, said) = bench.json(&bench.root(), &[]);
    assert_eq!(code, Some(0));
    let giveaways = of_kind(&lines, "found")[0]["giveaways"].as_array().expect("a list").len();
    assert_eq!(giveaways, 2);
    for words in
        ["format alone tells real from generated (1.00", "size alone", "4 jpeg of quality", "4 png, 128x128"]
    {
        assert!(said.contains(words), "'{words}' is missing in: {said}");
    }
}

#[test]
fn the_paper_s_figures_stand_beside_ours_on_its_own_sets() {
    let bench = Bench::new();
    for set in ["progan", "crn", "seeingdark", "whichfaceisreal"] {
        bench.set(set);
    }
    let (_, lines, _) = bench.json(&bench.root(), &["--view", "crop", "--bootstrap", "0"]);
    let of = |lines: &[Value], set: &str| {
        let row = of_kind(lines, "result").into_iter().find(|r| r["set"] == set).expect("a row").clone();
        (row["paper_ap_0_5"].as_f64(), row["paper_ap_0_1"].as_f64())
    };
    assert_eq!(of(&lines, "seeingdark"), (Some(0.927), Some(0.972)));
    let (_, lines, _) = bench.json(&bench.root(), &["--view", "whole", "--bootstrap", "0"]);
    assert_eq!(of(&lines, "whichfaceisreal"), (Some(1.0), Some(0.998)));
    // A set that merely shares a name is not the paper's.
    let (_, lines, _) = bench.json(&bench.root().join("crn"), &[]);
    assert_eq!(of(&lines, "crn"), (None, None));
}

#[test]
fn a_set_without_two_sides_is_left_out_and_said() {
    let bench = Bench::new();
    bench.set("good");
    bench.put("lonely/0_real/1.png", 50);
    std::fs::create_dir_all(bench.path("lonely/1_fake/x").parent().expect("a folder")).expect("a folder");
    std::fs::write(bench.path("words/0_real/a.txt"), "no picture").expect("written");
    std::fs::write(bench.path("words/1_fake/b.png"), "no picture either").expect("written");
    let (code, lines, said) = bench.json(&bench.root(), &[]);
    assert_eq!(code, Some(1));
    assert_eq!(of_kind(&lines, "result").len(), 1);
    assert!(said.contains("lonely: left out, it has no generated pictures"), "{said}");
    assert!(
        said.contains("words: left out, it has no real pictures and has 1 generated files, none of which"),
        "{said}"
    );
    assert!(said.contains("words/1_fake/b.png: skipped"), "{said}");
    // On its own it is an error, and so are folders without a set, and a missing folder.
    for (folder, words) in [
        ("lonely", "has no generated pictures"),
        ("lonely/0_real", "holds no <set>/[class/]{0_real,1_fake}"),
        ("nowhere", "nowhere"),
    ] {
        let (code, _, said) = bench.json(&bench.root().join(folder), &[]);
        assert_eq!(code, Some(2), "{folder}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn odd_pictures_are_judged_or_named() {
    let bench = Bench::new();
    bench.set("s");
    let jpeg = |name: &str, bytes: &[u8]| std::fs::write(bench.path(name), bytes).expect("written");
    // Judged: 16 bits, grey, alpha, one pixel, progressive, rotated by EXIF.
    let deep = ImageBuffer::<Rgb<u16>, _>::from_fn(90, 70, |x, y| {
        Rgb([((x * 7 + y * 13) % 40) as u16 * 200 + 40_000; 3])
    });
    DynamicImage::ImageRgb16(deep).save(bench.path("s/1_fake/deep.png")).expect("saved");
    let grey = GrayImage::from_fn(90, 70, |x, y| Luma([((x * 5 + y * 3) % 30) as u8]));
    grey.save(bench.path("s/0_real/grey.png")).expect("saved");
    DynamicImage::ImageRgb8(picture(240, 90, 70))
        .to_rgba8()
        .save(bench.path("s/1_fake/alpha.png"))
        .expect("saved");
    picture(30, 1, 1).save(bench.path("s/0_real/dot.png")).expect("saved");
    let progressive =
        encoded(&picture(230, 90, 70), |e| e.set_progressive(true), jpeg_encoder::ColorType::Rgb);
    jpeg("s/1_fake/progressive.jpg", &progressive);
    let mut rotated = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut rotated, 95);
    // Orientation 6, as a telephone held upright writes it.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    encoder.set_exif_metadata(exif).expect("takes EXIF");
    encoder
        .write_image(picture(20, 120, 70).as_raw(), 120, 70, image::ExtendedColorType::Rgb8)
        .expect("encodes");
    jpeg("s/0_real/rotated.jpg", &rotated);
    let (code, lines, said) = bench.json(&bench.root(), &["--bootstrap", "0"]);
    assert_eq!(code, Some(0), "{said}");
    let row = of_kind(&lines, "result")[0];
    assert_eq!((&row["real"], &row["fake"], &row["limited"]), (&7.into(), &7.into(), &1.into()));
    // Each was decoded correctly: only 150, 180 and the deep one are below the photograph of 210.
    near(&row["auc"], (49.0 - 3.0) / 49.0);

    // Whole, the single pixel is too small for a network and is named.
    let (code, lines, said) = bench.json(&bench.root(), &["--view", "whole", "--bootstrap", "0"]);
    assert_eq!((code, &of_kind(&lines, "result")[0]["real"]), (Some(1), &6.into()));
    assert!(said.contains("dot.png: 1x1 is too small"), "{said}");

    // Reported: truncated, and empty.
    jpeg("s/0_real/cut.jpg", &rotated[..rotated.len() / 2]);
    jpeg("s/0_real/cut-progressive.jpg", &progressive[..progressive.len() * 3 / 4]);
    let whole = std::fs::read(bench.path("s/0_real/1.png")).expect("read");
    std::fs::write(bench.path("s/1_fake/cut.png"), &whole[..whole.len() / 2]).expect("written");
    std::fs::write(bench.path("s/1_fake/empty.jpg"), b"").expect("written");
    let (code, lines, said) = bench.json(&bench.root(), &["--bootstrap", "0"]);
    assert_eq!(code, Some(1));
    let mut named: Vec<String> = of_kind(&lines, "skipped")
        .iter()
        .map(|s| {
            Path::new(s["path"].as_str().expect("a path"))
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    named.sort();
    assert_eq!(named, ["cut-progressive.jpg", "cut.jpg", "cut.png", "empty.jpg"], "{said}");
    assert_eq!(of_kind(&lines, "result")[0]["real"], 7);
}

#[test]
fn four_inks_are_judged_as_the_colours_they_stand_for() {
    let bench = Bench::new();
    bench.set("s");
    // The encoder stores them inverted and says so, as Photoshop does.
    let picture = picture(235, 90, 70);
    let inks: Vec<u8> = picture.pixels().flat_map(|p| [255 - p[0], 255 - p[1], 255 - p[2], 0]).collect();
    let mut bytes = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
    encoder.encode(&inks, 90, 70, jpeg_encoder::ColorType::Cmyk).expect("encodes");
    std::fs::write(bench.path("s/1_fake/inks.jpg"), bytes).expect("written");
    let (code, lines, said) = bench.json(&bench.root(), &["--bootstrap", "0"]);
    assert_eq!(code, Some(0), "{said}");
    let row = of_kind(&lines, "result")[0];
    assert_eq!(row["fake"], 5);
    near(&row["auc"], (20.0 - 2.0) / 20.0);
}

fn encoded(
    picture: &RgbImage,
    set: impl FnOnce(&mut jpeg_encoder::Encoder<&mut Vec<u8>>),
    colour: jpeg_encoder::ColorType,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
    set(&mut encoder);
    let (width, height) = picture.dimensions();
    encoder.encode(picture.as_raw(), width as u16, height as u16, colour).expect("encodes");
    bytes
}

#[test]
fn outputs_are_whole_or_not_there() {
    let bench = Bench::new();
    bench.set("a");
    bench.set("b");
    let root = bench.root().to_string_lossy().into_owned();
    let out = bench.dir.path().join("out");
    let file = |name: &str| out.join(name).to_string_lossy().into_owned();
    let args = [
        root.as_str(),
        "--perturb",
        "jpeg=90,50",
        "--csv",
        &file("r.csv"),
        "--markdown",
        &file("r.md"),
        "--plots",
        &file("plots"),
    ];
    let output = bench.run(&args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(table.contains("mean of sets") && table.contains("FPR@90%"), "{table}");
    let mut csv = csv::Reader::from_path(out.join("r.csv")).expect("CSV");
    let heads = csv.headers().expect("names").clone();
    let rows: Vec<csv::StringRecord> = csv.records().collect::<Result<_, _>>().expect("records");
    assert_eq!(rows.len(), 9);
    assert_eq!((&heads[0], &heads[1], &heads[6]), ("set", "after", "ap"));
    let auc = heads.iter().position(|h| h == "auc").expect("a column");
    assert_eq!(&rows[0][auc], "0.875");
    let page = std::fs::read_to_string(out.join("r.md")).expect("written");
    assert_eq!(page.lines().filter(|l| l.starts_with("| ") && l.contains("jpeg 50")).count(), 3, "{page}");
    for plot in ["roc", "precision-recall", "scores", "robustness-jpeg"] {
        let text = std::fs::read_to_string(out.join(format!("plots/{plot}.svg"))).expect(plot);
        assert!(text.contains("</svg>"), "{plot}");
    }
    let mut all: Vec<PathBuf> =
        walkdir::WalkDir::new(&out).into_iter().flatten().map(|e| e.into_path()).collect();
    all.retain(|p| p.is_file());
    assert_eq!(all.len(), 6, "nothing else is left behind: {all:?}");

    // If nothing can be written, the error names the file.
    let output = bench.run(&[&root, "--csv", "/proc/no/r.csv"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/proc/no"));
}
