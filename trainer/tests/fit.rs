//! The paper's training, small: it learns, it goes on exactly where it stopped, and it says what is
//! wrong with what it is given.

mod common;

use clap::Parser as _;
use spotd::detector::Model;
use spotd::identity::Wanted;
use spotd_train::fit::{
    self, Options,
    data::{self, Places},
    metrics, state,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};
use tch::Tensor;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// Options as the command line gives them; small, on the edge network, unless `more` says
/// otherwise.
fn options(data: &Path, run: &Path, more: &[&str]) -> Options {
    let mut words: Vec<String> = vec!["fit".into(), "--data".into(), data.display().to_string()];
    words.extend(["--run".into(), run.display().to_string()]);
    let small =
        "--preset edge --crop 48 --resize 0 --batch 8 --bf16 false --workers 2 --hold-out 0.3 --augment 0.1";
    for word in small.split(' ').chain(more.iter().copied()) {
        // A later value takes the place of an earlier one.
        if let Some(at) = word.starts_with("--").then(|| words.iter().position(|w| w == word)).flatten()
            && !["--data", "--real", "--fake"].contains(&word)
        {
            words.drain(at..at + 2);
        }
        words.push(word.into());
    }
    Line::parse_from(words).options
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    Tensor::read_safetensors(path).unwrap().into_iter().filter(|(name, _)| name != "state.json").collect()
}

fn failure(options: &Options) -> String {
    format!("{:#}", fit::train(options).expect_err("an error"))
}

#[test]
fn it_learns_and_exports_what_the_daemon_loads() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    common::put_classes(&dir.path().join("data"), &["cat", "dog"], 24);
    let run = dir.path().join("run");
    let more = ["--rate", "3e-3", "--steps", "60", "--validate-every", "20", "--augment", "none"];
    let outcome = fit::train(&options(&dir.path().join("data"), &run, &more)).unwrap();
    let (step, best) = outcome.state.best.unwrap();
    assert!(best.ap > 0.95, "a lattice of 24 grey levels is easy: {best:?}");
    let lines = metrics::read(&metrics::lines_path(&run)).unwrap();
    let validated: Vec<_> = lines.iter().filter_map(|l| l.validation.map(|v| (l.step, v))).collect();
    assert_eq!(validated.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [20, 40, 60]);
    let most = validated.iter().map(|(_, v)| v.accuracy).fold(0.0, f64::max);
    assert_eq!((most, true), (best.accuracy, validated.iter().any(|(at, v)| (*at, *v) == (step, best))));
    assert!(lines.iter().all(|l| (0.0..=1.0).contains(&l.waiting) && l.images_per_second > 0.0));

    let model = Model::open(Some(&outcome.model.0), Wanted::Auto).unwrap();
    let score = |fake| {
        let picture = common::picture(9000 + u64::from(fake), fake, 48, 48);
        model.card().score(model.logit(&picture).unwrap())
    };
    assert!(score(true) > score(false), "{} {}", score(true), score(false));
    let plot = std::fs::read_to_string(run.join("run.svg")).unwrap();
    assert!(plot.contains("validation AP") && plot.contains("</svg>"));

    let Some(python) = common::python() else { return };
    let seen = common::script(&python, "events.py", &[&run]);
    let expected: Vec<String> =
        lines.iter().map(|l| format!("train/loss {} {:.6}", l.step, l.loss as f32)).collect();
    let losses: Vec<&str> = seen.lines().filter(|l| l.starts_with("train/loss")).collect();
    assert_eq!(losses, expected, "TensorBoard's reader");
    assert_eq!(seen.lines().filter(|l| l.starts_with("validation/ap")).count(), 3);
}

#[test]
fn a_resumed_run_is_the_run_that_was_never_stopped() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    common::put_classes(&data, &["cat", "dog"], 16);
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let every = ["--validate-every", "4", "--seed", "5"];
    let steps = |n| [every.as_slice(), &["--steps", n]].concat();
    fit::train(&options(&data, &whole, &steps("11"))).unwrap();
    fit::train(&options(&data, &parts, &steps("3"))).unwrap();
    let resume =
        |n, workers| Options { resume: true, workers: Some(workers), ..options(&data, &parts, &steps(n)) };
    fit::train(&resume("6", 1)).unwrap();
    // As if it had been killed between a line of metrics and the next checkpoint.
    let lines = std::fs::read_to_string(metrics::lines_path(&parts)).unwrap();
    let late = lines.lines().last().unwrap().replace("\"step\":4", "\"step\":8");
    std::fs::write(metrics::lines_path(&parts), format!("{lines}{late}\n{{\"step\": 9, \"ep")).unwrap();
    fit::train(&resume("11", 3)).unwrap();

    let (a, b) = (tensors(&state::checkpoint_path(&whole)), tensors(&state::checkpoint_path(&parts)));
    assert!(a.keys().any(|k| k.starts_with("first.")) && a.keys().any(|k| k.ends_with("running_var")));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, tensor) in &a {
        assert_eq!(tensor, &b[name], "{name}");
    }
    let figures = |run: &Path| -> Vec<_> {
        let lines = metrics::read(&metrics::lines_path(run)).unwrap();
        lines.into_iter().map(|l| (l.step, l.loss, l.validation)).collect()
    };
    // Losses are means since the line or start before, so only whole spans compare.
    let (a, b) = (figures(&whole), figures(&parts));
    assert_eq!(
        a.iter().map(|l| (l.0, l.2)).collect::<Vec<_>>(),
        b.iter().map(|l| (l.0, l.2)).collect::<Vec<_>>()
    );
    let (a, b) = (state::read(&whole).unwrap().state, state::read(&parts).unwrap().state);
    assert_eq!((a.best, a.plateau), (b.best, b.plateau));

    // Another seed is another run.
    let other = dir.path().join("other");
    fit::train(&options(&data, &other, &["--steps", "3", "--seed", "6"])).unwrap();
    fit::train(&options(&data, &dir.path().join("same"), &["--steps", "3", "--seed", "6"])).unwrap();
    let of = |run: &str| tensors(&state::checkpoint_path(&dir.path().join(run)));
    assert_eq!(of("other"), of("same"));
    assert_ne!(of("other"), of("parts"));
    let again = failure(&options(&data, &other, &[]));
    assert!(again.contains("holds a run already"), "{again}");
}

#[cfg(feature = "gstreamer")]
#[test]
fn video_codecs_are_drawn_the_same_after_a_stop_and_with_other_threads() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    common::put_classes(&data, &["cat"], 12);
    let fit = |run: &str, steps: &str, resume, workers| {
        let more = ["--video-codec", "0.6,20..40", "--validate-every", "3", "--steps", steps];
        let options = options(&data, &dir.path().join(run), &more);
        fit::train(&Options { resume, workers: Some(workers), ..options }).unwrap()
    };
    let whole = fit("whole", "5", false, 2);
    fit("parts", "2", false, 1);
    fit("parts", "5", true, 3);
    let of = |run: &str| tensors(&state::checkpoint_path(&dir.path().join(run)));
    assert_eq!(of("whole"), of("parts"));
    let recipe = &whole.model.1.training.recipe;
    assert!(recipe.contains("H.264 and H.265 (0.6, CRF 20 to 40)"), "{recipe}");

    let odd = failure(&options(&data, &dir.path().join("odd"), &["--video-codec", "1", "--crop", "47"]));
    assert!(odd.contains("--crop 47") && odd.contains("even"), "{odd}");
}

#[cfg(not(feature = "gstreamer"))]
#[test]
fn a_build_without_gstreamer_says_that_video_codecs_need_it() {
    let dir = tempfile::tempdir().unwrap();
    common::put_classes(&dir.path().join("data"), &["cat"], 4);
    let run = dir.path().join("run");
    let error = failure(&options(&dir.path().join("data"), &run, &["--video-codec", "0.5"]));
    assert!(error.contains("--video-codec is not possible here") && error.contains("`gstreamer`"), "{error}");
    assert!(!run.exists());
}

#[test]
fn bad_data_is_named_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let put = |name: &str, fake| {
        std::fs::create_dir_all(place(name).parent().unwrap()).unwrap();
        common::picture(1, fake, 40, 40).save(place(name)).unwrap();
    };
    put("half/cat/0_real/1.png", false);
    put("half/cat/1_fake/2.png", true);
    put("half/dog/0_real/3.png", false);
    std::fs::create_dir_all(place("half/dog/1_fake")).unwrap();
    put("plain/a.png", false);
    std::fs::create_dir_all(place("texts/0_real")).unwrap();
    std::fs::write(place("texts/0_real/notes.txt"), "no picture").unwrap();
    put("data/val/0_real/1.png", false);
    let run = place("run");
    for (folder, more, words) in [
        ("half", vec![], "half/dog: 1_fake is empty"),
        ("plain", vec![], "plain: holds no pictures in [class/]{0_real,1_fake}"),
        ("texts", vec![], "texts: holds no pictures"),
        ("data", vec![], "training never sees val"),
        ("nowhere", vec![], "nowhere"),
        ("half", vec!["--batch", "0"], "--batch 0"),
        ("half", vec!["--crop", "8"], "--crop"),
        ("half", vec!["--rate", "0"], "--rate 0"),
    ] {
        let error = failure(&options(&place(folder), &run, &more));
        assert!(error.contains(words), "{folder} {more:?}: {error}");
    }
    let one = Options {
        places: Places { data: vec![], real: vec![place("plain")], hold_out: 0.5, ..Places::default() },
        ..options(&place("plain"), &run, &[])
    };
    assert!(failure(&one).contains("no generated pictures"), "{}", failure(&one));
    let none = Options { places: Places::default(), ..one };
    assert!(failure(&none).contains("give --data"));
    assert!(!run.exists());
    let resume = Options { resume: true, ..options(&place("half"), &run, &[]) };
    assert!(failure(&resume).contains("leave out --resume"));
}

#[test]
fn classes_and_images_are_drawn_evenly_by_the_seed() {
    let dir = tempfile::tempdir().unwrap();
    common::put_classes(dir.path(), &["a", "b", "c", "d"], 12);
    let places = |classes, images| Places {
        data: vec![dir.path().into()],
        hold_out: 0.2,
        classes,
        images,
        ..Places::default()
    };
    let all = data::collect(&places(None, None), 1).unwrap();
    assert_eq!(all.train.len() + all.held.len(), 96);
    assert!(all.held.iter().all(|held| !all.train.contains(held)));
    let two = data::collect(&places(Some(2), Some(20)), 1).unwrap();
    assert_eq!((two.classes.len(), two.train.len(), two.held.clone()), (2, 20, all.held));
    for class in &two.classes {
        for fake in [false, true] {
            assert_eq!(two.train.iter().filter(|s| s.class == *class && s.fake == fake).count(), 5);
        }
    }
    assert_eq!(data::collect(&places(Some(2), Some(20)), 1).unwrap().train, two.train);
    let others: Vec<_> =
        (2..9).map(|seed| data::collect(&places(Some(2), Some(20)), seed).unwrap().classes).collect();
    assert!(others.iter().any(|classes| *classes != two.classes));
    let error = data::collect(&places(Some(9), None), 1).unwrap_err().to_string();
    assert!(error.contains("4 class(es)"), "{error}");
    let error = data::collect(&places(None, Some(5000)), 1).unwrap_err().to_string();
    assert!(error.contains("2500 real pictures are needed"), "{error}");
}

#[test]
fn what_gives_the_kinds_away_is_warned_about_before_training() {
    let dir = tempfile::tempdir().unwrap();
    for at in 0..6 {
        for (kind, fake, ending) in [("0_real", false, "jpg"), ("1_fake", true, "png")] {
            std::fs::create_dir_all(dir.path().join(kind)).unwrap();
            let side = if fake { 64 } else { 80 };
            let picture = common::picture(at, fake, side, side);
            picture.save(dir.path().join(format!("{kind}/{at}.{ending}"))).unwrap();
        }
    }
    std::fs::write(dir.path().join("0_real/cut.jpg"), "no picture").unwrap();
    let samples = data::laid_out(dir.path()).unwrap();
    let warnings = data::giveaways(&samples, 1).join("\n");
    for words in [
        "training pictures: format alone tells real from generated (1.00",
        "size alone",
        "real 6 jpeg of quality",
        "generated 6 png, 64x64",
    ] {
        assert!(warnings.contains(words), "'{words}' is missing in: {warnings}");
    }
}

#[test]
fn odd_pictures_are_used_or_named_and_replaced() {
    tch::set_num_threads(1);
    let Some(python) = common::python() else { return };
    let dir = tempfile::tempdir().unwrap();
    common::script(&python, "odd_pictures.py", &[&dir.path().join("odd")]);
    let bad = ["cut.jpg", "one.png", "text.jpg"];
    let run = dir.path().join("run");
    let binary = Command::new(env!("CARGO_BIN_EXE_spotd-train"))
        .args([
            "--threads",
            "1",
            "fit",
            "--preset",
            "edge",
            "--steps",
            "4",
            "--batch",
            "12",
            "--validate-every",
            "2",
            "--crop",
            "48",
            "--bf16",
            "false",
        ])
        .args([Path::new("--data"), &dir.path().join("odd"), Path::new("--run"), &run])
        .args([Path::new("--val"), &dir.path().join("odd")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&binary.stderr);
    assert!(binary.status.success(), "{said}");
    for line in said.lines().filter(|l| l.contains("skipped") || l.contains("left out")) {
        assert!(bad.iter().any(|name| line.contains(name)), "{line}");
    }
    for name in bad {
        for kind in ["0_real", "1_fake"] {
            assert!(said.contains(&format!("{kind}/{name}: skipped")), "{name}: {said}");
            assert!(said.contains(&format!("{kind}/{name}: left out of validation")), "{name}: {said}");
        }
    }
    assert!(said.contains("6 picture(s) could not be used"), "{said}");
    // Without a GPU one line says so; with one, that it is used.
    assert_eq!(said.matches("training on ").count(), 1, "{said}");
    // Both kinds hold the same files: nothing gives them away. And the whole run's end is known.
    assert!(!said.contains("alone tells real from generated"), "{said}");
    assert!(said.contains(" to go"), "{said}");

    // A kind of which nothing can be read is an error, not an endless search.
    let hopeless = dir.path().join("hopeless");
    common::put_classes(&hopeless, &["a"], 12);
    for at in 0..12 {
        std::fs::write(hopeless.join(format!("a/1_fake/{at}.png")), "no picture").unwrap();
    }
    let error = failure(&options(&hopeless, &dir.path().join("never"), &[]));
    assert!(error.contains("1_fake") && error.contains("cannot be read"), "{error}");
}

#[test]
fn what_goes_wrong_on_the_way_leaves_the_last_checkpoint_whole() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    common::put_classes(&data, &["cat"], 16);
    let run = dir.path().join("run");
    fit::train(&options(&data, &run, &["--steps", "2"])).unwrap();
    let kept = tensors(&state::checkpoint_path(&run));

    // A rate that no weight survives.
    let wild = dir.path().join("wild");
    let error = failure(&options(&data, &wild, &["--rate", "1e30", "--validate-every", "100"]));
    assert!(error.contains("loss is") && error.contains("lower --rate"), "{error}");
    assert!(!state::checkpoint_path(&wild).exists(), "no checkpoint of such weights");

    // Files may not grow: what a full disk does to a write, without needing one.
    let full = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_spotd-train"))
        .args(["--threads", "1", "fit", "--resume", "--steps", "4", "--run"])
        .args([&run, Path::new("--data"), &data])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(2), "{said}");
    assert!(said.contains(".safetensors: cannot be written"), "{said}");
    assert_eq!(tensors(&state::checkpoint_path(&run)), kept);
    let partial: Vec<PathBuf> = std::fs::read_dir(&run)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("partial"))
        .collect();
    assert!(partial.is_empty(), "{partial:?}");
    let more = Options { resume: true, ..options(&data, &run, &["--steps", "4"]) };
    assert_eq!(fit::train(&more).unwrap().state.step, 4, "and it goes on from there");

    // Weights of another network to start from, and a file that is no run.
    let init = state::best_path(&run).display().to_string();
    let error = failure(&options(&data, &dir.path().join("r18"), &["--net", "resnet18", "--init", &init]));
    assert!(error.contains("not of this network"), "{error}");
    let started = fit::train(&options(&data, &dir.path().join("init"), &["--steps", "1", "--init", &init]));
    assert_eq!(started.unwrap().state.step, 1);
    std::fs::write(state::checkpoint_path(&run), b"nonsense").unwrap();
    assert!(failure(&more).contains("not a safetensors file"), "{}", failure(&more));
    std::fs::copy(&init, state::checkpoint_path(&run)).unwrap();
    assert!(failure(&more).contains("not a run of `fit`"), "{}", failure(&more));
}
