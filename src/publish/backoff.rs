//! How long to wait before the next attempt at a broker or server.

use std::time::Duration;

use crate::flaglog::Hash;

/// First and longest wait before connecting again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Wait before attempt `failures + 1`: exponential up to the longest wait, minus a jitter of up to
/// a quarter that differs from box to box, so that a broker or server that comes back is not hit by
/// all of them at once.
pub(super) fn backoff(failures: u32, id: &str) -> Duration {
    let full = BACKOFF.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACKOFF.1);
    let spread = Hash::of(format!("{id} {failures}").as_bytes()).first_byte();
    full.mul_f64(1.0 - f64::from(spread) / 255.0 / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_cap_and_differs_between_boxes() {
        for failures in 1..100 {
            let full = Duration::from_secs(1 << (failures - 1).min(6)).min(BACKOFF.1);
            let wait = backoff(failures, "spotd-a");
            assert!(wait <= full && wait >= full.mul_f64(0.75), "{failures}: {wait:?}");
        }
        let waits: std::collections::BTreeSet<_> = (0..20).map(|i| backoff(3, &format!("box{i}"))).collect();
        assert!(waits.len() > 10);
    }
}
