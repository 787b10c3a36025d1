//! The rooms of spotd that are fuzzed and what they need, without the rest: building them takes seconds,
//! building the inference engine under a sanitizer a quarter of an hour.

#[path = "../../src/clock.rs"]
pub mod clock;
#[path = "../../src/frame/mod.rs"]
pub mod frame;

#[path = "../../src/verdict.rs"]
pub mod verdict;

pub mod flaglog;
pub mod torchfile;

#[path = "../../src/config/uri.rs"]
mod uri;
#[path = "../../src/detector/identity.rs"]
mod identity;

pub mod detector {
    pub mod model {
        pub use crate::identity::ModelIdentity;
    }
}

pub mod config {
    pub use crate::uri::{SourceUri, V4lUri, redact};
}
