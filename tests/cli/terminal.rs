//! Colours and progress lines on a real terminal.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::setup::Site;

/// Runs a command whose standard error is a terminal, and returns what was written there.
fn on_a_terminal(command: &mut Command) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let name = ptsname(&master, Vec::new()).expect("its name");
    let slave =
        File::options().read(true).write(true).open(name.to_str().expect("ASCII")).expect("its other end");
    let mut child = command.stdout(Stdio::null()).stderr(slave).spawn().expect("spotd starts");
    // The command holds the other end as long as this value lives.
    command.stderr(Stdio::null());
    let mut shown = Vec::new();
    // Reading a terminal that nobody holds any more fails.
    let _ = File::from(master).read_to_end(&mut shown);
    child.wait().expect("waited");
    String::from_utf8_lossy(&shown).into_owned()
}

/// Whether colours are set: `ESC [ ... m`.
fn coloured(text: &str) -> bool {
    text.match_indices("\x1b[").any(|(at, _)| {
        let rest = text[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest.starts_with('m')
    })
}

#[test]
fn what_the_environment_says_of_colours_is_obeyed() {
    let site = Site::new();
    // Log lines with progress lines below, and clap's own messages.
    for line in ["run --source footage --fps 10 --log-dir new", "scan --no-such-option"] {
        let shown = |settings: &[(&str, &str)]| {
            let mut command = site.spotd(line);
            command.env("TERM", "xterm-256color").envs(settings.iter().copied());
            let shown = on_a_terminal(&mut command);
            assert!(shown.contains("footage") || shown.contains("--no-such-option"), "{shown:?}");
            shown
        };
        assert!(coloured(&shown(&[])), "spotd {line}");
        for setting in [("NO_COLOR", "1"), ("CLICOLOR", "0")] {
            let shown = shown(&[setting]);
            assert!(!coloured(&shown), "spotd {line} with {setting:?}: {shown:?}");
        }
        for more in [("TERM", "dumb"), ("CI", "true")] {
            let shown = shown(&[("TERM", "dumb"), more]);
            assert!(!shown.contains('\x1b'), "spotd {line} with TERM=dumb: {shown:?}");
        }
        assert!(coloured(&shown(&[("CLICOLOR", "0"), ("CLICOLOR_FORCE", "1")])), "spotd {line}");
    }
}

#[test]
fn without_a_terminal_there_are_no_colours_unless_they_are_forced() {
    let site = Site::new();
    let said = |settings: &[(&str, &str)]| {
        let mut command = site.spotd("run --source footage --fps 10 --log-dir new");
        let output = command.env("TERM", "xterm").envs(settings.iter().copied()).output().expect("runs");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(!said(&[]).contains('\x1b'));
    assert!(coloured(&said(&[("CLICOLOR_FORCE", "1")])));
    assert!(!coloured(&said(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")])));
}
