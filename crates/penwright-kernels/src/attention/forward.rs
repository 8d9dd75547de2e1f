use super::*;
use crate::isa::isa;
use crate::parts::BlockMut;
use crate::tile::panel;
use passes::{Dropped, Panel, Softmax};

impl<E: Factor> CausalHead<'_, E> {
    /// out `[T, D]`, and `logs` `[T]` for the backward: `max + ln Σ` of each softmax. Panics when the shapes differ.
    pub fn forward(&self, out: &mut BlockMut<'_, E>, logs: &mut [f32]) {
        WORK.with_borrow_mut(|work| self.forward_in(work, out, logs));
    }

    fn forward_in(&self, work: &mut Work, out: &mut BlockMut<'_, E>, logs: &mut [f32]) {
        let ((t, d), isa) = (self.shape(), isa());
        assert!(out.rows() == t && out.width() == d && logs.len() == t, "shapes differ");
        let (width, inner) = (panel(isa), d.next_multiple_of(E::GROUP));
        let wide = d.next_multiple_of(width);
        let keys = work.keys.take::<E>(t * inner);
        lay_out(self.keys, keys);
        let one = lay_panels(isa, self.values, &mut work.values_packed);
        let values = work.values_packed.take::<E>(wide / width * one);
        let scores = work.scores.take::<f32>(t * width);
        let sums = work.sums.take::<f32>(width * wide);
        let inverses = work.columns.take::<f32>(width);
        let weights = work.weights.take::<E>(t.next_multiple_of(E::GROUP) * width);
        for first in (0..t).step_by(width) {
            let n = width.min(t - first);
            let seen = first + n;
            lay_transposed(isa, self.queries.rows(first, n), &mut work.queries_t);
            let queries = work.queries_t.take::<E>(inner * width);
            for (key, rows) in tiles(isa, seen) {
                let a = Left { data: &keys[key * inner..], row: inner, group: E::GROUP };
                multiply(isa, (&mut scores[key * width..], width), Start::Zero, rows, a, queries, inner / E::GROUP);
            }
            let panel = Panel { first, width };
            let dropped = Dropped { strip: self.dropout.map(|mask| mask.strip(t, first, 0)), memory: &mut work.kept };
            let grouped = &mut weights[..seen.next_multiple_of(E::GROUP) * width];
            let to = Softmax { logs: &mut logs[first..seen], inverses };
            passes::softmax(panel, &mut scores[..seen * width], dropped, self.scale, grouped, to);
            let weights = &*weights;
            for (query, rows) in tiles(isa, n) {
                let a = Left { data: &weights[query * E::GROUP..], row: E::GROUP, group: width * E::GROUP };
                let groups = (first + query + rows).div_ceil(E::GROUP);
                for (i, values) in values.chunks_exact(one).enumerate() {
                    let c = &mut sums[query * wide + i * width..];
                    multiply(isa, (c, wide), Start::Zero, rows, a, values, groups);
                }
            }
            passes::finish(sums, wide, inverses, &mut out.rows_mut(first, n));
        }
    }
}
