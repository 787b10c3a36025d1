//! SIGHUP: the daemon reads its configuration again, and what has not changed is not disturbed.

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/model.rs"]
#[allow(dead_code, reason = "this file needs only the detector")]
mod model;
#[path = "common/mosquitto.rs"]
#[allow(dead_code, reason = "this file needs a broker and a subscriber")]
mod mosquitto;
#[path = "common/records.rs"]
mod records;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use daemon::Daemon;
use records::{folder, verified};
use spotd::clock::{Clock as _, SystemClock};

const PATIENCE: Duration = Duration::from_secs(90);

/// A source whose brightness, and so its score, is about 0.83 with the tests' model.
fn source(id: &str, fps: u32) -> String {
    format!(
        "[[source]]\nid = \"{id}\"\nfps = {fps}\nuri = \"pipeline:videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 ! \
         video/x-raw,format=I420,width=128,height=96,framerate=10/1 ! appsink\"\n"
    )
}

/// A daemon without a terminal, its configuration, and the manager's socket.
struct Rig {
    config: PathBuf,
    model: PathBuf,
    daemon: Daemon,
    manager: UnixDatagram,
    told: Vec<String>,
    // The last to be dropped: the daemon's log is in it.
    dir: tempfile::TempDir,
}

impl Rig {
    fn start(parts: &[&str]) -> Self {
        let dir = folder();
        let model = model::write_brightness(dir.path());
        let config = dir.path().join("spotd.toml");
        write(&config, &model, parts);
        let socket = dir.path().join("notify");
        let manager = UnixDatagram::bind(&socket).expect("a socket");
        manager.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let notify = format!("NOTIFY_SOCKET={}", socket.display());
        // Who runs the tests may ignore the signal, as nohup does, and what is ignored is inherited.
        let under = ["setsid", "env", "--default-signal=HUP", &notify];
        let daemon = Daemon::start_under(&under, &config, dir.path());
        Self { dir, config, model, daemon, manager, told: Vec::new() }
    }

    /// Changes the file and asks for it to be read.
    fn reload(&mut self, parts: &[&str]) {
        write(&self.config, &self.model, parts);
        self.hang_up();
    }

    fn hang_up(&self) {
        let pid = self.daemon.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
    }

    fn wait_for(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < end, "{what}: it never was; told: {:#?}", self.told);
            let _ = SystemClock::new().after(Duration::from_millis(50)).recv();
        }
    }

    fn wait_for_log(&mut self, text: &str) {
        self.wait_for(text, |rig| rig.daemon.log().contains(text));
    }

    /// The status line that was told last.
    fn status(&mut self) -> String {
        let mut buffer = [0; 4096];
        while let Ok(n) = self.manager.recv(&mut buffer) {
            self.told.extend(String::from_utf8_lossy(&buffer[..n]).lines().map(str::to_owned));
        }
        let last = self.told.iter().rev().find_map(|line| line.strip_prefix("STATUS="));
        last.unwrap_or_default().to_owned()
    }

    /// A figure of the file of metrics.
    fn metric(&self, name: &str) -> Option<u64> {
        let text = std::fs::read_to_string(self.dir.path().join("spotd.prom")).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    fn frames(&self, source: &str) -> u64 {
        self.metric(&format!("spotd_source_frames_total{{source=\"{source}\"}}")).unwrap_or(0)
    }
}

fn write(config: &Path, model: &Path, parts: &[&str]) {
    let text = format!(
        "[node]\nname = \"box\"\n[model]\npath = {model:?}\nworkers = 1\n[log]\ndir = \"flags\"\nmin_free_mib = 0\n\
         [metrics]\nfile = \"spotd.prom\"\nevery_seconds = 1\n{}",
        parts.concat()
    );
    std::fs::write(config, text).expect("written");
}

const LOW: &str = "[verdict]\nwindow = 3\nmin_frames = 1\n";
const HIGH: &str = "[verdict]\nwindow = 3\nmin_frames = 1\nthreshold = 0.95\n";

const NO_PAGE: &str = "[web]\nenabled = false\n";

#[test]
fn sources_come_and_go_and_a_threshold_changes_while_the_others_go_on() {
    let (stay, go, other) = (source("stay", 10), source("go", 10), source("new", 10));
    let mut rig = Rig::start(&[&stay, &go, LOW]);
    rig.wait_for("events of both", |rig| rig.daemon.log().matches(" start\n").count() == 2);
    rig.wait_for("frames", |rig| rig.frames("stay") > 5);
    let before = rig.frames("stay");
    rig.reload(&[&stay, &other, HIGH]);
    rig.wait_for_log("1 source(s) opened, 1 closed, 1 untouched, [verdict] as it is now");
    rig.wait_for("the new one's frames", |rig| rig.frames("new") > 5);
    rig.wait_for("the other's frames", |rig| rig.frames("stay") > before + 5);
    let log = rig.daemon.log();
    let delivers =
        log.lines().filter(|line| line.contains("source stay: ") && line.contains("delivers")).count();
    assert_eq!(delivers, 1, "it was opened again");
    assert_eq!(rig.metric("spotd_source_reconnects_total{source=\"stay\"}"), Some(0));
    assert_eq!(rig.metric("spotd_source_frames_total{source=\"go\"}"), None, "it is still counted");
    // The one that has gone, and the one that is now judged by another threshold.
    rig.wait_for("both events end", |rig| rig.daemon.log().matches(" end\n").count() == 2);
    assert!(rig.status().contains("sources: 2 live"), "{:?}", rig.told);
    assert!(rig.told.iter().any(|line| line == "RELOADING=1"));
    assert!(rig.told.iter().filter(|line| *line == "READY=1").count() == 2, "{:?}", rig.told);
    // The only sources that are left have changed: there is a moment with none, and it goes on.
    let slower = source("stay", 5);
    rig.reload(&[&slower, LOW]);
    rig.wait_for_log("1 source(s) opened, 2 closed, 0 untouched");
    rig.wait_for("a new event", |rig| rig.daemon.log().matches(" start\n").count() == 3);
    assert_eq!(rig.daemon.terminate(), Some(0));
    let report = verified(&rig.dir.path().join("flags"), None);
    assert!(report.holds && report.unfinished.is_empty(), "{report:?}");
}

#[test]
fn a_wrong_file_is_refused_and_the_old_one_stays() {
    let cam = source("cam", 10);
    // With the page in the file, that it is off comes from there and not from the environment.
    let mut rig = Rig::start(&[&cam, LOW, NO_PAGE]);
    rig.wait_for("an event", |rig| rig.daemon.log().contains(" start\n"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let page = format!("[web]\nlisten = \"127.0.0.1:{port}\"\n");
    let unknown = cam.replace("fps", "fbs");
    let other = source("other", 10);
    let secret = "[mqtt]\nurl = \"mqtt://127.0.0.1\"\nuser = \"u\"\npassword_file = \"%d/broker\"\n";
    let port = port.to_string();
    let wrong: [(&[&str], &[&str]); 5] = [
        (&[&unknown, LOW], &["spotd.toml:", "unknown key `fbs`; did you mean `fps`?"]),
        (&[&cam, &other, "[model2]\n", LOW], &["unknown key `model2`; did you mean `model`?"]),
        (&[&cam, &other, LOW, secret], &["mqtt.password_file", "LoadCredential=broker:FILE"]),
        (&[&cam, "[verdict]\nwindow = 0\n"], &["verdict.window"]),
        (&[&cam, &other, LOW, &page], &["127.0.0.1", &port]),
    ];
    for (parts, words) in wrong {
        rig.reload(parts);
        for word in words {
            rig.wait_for_log(word);
            rig.wait_for("the status says so", |rig| {
                let status = rig.status();
                status.contains("reload refused") && status.contains(word)
            });
        }
    }
    // What may not change while it runs.
    rig.reload(&[&cam, LOW, NO_PAGE, "[model]\nworkers = 1\n"]);
    rig.wait_for("a table that is there twice", |rig| {
        rig.daemon.log().matches("reload refused").count() == 6
    });
    let text = std::fs::read_to_string(&rig.config).expect("read").replace("[model]\nworkers = 1\n", "");
    std::fs::write(&rig.config, text.replace("workers = 1", "workers = 2")).expect("written");
    rig.hang_up();
    rig.wait_for_log("[model] has changed, which takes a restart");
    // A restart would fail, since the other model is for another tile than its card says.
    let (path, bytes) = (rig.dir.path().join("other.onnx"), model::onnx(3, 96));
    std::fs::write(&path, &bytes).expect("written");
    std::fs::write(path.with_extension("toml"), model::card(&bytes).to_toml()).expect("written");
    write(&rig.config, &path, &[&cam, LOW, NO_PAGE]);
    rig.hang_up();
    rig.wait_for_log("and would fail then: ");
    for words in ["other.onnx", "its input is 96", "card's tile asks for 64"] {
        rig.wait_for_log(words);
    }
    let before = rig.frames("cam");
    rig.wait_for("it goes on", |rig| rig.frames("cam") > before + 5);
    assert_eq!(rig.daemon.log().matches("delivers").count(), 1, "it was opened again");
    assert_eq!(rig.frames("other"), 0);
    // Once it is right, nothing is said of the wrong ones any more.
    rig.reload(&[&cam, LOW, NO_PAGE]);
    rig.wait_for_log("0 source(s) opened, 0 closed, 1 untouched");
    rig.wait_for("a clean status", |rig| !rig.status().contains("refused"));
    assert_eq!(rig.daemon.terminate(), Some(0));
}

#[test]
fn a_broker_comes_and_goes() {
    let broker = mosquitto::Broker::start();
    let cam = source("cam", 10);
    let mut rig = Rig::start(&[&cam, LOW]);
    rig.wait_for("an event", |rig| rig.daemon.log().contains(" start\n"));
    let mqtt = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n", broker.port());
    rig.reload(&[&cam, LOW, &mqtt]);
    rig.wait_for("the event reaches it", |rig| {
        rig.metric("spotd_publisher_sent_total{publisher=\"mqtt\"}") >= Some(1)
    });
    assert_eq!(rig.daemon.log().matches("delivers").count(), 1, "the source was opened again");
    rig.reload(&[&cam, LOW]);
    rig.wait_for("it is gone", |rig| rig.metric("spotd_publisher_sent_total{publisher=\"mqtt\"}").is_none());
    assert_eq!(rig.daemon.terminate(), Some(0));
}
