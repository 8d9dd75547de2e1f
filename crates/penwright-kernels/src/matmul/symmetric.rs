//! Products that are symmetric, of which half is enough.

use super::{Extent, Factor, Init, Matrix, Output, Packable, product_of_extent};
use crate::team::run;

/// Rows and columns of a square that is mirrored at once.
const SQUARE: usize = 32;

/// `c = a · b` on all threads where that is known to be symmetric (`X Xᵀ`, or the square of such a matrix): what lies
/// on and below the diagonal is multiplied and mirrored. `c` is row-major `[a.rows, a.rows]`.
/// Panics when the shapes do not fit.
pub fn symmetric_product<E: Factor, A: Packable, B: Packable>(c: &mut [f32], a: Matrix<'_, A>, b: Matrix<'_, B>) {
    let side = a.rows;
    assert_eq!(side, b.cols, "the product is not square");
    product_of_extent::<E, _, _>(Output::Sums { c, init: Init::Zero }, a, b, Extent::Lower);
    mirror(&mut c[..side * side], side);
}

/// A pointer that tasks share.
struct Shared(*mut f32);

// SAFETY: it is used in disjoint places only, see `mirror`.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(&self, i: usize) -> *mut f32 {
        self.0.wrapping_add(i)
    }
}

/// Copies what lies below the diagonal of a matrix `[side, side]` to what lies above it.
fn mirror(c: &mut [f32], side: usize) {
    assert_eq!(c.len(), side * side, "not a square");
    let c = Shared(c.as_mut_ptr());
    run(side.div_ceil(SQUARE), |task| {
        let top = task * SQUARE;
        let height = SQUARE.min(side - top);
        for left in (top..side).step_by(SQUARE) {
            for row in left..side.min(left + SQUARE) {
                for col in top..(top + height).min(row) {
                    // SAFETY: both lie in the matrix. A task writes above the diagonal of its own rows only; nobody
                    // writes below it, where all read.
                    unsafe { *c.at(col * side + row) = *c.at(row * side + col) }
                }
            }
        }
    });
}
