//! What can go wrong, in words that say what, where and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any failure of the library. Its `Display` is one sentence: what failed, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was attempted, as a verb: "read", "write", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A setting has a value that cannot work. The name is the flag's, without dashes.
    #[error("--{name}: {problem}")]
    Setting {
        /// The setting's name as on the command line, without dashes.
        name: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The text given cannot be used (empty, not text, too short).
    #[error("{0}")]
    Text(String),
    /// A file is not what it should be: truncated, corrupt, of another shape or format.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The plan needs more memory than is free.
    #[error(
        "{what} needs {} of memory but {} is free; use a smaller {remedy}",
        bytes(*needed), bytes(*free)
    )]
    Memory {
        /// What needs it.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes free now.
        free: u64,
        /// The settings to lower.
        remedy: &'static str,
    },
    /// The loss or a gradient became NaN or infinite.
    #[error(
        "the {what} became {value} at step {step}; the best weights so far, if any, are kept in {}; \
         try a lower --lr, a smaller --clip or a longer --warmup",
        run.display()
    )]
    Diverged {
        /// "loss" or "gradient norm".
        what: &'static str,
        /// The value, NaN or infinite.
        value: f32,
        /// The optimizer step, counted from one.
        step: u64,
        /// The run directory.
        run: PathBuf,
    },
    /// Anything else that the caller asked for and that is not possible, as a full sentence.
    #[error("{0}")]
    Unsupported(String),
}

impl Error {
    /// An [`Error::Io`] for use in `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// An [`Error::Damaged`].
    pub fn damaged(path: impl AsRef<Path>, problem: impl Into<String>) -> Error {
        Error::Damaged { path: path.as_ref().to_path_buf(), problem: problem.into() }
    }

    /// An [`Error::Setting`].
    pub fn setting(name: &'static str, problem: impl Into<String>) -> Error {
        Error::Setting { name, problem: problem.into() }
    }

    /// An [`Error::Setting`] unless a value is at least 0 and below 1.
    pub(crate) fn check_rate(name: &'static str, value: f32) -> Result<()> {
        if (0.0..1.0).contains(&value) {
            return Ok(());
        }
        Err(Error::setting(name, format!("{value} is not at least 0 and below 1")))
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::PermissionDenied => "; check its permissions or choose another place with --out",
        io::ErrorKind::StorageFull => "; free some space or choose another disk with --out",
        _ => "",
    }
}

/// A number of bytes for people: `512 B`, `1.5 MiB`, `2.0 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count with a separator between groups of three digits: `1,234,567`.
pub fn grouped(count: u64, separator: char) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}
