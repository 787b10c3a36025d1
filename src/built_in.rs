//! The files that the program brings along, compressed as `build.rs` leaves them.

use std::io::Read as _;

use flate2::read::ZlibDecoder;

macro_rules! file {
    ($name:literal) => {
        File(include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".z")))
    };
}

/// The detector's network, `models/spotd-lite-int8.onnx`.
pub(crate) const DETECTOR: File = file!("spotd-lite-int8.onnx");
/// The head of its coherent part, `models/spotd-coherence.onnx`.
pub(crate) const HEAD: File = file!("spotd-coherence.onnx");
/// The demonstration's network, `models/resynth-demo.onnx`.
pub(crate) const RESYNTHESIS: File = file!("resynth-demo.onnx");

/// What the API answers, for programs: `docs/openapi.json`.
#[cfg(feature = "web")]
pub(crate) const API: File = file!("openapi.json");

/// One of them.
pub(crate) struct File(&'static [u8]);

impl File {
    /// The file's bytes, as they are in the repository: some tens of milliseconds for a network.
    ///
    /// # Panics
    /// If the program's own data are damaged.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ZlibDecoder::new(self.0).read_to_end(&mut bytes).expect("what the build has compressed");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_what_lies_in_the_repository() {
        let files = [
            (DETECTOR, "models/spotd-lite-int8.onnx"),
            (HEAD, "models/spotd-coherence.onnx"),
            (RESYNTHESIS, "models/resynth-demo.onnx"),
            #[cfg(feature = "web")]
            (API, "docs/openapi.json"),
        ];
        for (file, name) in files {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            assert!(file.bytes() == std::fs::read(path).expect("readable"), "{name}");
            assert!(file.0.len() < file.bytes().len(), "{name} is not compressed");
        }
    }
}
