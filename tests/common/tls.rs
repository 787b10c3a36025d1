//! TLS in front of a server without it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// Accepts TLS connections on its own port and forwards their content to `target` on 127.0.0.1.
/// Returns the port.
pub fn front(target: u16, certificate: &Path, key: &Path) -> u16 {
    let chain =
        CertificateDer::pem_file_iter(certificate).expect("a PEM file").map(|c| c.expect("a certificate"));
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain.collect(), key)
        .expect("key and certificate fit");
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let config = config.clone();
            // A side that goes away in the middle ends the connection, and nothing else.
            std::thread::spawn(move || drop(forward(&client, target, config)));
        }
    });
    port
}

fn forward(client: &TcpStream, target: u16, config: Arc<ServerConfig>) -> std::io::Result<()> {
    let mut tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    client.set_nonblocking(true)?;
    server.set_nonblocking(true)?;
    let (mut client, mut server) = (client, &server);
    let mut bytes = [0; 16 << 10];
    loop {
        let mut idle = true;
        while tls.wants_write() {
            match tls.write_tls(&mut client) {
                Ok(_) => idle = false,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        match tls.read_tls(&mut client) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                idle = false;
                tls.process_new_packets().map_err(std::io::Error::other)?;
                match tls.reader().read(&mut bytes) {
                    Ok(0) => return Ok(()),
                    Ok(n) => write_all(&mut server, &bytes[..n])?,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e),
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        // What the client has not read yet must not pile up here.
        if !tls.wants_write() {
            match server.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    idle = false;
                    tls.writer().write_all(&bytes[..n])?;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if idle {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Writes everything to a non-blocking socket, waiting while it has no room.
fn write_all(to: &mut &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
