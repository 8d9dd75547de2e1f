//! The register-blocked inner loop of the matrix products, for each instruction set and kind of number.
//!
//! A tile of C is `rows ≤ MR` by one panel of columns. B comes packed: for each group of k (one f32, a pair of
//! bfloat16) the panel's columns lie side by side. A is read one group at a time, from anywhere, and spread over a
//! vector.

mod vectors;

use crate::bf16::Element;
use crate::isa::Isa;
use vectors::{Plain, PlainPairs, Vector};

/// What the accumulators are added to.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// Nothing: C is overwritten.
    Zero,
    /// C.
    Add,
    /// A row of as many values as the panel has columns.
    Bias(*const f32),
}

/// Most rows of a tile.
pub(crate) const MR: usize = 12;
/// Most columns of a panel.
pub(crate) const MAX_PANEL: usize = 32;

/// Columns of a panel.
pub(crate) fn panel(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 => 32,
        Isa::Avx2 | Isa::Plain => 16,
    }
}

/// Most rows of a tile.
pub(crate) fn tile_rows(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 => 12,
        Isa::Avx2 => 6,
        Isa::Plain => 4,
    }
}

/// Where a tile's operands lie.
#[derive(Clone, Copy)]
pub struct Tile<E> {
    /// Inner size, in groups.
    pub(crate) k: usize,
    /// A's first element; elements between its rows, and between its groups.
    pub(crate) a: *const E,
    pub(crate) a_row: usize,
    pub(crate) a_group: usize,
    /// The packed panel.
    pub(crate) b: *const E,
    /// C's first element, elements between its rows, and how many of the panel's columns it has.
    pub(crate) c: *mut f32,
    pub(crate) c_row: usize,
    pub(crate) cols: usize,
    pub(crate) start: Start,
}

/// `R` rows by `N` vectors; the inner dimension is summed in `S` interleaved parts, so that a tile of few rows has
/// enough sums under way at once.
///
/// # Safety
/// The operands lie in memory as `tile` says; C is this thread's alone.
#[inline(always)]
unsafe fn multiply<V: Vector, const R: usize, const N: usize, const S: usize>(tile: &Tile<V::Element>) {
    let step = V::LANES * V::Element::GROUP;
    let mut sums = [[[V::zero(); N]; R]; S];
    let (mut a, mut b) = (tile.a, tile.b);
    // SAFETY: a and b step through k groups of A's columns and of the panel's rows; `finish` as promised.
    unsafe {
        for _ in 0..tile.k / S {
            for part in &mut sums {
                let columns: [V::Factor; N] = std::array::from_fn(|j| V::groups(b.add(j * step)));
                for (i, row) in part.iter_mut().enumerate() {
                    let x = V::spread(a.add(i * tile.a_row));
                    for (sum, column) in row.iter_mut().zip(columns) {
                        *sum = sum.fma(x, column);
                    }
                }
                a = a.wrapping_add(tile.a_group);
                b = b.wrapping_add(N * step);
            }
        }
        for _ in 0..tile.k % S {
            for (i, row) in sums[0].iter_mut().enumerate() {
                let x = V::spread(a.add(i * tile.a_row));
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = sum.fma(x, V::groups(b.add(j * step)));
                }
            }
            a = a.wrapping_add(tile.a_group);
            b = b.wrapping_add(N * step);
        }
        let mut total = sums[0];
        for part in &sums[1..] {
            for i in 0..R {
                for j in 0..N {
                    total[i][j] = total[i][j].add(part[i][j]);
                }
            }
        }
        finish(&total, tile);
    }
}

/// Adds what C begins with and writes the tile. Whole tiles are written from the registers that the sums are in: each way
/// to begin has loops of its own, without a choice in them that would have the sums go by way of memory.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn finish<V: Vector, const R: usize, const N: usize>(total: &[[V; N]; R], tile: &Tile<V::Element>) {
    if tile.cols != N * V::LANES {
        // A copy, so that only here the sums may have to lie in memory.
        // SAFETY: promised by the caller.
        return unsafe { finish_narrow(&{ *total }, tile) };
    }
    // SAFETY: rows of C and the bias have as many elements as a panel has columns.
    unsafe {
        match tile.start {
            Start::Zero => store(total, tile, |sum, _, _| sum),
            Start::Add => store(total, tile, |sum, c, _| sum.add(V::load(c))),
            Start::Bias(bias) => {
                let bias: [V; N] = std::array::from_fn(|j| V::load(bias.add(j * V::LANES)));
                store(total, tile, |sum, _, j| sum.add(bias[j]));
            }
        }
    }
}

/// Writes a whole tile: of each vector what `result` makes of it, its place in C and its number within the row.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn store<V: Vector, const R: usize, const N: usize>(
    total: &[[V; N]; R],
    tile: &Tile<V::Element>,
    result: impl Fn(V, *const f32, usize) -> V,
) {
    for (i, row) in total.iter().enumerate() {
        for (j, &sum) in row.iter().enumerate() {
            let c = tile.c.wrapping_add(i * tile.c_row + j * V::LANES);
            // SAFETY: promised by the caller.
            unsafe { result(sum, c, j).store(c) }
        }
    }
}

/// The same of a tile whose rows are shorter than a panel: each by way of a whole one.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn finish_narrow<V: Vector, const R: usize, const N: usize>(total: &[[V; N]; R], tile: &Tile<V::Element>) {
    let mut edge = [0.0f32; MAX_PANEL];
    for (i, row) in total.iter().enumerate() {
        let c = tile.c.wrapping_add(i * tile.c_row);
        let from = match tile.start {
            Start::Zero => None,
            Start::Add => Some(c.cast_const()),
            Start::Bias(bias) => Some(bias),
        };
        // SAFETY: a panel fits the edge; rows of C and the bias have `cols` elements.
        unsafe {
            for (j, &sum) in row.iter().enumerate() {
                sum.store(edge.as_mut_ptr().add(j * V::LANES));
            }
            for (j, &sum) in edge.iter().enumerate().take(tile.cols) {
                *c.add(j) = from.map_or(0.0, |from| *from.add(j)) + sum;
            }
        }
    }
}

macro_rules! by_rows {
    ($vector:ty, $columns:literal, $tile:expr, $rows:expr, $($few:literal)|+, $($r:literal)|*) => {
        match $rows {
            // SAFETY: promised by the caller.
            $($few => unsafe { multiply::<$vector, $few, $columns, 4>($tile) },)+
            // SAFETY: as above.
            $($r => unsafe { multiply::<$vector, $r, $columns, 1>($tile) },)*
            _ => unreachable!("a tile has at most {MR} rows"),
        }
    };
}

/// A kind of number with its tiles. Public because products are generic over it; it cannot be named outside.
pub trait Tiled: Element {
    /// `rows` (1 to [`tile_rows`]) rows of one panel.
    ///
    /// # Safety
    /// The processor has `isa`; the operands lie in memory as `tile` says; C is this thread's alone.
    unsafe fn multiply_tile(isa: Isa, rows: usize, tile: &Tile<Self>);
}

macro_rules! tiled {
    ($element:ty, $plain:ty, $avx2:ident, $avx512:ident, $widest:ident) => {
        impl Tiled for $element {
            #[inline]
            unsafe fn multiply_tile(isa: Isa, rows: usize, tile: &Tile<Self>) {
                #[cfg(target_arch = "x86_64")]
                {
                    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
                    unsafe fn widest(rows: usize, tile: &Tile<$element>) {
                        by_rows!(vectors::x86::$widest, 2, tile, rows, 1 | 2, 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12)
                    }
                    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                    unsafe fn avx512(rows: usize, tile: &Tile<$element>) {
                        by_rows!(vectors::x86::$avx512, 2, tile, rows, 1 | 2, 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12)
                    }
                    #[target_feature(enable = "avx2,fma")]
                    unsafe fn avx2(rows: usize, tile: &Tile<$element>) {
                        by_rows!(vectors::x86::$avx2, 2, tile, rows, 1, 2 | 3 | 4 | 5 | 6)
                    }
                    match isa {
                        // SAFETY: promised by the caller.
                        Isa::Avx512Bf16 => return unsafe { widest(rows, tile) },
                        // SAFETY: promised by the caller.
                        Isa::Avx512 => return unsafe { avx512(rows, tile) },
                        // SAFETY: promised by the caller.
                        Isa::Avx2 => return unsafe { avx2(rows, tile) },
                        Isa::Plain => {}
                    }
                }
                by_rows!($plain, 4, tile, rows, 1, 2 | 3 | 4)
            }
        }
    };
}
tiled!(f32, Plain, Avx2, Avx512, Avx512);
tiled!(crate::bf16::Bf16, PlainPairs, Avx2Pairs, Avx512Pairs, Bf16Pairs);
