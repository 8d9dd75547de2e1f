//! The same seed gives the same bits, for any number of threads.

use std::path::Path;

use penwright::model::{Gpt2Config, LstmConfig};
use penwright::run::{ModelConfig, Run};
use penwright::tokenizer::{Level, Tokenizer};
use penwright::train::{Event, Length, Schedule, TrainOptions, train};

fn text() -> String {
    (0..400)
        .map(|n| format!("In room {n} the {} clock struck {}.\n", ["old", "tall", "red"][n % 3], n * 7 % 12 + 1))
        .collect()
}

fn options() -> TrainOptions {
    TrainOptions {
        length: Length::Steps(40),
        batch: 4,
        context: 24,
        lr: 3e-3,
        schedule: Schedule::Cosine,
        warmup: 5,
        weight_decay: 0.1,
        clip: 1.0,
        dropout: 0.1,
        seed: 7,
        eval_every: 20,
    }
}

fn shapes(vocab: usize) -> [ModelConfig; 2] {
    [
        ModelConfig::Gpt2(Gpt2Config { vocab, context: 24, layers: 2, heads: 2, width: 32 }),
        ModelConfig::Lstm(LstmConfig { vocab, embed: 16, hidden: 48, layers: 2 }),
    ]
}

fn weights(config: &ModelConfig, threads: usize, out: &Path) -> (Vec<u8>, Vec<f64>) {
    let text = text();
    let (head, tail) = text.split_at(text.len() * 9 / 10);
    let tokenizer = Tokenizer::train(Level::Char, &[head]);
    let mut losses = Vec::new();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        train(config, &tokenizer, &[head], &[tail], &options(), out, &mut |event| {
            if let Event::Eval { val_loss, .. } = event {
                losses.push(*val_loss);
            }
        })
    })
    .unwrap();
    (std::fs::read(out.join("model.safetensors")).unwrap(), losses)
}

#[test]
fn any_number_of_threads_and_any_time() {
    let vocab = Tokenizer::train(Level::Char, &[&text()]).vocab_size();
    for config in shapes(vocab) {
        let dir = tempfile::tempdir().unwrap();
        let (one, losses) = weights(&config, 1, &dir.path().join("one"));
        assert!(losses[1] < losses[0] && losses[1] < (vocab as f64).ln(), "{config:?} learned nothing: {losses:?}");
        for threads in [1, 2, 3] {
            let again = weights(&config, threads, &dir.path().join(format!("again{threads}")));
            assert!(again == (one.clone(), losses.clone()), "{config:?} differs with {threads} threads");
        }
    }
}

#[test]
fn damaged_runs_are_refused_in_words() {
    let vocab = Tokenizer::train(Level::Char, &[&text()]).vocab_size();
    for config in shapes(vocab) {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let (good, _) = weights(&config, 1, &run);
        assert!(Run::open(&run).is_ok());
        let refused = |bytes: &[u8], word: &str| {
            std::fs::write(run.join("model.safetensors"), bytes).unwrap();
            let error = Run::open(&run).err().expect("damage was not noticed").to_string();
            assert!(error.contains(word) && error.contains("model.safetensors"), "{error}");
        };
        refused(&good[..good.len() / 2], "shorter");
        refused(&good[..good.len() - 1], "whole");
        let mut flipped = good.clone();
        flipped[good.len() - 4] ^= 1;
        refused(&flipped, "checksum");
        let mut lying = good.clone();
        lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        refused(&lying, "whole");
        refused(&[], "shorter");
        std::fs::write(run.join("config.json"), "{").unwrap();
        assert!(Run::open(&run).err().unwrap().to_string().contains("not JSON"));
    }
}
