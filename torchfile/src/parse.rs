//! The structure of a file of `torch.save`, parsed without libtorch; this part is fuzzed (`fuzz/`).

use super::pickle::{self, Pickle, Value};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{Cursor, Read as _},
    rc::Rc,
};

/// First bytes of a zip archive.
const ZIP: &[u8] = b"PK\x03\x04";
/// Names under which a checkpoint's dictionary keeps the network's weights.
const INSIDE: [&str; 5] = ["model", "state_dict", "model_state_dict", "net", "weights"];

/// Element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Number {
    Float,
    Double,
    Half,
    BFloat16,
    Int64,
    Int32,
    Int16,
    Int8,
    Uint8,
    Bool,
}

impl Number {
    /// Size of an element in bytes.
    pub fn size(self) -> usize {
        match self {
            Number::Double | Number::Int64 => 8,
            Number::Float | Number::Int32 => 4,
            Number::Half | Number::BFloat16 | Number::Int16 => 2,
            Number::Int8 | Number::Uint8 | Number::Bool => 1,
        }
    }
}

/// Data that tensors refer to.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Type of the elements.
    pub number: Number,
    /// Number of elements.
    pub numel: i64,
    /// Little-endian.
    pub bytes: Vec<u8>,
}

/// By the file's key.
pub type Storages = HashMap<String, Storage>;

/// A tensor as a view of its storage, within its bounds.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Key of the storage.
    pub storage: String,
    /// Size of each axis.
    pub size: Vec<i64>,
    /// Stride of each axis, in elements.
    pub stride: Vec<i64>,
    /// Offset, in elements.
    pub offset: i64,
}

/// A state dict.
#[derive(Clone, Debug)]
pub struct StateDict {
    /// By name; there is at least one.
    pub tensors: BTreeMap<String, Stored>,
    /// Their storages.
    pub storages: Storages,
}

/// Parses a file of either form.
///
/// # Errors
/// It has neither form, is truncated, or contains something other than a state dict.
pub fn parse(bytes: Vec<u8>) -> Result<StateDict> {
    let (pickle, storages) = if bytes.starts_with(ZIP) {
        archive(bytes)?
    } else if bytes.first() == Some(&0x80) {
        sequence(&bytes)?
    } else {
        bail!("not a file of torch.save: give a state dict (.pth, .pt) or safetensors");
    };
    let entries = match &pickle.value {
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
    let mut tensors = BTreeMap::new();
    for (key, value) in inner.as_deref().unwrap_or(&entries) {
        let (Some(name), Value::Call(..)) = (key.text(), value) else { continue };
        if let Some(tensor) = tensor(value, &storages).with_context(|| name.to_string())? {
            tensors.insert(name.into(), tensor);
        }
    }
    if tensors.is_empty() {
        let keys: Vec<&str> = entries.iter().filter_map(|(key, _)| key.text()).take(8).collect();
        bail!(
            "its dictionary (keys {keys:?}) holds no tensors, nor does one of {INSIDE:?} in it; \
             save a state_dict() instead"
        );
    }
    Ok(StateDict { tensors, storages })
}

fn archive(bytes: Vec<u8>) -> Result<(Pickle, Storages)> {
    let whole = bytes.len();
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
    let pickle = pickle::read(&part(main)?)?;
    let (mut storages, mut together) = (Storages::new(), 0usize);
    for (key, (number, numel)) in storages_in(&pickle.value)? {
        let bytes = part(&format!("{root}data/{key}"))?;
        // In a valid file no two storages share bytes.
        together = together.saturating_add(bytes.len());
        ensure!(together <= whole, "storages that are larger than the file");
        storages.insert(key, Storage::new(bytes, number, numel)?);
    }
    Ok((pickle, storages))
}

/// The form before PyTorch 1.6: magic number, version, machine, object, list of storage keys, each
/// a pickle; then for each key the number of elements (64 bits) and the elements.
fn sequence(bytes: &[u8]) -> Result<(Pickle, Storages)> {
    /// Lowest 64 bits of 0x1950a86a20f9469cfc6c.
    const MAGIC: u64 = 0xa86a_20f9_469c_fc6c;
    let mut at = 0;
    let mut next = || -> Result<Pickle> {
        let pickle = pickle::read(&bytes[at..])?;
        at += pickle.taken;
        Ok(pickle)
    };
    ensure!(
        next()?.value.int() == Some(MAGIC as i64),
        "a pickle, but not of torch.save: save a state_dict() with torch.save"
    );
    ensure!(next()?.value.int() == Some(1001), "another version of torch.save's old form than 1001");
    next()?;
    let pickle = next()?;
    let keys = next()?;
    let Value::List(keys) = &keys.value else { bail!("the list of storages is missing") };
    let mut wanted = storages_in(&pickle.value)?;
    let mut storages = Storages::new();
    let mut rest = &bytes[at..];
    for key in keys.borrow().iter() {
        let key = key.text().context("a storage without a name")?;
        let (number, numel) =
            wanted.remove(key).with_context(|| format!("storage {key} belongs to no tensor"))?;
        let (count, behind) = rest.split_first_chunk::<8>().context("the file is cut short")?;
        ensure!(i64::from_le_bytes(*count) == numel, "storage {key} is not as large as its tensors say");
        let length = usize::try_from(numel)?.checked_mul(number.size()).context("a huge storage")?;
        let (numbers, behind) = behind.split_at_checked(length).context("the file is cut short")?;
        storages.insert(key.into(), Storage::new(numbers.to_vec(), number, numel)?);
        rest = behind;
    }
    Ok((pickle, storages))
}

impl Storage {
    fn new(bytes: Vec<u8>, number: Number, numel: i64) -> Result<Storage> {
        let length = usize::try_from(numel)?.checked_mul(number.size());
        ensure!(
            length == Some(bytes.len()),
            "a storage of {} bytes for {numel} numbers of {number:?}",
            bytes.len()
        );
        Ok(Storage { number, numel, bytes })
    }
}

/// Element type and count of every storage that a tensor below `value` refers to, by key.
fn storages_in(value: &Value) -> Result<HashMap<String, (Number, i64)>> {
    let mut found = HashMap::new();
    walk(value, &mut found, &mut HashSet::new(), 0)?;
    Ok(found)
}

/// Each part is visited once: a hostile file can contain itself, or one part many times.
fn walk(
    value: &Value,
    found: &mut HashMap<String, (Number, i64)>,
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
            let (key, number, numel) = reference(id)?;
            let before = found.insert(key, (number, numel));
            ensure!(
                before.is_none_or(|before| before == (number, numel)),
                "one storage of two kinds or sizes"
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `("storage", class, key, location, numel[, view])`.
fn reference(id: &Value) -> Result<(String, Number, i64)> {
    let parts = id.tuple(5).context("a storage of unknown form")?;
    let [Value::Text(_), Value::Global(class), Value::Text(key), _, Value::Int(numel), rest @ ..] = parts
    else {
        bail!("a storage of unknown form");
    };
    ensure!(matches!(rest, [] | [Value::None]), "a storage that is a view of another; save it again");
    let number = match class.trim_start_matches("torch.") {
        "FloatStorage" => Number::Float,
        "DoubleStorage" => Number::Double,
        "HalfStorage" => Number::Half,
        "BFloat16Storage" => Number::BFloat16,
        "LongStorage" => Number::Int64,
        "IntStorage" => Number::Int32,
        "ShortStorage" => Number::Int16,
        "CharStorage" => Number::Int8,
        "ByteStorage" => Number::Uint8,
        "BoolStorage" => Number::Bool,
        other => bail!("numbers of {other} are not known here"),
    };
    Ok((key.to_string(), number, *numel))
}

/// The tensor that a call would rebuild; `None` if it would create something else.
fn tensor(value: &Value, storages: &Storages) -> Result<Option<Stored>> {
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
            // An expanded tensor is a few bytes here but could exceed the memory once it is
            // materialised.
            let count = size.iter().try_fold(1i64, |count, n| count.checked_mul(*n));
            ensure!(
                empty || count.is_some_and(|count| count <= numel),
                "a tensor of size {size:?} in a storage of {numel} numbers; save it again"
            );
            ensure!(empty || last.is_some_and(|last| last < numel), "the tensor reaches beyond its storage");
            ensure!(storages.contains_key(&key), "storage {key} is missing");
            Ok(Some(Stored { storage: key, size, stride, offset: *offset }))
        }
        _ => Ok(None),
    }
}
