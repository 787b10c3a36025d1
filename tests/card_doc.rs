//! The tables of results in `docs/MODEL_CARD.md` and `README.md` agree with the card. `UPDATE=1`
//! rewrites them.

use std::fmt::Write as _;
use std::path::Path;

use spotd::detector::card::{Card, Measured};

const BEGIN: &str = "<!-- measured: written by `make card` from models/spotd-lite-int8.toml -->\n";
const END: &str = "<!-- end -->";

fn card() -> Card {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/spotd-lite-int8.toml");
    let mut card = Card::load(&path).expect("the shipped card");
    let ways: Vec<String> = perturbations(&card).into_iter().map(str::to_owned).collect();
    card.measured.sort_by_key(|m| {
        let way = ways.iter().position(|way| *way == m.perturbation);
        (way, !MATCHED.contains(&m.set.as_str()), m.seen, m.set.clone())
    });
    card
}

/// Sets whose two sides have the same origin, which are the most informative, come first; then
/// generators that were not trained on.
const MATCHED: [&str; 2] = ["video-sd-fairy", "web-ai"];

fn perturbations(card: &Card) -> Vec<&str> {
    let mut out: Vec<&str> = Vec::new();
    for m in &card.measured {
        if !out.contains(&m.perturbation.as_str()) {
            out.push(&m.perturbation);
        }
    }
    out
}

fn full_table(card: &Card) -> String {
    let mut out = format!(
        "{} {}: {:.0} MMAC a tile of {}x{}, {} weights, threshold {:.3}, unsure from {:.3}, temperature {:.3}.\n\n",
        card.name,
        card.version,
        card.mmac,
        card.tile,
        card.tile,
        card.parameters,
        card.threshold,
        card.unsure_from,
        card.temperature
    );
    let _ = writeln!(
        out,
        "Trained on: {}.\nRecipe: {}. {:.0} minutes.\n",
        card.training.data, card.training.recipe, card.training.minutes
    );
    if let Some(part) = &card.coherence {
        let _ = writeln!(
            out,
            "Beside the network stands a coherent part ({}): the logit is {} times the network's plus {} times the coherent one. \
             Fitted on: {}.\n",
            part.file, part.network, part.weight, part.data
        );
    }
    out += "| set | generator | pictures | found | true flagged | AUC | content | AP | blur alone | chance | true, generated |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
    for m in &card.measured {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.0} % | {:.1} % | {} | {} | {:.3} | {} | {:.3} | {}, {} |",
            m.set,
            generator(m),
            m.perturbation,
            100.0 * m.fake_flagged,
            100.0 * m.real_flagged,
            figure(m.auc),
            figure(m.auc_content),
            m.ap,
            figure(m.ap_blur_alone),
            m.ap_chance,
            m.real,
            m.fake
        );
    }
    if let Some(reach) = &card.reach {
        let _ = writeln!(
            out,
            "\nFound by the detail that is left in a picture; where it is less than {:.0} %, a verdict that would be clear is unsure, reason \
             `degraded`:\n",
            100.0 * reach.least
        );
        let edges: Vec<String> = reach.detail.iter().map(|edge| format!("{edge:.1} dB")).collect();
        let spans = std::iter::once(format!("below {}", edges[0]))
            .chain(edges.iter().map(|edge| format!("from {edge}")));
        for (span, found) in spans.zip(&reach.found[0]) {
            let _ = writeln!(out, "- {span}: {:.1} %", 100.0 * found);
        }
    }
    out += "\nWhat it is known not to see or to get wrong:\n\n";
    for failure in &card.known_failures {
        let _ = writeln!(out, "- {failure}");
    }
    out
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"))
}

fn generator(m: &Measured) -> &'static str {
    match m.seen {
        Some(true) => "seen",
        Some(false) => "unseen",
        None => "-",
    }
}

fn short_table(card: &Card) -> String {
    let mut out = String::from(
        "| set | generator | found | true ones flagged | AUC | AUC of content alone |\n|---|---|---|---|---|---|\n",
    );
    for m in card.measured.iter().filter(|m| m.perturbation == "as stored") {
        let _ = writeln!(
            out,
            "| {} | {} | {:.0} % | {:.1} % | {} | {} |",
            m.set,
            generator(m),
            100.0 * m.fake_flagged,
            100.0 * m.real_flagged,
            figure(m.auc),
            figure(m.auc_content)
        );
    }
    for name in perturbations(card) {
        let rows: Vec<_> = card.measured.iter().filter(|m| m.perturbation == name).collect();
        let mean = |f: &dyn Fn(&Measured) -> f64| rows.iter().map(|m| f(m)).sum::<f64>() / rows.len() as f64;
        let content = rows
            .iter()
            .all(|m| m.auc_content.is_some())
            .then(|| mean(&|m| m.auc_content.unwrap_or_default()));
        let _ = writeln!(
            out,
            "| **mean of {}, {name}** | | {:.0} % | {:.1} % | {:.2} | {} |",
            rows.len(),
            100.0 * mean(&|m| m.fake_flagged),
            100.0 * mean(&|m| m.real_flagged),
            mean(&|m| m.auc.unwrap_or(f64::NAN)),
            figure(content)
        );
    }
    out
}

fn hold(file: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).expect("readable");
    let start = text.find(BEGIN).unwrap_or_else(|| panic!("{file} has no mark")) + BEGIN.len();
    let end = start + text[start..].find(END).unwrap_or_else(|| panic!("{file} has no end mark"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{}{table}{}", &text[..start], &text[end..])).expect("written");
    } else {
        assert_eq!(&text[start..end], table, "{file} is not what the card says; run `make card`");
    }
}

#[test]
fn the_documents_say_what_the_card_says() {
    let card = card();
    assert!(!card.measured.is_empty(), "the shipped card has measured rows");
    assert!(!card.known_failures.is_empty(), "and says what it does not see");
    hold("docs/MODEL_CARD.md", &full_table(&card));
    hold("README.md", &short_table(&card));
}
