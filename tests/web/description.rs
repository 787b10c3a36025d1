//! The API's description, run against the daemon by schemathesis.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::box_of::SpotdBox;

#[test]
fn the_daemon_answers_as_it_describes_itself() {
    let watched = SpotdBox::start("", "");
    let description = watched.get("/api/v1/openapi.json", &[]).json();
    let about = watched.get("/api/v1", &[]).json();
    assert_eq!(description["info"]["version"], json!(about["schema"].to_string()));

    let program =
        std::env::var_os("SPOTD_SCHEMATHESIS").map(PathBuf::from).filter(|program| program.exists());
    let Some(program) = program else {
        eprintln!(
            "*** SKIPPED: schemathesis; SPOTD_SCHEMATHESIS names no program (`make test` installs it) ***"
        );
        return;
    };
    watched.wait("the event", |b| {
        let events = b.get("/api/v1/events", &[]).json();
        events["events"].as_array().is_some_and(|all| !all.is_empty()).then_some(())
    });
    let run = Command::new(program)
        .current_dir(watched.dir.path())
        .args(["run", &watched.url("/api/v1/openapi.json"), "--seed", "1", "--no-color", "--workers", "2"])
        .args([
            "--max-examples",
            "15",
            "--max-time",
            "60",
            "--phases",
            "coverage,fuzzing",
            "--request-timeout",
            "10",
        ])
        // As the page itself asks: anybody else may change nothing.
        .args(["--header", &format!("Origin: {}", watched.url(""))])
        // A stream of events has no end.
        .args(["--exclude-path", "/api/v1/live"])
        // An id in the form of an id is an unknown one, and what is no id is told so: both are as described.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .output()
        .expect("schemathesis");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("/api/v1/sources/{id}/map") || said.contains("passed"), "{said}");
}
