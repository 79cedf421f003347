//! From text to a snapshot, on generated lists: no file of anybody else's is needed.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qalqan::clock::Now;
use qalqan::compile::{Compiled, Freshness, GuardMode, Settings, Store, compile};
use qalqan::list::syntax::Reading;
use qalqan::list::{Format, ListSettings, Source};

/// A list of `count` names as public ones are: few top-level domains, names of two or three labels, no order.
fn generated(count: u64, write: impl Fn(&mut String, &str)) -> String {
    const ENDINGS: [&str; 8] = ["com", "com", "net", "kz", "org", "info", "co.uk", "xyz"];
    let mut text = String::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut name = String::new();
    for number in 0..count {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        name.clear();
        if seed >> 62 == 0 {
            name.push_str("track.");
        }
        let ending = ENDINGS[(seed >> 40) as usize % ENDINGS.len()];
        let _ = write!(name, "{:x}-{number:x}.{ending}", seed >> 44);
        write(&mut text, &name);
    }
    text
}

fn settings(format: Format, source: Source) -> ListSettings {
    ListSettings { format, ..ListSettings::new("bench", source) }
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    let count = 100_000;
    group.throughput(Throughput::Elements(count)).sample_size(20);
    let line = |start: &'static str, end: &'static str| {
        generated(count, |text, name| {
            let _ = writeln!(text, "{start}{name}{end}");
        })
    };
    for (format, text) in [
        (Format::Domains, line("", "")),
        (Format::Hosts, line("0.0.0.0 ", "")),
        (Format::Adblock, line("||", "^")),
        (Format::Rpz, line("", " CNAME .")),
        (Format::Jsonl, line("{\"domain\":\"", "\",\"order_id\":\"7\"}")),
    ] {
        let settings = settings(format, Source::Inline(String::new()));
        group.bench_function(BenchmarkId::from_parameter(format), |bencher| {
            bencher.iter(|| {
                let mut reading = Reading::new(&settings);
                reading
                    .file("bench", text.as_bytes(), &mut |entry| drop(std::hint::black_box(entry)), &mut |_| ())
                    .unwrap();
                reading.finish().unwrap()
            });
        });
    }
}

/// A list of `count` names in `folder`, and the settings to compile it.
fn list(folder: &Path, count: u64) -> (PathBuf, Settings) {
    let path = folder.join(count.to_string());
    let text = generated(count, |text, name| {
        let _ = writeln!(text, "||{name}^");
    });
    std::fs::write(&path, text).unwrap();
    let lists = vec![settings(Format::Adblock, Source::File(path.clone()))];
    (path, Settings { lists, ..Settings::default() })
}

/// Names of the lists; `QALQAN_BENCH_LARGE=1` adds ten million.
fn counts() -> impl Iterator<Item = u64> {
    let large = std::env::var_os("QALQAN_BENCH_LARGE").map(|_| 10_000_000);
    [100_000, 1_000_000].into_iter().chain(large)
}

fn compiling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10).warm_up_time(Duration::from_secs(1));
    let folder = tempfile::tempdir().unwrap();
    for count in counts() {
        let (_, settings) = list(folder.path(), count);
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| compiled(&settings, None, folder.path()).report.names);
        });
    }
}

/// What a server does when one line of a list is another: it compiles again, with the last generation at hand.
fn changing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile with one line changed");
    group.sample_size(10).warm_up_time(Duration::from_secs(1));
    for count in counts() {
        let folder = tempfile::tempdir().unwrap();
        let (path, settings) = list(folder.path(), count);
        let store = Store::open(&folder.path().join("state")).unwrap();
        let whole = || {
            let compiled = compiled(&settings, Some(&store), store.folder());
            store.publish(compiled, settings.keep, Now::default()).unwrap()
        };
        whole();
        let mut changes = 0;
        let mut change = || {
            changes += 1;
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            writeln!(file, "||another-{changes}.example^").unwrap();
        };
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_batched(&mut change, |()| whole(), BatchSize::PerIteration);
        });
    }
}

fn compiled(settings: &Settings, store: Option<&Store>, folder: &Path) -> Compiled {
    compile(settings, store, folder, Freshness::Refresh, GuardMode::Enforce, Now::default(), &mut |_| ()).unwrap()
}

criterion_group!(benches, reading, compiling, changing);
criterion_main!(benches);
