//! The rooms of spotd that are fuzzed and what they need, without the rest: building them takes seconds. Those that read
//! models need the inference engine, whose build takes minutes, and come with the feature `onnx`.

#[path = "../../src/clock.rs"]
pub mod clock;
#[path = "../../src/frame/mod.rs"]
pub mod frame;

#[path = "../../src/jump.rs"]
pub mod jump;
#[path = "../../src/verdict.rs"]
pub mod verdict;

pub mod flaglog;
pub mod torchfile;

#[path = "../../src/shown/mod.rs"]
pub mod shown;
#[path = "../../src/config/stream.rs"]
mod stream;
#[path = "../../src/config/contribution.rs"]
mod contribution;
#[path = "../../src/config/uri.rs"]
mod uri;

use contribution::Contribution;
use stream::StreamUrl;

#[cfg(feature = "onnx")]
pub mod detector;
#[cfg(feature = "onnx")]
#[allow(dead_code, reason = "what writes is of no interest here")]
#[path = "../../src/quantize/mod.rs"]
pub mod quantize;
#[cfg(feature = "onnx")]
#[path = "../../src/threads.rs"]
mod threads;
#[cfg(feature = "onnx")]
mod forensics;

#[cfg(not(feature = "onnx"))]
#[path = "../../src/detector/identity.rs"]
mod identity;
#[cfg(not(feature = "onnx"))]
pub mod detector {
    pub mod model {
        pub use crate::identity::ModelIdentity;
    }
}

pub mod config {
    pub use crate::contribution::Contribution;
    pub use crate::uri::{SourceUri, V4lUri};
}
