//! Minimum time, GMAC/s and share of the core's peak for layers of real networks, on each
//! instruction set of this processor or on those named; `only=3x3` selects the layers whose name
//! contains it, `half` layers with weights of half the range, for which AVX2 has a faster kernel,
//! `edge` those of the shipped detector, `lite` those of the shipped EfficientNet-lite0, and how long
//! they take together:
//! `cargo run --release -p spotd-kernels --example layers [isa]... [half] [edge|lite] [runs=N] [only=TEXT]`

#[path = "../benches/layers/list.rs"]
#[allow(dead_code, reason = "another uses the rest")]
mod list;

use std::time::Instant;

use list::Weights;
use spotd_kernels::{Isa, Scratch, peak_gmacs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (options, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.contains('='));
    let option = |name: &str| options.iter().find_map(|o| o.strip_prefix(name));
    let runs = option("runs=").map_or(Ok(200), str::parse)?;
    let only = option("only=").unwrap_or("");
    let (half, names): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name == "half");
    let weights = if half.is_empty() { Weights::Any } else { Weights::Half };
    let (edge, names): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name == "edge");
    let (lite, names): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name == "lite");
    let layers = |isa| -> Box<dyn Iterator<Item = list::Layer>> {
        match (edge.is_empty(), lite.is_empty()) {
            (false, _) => Box::new(list::edge(isa, weights)),
            (_, false) => Box::new(list::lite(isa, weights)),
            _ => Box::new(list::layers(isa, weights)),
        }
    };
    let mut isas = names.iter().map(|name| name.parse()).collect::<Result<Vec<Isa>, _>>()?;
    if isas.is_empty() {
        isas = Isa::available();
    }
    let scratch = &mut Scratch::new();
    for isa in isas {
        let mut peak = peak_gmacs(isa)?;
        println!("{isa}: peak {} GMAC/s", peak.map_or("unknown".into(), |p| format!("{p:.1}")));
        let mut sum = 0.0;
        for mut layer in layers(isa).filter(|layer| layer.name.contains(only)) {
            let mut best = f64::INFINITY;
            for _ in 0..runs {
                let begin = Instant::now();
                layer.run(scratch);
                best = best.min(begin.elapsed().as_secs_f64());
            }
            sum += best;
            // The clock rate of a core changes: compare with the best seen so far.
            peak = peak.zip(peak_gmacs(isa)?).map(|(a, b)| a.max(b));
            let gmacs = layer.macs as f64 / best / 1e9;
            let share = peak.map_or(String::new(), |p| format!("{:5.1} %", 100.0 * gmacs / p));
            println!("  {:28} {:9.3} ms {gmacs:7.1} GMAC/s {share}", layer.name, best * 1e3);
        }
        println!("  {:28} {:9.3} ms", "together", sum * 1e3);
    }
    Ok(())
}
