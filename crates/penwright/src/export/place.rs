//! Where an export goes: written beside its place under another name, then renamed.

use std::fs;
use std::path::{Path, PathBuf};

use super::ExportedFile;
use crate::files::create_dir;
use crate::{Error, Result};

/// What exports consist of, and what Python leaves beside a module that was imported. `force` replaces a folder of
/// these alone: a run, or a folder with anything else in it, is never lost.
const OURS: [&str; 8] = [
    "README.md",
    "__pycache__",
    "config.json",
    "generation_config.json",
    "model.py",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// A folder or file that may be written.
pub(super) struct Place {
    out: PathBuf,
    parent: PathBuf,
    as_file: bool,
}

impl Place {
    /// Looks whether `out` is free, or holds what `force` may replace.
    pub(super) fn find(out: &Path, source: &Path, as_file: bool, force: bool) -> Result<Place> {
        let taken = |problem: &str| Err(Error::Unsupported(format!("{} {problem}", out.display())));
        // Through symbolic links: what they point to is replaced, not they.
        let (out_path, found) = match fs::canonicalize(out) {
            Ok(path) => {
                let found = fs::metadata(&path).map_err(Error::io("read", out))?;
                (path, Some(found))
            }
            Err(_) => (out.to_path_buf(), None),
        };
        if found.is_some() && fs::canonicalize(source).is_ok_and(|source| source == out_path) {
            return taken("is the run itself; choose another place");
        }
        match found {
            None => {}
            Some(found) if as_file && found.is_dir() => return taken("is a folder; give the name of a file"),
            Some(found) if as_file && !force && found.len() > 0 => {
                return taken("is there already; choose another name, or replace it with --force");
            }
            Some(found) if !as_file && !found.is_dir() => return taken("is a file; give the name of a folder"),
            Some(_) if !as_file => {
                let names = names(&out_path)?;
                if let Some(strange) = names.iter().find(|name| !OURS.contains(&name.as_str())) {
                    return taken(&format!("holds {strange}, which no export wrote; choose another folder"));
                }
                if !names.is_empty() && !force {
                    return taken("is not empty; choose another folder, or replace what is in it with --force");
                }
            }
            Some(_) => {}
        }
        if out_path.file_name().is_none() {
            return taken("names no place to write to; give a folder or file that is to be made");
        }
        let parent = out_path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
        Ok(Place { out: out_path, parent, as_file })
    }

    /// The last part of the path.
    pub(super) fn name(&self) -> String {
        self.out.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Calls `fill` with an empty folder, or with a file that is not there yet, and puts what it made into its place.
    pub(super) fn write(&self, fill: impl FnOnce(&Path) -> Result<()>) -> Result<Vec<ExportedFile>> {
        let io = |action| Error::io(action, &self.out);
        create_dir(&self.parent)?;
        let temporary = || tempfile::Builder::new().prefix(".penwright-export-").tempdir_in(&self.parent);
        let folder = temporary().map_err(io("create"))?;
        let made = if self.as_file { folder.path().join(self.name()) } else { folder.path().to_path_buf() };
        fill(&made)?;
        let files = settle(folder.path()).map_err(io("write"))?;
        let replace = || -> std::io::Result<()> {
            if !self.as_file && self.out.exists() {
                // An old folder steps aside first and comes back when the new one cannot take its place.
                let aside = temporary()?;
                let old = aside.path().join("old");
                fs::rename(&self.out, &old)?;
                if let Err(error) = fs::rename(&made, &self.out) {
                    fs::rename(&old, &self.out)?;
                    return Err(error);
                }
            } else {
                fs::rename(&made, &self.out)?;
            }
            #[cfg(unix)]
            fs::File::open(&self.parent)?.sync_all()?;
            Ok(())
        };
        replace().map_err(io("write"))?;
        Ok(files)
    }
}

/// Names of what is in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let read = || -> std::io::Result<Vec<String>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = read().map_err(Error::io("read", folder))?;
    names.sort();
    Ok(names)
}

/// Brings all files of a folder to the disk, readable for whom the folder is, and lists them.
fn settle(folder: &Path) -> std::io::Result<Vec<ExportedFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let (entry, file) = entry.and_then(|entry| Ok((fs::File::open(entry.path())?, entry)))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder)?.permissions().mode() & 0o666;
            entry.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        entry.sync_all()?;
        files.push(ExportedFile {
            name: file.file_name().to_string_lossy().into_owned(),
            bytes: entry.metadata()?.len(),
        });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(files)
}
