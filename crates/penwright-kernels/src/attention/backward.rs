use super::*;
use crate::isa::isa;
use crate::parts::BlockMut;
use crate::tile::panel;
use passes::{Columns, Dropped, Gradients, Panel};

/// Keys of a block: long enough that adding to the gradients of queries costs little, short enough that a block's
/// strips stay in the caches.
const BLOCK: usize = 64;

impl<E: Factor> CausalHead<'_, E> {
    /// The gradients of queries, keys and values, three groups of `[T, D]`, from what the forward gave and the
    /// gradient of its output. Panics when the shapes differ.
    pub fn backward(&self, out: Matrix<'_, E>, logs: &[f32], dout: Matrix<'_, E>, to: &mut BlockMut<'_, E>) {
        WORK.with_borrow_mut(|work| self.backward_in(work, out, logs, dout, to));
    }

    fn backward_in(
        &self,
        work: &mut Work,
        out: Matrix<'_, E>,
        logs: &[f32],
        dout: Matrix<'_, E>,
        to: &mut BlockMut<'_, E>,
    ) {
        let ((t, d), isa) = (self.shape(), isa());
        assert!(to.rows() == t && to.width() == d && logs.len() == t, "shapes differ");
        for matrix in [out, dout] {
            assert!((matrix.rows, matrix.cols) == (t, d) && matrix.col_stride == 1, "shapes differ");
        }
        let (width, inner) = (panel(isa), d.next_multiple_of(E::GROUP));
        let (wide, padded) = (d.next_multiple_of(width), t.next_multiple_of(width));
        let block = BLOCK.min(padded);
        let across = wide / width;

        let keys = work.keys.take::<E>(t * inner);
        lay_out(self.keys, keys);
        let values = work.values.take::<E>(t * inner);
        lay_out(self.values, values);
        // Panels along the channels, one for each panel of queries.
        let along = lay_transposed(isa, self.queries, &mut work.queries_t);
        lay_transposed(isa, dout, &mut work.douts_t);
        let queries_t = work.queries_t.take::<E>(padded * inner);
        let douts_t = work.douts_t.take::<E>(padded * inner);
        // Panels along the positions, one for each panel of channels.
        let one = lay_panels(isa, self.queries, &mut work.queries_packed);
        lay_panels(isa, dout, &mut work.douts_packed);
        lay_panels(isa, self.keys, &mut work.keys_packed);
        let queries = work.queries_packed.take::<E>(across * one);
        let douts = work.douts_packed.take::<E>(across * one);
        let keys_packed = work.keys_packed.take::<E>(across * one);

        let (logs2, deltas) = work.columns.take::<f32>(2 * padded).split_at_mut(padded);
        passes::dots(dout, out, self.scale, deltas);
        deltas[t..].fill(0.0);
        logs2.iter_mut().zip(logs).for_each(|(to, log)| *to = log * std::f32::consts::LOG2_E);
        logs2[t..].fill(0.0);

        let scores = work.scores.take::<f32>(block * width);
        let dscores = work.dscores.take::<f32>(block * width);
        // A line more, so that rows do not lie on each other in the cache.
        let stride = padded + 64 / size_of::<E>();
        let weights = work.weights.take::<E>(block * stride);
        let ds = work.ds.take::<E>(block * stride);
        let grouped = work.grouped.take::<E>(block * width);
        let (dqueries, sums) = work.sums.take::<f32>((padded + block) * wide).split_at_mut(padded * wide);

        for key in (0..t).step_by(block) {
            let n = block.min(t - key);
            for query in (key..t).step_by(width) {
                let (rows_seen, queries_here) = (n.min(query + width - key), width.min(t - query));
                let at = query / width * along;
                let (q, dy) = (&queries_t[at..][..along], &douts_t[at..][..along]);
                for (i, rows) in tiles(isa, rows_seen) {
                    let a = |data| Left { data, row: inner, group: E::GROUP };
                    let from = (key + i) * inner;
                    let c = |c| (c, width);
                    multiply(
                        isa,
                        c(&mut scores[i * width..]),
                        Start::Zero,
                        rows,
                        a(&keys[from..]),
                        q,
                        inner / E::GROUP,
                    );
                    multiply(
                        isa,
                        c(&mut dscores[i * width..]),
                        Start::Zero,
                        rows,
                        a(&values[from..]),
                        dy,
                        inner / E::GROUP,
                    );
                }
                let strip = self.dropout.map(|mask| mask.strip(t, query, key));
                let dropped = Dropped { strip, memory: &mut work.kept };
                let column = query - key;
                let gradients = Gradients {
                    weights: &mut weights[column..],
                    ds: &mut ds[column..],
                    stride,
                    grouped: &mut *grouped,
                };
                passes::gradients(
                    Panel { first: column, width },
                    &mut scores[..rows_seen * width],
                    &dscores[..rows_seen * width],
                    dropped,
                    self.scale,
                    Columns { logs: &logs2[query..], deltas: &deltas[query..] },
                    gradients,
                );
                // dq += ds k
                let (data, group) = match E::GROUP {
                    1 => (&ds[column..], stride),
                    _ => (&*grouped, width * E::GROUP),
                };
                let start = if key == 0 { Start::Zero } else { Start::Add };
                for (i, rows) in tiles(isa, queries_here) {
                    let a = Left { data: &data[i * E::GROUP..], row: E::GROUP, group };
                    let groups = n.min(column + i + rows).div_ceil(E::GROUP);
                    for (j, keys) in keys_packed.chunks_exact(one).enumerate() {
                        let c = &mut dqueries[(query + i) * wide + j * width..];
                        multiply(isa, (c, wide), start, rows, a, &keys[key * width..], groups);
                    }
                }
            }
            // dv = (dropped p)ᵀ dout and dk = dsᵀ q, over the queries that see the keys.
            for (left, right, group) in [(&*weights, &*douts, 2), (&*ds, &*queries, 1)] {
                for segment in (0..n).step_by(width) {
                    for (i, rows) in tiles(isa, width.min(n - segment)) {
                        let i = segment + i;
                        let from = i / E::GROUP * E::GROUP;
                        let a = Left { data: &left[i * stride + from..], row: stride, group: E::GROUP };
                        let groups = (t - key - from).div_ceil(E::GROUP);
                        for (j, right) in right.chunks_exact(one).enumerate() {
                            let c = &mut sums[i * wide + j * width..];
                            multiply(isa, (c, wide), Start::Zero, rows, a, &right[(key + from) * width..], groups);
                        }
                    }
                }
                passes::finish(sums, wide, &[], &mut to.group(group).rows_mut(key, n));
            }
        }
        passes::finish(dqueries, wide, &[], &mut to.group(0));
    }
}
