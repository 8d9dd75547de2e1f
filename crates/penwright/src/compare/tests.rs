use super::*;
use crate::model::{Gpt2Config, LstmConfig};
use crate::run::ModelConfig;
use crate::tokenizer::Tokenizer;
use crate::train::Event;

const TEXT: &str = "Chapter one.\n\nThe miller came down the hill & saw <nothing>. \"It is late,\" said the miller; the hill was dark.\n\n\
                    Nobody answered. The dog slept, the wheel slept, and the river went on under the old bridge.\n";

fn contenders(names: [&str; 2], training: Vec<Arc<str>>) -> Vec<Contender> {
    let tokenizer = Tokenizer::train(Level::Char, &[TEXT], None).unwrap();
    let vocab = tokenizer.vocab_size();
    let configs = [
        ModelConfig::Gpt2(Gpt2Config { vocab, context: 32, layers: 1, heads: 2, width: 16, ..Gpt2Config::default() }),
        ModelConfig::Lstm(LstmConfig { vocab, embed: 8, hidden: 16, layers: 1, tied: false, ..LstmConfig::default() }),
    ];
    let plan = |flops_per_token| Event::Plan {
        model: "x".into(),
        params: 9,
        trained_params: None,
        train_tokens: 100,
        val_tokens: 10,
        steps: Some(20),
        memory_bytes: 1,
        flops_per_token,
        resumed_at: 0,
        reasons: Vec::new(),
    };
    let eval = |step, val_bits_per_char| Event::Eval {
        step,
        elapsed_s: step as f64,
        val_loss: 1.0,
        val_bits_per_char,
        temperature: None,
    };
    let done = Event::Done {
        run: "x".into(),
        reason: "finished".into(),
        steps: 20,
        tokens: 4000,
        elapsed_s: 21.5,
        best_val_loss: None,
        best_val_bits_per_char: None,
        params: 9,
    };
    let metrics = [vec![plan(1e6), eval(10, 4.0), eval(20, 3.0), done], Vec::new()];
    let parts = configs.iter().zip(names).zip(metrics);
    parts
        .map(|((config, name), metrics)| Contender {
            name: name.into(),
            model: config.build(1).unwrap().into_model(),
            tokenizer: tokenizer.clone(),
            metrics,
            size_bytes: 2048,
            training: training.clone(),
        })
        .collect()
}

fn compared(names: [&str; 2], training: Vec<Arc<str>>) -> Comparison {
    let options = Options { sample: SampleLength::Chars(120), ..Options::default() };
    let text = HeldOut { name: "mill & <hill>.txt", documents: &[TEXT, "More.\n"] };
    compare(&contenders(names, training), text, &options, &mut |_| {}).unwrap()
}

#[test]
fn json_has_exactly_the_keys_of_the_contract() {
    let comparison = compared(["runs/a", "runs/b"], Vec::new());
    let json = serde_json::to_value(&comparison).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json), ["models", "text"]);
    let mut expected: Vec<&str> =
        "run model params bits_per_char perplexity train_seconds train_flops decode_tokens_per_s \
                                   size_bytes distinct_2 repetition longest_copy_chars sample"
            .split_whitespace()
            .collect();
    expected.sort_unstable();
    assert_eq!(keys(&json["models"][0]), expected);
    assert_eq!(json["models"][0]["train_seconds"], 21.5);
    assert_eq!(json["models"][0]["train_flops"], 4e9);
    assert!(json["models"][1]["train_flops"].is_null() && json["models"][1]["longest_copy_chars"].is_null());
    assert_eq!(comparison.models[0].curve[0].flops, Some(2e9));
    assert_eq!(json["models"][0]["model"], "gpt2");
}

#[test]
fn agrees_with_scoring_and_is_repeatable() {
    let training: Vec<Arc<str>> = vec![TEXT.into()];
    let (one, two) = (compared(["a", "b"], training.clone()), compared(["a", "b"], training.clone()));
    let contenders = contenders(["a", "b"], training);
    for ((entry, again), contender) in one.models.iter().zip(&two.models).zip(&contenders) {
        let tokens = token_stream(&contender.tokenizer, &[TEXT, "More.\n"]);
        let mut nats = 0.0;
        let mut add = |scores: &[crate::model::TokenScore]| {
            nats -= scores.iter().map(|s| f64::from(s.log_prob)).sum::<f64>();
            Ok(())
        };
        contender.model.score(&tokens, None, &mut add).unwrap();
        let bits = nats / LN_2 / (TEXT.chars().count() + 6) as f64;
        assert!((entry.bits_per_char - bits).abs() < 1e-9);
        assert_eq!(entry.sample, again.sample);
        assert_eq!(entry.surprise.len(), one.passage.len());
        let words = crate::score::score(&*contender.model, &contender.tokenizer, TEXT, crate::score::Unit::Word, None);
        let of_whole = words.unwrap();
        assert!((entry.surprise[3] - of_whole[of_whole.len() - one.passage.len() + 3].bits()).abs() < 1e-9);
        let copied = &entry.sample[entry.copied.clone().unwrap()];
        assert!(TEXT.contains(copied) && entry.longest_copy_chars == Some(copied.chars().count()));
    }
    assert_eq!(one.prompt, "Nobody answered. The dog slept, the wheel slept, and the", "a paragraph amid the text");
    assert!(one.passage.concat().starts_with(&one.prompt));
    assert!(one.reference.longest_copy_chars > Some(0), "the text itself, which is the training text");
}

#[test]
fn the_page_escapes_everything_and_asks_no_other_host() {
    let page = html(&compared(["<script>alert(1)</script>", "b\"x"], vec![TEXT.into()]), "A <b> title");
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert"));
    assert!(page.contains("mill &amp; &lt;hill&gt;.txt") && page.contains("A &lt;b&gt; title"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("url("));
    assert!(!page.contains("NaN") && page.matches("<svg").count() > 10);
    assert_eq!(page.matches("class=\"prose heat\"").count(), 2);
}

#[test]
fn the_table_says_who_is_best() {
    let mut comparison = compared(["runs/a", "runs/b"], Vec::new());
    (comparison.models[0].bits_per_char, comparison.models[1].bits_per_char) = (2.5, 2.0);
    comparison.models[0].train_seconds = Some(20.0);
    comparison.models[1].train_seconds = Some(90.0);
    comparison.models.iter_mut().for_each(|m| m.decode_chars_per_s = Some(100.0));
    assert_eq!(comparison.headline().replace('\u{a0}', " "), "b predicts the text best, 20.0 % ahead of a");
    let verdict = comparison.verdict().replace('\u{a0}', " ");
    assert_eq!(
        verdict,
        "b needs 2.00 bits for each character of the text, 20.0 % fewer than a (2.50). Its training took 1 min 30 s. \
         Against that, a was trained in 20 s instead of 1 min 30 s."
    );
    let table = comparison.table();
    assert!(table.contains(&comparison.verdict()));
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["b", "a"], "the best first");
    comparison.models[0].bits_per_char = 2.001;
    assert!(comparison.headline().contains("equally well"));
}

#[test]
fn refuses_nothing_politely() {
    let text = HeldOut { name: "t", documents: &[""] };
    let error = compare(&contenders(["a", "b"], Vec::new()), text, &Options::default(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("t is empty"));
    let text = HeldOut { name: "t", documents: &[TEXT] };
    assert!(compare(&[], text, &Options::default(), &mut |_| {}).is_err());
    // Samples and passages of no length.
    let options =
        Options { sample: SampleLength::Tokens(0), passage: 0, prompt: Some(String::new()), ..Options::default() };
    let comparison = compare(&contenders(["a", "b"], vec!["".into()]), text, &options, &mut |_| {}).unwrap();
    assert!(html(&comparison, "t").contains("it ended the text at once"));
}
