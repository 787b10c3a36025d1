//! The environment's variables.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::setup::{Site, said};

const FOREIGN: &[u8] = b"caf\xe9";

#[test]
fn foreign_bytes_that_are_none_of_ours_are_left_alone() {
    let site = Site::new();
    let mut run = site.spotd("run --source footage --log-dir new --for-seconds 60");
    let output = run.env("X", OsStr::from_bytes(FOREIGN)).env(OsStr::from_bytes(FOREIGN), "x").output();
    let output = output.expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let checked = site.spotd("check --config spotd.toml").env("X", OsStr::from_bytes(FOREIGN)).output();
    assert_eq!(checked.expect("runs").status.code(), Some(0));
}

#[test]
fn a_variable_of_ours_that_is_no_text_is_named() {
    let site = Site::new();
    for line in ["run --config spotd.toml", "run --demo --log-dir new", "log --config spotd.toml"] {
        let output =
            site.spotd(line).env("SPOTD__NODE__NAME", OsStr::from_bytes(FOREIGN)).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(said(&output).contains("environment variable SPOTD__NODE__NAME: "), "{}", said(&output));
    }
    let name = OsStr::from_bytes(b"SPOTD__NODE__\xe9");
    let output = site.spotd("run --demo --log-dir new").env(name, "x").output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("SPOTD__NODE__\\xe9"), "{}", said(&output));
}

#[test]
fn a_text_stays_a_text_and_an_error_names_its_variable() {
    let site = Site::new();
    for name in ["007", "0.10"] {
        let output =
            site.spotd("check --config spotd.toml").env("SPOTD__NODE__NAME", name).output().expect("runs");
        let out = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(out.lines().next().is_some_and(|line| line.ends_with(&format!("node {name}"))), "{out}");
    }
    let output =
        site.spotd("run --config spotd.toml").env("SPOTD__VERDICT__WINDOW", "0").output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(
        said.starts_with("spotd: environment variable SPOTD__VERDICT__WINDOW: verdict.window = 0"),
        "{said}"
    );
}
