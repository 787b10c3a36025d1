//! Properties of every command: secrets, output that cannot be written or is not read, terminals,
//! file names, the environment.

#[path = "../common/model.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod model;
#[path = "../common/pictures.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod pictures;
#[path = "../common/records.rs"]
mod records;
#[path = "../support/mod.rs"]
mod support;
#[path = "../common/tmpfs.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod tmpfs;

mod setup;

mod arguments;
mod cameras;
mod environment;
mod names;
mod output;
mod readers;
mod secrets;
mod terminal;
