//! f32 matrix products through the crate `gemm`, behind a checked face.

use std::ops::Range;

use rayon::prelude::*;

/// A read-only matrix: `rows × cols` elements of a slice, by strides counted in elements.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix. Panics when the slice is shorter than `rows · cols`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows begin `row_stride` elements apart. Panics when the slice is too short.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= data.len(), "matrix exceeds its slice");
        Matrix { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Matrix { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// The unit of rows or columns in which the output is split into tasks: by its shape alone, so that no result can
/// depend on the number of threads.
const BLOCK: usize = 64;

/// `c = a · b`, or `c += a · b` when `accumulate`; `c` is row-major `[a.rows, b.cols]`.
///
/// The output is split into blocks along its longer side by its shape alone; each block is one task.
/// Panics when the shapes do not fit.
pub fn matmul(c: &mut [f32], accumulate: bool, a: Matrix<'_>, b: Matrix<'_>) {
    let (m, n) = (a.rows, b.cols);
    assert_eq!(a.cols, b.rows, "inner sizes differ");
    assert!(c.len() >= m * n, "output is too short");
    if m == 0 || n == 0 {
        return;
    }
    // A small product costs less than waking a thread.
    if m * n * a.cols < 1 << 17 || m.max(n) <= BLOCK {
        return block(Output(c.as_mut_ptr()), n, 0..m, 0..n, accumulate, a, b);
    }
    // At most 32 tasks, so that packing the shared operand once a task stays cheap.
    let side = m.max(n).div_ceil(32).next_multiple_of(BLOCK);
    let output = Output(c.as_mut_ptr());
    let range = |i: usize, len: usize| i * side..((i + 1) * side).min(len);
    if m >= n {
        (0..m.div_ceil(side)).into_par_iter().for_each(|i| block(output, n, range(i, m), 0..n, accumulate, a, b));
    } else {
        (0..n.div_ceil(side)).into_par_iter().for_each(|i| block(output, n, 0..m, range(i, n), accumulate, a, b));
    }
}

/// The output's first element, to be shared by tasks that write different blocks of it.
#[derive(Clone, Copy)]
struct Output(*mut f32);

// SAFETY: the pointer comes from the exclusive borrow in `matmul`, which outlives all tasks, and tasks write
// disjoint blocks.
unsafe impl Send for Output {}
// SAFETY: as for `Send`.
unsafe impl Sync for Output {}

/// The block `rows × cols` of the product, on this thread.
fn block(
    c: Output,
    stride: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    let (row, col) = (rows.start, cols.start);
    // SAFETY: `Matrix` guarantees that every (row, column) of `a` and `b` lies inside its slice; `matmul` asserted
    // that every element of `c` does, and gives each task a block of its own within the matrix. The output is
    // borrowed exclusively by `matmul`, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            rows.len(),
            cols.len(),
            a.cols,
            c.0.add(row * stride + col),
            1,
            stride as isize,
            accumulate,
            a.data.as_ptr().wrapping_add(row * a.row_stride),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr().wrapping_add(col * b.col_stride),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(len: usize, seed: u32) -> Vec<f32> {
        (0..len as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    proptest! {
        #[test]
        fn equals_three_loops(m in 1usize..150, n in 1usize..150, k in 1usize..60, ta: bool, tb: bool, add: bool) {
            let (a, b) = (fill(m * k, 1), fill(k * n, 2));
            let mut c = fill(m * n, 3);
            let mut expected = c.clone();
            for i in 0..m { for j in 0..n {
                let dot: f32 = (0..k).map(|l| {
                    let x = if ta { a[l * m + i] } else { a[i * k + l] };
                    let y = if tb { b[j * k + l] } else { b[l * n + j] };
                    x * y
                }).sum();
                expected[i * n + j] = dot + if add { expected[i * n + j] } else { 0.0 };
            }}
            let a = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
            let b = if tb { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
            matmul(&mut c, add, a, b);
            for (x, y) in c.iter().zip(&expected) { prop_assert!((x - y).abs() < 1e-4); }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        for (m, n, k) in [(300, 517, 700), (96, 30, 32), (30, 96, 300), (65, 65, 40), (2000, 3, 64)] {
            thread_independent(m, n, k);
        }
    }

    fn thread_independent(m: usize, n: usize, k: usize) {
        let (a, b) = (fill(m * k, 1), fill(k * n, 2));
        let product = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut c = vec![0.0; m * n];
            pool.install(|| matmul(&mut c, false, Matrix::new(&a, m, k), Matrix::new(&b, k, n)));
            c
        };
        let one = product(1);
        for threads in [2, 3, 4] {
            assert_eq!(one, product(threads), "{threads} threads");
        }
    }
}
