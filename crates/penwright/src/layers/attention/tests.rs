//! Where texts and heads lie, and on which threads; the arithmetic is tested beside its kernels.

use super::*;
use penwright_kernels::{Bf16, random, team};

struct Results<E> {
    out: Vec<E>,
    logs: Vec<f32>,
    dqkv: Vec<E>,
}

fn fill<E: Factor>(len: usize, seed: u64) -> Vec<E> {
    (0..len).map(|i| E::of((random(seed, i as u64) >> 40) as f32 / (1u32 << 23) as f32 - 1.0)).collect()
}

fn run<E: Factor>(shape: Attention, qkv: &[E], dout: &[E], dropout: Dropout) -> Results<E> {
    let (mut out, mut dqkv) = (vec![E::default(); dout.len()], vec![E::default(); qkv.len()]);
    let mut logs = vec![0.0; dout.len() / shape.head_width];
    shape.forward(qkv, &mut out, &mut logs, dropout);
    shape.backward(qkv, &out, &logs, dout, &mut dqkv, dropout);
    Results { out, logs, dqkv }
}

#[test]
fn a_head_is_what_it_would_be_alone() {
    alone::<f32>();
    alone::<Bf16>();
}

fn alone<E: Factor>() {
    let (texts, d, t) = (2, 20, 37);
    let shape = Attention { time: t, heads: 3, head_width: d, scale: 0.25 };
    let c = shape.width();
    let (qkv, dout) = (fill::<E>(texts * t * 3 * c, 1), fill::<E>(texts * t * c, 2));
    let all = run(shape, &qkv, &dout, Dropout::OFF);
    for text in 0..texts {
        for head in 0..3 {
            // The head's columns of so many groups of C.
            let part = |x: &[E], groups: usize| -> Vec<E> {
                let row =
                    |row: usize| x[(text * t + row / groups) * groups * c + row % groups * c + head * d..][..d].iter();
                (0..t * groups).flat_map(row).copied().collect()
            };
            let one = run(Attention { heads: 1, ..shape }, &part(&qkv, 3), &part(&dout, 1), Dropout::OFF);
            assert!(one.out == part(&all.out, 1) && one.dqkv == part(&all.dqkv, 3));
            assert_eq!(one.logs, all.logs[(text * 3 + head) * t..][..t]);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    same_bits::<f32>();
    same_bits::<Bf16>();
}

fn same_bits<E: Factor>() {
    let shape = Attention { time: 75, heads: 3, head_width: 20, scale: 0.25 };
    let (qkv, dout) = (fill::<E>(2 * 75 * 180, 1), fill::<E>(2 * 75 * 60, 2));
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| team(|| run(shape, &qkv, &dout, Dropout::new(0.1, 7, 1))))
    };
    let one = with(1);
    for threads in [2, 3] {
        let more = with(threads);
        assert!(one.out == more.out && one.logs == more.logs && one.dqkv == more.dqkv, "{threads} threads");
    }
}
