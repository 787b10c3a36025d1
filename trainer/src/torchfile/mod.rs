//! Files of `torch.save`, in both of their forms, read without Python: a zip archive (since PyTorch 1.6), and
//! the older sequence of pickles with raw storages behind them, which the published CNNDetection checkpoints
//! are. tch itself reads neither (its reader wants TorchScript and refuses an OrderedDict).

mod pickle;

use anyhow::{Context as _, Result, bail, ensure};
use pickle::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{Cursor, Read as _},
    path::Path,
    rc::Rc,
};
use tch::{Kind, Tensor};

/// Tensors by name.
pub type Weights = BTreeMap<String, Tensor>;

/// First bytes of a zip archive.
const ZIP: &[u8] = b"PK\x03\x04";
/// Names under which a checkpoint's dictionary keeps the network's weights.
const INSIDE: [&str; 5] = ["model", "state_dict", "model_state_dict", "net", "weights"];

/// The weights in `path`: safetensors, or a state dict of `torch.save`, alone or under one of the usual names
/// (`model`, `state_dict`, ...). The prefix `module.` of `DataParallel` is taken off.
///
/// # Errors
/// The file is of neither form, is cut short, or holds something other than a state dict.
pub fn read(path: &Path) -> Result<Weights> {
    let weights = if path.extension().is_some_and(|e| e == "safetensors") {
        Tensor::read_safetensors(path).map(|list| list.into_iter().collect()).map_err(anyhow::Error::from)
    } else {
        std::fs::read(path).map_err(anyhow::Error::from).and_then(parse)
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

fn parse(bytes: Vec<u8>) -> Result<Weights> {
    let (value, storages) = if bytes.starts_with(ZIP) {
        archive(bytes)?
    } else if bytes.first() == Some(&0x80) {
        sequence(&bytes)?
    } else {
        bail!("not a file of torch.save: give a state dict (.pth, .pt) or safetensors");
    };
    let entries = match &value {
        Value::Dict(entries) => entries.borrow(),
        Value::Call(name, _) => {
            bail!("holds a whole pickled object of {name}, not its weights; save its state_dict() instead")
        }
        _ => bail!("holds no dictionary; save a state_dict() instead"),
    };
    let inner = entries.iter().find_map(|(key, value)| match value {
        Value::Dict(inner) if INSIDE.contains(&key.text()?) => Some(inner.clone()),
        _ => None,
    });
    let inner = inner.as_ref().map(|entries| entries.borrow());
    let mut weights = Weights::new();
    for (key, value) in inner.as_deref().unwrap_or(&entries) {
        let (Some(name), Value::Call(..)) = (key.text(), value) else { continue };
        if let Some(tensor) = tensor(value, &storages).with_context(|| name.to_string())? {
            weights.insert(name.into(), tensor);
        }
    }
    if weights.is_empty() {
        let keys: Vec<&str> = entries.iter().filter_map(|(key, _)| key.text()).take(8).collect();
        bail!(
            "its dictionary (keys {keys:?}) holds no tensors, nor does one of {INSIDE:?} in it; \
             save a state_dict() instead"
        );
    }
    Ok(weights)
}

/// What a tensor's numbers lie in: one-dimensional, by the file's key.
type Storages = HashMap<String, Tensor>;

fn archive(bytes: Vec<u8>) -> Result<(Value, Storages)> {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).context("a broken zip archive")?;
    let names: Vec<String> = zip
        .file_names()
        .map(|name| Ok(name?.into_owned()))
        .collect::<Result<_>>()
        .context("a broken zip archive")?;
    let main = names
        .iter()
        .find(|name| name.ends_with("/data.pkl") || *name == "data.pkl")
        .context("a zip archive, but not of torch.save: it has no data.pkl")?;
    let root = main.trim_end_matches("data.pkl");
    if names.iter().any(|name| *name == format!("{root}constants.pkl")) {
        bail!("a TorchScript program, not weights; save its state_dict() instead");
    }
    let mut part = |name: &str| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        zip.by_name(name)
            .and_then(|mut file| Ok(file.read_to_end(&mut bytes)?))
            .with_context(|| name.to_string())?;
        Ok(bytes)
    };
    let order = format!("{root}byteorder");
    if names.contains(&order) {
        ensure!(part(&order)? == b"little", "its numbers are not little-endian");
    }
    let (value, _) = pickle::read(&part(main)?)?;
    let mut wanted = HashMap::new();
    storages_in(&value, &mut wanted)?;
    let mut storages = Storages::new();
    for (key, (kind, numel)) in wanted {
        let bytes = part(&format!("{root}data/{key}"))?;
        storages.insert(key, storage(&bytes, kind, numel)?);
    }
    Ok((value, storages))
}

/// The form before PyTorch 1.6: magic number, version, machine, object, list of storage keys, each a pickle;
/// then for each key the number of elements (64 bits) and the elements.
fn sequence(bytes: &[u8]) -> Result<(Value, Storages)> {
    /// Lowest 64 bits of 0x1950a86a20f9469cfc6c.
    const MAGIC: u64 = 0xa86a_20f9_469c_fc6c;
    let mut at = 0;
    let mut next = || -> Result<Value> {
        let (value, taken) = pickle::read(&bytes[at..])?;
        at += taken;
        Ok(value)
    };
    ensure!(
        next()?.int() == Some(MAGIC as i64),
        "a pickle, but not of torch.save: save a state_dict() with torch.save"
    );
    ensure!(next()?.int() == Some(1001), "another version of torch.save's old form than 1001");
    next()?;
    let value = next()?;
    let keys = next()?;
    let Value::List(keys) = keys else { bail!("the list of storages is missing") };
    let mut wanted = HashMap::new();
    storages_in(&value, &mut wanted)?;
    let mut storages = Storages::new();
    let mut rest = &bytes[at..];
    for key in keys.borrow().iter() {
        let key = key.text().context("a storage without a name")?;
        let (kind, numel) =
            *wanted.get(key).with_context(|| format!("storage {key} belongs to no tensor"))?;
        let (count, behind) = rest.split_first_chunk::<8>().context("the file is cut short")?;
        ensure!(i64::from_le_bytes(*count) == numel, "storage {key} is not as large as its tensors say");
        let length =
            usize::try_from(numel)?.checked_mul(kind.elt_size_in_bytes()).context("a huge storage")?;
        let (numbers, behind) = behind.split_at_checked(length).context("the file is cut short")?;
        storages.insert(key.into(), storage(numbers, kind, numel)?);
        rest = behind;
    }
    Ok((value, storages))
}

fn storage(bytes: &[u8], kind: Kind, numel: i64) -> Result<Tensor> {
    let length = usize::try_from(numel)?.checked_mul(kind.elt_size_in_bytes());
    ensure!(
        length == Some(bytes.len()),
        "a storage of {} bytes for {numel} numbers of {kind:?}",
        bytes.len()
    );
    Ok(Tensor::f_from_data_size(bytes, &[numel], kind)?)
}

/// Every storage that a tensor below `value` refers to.
fn storages_in(value: &Value, found: &mut HashMap<String, (Kind, i64)>) -> Result<()> {
    walk(value, found, &mut HashSet::new(), 0)
}

/// Each part is visited once: a hostile file can hold itself, or one part many times over.
fn walk(
    value: &Value,
    found: &mut HashMap<String, (Kind, i64)>,
    seen: &mut HashSet<*const ()>,
    depth: usize,
) -> Result<()> {
    ensure!(depth < pickle::DEEPEST, "nested too deep for a checkpoint");
    let part = match value {
        Value::Dict(entries) => Rc::as_ptr(entries).cast(),
        Value::List(items) => Rc::as_ptr(items).cast(),
        Value::Tuple(items) | Value::Call(_, items) => Rc::as_ptr(items).cast(),
        Value::Persistent(id) => Rc::as_ptr(id).cast(),
        _ => return Ok(()),
    };
    if !seen.insert(part) {
        return Ok(());
    }
    let mut all = |values: &mut dyn Iterator<Item = &Value>| -> Result<()> {
        for value in values {
            walk(value, found, seen, depth + 1)?;
        }
        Ok(())
    };
    match value {
        Value::Dict(entries) => all(&mut entries.borrow().iter().map(|(_, value)| value)),
        Value::List(items) => all(&mut items.borrow().iter()),
        Value::Tuple(items) | Value::Call(_, items) => all(&mut items.iter()),
        Value::Persistent(id) => {
            let (key, kind, numel) = reference(id)?;
            found.insert(key, (kind, numel));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `("storage", class, key, location, numel[, view])`.
fn reference(id: &Value) -> Result<(String, Kind, i64)> {
    let parts = id.tuple(5).context("a storage of unknown form")?;
    let [Value::Text(_), Value::Global(class), Value::Text(key), _, Value::Int(numel), rest @ ..] = parts
    else {
        bail!("a storage of unknown form");
    };
    ensure!(matches!(rest, [] | [Value::None]), "a storage that is a view of another; save it anew");
    let kind = match class.trim_start_matches("torch.") {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        other => bail!("numbers of {other} are not known here"),
    };
    Ok((key.to_string(), kind, *numel))
}

/// The tensor that a call would rebuild; `None` where it would make something else.
fn tensor(value: &Value, storages: &Storages) -> Result<Option<Tensor>> {
    let Value::Call(name, arguments) = value else { return Ok(None) };
    match &**name {
        "torch._utils._rebuild_parameter" => {
            tensor(arguments.first().context("an empty parameter")?, storages)
        }
        "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => {
            let [Value::Persistent(id), Value::Int(offset), Value::Tuple(size), Value::Tuple(stride), ..] =
                arguments.as_slice()
            else {
                bail!("a tensor of unknown form");
            };
            let numbers = |list: &[Value]| list.iter().map(Value::int).collect::<Option<Vec<i64>>>();
            let (size, stride) = (
                numbers(size).context("a size of no numbers")?,
                numbers(stride).context("strides of no numbers")?,
            );
            let (key, _, numel) = reference(id)?;
            ensure!(
                size.len() == stride.len() && *offset >= 0 && size.iter().chain(&stride).all(|n| *n >= 0),
                "size {size:?} and strides {stride:?} do not fit"
            );
            let last = size.iter().zip(&stride).try_fold(*offset, |at, (n, step)| {
                (n - 1).max(0).checked_mul(*step).and_then(|far| at.checked_add(far))
            });
            let empty = size.contains(&0);
            ensure!(empty || last.is_some_and(|last| last < numel), "the tensor reaches beyond its storage");
            let storage = storages.get(&key).with_context(|| format!("storage {key} is missing"))?;
            Ok(Some(storage.f_as_strided(&size, &stride, *offset)?.f_contiguous()?.copy()))
        }
        _ => Ok(None),
    }
}
