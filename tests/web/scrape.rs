//! A real Prometheus scrapes the daemon, and its own tool reads what is given to operators.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::box_of::SpotdBox;
use crate::common::free_port;

fn is_here(program: &str) -> bool {
    let here = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !here {
        println!("\n*** SKIPPED: no {program} here; metrics were read by no Prometheus ***\n");
    }
    here
}

#[test]
fn the_rules_are_ones_that_prometheus_takes_and_the_dashboard_asks_for_what_there_is() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let dashboard =
        std::fs::read_to_string(root.join("contrib/grafana-dashboard.json")).expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let rules = std::fs::read_to_string(root.join("contrib/prometheus-rules.yml")).expect("rules");
    let listed = include_str!("../../docs/METRICS.md");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let asked = panels.map(|p| p["targets"][0]["expr"].as_str().expect("a query").to_owned());
    for text in asked.chain([rules]) {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|w| w.starts_with("spotd_") || w.starts_with("process_")) {
            let name = name.trim_end_matches("_bucket");
            assert!(listed.contains(&format!("| `{name}")), "{name} is asked for and does not exist");
        }
    }
    if is_here("promtool") {
        let output = Command::new("promtool")
            .args(["check", "rules"])
            .arg(root.join("contrib/prometheus-rules.yml"))
            .output()
            .expect("promtool runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn promtool_finds_nothing_to_mend() {
    if !is_here("promtool") {
        return;
    }
    let watched = SpotdBox::start("", "");
    watched.flagged();
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let text = watched.get("/metrics", &[]).body;
    std::io::Write::write_all(&mut tool.stdin.take().expect("a pipe"), &text).expect("read");
    let output = tool.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn prometheus_scrapes_it_with_the_token() {
    if !is_here("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let token = dir.path().join("token");
    std::fs::write(&token, "a token of some length").expect("written");
    let watched = SpotdBox::start(&format!("token_file = {token:?}"), "");
    let (port, config) = (free_port(), dir.path().join("prometheus.yml"));
    let text = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: spotd\n    static_configs: \
         [{{ targets: [\"127.0.0.1:{}\"] }}]\n    authorization: {{ credentials_file: {token:?} }}\nrule_files: [{:?}]\n",
        watched.port,
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/prometheus-rules.yml"),
    );
    std::fs::write(&config, text).expect("written");
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus starts");
    let ask = |query: &str| -> Option<Value> {
        let url = format!("http://127.0.0.1:{port}/api/v1/query?query={query}");
        let text = ureq::get(url).call().ok()?.body_mut().read_to_string().ok()?;
        let answer: Value = serde_json::from_str(&text).ok()?;
        answer["data"]["result"].get(0).map(|r| r["value"][1].clone())
    };
    let begun = Instant::now();
    let mut got = None;
    while begun.elapsed() < Duration::from_secs(60) && got.is_none() {
        got = ask("spotd_source_judged_total%7Bsource%3D%22studio.1%22%7D");
        std::thread::sleep(Duration::from_millis(200));
    }
    let up = ask("up");
    prometheus.kill().expect("ended");
    prometheus.wait().expect("ended");
    assert_eq!(up, Some("1".into()), "the scrape failed");
    assert!(got.is_some(), "nothing was scraped");
}
