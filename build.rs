//! Compresses files that are built in, most of the program's data.

use std::io::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use flate2::Compression;
use flate2::write::ZlibEncoder;

const FILES: [&str; 4] = [
    "models/spotd-lite-int8.onnx",
    "models/spotd-coherence.onnx",
    "models/resynth-demo.onnx",
    "docs/openapi.json",
];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for path in FILES {
        println!("cargo::rerun-if-changed={path}");
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes).expect("memory takes it");
        let packed = encoder.finish().expect("memory takes it");
        let name = path.rsplit('/').next().expect("a name");
        fs::write(out.join(format!("{name}.z")), packed).expect("cargo's folder takes it");
    }
}
