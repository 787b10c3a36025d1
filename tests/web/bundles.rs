//! One event as a file that others can check.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::box_of::SpotdBox;
use crate::browser::Browser;
use crate::common::daemon::spotd;
use crate::reviews::{id_of, judge, open_event};

/// Unpacks it with another program, and says what `spotd verify` finds in it.
fn checked(zip: &Path, id: &str) -> Value {
    let to = zip.with_extension("unpacked");
    let done = Command::new("unzip").arg("-q").arg(zip).arg("-d").arg(&to).output();
    let done = done.unwrap_or_else(|e| panic!("unzip: {e}; `make test` installs it"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let folder = to.join(format!("event-{id}"));
    assert_eq!(std::fs::read_dir(&to).expect("listed").count(), 1, "one folder holds everything");
    let (_, text) = spotd(&["verify", "--json", &folder.to_string_lossy()]);
    serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_bundle_is_an_export_that_verifies_with_what_was_said_of_the_event() {
    let watched = SpotdBox::start("", "");
    let id = id_of(&watched.flagged());
    assert_eq!(judge(&watched, &id, &json!({ "review": "confirmed", "by": "Jo" })).status, 201);
    let path = format!("/api/v1/events/{id}/bundle");
    let got = watched.get(&path, &[]);
    assert_eq!((got.status, got.header("content-type")), (200, "application/zip"), "{}", got.text());
    assert_eq!(got.header("content-disposition"), format!("attachment; filename=\"event-{id}.zip\""));
    let zip = watched.dir.path().join("got.zip");
    std::fs::write(&zip, &got.body).expect("written");
    let report = checked(&zip, &id);
    assert_eq!((&report["holds"], &report["export_of"]), (&json!(true), &json!(id)), "{report}");
    assert!(report["evidence_files"].as_u64() > Some(0) && report["reviews"] == json!(1), "{report}");
    // The command line gives the same.
    let exported = watched.dir.path().join("exported");
    let flags = watched.dir.path().join("flags").to_string_lossy().into_owned();
    let (code, said) = spotd(&["log", &flags, "export", &id, "--to", &exported.to_string_lossy()]);
    assert_eq!(code, Some(0), "{said}");
    let evidence = |root: &Path| -> Vec<String> {
        let folder = root.join("evidence").join(&id);
        let listed = std::fs::read_dir(folder).expect("listed");
        let mut names: Vec<_> =
            listed.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(evidence(&exported), evidence(&zip.with_extension("unpacked").join(format!("event-{id}"))));

    // Nothing is sent of what does not hold, and names lead nowhere else.
    for (path, status) in [
        ("/api/v1/events/01ARZ3NDEKTSV4RRFFQ69G5FAV/bundle", 404),
        ("/api/v1/events/..%2f..%2fetc/bundle", 400),
        ("/api/v1/events/x/bundle", 400),
    ] {
        assert_eq!(watched.get(path, &[]).status, status, "{path}");
    }
    let detail = watched.get(&format!("/api/v1/events/{id}"), &[]).json();
    let file = detail["first"]["evidence"]["frame"]["file"].as_str().expect("a file");
    let file = watched.dir.path().join("flags").join(file);
    let mut bytes = std::fs::read(&file).expect("the evidence");
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let refused = watched.get(&path, &[]);
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("does not hold"), "{}", refused.text());
    if Browser::is_here() {
        let browser = Browser::start(1280, 1000, false);
        open_event(&browser, &watched, &id);
        browser.run("document.getElementById('bundle').click()", &[]);
        let said = "return document.getElementById('bundle-problem').textContent.includes('does not hold')";
        browser.wait("what happened", said);
    }
}

#[test]
fn an_operator_downloads_the_evidence_from_the_page() {
    if !Browser::is_here() {
        return;
    }
    let watched = SpotdBox::start("", "");
    let id = id_of(&watched.flagged());
    let browser = Browser::start(1280, 1000, false);
    let downloads = watched.dir.path().join("downloads");
    std::fs::create_dir(&downloads).expect("a folder");
    browser
        .devtools("Browser.setDownloadBehavior", json!({ "behavior": "allow", "downloadPath": downloads }));
    open_event(&browser, &watched, &id);
    browser.run("document.getElementById('bundle').click()", &[]);
    let zip = downloads.join(format!("event-{id}.zip"));
    watched.wait("the download", |_| zip.exists().then_some(()));
    assert_eq!(checked(&zip, &id)["holds"], json!(true));
    assert_eq!(browser.complaints(), [""; 0]);
}
