//! Frame scores in, verdicts and events out: a pure state machine without clock, I/O or threads.
//!
//! The smoothed score is the median over the last `window` judged frames, so that a few odd frames
//! move nothing. A source is `synthetic` from `threshold` on and stays so until the median has fallen
//! below `threshold - hysteresis`; between `unsure_from` and `threshold` it is `unsure`, below that
//! `clear`. Until `min_frames` frames are in the window it is `unsure`: too little was seen. And instead of `clear` it is
//! `unsure` while most frames of the window are degraded: of such frames hardly anything generated scores high.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::judgement::Judgement;

/// Why a verdict is no more than unsure, where that is not the score's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Fewer frames were judged than a verdict takes.
    FewFrames,
    /// The frames have lost so much to compression, blur or scaling that a low score says nothing.
    Degraded,
}

impl Reason {
    /// The word used in states and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::FewFrames => "few-frames",
            Reason::Degraded => "degraded",
        }
    }
}

/// What is said of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing that looks generated.
    Clear,
    /// Too little seen, or scores between clear and synthetic.
    Unsure,
    /// Looks CNN-generated.
    Synthetic,
}

impl Verdict {
    /// The word used in records, topics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Clear => "clear",
            Verdict::Unsure => "unsure",
            Verdict::Synthetic => "synthetic",
        }
    }

    /// The verdict of one score alone, without memory; what `spotd scan` says of an image.
    pub fn of_score(score: f64, limits: Limits) -> Self {
        if score >= limits.threshold {
            Verdict::Synthetic
        } else if score >= limits.unsure_from {
            Verdict::Unsure
        } else {
            Verdict::Clear
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The two scores that separate the three verdicts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// From here on synthetic, 0..1.
    pub threshold: f64,
    /// From here on unsure, at most `threshold`.
    pub unsure_from: f64,
}

/// `[verdict]`
#[derive(Debug, Clone, PartialEq)]
pub struct VerdictConfig {
    /// Frames in the median, 1..=1000.
    pub window: usize,
    /// Frames needed before anything but unsure is said, 1..=window.
    pub min_frames: usize,
    /// Overrides the card's threshold.
    pub threshold: Option<f64>,
    /// Overrides the card's lower bound of unsure.
    pub unsure_from: Option<f64>,
    /// How far the median must fall below a bound before the milder verdict returns, 0..0.5.
    pub hysteresis: f64,
    /// Scores older than this say nothing about the feed any more and are forgotten.
    pub forget_after: Duration,
    /// A change of the score by so much, in log odds, is an alert; `None`: none is. See [`crate::jump`].
    pub jump: Option<f64>,
}

impl Default for VerdictConfig {
    fn default() -> Self {
        Self {
            window: 9,
            min_frames: 5,
            threshold: None,
            unsure_from: None,
            hysteresis: 0.05,
            forget_after: Duration::from_secs(60),
            jump: None,
        }
    }
}

/// What an event record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The source has become synthetic.
    Start,
    /// It still is; sent now and then.
    Update,
    /// It no longer is, or nothing can be said any more.
    End,
    /// Something to look at that is no verdict; an event of its own, in one record.
    Alert,
}

impl EventKind {
    /// The word used in records, topics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Start => "start",
            EventKind::Update => "update",
            EventKind::End => "end",
            EventKind::Alert => "alert",
        }
    }
}

/// What one step of the machine found.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The verdict now.
    pub verdict: Verdict,
    /// The verdict before.
    pub before: Verdict,
    /// What it rests on.
    pub judgement: Judgement,
    /// Why the verdict is unsure, where the scores alone would not say so.
    pub reason: Option<Reason>,
    /// The event to record, if any.
    pub event: Option<EventKind>,
}

/// The machine for one source.
#[derive(Debug, Clone)]
pub struct VerdictMachine {
    config: VerdictConfig,
    limits: Limits,
    update_every: Duration,
    scores: VecDeque<Scored>,
    verdict: Verdict,
    reason: Option<Reason>,
    last_score: Option<Moment>,
    event: Option<Open>,
}

/// A frame in the window.
#[derive(Debug, Clone, Copy)]
struct Scored {
    score: f64,
    degraded: bool,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    peak: f64,
    told: Moment,
}

impl VerdictMachine {
    /// A machine that has seen nothing. `update_every` spaces the update events.
    pub fn new(config: VerdictConfig, limits: Limits, update_every: Duration) -> Self {
        Self {
            scores: VecDeque::with_capacity(config.window),
            config,
            limits,
            update_every,
            verdict: Verdict::Unsure,
            reason: None,
            last_score: None,
            event: None,
        }
    }

    /// Takes the score of a frame judged at `at`. A score that is not a number counts as none.
    pub fn push(&mut self, at: Moment, score: f64) -> Outcome {
        self.push_frame(at, score, false)
    }

    /// [`Self::push`], with whether the frame is degraded: see [`Reason::Degraded`].
    pub fn push_frame(&mut self, at: Moment, score: f64, degraded: bool) -> Outcome {
        let expired = self.expire(at);
        if !score.is_finite() {
            return expired;
        }
        let before = expired.before;
        if self.scores.len() == self.config.window {
            self.scores.pop_front();
        }
        self.scores.push_back(Scored { score: score.clamp(0.0, 1.0), degraded });
        self.last_score = Some(at);
        let smoothed = self.median().expect("just pushed");
        (self.verdict, self.reason) = self.next_verdict(smoothed);
        // An event that ended because its scores were forgotten is told before a new one can begin: the
        // window then holds one score, and `min_frames` decides whether that is enough.
        let event = expired.event.or_else(|| self.step_event(at, smoothed));
        let mut outcome = self.outcome(before, Some(score), event);
        outcome.judgement.peak = outcome.judgement.peak.or(expired.judgement.peak);
        outcome
    }

    /// Tells the machine that time has passed without a score.
    pub fn tick(&mut self, at: Moment) -> Outcome {
        self.expire(at)
    }

    /// Closes an open event, because the source is gone or the daemon ends.
    pub fn finish(&mut self) -> Outcome {
        let before = self.verdict;
        let (peak, event) = (self.event.map(|e| e.peak), self.event.take().map(|_| EventKind::End));
        let smoothed = self.median();
        self.scores.clear();
        self.last_score = None;
        (self.verdict, self.reason) = (Verdict::Unsure, None);
        let judgement = Judgement { smoothed, ..self.judgement(None, peak) };
        Outcome { verdict: self.verdict, before, judgement, reason: None, event }
    }

    /// Judges by other bounds from the next score on. The scores of the window stay, as far as the new one has room for
    /// them, and so do the verdict and an open event until then.
    pub fn judge_by(&mut self, config: VerdictConfig, limits: Limits) {
        let too_many = self.scores.len().saturating_sub(config.window);
        self.scores.drain(..too_many);
        (self.config, self.limits) = (config, limits);
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn expire(&mut self, at: Moment) -> Outcome {
        match self.last_score {
            Some(last) if at.saturating_sub(last) > self.config.forget_after => self.finish(),
            _ => self.outcome(self.verdict, None, None),
        }
    }

    fn next_verdict(&self, smoothed: f64) -> (Verdict, Option<Reason>) {
        if self.scores.len() < self.config.min_frames {
            return (Verdict::Unsure, Some(Reason::FewFrames));
        }
        let slack = |held: bool| if held { self.config.hysteresis } else { 0.0 };
        let Limits { threshold, unsure_from } = self.limits;
        if smoothed >= threshold - slack(self.verdict == Verdict::Synthetic) {
            (Verdict::Synthetic, None)
        } else if smoothed >= unsure_from - slack(self.is_unsure_by_score()) {
            (Verdict::Unsure, None)
        } else if self.is_degraded() {
            (Verdict::Unsure, Some(Reason::Degraded))
        } else {
            (Verdict::Clear, None)
        }
    }

    fn is_unsure_by_score(&self) -> bool {
        self.verdict == Verdict::Unsure && self.reason.is_none() && self.scores.len() > self.config.min_frames
    }

    /// Whether most frames of the window are degraded; once they were, more than a third.
    fn is_degraded(&self) -> bool {
        let degraded = self.scores.iter().filter(|s| s.degraded).count();
        let held = self.reason == Some(Reason::Degraded);
        degraded * if held { 3 } else { 2 } > self.scores.len()
    }

    fn step_event(&mut self, at: Moment, smoothed: f64) -> Option<EventKind> {
        match (&mut self.event, self.verdict) {
            (None, Verdict::Synthetic) => {
                self.event = Some(Open { peak: smoothed, told: at });
                Some(EventKind::Start)
            }
            (Some(open), Verdict::Synthetic) => {
                open.peak = open.peak.max(smoothed);
                (at.saturating_sub(open.told) >= self.update_every).then(|| {
                    open.told = at;
                    EventKind::Update
                })
            }
            (Some(_), _) => Some(EventKind::End),
            (None, _) => None,
        }
    }

    fn outcome(&mut self, before: Verdict, raw: Option<f64>, event: Option<EventKind>) -> Outcome {
        let peak = self.event.map(|e| e.peak);
        if event == Some(EventKind::End) {
            self.event = None;
        }
        let judgement = self.judgement(raw, peak);
        Outcome { verdict: self.verdict, before, judgement, reason: self.reason, event }
    }

    /// What the window says now.
    fn judgement(&self, raw: Option<f64>, peak: Option<f64>) -> Judgement {
        let Limits { threshold, unsure_from } = self.limits;
        Judgement {
            raw,
            smoothed: self.median(),
            peak,
            threshold,
            unsure_from,
            window: self.config.window,
            frames: self.scores.len(),
        }
    }

    fn median(&self) -> Option<f64> {
        median(self.scores.iter().map(|s| s.score))
    }
}

/// Median of finite numbers; the mean of the two middle ones for an even count. `None` for none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut v: Vec<f64> = values.into_iter().collect();
    if v.is_empty() {
        return None;
    }
    v.sort_by(f64::total_cmp);
    let mid = v.len() / 2;
    Some(if v.len() % 2 == 1 { v[mid] } else { (v[mid - 1] + v[mid]) / 2.0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { threshold: 0.8, unsure_from: 0.4 };

    fn machine() -> VerdictMachine {
        let config = VerdictConfig { window: 5, min_frames: 3, hysteresis: 0.1, ..VerdictConfig::default() };
        VerdictMachine::new(config, LIMITS, Duration::from_secs(10))
    }

    fn feed(m: &mut VerdictMachine, from: u64, scores: &[f64]) -> Vec<Outcome> {
        scores.iter().enumerate().map(|(i, &s)| m.push(Duration::from_secs(from + i as u64), s)).collect()
    }

    #[test]
    fn nothing_is_said_before_min_frames() {
        let out = feed(&mut machine(), 0, &[0.99, 0.99, 0.99]);
        assert_eq!(out[1].verdict, Verdict::Unsure);
        assert_eq!(out[1].event, None);
        assert_eq!(out[2].verdict, Verdict::Synthetic);
        assert_eq!(out[2].event, Some(EventKind::Start));
    }

    #[test]
    fn one_odd_frame_moves_nothing() {
        let out = feed(&mut machine(), 0, &[0.1, 0.1, 0.1, 1.0, 0.1]);
        assert!(out[2..].iter().all(|o| o.verdict == Verdict::Clear && o.event.is_none()));
    }

    #[test]
    fn leaving_synthetic_takes_more_than_dipping_below_the_threshold() {
        let mut m = machine();
        feed(&mut m, 0, &[0.9; 5]);
        let dip = feed(&mut m, 5, &[0.75; 5]);
        assert!(dip.iter().all(|o| o.verdict == Verdict::Synthetic));
        let fall = feed(&mut m, 10, &[0.6; 5]);
        let end = fall.iter().position(|o| o.event == Some(EventKind::End)).expect("ends");
        assert_eq!(fall[end].verdict, Verdict::Unsure);
        assert_eq!(fall[end].judgement.peak, Some(0.9));
    }

    #[test]
    fn other_bounds_count_from_the_next_score_on_and_open_no_second_event() {
        let mut m = machine();
        feed(&mut m, 0, &[0.85; 5]);
        let looser = VerdictConfig { window: 3, min_frames: 1, ..VerdictConfig::default() };
        m.judge_by(looser.clone(), Limits { threshold: 0.7, unsure_from: 0.4 });
        let out = feed(&mut m, 5, &[0.75, 0.75]);
        assert!(out.iter().all(|o| o.verdict == Verdict::Synthetic && o.event.is_none()));
        assert_eq!((out[1].judgement.frames, out[1].judgement.threshold), (3, 0.7));
        m.judge_by(looser, Limits { threshold: 0.95, unsure_from: 0.4 });
        assert_eq!(feed(&mut m, 7, &[0.75])[0].event, Some(EventKind::End));
    }

    #[test]
    fn updates_are_spaced() {
        let mut m = machine();
        let out = feed(&mut m, 0, &[0.95; 30]);
        let at: Vec<usize> = out
            .iter()
            .enumerate()
            .filter(|(_, o)| o.event == Some(EventKind::Update))
            .map(|(i, _)| i)
            .collect();
        assert_eq!(at, [12, 22]);
    }

    #[test]
    fn old_scores_are_forgotten_and_the_event_ends() {
        let mut m = machine();
        feed(&mut m, 0, &[0.95; 5]);
        assert_eq!(m.tick(Duration::from_secs(64)).event, None);
        let out = m.tick(Duration::from_secs(65));
        assert_eq!(
            (out.event, out.verdict, out.judgement.peak),
            (Some(EventKind::End), Verdict::Unsure, Some(0.95))
        );
        assert_eq!(m.tick(Duration::from_secs(66)).event, None);
    }

    #[test]
    fn a_gap_then_a_score_ends_the_old_event_first() {
        let mut m = machine();
        feed(&mut m, 0, &[0.95; 5]);
        let out = m.push(Duration::from_secs(500), 0.99);
        assert_eq!(
            (out.event, out.judgement.frames, out.verdict),
            (Some(EventKind::End), 1, Verdict::Unsure)
        );
        assert_eq!(feed(&mut m, 501, &[0.99, 0.99])[1].event, Some(EventKind::Start));
    }

    #[test]
    fn degraded_frames_are_never_called_clear() {
        let mut m = machine();
        let mut push = |at, score, degraded| {
            let out = m.push_frame(Duration::from_secs(at), score, degraded);
            (out.verdict, out.reason)
        };
        assert_eq!(push(0, 0.1, true), (Verdict::Unsure, Some(Reason::FewFrames)));
        push(1, 0.1, true);
        assert_eq!(push(2, 0.1, true), (Verdict::Unsure, Some(Reason::Degraded)));
        push(3, 0.1, false);
        push(4, 0.1, false);
        // Two of five in the window are still degraded: the word is kept until a third or fewer are.
        assert_eq!(push(5, 0.1, false), (Verdict::Unsure, Some(Reason::Degraded)));
        assert_eq!(push(6, 0.1, false), (Verdict::Clear, None));
        assert_eq!(push(7, 0.1, true), (Verdict::Clear, None));
        // A high score says as much as ever.
        let flagged: Vec<_> = (8..13).map(|at| push(at, 0.95, true)).collect();
        assert_eq!(flagged[4], (Verdict::Synthetic, None));
    }

    #[test]
    fn not_a_number_is_no_score() {
        let mut m = machine();
        assert_eq!(m.push(Duration::ZERO, f64::NAN).judgement.frames, 0);
    }

    proptest! {
        #[test]
        fn events_come_in_pairs_and_agree_with_the_verdict(
            steps in prop::collection::vec((0u64..90, prop::option::of(0.0f64..=1.0)), 1..200)
        ) {
            let mut m = machine();
            let (mut at, mut open) = (0, false);
            for (gap, score) in steps {
                at += gap;
                let now = Duration::from_secs(at);
                let out = match score { Some(s) => m.push(now, s), None => m.tick(now) };
                match out.event {
                    Some(EventKind::Start) => { prop_assert!(!open); open = true; }
                    Some(EventKind::Update) => prop_assert!(open),
                    Some(EventKind::End) => { prop_assert!(open); open = false; }
                    Some(EventKind::Alert) => prop_assert!(false, "no verdict is one"),
                    None => {}
                }
                prop_assert_eq!(open, out.verdict == Verdict::Synthetic);
                prop_assert!(out.judgement.frames <= 5);
                if let (Some(p), Some(s)) = (out.judgement.peak, out.judgement.smoothed) && open {
                    prop_assert!(p >= s);
                }
            }
            let out = m.finish();
            prop_assert_eq!(out.event == Some(EventKind::End), open);
        }

        #[test]
        fn the_median_lies_among_its_numbers(v in prop::collection::vec(0.0f64..1.0, 1..50)) {
            let m = median(v.iter().copied()).unwrap();
            let below = v.iter().filter(|&&x| x <= m).count();
            let above = v.iter().filter(|&&x| x >= m).count();
            prop_assert!(2 * below >= v.len() && 2 * above >= v.len());
        }
    }
}
