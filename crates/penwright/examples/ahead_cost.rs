//! What it costs to read tokens ahead: a JSON line for each precision and number of texts side by side.
//!
//!     cargo run --release --example ahead_cost -- MODEL [--precision f32,bf16,int8,int4] [--streams 1,4] [--prompt 64]
//!
//! `step_ms` is the fastest step of one token each; `further[d - 1]` the cost of each of `d` tokens more in every text,
//! as a part of a step of one token; `cost` what the session says.

mod support;

use std::path::Path;
use std::time::Instant;

use penwright::run::Run;
use serde_json::json;
use support::{Arguments, precision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::read();
    let model = arguments.model()?;
    let option = |name: &str, default: &str| arguments.option(name, default);
    let prompt: usize = option("--prompt", "64").parse()?;
    let run = Run::open(Path::new(model))?;
    for name in option("--precision", "f32,bf16,int8,int4").split(',') {
        let precision = precision(name);
        let model = run.model.clone().with_precision(precision)?;
        let vocab = model.vocab_size() as u32;
        let tokens: Vec<u32> = (0..prompt as u32).map(|i| (100 + i * 37) % vocab).collect();
        for streams in option("--streams", "1").split(',') {
            let mut session = model.clone().session(streams.parse()?)?;
            let all: Vec<usize> = (0..session.streams()).collect();
            let next = vec![1; all.len()];
            let draft: Vec<u32> = (0..16).map(|i| (7 * i + 3) % vocab).collect();
            let mut fastest = [f64::MAX; 17];
            penwright::generate::standing_by(|| {
                for _ in 0..12 {
                    // Room for all that is read in a round.
                    session.reset(0);
                    session.feed(0, &tokens)?;
                    (1..session.streams()).for_each(|stream| session.copy(0, stream));
                    for (drafted, fastest) in fastest.iter_mut().enumerate() {
                        let drafts = vec![&draft[..drafted]; all.len()];
                        let start = Instant::now();
                        session.step_ahead(&all, &next, &drafts)?;
                        *fastest = fastest.min(start.elapsed().as_secs_f64());
                        all.iter().for_each(|&stream| session.keep(stream, 0));
                    }
                }
                Ok::<(), penwright::Error>(())
            })?;
            let further = (1..17).map(|d| {
                let share = (fastest[d] / fastest[0] - 1.0) / d as f64;
                (share * 1000.0).round() / 1000.0
            });
            let line = json!({
                "precision": name, "streams": all.len(), "step_ms": fastest[0] * 1e3, "cost": session.cost_ahead(),
                "further": further.collect::<Vec<_>>()
            });
            println!("{line}");
        }
    }
    Ok(())
}
