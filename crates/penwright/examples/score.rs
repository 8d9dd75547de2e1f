//! Scores lines of text with a run: how likely does the model find each?
//!
//!     cargo run --release --example score -- runs/example "The door opened." "Door the opened."

use std::path::Path;

use penwright::model::mean_score;
use penwright::run::Run;
use penwright::train::token_stream;

fn main() -> penwright::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let run = Run::open(Path::new(&arguments.next().unwrap_or_else(|| "runs/example".into())))?;
    for text in arguments {
        let tokens = token_stream(&run.tokenizer, &[&text]);
        let (nats, _) = mean_score(&*run.model, &tokens, None)?;
        println!("{:8.3} nats a token  {text}", nats);
    }
    Ok(())
}
