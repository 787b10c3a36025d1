//! The pass over tract's models: what it fuses, what it answers, what it refuses.

mod census;
mod golden;
mod hostile;
mod net;
mod pixels;
