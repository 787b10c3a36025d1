//! The networks that the program brings along, compressed as `build.rs` leaves them.

use std::io::Read as _;

use flate2::read::ZlibDecoder;

macro_rules! network {
    ($name:literal) => {
        Network(include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".z")))
    };
}

/// The detector's network, `models/spotd-lite-int8.onnx`.
pub(crate) const DETECTOR: Network = network!("spotd-lite-int8.onnx");
/// The head of its coherent part, `models/spotd-coherence.onnx`.
pub(crate) const HEAD: Network = network!("spotd-coherence.onnx");
/// The demonstration's network, `models/resynth-demo.onnx`.
pub(crate) const RESYNTHESIS: Network = network!("resynth-demo.onnx");

/// An ONNX file.
pub(crate) struct Network(&'static [u8]);

impl Network {
    /// The file's bytes, as they are in the repository: some tens of milliseconds.
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
    fn what_is_built_in_is_what_lies_in_models() {
        let files = [
            (DETECTOR, "spotd-lite-int8.onnx"),
            (HEAD, "spotd-coherence.onnx"),
            (RESYNTHESIS, "resynth-demo.onnx"),
        ];
        for (network, name) in files {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
            assert!(network.bytes() == std::fs::read(path).expect("readable"), "{name}");
            assert!(network.0.len() < network.bytes().len(), "{name} is not compressed");
        }
    }
}
