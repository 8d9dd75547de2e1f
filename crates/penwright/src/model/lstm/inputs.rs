//! What the first layer reads: the embeddings of a batch.

use penwright_kernels::{Factor, Matrix, chunks, chunks_mut, each, multiply};

use super::regularization::Masks;
use crate::layers::{Below, CHUNK, Dropout, Lines, width_of};

/// The embeddings of a batch. Without dropout of them, the first layer multiplies that of each different token once,
/// not once a place; unless it is a Mogrifier's, which changes it at each.
pub(super) struct Inputs<E> {
    /// The different tokens, in the order of their first places.
    tokens: Vec<u32>,
    /// Which of them each place has.
    which: Vec<u32>,
    /// By token: which it is, plus one.
    seen: Vec<u32>,
    /// The tokens of all places, where the layer reads a row for each.
    places: Vec<u32>,
    /// The embeddings of the different tokens, or with dropout of all places.
    rows: Lines<E>,
}

impl<E> Default for Inputs<E> {
    fn default() -> Self {
        let (tokens, which, seen, places) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Inputs { tokens, which, seen, places, rows: Lines::default() }
    }
}

impl<E: Factor> Inputs<E> {
    /// Number of places, T · B.
    pub(super) fn len(&self) -> usize {
        self.which.len()
    }

    /// Takes up a batch, time-major; `table` is the embedding. `each_place`: the layer reads a row for each place even
    /// where equal tokens have equal ones.
    pub(super) fn set(&mut self, tokens: &[u32], (table, width): (&[f32], usize), masks: &Masks, each_place: bool) {
        self.seen.resize(table.len() / width, 0);
        self.tokens.drain(..).for_each(|token| self.seen[token as usize] = 0);
        self.which.clear();
        for &token in tokens {
            let seen = &mut self.seen[token as usize];
            if *seen == 0 {
                self.tokens.push(token);
                *seen = self.tokens.len() as u32;
            }
            self.which.push(*seen - 1);
        }
        self.places.clear();
        let mask = masks.input.get();
        let each_place = each_place || mask.is_some();
        if each_place {
            self.places.extend_from_slice(tokens);
        }
        let (stride, tokens) = (width_of::<E>(width), if each_place { &self.places } else { &self.tokens });
        let dropped = masks.embedding.is_on() || mask.is_some();
        let rows = self.rows.take(tokens.len() * stride);
        each((chunks_mut(rows, CHUNK * stride), chunks(tokens, CHUNK)), |task, (rows, tokens)| {
            let mut part = vec![0.0; if dropped { width } else { 0 }];
            for (i, (row, &token)) in rows.chunks_exact_mut(stride).zip(tokens).enumerate() {
                let from = &table[token as usize * width..][..width];
                let from = match dropped {
                    true => {
                        part.copy_from_slice(from);
                        drop_row(&mut part, token, masks.embedding, mask.map(|mask| mask.of(task * CHUNK + i)));
                        &part
                    }
                    false => from,
                };
                row.iter_mut().zip(from).for_each(|(to, from)| *to = E::of(*from));
            }
        });
    }

    /// Whether the first layer reads the different tokens only.
    pub(super) fn is_table(&self) -> bool {
        self.places.is_empty()
    }

    /// What the first layer reads.
    pub(super) fn below(&self, width: usize) -> Below<'_, E> {
        let (n, stride) = (self.tokens.len().max(self.places.len()), width_of::<E>(width));
        let rows = Matrix::strided(self.rows.get(n * stride), n, width, stride);
        if self.is_table() { Below::Table(rows, n, &self.which) } else { Below::Rows(rows) }
    }

    /// From the gradient of what the first layer read to that of the embedding's rows; whose those are.
    pub(super) fn mask_back(&self, d: &mut [f32], width: usize, masks: &Masks) -> &[u32] {
        let mask = masks.input.get();
        let tokens = if self.is_table() { &self.tokens } else { &self.places };
        if masks.embedding.is_on() || mask.is_some() {
            each((chunks_mut(d, CHUNK * width), chunks(tokens, CHUNK)), |task, (d, tokens)| {
                for (i, (d, &token)) in d.chunks_exact_mut(width).zip(tokens).enumerate() {
                    drop_row(d, token, masks.embedding, mask.map(|mask| mask.of(task * CHUNK + i)));
                }
            });
        }
        tokens
    }
}

/// Dropout of a token's embedding, forward and backward alike.
fn drop_row(row: &mut [f32], token: u32, words: Dropout, mask: Option<&[f32]>) {
    if words.is_on() {
        let factor = words.factor(token as usize);
        row.iter_mut().for_each(|x| *x *= factor);
    }
    if let Some(mask) = mask {
        multiply(row, mask);
    }
}
