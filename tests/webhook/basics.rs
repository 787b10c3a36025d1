//! What is sent, to whom, and where sending resumes.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use spotd::verdict::EventKind;

use crate::records::new_record;
use crate::server::{Hook, Reply, free_port};
use crate::setup::*;

/// The signature of a body according to openssl.
fn signed(secret: &str, body: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-r", "-hmac", secret])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl starts; `make test` installs it");
    child.stdin.take().expect("its input").write_all(body.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    format!("sha256={}", text.split(' ').next().expect("a digest"))
}

#[test]
fn each_record_is_the_line_of_the_log_signed_with_its_id_and_in_order() {
    let hook = Hook::start(|_, _| Reply::Status(204, ""));
    let dir = tempfile::tempdir().expect("tempdir");
    let flags = dir.path().join("flags");
    let mut log = open(&flags);
    // Some were there before.
    let mut written = vec![append(&mut log, "cam"), append_with(&mut log, "döor", 9, None)];
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "\u{feff}long and random\n").expect("written");
    let running = Running::start(config(&hook.url("/a?b=c"), &format!("secret_file = {secret:?}")), &log);
    hook.wait(2);
    written.push(append(&mut log, "cam"));
    let got = hook.wait(3);
    until("all to be taken", || running.status().behind == 0);
    let status = running.stop();
    assert_eq!((status.sent, status.refused, status.connections, status.connected), (3, 0, 1, false));
    let ids: Vec<String> = written.iter().map(|r| r.id.to_string()).collect();
    assert_eq!(got.iter().map(|r| r.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(got.iter().map(|r| r.body.clone()).collect::<Vec<_>>(), lines(&flags));
    for request in got {
        assert_eq!((&*request.path, &*request.content_type), ("/a?b=c", "application/json"));
        assert_eq!(request.signature, Some(signed("long and random", &request.body)));
    }
}

#[test]
fn a_restart_goes_on_where_it_was_and_only_what_is_asked_for_is_sent() {
    let hook = Hook::start(|_, _| Reply::Status(200, "fine"));
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let wanted = || config(&hook.url("/"), "events = [\"end\", \"alert\"]");
    let start = append(&mut log, "cam");
    let end = || spotd::flaglog::NewRecord { event: Some(start.event), ..new_record("cam", EventKind::End) };
    let first = log.append(end(), None).expect("append");
    let running = Running::start(wanted(), &log);
    assert_eq!(hook.wait(1)[0].id, first.id.to_string());
    // Records that are not sent count as done all the same.
    append(&mut log, "cam");
    until("the cursor to pass it", || running.status().behind == 0);
    running.stop();
    let second = log.append(end(), None).expect("append");
    let running = Running::start(wanted(), &log);
    let got = hook.wait(2);
    until("it to be taken", || running.status().behind == 0);
    running.stop();
    assert_eq!(got[1].id, second.id.to_string());
    assert_eq!(hook.received().len(), 2, "nothing came twice");
    let cursor = std::fs::read_to_string(dir.path().join("cursor-webhook.json")).expect("its cursor");
    assert!(cursor.contains(&format!("\"seq\":{}", second.seq)), "{cursor}");
}

#[test]
fn of_two_webhooks_one_that_is_away_holds_up_no_other() {
    let hook = Hook::start(|_, _| Reply::Status(200, ""));
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let away = free_port();
    let alone = Running::start(config(&format!("http://127.0.0.1:{away}/"), "id = \"away\""), &log);
    let there = Running::start(config(&hook.url("/"), "id = \"there\""), &log);
    for _ in 0..20 {
        append(&mut log, "cam");
    }
    hook.wait(20);
    until("all to be taken", || there.status().behind == 0);
    assert_eq!(alone.status().behind, there.status().sent);
    assert!(!alone.status().connected && there.status().connected);
    there.stop();
    alone.stop();
    assert!(dir.path().join("cursor-webhook-there.json").exists());
}

#[test]
fn check_tries_it() {
    let hook = Hook::start(|got, _| match &*got.path {
        "/good" => Reply::Status(202, ""),
        _ => Reply::Status(401, "who are you?"),
    });
    let dir = tempfile::tempdir().expect("tempdir");
    let picture = dir.path().join("picture.png");
    image::RgbImage::from_fn(64, 64, |x, y| [(x * 3 + y) as u8; 3].into()).save(&picture).expect("saved");
    let check = |url: &str| {
        let file = dir.path().join("spotd.toml");
        let text = format!(
            "[node]\nname = \"box\"\n[[source]]\nid = \"cam\"\nuri = {picture:?}\n[log]\ndir = {:?}\n[[webhook]]\nurl = \"{url}\"\n",
            dir.path().join("flags")
        );
        std::fs::write(&file, text).expect("written");
        let run = Command::new(env!("CARGO_BIN_EXE_spotd"))
            .args(["-vv", "check", "--config"])
            .arg(&file)
            .env("RUST_LOG", "trace")
            .output();
        let run = run.expect("spotd runs");
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(!said.contains("s3cret") && !said.contains("ureq"), "{said}");
        (run.status.code(), String::from_utf8(run.stdout).expect("text"))
    };
    let (code, told) = check(&hook.url("/good"));
    assert!(code == Some(0) && told.contains("ok   webhook: http://127.0.0.1"), "{told}");
    let body: Value = serde_json::from_str(&hook.received()[0].body).expect("JSON");
    assert_eq!((&body["type"], &body["node"]), (&"check".into(), &"box".into()));
    let (code, told) = check(&hook.url("/s3cret-path"));
    assert!(code == Some(1) && told.contains("FAIL webhook: ") && told.contains("401"), "{told}");
    assert!(told.contains("who are you?") && !told.contains("s3cret"), "{told}");
    let (code, told) = check(&format!("http://127.0.0.1:{}/s3cret", free_port()));
    assert!(code == Some(1) && told.contains("cannot be reached") && !told.contains("s3cret"), "{told}");
}

#[test]
fn what_an_operator_says_is_sent_only_where_it_is_asked_for() {
    let hook = Hook::start(|_, _| Reply::Status(200, ""));
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let event = append(&mut log, "cam");
    let said = review(&mut log, &event);
    let plain = Running::start(config(&hook.url("/plain"), "id = \"plain\""), &log);
    let more = Running::start(config(&hook.url("/more"), "id = \"more\"\nevents = [\"review\"]"), &log);
    until("all to be taken", || plain.status().behind == 0 && more.status().behind == 0);
    plain.stop();
    more.stop();
    let mut got: Vec<_> = hook.received().into_iter().map(|r| (r.path, r.id)).collect();
    got.sort();
    assert_eq!(got, [("/more".to_owned(), said.id.to_string()), ("/plain".to_owned(), event.id.to_string())]);
}
