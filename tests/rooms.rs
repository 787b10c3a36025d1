//! The table of rooms in `docs/ARCHITECTURE.md` agrees with the code: each room has its row, uses
//! exactly the rooms that its row names, and no two of them use each other, not even indirectly.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Uses = BTreeMap<String, BTreeSet<String>>;

/// Where rooms lie: the folder, the crates whose rooms its code names, and its own name where all of it is one room.
const FOLDERS: [(&str, &[&str], Option<&str>); 6] = [
    ("src", &["crate", "spotd", "spotd_core"], None),
    ("address/src", &["spotd_core"], Some("address")),
    ("core/src", &["crate"], None),
    ("flaglog/src", &["spotd_core"], Some("flaglog")),
    ("frame/src", &["spotd_core"], Some("frame")),
    ("verify/src", &["spotd_core"], Some("verify")),
];

/// What each room uses, by the rooms' names.
fn used() -> Uses {
    let mut found = Uses::new();
    for (folder, crates, whole) in FOLDERS {
        for entry in fs::read_dir(root().join(folder)).expect(folder) {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_str().expect("ASCII").to_owned();
            let room = whole.map_or(name.clone(), str::to_owned);
            if whole.is_some() || !matches!(&*name, "lib" | "main") {
                read(&path, &room, crates, &mut found);
            }
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path, room: &str, crates: &[&str], found: &mut Uses) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            read(&entry.expect("an entry").path(), room, crates, found);
        }
        return;
    }
    // Tests may use anything.
    if path.ends_with("tests.rs") || path.iter().any(|part| part == "tests") {
        return;
    }
    let text = fs::read_to_string(path).expect("a source file");
    let text = text.split("#[cfg(test)]\nmod tests {").next().expect("a beginning");
    let code: String =
        text.lines().map(|l| l.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let rooms = found.entry(room.to_owned()).or_default();
    rooms.extend(crates.iter().flat_map(|name| named(&code, name)).filter(|other| other != room));
    // Members that are one room each are used by their own names.
    for member in ["address", "flaglog", "frame", "verify"] {
        if member != room && code.contains(&format!("spotd_{member}::")) {
            rooms.insert(member.to_owned());
        }
    }
}

/// The rooms of a crate that a piece of code names: after `crate::`, also as a list in braces.
fn named(code: &str, krate: &str) -> Vec<String> {
    let mut out = Vec::new();
    for rest in code.split(&format!("{krate}::")).skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            out.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut at_start = true;
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                c if at_start && !c.is_whitespace() => {
                    out.push(word(&list[i..]));
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    out
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// What the table says, by rooms; `None` where a room may use all.
fn written() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let text = include_str!("../docs/ARCHITECTURE.md");
    let table =
        text.split("\n## Rooms\n").nth(1).expect("the rooms").split("\n## ").next().expect("their end");
    let mut out = BTreeMap::new();
    for row in table.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [rooms, _, uses] = cells[..] else { panic!("three cells: {row}") };
        let quoted = |cell: &str| -> BTreeSet<String> {
            cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        for room in quoted(rooms) {
            // The manifests of workspace members limit what they use.
            if !room.ends_with('/') {
                let uses = (uses.trim() != "all").then(|| quoted(uses));
                assert!(out.insert(room.clone(), uses).is_none(), "{room} has two rows");
            }
        }
    }
    out
}

#[test]
fn each_room_uses_what_the_table_says() {
    let (used, written) = (used(), written());
    let names = |rooms: &BTreeSet<String>| rooms.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut wrong = Vec::new();
    for (room, uses) in &used {
        match written.get(room) {
            None => wrong.push(format!("{room} has no row; it uses {}", names(uses))),
            Some(Some(row)) if row != uses => {
                wrong.push(format!("{room} uses {}; its row says {}", names(uses), names(row)));
            }
            Some(_) => {}
        }
    }
    wrong.extend(
        written.keys().filter(|room| !used.contains_key(*room)).map(|room| format!("{room} is gone")),
    );
    assert!(wrong.is_empty(), "docs/ARCHITECTURE.md, Rooms:\n{}", wrong.join("\n"));
}

#[test]
fn no_two_rooms_use_one_another() {
    let used = used();
    for room in used.keys() {
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![room]);
        while let Some(next) = ahead.pop() {
            for other in used.get(next).into_iter().flatten() {
                assert_ne!(other, room, "{room} uses {next}, which leads back to it");
                if seen.insert(other) {
                    ahead.push(other);
                }
            }
        }
    }
}

/// What a member depends on, by its manifest: other members by their names, and of the rest all that the lock file says.
fn depends_on(member: &str, lock: &[toml::Table]) -> BTreeSet<String> {
    let direct = |folder: &str| -> Vec<String> {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect(folder);
        let manifest: toml::Table = text.parse().expect(folder);
        manifest["dependencies"].as_table().expect("a table").keys().cloned().collect()
    };
    let mut found = BTreeSet::new();
    let mut ahead = direct(member);
    while let Some(name) = ahead.pop() {
        if !found.insert(name.clone()) {
            continue;
        }
        if let Some(member) = name.strip_prefix("spotd-") {
            ahead.extend(direct(member));
            continue;
        }
        for package in lock.iter().filter(|p| p["name"].as_str() == Some(&name)) {
            let needs = package.get("dependencies").and_then(|d| d.as_array());
            let name = |need: &toml::Value| need.as_str()?.split(' ').next().map(str::to_owned);
            ahead.extend(needs.into_iter().flatten().filter_map(name));
        }
    }
    found
}

#[test]
fn who_verifies_evidence_needs_no_engine_no_media_framework_and_no_network() {
    let lock: toml::Table =
        fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock").parse().expect("TOML");
    let lock: Vec<toml::Table> =
        lock["package"].as_array().expect("packages").iter().filter_map(|p| p.as_table().cloned()).collect();
    let kept_out = |name: &str| {
        let families =
            ["tract", "gstreamer", "glib", "rumqtt", "rustls", "ureq", "hyper", "tokio", "image", "png"];
        families.iter().any(|family| name.starts_with(family))
            || ["spotd", "spotd-kernels", "openssl", "url", "zune-jpeg", "v4l", "tch"].contains(&name)
    };
    for (member, knows) in [("core", "serde"), ("flaglog", "spotd-core"), ("verify", "spotd-flaglog")] {
        let found = depends_on(member, &lock);
        assert!(found.contains(knows), "{member}: {found:?}");
        let wrong: Vec<&String> = found.iter().filter(|name| kept_out(name)).collect();
        assert!(wrong.is_empty(), "{member}/ depends on {wrong:?}");
    }
    // What is kept out is told by names that the daemon does depend on.
    let mut daemon: BTreeSet<&str> = BTreeSet::new();
    for package in &lock {
        daemon.extend(package["name"].as_str().filter(|name| kept_out(name)));
    }
    for name in ["tract-onnx", "gstreamer", "rumqttc", "image"] {
        assert!(daemon.contains(name), "{name} is called otherwise now; the test above finds nothing");
    }
}

#[test]
fn uses_are_found_however_they_are_written() {
    let code = "use crate::clock::{Stop, Moment};\nuse crate::{\n    a::{b, c},\n    d, e::f,\n};\nlet x = crate::g::h();\n";
    assert_eq!(named(code, "crate"), ["clock", "a", "d", "e", "g"]);
}
