//! `kill -9` of the daemon itself, watching a real pipeline: after each start the log verifies,
//! what was acknowledged is there, and an event that was left open is closed with the reason. Then
//! the commands that somebody would use on such a log.

#[path = "common/model.rs"]
#[allow(dead_code, reason = "this file needs only the detector")]
mod model;
#[path = "common/records.rs"]
mod records;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use records::{Numbers, folder, verified};
use serde_json::Value;
use spotd::clock::{Clock as _, SystemClock};

const KILLS: u64 = 24;
/// Bright overall, without flat tiles.
const SOURCE: &str = "videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 ! \
     video/x-raw,format=I420,width=128,height=96,framerate=20/1 ! videobalance brightness=0.35 contrast=0.6 ! \
     appsink";

fn write_config(dir: &Path) -> PathBuf {
    let model = model::write_brightness(dir);
    let path = dir.join("spotd.toml");
    let text = format!(
        "[node]\nname = \"Büro 3/Nord #1+\"\n[model]\npath = {model:?}\nworkers = 1\n\
         [[source]]\nid = \"cam\"\nuri = \"{SOURCE}\"\nfps = 20\n\
         [verdict]\nwindow = 3\nmin_frames = 1\n\
         [log]\ndir = \"flags\"\nupdate_seconds = 1\nmin_free_mib = 0\n"
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn start(config: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_spotd"))
        .args(["run", "--config"])
        .arg(config)
        .env_remove("RUST_LOG")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spotd starts")
}

/// The event that a line of the daemon's own log says to be recorded, and what happened to it.
fn acknowledged(line: &str) -> Option<(String, String)> {
    let mut words = line.rsplit(' ');
    let (kind, event) = (words.next()?, words.next()?);
    let known = matches!(kind, "start" | "update" | "end") && words.next() == Some("event");
    known.then(|| (event.to_owned(), kind.to_owned()))
}

fn spotd(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_spotd")).args(args).output().expect("spotd runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8") + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn the_daemon_is_killed_again_and_again_and_its_log_holds() {
    let dir = folder();
    let config = write_config(dir.path());
    let log = dir.path().join("flags");
    let mut numbers = Numbers(7);
    let mut told: Vec<(String, String)> = Vec::new();
    for kill in 0..KILLS {
        let mut child = start(&config);
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let wanted = usize::try_from(numbers.below(3)).expect("small");
        let before = told.len();
        while told.len() < before + wanted {
            let line = lines.next().expect("it runs until it is killed").expect("a line");
            told.extend(acknowledged(&line));
        }
        let longer = if wanted == 0 { 900 } else { 300 };
        let _ = SystemClock::new().after(Duration::from_millis(numbers.below(longer))).recv();
        child.kill().expect("killed");
        child.wait().expect("gone");
        told.extend(lines.map_while(Result::ok).filter_map(|l| acknowledged(&l)));
        if log.join("lock").exists() {
            let report = verified(&log, None);
            assert!(report.holds, "kill {kill}: {:?}", report.problems);
        }
    }
    // The last run ends in order.
    let mut child = start(&config);
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let last = loop {
        let line = lines.next().expect("it runs").expect("a line");
        if let Some((event, _)) = acknowledged(&line).filter(|(_, kind)| kind == "start") {
            break event;
        }
    };
    let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(asked.expect("kill").success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("gone").code(), Some(0), "{rest:?}");

    let report = verified(&log, None);
    assert!(report.holds && report.unfinished.is_empty(), "{report:?}");
    let path = log.to_string_lossy().into_owned();
    let (code, text) = spotd(&["log", &path, "--json", "--source", "cam"]);
    assert_eq!(code, Some(0), "{text}");
    let records: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let mut ends: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut kinds: Vec<(String, String)> = Vec::new();
    for record in &records {
        let text = |name: &str| record[name].as_str().map(str::to_owned);
        let (event, kind) = (text("event").expect("an event"), text("kind").expect("a kind"));
        assert_eq!(record["node"], "Büro 3/Nord #1+");
        if kind == "end" {
            ends.insert(event.clone(), text("reason"));
        }
        kinds.push((event, kind));
    }
    for ack in &told {
        assert!(kinds.contains(ack), "{ack:?} was acknowledged and is missing");
    }
    assert!(told.len() > 10, "{} records are too few to mean anything", told.len());
    // Every event has its end: those that were killed with the reason, the last one without.
    for (event, _) in &kinds {
        let reason = ends.get(event).unwrap_or_else(|| panic!("event {event} is left open"));
        assert_eq!(reason.is_none(), *event == last, "{event}: {reason:?}");
    }
    println!("{KILLS} kills, {} records acknowledged, {} in the log", told.len(), records.len());
    commands(dir.path(), &path, &last, records.len());
}

/// What somebody does with that log.
fn commands(dir: &Path, log: &str, event: &str, records: usize) {
    let (code, text) = spotd(&["verify", log]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(": holds"), "{text}");
    let (_, text) = spotd(&["log", log, "--verdict", "synthetic"]);
    assert!(text.contains("start") && !text.contains("end  "), "{text}");
    let (_, text) = spotd(&["log", log, "--since", "2999-01-01"]);
    assert_eq!(text, "");
    let (code, text) = spotd(&["log", log, "--since", "1h", "--json"]);
    assert_eq!(code, Some(0));
    assert!(text.lines().count() >= records, "notes are listed too");
    let (code, text) = spotd(&["log", log, "--since", "tomorrow"]);
    assert!(code == Some(2) && text.contains("an age such as"), "{text}");

    let to = dir.join("handed over").to_string_lossy().into_owned();
    let (code, text) = spotd(&["log", log, "export", event, "--to", &to]);
    assert!(code == Some(0) && text.contains("spotd verify"), "{text}");
    let (code, text) = spotd(&["verify", "--json", &to]);
    let report: Value = serde_json::from_str(text.trim()).expect("JSON");
    assert_eq!((code, &report["holds"]), (Some(0), &Value::Bool(true)), "{text}");
    assert_eq!(report["export_of"], event);

    zipped(dir, log, event, &to);

    // An edited score is found, and which record it is in.
    let mut segments: Vec<PathBuf> = std::fs::read_dir(&to)
        .expect("listed")
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    let segment = segments.pop().expect("a segment");
    let text = std::fs::read_to_string(&segment).expect("read");
    std::fs::write(&segment, text.replacen("\"threshold\":0.8", "\"threshold\":0.1", 1)).expect("written");
    let (code, said) = spotd(&["verify", &to]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("DOES NOT HOLD; first:") && said.contains("changed"), "{said}");
    let (code, said) = spotd(&["verify", &dir.to_string_lossy()]);
    assert!(code == Some(2) && said.contains("no flag log is here"), "{said}");
}

/// The same event as one file, unpacked by other programs.
fn zipped(dir: &Path, log: &str, event: &str, folder: &str) {
    let file = dir.join("for the editor.zip");
    let (code, text) = spotd(&["log", log, "--json", "export", event, "--to", &file.to_string_lossy()]);
    let done: Value = serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"));
    let inner = format!("event-{event}");
    assert_eq!((code, &done["folder"]), (Some(0), &Value::from(inner.clone())), "{text}");
    let out = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let file = file.to_string_lossy().into_owned();
    for (to, program, args) in [
        (out("by unzip"), "unzip", vec!["-q".to_owned(), file.clone(), "-d".to_owned(), out("by unzip")]),
        (
            out("by python"),
            "python3",
            ["-m", "zipfile", "-e", &file, &out("by python")].map(str::to_owned).to_vec(),
        ),
    ] {
        let done = Command::new(program).args(args).output();
        let done = done.unwrap_or_else(|e| panic!("{program}: {e}; `make test` installs it"));
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
        let to = Path::new(&to).join(&inner);
        let (code, text) = spotd(&["verify", "--json", &to.to_string_lossy()]);
        let report: Value = serde_json::from_str(text.trim()).expect("JSON");
        assert_eq!((code, &report["holds"], &report["export_of"]), (Some(0), &true.into(), &event.into()));
        // Byte for byte the same as the folder, except for the time of the export.
        let difference = Command::new("diff")
            .args(["-r", "-x", "export.json", "-x", "HOW-TO-CHECK.txt", folder])
            .arg(&to)
            .output()
            .expect("diff runs");
        assert!(difference.status.success(), "{}", String::from_utf8_lossy(&difference.stdout));
    }
}
