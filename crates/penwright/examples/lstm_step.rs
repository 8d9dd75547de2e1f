//! Times training steps of LSTMs, forward, backward and AdamW, in f32 and bfloat16, on one thread and on two.
//!
//!     cargo run --release --example lstm_step -- [small|large] [f32|bf16] [1|2] [uniform]
//!
//! Tokens are as frequent as words are in a text, or, with `uniform`, all equally frequent: the first layer computes the
//! products of a token that comes several times in a batch once. GFLOP/s counts every product in full.

use std::time::Instant;

use penwright::layers::Dropout;
use penwright::model::{Lstm, LstmConfig, Precision, Trainable};
use penwright::train::{AdamW, global_norm};

struct Case {
    name: &'static str,
    config: LstmConfig,
    batch: usize,
    context: usize,
}

/// Multiplications and additions of a step when every product is computed in full.
fn flops(case: &Case) -> f64 {
    let LstmConfig { vocab, embed, hidden, layers, .. } = case.config;
    let weights: usize = (0..layers).map(|l| 4 * hidden * (hidden + if l == 0 { embed } else { hidden })).sum();
    6.0 * (case.batch * case.context) as f64 * (weights + vocab * hidden) as f64
}

/// Tokens as often as words are in a text, the n-th most frequent with a probability of about 1 / n; or all as often.
fn tokens(vocab: usize, n: usize, seed: u64, uniform: bool) -> Vec<u32> {
    let random = |i| (penwright::layers::random(seed, i as u64) >> 11) as f64 / (1u64 << 53) as f64;
    let token = |x: f64| if uniform { x * vocab as f64 } else { (vocab as f64).powf(x) - 1.0 };
    (0..n).map(|i| (token(random(i)) as u32).min(vocab as u32 - 1)).collect()
}

fn run(case: &Case, bf16: bool, threads: usize, uniform: bool) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut model = Lstm::new(case.config.clone(), 1).unwrap();
        model.set_precision(if bf16 { Precision::Bf16 } else { Precision::F32 });
        let mut optimizer = AdamW::new(model.params());
        let mut grads = vec![0.0; model.params().data.len()];
        let n = case.batch * case.context;
        let (mut best, mut best_all) = (f64::INFINITY, f64::INFINITY);
        let (mut first, mut last) = (0.0, 0.0);
        for step in 0..12 {
            let draw = |seed| tokens(case.config.vocab, n, seed, uniform);
            let (x, y) = (draw(step % 2), draw(step % 2 + 2));
            let start = Instant::now();
            last = model.train_step(&x, &y, case.batch, &mut grads, true, Dropout::OFF);
            best = f64::min(best, start.elapsed().as_secs_f64());
            let norm = global_norm(&grads);
            let scale = if norm > 1.0 { 1.0 / norm } else { 1.0 };
            optimizer.update(&mut model.params_mut().data, &grads, scale, 1e-3, 0.1);
            best_all = f64::min(best_all, start.elapsed().as_secs_f64());
            if step == 0 {
                first = last;
            }
        }
        println!(
            "{:<6} {:<5} {threads} threads: {:7.1} ms forward and backward, {:6.1} GFLOP/s; {:7.1} ms with AdamW; loss {first:.4} → {last:.4}",
            case.name,
            if bf16 { "bf16" } else { "f32" },
            best * 1e3,
            flops(case) / best * 1e-9,
            best_all * 1e3,
        );
    });
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let named = |names: &[&str]| wanted.iter().any(|w| names.contains(&w.as_str()));
    let cases = [
        Case {
            name: "small",
            config: LstmConfig { vocab: 65, embed: 512, hidden: 512, layers: 2, tied: false, ..LstmConfig::default() },
            batch: 64,
            context: 128,
        },
        Case {
            name: "large",
            config: LstmConfig {
                vocab: 10_000,
                embed: 400,
                hidden: 1150,
                layers: 3,
                tied: false,
                ..LstmConfig::default()
            },
            batch: 20,
            context: 70,
        },
    ];
    for case in &cases {
        for bf16 in [false, true] {
            for threads in [1, 2] {
                let precision = if bf16 { "bf16" } else { "f32" };
                if (named(&[case.name]) || !named(&["small", "large"]))
                    && (named(&[precision]) || !named(&["f32", "bf16"]))
                    && (named(&[&threads.to_string()]) || !named(&["1", "2"]))
                {
                    run(case, bf16, threads, named(&["uniform"]));
                }
            }
        }
    }
}
