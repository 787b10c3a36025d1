//! Of the forensics, what the quantiser draws its numbers by.

#[path = "../../src/forensics/rng.rs"]
pub mod rng;
