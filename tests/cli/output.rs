//! Output that cannot be written.

use std::fs::File;

use crate::setup::{Site, said};
use crate::tmpfs::SmallDisk;

/// All commands that print something, with arguments for it.
const COMMANDS: [&str; 17] = [
    "--help",
    "--version",
    "scan --help",
    "scan --model brightness.onnx footage",
    "scan --model brightness.onnx --json footage",
    "scan nothing-here",
    "check --config spotd.toml",
    "check --json --config nowhere.toml",
    "log flags",
    "log --json --follow flags",
    "verify flags",
    "verify --json flags",
    "eval --model brightness.onnx --view crop --bootstrap 0 sets",
    "eval --model brightness.onnx --view crop --bootstrap 0 --json sets",
    "spectrum --size 64 --out spectra sets",
    "calibrate --model brightness.onnx --real long --per-day 1 --out site.toml",
    "bench --model brightness.onnx --seconds 1",
];

fn assert_refused(site: &Site, line: &str, out: File) {
    let output = site.spotd(line).stdout(out).output().expect("spotd runs");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "spotd {line}: {said}");
    assert!(
        said.contains("standard output cannot be written: No space left on device"),
        "spotd {line}: {said}"
    );
}

#[test]
fn no_command_says_that_all_is_well() {
    let site = Site::new();
    std::fs::create_dir(site.path("long")).expect("a folder");
    for n in 0..300 {
        std::fs::hard_link(
            site.path(format!("footage/{:02}.png", n / 9 * 7 % 20)),
            site.path(format!("long/{n:03}.png")),
        )
        .expect("linked");
    }
    std::thread::scope(|scope| {
        for lines in COMMANDS.chunks(COMMANDS.len().div_ceil(3)) {
            let site = &site;
            scope.spawn(move || {
                for line in lines {
                    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
                    assert_refused(site, line, full);
                }
            });
        }
    });
}

#[test]
fn nor_on_a_disk_that_is_full() {
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(64) else { return };
    let mut hog = File::create(disk.hog()).expect("created");
    while std::io::Write::write_all(&mut hog, &[1; 4096]).is_ok() {}
    for line in ["scan --model brightness.onnx --json footage", "log --json flags"] {
        assert_refused(&site, line, File::create(disk.path().join("out")).expect("an empty file has room"));
    }
}
