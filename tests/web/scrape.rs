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

fn dashboard() -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/grafana-dashboard.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("a dashboard")).expect("JSON")
}

/// What the dashboard's panels ask.
fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    panels.map(|p| p["targets"][0]["expr"].as_str().expect("a query").to_owned()).collect()
}

#[test]
fn one_dashboard_serves_a_fleet() {
    let variables = dashboard()["templating"]["list"].clone();
    let variable = |name: &str| variables.as_array().expect("a list").iter().any(|v| v["name"] == name);
    assert!(variable("node"), "{variables}");
    for query in queries() {
        assert!(
            query.contains("spotd_info{node=~\"$node\"}"),
            "{query} is of all boxes, whichever are chosen"
        );
    }
}

#[test]
fn the_rules_are_ones_that_prometheus_takes_and_the_dashboard_asks_for_what_there_is() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_to_string(root.join("contrib/prometheus-rules.yml")).expect("rules");
    let listed = include_str!("../../docs/METRICS.md");
    for text in queries().into_iter().chain([rules]) {
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
        let query = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
        let url = format!("http://127.0.0.1:{port}/api/v1/query?query={query}");
        let text = ureq::get(url).call().ok()?.body_mut().read_to_string().ok()?;
        let answer: Value = serde_json::from_str(&text).ok()?;
        answer["data"]["result"].get(0).cloned()
    };
    let begun = Instant::now();
    let patient = |query: &str| loop {
        let got = ask(query);
        if got.is_some() || begun.elapsed() > Duration::from_secs(60) {
            return got;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let got = patient("spotd_source_judged_total{source=\"studio.1\"}");
    let up = ask("up").map(|r| r["value"][1].clone());
    // What the dashboard asks, for all boxes; of what there always is, there is an answer that names the box.
    let always = ["_verdict{", "_judged_", "process_resident", "_free_bytes"];
    let answers: Vec<_> = queries()
        .into_iter()
        .filter(|query| always.iter().any(|part| query.contains(part)))
        .map(|query| (patient(&query.replace("$node", ".*")), query))
        .collect();
    prometheus.kill().expect("ended");
    prometheus.wait().expect("ended");
    assert_eq!(up, Some("1".into()), "the scrape failed");
    assert!(got.is_some(), "nothing was scraped");
    assert_eq!(answers.len(), always.len());
    for (answer, query) in answers {
        let answer = answer.unwrap_or_else(|| panic!("no answer to {query}"));
        assert!(answer["metric"]["node"].is_string(), "{query}: {answer}");
    }
}
