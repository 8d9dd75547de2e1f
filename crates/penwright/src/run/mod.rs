//! The run directory: what `train` writes and everything else reads. Every file is written whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::model::{Gpt2, Gpt2Config, LanguageModel, Lstm, LstmConfig, Params, Trainable};
use crate::tokenizer::Tokenizer;
use crate::train::TrainOptions;
use crate::{Error, Result};

pub(crate) const WEIGHTS: &str = "model.safetensors";

/// The shape of a model of any family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "lowercase")]
pub enum ModelConfig {
    /// An LSTM.
    Lstm(LstmConfig),
    /// A GPT-2.
    Gpt2(Gpt2Config),
}

impl ModelConfig {
    /// A new model with random weights.
    ///
    /// # Errors
    /// When the shape is impossible.
    pub fn build(&self, seed: u64) -> Result<Box<dyn Trainable>> {
        Ok(match self {
            ModelConfig::Lstm(config) => Box::new(Lstm::new(config.clone(), seed)?),
            ModelConfig::Gpt2(config) => Box::new(Gpt2::new(config.clone(), seed)?),
        })
    }

    /// Number of parameters and of those in products (a multiplication and an addition a token each); in floating
    /// point, which no size overflows.
    fn counts(&self) -> (f64, f64) {
        match self {
            ModelConfig::Gpt2(c) => {
                let [vocab, context, layers, width] = [c.vocab, c.context, c.layers, c.width].map(|n| n as f64);
                let block = 12.0 * width * width;
                let params = (vocab + context + 2.0) * width + layers * (block + 13.0 * width);
                // Scores and weighted values of attention, over half the context on average.
                (params, vocab * width + layers * (block + context * width))
            }
            ModelConfig::Lstm(c) => {
                let [vocab, embed, hidden, layers] = [c.vocab, c.embed, c.hidden, c.layers].map(|n| n as f64);
                let last = if c.tied { embed } else { hidden };
                let layer = |inputs: f64, width: f64| 4.0 * width * (inputs + width);
                let products = match c.layers {
                    0 | 1 => layer(embed, last),
                    _ => layer(embed, hidden) + (layers - 2.0) * layer(hidden, hidden) + layer(hidden, last),
                };
                let biases = 8.0 * ((layers - 1.0) * hidden + last) + vocab;
                let own = if c.tied { 0.0 } else { vocab * last };
                (vocab * embed + products + biases + own, products + vocab * last)
            }
        }
    }

    /// Number of parameters.
    pub fn num_params(&self) -> u64 {
        self.counts().0 as u64
    }

    /// Floating-point operations a token in training: two a weight forward, four backward.
    pub fn flops_per_token(&self) -> f64 {
        6.0 * self.counts().1
    }

    /// Bytes that training takes: weights, gradients, two moments and what the backward keeps.
    pub fn memory(&self, options: &TrainOptions) -> u64 {
        let rows = options.batch as f64 * options.context as f64;
        let row = match self {
            ModelConfig::Gpt2(c) => (16.0 * c.layers as f64 + 12.0) * c.width as f64 + c.vocab as f64,
            ModelConfig::Lstm(c) => (7.0 * c.layers as f64 + 5.0) * c.hidden as f64 + (c.embed + c.vocab) as f64,
        };
        (4.0 * (4.0 * self.counts().0 + rows * row)) as u64
    }

    /// # Errors
    /// When training needs more memory than is free.
    pub(crate) fn check_memory(&self, options: &TrainOptions) -> Result<()> {
        let (needed, free) = (self.memory(options), free_memory());
        if needed > free {
            let what = "training".to_string();
            return Err(Error::Memory { what, needed, free, remedy: "--batch, --context, --width or --layers" });
        }
        Ok(())
    }

    /// `config.json` as Hugging Face has it, the LSTM's in the same manner.
    fn to_json(&self, eot: u32) -> Value {
        match self {
            ModelConfig::Gpt2(c) => json!({
                "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": c.vocab,
                "n_positions": c.context, "n_ctx": c.context, "n_embd": c.width, "n_layer": c.layers,
                "n_head": c.heads, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
                "bos_token_id": eot, "eos_token_id": eot, "tie_word_embeddings": true, "torch_dtype": "float32"
            }),
            ModelConfig::Lstm(c) => json!({
                "model_type": "penwright_lstm", "vocab_size": c.vocab, "embedding_size": c.embed,
                "hidden_size": c.hidden, "num_layers": c.layers, "tie_word_embeddings": c.tied, "bos_token_id": eot, "eos_token_id": eot
            }),
        }
    }

    fn from_json(json: &Value) -> Option<Self> {
        // Sizes beyond these are damage, not models; the bound keeps products from overflowing.
        let size = |key: &str| json.get(key)?.as_u64().filter(|&n| n > 0 && n < 1 << 24).map(|n| n as usize);
        match json.get("model_type")?.as_str()? {
            "gpt2" => Some(ModelConfig::Gpt2(Gpt2Config {
                vocab: size("vocab_size")?,
                context: size("n_positions")?,
                layers: size("n_layer")?,
                heads: size("n_head")?,
                width: size("n_embd")?,
            })),
            "penwright_lstm" => Some(ModelConfig::Lstm(LstmConfig {
                vocab: size("vocab_size")?,
                embed: size("embedding_size")?,
                hidden: size("hidden_size")?,
                layers: size("num_layers")?,
                tied: json.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            })),
            _ => None,
        }
    }
}

/// A run opened for use.
pub struct Run {
    /// The directory.
    pub dir: PathBuf,
    /// The model's shape.
    pub config: ModelConfig,
    /// The model.
    pub model: Arc<dyn LanguageModel>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

impl Run {
    /// Opens a run directory.
    ///
    /// # Errors
    /// When a file is missing, damaged, or of another shape than the configuration says.
    pub fn open(dir: &Path) -> Result<Run> {
        let path = dir.join("config.json");
        let config = ModelConfig::from_json(&read_json(&path)?)
            .ok_or_else(|| Error::damaged(&path, "describes no LSTM or GPT-2 that Penwright knows"))?;
        let tokenizer = Tokenizer::load(dir)?;
        let raw = std::fs::read(dir.join(WEIGHTS)).map_err(Error::io("read", dir.join(WEIGHTS)))?;
        // The weights are on disk already: a header that claims more than the file holds allocates nothing.
        let claimed = config.num_params().saturating_mul(4);
        if claimed > raw.len() as u64 {
            return Err(Error::damaged(dir.join(WEIGHTS), "is shorter than config.json says; copy the run again"));
        }
        let mut model = config.build(0)?;
        load_weights(&dir.join(WEIGHTS), &raw, model.params_mut())?;
        if tokenizer.vocab_size() != model.vocab_size() {
            return Err(Error::damaged(
                dir.join("tokenizer.json"),
                "has another vocabulary than the model; copy the run again",
            ));
        }
        Ok(Run { dir: dir.to_path_buf(), config, model: model.into_model(), tokenizer })
    }
}

/// Creates the directory with what does not change in training.
pub(crate) fn create(dir: &Path, config: &ModelConfig, tokenizer: &Tokenizer) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    write_json(&dir.join("config.json"), &config.to_json(tokenizer.eot()))?;
    tokenizer.save(dir)
}

/// Memory free for use, in bytes; limits of a container count.
pub fn free_memory() -> u64 {
    let Ok(mut system) = sysinfo::System::new() else { return u64::MAX };
    system.refresh_memory();
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    match system.available_memory().min(limit) {
        0 => u64::MAX, // not known on this system
        free => free,
    }
}

/// Writes flat arrays and a text into one file, with a checksum.
pub(crate) fn write_floats(path: &Path, arrays: &[(&str, &[f32])], text: &str) -> Result<()> {
    let mut params = Params::default();
    for (name, values) in arrays {
        params.add(*name, &[values.len()]);
        let range = params.tensors[params.tensors.len() - 1].range.clone();
        params.data[range].copy_from_slice(values);
    }
    write_tensors(path, &params, Some(text))
}

/// Reads the arrays of the names and the text that [`write_floats`] wrote.
pub(crate) fn read_floats(path: &Path, names: &[&str]) -> Result<(Vec<Vec<f32>>, String)> {
    let raw = std::fs::read(path).map_err(Error::io("read", path))?;
    let damaged = |problem: String| Error::damaged(path, format!("{problem}; train anew without --resume"));
    let whole = |e| damaged(format!("is no whole safetensors file ({e})"));
    let (_, header) = SafeTensors::read_metadata(&raw).map_err(whole)?;
    let file = SafeTensors::deserialize(&raw).map_err(whole)?;
    let mut params = Params::default();
    for name in names {
        let view = file.tensor(name).map_err(|_| damaged(format!("lacks {name}")))?;
        params.add(*name, view.shape());
    }
    load_weights(path, &raw, &mut params)?;
    let text = header.metadata().as_ref().and_then(|m| m.get("text")).cloned();
    let arrays = params.tensors.iter().map(|t| params.data[t.range.clone()].to_vec()).collect();
    Ok((arrays, text.ok_or_else(|| damaged("lacks its text".into()))?))
}

/// Writes the weights, named and with a checksum.
pub(crate) fn save_weights(dir: &Path, params: &Params) -> Result<()> {
    write_tensors(&dir.join(WEIGHTS), params, None)
}

fn write_tensors(path: &Path, params: &Params, text: Option<&str>) -> Result<()> {
    let bytes: Vec<Vec<u8>> = params
        .tensors
        .iter()
        .map(|t| params.data[t.range.clone()].iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let mut views = Vec::new();
    for (tensor, bytes) in params.tensors.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        views.push((tensor.name.clone(), view.map_err(|e| Error::damaged(path, e.to_string()))?));
    }
    write_views(path, views, text)
}

/// Writes arrays of any type, named, with the checksum of all in this order.
pub(crate) fn write_views(path: &Path, views: Vec<(String, TensorView)>, text: Option<&str>) -> Result<()> {
    let checksum = checksum(views.iter().map(|(_, view)| view.data()));
    let mut metadata = HashMap::from([("format".into(), "pt".into()), ("checksum".into(), checksum)]);
    metadata.extend(text.map(|text| ("text".into(), text.into())));
    let file = safetensors::serialize(views, Some(metadata)).map_err(|e| Error::damaged(path, e.to_string()))?;
    write_whole(path, &sorted_header(path, file)?)
}

/// The checksum of arrays in their order.
pub(crate) fn checksum<'a>(arrays: impl Iterator<Item = &'a [u8]>) -> String {
    let sum = arrays.enumerate().fold(0, |sum, (n, bytes)| sum ^ xxh3_64(bytes).rotate_left(n as u32));
    format!("{sum:016x}")
}

/// The same file with its header's keys sorted: the library writes metadata in a random order, and equal weights
/// shall make equal files. Offsets in the header count from its end, so the data stays as it is.
fn sorted_header(path: &Path, mut file: Vec<u8>) -> Result<Vec<u8>> {
    let unreadable = || Error::damaged(path, "could not be written: its header is not readable again");
    let (length, rest) = file.split_first_chunk::<8>().ok_or_else(unreadable)?;
    let length = u64::from_le_bytes(*length) as usize;
    let header = rest.get(..length).ok_or_else(unreadable)?;
    let header: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(header).map_err(|_| unreadable())?;
    let mut header = json!(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' '); // keeps the data aligned, as the format asks
    }
    file.splice(..8 + length, (header.len() as u64).to_le_bytes().into_iter().chain(header.into_bytes()));
    Ok(file)
}

/// Reads tensors into the arena, which must have exactly the same names and shapes.
fn load_weights(path: &Path, raw: &[u8], params: &mut Params) -> Result<()> {
    let damaged = |e: String| Error::damaged(path, format!("{e}; copy it again or train anew"));
    let (_, header) =
        SafeTensors::read_metadata(raw).map_err(|e| damaged(format!("is no whole safetensors file ({e})")))?;
    let file = SafeTensors::deserialize(raw).map_err(|e| damaged(format!("is no whole safetensors file ({e})")))?;
    let mut arrays = Vec::new();
    for tensor in &params.tensors {
        let view = file.tensor(&tensor.name).map_err(|_| damaged(format!("lacks the tensor {}", tensor.name)))?;
        if view.shape() != tensor.shape || view.dtype() != Dtype::F32 {
            let problem = format!("has {} as {:?}, not {:?}", tensor.name, view.shape(), tensor.shape);
            return Err(damaged(problem));
        }
        arrays.push(view.data());
        for (x, bytes) in params.data[tensor.range.clone()].iter_mut().zip(view.data().as_chunks::<4>().0) {
            *x = f32::from_le_bytes(*bytes);
        }
        if params.data[tensor.range.clone()].iter().any(|x| !x.is_finite()) {
            return Err(damaged(format!("has NaN or infinite values in {}", tensor.name)));
        }
    }
    let expected = header.metadata().as_ref().and_then(|m| m.get("checksum"));
    if expected.is_some_and(|e| *e != checksum(arrays.into_iter())) {
        return Err(damaged("does not match its checksum".into()));
    }
    Ok(())
}

/// Writes a file whole or not at all: temporary name, fsync, rename, fsync of the folder.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
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
    write_whole(path, format!("{value:#}\n").as_bytes())
}

pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let raw = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&raw).map_err(|e| Error::damaged(path, format!("is not JSON ({e}); copy it again")))
}
