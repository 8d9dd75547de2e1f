use super::*;
use crate::isa::isa;
use crate::parts::BlockMut;
use crate::tile::panel;
use passes::{Columns, Dropped, Gradients, Panel};

/// Keys of a block: long enough that adding to the gradients of queries costs little, short enough that a block's
/// strips stay in the caches.
const BLOCK: usize = 64;

/// A backward under way: everything laid out, strips for a block of keys, and the gradients of queries so far.
struct Backward<'w, E: Factor> {
    isa: Isa,
    time: usize,
    scale: f32,
    mask: Option<Mask>,
    /// Columns of a panel, and channels filled up to whole panels.
    width: usize,
    wide: usize,
    /// Channels filled up to whole groups: elements of a row of keys and values.
    inner: usize,
    keys: &'w [E],
    values: &'w [E],
    /// Panels along the channels, one for each panel of queries, `along` elements each.
    queries_t: &'w [E],
    douts_t: &'w [E],
    along: usize,
    /// Panels along the positions, one for each panel of channels, `one` elements each.
    queries: &'w [E],
    douts: &'w [E],
    keys_packed: &'w [E],
    one: usize,
    columns: Columns<'w>,
    /// `[keys of a block, queries of a panel]`.
    scores: &'w mut [f32],
    dscores: &'w mut [f32],
    grouped: &'w mut [E],
    kept: &'w mut Aligned,
    /// `[keys of a block, stride]`: a column for each query from the block's first key on.
    weights: &'w mut [E],
    ds: &'w mut [E],
    stride: usize,
    /// `[T, wide]` and `[keys of a block, wide]`.
    dqueries: &'w mut [f32],
    sums: &'w mut [f32],
}

impl<E: Factor> CausalHead<'_, E> {
    /// The gradients of queries, keys and values, three groups of `[T, D]`, from what the forward gave and the
    /// gradient of its output. Panics when the shapes differ.
    pub fn backward(&self, out: Matrix<'_, E>, logs: &[f32], dout: Matrix<'_, E>, to: &mut BlockMut<'_, E>) {
        let (t, d) = self.shape();
        assert!(to.rows() == t && to.width() == d && logs.len() == t, "shapes differ");
        for matrix in [out, dout] {
            assert!((matrix.rows, matrix.cols) == (t, d) && matrix.col_stride == 1, "shapes differ");
        }
        WORK.with_borrow_mut(|work| {
            let mut backward = self.lay_backward(work, out, logs, dout);
            for key in (0..t).step_by(BLOCK) {
                let keys = BLOCK.min(t - key);
                for query in (key..t).step_by(backward.width) {
                    backward.panel((key, keys), query);
                }
                backward.block((key, keys), to);
            }
            passes::finish(backward.dqueries, backward.wide, &[], &mut to.group(0));
        });
    }

    fn lay_backward<'w>(
        &self,
        work: &'w mut Work,
        out: Matrix<'_, E>,
        logs: &[f32],
        dout: Matrix<'_, E>,
    ) -> Backward<'w, E> {
        let ((time, d), isa) = (self.shape(), isa());
        let (width, inner) = (panel(isa), d.next_multiple_of(E::GROUP));
        let (wide, padded) = (d.next_multiple_of(width), time.next_multiple_of(width));
        let block = BLOCK.min(padded);
        // A line more, so that rows do not lie on each other in the cache.
        let stride = padded + 64 / size_of::<E>();

        let (keys, values) = (work.keys.take(time * inner), work.values.take(time * inner));
        lay_out(self.keys, keys);
        lay_out(self.values, values);
        let along = lay_transposed(isa, self.queries, &mut work.queries_t);
        lay_transposed(isa, dout, &mut work.douts_t);
        let one = lay_panels(isa, self.queries, &mut work.queries_packed);
        lay_panels(isa, dout, &mut work.douts_packed);
        lay_panels(isa, self.keys, &mut work.keys_packed);

        // Zeros for the queries that only fill up a panel, whose gradients are multiplied by zeros.
        let (logs2, deltas) = work.columns.take::<f32>(2 * padded).split_at_mut(padded);
        passes::dots(dout, out, self.scale, deltas);
        logs2.iter_mut().zip(logs).for_each(|(to, log)| *to = log * std::f32::consts::LOG2_E);
        deltas[time..].fill(0.0);
        logs2[time..].fill(0.0);

        let (dqueries, sums) = work.sums.take::<f32>((padded + block) * wide).split_at_mut(padded * wide);
        let packed = wide / width * one;
        Backward {
            isa,
            time,
            scale: self.scale,
            mask: self.dropout,
            width,
            wide,
            inner,
            keys,
            values,
            queries_t: work.queries_t.take(padded * inner),
            douts_t: work.douts_t.take(padded * inner),
            along,
            queries: work.queries_packed.take(packed),
            douts: work.douts_packed.take(packed),
            keys_packed: work.keys_packed.take(packed),
            one,
            columns: Columns { logs: logs2, deltas },
            scores: work.scores.take(block * width),
            dscores: work.dscores.take(block * width),
            grouped: work.grouped.take(block * width),
            kept: &mut work.kept,
            weights: work.weights.take(block * stride),
            ds: work.ds.take(block * stride),
            stride,
            dqueries,
            sums,
        }
    }
}

impl<E: Factor> Backward<'_, E> {
    /// Probabilities and gradients of scores of a block of keys, `(first, number)`, and the panel of queries from
    /// `query` on; what they give the queries: `dq += ds k`.
    fn panel(&mut self, (key, keys): (usize, usize), query: usize) {
        let (isa, width, inner) = (self.isa, self.width, self.inner);
        // The panel's last query sees so many of the keys.
        let (column, seen) = (query - key, keys.min(query + width - key));
        let at = query / width * self.along;
        let (q, dout) = (&self.queries_t[at..][..self.along], &self.douts_t[at..][..self.along]);
        for (i, rows) in tiles(isa, seen) {
            let from = (key + i) * inner;
            let sides = [(&mut *self.scores, &self.keys[from..], q), (&mut *self.dscores, &self.values[from..], dout)];
            for (c, data, right) in sides {
                let a = Left { data, row: inner, group: E::GROUP };
                multiply(isa, (&mut c[i * width..], width), Start::Zero, rows, a, right, inner / E::GROUP);
            }
        }
        passes::gradients(
            Panel { first: column, width },
            &mut self.scores[..seen * width],
            &self.dscores[..seen * width],
            Dropped { strip: self.mask.map(|mask| mask.strip(self.time, query, key)), memory: self.kept },
            self.scale,
            Columns { logs: &self.columns.logs[query..], deltas: &self.columns.deltas[query..] },
            Gradients {
                weights: &mut self.weights[column..],
                ds: &mut self.ds[column..],
                stride: self.stride,
                grouped: self.grouped,
            },
        );
        let (data, group) = match E::GROUP {
            1 => (&self.ds[column..], self.stride),
            _ => (&*self.grouped, width * E::GROUP),
        };
        let start = if key == 0 { Start::Zero } else { Start::Add };
        for (i, rows) in tiles(isa, width.min(self.time - query)) {
            let a = Left { data: &data[i * E::GROUP..], row: E::GROUP, group };
            let groups = keys.min(column + i + rows).div_ceil(E::GROUP);
            for (j, k) in self.keys_packed.chunks_exact(self.one).enumerate() {
                let c = &mut self.dqueries[(query + i) * self.wide + j * width..];
                multiply(isa, (c, self.wide), start, rows, a, &k[key * width..], groups);
            }
        }
    }

    /// The gradients of a block of keys and its values: `dv = (dropped p)ᵀ dout` and `dk = dsᵀ q`, over all queries
    /// that see them.
    fn block(&mut self, (key, keys): (usize, usize), to: &mut BlockMut<'_, E>) {
        let (isa, width) = (self.isa, self.width);
        for (left, right, group) in [(&*self.weights, self.douts, 2), (&*self.ds, self.queries, 1)] {
            // Tiles do not cross the panels on the diagonal, whose columns have no more rows than queries.
            for segment in (0..keys).step_by(width) {
                for (i, rows) in tiles(isa, width.min(keys - segment)) {
                    let i = segment + i;
                    let from = i / E::GROUP * E::GROUP;
                    let a = Left { data: &left[i * self.stride + from..], row: self.stride, group: E::GROUP };
                    let groups = (self.time - key - from).div_ceil(E::GROUP);
                    for (j, right) in right.chunks_exact(self.one).enumerate() {
                        let c = &mut self.sums[i * self.wide + j * width..];
                        multiply(isa, (c, self.wide), Start::Zero, rows, a, &right[(key + from) * width..], groups);
                    }
                }
            }
            passes::finish(self.sums, self.wide, &[], &mut to.group(group).rows_mut(key, keys));
        }
    }
}
