//! Answers a number of queries of one kind, for a program that counts instructions.
//!
//! `benches/instructions.sh` runs this under callgrind with two numbers; the
//! difference is what the queries cost, without start and end.

mod common;

use common::{CLIENT, Worker, listed, pipeline, policy, queries, unlisted};

/// Queries that are received together.
const TOGETHER: usize = 10;

fn main() {
    // `cargo bench` gives its own arguments, and means nothing by it.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let [kind, rounds] = &arguments[..] else {
        eprintln!("usage: instructions blocked|cached ROUNDS; see benches/instructions.sh");
        return;
    };
    let rounds: usize = rounds.parse().expect("a number of rounds");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _guard = runtime.enter();
    let names = listed(10_000);
    let pipeline = pipeline(policy(&names));
    let queries = match kind.as_str() {
        "blocked" => queries(&names[..1000]),
        "cached" => queries(&unlisted(1000)),
        other => panic!("{other}: write blocked or cached"),
    };
    runtime.block_on(async {
        for query in &queries {
            pipeline.handle(query, CLIENT).await.expect("an answer");
        }
    });
    let mut worker = Worker::new(&pipeline);
    for _ in 0..rounds {
        for queries in queries.chunks(TOGETHER) {
            assert_eq!(worker.answer_all(queries.iter().map(Vec::as_slice)), queries.len());
        }
    }
    println!("{} queries", rounds * queries.len());
}
