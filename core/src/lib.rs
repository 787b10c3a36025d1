//! What the spotd daemon and its flag log share: the words in which a verdict is given, and the means to give it.
//!
//! A feed is judged frame by frame. Each frame gets a score from 0 to 1, and a [`VerdictMachine`](verdict::VerdictMachine)
//! takes the median of the last few, so that a few odd frames change nothing. Out comes a [`Verdict`](verdict::Verdict), and
//! an event where the feed becomes synthetic, still is, or no longer is:
//!
//! ```
//! use std::time::Duration;
//!
//! use spotd_core::verdict::{EventKind, Limits, Verdict, VerdictConfig, VerdictMachine};
//!
//! let limits = Limits { threshold: 0.8, unsure_from: 0.5 };
//! let mut machine = VerdictMachine::new(VerdictConfig::default(), limits, Duration::from_secs(60));
//!
//! // Five frames at the least: until then there is too little to go by.
//! let outcomes: Vec<_> = (0..5).map(|second| machine.push(Duration::from_secs(second), 0.97)).collect();
//! assert_eq!(outcomes[3].verdict, Verdict::Unsure);
//! assert_eq!(outcomes[4].verdict, Verdict::Synthetic);
//! assert_eq!(outcomes[4].event, Some(EventKind::Start));
//!
//! // The camera was unplugged: whatever was going on is over.
//! assert_eq!(machine.finish().event, Some(EventKind::End));
//! ```
//!
//! [`jump`] finds sudden changes of the score, and [`heat`] which place of the picture they come from. [`judgement`], [`identity`] and [`raster`] hold what a record says of a
//! frame, of the model and of the picture. [`clock`] is the only place that asks the system for the time, and [`shown`] makes
//! texts fit for people: without passwords and without control characters. With the feature `settings`, `settings` reads
//! a table of the configuration file and names file, line and key of what is wrong with it. [`about`] is what a thread is
//! just working on, for a log with fields.
//!
//! Nothing in here opens a socket or decodes a picture, and no inference engine is among its dependencies: a program that
//! only verifies evidence needs no more than this and `spotd-flaglog`.

pub mod about;
pub mod clock;
pub mod heat;
pub mod identity;
pub mod judgement;
pub mod jump;
pub mod raster;
#[cfg(feature = "settings")]
pub mod settings;
pub mod shown;
pub mod verdict;
