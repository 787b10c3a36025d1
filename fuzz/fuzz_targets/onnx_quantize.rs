#![no_main]

#[path = "../onnx_bodies.rs"]
#[allow(dead_code)]
mod onnx_bodies;

libfuzzer_sys::fuzz_target!(
    // libFuzzer's hook ends the process at once, also where the engine catches tract's panic.
    init: std::panic::set_hook(Box::new(|_| {})),
    |data: &[u8]| onnx_bodies::quantize(data)
);
