//! Those who are told what the flag log holds.

pub mod mqtt;
