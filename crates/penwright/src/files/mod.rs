//! Files written whole or not at all: raw, JSON, and arrays as safetensors with a checksum.

mod tensors;

use std::fs::File;
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
    write_streamed(path, |file| file.write_all(bytes).map_err(Error::io("write", path)))
}

/// As [`write`], the contents written bit by bit by `fill`.
pub(crate) fn write_streamed(path: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let failed = || Error::io("write", path);
    // A path of one part has an empty parent.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Readable by whoever may read what this process writes, as other files are; temporary ones are secret.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(dir).map_err(failed())?;
    fill(file.as_file_mut())?;
    file.as_file().sync_all().map_err(failed())?;
    file.persist(path).map_err(|e| failed()(e.error))?;
    #[cfg(unix)]
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed())?;
    Ok(())
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(path, format!("{value:#}\n").as_bytes())
}

pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let raw = std::fs::read(path).map_err(Error::io("read", path))?;
    parse_json(path, &raw)
}

/// JSON that was read from a path.
pub(crate) fn parse_json(path: &Path, raw: &[u8]) -> Result<Value> {
    serde_json::from_slice(raw).map_err(|e| Error::damaged(path, format!("is not JSON ({e}); copy it again")))
}

/// Removes a file that is to be replaced, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("replace", path)(e)),
        _ => Ok(()),
    }
}

/// Creates a folder and those above it.
pub(crate) fn create_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))
}
