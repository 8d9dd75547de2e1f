//! Forward and backward against plain sums in double precision.

use super::*;
use penwright_kernels::{Bf16, random, team};
use proptest::prelude::*;

/// Values in double precision, and how far from each a computation in the kind of number may be.
#[derive(Clone)]
struct Exact {
    values: Vec<f64>,
    bounds: Vec<f64>,
}

impl Exact {
    fn zeros(len: usize) -> Self {
        Exact { values: vec![0.0; len], bounds: vec![0.0; len] }
    }

    fn add(&mut self, at: usize, value: f64, bound: f64) {
        self.values[at] += value;
        self.bounds[at] += bound;
    }

    fn check<E: Factor>(&self, what: &str, ours: &[E], unit: f64) {
        for (i, ours) in ours.iter().enumerate() {
            let (exact, bound) = (self.values[i], self.bounds[i]);
            // The result is rounded itself; sums in f32 differ by the order of their terms.
            let allowed = 1.1 * (bound + unit * (exact.abs() + bound)) + 1e-4;
            let ours = f64::from(ours.get());
            assert!((ours - exact).abs() <= allowed, "{what}[{i}]: {ours} for {exact} ± {allowed}");
        }
    }
}

struct Inputs<E> {
    qkv: Vec<E>,
    dout: Vec<E>,
    texts: usize,
}

fn inputs<E: Factor>(shape: Attention, texts: usize, seed: u64) -> Inputs<E> {
    let c = shape.heads * shape.head_width;
    let value = |i: usize| E::of((random(seed, i as u64) >> 40) as f32 / (1u32 << 22) as f32 - 2.0);
    let n = texts * shape.time * c;
    Inputs { qkv: (0..3 * n).map(value).collect(), dout: (3 * n..4 * n).map(value).collect(), texts }
}

struct Results<T> {
    out: T,
    logs: Vec<f32>,
    dqkv: T,
}

fn ours<E: Factor>(shape: Attention, inputs: &Inputs<E>, dropout: Dropout) -> Results<Vec<E>> {
    let nan = E::of(f32::NAN);
    let (mut out, mut dqkv) = (vec![nan; inputs.dout.len()], vec![nan; inputs.qkv.len()]);
    let mut logs = vec![f32::NAN; inputs.texts * shape.heads * shape.time];
    shape.forward(&inputs.qkv, &mut out, &mut logs, dropout);
    shape.backward(&inputs.qkv, &out, &logs, &inputs.dout, &mut dqkv, dropout);
    Results { out, logs, dqkv }
}

/// `unit` is the largest relative error of rounding to the kind of number, which happens to the probabilities and the
/// gradients of the scores before they are multiplied, and to the output, of which the backward makes `Σ dout · out`.
fn exactly<E: Factor>(shape: Attention, inputs: &Inputs<E>, dropout: Dropout, unit: f64) -> Results<Exact> {
    let Attention { time, heads, head_width: d, scale } = shape;
    let (c, scale) = (heads * d, f64::from(scale));
    let (mut out, mut dqkv, mut logs) = (Exact::zeros(inputs.dout.len()), Exact::zeros(inputs.qkv.len()), Vec::new());
    for head in 0..inputs.texts * heads {
        let (text, column) = (head / heads, head % heads * d);
        let at = |which: usize, t: usize| (text * time + t) * 3 * c + which * c + column;
        let x = |which: usize, t: usize, j: usize| f64::from(inputs.qkv[at(which, t) + j].get());
        for t in 0..time {
            let o = (text * time + t) * c + column;
            let dy = |j: usize| f64::from(inputs.dout[o + j].get());
            let scores: Vec<f64> =
                (0..=t).map(|s| scale * (0..d).map(|j| x(0, t, j) * x(1, s, j)).sum::<f64>()).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log = max + scores.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
            logs.push(log as f32);
            let mask = shape.mask(head, dropout);
            let kept: Vec<f32> = (0..=t).map(|s| mask.map_or(1.0, |mask| mask.factor(time, t, s))).collect();
            let p: Vec<f64> = scores.iter().map(|s| (s - log).exp()).collect();
            let dropped: Vec<f64> = p.iter().zip(&kept).map(|(p, &kept)| p * f64::from(kept)).collect();
            let mut wrong = 0.0;
            for j in 0..d {
                for s in 0..=t {
                    let term = dropped[s] * x(2, s, j);
                    out.add(o + j, term, unit * term.abs());
                    let term = dropped[s] * dy(j);
                    dqkv.add(at(2, s) + j, term, unit * term.abs());
                }
                let error = out.bounds[o + j];
                wrong += dy(j).abs() * (error + unit * (out.values[o + j].abs() + error));
            }
            let mean: f64 = (0..d).map(|j| dy(j) * out.values[o + j]).sum();
            for s in 0..=t {
                let dp = f64::from(kept[s]) * (0..d).map(|j| dy(j) * x(2, s, j)).sum::<f64>();
                let ds = p[s] * (dp - mean) * scale;
                let bound = p[s] * wrong * scale;
                let bound = bound + unit * (ds.abs() + bound);
                for j in 0..d {
                    dqkv.add(at(0, t) + j, ds * x(1, s, j), bound * x(1, s, j).abs());
                    dqkv.add(at(1, s) + j, ds * x(0, t, j), bound * x(0, t, j).abs());
                }
            }
        }
    }
    Results { out, logs, dqkv }
}

fn check<E: Factor>(shape: Attention, texts: usize, dropout: Dropout, seed: u64, unit: f64) {
    let inputs = inputs::<E>(shape, texts, seed);
    let (ours, exact) = (ours(shape, &inputs, dropout), exactly(shape, &inputs, dropout, unit));
    for (i, (ours, exact)) in ours.logs.iter().zip(&exact.logs).enumerate() {
        assert!((ours - exact).abs() < 1e-4, "logs[{i}]: {ours} for {exact}");
    }
    exact.out.check("out", &ours.out, unit);
    exact.dqkv.check("dqkv", &ours.dqkv, unit);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn equals_sums_in_double_precision(
        time in prop_oneof![Just(1usize), 2usize..40, 40usize..150],
        d in prop_oneof![1usize..40, Just(32), Just(64)],
        heads in 1usize..4,
        texts in 1usize..3,
        rate in prop_oneof![Just(0.0f32), Just(0.25)],
        seed: u64,
    ) {
        let shape = Attention { time, heads, head_width: d, scale: 0.7 / (d as f32).sqrt() };
        check::<f32>(shape, texts, Dropout::new(rate, seed, 3), seed, 2e-6);
        check::<Bf16>(shape, texts, Dropout::new(rate, seed, 3), seed, 1.0 / 256.0);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    same_bits::<f32>();
    same_bits::<Bf16>();
}

fn same_bits<E: Factor>() {
    let shape = Attention { time: 75, heads: 3, head_width: 20, scale: 0.25 };
    let inputs = inputs::<E>(shape, 2, 5);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| team(|| ours(shape, &inputs, Dropout::new(0.1, 7, 1))))
    };
    let one = with(1);
    for threads in [2, 3] {
        let more = with(threads);
        assert!(one.out == more.out && one.logs == more.logs && one.dqkv == more.dqkv, "{threads} threads");
    }
}
