//! Times the attention of training, forward and backward, in f32 and bfloat16, on all threads; rates count the
//! causal half alone.
//!
//!     cargo run --release -p penwright --example attention
//!
//! A number as first argument chooses a shape, a second argument leaves f32 out.

use std::time::Instant;

use penwright::layers::{Attention, Dropout};
use penwright_kernels::{Bf16, Factor, team};

fn best(mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.4 {
        let start = Instant::now();
        for _ in 0..4 {
            f();
        }
        best = best.min(start.elapsed().as_secs_f64() / 4.0);
    }
    best
}

fn time<E: Factor>(name: &str, texts: usize, shape: Attention, dropout: Dropout) {
    let Attention { time, heads, head_width: d, .. } = shape;
    let c = heads * d;
    let fill = |len: usize| (0..len).map(|i| E::of((i * 7919 % 1013) as f32 / 500.0 - 1.0)).collect::<Vec<_>>();
    let (qkv, dout) = (fill(texts * time * 3 * c), fill(texts * time * c));
    let (mut out, mut dqkv) = (vec![E::default(); dout.len()], vec![E::default(); qkv.len()]);
    let mut logs = vec![0.0; texts * heads * time];
    let (forward, backward) = team(|| {
        let forward = best(|| shape.forward(&qkv, &mut out, &mut logs, dropout));
        (forward, best(|| shape.backward(&qkv, &out, &logs, &dout, &mut dqkv, dropout)))
    });
    // Half of the scores, two products forward and five backward of D multiplications and additions each.
    let one = (texts * heads * time * time * d) as f64;
    println!(
        "{name} {texts:3} × {time:4}  {heads:2} × {d:2} {}  forward {:8.1} µs {:6.0} GFLOP/s  backward {:8.1} µs {:6.0} GFLOP/s",
        if dropout.is_on() { "dropout" } else { "       " },
        forward * 1e6,
        2.0 * one / forward / 1e9,
        backward * 1e6,
        5.0 * one / backward / 1e9
    );
}

fn main() {
    // With a number, only that shape.
    let only: Option<usize> = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let shapes = [(12, 64, 4, 32), (64, 256, 6, 64), (4, 64, 12, 64), (4, 256, 12, 64), (1, 1024, 12, 64)];
    for (i, (texts, time_steps, heads, d)) in shapes.into_iter().enumerate() {
        if only.is_some_and(|only| only != i) {
            continue;
        }
        let shape = Attention { time: time_steps, heads, head_width: d, scale: 1.0 / (d as f32).sqrt() };
        for dropout in [Dropout::OFF, Dropout::new(0.1, 1, 1)] {
            if std::env::args().nth(2).is_none() {
                time::<f32>("f32 ", texts, shape, dropout);
            }
            time::<Bf16>("bf16", texts, shape, dropout);
        }
    }
}
