//! `spotd-verify` on logs that hold, logs that were tampered with, and folders that hold none.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use spotd_core::clock::SystemClock;
use spotd_core::identity::{ModelIdentity, Precision};
use spotd_core::judgement::{Judgement, ScoredTile};
use spotd_core::raster::Rect;
use spotd_core::verdict::{EventKind, Verdict};
use spotd_flaglog::{Evidence, FlagLog, FrameInfo, Hash, LogConfig, NewRecord, Options, Signer};
use tempfile::TempDir;

fn record(kind: EventKind) -> NewRecord {
    NewRecord {
        event: None,
        source: "door".to_owned(),
        kind,
        verdict: Verdict::Synthetic,
        judgement: Judgement {
            raw: Some(0.97),
            smoothed: Some(0.91),
            peak: Some(0.91),
            threshold: 0.8,
            unsure_from: 0.5,
            window: 9,
            frames: 9,
        },
        frame: Some(FrameInfo { sha256: Hash::of(b"frame"), width: 96, height: 64, interlaced: None }),
        tiles: vec![],
        logits: None,
        captured: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_500_000),
        model: ModelIdentity {
            name: "test".into(),
            version: "1".into(),
            sha256: Hash::of(b"model").to_string(),
            precision: Precision::F32,
            coherence: None,
        },
        alert: None,
    }
}

/// A log of one event with two pictures, ended.
fn log(signer: Option<Signer>) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let config =
        LogConfig { dir: dir.path().to_owned(), jpeg_quality: 95, update_every: Duration::from_secs(30) };
    let options = Options { signer, ..Options::default() };
    let mut log = FlagLog::open_with(&config, "box", SystemClock::shared(), options).expect("open");
    let tile = ScoredTile { rect: Rect { x: 0, y: 0, width: 32, height: 32 }, score: 0.9 };
    let pictures = Evidence {
        frame: b"\xff\xd8 a frame".to_vec(),
        before: None,
        tiles: vec![(tile, b"\x89PNG a tile".to_vec())],
        map: None,
    };
    let start = log.append(record(EventKind::Start), Some(&pictures)).expect("append");
    let end = NewRecord { event: Some(start.event), ..record(EventKind::End) };
    log.append(end, None).expect("append");
    dir
}

/// Exit code, standard output and standard error.
fn run(arguments: &[&Path]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_spotd-verify")).args(arguments).output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn segment(dir: &Path) -> PathBuf {
    dir.join("flags-00000000000000000001.jsonl")
}

/// One of the pictures with this extension.
fn picture(dir: &Path, extension: &str) -> PathBuf {
    let event = std::fs::read_dir(dir.join("evidence")).expect("evidence").next().expect("an event");
    std::fs::read_dir(event.expect("an event").path())
        .expect("pictures")
        .map(|entry| entry.expect("a picture").path())
        .find(|path| path.extension().is_some_and(|e| e == extension))
        .expect("a picture")
}

#[test]
fn a_sound_log_holds() {
    let dir = log(None);
    let (code, out, err) = run(&[dir.path()]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let begin = format!("{}: ", dir.path().display());
    assert!(out.starts_with(&format!("{begin}holds\n")), "{out}");
    assert!(out.contains("2 sound records (1 to 2) of 1 events, 2 evidence files with 21 bytes\n"), "{out}");
    assert!(out.contains("not signed; compare that hash with one that left the box\n"), "{out}");
    assert!(out.lines().all(|line| line.starts_with(&begin)), "{out}");

    let (code, out, _) = run(&[dir.path(), "--json".as_ref()]);
    let report: serde_json::Value = serde_json::from_str(&out).expect("one object");
    assert_eq!((code, &report["holds"], &report["records"]), (Some(0), &true.into(), &2.into()));
}

#[test]
fn a_forged_record_is_found() {
    let dir = log(None);
    let text = std::fs::read_to_string(segment(dir.path())).expect("a segment");
    std::fs::write(segment(dir.path()), text.replacen("\"source\":\"door\"", "\"source\":\"yard\"", 1))
        .expect("written");
    let (code, out, err) = run(&[dir.path()]);
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    assert!(out.contains("DOES NOT HOLD; first: "), "{out}");
    assert!(out.contains("flags-00000000000000000001.jsonl"), "{out}");
}

#[test]
fn a_missing_and_a_changed_picture_are_found() {
    for (extension, change) in [("jpg", None), ("png", Some(b"\x89PNG a till".as_slice()))] {
        let dir = log(None);
        let path = picture(dir.path(), extension);
        match change {
            None => std::fs::remove_file(&path).expect("removed"),
            Some(bytes) => std::fs::write(&path, bytes).expect("written"),
        }
        let (code, out, _) = run(&[dir.path()]);
        assert_eq!(code, Some(1), "{out}");
        let name = path.file_name().expect("a name").to_str().expect("ASCII");
        assert!(out.contains("DOES NOT HOLD") && out.contains(name), "{out}");
    }
}

#[test]
fn a_signed_log_holds_for_the_key_that_signed_it_and_for_no_other() {
    let signer = Signer::from_bytes(&[7; 32]);
    let key = signer.public_key().to_string();
    let dir = log(Some(signer));
    let keys = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = keys.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };

    let (code, out, _) = run(&[dir.path()]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains(&format!("with key {key}; whether that is the box's key")), "{out}");

    let right = file("right", &key);
    let (code, out, _) = run(&[dir.path(), "--public-key".as_ref(), &right]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("signed with that key up to record "), "{out}");

    let other = file("other", &Signer::from_bytes(&[8; 32]).public_key().to_string());
    let (code, out, _) = run(&[dir.path(), "--public-key".as_ref(), &other]);
    assert_eq!(code, Some(1), "{out}");

    let none = file("none", "no key\n");
    let (code, out, err) = run(&[dir.path(), "--public-key".as_ref(), &none]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.starts_with(&format!("spotd-verify: {}: it is no ", none.display())), "{err}");
}

#[test]
fn what_is_no_log_cannot_be_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    let (code, out, err) = run(&[dir.path()]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("no flag log is here") && err.contains("give the folder"), "{err}");
    let (code, _, err) = run(&[&dir.path().join("nowhere")]);
    assert_eq!(code, Some(2));
    assert!(err.contains("nowhere"), "{err}");
    assert_eq!(run(&[dir.path(), "--no-such".as_ref()]).0, Some(2));
}
