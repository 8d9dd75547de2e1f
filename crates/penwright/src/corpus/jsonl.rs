//! JSON Lines: one document a line, read and cleaned a bounded portion at a time.

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::ReadOptions;
use super::clean::{Cleaned, clean};
use super::find::{Format, Source};
use super::unpack::Opened;
use crate::Result;

/// Bytes of lines that are parsed and cleaned in parallel before they are handed on.
const PORTION: usize = 16 << 20;

/// One line's document.
pub(super) struct Record {
    /// Counted from one.
    pub(super) line: u64,
    pub(super) text: String,
    pub(super) cleaned: Cleaned,
}

/// Hands on every document in order, in portions. Empty lines are passed over; a `null` is an empty document.
///
/// # Errors
/// When a line is not a JSON object, lacks the field or is longer than `limit` bytes; what `sink` returns.
pub(super) fn each(
    source: &Source,
    mut opened: Opened,
    options: &ReadOptions,
    limit: u64,
    mut sink: impl FnMut(Vec<Record>) -> Result<()>,
) -> Result<()> {
    let mut number = 0;
    let mut more = true;
    while more {
        let mut portion = Vec::new();
        let mut bytes = 0;
        while bytes < PORTION {
            let mut line = Vec::new();
            more = opened.line(&mut line, source, limit)?;
            if !more {
                break;
            }
            number += 1;
            bytes += line.len();
            portion.push((number, line));
        }
        let records: Vec<Result<Option<Record>, String>> =
            portion.into_par_iter().map(|(number, line)| record(number, &line, options)).collect();
        let records: Result<Vec<_>, _> = records.into_iter().filter_map(Result::transpose).collect();
        sink(records.map_err(|problem| source.damaged(problem))?)?;
    }
    Ok(())
}

fn record(line: u64, raw: &[u8], options: &ReadOptions) -> Result<Option<Record>, String> {
    let raw = if line == 1 { raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw) } else { raw };
    if raw.trim_ascii().is_empty() {
        return Ok(None);
    }
    let field = &options.field;
    let mut object: Map<String, Value> = serde_json::from_slice(raw).map_err(|error| {
        format!("line {line} is not a JSON object ({error}); give one object a line with the text in \"{field}\"")
    })?;
    let text = match object.remove(field) {
        Some(Value::String(text)) => text,
        Some(Value::Null) => String::new(),
        Some(_) => {
            return Err(format!("line {line}: the field \"{field}\" is not a string; choose another with --field"));
        }
        None => {
            let names: Vec<_> = object.keys().take(6).map(|name| format!("\"{name}\"")).collect();
            let has = if names.is_empty() { "none".into() } else { names.join(", ") };
            return Err(format!("line {line} has no field \"{field}\" (its fields: {has}); choose one with --field"));
        }
    };
    let (text, cleaned) = clean(text, Format::Jsonl, options);
    Ok(Some(Record { line, text, cleaned }))
}
