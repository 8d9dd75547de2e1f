//! Checkpoints and adapters as Hugging Face's tools write them, opened as runs: the numbers are those that transformers
//! and peft get from the same files (fixtures/make_gpt2_variants.py).

#[path = "published/damaged.rs"]
mod damaged;

use std::path::{Path, PathBuf};

use penwright::layers::{Dropout, log_softmax};
use penwright::model::Trainable;
use penwright::run::Run;
use penwright::train::{Settings, Start};
use safetensors::SafeTensors;

fn published(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/published").join(name)
}

/// A safetensors file of f32 and i32.
struct File(Vec<u8>);

impl File {
    fn open(path: PathBuf) -> Self {
        File(std::fs::read(path).unwrap())
    }

    fn names(&self) -> Vec<String> {
        SafeTensors::deserialize(&self.0).unwrap().names().into_iter().map(String::from).collect()
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().shape().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let data = file.tensor(name).unwrap_or_else(|_| panic!("no {name}")).data().to_vec();
        data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.floats(name).iter().map(|x| x.to_bits()).collect()
    }

    fn metadata(&self, key: &str) -> String {
        let (_, header) = SafeTensors::read_metadata(&self.0).unwrap();
        header.metadata().as_ref().unwrap()[key].clone()
    }
}

fn best(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

/// Log-probabilities over the whole context, by a session of all texts and by `score`, within 2e-5 and with the same
/// likeliest token; the tokenizer gives the ids that the crate's Python sister gave.
fn check(name: &str) {
    const CLOSE: f32 = 2e-5;
    let run = Run::open(&published(name)).unwrap_or_else(|e| panic!("{e}"));
    let expected = File::open(published(name).join("expected.safetensors"));
    let (tokens, shape, logits) = (expected.ids("tokens"), expected.shape("logits"), expected.floats("logits"));
    let [batch, time, vocab] = shape[..] else { panic!("{shape:?}") };
    assert_eq!((run.model.vocab_size(), run.model.context()), (vocab, Some(time)), "{name}");
    let mut session = run.model.clone().session(batch).unwrap();
    let streams: Vec<usize> = (0..batch).collect();
    let mut largest = 0f32;
    for t in 0..time {
        let step: Vec<u32> = streams.iter().map(|b| tokens[b * time + t]).collect();
        session.step(&streams, &step).unwrap();
        for b in 0..batch {
            let mut row = logits[(b * time + t) * vocab..][..vocab].to_vec();
            log_softmax(&mut row);
            let ours = session.log_probs(b);
            assert_eq!(best(ours), best(&row), "{name}: text {b}, position {t}");
            largest = ours.iter().zip(&row).fold(largest, |m, (a, b)| m.max((a - b).abs()));
        }
    }
    assert!(largest < CLOSE, "{name}: log-probabilities differ by {largest}");
    for b in 0..batch {
        let (text, mut scores) = (&tokens[b * time..][..time], Vec::new());
        let sink = &mut |new: &[_]| {
            scores.extend_from_slice(new);
            Ok(())
        };
        run.model.score(text, None, sink).unwrap();
        assert_eq!(scores.len(), time - 1);
        for (t, score) in scores.iter().enumerate() {
            let mut row = logits[(b * time + t) * vocab..][..vocab].to_vec();
            log_softmax(&mut row);
            let target = text[t + 1] as usize;
            assert!((score.log_prob - row[target]).abs() < CLOSE, "{name}: score of {t}");
            assert_eq!(score.top1, best(&row) == target, "{name}: score of {t}");
        }
    }
    let text = expected.metadata("text");
    assert_eq!(run.tokenizer.encode(&text), expected.ids("ids"), "{name}");
    assert_eq!(run.tokenizer.decode(&expected.ids("ids")), text, "{name}");
    assert_eq!(run.tokenizer.piece(run.tokenizer.eot()), "<|endoftext|>", "{name}");
}

/// A test for each directory, so that every one that fails is named.
macro_rules! each {
    ($what:ident, $check:ident: $($name:ident),*) => {
        mod $what { $(#[test] fn $name() { super::$check(stringify!($name)); })* }
    };
}

each!(opens, check: plain, bare, copied_head, untied, upcast, f16, bf16_sharded, sharded_bare, lora_attention, lora_all);

/// The model of a directory, to be trained.
fn trainable(name: &str) -> Box<dyn Trainable> {
    let start = Start::from(&published(name).display().to_string(), &mut |_, _, _| {});
    start.and_then(|start| start.build(0)).unwrap_or_else(|e| panic!("{e}"))
}

/// Loss and gradients of a fine-tuning step, as `transformers` computes it from `labels=tokens`: by name.
fn step(model: &mut dyn Trainable, expected: &File) -> (f32, Vec<(String, Vec<f32>)>) {
    let (tokens, shape) = (expected.ids("tokens"), expected.shape("tokens"));
    let texts = || tokens.chunks_exact(shape[1]);
    let inputs: Vec<u32> = texts().flat_map(|text| &text[..shape[1] - 1]).copied().collect();
    let targets: Vec<u32> = texts().flat_map(|text| &text[1..]).copied().collect();
    let mut grads = vec![0.0; model.params().data.len()];
    let loss = model.train_step(&inputs, &targets, shape[0], &mut grads, true, Dropout::OFF);
    let grads = model.params().tensors.iter().map(|t| (t.name.clone(), grads[t.range.clone()].to_vec())).collect();
    (loss as f32, grads)
}

/// Each value within 1e-4 of itself; the rounded rest of a sum may differ by a millionth of the tensor's largest value.
fn close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let size = theirs.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= 1e-4 * b.abs() + 1e-6 * size, "{what}[{i}]: {a} and {b}, the largest being {size}");
    }
}

fn check_gradients(name: &str) {
    let expected = File::open(published(name).join("expected.safetensors"));
    let (loss, grads) = step(&mut *trainable(name), &expected);
    close(&format!("{name}: loss"), &[loss], &expected.floats("loss"));
    let known = expected.names().iter().filter(|n| n.starts_with("grad.")).count();
    assert_eq!(grads.len(), known, "{name}");
    for (tensor, grad) in grads {
        close(&format!("{name}: {tensor}"), &grad, &expected.floats(&format!("grad.{tensor}")));
    }
}

each!(loss_and_gradients, check_gradients: plain, bare, copied_head, untied);

/// The adapters' gradients are peft's, the base having none. Sums that nearly cancel are measured against the largest.
#[test]
fn gradients_of_adapters_equal_peft() {
    for (name, pairs) in [("lora_attention", 2), ("lora_all", 8)] {
        let expected = File::open(published(name).join("expected.safetensors"));
        let mut start = Start::from(&published(name).display().to_string(), &mut |_, _, _| {}).unwrap();
        start.tune(&Settings { lora: Some(3), lora_alpha: Some(5.0), ..Settings::default() }).unwrap();
        let mut model = start.build(0).unwrap();
        for again in [false, true] {
            model.checkpoint_activations(again);
            let (loss, grads) = step(&mut *model, &expected);
            close(&format!("{name}: loss"), &[loss], &expected.floats("loss"));
            assert_eq!(grads.len(), 2 * pairs);
            for (tensor, ours) in grads {
                let theirs = expected.floats(&format!("grad.{tensor}"));
                let size = theirs.iter().fold(0f32, |m, x| m.max(x.abs()));
                let far = ours.iter().zip(&theirs).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(size > 0.0 && far <= 1e-5 * size, "{name}: {tensor} differs by {far} of {size}");
            }
        }
    }
}
