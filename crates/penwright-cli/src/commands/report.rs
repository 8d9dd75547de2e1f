//! `penwright report`.

use std::io::{self, Write};

use penwright::files;
use penwright::report::{REPORT, html};
use serde_json::{Value, json};

use super::{Failure, check_folder, name};
use crate::args::{Cli, Report};

pub(super) fn run(cli: &Cli, args: &Report) -> Result<(), Failure> {
    check_folder("html", args.html.as_deref())?;
    let report = penwright::report::Report::read(&args.run)?;
    let path = args.html.clone().unwrap_or_else(|| args.run.join(REPORT));
    files::write(&path, html(&report).as_bytes())?;
    let mut out = io::stdout();
    if cli.json {
        let mut result: Value = serde_json::to_value(&report).map_err(|e| Failure::Failed(e.to_string()))?;
        result["html"] = json!(name(&path));
        writeln!(out, "{result}")?;
        return Ok(());
    }
    let brush = cli.color.brush(&io::stdout());
    writeln!(out, "{}\n\n{}", brush.bold(&report.headline), report.explanation.join(" "))?;
    for (i, step) in report.next.iter().enumerate() {
        writeln!(out, "\n{}. {}", i + 1, step.text)?;
        if let Some(command) = &step.command {
            writeln!(out, "   {command}")?;
        }
    }
    if !cli.quiet {
        eprintln!("\nthe page is in {}", name(&path));
    }
    Ok(())
}
