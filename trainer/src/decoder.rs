//! Decoders of real generators as members of the bank: any ONNX file that resynthesises a picture,
//! an autoencoder or a super-resolution network, run by tract.
//!
//! Our own small networks leave their own traces; the decoder of a generator in actual use leaves
//! exactly the trace that its pictures have.

use crate::photos;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use spotd::forensics::scenes::SceneRenderer;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};
use tch::{Device, Kind, Tensor};
use tract_onnx::prelude::{self as tract, *};

/// Factors by which one may enlarge a picture: super-resolution by more is uncommon, and would
/// leave less of the photograph than of the network.
const FACTORS: [i64; 4] = [1, 2, 4, 8];
/// Least correlation of a photograph and a decoder's output; below this it is a different picture.
const LEAST_ALIKE: f64 = 0.8;
/// Least mean difference of the two, in 0..1: below a hundredth of a level nothing was
/// resynthesised.
const LEAST_APART: f64 = 0.01 / 255.0;
/// Largest difference of the means, in 0..1: beyond it pixels are read or written on a different
/// scale.
const MOST_SHIFTED: f64 = 0.15;

/// A decoder that is ready to run.
pub struct Decoder {
    /// Its file's name, without the extension.
    pub name: String,
    /// Its enlargement: its input is a picture shrunk by this factor, and its output is paired with
    /// the original.
    pub factor: i64,
    /// Side of the pictures that it makes.
    side: i64,
    plan: Arc<TypedSimplePlan>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The plan would print every weight.
        write!(f, "Decoder({}, x{})", self.name, self.factor)
    }
}

impl Decoder {
    /// Reads an ONNX file and tests it on a picture: one input and one output (or one of several
    /// that is a picture, or that is named `y`), float32 `[1, 3, H, W]` in 0..1, RGB; the output as
    /// large as the input, or 2, 4 or 8 times as large. `side` is that of the pictures to be made,
    /// a multiple of 16.
    ///
    /// # Errors
    /// The file is not such a network; the error names it, what is wrong, and what would be right.
    pub fn open(path: &Path, side: i64) -> Result<Decoder> {
        // tract panics on some damaged files.
        catch_unwind(AssertUnwindSafe(|| Decoder::read(path, side)))
            .unwrap_or_else(|_| Err(anyhow!("tract panicked on it (see above); the file is damaged")))
            .with_context(|| format!("--decoder {}: is not a usable decoder", path.display()))
    }

    fn read(path: &Path, side: i64) -> Result<Decoder> {
        let bytes = std::fs::read(path)?;
        let (model, (height, width)) = typed(&bytes, side)?;
        ensure!(
            height == width && width % side == 0 && FACTORS.contains(&(width / side)),
            "of a picture of {side}x{side} it makes one of {width}x{height}: a pair needs the same size, or one 2, 4 or 8 \
             times as large"
        );
        let factor = width / side;
        let model = if factor == 1 { model } else { typed(&bytes, side / factor)?.0 };
        let plan = model.into_optimized().and_then(|model| model.into_runnable()).map_err(said)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let decoder = Decoder { name, factor, side, plan };
        decoder.try_out()?;
        Ok(decoder)
    }

    /// Checks that it reproduces the picture, but not unchanged.
    fn try_out(&self) -> Result<()> {
        let side = self.side as u32;
        let (width, height) = (640.max(side), 360.max(side));
        let scene = SceneRenderer::new(photos::FIRST_TRAINING_SCENE, width, height).frame(0);
        let crop = image::imageops::crop_imm(&scene, (width - side) / 2, (height - side) / 2, side, side);
        let before = photos::to_tensor(&[crop.to_image()]);
        let after = self.draw(&before)?;
        ensure!(
            after.isfinite().all().int64_value(&[]) == 1,
            "its answer to a picture holds numbers that are not finite"
        );
        let mean = |x: &Tensor| x.mean(Kind::Double).double_value(&[]);
        let shift = mean(&after) - mean(&before);
        let alike = correlation(&before, &after);
        ensure!(
            alike >= LEAST_ALIKE && shift.abs() <= MOST_SHIFTED,
            "its answer to a picture is not that picture (correlation {alike:.2}, mean {:.2} instead of {:.2}): it must \
             take and give RGB in 0..1; put a scale of -1..1 or 0..255, and what makes a latent of noise, outside the file",
            mean(&after),
            mean(&before)
        );
        let apart = mean(&(&after - &before).abs());
        ensure!(
            apart >= LEAST_APART,
            "it gives a picture back untouched, which is a photograph still and no trace to learn"
        );
        log::info!(
            "decoder {}: {}, correlation {alike:.3}, {:.1} levels off in the mean",
            self.name,
            if self.factor == 1 {
                "keeps the size".to_owned()
            } else {
                format!("enlarges by {}", self.factor)
            },
            255.0 * apart
        );
        Ok(())
    }

    /// `x` `[N, 3, S, S]` in 0..1, on the CPU, resynthesised, with the same size and range. S is
    /// the side given to [`Decoder::open`].
    ///
    /// # Errors
    /// tract fails on it.
    pub fn redraw(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.draw(x)?.clamp(0.0, 1.0))
    }

    fn draw(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.to_device(Device::Cpu).to_kind(Kind::Float);
        let small = if self.factor == 1 {
            x
        } else {
            let side = self.side / self.factor;
            x.internal_upsample_bicubic2d_aa([side, side], false, None, None).clamp(0.0, 1.0)
        };
        let shape: Vec<usize> = small.size()[1..].iter().map(|n| *n as usize).collect();
        let values = Vec::<f32>::try_from(small.contiguous().view(-1))?;
        let each: Vec<&[f32]> = values.chunks_exact(shape.iter().product()).collect();
        // A picture takes one core several seconds, and tract only uses one.
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(each.len().max(1));
        let drawn = std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..threads)
                .map(|lane| {
                    let (each, shape) = (&each, &shape);
                    let own = (lane..each.len()).step_by(threads);
                    scope.spawn(move || {
                        own.map(|at| Ok((at, self.draw_one(each[at], shape)?))).collect::<Result<Vec<_>>>()
                    })
                })
                .collect();
            lanes
                .into_iter()
                .map(|lane| lane.join().unwrap_or_else(|_| Err(anyhow!("tract panicked over {}", self.name))))
                .collect::<Result<Vec<Vec<(usize, Vec<f32>)>>>>()
        })?;
        let mut drawn: Vec<(usize, Vec<f32>)> = drawn.into_iter().flatten().collect();
        drawn.sort_by_key(|(at, _)| *at);
        let values: Vec<f32> = drawn.into_iter().flat_map(|(_, values)| values).collect();
        Ok(Tensor::from_slice(&values).reshape([small.size()[0], 3, self.side, self.side]))
    }

    /// One picture's planes.
    fn draw_one(&self, values: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
        let shape: Vec<usize> = [&[1], shape].concat();
        let input = tract::Tensor::from_shape(&shape, values).map_err(said)?;
        let output = self.plan.run(tvec!(input.into())).map_err(said)?;
        Ok(output[0].to_plain_array_view::<f32>().map_err(said)?.iter().copied().collect())
    }
}

/// The model for one picture of `side`, and the height and width of its output.
fn typed(bytes: &[u8], side: i64) -> Result<(TypedModel, (i64, i64))> {
    let mut model =
        tract_onnx::onnx().model_for_read(&mut &*bytes).map_err(said).context("is not an ONNX model")?;
    ensure!(model.inputs.len() == 1, "it has {} inputs, and a picture is one", model.inputs.len());
    let fact = f32::fact([1, 3, side as usize, side as usize]).into();
    let takes = || {
        format!(
            "it does not take float32 [1, 3, {side}, {side}]; export it with free height and width, for multiples of 16"
        )
    };
    model.set_input_fact(0, fact).map_err(said).with_context(takes)?;
    let mut model = model.into_typed().map_err(said).with_context(takes)?;
    let mut pictures = Vec::new();
    for outlet in model.outputs.clone() {
        let fact = model.outlet_fact(outlet).map_err(said)?;
        if let (Some([1, 3, height, width]), true) =
            (fact.shape.as_concrete(), fact.datum_type == f32::datum_type())
        {
            pictures.push((outlet, (*height as i64, *width as i64)));
        }
    }
    // An autoencoder may output its latent too, but several pictures only if it names the one that
    // is meant.
    if pictures.len() > 1 {
        pictures.retain(|(outlet, _)| model.outlet_label(*outlet) == Some("y"));
    }
    let [(outlet, size)] = pictures[..] else {
        let shapes: Vec<String> = model
            .outputs
            .iter()
            .map(|o| model.outlet_fact(*o).map_or("?".into(), |f| format!("{f:?}")))
            .collect();
        bail!(
            "no output of it, or more than one, is a picture, float32 [1, 3, height, width]: {}",
            shapes.join("; ")
        );
    };
    model.select_output_outlets(&[outlet]).map_err(said)?;
    Ok((model, size))
}

fn said(error: TractError) -> anyhow::Error {
    anyhow!("{error:#}")
}

/// -1..=1.
fn correlation(a: &Tensor, b: &Tensor) -> f64 {
    let centred = |x: &Tensor| x.to_kind(Kind::Double) - x.mean(Kind::Double);
    let (a, b) = (centred(a), centred(b));
    let product = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt().max(1e-12)
}
