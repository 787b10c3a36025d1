//! Crowds, slow readers and nonsense cost connections, and never a frame.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::box_of::SpotdBox;

/// Resident memory of a process in MiB.
fn memory(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

/// Frames judged so far.
fn judged(watched: &SpotdBox) -> u64 {
    let answered = |b: &SpotdBox| b.try_get("/api/v1/sources", &[]).filter(|a| a.status == 200);
    watched.wait("an answer", answered).json()[0]["judged"].as_u64().expect("a count")
}

/// Frames judged per second while something goes on for some seconds.
fn rate(watched: &SpotdBox, seconds: u64, meanwhile: impl FnOnce() -> f64) -> (f64, f64) {
    let (begun, before) = (Instant::now(), judged(watched));
    let found = meanwhile();
    while begun.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let count = judged(watched) - before;
    (count as f64 / begun.elapsed().as_secs_f64(), found)
}

#[test]
fn five_hundred_clients_slow_ones_and_half_open_ones_cost_no_frame() {
    let watched = SpotdBox::start("", "");
    watched.wait("the source", |b| (b.get("/readyz", &[]).status == 200).then_some(()));
    let (alone, before) = rate(&watched, 6, || memory(watched.daemon.id()));
    let connect = || TcpStream::connect(("127.0.0.1", watched.port)).expect("connects");
    let (crowded, most) = rate(&watched, 0, || {
        // A third has sent half of a head, a third are live pages that are never read, a third say nothing.
        let mut open = Vec::new();
        for number in 0..500 {
            let mut stream = connect();
            let text = match number % 3 {
                0 => "GET / HTTP/1.1\r\nHost: local".to_owned(),
                1 => format!("GET /api/v1/live HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", watched.port),
                _ => String::new(),
            };
            // The box may close at once what is too many.
            let _ = stream.write_all(text.as_bytes());
            open.push(stream);
        }
        let end = Instant::now() + Duration::from_secs(8);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        // They leave, so that somebody can be asked how many frames were judged meanwhile.
        memory(watched.daemon.id())
    });
    println!(
        "{alone:.1} frames/s alone, {crowded:.1} with the crowd; {before:.0} MiB, {most:.0} with the crowd"
    );
    assert!(most - before < 64.0, "{before} MiB before, {most} MiB with 500 clients");
    assert!(crowded * 2.0 >= alone, "{alone} frames judged per second before, {crowded} with 500 clients");
}

#[test]
fn nonsense_and_huge_heads_are_refused_and_the_next_one_is_answered() {
    let watched = SpotdBox::start("", "");
    let huge = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: {}\r\n\r\n", "a".repeat(64 * 1024));
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(64 * 1024));
    let body = format!(
        "POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 999999999\r\n\r\ntoken={}",
        "a".repeat(32 * 1024)
    );
    for nonsense in [
        huge.as_bytes(),
        long.as_bytes(),
        body.as_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        &[0; 4096],
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", watched.port)).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        let _ = stream.write_all(nonsense);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert_eq!(watched.get("/healthz", &[]).status, 200);
    }
}

#[test]
fn a_port_that_is_taken_is_named_and_only_a_chosen_one_is_fatal() {
    let first = SpotdBox::start("", "");
    let dir = tempfile::tempdir().expect("a folder");
    let run = |listen: &str| {
        let config = dir.path().join("spotd.toml");
        let text = format!(
            "[[source]]\nid = \"demo\"\nuri = \"demo://1\"\n[log]\ndir = \"flags\"\n[web]\nlisten = \"{listen}\"\n"
        );
        std::fs::write(&config, text).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_spotd"))
            .args(["run", "--for-seconds", "0.1", "--config"])
            .arg(&config)
            .output()
            .expect("spotd runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&format!("127.0.0.1:{}", first.port));
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("is another program there?") && said.contains("[web] listen"), "{said}");
    let (code, said) = run("0.0.0.0:0");
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("web.token_file") && said.contains("spotd.toml:7"), "{said}");
}
