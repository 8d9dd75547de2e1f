//! Streams against streams alone, fewer bits against the model as trained.

use super::*;
use crate::model::{LanguageModel, LstmConfig};

fn token(i: usize) -> u32 {
    (i * i % 7 + i % 5) as u32
}

fn alone(model: &Arc<dyn LanguageModel>, text: &[u32]) -> Vec<f32> {
    let mut session = model.clone().session(1).unwrap();
    text.iter().for_each(|&t| session.step(&[0], &[t]).unwrap());
    session.log_probs(0).to_vec()
}

#[test]
fn neither_other_streams_nor_copies_change_a_bit() {
    for (tied, mogrifier) in [(false, 0), (true, 0), (true, 3)] {
        let config = LstmConfig { vocab: 11, embed: 9, hidden: 14, layers: 2, tied, mogrifier, mogrifier_rank: 0 };
        let model = Arc::new(Lstm::new(config, 4).unwrap());
        let precision = if tied { DecodePrecision::Int8 } else { DecodePrecision::Auto };
        let model = model.with_precision(precision).unwrap();
        let mut session = model.clone().session(4).unwrap();
        let mut texts: Vec<Vec<u32>> = vec![vec![1]; 4];
        session.feed(0, &[1]).unwrap();
        (1..4).for_each(|to| session.copy(0, to));
        for round in 0..20 {
            if round % 5 == 4 {
                let parents = [[3, 1, 1, 0], [0, 0, 0, 0], [2, 1, 0, 3]][round / 5 % 3];
                session.select(&parents);
                texts = parents.iter().map(|&p| texts[p].clone()).collect();
            }
            let active: Vec<usize> = (0..4).filter(|s| (round + s) % 3 > 0).collect();
            let tokens: Vec<u32> = active.iter().map(|s| token(round + 2 * s)).collect();
            session.step(&active, &tokens).unwrap();
            active.iter().zip(&tokens).for_each(|(&s, &t)| texts[s].push(t));
            for (s, text) in texts.iter().enumerate() {
                assert_eq!(session.log_probs(s), alone(&model, text), "round {round}, stream {s}");
            }
        }
    }
}

#[test]
fn fewer_bits_are_close_and_scored_as_written() {
    let config = LstmConfig { vocab: 30, embed: 40, hidden: 50, layers: 2, tied: false, ..LstmConfig::default() };
    let model = Arc::new(Lstm::new(config, 4).unwrap());
    let tokens: Vec<u32> = (0..90).map(token).collect();
    let scores = |model: &dyn LanguageModel| {
        let mut scores = Vec::new();
        let sink = &mut |part: &[TokenScore]| {
            scores.extend(part.iter().map(|score| score.log_prob));
            Ok(())
        };
        model.score(&tokens, None, sink).unwrap();
        scores
    };
    let exact = scores(&*model);
    for (precision, most) in [
        (DecodePrecision::F32, 1e-5),
        (DecodePrecision::Bf16, 0.01),
        (DecodePrecision::Int8, 0.02),
        (DecodePrecision::Int4, 0.1),
    ] {
        let model = model.clone().with_precision(precision).unwrap();
        let ours = scores(&*model);
        assert!(ours.len() == 89 && ours.iter().zip(&exact).all(|(a, b)| (a - b).abs() < most), "{precision:?}");
        assert_eq!(alone(&model, &tokens[..89])[tokens[89] as usize], ours[88]);
    }
}

#[test]
fn prompts_equal_single_steps() {
    let model = Arc::new(
        Lstm::new(LstmConfig { vocab: 11, embed: 9, hidden: 14, layers: 2, tied: true, ..LstmConfig::default() }, 4)
            .unwrap(),
    );
    let model = model.with_precision(DecodePrecision::Auto).unwrap();
    let mut session = model.clone().session(2).unwrap();
    let mut text = Vec::new();
    for n in [3, 300, 9, 1] {
        let part: Vec<u32> = (0..n).map(|i| token(i + text.len())).collect();
        session.feed(1, &part).unwrap();
        text.extend(part);
        let expected = alone(&model, &text);
        assert_eq!(session.log_probs(1), expected);
    }
    session.reset(1);
    session.feed(1, &[5, 6]).unwrap();
    assert_eq!(session.log_probs(1), alone(&model, &[5, 6]));
}

#[test]
fn drafts_change_nothing() {
    for precision in [DecodePrecision::F32, DecodePrecision::Bf16, DecodePrecision::Int8, DecodePrecision::Int4] {
        let config = LstmConfig { vocab: 11, embed: 9, hidden: 14, layers: 2, ..LstmConfig::default() };
        let model = Arc::new(Lstm::new(config, 4).unwrap()).with_precision(precision).unwrap();
        assert_eq!(crate::model::tests::drafts_change_nothing(&model), 5, "{precision:?}");
    }
}

#[test]
fn reading_together_changes_nothing() {
    for (precision, mogrifier) in [(DecodePrecision::F32, 0), (DecodePrecision::Bf16, 3)] {
        let config = LstmConfig { vocab: 11, embed: 9, hidden: 14, layers: 2, mogrifier, ..LstmConfig::default() };
        let model = Arc::new(Lstm::new(config, 4).unwrap()).with_precision(precision).unwrap();
        crate::model::tests::reading_together_changes_nothing(&model);
    }
}
