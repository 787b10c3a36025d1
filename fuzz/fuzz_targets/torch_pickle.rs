#![no_main]

#[path = "../torch_bodies.rs"]
#[allow(dead_code)]
mod torch_bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| torch_bodies::pickle(data));
