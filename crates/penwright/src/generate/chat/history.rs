//! A conversation as a file: one object a line.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::write;
use crate::{Error, Result};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Tells the model what it is to be.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// A turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message { role, content: content.into() }
    }
}

/// Reads a conversation of one `{"role","content"}` a line; empty lines and further keys are passed over.
///
/// # Errors
/// When the file cannot be read or a line is something else.
pub fn read_history(path: &Path) -> Result<Vec<Message>> {
    let raw = std::fs::read(path).map_err(Error::io("read", path))?;
    let text = String::from_utf8(raw).map_err(|_| Error::damaged(path, "is not UTF-8 text; convert it first"))?;
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let message = |(i, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| {
            let wanted = r#"each line must be {"role": "user" or "assistant" or "system", "content": TEXT}"#;
            Error::damaged(path, format!("line {} is no turn ({e}); {wanted}", i + 1))
        })
    };
    lines.map(message).collect()
}

/// Writes a conversation, whole or not at all.
///
/// # Errors
/// When writing fails; what stood there before is still there.
pub fn write_history(path: &Path, messages: &[Message]) -> Result<()> {
    let mut text = String::new();
    for message in messages {
        let line = serde_json::to_string(message).map_err(|e| Error::damaged(path, format!("cannot be made: {e}")))?;
        text.push_str(&line);
        text.push('\n');
    }
    // A bare name has no folder that could be synced.
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => write(&Path::new(".").join(path), text.as_bytes()),
        _ => write(path, text.as_bytes()),
    }
}
