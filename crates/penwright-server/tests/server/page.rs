//! What the page asks: a look inside the models, and training.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use penwright_server::Options;
use proptest::prelude::*;

use super::properties::anything;
use super::support::{Served, TEXT, options, read_answer, runs};

#[test]
fn one_sees_inside_the_models() {
    let server = Served::new(runs(), options());
    let text = "ann ran on";
    let lstm = server.post("/api/inside/lstm", &json!({"model": "lstm", "text": text, "follow": 1, "top": 2})).ok();
    let tokens = lstm["tokens"].as_array().unwrap();
    assert_eq!(tokens.iter().map(|token| token["text"].as_str().unwrap()).collect::<String>(), text);
    assert_eq!((lstm["forget"].as_array().unwrap().len(), lstm["widths"].clone()), (tokens.len(), json!([20, 20])));
    assert!((lstm["next"][0].as_array().unwrap().len(), lstm["follows"].as_array().unwrap().len()) == (2, 7));
    let gpt2 = server.post("/api/inside/gpt2", &json!({"model": "gpt2", "text": text, "top": 3})).ok();
    let time = text.len() + 1;
    let rows = gpt2["attention"][1]["weights"][0].as_array().unwrap();
    assert!(rows.len() == time && rows[time - 1].as_array().unwrap().len() == time);
    assert_eq!(gpt2["lens"].as_array().unwrap().len(), 3);
    // The page's three answers about one text agree.
    let surprise = server.post("/api/surprise", &json!({"model": "gpt2", "text": text})).ok();
    for (ours, theirs) in gpt2["tokens"].as_array().unwrap()[1..].iter().zip(surprise["tokens"].as_array().unwrap()) {
        let [a, b] = [ours, theirs].map(|token| token["log_prob"].as_f64().unwrap());
        assert!(ours["id"] == theirs["id"] && (a - b).abs() < 0.05, "{a} and {b}");
    }
}

#[test]
fn what_cannot_be_shown_is_refused_in_words() {
    let server = Served::new(runs(), options());
    let refused = |path: &str, body: Value, status: u16, word: &str| {
        let (code, message, _) = server.post(path, &body).error();
        assert!(code == status && message.contains(word), "{code} {message}");
    };
    refused("/api/inside/lstm", json!({"model": "gpt2", "text": "a"}), 400, "not an LSTM");
    refused("/api/inside/gpt2", json!({"model": "ngram", "text": "a"}), 400, "not a GPT-2");
    refused("/api/inside/gpt2", json!({"model": "gpt2", "text": "a".repeat(64)}), 400, "shorten");
    refused("/api/inside/gpt2", json!({"model": "gpt2", "text": ""}), 400, "empty");
    refused("/api/inside/gpt2", json!({"model": "gpt2", "text": 7}), 400, "string");
    refused("/api/inside/lstm", json!({"model": "lstm", "text": "a", "layer": -1}), 400, "integer");
    refused("/api/inside/lstm", json!({"model": "lstm", "text": "a", "colour": 1}), 400, "colour");
    refused("/api/inside/lstm", json!({"model": "nobody", "text": "a"}), 404, "nobody");
    refused("/api/train", json!({"name": "a", "kind": "ngram", "budget_s": 60, "text": "a"}), 403, "--allow-training");
    assert_eq!(server.get("/api/train").error().0, 403);
    assert_eq!(server.get("/api/server").ok()["training"], false);
}

#[test]
fn a_run_is_trained_watched_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::new(runs(), Options { training: Some(folder.path().into()), ..options() });
    assert_eq!(server.get("/api/server").ok()["training"], true);
    let text = TEXT.repeat(400);
    let wish = |name: &str| json!({"name": name, "kind": "ngram", "budget_s": 10, "text": text});
    let run = server.post("/api/train", &wish("book"));
    assert_eq!(run.status, 202, "{}", run.text());
    let id = run.json()["id"].as_str().unwrap().to_string();
    // The stream ends with the run.
    let events = server.get(&format!("/api/train/{id}/events")).events();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(kinds[0] == "preparing" && kinds.contains(&"plan") && kinds.last() == Some(&"done"), "{kinds:?}");
    // Whoever comes later is told the same.
    assert_eq!(server.get(&format!("/api/train/{id}/events")).events(), events);
    // The model has joined the others.
    assert_eq!(events.last().unwrap()["model"], "book");
    let models = server.get("/v1/models").ok();
    assert_eq!(models["data"].as_array().unwrap().last().unwrap()["id"], "book");
    let ask = json!({"model": "book", "prompt": "the old", "max_tokens": 20, "temperature": 0});
    let text = server.post("/v1/completions", &ask).ok()["choices"][0]["text"].clone();
    assert!(TEXT.repeat(2).contains(text.as_str().unwrap()), "{text}");
    assert!(server.get("/openapi.json").ok()["paths"]["/api/train"]["post"].is_object());
    let list = server.get("/api/train").ok();
    assert_eq!((&list["runs"][0]["name"], &list["runs"][0]["state"]), (&json!("book"), &json!("done")));
    let report = server.get(&format!("/api/train/{id}/report"));
    assert!(report.status == 200 && report.text().contains("</html>"));
    assert!(report.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    penwright::run::Run::open(&folder.path().join("book")).unwrap();
    assert_eq!(server.post("/api/train", &wish("book")).error().0, 409);
    for name in ["", "..", "../book", "a/b", ".hidden", "a\\b", "é"] {
        assert_eq!(server.post("/api/train", &wish(name)).error().0, 400, "{name:?}");
    }
    for id in ["0123456789abcdef", "%ff", "..%2fbook"] {
        assert_eq!(server.get(&format!("/api/train/{id}/report")).error().0, 404);
    }
}

#[test]
fn a_run_is_stopped_and_another_refused_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::new(runs(), Options { training: Some(folder.path().into()), ..options() });
    let wish = |name: &str, text: &str| json!({"name": name, "kind": "lstm", "budget_s": 600, "text": text});
    // Too short a text fails, and leaves its name free.
    let id = server.post("/api/train", &wish("one", "a")).json()["id"].as_str().unwrap().to_string();
    let events = server.get(&format!("/api/train/{id}/events")).events();
    assert_eq!(events.last().unwrap()["event"], "failed", "{events:?}");
    let id = server.post("/api/train", &wish("one", &TEXT.repeat(400))).json()["id"].as_str().unwrap().to_string();
    assert_eq!(server.post("/api/train", &wish("two", TEXT)).error().0, 409);
    let stopped = server.post(&format!("/api/train/{id}/stop"), &json!({})).ok();
    assert_eq!(stopped["id"], id.as_str());
    let events = server.get(&format!("/api/train/{id}/events")).events();
    assert_eq!(
        (&events.last().unwrap()["event"], &events.last().unwrap()["reason"]),
        (&json!("done"), &json!("interrupted"))
    );
    assert_eq!(server.get("/api/train").ok()["runs"][1]["state"], "stopped");
}

#[test]
fn a_server_that_stops_saves_what_it_trains_and_begins_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::new(runs(), Options { training: Some(folder.path().into()), ..options() });
    let wish =
        |name: &str| json!({"name": name, "kind": "lstm", "budget_s": 600, "text": TEXT.repeat(400)}).to_string();
    // A request that is let in before the stop, and whose text arrives after it.
    let late = wish("late");
    let mut client = server.announce("/api/train", late.len());
    client.write_all(&late.as_bytes()[..1000]).unwrap();
    assert_eq!(server.post_raw("/api/train", wish("one").as_bytes()).status, 202);
    let start = Instant::now();
    while server.get("/api/train").ok()["runs"][0]["state"] != "training" {
        assert!(start.elapsed() < Duration::from_secs(60), "training has not begun");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.stopper.stop();
    while server.get("/ready").status != 503 {
        std::thread::sleep(Duration::from_millis(5));
    }
    client.write_all(&late.as_bytes()[1000..]).unwrap();
    assert_eq!(read_answer(&mut client).error().0, 503);
    assert_eq!(server.join().given_up, 0);
    assert!(start.elapsed() < Duration::from_secs(300), "the training went on");
    let record = std::fs::read_to_string(folder.path().join("one/metrics.jsonl")).unwrap();
    assert!(record.lines().last().unwrap().contains("\"reason\":\"interrupted\""), "{record}");
    penwright::run::Run::open(&folder.path().join("one")).unwrap();
    assert!(folder.path().join("one/state").is_dir() && !folder.path().join("late").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_json_is_answered(
        route in 0usize..2, model in 0usize..3,
        fields in prop::collection::vec((0usize..FIELDS.len(), prop::option::weighted(0.3, anything())), 0..6)
    ) {
        static SERVER: std::sync::OnceLock<Served> = std::sync::OnceLock::new();
        let mut body = Map::new();
        body.insert("model".into(), ["gpt2", "lstm", "ngram"][model].into());
        for (field, value) in fields {
            body.insert(FIELDS[field].into(), value.unwrap_or_else(|| sensible(FIELDS[field])));
        }
        let path = ["/api/inside/lstm", "/api/inside/gpt2"][route];
        let answer = SERVER.get_or_init(|| Served::new(runs(), options())).post(path, &Value::Object(body));
        match answer.status {
            200 => prop_assert!(answer.json()["tokens"].is_array()),
            400..=499 => drop(answer.error()),
            status => prop_assert!(false, "{status}: {}", answer.text()),
        }
    }
}

const FIELDS: [&str; 8] = ["text", "layer", "cells", "layers", "heads", "follow", "top", "beginning"];

fn sensible(field: &str) -> Value {
    match field {
        "text" => json!("the old bell"),
        "cells" | "layers" | "heads" => json!([0, 1]),
        "beginning" => json!(true),
        _ => json!(1),
    }
}
