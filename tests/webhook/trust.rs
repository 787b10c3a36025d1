//! Encrypted servers.

use spotd::publish::webhook;

use crate::authority::Authority;
use crate::server::{Hook, Reply};
use crate::setup::*;
use crate::tls;

#[test]
fn an_encrypted_server_is_trusted_by_its_authority_and_name_alone() {
    let hook = Hook::start(|_, _| Reply::Status(200, ""));
    let (ours, other) = (Authority::new(), Authority::new());
    let port = tls::front(hook.port(), &ours.file("server.pem"), &ours.file("server.key"));
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    append(&mut log, "cam");
    let trusting = |host: &str, more: &str| config(&format!("https://{host}:{port}/"), more);
    let probe = |config: &webhook::WebhookConfig| {
        let client = webhook::Client::new(config, spotd::clock::SystemClock::shared());
        client.and_then(|client| client.probe("box")).map_err(|e| e.to_string())
    };
    let ca = |authority: &Authority| format!("ca_file = {:?}", authority.file("ca.pem"));
    for (host, more) in [("localhost", ca(&other)), ("localhost", String::new()), ("127.0.0.1", ca(&ours))] {
        let error = probe(&trusting(host, &more)).expect_err("not trusted");
        assert!(error.contains("TLS failed") && error.contains("ca_file"), "{host} {more}: {error}");
    }
    assert!(hook.received().is_empty(), "nothing was sent to whom is not trusted");
    let good = trusting("localhost", &ca(&ours));
    probe(&good).expect("trusted");
    let running = Running::start(good, &log);
    hook.wait(2);
    until("it to be taken", || running.status().behind == 0);
    running.stop();
    let missing = trusting("localhost", "ca_file = \"/nowhere/ca.pem\"");
    let error = probe(&missing).expect_err("no such file");
    assert!(error.contains("/nowhere/ca.pem") && error.contains("No such file"), "{error}");
    let key = trusting("localhost", &format!("ca_file = {:?}", ours.file("server.key")));
    assert!(probe(&key).expect_err("a key").contains("holds no certificate"));
}
