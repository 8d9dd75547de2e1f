//! A model's session and the texts in its streams.

use std::sync::Arc;
use std::time::Instant;

use penwright::generate::{Due, Scratch, Writing, Written, next_of_each};
use penwright::model::Session;

use super::queue::Queue;
use super::reader::{Reading, likeliest, pieces, token};
use super::task::{Event, Failure, Task, Token};
use crate::Result;
use crate::models::Model;

/// A text being written.
struct Text {
    task: Arc<Task>,
    stream: usize,
    /// Its number among those of the task.
    number: usize,
    writing: Writing,
    /// The tokens that begin beyond what was handed out.
    held: Vec<Token>,
    /// When its last token came.
    last: Option<Instant>,
}

/// Reads and writes with one model.
pub(super) struct Worker {
    model: Arc<Model>,
    session: Box<dyn Session>,
    /// Streams that nobody has, the lowest last: their memory has been touched before.
    free: Vec<usize>,
    reading: Vec<Reading>,
    writing: Vec<Text>,
    scratches: Vec<Scratch>,
}

impl Worker {
    pub(super) fn new(model: Arc<Model>) -> Result<Self> {
        let session = begin(&model)?;
        let free = (0..model.streams).rev().collect();
        Ok(Worker { model, session, free, reading: Vec::new(), writing: Vec::new(), scratches: Vec::new() })
    }

    pub(super) fn index(&self) -> usize {
        self.model.index
    }

    /// Lets waiting tasks in, as far as there are streams for them.
    pub(super) fn admit(&mut self, queue: &mut Queue) {
        let now = Instant::now();
        let before = queue.len();
        queue.retain(|task| !task.is_lost(now));
        while let Some(task) = queue.pop(|task| task.streams() <= self.free.len()) {
            let mut streams = self.free.split_off(self.free.len() - task.streams());
            streams.reverse();
            self.session.reset(streams[0]);
            self.reading.push(Reading::new(task, streams));
        }
        if before > 0 {
            self.model.metrics.waiting.set(queue.len() as u64);
        }
    }

    /// One pass over the weights; false when there is nothing to do.
    pub(super) fn pass(&mut self) -> bool {
        self.drop_lost();
        self.model.metrics.busy.set((self.model.streams - self.free.len()) as u64);
        if self.reading.is_empty() && self.writing.is_empty() {
            return false;
        }
        if let Err(error) = self.try_pass() {
            self.fail(&Failure::Model(error.to_string()));
        }
        true
    }

    fn try_pass(&mut self) -> penwright::Result<()> {
        for reading in self.reading.iter_mut().filter(|reading| reading.is_scored()) {
            let read = reading.read_scored(&mut *self.session)?;
            self.model.metrics.read.add(read as u64);
        }
        self.choose();
        self.step()?;
        self.begin_texts();
        Ok(())
    }

    /// Drops the texts that nobody waits for any more, and those that took too long.
    fn drop_lost(&mut self) {
        let (now, mut lost) = (Instant::now(), 0);
        for reading in self.reading.extract_if(.., |reading| reading.task.is_lost(now)) {
            self.free.extend(reading.streams);
            lost += 1;
        }
        for text in self.writing.extract_if(.., |text| text.task.is_lost(now)) {
            self.free.push(text.stream);
            lost += 1;
        }
        self.model.metrics.cancelled.add(lost);
        self.free.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Chooses a token for each text being written, tells of it, and lets those go that have ended.
    fn choose(&mut self) {
        if self.writing.is_empty() {
            return;
        }
        let session = &*self.session;
        let mut due: Vec<Due<'_>> =
            self.writing.iter_mut().map(|text| (&mut text.writing, session.log_probs(text.stream))).collect();
        let written = next_of_each(&mut due, &mut self.scratches);
        let now = Instant::now();
        for (text, written) in self.writing.iter_mut().zip(&written) {
            text.tell(*written, session.log_probs(text.stream), &self.model, now);
        }
        for text in self.writing.extract_if(.., |text| text.writing.finished().is_some()) {
            self.free.push(text.stream);
            self.model.metrics.note_done(text.task.queued.elapsed());
            text.task.send(Event::Done { text: text.number, sample: text.writing.sample() });
        }
    }

    /// Hands the tokens chosen, and pieces of prompts, to the session.
    fn step(&mut self) -> penwright::Result<()> {
        let mut streams: Vec<usize> = self.writing.iter().map(|text| text.stream).collect();
        let last: Vec<u32> = self.writing.iter().filter_map(|text| text.writing.written().last().copied()).collect();
        let pieces = pieces(&mut self.reading, !streams.is_empty());
        if pieces.is_empty() {
            return match streams.is_empty() {
                true => Ok(()),
                false => self.session.step(&streams, &last),
            };
        }
        let mut tokens: Vec<&[u32]> = last.chunks(1).collect();
        for (i, piece) in &pieces {
            let reading = &self.reading[*i];
            streams.push(reading.stream());
            tokens.push(reading.tokens(piece.clone()));
        }
        self.session.feed_together(&streams, &tokens)?;
        let read = pieces.iter().map(|(_, piece)| piece.len()).sum::<usize>();
        self.model.metrics.read.add(read as u64);
        // Whoever had no piece comes first in the next pass.
        let served = pieces.len() % self.reading.len().max(1);
        self.reading.rotate_left(served);
        Ok(())
    }

    /// Prompts that have been read become texts.
    fn begin_texts(&mut self) {
        for Reading { task, streams, .. } in self.reading.extract_if(.., |reading| reading.is_done()) {
            if task.next > 0 {
                let next = likeliest(self.session.log_probs(streams[0]), task.next);
                task.send(Event::Next(next));
            }
            for (number, &stream) in streams.iter().enumerate() {
                if number > 0 {
                    self.session.copy(streams[0], stream);
                }
                let sample = task.first.wrapping_add(task.apart.wrapping_mul(number as u64));
                let writing = Writing::new(&task.prompt, sample);
                // Without a token to write it has ended already.
                if number >= task.texts || writing.finished().is_some() {
                    self.free.push(stream);
                    if number < task.texts {
                        task.send(Event::Done { text: number, sample: writing.sample() });
                    }
                    continue;
                }
                self.writing.push(Text { task: task.clone(), stream, number, writing, held: Vec::new(), last: None });
            }
        }
    }

    /// Gives up all texts; how many there were, a prompt being read counting as one.
    pub(super) fn fail(&mut self, failure: &Failure) -> usize {
        let count = self.reading.len() + self.writing.len();
        for task in self.reading.drain(..).map(|r| r.task).chain(self.writing.drain(..).map(|text| text.task)) {
            task.send(Event::Failed(failure.clone()));
        }
        self.free = (0..self.model.streams).rev().collect();
        self.model.metrics.busy.set(0);
        count
    }

    /// Begins anew after a fault.
    pub(super) fn restart(&mut self) {
        self.fail(&Failure::Model("an internal fault; the request was given up, the server goes on".into()));
        if let Ok(session) = begin(&self.model) {
            self.session = session;
        }
    }
}

/// A session that has its memory: better refused now than at the first request.
fn begin(model: &Model) -> Result<Box<dyn Session>> {
    let mut session = model.run.model.clone().session(model.streams)?;
    session.feed(0, &[model.run.tokenizer.eot()])?;
    session.reset(0);
    Ok(session)
}

impl Text {
    /// Sends what is certain of the text by now.
    fn tell(&mut self, written: Option<Written>, log_probs: &[f32], model: &Model, now: Instant) {
        if let Some(Written { id, start, .. }) = written {
            model.metrics.note_token(now, self.task.queued, self.last.replace(now));
            if let Some(top) = self.task.top {
                self.held.push(token(log_probs, id, start, top));
            }
        }
        let piece = self.writing.fresh().into_owned();
        let shown = self.writing.shown();
        // Tokens belong to the text as far as they begin in it; the last ones, of a stop string say, never come to.
        let tokens: Vec<Token> = self.held.extract_if(.., |token| token.start < shown).collect();
        if !piece.is_empty() || !tokens.is_empty() {
            self.task.send(Event::Piece { text: self.number, piece, tokens });
        }
    }
}
