//! A small web server in the test's own process.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

/// Serves the files of a folder on 127.0.0.1, with byte ranges, until the process ends.
pub struct HttpServer {
    port: u16,
}

impl HttpServer {
    /// Starts serving `folder`.
    pub fn new(folder: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let folder = folder.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let folder = folder.clone();
                // A client that goes away in the middle does not matter.
                std::thread::spawn(move || drop(serve(&client, &folder)));
            }
        });
        Self { port }
    }

    /// The address of a file.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }
}

fn serve(client: &TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut out = client;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut range = None;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(bytes) = line.strip_prefix("range: bytes=") {
                let (from, to) = bytes.split_once('-').unwrap_or((bytes, ""));
                range = Some((from.parse::<u64>().unwrap_or(0), to.parse::<u64>().ok()));
            }
        }
        let (method, path) = first.split_once(' ').unwrap_or_default();
        let name = path.split_whitespace().next().unwrap_or_default().trim_start_matches('/');
        // `file?cut=N` breaks off after N bytes of the file, even if the rest is requested.
        let (name, cut) = name.split_once("?cut=").map_or((name, None), |(n, c)| (n, c.parse::<u64>().ok()));
        let path = folder.join(name);
        let Ok(mut file) = std::fs::File::open(&path) else {
            write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        let size = file.metadata()?.len();
        let (from, to) = range.unwrap_or((0, None));
        let to = to.unwrap_or(size.saturating_sub(1)).min(size.saturating_sub(1));
        let length = (to + 1).saturating_sub(from);
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        write!(
            out,
            "HTTP/1.1 {status}\r\nContent-Type: {}\r\nAccept-Ranges: bytes\r\nContent-Length: {length}\r\n\
             Content-Range: bytes {from}-{to}/{size}\r\n\r\n",
            content_type(&path)
        )?;
        if method == "GET" {
            file.seek(SeekFrom::Start(from))?;
            std::io::copy(
                &mut file.take(cut.map_or(length, |cut| cut.saturating_sub(from).min(length))),
                &mut out,
            )?;
            if cut.is_some() {
                return Ok(());
            }
        }
    }
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()) {
        Some("m3u8") => "application/vnd.apple.mpegurl",
        Some("ts") => "video/mp2t",
        Some("mp4") => "video/mp4",
        Some("multipart") => "multipart/x-mixed-replace;boundary=frame",
        _ => "application/octet-stream",
    }
}
