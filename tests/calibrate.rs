//! `spotd calibrate` as a user runs it, and the daemon that loads what it wrote. The detector ranks
//! by brightness; the site's frames waver around a brightness.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{model, records};
use image::{Rgb, RgbImage};
use spotd::clock::SystemClock;
use spotd::detector::calibration::{Calibration, Method};
use spotd::flaglog::{Finding, FlagLog, NewReview};
use spotd::forensics::rng::Rng;
use spotd::verdict::EventKind;

fn spotd(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spotd")).args(args).output().expect("spotd runs")
}

struct Site {
    dir: tempfile::TempDir,
    model: String,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let model = model::write_brightness(dir.path()).to_string_lossy().into_owned();
        Self { dir, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Frames whose brightness wavers around `mean`, each much like the one before.
    fn film(&self, name: &str, frames: u32, mean: f32, seed: u64) {
        std::fs::create_dir_all(self.path(name)).expect("a folder");
        let mut rng = Rng::new(seed);
        let mut waver = 0.0;
        for frame in 0..frames {
            waver = 0.6 * waver + 4.0 * rng.normal();
            RgbImage::from_fn(64, 64, |x, y| {
                let texture = ((x * 31 + y * 17) % 21) as f32 - 10.0;
                Rgb([(mean + waver + texture).clamp(0.0, 255.0) as u8; 3])
            })
            .save(self.path(&format!("{name}/{frame:05}.png")))
            .expect("saved");
        }
    }

    fn calibrate(&self, more: &[&str]) -> (Option<i32>, String, String) {
        let out = self.text("site.toml");
        let output = spotd(&[&["calibrate", "--model", &self.model, "--out", &out], more].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn written(&self) -> Calibration {
        Calibration::load(&self.path("site.toml")).expect("written")
    }

    /// A configuration that watches `folder` with the calibration.
    fn config(&self, folder: &str, model: &str, more: &str) -> String {
        let path = self.path("spotd.toml");
        let text = format!(
            "[model]\npath = {model:?}\ncalibration = \"site.toml\"\n{more}\n[log]\ndir = \"flags\"\nmin_free_mib = 0\n\
             [[source]]\nid = \"cam\"\nuri = {:?}\nfps = 4.0\n",
            self.text(folder)
        );
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    }
}

#[test]
fn an_overlay_is_found_written_and_loaded_by_the_daemon() {
    let site = Site::new();
    // Brighter than mid grey: by its card (0.8 at 142) the detector alarms here all the time.
    site.film("real", 1200, 150.0, 1);
    site.film("fake", 60, 240.0, 2);
    let (real, fake) = (site.text("real"), site.text("fake"));
    let (code, told, said) =
        site.calibrate(&["--real", &real, "--fake", &fake, "--per-day", "2", "--fps", "4"]);
    assert_eq!(code, Some(0), "{said}");
    for words in [
        "5.0 minutes of real footage",
        "EXTRAPOLATED",
        "of the generated footage 100.0 %",
        "[model] calibration",
    ] {
        assert!(told.contains(words), "'{words}' is missing in: {told}");
    }
    let made = site.written();
    assert_eq!((made.method, made.window, made.fps), (Method::ExponentialTail, 9, 4.0));
    assert!(made.per_day_low < 2.0 && 2.0 < made.per_day_high, "{made:?}");
    assert!(made.unsure_from < made.threshold && made.fake_flagged == Some(1.0));
    // Now the site's own frames are below it in the daemon.
    let config = site.config("real", &site.model, "workers = 1");
    let output = spotd(&["check", "--config", &config]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(&format!("synthetic from {:.4}", made.threshold)), "{told}");
    let watch = |folder: &str| {
        site.film(&format!("{folder}-short"), 12, if folder == "real" { 150.0 } else { 240.0 }, 3);
        let config = site.config(&format!("{folder}-short"), &site.model, "");
        let _ = std::fs::remove_dir_all(site.path("flags"));
        let output = spotd(&["run", "--config", &config]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let log = spotd(&["log", "--json", "--config", &config]);
        String::from_utf8_lossy(&log.stdout).lines().filter(|l| l.contains("\"start\"")).count()
    };
    assert_eq!((watch("real"), watch("fake")), (0, 1));
}

#[test]
fn another_model_or_setting_is_refused_or_told() {
    let site = Site::new();
    site.film("real", 600, 100.0, 1);
    let real = site.text("real");
    let (code, told, said) = site.calibrate(&["--real", &real, "--per-day", "400", "--fps", "4", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let json: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(json["model"], "brightness test");
    assert_eq!(json["max_tiles"], 9);
    // Another model: a shipped file with its card.
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/spotd-edge.onnx");
    let config = site.config("real", &shipped.to_string_lossy(), "");
    let output = spotd(&["run", "--config", &config, "--for-seconds", "1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains("site.toml is for the model") && said.contains("run spotd calibrate again"),
        "{said}"
    );
    // Another window: the daemon runs and logs that the rate does not hold; check fails.
    let config = site.config("real", &site.model, "[verdict]\nwindow = 5");
    let output = spotd(&["check", "--config", &config]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("FAIL model") && told.contains("verdict.window = 5") && told.contains("made with 9"),
        "{told}"
    );
    std::fs::write(site.path("site.toml"), "threshold = 3").expect("written");
    let output = spotd(&["check", "--config", &config]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("site.toml"), "the file is named");
}

#[test]
fn what_cannot_be_calibrated_is_said_and_nothing_is_written() {
    let site = Site::new();
    site.film("short", 30, 100.0, 1);
    site.film("few", 2, 100.0, 1);
    std::fs::create_dir_all(site.path("empty")).expect("a folder");
    std::fs::create_dir_all(site.path("black")).expect("a folder");
    for at in 0..40 {
        RgbImage::new(64, 64).save(site.path(&format!("black/{at}.png"))).expect("saved");
    }
    for (folder, words) in [
        ("short", "film for"),
        ("few", "fewer frames that can be judged (2)"),
        ("empty", "holds no picture"),
        ("black", "fewer frames that can be judged (0)"),
        ("nowhere", "nowhere"),
    ] {
        let input = site.text(folder);
        let (code, _, said) = site.calibrate(&["--real", &input, "--per-day", "1"]);
        assert_eq!(code, Some(2), "{folder}");
        assert!(said.contains(words), "{folder}: {said}");
        assert!(!site.path("site.toml").exists());
    }
    let (code, _, said) = site.calibrate(&["--real", "x", "--per-day", "0"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("above 0"), "{said}");
}

/// A flag log with one event each of these brightnesses and what an operator said of it; returns the events' pictures.
fn judged(dir: &Path, events: &[(f32, Finding)]) -> Vec<PathBuf> {
    let mut log = FlagLog::open(&records::config(dir), "box", SystemClock::shared()).expect("open");
    let of = log.tail();
    let mut files = Vec::new();
    for (number, &(mean, finding)) in events.iter().enumerate() {
        let picture = RgbImage::from_fn(96, 96, |x, y| {
            Rgb([(mean + ((x * 31 + y * 17) % 21) as f32 - 10.0).clamp(0.0, 255.0) as u8; 3])
        });
        let new = records::new_record("cam", EventKind::Alert);
        let record = log.append(new, Some(&records::evidence(&picture, &[]))).expect("append");
        files.push(record.evidence.expect("pictures").frame.path_in(dir).expect("inside"));
        let mut replaces = None;
        // Somebody says the opposite first, and corrects it: the newest counts.
        let opposite = if finding == Finding::Confirmed { Finding::FalseAlarm } else { Finding::Confirmed };
        for finding in [opposite, finding] {
            let by = format!("operator {number}");
            let (event, source) = (record.event, record.source.clone());
            let review = NewReview { event, source, finding, by, comment: None, replaces };
            replaces = Some(log.review(review, &of).expect("kept").id);
        }
    }
    files
}

#[test]
fn what_operators_have_judged_is_footage_too() {
    use Finding::{Confirmed, FalseAlarm, Withdrawn};
    let site = Site::new();
    site.film("real", 1200, 100.0, 1);
    let (real, log) = (site.text("real"), site.text("flags"));
    let base = ["--real", &real, "--per-day", "2", "--fps", "4"];
    let (code, _, said) = site.calibrate(&base);
    assert_eq!(code, Some(0), "{said}");
    let before = site.written();
    let with = [&base[..], &["--log", &log]].concat();
    let (code, _, said) = site.calibrate(&with);
    assert!(code == Some(2) && said.contains("flags"), "{said}");

    let events = [
        (170.0, FalseAlarm),
        (175.0, FalseAlarm),
        (250.0, Confirmed),
        (252.0, Withdrawn),
        (20.0, FalseAlarm),
    ];
    let files = judged(&site.path("flags"), &events);
    // Somebody has changed a picture: it is not what was judged. One has made room.
    let mut bytes = std::fs::read(&files[4]).expect("read");
    bytes[200] ^= 1;
    std::fs::write(&files[4], bytes).expect("written");
    let (code, told, said) = site.calibrate(&with);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("left out") && said.contains("not what the record names"), "{said}");
    assert!(told.contains("2 of them are false alarms"), "{told}");
    assert!(told.contains("of the generated footage 100.0 %"), "{told}");
    let after = site.written();
    assert_eq!((after.false_alarms, after.blocks), (Some(2), before.blocks + 2));
    let logit = |c: &Calibration| c.temperature * (c.threshold / (1.0 - c.threshold)).ln();
    assert!(logit(&after) > logit(&before) + 0.5, "{before:?} {after:?}");
    // The file is one that the daemon takes.
    let config = site.config("real", &site.model, "workers = 1");
    let output = spotd(&["check", "--config", &config]);
    assert!(
        String::from_utf8_lossy(&output.stdout).contains(&format!("synthetic from {:.4}", after.threshold))
    );

    // Pictures that are gone, and a log in which nothing was judged, are named.
    files.iter().for_each(|file| std::fs::remove_file(file).expect("removed"));
    let (code, _, said) = site.calibrate(&with);
    assert!(code == Some(2) && said.contains("none has a picture any more"), "{said}");
    let none = site.text("none");
    judged(&site.path("none"), &[]);
    let (code, _, said) = site.calibrate(&[&base[..], &["--log", &none]].concat());
    assert!(code == Some(2) && said.contains("nobody has judged"), "{said}");
}

#[cfg(feature = "gstreamer")]
#[test]
fn a_video_is_footage_too() {
    let site = Site::new();
    // A pipeline text: ten minutes of noise at one frame a second, as fast as it is generated.
    let noise = "pipeline:videotestsrc pattern=snow num-buffers=600 ! video/x-raw,width=64,height=64,framerate=1/1 ! appsink";
    let (code, told, said) =
        site.calibrate(&["--real", noise, "--per-day", "500", "--fps", "1", "--seconds", "590"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(told.contains("9.8 minutes of real footage") || told.contains("9.7 minutes"), "{told}");
}
