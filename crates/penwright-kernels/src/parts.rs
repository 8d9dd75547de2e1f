//! Slices cut into the parts that parallel tasks own: the safe face of writing to one buffer from many threads.

use std::marker::PhantomData;

use crate::team::run;

/// Something that can be cut into parts for tasks to own.
///
/// # Safety
/// Parts of different indices below [`Parts::count`] must not overlap when they can be written.
pub unsafe trait Parts: Sync {
    /// What one task gets.
    type Part;

    /// Number of parts.
    fn count(&self) -> usize;

    /// Part `i`.
    ///
    /// # Safety
    /// `i` is below `count`, and no other part of that index is alive.
    unsafe fn part(&self, i: usize) -> Self::Part;
}

/// Calls `f(i, part i)` for every part, on all threads ([`run`]). Several buffers are cut at once as a tuple;
/// the shortest decides how many parts there are.
pub fn each<P: Parts>(parts: P, f: impl Fn(usize, P::Part) + Sync) {
    run(parts.count(), |i| {
        // SAFETY: `run` calls every index below `count` once.
        f(i, unsafe { parts.part(i) })
    });
}

/// See [`chunks`].
pub struct Chunks<'a, T>(&'a [T], usize);

/// Pieces of `len` elements, the last one maybe shorter, to read.
pub fn chunks<T: Sync>(slice: &[T], len: usize) -> Chunks<'_, T> {
    Chunks(slice, len.max(1))
}

// SAFETY: parts are only read.
unsafe impl<'a, T: Sync> Parts for Chunks<'a, T> {
    type Part = &'a [T];

    fn count(&self) -> usize {
        self.0.len().div_ceil(self.1)
    }

    unsafe fn part(&self, i: usize) -> &'a [T] {
        &self.0[i * self.1..((i + 1) * self.1).min(self.0.len())]
    }
}

/// See [`chunks_mut`].
pub struct ChunksMut<'a, T> {
    data: *mut T,
    len: usize,
    chunk: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it is an exclusive borrow of a slice whose elements may go to other threads, handed out in disjoint parts.
unsafe impl<T: Send> Sync for ChunksMut<'_, T> {}

/// Pieces of `len` elements, the last one maybe shorter, to write.
pub fn chunks_mut<T: Send>(slice: &mut [T], len: usize) -> ChunksMut<'_, T> {
    ChunksMut { data: slice.as_mut_ptr(), len: slice.len(), chunk: len.max(1), borrow: PhantomData }
}

// SAFETY: part i is elements i · chunk .. (i + 1) · chunk.
unsafe impl<'a, T: Send> Parts for ChunksMut<'a, T> {
    type Part = &'a mut [T];

    fn count(&self) -> usize {
        self.len.div_ceil(self.chunk)
    }

    unsafe fn part(&self, i: usize) -> &'a mut [T] {
        let start = (i * self.chunk).min(self.len);
        // SAFETY: the range lies in the slice borrowed for 'a, and no other part shares it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), self.chunk.min(self.len - start)) }
    }
}

/// See [`blocks_mut`].
pub struct BlocksMut<'a, E = f32> {
    data: *mut E,
    cut: Cut,
    borrow: PhantomData<&'a mut [E]>,
}

/// How a row-major matrix is cut into blocks.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub cols: usize,
    /// Rows of a block.
    pub block_rows: usize,
    /// Equal groups of columns (the gates of an LSTM; query, key and value): a block has columns of each.
    pub groups: usize,
    /// Columns of a block in each group.
    pub block_cols: usize,
}

impl Cut {
    /// Blocks side by side.
    fn across(&self) -> usize {
        (self.cols / self.groups).div_ceil(self.block_cols)
    }
}

/// Blocks of a row-major matrix, row of blocks by row of blocks; those at the edges may be smaller.
/// Panics when the slice is shorter than the matrix or the groups are not equal.
pub fn blocks_mut<E: Send>(data: &mut [E], cut: Cut) -> BlocksMut<'_, E> {
    assert!(cut.block_rows > 0 && cut.block_cols > 0 && cut.groups > 0 && cut.cols.is_multiple_of(cut.groups));
    assert!(cut.rows * cut.cols <= data.len(), "matrix exceeds its slice");
    BlocksMut { data: data.as_mut_ptr(), cut, borrow: PhantomData }
}

// SAFETY: as for `ChunksMut`.
unsafe impl<E: Send> Sync for BlocksMut<'_, E> {}

// SAFETY: block i is its own rows and columns (`Cut`), inside the matrix that `blocks_mut` checked.
unsafe impl<'a, E: Send> Parts for BlocksMut<'a, E> {
    type Part = BlockMut<'a, E>;

    fn count(&self) -> usize {
        self.cut.rows.div_ceil(self.cut.block_rows) * self.cut.across()
    }

    unsafe fn part(&self, i: usize) -> BlockMut<'a, E> {
        let cut = &self.cut;
        let group = cut.cols / cut.groups;
        let (row, col) = (i / cut.across() * cut.block_rows, i % cut.across() * cut.block_cols);
        BlockMut {
            data: self.data.wrapping_add(row * cut.cols + col),
            rows: cut.block_rows.min(cut.rows - row),
            width: cut.block_cols.min(group - col),
            stride: cut.cols,
            group,
            groups: cut.groups,
            borrow: PhantomData,
        }
    }
}

/// A block of a row-major matrix, owned by one task: `rows × width` elements in each of `groups` groups of columns.
pub struct BlockMut<'a, E = f32> {
    pub(crate) data: *mut E,
    rows: usize,
    width: usize,
    pub(crate) stride: usize,
    group: usize,
    groups: usize,
    borrow: PhantomData<&'a mut [E]>,
}

impl<E> BlockMut<'_, E> {
    /// A whole row-major matrix as one block.
    pub fn whole(data: &mut [E], rows: usize, cols: usize) -> BlockMut<'_, E> {
        assert!(rows * cols <= data.len(), "matrix exceeds its slice");
        let data = data.as_mut_ptr();
        BlockMut { data, rows, width: cols, stride: cols, group: cols, groups: 1, borrow: PhantomData }
    }

    /// A block of one group by its parts.
    ///
    /// # Safety
    /// The rows, `stride` elements apart, lie in memory that is the caller's alone (or nobody's to write) for as long
    /// as the block lives.
    #[inline(always)]
    pub(crate) unsafe fn raw<'a>(data: *mut E, rows: usize, width: usize, stride: usize) -> BlockMut<'a, E> {
        BlockMut { data, rows, width, stride, group: width, groups: 1, borrow: PhantomData }
    }

    /// The same with `groups` equal groups of columns. Panics when they are not equal.
    pub fn grouped(data: &mut [E], rows: usize, cols: usize, groups: usize) -> BlockMut<'_, E> {
        assert!(groups > 0 && cols.is_multiple_of(groups), "groups are not equal");
        let block = BlockMut::whole(data, rows, cols);
        BlockMut { width: cols / groups, group: cols / groups, groups, ..block }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns in each group.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One group of columns as a block of its own.
    pub fn group(&mut self, group: usize) -> BlockMut<'_, E> {
        assert!(group < self.groups);
        BlockMut { data: self.data.wrapping_add(group * self.group), groups: 1, ..*self }
    }

    /// Rows `first .. first + rows` as a block of their own. Panics when there are not so many.
    pub fn rows_mut(&mut self, first: usize, rows: usize) -> BlockMut<'_, E> {
        assert!(first + rows <= self.rows, "no such rows");
        BlockMut { data: self.data.wrapping_add(first * self.stride), rows, ..*self }
    }

    /// The columns of one row, in every one of `G` groups. Panics when there are not so many rows or groups.
    #[inline(always)]
    pub fn row<const G: usize>(&mut self, row: usize) -> [&mut [E]; G] {
        assert!(row < self.rows && G <= self.groups && self.width <= self.group);
        let mut group = 0;
        [(); G].map(|()| {
            // SAFETY: row and group were checked against the block; groups lie `group ≥ width` elements apart, so
            // that the slices do not overlap; they borrow the block exclusively.
            let slice = unsafe {
                std::slice::from_raw_parts_mut(self.data.add(row * self.stride + group * self.group), self.width)
            };
            group += 1;
            slice
        })
    }
}

macro_rules! tuple_of_parts {
    ($($name:ident $index:tt),+) => {
        // SAFETY: each member keeps the promise for its own part.
        unsafe impl<$($name: Parts),+> Parts for ($($name,)+) {
            type Part = ($($name::Part,)+);

            fn count(&self) -> usize {
                usize::MAX$(.min(self.$index.count()))+
            }

            unsafe fn part(&self, i: usize) -> Self::Part {
                // SAFETY: passed on; `i` is below the smallest count.
                unsafe { ($(self.$index.part(i),)+) }
            }
        }
    };
}
tuple_of_parts!(A 0, B 1);
tuple_of_parts!(A 0, B 1, C 2);
tuple_of_parts!(A 0, B 1, C 2, D 3);
tuple_of_parts!(A 0, B 1, C 2, D 3, E 4);
tuple_of_parts!(A 0, B 1, C 2, D 3, E 4, F 5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_matrix_once() {
        for (rows, cols, block_rows, groups, block_cols) in [(5, 12, 2, 3, 3), (1, 7, 4, 1, 2), (6, 8, 3, 2, 9)] {
            let mut data = vec![0.0; rows * cols];
            let cut = Cut { rows, cols, block_rows, groups, block_cols };
            each(blocks_mut(&mut data, cut), |i, mut block| {
                for row in 0..block.rows() {
                    for group in 0..groups {
                        let mut group = block.group(group);
                        let [part] = group.row(row);
                        part.iter_mut().for_each(|x| *x += 1.0 + i as f32);
                    }
                }
            });
            for (at, x) in data.iter().enumerate() {
                let (row, col) = (at / cols, at % cols % (cols / groups));
                let across = (cols / groups).div_ceil(block_cols);
                assert_eq!(*x, 1.0 + (row / block_rows * across + col / block_cols) as f32);
            }
        }
    }
}
