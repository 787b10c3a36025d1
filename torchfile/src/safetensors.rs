//! What lies where in a safetensors file, without libtorch: this is also what is fuzzed (`fuzz/`).
//! The format is eight bytes of length, as much JSON, and the numbers. The crate `safetensors` 0.3,
//! which tch reads it with, adds to an offset before it looks at it, and names neither the tensor
//! nor the way out.

use super::parse::Number;
use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use std::{collections::BTreeMap, ops::Range};

/// The largest header that is read: a hundred thousand tensors or more.
const MOST_HEADER: u64 = 100_000_000;

/// A tensor within the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Kind of its numbers.
    pub number: Number,
    /// Numbers along each axis.
    pub size: Vec<i64>,
    /// Its bytes in the file, little-endian, as many as it has numbers.
    pub bytes: Range<usize>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<i64>,
    data_offsets: [u64; 2],
}

/// Tensors by name. Their bytes do not overlap and leave nothing over.
///
/// # Errors
/// It is no file of this form, is cut short, or holds numbers of a kind that is not known here.
pub fn parse(file: &[u8]) -> Result<BTreeMap<String, Stored>> {
    let damaged = "not a safetensors file, or a truncated one: copy or save it again";
    let (length, rest) = file.split_first_chunk().context(damaged)?;
    let length = u64::from_le_bytes(*length);
    ensure!(length <= MOST_HEADER, "a header of {length} bytes: {damaged}");
    let (header, data) = rest.split_at_checked(length as usize).context(damaged)?;
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).context(damaged)?;
    let mut tensors = BTreeMap::new();
    let before = file.len() - data.len();
    for (name, value) in header {
        if name != "__metadata__" {
            let stored = stored(value, before, file.len()).with_context(|| format!("{name}: {damaged}"))?;
            tensors.insert(name, stored);
        }
    }
    let mut ranges: Vec<&Range<usize>> = tensors.values().map(|t| &t.bytes).collect();
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut end = before;
    for range in ranges {
        ensure!(range.start == end, "its tensors overlap or leave gaps at byte {end}: {damaged}");
        end = range.end;
    }
    ensure!(end == file.len(), "{} bytes belong to no tensor: {damaged}", file.len() - end);
    Ok(tensors)
}

fn stored(value: serde_json::Value, before: usize, whole: usize) -> Result<Stored> {
    let Entry { dtype, shape, data_offsets: [from, to] } = serde_json::from_value(value)?;
    let number = match dtype.as_str() {
        "F64" => Number::Double,
        "F32" => Number::Float,
        "F16" => Number::Half,
        "BF16" => Number::BFloat16,
        "I64" => Number::Int64,
        "I32" => Number::Int32,
        "I16" => Number::Int16,
        "I8" => Number::Int8,
        "U8" => Number::Uint8,
        "BOOL" => Number::Bool,
        other => bail!("numbers of {other}; save them as float32"),
    };
    let place = |offset: u64| before.checked_add(usize::try_from(offset).ok()?).filter(|at| *at <= whole);
    let (from, to) =
        (place(from).context("begins beyond the end")?, place(to).context("ends beyond the end")?);
    ensure!(from <= to, "ends before it begins");
    // Of an empty one the other axes count too: libtorch multiplies them.
    let axes: Option<i64> = shape.iter().try_fold(1i64, |n, axis| n.checked_mul((*axis).max(1)));
    let numel = if shape.contains(&0) { Some(0) } else { axes };
    let fits = axes.is_some() && shape.iter().all(|axis| *axis >= 0);
    let size = numel.and_then(|n| usize::try_from(n).ok()?.checked_mul(number.size()));
    ensure!(fits && size == Some(to - from), "{shape:?} of {dtype} in {} bytes", to - from);
    Ok(Stored { number, size: shape, bytes: from..to })
}
