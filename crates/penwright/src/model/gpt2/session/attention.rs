//! Attention of single rows, each over its own cache up to its position.

use penwright_kernels::decode::{ATTEND_ROWS, attend};
use penwright_kernels::{Cut, Element, blocks_mut, chunks_mut, each};

use super::cache::store;
use super::{Row, Stream};
use crate::model::Gpt2Config;

/// What a layer's attention needs to know.
pub(super) struct Heads {
    pub(super) layer: usize,
    heads: usize,
    head_width: usize,
    scale: f32,
    /// Keys or values of a head, and room for its scores.
    head: usize,
    positions: usize,
}

impl Heads {
    pub(super) fn of(config: &Gpt2Config, shape: super::Shape, layer: usize) -> Self {
        let Gpt2Config { heads, width, .. } = *config;
        let scale = config.attention_scale(layer);
        Heads { layer, heads, head_width: width / heads, scale, head: shape.head(), positions: shape.positions() }
    }

    /// Query, key or value (0, 1, 2) of a head in `[rows, 3C]`.
    fn part<'a>(&self, qkv: &'a [f32], row: usize, which: usize, head: usize) -> &'a [f32] {
        let c = self.heads * self.head_width;
        &qkv[row * 3 * c + which * c + head * self.head_width..][..self.head_width]
    }

    /// Stores the rows' keys and values in their caches and sets `attended` `[rows, C]`.
    pub(super) fn attend<T: Element>(
        &self,
        streams: &mut [Stream<T>],
        rows: &[Row],
        qkv: &[f32],
        attended: &mut [f32],
        scores: &mut Vec<f32>,
    ) {
        let Some(first) = rows.first() else { return };
        if rows.iter().all(|row| row.place == first.place) {
            self.by_heads(&mut streams[first.place], rows, qkv, attended, scores);
        } else {
            self.by_rows(streams, rows, qkv, attended, scores);
        }
    }

    /// Rows of one text: a task is a head.
    fn by_heads<T: Element>(
        &self,
        stream: &mut Stream<T>,
        rows: &[Row],
        qkv: &[f32],
        attended: &mut [f32],
        scores: &mut Vec<f32>,
    ) {
        let (n, d) = (rows.len(), self.head_width);
        let working = ATTEND_ROWS * (self.positions + 2 * d);
        scores.resize(scores.len().max(self.heads * working), 0.0);
        let (main_keys, main_values) = stream.main.layer_mut(self.layer);
        let (shadow_keys, shadow_values) = stream.shadow.layer_mut(self.layer);
        let cut = Cut { rows: n, cols: self.heads * d, block_rows: n, groups: 1, block_cols: d };
        let parts = (
            chunks_mut(main_keys, self.head),
            chunks_mut(main_values, self.head),
            chunks_mut(shadow_keys, self.head),
            chunks_mut(shadow_values, self.head),
            chunks_mut(scores, working),
            blocks_mut(attended, cut),
        );
        each(parts, |head, (main_keys, main_values, shadow_keys, shadow_values, scores, mut attended)| {
            let (scores, tile) = scores.split_at_mut(ATTEND_ROWS * self.positions);
            let (queries, out) = tile.split_at_mut(ATTEND_ROWS * d);
            for shadow in [false, true] {
                let (keys, values) = match shadow {
                    false => (&mut *main_keys, &mut *main_values),
                    true => (&mut *shadow_keys, &mut *shadow_values),
                };
                let mut mine = (0..n).filter(|&i| rows[i].shadow == shadow).peekable();
                // Rows of one cache follow each other; a tile of them goes over its keys and values together.
                while let Some(first) = mine.peek().map(|&i| rows[i].position + 1) {
                    let (mut tile, mut size) = ([0; ATTEND_ROWS], 0);
                    for (i, at) in mine.by_ref().zip(&mut tile) {
                        let [query, key, value] = [0, 1, 2].map(|which| self.part(qkv, i, which, head));
                        store((keys, values), rows[i].position, key, value);
                        queries[size * d..][..d].copy_from_slice(query);
                        (*at, size) = (i, size + 1);
                        if size == ATTEND_ROWS {
                            break;
                        }
                    }
                    let (queries, out) = (&queries[..size * d], &mut out[..size * d]);
                    attend(queries, (keys, values), d, first, self.scale, scores, out);
                    for (&i, out) in tile.iter().zip(out.chunks_exact(d)) {
                        let [row] = attended.row(i);
                        row.copy_from_slice(out);
                    }
                }
            }
        });
    }

    /// Rows of several texts: what they add is stored text by text, then a task is a head of a row.
    fn by_rows<T: Element>(
        &self,
        streams: &mut [Stream<T>],
        rows: &[Row],
        qkv: &[f32],
        attended: &mut [f32],
        scores: &mut Vec<f32>,
    ) {
        let d = self.head_width;
        scores.resize(scores.len().max(rows.len() * self.heads * self.positions), 0.0);
        each(chunks_mut(streams, 1), |place, stream| {
            for (i, row) in rows.iter().enumerate().filter(|(_, row)| row.place == place) {
                let cache = if row.shadow { &mut stream[0].shadow } else { &mut stream[0].main };
                let (keys, values) = cache.layer_mut(self.layer);
                let heads = keys.chunks_exact_mut(self.head).zip(values.chunks_exact_mut(self.head));
                for (head, kept) in heads.enumerate() {
                    store(kept, row.position, self.part(qkv, i, 1, head), self.part(qkv, i, 2, head));
                }
            }
        });
        let streams = &*streams;
        each((chunks_mut(attended, d), chunks_mut(scores, self.positions)), |i, (out, scores)| {
            let (row, head) = (&rows[i / self.heads], i % self.heads);
            let cache = if row.shadow { &streams[row.place].shadow } else { &streams[row.place].main };
            let (keys, values) = cache.layer(self.layer);
            let (keys, values) = (&keys[head * self.head..], &values[head * self.head..]);
            let query = self.part(qkv, i / self.heads, 0, head);
            attend(query, (keys, values), d, row.position + 1, self.scale, scores, out);
        });
    }
}
