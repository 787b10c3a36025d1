//! The paper's learning-rate schedule: divided by ten whenever validation accuracy has stalled.

use serde::{Deserialize, Serialize};

/// The state of the schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// Learning rate now.
    pub rate: f64,
    /// Validations without a gain before a drop.
    pub patience: u32,
    /// Training ends once the rate falls below this.
    pub least_rate: f64,
    /// Accuracy that the next one must beat, by [`Plateau::gain`].
    mark: Option<f64>,
    stalled: u32,
    drops: u32,
}

/// What a validation led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing changes.
    Go,
    /// The rate was divided by ten.
    Drop,
    /// The rate would fall below the least one: training is over.
    Stop,
}

impl Plateau {
    /// Starts at `rate`, drops after `patience` validations without a gain, and ends below
    /// `least_rate`.
    pub fn new(rate: f64, patience: u32, least_rate: f64) -> Plateau {
        Plateau { rate, patience, least_rate, mark: None, stalled: 0, drops: 0 }
    }

    /// Least gain of accuracy that counts: 0.001, and 0.002 after the first drop.
    fn gain(&self) -> f64 {
        if self.drops == 0 { 0.001 } else { 0.002 }
    }

    /// Validations until the end if accuracy never improves again, which is the earliest end.
    pub fn least_validations(&self) -> u64 {
        let (mut rate, mut drops) = (self.rate / 10.0, 1);
        while rate >= self.least_rate * (1.0 - 1e-9) {
            rate /= 10.0;
            drops += 1;
        }
        // The very first validation always counts as a gain.
        u64::from(self.mark.is_none()) + drops * u64::from(self.patience) - u64::from(self.stalled)
    }

    /// Takes one validation's accuracy.
    pub fn step(&mut self, accuracy: f64) -> Turn {
        // Rounding must not count as a gain.
        if self.mark.is_none_or(|mark| accuracy > mark + self.gain() - 1e-12) {
            self.mark = Some(accuracy);
            self.stalled = 0;
            return Turn::Go;
        }
        self.stalled += 1;
        if self.stalled < self.patience {
            return Turn::Go;
        }
        self.stalled = 0;
        self.drops += 1;
        let lower = self.rate / 10.0;
        if lower < self.least_rate * (1.0 - 1e-9) {
            return Turn::Stop;
        }
        self.rate = lower;
        Turn::Drop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_when_it_stalls_and_stops_at_the_papers_least_rate() {
        let mut plateau = Plateau::new(1e-4, 5, 1e-6);
        assert_eq!(plateau.step(0.8), Turn::Go);
        for _ in 0..4 {
            assert_eq!(plateau.step(0.8005), Turn::Go, "less than 0.001 is no gain");
        }
        assert_eq!(plateau.step(0.8009), Turn::Drop);
        assert!((plateau.rate - 1e-5).abs() < 1e-12);
        assert_eq!(plateau.step(0.9), Turn::Go);
        for _ in 0..4 {
            assert_eq!(plateau.step(0.9015), Turn::Go, "0.002 is asked for after a drop");
        }
        assert_eq!(plateau.step(0.9), Turn::Drop);
        assert!((plateau.rate - 1e-6).abs() < 1e-13, "1e-6 itself is still used");
        for _ in 0..4 {
            assert_eq!(plateau.step(0.9), Turn::Go);
        }
        assert_eq!(plateau.step(0.9), Turn::Stop);
    }
}
