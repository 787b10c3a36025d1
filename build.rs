//! Compresses the networks that are built in, which are most of the program's data.

use std::io::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use flate2::Compression;
use flate2::write::ZlibEncoder;

const NETWORKS: [&str; 3] = ["spotd-lite-int8.onnx", "spotd-coherence.onnx", "resynth-demo.onnx"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for name in NETWORKS {
        let path = PathBuf::from("models").join(name);
        println!("cargo::rerun-if-changed={}", path.display());
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes).expect("memory takes it");
        let packed = encoder.finish().expect("memory takes it");
        fs::write(out.join(name).with_extension("onnx.z"), packed).expect("cargo's folder takes it");
    }
}
