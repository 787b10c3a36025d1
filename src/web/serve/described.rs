//! Records of the flag log as the API describes them. The log's own types are kept free of a library for descriptions; the
//! tests hold both together, by the examples of docs/FLAGLOG.md too.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::health::described::{Logits, Tile};

/// A verdict.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// Nothing that looks generated.
    Clear,
    /// Too little seen, or scores in between.
    Unsure,
    /// Looks generated.
    Synthetic,
}

/// What an event's record is about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The source has become synthetic.
    Start,
    /// It still is.
    Update,
    /// It no longer is, or nothing can be said any more.
    End,
    /// Something to look at that is no verdict.
    Alert,
}

/// What is known of the clock that told a record's times.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Clock {
    /// It follows a time server.
    Synchronised,
    /// Nobody says so.
    Unknown,
    /// It shows an earlier time than in the record before.
    SetBack,
}

/// Number format that ran.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Precision {
    /// 32-bit floating point.
    F32,
    /// 8-bit integers.
    Int8,
}

/// Which field of an interlaced frame was filmed first.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fields {
    TopFieldFirst,
    BottomFieldFirst,
    UnknownOrder,
}

/// A model, as records name it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct Model {
    /// Name from its card.
    name: String,
    /// Version from its card.
    version: String,
    /// SHA-256 of the ONNX file.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// What ran.
    precision: Precision,
    /// SHA-256 of the coherent part's head, where there is one.
    #[serde(default)]
    #[schema(nullable = false, pattern = "^[0-9a-f]{64}$")]
    coherence: Option<String>,
}

/// A judged frame.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct FrameInfo {
    /// SHA-256 of its bytes as the source delivered them.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// Width in pixels.
    width: u32,
    /// Height in pixels, of the field where one was judged.
    height: u32,
    /// Of an interlaced frame.
    #[serde(default)]
    #[schema(nullable = false)]
    interlaced: Option<Fields>,
}

/// A picture of a record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct EvidenceFile {
    /// Its path from the log's folder.
    file: String,
    /// SHA-256 of its bytes.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// Length in bytes.
    bytes: u64,
}

/// A tile as a picture.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct TileFile {
    /// Left edge in the frame.
    x: u32,
    /// Top edge.
    y: u32,
    /// Width.
    width: u32,
    /// Height.
    height: u32,
    /// Its score, 0 to 1.
    score: f64,
    /// Its path from the log's folder.
    file: String,
    /// SHA-256 of its bytes.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// Length in bytes.
    bytes: u64,
}

/// A map as a picture.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct MapFile {
    /// Side of a cell in pixels of the frame.
    side: u32,
    /// When the first frame that counts was captured.
    #[schema(format = DateTime)]
    since: String,
    /// Its path from the log's folder.
    file: String,
    /// SHA-256 of its bytes.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// Length in bytes.
    bytes: u64,
}

/// The pictures of a record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct EvidenceFiles {
    /// The frame, a JPEG.
    frame: EvidenceFile,
    /// In an alert, the last frame before, a JPEG.
    #[serde(default)]
    #[schema(nullable = false)]
    before: Option<EvidenceFile>,
    /// The tiles with the highest scores, a PNG each.
    tiles: Vec<TileFile>,
    /// The map of the minutes before, a PNG.
    #[serde(default)]
    #[schema(nullable = false)]
    map: Option<MapFile>,
}

/// What an alert has found.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct AlertInfo {
    /// `jump`, or a kind of a later version.
    kind: String,
    /// Median score before, 0 to 1.
    before: f64,
    /// Score after, 0 to 1.
    after: f64,
    /// The last frame before.
    frame_before: FrameInfo,
    /// When it was captured.
    #[schema(format = DateTime)]
    captured_before: String,
}

/// A record of an event, every member of it: docs/FLAGLOG.md.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct Record {
    /// Version of the schema.
    schema: u32,
    /// Its number in the log.
    seq: u64,
    /// Its id, a ULID.
    id: String,
    /// Id of the event.
    event: String,
    /// Name of the box.
    node: String,
    /// Id of the source.
    source: String,
    /// What happened.
    kind: Kind,
    /// The verdict.
    verdict: Verdict,
    /// Capture time of the frame.
    #[schema(format = DateTime)]
    captured: String,
    /// When it was written.
    #[schema(format = DateTime)]
    written: String,
    /// What is known of these times.
    clock: Clock,
    /// Score of the frame, 0 to 1.
    raw: Option<f64>,
    /// Median over the window.
    smoothed: Option<f64>,
    /// Highest median of the event.
    peak: Option<f64>,
    /// From here on synthetic.
    threshold: f64,
    /// From here on unsure.
    unsure_from: f64,
    /// Frames that the window can hold.
    window: u64,
    /// Frames in it.
    frames: u64,
    /// The frame.
    frame: Option<FrameInfo>,
    /// The tiles that were judged.
    tiles: Vec<Tile>,
    /// What each part of the detector said.
    #[serde(default)]
    #[schema(nullable = false)]
    logits: Option<Logits>,
    /// Who judged.
    model: Model,
    /// In an alert.
    #[serde(default)]
    #[schema(nullable = false)]
    alert: Option<AlertInfo>,
    /// Program and version.
    software: String,
    /// The pictures.
    evidence: Option<EvidenceFiles>,
    /// Why there are none although there should be.
    #[serde(default)]
    #[schema(nullable = false)]
    evidence_error: Option<String>,
    /// Why it stands here, where that is not a judged frame.
    #[serde(default)]
    #[schema(nullable = false)]
    reason: Option<String>,
    /// Hash of the record before.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    prev: String,
    /// Its hash.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    hash: String,
}

/// What operators may find of an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Found {
    /// What was flagged is generated.
    Confirmed,
    /// It is true footage.
    FalseAlarm,
    /// What was said before is taken back.
    Withdrawn,
}

/// A review, every member of it: docs/FLAGLOG.md.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct Review {
    /// Version of the schema.
    schema: u32,
    /// Its number in the log.
    seq: u64,
    /// Its id, a ULID.
    id: String,
    /// The event that is judged.
    event: String,
    /// Name of the box.
    node: String,
    /// Id of the event's source.
    source: String,
    /// What was found.
    review: Found,
    /// By whom.
    by: String,
    /// What is to be remembered with it.
    #[serde(default)]
    #[schema(nullable = false)]
    comment: Option<String>,
    /// The one that counted before.
    #[serde(default)]
    #[schema(nullable = false)]
    replaces: Option<String>,
    /// When it was written.
    #[schema(format = DateTime)]
    written: String,
    /// What is known of that time.
    clock: Clock,
    /// Program and version.
    software: String,
    /// Hash of the record before.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    prev: String,
    /// Its hash.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    hash: String,
}

/// The review that counts, in short.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct Standing {
    /// Its id, a ULID.
    id: String,
    /// What was found.
    review: Found,
    /// By whom.
    by: String,
    /// When it was written.
    #[schema(format = DateTime)]
    written: String,
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use super::*;
    use crate::raster::FieldOrder;
    use crate::{flaglog, identity};

    /// As the API has it: whether it is a record, a review or a note is said by where it stands.
    fn read<T: DeserializeOwned, R: DeserializeOwned + serde::Serialize>(example: &Value) {
        let written = serde_json::from_value::<R>(example.clone()).expect("of the log");
        serde_json::from_value::<T>(serde_json::to_value(written).expect("JSON"))
            .unwrap_or_else(|e| panic!("{e}: {example}"));
    }

    #[test]
    fn the_examples_of_the_documentation_are_described() {
        let text = include_str!("../../../docs/FLAGLOG.md");
        let mut seen = std::collections::BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("{\"type\"")) {
            let mut example: Value = serde_json::from_str(line).expect("JSON");
            let kind = example.as_object_mut().and_then(|e| e.remove("type")).expect("a type");
            match kind.as_str() {
                Some("event") => read::<Record, flaglog::Record>(&example),
                Some("review") => read::<Review, flaglog::Review>(&example),
                _ => continue,
            }
            *seen.entry(kind.to_string()).or_insert(0) += 1;
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [("\"event\"".into(), 2), ("\"review\"".into(), 1)]);
    }

    #[test]
    fn what_the_examples_leave_out_is_described_too() {
        use crate::flaglog::record::{EvidenceFile, MapFile};
        let hash = flaglog::Hash::of(b"");
        let since = jiff::Timestamp::UNIX_EPOCH;
        let png = EvidenceFile { file: "evidence/a/b.png".into(), sha256: hash, bytes: 3 };
        let map = serde_json::to_value(MapFile { side: 32, since, png }).expect("JSON");
        serde_json::from_value::<super::MapFile>(map).expect("a map");
        for order in [FieldOrder::Unknown, FieldOrder::TopFirst, FieldOrder::BottomFirst] {
            let frame =
                flaglog::FrameInfo { sha256: hash, width: 1920, height: 540, interlaced: Some(order) };
            let frame = serde_json::to_value(frame).expect("JSON");
            serde_json::from_value::<FrameInfo>(frame).expect("a frame");
        }
        let standing = flaglog::review::Standing {
            id: ulid::Ulid::nil(),
            review: flaglog::Finding::FalseAlarm,
            by: "Jo".into(),
            written: since,
            seq: 1,
        };
        let standing = serde_json::to_value(standing).expect("JSON");
        serde_json::from_value::<Standing>(standing).expect("a review in short");
        for precision in [identity::Precision::F32, identity::Precision::Int8] {
            let model = identity::ModelIdentity {
                name: "n".into(),
                version: "1".into(),
                sha256: hash.to_string(),
                precision,
                coherence: Some(hash.to_string()),
            };
            serde_json::from_value::<Model>(serde_json::to_value(model).expect("JSON")).expect("a model");
        }
    }
}
