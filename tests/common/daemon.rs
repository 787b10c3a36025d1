//! The daemon's own binary, run as a service manager would.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a daemon is told about what its configuration leaves open, as variables of its environment. No page, since many run
/// at once: each test that wants one chooses its port. And no room kept free on the disk: a machine whose disk is
/// nearly full would lose the evidence that a test asks for.
pub fn left_open(config: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    [("[web]", "SPOTD__WEB__ENABLED", "false"), ("min_free_mib", "SPOTD__LOG__MIN_FREE_MIB", "0")]
        .into_iter()
        .filter(move |(said, ..)| !config.contains(said))
        .map(|(_, variable, value)| (variable, value))
}

/// A daemon that is killed when dropped.
pub struct Daemon {
    child: Child,
    stderr: PathBuf,
}

impl Daemon {
    /// Starts it; its log goes into a file in `dir`.
    pub fn start(config: &Path, dir: &Path) -> Self {
        Self::start_under(&[], config, dir)
    }

    /// The same, started by another program that execs it, given with its arguments.
    pub fn start_under(wrapper: &[&str], config: &Path, dir: &Path) -> Self {
        let stderr = dir.join("daemon.log");
        let log = std::fs::File::create(&stderr).expect("a log");
        let spotd = env!("CARGO_BIN_EXE_spotd");
        let (program, arguments) = wrapper.split_first().map_or((spotd, &[][..]), |(p, rest)| (*p, rest));
        let text = std::fs::read_to_string(config).unwrap_or_default();
        let child = Command::new(program)
            .args(arguments)
            .args((!wrapper.is_empty()).then_some(spotd))
            .args(["run", "--config"])
            .arg(config)
            .envs(left_open(&text))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("spotd starts");
        Self { child, stderr }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ = std::fs::File::open(&self.stderr).and_then(|mut f| f.read_to_string(&mut text));
        text
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops it as systemd would, and returns its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM")
    }

    /// Sends it a signal and waits for its end; returns its exit code, `None` if a signal ended it.
    pub fn signal(&mut self, name: &str) -> Option<i32> {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
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

/// Runs another of its commands: exit code, standard output and standard error.
pub fn spotd(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_spotd")).args(args).output().expect("spotd runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8") + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}
