use std::collections::BTreeSet;

use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation;

use super::*;
use crate::model::{Gpt2, Gpt2Config, Lstm, LstmConfig, Trainable};
use crate::tokenizer::Level;

const TEXT: &str = "the old bell rang. \"who?\" asked ann, and ran on; no one came back\nuntil ten.";

pub(super) fn tokenizer() -> Tokenizer {
    Tokenizer::train(Level::Char, &[TEXT], None).unwrap()
}

/// Untrained models whose weights are large enough for distributions of some sharpness.
pub(super) fn models(vocab: usize) -> [Arc<dyn LanguageModel>; 2] {
    let mut gpt2 =
        Gpt2::new(Gpt2Config { vocab, context: 16, layers: 2, heads: 2, width: 16, ..Gpt2Config::default() }, 1)
            .unwrap();
    let mut lstm =
        Lstm::new(LstmConfig { vocab, embed: 12, hidden: 20, layers: 2, tied: false, ..LstmConfig::default() }, 2)
            .unwrap();
    gpt2.params_mut().data.iter_mut().for_each(|w| *w *= 5.0);
    lstm.params_mut().data.iter_mut().for_each(|w| *w *= 4.0);
    [Arc::new(gpt2), Arc::new(lstm)]
}

fn write(model: &Arc<dyn LanguageModel>, prompt: &str, options: &GenerateOptions) -> Generation {
    let mut streamed = vec![String::new(); options.samples];
    let on_text: OnText<'_> = &mut |i, piece| {
        streamed[i].push_str(piece);
        ControlFlow::Continue(())
    };
    let generation = generate(model, &tokenizer(), prompt, options, on_text).unwrap();
    for (sample, streamed) in generation.samples.iter().zip(&streamed) {
        assert_eq!(&sample.text, streamed, "what was streamed is not the text");
    }
    generation
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Batches equal single texts, for any threads and settings; the same seed gives the same text.
    #[test]
    fn a_batch_equals_its_texts_alone(
        seed: u64, which in 0usize..2, count in 2usize..5, tokens in 1usize..50, prompt in "[a-e .\n]{0,40}",
        temperature in 0.2f32..1.5, top_k in 0usize..9, top_p in 0.3f32..1.0, penalty in 0.9f32..1.4,
        ngram in 0usize..4, stops in prop::collection::vec("[a-f ]{1,2}", 0..2), threads in 1usize..4
    ) {
        let model = &models(tokenizer().vocab_size())[which];
        let sampling = Sampling {
            temperature, top_k, top_p, seed, repetition_penalty: penalty, no_repeat_ngram: ngram, ..Sampling::default()
        };
        let options = GenerateOptions {
            length: Length::Tokens(tokens), samples: count, sampling, stop: stops.clone(), ..GenerateOptions::default()
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let batch = pool.install(|| write(model, &prompt, &options)).samples;
        for (i, sample) in batch.iter().enumerate() {
            let alone = GenerateOptions { samples: 1, first_sample: i as u64, ..options.clone() };
            prop_assert_eq!(sample, &write(model, &prompt, &alone).samples[0]);
            prop_assert!(sample.tokens <= tokens && stops.iter().all(|stop| !sample.text.contains(stop)));
            prop_assert!(sample.log_prob.is_finite() && sample.log_prob <= 0.0);
        }
    }
}

#[test]
fn seeds_and_samples_differ() {
    for model in models(tokenizer().vocab_size()) {
        let of_seed = |seed| {
            let sampling = Sampling { seed, ..Sampling::default() };
            let options = GenerateOptions { samples: 6, sampling, ..GenerateOptions::default() };
            write(&model, "the ", &options).samples.into_iter().map(|s| s.text).collect::<BTreeSet<_>>()
        };
        let (one, other) = (of_seed(1), of_seed(2));
        assert!(one.len() == 6 && one.is_disjoint(&other), "{one:?}");
    }
}

#[test]
fn no_ngram_comes_twice() {
    for model in models(tokenizer().vocab_size()) {
        for beams in [0, 1, 3] {
            let sampling = Sampling { no_repeat_ngram: 2, ..Sampling::default() };
            let options = GenerateOptions { length: Length::Tokens(80), sampling, beams, ..GenerateOptions::default() };
            let text = format!("the bell{}", write(&model, "the bell", &options).samples[0].text);
            let tokens = tokenizer().encode(&text);
            let grams: BTreeSet<_> = tokens.windows(2).collect();
            assert_eq!(grams.len(), tokens.len() - 1, "{beams} beams: {text}");
        }
    }
}

#[test]
fn one_beam_takes_the_likeliest_token() {
    for model in models(tokenizer().vocab_size()) {
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        let greedy = GenerateOptions { sampling: greedy, ..GenerateOptions::default() };
        let beam = GenerateOptions { beams: 1, ..GenerateOptions::default() };
        assert_eq!(write(&model, "an", &greedy).samples, write(&model, "an", &beam).samples);
    }
}

/// With as many beams as there are continuations nothing is lost: the best of all is found.
#[test]
fn beams_find_the_true_best() {
    let (tokenizer, depth) = (Tokenizer::train(Level::Char, &["ab"], None).unwrap(), 2);
    let vocab = tokenizer.vocab_size();
    for model in models(vocab) {
        let (mut best, mut ends) = (f64::NEG_INFINITY, String::new());
        let mut session = model.clone().session(1).unwrap();
        let mut stack = vec![(Vec::new(), 0.0)];
        while let Some((tokens, sum)) = stack.pop() {
            session.reset(0);
            session.feed(0, &[&[tokenizer.eot()], &tokenizer.encode("ba")[..], &tokens].concat()).unwrap();
            for id in (0..vocab as u32).filter(|id| !tokenizer.suppressed().contains(id)) {
                let sum = sum + f64::from(session.log_probs(0)[id as usize]);
                let longer = [&tokens[..], &[id]].concat();
                let (over, score) = (id == tokenizer.eot() || longer.len() == depth, sum / longer.len() as f64);
                if over && score > best {
                    (best, ends) = (score, tokenizer.decode(&longer));
                }
                if !over {
                    stack.push((longer, sum));
                }
            }
        }
        let options = GenerateOptions {
            length: Length::Tokens(depth),
            beams: vocab * vocab,
            samples: 5,
            ..GenerateOptions::default()
        };
        let on_text: OnText<'_> = &mut |_, _| ControlFlow::Continue(());
        let found = generate(&model, &tokenizer, "ba", &options, on_text).unwrap().samples;
        assert_eq!(found[0].text, ends);
        assert_eq!(found.len(), 5);
    }
}

#[test]
fn more_beams_find_likelier_texts_and_end_at_stops() {
    for model in models(tokenizer().vocab_size()) {
        let options = |beams| GenerateOptions { length: Length::Tokens(20), beams, ..GenerateOptions::default() };
        let score = |g: Generation| g.samples[0].log_prob / g.samples[0].tokens.max(1) as f64;
        let (greedy, wide) = (score(write(&model, "the", &options(1))), score(write(&model, "the", &options(8))));
        assert!(wide >= greedy - 1e-9, "{wide} and {greedy}");
        let stops = GenerateOptions { stop: vec!["e".into(), "a".into()], ..options(4) };
        let ended = write(&model, "the", &stops);
        assert!(!ended.samples[0].text.contains(['e', 'a']), "{ended:?}");
        assert_eq!(ended.samples, write(&model, "the", &stops).samples);
    }
}

#[test]
fn units_and_cancelling() {
    for model in models(tokenizer().vocab_size()) {
        let options = GenerateOptions { length: Length::Words(5), samples: 9, ..GenerateOptions::default() };
        let samples = write(&model, "the old ", &options).samples;
        let words: Vec<usize> = samples.iter().map(|sample| sample.text.unicode_words().count()).collect();
        assert!(words.iter().all(|&n| n <= 5) && words.contains(&5), "{samples:?}");
        let mut shown = String::new();
        let on_text: OnText<'_> = &mut |_, piece| {
            shown.push_str(piece);
            if shown.len() < 7 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let options = GenerateOptions { stop: vec!["xyz".into()], ..GenerateOptions::default() };
        let cancelled = generate(&model, &tokenizer(), "", &options, on_text).unwrap();
        assert!(cancelled.was_cancelled());
        assert_eq!(cancelled.samples[0].text, shown);
    }
}

#[test]
fn impossible_options_name_their_flag() {
    let refused = |options: GenerateOptions, flag: &str| {
        let error = options.check().unwrap_err().to_string();
        assert!(error.starts_with(&format!("--{flag}: ")), "{error}");
    };
    let base = GenerateOptions::default;
    refused(GenerateOptions { samples: 0, ..base() }, "samples");
    refused(GenerateOptions { samples: 3, beams: 2, ..base() }, "samples");
    refused(GenerateOptions { length: Length::Words(0), ..base() }, "words");
    refused(GenerateOptions { length: Length::Sentences(0), ..base() }, "sentences");
    refused(GenerateOptions { length: Length::Paragraphs(0), ..base() }, "paragraphs");
    refused(GenerateOptions { stop: vec![String::new()], ..base() }, "stop");
    let [model, _] = models(tokenizer().vocab_size());
    let nothing = write(&model, "the", &GenerateOptions { length: Length::Tokens(0), ..base() });
    assert_eq!((nothing.samples[0].tokens, nothing.samples[0].finish_reason), (0, FinishReason::Length));
}

#[test]
fn a_person_and_a_model_in_turn() {
    let tokenizer = tokenizer();
    for model in models(tokenizer.vocab_size()) {
        let mut shared = Interactive::new(&model, &tokenizer, "the old", 4, &Sampling::default()).unwrap();
        let offers = shared.offers().unwrap().to_vec();
        assert!(
            !offers.is_empty() && offers.len() <= 4 && offers.windows(2).all(|o| o[0].probability >= o[1].probability)
        );
        assert!(offers.iter().map(|o| o.probability).sum::<f64>() <= 1.0 + 1e-6);
        shared.take(0).unwrap();
        assert_eq!(shared.text(), format!("the old{}", offers[0].text));
        // The stream that went on with the offer is where the text stands: what follows is what a new session says.
        let next = shared.offers().unwrap().to_vec();
        let text = shared.text();
        let mut fresh = Interactive::new(&model, &tokenizer, &text, 4, &Sampling::default()).unwrap();
        for (a, b) in next.iter().zip(fresh.offers().unwrap()) {
            assert!(a.text == b.text && (a.probability - b.probability).abs() < 1e-4, "{a:?} {b:?}");
        }
        shared.type_text(" bell — é").unwrap();
        assert_eq!(shared.text(), format!("the old{} bell — é", offers[0].text));
        let mut streamed = shared.text();
        let on_text: OnText<'_> = &mut |_, piece| {
            streamed.push_str(piece);
            ControlFlow::Continue(())
        };
        shared.run(30, on_text).unwrap();
        assert_eq!(shared.text(), streamed);
        assert!(shared.take(99).is_err());
        assert_eq!(shared.steps(), 3);
        while shared.back().unwrap() {}
        assert_eq!(shared.text(), "the old");
        for (a, b) in offers.iter().zip(shared.offers().unwrap()) {
            assert!(a.text == b.text && (a.probability - b.probability).abs() < 1e-4, "{a:?} {b:?}");
        }
    }
}

/// Texts driven from outside, several at once on any number of threads, are those of `generate`.
#[test]
fn texts_driven_by_hand_are_the_same() {
    let tokenizer = tokenizer();
    for model in models(tokenizer.vocab_size()) {
        let sampling = Sampling { seed: 6, presence_penalty: 0.4, logit_bias: vec![(3, 1.0)], ..Sampling::default() };
        let options = GenerateOptions { samples: 5, sampling, stop: vec!["an".into()], ..GenerateOptions::default() };
        let expected = write(&model, "the old", &options).samples;
        for threads in [1, 3] {
            let prompt = Arc::new(Prompt::new(&model, &tokenizer, "the old", &options).unwrap());
            let mut session = model.clone().session(5).unwrap();
            session.feed(0, &prompt.context()).unwrap();
            (1..5).for_each(|stream| session.copy(0, stream));
            let mut texts: Vec<(usize, Writing)> = (0..5).map(|i| (i, Writing::new(&prompt, i as u64))).collect();
            let (mut scratches, mut done) = (Vec::new(), Vec::new());
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            while !texts.is_empty() {
                let session_now = &*session;
                let mut due: Vec<Due<'_>> = texts.iter_mut().map(|(i, t)| (t, session_now.log_probs(*i))).collect();
                pool.install(|| next_of_each(&mut due, &mut scratches));
                done.extend(texts.extract_if(.., |(_, text)| text.finished().is_some()));
                let streams: Vec<usize> = texts.iter().map(|(i, _)| *i).collect();
                let tokens: Vec<u32> = texts.iter().map(|(_, text)| *text.written().last().unwrap()).collect();
                session.step(&streams, &tokens).unwrap();
            }
            done.sort_by_key(|(i, _)| *i);
            assert_eq!(done.into_iter().map(|(_, text)| text.sample()).collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn prompts_of_tokens() {
    let tokenizer = tokenizer();
    let [model, _] = models(tokenizer.vocab_size());
    let (options, ids) = (GenerateOptions::default(), tokenizer.encode("the old"));
    let of = |ids: &[u32]| Prompt::of_tokens(&model, &tokenizer, ids, &options);
    let begun = [&[tokenizer.eot()], &ids[..]].concat();
    assert_eq!(of(&ids).unwrap().context(), begun);
    assert_eq!(of(&begun).unwrap().context(), begun);
    assert_eq!(of(&[]).unwrap().context(), [tokenizer.eot()]);
    let error = of(&[3, 9999]).err().unwrap().to_string();
    assert!(error.contains("9999"), "{error}");
}
