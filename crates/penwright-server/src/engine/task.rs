//! What a request asks of the engine, and what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penwright::generate::{Prompt, Sample};
use tokio::sync::mpsc::UnboundedSender;

/// Texts that continue one prompt.
pub(crate) struct Task {
    /// What is continued, and how.
    pub(crate) prompt: Arc<Prompt>,
    /// How many texts; none to read the prompt alone.
    pub(crate) texts: usize,
    /// The number of the first text (see [`penwright::generate::Writing::new`]), and how far apart the numbers are.
    pub(crate) first: u64,
    pub(crate) apart: u64,
    /// How many likeliest tokens to tell beside each token of a text; `None` to tell nothing of them.
    pub(crate) top: Option<usize>,
    /// Likewise for the tokens of the prompt.
    pub(crate) prompt_top: Option<usize>,
    /// How many of the likeliest tokens after the prompt to tell.
    pub(crate) next: usize,
    /// Who asks: of those, each has the same share of the queue.
    pub(crate) client: u64,
    /// When it was queued, and how long it may take from then on.
    pub(crate) queued: Instant,
    pub(crate) limit: Duration,
    /// Where the events go, with the number of the prompt in its request; the task is dropped when nobody listens.
    pub(crate) events: UnboundedSender<(usize, Event)>,
    pub(crate) number: usize,
}

impl Task {
    /// Streams that it takes.
    pub(crate) fn streams(&self) -> usize {
        self.texts.max(1)
    }

    /// Whoever has gone away is not told, and needs not be.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.events.send((self.number, event));
    }

    /// Whether nobody waits for it any more, or for too long; that is told.
    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        let late = now.saturating_duration_since(self.queued) >= self.limit;
        if late {
            self.send(Event::Failed(Failure::Late { limit: self.limit.as_secs() }));
        }
        late || self.events.is_closed()
    }
}

/// A token and how likely the model found it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    /// Its id.
    pub(crate) id: u32,
    /// Natural logarithm of its probability under the model itself.
    pub(crate) log_prob: f32,
    /// Where its text begins: in characters of the text; of a prompt's tokens, its number.
    pub(crate) start: usize,
    /// The likeliest ids in its place, likeliest first, with their log-probabilities.
    pub(crate) top: Vec<(u32, f32)>,
}

/// What happens to a task, in order.
#[derive(Debug)]
pub(crate) enum Event {
    /// Some more tokens of the prompt.
    Prompt(Vec<Token>),
    /// The likeliest tokens after the prompt.
    Next(Vec<(u32, f32)>),
    /// Some more of a text: characters that belong to it for certain, and the tokens that begin in them.
    Piece { text: usize, piece: String, tokens: Vec<Token> },
    /// A text is complete.
    Done { text: usize, sample: Sample },
    /// The task is given up.
    Failed(Failure),
}

/// Why a task is not done, or not done to the end.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Failure {
    /// Too many wait already.
    #[error("{waiting} requests wait for this model already; try again in about {after} s")]
    Full { waiting: usize, after: u64 },
    /// It took too long.
    #[error("the request took longer than {limit} s; ask for fewer tokens, or raise --request-timeout")]
    Late { limit: u64 },
    /// The server is about to leave.
    #[error("the server is stopping; try again later")]
    Stopping,
    /// The model failed.
    #[error("the model failed: {0}")]
    Model(String),
}
