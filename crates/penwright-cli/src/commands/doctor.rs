//! `penwright doctor`.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow::Continue;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use penwright::error::bytes;
use penwright::generate::{GenerateOptions, Length as TextLength, generate};
use penwright::memory::free_memory;
use penwright::model::{Gpt2Config, LstmConfig};
use penwright::run::{ModelConfig, Run};
use penwright::tokenizer::{Level, Tokenizer};
use penwright::train::{Data, Event, Length, Start, TrainOptions, train};
use ratatui::crossterm::style::Color;
use serde::Serialize;

use super::Failure;
use crate::args::{Cli, Doctor};
use crate::live::can_paint;
use crate::live::words::thousands;

const LITTLE: u64 = 1 << 30;

/// Everything found.
#[derive(Serialize)]
struct Findings {
    version: &'static str,
    optimized: bool,
    system: String,
    processor: Option<String>,
    features: Vec<&'static str>,
    code_path: &'static str,
    cores: usize,
    threads: usize,
    memory_bytes: Option<u64>,
    free_memory_bytes: Option<u64>,
    caches: Vec<Cache>,
    free_disk_bytes: Option<u64>,
    hub: Option<Hub>,
    terminal: Terminal,
    self_test: Vec<SelfTest>,
    missing: Vec<String>,
    ok: bool,
}

#[derive(Serialize)]
struct Cache {
    name: String,
    bytes: u64,
    cores: Option<String>,
}

/// Where published models come from and lie.
#[derive(Serialize)]
struct Hub {
    endpoint: String,
    cache: PathBuf,
    offline: bool,
    has_token: bool,
}

#[derive(Serialize)]
struct Terminal {
    term: Option<String>,
    stdout: bool,
    stderr: bool,
    columns: Option<u16>,
    rows: Option<u16>,
    colors: bool,
    live_view: bool,
}

#[derive(Serialize)]
struct SelfTest {
    model: String,
    ok: bool,
    seconds: f64,
    first_loss: Option<f64>,
    last_loss: Option<f64>,
    problem: Option<String>,
}

pub(super) fn run(cli: &Cli, args: &Doctor) -> Result<(), Failure> {
    let mut findings = look(cli);
    if !args.no_self_test {
        findings.self_test = ["lstm", "gpt2"].map(self_test).into();
    }
    findings.missing = missing(&findings);
    findings.ok = findings.self_test.iter().all(|test| test.ok);
    if cli.json {
        writeln!(io::stdout(), "{}", serde_json::to_string(&findings).unwrap_or_default())?;
    } else {
        show(cli, &findings)?;
    }
    match findings.self_test.iter().find(|test| !test.ok) {
        None => Ok(()),
        Some(test) => Err(Failure::Failed(format!(
            "the self-test of {} failed: {}",
            test.model,
            test.problem.as_deref().unwrap_or("no reason given")
        ))),
    }
}

fn look(cli: &Cli) -> Findings {
    let (features, code_path) = (processor_features(), penwright::layers::isa().name());
    let free = free_memory();
    let size =
        ratatui::crossterm::terminal::size().ok().filter(|_| io::stdout().is_terminal() || io::stderr().is_terminal());
    Findings {
        version: env!("CARGO_PKG_VERSION"),
        optimized: !cfg!(debug_assertions),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        processor: processor_name(),
        features,
        code_path,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads: rayon::current_num_threads(),
        memory_bytes: total_memory(),
        free_memory_bytes: (free < u64::MAX).then_some(free),
        caches: caches(),
        free_disk_bytes: free_disk(),
        hub: penwright::hub::Settings::from_env().ok().map(|hub| Hub {
            endpoint: hub.endpoint,
            cache: hub.cache,
            offline: hub.offline,
            has_token: hub.token.is_some(),
        }),
        terminal: Terminal {
            term: std::env::var("TERM").ok(),
            stdout: io::stdout().is_terminal(),
            stderr: io::stderr().is_terminal(),
            columns: size.map(|s| s.0),
            rows: size.map(|s| s.1),
            colors: cli.color.on(&io::stdout()),
            live_view: can_paint(),
        },
        self_test: Vec::new(),
        missing: Vec::new(),
        ok: true,
    }
}

/// What the processor has of that which speeds up training.
#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn processor_features() -> Vec<&'static str> {
    macro_rules! present {
        ($($name:tt),*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    let all = present!("sse4.2", "avx", "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512vnni", "avx512bf16");
    all.into_iter().filter(|f| f.1).map(|f| f.0).collect()
}

#[cfg(target_arch = "aarch64")]
fn processor_features() -> Vec<&'static str> {
    macro_rules! present {
        ($($name:tt),*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    let all = present!("neon", "fp16", "dotprod", "i8mm", "bf16", "sve");
    all.into_iter().filter(|f| f.1).map(|f| f.0).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn processor_features() -> Vec<&'static str> {
    Vec::new()
}

/// The processor's name, where Linux tells it.
fn processor_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// The memory of the machine, or of the container when that is less.
fn total_memory() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    Some(system.total_memory().min(limit)).filter(|&total| total > 0)
}

/// The first core's caches, where Linux tells them.
fn caches() -> Vec<Cache> {
    let read = |index: usize, file: &str| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
        std::fs::read_to_string(path).ok().map(|text| text.trim().to_string())
    };
    let cache = |index| {
        let kind = match read(index, "type")?.as_str() {
            "Data" => "d",
            "Instruction" => "i",
            _ => "",
        };
        let name = format!("L{}{kind}", read(index, "level")?);
        let bytes = 1024 * read(index, "size")?.trim_end_matches('K').parse::<u64>().ok()?;
        Some(Cache { name, bytes, cores: read(index, "shared_cpu_list") })
    };
    (0..8).map_while(cache).collect()
}

#[cfg(unix)]
fn free_disk() -> Option<u64> {
    let disk = rustix::fs::statvfs(".").ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_disk() -> Option<u64> {
    None
}

/// Trains a tiny model for a moment, opens what was written and writes with it.
fn self_test(model: &str) -> SelfTest {
    let start = Instant::now();
    let losses = train_and_write(model);
    let seconds = start.elapsed().as_secs_f64();
    let (first_loss, last_loss) = losses.as_ref().map_or((None, None), |l| (Some(l.0), Some(l.1)));
    let problem = match losses {
        Err(problem) => Some(problem),
        Ok((first, last)) if !(first.is_finite() && last < first) => {
            Some(format!("the loss went from {first} to {last} instead of falling"))
        }
        Ok(_) => None,
    };
    SelfTest { model: model.into(), ok: problem.is_none(), seconds, first_loss, last_loss, problem }
}

fn train_and_write(model: &str) -> Result<(f64, f64), String> {
    let dir = tempfile::tempdir()
        .map_err(|e| format!("cannot make a temporary folder ({e}); set TMPDIR to a folder you can write to"))?;
    let text = "The bell rang twice, and the pen began to write. ".repeat(40);
    let tokenizer = Tokenizer::train(Level::Char, &[&text], None).map_err(|e| e.to_string())?;
    let vocab = tokenizer.vocab_size();
    let config = match model {
        "lstm" => ModelConfig::Lstm(LstmConfig {
            vocab,
            embed: 16,
            hidden: 32,
            layers: 1,
            tied: false,
            ..LstmConfig::default()
        }),
        _ => ModelConfig::Gpt2(Gpt2Config {
            vocab,
            context: 16,
            layers: 1,
            heads: 2,
            width: 32,
            ..Gpt2Config::default()
        }),
    };
    let options = TrainOptions {
        length: Length::Steps(20),
        batch: 4,
        context: 16,
        lr: 1e-2,
        warmup: 1,
        eval_every: Some(1),
        checkpoint_every: Duration::from_secs(3600),
        ..TrainOptions::default()
    };
    let mut losses = Vec::new();
    let mut keep = |event: &Event| {
        if let Event::Eval { val_loss, .. } = event {
            losses.push(*val_loss);
        }
    };
    let data = Data::encode(&tokenizer, &[&text], &[&text[..500]], &mut |_, _| {}).map_err(|e| e.to_string())?;
    train(&Start::scratch(config, tokenizer), &data, &options, dir.path(), &AtomicBool::new(false), &mut keep)
        .map_err(|e| e.to_string())?;
    let run = Run::open(dir.path()).map_err(|e| e.to_string())?;
    let eight = GenerateOptions { length: TextLength::Tokens(8), ..GenerateOptions::default() };
    let written = generate(&run.model, &run.tokenizer, "The", &eight, &mut |_, _| Continue(()));
    written.map_err(|e| e.to_string())?;
    match (losses.first(), losses.last()) {
        (Some(first), Some(last)) => Ok((*first, *last)),
        _ => Err("it was never validated".into()),
    }
}

/// What would make it better here.
fn missing(findings: &Findings) -> Vec<String> {
    let mut missing = Vec::new();
    let mut when = |condition: bool, sentence: &str| {
        if condition {
            missing.push(sentence.to_string());
        }
    };
    when(!findings.optimized, "this is a debug build, many times slower; build with --release");
    when(findings.code_path == "scalar", "no vector units in use: training is several times slower than it could be");
    when(findings.threads < findings.cores, "fewer threads than cores; leave out --threads to use all");
    when(
        findings.free_memory_bytes.is_some_and(|free| free < LITTLE),
        "less than 1 GiB of memory is free; use small models",
    );
    when(
        findings.free_disk_bytes.is_some_and(|free| free < LITTLE),
        "less than 1 GiB is free on this disk; write runs elsewhere with --out",
    );
    when(
        !findings.terminal.live_view,
        "no live view: standard error is not a terminal that can draw; training shows plain lines",
    );
    missing
}

fn show(cli: &Cli, findings: &Findings) -> io::Result<()> {
    let brush = cli.color.brush(&io::stdout());
    let mut out = io::stdout().lock();
    let mut row = |key: &str, value: String| writeln!(out, "  {}  {value}", brush.dim(format!("{key:<11}")));
    let build = if findings.optimized { "" } else { ", debug build" };
    row("penwright", format!("{}{build}, {}", findings.version, findings.system))?;
    row("processor", findings.processor.clone().unwrap_or_else(|| "unknown".into()))?;
    row("features", findings.features.join(" "))?;
    row("products", brush.bold(findings.code_path))?;
    row("threads", format!("{} on {} cores", findings.threads, findings.cores))?;
    let known = |size: Option<u64>| size.map_or("unknown".into(), bytes);
    row("memory", format!("{} free of {}", known(findings.free_memory_bytes), known(findings.memory_bytes)))?;
    if !findings.caches.is_empty() {
        let caches: Vec<_> = findings.caches.iter().map(|c| format!("{} {}", c.name, bytes(c.bytes))).collect();
        row("caches", caches.join(", "))?;
    }
    if let Some(free) = findings.free_disk_bytes {
        row("disk here", format!("{} free", bytes(free)))?;
    }
    if let Some(hub) = &findings.hub {
        let from = if hub.offline { "offline (HF_HUB_OFFLINE)".into() } else { format!("from {}", hub.endpoint) };
        row("models", format!("{from}, kept in {}", hub.cache.display()))?;
    }
    let t = &findings.terminal;
    let size = t.columns.zip(t.rows).map_or(String::new(), |(c, r)| format!(", {c} × {r}"));
    let with = |has: bool, what: &str| format!("{}{what}", if has { "" } else { "no " });
    let term = t.term.as_deref().unwrap_or("no TERM");
    row("terminal", format!("{term}{size}, {}, {}", with(t.colors, "colours"), with(t.live_view, "live view")))?;
    for test in &findings.self_test {
        let verdict = if test.ok { brush.color("works", Color::Green) } else { brush.color("FAILED", Color::Red) };
        let losses = match (test.first_loss, test.last_loss) {
            (Some(first), Some(last)) => {
                format!("loss {first:.2} → {last:.2} in {} ms", thousands((1e3 * test.seconds) as u64))
            }
            _ => test.problem.clone().unwrap_or_default(),
        };
        row(&test.model, format!("{verdict}  {losses}"))?;
    }
    for sentence in &findings.missing {
        row("note", brush.color(sentence, Color::Yellow))?;
    }
    let verdict = if findings.ok { "all is well" } else { "something does not work, see above" };
    row("verdict", brush.bold(verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_models_work_here() {
        for model in ["lstm", "gpt2"] {
            let test = self_test(model);
            assert!(test.ok, "{model}: {:?}", test.problem);
        }
    }
}
