//! `scan --report`: one HTML file to hand on, with everything in it and no script.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::journal::Journal;
use super::picture::Picture;
use super::report::Row;
use spotd::detector::card::Card;
use spotd::shown::Shown as _;
use spotd::verdict::{Limits, Verdict};

/// Bars of the histogram.
const BARS: usize = 20;

/// A text that HTML shows as it is.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// An input's part of the report.
pub(super) fn fragment(row: &Row, picture: &Picture, sha256: Option<&str>, limits: Limits) -> String {
    let mut out = String::new();
    let verdict = row.verdict.map_or("error", Verdict::as_str);
    let _ = write!(out, "<article class=\"{verdict}\"><div class=\"shown\">");
    match &picture.thumbnail {
        Some(jpeg) => {
            let _ = write!(out, "<img alt=\"\" src=\"data:image/jpeg;base64,{}\">", STANDARD.encode(jpeg));
        }
        None => out += "<span class=\"none\">no picture</span>",
    }
    let score = row.score.map_or_else(|| "–".into(), |s| format!("{s:.4}"));
    let _ =
        write!(out, "</div><div><h3>{}</h3><p><b class=\"badge\">{verdict}</b> {score}", escape(&row.shown));
    if let Some((width, height)) = row.size {
        let _ = write!(out, " · {width}×{height}");
    }
    if let Some(frames) = row.frames {
        let _ = write!(out, " · {frames} frames");
    }
    if let Some(note) = row.note {
        let _ = write!(out, " · {note}");
    }
    if let Some(truncated) = row.truncated {
        let _ = write!(out, " · {}", escape(&truncated.to_string()));
    }
    out += "</p>";
    if let Some(error) = &row.error {
        let _ = write!(out, "<p class=\"why\">{}</p>", escape(error));
    }
    if !row.spans.is_empty() {
        let spans: Vec<String> = row.spans.iter().map(|(a, b)| format!("{a:.1} to {b:.1} s")).collect();
        let _ = write!(out, "<p>Synthetic from {}</p>", spans.join(", "));
    }
    if picture.curve.points.len() > 1 {
        out += &timeline(&picture.curve.points, &row.spans, limits);
    }
    if let Some(sha256) = sha256 {
        let _ = write!(out, "<p class=\"hash\">SHA-256 {sha256}</p>");
    }
    out + "</div></article>\n"
}

/// A video's scores, with flagged spans and both thresholds.
fn timeline(points: &[(f64, f64)], spans: &[(f64, f64)], limits: Limits) -> String {
    let (width, height) = (600.0, 70.0);
    let end = points.last().map_or(1.0, |p| p.0).max(1e-3);
    let x = |at: f64| at / end * width;
    let y = |score: f64| height - score * height;
    let mut out = format!(
        "<svg viewBox=\"0 0 {width} {}\" role=\"img\" aria-label=\"Scores over {end:.0} seconds\">",
        height + 14.0
    );
    for (from, to) in spans {
        let wide = (x(*to) - x(*from)).max(1.0);
        let _ = write!(
            out,
            "<rect class=\"span\" x=\"{:.1}\" y=\"0\" width=\"{wide:.1}\" height=\"{height}\"/>",
            x(*from)
        );
    }
    for (class, score) in [("threshold", limits.threshold), ("unsure", limits.unsure_from)] {
        let y = y(score);
        let _ = write!(out, "<line class=\"{class}\" x1=\"0\" x2=\"{width}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
    }
    out += "<polyline points=\"";
    for (at, score) in points {
        let _ = write!(out, "{:.1},{:.1} ", x(*at), y(*score));
    }
    let _ = write!(
        out,
        "\"/><text x=\"0\" y=\"{0}\">0 s</text><text x=\"{width}\" y=\"{0}\" text-anchor=\"end\">{end:.0} s</text></svg>",
        height + 12.0
    );
    out
}

/// What stands above the inputs.
pub(super) struct Head<'a> {
    /// The model's card.
    pub card: &'a Card,
    /// The limits in force.
    pub limits: Limits,
    /// Name and value of each setting.
    pub settings: &'a [(&'static str, String)],
    /// When, RFC 3339.
    pub made: String,
}

/// Writes the report, complete under its name or not at all.
///
/// # Errors
/// It cannot be written; the text names the file.
pub(super) fn write(path: &Path, head: &Head<'_>, journal: &mut Journal) -> anyhow::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let written = write_part(part, head, journal).and_then(|()| Ok(std::fs::rename(part, path)?));
    written.inspect_err(|_| drop(std::fs::remove_file(part))).with_context(|| {
        format!("{} cannot be written; check its folder's free space and permissions", path.shown())
    })
}

fn write_part(part: &Path, head: &Head<'_>, journal: &mut Journal) -> anyhow::Result<()> {
    let mut out = BufWriter::new(File::create(part)?);
    let mut places = journal.places.clone();
    out.write_all(
        opening(head, &places.iter().map(|p| (p.verdict, p.score, p.failed)).collect::<Vec<_>>()).as_bytes(),
    )?;
    // Highest first; what could not be judged comes last.
    places.sort_by(|a, b| b.score.unwrap_or(-1.0).total_cmp(&a.score.unwrap_or(-1.0)));
    for place in places {
        out.write_all(journal.entry(place)?.html.as_bytes())?;
    }
    out.write_all(b"</main></body></html>\n")?;
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    Ok(file.sync_all()?)
}

fn opening(head: &Head<'_>, all: &[(Option<Verdict>, Option<f64>, bool)]) -> String {
    let count = |verdict| all.iter().filter(|(v, ..)| *v == Some(verdict)).count();
    let failed = all.iter().filter(|(.., failed)| *failed).count();
    let card = head.card;
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>spotd scan: {0} inputs</title><style>{STYLE}</style></head><body><header><h1>spotd scan</h1>\
         <p>{1}, {2}</p></header><main><h2>Summary</h2><table><tr><th>inputs</th><th>synthetic</th>\
         <th>unsure</th><th>clear</th><th>could not be judged</th></tr><tr><td>{0}</td><td>{3}</td><td>{4}</td>\
         <td>{5}</td><td>{failed}</td></tr></table><p>A score says how much a picture looks like those of \
         generators. It is no proof: read what the model is known to get wrong before accusing anybody.</p>",
        all.len(),
        escape(&head.made),
        spotd::flaglog::record::SOFTWARE,
        count(Verdict::Synthetic),
        count(Verdict::Unsure),
        count(Verdict::Clear),
    );
    out += &histogram(all, head.limits);
    out += "<h2>Settings</h2><dl>";
    for (name, value) in head.settings {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(value));
    }
    let _ = write!(
        out,
        "</dl><h2>Model card</h2><dl><dt>model</dt><dd>{} {}</dd><dt>SHA-256</dt><dd class=\"hash\">{}</dd>\
         <dt>trained on</dt><dd>{}</dd><dt>known to get wrong</dt><dd><ul>",
        escape(&card.name),
        escape(&card.version),
        escape(&card.sha256),
        escape(&card.training.data)
    );
    for failure in &card.known_failures {
        let _ = write!(out, "<li>{}</li>", escape(failure));
    }
    out + "</ul></dd></dl><h2>Inputs, highest score first</h2>\n"
}

fn histogram(all: &[(Option<Verdict>, Option<f64>, bool)], limits: Limits) -> String {
    let mut bars = [0usize; BARS];
    for score in all.iter().filter_map(|(_, score, _)| *score) {
        bars[((score * BARS as f64) as usize).min(BARS - 1)] += 1;
    }
    let (width, height, most) = (600.0, 120.0, bars.iter().max().copied().unwrap_or(0).max(1) as f64);
    let each = width / BARS as f64;
    let mut out = format!(
        "<h2>Scores</h2><svg class=\"histogram\" viewBox=\"0 0 {width} {}\" role=\"img\" aria-label=\"How many inputs have \
         which score\">",
        height + 16.0
    );
    for (n, bar) in bars.iter().enumerate() {
        let tall = *bar as f64 / most * (height - 14.0);
        let (x, y) = (n as f64 * each, height - tall);
        let _ = write!(
            out,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{tall:.1}\"/>",
            x + 1.0,
            each - 2.0
        );
        if *bar > 0 {
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{bar}</text>",
                x + each / 2.0,
                y - 3.0
            );
        }
    }
    for (class, score) in [("threshold", limits.threshold), ("unsure", limits.unsure_from)] {
        let x = score * width;
        let _ = write!(out, "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height}\"/>");
    }
    let below = height + 13.0;
    let _ = write!(
        out,
        "<text x=\"0\" y=\"{below}\">0</text><text x=\"{width}\" y=\"{below}\" text-anchor=\"end\">1</text></svg>"
    );
    out
}

const STYLE: &str = "\
:root{--ink:#1c2126;--soft:#55606a;--line:#cfd6dc;--back:#fff;--clear:#1f7a3d;--unsure:#8a5a00;--synthetic:#b3261e}\
@media(prefers-color-scheme:dark){:root{--ink:#e8ecef;--soft:#a9b4bd;--line:#39434b;--back:#14181b;--clear:#6fd08c;\
--unsure:#f0bd5e;--synthetic:#ff8f85}}\
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:62rem;margin:0 auto;padding:1rem}\
table{border-collapse:collapse}td,th{border:1px solid var(--line);padding:.2rem .7rem;text-align:right}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem .8rem}dt{color:var(--soft)}dd{margin:0}dd ul{margin:0;padding-left:1.1rem}\
article{display:flex;flex-wrap:wrap;gap:1rem;border-top:1px solid var(--line);padding:.8rem 0;break-inside:avoid}\
article>div:last-child{flex:1;min-width:16rem}.shown{width:240px}.shown img{max-width:100%;border-radius:4px}\
.none{display:grid;place-items:center;height:90px;border:1px dashed var(--line);color:var(--soft)}\
h3{margin:0;font-size:1rem;overflow-wrap:anywhere}p{margin:.2rem 0}.badge{color:var(--soft)}\
.synthetic .badge{color:var(--synthetic)}.unsure .badge{color:var(--unsure)}.clear .badge{color:var(--clear)}\
.why{color:var(--synthetic)}.hash{font:12px ui-monospace,monospace;color:var(--soft);overflow-wrap:anywhere}\
svg{width:100%;max-width:600px;overflow:visible}svg text{font-size:10px;fill:var(--soft)}\
polyline{fill:none;stroke:currentColor;stroke-width:1}.span{fill:var(--synthetic);opacity:.2}.bar{fill:var(--soft)}\
line.threshold{stroke:var(--synthetic);stroke-dasharray:5 4}line.unsure{stroke:var(--unsure);stroke-dasharray:5 4}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_text_whatever_it_holds() {
        let row = Row::failed("<script>alert('x')</script>.jpg".into(), "a & \"b\"".into());
        let limits = Limits { threshold: 0.9, unsure_from: 0.7 };
        let html = fragment(&row, &Picture::default(), None, limits);
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{html}");
        assert!(html.contains("a &amp; &quot;b&quot;"), "{html}");
    }
}
