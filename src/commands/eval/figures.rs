//! Metrics of a set from its scores, with intervals, and their means over sets.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::perturb::Perturbation;
use super::scorer::Answers;
use super::sets::Set;
use spotd::forensics::ap::quantile;
use spotd::forensics::matched::Matched;
use spotd::forensics::metrics::{Curve, Ranking, bootstrap_weights, calibration_error};

/// The metrics' names in JSON and CSV, in the order of [`Values`].
pub(crate) const NAMES: [&str; 9] = [
    "ap",
    "auc",
    "accuracy",
    "best_accuracy",
    "fpr_at_recall",
    "calibration_error",
    "ap_blur_alone",
    "real_flagged",
    "fake_flagged",
];

/// One value each, 0..1.
pub(crate) type Values = [f64; NAMES.len()];

/// Share of the bootstrap's replicates outside an interval on either side: 95 % lie within.
const TAIL: f64 = 0.025;

/// How to measure.
pub(crate) struct Measure {
    /// Score from which a picture is flagged.
    pub threshold: f64,
    /// Recall at which the false-positive rate is measured.
    pub recall: f64,
    /// Replicates of the bootstrap; 0 for none.
    pub replicates: u64,
    pub seed: u64,
}

/// One line of the result: a set, or the mean over sets, under one condition.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// `None` for the mean over sets.
    pub set: Option<String>,
    pub after: Perturbation,
    pub real: usize,
    pub fake: usize,
    /// Pictures for which `run` would give no verdict: smaller than a tile, or flat.
    pub limited: usize,
    /// Whether and why the set's sides are matched; for a mean, why those of all its sets are.
    pub matched: Option<Matched>,
    /// Share of the pairs whose generated picture is ranked above its real one, ties counting half.
    pub pair_accuracy: Option<f64>,
    pub values: Values,
    /// 95 % intervals, by bootstrap.
    pub intervals: Option<[(f64, f64); NAMES.len()]>,
    /// Score with the best accuracy; none if flagging nothing is best, and for means.
    pub best_threshold: Option<f64>,
    /// The paper's AP, augmentation 0.5 and 0.1.
    pub published: Option<[f64; 2]>,
    /// Points for the plots; empty for means.
    pub curve: Option<Curve>,
    /// Scores of the photographs and of the generated pictures.
    pub scores: [Vec<f64>; 2],
}

impl Row {
    pub fn name(&self) -> &str {
        match (&self.set, self.matched) {
            (Some(set), _) => set,
            (None, Some(_)) => "mean of matched sets",
            (None, None) => "mean of sets",
        }
    }

    /// Names and values, as in JSON and CSV, in the order of the columns.
    pub fn fields(&self, view: &str) -> Vec<(String, Value)> {
        let mut fields = Vec::new();
        let mut put = |name: &str, value: Value| fields.push((name.to_owned(), value));
        put("set", json!(self.name()));
        put("after", json!(self.after.to_string()));
        put("view", json!(view));
        put("real", json!(self.real));
        put("fake", json!(self.fake));
        put("limited", json!(self.limited));
        for (at, name) in NAMES.iter().enumerate() {
            put(name, json!(self.values[at]));
            if let Some(intervals) = self.intervals {
                put(&format!("{name}_low"), json!(intervals[at].0));
                put(&format!("{name}_high"), json!(intervals[at].1));
            }
        }
        put("best_threshold", json!(self.best_threshold));
        put("paper_ap_0_5", json!(self.published.map(|p| p[0])));
        put("paper_ap_0_1", json!(self.published.map(|p| p[1])));
        put("matched", json!(self.matched));
        put("pair_accuracy", json!(self.pair_accuracy));
        fields
    }
}

/// The judged pictures of one set under one condition.
struct Entries {
    /// Indices into the collection.
    places: Vec<usize>,
    positive: Vec<bool>,
    scores: Vec<f64>,
    by_logit: Ranking,
    by_blur: Ranking,
}

impl Entries {
    fn new(set: &Set, condition: usize, answers: &HashMap<usize, Answers>) -> (Self, usize) {
        let (mut places, mut positive, mut scored) = (vec![], vec![], vec![]);
        for (list, fake) in [(&set.real, false), (&set.fake, true)] {
            for place in list {
                if let Some(Ok(answer)) = answers.get(place).map(|a| &a[condition]) {
                    places.push(*place);
                    positive.push(fake);
                    scored.push(*answer);
                }
            }
        }
        let ranking = |values: Vec<f32>| Ranking::new(&values, &positive).expect("logits are finite");
        let limited = scored.iter().filter(|s| s.limited).count();
        let entries = Self {
            by_logit: ranking(scored.iter().map(|s| s.logit).collect()),
            by_blur: ranking(scored.iter().map(|s| s.softness).collect()),
            scores: scored.iter().map(|s| s.score).collect(),
            places,
            positive,
        };
        (entries, limited)
    }

    /// All metrics; `None` without both classes, as can happen in a replicate of a small set.
    fn values(&self, measure: &Measure, weights: Option<&[f64]>) -> Option<Values> {
        let curve = self.by_logit.curve(weights);
        if !curve.has_both() {
            return None;
        }
        let flagged = |fake: bool| {
            let of = (0..self.scores.len()).filter(|at| self.positive[*at] == fake);
            let weight = |at: usize| weights.map_or(1.0, |w| w[at]);
            // An empty sum is -0, which would be printed.
            0.0 + of.filter(|at| self.scores[*at] >= measure.threshold).map(weight).sum::<f64>()
        };
        let (false_alarms, hits) = (flagged(false), flagged(true));
        Some([
            curve.average_precision(),
            curve.auc(),
            (hits + curve.negatives - false_alarms) / (curve.positives + curve.negatives),
            curve.best_accuracy().0,
            curve.false_positive_rate_at(measure.recall),
            calibration_error(&self.scores, &self.positive, weights),
            self.by_blur.curve(weights).average_precision(),
            false_alarms / curve.negatives,
            hits / curve.positives,
        ])
    }
}

/// Every set and their mean, condition by condition. `score` turns a logit into a score. A set one
/// of whose sides cannot be judged under some condition has no row there.
pub(crate) fn rows(
    sets: &[Set],
    pictures: usize,
    conditions: &[Perturbation],
    answers: &HashMap<usize, Answers>,
    measure: &Measure,
    score: impl Fn(f32) -> f64,
) -> Vec<Row> {
    let mut rows = Vec::new();
    let entries: Vec<Vec<(Entries, usize)>> = (0..conditions.len())
        .map(|condition| sets.iter().map(|set| Entries::new(set, condition, answers)).collect())
        .collect();
    // One draw of weights serves all sets and conditions, because they share pictures.
    let mut replicates: Vec<Vec<Vec<Values>>> = vec![vec![vec![]; sets.len() + 2]; conditions.len()];
    // Matched sets come first; their separate mean is useful if there are others too.
    let matched = sets.iter().take_while(|set| set.matched.is_some()).count();
    let apart = matched > 0 && matched < sets.len();
    for replicate in 0..measure.replicates {
        let weights = bootstrap_weights(measure.seed, replicate, pictures);
        for (of_condition, into) in entries.iter().zip(&mut replicates) {
            let mut all = Vec::new();
            for (number, ((set, _), into)) in of_condition.iter().zip(into.iter_mut()).enumerate() {
                let own: Vec<f64> = set.places.iter().map(|&at| weights[at]).collect();
                if let Some(values) = set.values(measure, Some(&own)) {
                    into.push(values);
                    all.push((number, values));
                }
            }
            for (which, among) in [(sets.len(), sets.len()), (sets.len() + 1, matched)] {
                into[which].extend(mean(&among_first(&all, among)));
            }
        }
    }
    for (at, condition) in conditions.iter().enumerate() {
        let mut values = Vec::new();
        let first = rows.len();
        for (number, set) in sets.iter().enumerate() {
            let (entries, limited) = &entries[at][number];
            let Some(own) = entries.values(measure, None) else { continue };
            values.push((number, own));
            let curve = entries.by_logit.curve(None);
            let of = |fake: bool| {
                let all = entries.scores.iter().zip(&entries.positive);
                all.filter(|(_, p)| **p == fake).map(|(s, _)| *s).collect::<Vec<f64>>()
            };
            rows.push(Row {
                set: Some(set.name.clone()),
                after: *condition,
                real: of(false).len(),
                fake: of(true).len(),
                limited: *limited,
                matched: set.matched,
                pair_accuracy: pair_accuracy(set, at, answers),
                values: own,
                intervals: intervals(&replicates[at][number]),
                best_threshold: curve.best_accuracy().1.map(&score),
                published: None,
                scores: [of(false), of(true)],
                curve: Some(curve),
            });
        }
        let of_condition = first..rows.len();
        for (which, among, wanted) in
            [(sets.len() + 1, matched, apart), (sets.len(), sets.len(), values.len() > 1)]
        {
            let (Some(values), true) = (mean(&among_first(&values, among)), wanted) else { continue };
            let only_matched = which > sets.len();
            let own: Vec<&Row> =
                rows[of_condition.clone()].iter().filter(|r| !only_matched || r.matched.is_some()).collect();
            let sum = |of: fn(&Row) -> usize| own.iter().map(|row| of(row)).sum();
            let paired: Vec<f64> = own.iter().filter_map(|r| r.pair_accuracy).collect();
            let row = Row {
                set: None,
                after: *condition,
                real: sum(|r| r.real),
                fake: sum(|r| r.fake),
                limited: sum(|r| r.limited),
                matched: own.first().and_then(|r| r.matched).filter(|_| only_matched),
                pair_accuracy: (!paired.is_empty()).then(|| paired.iter().sum::<f64>() / paired.len() as f64),
                values,
                intervals: intervals(&replicates[at][which]),
                best_threshold: None,
                published: None,
                curve: None,
                scores: [vec![], vec![]],
            };
            rows.push(row);
        }
    }
    rows
}

/// The values of the first `among` sets, if they have any.
fn among_first(all: &[(usize, Values)], among: usize) -> Vec<Values> {
    all.iter().filter(|(number, _)| *number < among).map(|(_, values)| *values).collect()
}

/// Over those pairs of a set of which both pictures could be judged.
fn pair_accuracy(set: &Set, condition: usize, answers: &HashMap<usize, Answers>) -> Option<f64> {
    let logit = |place: &usize| answers.get(place)?[condition].as_ref().ok().map(|scored| scored.logit);
    let wins: Vec<f64> = set
        .pairs
        .iter()
        .filter_map(|(real, fake)| match logit(real)?.total_cmp(&logit(fake)?) {
            std::cmp::Ordering::Less => Some(1.0),
            std::cmp::Ordering::Equal => Some(0.5),
            std::cmp::Ordering::Greater => Some(0.0),
        })
        .collect();
    (!wins.is_empty()).then(|| wins.iter().sum::<f64>() / wins.len() as f64)
}

fn mean(all: &[Values]) -> Option<Values> {
    let n = all.len() as f64;
    (!all.is_empty()).then(|| std::array::from_fn(|at| all.iter().map(|v| v[at]).sum::<f64>() / n))
}

/// Percentiles of the replicates.
fn intervals(replicates: &[Values]) -> Option<[(f64, f64); NAMES.len()]> {
    if replicates.is_empty() {
        return None;
    }
    Some(std::array::from_fn(|at| {
        let values: Vec<f32> = replicates.iter().map(|v| v[at] as f32).collect();
        let bound = |q: f64| f64::from(quantile(&values, q).expect("not empty"));
        (bound(TAIL), bound(1.0 - TAIL))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::eval::scorer::Scored;

    fn measure(replicates: u64) -> Measure {
        Measure { threshold: 0.5, recall: 0.9, replicates, seed: 7 }
    }

    /// Logits of photographs and of generated pictures as answers, one condition.
    fn answers(logits: &[f32]) -> HashMap<usize, Answers> {
        let scored = |logit: f32| Scored {
            logit,
            score: 1.0 / (1.0 + (-f64::from(logit)).exp()),
            softness: -logit,
            limited: false,
        };
        logits.iter().enumerate().map(|(at, l)| (at, vec![Ok(scored(*l))])).collect()
    }

    fn set(name: &str, real: impl IntoIterator<Item = usize>, fake: impl IntoIterator<Item = usize>) -> Set {
        let (real, fake) = (real.into_iter().collect(), fake.into_iter().collect());
        Set { name: name.into(), real, fake, pairs: vec![], matched: None }
    }

    #[test]
    fn figures_of_a_set_that_can_be_counted_by_hand() {
        let sets = [set("s", 0..3, 3..5)];
        let answers = answers(&[-1.0, 0.5, -2.0, 2.0, -0.5]);
        let rows = rows(&sets, 5, &[Perturbation::AsStored], &answers, &measure(0), f64::from);
        assert_eq!(rows.len(), 1, "one set has no mean");
        let value = |name: &str| rows[0].values[NAMES.iter().position(|n| *n == name).expect("known")];
        // Ranked: fake 2.0, real 0.5, fake -0.5, real, real.
        assert!((value("ap") - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
        assert!((value("auc") - 5.0 / 6.0).abs() < 1e-12);
        assert!((value("accuracy") - 0.6).abs() < 1e-12);
        assert!((value("best_accuracy") - 0.8).abs() < 1e-12);
        assert!((value("fpr_at_recall") - 1.0 / 3.0).abs() < 1e-12);
        assert!((value("real_flagged") - 1.0 / 3.0).abs() < 1e-12);
        assert!((value("fake_flagged") - 0.5).abs() < 1e-12);
        assert_eq!(rows[0].best_threshold, Some(2.0));
        assert_eq!(rows[0].intervals, None);
    }

    #[test]
    fn intervals_hold_the_value_shrink_with_more_pictures_and_reproduce() {
        let width = |n: usize| {
            let logits: Vec<f32> = (0..2 * n)
                .map(|at| ((at * 37) % 101) as f32 / 50.0 + if at < n { 0.0 } else { 0.6 })
                .collect();
            let sets = [set("s", 0..n, n..2 * n)];
            let all = answers(&logits);
            let row =
                || rows(&sets, 2 * n, &[Perturbation::AsStored], &all, &measure(400), f64::from)[0].clone();
            let (row, again) = (row(), row());
            assert_eq!(row.intervals, again.intervals);
            let (low, high) = row.intervals.expect("asked for")[1];
            assert!(low < row.values[1] && row.values[1] < high, "{low} {} {high}", row.values[1]);
            high - low
        };
        let (few, many) = (width(30), width(480));
        // Sixteen times as many: a quarter of the width.
        assert!((few / many - 4.0).abs() < 1.0, "{few} {many}");
    }

    #[test]
    fn the_mean_counts_each_set_once_whatever_its_size() {
        let sets = [set("a", [0], [1]), set("b", [0, 2, 3], [4])];
        let all = answers(&[0.0, 1.0, 0.1, 0.2, -1.0]);
        let rows = rows(&sets, 5, &[Perturbation::AsStored], &all, &measure(50), f64::from);
        assert_eq!(rows.len(), 3);
        assert_eq!((rows[0].values[1], rows[1].values[1], rows[2].values[1]), (1.0, 0.0, 0.5));
        assert_eq!((rows[2].set.as_deref(), rows[2].real), (None, 4));
    }

    #[test]
    fn matched_sets_have_a_mean_of_their_own_where_there_are_others() {
        let mut sets = [set("a", [0, 1], [2, 3]), set("b", [0], [4])];
        (sets[0].matched, sets[0].pairs) = (Some(Matched::Pairs), vec![(0, 2), (1, 3)]);
        let all = answers(&[0.0, 1.0, 0.5, 1.0, -1.0]);
        let of = |sets: &[Set]| rows(sets, 5, &[Perturbation::AsStored], &all, &measure(0), f64::from);
        let names: Vec<String> = of(&sets).iter().map(|r| r.name().to_owned()).collect();
        assert_eq!(names, ["a", "b", "mean of matched sets", "mean of sets"]);
        let rows = of(&sets);
        // One pair right, one tied; the other set has none.
        let pairs: Vec<Option<f64>> = rows.iter().map(|r| r.pair_accuracy).collect();
        assert_eq!(pairs, [Some(0.75), None, Some(0.75), Some(0.75)]);
        assert_eq!((rows[2].values[1], rows[2].real), (rows[0].values[1], 2));
        assert_eq!(of(&sets[..1]).len(), 1);
    }
}
