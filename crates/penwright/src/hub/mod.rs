//! Models from the Hugging Face hub, fetched into the cache that all of Hugging Face's libraries share.
//!
//! [`fetch`] gives the folder of a model: `gpt2`, `user/name`, or either with `@branch`, `@tag` or `@commit`. One request
//! asks for the branch's commit and its files; what the cache lacks is downloaded, resumed where it was broken off (also
//! by an earlier process), and compared with the hub's hash before it gets its name. Nothing is asked for with
//! `HF_HUB_OFFLINE`, or for a commit that is whole in the cache; if the hub does not answer, a whole snapshot is used as
//! it is. Weights are taken as safetensors only. [`Settings`] lists the environment variables.

mod cache;
mod client;
mod hash;
mod id;
mod plan;
mod settings;
mod transfer;

use std::path::{Path, PathBuf};

use crate::{Error, Result};
use cache::Store;
use client::{Client, Kind};
use id::Id;
use plan::{Plan, Wanted};

pub use id::is_id;
pub use settings::Settings;

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file that is arriving, by its name in the repository.
    pub file: &'a str,
    /// Bytes here already: of all files that are not in the cache yet if the hub told their sizes beforehand, as it
    /// does, otherwise of this file. It falls when a damaged file is begun anew.
    pub done: u64,
    /// Bytes in all, counted likewise.
    pub total: u64,
}

/// Fetches what Penwright needs of a model and gives the folder in the cache with its files.
///
/// The settings come from the environment ([`Settings::from_env`]). `progress` is called for every piece that arrives,
/// and not at all if everything is in the cache. Of a PEFT adapter the adapter alone is fetched, not its base. A second
/// process that fetches the same file waits for the first.
///
/// # Errors
/// One sentence with what to do: when the name is no id, the hub does not know or not show the model, it lacks a file
/// that a model needs, has only pickled weights, a file arrives damaged twice, the connection keeps breaking, there is no
/// network and no whole snapshot, or the disk is full.
pub fn fetch(id: &str, progress: &mut dyn FnMut(&Progress)) -> Result<PathBuf> {
    fetch_with(&Settings::from_env()?, id, progress)
}

/// [`fetch`] with settings of one's own.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_with(settings: &Settings, id: &str, progress: &mut dyn FnMut(&Progress)) -> Result<PathBuf> {
    let id = Id::expect(id)?;
    let store = Store::new(&settings.cache, &id);
    let cached = store.cached();
    let whole = cached.as_deref().filter(|dir| plan::lacks(dir).is_none());
    if settings.offline {
        return whole.map(Path::to_path_buf).ok_or_else(|| offline(&id, &store, cached.as_deref()));
    }
    if let Some(dir) = whole.filter(|_| id.is_commit()) {
        return Ok(dir.to_path_buf());
    }
    let client = Client::new(settings, &id);
    let asked = match whole {
        Some(_) => client.info(),
        None => transfer::patiently(&client, || client.info()),
    };
    let info = match (asked, whole) {
        (Ok(info), _) => info,
        (Err(failure), Some(dir)) if failure.kind != Kind::Final => return Ok(dir.to_path_buf()),
        (Err(failure), _) => return Err(failure.into()),
    };
    let commit = info.sha.clone();
    let plan = Plan::new(&id, info)?;
    let mut job = Job { client, store, commit, progress };
    job.run(&id, &plan)?;
    job.store.set_ref(&job.commit)?;
    Ok(job.store.snapshot(&job.commit))
}

/// The way of one snapshot into the cache.
struct Job<'a> {
    client: Client<'a>,
    store: Store,
    commit: String,
    progress: &'a mut dyn FnMut(&Progress),
}

impl Job<'_> {
    fn run(&mut self, id: &Id, plan: &Plan) -> Result<()> {
        let dir = self.store.snapshot(&self.commit);
        let expected = self.tally(plan.small.iter().chain(&plan.weights));
        let arrived = self.files(&plan.small, 0, expected)?;
        match plan.index() {
            None => self.files(&plan.weights, arrived, expected)?,
            Some(index) => {
                let shards = plan.shards(id, &dir.join(index))?;
                let total = self.tally(shards.iter()).map(|rest| rest + arrived);
                self.files(&shards, arrived, total)?
            }
        };
        Ok(())
    }

    /// Bytes to download for these files, if all sizes are known.
    fn tally<'f>(&self, mut files: impl Iterator<Item = &'f Wanted>) -> Option<u64> {
        files.try_fold(0u64, |sum, file| {
            let size = file.identity.as_ref()?.size;
            Some(if self.store.needs(&self.commit, file) { sum.saturating_add(size) } else { sum })
        })
    }

    /// Brings files into the snapshot; `total` of all files counts the bytes from `before` on, `None` each file alone.
    fn files(&mut self, files: &[Wanted], before: u64, total: Option<u64>) -> Result<u64> {
        let mut arrived = before;
        for file in files {
            if self.store.has(&self.commit, file) {
                continue;
            }
            let new =
                if self.store.needs(&self.commit, file) { file.identity.as_ref().map_or(0, |i| i.size) } else { 0 };
            let progress = &mut self.progress;
            let mut report = |done: u64, size: u64| match total {
                Some(total) => progress(&Progress { file: &file.name, done: arrived.saturating_add(done), total }),
                None => progress(&Progress { file: &file.name, done, total: size }),
            };
            transfer::fetch_file(&self.client, &self.store, &self.commit, file, &mut report)?;
            arrived = arrived.saturating_add(new);
        }
        Ok(arrived)
    }
}

/// Why a model cannot be used without the network.
fn offline(id: &Id, store: &Store, cached: Option<&Path>) -> Error {
    let what = match cached.and_then(plan::lacks) {
        Some(file) => format!("lacks {file}"),
        None => "is not there".to_owned(),
    };
    Error::Unsupported(format!(
        "HF_HUB_OFFLINE is set, and {id} {what} in the cache ({}); fetch it once without HF_HUB_OFFLINE, set HF_HOME to \
         where it is, or give the folder of a model",
        store.folder().display()
    ))
}
