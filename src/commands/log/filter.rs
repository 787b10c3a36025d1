//! Which records are shown.

use std::time::SystemTime;

use jiff::{Span, Timestamp, civil, tz::TimeZone};

use spotd::flaglog::Entry;
use spotd::verdict::Verdict;

/// What `--since`, `--source` and `--verdict` ask for.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub since: Option<Timestamp>,
    pub source: Option<String>,
    pub verdict: Option<Verdict>,
}

impl Filter {
    /// Whether a record is wanted. Notes have neither source nor verdict, reviews no verdict.
    pub fn wants(&self, entry: &Entry) -> bool {
        let at = match entry {
            Entry::Event(record) => record.captured,
            Entry::Note(note) => note.written,
            Entry::Review(review) => review.written,
        };
        if self.since.is_some_and(|since| at < since) {
            return false;
        }
        match entry {
            Entry::Event(r) => {
                self.source.as_ref().is_none_or(|s| *s == r.source)
                    && self.verdict.is_none_or(|v| v == r.verdict)
            }
            Entry::Note(_) => self.source.is_none() && self.verdict.is_none(),
            Entry::Review(r) => self.source.as_ref().is_none_or(|s| *s == r.source) && self.verdict.is_none(),
        }
    }
}

/// A time, or an age.
#[derive(Debug, Clone, Copy)]
pub(super) enum Since {
    Time(Timestamp),
    Age(Span),
}

impl Since {
    /// The time that is meant, given the current time.
    pub fn at(self, now: SystemTime) -> anyhow::Result<Timestamp> {
        match self {
            Since::Time(time) => Ok(time),
            Since::Age(age) => {
                let now = Timestamp::try_from(now)?.to_zoned(TimeZone::UTC);
                Ok(now.checked_sub(age)?.timestamp())
            }
        }
    }
}

/// Reads a time, a date (its beginning in UTC) or an age.
pub(super) fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Since::Time(time));
    }
    if let Ok(date) = text.parse::<civil::Date>() {
        return date.to_zoned(TimeZone::UTC).map(|z| Since::Time(z.timestamp())).map_err(|e| e.to_string());
    }
    match text.parse::<Span>() {
        Ok(age) if age.is_positive() => Ok(Since::Age(age)),
        _ => {
            Err("must be a time such as 2026-11-24T09:00:00Z, a date, or an age such as 90m, 2h or 3d".into())
        }
    }
}

/// Reads a verdict.
pub(super) fn verdict(text: &str) -> Result<Verdict, String> {
    [Verdict::Clear, Verdict::Unsure, Verdict::Synthetic]
        .into_iter()
        .find(|v| v.as_str() == text)
        .ok_or_else(|| "must be clear, unsure or synthetic".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_ages_are_read() {
        let now = SystemTime::from(Timestamp::from_second(1_795_500_000).expect("a time"));
        let at = |text: &str| since(text).expect(text).at(now).expect("a time").as_second();
        assert_eq!(at("2h"), 1_795_500_000 - 7200);
        assert_eq!(at("90m"), 1_795_500_000 - 5400);
        assert_eq!(at("3d"), 1_795_500_000 - 3 * 86_400);
        assert_eq!(at("1970-01-02"), 86_400);
        assert_eq!(at("1970-01-01T00:00:10Z"), 10);
        for bad in ["", "-2h", "yesterday", "2026-13-01"] {
            assert!(since(bad).expect_err(bad).contains("such as"), "{bad}");
        }
        assert!(verdict("fake").expect_err("fake").contains("synthetic"));
    }
}
