//! What the benchmarks share.

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use penwright_kernels::{Element, random};

/// Numbers from −1 to 1.
pub(crate) fn noise<E: Element>(len: usize, seed: u64) -> Vec<E> {
    (0..len).map(|n| E::of((random(seed, n as u64) >> 40) as f32 / (1u64 << 23) as f32 - 1.0)).collect()
}

/// A group of benchmarks that are measured for a second each. Throughput is in elements: of products, two a
/// multiplication and addition (`Gelem/s` are GFLOP/s); of passes, the numbers of one array.
pub(crate) fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    group
}

/// Measures `work`, which handles so many elements.
pub(crate) fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, elements: usize, mut work: impl FnMut()) {
    group.throughput(Throughput::Elements(elements as u64));
    group.bench_function(name, |bencher| bencher.iter(&mut work));
}
