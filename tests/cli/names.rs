//! File names that are not valid text, or that contain control sequences.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::Value;

use crate::pictures::textured;
use crate::setup::{Site, printed, said, spotd};

fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Pictures with odd names, and the names in the order in which a folder is searched.
fn odd_names(site: &Site) -> [&'static [u8]; 4] {
    let names: [&[u8]; 4] = [b"a\x1b[2Jb\nc.png", b"caf\xe9.png", b"clip?key=1:2@3.png", b"z.png"];
    std::fs::create_dir(site.path("odd")).expect("a folder");
    for bytes in names {
        let path = site.path("odd").join(name(bytes));
        textured(30, 72, 64).save_with_format(path, image::ImageFormat::Png).expect("saved");
    }
    names
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))
}

#[test]
fn every_name_is_judged_and_given_to_programs_exactly() {
    let site = Site::new();
    let names = odd_names(&site);
    // Via the folder, and each by its name.
    let folder = site.spotd("scan --json --model brightness.onnx odd").output().expect("runs");
    let mut each = site.spotd("scan --json --model brightness.onnx");
    each.args(
        names.map(|n| site.path("odd").join(name(n)).strip_prefix(site.path("")).expect("below").to_owned()),
    );
    for output in [folder, each.output().expect("runs")] {
        assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
        let rows: Vec<Value> = printed(&output).lines().map(json).collect();
        assert_eq!(rows.len(), names.len());
        for (row, bytes) in rows.iter().zip(names) {
            assert_eq!(row["verdict"], "clear", "{row}");
            let whole = [b"odd/", bytes].concat();
            match std::str::from_utf8(&whole) {
                Ok(text) => {
                    assert_eq!((row["path"].as_str(), &row["path_bytes"]), (Some(text), &Value::Null))
                }
                Err(_) => {
                    assert_eq!(row["path"], "odd/caf\\xe9.png");
                    assert_eq!(row["path_bytes"], serde_json::json!(whole));
                }
            }
        }
    }
}

#[test]
fn tables_and_messages_show_them_escaped() {
    let site = Site::new();
    odd_names(&site);
    std::fs::write(site.path("odd").join(name(b"cut\x1b\xe9.png")), b"no picture").expect("written");
    let output = site.spotd("scan --model brightness.onnx odd").output().expect("runs");
    assert_eq!(output.status.code(), Some(2), "one that cannot be read does not stop the others");
    let table = printed(&output);
    for shown in [
        "odd/a\\u{1b}[2Jb\\nc.png",
        "odd/caf\\xe9.png",
        "odd/clip?key=1:2@3.png",
        "odd/cut\\u{1b}\\xe9.png",
        "z.png",
    ] {
        assert_eq!(table.lines().filter(|line| line.contains(shown)).count(), 1, "{shown}: {table}");
    }
    assert!(!table.contains('\x1b'), "{table:?}");

    // Messages of the other commands.
    for bytes in [&b"set\x1b[2J\xe9"[..], b"set\n\xe9"] {
        let set = site.path(name(bytes));
        std::fs::create_dir_all(set.join("0_real")).expect("a folder");
        std::fs::create_dir_all(set.join("1_fake")).expect("a folder");
        for label in ["0_real", "1_fake"] {
            for n in 0..2 {
                textured(if n == 0 { 30 } else { 200 }, 72, 64)
                    .save(set.join(format!("{label}/{n}.png")))
                    .expect("saved");
            }
        }
        std::fs::write(set.join("0_real").join(name(b"bad\x1b\xe9.png")), b"no picture").expect("written");
        let mut eval = spotd(["eval", "--view", "crop", "--bootstrap", "0", "--model"]);
        eval.arg(site.path("brightness.onnx")).arg("--json").arg(&set);
        let output = eval.output().expect("runs");
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains("bad\\u{1b}\\xe9.png: skipped") && !said(&output).contains('\x1b'),
            "{}",
            said(&output)
        );
        let rows: Vec<Value> = printed(&output).lines().map(json).collect();
        let skipped = rows.iter().find(|row| row["kind"] == "skipped").expect("it is told");
        let bytes = skipped["path_bytes"].as_array().expect("bytes");
        assert!(
            bytes.ends_with(serde_json::json!(b"bad\x1b\xe9.png").as_array().expect("an array")),
            "{skipped}"
        );
    }
    let output = spotd([OsStr::new("verify"), name(b"no\x1b\xe9log")]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no\\u{1b}\\xe9log"), "{}", said(&output));
}

#[test]
fn the_daemon_takes_them_too() {
    let site = Site::new();
    let (log, clip) = (site.path(name(b"log\xe9")), site.path(name(b"clips\xe9")));
    std::fs::rename(site.path("footage"), &clip).expect("renamed");
    let mut run = site.spotd("run --fps 20 --source");
    let output = run.arg(&clip).arg("--log-dir").arg(&log).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("clips\\xe9") && said(&output).contains("log\\xe9"), "{}", said(&output));
    let verified = spotd([OsStr::new("verify"), log.as_os_str()]).output().expect("runs");
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
}
