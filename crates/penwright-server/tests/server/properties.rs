//! Whatever JSON comes, the answer is one of 200 and 4xx, in the right form, and the server goes on.

use std::sync::OnceLock;

use penwright_server::Options;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::support::{Served, options, runs};

fn server() -> &'static Served {
    static SERVER: OnceLock<Served> = OnceLock::new();
    SERVER.get_or_init(|| Served::new(runs(), Options { max_prompt: 200, max_tokens: 20, ..options() }))
}

pub(super) fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3i64..20).prop_map(Value::from),
        any::<f64>().prop_map(|x| serde_json::Number::from_f64(x).map_or(Value::Null, Value::Number)),
        (-1.0f64..2.5).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("gpt2"),
            Just("lstm"),
            Just("ngram"),
            Just("user"),
            Just("assistant"),
            Just("word"),
            Just("text")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z0-9]{0,4}|role|content|type|text", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

const FIELDS: [&str; 28] = [
    "prompt",
    "messages",
    "text",
    "n",
    "best_of",
    "echo",
    "logprobs",
    "top_logprobs",
    "stop",
    "seed",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "suffix",
    "tools",
    "by",
    "top",
    "user",
];

/// A value that a field can have, mostly.
fn sensible(field: &str) -> Value {
    match field {
        "messages" => json!([{"role": "user", "content": "who?"}]),
        "prompt" => json!(["the é", "☃"]),
        "text" | "user" => json!("the old bell"),
        "echo" | "stream" | "logprobs" => json!(true),
        "stop" => json!(["e", "ab"]),
        "stream_options" => json!({"include_usage": true}),
        "logit_bias" => json!({"3": 5, "4": -100}),
        "suffix" => json!(""),
        "tools" => json!([]),
        "by" => json!("sentence"),
        "temperature" | "top_p" | "min_p" | "typical_p" => json!(0.5),
        _ => json!(2),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_json_is_answered(
        route in 0usize..5, model in 0usize..3,
        fields in prop::collection::vec((0usize..FIELDS.len(), prop::option::weighted(0.3, anything())), 0..7)
    ) {
        let path = ["/v1/completions", "/v1/chat/completions", "/v1/score", "/api/next", "/api/surprise"][route];
        let mut body = Map::new();
        body.insert("model".into(), ["gpt2", "lstm", "ngram"][model].into());
        if path == "/v1/chat/completions" {
            body.insert("messages".into(), sensible("messages"));
        }
        for (field, value) in fields {
            body.insert(FIELDS[field].into(), value.unwrap_or_else(|| sensible(FIELDS[field])));
        }
        let body = Value::Object(body);
        let answer = server().post(path, &body);
        match answer.status {
            200 if answer.header("content-type") == Some("text/event-stream") => {
                let events = answer.events();
                prop_assert!(events.iter().all(|event| event["error"].is_null()), "{body} {events:?}");
            }
            200 => prop_assert!(answer.json().is_object()),
            400..=499 => drop(answer.error()),
            status => prop_assert!(false, "{status} for {body}: {}", answer.text()),
        }
    }

    #[test]
    fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..60), route in 0usize..2) {
        let answer = server().post_raw(["/v1/completions", "/v1/chat/completions"][route], &body);
        prop_assert_eq!(answer.error().0, 400);
    }
}
