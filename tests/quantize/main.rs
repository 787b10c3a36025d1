//! Quantisation of networks of well-known shapes, the form of what is written, and `spotd quantize`
//! as a user runs it.

#[path = "../common/model.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod model;
#[path = "../common/networks.rs"]
mod networks;

mod setup;

mod command;
mod form;
mod peers;
mod shapes;
