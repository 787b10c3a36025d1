//! spotd

pub mod forensics;
