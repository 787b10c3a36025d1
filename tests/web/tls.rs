//! The page over TLS, as a client that verifies certificates sees it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use crate::authority::Authority;
use crate::box_of::SpotdBox;

#[test]
fn the_page_is_served_over_tls_and_its_cookie_is_for_tls_alone() {
    let authority = Authority::new();
    let token = authority.file("token");
    std::fs::write(&token, "a token of some length\n").expect("written");
    let watched = SpotdBox::start_encrypted(&authority, &format!("token_file = {token:?}"));
    let own = format!("https://localhost:{}", watched.port);
    let said = format!("the page: https://127.0.0.1:{}/", watched.port);
    watched.wait("the address in the log", |b| b.daemon.log().contains(&said).then_some(()));

    assert_eq!(watched.get("/api/v1/sources", &[]).status, 401);
    let entered = watched.post(
        "/login",
        "token=a+token+of+some+length",
        &[("Origin", &own), ("Content-Type", "application/x-www-form-urlencoded")],
    );
    let cookie = entered.header("set-cookie").to_owned();
    assert!(cookie.contains("; Secure") && cookie.contains("HttpOnly"), "{} {cookie}", entered.status);
    let pair = cookie.split(';').next().expect("a pair");
    assert_eq!(watched.get("/api/v1/sources", &[("Cookie", pair)]).status, 200);

    // Who speaks without TLS learns nothing, and does not stop the others.
    let mut plain = TcpStream::connect(("127.0.0.1", watched.port)).expect("connects");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("alive"));
    assert_eq!(watched.get("/healthz", &[]).status, 200);
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_before_anything_starts() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("spotd.toml");
    let check = |certificate: &str, key: &str| {
        let file = |name: &str| match name {
            "" => String::new(),
            _ => format!("{:?}", authority.file(name)),
        };
        let line = |key: &str, name: &str| {
            if name.is_empty() { String::new() } else { format!("{key} = {}\n", file(name)) }
        };
        let web = line("certificate_file", certificate) + &line("key_file", key);
        let text = format!("[log]\ndir = \"flags\"\n[web]\n{web}[[source]]\nid = \"a\"\nuri = \"demo\"\n");
        std::fs::write(&config, text).expect("written");
        let run = |command: &str| {
            let mut spotd = Command::new(env!("CARGO_BIN_EXE_spotd"));
            spotd.args([command, "--config"]).arg(&config);
            if command == "run" {
                spotd.args(["--for-seconds", "1"]);
            }
            let output = spotd.current_dir(dir.path()).output().expect("runs");
            (
                output.status.code(),
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            )
        };
        (run("check"), run("run"))
    };
    for (certificate, key, said) in [
        ("server.pem", "", "web.certificate_file needs web.key_file"),
        ("", "server.key", "web.key_file needs web.certificate_file"),
        ("none.pem", "server.key", "No such file"),
        ("server.key", "server.key", "it holds no certificate in PEM form"),
        ("server.pem", "server.pem", "no private key in PEM form"),
        ("server.pem", "client.key", "it is not the key of"),
    ] {
        let ((checked, told), (ran, log)) = check(certificate, key);
        assert!(told.contains(said), "{certificate} {key}: {told}");
        assert!(log.contains(said), "{certificate} {key}: {log}");
        assert_eq!((checked, ran), (Some(1), Some(2)), "{certificate} {key}: {told} {log}");
    }
}
