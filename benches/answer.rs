//! What one query costs between two system calls: blocked, from the cache, and on its way to the world.

mod common;

use common::{CLIENT, Random, listed, pipeline, policy, queries, unlisted};
use criterion::{Criterion, criterion_group, criterion_main};
use qalqan::pipeline::Step;
use std::hint::black_box;

fn answers(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _guard = runtime.enter();
    for count in [100_000, 1_000_000] {
        let names = listed(count);
        let pipeline = pipeline(policy(&names));
        let mut group = criterion.benchmark_group(format!("answer, {count} names listed"));
        let mut random = Random(3);
        let mut reply = Vec::new();
        let view = pipeline.view(pipeline.now());

        let known = queries(&unlisted(50_000));
        runtime.block_on(async {
            for query in &known {
                pipeline.handle(query, CLIENT).await.expect("an answer");
            }
        });
        let blocked: Vec<String> = (0..50_000).map(|_| names[random.below(count)].clone()).collect();
        let blocked_below: Vec<String> = blocked.iter().map(|name| format!("www.{name}")).collect();
        for (what, queries) in
            [("blocked", queries(&blocked)), ("blocked below", queries(&blocked_below)), ("cached", known)]
        {
            group.bench_function(what, |bench| {
                bench.iter(|| {
                    let query = &queries[random.below(queries.len())];
                    let step = pipeline.answer(black_box(query), CLIENT, &view, &mut reply);
                    assert!(matches!(step, Step::Done(_)));
                });
            });
        }

        // Names that the cache has never seen: what the receiving thread spends on them.
        let cold = queries(&unlisted(400_000)[200_000..]);
        group.bench_function("miss, until it is handed on", |bench| {
            bench.iter(|| {
                let query = &cold[random.below(cold.len())];
                let step = pipeline.answer(black_box(query), CLIENT, &view, &mut reply);
                assert!(matches!(step, Step::Ask(_)));
            });
        });
        group.finish();
    }
}

criterion_group!(benches, answers);
criterion_main!(benches);
