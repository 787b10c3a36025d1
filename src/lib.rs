//! `spotd` watches live video on small machines and says, with evidence, when a feed looks
//! CNN-generated. This library is everything the daemon is made of; `docs/ARCHITECTURE.md` shows the
//! way of a frame through its rooms.

pub mod alerts;
pub mod config;
pub mod control;
pub mod detector;
pub mod evidence;
pub mod forensics;
pub mod frame;
pub mod health;
pub mod pipeline;
pub mod publish;
pub mod quantize;
pub mod recorder;
pub mod schedule;
pub mod source;
pub mod threads;
pub mod web;

pub use spotd_core::{clock, identity, judgement, jump, raster, settings, shown, verdict};
pub use spotd_flaglog as flaglog;
