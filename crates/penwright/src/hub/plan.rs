//! Which files of a repository Penwright needs, and whether a snapshot has them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::hash::Identity;
use super::id::Id;
use crate::{Error, Result};

/// Weights in one file.
const MODEL: &str = "model.safetensors";
/// The list of the files over which weights are spread.
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER: &str = "adapter_model.safetensors";

/// Taken when they are there, beside the tokenizer itself.
const OPTIONAL: [&str; 5] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];

/// An index of more bytes than this is not one.
const LARGEST_INDEX: u64 = 64 << 20;

/// The hub's answer about a repository, as far as it matters here.
#[derive(Deserialize)]
pub(super) struct Info {
    /// The commit.
    pub(super) sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

/// A file of the repository. Size and hashes are given because `blobs=true` asks for them.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: Option<String>,
    size: Option<u64>,
}

impl Sibling {
    fn identity(&self) -> Option<Identity> {
        match &self.lfs {
            Some(lfs) => Identity::new(lfs.sha256.as_deref()?, lfs.size.or(self.size)?),
            None => Identity::new(self.blob_id.as_deref()?, self.size?),
        }
    }
}

/// A file to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// Hash and size if the hub told them with the list of files.
    pub(super) identity: Option<Identity>,
}

/// The files to have, small ones first, so that a snapshot with its weights is whole.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) small: Vec<Wanted>,
    /// For weights in several files what their names suggest; the index, once it is here, decides: [`Plan::shards`].
    pub(super) weights: Vec<Wanted>,
    files: BTreeMap<String, Option<Identity>>,
}

impl Plan {
    /// # Errors
    /// When the repository lacks something that a model needs, or has its weights only in other formats.
    pub(super) fn new(id: &Id, info: Info) -> Result<Plan> {
        let files: BTreeMap<_, _> = info.siblings.into_iter().map(|s| (s.rfilename.clone(), s.identity())).collect();
        let has = |name: &str| files.contains_key(name);
        let mut small: Vec<&str> = Vec::new();
        let mut weights: Vec<&str> = Vec::new();
        let tokenizer: &[&str] =
            if has("tokenizer.json") { &["tokenizer.json"] } else { &["vocab.json", "merges.txt"] };
        if is_adapter(&has) {
            small.push(ADAPTER_CONFIG);
            small.extend(tokenizer.iter().filter(|name| has(name)));
            weights.push(ADAPTER);
        } else {
            small.push("config.json");
            small.extend(tokenizer);
            match has(MODEL) || !has(INDEX) {
                true => weights.push(MODEL),
                false => {
                    small.push(INDEX);
                    weights.extend(files.keys().map(String::as_str).filter(|name| looks_like_shard(name)));
                }
            }
        }
        if let Some(name) = weights.iter().chain(&small).find(|name| !has(name)) {
            return Err(Error::Unsupported(lacking(id, name, files.keys())));
        }
        small.extend(OPTIONAL.iter().filter(|name| has(name)));
        let want = |names: Vec<&str>| names.into_iter().map(|name| wanted(&files, name)).collect();
        Ok(Plan { small: want(small), weights: want(weights), files })
    }

    /// The files that the index of weights names.
    ///
    /// # Errors
    /// When the index is damaged or names a file that the repository lacks.
    pub(super) fn shards(&self, id: &Id, index: &Path) -> Result<Vec<Wanted>> {
        let names = shard_names(index)?;
        if let Some(name) = names.iter().find(|name| !self.files.contains_key(*name)) {
            return Err(Error::Unsupported(lacking(id, name, self.files.keys())));
        }
        Ok(names.iter().map(|name| wanted(&self.files, name)).collect())
    }

    /// Where the index of weights lies, if they are spread over several files.
    pub(super) fn index(&self) -> Option<&'static str> {
        self.small.iter().any(|file| file.name == INDEX).then_some(INDEX)
    }
}

fn wanted(files: &BTreeMap<String, Option<Identity>>, name: &str) -> Wanted {
    Wanted { name: name.to_owned(), identity: files.get(name).cloned().flatten() }
}

/// A PEFT adapter, unless whole weights lie beside it.
fn is_adapter(has: &dyn Fn(&str) -> bool) -> bool {
    has(ADAPTER_CONFIG) && !has(MODEL) && !has(INDEX)
}

/// `model-00001-of-00002.safetensors`
fn looks_like_shard(name: &str) -> bool {
    name.starts_with("model-") && name.contains("-of-") && is_shard_name(name)
}

/// A plain name, without any folder.
fn is_shard_name(name: &str) -> bool {
    name.ends_with(".safetensors")
        && !name.starts_with('.')
        && name.len() <= 200
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The names of files in an index of weights, sorted.
fn shard_names(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let len = std::fs::metadata(index).map_err(Error::io("read", index))?.len();
    if len > LARGEST_INDEX {
        return Err(Error::damaged(index, format!("is too large for a list of files ({len} bytes)")));
    }
    let raw = std::fs::read(index).map_err(Error::io("read", index))?;
    let parsed: Index = serde_json::from_slice(&raw).map_err(|e| {
        Error::damaged(index, format!("is no list of files of weights ({e}); delete it and fetch again"))
    })?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    match names.iter().find(|name| !is_shard_name(name)) {
        Some(name) => Err(Error::damaged(index, format!("names {name:?} as a file of weights, which no model should"))),
        None => Ok(names),
    }
}

/// What a folder lacks to be used as a model, if anything.
pub(super) fn lacks(dir: &Path) -> Option<String> {
    let has = |name: &str| dir.join(name).is_file();
    let need = |names: &[&str]| names.iter().find(|name| !has(name)).map(|name| name.to_string());
    if is_adapter(&has) {
        return need(&[ADAPTER]);
    }
    let tokenizer: &[&str] = if has("tokenizer.json") { &[] } else { &["vocab.json", "merges.txt"] };
    need(&["config.json"]).or_else(|| need(tokenizer)).or_else(|| match has(MODEL) || !has(INDEX) {
        true => need(&[MODEL]),
        false => match shard_names(&dir.join(INDEX)) {
            Ok(names) => names.into_iter().find(|name| !has(name)),
            Err(_) => Some(INDEX.to_owned()),
        },
    })
}

/// The sentence about a file that a repository should have, with what it has instead.
fn lacking<'a>(id: &Id, name: &str, files: impl Iterator<Item = &'a String> + Clone) -> String {
    let first = |test: &dyn Fn(&str) -> bool| files.clone().find(|file| test(file));
    let weights = name == MODEL || name == ADAPTER;
    let pickle = first(&|f| {
        !f.contains('/') && f.ends_with(".bin") && (f.starts_with("pytorch_model") || f.starts_with("adapter_model"))
    })
    .or_else(|| {
        first(&|f| !f.contains('/') && (f.ends_with(".h5") || f.ends_with(".msgpack") || f.ends_with(".ckpt")))
    });
    if let Some(file) = pickle.filter(|_| weights) {
        return format!(
            "{id} has its weights only as {file}, not as safetensors, and Penwright reads no format that can run code; \
                 convert it in Python with transformers: load it with from_pretrained(\"{}\"), write it and its tokenizer \
                 with save_pretrained(\"folder\", safe_serialization=True), and give the folder",
            id.repo
        );
    }
    match first(&|f| f.ends_with(".gguf")).filter(|_| weights) {
        Some(file) => format!("{id} has no {name}; it has {file}: download that file and give its path"),
        None => format!("{id} has no {name}, which a model needs; choose a model that was saved by transformers"),
    }
}
