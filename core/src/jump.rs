//! A sudden change of a source's score: a feed that was swapped or cut into. The verdict is a median over the window and
//! takes half of it to turn; this says it after [`QUICK`] frames. Pure: no clock, no I/O.
//!
//! Scores are compared as log odds, `ln(p / (1 - p))`. A score is flat near 0 and 1, where most frames lie: from 0.001 to
//! 0.1 is another feed, from 0.45 to 0.55 is noise, and in scores both are a tenth. In log odds the first is 4.7 and
//! the second 0.4. They come from the calibrated score, not from a network's logit, so that a size means the same with
//! another detector.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::verdict::median;

/// Frames in a row that have to show the new level. One alone may be a flash, or a damaged picture.
pub const QUICK: usize = 2;
/// Scores nearer to 0 or 1 than this are all alike: log odds of 9.2 either way.
const EDGE: f64 = 1e-4;

/// A jump.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Jump {
    /// Median score before, 0..1.
    pub before: f64,
    /// Score after, of the frame of the new level that is nearer to the old one, 0..1.
    pub after: f64,
}

impl Jump {
    /// How far it is, in log odds, upwards positive.
    pub fn size(&self) -> f64 {
        log_odds(self.after) - log_odds(self.before)
    }
}

/// Looks for jumps in the scores of one source.
#[derive(Debug, Clone)]
pub struct JumpDetector {
    size: f64,
    window: usize,
    least: usize,
    /// Log odds of the frames before, the oldest first.
    before: VecDeque<f64>,
    /// Those of the last frames.
    fresh: VecDeque<f64>,
}

impl JumpDetector {
    /// One that has seen nothing. `size`: log odds that are a jump. `window`: frames whose median is the level before;
    /// `least`: how many of them there must be.
    pub fn new(size: f64, window: usize, least: usize) -> Self {
        Self {
            size,
            window,
            least: least.clamp(1, window.max(1)),
            before: VecDeque::new(),
            fresh: VecDeque::new(),
        }
    }

    /// Takes the score of the next frame, 0..1; one that is not a number is none. A jump is told once: what follows is
    /// held against the new level.
    pub fn push(&mut self, score: f64) -> Option<Jump> {
        if !score.is_finite() {
            return None;
        }
        self.fresh.push_back(log_odds(score));
        if self.fresh.len() > QUICK {
            self.before.extend(self.fresh.pop_front());
        }
        if self.before.len() > self.window {
            self.before.pop_front();
        }
        if self.fresh.len() < QUICK || self.before.len() < self.least {
            return None;
        }
        let level = median(self.before.iter().copied())?;
        let lowest = self.fresh.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self.fresh.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let after = if lowest >= level + self.size {
            lowest
        } else if highest <= level - self.size {
            highest
        } else {
            return None;
        };
        self.before = std::mem::take(&mut self.fresh);
        Some(Jump { before: score_of(level), after: score_of(after) })
    }

    /// Whether the newest frame by itself is as far from the level as a jump: the next ones will tell.
    pub fn suspects(&self) -> bool {
        let level = if self.before.len() < self.least { None } else { median(self.before.iter().copied()) };
        level.zip(self.fresh.back()).is_some_and(|(level, newest)| (newest - level).abs() >= self.size)
    }

    /// Forgets all: what comes next has nothing to do with what was.
    pub fn forget(&mut self) {
        self.before.clear();
        self.fresh.clear();
    }
}

fn log_odds(score: f64) -> f64 {
    let p = score.clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

fn score_of(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn jumps(scores: &[f64]) -> Vec<usize> {
        let mut detector = JumpDetector::new(4.0, 9, 5);
        scores.iter().enumerate().filter_map(|(i, s)| detector.push(*s).map(|_| i)).collect()
    }

    #[test]
    fn a_jump_is_suspected_with_its_first_frame() {
        let mut detector = JumpDetector::new(4.0, 9, 5);
        let mut suspected = Vec::new();
        for (i, score) in
            [0.01, 0.01, 0.9, 0.01, 0.01, 0.01, 0.9, 0.01, 0.9, 0.9, 0.9].into_iter().enumerate()
        {
            detector.push(score);
            if detector.suspects() {
                suspected.push(i);
            }
        }
        // Not before there is a level to hold it against, and no longer once it was told.
        assert_eq!(suspected, [6, 8]);
    }

    #[test]
    fn a_jump_is_told_with_the_second_frame_and_once() {
        let up = [vec![0.01; 7], vec![0.9; 7]].concat();
        assert_eq!(jumps(&up), [8]);
        let down: Vec<f64> = up.iter().rev().copied().collect();
        assert_eq!(jumps(&down), [8]);
        let both = [vec![0.01; 7], vec![0.9; 7], vec![0.01; 7]].concat();
        assert_eq!(jumps(&both), [8, 15]);
        let mut detector = JumpDetector::new(4.0, 9, 5);
        let jump = up.iter().find_map(|s| detector.push(*s)).expect("a jump");
        assert!((jump.before - 0.01).abs() < 1e-9 && (jump.after - 0.9).abs() < 1e-9, "{jump:?}");
        assert!((jump.size() - 6.79).abs() < 0.01);
    }

    #[test]
    fn what_is_no_jump() {
        // One odd frame, or two of which one is half way.
        assert_eq!(jumps(&[vec![0.01; 7], vec![0.9], vec![0.01; 7]].concat()), [0; 0]);
        assert_eq!(jumps(&[vec![0.01; 7], vec![0.9, 0.1], vec![0.01; 7]].concat()), [0; 0]);
        // A score that wanders, and one that moves where it is flat.
        let wanders: Vec<f64> = (0..50).map(|i| 0.02 + 0.018 * f64::from(i)).collect();
        assert_eq!(jumps(&wanders), [0; 0]);
        assert_eq!(jumps(&[vec![1e-12; 7], vec![1e-5; 7]].concat()), [0; 0]);
        // Too little before it.
        assert_eq!(jumps(&[vec![0.01; 2], vec![0.9; 9]].concat()), [0; 0]);
        assert_eq!(jumps(&[vec![f64::NAN; 20], vec![0.9; 4]].concat()), [0; 0]);
    }

    #[test]
    fn nothing_is_held_against_what_was_forgotten() {
        let mut detector = JumpDetector::new(4.0, 9, 5);
        assert!((0..9).all(|_| detector.push(0.01).is_none()));
        detector.forget();
        assert!((0..9).all(|_| detector.push(0.9).is_none()));
    }

    proptest! {
        #[test]
        fn scores_within_half_a_jump_of_each_other_never_are_one(
            middle in 0.0f64..1.0, steps in prop::collection::vec(-1.0f64..1.0, 1..100)
        ) {
            let mut detector = JumpDetector::new(4.0, 9, 5);
            for step in steps {
                let score = score_of(log_odds(middle) + step * 1.99);
                prop_assert_eq!(detector.push(score), None);
            }
        }
    }
}
