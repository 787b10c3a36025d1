//! Weights out of files of `torch.save` and safetensors. What is where in them says `spotd-torchfile`; here it becomes
//! tensors.

use anyhow::{Context as _, Result};
use spotd_torchfile::parse::Number;
use spotd_torchfile::{parse, safetensors};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};
use tch::{Kind, Tensor};

/// Tensors by name.
pub type Weights = BTreeMap<String, Tensor>;

/// The weights in `path`: safetensors, or a state dict of `torch.save`, alone or under one of the
/// usual names (`model`, `state_dict`, ...). The prefix `module.` of `DataParallel` is removed.
///
/// # Errors
/// The file has neither form, is truncated, or contains something other than a state dict.
pub fn read(path: &Path) -> Result<Weights> {
    let weights = if path.extension().is_some_and(|e| e == "safetensors") {
        std::fs::read(path).map_err(anyhow::Error::from).and_then(|bytes| load_safetensors(&bytes))
    } else {
        std::fs::read(path).map_err(anyhow::Error::from).and_then(load)
    };
    let weights: Weights = weights.with_context(|| format!("{}: cannot be read", path.display()))?;
    Ok(weights
        .into_iter()
        .map(|(name, tensor)| match name.strip_prefix("module.") {
            Some(rest) => (rest.to_string(), tensor),
            None => (name, tensor),
        })
        .collect())
}

fn load(bytes: Vec<u8>) -> Result<Weights> {
    let parsed = parse::parse(bytes)?;
    let mut storages = HashMap::new();
    for (key, storage) in &parsed.storages {
        let tensor = Tensor::f_from_data_size(&storage.bytes, &[storage.numel], kind(storage.number))?;
        storages.insert(key.as_str(), tensor);
    }
    parsed
        .tensors
        .iter()
        .map(|(name, at)| {
            let storage = &storages[at.storage.as_str()];
            let tensor = storage.f_as_strided(&at.size, &at.stride, at.offset)?.f_contiguous()?.copy();
            Ok((name.clone(), tensor))
        })
        .collect()
}

fn load_safetensors(bytes: &[u8]) -> Result<Weights> {
    let tensor = |at: &safetensors::Stored| {
        Tensor::f_from_data_size(&bytes[at.bytes.clone()], &at.size, kind(at.number))
    };
    safetensors::parse(bytes)?
        .iter()
        .map(|(name, at)| Ok((name.clone(), tensor(at).with_context(|| name.clone())?)))
        .collect()
}

fn kind(number: Number) -> Kind {
    match number {
        Number::Float => Kind::Float,
        Number::Double => Kind::Double,
        Number::Half => Kind::Half,
        Number::BFloat16 => Kind::BFloat16,
        Number::Int64 => Kind::Int64,
        Number::Int32 => Kind::Int,
        Number::Int16 => Kind::Int16,
        Number::Int8 => Kind::Int8,
        Number::Uint8 => Kind::Uint8,
        Number::Bool => Kind::Bool,
    }
}
