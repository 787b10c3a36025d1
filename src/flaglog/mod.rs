//! The flag log: what was flagged, when, by which model, with the pictures, in a form that shows whether
//! anybody has touched it since.
//!
//! Constraints, on-disk format and recovery are written down in [`chain`] and [`writer`]; the schema with
//! an example is in `docs/FLAGLOG.md`. The log is also the queue of every publisher: a reader keeps a
//! [`cursor`] and is told of a record only after it is durable.

pub mod chain;
pub mod cursor;
mod error;
pub mod evidence;
pub mod exif;
pub mod export;
pub mod fs;
mod held;
mod index;
#[cfg(test)]
pub(crate) mod memfs;
mod place;
pub mod reader;
pub mod record;
mod recover;
mod retain;
pub mod segment;
mod settings;
pub mod sign;
pub mod tail;
pub mod verify;
pub mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use chain::Hash;
pub use error::LogError;
pub use evidence::Evidence;
pub use reader::{Item, ReadError, Reader};
pub use record::{ClockStatus, Entry, FrameInfo, NewRecord, Note, Record};
pub use retain::LogStatus;
pub(crate) use settings::RawLog;
pub use settings::{LogConfig, RetentionConfig};
pub use sign::{PublicKey, Signer};
pub use tail::Tail;
pub use writer::{FlagLog, Options};
