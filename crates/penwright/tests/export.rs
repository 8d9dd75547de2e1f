//! What an export writes: the same weights under other names, whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use half::{bf16, f16};
use penwright::Result;
use penwright::export::{Dtype, ExportOptions, ExportedFile, Format, GgufType, export};
use penwright::model::{Gpt2Config, LstmConfig};
use penwright::run::{ModelConfig, Run};
use penwright::tokenizer::{Level, Tokenizer};
use penwright::train::{Data, Length, Start, TrainOptions, train};
use safetensors::tensor::{Dtype as Stored, SafeTensors, TensorView, serialize_to_file};

const HF: Format = Format::Hf(Dtype::F32);

fn gpt2(vocab: usize) -> ModelConfig {
    ModelConfig::Gpt2(Gpt2Config { vocab, context: 8, layers: 2, heads: 2, width: 16, ..Gpt2Config::default() })
}

fn lstm(vocab: usize, embed: usize, tied: bool) -> ModelConfig {
    ModelConfig::Lstm(LstmConfig { vocab, embed, hidden: 12, layers: 2, tied, ..LstmConfig::default() })
}

/// A run of a few steps.
fn run(dir: &Path, shape: impl Fn(usize) -> ModelConfig) {
    let text: String = (0..60).map(|n| format!("In room {n} the clock struck {}.\n", n * 7 % 12 + 1)).collect();
    let tokenizer = Tokenizer::train(Level::Char, &[&text], None).unwrap();
    let data = Data::encode(&tokenizer, &[&text], &[&text[..200]], &mut |_, _| {}).unwrap();
    let options = TrainOptions { length: Length::Steps(2), batch: 2, context: 8, ..TrainOptions::default() };
    train(
        &Start::scratch(shape(tokenizer.vocab_size()), tokenizer.clone()),
        &data,
        &options,
        dir,
        &AtomicBool::new(false),
        &mut |_| {},
    )
    .unwrap();
}

fn to(format: Format, source: &Path, out: &Path) -> Result<Vec<ExportedFile>> {
    export(source, &ExportOptions { format, force: false }, out)
}

fn over(format: Format, source: &Path, out: &Path) -> Result<Vec<ExportedFile>> {
    export(source, &ExportOptions { format, force: true }, out)
}

/// Names, types, shapes and bytes of a folder's weights.
fn weights(dir: &Path) -> BTreeMap<String, (Stored, Vec<usize>, Vec<u8>)> {
    let raw = fs::read(dir.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&raw).unwrap();
    let tensors = file.tensors().into_iter();
    tensors.map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn lstm_weights_have_pytorchs_names() {
    let dir = tempfile::tempdir().unwrap();
    for (embed, tied, even) in [(6, false, true), (6, true, false), (12, true, true)] {
        let (source, out) =
            (dir.path().join(format!("run{embed}{tied}")), dir.path().join(format!("out{embed}{tied}")));
        run(&source, |vocab| lstm(vocab, embed, tied));
        let files = to(Format::Pytorch, &source, &out).unwrap();
        assert_eq!(files.iter().map(|f| f.name.clone()).collect::<Vec<_>>(), names(&out));
        let (ours, theirs) = (weights(&source), weights(&out));
        assert_eq!(ours.len(), theirs.len());
        for (name, tensor) in ours {
            let there = match name.strip_prefix("lstm.") {
                Some(rest) if !even => {
                    let (part, layer) = rest.split_at(rest.len() - 1);
                    format!("lstm.{layer}.{part}0")
                }
                _ => name,
            };
            assert_eq!(theirs.get(&there), Some(&tensor), "{there} of {:?}", theirs.keys());
        }
        assert_eq!(theirs.contains_key("head.weight"), !tied);
    }
}

#[test]
fn a_mogrifier_has_no_form_in_pytorch() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("run"), dir.path().join("out"));
    run(&source, |vocab| {
        let config = LstmConfig { vocab, embed: 6, hidden: 12, layers: 2, mogrifier: 3, ..LstmConfig::default() };
        ModelConfig::Lstm(LstmConfig { mogrifier_rank: 2, ..config })
    });
    let ModelConfig::Lstm(config) = Run::open(&source).unwrap().config else { panic!("no LSTM") };
    assert_eq!((config.mogrifier, config.mogrifier_rank), (3, 2));
    let shapes: Vec<_> = weights(&source).into_iter().filter(|(name, _)| name.starts_with("mogrifier.1.1.")).collect();
    assert_eq!(shapes.iter().map(|(name, _)| &name[14..]).collect::<Vec<_>>(), ["left", "right"]);
    let error = to(Format::Pytorch, &source, &out).unwrap_err().to_string();
    assert!(error.contains("Mogrifier") && !out.exists(), "{error}");
}

#[test]
fn hugging_face_directories_are_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("run"), dir.path().join("a/b/hf"));
    run(&source, gpt2);
    to(HF, &source, &out).unwrap();
    let ours = weights(&source);
    assert_eq!(weights(&out), ours);
    assert!(["penwright.toml", "metrics.jsonl", "state"].iter().all(|name| !out.join(name).exists()));
    let (before, after) = (Run::open(&source).unwrap(), Run::open(&out).unwrap());
    assert_eq!(after.config, before.config);
    let text = "In room 7 é the clock";
    assert_eq!(after.tokenizer.encode(text), before.tokenizer.encode(text));

    for (dtype, stored, name) in [(Dtype::F16, Stored::F16, "float16"), (Dtype::Bf16, Stored::BF16, "bfloat16")] {
        over(Format::Hf(dtype), &source, &out).unwrap();
        let config = fs::read_to_string(out.join("config.json")).unwrap();
        assert!(config.contains(&format!("\"{name}\"")), "{config}");
        for (name, (dtype, shape, bytes)) in weights(&out) {
            assert_eq!((dtype, &shape), (stored, &ours[&name].1));
            let halves = bytes.as_chunks::<2>().0.iter().map(|&b| match stored {
                Stored::F16 => f16::from_le_bytes(b).to_f32(),
                _ => bf16::from_le_bytes(b).to_f32(),
            });
            let floats = ours[&name].2.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b));
            assert!(halves.zip(floats).all(|(a, b)| (a - b).abs() <= b.abs() / 256.0 + 1e-7), "{name}");
        }
    }
    let mut again = fs::read(out.join("model.safetensors")).unwrap();
    over(Format::Hf(Dtype::Bf16), &source, &out).unwrap();
    assert_eq!(
        std::mem::take(&mut again),
        fs::read(out.join("model.safetensors")).unwrap(),
        "equal weights, equal files"
    );
}

/// The card tells what the record says, and no path of the author's machine.
#[test]
fn the_card_says_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("run"), dir.path().join("Room clocks"));
    run(&source, gpt2);
    fs::write(source.join("penwright.toml"), "text = [\"/home/me/diary.txt\"]\nlr = 0.001\nbatch = 2\n").unwrap();
    to(HF, &source, &out).unwrap();
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    for part in ["---\n", "library_name: transformers\n", "\n# Room clocks\n", "2 steps", "batch 2, lr 0.001 |"] {
        assert!(card.contains(part), "{part} in {card}");
    }
    assert!(!card.contains("diary") && !card.contains("\nlicense") && !card.contains("\nlanguage"), "{card}");
}

#[test]
fn what_no_tool_has_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (transformer, recurrent) = (dir.path().join("gpt2"), dir.path().join("lstm"));
    run(&transformer, gpt2);
    run(&recurrent, |vocab| lstm(vocab, 6, false));
    let out = dir.path().join("out");
    for (source, format, advice) in [
        (&transformer, Format::Pytorch, "--to hf"),
        (&recurrent, HF, "--to pytorch"),
        (&recurrent, Format::Gguf(GgufType::F16), "--to pytorch"),
    ] {
        let error = to(format, source, &out).unwrap_err().to_string();
        assert!(error.contains(advice) && !error.contains('\n'), "{error}");
    }
    assert_eq!(names(dir.path()), ["gpt2", "lstm"]);
}

#[test]
fn nothing_is_lost_and_nothing_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out, other) = (dir.path().join("run"), dir.path().join("out"), dir.path().join("other"));
    run(&source, gpt2);
    fs::create_dir(&out).unwrap();
    to(HF, &source, &out).unwrap();
    assert!(to(HF, &source, &out).unwrap_err().to_string().contains("--force"));

    // What is no export stays, whatever was said.
    fs::create_dir(&other).unwrap();
    fs::write(other.join("diary.txt"), "mine").unwrap();
    fs::write(dir.path().join("file"), "mine").unwrap();
    let file = dir.path().join("file");
    for (place, word) in [(&other, "diary.txt"), (&source, "run itself"), (&file, "is a file")] {
        assert!(over(HF, &source, place).unwrap_err().to_string().contains(word));
    }
    for place in [&other, &out] {
        assert!(over(Format::Gguf(GgufType::F16), &source, place).unwrap_err().to_string().contains("folder"));
    }
    assert!(to(Format::Gguf(GgufType::F16), &source, &file).unwrap_err().to_string().contains("--force"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");

    // A weight that the type cannot hold shows when half of the folder is written.
    let before = weights(&out);
    let mut loud = weights(&source);
    loud.get_mut("transformer.wte.weight").unwrap().2[..4].copy_from_slice(&1e6f32.to_le_bytes());
    let views =
        loud.iter().map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, &source.join("model.safetensors")).unwrap();
    for place in [&out, &dir.path().join("new")] {
        let error = over(Format::Hf(Dtype::F16), &source, place).unwrap_err().to_string();
        assert!(error.contains("transformer.wte.weight") && error.contains("1000000"), "{error}");
    }
    assert_eq!(weights(&out), before);
    over(Format::Hf(Dtype::Bf16), &source, &out).unwrap();
    assert_ne!(weights(&out), before);
    assert_eq!(names(dir.path()), ["file", "other", "out", "run"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_files_readable() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let (source, real, link) = (dir.path().join("run"), dir.path().join("real"), dir.path().join("link"));
    run(&source, gpt2);
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    to(HF, &source, &link).unwrap();
    assert!(link.is_symlink() && real.join("config.json").exists());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let probe = dir.path().join("probe");
    fs::write(&probe, "").unwrap();
    assert!(names(&real).iter().all(|name| mode(&real.join(name)) == mode(&probe)));
}
