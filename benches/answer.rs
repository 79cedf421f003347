//! What a query costs between two system calls: blocked, from the cache, and on its way to the world; alone, and
//! received together with others, which wait for memory together. Read the throughput: each iteration answers a batch.
//!
//! Names are drawn from all alike, so that memory is mostly cold.

mod common;

use std::hint::black_box;

use common::{CLIENT, MOST_TOGETHER, Random, Worker, listed, pipeline, policy, query, unlisted};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Queries drawn for a measurement; they are asked around and around.
const DRAWN: usize = 1 << 17;
/// Queries that are received together.
const BATCHES: [usize; 3] = [1, 8, MOST_TOGETHER];

fn answers(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _guard = runtime.enter();
    for count in [100_000, 1_000_000] {
        let names = listed(count);
        let pipeline = pipeline(policy(&names));
        let mut random = Random(3);
        let mut draw = |from: &[String]| Queries::new((0..DRAWN).map(|_| from[random.below(from.len())].clone()));

        let known = unlisted(50_000);
        runtime.block_on(async {
            for name in &known {
                pipeline.handle(&query(name), CLIENT).await.expect("an answer");
            }
        });
        let blocked = draw(&names);
        let below = Queries::new(blocked.names.iter().map(|name| format!("www.{name}")));
        // Names that the cache has never seen: what the receiving thread spends on them.
        let cold = Queries::new(unlisted(2 * DRAWN).split_off(DRAWN).into_iter());
        let mut group = criterion.benchmark_group(format!("answer, {count} names listed"));
        for (what, queries, needs_waiting) in [
            ("blocked", blocked, false),
            ("blocked below", below, false),
            ("cached", draw(&known), false),
            ("miss, until it is handed on", cold, true),
        ] {
            for batch in BATCHES {
                group.throughput(Throughput::Elements(batch as u64));
                let id = BenchmarkId::new(what, batch);
                let mut worker = Worker::new(&pipeline);
                let mut batches = (0..queries.ends.len()).step_by(batch).cycle();
                group.bench_function(id, |bench| {
                    bench.iter(|| {
                        let first = batches.next().unwrap_or(0);
                        let done = worker.answer_all((first..first + batch).map(|at| black_box(queries.get(at))));
                        assert_eq!(done, if needs_waiting { 0 } else { batch });
                    });
                });
            }
        }
        group.finish();
    }
}

/// Queries one behind the other, as a reader of datagrams has them at hand: taking one costs no cache miss.
struct Queries {
    names: Vec<String>,
    octets: Vec<u8>,
    ends: Vec<usize>,
}

impl Queries {
    fn new(names: impl Iterator<Item = String>) -> Self {
        let mut queries = Self { names: names.collect(), octets: Vec::new(), ends: Vec::new() };
        for name in &queries.names {
            queries.octets.extend_from_slice(&query(name));
            queries.ends.push(queries.octets.len());
        }
        queries
    }

    fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.octets[start..self.ends[at]]
    }
}

criterion_group!(benches, answers);
criterion_main!(benches);
