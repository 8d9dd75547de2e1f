//! Each route answers what it says.

use penwright::score::{Unit, score};
use serde_json::{Value, json};

use super::support::{Served, TEXT, gpt2, lstm, options, runs, tokenizer};

#[test]
fn models_and_their_shapes() {
    let server = Served::new(runs(), options());
    let list = server.get("/v1/models").ok();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!((list["object"].as_str(), ids), (Some("list"), vec!["gpt2", "lstm", "ngram"]));
    assert_eq!(server.get("/v1/models/lstm").ok()["object"], "model");
    assert_eq!(server.get("/v1/models/a/b").error().0, 404);
    let shapes = server.get("/api/models").ok();
    assert_eq!(shapes[0]["kind"], "gpt2");
    assert_eq!(
        (&shapes[0]["heads"], &shapes[0]["context"], &shapes[1]["context"]),
        (&json!(2), &json!(64), &Value::Null)
    );
    assert_eq!((&shapes[1]["level"], &shapes[2]["context"]), (&json!("bpe"), &json!(3)));
    assert_eq!(shapes[2]["vocab_size"], tokenizer().vocab_size());
}

#[test]
fn health_metrics_and_the_page() {
    let server = Served::new(runs(), options());
    assert_eq!(server.get("/health").ok()["status"], "ok");
    assert_eq!(server.get("/ready").ok()["status"], "ready");
    server
        .post(
            "/v1/completions",
            &json!({"model": "ngram", "prompt": "the", "max_tokens": 5, "stop": ["☃"], "logit_bias": {"0": -100}}),
        )
        .ok();
    assert_eq!(server.metric("penwright_generated_tokens_total{model=\"ngram\"}"), 5.0);
    // End-of-text and three characters.
    assert_eq!(server.metric("penwright_prompt_tokens_total{model=\"ngram\"}"), 4.0);
    assert_eq!(server.metric("penwright_time_to_first_token_seconds_count{model=\"ngram\"}"), 1.0);
    assert_eq!(server.metric("penwright_time_per_token_seconds_count{model=\"ngram\"}"), 4.0);
    assert_eq!(server.metric("penwright_requests_total{route=\"/v1/completions\",status=\"200\"}"), 1.0);
    let page = server.get("/");
    assert!(page.status == 200 && page.text().contains("<h1>"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"));
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let tag = page.header("etag").unwrap();
    let again = format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIf-None-Match: {tag}\r\n\r\n");
    assert_eq!(server.send(&again).status, 304);
    assert_eq!(server.get("/docs").status, 200);
    assert_eq!(server.get("/page/docs.js").header("content-type"), Some("text/javascript; charset=utf-8"));
}

/// The description names exactly the routes there are, and fields that the requests take.
#[test]
fn the_description_is_of_this_api() {
    let server = Served::new(runs(), options());
    let api = server.get("/openapi.json").ok();
    for (path, methods) in api["paths"].as_object().unwrap() {
        let answer = server.get(&path.replace("{id}", "ngram"));
        let Some(post) = methods.get("post") else {
            assert_eq!(answer.status, 200, "{path}");
            continue;
        };
        assert_eq!(answer.error().0, 405, "{path}");
        let body = &post["requestBody"]["content"]["application/json"];
        server.post(path, &body["example"]).ok();
        for (name, schema) in body["schema"]["properties"].as_object().unwrap() {
            let mut request = body["example"].clone();
            let text = json!("ngram");
            // Only one kind of model can be looked into by each of these.
            if name == "model" && path.starts_with("/api/inside") {
                continue;
            }
            request[name] = match (name.as_str(), schema["type"].as_str()) {
                ("suffix", _) => json!(""),
                ("messages", _) => json!([{"role": "user", "content": "x"}]),
                ("by", _) => json!("word"),
                ("stream" | "echo", _) => json!(false),
                ("top_logprobs", _) => json!(0),
                ("layer", _) => json!(1),
                ("cells" | "layers" | "heads", _) => json!([1]),
                (_, Some("integer")) => json!(3),
                (_, Some("number")) => json!(1),
                (_, Some("boolean")) => json!(true),
                (_, Some("object")) => json!({}),
                _ => text,
            };
            let answer = server.post(path, &request);
            assert_eq!(answer.status, 200, "{path} {name}: {}", answer.text());
        }
    }
}

#[test]
fn prompts_in_all_forms() {
    let server = Served::new(vec![("m".into(), gpt2(64, 16))], options());
    let ids = tokenizer().encode("the old");
    let text = |prompt: Value| {
        let answer =
            server.post("/v1/completions", &json!({"prompt": prompt, "seed": 4, "max_tokens": 9, "n": 2})).ok();
        let choices = answer["choices"].as_array().unwrap().clone();
        let prompts = choices.len() / 2;
        assert_eq!(answer["usage"]["prompt_tokens"], json!(7 * prompts));
        assert!(choices.iter().enumerate().all(|(i, choice)| choice["index"] == json!(i)));
        choices.iter().map(|choice| choice["text"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let one = text(json!("the old"));
    assert_ne!(one[0], one[1]);
    assert_eq!(text(json!(["the old"])), one);
    assert_eq!(text(json!(ids)), one);
    assert_eq!(text(json!([ids])), one);
    // Each prompt has the texts that it has alone.
    let both = text(json!(["the old", "the old"]));
    assert_eq!((&both[..2], &both[2..]), (&one[..], &one[..]));
    // End-of-text before the tokens is the beginning that there is in any case.
    let begun = [&[tokenizer().eot()], &ids[..]].concat();
    assert_eq!(text(json!(begun)), one);
    let random = |body: Value| server.post("/v1/completions", &body).ok()["choices"][0]["text"].clone();
    let free = json!({"prompt": "the", "max_tokens": 40});
    assert_ne!(random(free.clone()), random(free), "without a seed, another text each time");
}

#[test]
fn likelihoods_of_tokens_add_up() {
    let run = gpt2(64, 16);
    let (model, tokenizer) = (run.model.clone(), run.tokenizer.clone());
    let server = Served::new(vec![("m".into(), run)], options());
    // Longer than the context, so that it slides, and with characters that are several tokens.
    let prompt = format!("{TEXT} ☃ {}", "who asked ann? ".repeat(6));
    let request = json!({"prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 2});
    let choice = server.post("/v1/completions", &request).ok()["choices"][0].clone();
    assert_eq!((choice["text"].as_str(), choice["finish_reason"].as_str()), (Some(&*prompt), Some("length")));
    let parts = score(&*model, &tokenizer, &prompt, Unit::Token, None).unwrap();
    let columns = &choice["logprobs"];
    let log_probs: Vec<f64> = serde_json::from_value(columns["token_logprobs"].clone()).unwrap();
    assert_eq!(log_probs.len(), parts.len());
    // `score` gives the last window a whole context; a session's begins where it does in any longer text.
    let alike = 64 + (parts.len() - 64) / 32 * 32;
    for (i, (log_prob, part)) in log_probs.iter().zip(&parts).take(alike).enumerate() {
        assert!((log_prob - part.log_prob).abs() < 1e-3, "{i}: {log_prob} {part:?}");
    }
    let offsets: Vec<usize> = serde_json::from_value(columns["text_offset"].clone()).unwrap();
    for (i, (part, &offset)) in parts.iter().zip(&offsets).enumerate() {
        let before: usize = parts[..i].iter().map(|p| p.text.chars().count()).sum();
        assert_eq!(offset, before, "{part:?}");
        let top = columns["top_logprobs"][i].as_object().unwrap();
        assert!((2..=3).contains(&top.len()) && top.values().all(|p| p.as_f64().unwrap() <= 0.0), "{top:?}");
    }
    // The same by the route that is for it, and by words.
    let scored = server.post("/v1/score", &json!({"text": [prompt, ""], "by": "word"})).ok();
    let whole: f64 = log_probs.iter().sum();
    let near = |value: &Value, log_prob: f64| (value.as_f64().unwrap() - log_prob).abs() < 1e-3;
    assert!(near(&scored["data"][0]["log_prob"], whole) && scored["data"][1]["log_prob"] == 0.0);
    let words = scored["data"][0]["parts"].as_array().unwrap();
    assert!(
        words.len() > 30 && near(&json!(words.iter().map(|w| w["log_prob"].as_f64().unwrap()).sum::<f64>()), whole)
    );
    let text: String = words.iter().map(|w| w["text"].as_str().unwrap()).collect();
    assert_eq!(text, prompt);
    // And with the alternatives that the page shows.
    let surprise = server.post("/api/surprise", &json!({"text": prompt, "top": 3})).ok();
    let tokens = surprise["tokens"].as_array().unwrap();
    let text: String = tokens.iter().map(|t| t["text"].as_str().unwrap()).collect();
    assert_eq!(text, prompt);
    for (token, log_prob) in tokens.iter().zip(log_probs) {
        assert!((token["log_prob"].as_f64().unwrap() - log_prob).abs() < 1e-6);
        let alternatives = token["alternatives"].as_array().unwrap();
        assert_eq!(alternatives.len(), 3);
        assert!(alternatives[0]["prob"].as_f64().unwrap() >= log_prob.exp() - 1e-6, "the likeliest comes first");
    }
}

#[test]
fn the_likeliest_next_tokens() {
    let server = Served::new(runs(), options());
    for model in ["gpt2", "lstm", "ngram"] {
        let next = server.post("/api/next", &json!({"model": model, "text": "the ol", "top": 3})).ok();
        let tokens = next["tokens"].as_array().unwrap();
        let greedy = json!({"model": model, "prompt": "the ol", "max_tokens": 1, "temperature": 0, "logprobs": 0});
        let choice = server.post("/v1/completions", &greedy).ok()["choices"][0].clone();
        assert_eq!(tokens.len(), 3);
        let probability = choice["logprobs"]["token_logprobs"][0].as_f64().unwrap().exp();
        assert!((tokens[0]["prob"].as_f64().unwrap() - probability).abs() < 1e-6, "{model} {next} {choice}");
        let all = server.post("/api/next", &json!({"model": model, "text": "the ol", "top": 100})).ok();
        let sum: f64 = all["tokens"].as_array().unwrap().iter().map(|t| t["prob"].as_f64().unwrap()).sum();
        assert!(sum <= 1.0 + 1e-4 && sum > 0.2, "{sum}");
    }
}

#[test]
fn chats_answer_in_turns() {
    let server = Served::new(vec![("m".into(), lstm())], options());
    let ask = |body: Value| server.post("/v1/chat/completions", &body);
    let turns = json!([
        {"role": "developer", "content": "be old"},
        {"role": "user", "content": [{"type": "text", "text": "who "}, {"type": "text", "text": "rang?"}]}
    ]);
    let request = json!({"messages": turns, "seed": 3, "n": 2, "max_tokens": 30, "logprobs": true, "top_logprobs": 2});
    let answer = ask(request.clone()).ok();
    assert_eq!(answer["object"], "chat.completion");
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2);
    assert_ne!(choices[0]["message"], choices[1]["message"]);
    for choice in choices {
        let content = choice["message"]["content"].as_str().unwrap();
        assert_eq!((content.trim(), &choice["message"]["role"]), (content, &json!("assistant")));
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        assert!(tokens.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
    }
    assert_eq!(ask(request).ok()["choices"], answer["choices"]);
    let shorter = ask(json!({"messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 2})).ok();
    assert_eq!(
        (&shorter["usage"]["completion_tokens"], &shorter["choices"][0]["finish_reason"]),
        (&json!(2), &json!("length"))
    );
}
