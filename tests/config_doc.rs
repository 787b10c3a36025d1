//! `docs/CONFIG.md` agrees with the code: its example is valid, and it names every key that exists.

use std::path::Path;

const DOC: &str = include_str!("../docs/CONFIG.md");

fn parse(text: &str) -> Result<spotd::config::Config, spotd::config::ConfigError> {
    spotd::config::parse(text, Path::new("doc.toml"), std::iter::empty())
}

fn example() -> &'static str {
    let start = DOC.find("```toml\n").expect("an example") + "```toml\n".len();
    &DOC[start..start + DOC[start..].find("```").expect("its end")]
}

/// The keys of a table, from the code's own refusal of an unknown one.
fn keys(table: &str) -> Vec<String> {
    let is_list = matches!(table, "source" | "webhook");
    let header = if is_list { format!("[[{table}]]") } else { format!("[{table}]") };
    let error = parse(&format!("{header}\nqqqqqqqqqq = 1\n")).expect_err("refused").to_string();
    let known = error.split("Known here: ").nth(1).unwrap_or_else(|| panic!("no list of keys in: {error}"));
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_example_is_valid() {
    // The example names files of secrets, which only the user has.
    let text = example().replace("password_file = \"mqtt-password\"\n", "password = \"x\"\n");
    let text =
        text.replace("secret_file = \"webhook-secret\"\n", "").replace("token_file = \"web-token\"\n", "");
    let config = parse(&text).expect("the example is valid");
    assert_eq!((config.sources.len(), config.webhooks.len()), (2, 1));
}

#[test]
fn every_key_is_documented_and_in_the_example_and_no_other() {
    let mut documented: Vec<String> = DOC
        .lines()
        .filter_map(|l| l.strip_prefix("| `")?.split_once('`').map(|(key, _)| key.to_owned()))
        .filter(|k| k.contains('.') && !k.contains('/'))
        .collect();
    let mut existing = Vec::new();
    for table in ["node", "model", "source", "verdict", "log", "mqtt", "webhook", "metrics", "web"] {
        for key in keys(table) {
            if key != "password" {
                assert!(example().contains(&format!("\n{key} = ")), "{table}.{key} is not in the example");
            }
            existing.push(format!("{table}.{key}"));
        }
    }
    documented.sort();
    existing.sort();
    assert_eq!(documented, existing);
}
