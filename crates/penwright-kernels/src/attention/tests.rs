//! Forward and backward against plain sums in double precision, on every instruction set.

use super::*;
use crate::bf16::{Bf16, Element};
use crate::isa::with_each;
use crate::math::random;
use crate::parts::BlockMut;
use proptest::prelude::*;

/// Values in double precision, and how far from each a computation in the kind of number may be.
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

    fn check<E: Factor>(&self, what: &str, ours: &[E]) {
        for (i, ours) in ours.iter().enumerate() {
            let (exact, bound) = (self.values[i], self.bounds[i]);
            // The result is rounded itself; sums in f32 differ by the order of their terms.
            let allowed = 1.1 * (bound + unit::<E>() * (exact.abs() + bound)) + 1e-4;
            let ours = f64::from(ours.get());
            assert!((ours - exact).abs() <= allowed, "{what}[{i}]: {ours} for {exact} ± {allowed}");
        }
    }
}

/// The largest relative error of rounding to the kind of number: a bfloat16 has eight digits in base 2.
fn unit<E: Element>() -> f64 {
    if E::GROUP == 1 { 2e-6 } else { 1.0 / 256.0 }
}

/// qkv `[T, 3, D]` and dout `[T, D]`.
struct Inputs<E> {
    qkv: Vec<E>,
    dout: Vec<E>,
    shape: (usize, usize),
    dropout: Option<Mask>,
}

fn inputs<E: Factor>((t, d): (usize, usize), rate: f32, seed: u64) -> Inputs<E> {
    let value = |i: usize| E::of((random(seed, i as u64) >> 40) as f32 / (1u32 << 22) as f32 - 2.0);
    let n = t * d;
    let dropout = (rate > 0.0).then_some(Mask { key: seed, first: 77, rate });
    Inputs { qkv: (0..3 * n).map(value).collect(), dout: (3 * n..4 * n).map(value).collect(), shape: (t, d), dropout }
}

struct Results<T> {
    out: T,
    logs: Vec<f32>,
    dqkv: T,
}

fn scale(d: usize) -> f32 {
    0.7 / (d as f32).sqrt()
}

fn ours<E: Factor>(inputs: &Inputs<E>) -> Results<Vec<E>> {
    let ((t, d), nan) = (inputs.shape, E::of(f32::NAN));
    let part = |which: usize| Matrix::new(&inputs.qkv, t, 3 * d).columns(which * d, d);
    let (queries, keys, values) = (part(0), part(1), part(2));
    let head = CausalHead { queries, keys, values, scale: scale(d), dropout: inputs.dropout };
    let (mut out, mut dqkv, mut logs) = (vec![nan; t * d], vec![nan; 3 * t * d], vec![f32::NAN; t]);
    head.forward(&mut BlockMut::whole(&mut out, t, d), &mut logs);
    let (seen, dout) = (Matrix::new(&out, t, d), Matrix::new(&inputs.dout, t, d));
    head.backward(seen, &logs, dout, &mut BlockMut::grouped(&mut dqkv, t, 3 * d, 3));
    Results { out, logs, dqkv }
}

/// Rounding happens to the probabilities and the gradients of the scores before they are multiplied, and to the
/// output, of which the backward makes `Σ dout · out`.
fn exactly<E: Factor>(inputs: &Inputs<E>) -> Results<Exact> {
    let ((time, d), unit) = (inputs.shape, unit::<E>());
    let scale = f64::from(scale(d));
    let (mut out, mut dqkv, mut logs) = (Exact::zeros(time * d), Exact::zeros(3 * time * d), Vec::new());
    let at = |which: usize, t: usize| t * 3 * d + which * d;
    let x = |which: usize, t: usize, j: usize| f64::from(inputs.qkv[at(which, t) + j].get());
    for t in 0..time {
        let dy = |j: usize| f64::from(inputs.dout[t * d + j].get());
        let scores: Vec<f64> = (0..=t).map(|s| scale * (0..d).map(|j| x(0, t, j) * x(1, s, j)).sum::<f64>()).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log = max + scores.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
        logs.push(log as f32);
        let kept: Vec<f64> =
            (0..=t).map(|s| inputs.dropout.map_or(1.0, |mask| f64::from(mask.factor(time, t, s)))).collect();
        let p: Vec<f64> = scores.iter().map(|s| (s - log).exp()).collect();
        let mut wrong = 0.0;
        for j in 0..d {
            for s in 0..=t {
                let (term, back) = (p[s] * kept[s] * x(2, s, j), p[s] * kept[s] * dy(j));
                out.add(t * d + j, term, unit * term.abs());
                dqkv.add(at(2, s) + j, back, unit * back.abs());
            }
            let error = out.bounds[t * d + j];
            wrong += dy(j).abs() * (error + unit * (out.values[t * d + j].abs() + error));
        }
        let mean: f64 = (0..d).map(|j| dy(j) * out.values[t * d + j]).sum();
        for s in 0..=t {
            let dp = kept[s] * (0..d).map(|j| dy(j) * x(2, s, j)).sum::<f64>();
            let ds = p[s] * (dp - mean) * scale;
            let bound = p[s] * wrong * scale;
            let bound = bound + unit * (ds.abs() + bound);
            for j in 0..d {
                dqkv.add(at(0, t) + j, ds * x(1, s, j), bound * x(1, s, j).abs());
                dqkv.add(at(1, s) + j, ds * x(0, t, j), bound * x(0, t, j).abs());
            }
        }
    }
    Results { out, logs, dqkv }
}

fn check<E: Factor>(shape: (usize, usize), rate: f32, seed: u64) {
    let inputs = inputs::<E>(shape, rate, seed);
    let exact = exactly(&inputs);
    with_each(|isa| {
        let ours = ours(&inputs);
        for (i, (ours, exact)) in ours.logs.iter().zip(&exact.logs).enumerate() {
            assert!((ours - exact).abs() < 1e-4, "{isa:?} logs[{i}]: {ours} for {exact}");
        }
        exact.out.check(&format!("{isa:?} out"), &ours.out);
        exact.dqkv.check(&format!("{isa:?} dqkv"), &ours.dqkv);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn equals_sums_in_double_precision(
        time in prop_oneof![Just(1usize), 2usize..40, 40usize..150],
        d in prop_oneof![1usize..40, Just(32), Just(64)],
        rate in prop_oneof![Just(0.0f32), Just(0.25)],
        seed: u64,
    ) {
        check::<f32>((time, d), rate, seed);
        check::<Bf16>((time, d), rate, seed);
    }
}

#[test]
fn what_is_no_number_stays_so_and_in_its_future() {
    let mut inputs = inputs::<Bf16>((70, 32), 0.0, 1);
    inputs.qkv[40 * 96 + 32] = Bf16::of(f32::NAN); // key 40
    with_each(|isa| {
        let out = ours(&inputs).out;
        for (i, x) in out.iter().enumerate() {
            assert_eq!(x.get().is_nan(), i / 32 >= 40, "{isa:?} {i}");
        }
    });
}

#[test]
fn a_mask_drops_at_its_rate_and_keeps_the_mean() {
    let mask = Mask { key: 3, first: 0, rate: 0.2 };
    let factors: Vec<f32> = (0..200 * 200).map(|i| mask.factor(200, i / 200, i % 200)).collect();
    let dropped = factors.iter().filter(|&&x| x == 0.0).count() as f32 / factors.len() as f32;
    assert!((dropped - 0.2).abs() < 0.01, "{dropped}");
    let mean = factors.iter().sum::<f32>() / factors.len() as f32;
    assert!((mean - 1.0).abs() < 0.01, "{mean}");
}
