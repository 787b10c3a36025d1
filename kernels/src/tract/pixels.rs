//! Fused models that take pixels as they come, instead of floats made of them.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_hir::internal::*;

use super::ops::{Int8Pixels, Int8Quantise, Pixels};
use super::report::{Input, Report, census};

/// Makes a model that [`fuse`](super::fuse) gave take pixels as they come: unsigned bytes
/// `[N, H, W, C]` instead of floats `[N, C, H, W]`. `real` is the number that a byte stood for, as
/// the caller computed it.
///
/// All that the file does between its input and its first bytes, normalisation and quantisation,
/// becomes a table of 256 bytes a channel, computed by the same steps in the same order: the answer
/// is that for the floats bit for bit. Where every byte stays as it is, nothing is left to do. It
/// can be had where nothing but quantised layers reads the input; else the model and its report
/// come back as they were, with the reason in [`Report::input`].
///
/// ```no_run
/// use spotd_kernels::tract::{Input, fuse, onnx, take_pixels};
/// use tract_onnx::prelude::*;
///
/// # fn main() -> TractResult<()> {
/// let model = onnx()
///     .model_for_path("int8.onnx")?
///     .with_input_fact(0, f32::fact([1, 3, 224, 224]).into())?
///     .into_typed()?;
/// let (model, report) = fuse(model)?;
/// let (model, report) = take_pixels(model, report, |byte| f32::from(byte) / 255.0)?;
/// println!("{report}");
/// assert_eq!(report.input, Input::Pixels);
/// let plan = model.into_optimized()?.into_runnable()?;
/// let answer = plan.run(tvec![Tensor::zero::<u8>(&[1, 224, 224, 3])?.into()])?;
/// # drop(answer);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Only if tract cannot build the model, which would be a mistake in this crate.
pub fn take_pixels(
    model: TypedModel,
    mut report: Report,
    real: impl Fn(u8) -> f32,
) -> TractResult<(TypedModel, Report)> {
    match refusal(&model)? {
        Some(reason) => {
            report.input = Input::Floats { because: Some(reason) };
            Ok((model, report))
        }
        None => {
            let model = rebuilt(&model, &real)?;
            report.census = census(&model);
            report.input = Input::Pixels;
            Ok((model, report))
        }
    }
}

/// Why a model cannot take pixels.
fn refusal(model: &TypedModel) -> TractResult<Option<String>> {
    let [input] = model.inputs[..] else { return Ok(Some(format!("it has {} inputs", model.inputs.len()))) };
    let fact = model.outlet_fact(input)?;
    if fact.datum_type != f32::datum_type() || fact.rank() != 4 {
        return Ok(Some(format!("its input is {fact:?}")));
    }
    if fact.shape[1].to_usize().is_err() {
        return Ok(Some("the number of its channels is not known".into()));
    }
    let readers = model.outlet_successors(input);
    if readers.is_empty() || model.outputs.contains(&input) {
        return Ok(Some("its input is no layer's".into()));
    }
    let other = readers.iter().map(|r| model.node(r.node)).find(|node| !node.op_is::<Int8Quantise>());
    Ok(other.map(|node| format!("{} {} reads its input in float", node.op.name(), node.name)))
}

/// The model with another input, which [`refusal`] has nothing against.
fn rebuilt(model: &TypedModel, real: &dyn Fn(u8) -> f32) -> TractResult<TypedModel> {
    let input = model.inputs[0];
    let mut shape = model.outlet_fact(input)?.shape.to_tvec();
    let channels = shape[1].to_usize()?;
    shape[1..].rotate_left(1);
    let mut target = TypedModel {
        symbols: model.symbols.clone(),
        properties: model.properties.clone(),
        ..Default::default()
    };
    let pixels = target.add_source(&model.node(input.node).name, u8::fact(shape))?;
    let mut done: HashMap<OutletId, OutletId> = HashMap::from([(input, pixels)]);
    for id in model.eval_order()? {
        let node = model.node(id);
        if node.op_is::<TypedSource>() {
            continue;
        }
        let inputs: TVec<OutletId> = node.inputs.iter().map(|i| done[i]).collect();
        let made = match node.op_as::<Int8Quantise>().filter(|_| inputs[0] == pixels) {
            Some(Int8Quantise(quantise)) => {
                let lookup = Pixels::new(quantise, channels, real);
                if lookup.is_idle() {
                    tvec![pixels]
                } else {
                    target.wire_node(&node.name, Int8Pixels(Arc::new(lookup)), &inputs)?
                }
            }
            None => target.wire_node(&node.name, node.op.clone(), &inputs)?,
        };
        done.extend(made.into_iter().enumerate().map(|(slot, made)| (OutletId::new(id, slot), made)));
    }
    let outputs = model.outputs.iter().map(|o| done[o]).collect::<TVec<_>>();
    target.select_output_outlets(&outputs)?;
    for (outlet, label) in &model.outlet_labels {
        if let Some(new) = done.get(outlet) {
            target.outlet_labels.entry(*new).or_insert_with(|| label.clone());
        }
    }
    Ok(target)
}
