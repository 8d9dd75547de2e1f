//! Clients that go, wait, dawdle or may not ask, and a server that is to stop.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use penwright_server::{Keys, Options};
use serde_json::{Value, json};

use super::support::{Answer, Served, gpt2, ngram, options, read_answer, slow};

/// A text that takes long, on one stream.
fn long(stream: bool) -> Vec<u8> {
    let request = json!({"prompt": "the", "max_tokens": 4000, "stream": stream, "logit_bias": {"0": -100}});
    request.to_string().into_bytes()
}

fn one_stream() -> Options {
    Options { streams: Some(1), queue: 1, ..options() }
}

/// Reads until the first event has come.
fn first_event(stream: &mut TcpStream) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 512]);
    while !seen.windows(6).any(|w| w == b"data: ") {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "the stream ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
}

#[test]
fn whoever_goes_away_frees_the_stream() {
    let server = Served::new(slow(), one_stream());
    for streams in [true, false] {
        let mut client = server.begin("/v1/completions", &long(streams));
        if streams {
            first_event(&mut client);
        }
        server.wait_for("penwright_streams_busy", 1.0);
        // Another one who waits in the queue, and goes.
        let waiting = server.begin("/v1/completions", &long(true));
        server.wait_for("penwright_requests_waiting", 1.0);
        drop(waiting);
        drop(client);
        server.wait_for("penwright_streams_busy", 0.0);
    }
    assert!(server.metric("penwright_cancelled_texts_total") >= 2.0);
    server.post("/v1/completions", &json!({"prompt": "a", "max_tokens": 1})).ok();
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let server = Served::new(slow(), one_stream());
    let mut running = server.begin("/v1/completions", &long(true));
    first_event(&mut running);
    let _waiting = server.begin("/v1/completions", &long(true));
    server.wait_for("penwright_requests_waiting", 1.0);
    for path in ["/v1/completions", "/api/next"] {
        let body = if path == "/api/next" { json!({"text": "a"}) } else { json!({"prompt": "a"}) };
        let answer = server.post(path, &body);
        assert_eq!(answer.error().0, 429);
        let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&after));
        assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    }
}

#[test]
fn a_request_that_takes_too_long_ends() {
    let server = Served::new(slow(), Options { request_timeout: Duration::from_millis(300), ..one_stream() });
    let mut running = server.begin("/v1/completions", &long(true));
    server.wait_for("penwright_streams_busy", 1.0);
    let waited = server.post_raw("/v1/completions", &long(false));
    assert_eq!(waited.error().0, 504);
    let events = read_answer(&mut running).events();
    assert_eq!(events.last().unwrap()["error"]["code"], "timeout");
    server.wait_for("penwright_streams_busy", 0.0);
}

#[test]
fn a_stop_ends_what_runs_and_refuses_the_rest() {
    let server = Served::new(slow(), one_stream());
    let body = json!({"prompt": "the", "max_tokens": 250, "stream": true, "logit_bias": {"0": -100}, "stop": ["☃"]});
    let mut running = server.begin("/v1/completions", body.to_string().as_bytes());
    first_event(&mut running);
    server.stopper.stop();
    let refused = server.post("/v1/completions", &json!({"prompt": "a"}));
    assert_eq!(refused.error().0, 503);
    assert_eq!((server.get("/ready").status, server.get("/health").status), (503, 200));
    let mut rest = String::new();
    running.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"finish_reason\":\"length\"") && rest.contains("[DONE]"), "{rest}");
    assert_eq!(server.join().given_up, 0);
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let server = Served::new(slow(), Options { stop_timeout: Duration::from_millis(200), ..one_stream() });
    let mut running = server.begin("/v1/completions", &long(true));
    first_event(&mut running);
    let start = Instant::now();
    server.stopper.stop();
    assert_eq!(server.join().given_up, 1);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn slow_clients_are_let_go() {
    let server =
        Served::new(vec![("m".into(), ngram())], Options { client_timeout: Duration::from_millis(250), ..options() });
    // A head that never ends.
    let mut client = server.connect();
    client.write_all(b"POST /v1/completions HTTP/1.1\r\nHost: local").unwrap();
    let start = Instant::now();
    let mut all = Vec::new();
    let _ = client.read_to_end(&mut all);
    assert!(start.elapsed() < Duration::from_secs(10), "the connection stayed open");
    // A body that never ends.
    let mut client = server.announce("/v1/completions", 99);
    client.write_all(b"{").unwrap();
    assert_eq!(read_answer(&mut client).error().0, 408);
    // One that goes in the midst of it.
    let mut client = server.announce("/v1/completions", 99);
    client.write_all(b"{").unwrap();
    drop(client);
    server.get("/health").ok();
}

fn with(server: &Served, path: &str, headers: &str) -> Answer {
    server.send(&format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"))
}

#[test]
fn keys_open_the_api() {
    let keys = Keys::parse("first-key\nsecond-key").unwrap();
    let server = Served::new(vec![("m".into(), ngram())], Options { keys, ..options() });
    let models = |authorization: &str| with(&server, "/v1/models", &format!("Host: x\r\n{authorization}"));
    for wrong in [
        "",
        "Authorization: Bearer first-ke\r\n",
        "Authorization: Bearer first-key2\r\n",
        "Authorization: first-key\r\n",
        "Authorization: Basic first-key\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer \u{e9}\r\n",
    ] {
        let answer = models(wrong);
        assert_eq!(answer.error().0, 401, "{wrong}");
        assert_eq!(
            (answer.json()["error"]["code"].as_str(), answer.header("www-authenticate")),
            (Some("invalid_api_key"), Some("Bearer"))
        );
    }
    models("Authorization: Bearer first-key\r\n").ok();
    models("Authorization: bearer second-key\r\n").ok();
    for open in ["/health", "/ready", "/", "/docs", "/openapi.json"] {
        assert_eq!(with(&server, open, "Host: x\r\n").status, 200, "{open}");
    }
    for closed in ["/metrics", "/api/models", "/nothing"] {
        assert_eq!(with(&server, closed, "Host: x\r\n").error().0, 401, "{closed}");
    }
}

#[test]
fn other_origins_and_hosts() {
    let origins = vec!["https://example.org".to_string()];
    let server = Served::new(vec![("m".into(), ngram())], Options { cors_origins: origins, ..options() });
    let allowed = |origin: &str| {
        let answer = with(&server, "/v1/models", &format!("Host: localhost\r\nOrigin: {origin}\r\n"));
        assert_eq!(answer.header("vary"), Some("origin"));
        answer.header("access-control-allow-origin").map(String::from)
    };
    assert_eq!(allowed("https://example.org").as_deref(), Some("https://example.org"));
    for other in ["https://example.org.evil", "http://example.org", "null"] {
        assert_eq!(allowed(other), None, "{other}");
    }
    let preflight = "OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://example.org\r\n\
        Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n";
    let answer = server.send(preflight);
    assert_eq!((answer.status, answer.header("access-control-allow-methods")), (204, Some("GET, POST")));
    let closed = Served::new(vec![("m".into(), ngram())], options());
    assert_eq!(closed.send(preflight).header("access-control-allow-origin"), None);
    // A name that somebody else's page resolves to the loopback.
    for (host, status) in
        [("evil.example", 403), ("localhost.evil:80", 403), ("localhost:9", 200), ("127.0.0.1", 200), ("[::1]:80", 200)]
    {
        assert_eq!(with(&closed, "/v1/models", &format!("Host: {host}\r\n")).status, status, "{host}");
    }
}

/// Clients are served in turn: one with many requests does not keep another waiting for all of them.
#[test]
fn a_busy_client_does_not_starve_another() {
    let keys = Keys::parse("many\nfew").unwrap();
    let runs = vec![("m".into(), gpt2(64, 512))];
    let server = Served::new(runs, Options { keys, streams: Some(1), queue: 64, ..options() });
    let ask = |key: &str, tokens: u64| {
        let body = json!({"prompt": "a", "max_tokens": tokens, "logit_bias": {"0": -100}, "seed": 1}).to_string();
        let request = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let mut many: Vec<TcpStream> = (0..30).map(|_| ask("many", 100)).collect();
    let metrics = || {
        let text = with(&server, "/metrics", "Host: x\r\nAuthorization: Bearer few\r\n").text();
        let line = text.lines().find(|l| l.starts_with("penwright_requests_waiting{")).unwrap().to_string();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    while metrics() < 20 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let one = read_answer(&mut ask("few", 1)).ok();
    assert_eq!(one["usage"]["completion_tokens"], 1);
    assert!(metrics() > 5, "the others had all been served before");
    many.iter_mut().for_each(|stream| drop::<Value>(read_answer(stream).ok()));
}
