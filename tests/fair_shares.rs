//! Many sources over few workers: each gets its rate, or all are slowed alike, and every frame that
//! is not judged is counted under its source and a reason.

#[path = "common/model.rs"]
mod model;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::Receiver;
use image::RgbImage;
use proptest::prelude::*;
use spotd::clock::{Clock, ManualClock};
use spotd::frame::{Captured, Frame};
use spotd::health::Board;
use spotd::identity::Wanted;
use spotd::schedule::Turns;
use spotd::source::FrameSink;
use spotd::source::latest::LatestSink;

const MS: Duration = Duration::from_millis(1);

/// Sources, queue and workers as in the daemon, with a clock that the test moves.
struct Simulation {
    clock: ManualClock,
    board: Board,
    turns: Arc<Turns>,
    sources: Vec<Simulated>,
    /// When each worker is done, and with which source.
    work: VecDeque<(Duration, usize)>,
    workers: usize,
    /// How long a worker takes for a frame.
    service: Duration,
}

struct Simulated {
    id: Arc<str>,
    sink: LatestSink,
    frames: Receiver<Frame>,
    /// Interval between the camera's frames, and how many came already.
    period: Duration,
    delivered: u64,
    judged: u64,
}

impl Simulation {
    /// `rates` are, for each source, the camera's rate and the wanted one, in frames per second.
    fn new(rates: &[(f64, f64)], workers: usize, service: Duration) -> Self {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let ids: Vec<Arc<str>> = (0..rates.len()).map(|n| format!("cam{n:02}").into()).collect();
        let board = Board::new(ids.iter().cloned());
        let turns = Arc::new(Turns::new(rates.len()));
        let sources = rates.iter().zip(ids).enumerate().map(|(index, (&(delivers, wants), id))| {
            let told = turns.clone();
            let on_frame = move || told.frame_waits(index);
            let (sink, frames) =
                LatestSink::new(id.clone(), wants, board.clone(), Arc::new(clock.clone()), on_frame);
            let period = Duration::from_secs_f64(1.0 / delivers);
            Simulated { id, sink, frames, period, delivered: 0, judged: 0 }
        });
        let sources = sources.collect();
        Self { clock, board, turns, sources, work: VecDeque::new(), workers, service }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 1000 {
            self.clock.advance(MS);
            let now = self.clock.now();
            for (n, source) in self.sources.iter_mut().enumerate() {
                // Cameras are not in step.
                while source.period.mul_f64(source.delivered as f64 + n as f64 / 16.0) <= now {
                    source.delivered += 1;
                    if source.sink.wants_frame() {
                        source.sink.offer(Captured::rgb(self.clock.wall(), RgbImage::new(1, 1)));
                    }
                }
            }
            while self.work.front().is_some_and(|(due, _)| *due <= now) {
                let (_, source) = self.work.pop_front().expect("looked at");
                self.sources[source].judged += 1;
                self.turns.done(source);
            }
            while self.work.len() < self.workers
                && let Ok(source) = self.turns.queue().try_recv()
            {
                self.turns.begin(source);
                self.sources[source].frames.try_recv().expect("a source in the queue has a frame");
                self.work.push_back((now + self.service, source));
            }
        }
    }

    /// Frames judged of each source, after checking that all are accounted for.
    fn judged(&self) -> Vec<u64> {
        for (source, (_, status)) in self.sources.iter().zip(self.board.snapshot()) {
            let dropped = |why| status.dropped.get(why).copied().unwrap_or(0);
            let reasons: Vec<_> = status.dropped.keys().collect();
            assert!(reasons.iter().all(|r| matches!(**r, "rate" | "overwritten")), "{reasons:?}");
            assert_eq!(source.delivered, status.frames + dropped("rate"), "{}", source.id);
            let under_way = status.frames - source.judged - dropped("overwritten");
            assert!(under_way <= 2, "{}: {under_way} frames are neither judged nor counted", source.id);
        }
        self.sources.iter().map(|s| s.judged).collect()
    }
}

#[test]
fn with_enough_workers_each_source_gets_its_rate_and_loses_none() {
    for workers in [1, 2] {
        let mut simulation = Simulation::new(&[(30.0, 2.0); 16], workers, 20 * MS);
        simulation.run(60);
        for judged in simulation.judged() {
            assert!((118..=121).contains(&judged), "{judged} of 120");
        }
        assert!(simulation.board.snapshot().iter().all(|(_, s)| !s.dropped.contains_key("overwritten")));
    }
}

#[test]
fn with_too_few_workers_all_are_slowed_alike() {
    for workers in [1, 2] {
        // Four times as much is wanted as can be done.
        let mut simulation = Simulation::new(&[(30.0, 10.0); 16], workers, 25 * MS * workers as u32);
        simulation.run(60);
        let judged = simulation.judged();
        for &judged in &judged {
            // 40 a second over 16 sources for a minute.
            assert!((147..=151).contains(&judged), "{judged} of 150: {judged:?}");
        }
    }
}

#[test]
fn a_source_that_wants_little_gets_it_beside_greedy_ones() {
    let mut rates = [(60.0, 60.0); 16];
    rates[3] = (30.0, 0.5);
    rates[11] = (25.0, 1.0);
    let mut simulation = Simulation::new(&rates, 2, 40 * MS);
    simulation.run(60);
    let judged = simulation.judged();
    assert!((29..=31).contains(&judged[3]), "{judged:?}");
    assert!((59..=61).contains(&judged[11]), "{judged:?}");
    let greedy: Vec<_> =
        judged.iter().enumerate().filter(|(n, _)| ![3, 11].contains(n)).map(|(_, j)| *j).collect();
    let (least, most) = (greedy.iter().min().expect("some"), greedy.iter().max().expect("some"));
    assert!(most - least <= 2, "{judged:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// No source gets more than it wants, and none is starved by others that want more.
    #[test]
    fn shares_are_fair_whatever_the_rates(
        rates in prop::collection::vec((1.0f64..60.0, 0.2f64..60.0), 1..17), workers in 1usize..3,
        service in 1u32..120,
    ) {
        let mut simulation = Simulation::new(&rates, workers, MS * service);
        simulation.run(20);
        let judged = simulation.judged();
        let most = *judged.iter().max().expect("one");
        for (n, (&(delivers, wants), &judged)) in rates.iter().zip(&judged).enumerate() {
            let due = (delivers.min(wants) * 20.0) as u64;
            prop_assert!(judged <= due + 2, "{}: {} of {}", n, judged, due);
            // A turn may have to wait for the camera's next frame, and a frame that waits for its
            // turn may be overtaken by the next: half of what is due or of what the greediest got
            // is always left.
            let least = due.min(most) / 2;
            prop_assert!(judged + 2 >= least, "{}: {} of {} beside {}", n, judged, due, most);
        }
    }
}

#[cfg(feature = "gstreamer")]
#[test]
fn sixteen_streams_share_one_real_worker() {
    use spotd::clock::SystemClock;
    use spotd::detector::Model;
    use spotd::pipeline::Daemon;

    let dir = tempfile::tempdir().expect("a folder");
    let path = model::write_brightness(dir.path());
    let mut text = format!("[model]\npath = {path:?}\nworkers = 1\n[log]\ndir = \"flags\"\n");
    for n in 0..16 {
        text += &format!(
            "[[source]]\nid = \"cam{n:02}\"\nfps = 60\nuri = \"videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 \
             ! video/x-raw,format=I420,width=192,height=128,framerate=60/1 ! appsink\"\n"
        );
    }
    let config =
        spotd::config::parse(&text, &dir.path().join("spotd.toml"), std::iter::empty()).expect("valid");
    let model = Model::open(Some(&path), Wanted::Auto).expect("the model");
    let daemon = Daemon::start(config, model, SystemClock::shared()).expect("starts");
    let board = daemon.board.clone();
    let judged = || board.snapshot().iter().map(|(_, s)| s.judged).collect::<Vec<_>>();
    let wait = |least: &dyn Fn(&[u64]) -> bool| {
        let begun = std::time::Instant::now();
        loop {
            let now = judged();
            if least(&now) {
                return now;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{now:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // All are running; from here on it counts.
    let before = wait(&|judged| judged.iter().all(|&j| j > 0));
    let after = wait(&|judged| judged.iter().zip(&before).all(|(now, before)| now - before >= 30));
    daemon.stop();
    let shares: Vec<_> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let (least, most) = (shares.iter().min().expect("16"), shares.iter().max().expect("16"));
    assert!(*most <= 3 * least, "{shares:?}");
    for (id, status) in board.snapshot() {
        let lost: u64 =
            status.dropped.iter().filter(|(why, _)| !matches!(**why, "rate" | "unread")).map(|d| d.1).sum();
        let open = status.frames - status.judged - lost;
        assert!(open <= 2, "{id}: {open} frames are neither judged nor counted: {status:?}");
    }
}
