"""What scikit-learn says of random rankings, one JSON object a line: golden.py >golden.jsonl

Scores are single precision, as a detector's logits are; most cases have ties, some hardly anything else.
`ece` is the expected calibration error over 15 bins of equal width, from scikit-learn's own bins
(calibration_curve) weighted by what numpy counts in them.
"""

import json
import sys

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

BINS = 15
RECALL = 0.9


def case(rng, n, levels, shift):
    """`n` scores of which about `levels` values occur (None: all differ)."""
    labels = rng.permutation(np.arange(n) < max(1, int(n * rng.uniform(0.1, 0.9))))
    labels[:2] = [True, False]
    scores = rng.normal(size=n) + shift * labels
    if levels:
        scores = np.round(scores * levels / 6.0) * 6.0 / levels
    scores = scores.astype(np.float32)
    probabilities = 1.0 / (1.0 + np.exp(-scores.astype(np.float64)))
    share, mean = calibration_curve(labels, probabilities, n_bins=BINS, strategy="uniform")
    counts, _ = np.histogram(probabilities, bins=BINS, range=(0.0, 1.0))
    false_alarms, recall, _ = roc_curve(labels, scores, drop_intermediate=False)
    right = recall * labels.sum() + (1.0 - false_alarms) * (~labels).sum()
    return {
        "scores": [float(s) for s in scores],
        "labels": [int(label) for label in labels],
        "ap": average_precision_score(labels, scores),
        "auc": roc_auc_score(labels, scores),
        "best_accuracy": right.max() / n,
        "fpr_at_recall": false_alarms[np.argmax(recall >= RECALL - 1e-12)],
        "ece": float(np.abs(share - mean) @ counts[counts > 0]) / n,
    }


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    rng = np.random.default_rng(seed)
    for n in (2, 3, 5, 10, 30, 100, 200):
        for levels in (None, 40, 6, 2):
            for shift in (-0.5, 0.0, 1.0):
                print(json.dumps(case(rng, n, levels, shift)))


main()
