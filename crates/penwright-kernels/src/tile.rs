//! The register-blocked inner loop of the matrix products, for each instruction set.
//!
//! A tile of C is `rows ≤ MR` by one panel of columns. B comes packed: for each k the panel's columns lie side by
//! side. A is read one element at a time, from anywhere, and spread over a vector.

use crate::isa::Isa;

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
        Isa::Avx512 => 32,
        Isa::Avx2 => 16,
        Isa::Plain => 16,
    }
}

/// Rows of a tile.
pub(crate) fn tile_rows(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 12,
        Isa::Avx2 => 6,
        Isa::Plain => 4,
    }
}

/// A vector of f32.
trait Vector: Copy {
    const LANES: usize;
    fn splat(x: f32) -> Self;
    /// `self + a · b`.
    fn fma(self, a: Self, b: Self) -> Self;
    fn add(self, other: Self) -> Self;
    /// # Safety
    /// `LANES` values can be read.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` values can be written.
    unsafe fn store(self, to: *mut f32);
}

/// Vectors that every processor of the target has; the compiler maps them to its registers.
#[derive(Clone, Copy)]
struct Plain([f32; 4]);

impl Vector for Plain {
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Plain([x; 4])
    }

    #[inline(always)]
    fn fma(mut self, a: Self, b: Self) -> Self {
        for i in 0..4 {
            self.0[i] = crate::math::fma::<{ crate::isa::PLAIN_FMA }>(a.0[i], b.0[i], self.0[i]);
        }
        self
    }

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        for i in 0..4 {
            self.0[i] += other.0[i];
        }
        self
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: promised by the caller.
        unsafe { Plain(from.cast::<[f32; 4]>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: promised by the caller.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($name:ident, $register:ty, $lanes:expr, $splat:ident, $fma:ident, $add:ident, $load:ident, $store:ident) => {
            #[derive(Clone, Copy)]
            pub(super) struct $name($register);

            // SAFETY of all: used only inside the functions below that enable the instructions.
            impl Vector for $name {
                const LANES: usize = $lanes;

                #[inline(always)]
                fn splat(x: f32) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($splat(x)) }
                }

                #[inline(always)]
                fn fma(self, a: Self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($fma(a.0, b.0, self.0)) }
                }

                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($add(self.0, other.0)) }
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: see above; the memory is promised by the caller.
                    unsafe { $name($load(from)) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: see above; the memory is promised by the caller.
                    unsafe { $store(to, self.0) }
                }
            }
        };
    }
    vector!(Avx512, __m512, 16, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps, _mm512_loadu_ps, _mm512_storeu_ps);
    vector!(Avx2, __m256, 8, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps, _mm256_loadu_ps, _mm256_storeu_ps);
}

/// Where a tile's operands lie.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Inner size.
    pub(crate) k: usize,
    /// A's first element; elements between its rows, and between its columns.
    pub(crate) a: *const f32,
    pub(crate) a_row: usize,
    pub(crate) a_col: usize,
    /// The packed panel.
    pub(crate) b: *const f32,
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
unsafe fn multiply<V: Vector, const R: usize, const N: usize, const S: usize>(tile: &Tile) {
    let width = N * V::LANES;
    let mut sums = [[[V::splat(0.0); N]; R]; S];
    let (mut a, mut b) = (tile.a, tile.b);
    // SAFETY: a and b step through k columns of A and k rows of the panel; rows of C and the bias have `cols`
    // elements, and where that is less than a panel, they go by way of a whole one.
    unsafe {
        for _ in 0..tile.k / S {
            for part in &mut sums {
                let mut columns = [V::splat(0.0); N];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = V::load(b.add(j * V::LANES));
                }
                for (i, row) in part.iter_mut().enumerate() {
                    let x = V::splat(*a.add(i * tile.a_row));
                    for (sum, column) in row.iter_mut().zip(columns) {
                        *sum = sum.fma(x, column);
                    }
                }
                a = a.wrapping_add(tile.a_col);
                b = b.wrapping_add(width);
            }
        }
        for _ in 0..tile.k % S {
            for (i, row) in sums[0].iter_mut().enumerate() {
                let x = V::splat(*a.add(i * tile.a_row));
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = sum.fma(x, V::load(b.add(j * V::LANES)));
                }
            }
            a = a.wrapping_add(tile.a_col);
            b = b.wrapping_add(width);
        }
        let mut total = sums[0];
        for part in &sums[1..] {
            for i in 0..R {
                for j in 0..N {
                    total[i][j] = total[i][j].add(part[i][j]);
                }
            }
        }
        let mut edge = [0.0f32; MAX_PANEL];
        let whole = tile.cols == width;
        for (i, row) in total.iter().enumerate() {
            let c = tile.c.add(i * tile.c_row);
            let from = match tile.start {
                Start::Zero => None,
                Start::Add => Some(c.cast_const()),
                Start::Bias(bias) => Some(bias),
            };
            if whole {
                for (j, &sum) in row.iter().enumerate() {
                    let sum = from.map_or(sum, |from| sum.add(V::load(from.add(j * V::LANES))));
                    sum.store(c.add(j * V::LANES));
                }
            } else {
                for (j, &sum) in row.iter().enumerate() {
                    sum.store(edge.as_mut_ptr().add(j * V::LANES));
                }
                for (j, &sum) in edge[..tile.cols].iter().enumerate() {
                    *c.add(j) = sum + from.map_or(0.0, |from| *from.add(j));
                }
            }
        }
    }
}

/// Calls `multiply` for the number of rows at hand.
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

/// `rows` (1 to [`tile_rows`]) rows of one panel.
///
/// # Safety
/// The processor has `isa`; the operands lie in memory as `tile` says; C is this thread's alone.
#[inline]
pub(crate) unsafe fn multiply_tile(isa: Isa, rows: usize, tile: &Tile) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn avx512(rows: usize, tile: &Tile) {
            by_rows!(x86::Avx512, 2, tile, rows, 1 | 2, 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12)
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(rows: usize, tile: &Tile) {
            by_rows!(x86::Avx2, 2, tile, rows, 1, 2 | 3 | 4 | 5 | 6)
        }
        match isa {
            // SAFETY: promised by the caller.
            Isa::Avx512 => return unsafe { avx512(rows, tile) },
            // SAFETY: promised by the caller.
            Isa::Avx2 => return unsafe { avx2(rows, tile) },
            Isa::Plain => {}
        }
    }
    by_rows!(Plain, 4, tile, rows, 1, 2 | 3 | 4)
}
