#![no_main]

#[path = "../onnx_bodies.rs"]
#[allow(dead_code)]
mod onnx_bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| onnx_bodies::card(&String::from_utf8_lossy(data)));
