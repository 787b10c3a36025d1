//! spotd compared with what people would write instead (`opencv.py`: Python, OpenCV, onnxruntime):
//! CPU time and memory of the whole process for one and for eight 1080p30 H.264 streams at 2 judged
//! frames per second, with the shipped model.
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
/// Duration of warm-up and of measurement.
const SETTLE: Duration = Duration::from_secs(8);
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
    // Cameras send a key frame every one to two seconds; broadcast has more B-frames than cameras.
    println!(
        "1080p30 H.264 over RTSP, {FPS} judged frames a second and stream, {} s each",
        MEASURE.as_secs()
    );
    println!(
        "key frame every  streams  tiles  program   CPU of one core   memory  judged frames/s  CPU/frame"
    );
    for (keyint, note) in [(60, "2 s"), (15, "0.5 s")] {
        let clip = dir.path().join(format!("clip{keyint}.mkv"));
        encode(dir.path(), &clip, keyint);
        for (streams, tiles) in [(1, 9), (1, 1), (8, 1)] {
            // The clip is shorter than all runs together.
            let sender = Sender::start(&clip);
            let ours = spotd(dir.path(), &sender.url, streams, tiles);
            let theirs = opencv(&python, &sender.url, streams, tiles);
            for (name, cost) in [("spotd", &ours), ("Python", &theirs)] {
                println!(
                    "{note:15}  {streams:7}  {tiles:5}  {name:8}  {:13.1} %  {:3} MiB  {:15.2}  {:6.1} ms",
                    cost.cpu * 100.0,
                    cost.memory >> 20,
                    cost.rate,
                    cost.cpu / cost.rate * 1000.0
                );
            }
            println!(
                "{:>41}  {:13.2}    {:7.2}  {:15.2}  {:6.2}",
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
fn encode(dir: &Path, clip: &Path, keyint: u32) {
    let part = dir.join("part.mkv");
    play(&format!(
        "videotestsrc num-buffers=240 pattern=zone-plate kx2=20 ky2=20 kt=1 \
         ! video/x-raw,format=I420,width=1920,height=1080,framerate=30/1 \
         ! x264enc speed-preset=superfast bitrate=6000 bframes=0 key-int-max={keyint} \
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

fn spotd(dir: &Path, url: &str, streams: usize, tiles: usize) -> Cost {
    let log = tempfile::tempdir_in(dir).expect("a folder");
    let mut text = format!("[model]\nmax_tiles = {tiles}\n[log]\ndir = {:?}\nmin_free_mib = 0\n", log.path());
    for n in 0..streams {
        write!(text, "[[source]]\nid = \"cam{n}\"\nuri = \"{url}\"\nfps = {FPS}\n").expect("text");
    }
    let config = log.path().join("spotd.toml");
    std::fs::write(&config, text).expect("writes");
    let mut child = Command::new(env!("CARGO_BIN_EXE_spotd"))
        .args(["run", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let log = std::thread::spawn(move || lines.map(|line| (Instant::now(), line)).collect::<Vec<_>>());
    std::thread::sleep(SETTLE);
    let (_, cost) = measure(child.id());
    let to = Instant::now();
    let asked = Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    assert!(asked.success(), "it runs until now");
    assert!(child.wait().expect("ends").success());
    let log = log.join().expect("lines");
    let (from, _) = log.iter().rfind(|(_, line)| line.ends_with("delivers")).expect("delivers");
    let judged = |line: &str| {
        let (before, _) = line.split_once(" judged, dropped")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let judged: u64 = log.iter().filter_map(|(_, line)| judged(line)).sum();
    assert!(judged > 0, "{log:#?}");
    Cost { rate: judged as f64 / (to - *from).as_secs_f64(), ..cost }
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
