//! What the pass makes of an ONNX file, and how long that takes to run: `fuse FILE SIDE [RUNS]`
//!
//! The file takes float32 `[1, 3, SIDE, SIDE]`. With RUNS it is run that often, and the shortest
//! time is printed; a quantised file is timed fused, from floats and from pixels, and unfused, in
//! turns.

use std::time::{Duration, Instant};

use spotd_kernels::tract::{Input, fuse, is_quantised, onnx, take_pixels, unfused};
use tract_onnx::prelude::*;

fn main() -> TractResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, side, runs @ ..] = &arguments[..] else {
        eprintln!("fuse FILE SIDE [RUNS]");
        std::process::exit(2);
    };
    let side: usize = side.parse()?;
    let read = || {
        onnx().model_for_path(file)?.with_input_fact(0, f32::fact([1, 3, side, side]).into())?.into_typed()
    };
    let typed = read()?;
    let wave = |i: usize| ((i % side) as f32 * 0.3).sin() * ((i / side) as f32 * 0.2).cos() * 127.0 + 128.0;
    let bytes: Vec<u8> = (0..3 * side * side).map(|i| wave(i / 3 + i % 3) as u8).collect();
    let real = |byte: u8| f32::from(byte) / 255.0;
    let planar: Vec<f32> =
        (0..3).flat_map(|channel| bytes[channel..].iter().step_by(3).map(|&byte| real(byte))).collect();
    let floats = Tensor::from_shape(&[1, 3, side, side], &planar)?.into_tvalue();
    let pixels = Tensor::from_shape(&[1, side, side, 3], &bytes)?.into_tvalue();
    let mut plans = vec![];
    if is_quantised(&typed) {
        let (model, report) = fuse(typed)?;
        let plan = model.clone().into_optimized()?.into_runnable()?;
        plans.push(("fused, from floats", plan, floats.clone()));
        let (model, report) = take_pixels(model, report, real)?;
        println!("{report}");
        for (name, count) in &report.census {
            println!("{count:5} {name}");
        }
        if report.input == Input::Pixels {
            plans.push(("fused, from pixels", model.into_optimized()?.into_runnable()?, pixels));
        }
    } else {
        println!("not quantised");
    }
    plans.push(("tract", unfused(read()?)?.into_optimized()?.into_runnable()?, floats));
    let runs: usize = runs.first().map_or(Ok(1), |n| n.parse())?;
    let mut least = vec![Duration::MAX; plans.len()];
    let mut answers = vec![String::new(); plans.len()];
    for _ in 0..runs {
        for (i, (_, plan, input)) in plans.iter().enumerate() {
            let start = Instant::now();
            let answer = plan.run(tvec![input.clone()])?;
            least[i] = least[i].min(start.elapsed());
            answers[i] = answer[0].dump(false)?;
        }
    }
    for (i, (name, ..)) in plans.iter().enumerate() {
        println!("{name}: {:.3} ms, {}", least[i].as_secs_f64() * 1e3, answers[i]);
    }
    Ok(())
}
