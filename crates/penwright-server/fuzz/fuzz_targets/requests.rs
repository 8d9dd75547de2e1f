//! Any bytes as the body of any request: the answer is one of 200 and 4xx in the right form, and the server goes on.

#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../tests/server/support.rs"]
mod support;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use penwright_server::Options;
use support::{Served, options, runs};

const ROUTES: [&str; 7] = [
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/score",
    "/api/next",
    "/api/surprise",
    "/api/inside/lstm",
    "/api/inside/gpt2",
];

fn server() -> &'static Served {
    static SERVER: OnceLock<Served> = OnceLock::new();
    SERVER.get_or_init(|| Served::new(runs(), Options { max_prompt: 200, max_tokens: 20, ..options() }))
}

// The first byte chooses the route.
fuzz_target!(|input: &[u8]| {
    let Some((&route, body)) = input.split_first() else { return };
    let route = ROUTES[usize::from(route) % ROUTES.len()];
    let answer = server().post_raw(route, body);
    match answer.status {
        200 if answer.header("content-type") == Some("text/event-stream") => {
            let events = answer.events();
            assert!(events.iter().all(|event| event["error"].is_null()), "{route}: {events:?}");
        }
        200 => assert!(answer.json().is_object(), "{route}: {}", answer.text()),
        400..=499 => drop(answer.error()),
        status => panic!("{route}: {status} {}", answer.text()),
    }
});
