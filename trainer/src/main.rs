//! `spotd-train`: see `spotd-train --help`.

use anyhow::Result;
use clap::{Parser, Subcommand};
use spotd_train::{fit, net};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// Trains the detector that spotd runs, and exports it.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Threads of libtorch; by default one less than the machine has, since one makes the pairs.
    #[arg(long, global = true)]
    threads: Option<i32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train the resynthesis bank, then the detector on photographs and what the bank made of them.
    Fit(FitArguments),
}

#[derive(clap::Args)]
struct FitArguments {
    /// Folder of photographs, searched for pictures; may be given several times. Never val.
    #[arg(long, required = true)]
    photos: Vec<PathBuf>,
    /// Folder of generated pictures to add without pairs; may be given several times.
    #[arg(long)]
    fakes: Vec<PathBuf>,
    /// Folder of the run: bank, checkpoints, state.
    #[arg(long)]
    run: PathBuf,
    /// Minutes of detector training.
    #[arg(long, default_value_t = 40.0)]
    minutes: f64,
    /// Seconds for each network of the bank.
    #[arg(long, default_value_t = 75.0)]
    bank_seconds: f64,
    /// Rendered scenes among the photographs.
    #[arg(long, default_value_t = 200)]
    scenes: u64,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on from the last checkpoint in the run's folder, for `minutes` more.
    #[arg(long)]
    resume: bool,
    /// Convolutions in bfloat16 (true) or float32 (false); by default whichever this machine is faster at.
    #[arg(long)]
    bf16: Option<bool>,
    /// Pairs in a batch.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// First learning rate.
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let arguments = Arguments::parse();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as i32);
    tch::set_num_threads(arguments.threads.unwrap_or((cores - 1).max(1)));
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spotd-train: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Fit(a) => {
            let options = fit::Options {
                photos: a.photos,
                fakes: a.fakes,
                run: a.run,
                scenes: a.scenes,
                budget: Duration::from_secs_f64(a.minutes * 60.0),
                bank_budget: Duration::from_secs_f64(a.bank_seconds),
                seed: a.seed,
                resume: a.resume,
                bf16: a.bf16,
                batch: a.batch,
                rate: a.rate,
                ..Default::default()
            };
            let outcome = fit::fit(&net::edge(), &options)?;
            println!("trained: loss {:.3} at first, {:.3} at last", outcome.loss.0, outcome.loss.1);
            Ok(())
        }
    }
}
