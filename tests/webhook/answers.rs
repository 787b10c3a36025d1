//! How responses are interpreted.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::server::{Hook, Reply};
use crate::setup::*;

#[test]
fn what_may_pass_is_sent_again_until_it_is_taken() {
    let hook = Hook::start(|_, before| match before {
        0 => Reply::Status(500, "an accident"),
        1 => Reply::Silence(Duration::from_secs(3)),
        2 => Reply::Status(429, ""),
        3 => Reply::Status(503, ""),
        _ => Reply::Status(200, ""),
    });
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let (first, second) = (append(&mut log, "cam"), append(&mut log, "cam"));
    let running = Running::with(config(&hook.url("/"), "timeout_seconds = 0.5"), &log, Hasty::shared());
    let got = hook.wait(6);
    until("all to be taken", || running.status().behind == 0);
    let status = running.stop();
    let ids: Vec<String> = got.iter().map(|r| r.id.clone()).collect();
    let (a, b) = (first.id.to_string(), second.id.to_string());
    assert_eq!(ids.iter().collect::<Vec<_>>(), [&a, &a, &a, &a, &a, &b], "the second waits for the first");
    assert_eq!((status.sent, status.refused), (2, 0));
}

#[test]
fn retry_after_is_obeyed() {
    let hook = Hook::start(|_, before| match before {
        0 => Reply::With(429, "Retry-After", "3".into()),
        _ => Reply::Status(200, ""),
    });
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    append(&mut log, "cam");
    // By the true clock, by whose backoff it would come after one second.
    let running = Running::start(config(&hook.url("/"), ""), &log);
    hook.wait(2);
    let times = hook.times();
    running.stop();
    let waited = times[1] - times[0];
    assert!((Duration::from_secs_f64(2.9)..Duration::from_secs(30)).contains(&waited), "{waited:?}");
}

#[test]
fn a_refusal_is_given_up_in_the_end_and_does_not_hold_up_what_follows() {
    collect_log();
    let hook = Hook::start(|got, _| match got.body.contains("\"source\":\"odd\"") {
        true => Reply::Status(422, "\u{1b}[31mnot like this\nand more"),
        false => Reply::Status(200, ""),
    });
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let odd = append(&mut log, "odd");
    let second = append(&mut log, "odd");
    let good = append(&mut log, "cam");
    let running = Running::with(config(&hook.url("/s3cret"), ""), &log, Hasty::shared());
    let done = |sent, refused| {
        let status = running.status();
        (status.sent, status.refused) == (sent, refused)
    };
    until("all to be done with", || done(1, 2));
    let third = append(&mut log, "odd");
    until("that too", || done(1, 3));
    let status = running.stop();
    let times = |id: ulid::Ulid| hook.received().iter().filter(|r| r.id == id.to_string()).count();
    assert_eq!((times(odd.id), times(second.id), times(good.id)), (5, 1, 1));
    assert_eq!(times(third.id), 5, "it has taken one since");
    assert_eq!((status.sent, status.refused), (1, 3));
    let said = logged();
    assert!(said.contains("422 Unprocessable Entity ([31mnot like this)"), "{said}");
    assert!(said.contains("is not sent: the server refuses it"), "{said}");
    // What the library logs about requests is never shown, see `check_tries_it`.
    assert!(
        said.lines().filter(|line| line.contains(" spotd::")).all(|line| !line.contains("s3cret")),
        "{said}"
    );
}

#[test]
fn a_redirection_is_followed_nowhere() {
    collect_log();
    let other = Hook::start(|_, _| Reply::Status(200, ""));
    let to = other.url("/elsewhere").replace("127.0.0.1", "localhost");
    let hook = Hook::start(move |_, before| match before {
        0 => Reply::With(307, "Location", to.clone()),
        1 => Reply::With(302, "Location", "/here".into()),
        _ => Reply::Status(200, ""),
    });
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    append(&mut log, "cam");
    let running = Running::with(config(&hook.url("/"), ""), &log, Hasty::shared());
    let got = hook.wait(3);
    until("it to be taken", || running.status().behind == 0);
    running.stop();
    assert!(got.iter().all(|r| r.path == "/"), "{got:?}");
    assert!(other.received().is_empty());
    assert!(logged().contains("it redirects to another address, at localhost (307"), "{}", logged());
}

#[test]
fn a_gigabyte_of_answer_is_not_waited_for() {
    let hook = Hook::start(|_, before| match before {
        0 => Reply::Gigabyte(200),
        1 => Reply::Gigabyte(503),
        _ => Reply::Status(200, ""),
    });
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    for _ in 0..3 {
        append(&mut log, "cam");
    }
    let running = Running::with(config(&hook.url("/"), "timeout_seconds = 60"), &log, Hasty::shared());
    let begun = Instant::now();
    hook.wait(4);
    until("all to be taken", || running.status().behind == 0);
    assert_eq!(running.stop().sent, 3);
    let sent = hook.sent.load(Ordering::SeqCst);
    assert!(sent < 64 << 20, "{sent} bytes of two answers were taken in {:?}", begun.elapsed());
}
