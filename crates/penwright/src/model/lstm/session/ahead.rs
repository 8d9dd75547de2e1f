//! Reading ahead. A state needs the one before it, so only the output layer serves all tokens of a draft at once. The
//! states after each token lie behind those of the streams until one of them is kept.

use penwright_kernels::team;

use super::{LstmSession, copy, gates};

impl LstmSession {
    /// The layers' share of the weights: what is read for each token, in a draft or not.
    pub(super) fn cost(&self) -> f32 {
        let model = &*self.decoder.model;
        let layers: usize = model.layers.iter().map(|l| gates(l) * (l.input.inputs + l.hidden)).sum();
        layers as f32 / (layers + model.head.inputs * model.head.outputs) as f32
    }

    pub(super) fn read_ahead(&mut self, streams: &[usize], tokens: &[u32], drafts: &[&[u32]]) {
        let LstmSession { decoder, places, streams: states, rows, buffers, ahead, .. } = self;
        let drafts = || streams.iter().map(|&stream| places.of(stream)).zip(drafts.iter().copied());
        let mut end = places.len();
        for (place, draft) in drafts() {
            ahead[place] = (end, draft.len());
            end += draft.len();
        }
        if states.len() < end {
            states.resize(end, states[0].clone());
        }
        let longest = drafts().map(|(_, draft)| draft.len()).max().unwrap_or(0);
        team(|| {
            rows.clear();
            rows.extend(streams.iter().map(|&stream| places.of(stream)));
            decoder.step(states, rows, tokens, buffers, longest == 0);
            let mut read = Vec::new();
            for n in 0..longest {
                rows.clear();
                read.clear();
                for (place, draft) in drafts().filter(|(_, draft)| n < draft.len()) {
                    let to = ahead[place].0 + n;
                    copy(states, if n == 0 { place } else { to - 1 }, to);
                    rows.push(to);
                    read.push(draft[n]);
                }
                decoder.step(states, rows, &read, buffers, false);
            }
            if longest > 0 {
                rows.clear();
                rows.extend(streams.iter().map(|&stream| places.of(stream)).chain(places.len()..end));
                let inputs = decoder.model.head.inputs;
                let first: usize = decoder.model.layers.iter().rev().skip(1).map(|layer| gates(layer) / 4).sum();
                buffers.x.clear();
                for &row in &*rows {
                    buffers.x.extend_from_slice(&states[row].hidden[first..][..inputs]);
                }
                decoder.predict(states, rows, buffers);
            }
        });
    }

    /// The log-probabilities after `n` tokens of the draft of the stream at a place, if it has one.
    pub(super) fn ahead(&self, place: usize, n: usize) -> Option<&[f32]> {
        let &(first, drafted) = self.ahead.get(place)?;
        let last = n.min(drafted).checked_sub(1)?;
        self.streams.get(first + last).map(|state| &state.log_probs[..])
    }

    pub(super) fn keep_ahead(&mut self, place: usize, n: usize) {
        let Some(ahead) = self.ahead.get_mut(place) else { return };
        let (first, drafted) = std::mem::take(ahead);
        if let Some(last) = n.min(drafted).checked_sub(1) {
            copy(&mut self.streams, first + last, place);
        }
    }
}
