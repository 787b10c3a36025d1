//! Logins are never shown, whatever they contain and wherever they are given.

use std::process::Output;

use proptest::prelude::*;
use spotd::shown::{Sensitive, redact};
use spotd::source::SourceUri;

use crate::setup::Site;

/// Characters that people type into an address without escaping them.
const SIGNS: [&str; 7] = ["#", "?", "/", "@", ":", "%", " "];

/// Words that only occur in messages if a login leaks.
fn word() -> impl Strategy<Value = String> {
    "kwq[0-9]z".prop_map(|word| word)
}

/// A user or a password: such words, with these characters between and around them.
fn part() -> impl Strategy<Value = String> {
    let sign = || prop::option::of(prop::sample::select(&SIGNS[..]));
    prop::collection::vec((sign(), word(), sign()), 1..4).prop_map(|parts| {
        parts
            .into_iter()
            .map(|(a, word, b)| format!("{}{word}{}", a.unwrap_or(""), b.unwrap_or("")))
            .collect()
    })
}

/// An address with a login. Nobody listens on the port.
fn address() -> impl Strategy<Value = String> {
    let scheme = prop::sample::select(&["rtsp", "RTSP", "Rtspu", "http", "HTTPS"][..]);
    (scheme, part(), part())
        .prop_map(|(scheme, user, password)| format!("{scheme}://{user}:{password}@127.0.0.1:9/x"))
}

fn shows(text: &str) -> bool {
    text.to_ascii_lowercase().contains("kwq")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_formats_a_login(address in address()) {
        let given = Sensitive::from(address.as_str());
        prop_assert!(!shows(&format!("{given} {given:?}")), "{given}");
        match SourceUri::parse(&address) {
            Ok(uri) => {
                let texts = format!("{uri} {uri:?} {} {}", uri.doubt(), uri.hide(&format!("cannot open {uri}")));
                prop_assert!(!shows(&texts), "{texts}");
            }
            Err(why) => prop_assert!(!shows(&why), "{why}"),
        }
        // In a text it may be quoted.
        let quoted = redact(&format!("invalid value '{address}' for it"));
        prop_assert!(!shows(&quoted), "{quoted}");
    }

    #[test]
    fn how_to_write_such_a_sign_is_said(user in "kwq[0-9]z", a in "kwq[0-9]z", b in "kwq[0-9]z", sign in "[#?%]") {
        let why = SourceUri::parse(&format!("rtsp://{user}:{a}{sign}{b}@127.0.0.1:9/x")).expect_err("it is cut");
        let escape = format!("{sign} ").trim().to_owned() + &format!(" as %{:02X}", sign.as_bytes()[0]);
        let escape = if sign == "%" { "write it as %25".to_owned() } else { escape };
        prop_assert!(why.contains(&escape), "{why}");
    }
}

/// Every place of a command line, a configuration and the environment where an address may be given
/// or end up by mistake.
fn commands(site: &Site, address: &str) -> Vec<(String, Output)> {
    let quoted = toml::Value::String(address.to_owned()).to_string();
    let head = "[model]\npath = \"brightness.onnx\"\n[log]\ndir = \"new\"\n";
    let source = |id: &str, uri: &str| format!("[[source]]\nid = {id}\nuri = {uri}\n");
    for (name, text) in [
        ("uri.toml", format!("{head}{}", source("\"cam\"", &quoted))),
        ("id.toml", format!("{head}{}", source(&quoted, "\"footage\""))),
        ("fps.toml", format!("{head}{}fps = {quoted}\n", source("\"cam\"", "\"footage\""))),
        ("list.toml", format!("{head}source = {quoted}\n")),
        ("mqtt.toml", format!("{head}{}[mqtt]\nurl = {quoted}\n", source("\"cam\"", "\"footage\""))),
    ] {
        std::fs::write(site.path(name), text).expect("written");
    }
    let lines = [
        "scan --model brightness.onnx ADDRESS",
        "scan --json --model brightness.onnx ADDRESS footage/01.png",
        "scan --model ADDRESS footage",
        "scan --fps ADDRESS footage",
        "scan --fps=ADDRESS footage",
        "calibrate --model brightness.onnx --per-day 1 --out x.toml --real ADDRESS",
        "calibrate --model brightness.onnx --per-day ADDRESS --out x.toml --real footage",
        "quantize --model brightness.onnx --out x.onnx --calibrate ADDRESS",
        "quantize --model brightness.onnx --out ADDRESS --calibrate footage",
        "eval --model brightness.onnx ADDRESS",
        "spectrum --out spectra ADDRESS",
        "bench --model ADDRESS",
        "bench --config ADDRESS",
        "check --config ADDRESS",
        "check --timeout 1 --config uri.toml",
        "check --json --timeout 1 --config uri.toml",
        "run -v --for-seconds 1 --config uri.toml",
        "run -v --for-seconds 1 --log-dir new --source ADDRESS",
        "run --config id.toml",
        "run --config fps.toml",
        "run --config list.toml",
        "run --config mqtt.toml",
        "run --config ADDRESS",
        "log ADDRESS",
        "log --config ADDRESS",
        "log flags --source ADDRESS",
        "log flags export ADDRESS",
        "verify ADDRESS",
        "verify --public-key ADDRESS flags",
        "sources ADDRESS",
        "ADDRESS",
        "--ADDRESS",
    ];
    let run = |line: &str| {
        let mut command = crate::setup::spotd(line.split(' ').map(|word| word.replace("ADDRESS", address)));
        command.current_dir(site.path("")).output().expect("runs")
    };
    let mut outputs: Vec<(String, Output)> = std::thread::scope(|scope| {
        let (run, half) = (&run, lines.len() / 2);
        let some = |lines: &'static [&'static str]| {
            scope.spawn(move || lines.iter().map(|line| ((*line).to_owned(), run(line))).collect::<Vec<_>>())
        };
        let lines: &'static [&'static str] = Vec::leak(lines.to_vec());
        let (a, b) = (some(&lines[..half]), some(&lines[half..]));
        [a.join().expect("no panic"), b.join().expect("no panic")].concat()
    });
    for variable in ["SPOTD__SOURCE", "SPOTD__MODEL__PATH", "SPOTD__LOG", "SPOTD__MODEL__PRECISION"] {
        let mut command = site.spotd("run --for-seconds 0 --config spotd.toml");
        outputs.push((variable.to_owned(), command.env(variable, address).output().expect("runs")));
    }
    outputs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_command_shows_a_login(address in address()) {
        let site = Site::new();
        for (line, output) in commands(&site, &address) {
            for text in [&output.stdout, &output.stderr] {
                let text = String::from_utf8_lossy(text);
                prop_assert!(!shows(&text), "spotd {line} with {address}: {text}");
            }
        }
    }
}
