//! The result in words and as a table for the terminal.

use super::{Comparison, Entry};
use crate::page::format::{NONE, characters, count, duration, percent, short_names, si, significant};
use crate::page::table::{Table, fit};

/// Differences in bits per character below this share are called equal.
const EQUAL: f64 = 0.005;

impl Comparison {
    /// Names for people, in the order of the models: the last part of each run's path where that is unique.
    pub fn names(&self) -> Vec<String> {
        short_names(&self.models.iter().map(|m| m.run.as_str()).collect::<Vec<_>>())
    }

    /// The models' places from the best to the worst in bits per character.
    pub fn ranking(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.models.len()).collect();
        order.sort_by(|&a, &b| self.models[a].bits_per_char.total_cmp(&self.models[b].bits_per_char));
        order
    }

    /// A few words: who predicts the text best.
    pub fn headline(&self) -> String {
        let (names, order) = (self.names(), self.ranking());
        match order[..] {
            [] => "Nothing was compared".into(),
            [only] => format!("{} needs {:.2} bits per character", names[only], self.models[only].bits_per_char),
            [best, second, ..] if self.lead(best, second) < EQUAL => {
                format!("{} and {} predict the text equally well", names[best], names[second])
            }
            [best, second, ..] => {
                let lead = percent(self.lead(best, second));
                format!("{} predicts the text best, {lead} ahead of {}", names[best], names[second])
            }
        }
    }

    /// By what share of its bits the second is behind the best.
    fn lead(&self, best: usize, second: usize) -> f64 {
        1.0 - self.models[best].bits_per_char / self.models[second].bits_per_char
    }

    /// Plain sentences: which model writes best, by how much, and what that cost.
    pub fn verdict(&self) -> String {
        let (names, order) = (self.names(), self.ranking());
        let Some(&best) = order.first() else { return "Nothing was compared.".into() };
        let model = &self.models[best];
        let bits = |i: usize| format!("{:.2}", self.models[i].bits_per_char);
        let mut sentences = vec![match order.get(1) {
            None => format!("{} needs {} bits for each character of the text.", names[best], bits(best)),
            Some(&second) => {
                let lead = self.lead(best, second);
                let by = if lead < EQUAL {
                    "practically as many as".to_string()
                } else {
                    format!("{} fewer than", percent(lead))
                };
                let (own, other) = (bits(best), bits(second));
                format!(
                    "{} needs {own} bits for each character of the text, {by} {} ({other}).",
                    names[best], names[second]
                )
            }
        }];
        sentences.extend(cost(model));
        sentences.extend(self.compared(&names, best));
        sentences.join(" ")
    }

    /// The other side: who was trained in less time, writes faster or is smaller than the best, by a third at least.
    fn compared(&self, names: &[String], best: usize) -> Option<String> {
        let other = |value: &dyn Fn(&Entry) -> Option<f64>| {
            let known = self.models.iter().enumerate().filter_map(|(i, m)| Some((i, value(m).filter(|v| *v > 0.0)?)));
            let (i, least) = known.min_by(|a, b| a.1.total_cmp(&b.1))?;
            let own = value(&self.models[best])?;
            (i != best && own > 1.33 * least).then_some((i, least, own))
        };
        let rate = |seconds: f64| count((1.0 / seconds).round() as u64);
        let size = |size: f64| crate::error::bytes(size as u64).replace(' ', "\u{a0}");
        let parts = [
            other(&|m| m.train_seconds)
                .map(|(i, x, own)| (i, format!("was trained in {} instead of {}", duration(x), duration(own)))),
            other(&|m| m.decode_chars_per_s.map(|rate| 1.0 / rate))
                .map(|(i, x, own)| (i, format!("writes {} characters a second instead of {}", rate(x), rate(own)))),
            other(&|m| Some(m.size_bytes as f64))
                .map(|(i, x, own)| (i, format!("takes {} on disk instead of {}", size(x), size(own)))),
        ];
        let (mut clauses, mut subject) = (Vec::new(), None);
        for (i, clause) in parts.into_iter().flatten() {
            let again = subject.replace(i) == Some(i);
            clauses.push(if again { clause } else { format!("{} {clause}", names[i]) });
        }
        let last = clauses.pop()?;
        let sentence = if clauses.is_empty() { last } else { format!("{} and {last}", clauses.join(", ")) };
        Some(format!("Against that, {sentence}."))
    }

    /// The table, a column a model, the best first; below it the verdict.
    pub fn table(&self) -> String {
        let (names, order) = (self.names(), self.ranking());
        type Show<'a> = &'a dyn Fn(&Entry) -> String;
        let rows: [(&str, Show<'_>); 12] = [
            ("model", &|m| format!("{}, {}", m.model, m.level)),
            ("parameters", &|m| count(m.params)),
            ("bits per character", &|m| format!("{:.3}", m.bits_per_char)),
            ("perplexity of a token", &|m| significant(m.perplexity)),
            ("training time", &|m| known(m.train_seconds, duration)),
            ("training computation", &|m| known(m.train_flops, |x| si(x, "FLOP"))),
            ("characters a second", &|m| known(m.decode_chars_per_s, |x| count(x.round() as u64))),
            ("tokens a second", &|m| known(m.decode_tokens_per_s, |x| count(x.round() as u64))),
            ("size on disk", &|m| crate::error::bytes(m.size_bytes)),
            ("distinct word pairs", &|m| known(m.distinct_2, percent)),
            ("repeated four-word runs", &|m| known(m.repetition, percent)),
            ("longest copied passage", &|m| known(m.longest_copy_chars, characters)),
        ];
        let head = order.iter().map(|&i| fit(&names[i], 24));
        let mut table = Table::new(std::iter::once(String::new()).chain(head));
        for (name, show) in rows {
            table.row(std::iter::once(name.to_string()).chain(order.iter().map(|&i| show(&self.models[i]))));
        }
        format!("{table}\n{}\n", self.verdict())
    }
}

pub(super) fn known<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or(NONE.into(), show)
}

fn cost(model: &Entry) -> Option<String> {
    let seconds = duration(model.train_seconds?);
    Some(match model.train_flops.filter(|flops| *flops > 0.0) {
        Some(flops) => format!("Its training took {seconds} and {} of computation.", si(flops, "FLOP")),
        None => format!("Its training took {seconds}."),
    })
}
