//! The weights of a GPT-2 in Hugging Face's form: one safetensors file or several with an index, in f32, f16 or bf16.
//!
//! One file in f32 is not read at all but mapped: the model's arena is the file. Everything is looked at once, for
//! numbers that are none and for the checksum that Penwright's own files carry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use penwright_kernels::Mapped;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};

use crate::files::{WEIGHTS, checksum, read_json};
use crate::model::{Gpt2Config, Params, Tensor, Values};
use crate::{Error, Result};

/// The index of weights in several files.
const INDEX: &str = "model.safetensors.index.json";
/// Forms that only a program can read which runs what they say, or that nobody writes any more.
const FOREIGN: [&str; 5] =
    ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack", "model.ckpt.index"];
/// The embedding, under the name that all models have it by.
const WTE: &str = "transformer.wte.weight";
const HEAD: &str = "lm_head.weight";
const WPE: &str = "transformer.wpe.weight";

/// Loads the weights in a folder.
///
/// # Errors
/// When a file is missing or damaged, or the tensors are not those of the configuration.
pub(crate) fn load(dir: &Path, config: &Gpt2Config) -> Result<Params> {
    load_looking(dir, config, |_| true)
}

/// The same without looking for numbers that are none in the matrices that decoding lays out anew, which looks at them
/// itself.
pub(crate) fn load_to_lay_out(dir: &Path, config: &Gpt2Config) -> Result<Params> {
    load_looking(dir, config, |place| match place.name.as_str() {
        WTE => !config.tied,
        WPE => true,
        _ => place.shape.len() < 2,
    })
}

/// Loads the weights and looks at the values of some tensors.
fn load_looking(dir: &Path, config: &Gpt2Config, looks_at: impl Fn(&Place<'_>) -> bool + Sync) -> Result<Params> {
    let files = open_all(dir)?;
    let found = collect(&files)?;
    if config.layers > found.len() {
        let problem = format!("asks for {} layers but there are only {} tensors", config.layers, found.len());
        return Err(Error::damaged(dir.join("config.json"), problem));
    }
    refuse_unknown(&files, &found, config)?;
    let mut places = Vec::new();
    for (name, shape) in config.tensors() {
        let (file, info) = found.get(&name).ok_or_else(|| lacks(dir, &files, &name))?;
        if info.shape != shape {
            let problem = format!("has {name} as {:?}, but config.json makes it {shape:?}", info.shape);
            return Err(files[*file].damaged(problem));
        }
        places.push(Place { name, shape, file: &files[*file], info });
    }
    // All of them, and then the first complaint: the same one for any number of threads.
    let check = |place: &Place<'_>| if looks_at(place) { place.check() } else { place.check_type() };
    let checked: Vec<Result<()>> = places.par_iter().map(check).collect();
    checked.into_iter().collect::<Result<()>>()?;
    check_sum(&files, &places)?;
    Ok(match files.first().filter(|_| files.len() == 1 && places.iter().all(Place::is_mappable)) {
        Some(file) => mapped(file, places),
        None => copied(places),
    })
}

/// A tensor's name, shape and values.
pub(crate) type NamedValues = (String, Vec<usize>, Vec<f32>);

/// All tensors of one file as they are, in order of name.
pub(crate) fn read_all(path: &Path) -> Result<Vec<NamedValues>> {
    let file = WeightFile::open(path.to_path_buf())?;
    let mut tensors: Vec<_> = file.header.tensors().into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let read = |(name, info): (String, &TensorInfo)| {
        let place = Place { shape: info.shape.clone(), name, file: &file, info };
        place.check()?;
        let mut values = vec![0.0; place.len()];
        place.read(&mut values);
        Ok((place.name, place.shape, values))
    };
    tensors.into_iter().map(read).collect()
}

/// The files that hold the weights.
fn open_all(dir: &Path) -> Result<Vec<WeightFile>> {
    let (single, index) = (dir.join(WEIGHTS), dir.join(INDEX));
    if single.exists() {
        return Ok(vec![WeightFile::open(single)?]);
    }
    if index.exists() {
        return open_shards(dir, &index);
    }
    if let Some(foreign) = FOREIGN.iter().find(|name| dir.join(name).exists()) {
        return Err(Error::damaged(dir.join(foreign), refusal()));
    }
    Err(Error::io("read", single)(std::io::ErrorKind::NotFound.into()))
}

/// The files of an index, each of which must have the tensors that the index says it has.
fn open_shards(dir: &Path, index: &Path) -> Result<Vec<WeightFile>> {
    let json = read_json(index)?;
    let map = json["weight_map"].as_object().filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| Error::damaged(index, "has no weight_map; copy it again"))?;
    let plain = |name: &str| !name.starts_with('.') && !name.contains(|c: char| c.is_control() || "/\\:".contains(c));
    let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().filter(|name| plain(name));
        let file = file.ok_or_else(|| Error::damaged(index, "names a file outside its own folder"))?;
        shards.entry(file).or_default().push(tensor);
    }
    let open = |(name, tensors): (&str, Vec<&str>)| {
        let file = WeightFile::open(dir.join(name))?;
        match tensors.into_iter().find(|tensor| file.header.info(tensor).is_none()) {
            Some(tensor) => Err(file.damaged(format!("lacks {tensor:?}, which {INDEX} says it has"))),
            None => Ok(file),
        }
    };
    shards.into_iter().map(open).collect()
}

/// Why a pickle is not read, and what to do.
pub(crate) fn refusal() -> &'static str {
    "is not read, as such files can run any program; convert it once in Python: \
     AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER) writes model.safetensors"
}

/// A mapped file and its header.
struct WeightFile {
    path: PathBuf,
    map: Arc<Mapped>,
    /// Where the data begins.
    start: usize,
    header: Metadata,
}

impl WeightFile {
    fn open(path: PathBuf) -> Result<Self> {
        let map = Mapped::open(&path).map_err(Error::io("read", &path))?;
        let whole = |e| Error::damaged(&path, format!("is no whole safetensors file ({e}); copy it again"));
        // Checks the header's length, its offsets against each other and against the shapes, and the file's length.
        SafeTensors::deserialize(&map).map_err(whole)?;
        let (length, header) = SafeTensors::read_metadata(&map).map_err(whole)?;
        Ok(WeightFile { path, map: Arc::new(map), start: length + 8, header })
    }

    fn bytes(&self, info: &TensorInfo) -> &[u8] {
        let (begin, end) = info.data_offsets;
        self.map.get(self.start + begin..self.start + end).unwrap_or_default()
    }

    fn damaged(&self, problem: String) -> Error {
        Error::damaged(&self.path, format!("{problem}; copy it again or check config.json"))
    }
}

/// All tensors by the names that [`Gpt2Config::tensors`] has, with the number of their file.
fn collect(files: &[WeightFile]) -> Result<BTreeMap<String, (usize, &TensorInfo)>> {
    let mut found = BTreeMap::new();
    for (i, file) in files.iter().enumerate() {
        for (name, info) in file.header.tensors() {
            if is_buffer(&name) {
                continue;
            }
            let plain = name.strip_prefix("transformer.").unwrap_or(&name);
            let full = if plain == HEAD { plain.to_string() } else { format!("transformer.{plain}") };
            if found.insert(full, (i, info)).is_some() {
                return Err(file.damaged(format!("has {name:?} twice, with and without a prefix or in two files")));
            }
        }
    }
    Ok(found)
}

/// The causal masks that older versions of `transformers` stored beside the weights.
fn is_buffer(name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}

/// What is there beside the weights would change the model's numbers if it were part of it.
fn refuse_unknown(
    files: &[WeightFile],
    found: &BTreeMap<String, (usize, &TensorInfo)>,
    config: &Gpt2Config,
) -> Result<()> {
    let known: BTreeSet<String> = config.tensors().into_iter().map(|(name, _)| name).collect();
    for (name, (file, info)) in found {
        let file = &files[*file];
        if name == HEAD && config.tied {
            let same = found.get(WTE).is_some_and(|(wte_file, wte)| {
                wte.dtype == info.dtype && files[*wte_file].bytes(wte) == file.bytes(info)
            });
            if !same {
                let problem = "has an lm_head.weight of its own although config.json ties it to the embedding; \
                               set tie_word_embeddings to false there if that is meant";
                return Err(Error::damaged(&file.path, problem));
            }
        } else if !known.contains(name) {
            return Err(file.damaged(format!("has {name:?}, which is no part of a GPT-2 of this configuration")));
        }
    }
    Ok(())
}

fn lacks(dir: &Path, files: &[WeightFile], name: &str) -> Error {
    let path = if let [file] = files { file.path.clone() } else { dir.join(INDEX) };
    Error::damaged(path, format!("lacks the tensor {name}; copy it again or check config.json"))
}

/// A tensor in a file.
struct Place<'a> {
    name: String,
    shape: Vec<usize>,
    file: &'a WeightFile,
    info: &'a TensorInfo,
}

impl<'a> Place<'a> {
    fn begin(&self) -> usize {
        self.file.start + self.info.data_offsets.0
    }

    fn bytes(&self) -> &'a [u8] {
        self.file.bytes(self.info)
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the file can be the arena as it is.
    fn is_mappable(&self) -> bool {
        cfg!(target_endian = "little") && self.info.dtype == Dtype::F32 && self.begin().is_multiple_of(4)
    }

    /// # Errors
    /// When the type is another.
    fn check_type(&self) -> Result<()> {
        if !matches!(self.info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let problem = format!("has {:?} in {:?}; only F32, F16 and BF16 are read", self.name, self.info.dtype);
            return Err(self.file.damaged(problem));
        }
        Ok(())
    }

    /// # Errors
    /// When the type is another or a number is none.
    fn check(&self) -> Result<()> {
        let finite = |bytes: &[u8]| match self.info.dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().fold(true, |all, b| all & f32::from_le_bytes(*b).is_finite()),
            Dtype::F16 => bytes.as_chunks::<2>().0.iter().all(|b| f16::from_le_bytes(*b).is_finite()),
            _ => bytes.as_chunks::<2>().0.iter().all(|b| bf16::from_le_bytes(*b).is_finite()),
        };
        self.check_type()?;
        if !self.bytes().par_chunks(1 << 20).all(finite) {
            return Err(self.file.damaged(format!("has NaN or infinite values in {:?}", self.name)));
        }
        Ok(())
    }

    /// Decodes the tensor.
    fn read(&self, to: &mut [f32]) {
        const PART: usize = 1 << 16;
        let size = self.info.dtype.bitsize() / 8;
        let parts = to.par_chunks_mut(PART).zip(self.bytes().par_chunks(PART * size));
        parts.for_each(|(to, bytes)| match self.info.dtype {
            Dtype::F16 => {
                let halves: Vec<f16> = bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b)).collect();
                halves.convert_to_f32_slice(to);
            }
            Dtype::BF16 => {
                to.iter_mut().zip(bytes.as_chunks::<2>().0).for_each(|(x, b)| *x = bf16::from_le_bytes(*b).to_f32());
            }
            _ => to.iter_mut().zip(bytes.as_chunks::<4>().0).for_each(|(x, b)| *x = f32::from_le_bytes(*b)),
        });
    }
}

/// Compares with the checksum that Penwright's own files carry.
fn check_sum(files: &[WeightFile], places: &[Place<'_>]) -> Result<()> {
    let [file] = files else { return Ok(()) };
    let Some(expected) = file.header.metadata().as_ref().and_then(|m| m.get("checksum")) else { return Ok(()) };
    let parts: Vec<&[u8]> = places.iter().map(Place::bytes).collect();
    if *expected != checksum(&parts) {
        return Err(file.damaged("does not match its checksum".into()));
    }
    Ok(())
}

/// The file itself as the arena.
fn mapped(file: &WeightFile, places: Vec<Place<'_>>) -> Params {
    let tensor = |place: Place<'_>| {
        let begin = place.begin() / 4;
        Tensor { range: begin..begin + place.len(), name: place.name, shape: place.shape, frozen: false }
    };
    Params { tensors: places.into_iter().map(tensor).collect(), data: Values::mapped(file.map.clone()) }
}

/// A new arena with the decoded tensors.
fn copied(places: Vec<Place<'_>>) -> Params {
    let mut params = Params::zeros(places.iter().map(|place| (place.name.clone(), place.shape.clone())));
    for (i, place) in places.iter().enumerate() {
        let range = params.tensors[i].range.clone();
        place.read(&mut params.data[range]);
    }
    params
}
