//! The embedded demonstration, as `make run` starts it: without camera, broker or file, the verdict is
//! seen to change, and the flagged frames lie where the program says.

use std::path::Path;
use std::process::Command;

#[test]
fn the_verdict_changes_and_evidence_is_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = dir.path().join("flags");
    // Two and a half phases: untouched, resynthesised, untouched.
    let output = Command::new(env!("CARGO_BIN_EXE_spotd"))
        .args(["run", "--demo", "--for-seconds", "32", "--log-dir"])
        .arg(&flags)
        .output()
        .expect("spotd runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("CLEAR") && said.contains("SYNTHETIC"), "{said}");
    assert!(said.contains(&*flags.to_string_lossy()), "it says where the flagged frames lie: {said}");
    let records = records(&flags);
    let kinds: Vec<&str> = records.iter().map(|r| r["kind"].as_str().expect("a kind")).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"start"), Some(&"end")), "{kinds:?}");
    let picture = flags.join(records[0]["evidence"]["frame"]["file"].as_str().expect("evidence"));
    assert_eq!(image::open(picture).expect("decodes").to_rgb8().dimensions(), (640, 384));
}

fn records(flags: &Path) -> Vec<serde_json::Value> {
    let mut segments: Vec<_> = std::fs::read_dir(flags)
        .expect("the log's folder")
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    segments.sort();
    segments
        .iter()
        .flat_map(|p| {
            let text = std::fs::read_to_string(p).expect("readable");
            text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect::<Vec<serde_json::Value>>()
        })
        .filter(|r| r["kind"].is_string())
        .collect()
}
