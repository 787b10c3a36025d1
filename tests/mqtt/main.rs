//! The publisher against a real mosquitto.
#![cfg(feature = "mqtt")]

#[path = "../common/model.rs"]
#[allow(dead_code)]
mod model;
#[path = "../common/mosquitto.rs"]
mod mosquitto;
#[path = "../common/proxy.rs"]
mod proxy;

mod setup;

mod basics;
mod certificates;
mod commands;
mod discovery;
mod kills;
mod outages;
mod refusals;
mod security;
