//! The metrics of `spotd eval` equal scikit-learn's, including ties: always compared with its
//! results from when `tests/metrics/golden.jsonl` was written (`make golden`), and with itself on
//! other numbers if `SPOTD_SKLEARN_PYTHON` names a Python that has it.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use spotd::forensics::ap::average_precision;
use spotd::forensics::metrics::{Ranking, calibration_error};

/// Allowed difference of the metrics, due to the order of summation.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Case {
    scores: Vec<f32>,
    labels: Vec<u8>,
    ap: f64,
    auc: f64,
    best_accuracy: f64,
    fpr_at_recall: f64,
    ece: f64,
}

fn check(text: &str) -> usize {
    let mut ties = 0;
    let mut cases = 0;
    for (number, line) in text.lines().enumerate() {
        let case: Case = serde_json::from_str(line).expect("a case");
        let positive: Vec<bool> = case.labels.iter().map(|l| *l == 1).collect();
        let curve = Ranking::new(&case.scores, &positive).expect("numbers").curve(None);
        let probabilities: Vec<f64> =
            case.scores.iter().map(|s| 1.0 / (1.0 + (-f64::from(*s)).exp())).collect();
        for (name, ours, theirs) in [
            ("ap", average_precision(&case.scores, &positive).expect("both classes"), case.ap),
            ("auc", curve.auc(), case.auc),
            ("best accuracy", curve.best_accuracy().0, case.best_accuracy),
            ("fpr at recall 0.9", curve.false_positive_rate_at(0.9), case.fpr_at_recall),
            ("ece", calibration_error(&probabilities, &positive, None), case.ece),
        ] {
            assert!((ours - theirs).abs() < TOLERANCE, "case {number}: {name} is {ours}, not {theirs}");
        }
        ties += usize::from(curve.points.len() < case.scores.len());
        cases += 1;
    }
    assert!(cases >= 50 && ties >= cases / 3, "{cases} cases, {ties} with ties");
    cases
}

#[test]
fn figures_equal_what_scikit_learn_said() {
    check(include_str!("metrics/golden.jsonl"));
}

#[test]
fn figures_equal_what_scikit_learn_says() {
    let Some(python) = std::env::var_os("SPOTD_SKLEARN_PYTHON") else {
        let mut err = std::io::stderr().lock();
        let _ = writeln!(
            err,
            "\n*** SKIPPED: scikit-learn itself; `make test-sklearn` has it (its golden values were checked) ***\n"
        );
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics/golden.py");
    for seed in ["2", "3", "4"] {
        let output = Command::new(&python).arg(&script).arg(seed).output().expect("Python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        check(std::str::from_utf8(&output.stdout).expect("UTF-8"));
    }
}
