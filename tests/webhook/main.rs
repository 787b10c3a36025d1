//! The webhook against real HTTP servers.
#![cfg(feature = "webhook")]

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/publishing.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod publishing;
#[path = "../common/records.rs"]
mod records;
#[path = "../common/tls.rs"]
mod tls;

mod server;
mod setup;

mod answers;
mod basics;
mod kills;
mod trust;
