//! Causal attention of one text and head, forward and backward, as one task whose strips stay in the caches.
//!
//! Scores are computed transposed: `Sᵀ = K Qᵀ`, keys down, the queries of a panel across. Softmax is then arithmetic
//! on whole vectors of queries, without sums across a vector; `Pᵀ` and `dSᵀ`, written row by row, are left factors
//! of `dV = Pᵀ dO` and `dK = dSᵀ Q` as they lie; and with the groups of keys side by side (one f32, a pair of
//! bfloat16), which costs nothing when they are written, left factors of `P V` and `dQ = dS K` too. Products,
//! probabilities and gradients of scores are in the kind of number of the inputs, all else is f32.
//!
//! Nothing of size T × T is kept: the backward computes the probabilities again from the logarithms of the softmax's
//! sums, as FlashAttention does (Dao et al. 2022), block of keys by block of keys.

mod backward;
mod forward;
mod layout;
mod mask;
mod passes;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::cell::RefCell;

use crate::isa::Isa;
use crate::matmul::{Aligned, Factor, Matrix, Packable};
use crate::tile::{MR, Start, Tile, tile_rows};
use layout::{lay_out, lay_panels, lay_transposed};
pub use mask::Mask;

/// The queries, keys and values of one head of one text, `[T, D]` each.
#[derive(Clone, Copy, Debug)]
pub struct CausalHead<'a, E: Factor> {
    /// Queries.
    pub queries: Matrix<'a, E>,
    /// Keys.
    pub keys: Matrix<'a, E>,
    /// Values.
    pub values: Matrix<'a, E>,
    /// The factor of the scores, greater than zero.
    pub scale: f32,
    /// Dropout of the probabilities.
    pub dropout: Option<Mask>,
}

/// A task's working memory, kept by its thread.
#[derive(Default)]
struct Work {
    keys: Aligned,
    values: Aligned,
    keys_packed: Aligned,
    values_packed: Aligned,
    queries_t: Aligned,
    queries_packed: Aligned,
    douts_t: Aligned,
    douts_packed: Aligned,
    scores: Aligned,
    dscores: Aligned,
    kept: Aligned,
    weights: Aligned,
    ds: Aligned,
    grouped: Aligned,
    sums: Aligned,
    columns: Aligned,
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

impl<E: Factor> CausalHead<'_, E> {
    /// T and D. Panics when the shapes differ or the rows are not contiguous.
    fn shape(&self) -> (usize, usize) {
        let shape = (self.queries.rows, self.queries.cols);
        for matrix in [self.queries, self.keys, self.values] {
            assert!((matrix.rows, matrix.cols) == shape && matrix.col_stride == 1, "shapes differ");
        }
        shape
    }
}

/// The left factor of a product: its first element, and elements between rows and between groups.
#[derive(Clone, Copy)]
struct Left<'a, E> {
    data: &'a [E],
    row: usize,
    group: usize,
}

/// `c (+)= a · b`: some rows of a by one panel, of `groups` groups of the inner dimension; `c_row` elements between
/// the rows of c. Panics when something reaches out of its slice.
#[inline]
fn multiply<E: Packable>(
    isa: Isa,
    (c, c_row): (&mut [f32], usize),
    start: Start,
    rows: usize,
    a: Left<'_, E>,
    b: &[E],
    groups: usize,
) {
    let width = crate::tile::panel(isa);
    if rows == 0 {
        return;
    }
    assert!(rows <= tile_rows(isa).min(MR) && (rows - 1) * c_row + width <= c.len(), "tile exceeds its sums");
    assert!(groups * width * E::GROUP <= b.len(), "tile exceeds its panel");
    assert!(
        groups == 0 || (rows - 1) * a.row + (groups - 1) * a.group + E::GROUP <= a.data.len(),
        "tile exceeds its rows"
    );
    let tile = Tile {
        k: groups,
        a: a.data.as_ptr(),
        a_row: a.row,
        a_group: a.group,
        b: b.as_ptr(),
        c: c.as_mut_ptr(),
        c_row,
        cols: width,
        start,
    };
    // SAFETY: the operands lie in their slices, as just checked; c is borrowed exclusively; `isa` came from `isa()`.
    unsafe { E::multiply_tile(isa, rows, &tile) }
}

/// The tiles into which `rows` rows are cut, `(first, number)`: of about equal height.
fn tiles(isa: Isa, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let step = rows.div_ceil(rows.div_ceil(tile_rows(isa)).max(1)).max(1);
    (0..rows).step_by(step).map(move |first| (first, step.min(rows - first)))
}

#[cfg(test)]
mod tests;
