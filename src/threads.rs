//! Runs the same work over many items on several threads, for commands and what they build on.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `work` for each of `0..n` on at most `jobs` threads; results are in order.
///
/// # Errors
/// The OS cannot start a thread.
///
/// # Panics
/// When `work` panics.
pub fn side_by_side<T: Send>(
    jobs: usize,
    n: usize,
    work: impl Fn(usize) -> T + Sync,
) -> std::io::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads = (0..jobs.clamp(1, n.max(1)))
            .map(|i| {
                let (next, work) = (&next, &work);
                std::thread::Builder::new().name(format!("work-{i}")).spawn_scoped(scope, move || {
                    let mut done = Vec::new();
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= n {
                            return done;
                        }
                        done.push((at, work(at)));
                    }
                })
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        let mut all: Vec<(usize, T)> =
            threads.into_iter().flat_map(|t| t.join().expect("work does not panic")).collect();
        all.sort_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, answer)| answer).collect())
    })
}

/// The number of threads asked for, by default one per core.
pub fn jobs(asked: Option<std::num::NonZeroUsize>) -> usize {
    asked.or_else(|| std::thread::available_parallelism().ok()).map_or(1, std::num::NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_whatever_the_threads_do() {
        for jobs in [1, 3, 50] {
            let squares = side_by_side(jobs, 20, |n| n * n).expect("threads");
            assert_eq!(squares, (0..20).map(|n| n * n).collect::<Vec<_>>());
        }
        assert!(side_by_side(4, 0, |n| n).expect("threads").is_empty());
    }
}
