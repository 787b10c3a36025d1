//! The daemon's own binary, run as a service manager would.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A daemon that is killed when this is dropped.
pub struct Daemon {
    child: Child,
    stderr: PathBuf,
}

impl Daemon {
    /// Starts it; what it says goes into a file in `dir`.
    pub fn start(config: &Path, dir: &Path) -> Self {
        let stderr = dir.join("daemon.log");
        let log = std::fs::File::create(&stderr).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_spotd"))
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("spotd starts");
        Self { child, stderr }
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ = std::fs::File::open(&self.stderr).and_then(|mut f| f.read_to_string(&mut text));
        text
    }

    /// Ends it as systemd would, and gives its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
        self.child.wait().expect("waited").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon said:\n{}", self.log());
        }
    }
}

/// One of its other commands: exit code, and what it printed and said.
pub fn spotd(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_spotd")).args(args).output().expect("spotd runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8") + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}
