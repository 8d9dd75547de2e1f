//! Muon (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>): the momentum of each hidden matrix, brought
//! near the orthogonal matrix next to it by a Newton–Schulz iteration, is the step. Embeddings, the output layer, norms
//! and biases are moved by AdamW.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use penwright_kernels::{Factor, chunks, chunks_mut, descend, each, nesterov, ranges_mut, scaled, sum_squares, team};

use super::newton_schulz::Iteration;
use super::{AdamW, Optimizer, TASK};
use crate::model::{Params, Precision, Tensor};

/// The smallest norm that is divided by.
const EPSILON: f64 = 1e-7;
/// The root mean square of a step at learning rate one, about that of AdamW (Liu et al. 2025, arXiv 2502.16982): so that
/// both share learning rate and weight decay.
const SIZE: f32 = 0.2;
/// Gates of an LSTM, each of which has matrices of its own.
const GATES: usize = 4;
/// A matrix with no more products than this in `X Xᵀ` is one task's, and many are worked on at once.
const SMALL: usize = 1 << 26;

/// Momentum of the hidden matrices, AdamW's moments of the rest.
pub struct Muon<E: Factor> {
    /// Matrices worked on side by side, then those worked on one by one.
    small: Group,
    large: Group,
    /// Of the small matrices, then of the large ones.
    momentum: Vec<f32>,
    rest: AdamW,
    beta: f32,
    /// Learning rate of the hidden matrices, beside that of the rest.
    rate: f32,
    iterations: usize,
    /// Memory of tasks, kept for the next.
    memory: Mutex<Vec<Workspace<E>>>,
}

/// Matrices in the order of the arena.
#[derive(Default)]
struct Group {
    matrices: Vec<Hidden>,
    /// Where they lie in the arena.
    ranges: Vec<Range<usize>>,
    /// Where their momentum lies.
    places: Vec<Range<usize>>,
}

/// A tensor of hidden matrices side by side: `[rows, blocks · cols]`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Hidden {
    rows: usize,
    cols: usize,
    blocks: usize,
}

impl Hidden {
    /// What a tensor holds by its name and shape, so many times one below the other; `None` when it is not a hidden
    /// matrix. A GPT-2's query, key and value lie side by side, an LSTM's gates one below the other.
    fn of(name: &str, shape: &[usize]) -> Option<(usize, Self)> {
        let &[rows, cols] = shape else { return None };
        if name.starts_with("transformer.h.") {
            let blocks = if name.ends_with(".c_attn.weight") { 3 } else { 1 };
            Some((1, Hidden { rows, cols: cols / blocks, blocks }))
        } else if name.starts_with("lstm.weight_") {
            Some((GATES, Hidden { rows: rows / GATES, cols, blocks: 1 }))
        } else {
            None
        }
    }

    /// The hidden matrices of a tensor, and where they lie.
    fn all_of(tensor: &Tensor) -> impl Iterator<Item = (Range<usize>, Self)> + use<> {
        let start = tensor.range.start;
        let found = Self::of(&tensor.name, &tensor.shape);
        found.into_iter().flat_map(move |(below, matrix)| {
            let len = matrix.rows * matrix.cols * matrix.blocks;
            (0..below).map(move |i| (start + i * len..start + (i + 1) * len, matrix))
        })
    }

    fn is_small(&self) -> bool {
        self.rows * self.cols * self.rows.min(self.cols) <= SMALL
    }
}

/// The constants of a step.
#[derive(Clone, Copy)]
struct Step {
    scale: f32,
    beta: f32,
    lr: f32,
    keep: f32,
    iterations: usize,
}

impl<E: Factor> Muon<E> {
    /// Fresh moments for an arena. `beta` is the momentum; hidden matrices move at `rate` times the learning rate, by
    /// steps that so many iterations have brought near orthogonal ones.
    pub fn new(params: &Params, beta: f32, rate: f32, iterations: usize) -> Self {
        let trained = params.tensors.iter().filter(|tensor| !tensor.frozen);
        let mut hidden: Vec<(Range<usize>, Hidden)> = trained.flat_map(Hidden::all_of).collect();
        hidden.sort_by_key(|(range, matrix)| (!matrix.is_small(), range.start));
        let [mut small, mut large] = [Group::default(), Group::default()];
        let mut end = 0;
        for (range, matrix) in hidden {
            let group = if matrix.is_small() { &mut small } else { &mut large };
            group.places.push(end..end + range.len());
            end += range.len();
            group.ranges.push(range);
            group.matrices.push(matrix);
        }
        let rest = AdamW::of(params, |tensor| Hidden::of(&tensor.name, &tensor.shape).is_none());
        Muon { small, large, momentum: vec![0.0; end], rest, beta, rate, iterations, memory: Mutex::default() }
    }

    /// The same with other decay rates of AdamW's moments.
    #[must_use]
    pub fn with_betas(mut self, betas: (f32, f32)) -> Self {
        self.rest.betas = betas;
        self
    }

    /// Calls `f` with memory that no other task has.
    fn with_memory(&self, f: impl FnOnce(&mut Workspace<E>)) {
        let lock = || self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = lock().pop().unwrap_or_default();
        f(&mut memory);
        lock().push(memory);
    }
}

impl<E: Factor> Optimizer for Muon<E> {
    fn update(&mut self, params: &mut [f32], grads: &[f32], scale: f32, lr: f32, decay: f32) {
        let hidden_lr = lr * self.rate;
        let keep = 1.0 - hidden_lr * decay;
        let step = Step { scale, beta: self.beta, lr: hidden_lr, keep, iterations: self.iterations };
        team(|| {
            let mut momentum = std::mem::take(&mut self.momentum);
            let Group { matrices, ranges, places } = &self.small;
            each((ranges_mut(params, ranges), ranges_mut(&mut momentum, places)), |i, (p, m)| {
                self.with_memory(|memory| memory.update(matrices[i], p, &grads[ranges[i].clone()], m, step));
            });
            let Group { matrices, ranges, places } = &self.large;
            for (matrix, (range, place)) in matrices.iter().zip(ranges.iter().zip(places)) {
                let (p, m) = (&mut params[range.clone()], &mut momentum[place.clone()]);
                self.with_memory(|memory| memory.update(*matrix, p, &grads[range.clone()], m, step));
            }
            self.momentum = momentum;
            self.rest.update(params, grads, scale, lr, decay);
        });
    }

    fn state(&self) -> Vec<(&'static str, &[f32])> {
        let mut state = Optimizer::state(&self.rest);
        state.push(("momentum", &self.momentum));
        state
    }

    fn restore(&mut self, state: &mut dyn FnMut(&'static str) -> Vec<f32>, step: u64) -> bool {
        let momentum = state("momentum");
        let fits = momentum.len() == self.momentum.len() && self.rest.restore(state, step);
        if fits {
            self.momentum = momentum;
        }
        fits
    }
}

/// What a task needs: the direction `[rows, blocks · cols]`, and a matrix `[rows, cols]` of it that is worked on.
#[derive(Default)]
struct Workspace<E> {
    direction: Vec<f32>,
    matrix: Iteration<E>,
    sums: Vec<f64>,
}

impl<E: Factor> Workspace<E> {
    /// Momentum, then of each matrix of the tensor its orthogonal direction and the step.
    fn update(&mut self, shape: Hidden, p: &mut [f32], g: &[f32], m: &mut [f32], step: Step) {
        let Hidden { rows, cols, blocks } = shape;
        let (width, high) = (blocks * cols, TASK.div_ceil(blocks * cols));
        self.direction.resize(rows * width, 0.0);
        let parts = (chunks(g, TASK), chunks_mut(m, TASK), chunks_mut(&mut self.direction, TASK));
        each(parts, |_, (g, m, u)| nesterov(g, m, u, step.scale, step.beta));
        let rate = step.lr * SIZE * (rows.max(cols) as f32).sqrt();
        for block in 0..blocks {
            self.load(shape, block);
            self.matrix.orthogonalize(rows, cols, step.iterations);
            each((chunks_mut(p, high * width), chunks(&self.matrix.x, high * cols)), |_, (p, x)| {
                for (p, x) in p.chunks_exact_mut(width).zip(x.chunks_exact(cols)) {
                    descend(&mut p[block * cols..][..cols], x, rate, step.keep);
                }
            });
        }
    }

    /// One of the matrices side by side as `x`, divided by its Frobenius norm.
    fn load(&mut self, Hidden { rows, cols, blocks }: Hidden, block: usize) {
        let (width, high) = (blocks * cols, TASK.div_ceil(blocks * cols));
        let of_row = |row: &[f32]| -> Range<usize> { block * cols..(block * cols + cols).min(row.len()) };
        self.sums.resize(rows.div_ceil(high), 0.0);
        each((chunks_mut(&mut self.sums, 1), chunks(&self.direction, high * width)), |_, (sum, u)| {
            sum[0] = u.chunks_exact(width).map(|row| sum_squares(&row[of_row(row)])).sum();
        });
        let scale = 1.0 / self.sums.iter().sum::<f64>().sqrt().max(EPSILON);
        self.matrix.x.resize(rows * cols, E::default());
        each((chunks_mut(&mut self.matrix.x, high * cols), chunks(&self.direction, high * width)), |_, (x, u)| {
            for (x, row) in x.chunks_exact_mut(cols).zip(u.chunks_exact(width)) {
                scaled(&row[of_row(row)], x, scale as f32);
            }
        });
    }
}

/// Bytes of what Muon keeps of `trained` numbers: momentum of the hidden ones of these matrices, AdamW's two moments of
/// the rest, and what the tasks need.
pub(in crate::train) fn memory(matrices: &[(String, Vec<usize>)], trained: u64, precision: Precision) -> u64 {
    let element = match precision {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    };
    let (mut hidden, mut most) = (0, 0);
    for (name, shape) in matrices {
        if let Some((below, Hidden { rows, cols, blocks })) = Hidden::of(name, shape) {
            let values = rows * cols * blocks;
            hidden += below * values;
            most = most.max(4 * values + 2 * element * rows * cols + 16 * rows.min(cols).pow(2));
        }
    }
    let (hidden, most) = (hidden as u64, most as u64);
    4 * hidden + 8 * trained.saturating_sub(hidden) + most * rayon::current_num_threads() as u64
}

#[cfg(test)]
mod tests {
    use penwright_kernels::Bf16;

    use super::super::{MUON_ITERATIONS, tests::noise};
    use super::*;
    use crate::model::{Frozen, Gpt2, Gpt2Config, Lstm, LstmConfig, Trainable};

    /// The singular values of a matrix of `rows` rows, by Jacobi's rotations of its shorter side in double precision.
    fn singular_values(x: &[f32], rows: usize) -> Vec<f64> {
        let cols = x.len() / rows;
        let mut vectors: Vec<Vec<f64>> = if rows <= cols {
            x.chunks(cols).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
        } else {
            (0..cols).map(|c| (0..rows).map(|r| f64::from(x[r * cols + c])).collect()).collect()
        };
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        for _ in 0..30 {
            for j in 1..vectors.len() {
                for i in 0..j {
                    let (head, tail) = vectors.split_at_mut(j);
                    let (u, v) = (&mut head[i], &mut tail[0]);
                    let (a, b, c) = (dot(u, u), dot(v, v), dot(u, v));
                    if c.abs() > 1e-15 * (a * b).sqrt() {
                        let zeta = (b - a) / (2.0 * c);
                        let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                        let cos = 1.0 / (1.0 + t * t).sqrt();
                        for (u, v) in u.iter_mut().zip(v) {
                            (*u, *v) = (cos * (*u - t * *v), cos * (t * *u + *v));
                        }
                    }
                }
            }
        }
        vectors.iter().map(|v| dot(v, v).sqrt()).collect()
    }

    /// The direction of a matrix by the iteration, as f32.
    fn direction<E: Factor>(x: &[f32], rows: usize) -> Vec<f32> {
        let shape = Hidden { rows, cols: x.len() / rows, blocks: 1 };
        let mut memory = Workspace::<E> { direction: x.to_vec(), ..Workspace::default() };
        memory.load(shape, 0);
        memory.matrix.orthogonalize(rows, shape.cols, MUON_ITERATIONS);
        memory.matrix.x.iter().map(|x| x.get()).collect()
    }

    #[test]
    fn singular_values_become_nearly_one_and_their_vectors_stay() {
        for (rows, cols) in [(1, 1), (1, 9), (7, 1), (16, 48), (48, 16), (33, 65), (70, 37), (40, 40)] {
            let x = noise(rows * cols, 3);
            let sizes = singular_values(&x, rows);
            let norm = sizes.iter().map(|s| s * s).sum::<f64>().sqrt();
            let least = sizes.iter().fold(1.0, |least: f64, s| least.min(s / norm));
            for (ours, most) in [(direction::<f32>(&x, rows), 1e-4), (direction::<Bf16>(&x, rows), 0.06)] {
                let after = singular_values(&ours, rows);
                // The iteration's own bounds, for singular values that are not too small to have come up.
                let floor = if least > 0.01 { 0.65 } else { 0.0 };
                assert!(after.iter().all(|s| (floor..1.25).contains(s)), "{rows} × {cols}: {sizes:?} → {after:?}");
                // X and its direction O have the same singular vectors just when X Oᵀ is symmetric.
                let product = |i: usize, j: usize| -> f64 {
                    let pairs = x[i * cols..][..cols].iter().zip(&ours[j * cols..][..cols]);
                    pairs.map(|(x, o)| f64::from(*x) * f64::from(*o)).sum()
                };
                for i in 0..rows {
                    for j in 0..i {
                        assert!((product(i, j) - product(j, i)).abs() < most * norm, "{rows} × {cols}: {i}, {j}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(direction::<f32>(&[0.0; 24], 4), [0.0; 24]);
    }

    fn moved<E: Factor>(params: &Params, threads: usize) -> (Vec<u32>, Vec<Vec<f32>>) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut optimizer = Muon::<E>::new(params, 0.95, 1.0, MUON_ITERATIONS);
            let mut values = params.data.to_vec();
            for step in 0..2 {
                optimizer.update(&mut values, &noise(params.data.len(), 20 + step), 1.0, 1e-2, 0.1);
            }
            let state = optimizer.state().into_iter().map(|(_, values)| values.to_vec());
            (values.iter().map(|x| x.to_bits()).collect(), state.collect())
        })
    }

    #[test]
    fn the_same_bits_for_any_number_of_threads() {
        let mut params = Params::default();
        params.add("transformer.h.0.mlp.c_fc.weight", &[30, 50]);
        params.add("transformer.h.0.mlp.c_proj.weight", &[520, 510]); // large enough to be split
        params.add("transformer.h.1.attn.c_attn.weight", &[40, 120]);
        params.add("transformer.h.1.attn.c_attn.bias", &[120]);
        let values = noise(params.data.len(), 1);
        params.data.copy_from_slice(&values);
        let small = |i: usize| Hidden::all_of(&params.tensors[i]).all(|(_, matrix)| matrix.is_small());
        assert!(small(0) && !small(1) && small(2));
        for threads in [2, 3] {
            assert!(moved::<f32>(&params, 1) == moved::<f32>(&params, threads), "f32, {threads} threads");
            assert!(moved::<Bf16>(&params, 1) == moved::<Bf16>(&params, threads), "bf16, {threads} threads");
        }
    }

    #[test]
    fn hidden_matrices_are_found_and_frozen_ones_left_alone() {
        let shape = Gpt2Config { vocab: 20, context: 8, layers: 2, heads: 2, width: 16, ..Gpt2Config::default() };
        let mut gpt2 = Gpt2::new(shape, 1).unwrap();
        gpt2.freeze(Frozen { layers: 1, embeddings: true }).unwrap();
        let lstm =
            Lstm::new(LstmConfig { vocab: 20, embed: 8, hidden: 12, layers: 2, ..LstmConfig::default() }, 1).unwrap();
        for (params, hidden) in [(gpt2.params(), 12 * 16 * 16), (lstm.params(), 4 * 12 * (8 + 3 * 12))] {
            let optimizer = Muon::<f32>::new(params, 0.95, 1.0, MUON_ITERATIONS);
            let rest = params.count_trained() as usize - hidden;
            let sizes: Vec<_> = optimizer.state().iter().map(|(name, values)| (*name, values.len())).collect();
            assert_eq!(sizes, [("first", rest), ("second", rest), ("momentum", hidden)]);
            let (after, _) = moved::<f32>(params, 1);
            for tensor in &params.tensors {
                let bits = |x: &f32| x.to_bits();
                let same =
                    params.data[tensor.range.clone()].iter().map(bits).eq(after[tensor.range.clone()].iter().copied());
                assert_eq!(same, tensor.frozen, "{}", tensor.name);
            }
        }
    }
}
