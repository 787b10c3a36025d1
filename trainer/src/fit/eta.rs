//! How long a run will still take, as far as that can be known.

use indicatif::HumanDuration;
use std::{fmt, time::Duration};

/// What is known of a run's end.
#[derive(Clone, Copy, Debug)]
pub struct Eta {
    /// Time that `done` steps of this call took, validations and checkpoints included.
    pub spent: Duration,
    /// Steps of this call so far.
    pub done: u64,
    /// Steps until `--steps` ends the run.
    pub steps: Option<u64>,
    /// Time until `--minutes` ends the run.
    pub time: Option<Duration>,
    /// Steps until the schedule ends the run if validation never improves again; each gain
    /// postpones it.
    pub schedule: u64,
}

/// Steps after `step` until `validations` more validations, with one every `every` steps.
pub fn steps_of_validations(validations: u64, step: u64, every: u64) -> u64 {
    (validations * every).saturating_sub(step % every)
}

impl fmt::Display for Eta {
    /// `3 minutes to go`, with `at most` where the schedule may end it sooner, with `at least`
    /// where nothing but the schedule ends it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasts = |steps: u64| self.spent.mul_f64(steps as f64 / self.done.max(1) as f64);
        let schedule = lasts(self.schedule);
        let limit = match (self.steps.map(lasts), self.time) {
            (Some(steps), Some(time)) => Some(steps.min(time)),
            (steps, time) => steps.or(time),
        };
        match limit {
            Some(limit) if limit <= schedule => write!(f, "{} to go", HumanDuration(limit)),
            Some(limit) => write!(f, "at most {} to go", HumanDuration(limit)),
            None => write!(f, "at least {} to go", HumanDuration(schedule)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::plateau::{Plateau, Turn};

    #[test]
    fn it_says_what_is_known_and_how_sure_it_is() {
        let minute = Duration::from_secs(60);
        let eta = Eta { spent: minute, done: 60, steps: None, time: None, schedule: 600 };
        assert_eq!(eta.to_string(), "at least 10 minutes to go");
        assert_eq!(Eta { steps: Some(180), ..eta }.to_string(), "3 minutes to go");
        assert_eq!(Eta { steps: Some(1200), ..eta }.to_string(), "at most 20 minutes to go");
        let both = Eta { steps: Some(1200), time: Some(2 * minute), ..eta };
        assert_eq!(both.to_string(), "2 minutes to go");
        assert_eq!(Eta { time: Some(30 * minute), ..eta }.to_string(), "at most 30 minutes to go");
        assert_eq!(steps_of_validations(2, 7, 5), 8);
        assert_eq!(steps_of_validations(2, 10, 5), 10);
    }

    #[test]
    fn the_least_number_of_validations_is_what_a_run_without_gains_takes() {
        for gains in 0..4 {
            let mut plateau = Plateau::new(1e-4, 5, 1e-6);
            let mut left = None;
            for at in 0..1000 {
                let least = plateau.least_validations();
                if let Some(left) = left.filter(|_| at > gains) {
                    assert_eq!(least, left, "each one without a gain is one less");
                }
                left = Some(least - 1);
                if plateau.step(if at < gains { 0.1 * f64::from(at) } else { 0.0 }) == Turn::Stop {
                    break;
                }
            }
            assert_eq!(left, Some(0), "{gains}");
        }
    }
}
