//! What an answer takes in the cache: as the cache accounts for it, and as the system sees the memory grow.
//!
//! Runs in a moment and needs no statistics, so it is a plain program.

mod common;

use common::{address, name};
use qalqan::cache::{Cache, Key, Settings};
use qalqan::clock::Now;
use qalqan::name::DomainName;
use qalqan::query::{Question, RecordType};

/// The memory of this process that is no file's, in octets.
fn resident() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux tells");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("a line about it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

fn main() {
    // Kept to the end, or the next would be given the memory of the last.
    let mut caches = Vec::new();
    for (what, max_bytes, count) in [("with room for more", 1 << 30, 1_000_000), ("full", 64 << 20, 1_000_000)] {
        let mut random = common::Random(4);
        let before = resident();
        let cache = Cache::new(Settings { max_bytes, ..Settings::default() });
        for index in 0..count {
            let name: DomainName = format!("www.{}", name(&mut random, index)).parse().expect("a name");
            let question = Question::new(&name, RecordType::A);
            cache.keep(Key::from(&question), &address(&question), Now::default()).expect("an answer");
        }
        let statistics = cache.statistics();
        let each = |bytes: u64| bytes as f64 / statistics.entries as f64;
        println!(
            "{what}: {} answers, {:.0} octets each by its own account, {:.0} by the system's",
            statistics.entries,
            each(statistics.bytes),
            each(resident().saturating_sub(before)),
        );
        caches.push(cache);
    }
}
