//! Requests that cannot be done: each gets the right status and a message that names the field, and the server goes on.

use std::io::Write;

use penwright_server::Options;
use serde_json::{Value, json};

use super::support::{Served, gpt2, ngram, options, read_answer};

fn server() -> Served {
    let options = Options { max_body: 100_000, max_prompt: 300, max_tokens: 64, ..options() };
    Served::new(vec![("m".into(), gpt2(64, 16)), ("other".into(), ngram())], options)
}

fn refused(server: &Served, path: &str, body: &Value, status: u16, param: &str) {
    let answer = server.post(path, body);
    let (got, message, field) = answer.error();
    assert_eq!((got, field.as_deref()), (status, Some(param)), "{body}: {message}");
    assert!(message.contains(param.split(['[', '.']).next().unwrap()) || param == "model", "{body}: {message}");
}

#[test]
fn completions() {
    let server = server();
    let vocab = super::support::tokenizer().vocab_size();
    let cases: Vec<(&str, Value)> = vec![
        ("prompt", json!(7)),
        ("prompt", json!({})),
        ("prompt", json!([])),
        ("prompt", json!(["a", 1])),
        ("prompt", json!([1, "a"])),
        ("prompt", json!([[1, "a"]])),
        ("prompt", json!([-1])),
        ("prompt", json!([1.5])),
        ("prompt", json!([[["a"]]])),
        ("prompt", json!(vec!["a"; 65])),
        ("prompt", json!("x".repeat(301))),
        ("prompt", json!([4294967296u64])),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(65)),
        ("max_tokens", json!("9")),
        ("max_tokens", json!(1e30)),
        ("max_tokens", json!(1.5)),
        ("n", json!(0)),
        ("n", json!(129)),
        ("n", json!(9)),
        ("best_of", json!(0)),
        ("temperature", json!(-0.1)),
        ("temperature", json!(2.1)),
        ("temperature", json!("hot")),
        ("temperature", json!([1])),
        ("top_p", json!(-1)),
        ("top_p", json!(0)),
        ("top_p", json!(1.01)),
        ("top_k", json!(-3)),
        ("min_p", json!(2)),
        ("typical_p", json!("x")),
        ("repetition_penalty", json!(0)),
        ("presence_penalty", json!(3)),
        ("frequency_penalty", json!(-2.5)),
        ("logprobs", json!(21)),
        ("logprobs", json!(true)),
        ("echo", json!("yes")),
        ("stream", json!(1)),
        ("stop", json!("")),
        ("stop", json!([""])),
        ("stop", json!("x".repeat(1001))),
        ("stop", json!([1])),
        ("stop", json!({})),
        ("stop", json!(vec!["a"; 17])),
        ("seed", json!("x")),
        ("seed", json!(1.5)),
        ("seed", json!(1e40)),
        ("suffix", json!("end")),
        ("logit_bias", json!([])),
        ("logit_bias", json!({"x": 1})),
        ("logit_bias", json!({"1": 101})),
        ("logit_bias", json!({"1": "x"})),
        ("logit_bias", json!({vocab.to_string(): 1})),
        ("logit_bias", json!({"-1": 1})),
        ("stream_options", json!(1)),
        ("no_such_field", json!(1)),
        ("model", json!(3)),
    ];
    for (param, value) in cases {
        let mut body = json!({"model": "m", "prompt": "a"});
        body[param] = value;
        refused(&server, "/v1/completions", &body, 400, param);
    }
    refused(
        &server,
        "/v1/completions",
        &json!({"model": "m", "stream_options": {"include_usage": 3}}),
        400,
        "stream_options.include_usage",
    );
    refused(&server, "/v1/completions", &json!({"model": "m", "n": 2, "best_of": 1}), 400, "best_of");
    refused(&server, "/v1/completions", &json!({"model": "m", "best_of": 2, "stream": true}), 400, "best_of");
    refused(&server, "/v1/completions", &json!({"prompt": "a"}), 400, "model");
    for name in ["nobody", "../m", "M", "", "m\u{0}"] {
        refused(&server, "/v1/completions", &json!({"model": name}), 404, "model");
    }
    let (status, message, _) = server.post("/v1/completions", &json!({"model": "m", "prompt": [vocab]})).error();
    assert!(status == 400 && message.contains("vocabulary"), "{message}");
    // Nothing of it has hurt.
    server.post("/v1/completions", &json!({"model": "m", "prompt": null, "max_tokens": null, "stop": null})).ok();
}

#[test]
fn chats_and_the_rest() {
    let server = server();
    let chat = |field: &str, value: Value, param: &str| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
        body[field] = value;
        refused(&server, "/v1/chat/completions", &body, 400, param);
    };
    let said = |role: &str, content: Value| json!([{"role": role, "content": content}]);
    for messages in
        [json!([]), json!("a"), json!({}), said("assistant", json!("a")), said("system", json!("a")), json!(null)]
    {
        chat("messages", messages, "messages");
    }
    chat("messages", json!([3]), "messages[0]");
    chat("messages", said("robot", json!("a")), "messages[0].role");
    chat("messages", said("user", json!(3)), "messages[0].content");
    chat("messages", said("user", json!([{"type": "image_url", "image_url": {"url": "x"}}])), "messages[0].content");
    chat("messages", json!([{"role": "user", "content": "a"}, {"role": "assistant"}]), "messages[1].content");
    chat(
        "messages",
        json!([{"role": "system", "content": "x".repeat(99)}, {"role": "user", "content": "a"}]),
        "messages",
    );
    for (field, value) in [
        ("tools", json!([{"type": "function"}])),
        ("functions", json!([1])),
        ("response_format", json!({"type": "json_object"})),
        ("tool_choice", json!("required")),
        ("top_logprobs", json!(2)),
        ("logprobs", json!(2)),
        ("max_tokens", json!(0)),
        ("max_completion_tokens", json!(65)),
        ("n", json!(1000)),
        ("audio", json!({})),
    ] {
        chat(field, value, field);
    }
    refused(&server, "/v1/score", &json!({"model": "m"}), 400, "text");
    refused(&server, "/v1/score", &json!({"model": "m", "text": 3}), 400, "text");
    refused(&server, "/v1/score", &json!({"model": "m", "text": "a", "by": "page"}), 400, "by");
    refused(&server, "/api/next", &json!({"model": "m", "text": ["a"]}), 400, "text");
    refused(&server, "/api/surprise", &json!({"model": "m", "text": "a", "top": 101}), 400, "top");
    refused(&server, "/api/surprise", &json!({"model": "m", "text": "x".repeat(999)}), 400, "prompt");
}

#[test]
fn bodies_that_are_none() {
    let server = server();
    let deep = format!("{{\"prompt\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    for (body, status) in [
        (&b""[..], 400),
        (b"{", 400),
        (b"null", 400),
        (b"[]", 400),
        (b"\"a\"", 400),
        (b"{\"prompt\": \"a\",}", 400),
        (b"{'prompt': 'a'}", 400),
        (b"{\"prompt\": \"\xff\xfe\"}", 400),
        (b"{\"prompt\": \"\\ud800\"}", 400),
        (b"{\"temperature\": 1e999}", 400),
        (b"{\"temperature\": NaN}", 400),
        (b"\xef\xbb\xbf{}", 400),
        (deep.as_bytes(), 400),
        (&vec![b' '; 100_001], 413),
    ] {
        for path in ["/v1/completions", "/v1/chat/completions", "/v1/score", "/api/next"] {
            let (got, message, _) = server.post_raw(path, body).error();
            assert_eq!(got, status, "{path} {} {message}", String::from_utf8_lossy(&body[..body.len().min(40)]));
        }
    }
    let kinds = ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""];
    for kind in kinds {
        let request = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        );
        assert_eq!(server.send(&request).error().0, 415, "{kind}");
    }
    let chunked = "POST /api/next HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    server.send(&format!("{chunked}d\r\n{{\"model\":\"m\",\r\nb\r\n\"top\" : 3 }}\r\n0\r\n\r\n")).ok();
    assert_eq!(server.send(&format!("{chunked}zz\r\n")).status, 400);
}

#[test]
fn paths_and_methods() {
    let server = server();
    for path in [
        "/v1",
        "/v1/completion",
        "/v1/completions/",
        "/v1/models/",
        "/page/",
        "/page/../Cargo.toml",
        "/page/..%2fCargo.toml",
        "/page/%2e%2e/index.html",
        "/page/index.html%00",
        "/..",
        "//",
        "/v1/models/%ff",
        "/.git/config",
    ] {
        let (status, _, _) = server.get(path).error();
        assert!(status == 404 || status == 400, "{path} {status}");
    }
    for (method, path) in [
        ("GET", "/v1/completions"),
        ("DELETE", "/v1/models/m"),
        ("PUT", "/"),
        ("POST", "/metrics"),
        ("PATCH", "/api/next"),
    ] {
        let answer = server.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(answer.error().0, 405, "{method} {path}");
    }
    // What is no HTTP at all.
    for raw in
        ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: -4\r\n\r\n"]
    {
        let mut client = server.connect();
        client.write_all(raw.as_bytes()).unwrap();
        let answer = read_answer(&mut client);
        assert!((400..=505).contains(&answer.status), "{raw:?} {}", answer.status);
    }
    server.get("/health").ok();
}
