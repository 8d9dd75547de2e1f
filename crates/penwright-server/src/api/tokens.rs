//! Tokens and their likelihoods in the forms that OpenAI gives them.

use penwright::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use crate::engine::Token;

/// A token's text; one that is only a part of a character as `bytes:\xe2\x80`.
fn name(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = tokenizer.decode_bytes(&[id]);
    match std::str::from_utf8(&bytes) {
        Ok("") => tokenizer.piece(id),
        Ok(text) => text.to_string(),
        Err(_) => bytes.iter().fold("bytes:".to_string(), |name, byte| format!("{name}\\x{byte:02x}")),
    }
}

/// The `logprobs` of a completion: lists side by side.
#[derive(Default)]
pub(super) struct Columns {
    tokens: Vec<Value>,
    log_probs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<Value>,
}

impl Columns {
    /// Adds tokens; `offset`: characters before the text in which their places count, `alternatives`: how many of the
    /// likeliest are asked for.
    pub(super) fn add(&mut self, tokenizer: &Tokenizer, tokens: &[Token], offset: usize, alternatives: usize) {
        for token in tokens {
            self.tokens.push(name(tokenizer, token.id).into());
            self.log_probs.push(json!(token.log_prob));
            self.offsets.push((offset + token.start).into());
            if alternatives == 0 {
                self.top.push(Value::Null);
                continue;
            }
            // The token itself is there in any case.
            let own = (token.id, token.log_prob);
            let all = token.top.iter().take(alternatives).copied().chain([own]);
            let named = all.map(|(id, log_prob)| (name(tokenizer, id), json!(log_prob)));
            self.top.push(Value::Object(named.collect::<Map<_, _>>()));
        }
    }

    /// The first token of a prompt has nothing before it that OpenAI would count, and no likelihood there.
    pub(super) fn into_json(self) -> Value {
        json!({
            "tokens": self.tokens, "token_logprobs": self.log_probs, "top_logprobs": self.top,
            "text_offset": self.offsets
        })
    }
}

/// A prompt's tokens with the places of their texts, in characters, instead of their numbers.
pub(super) fn placed(tokenizer: &Tokenizer, text: &str, tokens: Vec<Token>) -> Vec<Token> {
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    let (mut at, mut start) = (0, 0);
    let mut place = |span: std::ops::Range<usize>| {
        start += text.get(at..span.start).map_or(0, |between| between.chars().count());
        at = span.start.max(at);
        start
    };
    let spans = tokenizer.spans(text, &ids);
    tokens.into_iter().zip(spans).map(|(token, span)| Token { start: place(span), ..token }).collect()
}

/// The `logprobs.content` of a chat's choice.
pub(super) fn content(tokenizer: &Tokenizer, tokens: &[Token], alternatives: usize) -> Vec<Value> {
    let entry = |id: u32, log_prob: f32| json!({"token": name(tokenizer, id), "logprob": log_prob, "bytes": tokenizer.decode_bytes(&[id])});
    let whole = |token: &Token| {
        let mut value = entry(token.id, token.log_prob);
        value["top_logprobs"] = token.top.iter().take(alternatives).map(|&(id, log)| entry(id, log)).collect();
        value
    };
    tokens.iter().map(whole).collect()
}
