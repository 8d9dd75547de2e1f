use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proptest::prelude::*;

use super::blocks::Type;
use super::header::Header;
use super::*;
use crate::layers::Activation;
use crate::model::{Gpt2, Gpt2Config, Params};
use crate::tokenizer::{Level, Tokenizer};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

/// Tensors of a file, as bytes and as values.
struct Tensors {
    bytes: Vec<u8>,
    header: Header,
}

impl Tensors {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        Tensors { header: Header::read(&bytes).unwrap(), bytes }
    }

    fn raw(&self, name: &str) -> &[u8] {
        &self.bytes[self.header.tensors[name].range.clone()]
    }

    fn values(&self, name: &str) -> Vec<f32> {
        let entry = &self.header.tensors[name];
        let mut values = vec![0.0; entry.shape.iter().product()];
        entry.kind.decode(self.raw(name), &mut values);
        values
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn blocks_are_ggmls_bit_for_bit() {
    let file = Tensors::read(&fixture("types.gguf"));
    for name in ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"] {
        let expected = file.values(&format!("{name}.values"));
        assert_eq!(file.header.tensors[name].kind.name(), name);
        assert!(bits(&file.values(name)) == bits(&expected), "{name}");
    }
    let values = file.values("values");
    for kind in [Type::F16, Type::Bf16, Type::Q8_0, Type::Q4_0] {
        let expected = file.raw(&format!("encoded.{}", kind.name()));
        let mut bytes = vec![0; kind.bytes(values.len()).unwrap()];
        assert!(kind.encode(&values, &mut bytes));
        assert!(bytes == expected, "{}", kind.name());
    }
}

#[test]
fn a_converters_file_is_read() {
    let file = Gguf::open(&fixture("model.gguf")).unwrap();
    let config = file.config().unwrap();
    let expected = Gpt2Config {
        vocab: 268,
        context: 6,
        layers: 2,
        heads: 2,
        width: 8,
        inner: Some(24),
        epsilon: 1e-6,
        ..Gpt2Config::default()
    };
    assert_eq!(config, expected, "the copy of the embedding is no other output layer");
    let params = file.params(&config).unwrap();
    for (n, tensor) in params.tensors.iter().enumerate() {
        let formula = |i: usize| ((i * 7 + n * 131) % 2048) as f32 / 1024.0 - 1.0;
        let expected: Vec<f32> = (0..tensor.range.len()).map(formula).collect();
        assert_eq!(params.data[tensor.range.clone()], expected, "{}", tensor.name);
    }
    Gpt2::with_params(config, params).unwrap();
    let tokenizer = file.tokenizer().unwrap();
    assert_eq!((tokenizer.level(), tokenizer.vocab_size(), tokenizer.eot()), (Level::Bpe, 263, 261));
    assert_eq!(tokenizer.encode(" thing"), [256, 104, 260]);
    assert_eq!(tokenizer.encode(" the\u{ad}"), [258, 0xC2, 0xAD]);
    assert_eq!(tokenizer.decode(&[262, 261, 104]), "<note>h");
}

fn story() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    let text = "the sea and the wind and the sea — it's only the wind";
    TOKENIZER.get_or_init(|| Tokenizer::train(Level::Bpe, &[text], Some(270)).unwrap())
}

fn small(width: usize, inner: Option<usize>, tied: bool) -> Gpt2Config {
    Gpt2Config { vocab: 275, context: 9, layers: 2, heads: 2, width, inner, tied, ..Gpt2Config::default() }
}

fn weights(config: &Gpt2Config, seed: u64) -> Params {
    let mut params = Params::default();
    for (name, shape) in config.tensors() {
        params.add(name, &shape);
    }
    for tensor in params.tensors.clone() {
        params.fill_normal(&tensor.range, 0.3, seed);
    }
    params
}

/// A path in a folder that is gone with the value.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    (dir, path)
}

fn saved(tokenizer: &Tokenizer) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    tokenizer.save(dir.path()).unwrap();
    std::fs::read(dir.path().join("tokenizer.json")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn written_and_read_again(half in 1usize..40, inner in prop::option::of(1usize..300), tied: bool, seed: u64) {
        let (_dir, path) = place();
        let config = small(2 * half, inner.filter(|&inner| inner != 8 * half), tied);
        let params = weights(&config, seed);
        write(&path, &config, &params, story(), Kind::F32).unwrap();
        let file = Gguf::open(&path).unwrap();
        prop_assert_eq!(&file.config().unwrap(), &config);
        let again = file.params(&config).unwrap();
        prop_assert!(again.data[..] == params.data[..]);
        prop_assert_eq!(saved(&file.tokenizer().unwrap()), saved(story()));
    }
}

/// Whatever the size: rows and columns of more than one tile, whole blocks and others.
#[test]
fn every_row_is_encoded_alone() {
    for (kind, width, inner) in [
        (Kind::F16, 10, None),
        (Kind::Bf16, 34, None),
        (Kind::Q8_0, 32, Some(288)),
        (Kind::Q4_0, 96, Some(544)),
        (Kind::Q4_0, 64, Some(40)),
        (Kind::Q8_0, 34, Some(64)),
    ] {
        let (_dir, path) = place();
        let config = small(width, inner, false);
        let params = weights(&config, 5);
        write(&path, &config, &params, story(), kind).unwrap();
        let read = Gguf::open(&path).unwrap().params(&config).unwrap();
        let header = Tensors::read(&path).header;
        for tensor in &params.tensors {
            let name = names::of(&tensor.name).unwrap();
            let entry = &header.tensors[&name];
            let columns = *entry.shape.last().unwrap();
            let plain = entry.shape.len() == 1 || name == names::POSITIONS;
            let blocks = match kind {
                _ if plain => Type::F32,
                Kind::Bf16 => Type::Bf16,
                Kind::Q8_0 if columns.is_multiple_of(32) => Type::Q8_0,
                Kind::Q4_0 if columns.is_multiple_of(32) && name.starts_with("blk.") => Type::Q4_0,
                Kind::Q4_0 if columns.is_multiple_of(32) => Type::Q8_0,
                _ => Type::F16,
            };
            assert_eq!(entry.kind, blocks, "{kind} {name}");
            let (values, read) = (&params.data[tensor.range.clone()], &read.data[tensor.range.clone()]);
            let turned = name.starts_with("blk.") && entry.shape.len() == 2;
            let (rows, mut bytes) = (values.len() / columns, vec![0; blocks.bytes(columns).unwrap()]);
            let at = |row: usize, column: usize| if turned { column * rows + row } else { row * columns + column };
            for row in 0..rows {
                let mut line: Vec<f32> = (0..columns).map(|column| values[at(row, column)]).collect();
                assert!(blocks.encode(&line, &mut bytes));
                blocks.decode(&bytes, &mut line);
                let read = (0..columns).map(|column| read[at(row, column)]).collect::<Vec<_>>();
                assert!(bits(&read) == bits(&line), "{kind} {name} row {row}");
            }
        }
    }
}

#[test]
fn what_gguf_cannot_say_is_refused_by_name() {
    let (_dir, path) = place();
    std::fs::write(&path, "kept").unwrap();
    let config = small(8, None, true);
    let params = weights(&config, 1);
    let refused = |config: &Gpt2Config, params: &Params, tokenizer: &Tokenizer, kind, what: &str| {
        let error = write(&path, config, params, tokenizer, kind).unwrap_err().to_string();
        assert!(error.contains(what) && !error.contains('\n'), "{what}: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
    };
    let odd = Gpt2Config { activation: Activation::Relu, ..config.clone() };
    refused(&odd, &params, story(), Kind::F32, "activation_function");
    for (level, text) in [(Level::Char, "abc"), (Level::Word, "a b a b")] {
        refused(&config, &params, &Tokenizer::train(level, &[text], None).unwrap(), Kind::F32, &level.to_string());
    }
    refused(&config, &params, &Tokenizer::gpt2().unwrap(), Kind::F32, "50257 tokens");
    refused(&small(16, None, true), &params, story(), Kind::F32, "wte.weight");
    let wide = small(32, None, true);
    for (value, kind) in [(f32::NAN, Kind::F32), (1e5, Kind::F16), (f32::MAX, Kind::Bf16), (1e8, Kind::Q8_0)] {
        let mut params = weights(&wide, 1);
        let tensor = params.find("transformer.h.1.mlp.c_proj.weight").unwrap().range.clone();
        params.data[tensor.end - 1] = value;
        refused(&wide, &params, story(), kind, "blk.1.ffn_down.weight");
    }
    assert_eq!("q4_0".parse::<Kind>().unwrap().to_string(), "q4_0");
    assert!("Q4_0".parse::<Kind>().unwrap_err().to_string().contains("q8_0"));
}

/// A file that [`write`] made, to be damaged.
fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let (_dir, path) = place();
        let config = small(32, None, false);
        write(&path, &config, &weights(&config, 3), story(), Kind::Q4_0).unwrap();
        std::fs::read(path).unwrap()
    })
}

/// All that can be read of a file.
fn read(bytes: &[u8]) -> Result<(), String> {
    let (_dir, path) = place();
    std::fs::write(&path, bytes).unwrap();
    let all = || -> crate::Result<()> {
        let file = Gguf::open(&path)?;
        let tokenizer = file.tokenizer().map(|_| ());
        let config = file.config()?;
        Gpt2::with_params(config.clone(), file.params(&config)?)?;
        tokenizer
    };
    all().map_err(|e| e.to_string().replace(&path.display().to_string(), "FILE"))
}

/// The place of a text in the good file.
fn find(text: &str) -> usize {
    good().windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

#[test]
fn damaged_files_are_refused_in_a_sentence() {
    read(good()).unwrap();
    let after = |key: &str| find(key) + key.len();
    // What a key has: its type in four bytes, then the value.
    let change = |at: usize, bytes: &[u8]| {
        let mut file = good().to_vec();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        read(&file)
    };
    let huge = u64::MAX.to_le_bytes();
    let data = Header::read(good()).unwrap().tensors["token_embd.weight"].range.start;
    let mut wrong = Vec::new();
    for (problem, result) in [
        ("no GGUF file", read(b"")),
        ("no GGUF file", change(0, b"GGML")),
        ("version 1,", change(4, &1u32.to_le_bytes())),
        ("big-endian", change(4, &3u32.to_be_bytes())),
        ("version 4,", change(4, &4u32.to_le_bytes())),
        ("more than models have", change(8, &huge)),
        ("more than models have", change(16, &(1u64 << 40).to_le_bytes())),
        ("8 bytes where 4 are left", read(&good()[..20])),
        ("claims 18446744073709551615 bytes", change(24, &huge)),
        ("no known type", change(after("gpt2.block_count"), &[77])),
        ("\"gptj\"", change(after("general.architecture") + 4 + 8, b"gptj")),
        ("fewer tensors than 1000000", change(after("gpt2.block_count") + 4, &1_000_000u32.to_le_bytes())),
        ("gpt2.context_length", change(after("gpt2.context_length") + 4, &0u32.to_le_bytes())),
        ("position_embd.weight of the shape", change(after("gpt2.context_length") + 4, &8u32.to_le_bytes())),
        ("heads", change(after("head_count") + 4, &3u32.to_le_bytes())),
        ("layer_norm_epsilon", change(after("layer_norm_epsilon") + 4, &f32::NAN.to_le_bytes())),
        ("twice", change(find("general.name"), b"general.type")),
        ("claims an array", change(after("ggml.tokens") + 8, &huge)),
        ("claims an array", change(after("ggml.token_type") + 8, &huge)),
        ("arrays in an array", change(after("ggml.tokens") + 4, &9u32.to_le_bytes())),
        ("are left", change(after("ggml.tokens") + 16, &huge)),
        ("kind \"gptx\"", change(after("tokenizer.ggml.model") + 12, b"gptx")),
        ("cuts text as \"llama\"", change(after("tokenizer.ggml.pre") + 12, b"llama")),
        ("no token 9999 ", change(after("eos_token_id") + 4, &9999u32.to_le_bytes())),
        ("merge", change(after("ggml.merges") + 24, b"xyz")),
        ("lacks the tensor token_embd.weight", change(find("token_embd.weight"), b"x")),
        ("dimensions", change(after("output_norm.weight"), &9u32.to_le_bytes())),
        ("impossible shape", change(after("output_norm.weight") + 4, &huge)),
        ("impossible shape", change(after("output_norm.weight") + 4, &[0; 8])),
        ("impossible shape", change(after("blk.0.attn_qkv.weight") + 4, &33u64.to_le_bytes())),
        ("type Q2_K", change(after("output_norm.weight") + 12, &10u32.to_le_bytes())),
        ("type number 99", change(after("output_norm.weight") + 12, &99u32.to_le_bytes())),
        ("at an odd place", change(after("output_norm.weight") + 16, &1u64.to_le_bytes())),
        ("over one another", change(after("output_norm.weight") + 16, &0u64.to_le_bytes())),
        ("impossible shape", change(after("output_norm.weight") + 16, &(u64::MAX - 3).to_le_bytes())),
        (
            "ends before its tensor \"output_norm.weight\"",
            change(after("output_norm.weight") + 16, &(1u64 << 44).to_le_bytes()),
        ),
        ("same name", change(find("blk.0.attn_output.bias"), b"blk.1.attn_output.bias")),
        ("ends before its tensor", read(&good()[..good().len() - 64])),
        ("NaN or infinite values in token_embd.weight", change(data, &[0xFF; 80])),
    ] {
        let error = result.err().unwrap_or_default();
        if !error.contains(problem) || !error.starts_with("FILE: ") || error.contains('\n') {
            wrong.push(format!("{problem}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let dir = tempfile::tempdir().unwrap();
    assert!(Gguf::open(dir.path()).is_err() && Gguf::open(&dir.path().join("none.gguf")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_damage_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = good().to_vec();
        let head = Header::read(good()).unwrap().tensors["token_embd.weight"].range.start;
        for (at, byte, anywhere) in changes {
            let at = at.index(if anywhere { file.len() } else { head });
            file[at] = byte;
        }
        let length = cut.map_or(file.len(), |cut| cut.index(file.len()));
        _ = read(&file[..length]);
    }
}
