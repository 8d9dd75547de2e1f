//! One file from the hub into the cache: resumed, tried again, verified.
//!
//! The transfer is our own, over hf-hub's HTTP client, because hf-hub 0.5 (the last with a blocking interface of its
//! own) appends whatever comes, a whole file too where the rest was asked for, never checks a hash or a size, hides the
//! headers of refusals, and panics on some answers; hf-hub 1.0 starts every broken transfer anew and brings a hundred
//! crates more. hf-hub says where things lie: [`super::cache`].

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cache::{Store, failed};
use super::client::{Answer, Client, Failure, Kind, origin};
use super::hash::{Hasher, Identity};
use super::plan::Wanted;
use crate::{Error, Result};

/// A connection that brought this much starts the counting of tries anew.
const HEADWAY: u64 = 1 << 20;

/// How a transfer can end badly.
enum Fault {
    /// What came is not the file; the reason.
    Damaged(String),
    /// The request failed.
    Failure(Failure),
    /// The cache did not take it.
    Cache(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Cache(error)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        Fault::Failure(failure)
    }
}

/// Puts a file into the snapshot, from the cache if its content is there. `report` is told bytes done and in all.
pub(super) fn fetch_file(
    client: &Client,
    store: &Store,
    commit: &str,
    file: &Wanted,
    report: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let url = client.file_url(commit, &file.name);
    let identity = match &file.identity {
        Some(identity) => identity.clone(),
        None => patiently(client, || client.identify(&url))?,
    };
    let _lock = store.lock(&identity)?;
    if !store.has_blob(&identity) {
        let mut result = transfer(client, store, &url, &identity, report);
        if let Err(Fault::Damaged(_)) = result {
            result = transfer(client, store, &url, &identity, report);
        }
        result.map_err(|fault| match fault {
            Fault::Cache(error) => error,
            Fault::Failure(failure) => failure.into(),
            Fault::Damaged(reason) => Error::Unsupported(format!(
                "{} of {} arrived damaged twice and was deleted: {reason}; try again later or over another network",
                file.name,
                client.id()
            )),
        })?;
    }
    store.link(commit, file, &identity)
}

/// Tries a request again while it fails for reasons that pass.
pub(super) fn patiently<T>(client: &Client, mut request: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut tries = 0;
    loop {
        match request() {
            Err(failure) if failure.kind == Kind::Passing && tries < client.settings().retries => {
                pause(client, tries);
                tries += 1;
            }
            result => return result,
        }
    }
}

fn pause(client: &Client, tries: u32) {
    std::thread::sleep(client.settings().pause.saturating_mul(1 << tries.min(4)).min(Duration::from_secs(60)));
}

/// Brings a content into `blobs`, going on from what an earlier transfer left.
fn transfer(
    client: &Client,
    store: &Store,
    url: &str,
    identity: &Identity,
    report: &mut dyn FnMut(u64, u64),
) -> Result<(), Fault> {
    let mut partial = Partial::open(store.partial(identity), identity)?;
    report(partial.len, identity.size);
    let (mut tries, mut counted_from) = (0, partial.len);
    while partial.len < identity.size {
        let outcome = client.get(url, partial.len, true).map_err(Fault::from);
        let outcome = outcome.and_then(|answer| receive(client, url, answer, identity, &mut partial, report));
        let failure = match outcome {
            Ok(()) => break,
            Err(Fault::Failure(failure)) if failure.kind != Kind::Final => failure,
            Err(fault) => {
                if let Fault::Damaged(_) = fault {
                    partial.discard();
                }
                return Err(fault);
            }
        };
        if partial.len >= counted_from.saturating_add(HEADWAY) {
            (tries, counted_from) = (0, partial.len);
        }
        if failure.kind == Kind::Range {
            partial.restart()?;
        }
        if tries >= client.settings().retries {
            return Err(failure.into());
        }
        pause(client, tries);
        tries += 1;
    }
    partial.finish(&store.blob(identity))
}

/// Adds the body of an answer to what is there.
fn receive(
    client: &Client,
    url: &str,
    answer: Answer,
    identity: &Identity,
    partial: &mut Partial,
    report: &mut dyn FnMut(u64, u64),
) -> Result<(), Fault> {
    let size = identity.size;
    let announced = if answer.status == 206 {
        let (start, total) = answer.header("content-range").and_then(content_range).unwrap_or((0, None));
        if start != partial.len {
            return Err(Fault::Damaged(format!(
                "{} sent bytes from {start} on, not from {}",
                origin(url),
                partial.len
            )));
        }
        total
    } else {
        if partial.len > 0 {
            partial.restart()?; // a server without ranges sends the whole
        }
        answer.header("content-length").and_then(|text| text.trim().parse().ok())
    };
    if let Some(announced) = announced.filter(|announced| *announced != size) {
        return Err(Fault::Damaged(format!("it should have {size} bytes, but {announced} were offered")));
    }
    let mut body = answer.into_body().into_reader();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let n = match body.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(client.broken(url, e).into()),
        };
        let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
        if n as u64 > size - partial.len.min(size) {
            return Err(Fault::Damaged(format!("it should have {size} bytes, but more were sent")));
        }
        partial.append(bytes)?;
        report(partial.len, size);
    }
    match partial.len < size {
        true => Err(client.broken(url, format!("{} of {size} bytes arrived", partial.len)).into()),
        false => Ok(()),
    }
}

/// First byte and total of `bytes 5-9/10`; the total may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

/// A content that is growing, and its hash so far.
struct Partial {
    path: PathBuf,
    file: File,
    len: u64,
    hasher: Hasher,
    identity: Identity,
}

impl Partial {
    /// Takes up what an earlier transfer left. The caller holds the lock.
    fn open(path: PathBuf, identity: &Identity) -> Result<Partial> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| failed("create", &path, e))?;
        let mut partial = Partial { path, file, len: 0, hasher: Hasher::new(identity), identity: identity.clone() };
        match partial.read_back() {
            Ok(()) if partial.len <= identity.size => Ok(partial),
            Ok(()) => partial.restart().map(|()| partial),
            Err(e) => Err(failed("read", &partial.path, e)),
        }
    }

    /// Hashes what is there; leaves off where it is longer than the whole should be.
    fn read_back(&mut self) -> std::io::Result<()> {
        let mut buffer = vec![0; 128 << 10];
        while self.len <= self.identity.size {
            let n = self.file.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
            self.hasher.update(bytes);
            self.len += n as u64;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| failed("write", &self.path, e))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        let cut = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        cut.map_err(|e| failed("write", &self.path, e))?;
        (self.len, self.hasher) = (0, Hasher::new(&self.identity));
        Ok(())
    }

    fn discard(self) {
        let Partial { path, file, .. } = self;
        drop(file);
        // If it cannot be deleted, the hash finds it out again.
        let _ = fs::remove_file(path);
    }

    /// Verifies the whole and gives it its name among the blobs, or deletes it.
    fn finish(self, blob: &Path) -> Result<(), Fault> {
        let Partial { path, file, hasher, identity, .. } = self;
        let hash = hasher.finish();
        if hash != identity.hash {
            drop(file);
            let _ = fs::remove_file(&path);
            return Err(Fault::Damaged(format!("its checksum is {hash}, the hub's is {}", identity.hash)));
        }
        let synced = file.sync_all();
        drop(file);
        synced.and_then(|()| fs::rename(&path, blob)).map_err(|e| failed("write", blob, e).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for text in ["", "bytes */10", "bytes 5/10", "lines 5-9/10", "bytes -1-9/10"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
