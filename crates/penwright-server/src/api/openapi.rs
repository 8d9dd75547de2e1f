//! The description of the API for programs (OpenAPI 3.1); `/docs` lays it out for people.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use penwright::inside::MAX_TOP;
use penwright::model::ModelKind;
use serde_json::{Map, Value, json};

use super::train::BUDGET;
use crate::app::App;
use crate::http::json as answer;
use crate::models::Model;

/// `GET /openapi.json`.
pub(crate) async fn openapi(State(app): State<Arc<App>>) -> Response<Body> {
    let models = app.engine.models();
    let mut description = description(&models, app.options.max_tokens);
    if app.trainer.is_some() {
        let paths = training_paths().into_iter().map(|(path, methods)| (path.to_string(), methods));
        if let Some(all) = description["paths"].as_object_mut() {
            all.extend(paths);
        }
    }
    if !app.options.keys.is_empty() {
        description["components"] = json!({"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}});
        description["security"] = json!([{"key": []}]);
    }
    answer(StatusCode::OK, &description)
}

fn description(all: &[Arc<Model>], most: usize) -> Value {
    let models: &[&str] = &all.iter().map(|model| model.name.as_str()).collect::<Vec<_>>();
    let model = models.first().copied().unwrap_or_default();
    let of = |kind| all.iter().find(|model| model.run.model.kind() == kind).map_or(model, |model| &model.name);
    let about = "Writes with your models. Requests and answers are those of OpenAI's API, so that its clients work; errors \
        too: {\"error\": {\"message\", \"type\", \"param\", \"code\"}}.";
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Penwright", "version": env!("CARGO_PKG_VERSION"), "description": about},
        "paths": {
            "/v1/completions": {"post": operation(
                "Texts that continue prompts; with \"stream\" as server-sent events that end with [DONE].",
                [completion_fields(models), choice_fields(most)].concat(), &["prompt"],
                json!({"model": model, "prompt": "The door", "max_tokens": 60, "temperature": 0.8, "seed": 1}),
            )},
            "/v1/chat/completions": {"post": operation(
                "Replies in a conversation, in the turns that the model was made for.",
                [chat_fields(models, most), choice_fields(most)].concat(), &["messages"],
                json!({"model": model, "messages": [{"role": "user", "content": "Who is at the door?"}]}),
            )},
            "/v1/score": {"post": operation(
                "How likely the model finds texts: natural logarithms, and bits per character.",
                vec![
                    model_field(models), field("text", texts("One text, or several.")),
                    field("by", one_of(&["token", "word", "sentence", "paragraph"], "Scores these parts, too.")),
                ],
                &["text"], json!({"model": model, "text": "The door opened.", "by": "word"}),
            )},
            "/v1/models": {"get": plain("The models that are here.")},
            "/v1/models/{id}": {"get": with_id(plain("One of them."))},
            "/api/models": {"get": plain("The models' kinds and shapes.")},
            "/api/next": {"post": operation(
                "The likeliest next tokens after a text, with their probabilities.",
                judge_fields(models), &[], json!({"model": model, "text": "The door", "top": 5}),
            )},
            "/api/surprise": {"post": operation(
                "Each token of a text, the logarithm of its probability, and the likeliest in its place.",
                judge_fields(models), &[], json!({"model": model, "text": "The door opened.", "top": 5}),
            )},
            "/api/inside/lstm": {"post": operation(
                "An LSTM's gates and cells as it reads a text, and the cells that follow its quotes, lines and the like.",
                [inside_fields(models), lstm_fields()].concat(), &["text"],
                json!({"model": of(ModelKind::Lstm), "text": "The door opened.", "follow": 3, "top": 5}),
            )},
            "/api/inside/gpt2": {"post": operation(
                "Where each head of a GPT-2 looks in a text, and what each layer would say next.",
                [inside_fields(models), gpt2_fields()].concat(), &["text"],
                json!({"model": of(ModelKind::Gpt2), "text": "The door opened.", "layers": [0], "top": 5}),
            )},
            "/api/server": {"get": plain("The version, and whether training is allowed.")},
            "/health": {"get": plain("Whether the server is well.")},
            "/ready": {"get": plain("Whether it takes requests; 503 while it stops.")},
            "/metrics": {"get": plain("Counts and times for Prometheus.")},
        }
    })
}

/// What there is where training is allowed.
fn training_paths() -> [(&'static str, Value); 4] {
    let begin = operation(
        "Trains a model on a text; it joins the others when it is done.",
        training_fields(),
        &["name", "kind", "budget_s", "text"],
        json!({"name": "book", "kind": "lstm", "budget_s": 180, "text": "Once upon a time …"}),
    );
    [
        ("/api/train", json!({"get": plain("The runs that were trained here."), "post": begin})),
        ("/api/train/{id}/events", json!({"get": with_id(plain("What happens in a run, as server-sent events."))})),
        ("/api/train/{id}/stop", json!({"post": with_id(plain("Ends a run; it keeps what it has."))})),
        ("/api/train/{id}/report", json!({"get": with_id(plain("A run's report, a web page."))})),
    ]
}

type Field = (&'static str, Value);

fn field(name: &'static str, schema: Value) -> Field {
    (name, schema)
}

fn number(kind: &str, range: (f64, f64), default: Value, about: &str) -> Value {
    let (low, high) = range;
    let mut schema = json!({"type": kind, "minimum": low, "maximum": high, "description": about});
    if !default.is_null() {
        schema["default"] = default;
    }
    schema
}

fn flag(about: &str) -> Value {
    json!({"type": "boolean", "default": false, "description": about})
}

fn texts(about: &str) -> Value {
    let text = json!({"type": "string"});
    json!({"oneOf": [text, {"type": "array", "items": text}], "description": about})
}

fn one_of(values: &[&str], about: &str) -> Value {
    json!({"type": "string", "enum": values, "description": about})
}

fn model_field(models: &[&str]) -> Field {
    field("model", one_of(models, "Which model; with only one it can be left out."))
}

fn completion_fields(models: &[&str]) -> Vec<Field> {
    let ids = json!({"type": "array", "items": {"type": "integer", "minimum": 0}});
    let text = json!({"type": "string"});
    let kinds = json!([text, {"type": "array", "items": text}, ids, {"type": "array", "items": ids}]);
    vec![
        model_field(models),
        field(
            "prompt",
            json!({"oneOf": kinds, "default": "", "description": "What is continued: texts or token ids."}),
        ),
        field("best_of", number("integer", (1.0, 128.0), Value::Null, "Writes so many and answers the n likeliest.")),
        field("echo", flag("Repeats the prompt before the text.")),
        field(
            "logprobs",
            number(
                "integer",
                (0.0, 20.0),
                Value::Null,
                "Tells tokens' log-probabilities and so many of the likeliest.",
            ),
        ),
        field("suffix", json!({"type": "string", "description": "Not supported: refused unless empty."})),
    ]
}

fn chat_fields(models: &[&str], most: usize) -> Vec<Field> {
    let roles = one_of(&["system", "developer", "user", "assistant"], "Who speaks.");
    let message = json!({
        "type": "object", "required": ["role", "content"],
        "properties": {"role": roles, "content": {"type": "string", "description": "What is said."}}
    });
    vec![
        model_field(models),
        field(
            "messages",
            json!({"type": "array", "items": message, "description": "The turns so far; the last is the user's."}),
        ),
        field("max_completion_tokens", number("integer", (1.0, most as f64), Value::Null, "The same as max_tokens.")),
        field("logprobs", flag("Tells tokens' log-probabilities.")),
        field("top_logprobs", number("integer", (0.0, 20.0), 0.into(), "So many of the likeliest beside each token.")),
    ]
}

fn judge_fields(models: &[&str]) -> Vec<Field> {
    vec![
        model_field(models),
        field("text", json!({"type": "string", "default": "", "description": "The text."})),
        field("top", number("integer", (0.0, 100.0), 10.into(), "How many tokens to tell in one place.")),
    ]
}

/// As [`penwright::inside`] has them; a look at either kind of model.
fn inside_fields(models: &[&str]) -> Vec<Field> {
    vec![
        model_field(models),
        field("text", json!({"type": "string", "description": "The text that is read."})),
        field(
            "top",
            number(
                "integer",
                (0.0, MAX_TOP as f64),
                0.into(),
                "How many of the likeliest tokens to tell in one place.",
            ),
        ),
        field("beginning", flag("Takes as much of a long text as fits, instead of refusing it.")),
    ]
}

fn numbers(about: &str) -> Value {
    json!({"type": "array", "items": {"type": "integer", "minimum": 0}, "description": about})
}

fn lstm_fields() -> Vec<Field> {
    vec![
        field("layer", json!({"type": "integer", "minimum": 0, "description": "Which layer; without, the last."})),
        field("cells", numbers("Which cells; without, all.")),
        field(
            "follow",
            json!({"type": "integer", "minimum": 0, "default": 0, "description": "How many cells to tell that follow each property."}),
        ),
    ]
}

fn gpt2_fields() -> Vec<Field> {
    vec![field("layers", numbers("Which blocks; without, all.")), field("heads", numbers("Which heads; without, all."))]
}

fn training_fields() -> Vec<Field> {
    let budget = (*BUDGET.start() as f64, *BUDGET.end() as f64);
    vec![
        field("name", json!({"type": "string", "description": "The run's name: letters, digits, -, _ and ."})),
        field("kind", one_of(&["ngram", "lstm", "gpt2"], "Which kind of model.")),
        field("budget_s", number("integer", budget, Value::Null, "How long it may train, in seconds.")),
        field("text", json!({"type": "string", "description": "What is learned; the last tenth is held out."})),
    ]
}

/// What completions and chats have in common.
fn choice_fields(most: usize) -> Vec<Field> {
    let options = json!({
        "type": "object", "properties": {"include_usage": flag("Ends the stream with the number of tokens.")},
        "description": "Of a stream."
    });
    let biases = json!({
        "type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        "description": "Added to the log-probabilities of tokens, by id; -100 forbids."
    });
    vec![
        field("max_tokens", number("integer", (0.0, most as f64), Value::Null, "Tokens of a text at most.")),
        field("n", number("integer", (1.0, 128.0), 1.into(), "How many texts.")),
        field("stream", flag("Answers as the tokens come.")),
        field("stream_options", options),
        field("stop", texts("Ends a text before any of these strings; at most 16.")),
        field(
            "seed",
            json!({"type": "integer", "description": "Same seed, same text; without one, another each time."}),
        ),
        field(
            "temperature",
            number("number", (0.0, 2.0), 1.into(), "Below 1 likelier, above 1 bolder; 0 always the likeliest."),
        ),
        field(
            "top_p",
            number(
                "number",
                (0.0, 1.0),
                1.into(),
                "Only the likeliest tokens that together have this probability; above 0.",
            ),
        ),
        field(
            "top_k",
            number("integer", (0.0, f64::from(u32::MAX)), 0.into(), "Only so many of the likeliest; 0 for all."),
        ),
        field(
            "min_p",
            number("number", (0.0, 1.0), 0.into(), "Only tokens at least so many times as likely as the likeliest."),
        ),
        field(
            "typical_p",
            number(
                "number",
                (0.0, 1.0),
                1.into(),
                "Only the tokens of the most expected surprise that together have this probability; above 0.",
            ),
        ),
        field(
            "repetition_penalty",
            number(
                "number",
                (0.01, 10.0),
                1.into(),
                "Multiplies the log-probability of tokens that the text has already.",
            ),
        ),
        field(
            "presence_penalty",
            number("number", (-2.0, 2.0), 0.into(), "Taken from the log-probability of tokens written already."),
        ),
        field("frequency_penalty", number("number", (-2.0, 2.0), 0.into(), "The same, as often as they have been.")),
        field("logit_bias", biases),
    ]
}

fn operation(about: &str, fields: Vec<Field>, required: &[&str], example: Value) -> Value {
    let properties: Map<String, Value> = fields.into_iter().map(|(name, schema)| (name.to_string(), schema)).collect();
    let schema =
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let mut operation = plain(about);
    operation["requestBody"] =
        json!({"required": true, "content": {"application/json": {"schema": schema, "example": example}}});
    for (status, what) in [
        ("400", "A field is wrong."),
        ("401", "The key is missing or wrong."),
        ("429", "Too many wait; Retry-After says when to come back."),
        ("503", "The server is stopping."),
    ] {
        operation["responses"][status] = json!({"description": what});
    }
    operation
}

fn plain(about: &str) -> Value {
    json!({"summary": about, "responses": {"200": {"description": "Done."}}})
}

fn with_id(mut operation: Value) -> Value {
    operation["parameters"] = json!([{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}]);
    operation
}
