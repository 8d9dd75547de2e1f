//! What tokens share by their spelling. Beside its own row, each token of the embedding and of the output layer has a sum of
//! rows that it shares with tokens spelled alike, as words have of their character n-grams in Bojanowski et al. 2017 (arXiv
//! 1607.04606): `W = W' + S C`, where the tokens' rows W' and the features' rows C each move by their own gradient and moments. Only
//! the sum W is kept, so that the model and its files stay as they are.

use std::collections::BTreeMap;

use penwright_kernels::{BlockMut, Cut, adamw, blocks_mut, chunks_mut, descend, each, team};

use super::Optimizer;
use super::adamw::step_of;
use crate::model::{Params, Tensor};
use crate::tokenizer::Tokenizer;

/// Columns that a task moves.
const COLS: usize = 64;
/// The longest beginning and ending that tokens share, in characters.
const LONGEST: usize = 3;
/// Matrices with a row for each token, and the output layer's bias.
const TABLES: [&str; 5] = ["embedding.weight", "head.weight", "head.bias", "transformer.wte.weight", "lm_head.weight"];

/// An optimizer, and after each of its steps one of the rows that tokens share.
pub(super) struct Spelled {
    rest: Box<dyn Optimizer>,
    features: Features,
    tables: Vec<Table>,
    /// First and second moments of the features' rows: of each table, of each task, of each feature the columns.
    first: Vec<f32>,
    second: Vec<f32>,
    /// Their learning rate, beside that of the tokens' own rows.
    rate: f32,
    betas: (f32, f32),
    step: i32,
}

/// Where a table lies in the arena, its rows, no fewer than there are tokens, and how wide it is.
struct Table {
    start: usize,
    rows: usize,
    width: usize,
}

impl Table {
    /// `None` for a tensor that has no row for each token, or is left as it is.
    fn of(tensor: &Tensor, vocab: usize) -> Option<Self> {
        let rows = *tensor.shape.first()?;
        let is_table = TABLES.contains(&tensor.name.as_str()) && rows >= vocab && !tensor.frozen;
        is_table.then(|| Table { start: tensor.range.start, rows, width: tensor.range.len() / rows })
    }
}

impl Spelled {
    /// Over an optimizer of an arena, with no moments yet; the optimizer alone where no table is trained.
    pub(super) fn over(
        rest: Box<dyn Optimizer>,
        params: &Params,
        tokenizer: &Tokenizer,
        (rate, betas): (f32, (f32, f32)),
    ) -> Box<dyn Optimizer> {
        let features = Features::of(tokenizer);
        let vocab = features.of_token.len();
        let tables: Vec<Table> = params.tensors.iter().filter_map(|tensor| Table::of(tensor, vocab)).collect();
        let moments = features.tokens.len() * tables.iter().map(|table| table.width).sum::<usize>();
        if moments == 0 {
            return rest;
        }
        let (first, second) = (vec![0.0; moments], vec![0.0; moments]);
        Box::new(Spelled { rest, features, tables, first, second, rate, betas, step: 0 })
    }
}

impl Optimizer for Spelled {
    fn update(&mut self, params: &mut [f32], grads: &[f32], scale: f32, lr: f32, decay: f32) {
        self.rest.update(params, grads, scale, lr, decay);
        self.step += 1;
        let step = step_of(self.betas, self.step, scale, lr * self.rate);
        let features = &self.features;
        let (mut first, mut second) = (&mut self.first[..], &mut self.second[..]);
        for &Table { start, rows, width } in &self.tables {
            let (m, v);
            (m, first) = first.split_at_mut(features.tokens.len() * width);
            (v, second) = second.split_at_mut(features.tokens.len() * width);
            let (task, range) = (features.tokens.len() * COLS, start..start + rows * width);
            let cut = Cut { rows, cols: width, block_rows: rows, groups: 1, block_cols: COLS };
            let (w, g) = (blocks_mut(&mut params[range.clone()], cut), &grads[range]);
            team(|| {
                each((w, chunks_mut(m, task), chunks_mut(v, task)), |i, (mut w, m, v)| {
                    let cols = m.len() / features.tokens.len();
                    let g = features.gathered(g, width, i * COLS, cols);
                    // From zeros, of which nothing is kept: what the rows are to move by.
                    let mut moved = vec![0.0; g.len()];
                    adamw(&mut moved, &g, m, v, step, 0.0);
                    features.spread(&moved, cols, &mut w);
                });
            });
        }
    }

    fn state(&self) -> Vec<(&'static str, &[f32])> {
        let mut state = self.rest.state();
        state.extend([("first of spelling", &self.first[..]), ("second of spelling", &self.second[..])]);
        state
    }

    fn restore(&mut self, state: &mut dyn FnMut(&'static str) -> Vec<f32>, step: u64) -> bool {
        let (first, second) = (state("first of spelling"), state("second of spelling"));
        if first.len() != self.first.len() || second.len() != self.second.len() || !self.rest.restore(state, step) {
            return false;
        }
        (self.first, self.second, self.step) = (first, second, step as i32);
        true
    }
}

/// Bytes of the moments for tables of so many columns in all.
pub(in crate::train) fn memory(tokenizer: &Tokenizer, columns: usize) -> u64 {
    8 * (Features::of(tokenizer).tokens.len() * columns) as u64
}

/// What tokens have in common: S of the module's formula, where a token has a 1 of each of its features, divided by the root of their
/// number.
struct Features {
    /// The features of each token.
    of_token: Vec<Vec<u32>>,
    /// The tokens of each feature, two at least.
    tokens: Vec<Vec<u32>>,
}

impl Features {
    /// Of all tokens of a vocabulary; a feature that one token alone has is left out.
    fn of(tokenizer: &Tokenizer) -> Self {
        let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let vocab = tokenizer.vocab_size();
        for id in 0..vocab as u32 {
            let text = String::from_utf8_lossy(&tokenizer.decode_bytes(&[id])).into_owned();
            features_of(&text, &mut |feature| {
                found.entry(feature).or_default().push(id);
            });
        }
        let tokens: Vec<Vec<u32>> = found.into_values().filter(|tokens| tokens.len() > 1).collect();
        let mut of_token = vec![Vec::new(); vocab];
        for (feature, tokens) in tokens.iter().enumerate() {
            tokens.iter().for_each(|&token| of_token[token as usize].push(feature as u32));
        }
        Features { of_token, tokens }
    }

    /// What a token's features are multiplied by.
    fn share(&self, token: usize) -> f32 {
        1.0 / (self.of_token[token].len() as f32).sqrt()
    }

    /// The gradient of the features' rows, `[features, cols]`, from some columns of the tokens', `[tokens, width]`.
    fn gathered(&self, g: &[f32], width: usize, from: usize, cols: usize) -> Vec<f32> {
        let mut gathered = vec![0.0; self.tokens.len() * cols];
        for (row, tokens) in gathered.chunks_exact_mut(cols).zip(&self.tokens) {
            for &token in tokens {
                let token = token as usize;
                descend(row, &g[token * width + from..][..cols], -self.share(token), 1.0);
            }
        }
        gathered
    }

    /// Adds to each token's row, of these columns, what its features have, `[features, cols]`.
    fn spread(&self, moved: &[f32], cols: usize, w: &mut BlockMut<'_>) {
        for (token, of_token) in self.of_token.iter().enumerate() {
            let ([row], share) = (w.row(token), self.share(token));
            for &feature in of_token {
                descend(row, &moved[feature as usize * cols..][..cols], -share, 1.0);
            }
        }
    }
}

/// Tells what a token's text has that others may have too: case and the space before it aside, the whole of it; how it begins and
/// ends; its length; and of what kind it is.
fn features_of(text: &str, tell: &mut impl FnMut(String)) {
    tell("token".into());
    if text.is_empty() {
        return;
    }
    let bare = text.trim_start_matches(' ');
    tell(format!("space {}", bare.len() < text.len()));
    let kind = match bare.chars().next() {
        None => "none",
        Some(c) if c.is_uppercase() => "capital",
        Some(c) if c.is_alphabetic() => "letter",
        Some(c) if c.is_numeric() => "number",
        Some(_) => "sign",
    };
    tell(format!("kind {kind}"));
    let lower: Vec<char> = bare.to_lowercase().chars().collect();
    let text_of = |chars: &[char]| chars.iter().collect::<String>();
    tell(format!("whole {}", text_of(&lower)));
    tell(format!("length {}", lower.len().min(LONGEST + 2)));
    for n in 1..=LONGEST.min(lower.len()) {
        tell(format!("begins {}", text_of(&lower[..n])));
        tell(format!("ends {}", text_of(&lower[lower.len() - n..])));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AdamW, adamw::BETAS, tests::noise};
    use super::*;
    use crate::tokenizer::Level;

    const TEXT: &str = "The cat then sat. the Cat thought that those hats were theirs. There, the cat sat.";

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(Level::Bpe, &[TEXT], Some(290)).unwrap()
    }

    /// Of each feature, by name, the tokens.
    fn shared(tokenizer: &Tokenizer, a: &str, b: &str) -> usize {
        let features = Features::of(tokenizer);
        let of = |text: &str| match tokenizer.encode(text)[..] {
            [token] => &features.of_token[token as usize],
            _ => panic!("{text:?} is no token"),
        };
        of(a).iter().filter(|feature| of(b).contains(feature)).count()
    }

    #[test]
    fn tokens_share_what_they_are_spelled_with() {
        let tokenizer = Tokenizer::train(Level::Word, &[TEXT, TEXT], None).unwrap();
        let features = Features::of(&tokenizer);
        assert!(features.tokens.iter().all(|tokens| tokens.len() > 1 && tokens.is_sorted()));
        assert!(features.of_token.iter().all(|of_token| !of_token.is_empty() && of_token.is_sorted()));
        // The same letters but for the space before them; letters of both cases; nothing but being tokens.
        assert!(shared(&tokenizer, "The", " the") > shared(&tokenizer, "The", " cat"));
        assert!(shared(&tokenizer, "T", "t") > shared(&tokenizer, "T", "s"));
        assert!(shared(&tokenizer, "The", ".") >= 1);
    }

    /// Tables of a vocabulary among other tensors, wider than one task and narrower.
    fn params(vocab: usize) -> Params {
        let mut params = Params::default();
        params.add("embedding.weight", &[vocab, 70]);
        params.add("lstm.weight_hh_l0", &[8, 2]);
        params.add("head.weight", &[vocab, 3]);
        params.add("head.bias", &[vocab]);
        let values = noise(params.data.len(), 1);
        params.data.copy_from_slice(&values);
        params
    }

    /// The formula itself: the features' rows are parameters of their own, and the tokens' rows the sum.
    #[test]
    fn the_step_is_that_of_a_sum() {
        let (tokenizer, rate, betas) = (tokenizer(), 0.5, (0.7, 0.9));
        let params = params(tokenizer.vocab_size());
        let features = Features::of(&tokenizer);
        let mut ours = params.data.to_vec();
        let mut spelled =
            Spelled::over(Box::new(AdamW::with_betas(&params, betas)), &params, &tokenizer, (rate, betas));
        let (mut alone, mut rest) = (params.data.to_vec(), AdamW::with_betas(&params, betas));
        // C of each table, and their moments.
        let mut rows = Params::default();
        let tables: Vec<_> = params.tensors.iter().filter(|t| TABLES.contains(&&t.name[..])).collect();
        for table in &tables {
            rows.add(table.name.clone(), &[features.tokens.len(), table.range.len() / tokenizer.vocab_size()]);
        }
        let mut adam = AdamW::with_betas(&rows, betas);
        for step in 0..3 {
            let grads = noise(params.data.len(), 20 + step);
            spelled.update(&mut ours, &grads, 0.7, 1e-2, 0.0);
            rest.update(&mut alone, &grads, 0.7, 1e-2, 0.0);
            let mut g = vec![0.0; rows.data.len()];
            for (table, of_rows) in tables.iter().zip(&rows.tensors) {
                let width = of_rows.range.len() / features.tokens.len();
                for (token, of_token) in features.of_token.iter().enumerate() {
                    for (feature, col) in of_token.iter().flat_map(|&f| (0..width).map(move |col| (f as usize, col))) {
                        let share = 1.0 / (of_token.len() as f32).sqrt();
                        g[of_rows.range.start + feature * width + col] +=
                            share * grads[table.range.start + token * width + col];
                    }
                }
            }
            adam.update(&mut rows.data, &g, 0.7, 1e-2 * rate, 0.0);
        }
        for (table, of_rows) in tables.iter().zip(&rows.tensors) {
            let width = of_rows.range.len() / features.tokens.len();
            for (token, of_token) in features.of_token.iter().enumerate() {
                for col in 0..width {
                    let row = |&f: &u32| rows.data[of_rows.range.start + f as usize * width + col];
                    let sum = of_token.iter().map(row).sum::<f32>() / (of_token.len() as f32).sqrt();
                    let at = table.range.start + token * width + col;
                    assert!((ours[at] - alone[at] - sum).abs() < 1e-5, "{}, token {token}, {col}", table.name);
                }
            }
        }
        let hidden = params.tensors[1].range.clone();
        assert_eq!(ours[hidden.clone()], alone[hidden]);
    }

    #[test]
    fn moments_are_counted_and_taken_up() {
        let tokenizer = tokenizer();
        let params = params(tokenizer.vocab_size());
        let fresh = || Spelled::over(Box::new(AdamW::new(&params)), &params, &tokenizer, (1.0, BETAS));
        let (mut one, mut other) = (fresh(), fresh());
        let (mut values, grads) = (params.data.to_vec(), noise(params.data.len(), 5));
        one.update(&mut values, &grads, 1.0, 1e-2, 0.0);
        let state: Vec<(&str, Vec<f32>)> = one.state().into_iter().map(|(name, x)| (name, x.to_vec())).collect();
        let bytes: usize = state.iter().filter(|(name, _)| name.ends_with("spelling")).map(|(_, x)| 4 * x.len()).sum();
        assert_eq!(bytes as u64, memory(&tokenizer, 70 + 3 + 1));
        let mut take = |name: &str| state.iter().find(|(other, _)| *other == name).unwrap().1.clone();
        assert!(other.restore(&mut take, 1));
        let mut same = values.clone();
        one.update(&mut values, &grads, 1.0, 1e-2, 0.0);
        other.update(&mut same, &grads, 1.0, 1e-2, 0.0);
        assert_eq!(values, same);
        assert!(!other.restore(&mut |_| Vec::new(), 1));
    }

    #[test]
    fn where_no_token_s_row_is_trained_nothing_is_added() {
        let tokenizer = tokenizer();
        let mut params = params(tokenizer.vocab_size());
        params.tensors.iter_mut().for_each(|t| t.frozen = t.name != "lstm.weight_hh_l0");
        let optimizer = Spelled::over(Box::new(AdamW::new(&params)), &params, &tokenizer, (1.0, BETAS));
        assert!(optimizer.state().iter().all(|(name, _)| !name.ends_with("spelling")));
    }
}
