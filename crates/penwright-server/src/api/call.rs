//! A request on its way through the engine: what it asks for, and what came of it.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use penwright::generate::{Prompt, Sample};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::app::App;
use crate::engine::{Event, Task, Token};
use crate::http::ApiError;
use crate::models::Model;

/// What is asked for each prompt of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// Texts that continue it.
    pub(super) texts: usize,
    /// How far apart their numbers are.
    pub(super) apart: u64,
    /// Likeliest tokens beside each token of a text, beside each of the prompt, after the prompt.
    pub(super) top: Option<usize>,
    pub(super) prompt_top: Option<usize>,
    pub(super) next: usize,
}

impl Ask {
    /// So many texts, and nothing beside them.
    pub(super) fn texts(texts: usize) -> Self {
        Ask { texts, apart: 1, top: None, prompt_top: None, next: 0 }
    }

    /// How likely the prompt's own tokens are, with so many others beside each.
    pub(super) fn scores(top: usize) -> Self {
        Ask { prompt_top: Some(top), ..Self::texts(0) }
    }
}

/// The events of a request.
pub(super) struct Call {
    events: UnboundedReceiver<(usize, Event)>,
}

/// A text with its tokens, if they were asked for.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) sample: Sample,
    pub(super) tokens: Vec<Token>,
}

/// What came of a prompt.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The prompt's tokens, if they were asked for.
    pub(super) prompt: Vec<Token>,
    pub(super) next: Vec<(u32, f32)>,
    pub(super) texts: Vec<Text>,
}

impl Call {
    /// Queues the prompts, each with the number of its first text.
    pub(super) fn new(
        app: &App,
        model: &Model,
        client: u64,
        prompts: &[(Arc<Prompt>, u64)],
        ask: Ask,
    ) -> Result<Self, ApiError> {
        let (sender, events) = unbounded_channel();
        let Ask { texts, apart, top, prompt_top, next } = ask;
        if texts > model.streams {
            let message = format!("{texts} texts at once are more than the {} streams of this model", model.streams);
            return Err(ApiError::field("n", format!("{message}; ask for fewer, or raise --streams")));
        }
        for (number, (prompt, first)) in prompts.iter().enumerate() {
            check_length(app, prompt)?;
            let task = Task {
                prompt: prompt.clone(),
                texts,
                first: *first,
                apart,
                top,
                prompt_top,
                next,
                client,
                queued: Instant::now(),
                limit: app.options.request_timeout,
                events: sender.clone(),
                number,
            };
            app.engine.submit(model, task)?;
        }
        Ok(Call { events })
    }

    /// The next event and the number of its prompt; `None` when all is done.
    pub(super) async fn next(&mut self) -> Result<Option<(usize, Event)>, ApiError> {
        match self.events.recv().await {
            Some((_, Event::Failed(failure))) => Err(failure.into()),
            event => Ok(event),
        }
    }

    /// Waits for everything.
    pub(super) async fn finish(mut self, prompts: usize, ask: Ask) -> Result<Vec<Outcome>, ApiError> {
        let mut outcomes: Vec<Outcome> = (0..prompts).map(|_| Outcome::default()).collect();
        let mut tokens = vec![Vec::new(); prompts * ask.texts];
        let mut samples: Vec<Option<Sample>> = vec![None; prompts * ask.texts];
        while let Some((i, event)) = self.next().await? {
            match event {
                Event::Prompt(more) => outcomes[i].prompt.extend(more),
                Event::Next(next) => outcomes[i].next = next,
                Event::Piece { text, tokens: more, .. } => tokens[i * ask.texts + text].extend(more),
                Event::Done { text, sample } => samples[i * ask.texts + text] = Some(sample),
                Event::Failed(failure) => return Err(failure.into()),
            }
        }
        for (at, (sample, tokens)) in samples.into_iter().zip(tokens).enumerate() {
            let lost = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "a text was lost; try again");
            outcomes[at / ask.texts].texts.push(Text { sample: sample.ok_or_else(lost)?, tokens });
        }
        Ok(outcomes)
    }
}

fn check_length(app: &App, prompt: &Prompt) -> Result<(), ApiError> {
    let (length, most) = (prompt.tokens().len(), app.options.max_prompt);
    match length > most {
        false => Ok(()),
        true => {
            let message = format!("the prompt has {length} tokens; at most {most} are allowed here (--max-prompt)");
            Err(ApiError::field("prompt", message).code("context_length_exceeded"))
        }
    }
}
