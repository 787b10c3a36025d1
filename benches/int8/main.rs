//! int8 inference compared with Python's onnxruntime, OpenVINO and ncnn: the same ONNX files, one
//! pinned thread, in turns within one run, so that other load affects all alike.
//!
//! `make bench-int8` installs what it needs; `BENCH_INT8_ROUNDS` and `BENCH_INT8_SECONDS` (per
//! turn) make it longer.
//!
//! On a processor without VNNI weights are quantised to the reduced range, as for the shipped
//! model: with the whole range the fast paths of onnxruntime and OpenVINO saturate there, and
//! timing wrong sums is no comparison. `BENCH_INT8_RANGE=whole` or `reduced` overrides that.
//! `make bench-int8-avx2` hides from all engines what goes beyond AVX2 (`avx2.c`).
//! `BENCH_INT8_FOLDER=DIR` keeps the models there and reuses existing ones: ResNet-50 takes two
//! minutes to quantise.

#[path = "../../tests/common/networks.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod networks;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use image::RgbImage;
use serde_json::Value;
use spotd::detector::Model;
use spotd::detector::card::{Card, Training, sha256_hex};
use spotd::identity::Precision;
use spotd::quantize::{Clipping, Options, Residual, quantize};
use spotd_kernels::Isa;

/// Side of the tiles.
const SIDE: u32 = 224;
/// Set in the process that is pinned.
const PINNED: &str = "BENCH_INT8_PINNED";
/// Tiles on which outputs are compared.
const COMPARED: u64 = 4;

fn main() {
    let Some(python) = std::env::var_os("SPOTD_INT8_PYTHON").map(PathBuf::from) else {
        println!("skipped: SPOTD_INT8_PYTHON names no interpreter; `make bench-int8` installs one");
        return;
    };
    let core = std::env::var("BENCH_INT8_CORE").unwrap_or_else(|_| "0".into());
    if std::env::var_os(PINNED).is_none() {
        let status = Command::new("taskset")
            .args(["-c", &core])
            .arg(std::env::current_exe().expect("this program"))
            .env(PINNED, "1")
            .status()
            .expect("taskset (util-linux) pins the run to one core");
        std::process::exit(status.code().unwrap_or(2));
    }
    let number = |name: &str, or: f64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(or);
    let (rounds, seconds) = (number("BENCH_INT8_ROUNDS", 5.0) as usize, number("BENCH_INT8_SECONDS", 0.7));
    let range = Range::asked();
    println!("{}; core {core}; {rounds} rounds of {seconds} s an engine", processor());
    println!("weights: {}", range.name());
    if cfg!(debug_assertions) {
        println!("THIS IS A DEBUG BUILD: our figures say nothing");
    }
    let temporary = tempfile::tempdir().expect("a folder");
    let kept = std::env::var_os("BENCH_INT8_FOLDER").map(PathBuf::from);
    let folder = kept.as_deref().unwrap_or(temporary.path());
    let only = std::env::var("BENCH_INT8_ONLY").ok();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let shipped = |file: &str| std::fs::read(models.join(file)).expect("a shipped model");
    let nets: [(&str, f64, bool, Vec<u8>); 5] = [
        ("lite, as it ships", 383.9, true, shipped("spotd-lite-int8.onnx")),
        ("edge", 285.4, false, shipped("spotd-edge.onnx")),
        ("plain, 8 convolutions", 581.0, false, networks::plain(SIDE as usize, 32, 1)),
        ("ResNet-50", 4089.0, false, networks::resnet_bottleneck(SIDE as usize, 64, &[3, 4, 6, 3], 2)),
        ("depthwise", 0.0, false, networks::mobilenet(SIDE as usize, 16, 3)),
    ];
    let mut agree = true;
    for (name, mmac, quantised, onnx) in nets {
        if only.as_ref().is_none_or(|o| name.contains(o.as_str())) {
            let own =
                folder.join(name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")).join(range.folder());
            std::fs::create_dir_all(&own).expect("a folder that can be written");
            let net = Network { name, mmac, quantised, onnx: &onnx, range };
            agree &= network(&own, &python, &net, rounds, Duration::from_secs_f64(seconds));
        }
    }
    assert!(agree, "some outputs differ; see above");
}

/// Range of quantised weights.
#[derive(Clone, Copy, PartialEq)]
enum Range {
    /// Up to 127 steps.
    Whole,
    /// Up to 64 steps: two products fit into 16 bits.
    Reduced,
}

impl Range {
    /// `BENCH_INT8_RANGE`, else what suits the processor: all engines' sums must be exact.
    fn asked() -> Self {
        match std::env::var("BENCH_INT8_RANGE").as_deref() {
            Ok("whole") => Self::Whole,
            Ok("reduced") => Self::Reduced,
            Ok(other) => panic!("BENCH_INT8_RANGE is `whole` or `reduced`, not `{other}`"),
            Err(_) if exact_products() => Self::Whole,
            Err(_) => Self::Reduced,
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Reduced => "reduced",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole range (127 steps)",
            Self::Reduced => "reduced range (64 steps)",
        }
    }
}

/// Whether the processor multiplies bytes without saturation: anything but x86 without VNNI.
fn exact_products() -> bool {
    cfg!(not(target_arch = "x86_64")) || [Isa::Avx512Vnni, Isa::AvxVnni].into_iter().any(Isa::is_available)
}

/// What is measured.
struct Network<'a> {
    name: &'a str,
    /// Millions of MACs of one run; 0: unknown.
    mmac: f64,
    /// It is int8 already, and there is no float model beside it.
    quantised: bool,
    /// The model; the float one unless it is `quantised`.
    onnx: &'a [u8],
    range: Range,
}

/// One engine on one file.
struct Row {
    engine: String,
    file: String,
    times: Vec<f64>,
}

impl Row {
    fn min(&self) -> f64 {
        self.times.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn median(&self) -> f64 {
        let mut sorted = self.times.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

/// Measures one network; returns whether all outputs agree.
fn network(folder: &Path, python: &Path, net: &Network<'_>, rounds: usize, turn: Duration) -> bool {
    let Network { name, mmac, quantised, onnx, range } = *net;
    println!("\n{name}");
    let held_out = networks::HELD_OUT..networks::HELD_OUT + COMPARED;
    let pictures: Vec<RgbImage> = held_out.map(|s| networks::tile(SIDE, s)).collect();
    let tiles = networks::tiles(SIDE, 8, COMPARED);
    let with = |file: &str, residual: Residual| {
        let path = folder.join(format!("{file}.onnx"));
        if let Ok(there) = std::fs::read(&path) {
            println!("  {} was there", path.display());
            return there;
        }
        // One way of clipping is enough: speed does not depend on ranges.
        let options = Options {
            residual,
            clipping: Some(Clipping::Percentile(0.9999)),
            may_keep_ends: false,
            reduce_range: range == Range::Reduced,
            // Speed does not depend on it, and ResNet-50 would take a quarter of an hour.
            round_to_nearest: mmac > 1000.0,
            ..Options::default()
        };
        quantize(onnx, &tiles, &options, &()).expect("quantises").onnx
    };
    let files = if quantised {
        BTreeMap::from([("int8", onnx.to_vec())])
    } else {
        BTreeMap::from([
            ("f32", onnx.to_vec()),
            ("int8", with("int8", Residual::Fused)),
            ("int8-apart", with("int8-apart", Residual::Apart)),
        ])
    };
    for (file, bytes) in &files {
        std::fs::write(folder.join(format!("{file}.onnx")), bytes).expect("written");
    }
    let compared: Vec<f32> = tiles
        .held_out
        .iter()
        .flat_map(|t| t.to_plain_array_view::<f32>().expect("floats").iter().copied().collect::<Vec<f32>>())
        .collect();
    let bytes: Vec<u8> = compared.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.join("tiles"), bytes).expect("written");

    let ours: Vec<(&str, Model)> = ["f32", "int8"]
        .into_iter()
        .filter_map(|file| files.get(file).map(|bytes| (file, model(bytes, file))))
        .collect();
    let plain: BTreeMap<&str, Vec<f32>> =
        files.iter().map(|(file, bytes)| (*file, networks::logits(bytes, &tiles.held_out))).collect();
    // The nearest there is to what the network says of a picture.
    let (exact, logits) = plain.get_key_value("f32").or(plain.get_key_value("int8")).expect("a file");
    let spread = {
        let mean = logits.iter().sum::<f32>() / logits.len() as f32;
        (logits.iter().map(|l| (l - mean).powi(2)).sum::<f32>() / logits.len() as f32).sqrt()
    };

    let mut agree = true;
    // Values that lie between two steps go to either of them, and random layers make that more. An
    // engine may be off by a tenth of the spread; or, as two that are equally far from the float
    // model, by twice what quantising moved its logits.
    let mut judge = |engine: &str, file: &str, logits: &[f32]| {
        let off = networks::apart(logits, &plain[file]);
        let allowed = match file {
            "f32" => 1e-3 * (1.0 + spread),
            _ => (0.1 * spread.max(0.05)).max(2.0 * networks::apart(&plain[file], &plain[exact])),
        };
        let verdict = if off > allowed { ": TOO MUCH" } else { "" };
        println!(
            "  {engine} {file}: logits within {off:.4}, allowed {allowed:.4} (spread {spread:.3}){verdict}"
        );
        // Others may saturate where weights of the whole range were asked for.
        let may_saturate = engine != "spotd" && file != "f32" && range == Range::Whole && !exact_products();
        agree &= off <= allowed || may_saturate;
    };
    for (file, model) in &ours {
        let logits: Vec<f32> = pictures.iter().map(|p| model.logit(p).expect("runs")).collect();
        judge("spotd", file, &logits);
    }
    let mut peers = Peers::start(python, folder, &files);
    for (engine, file, logits) in &peers.logits {
        judge(engine, file, logits);
    }

    let mut rows: Vec<Row> = Vec::new();
    let engines: Vec<(String, String)> = ours
        .iter()
        .map(|(file, _)| ("spotd".to_owned(), (*file).to_owned()))
        .chain(peers.logits.iter().map(|(e, f, _)| (e.clone(), f.clone())))
        .collect();
    for (engine, file) in &engines {
        rows.push(Row { engine: engine.clone(), file: file.clone(), times: vec![] });
    }
    for _ in 0..rounds {
        for row in &mut rows {
            let times = match ours.iter().find(|(file, _)| row.engine == "spotd" && *file == row.file) {
                Some((_, model)) => time(turn, || model.logit(&pictures[0]).expect("runs")),
                None => peers.time(&row.engine, &row.file, turn),
            };
            row.times.extend(times);
        }
    }
    table(&rows, mmac);
    agree
}

fn table(rows: &[Row], mmac: f64) {
    let best =
        |is: &dyn Fn(&Row) -> bool| rows.iter().filter(|r| is(r)).map(Row::min).fold(f64::INFINITY, f64::min);
    let peers = best(&|r| r.engine != "spotd" && r.file != "f32");
    let own = best(&|r| r.engine == "spotd" && r.file == "int8");
    println!(
        "  {:12} {:11} {:>9} {:>9} {:>8} {:>14}",
        "engine", "file", "min ms", "median", "GMAC/s", "times spotd int8"
    );
    for row in rows {
        let rate = if mmac > 0.0 { format!("{:.1}", mmac / row.min()) } else { "-".into() };
        println!(
            "  {:12} {:11} {:9.3} {:9.3} {rate:>8} {:14.2}",
            row.engine,
            row.file,
            row.min(),
            row.median(),
            row.min() / own
        );
    }
    println!("  fastest int8 of the others / spotd int8: {:.2}", peers / own);
}

fn time(turn: Duration, mut run: impl FnMut() -> f32) -> Vec<f64> {
    black_box(run());
    let (mut times, end) = (Vec::new(), Instant::now() + turn);
    while times.len() < 5 || Instant::now() < end {
        let begun = Instant::now();
        black_box(run());
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times
}

/// As the daemon would load it.
fn model(onnx: &[u8], file: &str) -> Model {
    let card = Card {
        name: file.into(),
        version: "bench".into(),
        sha256: sha256_hex(onnx),
        precision: if file == "f32" { Precision::F32 } else { Precision::Int8 },
        tile: SIDE,
        temperature: 1.0,
        threshold: 0.8,
        unsure_from: 0.6,
        mmac: 0.0,
        parameters: 0,
        licence: "none".into(),
        known_failures: vec![],
        training: Training { data: "none".into(), recipe: "random".into(), minutes: 0.0, seed: 0 },
        coherence: None,
        reach: None,
        measured: vec![],
    };
    Model::from_bytes(onnx, card, Path::new(file)).expect("keeps the contract")
}

/// The script with the other runtimes; ends when it is dropped.
struct Peers {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Engine, file, logits.
    logits: Vec<(String, String, Vec<f32>)>,
}

impl Peers {
    fn start(python: &Path, folder: &Path, files: &BTreeMap<&str, Vec<u8>>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/int8/peers.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(SIDE.to_string())
            .arg(folder.join("tiles"))
            .args(files.keys().map(|f| format!("{f}={}", folder.join(format!("{f}.onnx")).display())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut peers = Self { child, input, output, logits: vec![] };
        loop {
            let line = peers.line();
            if line["ready"] == true {
                return peers;
            }
            let text = |key: &str| line[key].as_str().expect("a text").to_owned();
            match line["error"].as_str() {
                Some(error) => println!("  {} {}: {error}", text("engine"), text("file")),
                None => {
                    let logits = line["logits"].as_array().expect("a list").iter();
                    let logits = logits.map(|l| l.as_f64().expect("a number") as f32).collect();
                    peers.logits.push((text("engine"), text("file"), logits));
                }
            }
        }
    }

    /// The next JSON line; others, such as a runtime's own notices, are skipped.
    fn line(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("output") > 0, "the script ended");
            if let Ok(value) = serde_json::from_str(&line) {
                return value;
            }
        }
    }

    fn time(&mut self, engine: &str, file: &str, turn: Duration) -> Vec<f64> {
        let input = self.input.as_mut().expect("open");
        writeln!(input, "{engine} {file} {}", turn.as_secs_f64()).expect("asks");
        let line = self.line();
        line["times"].as_array().expect("a list").iter().map(|t| t.as_f64().expect("a number")).collect()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |key: &str| {
        info.lines().find_map(|l| l.strip_prefix(key)?.split_once(':').map(|p| p.1.trim().to_owned()))
    };
    // As the engines see it, which `make bench-int8-avx2` changes.
    let isas = [("avx2", Isa::Avx2), ("avx512_vnni", Isa::Avx512Vnni), ("avx_vnni", Isa::AvxVnni)];
    let has: Vec<&str> =
        isas.into_iter().filter(|(_, isa)| isa.is_available()).map(|(name, _)| name).collect();
    format!("{} ({})", named("model name").unwrap_or_else(|| "unknown processor".into()), has.join(", "))
}
