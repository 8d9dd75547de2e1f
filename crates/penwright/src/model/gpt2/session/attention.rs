//! Attention of single rows, each over its own cache up to its position.

use std::iter::Peekable;

use penwright_kernels::decode::{ATTEND_ROWS, attend};
use penwright_kernels::{BlockMut, Cut, Element, blocks_mut, chunks_mut, each};

use super::cache::store;
use super::{Row, Stream};
use crate::model::Gpt2Config;

/// Rows of a task where rows of several texts come together: of a prompt that is read beside them, two tiles.
const ROWS: usize = 2 * ATTEND_ROWS;

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

    /// Working memory of a task: scores, queries and results of a tile.
    fn working(&self) -> usize {
        ATTEND_ROWS * (self.positions + 2 * self.head_width)
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
        let working = self.working();
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
            for shadow in [false, true] {
                let (keys, values) = match shadow {
                    false => (&mut *main_keys, &mut *main_values),
                    true => (&mut *shadow_keys, &mut *shadow_values),
                };
                let mut mine = (0..n).filter(|&i| rows[i].shadow == shadow).peekable();
                while let Some(tile) = Tile::next(&mut mine, rows) {
                    for &i in tile.rows() {
                        let [key, value] = [1, 2].map(|which| self.part(qkv, i, which, head));
                        store((keys, values), rows[i].position, key, value);
                    }
                    self.attend_tile(&tile, rows, head, qkv, (keys, values), scores, &mut attended, 0);
                }
            }
        });
    }

    /// Rows of one cache that follow each other go over its keys and values together. `attended` begins at row `first`.
    #[expect(clippy::too_many_arguments)]
    fn attend_tile<T: Element>(
        &self,
        tile: &Tile,
        rows: &[Row],
        head: usize,
        qkv: &[f32],
        kept: (&[T], &[T]),
        working: &mut [f32],
        attended: &mut BlockMut<'_>,
        first: usize,
    ) {
        let (d, size) = (self.head_width, tile.rows().len());
        let (scores, own) = working.split_at_mut(ATTEND_ROWS * self.positions);
        let (queries, out) = own.split_at_mut(ATTEND_ROWS * d);
        let (queries, out) = (&mut queries[..size * d], &mut out[..size * d]);
        for (&i, query) in tile.rows().iter().zip(queries.chunks_exact_mut(d)) {
            query.copy_from_slice(self.part(qkv, i, 0, head));
        }
        let positions = rows[tile.rows[0]].position + 1;
        attend(queries, kept, d, positions, self.scale, scores, out);
        for (&i, out) in tile.rows().iter().zip(out.chunks_exact(d)) {
            let [row] = attended.row(i - first);
            row.copy_from_slice(out);
        }
    }

    /// Rows of several texts: what they add is stored text by text, then a task is a head of some rows.
    fn by_rows<T: Element>(
        &self,
        streams: &mut [Stream<T>],
        rows: &[Row],
        qkv: &[f32],
        attended: &mut [f32],
        scores: &mut Vec<f32>,
    ) {
        let (n, d) = (rows.len(), self.head_width);
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
        let (streams, working) = (&*streams, self.working());
        scores.resize(scores.len().max(n.div_ceil(ROWS) * self.heads * working), 0.0);
        let cut = Cut { rows: n, cols: self.heads * d, block_rows: ROWS, groups: 1, block_cols: d };
        each((blocks_mut(attended, cut), chunks_mut(scores, working)), |task, (mut attended, scores)| {
            let (first, head) = (task / self.heads * ROWS, task % self.heads);
            for shadow in [false, true] {
                let mut mine = (first..n.min(first + ROWS)).filter(|&i| rows[i].shadow == shadow).peekable();
                while let Some(tile) = Tile::next(&mut mine, rows) {
                    let stream = &streams[rows[tile.rows[0]].place];
                    let cache = if shadow { &stream.shadow } else { &stream.main };
                    let (keys, values) = cache.layer(self.layer);
                    let kept = (&keys[head * self.head..], &values[head * self.head..]);
                    self.attend_tile(&tile, rows, head, qkv, kept, scores, &mut attended, first);
                }
            }
        });
    }
}

/// Rows of one cache whose positions follow each other.
struct Tile {
    rows: [usize; ATTEND_ROWS],
    size: usize,
}

impl Tile {
    /// Takes the next of some rows, as many as go together.
    fn next(mine: &mut Peekable<impl Iterator<Item = usize>>, rows: &[Row]) -> Option<Self> {
        let mut tile = Tile { rows: [mine.next()?; ATTEND_ROWS], size: 1 };
        let first = &rows[tile.rows[0]];
        let follows = |row: &Row, n: usize| row.place == first.place && row.position == first.position + n;
        while tile.size < ATTEND_ROWS
            && let Some(i) = mine.next_if(|&i| follows(&rows[i], tile.size))
        {
            tile.rows[tile.size] = i;
            tile.size += 1;
        }
        Some(tile)
    }

    fn rows(&self) -> &[usize] {
        &self.rows[..self.size]
    }
}
