//! The tokens of a conversation and how far a session has read them.

use crate::Result;
use crate::model::Session;

/// Stream 0 of the session has read the first `read` tokens, stream 1 the first `copied` (0: it is not in use).
pub(super) struct Past {
    /// None where the tokens are only laid, for another session to read.
    session: Option<Box<dyn Session>>,
    tokens: Vec<u32>,
    read: usize,
    copied: usize,
}

impl Past {
    pub(super) fn new(session: Option<Box<dyn Session>>) -> Self {
        Past { session, tokens: Vec::new(), read: 0, copied: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(super) fn append(&mut self, tokens: &[u32]) {
        self.tokens.extend(tokens);
    }

    /// Forgets what lies beyond `len`, going back to the copy where that much has been read already.
    pub(super) fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        if self.copied > len {
            self.copied = 0;
        }
        if self.read > len {
            match (&mut self.session, self.copied) {
                (Some(session), 0) => session.reset(0),
                (Some(session), _) => session.copy(1, 0),
                (None, _) => {}
            }
            self.read = self.copied;
        }
    }

    /// Other tokens; what they have in common with the present ones need not be read again.
    pub(super) fn replace(&mut self, tokens: Vec<u32>) {
        self.truncate(self.tokens.iter().zip(&tokens).take_while(|(a, b)| a == b).count());
        self.tokens = tokens;
    }

    /// Reads up to `len`.
    pub(super) fn read_to(&mut self, len: usize) -> Result<()> {
        let len = len.min(self.tokens.len());
        let Some(session) = &mut self.session else { return Ok(()) };
        let read = match self.tokens.get(self.read..len) {
            None | Some([]) => return Ok(()),
            Some(&[token]) if self.read > 0 => session.step(&[0], &[token]),
            Some(tokens) => session.feed(0, tokens),
        };
        match read {
            Ok(()) => self.read = len,
            Err(_) => {
                session.reset(0);
                (self.read, self.copied) = (0, 0);
            }
        }
        read
    }

    /// Keeps a copy of the state if exactly `len` tokens have been read.
    pub(super) fn remember(&mut self, len: usize) {
        if let Some(session) = self.session.as_mut().filter(|_| self.read == len && self.copied != len) {
            session.copy(0, 1);
            self.copied = len;
        }
    }

    /// Natural-log probabilities of the token after the last one read.
    pub(super) fn log_probs(&self) -> &[f32] {
        self.session.as_ref().map_or(&[], |session| session.log_probs(0))
    }
}
