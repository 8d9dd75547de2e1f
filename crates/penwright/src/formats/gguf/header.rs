//! A GGUF file's head: metadata and the list of tensors (ggml's `docs/gguf.md`).
//!
//! Nothing is believed: a count or a length is compared with the bytes that are left before anything is made of it,
//! and strings and arrays stay where they lie in the file. What is kept grows with the number of keys and tensors alone.

use std::collections::BTreeMap;
use std::ops::Range;

use super::blocks::Type;

pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Bytes that tensors are aligned to, where the file does not say another number.
pub(super) const ALIGNMENT: usize = 32;
/// Keys and tensors at most; a GPT-2 has about 30 and, with 48 layers, 580.
const MOST: u64 = 1 << 16;
/// Dimensions of a tensor at most.
const DIMENSIONS: u64 = 4;

/// Numbers of the value types.
pub(super) const U32: u32 = 4;
pub(super) const I32: u32 = 5;
pub(super) const F32: u32 = 6;
pub(super) const BOOL: u32 = 7;
pub(super) const STRING: u32 = 8;
pub(super) const ARRAY: u32 = 9;

/// A value of the metadata; strings and arrays by their bytes in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    /// Of one type; text each with its length of eight bytes before it.
    Array {
        kind: u32,
        count: usize,
        range: Range<usize>,
    },
}

/// A tensor of the file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Type,
    /// Rows first, values of a row last: the other way round than in the file.
    pub(super) shape: Vec<usize>,
    /// Its bytes in the file.
    pub(super) range: Range<usize>,
}

#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, Entry>,
}

impl Header {
    /// Reads and checks the head of a file. The error says what is wrong, without a subject.
    pub(super) fn read(bytes: &[u8]) -> Result<Header, String> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.take(4).is_ok_and(|range| &bytes[range] != MAGIC) || bytes.len() < 4 {
            return Err("is no GGUF file; give one that llama.cpp reads".into());
        }
        check_version(cursor.u32()?)?;
        let (tensors, keys) = (cursor.u64()?, cursor.u64()?);
        if keys > MOST || tensors > MOST {
            return Err(format!("claims {keys} keys and {tensors} tensors, more than models have; copy it again"));
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..keys {
            let key = cursor.name("key")?;
            let kind = cursor.u32()?;
            let value = cursor.value(kind).map_err(|e| format!("in its key {key:?} {e}"))?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("has the key {key:?} twice; convert the model again"));
            }
        }
        let alignment = alignment(&metadata)?;
        let mut entries = Vec::new();
        for _ in 0..tensors {
            let name = cursor.name("tensor")?;
            let entry = cursor.entry().map_err(|e| format!("in its tensor {name:?} {e}"))?;
            entries.push((name, entry));
        }
        let start = cursor.at.next_multiple_of(alignment);
        place(&mut entries, start, alignment, bytes.len())?;
        let count = entries.len();
        let tensors: BTreeMap<String, Entry> = entries.into_iter().collect();
        if tensors.len() < count {
            return Err("has two tensors of the same name; convert the model again".into());
        }
        Ok(Header { metadata, tensors })
    }
}

fn check_version(version: u32) -> Result<(), String> {
    match version {
        2 | 3 => Ok(()),
        1 => Err("is GGUF of version 1, which is no longer in use; convert the model again".into()),
        _ if version.trailing_zeros() >= 16 => {
            Err("is a big-endian GGUF file; convert it with gguf-convert-endian of the Python package gguf".into())
        }
        _ => Err(format!("is GGUF of version {version}, which is not known; versions 2 and 3 are")),
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<usize, String> {
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT),
        Some(Value::Integer(n)) if (1..=1 << 20).contains(n) && n.count_ones() == 1 => Ok(*n as usize),
        Some(_) => Err("has a general.alignment that is no power of two up to 1048576; convert the model again".into()),
    }
}

/// Turns offsets into places in the file, checked: aligned, inside, none over another.
fn place(entries: &mut [(String, Entry)], start: usize, alignment: usize, len: usize) -> Result<(), String> {
    for (name, Entry { range, .. }) in entries.iter_mut() {
        let end = start.checked_add(range.end).filter(|&end| end <= len);
        let Some(end) = end else {
            return Err(format!("ends before its tensor {name:?} does; copy it again"));
        };
        if !range.start.is_multiple_of(alignment) {
            return Err(format!("has its tensor {name:?} at an odd place; convert the model again"));
        }
        *range = start + range.start..end;
    }
    let mut order: Vec<&(String, Entry)> = entries.iter().collect();
    order.sort_by_key(|(_, entry)| entry.range.start);
    let over = order.windows(2).find(|pair| pair[1].1.range.start < pair[0].1.range.end);
    over.map_or(Ok(()), |pair| {
        Err(format!("has its tensors {:?} and {:?} over one another; copy it again", pair[0].0, pair[1].0))
    })
}

/// The bytes of a value of fixed size.
fn size_of(kind: u32) -> Option<u64> {
    [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8].get(kind as usize).copied().filter(|&size| size > 0)
}

pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: u64) -> Result<Range<usize>, String> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        let Some(end) = end.filter(|&end| end <= self.bytes.len()) else {
            let left = self.bytes.len() - self.at;
            return Err(format!("claims {count} bytes where {left} are left; copy it again"));
        };
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, size: u64) -> Result<u64, String> {
        let range = self.take(size)?;
        Ok(self.bytes[range].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(self.number(4)? as u32)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.number(8)
    }

    /// A text's bytes, behind their number.
    pub(super) fn text(&mut self) -> Result<Range<usize>, String> {
        let length = self.u64()?;
        self.take(length)
    }

    fn name(&mut self, what: &str) -> Result<String, String> {
        let range = self.text()?;
        // The format allows names of 65,535 bytes.
        let name = std::str::from_utf8(&self.bytes[range]).ok().filter(|name| name.len() < 1 << 16);
        name.map(String::from).ok_or_else(|| format!("has a {what} whose name is no name; copy it again"))
    }

    fn value(&mut self, kind: u32) -> Result<Value, String> {
        match kind {
            STRING => Ok(Value::Text(self.text()?)),
            ARRAY => self.array(),
            _ => {
                let range = self.take(size_of(kind).ok_or("is of no known type; copy it again")?)?;
                Ok(scalar(kind, &self.bytes[range]))
            }
        }
    }

    fn array(&mut self) -> Result<Value, String> {
        let (kind, count) = (self.u32()?, self.u64()?);
        let start = self.at;
        let none = || format!("claims an array of {count} values, more than it has room for; copy it again");
        if kind == ARRAY {
            return Err("has arrays in an array, which Penwright does not read; convert the model again".into());
        }
        if kind == STRING {
            if count > (self.bytes.len() - start) as u64 / 8 {
                return Err(none());
            }
            for _ in 0..count {
                self.text()?;
            }
        } else {
            let size = size_of(kind).ok_or("has values of no known type; copy it again")?;
            self.take(count.checked_mul(size).ok_or_else(none)?)?;
        }
        // At least a byte a value lies in the file, so the count fits.
        Ok(Value::Array { kind, count: count as usize, range: start..self.at })
    }

    /// A tensor; its range still counts from where tensors begin.
    fn entry(&mut self) -> Result<Entry, String> {
        let dimensions = u64::from(self.u32()?);
        if !(1..=DIMENSIONS).contains(&dimensions) {
            return Err(format!("has {dimensions} dimensions; copy it again"));
        }
        let sizes: Vec<u64> = (0..dimensions).map(|_| self.u64()).collect::<Result<_, _>>()?;
        let id = self.u32()?;
        let kind = Type::from_id(id).map_err(|name| {
            format!("has the type {name}, which Penwright does not read; make a file of the type F16, Q8_0 or Q4_K_M")
        })?;
        let offset = self.u64()?;
        let impossible = || format!("has the impossible shape {sizes:?}; copy it again");
        let shape: Option<Vec<usize>> =
            sizes.iter().rev().map(|&n| usize::try_from(n).ok().filter(|&n| n > 0)).collect();
        let shape = shape.ok_or_else(impossible)?;
        let values = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).ok_or_else(impossible)?;
        // Blocks lie in rows.
        let whole = shape.last().is_some_and(|row| row.is_multiple_of(kind.values()));
        let bytes = kind.bytes(values).filter(|_| whole).ok_or_else(impossible)?;
        let end = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(bytes)).ok_or_else(impossible)?;
        Ok(Entry { kind, shape, range: end - bytes..end })
    }
}

/// A value of fixed size; the bytes are as many as the type has.
pub(super) fn scalar(kind: u32, bytes: &[u8]) -> Value {
    let unsigned = bytes.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
    let unused = 64 - 8 * bytes.len().min(8) as u32;
    let signed = (unsigned << unused.min(63)) as i64 >> unused.min(63);
    match kind {
        1 | 3 | I32 | 11 => Value::Integer(signed.into()),
        F32 => Value::Float(f32::from_bits(unsigned as u32).into()),
        BOOL => Value::Bool(unsigned != 0),
        12 => Value::Float(f64::from_bits(unsigned)),
        _ => Value::Integer(unsigned.into()),
    }
}
