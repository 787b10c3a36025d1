//! The embedded demonstration, as `make run` starts it: without camera, broker or file, the verdict
//! changes visibly, and the flagged frames are where the program says.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn the_verdict_changes_and_evidence_is_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = dir.path().join("flags");
    let log = std::fs::File::create(dir.path().join("said")).expect("a log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_spotd"))
        .args(["run", "--demo", "--log-dir"])
        .arg(&flags)
        // However full this machine's disk is: evidence is asked for below.
        .env("SPOTD__LOG__MIN_FREE_MIB", "0")
        .stderr(log)
        .spawn()
        .expect("spotd runs");
    let said = || std::fs::read_to_string(dir.path().join("said")).unwrap_or_default();
    // Untouched, resynthesised, untouched: in half a minute, or much longer on a busy machine.
    let begun = Instant::now();
    while !records(&flags).iter().any(|r| r["kind"] == "end") {
        let ended = child.try_wait().expect("asked");
        if ended.is_some() || begun.elapsed() > Duration::from_secs(900) {
            let _ = child.kill();
            panic!("no event began and ended; it said:\n{}", said());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let status = child.wait().expect("ends");
    let said = said();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("CLEAR") && said.contains("SYNTHETIC"), "{said}");
    assert!(said.contains(&*flags.to_string_lossy()), "it says where the flagged frames lie: {said}");
    let records = records(&flags);
    let kinds: Vec<&str> = records.iter().map(|r| r["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds[0], "start", "{kinds:?}");
    let picture = flags.join(records[0]["evidence"]["frame"]["file"].as_str().expect("evidence"));
    assert_eq!(image::open(picture).expect("decodes").to_rgb8().dimensions(), (640, 384));
}

fn records(flags: &Path) -> Vec<serde_json::Value> {
    let mut segments: Vec<_> = std::fs::read_dir(flags)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    segments.sort();
    segments
        .iter()
        .flat_map(|p| {
            let text = std::fs::read_to_string(p).expect("readable");
            // The last line may be incomplete.
            text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect::<Vec<serde_json::Value>>()
        })
        .filter(|r| r["kind"].is_string())
        .collect()
}
