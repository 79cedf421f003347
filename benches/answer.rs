//! What a query costs between two system calls: blocked, from the cache, and on its way to the world; alone, and
//! received together with others, which wait for memory together. Read the throughput: each iteration answers a batch.
//!
//! Names are drawn from all alike, so that memory is mostly cold.

mod common;

use std::hint::black_box;

use common::{CLIENT, Random, listed, pipeline, policy, query, unlisted};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qalqan::name::MAX_NAME_LEN;
use qalqan::pipeline::{Arrival, Pipeline, Step, View};
use qalqan::policy::Room;
use smallvec::SmallVec;

/// Queries drawn for a measurement; they are asked around and around.
const DRAWN: usize = 1 << 17;
/// Queries that are received together, and the most of them.
const BATCHES: [usize; 3] = [1, 8, MOST];
const MOST: usize = 64;

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
        for (what, queries) in [
            ("blocked", blocked),
            ("blocked below", below),
            ("cached", draw(&known)),
            ("miss, until it is handed on", cold),
        ] {
            for batch in BATCHES {
                group.throughput(Throughput::Elements(batch as u64));
                let id = BenchmarkId::new(what, batch);
                let mut worker = Worker::new(&pipeline);
                let mut batches = (0..queries.ends.len()).step_by(batch).cycle();
                group.bench_function(id, |bench| {
                    bench.iter(|| {
                        let first = batches.next().unwrap_or(0);
                        worker.answer_all((first..first + batch).map(|at| black_box(queries.get(at))));
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

/// Answers as a worker of the front does.
struct Worker<'p> {
    pipeline: &'p Pipeline,
    view: View,
    names: [[u8; MAX_NAME_LEN]; MOST],
    room: Room,
    replies: [Vec<u8>; MOST],
}

impl<'p> Worker<'p> {
    fn new(pipeline: &'p Pipeline) -> Self {
        let view = pipeline.view(pipeline.now());
        Self { pipeline, view, names: [[0; _]; _], room: Room::default(), replies: [const { Vec::new() }; _] }
    }

    fn answer_all<'q>(&mut self, messages: impl Iterator<Item = &'q [u8]>) {
        let Self { pipeline, view, names, room, replies } = self;
        let mut arrivals: SmallVec<[Arrival<'_>; MOST]> =
            messages.zip(names).map(|(message, name)| Arrival::read(message, CLIENT, name)).collect();
        pipeline.look_up_all(view, &mut arrivals, room);
        for (arrival, reply) in arrivals.iter().zip(replies) {
            let step = pipeline.respond(arrival, view, reply);
            assert!(!matches!(black_box(step), Step::Drop(_)));
        }
    }
}

criterion_group!(benches, answers);
criterion_main!(benches);
