//! The Hugging Face cache: `blobs` by hash, `snapshots/<commit>` of links to them, `refs/<branch>` with a commit.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::hash::Identity;
use super::id::{Id, is_commit};
use super::plan::Wanted;
use crate::{Error, Result};

/// One repository's part of the cache.
pub(super) struct Store {
    id: Id,
    repo: CacheRepo,
    /// `models--user--name`
    folder: PathBuf,
    locks: PathBuf,
}

impl Store {
    pub(super) fn new(cache: &Path, id: &Id) -> Store {
        let repo = Repo::with_revision(id.repo.clone(), RepoType::Model, id.revision.clone());
        let name = repo.folder_name();
        Store {
            id: id.clone(),
            repo: Cache::new(cache.to_path_buf()).repo(repo),
            folder: cache.join(&name),
            locks: cache.join(".locks").join(&name),
        }
    }

    /// The repository's folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    /// The snapshot of the revision, whole or not, as it was when last fetched.
    pub(super) fn cached(&self) -> Option<PathBuf> {
        if self.id.is_commit() {
            return Some(self.snapshot(&self.id.revision)).filter(|dir| dir.is_dir());
        }
        let commit = fs::read_to_string(self.folder.join("refs").join(&self.id.revision)).ok()?;
        Some(commit.trim())
            .filter(|commit| is_commit(commit))
            .map(|commit| self.snapshot(commit))
            .filter(|dir| dir.is_dir())
    }

    /// Notes that the revision is this commit. Done last: a branch never points to a snapshot that is not whole.
    pub(super) fn set_ref(&self, commit: &str) -> Result<()> {
        if self.id.revision == commit || self.cached() == Some(self.snapshot(commit)) {
            return Ok(());
        }
        self.repo.create_ref(commit).map_err(|e| failed("write", &self.folder.join("refs"), e))
    }

    /// Whether a snapshot has a file, with the size it should have as far as that is known.
    pub(super) fn has(&self, commit: &str, file: &Wanted) -> bool {
        fs::metadata(self.snapshot(commit).join(&file.name)).is_ok_and(|meta| {
            meta.is_file() && file.identity.as_ref().is_none_or(|identity| identity.size == meta.len())
        })
    }

    /// Where a content is kept.
    pub(super) fn blob(&self, identity: &Identity) -> PathBuf {
        self.folder.join("blobs").join(&identity.hash)
    }

    /// Where a content grows until it is whole; the name is that of Hugging Face's library.
    pub(super) fn partial(&self, identity: &Identity) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", identity.hash))
    }

    /// Whether a file's content must be downloaded: neither the snapshot nor, as far as is known, the blobs have it.
    pub(super) fn needs(&self, commit: &str, file: &Wanted) -> bool {
        !self.has(commit, file) && !file.identity.as_ref().is_some_and(|identity| self.has_blob(identity))
    }

    /// Whether the content is here; one of another size is deleted.
    pub(super) fn has_blob(&self, identity: &Identity) -> bool {
        let blob = self.blob(identity);
        match fs::metadata(&blob) {
            Ok(meta) if meta.len() == identity.size => true,
            Ok(_) => fs::remove_file(&blob).is_err(), // what cannot be deleted is reported when it is written to
            Err(_) => false,
        }
    }

    /// Keeps other processes, Python's too, from fetching the same content; waits for one that does.
    pub(super) fn lock(&self, identity: &Identity) -> Result<Option<File>> {
        let path = self.locks.join(format!("{}.lock", identity.hash));
        for dir in [&self.locks, &self.folder.join("blobs")] {
            fs::create_dir_all(dir).map_err(|e| failed("create", dir, e))?;
        }
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| failed("create", &path, e))?;
        // Some network file systems have no locks; the content's hash is checked all the same.
        Ok(file.lock().ok().map(|()| file))
    }

    /// Puts a content into a snapshot under its name.
    pub(super) fn link(&self, commit: &str, file: &Wanted, identity: &Identity) -> Result<()> {
        let dir = self.snapshot(commit);
        fs::create_dir_all(&dir).map_err(|e| failed("create", &dir, e))?;
        let pointer = dir.join(&file.name);
        let blob = self.blob(identity);
        // Under another name first: a reader finds the old pointer or the new one, never none.
        let fresh = dir.join(format!(".{}.{}", identity.hash, std::process::id()));
        let place = || {
            let _ = fs::remove_file(&fresh); // left by a process that was killed
            match symlink(&Path::new("../../blobs").join(&identity.hash), &fresh) {
                Ok(()) => fs::rename(&fresh, &pointer),
                Err(_) => fs::rename(&blob, &pointer),
            }
        };
        place().map_err(|e| failed("write", &pointer, e))
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target.components().collect::<PathBuf>(), link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A failure in the cache, with the remedies that fit it.
pub(super) fn failed(action: &str, path: &Path, error: io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or set HF_HOME to a folder on another disk; what has arrived is kept, and fetching goes on from there"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "change its permissions, or set HF_HOME to a folder that can be written"
        }
        _ => "check the Hugging Face cache, or set HF_HOME to another folder",
    };
    Error::Unsupported(format!("cannot {action} {}: {error}; {remedy}", path.display()))
}
