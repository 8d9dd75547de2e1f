//! The keys and values of one text.

use penwright_kernels::Element;
use penwright_kernels::decode::key_at;

use crate::model::Gpt2Config;

/// The shape of a cache.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    layers: usize,
    heads: usize,
    head_width: usize,
    /// The context, rounded up to whole blocks of keys.
    positions: usize,
}

/// Positions whose keys lie side by side.
const BLOCK: usize = 16;

impl Shape {
    pub(super) fn of(config: &Gpt2Config) -> Self {
        let Gpt2Config { layers, heads, width, context, .. } = *config;
        Shape { layers, heads, head_width: width / heads, positions: context.next_multiple_of(BLOCK) }
    }

    /// Keys or values of one head.
    pub(super) fn head(self) -> usize {
        self.positions * self.head_width
    }

    /// Room for the scores of one row and head.
    pub(super) fn positions(self) -> usize {
        self.positions
    }

    /// Keys and values of all heads.
    pub(super) fn len(self) -> usize {
        2 * self.layers * self.heads * self.head()
    }
}

/// Keys `[layers][heads][blocks of positions][head width][16]` and values `[layers][heads][positions][head width]`.
/// Pages that no position has reached take no memory.
pub(super) struct Cache<T> {
    shape: Shape,
    keys: Vec<T>,
    values: Vec<T>,
    /// A number for each position, never given twice: equal stamps are equal keys and values, which need no copying.
    stamps: Vec<u64>,
}

impl<T: Element> Cache<T> {
    pub(super) fn new(shape: Shape) -> Self {
        let zeros = || bytemuck::zeroed_vec(shape.len() / 2);
        Cache { shape, keys: zeros(), values: zeros(), stamps: Vec::with_capacity(shape.positions) }
    }

    /// Number of positions.
    pub(super) fn len(&self) -> usize {
        self.stamps.len()
    }

    pub(super) fn clear(&mut self) {
        self.stamps.clear();
    }

    /// Forgets the positions from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.stamps.truncate(len);
    }

    /// Announces one more position.
    pub(super) fn push(&mut self, stamp: u64) {
        self.stamps.push(stamp);
    }

    /// The keys and values of a layer's heads.
    pub(super) fn layer(&self, layer: usize) -> (&[T], &[T]) {
        let size = self.shape.heads * self.shape.head();
        (&self.keys[layer * size..][..size], &self.values[layer * size..][..size])
    }

    /// The same, to be written.
    pub(super) fn layer_mut(&mut self, layer: usize) -> (&mut [T], &mut [T]) {
        let size = self.shape.heads * self.shape.head();
        (&mut self.keys[layer * size..][..size], &mut self.values[layer * size..][..size])
    }

    /// Becomes a copy of another cache of the same shape; what both have in common is not touched.
    pub(super) fn copy_from(&mut self, other: &Cache<T>) {
        let common = self.stamps.iter().zip(&other.stamps).take_while(|(a, b)| a == b).count();
        self.stamps.truncate(common);
        self.stamps.extend(&other.stamps[common..]);
        let (size, d) = (self.shape.head(), self.shape.head_width);
        let (begin, end) = (common / BLOCK * BLOCK * d, self.stamps.len().next_multiple_of(BLOCK) * d);
        for head in (0..self.keys.len()).step_by(size) {
            self.keys[head..][begin..end].copy_from_slice(&other.keys[head..][begin..end]);
            self.values[head..][begin..end].copy_from_slice(&other.values[head..][begin..end]);
        }
    }
}

/// Sets the key and value of a position in those of a head.
pub(super) fn store<T: Element>((keys, values): (&mut [T], &mut [T]), position: usize, key: &[f32], value: &[f32]) {
    let d = key.len();
    for (channel, &x) in key.iter().enumerate() {
        keys[key_at(position, channel, d)] = T::of(x);
    }
    for (to, &x) in values[position * d..][..d].iter_mut().zip(value) {
        *to = T::of(x);
    }
}
