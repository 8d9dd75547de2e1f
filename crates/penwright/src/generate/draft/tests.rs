use std::ops::ControlFlow;

use proptest::prelude::*;

use super::super::tests::tokenizer;
use super::super::{GenerateOptions, Length, Sample, Sampling, generate};
use super::*;
use crate::model::{
    DecodePrecision, Gpt2, Gpt2Config, LanguageModel, Lstm, LstmConfig, ModelKind, NgramConfig, Trainable,
};
use crate::tokenizer::Level;

const TEXT: &str = "the old bell rang. the old bell rang. \"who?\" asked ann. the old bell rang on; ";

fn ngram(tokenizer: &Tokenizer) -> Draft {
    let tokens = [&[tokenizer.eot()], &tokenizer.encode(&TEXT.repeat(4))[..]].concat();
    let config = NgramConfig { vocab: tokenizer.vocab_size(), order: 4 };
    Draft::Ngram(Arc::new(Ngram::train(config, &tokens, tokenizer.eot()).unwrap()))
}

/// Untrained models whose weights are large enough for distributions of some sharpness. The LSTM's output layer is so
/// large beside it that drafts are worth while.
fn models(vocab: usize) -> [Arc<dyn LanguageModel>; 2] {
    let mut lstm =
        Lstm::new(LstmConfig { vocab, embed: 4, hidden: 16, layers: 1, ..LstmConfig::default() }, 2).unwrap();
    lstm.params_mut().data.iter_mut().for_each(|w| *w *= 4.0);
    let [gpt2, _] = super::super::tests::models(vocab);
    [gpt2, Arc::new(lstm)]
}

/// The texts, what was streamed of them, and the tokens drafted and accepted.
fn write(model: &Arc<dyn LanguageModel>, prompt: &str, options: &GenerateOptions) -> (Vec<Sample>, usize, usize) {
    let mut streamed = vec![String::new(); options.samples];
    let on_text = &mut |i: usize, piece: &str| {
        streamed[i].push_str(piece);
        ControlFlow::Continue(())
    };
    let made = generate(model, &tokenizer(), prompt, options, on_text).unwrap();
    assert!(made.samples.iter().zip(&streamed).all(|(sample, streamed)| sample.text == *streamed));
    assert!(made.accepted <= made.drafted);
    (made.samples, made.drafted, made.accepted)
}

/// Without vectors of 512 bits a further row of a small GPT-2 costs so much that drafts are seldom tried.
fn further_rows_are_cheap() -> bool {
    penwright_kernels::isa() >= penwright_kernels::Isa::Avx512
}

#[test]
fn greedy_texts_are_the_same_and_drafts_are_right_in_them() {
    let vocab = tokenizer().vocab_size();
    for model in models(vocab) {
        for precision in [DecodePrecision::F32, DecodePrecision::Bf16, DecodePrecision::Int8, DecodePrecision::Int4] {
            let model = model.clone().with_precision(precision).unwrap();
            for (draft, samples) in [(Draft::Prompt, 1), (ngram(&tokenizer()), 1), (Draft::Prompt, 3)] {
                let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
                let length = Length::Tokens(300);
                let plain = GenerateOptions { length, samples, sampling, ..GenerateOptions::default() };
                let with = GenerateOptions { draft: draft.clone(), ..plain.clone() };
                let (texts, drafted, accepted) = write(&model, TEXT, &with);
                assert_eq!((texts, 0, 0), write(&model, TEXT, &plain), "{draft:?}");
                // A greedy text of a small model repeats itself, for a while at least.
                let worth = model.kind() == ModelKind::Lstm || further_rows_are_cheap();
                let repeats =
                    matches!(draft, Draft::Prompt) && precision == DecodePrecision::F32 && samples == 1 && worth;
                assert!(!repeats || accepted > 0, "{:?}, {precision:?}: {accepted} of {drafted}", model.kind());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Sampled texts, of any settings, lengths and numbers side by side, for any threads.
    #[test]
    fn a_draft_changes_no_text(
        seed: u64, which in 0usize..2, samples in 1usize..4, tokens in 1usize..120, prompt in "(the old bell ){0,4}",
        temperature in 0.0f32..1.0, top_k in 0usize..9, top_p in 0.3f32..1.0, penalty in 0.9f32..1.1,
        repeat in 0usize..9, most in 1usize..20, stops in prop::collection::vec("[a-f ]{1,2}", 0..2),
        by_ngram: bool, threads in 1usize..4
    ) {
        let model = &models(tokenizer().vocab_size())[which];
        let sampling = Sampling {
            temperature, top_k, top_p, seed, repetition_penalty: penalty, no_repeat_ngram: repeat, ..Sampling::default()
        };
        let plain = GenerateOptions {
            length: Length::Tokens(tokens), samples, sampling, stop: stops, ..GenerateOptions::default()
        };
        let draft = if by_ngram { ngram(&tokenizer()) } else { Draft::Prompt };
        let with = GenerateOptions { draft, draft_tokens: most, ..plain.clone() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (drafted, again) = pool.install(|| (write(model, &prompt, &with), write(model, &prompt, &with)));
        prop_assert_eq!(&drafted, &again);
        prop_assert_eq!(drafted.0, write(model, &prompt, &plain).0);
    }
}

/// A model that has learned its text: an n-gram model of the same text drafts it well, in sampled texts too.
#[test]
fn an_ngram_model_drafts_what_a_model_has_learned() {
    let tokenizer = tokenizer();
    let config = Gpt2Config {
        vocab: tokenizer.vocab_size(),
        context: 32,
        layers: 1,
        heads: 2,
        width: 32,
        ..Gpt2Config::default()
    };
    let mut model = Gpt2::new(config, 1).unwrap();
    let tokens = tokenizer.encode(&TEXT.repeat(8));
    let mut grads = vec![0.0; model.params().data.len()];
    for step in 0..150 {
        let inputs: Vec<u32> = (0..4).flat_map(|i| &tokens[(step * 7 + i * 19) % 300..][..32]).copied().collect();
        let targets: Vec<u32> = (0..4).flat_map(|i| &tokens[(step * 7 + i * 19) % 300 + 1..][..32]).copied().collect();
        model.train_step(&inputs, &targets, 4, &mut grads, true, crate::layers::Dropout::OFF);
        let norm = grads.iter().map(|g| g * g).sum::<f32>().sqrt();
        model.params_mut().data.iter_mut().zip(&grads).for_each(|(w, g)| *w -= 0.3 / norm.max(1.0) * g);
    }
    let model: Arc<dyn LanguageModel> = Arc::new(model);
    for (draft, samples, temperature) in
        [(ngram(&tokenizer), 1, 0.8), (ngram(&tokenizer), 3, 0.5), (Draft::Prompt, 2, 0.8), (ngram(&tokenizer), 1, 0.0)]
    {
        let sampling = Sampling { temperature, ..Sampling::default() };
        let length = Length::Tokens(400);
        let plain = GenerateOptions { length, samples, sampling, ..GenerateOptions::default() };
        let with = GenerateOptions { draft: draft.clone(), ..plain.clone() };
        let (texts, drafted, accepted) = write(&model, "the old ", &with);
        assert_eq!(texts, write(&model, "the old ", &plain).0);
        let least = if further_rows_are_cheap() { 10 * samples } else { samples };
        assert!(accepted > least, "{draft:?}, temperature {temperature}: {accepted} of {drafted}");
    }
}

#[test]
fn what_was_found_goes_on_with_itself() {
    let mut lookup = Lookup::default();
    let text = [9, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3];
    for n in 0..=text.len() {
        lookup.read(&text[..n]);
    }
    assert_eq!(lookup.longest(&text), Some((8, 7)));
    let mut guesser = Guesser::Lookup(lookup);
    let mut guesses = Vec::new();
    guesser.guess(&text, |(token, _)| {
        guesses.push(token);
        guesses.len() < 9
    });
    assert_eq!(guesses, [4, 1, 2, 3, 4, 1, 2, 3, 4]);
    let mut lookup = Lookup::default();
    let text = [5, 6, 7, 8, 0, 3, 6, 7, 4, 4, 2, 6, 7];
    lookup.read(&text);
    assert_eq!(lookup.longest(&text), Some((8, 2)), "the newest of equally long ones");
    assert_eq!(Lookup::default().longest(&[]), None);
}

#[test]
fn drafts_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path, words: &str| {
        let error = Draft::open(path, &tokenizer()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&dir.path().join("nowhere"), "nowhere");
    let beams = GenerateOptions { beams: 3, draft: Draft::Prompt, ..GenerateOptions::default() };
    assert!(beams.check().unwrap_err().to_string().starts_with("--draft: "));
    let other = Tokenizer::train(Level::Char, &["another text"], None).unwrap();
    assert!(!same_tokens(&other, &tokenizer()) && same_tokens(&tokenizer(), &tokenizer()));
}
