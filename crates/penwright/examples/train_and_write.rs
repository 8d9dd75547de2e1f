//! Trains a small LSTM on a text for twenty seconds, then writes with it.
//!
//!     cargo run --release --example train_and_write -- book.txt

use std::ops::ControlFlow::Continue;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use penwright::generate::{GenerateOptions, generate};
use penwright::model::ModelKind;
use penwright::run::Run;
use penwright::train::{Job, Settings};

fn main() -> penwright::Result<()> {
    let text = std::env::args().nth(1).unwrap_or_else(|| "README.md".into());
    let budget = Some(Duration::from_secs(20));
    let settings = Settings { text: vec![text.into()], model: Some(ModelKind::Lstm), budget, ..Settings::default() };
    let job = Job::prepare(settings, &mut |_| {})?;
    job.run(Path::new("runs/example"), false, &AtomicBool::new(false), &mut |event| println!("{event:?}"))?;

    let run = Run::open(Path::new("runs/example"))?;
    let written = generate(&run.model, &run.tokenizer, "The ", &GenerateOptions::default(), &mut |_, _| Continue(()))?;
    println!("The {}", written.samples[0].text);
    Ok(())
}
