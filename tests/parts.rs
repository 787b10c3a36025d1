//! A part of the frame that a network has redrawn is found by the map over time, where the mean over the frame stays clear.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use image::{RgbImage, imageops};
use spotd::detector::mapped::{Judged, Mapped};
use spotd::detector::pool::{Arrival, Done, Feed, Pool};
use spotd::detector::scoring::Accumulated;
use spotd::detector::{Detector, Model};
use spotd::forensics::scenes::SceneRenderer;
use spotd::frame::{Frame, Rect};
use spotd::identity::Wanted;
use spotd::judgement::HeatMap;
use spotd::source::demo::{HEIGHT, Resynthesis, WIDTH};
use spotd::verdict::{Verdict, VerdictConfig, VerdictMachine};

/// The daemon's defaults.
const TILES: usize = 9;
const EVERY: Duration = Duration::from_millis(500);
/// A seed that is neither in the training scenes nor in the demonstration.
const FIRST_SCENE: u64 = 530_000;
/// Frames of it: twelve seconds.
const FRAMES: u64 = 24;

/// What a feed's frames have led to.
struct Watched {
    map: HeatMap,
    /// The map as it was after some of the frames.
    early: Vec<HeatMap>,
    /// Verdicts of the feed as a whole.
    verdicts: BTreeMap<&'static str, usize>,
    /// Highest median over the frames.
    peak: f64,
}

/// Judges frames as the daemon does, with its workers, two a second; also says how the map was after so many of them.
fn watch(detector: &Detector, frames: impl Iterator<Item = RgbImage>, after: &[usize]) -> Watched {
    let (pool, done) = Pool::start(detector, 2).expect("threads");
    let feed: Arc<Mutex<Feed>> = Arc::default();
    let (mut map, mut accumulated) = (Mapped::default(), Accumulated::new(9));
    let mut machine = VerdictMachine::new(VerdictConfig::default(), detector.limits(), Duration::MAX);
    let (mut verdicts, mut peak, mut early) = (BTreeMap::new(), 0.0f64, Vec::new());
    for (turn, picture) in frames.enumerate() {
        let at = EVERY * turn as u32;
        let captured = SystemTime::UNIX_EPOCH + at;
        let frame = Frame::from_rgb("feed".into(), turn as u64, captured, at, picture);
        assert!(pool.submit(Arrival { source: 0, frame, feed: feed.clone(), mapped: true }));
        let Done::Judged(work) = done.recv().expect("an answer") else { panic!("frame {turn} is judged") };
        let mut score = work.score(detector).expect("a score");
        let regions = score.readings.as_mut().and_then(|readings| readings.regions.take());
        let size = (work.frame.width, work.frame.height);
        accumulated.add(detector, size, &mut score).expect("added");
        let tiles = score.pieces();
        let judged = Judged { at, captured, size, tiles: &tiles, logits: score.parts, regions };
        map.add(detector, judged).expect("mapped");
        if after.contains(&(turn + 1)) {
            let mut now = map.clone();
            now.refresh(detector).expect("mapped");
            early.push(now.copy(detector).expect("a map"));
        }
        let outcome = machine.push_frame(at, score.score, score.degraded);
        if outcome.judgement.frames >= VerdictConfig::default().min_frames {
            *verdicts.entry(outcome.verdict.as_str()).or_default() += 1;
            peak = peak.max(outcome.judgement.smoothed.unwrap_or_default());
        }
    }
    pool.join();
    map.refresh(detector).expect("mapped");
    Watched { map: map.copy(detector).expect("a map"), early, verdicts, peak }
}

/// Cells with their middle, as far as they are known.
fn cells(map: &HeatMap) -> Vec<((u32, u32), f64)> {
    let middle = |at: u32| at * map.side + map.side / 2;
    (map.values.iter().zip(0..))
        .filter_map(|(value, at)| {
            Some(((middle(at % map.columns), middle(at / map.columns)), f64::from((*value)?)))
        })
        .collect()
}

fn hottest(cells: impl IntoIterator<Item = ((u32, u32), f64)>) -> ((u32, u32), f64) {
    cells.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("a known cell")
}

/// Whether a point lies in a rectangle that is `more` pixels larger on each side.
fn inside((x, y): (u32, u32), rect: Rect, more: u32) -> bool {
    x + more >= rect.x
        && x < rect.x + rect.width + more
        && y + more >= rect.y
        && y < rect.y + rect.height + more
}

#[test]
fn a_redrawn_rectangle_is_found_by_the_map_where_the_frames_mean_stays_clear() {
    let detector = Detector::of(&Model::open(None, Wanted::Auto).expect("the built-in detector"), TILES);
    let network = Resynthesis::new().expect("the demonstration's network");
    // On no grid of tiles or blocks.
    let pasted = Rect { x: 397, y: 139, width: 136, height: 136 };
    let mut renderer = SceneRenderer::new(FIRST_SCENE, WIDTH, HEIGHT);
    let mut frames: Vec<RgbImage> = (0..FRAMES).map(|at| renderer.frame(at)).collect();
    let only_clear = |watched: &Watched| watched.verdicts.keys().all(|v| *v == Verdict::Clear.as_str());

    let plain = watch(&detector, frames.iter().cloned(), &[]);
    let (at, untouched) = hottest(cells(&plain.map));
    assert!(only_clear(&plain), "{:?}, {:.3}", plain.verdicts, plain.peak);
    assert!(untouched < 0.1, "{untouched:.3} at {at:?} untouched");

    for frame in &mut frames {
        let other = network.apply(frame).expect("redrawn");
        let Rect { x, y, width, height } = pasted;
        let part = imageops::crop_imm(&other, x, y, width, height).to_image();
        imageops::replace(frame, &part, i64::from(x), i64::from(y));
    }
    let found = watch(&detector, frames.into_iter(), &[]);
    assert!(only_clear(&found), "{:?}, {:.3}", found.verdicts, found.peak);
    let (at, most) = hottest(cells(&found.map));
    let elsewhere = cells(&found.map).into_iter().filter(|(at, _)| !inside(*at, pasted, 64));
    let (far, rest) = hottest(elsewhere);
    println!(
        "hottest: {untouched:.3} untouched; {most:.3} at {at:?}, elsewhere {rest:.3} at {far:?}; median at most {:.3}",
        found.peak
    );
    assert!(inside(at, pasted, 0) && most >= 0.35, "{most:.3} at {at:?}");
    assert!(rest < 0.1, "{rest:.3} at {far:?}, where nothing was redrawn");
    assert!(found.map.judged.iter().all(|&n| n > 0), "{:?}", found.map.judged);
}

#[test]
fn another_model_or_another_size_starts_the_map_anew() {
    let detector = Detector::of(&Model::open(None, Wanted::Auto).expect("the built-in detector"), TILES);
    let smaller = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/spotd-edge.onnx"));
    let other = Detector::of(&Model::open(Some(smaller), Wanted::Auto).expect("the smaller one"), TILES);
    assert_ne!(detector.card().sha256, other.card().sha256);
    let mut map = Mapped::default();
    assert_eq!(map.copy(&detector), None);
    let logits = spotd::judgement::Logits { network: 0.0, coherence: None, scale: None };
    let mut add = |detector: &Detector, at: u64, size: (u32, u32), x: u32| {
        let (at, tiles) = (Duration::from_secs(at), [(Rect { x, y: 0, width: 224, height: 224 }, 3.0)]);
        let captured = SystemTime::UNIX_EPOCH + at;
        let judged = Judged { at, captured, size, tiles: &tiles, logits, regions: None };
        map.add(detector, judged).expect("added");
        let copy = map.copy(detector).expect("a map");
        (
            copy.since.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs(),
            copy.judged.iter().sum::<u32>(),
        )
    };
    assert_eq!(add(&detector, 1, (448, 224), 0), (1, 49));
    assert_eq!(add(&detector, 2, (448, 224), 224), (1, 98));
    assert_eq!(add(&other, 3, (448, 224), 0), (3, 49));
    assert_eq!(add(&other, 4, (480, 224), 0), (4, 49));
}

/// Probability that a place inside a rectangle looks more synthetic than one outside.
fn auc(map: &HeatMap, rect: Rect) -> f64 {
    let (within, without): (Vec<_>, Vec<_>) =
        cells(map).into_iter().partition(|(at, _)| inside(*at, rect, 0));
    let pairs = within.iter().flat_map(|(_, a)| without.iter().map(move |(_, b)| (a, b)));
    let won: f64 = pairs.map(|(a, b)| if a > b { 1.0 } else { f64::from(u8::from(a == b)) / 2.0 }).sum();
    won / (within.len() * without.len()) as f64
}

/// The rectangle that a feed's name ends with: `-x27y259s192`.
fn redrawn(name: &str) -> Option<Rect> {
    let (x, rest) = name.rsplit_once("-x")?.1.split_once('y')?;
    let (y, side) = rest.split_once('s')?;
    let [x, y, side] = [x, y, side].map(|number| number.parse().ok());
    Some(Rect { x: x?, y: y?, width: side?, height: side? })
}

/// Prints what the map finds in feeds that somebody has: `SPOTD_MAP_FEEDS` names a folder with a folder of numbered pictures
/// for each, whose name says what was redrawn (`clip-x27y259s192`), if anything; see docs/MODEL_CARD.md, "Where in the
/// frame".
#[test]
#[ignore = "measures feeds that SPOTD_MAP_FEEDS names"]
fn measured() {
    let dir = std::env::var_os("SPOTD_MAP_FEEDS").expect("SPOTD_MAP_FEEDS names a folder");
    let detector = Detector::of(&Model::open(None, Wanted::Auto).expect("the built-in detector"), TILES);
    let listed = |dir: &Path| {
        let mut all: Vec<_> =
            std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("one").path()).collect();
        all.sort();
        all
    };
    let after = [1, 8, 30, 59];
    let mut all: Vec<Vec<f64>> = Vec::new();
    for feed in listed(Path::new(&dir)) {
        let frames = listed(&feed);
        let pictures = frames.iter().map(|file| image::open(file).expect("a picture").to_rgb8());
        let seen = watch(&detector, pictures, &after);
        let name = feed.file_name().expect("a name").to_string_lossy().into_owned();
        let logit = |score: f64| (score / (1.0 - score)).ln();
        let rect = redrawn(&name);
        // Where nothing was redrawn, every place is one outside.
        let highest = |map: &HeatMap, wanted: bool| {
            let here = |at| rect.is_some_and(|rect| inside(at, rect, 0)) == wanted;
            let values = cells(map).into_iter().filter(|(at, _)| here(*at)).map(|(_, score)| logit(score));
            values.fold(f64::NEG_INFINITY, f64::max)
        };
        let aucs = rect.map(|rect| seen.early.iter().map(|map| auc(map, rect)).collect::<Vec<_>>());
        println!(
            "{name}: {} frames of {}x{}, {:?}, median at most {:.3}; highest logit inside {:.2}, outside {:.2}; AUC {aucs:.3?}",
            frames.len(),
            seen.map.width,
            seen.map.height,
            seen.verdicts,
            seen.peak,
            highest(&seen.map, true),
            highest(&seen.map, false),
        );
        all.extend(aucs);
    }
    for (at, frames) in after.iter().enumerate() {
        let aucs: Vec<f64> = all.iter().filter_map(|aucs| aucs.get(at).copied()).collect();
        println!(
            "AUC after {frames} frames: {:.3}, mean of {}",
            aucs.iter().sum::<f64>() / aucs.len() as f64,
            aucs.len()
        );
    }
}
