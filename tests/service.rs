//! What the daemon tells a service manager, by systemd's protocol: ready, status, watchdog, stopping. `make test-box`
//! does the same under systemd itself.

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/model.rs"]
#[allow(dead_code, reason = "this file needs only the detector")]
mod model;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use daemon::Daemon;

const PATIENCE: Duration = Duration::from_secs(90);
const SOURCE: &str = "videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 ! \
     video/x-raw,format=I420,width=128,height=96,framerate=10/1 ! appsink";

/// The manager's end, and what came there.
struct Manager {
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Manager {
    fn new(dir: &Path) -> Self {
        let socket = UnixDatagram::bind(dir.join("notify")).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        Self { socket, told: Vec::new() }
    }

    /// What comes within a tenth of a second, line by line.
    fn listen(&mut self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let Ok(n) = self.socket.recv(&mut buffer) else { return Vec::new() };
        let text = std::str::from_utf8(&buffer[..n]).expect("UTF-8");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        self.told.extend(lines.clone());
        lines
    }

    fn wait_for(&mut self, what: &str, is: impl Fn(&str) -> bool) {
        self.wait_for_all(what, 1, is);
    }

    fn wait_for_all(&mut self, what: &str, times: usize, is: impl Fn(&str) -> bool) {
        let end = Instant::now() + PATIENCE;
        while self.told.iter().filter(|line| is(line)).count() < times {
            self.listen();
            assert!(Instant::now() < end, "{what}: it was never told; all that was: {:?}", self.told);
        }
    }
}

fn start(dir: &Path, watchdog: Duration) -> Daemon {
    let model = model::write_brightness(dir);
    let config = dir.join("spotd.toml");
    let text = format!(
        "[model]\npath = {model:?}\nworkers = 1\n[[source]]\nid = \"cam\"\nuri = \"pipeline:{SOURCE}\"\nfps = 10\n\
         [[source]]\nid = \"away\"\nuri = \"rtsp://127.0.0.1:1/none\"\n\
         [verdict]\nwindow = 3\nmin_frames = 1\n[log]\ndir = \"flags\"\nmin_free_mib = 0\n"
    );
    std::fs::write(&config, text).expect("written");
    let set = |name: &str, value: &Path| format!("{name}={}", value.display());
    let (socket, hang) =
        (set("NOTIFY_SOCKET", &dir.join("notify")), set("SPOTD_TEST_HANG", &dir.join("hang")));
    let watchdog = format!("WATCHDOG_USEC={}", watchdog.as_micros());
    Daemon::start_under(&["env", &socket, &hang, &watchdog], &config, dir)
}

#[test]
fn a_camera_that_is_away_holds_up_neither_the_start_nor_the_watchdog() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut manager = Manager::new(dir.path());
    let mut daemon = start(dir.path(), Duration::from_secs(4));
    manager.wait_for("ready", |line| line == "READY=1");
    manager.wait_for("its state", |line| line.starts_with("STATUS=") && line.contains("1 live, 1 retrying"));
    manager.wait_for_all("the watchdog's food", 8, |line| line == "WATCHDOG=1");
    assert_eq!(manager.told.iter().filter(|line| *line == "READY=1").count(), 1);
    let begun = Instant::now();
    assert_eq!(daemon.terminate(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?} to end", begun.elapsed());
    manager.wait_for("its end", |line| line == "STOPPING=1");
}

#[test]
fn a_worker_that_hangs_leaves_the_watchdog_unfed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut manager = Manager::new(dir.path());
    let watchdog = Duration::from_secs(20);
    let daemon = start(dir.path(), watchdog);
    manager.wait_for("the watchdog's food", |line| line == "WATCHDOG=1");
    let hang = dir.path().join("hang");
    std::fs::write(&hang, b"").expect("written");
    let end = Instant::now() + PATIENCE;
    while !daemon.log().contains("stage 'infer-0' has hung") {
        assert!(Instant::now() < end, "nobody noticed");
        manager.listen();
    }
    assert!(!hang.exists(), "the next start would hang too");
    let until = Instant::now() + watchdog;
    while Instant::now() < until {
        assert!(!manager.listen().iter().any(|line| line == "WATCHDOG=1"), "{:?}", manager.told);
    }
}
