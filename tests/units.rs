//! systemd's own tools accept the units and rate them as hardened.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the service may be exposed to, in tenths, as `systemd-analyze security` counts.
const EXPOSURE: u32 = 18;

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

/// `systemd-analyze` with these arguments; `None` where it is not installed.
fn analyze(arguments: &[&str], unit: &Path) -> Option<(bool, String)> {
    let output = Command::new("systemd-analyze").args(arguments).arg("--no-pager").arg(unit).output();
    let Ok(output) = output else {
        eprintln!("\n*** SKIPPED: what systemd says of its units: there is no systemd-analyze here ***\n");
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn the_units_are_valid_and_hardened() {
    let dir = tempfile::tempdir().expect("tempdir");
    for (name, here) in [("spotd.service", "spotd.service"), ("spotd@.service", "spotd@door.service")] {
        // The program is not installed, and `verify` looks for it.
        let text = std::fs::read_to_string(unit(name)).expect("a unit");
        let text = text.replace("/usr/bin/spotd", env!("CARGO_BIN_EXE_spotd"));
        let copy = dir.path().join(here);
        std::fs::write(&copy, text).expect("written");
        let Some((_, said)) = analyze(&["verify", "--man=no"], &copy) else { return };
        // Units of the machine may have their own faults.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("spotd")).collect();
        assert!(ours.is_empty(), "{ours:#?}");
        let threshold = format!("--threshold={EXPOSURE}");
        let (well, said) =
            analyze(&["security", "--offline=true", &threshold], &copy).expect("it is installed");
        assert!(well, "{said}");
    }
}

#[test]
fn an_instance_is_the_service_but_for_its_names() {
    let read = |name: &str| std::fs::read_to_string(unit(name)).expect("a unit");
    let (one, many) = (read("spotd.service"), read("spotd@.service"));
    let settings = |text: &str| {
        text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let only = |of: &[String], than: &[String]| {
        of.iter().filter(|line| !than.contains(line)).cloned().collect::<Vec<_>>()
    };
    let (one, many) = (settings(&one), settings(&many));
    assert_eq!(
        only(&many, &one),
        [
            "Description=spotd, a detector of CNN-generated video, for %I",
            "Environment=SPOTD__NODE__NAME=%H-%i SPOTD__LOG__DIR=/var/lib/spotd/%i/flags",
            "ExecStart=/usr/bin/spotd run --config /etc/spotd/%i.toml",
            "StateDirectory=spotd/%i",
        ]
    );
    assert_eq!(only(&one, &many).len(), 3, "{:#?}", only(&one, &many));
}
