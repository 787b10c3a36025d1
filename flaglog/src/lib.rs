//! The flag log: what was flagged, when, by which model, with the pictures, in a form that shows whether
//! anybody has touched it since.
//!
//! A record is one line of JSON. It names the hash of the line before and the hashes of its pictures, so nothing can be
//! changed, removed or put in between without the chain telling. [`FlagLog`] writes, and says that a record is there only once
//! it would survive a loss of power; any number of [`Reader`]s read meanwhile; [`verify`](verify::verify) says whether
//! all of it still holds:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, SystemTime};
//!
//! use spotd_core::clock::SystemClock;
//! use spotd_core::identity::{ModelIdentity, Precision};
//! use spotd_core::judgement::Judgement;
//! use spotd_core::verdict::{EventKind, Verdict};
//! use spotd_flaglog::verify::verify;
//! use spotd_flaglog::{Evidence, FlagLog, Hash, LogConfig, NewRecord, OsFs};
//!
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path().join("flags");
//! let config = LogConfig { dir: dir.clone(), jpeg_quality: 95, update_every: Duration::from_secs(60) };
//! let mut log = FlagLog::open(&config, "studio-1", SystemClock::shared())?;
//! let flagged = NewRecord {
//!     event: None,
//!     source: "door".into(),
//!     kind: EventKind::Start,
//!     verdict: Verdict::Synthetic,
//!     judgement: Judgement {
//!         raw: Some(0.97),
//!         smoothed: Some(0.93),
//!         peak: Some(0.93),
//!         threshold: 0.8,
//!         unsure_from: 0.5,
//!         window: 9,
//!         frames: 9,
//!     },
//!     frame: None,
//!     captured: SystemTime::UNIX_EPOCH,
//!     tiles: Vec::new(),
//!     logits: None,
//!     model: ModelIdentity {
//!         name: "edge".into(),
//!         version: "1".into(),
//!         sha256: Hash::of(b"the model").to_string(),
//!         precision: Precision::Int8,
//!         coherence: None,
//!     },
//!     alert: None,
//! };
//! let pictures = Evidence { frame: b"a JPEG file".to_vec(), ..Evidence::default() };
//! let record = log.append(flagged, Some(&pictures))?;
//! assert_eq!(record.seq, 1);
//!
//! // Whoever has the folder can check it.
//! let files: Arc<dyn spotd_flaglog::fs::Fs> = Arc::new(OsFs);
//! assert!(verify(&files, &dir, None)?.holds);
//!
//! // And finds out when a picture is exchanged.
//! let picture = record.evidence.expect("it was kept").frame.path_in(&dir).expect("inside the log");
//! std::fs::write(picture, "another file")?;
//! assert!(!verify(&files, &dir, None)?.holds);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! Constraints, on-disk format and recovery are written down in [`chain`] and [`writer`]; the schema with
//! an example is in `docs/FLAGLOG.md`. The log is also the queue of every publisher: a [`Tail`] is told of a record only
//! after it is durable, and keeps its place in a [`cursor`].
//!
//! Pictures come encoded and are bytes to the log. This crate and what it depends on decode no picture, run no model and open
//! no connection.

pub mod chain;
pub mod cursor;
mod disk;
mod error;
pub mod evidence;
pub mod export;
pub mod fs;
mod held;
mod index;
#[cfg(test)]
mod memfs;
mod place;
pub mod reader;
pub mod record;
mod recover;
mod retain;
pub mod review;
pub mod segment;
mod settings;
mod settle;
pub mod sign;
pub mod tail;
pub mod verify;
pub mod writer;

#[cfg(test)]
mod tests;

pub use chain::Hash;
pub use disk::OsFs;
pub use error::LogError;
pub use evidence::{Evidence, MapPicture};
pub use reader::{Item, ReadError, Reader};
pub use record::{ClockStatus, Entry, FrameInfo, NewRecord, Note, Record};
pub use retain::LogStatus;
pub use review::{Finding, NewReview, Review, ReviewError};
#[cfg(feature = "settings")]
pub use settings::RawLog;
pub use settings::{LogConfig, RetentionConfig};
pub use sign::{PublicKey, Signer};
pub use tail::Tail;
pub use writer::{FlagLog, Options};
