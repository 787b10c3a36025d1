//! TLS: whom the daemon trusts, whom the broker trusts, and the errors when they do not.

use std::path::{Path, PathBuf};

use spotd::publish::mqtt::{self, MqttError};
use spotd::publish::mqtt::{ClientCert, MqttConfig, MqttVersion};

use crate::authority::Authority;
use crate::mosquitto::{Broker, PATIENCE, Subscriber, free_port};
use crate::setup::*;

fn client(authority: &Authority) -> Option<ClientCert> {
    Some(ClientCert { cert_file: authority.file("client.pem"), key_file: authority.file("client.key") })
}

/// A broker with a port in plain text for the test itself, and one with TLS.
pub fn broker(authority: &Authority, settings: &str) -> (Broker, u16) {
    broker_at("127.0.0.1", authority, settings)
}

fn broker_at(address: &str, authority: &Authority, settings: &str) -> (Broker, u16) {
    let tls = free_port();
    let file = |name: &str| authority.file(name).display().to_string();
    let broker = Broker::run(&format!(
        "allow_anonymous true\nlistener {tls} {address}\ncafile {}\ncertfile {}\nkeyfile {}\n{settings}",
        file("ca.pem"),
        file("server.pem"),
        file("server.key")
    ));
    listens(address, tls);
    (broker, tls)
}

/// The broker opens one port after the other, and its own first.
fn listens(address: &str, port: u16) {
    until("the other port", || std::net::TcpStream::connect((address, port)).is_ok());
}

fn tls_config(port: u16, ca: &Path) -> MqttConfig {
    MqttConfig { host: "localhost".into(), tls: true, ca_file: Some(ca.to_owned()), ..mqtt_config(port) }
}

fn refused(config: &MqttConfig) -> String {
    match mqtt::probe(config, NODE, PATIENCE) {
        Err(error @ MqttError::Tls { .. }) => error.to_string(),
        other => panic!("not what TLS should say: {other:?}"),
    }
}

#[test]
fn a_broker_is_trusted_by_its_authority_and_name_alone() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (broker, port) = broker(&ours, "");
    for version in [MqttVersion::V5, MqttVersion::V3] {
        let good = MqttConfig { version, ..tls_config(port, &ours.file("ca.pem")) };
        let fine = mqtt::probe(&good, NODE, PATIENCE).expect("the right authority and name").text;
        assert!(fine.contains("(encrypted"), "{fine}");

        let stranger = refused(&MqttConfig { ca_file: Some(other.file("ca.pem")), ..good.clone() });
        assert!(stranger.contains("authority") && stranger.contains("ca_file"), "{stranger}");
        let system = mqtt::probe(&MqttConfig { ca_file: None, ..good.clone() }, NODE, PATIENCE);
        assert!(matches!(system, Err(MqttError::Tls { .. } | MqttError::NoAuthorities { .. })), "{system:?}");
        // The certificate names localhost, and the broker answers at 127.0.0.1 too.
        let name = refused(&MqttConfig { host: "127.0.0.1".into(), ..good.clone() });
        assert!(name.contains("not issued for \"127.0.0.1\"") && name.contains("[mqtt] url"), "{name}");
        let plain = refused(&MqttConfig { port: broker.port(), ..good });
        assert!(plain.contains("does that port speak TLS"), "{plain}");
    }
    // And the publisher sends over it.
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = open(dir.path());
    let subscriber = Subscriber::start(broker.port(), "spotd/#");
    let running = Running::start(tls_config(port, &ours.file("ca.pem")), &log);
    let record = append(&mut log, "cam");
    subscriber.wait("the event", |m| events(m) == [record.clone()]);
    running.stop();
}

#[test]
fn a_bare_ipv6_address_is_connected_to_and_held_against_the_certificate() {
    if std::net::TcpListener::bind(("::1", 0)).is_err() {
        eprintln!("\n*** SKIPPED: this machine has no IPv6 loopback ***\n");
        return;
    }
    let (ours, other) = (Authority::new(), Authority::new());
    let (_broker, port) = broker_at("::1", &ours, "");
    for version in [MqttVersion::V5, MqttVersion::V3] {
        let config = MqttConfig { version, host: "::1".into(), ..tls_config(port, &ours.file("ca.pem")) };
        let fine = mqtt::probe(&config, NODE, PATIENCE).expect("the certificate names the address").text;
        assert!(fine.contains("(encrypted"), "{fine}");
        let stranger = refused(&MqttConfig { ca_file: Some(other.file("ca.pem")), ..config.clone() });
        assert!(stranger.contains("authority") && stranger.contains("ca_file"), "{stranger}");
        // The same address in another form is the same; in plain text it works as well.
        let longer = MqttConfig { host: "0:0:0:0:0:0:0:1".into(), ..config.clone() };
        mqtt::probe(&longer, NODE, PATIENCE).expect("the same address");
        let port = free_port();
        let _six = Broker::run(&format!("allow_anonymous true\nlistener {port} ::1\n"));
        listens("::1", port);
        let plain = MqttConfig { tls: false, ca_file: None, port, ..config };
        assert!(mqtt::probe(&plain, NODE, PATIENCE).expect("plain text").text.contains("not encrypted"));
    }
}

#[test]
fn a_broker_that_wants_a_certificate_gets_ours() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (broker, port) = broker(&ours, "require_certificate true\nuse_identity_as_username true\n");
    for version in [MqttVersion::V5, MqttVersion::V3] {
        let none = MqttConfig { version, ..tls_config(port, &ours.file("ca.pem")) };
        let missing = refused(&none);
        assert!(missing.contains("client_cert_file"), "{missing}");
        let stranger = refused(&MqttConfig { client_cert: client(&other), ..none.clone() });
        assert!(stranger.contains("client_cert_file"), "{stranger}");
        mqtt::probe(&MqttConfig { client_cert: client(&ours), ..none }, NODE, PATIENCE)
            .expect("our certificate");
    }
    drop(broker);
}

#[test]
fn a_certificate_or_key_that_cannot_be_used_is_named_and_never_shown() {
    let (ours, other) = (Authority::new(), Authority::new());
    let check = |cert: PathBuf, key: PathBuf| {
        let config = MqttConfig {
            client_cert: Some(ClientCert { cert_file: cert, key_file: key }),
            ..tls_config(1, &ours.file("ca.pem"))
        };
        mqtt::probe(&config, NODE, PATIENCE).expect_err("unusable").to_string()
    };
    let (cert, key) = (ours.file("client.pem"), ours.file("client.key"));
    let gone = check(ours.file("no.pem"), key.clone());
    assert!(gone.contains("client_cert_file") && gone.contains("no.pem"), "{gone}");
    let swapped = check(key.clone(), key.clone());
    assert!(swapped.contains("client_cert_file") && swapped.contains("no certificate"), "{swapped}");
    let no_key = check(cert.clone(), cert.clone());
    assert!(no_key.contains("client_key_file") && no_key.contains("no private key"), "{no_key}");
    let foreign = check(cert.clone(), other.file("client.key"));
    assert!(foreign.contains("client_key_file"), "{foreign}");
    let broken = ours.file("broken.key");
    std::fs::write(&broken, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0*!\n-----END PRIVATE KEY-----\n")
        .expect("write");
    let broken = check(cert, broken);
    assert!(broken.contains("client_key_file") && !broken.contains("c2VjcmV0"), "{broken}");
}

/// A certificate as somebody makes one at home, in `dir`.
fn openssl(dir: &Path, arguments: &str) {
    let done = std::process::Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output();
    let done = done.expect("openssl starts; `make test` installs it");
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Our error for a broker with `own.pem` and `own.key` in `dir`, when trusting `trusted` there.
fn of_own(dir: &Path, trusted: &str) -> Result<mqtt::Probed, MqttError> {
    let tls = free_port();
    let at = dir.display();
    let _broker = Broker::run(&format!(
        "allow_anonymous true\nlistener {tls} 127.0.0.1\ncertfile {at}/own.pem\nkeyfile {at}/own.key\n"
    ));
    listens("127.0.0.1", tls);
    mqtt::probe(&tls_config(tls, &dir.join(trusted)), NODE, PATIENCE)
}

#[test]
fn what_is_said_of_a_certificate_made_at_home_mends_it() {
    const NEW: &str =
        "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout own.key -out own.pem -subj /CN=localhost";
    let dir = tempfile::tempdir().expect("tempdir");
    let dir = dir.path();
    openssl(dir, NEW);
    let said = of_own(dir, "own.pem").expect_err("an authority's own").to_string();
    let advice = "-addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost";
    assert!(said.contains(advice) && said.contains("[mqtt] ca_file"), "{said}");
    openssl(dir, &format!("{NEW} {advice}"));
    of_own(dir, "own.pem").expect("made as it was said");

    // No name but the CN.
    openssl(dir, &format!("{NEW} -addext basicConstraints=critical,CA:FALSE"));
    let said = of_own(dir, "own.pem").expect_err("no name that counts").to_string();
    assert!(said.contains("a CN alone does not") && said.contains("DNS:localhost"), "{said}");

    // Signed by one's own authority, without extensions.
    openssl(dir, "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=home");
    openssl(dir, "req -new -newkey rsa:2048 -nodes -keyout own.key -out own.csr -subj /CN=localhost");
    let sign = "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out own.pem";
    openssl(dir, sign);
    let said = of_own(dir, "ca.pem").expect_err("of version 1").to_string();
    let plain = std::process::Command::new("openssl")
        .current_dir(dir)
        .args(["x509", "-in", "own.pem", "-noout", "-text"])
        .output();
    // Later versions of openssl make version 3, without a name.
    if String::from_utf8_lossy(&plain.expect("openssl runs").stdout).contains("Version: 1 ") {
        assert!(said.contains("version 1") && said.contains("-extfile"), "{said}");
    }
    assert!(said.contains("subjectAltName"), "{said}");
    std::fs::write(dir.join("more"), "subjectAltName=DNS:localhost\n").expect("written");
    openssl(dir, &format!("{sign} -extfile more"));
    of_own(dir, "ca.pem").expect("made as it was said");
}
