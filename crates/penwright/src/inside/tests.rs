use std::sync::Arc;

use super::*;
use crate::layers::Activation;
use crate::model::{
    DecodePrecision, Gpt2, Gpt2Config, Lora, LoraConfig, Lstm, LstmConfig, Ngram, NgramConfig, Trainable,
};
use crate::tokenizer::Level;

const TEXT: &str = "\"The fox,\" she said, \"jumps.\"\nThe dog did not. It is lazy — très lazy!";

fn tokenizer() -> Tokenizer {
    Tokenizer::train(Level::Char, &["\"The quick, brown fox jumps over a lazy dog,\" she said.\nIt did not!"], None)
        .unwrap()
}

/// The log-probability of each token by the model's own scoring.
fn scores(model: &dyn LanguageModel, tokenizer: &Tokenizer, text: &str) -> Vec<f32> {
    let mut tokens = vec![tokenizer.eot()];
    tokens.extend(tokenizer.encode(text));
    let mut found = Vec::new();
    let sink = &mut |part: &[crate::model::TokenScore]| {
        found.extend(part.iter().map(|score| score.log_prob));
        Ok(())
    };
    model.score(&tokens, None, sink).unwrap();
    found
}

#[track_caller]
fn agree(tokens: &[Token], expected: &[f32]) {
    let ours: Vec<f32> = tokens.iter().filter_map(|token| token.log_prob).collect();
    assert_eq!(ours.len(), expected.len());
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < 2e-4, "token {i}: {a} and {b}");
    }
    assert_eq!(tokens.iter().map(|token| token.text.as_str()).collect::<String>(), TEXT);
}

fn lstm_of(tied: bool, mogrifier: usize, mogrifier_rank: usize) -> Arc<dyn LanguageModel> {
    let vocab = tokenizer().vocab_size();
    let config = LstmConfig { vocab, embed: 12, hidden: 20, layers: 2, tied, mogrifier, mogrifier_rank };
    Arc::new(Lstm::new(config, 7).unwrap())
}

fn gpt2_config() -> Gpt2Config {
    let vocab = tokenizer().vocab_size();
    Gpt2Config { vocab, context: 96, layers: 3, heads: 4, width: 32, ..Gpt2Config::default() }
}

#[test]
fn an_lstm_seen_from_inside_is_the_lstm() {
    let tokenizer = tokenizer();
    for (tied, mogrifier, rank) in [(false, 0, 0), (true, 0, 0), (true, 3, 0), (false, 4, 5)] {
        let model = lstm_of(tied, mogrifier, rank);
        let vocab = model.vocab_size();
        let top = vocab.min(MAX_TOP);
        let request = LstmRequest { text: TEXT.into(), top, ..LstmRequest::default() };
        let inside = lstm(&*model, &tokenizer, &request).unwrap();
        agree(&inside.tokens, &scores(&*model, &tokenizer, TEXT));
        assert_eq!((inside.widths.len(), inside.layer, inside.mogrifier), (2, 1, mogrifier));
        assert_eq!(inside.widths, [20, if tied { 12 } else { 20 }]);
        // After the last token, what comes next is what a session says.
        let mut session = model.clone().with_precision(DecodePrecision::F32).unwrap().session(1).unwrap();
        session.feed(0, &[tokenizer.eot()]).unwrap();
        session.feed(0, &tokenizer.encode(TEXT)).unwrap();
        for choice in inside.next.last().unwrap() {
            assert!((choice.prob - session.log_probs(0)[choice.id as usize].exp()).abs() < 1e-5);
        }
        // The equations hold between the numbers that are told.
        for t in 0..inside.tokens.len() {
            for i in 0..inside.cells.len() {
                let [input, forget, candidate, output, before, cell, hidden] = [
                    &inside.input,
                    &inside.forget,
                    &inside.candidate,
                    &inside.output,
                    &inside.before,
                    &inside.cell,
                    &inside.hidden,
                ]
                .map(|values| values[t][i]);
                assert!([input, forget, output].iter().all(|gate| (0.0..=1.0).contains(gate)));
                assert!((cell - (forget * before + input * candidate)).abs() < 1e-6);
                assert!((hidden - output * cell.tanh()).abs() < 1e-6);
                assert!(t == 0 || before == inside.cell[t - 1][i]);
            }
        }
        // The same model in fewer bits has the same inside: that of its weights.
        let int8 = model.with_precision(DecodePrecision::Int8).unwrap();
        assert_eq!(lstm(&*int8, &tokenizer, &request).unwrap(), inside);
    }
}

#[test]
fn some_cells_are_those_of_all() {
    let (model, tokenizer) = (lstm_of(false, 0, 0), tokenizer());
    let all = LstmRequest { text: TEXT.into(), layer: Some(0), ..LstmRequest::default() };
    let all = lstm(&*model, &tokenizer, &all).unwrap();
    let some = LstmRequest { text: TEXT.into(), layer: Some(0), cells: Some(vec![17, 3]), ..LstmRequest::default() };
    let some = lstm(&*model, &tokenizer, &some).unwrap();
    for t in 0..all.tokens.len() {
        assert_eq!(some.cell[t], [all.cell[t][17], all.cell[t][3]]);
        assert_eq!(some.forget[t], [all.forget[t][17], all.forget[t][3]]);
    }
}

#[test]
fn a_cell_made_to_follow_quotations_is_found() {
    let (vocab, tokenizer) = (tokenizer().vocab_size(), tokenizer());
    let config = LstmConfig { vocab, embed: 4, hidden: 6, layers: 1, ..LstmConfig::default() };
    let mut model = Lstm::new(config, 3).unwrap();
    let quote = tokenizer.encode("\"")[0] as usize;
    let params = model.params_mut();
    let [embedding, w, b] = ["embedding.weight", "lstm.weight_ih_l0", "lstm.bias_ih_l0"]
        .map(|name| params.find(name).unwrap().range.clone());
    // The embedding's first number tells a quotation mark from all else, and what of it follows. Cell 2 keeps its value,
    // but a mark opens its input gate and, by the recurrent weight from itself, turns the candidate's sign.
    for id in 0..vocab {
        params.data[embedding.start + 4 * id] = if id == quote { 1.0 } else { 0.0 };
    }
    let (h, cell) = (6, 2);
    let recurrent = params.find("lstm.weight_hh_l0").unwrap().range.clone();
    let recurrent_bias = params.find("lstm.bias_hh_l0").unwrap().range.clone();
    for gate in 0..4 {
        let row = gate * h + cell;
        params.data[w.start + 4 * row..][..4].fill(0.0);
        params.data[recurrent.start + h * row..][..h].fill(0.0);
        params.data[recurrent_bias.start + row] = 0.0;
        // Input closed, forget open, candidate positive, output open.
        params.data[b.start + row] = [-12.0, 12.0, 6.0, 12.0][gate];
    }
    params.data[w.start + 4 * cell] = 24.0;
    params.data[w.start + 4 * (h + cell)] = -24.0;
    params.data[recurrent.start + h * (2 * h + cell) + cell] = -24.0;
    let text =
        "\"The fox,\" she said. It is lazy and brown. \"It jumps over.\" The dog did not say a lot of it. ".repeat(8);
    let request = LstmRequest { text: text.clone(), cells: Some(vec![]), follow: 2, ..LstmRequest::default() };
    let inside = lstm(&model, &tokenizer, &request).unwrap();
    let quotation = inside.follows.iter().find(|follows| follows.property == Property::Quotation).unwrap();
    assert_eq!((quotation.cells[0].layer, quotation.cells[0].cell), (0, 2));
    assert!(quotation.cells[0].chosen > 0.95 && quotation.cells[0].unseen.unwrap() > 0.95, "{quotation:?}");
    assert_eq!((quotation.cells.len(), quotation.values.len()), (2, text.len()));
    assert!(inside.cell.iter().all(Vec::is_empty));
}

#[test]
fn properties_are_what_one_sees() {
    let text = "\"Go on,\" I said. Yes\nIt's “a”b";
    let ends: Vec<usize> = text.char_indices().map(|(at, c)| at + c.len_utf8()).collect();
    let values = follow::properties(text, &ends);
    let of = |property: Property| &values[Property::ALL.iter().position(|p| *p == property).unwrap()];
    let flags = |property: Property| (0..ends.len()).filter(|&i| of(property)[i] > 0.0).collect::<Vec<_>>();
    assert_eq!(flags(Property::Quotation), (0..7).chain(26..28).collect::<Vec<_>>());
    assert_eq!(flags(Property::Dialogue), (0..20).chain(26..30).collect::<Vec<_>>());
    assert_eq!(flags(Property::Space), [3, 8, 10, 16, 20, 25]);
    assert_eq!(flags(Property::Capital), [1, 9, 17, 21]);
    assert_eq!(of(Property::Word)[21..26], [1.0, 2.0, 3.0, 4.0, 0.0]);
    assert_eq!(of(Property::Line)[20], 0.0);
    assert_eq!(of(Property::Sentence)[15], 0.0);
    assert!((of(Property::Line)[2] - 4f32.ln()).abs() < 1e-6);
}

#[test]
fn a_gpt2_seen_from_inside_is_the_gpt2() {
    let tokenizer = tokenizer();
    let configs = [
        gpt2_config(),
        Gpt2Config { tied: false, activation: Activation::Silu, inner: Some(50), ..gpt2_config() },
        Gpt2Config { scale_by_layer: true, scale_by_width: false, epsilon: 1e-3, ..gpt2_config() },
    ];
    for config in configs {
        let model: Arc<dyn LanguageModel> = Arc::new(Gpt2::new(config, 5).unwrap());
        sees_a_gpt2(&model, &tokenizer);
    }
    let lora = LoraConfig {
        rank: 3,
        alpha: 8.0,
        targets: LoraConfig::TARGETS.map(String::from).to_vec(),
        rank_stabilized: false,
    };
    let mut lora = Lora::new(lora, &gpt2_config(), 1).unwrap();
    lora.params.data.iter_mut().enumerate().for_each(|(i, x)| *x = ((i * 37 % 19) as f32 - 9.0) / 90.0);
    let model: Arc<dyn LanguageModel> = Arc::new(Gpt2::new(gpt2_config(), 5).unwrap().with_lora(lora));
    sees_a_gpt2(&model, &tokenizer);
}

fn sees_a_gpt2(model: &Arc<dyn LanguageModel>, tokenizer: &Tokenizer) {
    let request = Gpt2Request { text: TEXT.into(), top: 3, ..Gpt2Request::default() };
    let inside = gpt2(&**model, tokenizer, &request).unwrap();
    let expected = scores(&**model, tokenizer, TEXT);
    let time = inside.tokens.len();
    agree(&inside.tokens, &expected);
    assert_eq!((inside.attention.len(), inside.summary.len(), inside.lens.len()), (3, 3, 4));
    for (layer, attention) in inside.attention.iter().enumerate() {
        assert_eq!((attention.layer, attention.weights.len()), (layer, 4));
        for (head, rows) in attention.weights.iter().enumerate() {
            assert_eq!(rows.len(), time);
            for (t, row) in rows.iter().enumerate() {
                assert_eq!(row.len(), t + 1, "no weight on what is to come");
                assert!(row.iter().all(|w| *w >= 0.0) && (row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
            let mean = rows.iter().enumerate().skip(2).map(|(t, row)| row[t - 1]).sum::<f32>() / (time - 2) as f32;
            assert!((inside.summary[layer][head].previous - mean).abs() < 1e-6);
        }
    }
    // The lens after the last block is the model's own prediction.
    for (t, lens) in inside.lens[3].iter().enumerate() {
        assert_eq!(lens.next.is_some(), t + 1 < time);
        if let (Some(next), Some(expected)) = (lens.next, expected.get(t)) {
            assert!((next.ln() - expected).abs() < 2e-4);
            let likelier = lens.top.iter().filter(|choice| choice.prob > next).count();
            assert_eq!(likelier, lens.rank.unwrap().min(3));
        }
    }
    // What comes later changes nothing before; and a part of the heads is that of all.
    let shorter: String = TEXT.chars().take(30).collect();
    let some = Gpt2Request { text: shorter, layers: Some(vec![1]), heads: Some(vec![2]), ..Gpt2Request::default() };
    let some = gpt2(&**model, tokenizer, &some).unwrap();
    assert!(some.lens.is_empty() && some.attention.len() == 1);
    for (ours, all) in some.attention[0].weights[0].iter().zip(&inside.attention[1].weights[2]) {
        assert!(ours.iter().zip(all).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn surprise_is_the_score() {
    let tokenizer = tokenizer();
    let gpt2: Arc<dyn LanguageModel> = Arc::new(Gpt2::new(gpt2_config(), 5).unwrap());
    for model in [lstm_of(true, 2, 0), gpt2] {
        let model = model.with_precision(DecodePrecision::F32).unwrap();
        let found = surprise(&model, &tokenizer, TEXT, 4).unwrap();
        let tokens: Vec<Token> = found.iter().map(|surprise| surprise.token.clone()).collect();
        agree(&tokens, &scores(&*model, &tokenizer, TEXT));
        for Surprise { alternatives, .. } in &found {
            assert_eq!(alternatives.len(), 4);
            assert!(alternatives.windows(2).all(|pair| pair[0].prob >= pair[1].prob));
        }
        let json = serde_json::to_value(&found[0]).unwrap();
        assert!(json["text"] == "\"" && json["log_prob"].is_number() && json["alternatives"][0]["prob"].is_number());
    }
}

#[test]
fn what_cannot_be_shown_is_said() {
    let (tokenizer, lstm_model) = (tokenizer(), lstm_of(false, 0, 0));
    let gpt2_model: Arc<dyn LanguageModel> = Arc::new(Gpt2::new(gpt2_config(), 5).unwrap());
    let lstm_says = |model: &dyn LanguageModel, request: LstmRequest| {
        lstm(model, &tokenizer, &request).map(|_| ()).unwrap_err().to_string()
    };
    let gpt2_says = |model: &dyn LanguageModel, request: Gpt2Request| {
        gpt2(model, &tokenizer, &request).map(|_| ()).unwrap_err().to_string()
    };
    let of = |text: &str| LstmRequest { text: text.into(), ..LstmRequest::default() };
    let ask = |text: &str| Gpt2Request { text: text.into(), ..Gpt2Request::default() };
    assert!(lstm_says(&*gpt2_model, of("a")).contains("not an LSTM"));
    assert!(gpt2_says(&*lstm_model, ask("a")).contains("not a GPT-2"));
    assert!(lstm_says(&*lstm_model, of("")).contains("empty"));
    assert!(gpt2_says(&*gpt2_model, ask("")).contains("empty"));
    assert!(lstm_says(&*lstm_model, of(&"a".repeat(MAX_TOKENS + 1))).contains("shorten"));
    assert!(lstm_says(&*lstm_model, of(&"a".repeat(MAX_TOKENS))).contains("name fewer cells"));
    assert!(gpt2_says(&*gpt2_model, ask(&"a".repeat(96))).contains("shorten"));
    let all = gpt2(&*gpt2_model, &tokenizer, &ask(&"a".repeat(95))).unwrap();
    let cut = Gpt2Request { beginning: true, ..ask(&"a".repeat(200)) };
    assert_eq!(gpt2(&*gpt2_model, &tokenizer, &cut).unwrap(), all, "the beginning of a longer text");
    assert!(lstm_says(&*lstm_model, LstmRequest { layer: Some(2), ..of("a") }).contains("no layer 2"));
    assert!(lstm_says(&*lstm_model, LstmRequest { cells: Some(vec![20]), ..of("a") }).contains("no cell 20"));
    assert!(lstm_says(&*lstm_model, LstmRequest { top: 51, ..of("a") }).contains("at most 50"));
    assert!(gpt2_says(&*gpt2_model, Gpt2Request { layers: Some(vec![3]), ..ask("a") }).contains("no block 3"));
    assert!(gpt2_says(&*gpt2_model, Gpt2Request { heads: Some(vec![4]), ..ask("a") }).contains("no head 4"));
    assert!(serde_json::from_str::<LstmRequest>("{\"txt\": \"a\"}").is_err(), "a mistyped field is no default");
    let ngram = ngram();
    assert!(lstm_says(&*ngram, of("a")).contains("of kind ngram"));
    assert!(!surprise(&ngram, &tokenizer, "a fox", 2).unwrap().is_empty());
}

fn ngram() -> Arc<dyn LanguageModel> {
    let tokenizer = tokenizer();
    let mut tokens = vec![tokenizer.eot()];
    tokens.extend(tokenizer.encode(TEXT));
    let config = NgramConfig { vocab: tokenizer.vocab_size(), order: 3 };
    Arc::new(Ngram::train(config, &tokens, tokenizer.eot()).unwrap())
}
