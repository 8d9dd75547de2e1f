//! The tokenizer in a file's metadata, under `tokenizer.ggml.…`.

use super::names;
use super::read::Gguf;
use crate::Result;
use crate::tokenizer::{Kind, Lists, Tokenizer};

const TOKENS: &str = "tokenizer.ggml.tokens";

/// Numbers of llama.cpp's token types.
pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;

impl Gguf {
    /// The tokenizer. Unused tokens at the end, which fill up the model's vocabulary, are left out.
    ///
    /// # Errors
    /// When it is missing, damaged, or no byte-level BPE that cuts text as GPT-2 does.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer> {
        match self.text("tokenizer.ggml.model") {
            Some("gpt2") => {}
            Some(other) => {
                let problem =
                    format!("has a tokenizer of the kind {other:?}; Penwright reads byte-level BPE, gpt2, alone");
                return Err(self.damaged(problem));
            }
            None => return Err(self.damaged("has no tokenizer; convert the model again with its tokenizer")),
        }
        // Older files do not name the way of cutting.
        if let Some(pre) = self.text("tokenizer.ggml.pre").filter(|pre| !["gpt-2", "gpt2", "default"].contains(pre)) {
            return Err(
                self.damaged(format!("has a tokenizer that cuts text as {pre:?} does; Penwright cuts as GPT-2"))
            );
        }
        let vocab = self.header.tensors.get(names::TOKENS).and_then(|entry| entry.shape.first()).copied();
        let mut tokens: Vec<(String, Kind)> = Vec::new();
        if self.texts(TOKENS).len() > vocab.unwrap_or_default() {
            return Err(self.damaged("has more tokens than rows of the token embedding; convert the model again"));
        }
        for token in self.texts(TOKENS) {
            tokens.push((token?.into(), Kind::Bytes));
        }
        if let Some(types) = self.integers("tokenizer.ggml.token_type") {
            for (token, kind) in tokens.iter_mut().zip(types) {
                token.1 = match kind.and_then(|kind| i32::try_from(kind).ok()) {
                    Some(UNKNOWN | CONTROL) => Kind::Special,
                    Some(USER_DEFINED) => Kind::Added,
                    Some(UNUSED) => Kind::Unused,
                    _ => Kind::Bytes,
                };
            }
        }
        let mut merges = Vec::new();
        for merge in self.texts("tokenizer.ggml.merges") {
            let pair = merge?.split_once(' ');
            let (a, b) = pair.ok_or_else(|| self.damaged("has a merge that is not a pair; convert the model again"))?;
            merges.push((a.into(), b.into()));
        }
        let eot = self.integer("tokenizer.ggml.eos_token_id").or(self.integer("tokenizer.ggml.bos_token_id"));
        let eot = eot.map(|id| u32::try_from(id).unwrap_or(u32::MAX));
        Tokenizer::from_lists(Lists { tokens, merges, eot })
            .map_err(|e| self.damaged(format!("has a tokenizer that {e}; convert the model again")))
    }
}
