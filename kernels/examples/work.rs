//! A shipped network's convolutions on one instruction set, RUNS times, and nothing else, for
//! emulators and profilers. Prints the MACs of one run: `work ISA RUNS [edge|lite]`

#[path = "../benches/layers/list.rs"]
#[allow(dead_code, reason = "the others use the rest")]
mod list;

use list::Weights;
use spotd_kernels::{Isa, Scratch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (isa, runs, lite) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [isa, runs] | [isa, runs, "edge"] => (isa, runs, false),
        [isa, runs, "lite"] => (isa, runs, true),
        _ => {
            eprintln!("work ISA RUNS [edge|lite]");
            std::process::exit(2);
        }
    };
    let (isa, runs): (Isa, usize) = (isa.parse()?, runs.parse()?);
    let mut layers: Vec<_> = if lite {
        list::lite(isa, Weights::Half).collect()
    } else {
        list::edge(isa, Weights::Half).collect()
    };
    let scratch = &mut Scratch::new();
    for _ in 0..runs {
        for layer in &mut layers {
            layer.run(scratch);
        }
    }
    println!("{}", layers.iter().map(|layer| layer.macs).sum::<u64>());
    Ok(())
}
