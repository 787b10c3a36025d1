//! Shares and rankings after each number of seconds, from what was seen of each clip.

use serde_json::{Value, json};

use super::watch::{Answer, Watched, Watcher};
use spotd::forensics::ap::quantile;
use spotd::forensics::metrics::{Ranking, bootstrap_weights};
use spotd::verdict::Verdict;

/// A set of clips, by their indices in the list of all.
pub(super) struct Set {
    pub name: String,
    /// Real clips, then generated ones.
    pub sides: [Vec<usize>; 2],
}

/// How to measure.
pub(super) struct Measure {
    /// Seconds watched, ascending; whole clips come after them.
    pub seconds: Vec<f64>,
    /// Recall at which the false-positive rate is measured.
    pub recall: f64,
    /// Replicates of the bootstrap behind the AUC's interval; 0 for none.
    pub replicates: u64,
    pub seed: u64,
}

/// One side of a set, or of all sets, after some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Side {
    pub clips: usize,
    /// Clips that last this long.
    pub lasting: usize,
    /// Clips without a judged frame so far.
    pub unjudged: usize,
    /// Share of the clips that were called synthetic by then.
    pub flagged: f64,
    /// 95 % confidence interval of that share (Wilson); none for a mean.
    pub interval: Option<(f64, f64)>,
    /// Share of the clips whose verdict can only be `unsure`.
    pub unsure: f64,
}

/// One line of the result: a set, or the mean over sets, after some time.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// `None` for the mean over sets.
    pub set: Option<String>,
    /// `None` for whole clips.
    pub seconds: Option<f64>,
    /// Real clips, then generated ones.
    pub sides: [Side; 2],
    pub ranks: Option<Ranks>,
    /// 95 % confidence interval of the AUC, by bootstrap.
    pub auc_interval: Option<(f64, f64)>,
}

/// Metrics of a ranking, 0..1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranks {
    /// Ranked by the highest median, which is what a threshold is applied to.
    pub auc: f64,
    /// Ranked by the mean of the logits.
    pub auc_of_mean: f64,
    pub ap: f64,
    pub fpr_at_recall: f64,
}

impl Row {
    pub fn name(&self) -> &str {
        self.set.as_deref().unwrap_or("mean of sets")
    }

    /// Names and values, as in JSON and CSV.
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        let [real, fake] = &self.sides;
        let low = |interval: Option<(f64, f64)>| interval.map(|i| i.0);
        let high = |interval: Option<(f64, f64)>| interval.map(|i| i.1);
        vec![
            ("set", json!(self.name())),
            ("seconds", json!(self.seconds)),
            ("real", json!(real.clips)),
            ("fake", json!(fake.clips)),
            ("real_lasting", json!(real.lasting)),
            ("fake_lasting", json!(fake.lasting)),
            ("auc", json!(self.ranks.map(|r| r.auc))),
            ("auc_low", json!(low(self.auc_interval))),
            ("auc_high", json!(high(self.auc_interval))),
            ("auc_of_mean", json!(self.ranks.map(|r| r.auc_of_mean))),
            ("ap", json!(self.ranks.map(|r| r.ap))),
            ("fpr_at_recall", json!(self.ranks.map(|r| r.fpr_at_recall))),
            ("found", json!(fake.flagged)),
            ("found_low", json!(low(fake.interval))),
            ("found_high", json!(high(fake.interval))),
            ("false", json!(real.flagged)),
            ("false_low", json!(low(real.interval))),
            ("false_high", json!(high(real.interval))),
            ("real_unsure", json!(real.unsure)),
            ("fake_unsure", json!(fake.unsure)),
            ("real_unjudged", json!(real.unjudged)),
            ("fake_unjudged", json!(fake.unjudged)),
        ]
    }
}

/// The clips of a set that can be ranked.
struct Entries {
    places: Vec<usize>,
    by_peak: Ranking,
    by_mean: Ranking,
}

impl Entries {
    fn new(set: &Set, answers: &[Answer]) -> Self {
        let (mut places, mut fake, mut peaks, mut means) = (vec![], vec![], vec![], vec![]);
        for (side, label) in set.sides.iter().zip([false, true]) {
            for &place in side {
                let Answer { score: Some(score), mean_logit: Some(mean), .. } = answers[place] else {
                    continue;
                };
                places.push(place);
                fake.push(label);
                // Scores near 0 and 1 differ by less than an f32 can represent; their logits do
                // not.
                let score = score.clamp(1e-15, 1.0 - 1e-15);
                peaks.push((score / (1.0 - score)).ln() as f32);
                means.push(mean);
            }
        }
        let ranking = |values: &[f32]| Ranking::new(values, &fake).expect("logits are finite");
        Self { by_peak: ranking(&peaks), by_mean: ranking(&means), places }
    }

    fn ranks(&self, recall: f64) -> Option<Ranks> {
        let curve = self.by_peak.curve(None);
        curve.has_both().then(|| Ranks {
            auc: curve.auc(),
            auc_of_mean: self.by_mean.curve(None).auc(),
            ap: curve.average_precision(),
            fpr_at_recall: curve.false_positive_rate_at(recall),
        })
    }

    fn auc(&self, weights: &[f64]) -> Option<f64> {
        let own: Vec<f64> = self.places.iter().map(|&at| weights[at]).collect();
        let curve = self.by_peak.curve(Some(&own));
        curve.has_both().then(|| curve.auc())
    }
}

/// One row for every set after every time and at the end, then for the mean of the sets.
pub(super) fn rows(sets: &[Set], watched: &[Watched], watcher: &Watcher, measure: &Measure) -> Vec<Row> {
    let times: Vec<Option<f64>> = measure.seconds.iter().copied().map(Some).chain([None]).collect();
    let answers: Vec<Vec<Answer>> =
        times.iter().map(|s| watched.iter().map(|w| watcher.after(w, *s)).collect()).collect();
    let entries: Vec<Vec<Entries>> =
        answers.iter().map(|at| sets.iter().map(|set| Entries::new(set, at)).collect()).collect();

    // One draw of weights serves all sets and times, because they share clips.
    let mut replicates = vec![vec![vec![]; sets.len() + 1]; times.len()];
    for replicate in 0..measure.replicates {
        let weights = bootstrap_weights(measure.seed, replicate, watched.len());
        for (of_time, into) in entries.iter().zip(&mut replicates) {
            let aucs: Vec<Option<f64>> = of_time.iter().map(|set| set.auc(&weights)).collect();
            let all: Vec<f64> = aucs.iter().flatten().copied().collect();
            for (auc, into) in aucs.into_iter().chain([mean(&all)]).zip(into.iter_mut()) {
                into.extend(auc.map(|auc| auc as f32));
            }
        }
    }

    let row = |number: usize, time: usize| Row {
        set: Some(sets[number].name.clone()),
        seconds: times[time],
        sides: [0, 1].map(|side: usize| {
            Side::of(&sets[number].sides[side], &answers[time], watched, (times[time], 1.0 / watcher.fps))
        }),
        ranks: entries[time][number].ranks(measure.recall),
        auc_interval: interval(&replicates[time][number]),
    };
    let mut rows: Vec<Row> = (0..sets.len())
        .flat_map(|set| (0..times.len()).map(move |time| (set, time)))
        .map(|(s, t)| row(s, t))
        .collect();
    if sets.len() > 1 {
        let means = (0..times.len()).map(|time| {
            let of_time: Vec<&Row> = rows.iter().filter(|row| row.seconds == times[time]).collect();
            let ranks: Vec<Ranks> = of_time.iter().filter_map(|row| row.ranks).collect();
            Row {
                set: None,
                seconds: times[time],
                sides: [0, 1].map(|side: usize| Side::mean(of_time.iter().map(|row| row.sides[side]))),
                ranks: Ranks::mean(&ranks),
                auc_interval: interval(&replicates[time][sets.len()]),
            }
        });
        rows.extend(means.collect::<Vec<_>>());
    }
    rows
}

impl Side {
    fn of(
        places: &[usize],
        answers: &[Answer],
        watched: &[Watched],
        (seconds, period): (Option<f64>, f64),
    ) -> Self {
        let count = |is: &dyn Fn(usize) -> bool| places.iter().filter(|at| is(**at)).count();
        let share = |n: usize| n as f64 / places.len() as f64;
        let flagged = count(&|at| answers[at].verdict == Verdict::Synthetic);
        Self {
            clips: places.len(),
            // No further frame would have been due before that time.
            lasting: count(&|at| seconds.is_none_or(|s| watched[at].last + period >= s - 1e-6)),
            unjudged: count(&|at| answers[at].frames == 0),
            flagged: share(flagged),
            interval: Some(wilson(flagged, places.len())),
            unsure: share(count(&|at| answers[at].verdict == Verdict::Unsure)),
        }
    }

    fn mean(sides: impl Iterator<Item = Side> + Clone) -> Self {
        let sum = |of: fn(&Side) -> usize| sides.clone().map(|s| of(&s)).sum();
        let n = sides.clone().count() as f64;
        Self {
            clips: sum(|s| s.clips),
            lasting: sum(|s| s.lasting),
            unjudged: sum(|s| s.unjudged),
            flagged: sides.clone().map(|s| s.flagged).sum::<f64>() / n,
            interval: None,
            unsure: sides.clone().map(|s| s.unsure).sum::<f64>() / n,
        }
    }
}

impl Ranks {
    fn mean(all: &[Self]) -> Option<Self> {
        let of = |value: fn(&Self) -> f64| mean(&all.iter().map(value).collect::<Vec<_>>());
        Some(Self {
            auc: of(|r| r.auc)?,
            auc_of_mean: of(|r| r.auc_of_mean)?,
            ap: of(|r| r.ap)?,
            fpr_at_recall: of(|r| r.fpr_at_recall)?,
        })
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The middle 95 % of replicates.
fn interval(replicates: &[f32]) -> Option<(f64, f64)> {
    let bound = |q: f64| quantile(replicates, q).map(f64::from);
    Some((bound(0.025)?, bound(0.975)?))
}

/// The 95 % interval of a share of `k` in `n` (Wilson, 1927): 0 of 20 may still be one in six.
fn wilson(k: usize, n: usize) -> (f64, f64) {
    const Z: f64 = 1.959_964;
    let (p, n) = (k as f64 / n as f64, n as f64);
    let middle = p + Z * Z / (2.0 * n);
    let reach = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let bound = |v: f64| (v / (1.0 + Z * Z / n)).clamp(0.0, 1.0);
    (bound(middle - reach), bound(middle + reach))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_few_is_not_sure() {
        // For 0 of n the upper end is z^2 / (n + z^2), and for n of n the lower end mirrors it.
        for (k, n, low, high) in
            [(0, 20, 0.0, 0.161_125), (8, 16, 0.279_996, 0.720_004), (5, 5, 0.565_518, 1.0)]
        {
            let (a, b) = wilson(k, n);
            assert!((a - low).abs() < 1e-5 && (b - high).abs() < 1e-5, "{k} of {n}: {a} {b}");
        }
    }
}
