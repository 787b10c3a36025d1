//! Of the sources, their addresses.

#[path = "../../src/source/contribution.rs"]
mod contribution;
#[path = "../../src/source/stream.rs"]
mod stream;
#[path = "../../src/source/uri.rs"]
mod uri;

pub use contribution::Contribution;
pub use stream::StreamUrl;
pub use uri::{SourceUri, V4lUri};
