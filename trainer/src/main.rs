//! `spotd-train`: see `spotd-train --help`.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use spotd::detector::Model;
use spotd::identity::Wanted;
use spotd_train::{
    ablate, checkpoint::Run, coherence, export, finetune, fit, import, missed, net, pack, pairs, reach,
    resynth, score, windows,
};
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
    /// Train a detector on real and generated pictures, as the paper does.
    Fit(Box<fit::Options>),
    /// Teach an exported model a site's or a new generator's pictures, without forgetting what it knew.
    Finetune(finetune::Options),
    /// The paper's tables over a folder of data: augmentation, number of classes, amount of data.
    Ablate(Box<ablate::Options>),
    /// Train the resynthesis bank, then the detector on photographs and what the bank made of them.
    Resynth(ResynthArguments),
    /// Put photographs, sets and models that `resynth` needs into a folder of limited size, for a machine with a GPU.
    Pack(pack::Options),
    /// Fit the coherent part's head on pairs, matched sets and whatever else there is.
    Coherence(coherence::Options),
    /// One coherent head whose logit is the mean of several fits'.
    MeanHead(coherence::MeanOptions),
    /// Turn a checkpoint of PyTorch into safetensors, ONNX and a card.
    Import(import::Options),
    /// Write a resynthesis run's detector as ONNX with its card, and the demonstration's network.
    Export(ExportArguments),
    /// Average precision of an exported model over sets in the paper's layout.
    Score(ScoreArguments),
    /// How much is found under which conditions: the table of a card from which `degraded` is told.
    Reach(reach::Options),
    /// How many frames and tiles a verdict needs: error rates of tiles, their correlation, thresholds.
    Windows(windows::Options),
    /// What a model does not see: rendered scenes, redrawn by each network of a bank and changed on their way.
    Missed(missed::Options),
    /// How far an exported model tells rendered scenes from the same scenes redrawn.
    Scenes(ScenesArguments),
}

#[derive(clap::Args)]
struct ResynthArguments {
    /// Folder of photographs, searched for pictures; may be given several times. Never val.
    #[arg(long, required = true)]
    photos: Vec<PathBuf>,
    /// Folder of generated pictures to add without pairs; may be given several times, each counts alike.
    #[arg(long)]
    fakes: Vec<PathBuf>,
    /// Folder of sets, `<set>/{0_real,1_fake}` or `{real,fake}/<set>`, to add: a set's own photographs stand against
    /// its generated pictures. Of a matched set (pairs of one name, size and content) only pairs are drawn, both cut
    /// in one place. May be given several times, each set counts alike.
    #[arg(long)]
    sets: Vec<PathBuf>,
    /// Folder of the run: bank, checkpoints, state.
    #[arg(long)]
    run: PathBuf,
    /// Minutes of detector training.
    #[arg(long, default_value_t = 40.0)]
    minutes: f64,
    /// Seconds for each network of the bank.
    #[arg(long, default_value_t = 75.0)]
    bank_seconds: f64,
    /// A decoder of a real generator that redraws photographs beside the bank: an autoencoder or super-resolution
    /// network as ONNX, float32 [1, 3, H, W] in 0..1 in and out, of one size or enlarged by 2, 4 or 8. May be given
    /// several times; half of what the bank would redraw is theirs.
    #[arg(long, value_name = "FILE.onnx")]
    decoder: Vec<PathBuf>,
    /// Let decoders redraw alone: no bank, no random upsamplers.
    #[arg(long, requires = "decoder")]
    decoders_only: bool,
    /// What pairs go through before they are cut. A curriculum takes these one after the other, with --resume.
    #[arg(long, value_enum, default_value_t)]
    degrade: pairs::Degrade,
    /// Threads that degrade and cut; by default one for each processor but one.
    #[arg(long)]
    workers: Option<usize>,
    /// Sends this share of the pairs through H.264 or H.265 too, at constant rate factors drawn from this range.
    #[arg(long, value_name = "P[,CRF..CRF]")]
    video_codec: Option<fit::recipe::Video>,
    /// Rendered scenes among the photographs.
    #[arg(long, default_value_t = 200)]
    scenes: u64,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on from the last checkpoint in the run's folder, for `minutes` more.
    #[arg(long)]
    resume: bool,
    /// Start from this exported float32 model instead of from nothing; given several times, from the mean of their weights.
    #[arg(long, value_name = "ONNX", conflicts_with = "resume")]
    from: Vec<PathBuf>,
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

#[derive(clap::Args)]
struct ExportArguments {
    /// Folder of a finished run.
    #[arg(long)]
    run: PathBuf,
    /// Where the files go.
    #[arg(long, default_value = "models")]
    out: PathBuf,
    /// Validation sets, `<set>/{0_real,1_fake}`: the card then says what was measured on them.
    #[arg(long)]
    measure_on: Option<PathBuf>,
    /// Version on the card.
    #[arg(long, default_value = "0.1.0")]
    release: String,
    /// For the card: what the photographs are.
    #[arg(long, default_value = "photographs of the user's own")]
    data: String,
    /// For the card: what the model does not see or gets wrong; may be given several times.
    #[arg(long)]
    known_failure: Vec<String>,
}

#[derive(clap::Args)]
struct ScoreArguments {
    /// An ONNX file with its card beside it; by default the built-in detector.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Sets in the paper's layout, `<set>/[class/]{0_real,1_fake}`.
    layout: PathBuf,
    /// Only as stored, without JPEG and H.264.
    #[arg(long, conflicts_with = "write")]
    quick: bool,
    /// Put the figures into the model's card, in place of those that it has.
    #[arg(long, requires = "model")]
    write: bool,
    /// For the card: a set whose generator training saw, by other pictures; may be given several times.
    #[arg(long, requires = "write")]
    seen: Vec<String>,
}

#[derive(clap::Args)]
struct ScenesArguments {
    /// An ONNX file with its card beside it; by default the built-in detector.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Folder of the run whose demonstration network redraws.
    #[arg(long)]
    run: PathBuf,
    /// How many scenes.
    #[arg(long, default_value_t = 12)]
    scenes: u64,
    /// Frames of each.
    #[arg(long, default_value_t = 3)]
    frames: u64,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info,tract=warn")).init();
    let arguments = Arguments::parse();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as i32);
    tch::set_num_threads(arguments.threads.unwrap_or((cores - 1).max(1)));
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spotd-train: {}", spotd::shown::chain(error.as_ref()));
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Fit(options) => {
            let outcome = fit::train(&options)?;
            if let Some((step, best)) = outcome.state.best {
                println!(
                    "{} steps; best at step {step}: validation accuracy {:.4}, AP {:.4}; wrote {}",
                    outcome.state.step,
                    best.accuracy,
                    best.ap,
                    outcome.model.0.display()
                );
            }
        }
        Command::Finetune(options) => {
            let outcome = finetune::finetune(&options)?;
            print!("{}", outcome.report());
        }
        Command::Ablate(options) => print!("{}", ablate::ablate(&options)?),
        Command::Resynth(a) => {
            let options = resynth::Options {
                photos: a.photos,
                fakes: a.fakes,
                sets: a.sets,
                run: a.run,
                scenes: a.scenes,
                budget: Duration::from_secs_f64(a.minutes * 60.0),
                bank_budget: Duration::from_secs_f64(a.bank_seconds),
                video: a.video_codec,
                decoders: a.decoder,
                decoders_only: a.decoders_only,
                degrade: a.degrade,
                workers: a.workers,
                seed: a.seed,
                resume: a.resume,
                from: a.from,
                bf16: a.bf16,
                batch: a.batch,
                rate: a.rate,
                ..Default::default()
            };
            let outcome = resynth::train(&net::edge(), &options)?;
            println!("trained: loss {:.3} at first, {:.3} at last", outcome.loss.0, outcome.loss.1);
        }
        Command::Pack(options) => println!("packed {}", pack::pack(&options)?.report()),
        Command::Coherence(options) => print!("{}", coherence::coherence(&options)?),
        Command::MeanHead(options) => print!("{}", coherence::mean_head(&options)?),
        Command::Import(options) => {
            let imported = import::import(&options)?;
            let files: Vec<String> = imported.files.iter().map(|path| path.display().to_string()).collect();
            println!("{}, {} output(s): wrote {}", imported.net.name, imported.outputs, files.join(", "));
            if imported.card.is_none() {
                println!("not a detector, so no card: start a training from it with `fit --init`");
            }
        }
        Command::Export(a) => {
            export::export(&export::Options {
                run: a.run,
                out: a.out,
                measure_on: a.measure_on,
                version: a.release,
                data: a.data,
                known_failures: a.known_failure,
            })?;
        }
        Command::Score(a) => {
            let model = Model::open(a.model.as_deref(), Wanted::Auto)?;
            let perturbations = if a.quick { vec![score::Perturbation::AsStored] } else { score::possible() };
            let mut rows = score::measure(&model, &a.layout, &perturbations)?;
            print!("{}", score::table(&rows));
            if let (true, Some(path)) = (a.write, &a.model) {
                if let Some(unknown) = a.seen.iter().find(|name| rows.iter().all(|row| row.set != **name)) {
                    anyhow::bail!("--seen {unknown}: {} has no such set", a.layout.display());
                }
                rows.iter_mut().for_each(|row| row.seen = Some(a.seen.contains(&row.set)));
                score::write(path, rows)?;
            }
        }
        Command::Reach(options) => print!("{}", reach::reach(&options)?),
        Command::Windows(options) => print!("{}", windows::windows(&options)?),
        Command::Missed(options) => print!("{}", missed::missed(&options)?),
        Command::Scenes(a) => {
            let model =
                Model::open(a.model.as_deref(), Wanted::Auto).context("a model to tell scenes apart with")?;
            let rows = export::tell_scenes_apart(&model, &Run::new(&a.run)?, 0..a.scenes, a.frames)?;
            println!("threshold {:.3}, unsure from {:.3}", model.card().threshold, model.card().unsure_from);
            println!("{:>6}{:>10}{:>10}", "scene", "real", "redrawn");
            for (seed, real, fake) in rows {
                println!("{seed:>6}{real:>10.3}{fake:>10.3}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
