//! The log-probabilities after each id of a text, as raw little-endian f32 `[ids, vocabulary]` on standard output: for
//! comparing a run with other programs (fixtures/check_export.py).
//!
//!     cargo run --release --example log_probs -- RUN 0 17 4 > log_probs.f32

use std::io::Write;
use std::path::PathBuf;

use penwright::run::Run;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: log_probs RUN ID...")?);
    let mut session = Run::open(&dir)?.model.session(1)?;
    let mut out = std::io::stdout().lock();
    for id in args {
        session.step(&[0], &[id.parse()?])?;
        out.write_all(&session.log_probs(0).iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
    }
    Ok(())
}
