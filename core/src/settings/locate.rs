//! Which line of the file a key stands on, so that every complaint can name it.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// One step of a key's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A key of a table.
    Key(String),
    /// An element of an array, from 0.
    Index(usize),
}

/// Parses `source[1].fps` into its steps.
pub(super) fn steps(path: &str) -> Vec<Step> {
    let mut out = Vec::new();
    for part in path.split('.') {
        let (key, rest) = part.split_once('[').unwrap_or((part, ""));
        out.push(Step::Key(key.to_owned()));
        if let Some(index) = rest.strip_suffix(']').and_then(|i| i.parse().ok()) {
            out.push(Step::Index(index));
        }
    }
    out
}

/// Line (from 1) on which the key of `path` stands, or the nearest parent that the file has.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut span: Option<Range<usize>> = None;
    let mut array: Option<&[toml::Spanned<DeValue<'_>>]> = None;
    for step in steps(path) {
        match (step, array.take()) {
            (Step::Key(key), None) => {
                let Some((name, value)) = table.get_key_value(key.as_str()) else { break };
                span = Some(name.span());
                match value.get_ref() {
                    DeValue::Table(inner) => table = inner,
                    DeValue::Array(items) => array = Some(items),
                    _ => {}
                }
            }
            (Step::Index(index), Some(items)) => {
                let Some(value) = items.get(index) else { break };
                span = Some(value.span());
                if let DeValue::Table(inner) = value.get_ref() {
                    table = inner;
                }
            }
            _ => break,
        }
    }
    span.map(|s| line_at(text, s.start))
}

/// Line (from 1) of a byte offset.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[node]\nname = 'a'\n\n[[source]]\nid = 'x'\n\n[[source]]\nid = 'y'\nfps = 3\n";

    #[test]
    fn keys_are_found_where_they_stand() {
        assert_eq!(line_of(TEXT, "node.name"), Some(2));
        assert_eq!(line_of(TEXT, "source[0].id"), Some(5));
        assert_eq!(line_of(TEXT, "source[1].fps"), Some(9));
    }

    #[test]
    fn a_missing_key_leads_to_its_parent() {
        assert_eq!(line_of(TEXT, "source[1].uri"), Some(7));
        assert_eq!(line_of(TEXT, "mqtt.url"), None);
    }
}
