//! Records and pictures for tests that write to a flag log themselves.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use image::RgbImage;
use spotd::evidence::Encoder;
use spotd::flaglog::fs::Fs;
use spotd::flaglog::verify::{Report, verify};
use spotd::flaglog::{Evidence, FrameInfo, Hash, LogConfig, NewRecord, OsFs, PublicKey};
use spotd::frame::Rect;
use spotd::identity::{ModelIdentity, Precision};
use spotd::judgement::{Judgement, ScoredTile};
use spotd::verdict::{EventKind, Verdict};

/// A tile of [`picture`].
pub const TILE: Rect = Rect { x: 8, y: 8, width: 32, height: 32 };

/// A log in a folder.
pub fn config(dir: &Path) -> LogConfig {
    LogConfig { dir: dir.to_owned(), jpeg_quality: 95, update_every: Duration::from_secs(30) }
}

/// A record without pictures that begins an event.
pub fn new_record(source: &str, kind: EventKind) -> NewRecord {
    NewRecord {
        event: None,
        source: source.to_owned(),
        kind,
        verdict: Verdict::Synthetic,
        judgement: Judgement {
            raw: Some(0.97),
            smoothed: Some(0.91),
            peak: Some(0.91),
            threshold: 0.8,
            unsure_from: 0.5,
            window: 9,
            frames: 9,
        },
        frame: Some(FrameInfo { sha256: Hash::of(b"frame"), width: 96, height: 64, interlaced: None }),
        tiles: vec![],
        logits: None,
        captured: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_500_000),
        model: ModelIdentity {
            name: "test".into(),
            version: "1".into(),
            sha256: Hash::of(b"model").to_string(),
            precision: Precision::F32,
            coherence: None,
        },
        alert: None,
    }
}

/// A picture that is unique for each `seed`.
pub fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(96, 64, |x, y| image::Rgb([(x * 2) as u8, (y * 3) as u8, (x * y + seed) as u8]))
}

/// Such a picture and tiles of it as the daemon keeps them.
pub fn evidence(frame: &RgbImage, tiles: &[ScoredTile]) -> Evidence {
    let captured = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_500_000);
    Encoder::new("box", 95).evidence("cam", captured, frame, tiles).expect("encoded")
}

/// The result of `spotd verify`.
pub fn verified(dir: &Path, key: Option<PublicKey>) -> Report {
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    verify(&fs, dir, key).expect("it can be checked")
}

/// A folder in memory if possible, for tests that need many real files.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("tempdir")
}

/// Numbers that look random and are the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next one below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
