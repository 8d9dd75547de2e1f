//! Where a text ends, and how much of it can be shown before that is known.

use std::sync::Arc;

use super::units::Counter;

/// The text of one sample as it grows. It ends before the stop string that is complete first (of several, the
/// longest), or exactly after the last word, sentence or paragraph asked for; both are found character by character,
/// so that the tokens' borders make no difference.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    stops: Arc<[String]>,
    counter: Option<Counter>,
    text: String,
    /// Bytes handed out.
    shown: usize,
    /// Bytes beyond which the unit may prove to have ended.
    limit: usize,
    ended: bool,
}

impl Ending {
    pub(super) fn new(stops: Arc<[String]>, counter: Option<Counter>) -> Self {
        Ending { stops, counter, text: String::new(), shown: 0, limit: usize::MAX, ended: false }
    }

    /// The text; before its end, as far as it has been written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Adds what was written; true when the text has come to its end.
    pub(super) fn push(&mut self, piece: &str) -> bool {
        for c in piece.chars() {
            if self.ended {
                break;
            }
            self.text.push(c);
            let stop = self.stops.iter().filter(|stop| self.text.ends_with(stop.as_str())).map(String::len).max();
            let mut end = stop.map(|len| self.text.len() - len);
            if let Some(counter) = &mut self.counter {
                counter.note(c);
                self.limit = usize::MAX;
                match counter.look(&self.text, false) {
                    Some((at, true)) => end = Some(end.map_or(at, |end| end.min(at))),
                    Some((at, false)) => self.limit = at,
                    None => {}
                }
            }
            if let Some(end) = end {
                self.end(end);
            }
        }
        self.ended
    }

    fn end(&mut self, at: usize) {
        self.text.truncate(at.max(self.shown));
        (self.ended, self.limit) = (true, usize::MAX);
    }

    /// The text that is certain by now and has not been handed out.
    pub(super) fn fresh(&mut self) -> &str {
        let held =
            if self.ended { 0 } else { self.stops.iter().map(|stop| begun(&self.text, stop)).max().unwrap_or(0) };
        let to = (self.text.len() - held).min(self.limit).max(self.shown);
        let from = std::mem::replace(&mut self.shown, to);
        &self.text[from..to]
    }

    /// No more will be written: nothing need be held back.
    pub(super) fn finish(&mut self) {
        if !self.ended {
            let end = self.counter.as_mut().and_then(|counter| counter.look(&self.text, true));
            self.end(end.map_or(self.text.len(), |(at, _)| at));
        }
    }

    /// Ends the text with what was handed out.
    pub(super) fn cut(&mut self) {
        self.end(self.shown);
    }
}

/// Bytes of the longest end of the text that is a beginning, but not all, of `stop`.
fn begun(text: &str, stop: &str) -> usize {
    let mut lengths = stop.char_indices().map(|(i, _)| i).rev();
    lengths.find(|&i| text.ends_with(&stop[..i])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::units::Unit;
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], unit: Option<(Unit, usize)>, pieces: &[&str]) -> (String, String, bool) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut ending = Ending::new(stops.into(), unit.map(|(unit, count)| Counter::new(unit, count, "")));
        let (mut shown, mut ended) = (String::new(), false);
        for piece in pieces {
            ended = ending.push(piece);
            shown.push_str(ending.fresh());
            if ended {
                break;
            }
        }
        ending.finish();
        shown.push_str(ending.fresh());
        (shown, ending.text().into(), ended)
    }

    #[test]
    fn stop_strings_across_pieces() {
        for (stops, pieces, expected) in [
            (&["END"][..], &["a E", "N", "D b"][..], "a "),
            (&["END"], &["a E", "N", "d"], "a ENd"),
            (&["END"], &["EEN", "DEND"], "E"),
            (&["aab"], &["aa", "ab"], "a"),
            (&["\n\n", "\n"], &["x\n\ny"], "x"),
            (&["b", "abc"], &["a", "bc"], "a"),
            (&["bc", "abc"], &["xa", "bc"], "x"),
            (&["é…"], &["é", "é", "…"], "é"),
        ] {
            let (shown, text, ended) = run(stops, None, pieces);
            assert_eq!((shown.as_str(), text.as_str()), (expected, expected), "{stops:?} {pieces:?}");
            assert_eq!(ended, expected != "a ENd");
        }
        assert_eq!(run(&["two"], Some((Unit::Word, 2)), &["one tw", "o three"]).0, "one ");
        assert_eq!(run(&["wo"], Some((Unit::Word, 1)), &["one tw", "o three"]).0, "one");
    }

    proptest! {
        /// Cut in any pieces: the same text, nothing shown that is not in it, no stop string in it.
        #[test]
        fn borders_make_no_difference(
            text in "[abAB .?!\n\"’é]{0,60}", cuts in prop::collection::vec(1usize..6, 1..60),
            stops in prop::collection::vec("[ab é]{1,3}", 0..3), unit in 0usize..4, count in 1usize..4
        ) {
            let units = [Unit::Word, Unit::Sentence, Unit::Paragraph];
            let unit = units.get(unit).map(|&unit| (unit, count));
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let chars: Vec<char> = text.chars().collect();
            let (mut rest, mut pieces) = (&chars[..], Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece.iter().collect::<String>());
                rest = after;
            }
            let (shown, ended, stopped) = run(&stops, unit, &pieces.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(&shown, &ended);
            let (whole, _, whole_stopped) = run(&stops, unit, &[&text]);
            prop_assert_eq!((&shown, stopped), (&whole, whole_stopped));
            prop_assert!(text.starts_with(&shown));
            prop_assert!(stops.iter().all(|stop| !shown.contains(stop)));
        }
    }
}
