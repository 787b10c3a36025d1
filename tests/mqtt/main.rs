//! The publisher against a real mosquitto.
#![cfg(feature = "mqtt")]

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/daemon.rs"]
mod daemon;
#[path = "../common/model.rs"]
#[allow(dead_code)]
mod model;
#[path = "../common/mosquitto.rs"]
mod mosquitto;
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/publishing.rs"]
mod publishing;
#[path = "../common/records.rs"]
mod records;

mod setup;

mod basics;
mod certificates;
mod commands;
mod discovery;
mod kills;
mod moved;
mod outages;
mod readme;
mod refusals;
mod rivals;
mod security;
