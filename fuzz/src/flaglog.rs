//! Of the flag log, what reads it.

#![allow(dead_code, reason = "the log writes too, which is not taken in here")]

#[path = "../../src/flaglog/chain.rs"]
pub mod chain;
#[path = "../../src/flaglog/cursor.rs"]
pub mod cursor;
#[path = "../../src/flaglog/fs.rs"]
pub mod fs;
#[path = "../../src/flaglog/held.rs"]
mod held;
#[path = "../../src/flaglog/reader.rs"]
pub mod reader;
#[path = "../../src/flaglog/record.rs"]
pub mod record;
#[path = "../../src/flaglog/segment.rs"]
pub mod segment;

pub use chain::Hash;
pub use reader::{Item, ReadError, Reader};
pub use record::Entry;
