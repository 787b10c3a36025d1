//! `spotd eval` on video clips, with a detector that ranks by brightness: metrics after each time,
//! the verdict of `run` on the same clip, bad clips, outputs.

mod common;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{model, pictures};
use serde_json::Value;

/// Frame rate of the clips.
const RATE: u32 = 4;

struct Bench {
    dir: tempfile::TempDir,
    model: String,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let model = model::write_brightness(dir.path()).to_string_lossy().into_owned();
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

    /// A clip of this many seconds whose brightness follows `of`, encoded as by cameras and web
    /// sites.
    fn clip(&self, name: &str, seconds: u32, (width, height): (u32, u32), of: impl Fn(f64) -> u8) {
        let frames = tempfile::tempdir_in(self.dir.path()).expect("a folder");
        for at in 0..seconds * RATE {
            let brightness = of(f64::from(at) / f64::from(RATE));
            let path = frames.path().join(format!("{at:03}.png"));
            pictures::textured(brightness, width, height).save(path).expect("saved");
        }
        support::play(&format!(
            "multifilesrc location={}/%03d.png caps=image/png,framerate={RATE}/1 ! pngdec ! videoconvert \
             ! video/x-raw,format=I420 ! x264enc quantizer=18 pass=qual key-int-max=100 ! h264parse ! mp4mux \
             ! filesink location={}",
            frames.path().display(),
            self.path(name).display()
        ));
    }

    /// Three true clips, one of which turns bright after six seconds, and three generated ones, one
    /// of which is dark for four.
    fn set(&self) {
        let size = (112, 80);
        self.clip("s/0_real/a.mp4", 12, size, |_| 40);
        self.clip("s/0_real/b.mp4", 12, size, |_| 60);
        self.clip("s/0_real/late.mp4", 12, size, |t| if t < 6.0 { 60 } else { 235 });
        self.clip("s/1_fake/a.mp4", 12, size, |_| 220);
        self.clip("s/1_fake/b.mp4", 12, size, |_| 245);
        self.clip("s/1_fake/late.mp4", 12, size, |t| if t < 4.0 { 50 } else { 230 });
    }

    fn run(&self, input: &Path, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_spotd"))
            .args(["eval", "--model", &self.model])
            .arg(input)
            .args(more)
            .output()
            .expect("spotd runs")
    }

    /// Exit code, JSON lines and standard error.
    fn json(&self, input: &Path, more: &[&str]) -> (Option<i32>, Vec<Value>, String) {
        let output = self.run(input, &[&["--json"], more].concat());
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
fn clips_are_found_as_more_of_them_is_watched() {
    let bench = Bench::new();
    bench.set();
    let (code, lines, said) = bench.json(&bench.root(), &["--bootstrap", "100"]);
    assert_eq!(code, Some(0), "{said}");
    let results = of_kind(&lines, "result");
    let seconds: Vec<Option<f64>> = results.iter().map(|r| r["seconds"].as_f64()).collect();
    assert_eq!(seconds, [Some(1.0), Some(3.0), Some(10.0), Some(30.0), None]);
    // Two frames a second and a verdict from five on: there is none within a second.
    for (row, found, wrongly, unsure, lasting) in [
        (results[0], 0.0, 0.0, 1.0, 3),
        (results[1], 2.0 / 3.0, 0.0, 0.0, 3),
        (results[2], 1.0, 1.0 / 3.0, 0.0, 3),
        (results[3], 1.0, 1.0 / 3.0, 0.0, 0),
        (results[4], 1.0, 1.0 / 3.0, 0.0, 3),
    ] {
        near(&row["found"], found);
        near(&row["false"], wrongly);
        near(&row["real_unsure"], unsure);
        assert_eq!((&row["real_lasting"], &row["fake_lasting"]), (&lasting.into(), &lasting.into()), "{row}");
        assert_eq!((&row["unit"], &row["real"], &row["fake"]), (&"clip".into(), &3.into(), &3.into()));
    }
    // Of the generated ones the late one is first between the dark ones; then a true one is
    // brighter than two.
    near(&results[0]["auc"], 7.0 / 9.0);
    near(&results[2]["auc"], 7.0 / 9.0);
    assert!(results[2]["auc_low"].as_f64() < results[2]["auc"].as_f64());
    // By the mean of its frames the late true clip is darker than all that are generated.
    near(&results[4]["auc_of_mean"], 1.0);
    // Wilson's bound for none of three.
    let high = results[0]["false_high"].as_f64().expect("a number");
    assert!((high - 0.5615).abs() < 1e-4, "{high}");

    let clips = of_kind(&lines, "clip");
    let clip = |ending: &str| {
        let is = |c: &&&Value| c["path"].as_str().is_some_and(|p| p.ends_with(ending));
        *clips.iter().find(is).expect("a clip")
    };
    assert_eq!(clips.len(), 6);
    near(&clip("1_fake/a.mp4")["flagged_at"], 2.0);
    // Five bright frames of nine.
    near(&clip("1_fake/late.mp4")["flagged_at"], 6.0);
    near(&clip("0_real/late.mp4")["flagged_at"], 8.0);
    assert_eq!(clip("0_real/a.mp4")["flagged_at"], Value::Null);
    assert_eq!(clip("0_real/a.mp4")["frames"], 24);
    let model = of_kind(&lines, "model")[0];
    assert_eq!((&model["max_tiles"], &model["window"], &model["fps"]), (&9.into(), &9.into(), &2.0.into()));
}

#[test]
fn the_daemon_says_the_same_of_the_same_clips() {
    let bench = Bench::new();
    bench.clip("s/0_real/a.mp4", 6, (112, 80), |_| 60);
    bench.clip("s/1_fake/b.mp4", 6, (112, 80), |t| if t < 1.0 { 100 } else { 170 });
    let (code, lines, said) = bench.json(&bench.root(), &["--bootstrap", "0"]);
    assert_eq!(code, Some(0), "{said}");
    let clips = of_kind(&lines, "clip");
    let flags = bench.dir.path().join("flags");
    let text = format!(
        "[model]\npath = \"{}\"\n[log]\ndir = \"{}\"\n{}",
        bench.model,
        flags.display(),
        ["0_real/a", "1_fake/b"]
            .map(|n| format!(
                "[[source]]\nid = \"{}\"\nuri = \"{}\"\nfps = 2\n",
                &n[7..],
                bench.path(&format!("s/{n}.mp4")).display()
            ))
            .concat()
    );
    let config = bench.dir.path().join("spotd.toml");
    std::fs::write(&config, &text).expect("written");
    let status = Command::new(env!("CARGO_BIN_EXE_spotd"))
        .args(["run", "--config"])
        .arg(&config)
        .envs(common::daemon::left_open(&text))
        .stdout(std::process::Stdio::null())
        .status()
        .expect("spotd runs");
    assert!(status.success());
    let (code, text) = common::daemon::spotd(&["log", &flags.to_string_lossy(), "--json"]);
    assert_eq!(code, Some(0), "{text}");
    let records: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let starts: Vec<&Value> = records.iter().filter(|r| r["kind"] == "start").collect();
    assert_eq!(starts.iter().map(|r| r["source"].as_str()).collect::<Vec<_>>(), [Some("b")], "{text}");
    assert_eq!((&clips[0]["flagged_at"], clips[1]["flagged_at"].is_number()), (&Value::Null, true));
    // The peak of the event is the clip's score.
    let peak = records.iter().filter_map(|r| r["peak"].as_f64()).fold(0.0, f64::max);
    let score = clips[1]["after"].as_array().and_then(|a| a.last()).expect("whole")["score"].as_f64();
    assert!((peak - score.expect("a score")).abs() < 0.02, "{peak} {score:?}");
}

#[test]
fn what_cannot_be_judged_is_named_before_anything_is_written() {
    let bench = Bench::new();
    let size = (112, 80);
    bench.clip("s/0_real/good.mp4", 3, size, |_| 60);
    bench.clip("s/1_fake/good.mp4", 3, size, |_| 200);
    bench.clip("s/1_fake/short.mp4", 1, size, |_| 200);
    std::fs::write(bench.path("s/0_real/words.mp4"), "no video").expect("written");
    std::fs::write(bench.path("s/0_real/empty.mp4"), "").expect("written");
    support::play(&format!(
        "audiotestsrc num-buffers=100 ! audioconvert ! avenc_aac ! mp4mux ! filesink location={}",
        bench.path("s/0_real/sound.mp4").display()
    ));
    let page = bench.dir.path().join("page.md");
    let (code, lines, said) = bench.json(&bench.root(), &["--markdown", &page.to_string_lossy()]);
    assert_eq!((code, lines.len(), page.exists()), (Some(2), 0, false), "{said}");
    assert!(said.contains("4 cannot be judged"), "{said}");
    for words in
        ["words.mp4", "empty.mp4", "sound.mp4", "short.mp4: is shorter than a window: 2 frames at 2 a second"]
    {
        assert!(said.contains(words), "'{words}' is missing in: {said}");
    }
    // With more frames a second there is a verdict.
    for bad in ["words.mp4", "empty.mp4", "sound.mp4"] {
        std::fs::remove_file(bench.path(&format!("s/0_real/{bad}"))).expect("removed");
    }
    let (code, lines, said) = bench.json(&bench.root(), &["--fps", "8"]);
    assert_eq!((code, of_kind(&lines, "clip").len()), (Some(2), 0), "a clip of 4 frames: {said}");
    std::fs::remove_file(bench.path("s/1_fake/short.mp4")).expect("removed");
    let (code, _, said) = bench.json(&bench.root(), &["--fps", "4"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn sets_of_one_side_and_mixtures_are_refused() {
    let bench = Bench::new();
    let size = (112, 80);
    bench.clip("both/0_real/a.mp4", 3, size, |_| 60);
    bench.clip("both/1_fake/a.mp4", 3, size, |_| 200);
    let refused = |more: &[&str], words: &[&str]| {
        let (code, lines, said) = bench.json(&bench.root(), more);
        assert_eq!((code, lines.len()), (Some(2), 0), "{said}");
        for words in words {
            assert!(said.contains(words), "'{words}' is missing in: {said}");
        }
    };
    refused(&["--perturb", "jpeg=75"], &["leave out --view and --perturb"]);
    refused(&["--view", "crop"], &["leave out --view and --perturb"]);
    refused(&["--seconds", "1,0"], &["above 0"]);
    std::fs::copy(bench.path("both/0_real/a.mp4"), bench.path("lonely/0_real/a.mp4")).expect("copied");
    std::fs::copy(bench.path("both/1_fake/a.mp4"), bench.path("made/1_fake/a.mp4")).expect("copied");
    refused(&[], &["lonely: has no generated clips", "made: has no real clips"]);
    pictures::textured(60, 112, 80).save(bench.path("lonely/0_real/p.png")).expect("saved");
    refused(&[], &["lonely holds pictures and both holds video clips"]);
}

#[test]
fn lists_tables_pages_and_plots() {
    let bench = Bench::new();
    bench.clip("a/0_real/dark.mp4", 3, (112, 80), |_| 60);
    bench.clip("a/0_real/small.mp4", 3, (48, 48), |_| 60);
    bench.clip("a/1_fake/bright.mp4", 5, (112, 80), |_| 230);
    std::fs::write(
        bench.path("list.csv"),
        "path,label,set\na/0_real/dark.mp4,real,one\na/1_fake/bright.mp4,fake,one\n\
         a/0_real/dark.mp4,real,two\na/0_real/small.mp4,real,two\na/1_fake/bright.mp4,fake,two\n",
    )
    .expect("written");
    let at = |name: &str| bench.dir.path().join(name).to_string_lossy().into_owned();
    let (csv, page, plots) = (at("rows.csv"), at("page.md"), at("plots"));
    let output = bench.run(
        &bench.path("list.csv"),
        &["--seconds", "3,1", "--csv", &csv, "--markdown", &page, "--plots", &plots],
    );
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("small.mp4: no verdict is possible: 48x48 is smaller than a tile of 64x64"),
        "{said}"
    );
    assert!(said.contains("two: length alone tells real from generated (1.00"), "{said}");
    let rows: Vec<&str> = text.lines().filter(|l| l.starts_with("two")).collect();
    assert!(text.contains("two: 2 real (2 mp4, 48x48), 1 generated (1 mp4, 112x80)"), "{text}");
    assert_eq!(rows.len(), 1 + 3, "{text}");
    assert!(rows[3].contains("whole") && rows[3].contains("1 = 100.0% [21 100]"), "{}", rows[3]);
    let csv = std::fs::read_to_string(csv).expect("written");
    let names: Vec<&str> = csv.lines().map(|l| l.split(',').next().expect("a field")).collect();
    assert_eq!(
        names,
        ["set", "one", "one", "one", "two", "two", "two", "mean of sets", "mean of sets", "mean of sets"]
    );
    // The small one has no score: it is ranked nowhere, but counts as not flagged and not cleared.
    let whole = csv.lines().nth(6).expect("a row");
    assert!(whole.starts_with("two,,2,1,2,1,1.0,"), "{whole}");
    let page = std::fs::read_to_string(page).expect("written");
    assert!(page.contains("| two | whole | 2+1 |") && page.contains("## Warnings"), "{page}");
    for name in ["clips-auc.svg", "clips-found.svg", "clips-false.svg"] {
        let plot = std::fs::read_to_string(format!("{plots}/{name}")).expect("written");
        assert!(plot.contains("seconds watched") && plot.contains("mean of sets"), "{name}");
    }
}
