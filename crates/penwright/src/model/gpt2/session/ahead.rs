//! Reading ahead: a token and the draft of what may follow are rows of one batch, so that the weights are read once.
//! What is not kept is cut off both caches again. That needs no copy, because no cache takes another's place amid a
//! draft: it ends where the context does.

use penwright_kernels::decode::Format;
use penwright_kernels::{Element, Isa, isa, team};

use super::Gpt2Session;
use crate::model::LanguageModel;
use crate::model::decode::SMALL;

/// Where the log-probabilities of a stream's last step lie among those of all rows, and how many follow them that are
/// of its draft.
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead {
    first: usize,
    drafted: usize,
}

impl<T: Element> Gpt2Session<T> {
    /// Tokens that the stream at a place can read after its next one without sliding.
    pub(super) fn room(&self, place: usize) -> usize {
        let Some(stream) = self.streams.get(place) else { return 0 };
        let context = self.config().context;
        let len = if stream.main.len() == context { stream.shadow.len() } else { stream.main.len() };
        context.saturating_sub(len + 1)
    }

    /// What a further row of a text costs, as a part of a step: as measured (`examples/ahead_cost.rs`) with 124 million
    /// and 1.2 million parameters, weights that come from memory and weights that stay in the caches;
    /// f32 from memory, and int8 and int4 from memory without bfloat16, are taken from their neighbours.
    pub(super) fn cost(&self) -> f32 {
        let (format, large) = (self.decoder.decoding.format, self.decoder.model.num_params() > SMALL);
        let cost = |in_memory, in_caches| if large { in_memory } else { in_caches };
        match (isa(), format) {
            (Isa::Avx512Bf16, Format::Bf16) | (Isa::Avx512Bf16 | Isa::Avx512, Format::F32) => cost(0.03, 0.22),
            (Isa::Avx512Bf16 | Isa::Avx512, Format::Int8) => cost(0.1, 0.3),
            (Isa::Avx512Bf16 | Isa::Avx512, Format::Int4) => cost(0.14, 0.47),
            (_, Format::F32 | Format::Bf16) => cost(0.47, 0.7),
            (_, Format::Int8) => 0.85,
            (_, Format::Int4) => 0.98,
        }
    }

    pub(super) fn read_ahead(&mut self, streams: &[usize], tokens: &[u32], drafts: &[&[u32]]) {
        let mut first = 0;
        for (i, (&stream, &token)) in streams.iter().zip(tokens).enumerate() {
            let place = self.places.of(stream);
            let draft = drafts.get(i).copied().unwrap_or_default();
            let draft = &draft[..draft.len().min(self.room(place))];
            self.push(place, token, true);
            draft.iter().for_each(|&token| self.push(place, token, true));
            self.streams[place].ahead = Ahead { first, drafted: draft.len() };
            first += 1 + draft.len();
        }
        let Gpt2Session { decoder, places, streams: all, rows, buffers, .. } = self;
        team(|| decoder.decode(all, rows, buffers));
        rows.clear();
        let vocab = decoder.model.config.vocab;
        for &stream in streams {
            let stream = &mut all[places.of(stream)];
            stream.log_probs.copy_from_slice(&buffers.logits[stream.ahead.first * vocab..][..vocab]);
        }
    }

    /// The log-probabilities after `n` tokens of the draft of the stream at a place, if it has one.
    pub(super) fn ahead(&self, place: usize, n: usize) -> Option<&[f32]> {
        let Ahead { first, drafted } = self.streams.get(place)?.ahead;
        let vocab = self.config().vocab;
        self.buffers.logits[..].get((first + n.min(drafted)) * vocab..)?.get(..vocab).filter(|_| n.min(drafted) > 0)
    }

    pub(super) fn keep_ahead(&mut self, place: usize, n: usize) {
        let (delay, vocab) = (self.delay(), self.config().vocab);
        let Some(stream) = self.streams.get_mut(place) else { return };
        let Ahead { first, drafted } = std::mem::take(&mut stream.ahead);
        let n = n.min(drafted);
        if n > 0 {
            stream.log_probs.copy_from_slice(&self.buffers.logits[(first + n) * vocab..][..vocab]);
        }
        if n < drafted {
            let len = stream.main.len() - (drafted - n);
            stream.main.truncate(len);
            stream.shadow.truncate(len.saturating_sub(delay));
        }
    }
}
