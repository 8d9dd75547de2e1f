//! `penwright export`.

use std::io::{self, Write};

use penwright::error::bytes;
use penwright::export::{Dtype, ExportOptions, Format, GgufType, export};
use serde_json::json;

use super::{Failure, locate, name};
use crate::args::{Cli, DtypeName, Export, To};
use crate::live::Status;

pub(super) fn run(cli: &Cli, args: &Export) -> Result<(), Failure> {
    let options = ExportOptions { format: format(args)?, force: args.force };
    let run = locate(cli, &args.run)?;
    let status = Status::new(cli, &format!("Writing {}", args.path.display()));
    status.set(0, 0);
    let files = export(&run, &options, &args.path);
    drop(status);
    let (files, mut out) = (files?, io::stdout().lock());
    if cli.json {
        let result = json!({"path": name(&args.path), "format": options.format.name(), "files": files});
        writeln!(out, "{result}")?;
        return Ok(());
    }
    let brush = cli.color.brush(&io::stdout());
    writeln!(out, "{}", brush.bold(name(&args.path)))?;
    if !matches!(options.format, Format::Gguf(_)) {
        for file in &files {
            writeln!(out, "  {:>10}  {}", bytes(file.bytes), file.name)?;
        }
    }
    Ok(())
}

fn format(args: &Export) -> Result<Format, Failure> {
    let only = |flag: &str, to: &str| Err(Failure::Usage(format!("--{flag} is for --to {to}; leave it out")));
    match (args.to, args.dtype, args.kind) {
        (To::Gguf, Some(_), _) => Err(Failure::Usage("--dtype is for --to hf; with --to gguf give --type".into())),
        (To::Hf, _, Some(_)) => Err(Failure::Usage("--type is for --to gguf; with --to hf give --dtype".into())),
        (To::Pytorch, Some(_), _) => only("dtype", "hf"),
        (To::Pytorch, _, Some(_)) => only("type", "gguf"),
        (To::Pytorch, None, None) => Ok(Format::Pytorch),
        (To::Hf, dtype, None) => Ok(Format::Hf(match dtype {
            None | Some(DtypeName::F32) => Dtype::F32,
            Some(DtypeName::F16) => Dtype::F16,
            Some(DtypeName::Bf16) => Dtype::Bf16,
        })),
        (To::Gguf, None, kind) => Ok(Format::Gguf(kind.unwrap_or(GgufType::F16))),
    }
}
