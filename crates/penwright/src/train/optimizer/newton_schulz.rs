//! The Newton–Schulz iteration of Muon, which brings a matrix near the orthogonal one next to it.

use std::mem::swap;

use penwright_kernels::{
    Factor, Matrix, Output, chunks, chunks_mut, each, polynomial, product_into, symmetric_product,
};

use super::TASK;

/// The coefficients of the quintic `a x + b x³ + c x⁵`, which brings singular values from (0, 1] near one quickly: after
/// five iterations those from 0.005 up lie between 0.68 and 1.16, after three those from 0.02 up between 0.68 and 1.21.
const QUINTIC: (f32, f32, f32) = (3.4445, -4.7750, 2.0315);
/// From so many times as long as wide the iteration is made on the smaller side alone.
const LONG: usize = 2;

/// A matrix and what the iteration needs: another as large, and four as high and wide as the smaller side.
#[derive(Default)]
pub(super) struct Iteration<E> {
    /// `[rows, cols]`, at first of a Frobenius norm of at most one.
    pub(super) x: Vec<E>,
    next: Vec<E>,
    gram: Vec<f32>,
    square: Vec<f32>,
    factor: Vec<f32>,
    spare: Vec<f32>,
}

impl<E: Factor> Iteration<E> {
    /// Brings the singular values of `x` near one, by `X ← P(X Xᵀ) X` with `P(G) = a + b G + c G²`; with `Xᵀ X` from the
    /// other side where that is smaller.
    pub(super) fn orthogonalize(&mut self, rows: usize, cols: usize, iterations: usize) {
        if rows.max(cols) >= LONG * rows.min(cols) && E::DIGITS == f32::MANTISSA_DIGITS {
            self.on_the_smaller_side(rows, cols, iterations);
        } else {
            self.step_by_step(rows, cols, iterations);
        }
    }

    fn step_by_step(&mut self, rows: usize, cols: usize, iterations: usize) {
        let side = rows.min(cols);
        for _ in 0..iterations {
            self.take_gram(rows, cols);
            self.take_polynomial(side);
            multiply(&self.x, Matrix::new(&self.square, side, side), &mut self.next, rows, cols);
            swap(&mut self.x, &mut self.next);
        }
    }

    /// All steps as one factor of `x`. The Gram matrix of the next `X` is `G P(G)²`, so that `X` itself is multiplied at the
    /// end alone. Every matrix is a polynomial of the first one: they commute, and their products are symmetric. What is
    /// rounded grows by `a²` with each step, which f32 has digits for and bfloat16 has not.
    fn on_the_smaller_side(&mut self, rows: usize, cols: usize, iterations: usize) {
        let side = rows.min(cols);
        self.spare.resize(side * side, 0.0);
        self.take_gram(rows, cols);
        for step in 0..iterations {
            self.take_polynomial(side);
            let square = Matrix::new(&self.square, side, side);
            if step == 0 {
                self.factor.clone_from(&self.square);
            } else {
                symmetric_product::<E, _, _>(&mut self.spare, Matrix::new(&self.factor, side, side), square);
                swap(&mut self.factor, &mut self.spare);
            }
            if step + 1 < iterations {
                symmetric_product::<E, _, _>(&mut self.spare, Matrix::new(&self.gram, side, side), square);
                symmetric_product::<E, _, _>(&mut self.gram, Matrix::new(&self.spare, side, side), square);
            }
        }
        multiply(&self.x, Matrix::new(&self.factor, side, side), &mut self.next, rows, cols);
        swap(&mut self.x, &mut self.next);
    }

    /// `X Xᵀ` or `Xᵀ X`, the smaller one.
    fn take_gram(&mut self, rows: usize, cols: usize) {
        let x = Matrix::new(&self.x, rows, cols);
        let (left, right) = if rows <= cols { (x, x.t()) } else { (x.t(), x) };
        self.gram.resize(rows.min(cols).pow(2), 0.0);
        symmetric_product::<E, _, _>(&mut self.gram, left, right);
    }

    /// `P` of the Gram matrix, as `square`.
    fn take_polynomial(&mut self, side: usize) {
        let (a, b, c) = QUINTIC;
        let gram = Matrix::new(&self.gram, side, side);
        self.square.resize(side * side, 0.0);
        symmetric_product::<E, _, _>(&mut self.square, gram, gram);
        each((chunks_mut(&mut self.square, TASK), chunks(&self.gram, TASK)), |_, (square, gram)| {
            polynomial(gram, square, b, c);
        });
        (0..side).for_each(|i| self.square[i * side + i] += a);
    }
}

/// `x` times a symmetric matrix as high and wide as its smaller side, from there.
fn multiply<E: Factor>(x: &[E], factor: Matrix<'_>, c: &mut Vec<E>, rows: usize, cols: usize) {
    c.resize(rows * cols, E::default());
    let (x, output) = (Matrix::new(x, rows, cols), Output::Rounded { c, bias: None });
    if rows <= cols {
        product_into::<E, _, _>(output, factor, x);
    } else {
        product_into::<E, _, _>(output, x, factor);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MUON_ITERATIONS, tests::noise};
    use super::*;

    /// Noise, its columns shrinking to `least`, of a Frobenius norm of one.
    fn shrinking(rows: usize, cols: usize, least: f32) -> Vec<f32> {
        let mut x: Vec<f32> = noise(rows * cols, 5)
            .into_iter()
            .zip((0..cols).cycle())
            .map(|(x, col)| x * least.powf(col as f32 / cols as f32))
            .collect();
        let norm = x.iter().map(|x| x * x).sum::<f32>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
        x
    }

    #[test]
    fn the_smaller_side_alone_comes_to_the_same() {
        for (rows, cols) in [(1, 9), (64, 16), (33, 130), (256, 128)] {
            for least in [1.0, 1e-4, 1e-8] {
                let x = shrinking(rows, cols, least);
                let mut ways = [0, 1].map(|_| Iteration::<f32> { x: x.clone(), ..Iteration::default() });
                ways[0].orthogonalize(rows, cols, MUON_ITERATIONS);
                ways[1].step_by_step(rows, cols, MUON_ITERATIONS);
                assert!(!ways[0].factor.is_empty() && ways[1].factor.is_empty(), "not two ways");
                let apart = ways[0].x.iter().zip(&ways[1].x).map(|(x, y)| (x - y).powi(2)).sum::<f32>().sqrt();
                let norm = ways[1].x.iter().map(|x| x * x).sum::<f32>().sqrt();
                assert!(apart < 1e-3 * norm, "{rows} × {cols}, {least}: {apart} of {norm}");
            }
        }
    }
}
