//! The answer to a request as it comes.

use serde_json::Value;

use super::call::Call;
use crate::engine::Event;
use crate::http::Events;

/// What makes the chunks of a stream from what comes of a request.
pub(super) trait Chunks: Send + 'static {
    /// What an event becomes; `prompt` is the number of its prompt.
    fn of(&mut self, prompt: usize, event: Event) -> Vec<Value>;

    /// What comes after all texts, if anything.
    fn last(&self) -> Option<Value>;
}

/// A request's events as chunks.
pub(super) struct Stream<C> {
    call: Call,
    chunks: C,
    over: bool,
}

impl<C: Chunks> Stream<C> {
    pub(super) fn new(call: Call, chunks: C) -> Self {
        Stream { call, chunks, over: false }
    }
}

impl<C: Chunks> Events for Stream<C> {
    async fn next(&mut self) -> Option<Vec<Value>> {
        while !self.over {
            let chunks = match self.call.next().await {
                Ok(Some((prompt, event))) => self.chunks.of(prompt, event),
                Ok(None) => {
                    self.over = true;
                    Vec::from_iter(self.chunks.last())
                }
                Err(error) => {
                    self.over = true;
                    vec![error.value()]
                }
            };
            if !chunks.is_empty() {
                return Some(chunks);
            }
        }
        None
    }
}
