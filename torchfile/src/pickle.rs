//! Enough of Python's pickle to read what `torch.save` writes, as data: nothing in the file is ever
//! executed. (The well-kept crate serde-pickle cannot represent the persistent ids and calls that
//! tensors consist of.)

use anyhow::{Context as _, Result, bail, ensure};
use std::{cell::RefCell, collections::HashMap, rc::Rc};

/// A list that was shared or is still being filled when it is first referred to.
pub type Items = Rc<RefCell<Vec<Value>>>;
/// Entries of a dictionary, in the order of insertion.
pub type Entries = Rc<RefCell<Vec<(Value, Value)>>>;

/// Every list and dictionary of a pickle. Mutable objects can be nested to any depth, and in
/// themselves, so they are emptied one by one in the end: dropped recursively, they would overflow
/// the stack or leak.
#[derive(Default)]
struct Kept {
    lists: Vec<Items>,
    dicts: Vec<Entries>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.lists.iter().for_each(|list| drop(list.take()));
        self.dicts.iter().for_each(|dict| drop(dict.take()));
    }
}

/// The content of a pickle. Lists and dictionaries in it are empty once it is dropped.
pub struct Pickle {
    /// The object.
    pub value: Value,
    /// Its length in bytes.
    pub taken: usize,
    // Last: its fields are dropped in this order.
    _kept: Kept,
}

/// A value in a pickle.
#[derive(Clone, Debug)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`: no tensor depends on one.
    Bool,
    /// An integer; those beyond 64 bits (torch's magic number) keep their lowest bits.
    Int(i64),
    /// A float: no tensor depends on one.
    Float,
    /// A string.
    Text(Rc<str>),
    /// Bytes without a meaning here.
    Bytes,
    /// A list or set.
    List(Items),
    /// A tuple.
    Tuple(Rc<Vec<Value>>),
    /// A dictionary, ordered or not.
    Dict(Entries),
    /// A class or function by `module.name`.
    Global(Rc<str>),
    /// A reference that the file resolves elsewhere: a storage.
    Persistent(Rc<Value>),
    /// `callable(arguments)`, not called.
    Call(Rc<str>, Rc<Vec<Value>>),
}

/// Limit on the nesting of tuples, calls and references; Python itself refuses at about a thousand.
pub const DEEPEST: usize = 500;

impl Value {
    /// The string, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// The number, if it is an integer.
    pub fn int(&self) -> Option<i64> {
        if let Value::Int(n) = self { Some(*n) } else { None }
    }

    /// The elements, if it is a tuple of at least `n`.
    pub fn tuple(&self, n: usize) -> Option<&[Value]> {
        match self {
            Value::Tuple(items) if items.len() >= n => Some(items),
            _ => None,
        }
    }
}

/// Reads one pickle from the front of `bytes`.
///
/// # Errors
/// The bytes end early, or contain an opcode that `torch.save` does not write.
pub fn read(bytes: &[u8]) -> Result<Pickle> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
        copied: 0,
        kept: Kept::default(),
    };
    let value = machine.run().with_context(|| format!("byte {} of the pickle", machine.at))?;
    Ok(Pickle { value, taken: machine.at, _kept: std::mem::take(&mut machine.kept) })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Values, each with the nesting depth of tuples, calls and references in it, down to the next
    /// list or dictionary.
    stack: Vec<(Value, usize)>,
    marks: Vec<usize>,
    memo: HashMap<u32, (Value, usize)>,
    /// Entries that were copied from one list to another.
    copied: usize,
    // Last, so that stack and memo go before it.
    kept: Kept,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value> {
        loop {
            match self.take(1)?[0] {
                0x80 => {
                    let version = self.take(1)?[0];
                    ensure!((2..=5).contains(&version), "pickle protocol {version}, not 2 to 5");
                }
                0x95 => drop(self.take(8)?),
                b'.' => return Ok(self.pop()?.0),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.since_mark()?),
                b'2' => {
                    let top = self.stack.last().context("an empty stack")?.clone();
                    self.stack.push(top);
                }
                b'N' => self.push(Value::None),
                0x88 | 0x89 => self.push(Value::Bool),
                b'J' => {
                    let n = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(n.into()));
                }
                b'K' => {
                    let n = self.take(1)?[0];
                    self.push(Value::Int(n.into()));
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(n.into()));
                }
                0x8a => {
                    let n = self.take(1)?[0];
                    self.long(n.into())?;
                }
                0x8b => {
                    let n = self.length32()?;
                    self.long(n)?;
                }
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Float);
                }
                b'X' | b'T' => {
                    let n = self.length32()?;
                    self.text(n)?;
                }
                0x8c | b'U' => {
                    let n = self.take(1)?[0];
                    self.text(n.into())?;
                }
                0x8d => {
                    let n = u64::from_le_bytes(self.array()?);
                    self.text(usize::try_from(n)?)?;
                }
                b'B' => {
                    let n = self.length32()?;
                    self.take(n)?;
                    self.push(Value::Bytes);
                }
                b'C' => {
                    let n = self.take(1)?[0];
                    self.take(n.into())?;
                    self.push(Value::Bytes);
                }
                b'}' => {
                    let dict = self.dict(Entries::default());
                    self.push(dict);
                }
                b']' | 0x8f => {
                    let list = self.list();
                    self.push(list);
                }
                b')' => self.push(Value::Tuple(Rc::default())),
                b't' => {
                    let items = self.since_mark()?;
                    self.tuple(items)?;
                }
                n @ 0x85..=0x87 => {
                    let from =
                        self.stack.len().checked_sub(usize::from(n) - 0x84).context("an empty stack")?;
                    let items = self.stack.split_off(from);
                    self.tuple(items)?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' | 0x90 => {
                    let items = self.since_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.insert(vec![key, value])?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.insert(items)?;
                }
                b'q' => {
                    let slot = self.take(1)?[0];
                    self.remember(slot.into())?;
                }
                b'r' => {
                    let slot = u32::from_le_bytes(self.array()?);
                    self.remember(slot)?;
                }
                0x94 => {
                    let slot = u32::try_from(self.memo.len())?;
                    self.remember(slot)?;
                }
                b'h' => {
                    let slot = self.take(1)?[0];
                    self.recall(slot.into())?;
                }
                b'j' => {
                    let slot = u32::from_le_bytes(self.array()?);
                    self.recall(slot)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Value::Global(format!("{module}.{name}").into()));
                }
                0x93 => {
                    let (name, module) = (self.pop()?.0, self.pop()?.0);
                    let (Some(module), Some(name)) = (module.text(), name.text()) else {
                        bail!("a class whose name is not a string");
                    };
                    self.push(Value::Global(format!("{module}.{name}").into()));
                }
                b'R' | 0x81 => self.call()?,
                // State of an object: for an ordered dictionary it is torch's `_metadata`, which is
                // not needed here.
                b'b' => drop(self.pop()?),
                b'Q' => {
                    let id = self.pop()?;
                    let depth = deeper(std::slice::from_ref(&id))?;
                    self.stack.push((Value::Persistent(Rc::new(id.0)), depth));
                }
                other => bail!("instruction {other:#04x}, which torch.save does not write"),
            }
        }
    }

    fn take(&mut self, n: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let end = end.context("the pickle ends in the middle: the file is cut short")?;
        let some = &self.bytes[self.at..end];
        self.at = end;
        Ok(some)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many as were taken"))
    }

    fn length32(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|b| *b == b'\n').context("a name without an end")?;
        let line = String::from_utf8_lossy(&rest[..n]).into_owned();
        self.at += n + 1;
        Ok(line)
    }

    fn long(&mut self, n: usize) -> Result<()> {
        let bytes = self.take(n)?;
        let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut word = [sign; 8];
        for (to, from) in word.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.push(Value::Int(i64::from_le_bytes(word)));
        Ok(())
    }

    fn text(&mut self, n: usize) -> Result<()> {
        let text = String::from_utf8_lossy(self.take(n)?).into();
        self.push(Value::Text(text));
        Ok(())
    }

    fn list(&mut self) -> Value {
        let list = Items::default();
        self.kept.lists.push(list.clone());
        Value::List(list)
    }

    fn dict(&mut self, entries: Entries) -> Value {
        self.kept.dicts.push(entries.clone());
        Value::Dict(entries)
    }

    fn push(&mut self, value: Value) {
        self.stack.push((value, 0));
    }

    fn pop(&mut self) -> Result<(Value, usize)> {
        ensure!(self.marks.last().is_none_or(|mark| *mark < self.stack.len()), "a value is missing");
        self.stack.pop().context("an empty stack")
    }

    fn since_mark(&mut self) -> Result<Vec<(Value, usize)>> {
        let mark = self.marks.pop().context("no mark")?;
        ensure!(mark <= self.stack.len(), "a mark beyond the stack");
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, items: Vec<(Value, usize)>) -> Result<()> {
        let depth = deeper(&items)?;
        let items = items.into_iter().map(|(value, _)| value).collect();
        self.stack.push((Value::Tuple(Rc::new(items)), depth));
        Ok(())
    }

    fn append(&mut self, items: Vec<(Value, usize)>) -> Result<()> {
        // What is appended to an object of another type is not needed here.
        if let (Value::List(list), _) = self.stack.last().context("an empty stack")? {
            list.borrow_mut().extend(items.into_iter().map(|(value, _)| value));
        }
        Ok(())
    }

    fn insert(&mut self, items: Vec<(Value, usize)>) -> Result<()> {
        ensure!(items.len().is_multiple_of(2), "a key without a value");
        let (Value::Dict(entries), _) = self.stack.last().context("an empty stack")? else {
            return Ok(());
        };
        let mut items = items.into_iter().map(|(value, _)| value);
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            entries.borrow_mut().push((key, value));
        }
        Ok(())
    }

    fn remember(&mut self, slot: u32) -> Result<()> {
        let top = self.stack.last().context("an empty stack")?.clone();
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<()> {
        let value = self.memo.get(&slot).with_context(|| format!("nothing remembered as {slot}"))?.clone();
        self.stack.push(value);
        Ok(())
    }

    fn call(&mut self) -> Result<()> {
        let arguments = self.pop()?;
        let (callable, _) = self.pop()?;
        let depth = deeper(std::slice::from_ref(&arguments))?;
        let Value::Tuple(arguments) = arguments.0 else { bail!("a call without a tuple of arguments") };
        let Value::Global(name) = callable else {
            bail!("a call of something that is not a class or function")
        };
        match &*name {
            "collections.OrderedDict" => {
                let entries = Entries::default();
                // Python 2 wrote the entries as one list of pairs.
                if let Some(Value::List(pairs)) = arguments.first() {
                    self.copied += pairs.borrow().len();
                    ensure!(self.copied <= self.bytes.len(), "one list is made a dictionary again and again");
                    for pair in pairs.borrow().iter() {
                        if let Value::List(pair) = pair
                            && let [key, value] = pair.borrow().as_slice()
                        {
                            entries.borrow_mut().push((key.clone(), value.clone()));
                        }
                    }
                }
                let dict = self.dict(entries);
                self.push(dict);
            }
            "__builtin__.set" | "builtins.set" => {
                let set = self.list();
                self.push(set);
            }
            _ => self.stack.push((Value::Call(name, arguments), depth)),
        }
        Ok(())
    }
}

fn deeper(items: &[(Value, usize)]) -> Result<usize> {
    let depth = items.iter().map(|(_, depth)| depth + 1).max().unwrap_or(0);
    ensure!(depth < DEEPEST, "nested more than {DEEPEST} deep");
    Ok(depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_python_writes() {
        // pickle.dumps({"a": [1, -2, 70000], "b": (True, None, 1.5)}, 2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffJp\x11\x01\x00eX\x01\x00\x00\x00bq\x03\x88NG?\xf8\x00\x00\x00\x00\x00\x00\x87q\x04u.rest";
        let pickle = read(bytes).unwrap();
        assert_eq!(pickle.taken, bytes.len() - 4);
        let Value::Dict(entries) = &pickle.value else { panic!("{:?}", pickle.value) };
        let entries = entries.borrow();
        assert_eq!(entries[0].0.text(), Some("a"));
        let Value::List(list) = &entries[0].1 else { panic!("{entries:?}") };
        assert_eq!(list.borrow().iter().filter_map(Value::int).collect::<Vec<_>>(), [1, -2, 70000]);
        assert!(matches!(entries[1].1.tuple(3).unwrap(), [Value::Bool, Value::None, Value::Float]));
    }

    #[test]
    fn nothing_is_run_and_nothing_overflows() {
        // pickle.dumps of an object whose __reduce__ is (os.system, ("true",)).
        let pickle = read(b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02R.").unwrap();
        assert!(matches!(&pickle.value, Value::Call(name, _) if &**name == "posix.system"));
        let deep = [b"\x80\x02".as_slice(), b")", &b"\x85".repeat(1_000_000), b"."].concat();
        let error = |bytes: &[u8]| read(bytes).map(|_| ()).unwrap_err();
        assert!(format!("{:#}", error(&deep)).contains("nested"));

        // Lists remembered while they were empty and put into one another afterwards: a million
        // deep.
        for cut in [0, 1] {
            let mut chain = b"\x80\x02]q\x000".to_vec();
            for _ in 0..1_000_000 {
                chain.extend(b"](h\x00eq\x000");
            }
            chain.extend(b"h\x00.");
            assert_eq!(read(&chain[..chain.len() - cut]).is_ok(), cut == 0);
        }
        // A list in itself, and a tuple in a list in the tuple.
        assert!(read(b"\x80\x02]q\x00h\x00a.").is_ok());
        assert!(read(b"\x80\x02]q\x00(h\x00tq\x01h\x00h\x01a.").is_ok());
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.";
        assert!(read(bytes).is_ok());
        for n in 0..bytes.len() {
            assert!(read(&bytes[..n]).is_err(), "{n}");
        }
    }
}
