//! Servers that die.

use std::collections::HashMap;
use std::time::Duration;

use crate::records::Numbers;
use crate::server::{Mortal, free_port};
use crate::setup::*;

#[test]
fn across_a_hundred_kills_of_the_server_nothing_is_missing_and_the_order_stays() {
    const KILLS: usize = 100;
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("taken");
    let mut log = open(&dir.path().join("flags"));
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/");
    let mut running = Running::with(config(&url, ""), &log, Hasty::shared());
    let (mut dice, mut written) = (Numbers(0xdead), Vec::new());
    let mut server = Mortal::start(port, &file);
    for kill in 0..KILLS {
        // Now and then everything is accepted before the next one, and now and then the daemon ends
        // too.
        if kill % 3 == 0 {
            until("all to be taken", || running.status().behind == 0);
        }
        for _ in 0..=dice.below(8) {
            written.push(append(&mut log, "cam"));
        }
        std::thread::sleep(Duration::from_micros(dice.below(8000)));
        server.kill();
        if kill % 10 == 9 {
            running.stop();
            written.push(append(&mut log, "cam"));
            running = Running::with(config(&url, ""), &log, Hasty::shared());
        }
        server = Mortal::start(port, &file);
    }
    written.push(append(&mut log, "cam"));
    until("all to be taken", || running.status().behind == 0);
    running.stop();
    drop(server);
    let got = Mortal::taken(&file);
    let lines: HashMap<String, String> = written
        .iter()
        .zip(lines(&dir.path().join("flags")))
        .map(|(record, line)| (record.id.to_string(), line))
        .collect();
    assert!(got.iter().all(|(id, body)| lines.get(id) == Some(body)), "each is the line of the log");
    let mut seen = std::collections::HashSet::new();
    let first: Vec<&String> = got.iter().map(|(id, _)| id).filter(|id| seen.insert(*id)).collect();
    let ids: Vec<String> = written.iter().map(|r| r.id.to_string()).collect();
    assert_eq!(first, ids.iter().collect::<Vec<_>>(), "all, in order");
    println!("{KILLS} kills, {} records, 0 missing, {} came twice", ids.len(), got.len() - ids.len());
}
