//! A folder with everything that the commands need, and the commands.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use spotd::clock::SystemClock;
use spotd::flaglog::FlagLog;
use spotd::verdict::EventKind;

use crate::{model, pictures, records};

/// `spotd` with a clean environment.
pub fn spotd<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spotd"));
    command.args(args);
    for name in ["CI", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_LOG", "RUST_LOG_STYLE"] {
        command.env_remove(name);
    }
    command
}

/// A command's standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Its standard output.
pub fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Model, pictures, labelled sets, footage and a flag log.
pub struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        model::write_brightness(dir.path());
        let site = Self { dir };
        for (folder, brightness) in [("sets/set/0_real", 30), ("sets/set/1_fake", 230), ("footage", 30)] {
            std::fs::create_dir_all(site.path(folder)).expect("a folder");
            for n in 0..20u8 {
                let path = site.path(format!("{folder}/{n:02}.png"));
                pictures::textured(brightness + n % 5, 72, 64).save(path).expect("saved");
            }
        }
        let config = records::config(&site.path("flags"));
        let mut log = FlagLog::open(&config, "box", SystemClock::shared()).expect("opened");
        for _ in 0..3 {
            log.append(records::new_record("cam", EventKind::Start), None).expect("append");
        }
        drop(log);
        std::fs::write(
            site.path("spotd.toml"),
            "[model]\npath = \"brightness.onnx\"\n[log]\ndir = \"flags\"\n[[source]]\nid = \"cam\"\nuri = \"footage\"\n",
        )
        .expect("written");
        site
    }

    /// A path in its folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command with these arguments, run in the folder.
    pub fn spotd(&self, line: &str) -> Command {
        let mut command = spotd(line.split_whitespace());
        command.current_dir(self.dir.path());
        command
    }
}
