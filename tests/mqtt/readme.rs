//! README's `mosquitto_sub` shows what README says.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use spotd::clock::SystemClock;
use spotd::health::SourceState;
use spotd::publish::mqtt::MqttConfig;
use spotd::shown::Secret;
use spotd::verdict::Verdict;

use crate::authority::Authority;
use crate::certificates::broker;
use crate::mosquitto::{PATIENCE, find};
use crate::setup::*;

const README: &str = include_str!("../../README.md");

/// The command, and the lines that follow it.
fn said() -> (String, Vec<&'static str>) {
    let mut lines = README.lines().skip_while(|l| !l.starts_with("$ mosquitto_sub"));
    let command = lines.next().expect("README has the command").trim_start_matches("$ ").to_owned();
    (command, lines.take_while(|l| !l.starts_with("```")).collect())
}

/// Whether a printed line is what README shows: the same topic, and for JSON the same first
/// members.
fn is_as(shown: &str, printed: &str) -> bool {
    let (Some((topic, payload)), Some((of, what))) = (shown.split_once(' '), printed.split_once(' ')) else {
        return false;
    };
    let members = |text: &str| -> Vec<String> {
        let key = |at: usize| text[..at].rsplit('"').next().map(str::to_owned);
        text.match_indices("\":").filter_map(|(at, _)| key(at)).collect()
    };
    let (expected, got) = (members(payload), members(what));
    topic == of && if payload.starts_with('{') { got.starts_with(&expected) } else { payload == what }
}

#[test]
fn mosquitto_sub_shows_what_readme_says() {
    let authority = Authority::new();
    let passwords = authority.file("passwords");
    let made = Command::new(find("mosquitto_passwd"))
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["spotd", "open-sesame"])
        .status()
        .expect("mosquitto_passwd starts");
    assert!(made.success());
    let settings = format!("allow_anonymous false\npassword_file {}\n", passwords.display());
    let (_broker, port) = broker(&authority, &settings);
    let ca = authority.file("ca.pem");
    let (command, shown) = said();
    assert!(shown.len() >= 6, "{shown:?}");
    // Only host and node differ here.
    let mut own = command;
    for (theirs, ours) in [
        ("broker.lan", "localhost".to_owned()),
        ("8883", port.to_string()),
        ("--capath /etc/ssl/certs", format!("--cafile \"{}\"", ca.display())),
        ("PASSWORD", "open-sesame".to_owned()),
    ] {
        assert!(own.contains(theirs), "{own} has no {theirs}");
        own = own.replace(theirs, &ours);
    }
    let program = find("mosquitto_sub").display().to_string();
    let mut child = Command::new("sh")
        .args(["-c", &format!("exec {}", own.replacen("mosquitto_sub", &program, 1))])
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_sub starts");

    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let config = MqttConfig {
        host: "localhost".into(),
        tls: true,
        ca_file: Some(ca),
        user: Some("spotd".into()),
        password: Some(Secret::new("open-sesame".into())),
        ..mqtt_config(port)
    };
    let running = Running::named("ingest-1", config, &log, &["door", "studio"], SystemClock::shared());
    running.board.update("studio", |s| (s.state, s.verdict) = (SourceState::Live, Verdict::Synthetic));
    let mut missing = shown.clone();
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    let (tx, lines) = crossbeam_channel::unbounded();
    std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|l| drop(tx.send(l))));
    let mut printed: Vec<String> = Vec::new();
    while !missing.is_empty() {
        let Ok(line) = lines.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("{missing:#?} never came; {printed:#?}");
        };
        // Events are not retained: one is sent now that somebody is known to listen.
        if printed.is_empty() {
            append(&mut log, "studio");
        }
        missing.retain(|s| !is_as(s, &line));
        printed.push(line);
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    running.stop();
}
