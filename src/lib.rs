//! `spotd` watches live video on small machines and says, with evidence, when a feed looks CNN-generated. This library is
//! everything the daemon is made of; `docs/ARCHITECTURE.md` shows the way of a frame through its rooms.
//!
//! A [`source`] hands over frames; the [`detector`] chooses tiles of one, scores them and adds what repeats over the whole
//! frame; a pure state machine ([`verdict`]) makes a verdict of many scores; and what is flagged goes with its pictures into a
//! hash-chained [`flaglog`], which publishers follow. [`pipeline`] wires all of that into the daemon. The detector can be used
//! by itself:
//!
//! ```
//! use spotd::detector::{Detector, Model};
//! use spotd::frame::Frame;
//! use spotd::identity::Wanted;
//! use spotd::verdict::Verdict;
//!
//! // The model that is built in, on at most nine tiles of a frame.
//! let detector = Detector::of(&Model::open(None, Wanted::Auto)?, 9);
//!
//! // Nothing can be said of a black picture, and so nothing but "unsure" is.
//! let black = Frame::still("front-page".into(), image::RgbImage::new(640, 360));
//! let score = detector.score_lines(black)?;
//! assert_eq!(score.verdict(detector.limits()), Verdict::Unsure);
//! assert!(score.limited.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod alerts;
mod built_in;
pub mod config;
pub mod control;
pub mod detector;
pub mod evidence;
pub mod forensics;
pub mod health;
pub mod pipeline;
pub mod publish;
pub mod quantize;
pub mod recorder;
pub mod schedule;
pub mod service;
pub mod source;
pub mod threads;
#[cfg(any(feature = "mqtt", feature = "web", feature = "webhook"))]
mod tls;
pub mod web;

pub use spotd_address as address;
pub use spotd_core::{about, clock, heat, identity, judgement, jump, raster, settings, shown, verdict};
pub use spotd_flaglog as flaglog;
pub use spotd_frame as frame;
