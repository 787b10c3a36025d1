//! The output of `eval`: a table for people, JSON lines, CSV and Markdown.

use serde_json::{Value, json};

use super::figures::{Measure, Row};
use super::sets::{Collection, Found};
use spotd::detector::card::Card;
use spotd::forensics::dataset::Skipped;
use spotd::forensics::matched::Matched;
use spotd::shown::{Shown as _, exact};

/// Lines about the sets that were found, for people.
pub(crate) fn found_lines(found: &[Found]) -> Vec<String> {
    let line = |found: &Found| {
        let classes = match found.classes.len() {
            0 => String::new(),
            n => format!(" in {n} classes"),
        };
        match &found.left_out {
            Some(why) => format!("{}: left out, it {why}", found.set),
            None => format!(
                "{}: {} real ({}), {} generated ({}){classes}{}",
                found.set,
                found.real.files,
                found.real,
                found.fake.files,
                found.fake,
                matched(found)
            ),
        }
    };
    found.iter().map(line).collect()
}

/// Whether the sides are matched, and why.
fn matched(found: &Found) -> String {
    match found.matched {
        Some(Matched::Pairs) => {
            format!("; matched: {} pairs with the same name, size and content", found.pairs)
        }
        Some(Matched::Form) => {
            "; matched: photographs of its own, alike in format, quality and size".to_owned()
        }
        None => String::new(),
    }
}

/// Warnings about the sets that were found.
pub(crate) fn warnings(found: &[Found]) -> Vec<String> {
    let mut warnings = Vec::new();
    for found in found {
        if let Some(why) = &found.left_out {
            warnings.push(format!("{}: left out, it {why}", found.set));
            continue;
        }
        if found.other_files > 0 {
            let n = found.other_files;
            warnings
                .push(format!("{}: {n} files do not have a picture's extension and were skipped", found.set));
        }
        for giveaway in &found.giveaways {
            warnings.push(giveaway.warning(&found.set, &found.real, &found.fake));
        }
    }
    warnings
}

/// The objects of `--json`, one per line.
pub(crate) fn json_lines(
    collection: &Collection,
    rows: &[Row],
    card: &Card,
    view: &str,
    measure: &Measure,
) -> Vec<String> {
    let model = json!({
        "name": card.name,
        "version": card.version,
        "sha256": card.sha256,
        "threshold": measure.threshold,
        "recall": measure.recall,
        "bootstrap": measure.replicates,
        "seed": measure.seed,
    });
    let mut lines = vec![json_line("model", model)];
    lines.extend(
        collection.found.iter().map(|f| json_line("found", serde_json::to_value(f).expect("a plain struct"))),
    );
    let skipped = |s: &Skipped| {
        let (path, bytes) = exact(s.path.as_os_str());
        let mut fields = json!({ "path": path, "reason": s.reason });
        if let Some(bytes) = bytes {
            fields["path_bytes"] = json!(bytes);
        }
        json_line("skipped", fields)
    };
    lines.extend(collection.skipped.iter().map(skipped));
    for row in rows {
        let of = if row.set.is_some() { "result" } else { "mean" };
        lines.push(json_line(of, Value::Object(row.fields(view).into_iter().collect())));
    }
    lines
}

/// An object of `--json`, its kind first.
pub(super) fn json_line(kind: &str, value: Value) -> String {
    let mut fields = serde_json::Map::from_iter([("kind".to_owned(), json!(kind))]);
    if let Value::Object(more) = value {
        fields.extend(more);
    }
    Value::Object(fields).to_string()
}

/// The rows as CSV, with a header line.
pub(crate) fn csv(rows: &[Row], view: &str) -> anyhow::Result<Vec<u8>> {
    csv_of(rows.iter().map(|row| row.fields(view)))
}

/// Rows of names and values as CSV, with a header line.
pub(super) fn csv_of<N: AsRef<str>>(rows: impl Iterator<Item = Vec<(N, Value)>>) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(vec![]);
    for (at, fields) in rows.enumerate() {
        if at == 0 {
            writer.write_record(fields.iter().map(|(name, _)| name.as_ref()))?;
        }
        writer.write_record(fields.iter().map(|(_, value)| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }))?;
    }
    Ok(writer.into_inner()?)
}

/// Column headings, and the cells of each row.
fn columns(rows: &[Row], recall: f64) -> (Vec<String>, Vec<Vec<String>>) {
    let published = rows.iter().any(|r| r.published.is_some());
    let matched = rows.iter().any(|r| r.matched.is_some());
    let paired = rows.iter().any(|r| r.pair_accuracy.is_some());
    let mut heads: Vec<String> = ["set", "after", "real+fake", "AP", "AUC", "acc", "best acc"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    heads.push(format!("FPR@{}%", recall * 100.0));
    heads.extend(["ECE", "blur AP", "real flagged", "fake flagged"].map(str::to_owned));
    if matched {
        heads.insert(3, "matched".into());
    }
    if paired {
        heads.push("pairs right".into());
    }
    if published {
        heads.push("paper's AP".into());
    }
    let cells = |row: &Row| {
        let value = |at: usize| format!("{:.3}", row.values[at]);
        let share = |at: usize| format!("{:.1}%", 100.0 * row.values[at]);
        let with_interval = |at: usize| match row.intervals {
            Some(intervals) => {
                format!("{:.3} [{:.2} {:.2}]", row.values[at], intervals[at].0, intervals[at].1)
            }
            None => value(at),
        };
        let mut cells = vec![
            row.name().to_owned(),
            row.after.to_string(),
            format!("{}+{}", row.real, row.fake),
            with_interval(0),
            with_interval(1),
            value(2),
            value(3),
            share(4),
            value(5),
            value(6),
            share(7),
            share(8),
        ];
        if matched {
            let why = match (row.matched, &row.set) {
                (_, None) => "",
                (Some(Matched::Pairs), _) => "pairs",
                (Some(Matched::Form), _) => "form",
                (None, _) => "-",
            };
            cells.insert(3, why.to_owned());
        }
        if paired {
            cells.push(row.pair_accuracy.map_or("-".into(), |share| format!("{:.1}%", 100.0 * share)));
        }
        if published {
            cells.push(row.published.map_or("-".into(), |[half, tenth]| format!("{half:.3} / {tenth:.3}")));
        }
        cells
    };
    (heads, rows.iter().map(cells).collect())
}

/// A table for a terminal.
pub(crate) fn table(rows: &[Row], recall: f64) -> Vec<String> {
    let (heads, cells) = columns(rows, recall);
    laid_out(&heads, &cells)
}

/// Lines of a table with columns as wide as needed; the first two hold names, the others numbers.
pub(super) fn laid_out(heads: &[String], cells: &[Vec<String>]) -> Vec<String> {
    let width = |at: usize| {
        cells.iter().map(|c| c[at].chars().count()).chain([heads[at].chars().count()]).max().unwrap_or(0)
    };
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let width = width(at);
            // Names left-aligned, numbers right-aligned.
            line += &if at < 2 { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
        }
        line.trim_end().to_owned()
    };
    std::iter::once(line(heads)).chain(cells.iter().map(|c| line(c))).collect()
}

/// The same as Markdown.
pub(super) fn markdown_table(heads: &[String], cells: &[Vec<String>]) -> String {
    let cell = |text: &String| text.replace('|', "\\|");
    let line = |cells: &[String]| format!("| {} |\n", cells.iter().map(cell).collect::<Vec<_>>().join(" | "));
    let mut out = line(heads);
    out += &format!("|{}\n", "---|".repeat(heads.len()));
    cells.iter().for_each(|cells| out += &line(cells));
    out
}

/// The whole result as a Markdown page.
pub(crate) fn markdown(
    collection: &Collection,
    rows: &[Row],
    card: &Card,
    view: &str,
    measure: &Measure,
) -> String {
    let mut out = format!(
        "# Evaluation of {} {}\n\nModel SHA-256 {}, view: {view}, threshold {:.4}.",
        card.name, card.version, card.sha256, measure.threshold
    );
    if measure.replicates > 0 {
        out += &format!(" In brackets: 95 % of {} bootstrap replicates.", measure.replicates);
    }
    out += "\n\n";
    let (heads, cells) = columns(rows, measure.recall);
    out += &markdown_table(&heads, &cells);
    out += "\n## What was found\n\n";
    found_lines(&collection.found).iter().for_each(|line| out += &format!("- {line}\n"));
    let warnings = warnings(&collection.found);
    if !warnings.is_empty() || !collection.skipped.is_empty() {
        out += "\n## Warnings\n\n";
        warnings.iter().for_each(|line| out += &format!("- {line}\n"));
        for skipped in &collection.skipped {
            out += &format!("- {}: skipped: {}\n", skipped.path.shown(), skipped.reason);
        }
    }
    out
}
