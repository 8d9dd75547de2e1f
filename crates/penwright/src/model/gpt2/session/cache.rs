//! The keys and values of one text.

use crate::model::Gpt2Config;

/// The shape of a cache.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    layers: usize,
    heads: usize,
    head_width: usize,
    context: usize,
}

impl Shape {
    pub(super) fn of(config: &Gpt2Config) -> Self {
        let Gpt2Config { layers, heads, width, context, .. } = *config;
        Shape { layers, heads, head_width: width / heads, context }
    }

    /// Numbers in a cache.
    pub(super) fn len(self) -> usize {
        2 * self.layers * self.heads * self.head_width * self.context
    }

    /// Where the keys (0) or values (1) of a head begin.
    fn at(self, layer: usize, kind: usize, head: usize) -> usize {
        ((layer * 2 + kind) * self.heads + head) * self.context * self.head_width
    }
}

/// `[layers][keys, values][heads][context, head width]`. Pages that no position has reached take no memory.
pub(super) struct Cache {
    shape: Shape,
    data: Vec<f32>,
    /// A number for each position, never given twice: equal stamps are equal keys and values, which need no copying.
    stamps: Vec<u64>,
}

impl Cache {
    pub(super) fn new(shape: Shape) -> Self {
        Cache { shape, data: vec![0.0; shape.len()], stamps: Vec::with_capacity(shape.context) }
    }

    /// Number of positions.
    pub(super) fn len(&self) -> usize {
        self.stamps.len()
    }

    pub(super) fn clear(&mut self) {
        self.stamps.clear();
    }

    /// Announces one more position.
    pub(super) fn push(&mut self, stamp: u64) {
        self.stamps.push(stamp);
    }

    /// Sets the keys and values of a position, `[C]` each.
    pub(super) fn store(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let (shape, d) = (self.shape, self.shape.head_width);
        for (kind, row) in [keys, values].into_iter().enumerate() {
            for (head, part) in row.chunks_exact(d).enumerate() {
                self.data[shape.at(layer, kind, head) + position * d..][..d].copy_from_slice(part);
            }
        }
    }

    /// Keys and values `[len, head width]` of the first `len` positions.
    pub(super) fn head(&self, layer: usize, head: usize, len: usize) -> (&[f32], &[f32]) {
        let part = |kind| &self.data[self.shape.at(layer, kind, head)..][..len * self.shape.head_width];
        (part(0), part(1))
    }

    /// Becomes a copy of another cache of the same shape; what both have in common is not touched.
    pub(super) fn copy_from(&mut self, other: &Cache) {
        let common = self.stamps.iter().zip(&other.stamps).take_while(|(a, b)| a == b).count();
        self.stamps.truncate(common);
        self.stamps.extend(&other.stamps[common..]);
        let (shape, d) = (self.shape, self.shape.head_width);
        for part in (0..2 * shape.layers * shape.heads).map(|part| part * shape.context * d) {
            let range = part + common * d..part + other.stamps.len() * d;
            self.data[range.clone()].copy_from_slice(&other.data[range]);
        }
    }
}
