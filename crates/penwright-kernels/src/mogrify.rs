//! The element-wise part of a round of the Mogrifier (Melis, Kočiský and Blunsom 2020), on a block of columns.

use crate::bf16::Element;
use crate::isa::dispatched;
use crate::math::sigmoid_by;
use crate::matmul::Matrix;
use crate::parts::BlockMut;

dispatched! {
    /// `gate ← σ(sums)`, `value ← 2 gate ⊙ x` for a block whose first column is column `first` of x. `sums` are as many
    /// rows as wide as the block. Panics when the shapes differ.
    pub fn mogrify<E: Element>(
        sums: &[f32],
        x: Matrix<'_, E>,
        first: usize,
        gate: &mut BlockMut<'_, E>,
        value: &mut BlockMut<'_, E>,
    ) = mogrify_body;
}

#[inline(always)]
fn mogrify_body<E: Element, const FMA: bool>(
    sums: &[f32],
    x: Matrix<'_, E>,
    first: usize,
    gate: &mut BlockMut<'_, E>,
    value: &mut BlockMut<'_, E>,
) {
    let width = gate.width();
    for row in 0..gate.rows() {
        let x = &x.row(row)[first..][..width];
        let ([gate], [value]) = (gate.row(row), value.row(row));
        for (((sum, x), gate), value) in sums[row * width..][..width].iter().zip(x).zip(gate).zip(value) {
            let open = sigmoid_by::<FMA>(*sum);
            *gate = E::of(open);
            *value = E::of(2.0 * open * x.get());
        }
    }
}

dispatched! {
    /// Backward of [`mogrify`]: `d` is the gradient of the value and becomes that of x, `gate` becomes that of the
    /// sums. Panics when the shapes differ.
    pub fn mogrify_backward<E: Element>(
        d: &mut BlockMut<'_>,
        x: Matrix<'_, E>,
        first: usize,
        gate: &mut BlockMut<'_, E>,
    ) = mogrify_backward_body;
}

#[inline(always)]
fn mogrify_backward_body<E: Element, const FMA: bool>(
    d: &mut BlockMut<'_>,
    x: Matrix<'_, E>,
    first: usize,
    gate: &mut BlockMut<'_, E>,
) {
    let width = gate.width();
    for row in 0..gate.rows() {
        let x = &x.row(row)[first..][..width];
        let ([gate], [d]) = (gate.row(row), d.row(row));
        for ((d, x), gate) in d.iter_mut().zip(x).zip(gate) {
            let open = gate.get();
            *gate = E::of(2.0 * *d * x.get() * open * (1.0 - open));
            *d *= 2.0 * open;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::with_each;
    use crate::random;

    fn values(n: usize, key: u64) -> Vec<f32> {
        (0..n as u64).map(|i| (random(key, i) >> 40) as f32 / (1u64 << 22) as f32 - 2.0).collect()
    }

    #[test]
    fn as_defined_and_its_slope() {
        for (rows, width, first) in [(1, 1, 0), (3, 20, 2), (2, 32, 0), (4, 7, 5)] {
            let (sums, x, d) = (values(rows * width, 1), values(rows * 40, 2), values(rows * width, 3));
            let sigmoid = |x: f32| 1.0 / (1.0 + (-f64::from(x)).exp());
            with_each(|isa| {
                let [mut gate, mut value] = [vec![0.0f32; rows * width], vec![0.0f32; rows * width]];
                let [mut gates, mut of] = [&mut gate, &mut value].map(|m| BlockMut::whole(m, rows, width));
                let x_of = Matrix::new(&x, rows, 40);
                mogrify(&sums, x_of, first, &mut gates, &mut of);
                let mut dx = d.clone();
                mogrify_backward(&mut BlockMut::whole(&mut dx, rows, width), x_of, first, &mut gates);
                for i in 0..rows * width {
                    let (x, open) = (f64::from(x[i / width * 40 + first + i % width]), sigmoid(sums[i]));
                    assert!((f64::from(value[i]) - 2.0 * open * x).abs() < 1e-5, "{isa:?}");
                    assert!((f64::from(dx[i]) - f64::from(d[i]) * 2.0 * open).abs() < 1e-5, "{isa:?}");
                    let slope = 2.0 * x * open * (1.0 - open);
                    assert!((f64::from(gate[i]) - f64::from(d[i]) * slope).abs() < 1e-5, "{isa:?}");
                }
            });
        }
    }
}
