//! The operator's page: the daemon's own binary serves it, a real Chromium shows it.

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/mod.rs"]
mod common_parts;
#[path = "../support/mod.rs"]
mod support;

mod common {
    pub use crate::common_parts::*;
    pub use crate::support::free_port;
}

mod box_of;
mod browser;
mod bundles;
mod description;
mod limits;
mod page;
mod readonly;
mod requests;
mod reviews;
mod scrape;
mod tls;
