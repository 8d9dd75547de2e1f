//! The machine's limits: arithmetic from registers, memory. Each is measured when it is first needed.

use penwright_kernels::{chunks, chunks_mut, each, peak, run, team};

use super::clock::{Effort, Times};
use super::{Case, Figure};
use crate::{Error, Result};

/// Bytes that are in no cache.
const MEMORY: usize = 256 << 20;
/// Bytes of a task that reads, and the number of pieces of arithmetic for each thread.
const PIECE: usize = 256 << 10;
const PIECES: usize = 8;
/// Rounds of a piece: about a millisecond.
const ROUNDS: u64 = 1 << 18;

/// A kind of arithmetic that the processor has a speed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    F32,
    Bf16,
    Int8,
}

impl Arithmetic {
    fn name(self) -> &'static str {
        match self {
            Arithmetic::F32 => "f32",
            Arithmetic::Bf16 => "bf16",
            Arithmetic::Int8 => "int8",
        }
    }

    /// Operations of so many rounds on this thread.
    fn work(self, rounds: u64) -> Option<u64> {
        match self {
            Arithmetic::F32 => Some(peak::multiply_f32(rounds)),
            Arithmetic::Bf16 => peak::multiply_bf16(rounds),
            Arithmetic::Int8 => peak::multiply_int8(rounds),
        }
    }
}

/// What is known of the machine by now.
pub(super) struct Machine {
    pub(super) effort: Effort,
    peaks: Vec<(Arithmetic, Option<f64>)>,
    reads: Vec<(usize, f64)>,
    copied: Option<f64>,
}

impl Machine {
    pub(super) fn new(effort: Effort) -> Self {
        Machine { effort, peaks: Vec::new(), reads: Vec::new(), copied: None }
    }

    /// Operations a second on all threads; those of f32 where the instruction set in use has none of this kind.
    pub(super) fn peak(&mut self, arithmetic: Arithmetic) -> f64 {
        if let Some((_, peak)) = self.peaks.iter().find(|(known, _)| *known == arithmetic) {
            return peak.unwrap_or_else(|| self.peak(Arithmetic::F32));
        }
        let peak = operations(self.effort.brief(), arithmetic).map(|(count, times)| count / times.best());
        self.peaks.push((arithmetic, peak));
        self.peak(arithmetic)
    }

    /// Bytes a second at which all threads together read so many bytes over and over: from memory, or from a cache when
    /// they stay there.
    pub(super) fn bandwidth(&mut self, bytes: f64) -> f64 {
        let bytes = (bytes as usize).clamp(1 << 16, MEMORY);
        if let Some((_, bandwidth)) = self.reads.iter().find(|(known, _)| *known == bytes) {
            return *bandwidth;
        }
        let data = vec![1u64; bytes / 8];
        let bandwidth = bytes as f64 / reading(self.effort.brief(), &data).best();
        self.reads.push((bytes, bandwidth));
        bandwidth
    }

    /// Bytes a second at which all threads together read and write memory, where that is faster than reading alone.
    fn traffic(&mut self) -> f64 {
        let effort = self.effort.brief();
        let copied = *self.copied.get_or_insert_with(|| {
            let data = vec![1u64; MEMORY / 8];
            2.0 * MEMORY as f64 / copying(effort, &data).best()
        });
        copied.max(self.bandwidth(MEMORY as f64))
    }

    /// The least seconds for so many operations on weights of so many bytes that are read once, and which of the two
    /// needs so long.
    pub(super) fn least_read(&mut self, flops: f64, arithmetic: Arithmetic, bytes: f64) -> (f64, &'static str) {
        longer(flops / self.peak(arithmetic), bytes / self.bandwidth(bytes))
    }

    /// The same where so many bytes are read or written, once each.
    pub(super) fn least_moved(&mut self, flops: f64, arithmetic: Arithmetic, bytes: f64) -> (f64, &'static str) {
        longer(flops / self.peak(arithmetic), bytes / self.traffic())
    }
}

fn longer(compute: f64, memory: f64) -> (f64, &'static str) {
    if compute > memory { (compute, "arithmetic") } else { (memory, "memory") }
}

/// Operations of one repetition on all threads, and its times.
fn operations(effort: Effort, arithmetic: Arithmetic) -> Option<(f64, Times)> {
    arithmetic.work(1)?;
    let pieces = PIECES * rayon::current_num_threads();
    let piece = |_| {
        arithmetic.work(ROUNDS);
    };
    let times = team(|| Times::of(effort, || run(pieces, piece)));
    let count = pieces as u64 * arithmetic.work(ROUNDS)?;
    Some((count as f64, times))
}

fn read(data: &[u64]) {
    std::hint::black_box(peak::read(data));
}

/// Reads on all threads, each time in the same pieces.
fn reading(effort: Effort, data: &[u64]) -> Times {
    team(|| Times::of(effort, || each(chunks(data, PIECE / 8), |_, piece| read(piece))))
}

fn arithmetic(name: &str, machine: &Machine, arithmetic: Arithmetic) -> Result<Figure> {
    let isa = penwright_kernels::isa().name();
    let none = || Error::Unsupported(format!("{isa} has no {} products", arithmetic.name()));
    let (count, times) = operations(machine.effort.brief(), arithmetic).ok_or_else(none)?;
    let unit = if arithmetic == Arithmetic::Int8 { "GOP/s" } else { "GFLOP/s" };
    Ok(Figure::new(name, unit, count / times.best() / 1e9, &times))
}

fn copy((to, from): (&mut [u64], &[u64])) {
    to.copy_from_slice(std::hint::black_box(from));
    std::hint::black_box(to);
}

/// Copies on all threads, each time in the same pieces, which no single `memcpy` would write past the caches.
fn copying(effort: Effort, data: &[u64]) -> Times {
    let mut to = vec![0u64; data.len()];
    team(|| {
        Times::of(effort, || each((chunks_mut(&mut to, PIECE / 8), chunks(data, PIECE / 8)), |_, piece| copy(piece)))
    })
}

/// Seconds to read or copy much memory, on all threads or on one.
fn memory(name: &str, machine: &Machine, copies: bool, one: bool) -> Result<Figure> {
    let effort = machine.effort.brief();
    let data = vec![1u64; MEMORY / 8];
    let times = match (copies, one) {
        (false, false) => reading(effort, &data),
        (true, false) => copying(effort, &data),
        (false, true) => Times::of(effort, || read(&data)),
        (true, true) => {
            let mut to = vec![0u64; data.len()];
            Times::of(effort, || to.chunks_mut(PIECE / 8).zip(data.chunks(PIECE / 8)).for_each(copy))
        }
    };
    // A copy is counted as what is read and what is written.
    let bytes = (MEMORY * if copies { 2 } else { 1 }) as f64;
    let mut figure = Figure::new(name, "GB/s", bytes / times.best() / 1e9, &times);
    if one {
        figure.threads = 1;
    }
    Ok(figure)
}

pub(super) fn cases() -> Vec<Case> {
    let peaks = [Arithmetic::F32, Arithmetic::Bf16, Arithmetic::Int8].map(|kind| {
        Case::new("peak", format!("peak_{}", kind.name()), true, move |name, machine| arithmetic(name, machine, kind))
    });
    let memories = [
        ("memory_read", false, false),
        ("memory_read_one", false, true),
        ("memory_copy", true, false),
        ("memory_copy_one", true, true),
    ];
    let memories = memories.map(|(name, copies, one)| {
        Case::new("peak", name.into(), true, move |name, machine| memory(name, machine, copies, one))
    });
    peaks.into_iter().chain(memories).collect()
}
