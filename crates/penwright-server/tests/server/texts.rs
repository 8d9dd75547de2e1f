//! The server's texts are the library's, token for token, however they come and whatever is written beside them.

use std::ops::ControlFlow;

use penwright::generate::{
    Chat, ChatFormat, ChatOptions, FinishReason, GenerateOptions, Length, Message, Sampling, generate,
};
use penwright::run::Run;
use serde_json::{Value, json};

use super::support::{Served, gpt2, lstm, ngram, options, runs};
use penwright_server::Options;

/// A request that asks for much.
fn request(model: &str, i: usize, seed: u64) -> Value {
    let prompt = &"the old bell rang. who asked ann? ".repeat(4)[..5 + 13 * (i % 9)];
    let (top_p, top_k) = ([1.0, 0.9][i % 2], [0, 7][i / 2 % 2]);
    let (repetition, presence, frequency) = ([1.0, 1.2][i / 3 % 2], [0.0, 0.5][i / 2 % 2], [0.0, 0.2][i % 2]);
    let stop = [["ox"], ["e."]][i % 2];
    json!({
        "model": model, "prompt": prompt, "max_tokens": 1 + i * 17 % 90, "temperature": 0.7 + 0.1 * (i % 6) as f64,
        "top_p": top_p, "top_k": top_k, "repetition_penalty": repetition, "presence_penalty": presence,
        "frequency_penalty": frequency, "stop": stop, "seed": seed
    })
}

/// What the library writes for it.
fn expected(run: &Run, request: &Value) -> (String, usize, &'static str) {
    let number = |name: &str| request[name].as_f64().unwrap() as f32;
    let sampling = Sampling {
        temperature: number("temperature"),
        top_p: number("top_p"),
        top_k: request["top_k"].as_u64().unwrap() as usize,
        repetition_penalty: number("repetition_penalty"),
        presence_penalty: number("presence_penalty"),
        frequency_penalty: number("frequency_penalty"),
        seed: request["seed"].as_u64().unwrap(),
        ..Sampling::default()
    };
    let options = GenerateOptions {
        length: Length::Tokens(request["max_tokens"].as_u64().unwrap() as usize),
        stop: serde_json::from_value(request["stop"].clone()).unwrap(),
        sampling,
        ..GenerateOptions::default()
    };
    let prompt = request["prompt"].as_str().unwrap();
    let written =
        generate(&run.model, &run.tokenizer, prompt, &options, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let sample = &written.samples[0];
    let reason = if sample.finish_reason == FinishReason::Length { "length" } else { "stop" };
    (sample.text.clone(), sample.tokens, reason)
}

fn written(answer: &Value) -> (String, usize, &str) {
    let choice = &answer["choices"][0];
    let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap() as usize;
    (choice["text"].as_str().unwrap().into(), tokens, choice["finish_reason"].as_str().unwrap())
}

/// Alone, then all at once: more texts than streams, of three models, in all lengths, some streamed.
#[test]
fn texts_are_those_of_the_library_alone_and_among_many() {
    let server = Served::new(runs(), Options { streams: Some(24), ..options() });
    let models = [("gpt2", gpt2(64, 16)), ("lstm", lstm()), ("ngram", ngram())];
    let requests: Vec<(usize, Value)> = (0..60).map(|i| (i % 3, request(models[i % 3].0, i, i as u64 * 77))).collect();
    let expected: Vec<_> = requests.iter().map(|(model, request)| expected(&models[*model].1, request)).collect();
    assert!(expected.iter().any(|e| e.2 == "stop") && expected.iter().any(|e| e.2 == "length"));
    for ((_, request), expected) in requests.iter().zip(&expected).take(9) {
        let answer = server.post("/v1/completions", request).ok();
        let (text, tokens, reason) = written(&answer);
        assert_eq!((&text, tokens, reason), (&expected.0, expected.1, expected.2), "{request}");
    }
    std::thread::scope(|scope| {
        for ((i, (_, request)), expected) in requests.iter().enumerate().zip(&expected) {
            let server = &server;
            scope.spawn(move || {
                let mut request = request.clone();
                if i % 4 == 0 {
                    request["stream"] = true.into();
                    let events = server.post("/v1/completions", &request).events();
                    assert_eq!(streamed(&events), expected.0, "{request}");
                    return;
                }
                let answer = server.post("/v1/completions", &request).ok();
                let (text, tokens, reason) = written(&answer);
                assert_eq!((&text, tokens, reason), (&expected.0, expected.1, expected.2), "{request}");
            });
        }
    });
}

fn streamed(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect()
}

/// What comes in a stream, put together, is what comes at once: texts, likelihoods, reasons, usage.
#[test]
fn a_stream_is_the_answer_in_pieces() {
    let server = Served::new(runs(), options());
    for model in ["gpt2", "lstm", "ngram"] {
        let mut request = request(model, 11, 3);
        (request["n"], request["logprobs"], request["echo"]) = (3.into(), 2.into(), true.into());
        request["prompt"] = json!(["the old é€", "who? ☃"]);
        let whole = server.post("/v1/completions", &request).ok();
        request["stream"] = true.into();
        request["stream_options"] = json!({"include_usage": true});
        let events = server.post("/v1/completions", &request).events();
        let (last, events) = events.split_last().unwrap();
        assert_eq!((&last["usage"], &last["choices"]), (&whole["usage"], &json!([])));
        assert!(events.iter().all(|event| event["usage"].is_null() && event["id"] == last["id"]));
        for choice in whole["choices"].as_array().unwrap() {
            let own = || events.iter().map(|event| &event["choices"][0]).filter(|c| c["index"] == choice["index"]);
            let text: String = own().map(|c| c["text"].as_str().unwrap()).collect();
            assert_eq!(Some(&*text), choice["text"].as_str());
            let reasons: Vec<&Value> = own().map(|c| &c["finish_reason"]).filter(|r| !r.is_null()).collect();
            assert_eq!(reasons, [&choice["finish_reason"]]);
            for column in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
                let parts = own().filter_map(|c| c["logprobs"][column].as_array());
                let all: Vec<Value> = parts.flatten().cloned().collect();
                assert_eq!(&json!(all), &choice["logprobs"][column], "{column}");
            }
            // The tokens spell the text, as far as they are whole characters.
            let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
            assert!(tokens.iter().all(|t| !t.as_str().unwrap().is_empty()));
        }
    }
}

#[test]
fn a_chat_streams_its_reply_and_says_what_the_library_says() {
    let run = lstm();
    let options_of_chat = ChatOptions {
        format: ChatFormat::names("User", "Assistant").unwrap(),
        system: String::new(),
        sampling: Sampling { temperature: 1.0, seed: 9, ..Sampling::default() },
        tokens: 60,
        stop: Vec::new(),
    };
    let server = Served::new(vec![("m".into(), lstm())], options());
    let mut messages = vec![json!({"role": "system", "content": "old"})];
    for turn in ["who rang?", "and then?", "so"] {
        let mut chat = Chat::new(&run.model, &run.tokenizer, options_of_chat.clone()).unwrap();
        chat.load(&serde_json::from_value::<Vec<Message>>(json!(messages)).unwrap()).unwrap();
        messages.push(json!({"role": "user", "content": turn}));
        let mut request = json!({"messages": messages, "seed": 9, "max_tokens": 60, "logprobs": true});
        let reply = chat.send(turn, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let whole = server.post("/v1/chat/completions", &request).ok();
        assert_eq!(whole["choices"][0]["message"]["content"], reply.content);
        assert_eq!(whole["usage"]["completion_tokens"], reply.tokens);
        request["stream"] = true.into();
        let events = server.post("/v1/chat/completions", &request).events();
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let delta = |event: &Value| event["choices"][0]["delta"]["content"].as_str().map(String::from);
        assert_eq!(events.iter().filter_map(delta).collect::<String>(), reply.content);
        let own = events.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
        assert_eq!(json!(own.flatten().collect::<Vec<_>>()), whole["choices"][0]["logprobs"]["content"]);
        messages.push(json!({"role": "assistant", "content": reply.content}));
    }
}

#[test]
fn the_best_of_several_are_the_likeliest() {
    let server = Served::new(vec![("m".into(), gpt2(64, 16))], options());
    let ask = |n: u64, best_of: u64| {
        let request = json!({"prompt": "the", "seed": 1, "n": n, "best_of": best_of, "max_tokens": 8, "logprobs": 0});
        let answer = server.post("/v1/completions", &request).ok();
        let choices = answer["choices"].as_array().unwrap().clone();
        let merit = |c: &Value| (c["text"].as_str().unwrap().to_string(), mean(&c["logprobs"]["token_logprobs"]));
        (choices.iter().map(merit).collect::<Vec<_>>(), answer["usage"].clone())
    };
    let (mut all, usage) = ask(8, 8);
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    // The others were written, too.
    assert_eq!(ask(2, 8), (all[..2].to_vec(), usage));
}

fn mean(log_probs: &Value) -> f64 {
    let values: Vec<f64> = serde_json::from_value(log_probs.clone()).unwrap();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
