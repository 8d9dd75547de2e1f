//! What goes into a product and what it is added to.

use crate::bf16::Element;

/// A read-only matrix: `rows × cols` elements of a slice, by strides counted in elements.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, E = f32> {
    pub(crate) data: &'a [E],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a, E: Element> Matrix<'a, E> {
    /// A row-major matrix. Panics when the slice is shorter than `rows · cols`.
    pub fn new(data: &'a [E], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows begin `row_stride` elements apart. Panics when the slice is too short.
    pub fn strided(data: &'a [E], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= data.len(), "matrix exceeds its slice");
        Matrix { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Matrix { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// The same matrix if its numbers are of the kind T.
    pub(super) fn as_element<T: Element>(self) -> Option<Matrix<'a, T>> {
        let Matrix { rows, cols, row_stride, col_stride, .. } = self;
        let same = std::any::TypeId::of::<E>() == std::any::TypeId::of::<T>();
        same.then(|| Matrix { data: bytemuck::cast_slice(self.data), rows, cols, row_stride, col_stride })
    }

    /// Columns `first .. first + cols`. Panics when there are not so many.
    pub fn columns(self, first: usize, cols: usize) -> Self {
        assert!(first + cols <= self.cols, "no such columns");
        let data = if self.rows == 0 || cols == 0 { &[] } else { &self.data[first * self.col_stride..] };
        Matrix { data, cols, ..self }
    }

    /// One row, which must be contiguous. Panics when there is no such row.
    #[inline(always)]
    pub(crate) fn row(self, row: usize) -> &'a [E] {
        assert!(row < self.rows && self.col_stride == 1, "no such row");
        &self.data[row * self.row_stride..][..self.cols]
    }

    /// Rows `first .. first + rows`. Panics when there are not so many.
    pub fn rows(self, first: usize, rows: usize) -> Self {
        self.t().columns(first, rows).t()
    }
}

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Init<'a> {
    /// Nothing: the output is overwritten.
    Zero,
    /// What the output holds.
    Add,
    /// The same row in each row of the output.
    Bias(&'a [f32]),
}
