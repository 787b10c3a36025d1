//! Inputs of commands: names that look like something else, the same picture by every route,
//! truncated files, unexpected files.

mod common;
mod support;

use std::fs::File;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::model;
use common::pictures::textured;
use image::{DynamicImage, ImageFormat, RgbImage, Rgba};
use serde_json::Value;
use spotd::health::SourceState;
use spotd::source::SourceConfig;
use support::http::HttpServer;
use support::{Rig, config, play, wait_for};

/// Brightness that the model calls synthetic, and one that it calls clear.
const BRIGHT: u8 = 230;
const DARK: u8 = 30;

struct Bench {
    dir: tempfile::TempDir,
    model: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("in")).expect("a folder");
        let model = model::write_brightness(dir.path());
        Self { dir, model }
    }

    /// A file of the folder `in`.
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("in").join(name)
    }

    fn spotd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spotd"));
        command.args(arguments).current_dir(self.dir.path().join("in"));
        command
    }

    fn scan(&self, arguments: &[&str]) -> (Option<i32>, Vec<Value>, String) {
        let model = self.model.to_str().expect("text");
        let output = self.spotd(&[&["scan", "--json", "--model", model], arguments].concat()).output();
        answer(&output.expect("spotd runs"))
    }
}

fn answer(output: &Output) -> (Option<i32>, Vec<Value>, String) {
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (output.status.code(), rows, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).expect("encodes");
    out.into_inner()
}

fn gif(brightnesses: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut out);
    for &brightness in brightnesses {
        let pixels = DynamicImage::from(textured(brightness, 200, 130)).into_rgba8();
        let delay = image::Delay::from_numer_denom_ms(500, 1);
        encoder.encode_frame(image::Frame::from_parts(pixels, 0, 0, delay)).expect("encodes");
    }
    drop(encoder);
    out
}

/// Writes ten seconds of a dark picture with detail, ten frames each, encoded by `tail`.
fn clip(path: &Path, tail: &str) {
    play(&format!(
        "videotestsrc pattern=snow num-buffers=100 ! video/x-raw,format=I420,width=160,height=128,framerate=10/1 \
         ! videobalance contrast=0.3 ! {tail} ! filesink location=\"{}\"",
        path.display()
    ));
}

const H264: &str = "x264enc speed-preset=ultrafast key-int-max=10 ! h264parse";

#[test]
fn a_name_that_looks_like_a_pipeline_is_a_name() {
    let bench = Bench::new();
    let evil = "videotestsrc num-buffers=1 ! filesink location=written";
    let names =
        [evil, "gst:videotestsrc num-buffers=1 ! filesink location=written", " blank ", "a%20b#1?.png"];
    for name in names {
        std::fs::write(bench.path(name), encoded(&textured(BRIGHT, 200, 130), ImageFormat::Png))
            .expect("written");
    }
    // As `spotd scan *` gives them.
    let (code, rows, said) = bench.scan(&names);
    assert_eq!((code, rows.len()), (Some(1), names.len()), "{rows:?} {said}");
    for row in &rows {
        assert_eq!(row["verdict"], "synthetic", "{row}");
    }
    let encoded = format!("file://{}", bench.path("a%2520b%231%3F.png").display());
    let (code, rows, _) = bench.scan(&[&encoded]);
    assert_eq!((code, rows[0]["verdict"].as_str()), (Some(1), Some("synthetic")), "{rows:?}");

    // There is no such file, and nothing is run.
    const FLOAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/spotd-edge.onnx");
    let missing = "videotestsrc num-buffers=2 ! filesink location=written ! appsink";
    for arguments in [
        vec!["scan", missing],
        vec!["run", "--for-seconds", "1", "--source", missing],
        vec!["calibrate", "--per-day", "1", "--out", "x.toml", "--real", missing],
        vec!["quantize", "--model", FLOAT, "--out", "x.onnx", "--calibrate", missing],
    ] {
        let output = bench.spotd(&arguments).output().expect("runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("pipeline:TEXT"), "{arguments:?}: {said}");
    }
    assert!(!bench.path("written").exists());

    let text =
        "videotestsrc pattern=snow num-buffers=8 ! video/x-raw,width=128,height=128,framerate=1/1 ! appsink";
    for prefix in ["pipeline:", "gst:"] {
        let (_, rows, said) = bench.scan(&[&format!("{prefix}{text}")]);
        assert_eq!(rows[0]["frames"], 8, "{rows:?} {said}");
    }
}

#[test]
fn in_a_configuration_a_bare_pipeline_runs_with_a_warning() {
    let bench = Bench::new();
    let name = "videotestsrc ! filesink location=written";
    std::fs::write(bench.path(name), encoded(&textured(DARK, 200, 130), ImageFormat::Png)).expect("written");
    let bare = "videotestsrc num-buffers=9 ! video/x-raw,width=128,height=96 ! appsink";
    let path = bench.path("spotd.toml");
    let text = format!(
        "[model]\npath = {:?}\n[log]\ndir = \"flags\"\n[[source]]\nid = \"file\"\nuri = \"{name}\"\n\
         [[source]]\nid = \"bare\"\nuri = \"{bare}\"\n[[source]]\nid = \"said\"\nuri = \"pipeline:{bare}\"\n",
        bench.model
    );
    std::fs::write(&path, text).expect("written");
    let output = bench.spotd(&["check", "--json", "--config", "spotd.toml"]).output().expect("runs");
    let (code, rows, said) = answer(&output);
    assert_eq!(code, Some(0), "{rows:?} {said}");
    let of =
        |part: &str| rows.iter().find(|r| r["part"] == part).expect(part)["text"].as_str().expect("text");
    assert!(of("source file").contains("images ") && of("source file").contains("200x130"), "{rows:?}");
    assert!(of("source bare").contains("128x96") && of("source said").contains("128x96"), "{rows:?}");
    assert_eq!(said.matches("write pipeline: in front of it").count(), 1, "{said}");
    assert!(!bench.path("written").exists());
}

/// Scans a picture by its name, through a pipe, from a redirected standard input, from a pipe with
/// a name, and from a web server.
fn by_every_way(bench: &Bench, server: &HttpServer, name: &str) -> Vec<(Option<i32>, Value)> {
    let scan = "\"$SPOTD\" scan --json --model \"$MODEL\"";
    let url = server.url(name);
    let ways = [
        format!("{scan} {name}"),
        format!("cat {name} | {scan} -"),
        format!("{scan} - < {name}"),
        format!("{scan} <(cat {name})"),
        format!("{scan} {url}"),
    ];
    let each = ways.iter().map(|way| {
        let mut command = Command::new("bash");
        command.args(["-c", way]).current_dir(bench.dir.path().join("in")).env("MODEL", &bench.model);
        let output = command.env("SPOTD", env!("CARGO_BIN_EXE_spotd")).output().expect("bash runs");
        let (code, mut rows, said) = answer(&output);
        assert_eq!(rows.len(), 1, "{way}: {said}");
        let mut row = rows.remove(0);
        row.as_object_mut().expect("an object").remove("path");
        (code, row)
    });
    each.collect()
}

#[test]
fn the_same_picture_has_one_verdict_however_it_comes() {
    let bench = Bench::new();
    let server = HttpServer::new(&bench.path(""));
    let bright = textured(BRIGHT, 200, 130);
    let alpha = image::RgbaImage::from_fn(200, 130, |x, y| {
        let [r, g, b] = bright.get_pixel(x, y).0;
        Rgba([r, g, b, if x < 100 { 0 } else { 255 }])
    });
    alpha.save(bench.path("alpha.png")).expect("saved");
    for (name, bytes) in [
        ("a.png", encoded(&bright, ImageFormat::Png)),
        ("a.jpg", encoded(&bright, ImageFormat::Jpeg)),
        ("a.webp", encoded(&bright, ImageFormat::WebP)),
        ("a.bmp", encoded(&bright, ImageFormat::Bmp)),
        ("a.tiff", encoded(&bright, ImageFormat::Tiff)),
        ("a.gif", gif(&[BRIGHT])),
        // A picture, and what a phone puts behind it.
        ("b.jpg", [encoded(&bright, ImageFormat::Jpeg), b"\0\0\0\x18ftypmp42 and a film".to_vec()].concat()),
        ("moving.gif", gif(&[BRIGHT; 7])),
    ] {
        std::fs::write(bench.path(name), bytes).expect("written");
    }
    for name in ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tiff", "a.gif", "b.jpg", "alpha.png", "moving.gif"] {
        let found = by_every_way(&bench, &server, name);
        assert_eq!(found[0].1["verdict"], "synthetic", "{name}: {found:?}");
        for other in &found {
            assert_eq!(*other, found[0], "{name}");
            assert_eq!(other.0, Some(1), "{name}");
        }
    }
}

#[test]
fn a_cut_picture_is_refused_by_every_way_and_every_command() {
    let bench = Bench::new();
    let server = HttpServer::new(&bench.path(""));
    for (name, format) in [("a.jpg", ImageFormat::Jpeg), ("a.png", ImageFormat::Png)] {
        let whole = encoded(&textured(BRIGHT, 300, 200), format);
        std::fs::write(bench.path(name), &whole[..whole.len() / 2]).expect("written");
        for (code, row) in by_every_way(&bench, &server, name) {
            assert_eq!(code, Some(2), "{row}");
            assert!(row["score"].is_null() && row["error"].is_string(), "{row}");
        }
        let text = format!(
            "[model]\npath = {:?}\n[log]\ndir = \"flags\"\n[[source]]\nid = \"cut\"\nuri = \"{name}\"\n",
            bench.model
        );
        std::fs::write(bench.path("spotd.toml"), text).expect("written");
        let output = bench.spotd(&["check", "--json", "--config", "spotd.toml"]).output().expect("runs");
        let (code, rows, said) = answer(&output);
        assert_eq!(code, Some(1), "{rows:?} {said}");
        let source = rows.iter().find(|r| r["part"] == "source cut").expect("a source");
        assert!(
            source["ok"] == false && source["text"].as_str().is_some_and(|t| t.contains(name)),
            "{source}"
        );

        let rig = Rig::new(&config(bench.path(name).to_str().expect("text"), 50.0));
        let SourceState::Failed { why } = rig.failure() else { panic!("{:?}", rig.status()) };
        assert!(why.contains(name), "{why}");
        assert_eq!((rig.status().frames, rig.status().dropped.contains_key("unreadable")), (0, true));
        rig.end();
    }
}

#[test]
fn a_picture_from_a_web_server_is_watched_once_or_again_and_again() {
    let bench = Bench::new();
    let server = HttpServer::new(&bench.path(""));
    let bright = textured(BRIGHT, 200, 130);
    for (name, format) in [("a.png", ImageFormat::Png), ("a.jpg", ImageFormat::Jpeg)] {
        std::fs::write(bench.path(name), encoded(&bright, format)).expect("written");
        let rig = Rig::new(&config(&server.url(name), 20.0));
        let frame = rig.frame().decoded().expect("decodes");
        assert_eq!((frame.width, frame.height), (200, 130));
        rig.wait_for_state("its end", |state| *state == SourceState::Ended);
        assert_eq!((rig.status().frames, rig.status().reconnects), (1, 0), "{name}");
        rig.end();

        let again = SourceConfig { repeat: true, ..config(&server.url(name), 20.0) };
        let rig = Rig::new(&again);
        wait_for("the picture's third showing", || (rig.status().frames >= 3).then_some(()));
        rig.end();
    }
    // A folder's animations are shown frame by frame.
    std::fs::write(bench.path("c.gif"), gif(&[DARK, BRIGHT, DARK])).expect("written");
    let rig = Rig::new(&config(bench.path("c.gif").to_str().expect("text"), 50.0));
    rig.wait_for_state("its end", |state| *state == SourceState::Ended);
    assert_eq!(rig.status().frames, 3);
    rig.end();
}

#[test]
fn a_video_that_is_shorter_than_its_header_says_is_truncated() {
    let bench = Bench::new();
    for (name, tail) in [
        ("a.mp4", format!("{H264} ! mp4mux faststart=true")),
        ("a.mkv", format!("{H264} ! matroskamux")),
        ("a.flv", format!("{H264} ! flvmux")),
        ("a.ts", format!("{H264} ! mpegtsmux")),
        ("a.avi", "avenc_mpeg4 ! avimux".to_owned()),
        ("a.ogv", "theoraenc ! oggmux".to_owned()),
    ] {
        clip(&bench.path(name), &tail);
        let (code, rows, said) = bench.scan(&[name]);
        assert_eq!((code, rows[0]["verdict"].as_str()), (Some(0), Some("clear")), "{rows:?} {said}");
        assert!(rows[0]["truncated"].is_null(), "{rows:?}");

        let whole = std::fs::read(bench.path(name)).expect("read");
        // Truncated in the middle of a transport stream's packet.
        let cut = &whole[..(whole.len() * 6 / 10) / 188 * 188 + 90];
        std::fs::write(bench.path(name), cut).expect("written");
        let (code, rows, said) = bench.scan(&[name]);
        assert_eq!(code, Some(2), "{rows:?} {said}");
        let row = &rows[0];
        assert_eq!(
            (row["verdict"].as_str(), row["note"].as_str()),
            (Some("unsure"), Some("truncated")),
            "{row}"
        );
        let seconds = row["truncated"]["seconds"].as_f64().expect("seconds");
        assert!((1.0..9.0).contains(&seconds), "{row}");
        if !matches!(name, "a.ts" | "a.avi" | "a.ogv") {
            assert!(row["truncated"]["of"].as_f64().is_some_and(|of| (9.7..10.3).contains(&of)), "{row}");
        }
    }
    // For what is served or piped, only the header can tell.
    let server = HttpServer::new(&bench.path(""));
    for name in ["a.mp4", "a.mkv"] {
        for (code, row) in by_every_way(&bench, &server, name) {
            assert_eq!((code, row["note"].as_str()), (Some(2), Some("truncated")), "{name}: {row}");
        }
    }
    let output =
        bench.spotd(&["scan", "--model", bench.model.to_str().expect("text"), "a.mp4", "a.mkv"]).output();
    let text = String::from_utf8(output.expect("runs").stdout).expect("text");
    assert!(text.contains(" s of 10.0 s") && text.contains(", 2 truncated"), "{text}");

    // A sender that breaks off.
    clip(&bench.path("whole.mkv"), &format!("{H264} ! matroskamux"));
    let (code, rows, _) = bench.scan(&[&server.url("whole.mkv?cut=9000")]);
    assert_eq!(code, Some(2), "{rows:?}");

    // Watching the file reports it too.
    let rig = Rig::new(&config(bench.path("a.mp4").to_str().expect("text"), 50.0));
    rig.wait_for_state("its end", |state| *state == SourceState::Ended);
    assert_eq!(rig.status().dropped.get("truncated"), Some(&1), "{:?}", rig.status());
    rig.end();
}

#[test]
fn what_has_an_end_is_read_to_it_also_from_a_web_server() {
    let bench = Bench::new();
    clip(&bench.path("a.mp4"), &format!("{H264} ! mp4mux faststart=true"));
    clip(&bench.path("a.mkv"), &format!("{H264} ! matroskamux"));
    let server = HttpServer::new(&bench.path(""));
    for name in ["a.mp4", "a.mkv"] {
        // Ten seconds, although a source without an end would be left after three.
        for input in [name, &server.url(name)] {
            let (code, rows, said) = bench.scan(&["--fps", "1", "--seconds", "3", input]);
            assert_eq!(code, Some(0), "{input}: {said}");
            let frames = rows[0]["frames"].as_u64();
            assert!(frames.is_some_and(|n| (10..=11).contains(&n)), "{input}: {rows:?}");
        }
    }
}

#[test]
fn sound_that_goes_on_after_the_picture_cuts_nothing() {
    let bench = Bench::new();
    for (name, mux) in [("a.mp4", "mp4mux"), ("a.mkv", "matroskamux")] {
        let path = bench.path(name);
        play(&format!(
            "videotestsrc pattern=snow num-buffers=30 ! video/x-raw,format=I420,width=160,height=128,framerate=10/1 \
             ! videobalance contrast=0.3 ! {H264} ! queue ! {mux} name=m ! filesink location=\"{}\" \
             audiotestsrc num-buffers=300 samplesperbuffer=1024 ! audio/x-raw,rate=44100,channels=1 ! avenc_aac \
             ! queue ! m.",
            path.display()
        ));
        let (code, rows, said) = bench.scan(&[name]);
        assert_eq!((code, rows[0]["truncated"].is_null()), (Some(0), true), "{rows:?} {said}");
    }
}

#[test]
fn a_folder_is_judged_by_content_and_the_rest_is_named() {
    let bench = Bench::new();
    let bright = textured(BRIGHT, 200, 130);
    for name in ["a.jfif", "b.jpe", "c", "d.txt"] {
        std::fs::write(bench.path(name), encoded(&bright, ImageFormat::Jpeg)).expect("written");
    }
    for (name, tail) in [
        ("e.3gp", format!("{H264} ! mp4mux")),
        ("f.wmv", "avenc_wmv2 ! asfmux".to_owned()),
        ("g.h264", format!("{H264} ! video/x-h264,stream-format=byte-stream")),
        (
            "h.h265",
            "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=10 option-string=log-level=none ! h265parse ! video/x-h265,stream-format=byte-stream"
                .to_owned(),
        ),
        ("i", format!("{H264} ! matroskamux")),
        ("j.png", format!("{H264} ! mpegtsmux")),
    ] {
        clip(&bench.path(name), &tail);
    }
    let frames = encoded(&textured(DARK, 160, 128), ImageFormat::Jpeg).repeat(50);
    std::fs::write(bench.path("k.mjpeg"), frames).expect("written");
    std::fs::write(bench.path("l.heic"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic and no more").expect("written");
    std::fs::write(bench.path("m.jxl"), b"\xff\x0a and no more").expect("written");
    std::fs::write(bench.path("n.md"), "# Notes\n").expect("written");
    play(&format!(
        "audiotestsrc num-buffers=50 ! wavenc ! filesink location=\"{}\"",
        bench.path("o.wav").display()
    ));

    let folder = bench.path("");
    let (code, rows, said) = bench.scan(&[folder.to_str().expect("text")]);
    assert_eq!(code, Some(2), "{rows:?} {said}");
    let row = |name: &str| {
        let is = |row: &&Value| row["path"].as_str().is_some_and(|path| path.ends_with(name));
        rows.iter().find(is).unwrap_or_else(|| panic!("{name} is missing: {rows:?} {said}"))
    };
    for name in ["/a.jfif", "/b.jpe", "/c", "/d.txt"] {
        assert_eq!(row(name)["verdict"], "synthetic", "{name}");
    }
    for name in ["/e.3gp", "/f.wmv", "/g.h264", "/h.h265", "/i", "/j.png", "/k.mjpeg"] {
        let row = row(name);
        assert!(row["error"].is_null() && row["frames"].as_u64() > Some(3), "{row}");
    }
    for name in ["/l.heic", "/m.jxl"] {
        assert!(row(name)["error"].as_str().is_some_and(|why| !why.is_empty()), "{name}");
    }
    assert_eq!(rows.len(), 13, "{rows:?}");
    assert!(said.contains("1 files are neither pictures nor videos and are skipped: n.md"), "{said}");
    assert!(said.contains("1 files are only sound and are skipped: o.wav"), "{said}");
}

#[test]
fn every_frame_of_an_animation_is_judged() {
    let bench = Bench::new();
    // Its first frames alone are clear.
    std::fs::write(bench.path("a.gif"), gif(&[[DARK; 6], [BRIGHT; 6]].concat())).expect("written");
    let (code, rows, _) = bench.scan(&["a.gif"]);
    assert_eq!((code, rows[0]["frames"].as_u64()), (Some(1), Some(12)), "{rows:?}");
    assert_eq!(rows[0]["verdict"], "synthetic");
    assert!(rows[0]["spans"][0][0].as_f64().is_some_and(|from| from > 2.5), "{rows:?}");

    let whole = gif(&[DARK; 8]);
    std::fs::write(bench.path("b.gif"), &whole[..whole.len() * 7 / 10]).expect("written");
    let (code, rows, _) = bench.scan(&["b.gif"]);
    assert_eq!((code, rows[0]["note"].as_str()), (Some(2), Some("truncated")), "{rows:?}");
    assert!(rows[0]["truncated"]["seconds"].as_f64().is_some_and(|s| s > 1.0), "{rows:?}");
}

#[test]
fn what_is_transparent_is_flat_and_said() {
    let bench = Bench::new();
    let (bright, dark) = (textured(BRIGHT, 256, 128), textured(DARK, 256, 128));
    let save = |name: &str, opaque: &dyn Fn(u32) -> bool| {
        let image = image::RgbaImage::from_fn(256, 128, |x, y| {
            // What is hidden would be synthetic by itself.
            let [r, g, b] = if opaque(x) { &dark } else { &bright }.get_pixel(x, y).0;
            Rgba([r, g, b, if opaque(x) { 255 } else { 0 }])
        });
        image.save(bench.path(name)).expect("saved");
    };
    save("a.png", &|_| false);
    save("b.png", &|x| x < 128);
    save("c.png", &|_| true);
    let (code, rows, _) = bench.scan(&["a.png", "b.png", "c.png"]);
    assert_eq!(code, Some(0));
    assert_eq!((rows[0]["verdict"].as_str(), rows[0]["note"].as_str()), (Some("unsure"), Some("flat")));
    assert_eq!(rows[0]["transparent"], 1.0);
    assert_eq!((rows[1]["verdict"].as_str(), rows[1]["transparent"].as_f64()), (Some("clear"), Some(0.5)));
    let tiles = rows[1]["tiles"].as_array().expect("tiles");
    assert!(tiles.iter().all(|tile| tile["x"].as_u64() < Some(128)), "{tiles:?}");
    assert!(rows[2]["transparent"].is_null());
    let output = bench.spotd(&["scan", "--model", bench.model.to_str().expect("text"), "a.png"]).output();
    let text = String::from_utf8(output.expect("runs").stdout).expect("text");
    assert!(text.contains("(flat)") && text.contains("(100 % transparent)"), "{text}");
}

#[test]
fn standard_input_may_be_a_socket() {
    let bench = Bench::new();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    let model = bench.model.to_str().expect("text");
    let mut command = bench.spotd(&["scan", "--json", "--model", model, "-"]);
    let child = command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stdout(Stdio::piped()).spawn();
    let child = child.expect("spotd runs");
    // The command still holds the other end of the pair.
    drop(command);
    let mut ours = File::from(std::os::fd::OwnedFd::from(ours));
    ours.write_all(&encoded(&textured(BRIGHT, 200, 130), ImageFormat::Png)).expect("written");
    drop(ours);
    let (code, rows, _) = answer(&child.wait_with_output().expect("ends"));
    assert_eq!((code, rows[0]["verdict"].as_str()), (Some(1), Some("synthetic")), "{rows:?}");
}
