//! What `scan` prints: a table for people, JSON lines for programs, a summary at the end.

use serde::Serialize;

use super::journal::Entry;
use super::picture::Picture;
use crate::commands::console;
use spotd::frame::FieldOrder;
use spotd::judgement::ScoredTile;
use spotd::source::Truncated;
use spotd::verdict::Verdict;

/// The result for one input.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// A file's exact name, or an address without its secrets.
    pub path: String,
    /// The bytes of a file name that is not valid text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<Vec<u8>>,
    /// Its name in the table.
    #[serde(skip)]
    pub shown: String,
    /// 0..1, 1 = synthetic; for a video the highest smoothed score.
    pub score: Option<f64>,
    pub verdict: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<(u32, u32)>,
    /// Tiles of an image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiles: Vec<ScoredTile>,
    /// Judged frames of a video or an animation, or pages of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    /// Spans of a video that are synthetic, in seconds from its start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<(f64, f64)>,
    /// The field order, if one field of an interlaced picture or video was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interlaced: Option<FieldOrder>,
    /// Of several pages the one that the result is about, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u64>,
    /// Share of a picture's pixels that are fully transparent, 0..1; they count as flat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transparent: Option<f64>,
    /// What is missing at a video's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<Truncated>,
    /// Why the verdict is limited: `too-small`, `flat`, `few-frames`, `degraded`, `truncated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What a report shows of it, where one is wanted.
    #[serde(skip)]
    pub picture: Option<Box<Picture>>,
}

impl Row {
    pub fn failed(path: String, why: String) -> Self {
        // The sources' errors begin with their subject, which has its own column here.
        let why = why.strip_prefix(&format!("{path}: ")).map_or(why.clone(), str::to_owned);
        Self {
            shown: path.clone(),
            path,
            path_bytes: None,
            score: None,
            verdict: None,
            size: None,
            tiles: vec![],
            frames: None,
            spans: vec![],
            interlaced: None,
            page: None,
            transparent: None,
            truncated: None,
            note: None,
            error: Some(why),
            picture: None,
        }
    }
}

/// Prints rows as they come and counts them.
pub(super) struct Report {
    json: bool,
    rows: Vec<Option<Verdict>>,
    header: bool,
    /// Inputs that could not be judged.
    pub failed: usize,
    /// Inputs whose end is missing.
    pub truncated: usize,
}

impl Report {
    pub fn new(json: bool, expected: usize) -> Self {
        Self { json, rows: Vec::with_capacity(expected), header: false, failed: 0, truncated: 0 }
    }

    /// Prints a row and counts it.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn add(&mut self, row: &Row) -> anyhow::Result<()> {
        let (failed, truncated) = (row.error.is_some(), row.truncated.is_some());
        self.print(failed, truncated, row.verdict, || json(row), || table_line(row))
    }

    /// Prints what an earlier scan had found, and counts it.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn add_known(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let Entry { failed, truncated, verdict, .. } = *entry;
        self.print(failed, truncated, verdict, || entry.json.clone(), || entry.table.clone())
    }

    fn print(
        &mut self,
        failed: bool,
        truncated: bool,
        verdict: Option<Verdict>,
        json: impl FnOnce() -> String,
        table: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        self.failed += usize::from(failed);
        self.truncated += usize::from(truncated);
        if self.json {
            console::print_json(&json())?;
        } else {
            if !failed && !std::mem::replace(&mut self.header, true) {
                console::print_line("  score  verdict    input")?;
            }
            console::print_line(&table())?;
        }
        self.rows.push(verdict);
        Ok(())
    }

    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|v| **v == Some(verdict)).count()
    }

    /// The closing line, for people only.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn finish(&self) -> anyhow::Result<()> {
        if !self.json && self.rows.len() > 1 {
            let cut = match self.truncated {
                0 => String::new(),
                some => format!(", {some} truncated"),
            };
            console::print_line(&format!(
                "{} inputs: {} synthetic, {} unsure, {} clear, {} could not be judged{cut}",
                self.rows.len(),
                self.count(Verdict::Synthetic),
                self.count(Verdict::Unsure),
                self.count(Verdict::Clear),
                self.failed
            ))?;
        }
        Ok(())
    }
}

/// Its line of `--json`.
pub(super) fn json(row: &Row) -> String {
    serde_json::to_string(row).expect("a row serialises")
}

/// Its line of the table.
pub(super) fn table_line(row: &Row) -> String {
    if let Some(error) = &row.error {
        return format!("{:>7}  {:9}  {}: {error}", "-", "error", row.shown);
    }
    let score = row.score.map_or_else(|| "-".to_owned(), |s| format!("{s:.4}"));
    let verdict = row.verdict.map_or("-", Verdict::as_str);
    let mut line = format!("{score:>7}  {verdict:9}  {}", row.shown);
    // What is missing is described at the end.
    if let Some(note) = row.note.filter(|_| row.truncated.is_none()) {
        line += &format!("  ({note})");
    }
    if row.interlaced.is_some() {
        line += "  (interlaced)";
    }
    if let Some(share) = row.transparent {
        line += &format!("  ({:.0} % transparent)", (share * 100.0).max(1.0));
    }
    match (row.frames, row.page) {
        (Some(pages), Some(page)) => line += &format!("  [page {page} of {pages}]"),
        (Some(frames), None) => line += &format!("  [{frames} frames]"),
        _ => {}
    }
    for (from, to) in &row.spans {
        line += &format!("  synthetic {from:.1}..{to:.1} s");
    }
    if let Some(truncated) = row.truncated {
        line += &format!("  {truncated}");
    }
    line
}
