//! Times a training step of a GPT-2: forward, backward, norm of the gradient, AdamW.
//!
//!     cargo run --release --example gpt2_step -- LAYERS HEADS WIDTH VOCAB BATCH CONTEXT [f32|bf16] [THREADS] [STEPS]

use std::time::Instant;

use penwright::layers::Dropout;
use penwright::model::{Gpt2, Gpt2Config, Precision, Trainable};
use penwright::train::{AdamW, global_norm};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| args.get(i).map_or(Ok(default), |text| text.parse());
    let [layers, heads, width, vocab, batch, context] =
        [(0, 4), (1, 4), (2, 128), (3, 65), (4, 12), (5, 64)].map(|(i, default)| number(i, default));
    let (vocab, batch, context) = (vocab?, batch?, context?);
    let config = Gpt2Config { vocab, context, layers: layers?, heads: heads?, width: width?, ..Gpt2Config::default() };
    let precision = if args.get(6).is_some_and(|p| p == "f32") { Precision::F32 } else { Precision::Bf16 };
    let (threads, steps) = (number(7, 2)?, number(8, 20)?);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| -> penwright::Result<()> {
        let mut model = Gpt2::new(config, 1)?;
        model.set_precision(precision);
        let mut optimizer = AdamW::new(model.params());
        let mut grads = vec![0.0; model.params().data.len()];
        let tokens: Vec<u32> = (0..batch * context).map(|i| (i * 7919 % vocab) as u32).collect();
        let mut times: Vec<[f64; 2]> = Vec::new();
        for _ in 0..steps + 2 {
            let start = Instant::now();
            model.train_step(&tokens, &tokens, batch, &mut grads, true, Dropout::OFF);
            let middle = start.elapsed().as_secs_f64();
            let norm = global_norm(&grads);
            optimizer.update(&mut model.params_mut().data, &grads, 1.0 / norm.max(1.0), 1e-3, 0.1);
            times.push([start.elapsed().as_secs_f64(), middle].map(|s| s * 1e3));
        }
        let median = |i: usize| {
            let mut sorted: Vec<f64> = times[2..].iter().map(|t| t[i]).collect();
            sorted.sort_by(f64::total_cmp);
            sorted[sorted.len() / 2]
        };
        println!("{precision:?} {threads} threads: {:.2} ms a step, {:.2} without the optimizer", median(0), median(1));
        Ok(())
    })?;
    Ok(())
}
