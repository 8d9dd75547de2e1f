//! What was counted, in Prometheus's text format.

use std::fmt::Write;
use std::sync::Arc;

use crate::metrics::{Histogram, Requests};
use crate::models::Model;

/// Everything, as it is now.
pub(super) fn text(requests: &Requests, models: &[Arc<Model>]) -> String {
    let mut out = String::new();
    let head = |out: &mut String, name: &str, kind: &str, help: &str| {
        line(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    };
    head(&mut out, "penwright_requests_total", "counter", "Requests answered, by route and status.");
    for ((route, status), count) in requests.all() {
        line(&mut out, format_args!("penwright_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}"));
    }
    type Value = fn(&Model) -> u64;
    let values: [(&str, &str, &str, Value); 6] = [
        ("prompt_tokens_total", "counter", "Tokens of prompts read.", |m| m.metrics.read.get()),
        ("generated_tokens_total", "counter", "Tokens written.", |m| m.metrics.written.get()),
        ("cancelled_texts_total", "counter", "Texts given up: the client went, or time was up.", |m| {
            m.metrics.cancelled.get()
        }),
        ("requests_waiting", "gauge", "Prompts that wait for a stream.", |m| m.metrics.waiting.get()),
        ("streams_busy", "gauge", "Streams in use.", |m| m.metrics.busy.get()),
        ("streams", "gauge", "Streams there are.", |m| m.streams as u64),
    ];
    for (name, kind, help, value) in values {
        let name = format!("penwright_{name}");
        head(&mut out, &name, kind, help);
        for model in models {
            line(&mut out, format_args!("{name}{{model=\"{}\"}} {}", escaped(&model.name), value(model)));
        }
    }
    type Durations = fn(&Model) -> &Histogram;
    let durations: [(&str, &str, Durations); 2] = [
        ("time_to_first_token_seconds", "From a request to its first token.", |m| &m.metrics.first_token),
        ("time_per_token_seconds", "From a token to the next of its text.", |m| &m.metrics.token),
    ];
    for (name, help, histogram) in durations {
        let name = format!("penwright_{name}");
        head(&mut out, &name, "histogram", help);
        for model in models {
            write_histogram(&mut out, &name, &escaped(&model.name), histogram(model));
        }
    }
    out
}

fn write_histogram(out: &mut String, name: &str, model: &str, histogram: &Histogram) {
    let (counts, seconds) = histogram.cumulative();
    for (bound, count) in &counts {
        line(out, format_args!("{name}_bucket{{model=\"{model}\",le=\"{bound}\"}} {count}"));
    }
    line(out, format_args!("{name}_sum{{model=\"{model}\"}} {seconds}"));
    let count = counts.last().map_or(0, |(_, count)| *count);
    line(out, format_args!("{name}_count{{model=\"{model}\"}} {count}"));
}

/// Writing to a string cannot fail.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// A label's value as the format wants it.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
