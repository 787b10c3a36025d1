//! spotd compared with what people would write instead (`opencv.py`: Python, OpenCV, onnxruntime):
//! CPU time and memory of the whole process for one and for eight 1080p30 H.264 streams with a key frame every 2 s, at up
//! to 2 judged frames per second, with the shipped model: by default, where key frames are enough, and with every frame
//! decoded.
//!
//! Both read the same RTSP server, which is a separate process and not counted, one after the other
//! in one run. `make bench-peers` creates the Python environment; `SPOTD_PEERS_PYTHON` names an
//! existing one.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use support::{play, rtsp::RtspServer};

/// Frames judged per second of each stream.
const FPS: f64 = 2.0;
/// Frames between key frames: cameras send one every one to two seconds.
const KEY_FRAME_EVERY: u32 = 60;
/// Duration of warm-up and of measurement. After four key frames spotd knows that they are enough.
const SETTLE: Duration = Duration::from_secs(12);
const MEASURE: Duration = Duration::from_secs(20);
const SERVE: &str = "SPOTD_PEERS_SERVE";

fn main() {
    if let Some(clip) = std::env::var_os(SERVE) {
        return serve(Path::new(&clip));
    }
    let Some(python) = std::env::var_os("SPOTD_PEERS_PYTHON").map(PathBuf::from) else {
        println!("peers: SKIPPED, SPOTD_PEERS_PYTHON names no Python; `make bench-peers` makes one");
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    println!(
        "1080p30 H.264 over RTSP, a key frame every 2 s, up to {FPS} judged frames a second and stream, {} s each",
        MEASURE.as_secs()
    );
    println!("decode  streams  tiles  program   CPU of one core   memory  judged frames/s  CPU/frame");
    // Broadcast has more B-frames than cameras.
    let clip = dir.path().join("clip.mkv");
    encode(dir.path(), &clip);
    for decode in ["auto", "all"] {
        for (streams, tiles) in [(1, 9), (1, 1), (8, 1)] {
            // The clip is shorter than all runs together.
            let sender = Sender::start(&clip);
            let ours = spotd(dir.path(), &sender.url, streams, tiles, decode);
            let theirs = opencv(&python, &sender.url, streams, tiles);
            for (name, cost) in [("spotd", &ours), ("Python", &theirs)] {
                println!(
                    "{decode:6}  {streams:7}  {tiles:5}  {name:8}  {:13.1} %  {:3} MiB  {:15.2}  {:6.1} ms",
                    cost.cpu * 100.0,
                    cost.memory >> 20,
                    cost.rate,
                    cost.cpu / cost.rate * 1000.0
                );
            }
            println!(
                "{:>32}  {:13.2}    {:7.2}  {:15.2}  {:6.2}",
                "spotd / Python",
                ours.cpu / theirs.cpu,
                ours.memory as f64 / theirs.memory as f64,
                ours.rate / theirs.rate,
                (ours.cpu / ours.rate) / (theirs.cpu / theirs.rate)
            );
        }
    }
}

/// The cost of a process.
struct Cost {
    /// CPU seconds per second.
    cpu: f64,
    /// Peak resident memory in bytes.
    memory: u64,
    /// Frames judged per second, by the process's own count.
    rate: f64,
}

/// Four minutes of video: eight seconds of it, repeated.
fn encode(dir: &Path, clip: &Path) {
    let part = dir.join("part.mkv");
    play(&format!(
        "videotestsrc num-buffers=240 pattern=zone-plate kx2=20 ky2=20 kt=1 \
         ! video/x-raw,format=I420,width=1920,height=1080,framerate=30/1 \
         ! x264enc speed-preset=superfast bitrate=6000 bframes=0 key-int-max={KEY_FRAME_EVERY} \
         ! h264parse ! matroskamux ! filesink location=\"{}\"",
        part.display()
    ));
    let mut text =
        format!("concat name=c ! h264parse ! matroskamux ! filesink location=\"{}\"", clip.display());
    for _ in 0..30 {
        write!(text, " filesrc location=\"{}\" ! matroskademux ! h264parse ! c.", part.display())
            .expect("text");
    }
    play(&text);
}

fn serve(clip: &Path) {
    let server = RtspServer::new(
        &format!("filesrc location=\"{}\" ! matroskademux ! h264parse", clip.display()),
        "rtph264pay config-interval=-1",
    );
    println!("{}", server.url("/live"));
    let _ = std::io::stdin().read(&mut [0]);
}

/// The sender, in a separate process; ends when dropped.
struct Sender {
    child: Child,
    url: String,
}

impl Sender {
    fn start(clip: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(SERVE, clip)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut url).expect("its address");
        Self { child, url: url.trim().into() }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spotd(dir: &Path, url: &str, streams: usize, tiles: usize, decode: &str) -> Cost {
    let log = tempfile::tempdir_in(dir).expect("a folder");
    let metrics = log.path().join("spotd.prom");
    let mut text = format!(
        "[model]\nmax_tiles = {tiles}\n[log]\ndir = {:?}\nmin_free_mib = 0\n\
         [metrics]\nfile = {metrics:?}\nevery_seconds = 1\n",
        log.path().join("flags"),
    );
    for n in 0..streams {
        writeln!(text, "[[source]]\nid = \"cam{n}\"\nuri = \"{url}\"\nfps = {FPS}\ndecode = \"{decode}\"")
            .expect("text");
    }
    let config = log.path().join("spotd.toml");
    std::fs::write(&config, text).expect("writes");
    let mut child = Command::new(env!("CARGO_BIN_EXE_spotd"))
        .args(["run", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    std::thread::sleep(SETTLE);
    let before = judged(&metrics);
    let (from, cost) = measure(child.id());
    let judged = judged(&metrics) - before;
    let seconds = from.elapsed().as_secs_f64();
    let asked = Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    assert!(asked.success(), "it runs until now");
    assert!(child.wait().expect("ends").success());
    assert!(judged > 0.0, "nothing was judged");
    Cost { rate: judged / seconds, ..cost }
}

/// Frames that all sources have judged so far, by a file of metrics.
fn judged(metrics: &Path) -> f64 {
    let text = std::fs::read_to_string(metrics).expect("it writes its metrics");
    let counts = text.lines().filter(|line| line.starts_with("spotd_source_judged_total{"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn opencv(python: &Path, url: &str, streams: usize, tiles: usize) -> Cost {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new(python)
        .arg(here.join("benches/peers/opencv.py"))
        .arg(here.join("models/spotd-lite-int8.onnx"))
        .args([url, &streams.to_string(), &FPS.to_string(), &tiles.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("piped");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut ready = String::new();
    output.read_line(&mut ready).expect("output");
    assert_eq!(ready.trim(), "ready");
    std::thread::sleep(SETTLE);
    let before = ask(&mut input, &mut output);
    let (from, cost) = measure(child.id());
    let judged = ask(&mut input, &mut output) - before;
    let seconds = from.elapsed().as_secs_f64();
    drop(input);
    child.wait().expect("ends");
    Cost { rate: judged as f64 / seconds, ..cost }
}

/// How many frames the script has judged.
fn ask(input: &mut ChildStdin, output: &mut BufReader<ChildStdout>) -> u64 {
    writeln!(input).expect("asks");
    let mut line = String::new();
    output.read_line(&mut line).expect("answers");
    line.trim().parse().expect("a number")
}

fn measure(pid: u32) -> (Instant, Cost) {
    let (from, before) = (Instant::now(), cpu_seconds(pid));
    std::thread::sleep(MEASURE);
    let cpu = (cpu_seconds(pid) - before) / from.elapsed().as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("Linux");
    let kib: u64 = peak.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    (from, Cost { cpu, memory: kib << 10, rate: 0.0 })
}

/// CPU time of a process, user and system.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: u64 = [11, 12].iter().map(|&n| fields[n].parse::<u64>().expect("ticks")).sum();
    // Linux counts 100 ticks a second on every platform that we build for.
    ticks as f64 / 100.0
}
