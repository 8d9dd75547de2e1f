//! Damaged and hostile directories, made from the good ones: each is refused in one sentence that names what is wrong,
//! without a panic and without a large allocation.

use std::path::Path;

use penwright::model::DecodePrecision;
use penwright::run::Run;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::published;

/// A copy of good directories in a new folder, to be damaged.
fn copy(names: &[&str]) -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    for name in names {
        let to = temp.path().join(name);
        std::fs::create_dir(&to).unwrap();
        for file in std::fs::read_dir(published(name)).unwrap() {
            let file = file.unwrap();
            if file.file_name() != "expected.safetensors" {
                std::fs::write(to.join(file.file_name()), std::fs::read(file.path()).unwrap()).unwrap();
            }
        }
    }
    temp
}

/// Damages a copy of one directory and returns the sentence that opening it gives; `None` when it opens.
fn damage(name: &str, change: impl FnOnce(&Path)) -> Option<String> {
    let temp = copy(&[name]);
    let dir = temp.path().join(name);
    change(&dir);
    complaint(&dir)
}

/// Opens a directory, and uses it if that works.
fn complaint(dir: &Path) -> Option<String> {
    let sentence = match Run::open(dir) {
        Err(error) => {
            let to_write = Run::open_to_write(dir, DecodePrecision::Bf16).err();
            assert_eq!(to_write.map(|error| error.to_string()), Some(error.to_string()));
            error.to_string()
        }
        Ok(run) => {
            let mut session = run.model.clone().session(1).unwrap();
            session.step(&[0], &[3]).unwrap();
            run.model.score(&[1, 2, 3], None, &mut |_| Ok(())).unwrap();
            run.tokenizer.decode(&run.tokenizer.encode("the end"));
            return None;
        }
    };
    assert!(!sentence.chars().any(char::is_control) && sentence.len() > 20, "{sentence:?}");
    let limit = (2 << 20) + (256 << 10) * std::thread::available_parallelism().map_or(1, usize::from);
    assert!(peak_kib().is_none_or(|peak| peak < limit), "{} KiB were allocated: {sentence}", peak_kib().unwrap_or(0));
    Some(sentence)
}

/// The most address space that this process ever had, in KiB: memory that was asked for and never touched counts.
fn peak_kib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[track_caller]
fn refused(name: &str, words: &[&str], change: impl FnOnce(&Path)) {
    let Some(sentence) = damage(name, change) else { panic!("opens, but should name {words:?}") };
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in: {sentence}");
    }
}

const WEIGHTS: &str = "model.safetensors";

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

fn set(dir: &Path, key: &str, value: Value) {
    edit_json(&dir.join("config.json"), |json| json[key] = value);
}

/// Splits a safetensors file into its header and its data.
fn parts(raw: &[u8]) -> (Value, &[u8]) {
    let (length, rest) = raw.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    (serde_json::from_slice(header).unwrap(), data)
}

fn joined(header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = header.to_vec();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes(), &header[..], data].concat()
}

/// Edits the header and the data of a file of weights.
fn edit_weights(path: &Path, change: impl FnOnce(&mut Value, &mut Vec<u8>)) {
    let raw = std::fs::read(path).unwrap();
    let (mut header, data) = parts(&raw);
    let mut data = data.to_vec();
    change(&mut header, &mut data);
    std::fs::write(path, joined(header.to_string().as_bytes(), &data)).unwrap();
}

/// Adds a tensor of `bytes` zeros at the end.
fn add_tensor(header: &mut Value, data: &mut Vec<u8>, name: &str, dtype: &str, shape: &[usize], bytes: usize) {
    header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [data.len(), data.len() + bytes]});
    data.resize(data.len() + bytes, 0);
}

/// Takes a tensor out, data and all, so that the rest is a whole file.
fn remove_tensor(header: &mut Value, data: &mut Vec<u8>, name: &str) {
    let entry = header.as_object_mut().unwrap().remove(name).unwrap();
    let range = [0, 1].map(|i| entry["data_offsets"][i].as_u64().unwrap() as usize);
    data.drain(range[0]..range[1]);
    for (_, other) in header.as_object_mut().unwrap().iter_mut() {
        for i in [0, 1] {
            if let Some(offset) = other["data_offsets"][i].as_u64().filter(|&offset| offset >= range[1] as u64) {
                other["data_offsets"][i] = (offset - (range[1] - range[0]) as u64).into();
            }
        }
    }
}

const UP: &str = "transformer.h.1.mlp.c_fc.weight";

#[test]
fn weights_cut_short() {
    let whole = std::fs::read(published("plain").join(WEIGHTS)).unwrap();
    let header = u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    for length in [0, 4, 8, 8 + header / 2, 8 + header, 8 + header + 100, whole.len() / 2, whole.len() - 1] {
        refused("plain", &[WEIGHTS], |dir| std::fs::write(dir.join(WEIGHTS), &whole[..length]).unwrap());
    }
    refused("plain", &[WEIGHTS], |dir| std::fs::write(dir.join(WEIGHTS), [&whole[..], b"more"].concat()).unwrap());
    let shard = "model-00002-of-00003.safetensors";
    let whole = std::fs::read(published("bf16_sharded").join(shard)).unwrap();
    refused("bf16_sharded", &[shard], |dir| std::fs::write(dir.join(shard), &whole[..whole.len() - 2]).unwrap());
}

#[test]
fn headers_that_lie() {
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, 1 << 40, 100 << 20] {
        refused("plain", &[WEIGHTS], |dir| {
            let mut raw = std::fs::read(dir.join(WEIGHTS)).unwrap();
            raw[..8].copy_from_slice(&length.to_le_bytes());
            std::fs::write(dir.join(WEIGHTS), raw).unwrap();
        });
    }
    let (huge, many) = (1u64 << 40, 1u64 << 23);
    for (key, value) in [
        ("shape", json!([96, 24])),
        ("shape", json!([24, 95])),
        ("shape", json!([24 * 96])),
        ("shape", json!([])),
        ("shape", json!([huge, 96])),
        ("shape", json!([huge, huge])),
        ("shape", json!([-24, 96])),
        ("dtype", json!("I32")),
        ("dtype", json!("F64")),
        ("dtype", json!("F33")),
        ("data_offsets", json!([0, 24 * 96 * 4])),
        ("data_offsets", json!([huge, huge + 24 * 96 * 4])),
        ("data_offsets", json!([24 * 96 * 4, 0])),
        ("data_offsets", json!([0])),
    ] {
        refused("plain", &[WEIGHTS], |dir| edit_weights(&dir.join(WEIGHTS), |header, _| header[UP][key] = value));
    }
    refused("plain", &["plain"], |dir| {
        edit_weights(&dir.join(WEIGHTS), |header, _| {
            header["transformer.wte.weight"]["shape"] = json!([many, 24]);
            header["transformer.wte.weight"]["data_offsets"] = json!([0, many * 24 * 4]);
        });
        set(dir, "vocab_size", json!(many));
    });
    for (key, value) in [("n_layer", 1 << 23), ("n_positions", 1 << 23), ("vocab_size", 1 << 23), ("n_inner", 1 << 23)]
    {
        refused("plain", &["config.json"], |dir| set(dir, key, json!(value)));
    }
}

#[test]
fn tensors_missing_unknown_or_not_numbers() {
    for name in ["transformer.wpe.weight", UP, "transformer.ln_f.bias"] {
        refused("plain", &[WEIGHTS, name], |dir| {
            edit_weights(&dir.join(WEIGHTS), |header, data| remove_tensor(header, data, name));
        });
    }
    refused("untied", &["lm_head.weight"], |dir| {
        edit_weights(&dir.join(WEIGHTS), |header, data| remove_tensor(header, data, "lm_head.weight"));
    });
    for (name, said) in [("transformer.h.0.attn.q.weight", "transformer.h.0.attn.q.weight"), ("evil\nname", "evil")] {
        refused("plain", &[WEIGHTS, said], |dir| {
            edit_weights(&dir.join(WEIGHTS), |header, data| add_tensor(header, data, name, "F32", &[2], 8));
        });
    }
    // Known buffers of older releases carry no weights, whatever their type.
    let buffers = |dir: &Path| {
        edit_weights(&dir.join(WEIGHTS), |header, data| {
            add_tensor(header, data, "transformer.h.0.attn.bias", "U8", &[1, 1, 20, 20], 400);
            add_tensor(header, data, "transformer.h.1.attn.masked_bias", "F32", &[], 4);
        });
    };
    assert_eq!(damage("plain", buffers), None);
    for (name, shard, tensor, bytes) in [
        ("plain", WEIGHTS, UP, &f32::NAN.to_le_bytes()[..]),
        ("plain", WEIGHTS, "transformer.wte.weight", &f32::NEG_INFINITY.to_le_bytes()),
        ("f16", WEIGHTS, "transformer.ln_f.bias", &[0x00, 0x7e]),
        ("bf16_sharded", "model-00003-of-00003.safetensors", "transformer.ln_f.weight", &[0xc0, 0x7f]),
    ] {
        refused(name, &[shard, tensor], |dir| {
            edit_weights(&dir.join(shard), |header, data| {
                let at = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
                data[at..at + bytes.len()].copy_from_slice(bytes);
            });
        });
    }
}

#[test]
fn shards_that_are_not_there() {
    const INDEX: &str = "model.safetensors.index.json";
    let first = "model-00001-of-00003.safetensors";
    let name = "bf16_sharded";
    refused(name, &[first], |dir| std::fs::remove_file(dir.join(first)).unwrap());
    refused(name, &[INDEX], |dir| std::fs::write(dir.join(INDEX), "{").unwrap());
    refused(name, &[INDEX], |dir| edit_json(&dir.join(INDEX), |json| json["weight_map"] = json!(["x"])));
    refused(name, &["transformer.wpe.weight"], |dir| {
        edit_json(&dir.join(INDEX), |json| {
            json["weight_map"]["transformer.wpe.weight"] = json!(first.replace("1-", "3-"))
        })
    });
    for path in
        ["../../etc/passwd", "/etc/passwd", "..", "", "a/../../b", "a\0b", "C:\\x", "..\\x", "missing.safetensors"]
    {
        refused(name, &[], |dir| {
            edit_json(&dir.join(INDEX), |json| json["weight_map"]["transformer.wpe.weight"] = json!(path))
        });
    }
    // Such a path is not even looked at: what lies there may be a pipe or another's file.
    let outside = |dir: &Path| {
        std::fs::rename(dir.join(first), dir.join("../outside.safetensors")).unwrap();
        let text = std::fs::read_to_string(dir.join(INDEX)).unwrap().replace(first, "../outside.safetensors");
        std::fs::write(dir.join(INDEX), text).unwrap();
    };
    refused(name, &[INDEX, "outside its own folder"], outside);
}

#[test]
fn configurations_of_other_models() {
    for (key, value) in [
        ("n_embd", json!(48)),
        ("n_positions", json!(32)),
        ("vocab_size", json!(500)),
        ("n_inner", json!(95)),
        ("n_layer", json!(3)),
    ] {
        refused("plain", &["plain"], |dir| set(dir, key, value));
    }
    refused("plain", &["transformer.h.1"], |dir| set(dir, "n_layer", json!(1)));
    refused("plain", &["lm_head.weight"], |dir| set(dir, "tie_word_embeddings", json!(false)));
    refused("plain", &["n_head"], |dir| set(dir, "n_head", json!(5)));
    refused("plain", &["llama"], |dir| set(dir, "model_type", json!("llama")));
    refused("plain", &["config.json"], |dir| std::fs::remove_file(dir.join("config.json")).unwrap());
    for text in [String::new(), "[]".into(), "null".into(), "[".repeat(100_000), "{\"n_embd\": 1e999}".into()] {
        refused("plain", &["config.json"], |dir| std::fs::write(dir.join("config.json"), text).unwrap());
    }
}

#[test]
fn no_weights_or_a_pickle() {
    refused("plain", &[WEIGHTS], |dir| std::fs::remove_file(dir.join(WEIGHTS)).unwrap());
    refused("plain", &["pytorch_model.bin", "save_pretrained"], |dir| {
        std::fs::rename(dir.join(WEIGHTS), dir.join("pytorch_model.bin")).unwrap();
    });
}

#[test]
fn tokenizers_missing_or_damaged() {
    refused("plain", &["tokenizer.json"], |dir| std::fs::remove_file(dir.join("tokenizer.json")).unwrap());
    refused("plain", &["tokenizer.json"], |dir| std::fs::write(dir.join("tokenizer.json"), "{}").unwrap());
    // More tokens than the model has ids; fewer are what padding is for.
    refused("plain", &["tokenizer.json"], |dir| {
        edit_json(&dir.join("tokenizer.json"), |json| {
            json["added_tokens"].as_array_mut().unwrap().push(json!({"id": 288, "content": "<x>", "special": true}));
        });
    });
    refused("bare", &["merges.txt"], |dir| std::fs::remove_file(dir.join("merges.txt")).unwrap());
    refused("bare", &["vocab.json"], |dir| std::fs::remove_file(dir.join("vocab.json")).unwrap());
    for merges in ["#version: 0.2\nh e\nxyz zyx\n", "#version: 0.2\nhe\n", "#version: 0.2\nh e r\n", "\u{0}"] {
        refused("bare", &["merges.txt"], |dir| std::fs::write(dir.join("merges.txt"), merges).unwrap());
    }
    refused("bare", &["merges.txt"], |dir| std::fs::write(dir.join("merges.txt"), b"#version: 0.2\nh \xff\n").unwrap());
    for (key, value) in [
        ("A", json!(-1)),
        ("A", json!(1u64 << 40)),
        ("A", json!("x")),
        ("A", json!(33)),
        ("<|endoftext|>", json!(303999)),
    ] {
        refused("bare", &["vocab.json"], |dir| edit_json(&dir.join("vocab.json"), |json| json[key] = value));
    }
    refused("bare", &["vocab.json"], |dir| std::fs::write(dir.join("vocab.json"), "[1, 2]").unwrap());
}

#[test]
fn adapters_that_are_refused_by_name() {
    let temp = copy(&["plain", "lora_attention"]);
    let dir = temp.path().join("lora_attention");
    assert_eq!(complaint(&dir), None);
    let (path, weights) = (dir.join("adapter_config.json"), dir.join("adapter_model.safetensors"));
    let (good, good_weights) = (std::fs::read(&path).unwrap(), std::fs::read(&weights).unwrap());
    for (key, value, word) in [
        ("use_dora", json!(true), "use_dora"),
        ("bias", json!("all"), "bias"),
        ("bias", json!("lora_only"), "bias"),
        ("modules_to_save", json!(["wte"]), "modules_to_save"),
        ("rank_pattern", json!({"c_attn": 7}), "rank_pattern"),
        ("alpha_pattern", json!({"c_attn": 7}), "alpha_pattern"),
        ("peft_type", json!("IA3"), "IA3"),
        ("peft_type", json!("PROMPT_TUNING"), "PROMPT_TUNING"),
        ("layer_replication", json!([[0, 1]]), "layer_replication"),
        ("use_qalora", json!(true), "use_qalora"),
        ("lora_bias", json!(true), "lora_bias"),
        ("trainable_token_indices", json!([1, 2]), "trainable_token_indices"),
        ("target_modules", json!(["c_attn", "wte"]), "wte"),
        ("r", json!(4), "lora_A"),
        ("r", json!(0), "adapter_config.json"),
        ("r", json!(1u64 << 40), "adapter_config.json"),
        ("lora_alpha", json!("x"), "lora_alpha"),
        ("base_model_name_or_path", Value::Null, "base_model_name_or_path"),
        ("base_model_name_or_path", json!("../nowhere"), "nowhere"),
        ("base_model_name_or_path", json!("../lora_attention"), "lora_attention"),
    ] {
        std::fs::write(&path, &good).unwrap();
        edit_json(&path, |json| json[key] = value.clone());
        let sentence = complaint(&dir).unwrap_or_else(|| panic!("opens with {key} {value}"));
        assert!(sentence.contains(word), "{word} is not in: {sentence}");
    }
    std::fs::write(&path, &good).unwrap();
    let b = "base_model.model.transformer.h.1.attn.c_attn.lora_B.weight";
    type Edit = fn(&mut Value, &mut Vec<u8>);
    let edits: [(&str, Edit); 4] = [
        ("c_attn.lora_B", |h, d| remove_tensor(h, d, "base_model.model.transformer.h.1.attn.c_attn.lora_B.weight")),
        ("h.2.attn", |h, d| {
            add_tensor(h, d, "base_model.model.transformer.h.2.attn.c_attn.lora_A.weight", "F32", &[3, 24], 288)
        }),
        ("c_attn.lora_B", |h, _| {
            h["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"]["shape"] = json!([3, 72])
        }),
        ("adapter_model.safetensors", |_, d| d.truncate(100)),
    ];
    assert!(parts(&good_weights).0.get(b).is_some());
    for (word, edit) in edits {
        std::fs::write(&weights, &good_weights).unwrap();
        edit_weights(&weights, edit);
        let sentence = complaint(&dir).unwrap_or_else(|| panic!("opens, but should name {word}"));
        assert!(sentence.contains(word), "{word} is not in: {sentence}");
    }
}

/// Bytes changed, taken out or put in, at places given as parts of the length.
fn mutated(raw: &[u8], changes: &[(f64, u8, u8)]) -> Vec<u8> {
    let mut raw = raw.to_vec();
    for &(place, how, byte) in changes {
        let at = ((place * raw.len() as f64) as usize).min(raw.len().saturating_sub(1));
        match how {
            0 if !raw.is_empty() => drop(raw.remove(at)),
            1 => raw.insert(at, byte),
            2 if !raw.is_empty() => raw[at] = b"0123456789-.\"{}[],:"[usize::from(byte) % 19],
            _ if !raw.is_empty() => raw[at] = byte,
            _ => {}
        }
    }
    raw
}

fn changes() -> impl Strategy<Value = Vec<(f64, u8, u8)>> {
    prop::collection::vec((0.0..1.0, 0u8..4, any::<u8>()), 1..4)
}

fn values() -> impl Strategy<Value = Value> {
    let odd = [
        "null",
        "true",
        "-1",
        "0",
        "1",
        "2",
        "3",
        "7",
        "24",
        "1e308",
        "1e-9",
        "0.5",
        "9223372036854775808",
        "\"x\"",
        "\"relu\"",
        "[]",
        "{}",
    ];
    prop::sample::select(odd.to_vec()).prop_map(|text| serde_json::from_str(text).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_in_config_json(key in any::<prop::sample::Index>(), value in values()) {
        damage("plain", |dir| {
            let keys: Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
            let keys: Vec<String> = keys.as_object().unwrap().keys().cloned().collect();
            set(dir, key.get::<String>(&keys), value);
        });
    }

    #[test]
    fn any_bytes_in_small_files(file in 0usize..5, changes in changes()) {
        let (name, file) = [
            ("plain", "config.json"), ("plain", "tokenizer.json"), ("bare", "vocab.json"), ("bare", "merges.txt"),
            ("bf16_sharded", "model.safetensors.index.json"),
        ][file];
        damage(name, |dir| {
            let raw = std::fs::read(dir.join(file)).unwrap();
            std::fs::write(dir.join(file), mutated(&raw, &changes)).unwrap();
        });
    }

    #[test]
    fn any_bytes_in_a_header(name in prop::sample::select(vec!["plain", "f16"]), keep in any::<bool>(), changes in changes()) {
        damage(name, |dir| {
            let path = dir.join(WEIGHTS);
            let raw = std::fs::read(&path).unwrap();
            let end = 8 + u64::from_le_bytes(*raw.first_chunk().unwrap()) as usize;
            // With the length made right again, or as it was.
            let file = match keep {
                true => joined(&mutated(&raw[8..end], &changes), &raw[end..]),
                false => [&mutated(&raw[..end], &changes), &raw[end..]].concat(),
            };
            std::fs::write(path, file).unwrap();
        });
    }

    #[test]
    fn any_bytes_in_an_adapter(weights in any::<bool>(), changes in changes()) {
        let temp = copy(&["plain", "lora_attention"]);
        let dir = temp.path().join("lora_attention");
        let path = dir.join(if weights { "adapter_model.safetensors" } else { "adapter_config.json" });
        std::fs::write(&path, mutated(&std::fs::read(&path).unwrap(), &changes)).unwrap();
        complaint(&dir);
    }
}
