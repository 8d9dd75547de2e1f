//! Files written whole or not at all: raw, JSON, and arrays as safetensors with a checksum.

mod tensors;

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// The name of a model's weights in a run directory.
pub(crate) const WEIGHTS: &str = "model.safetensors";

pub(crate) use tensors::{checksum, little_endian, read_floats, read_params, write_floats, write_params, write_views};

/// Writes a file whole or not at all: temporary name, fsync, rename, fsync of the folder.
///
/// # Errors
/// When the folder or the disk does not take it; what stood there before is still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        #[cfg(unix)]
        std::fs::File::open(dir)?.sync_all()?;
        Ok(())
    };
    write().map_err(Error::io("write", path))
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(path, format!("{value:#}\n").as_bytes())
}

pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let raw = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&raw).map_err(|e| Error::damaged(path, format!("is not JSON ({e}); copy it again")))
}

/// Creates a folder and those above it.
pub(crate) fn create_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))
}
