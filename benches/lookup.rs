//! What a look-up costs on 100 k and 1 M names: of names that are drawn from all alike, so that memory is mostly cold,
//! and of a thousand that are asked for again and again.
//!
//! `QALQAN_BENCH_LARGE=1` adds 10 M. Before the timings stands a table of the file's octets for each name, of the time
//! it takes to write and to open it. Names are made from a seed, so two runs on one machine may be compared.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use qalqan::clock::Now;
use qalqan::name::{DomainName, MAX_KEY_LEN, Name};
use qalqan::policy::{OverrideSet, Policy, Settings, Verdict};
use qalqan::query::RecordType;
use qalqan::rule::{Action, ListId, Scope, Trigger, TypeFilter};
use qalqan::snapshot::{CompiledRule, Inventory, ListEntry, Snapshot, Writer};

/// Names drawn for a measurement: more than caches remember.
const DRAWN: usize = 1 << 20;

/// Names that are asked for again and again.
const POPULAR: usize = 1000;

/// SplitMix64: small, and good enough to make names with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// A label of letters and digits, frequent ones more often.
    fn label(&mut self, lengths: std::ops::Range<usize>) -> String {
        const OCTETS: &[u8] = b"etaoinshrdlcumwfgypbvkxjqz0123456789";
        let len = lengths.start + self.below(lengths.len());
        let mut octet = || char::from(OCTETS[self.below(OCTETS.len()).min(self.below(OCTETS.len()))]);
        (0..len).map(|_| octet()).collect()
    }

    /// A name such as lists have: most directly below a public suffix, some one label deeper.
    fn name(&mut self) -> DomainName {
        const SUFFIXES: [&str; 10] = ["com", "com", "com", "com", "net", "org", "ru", "kz", "info", "xyz"];
        let mut text = self.label(6..14) + "." + SUFFIXES[self.below(SUFFIXES.len())];
        if self.below(4) == 0 {
            text = self.label(2..7) + "." + &text;
        }
        text.parse().expect("labels of letters, and short")
    }
}

/// A policy with one list of `count` names, and those names.
fn listed(count: usize) -> (Policy, Vec<DomainName>) {
    let mut random = Random(1);
    let names: Vec<DomainName> = (0..count).map(|_| random.name()).collect();
    let key = |name: &DomainName| Box::<[u8]>::from(name.reversed_key(&mut [0; MAX_KEY_LEN]));
    let mut keys: Vec<_> = names.iter().map(key).collect();
    keys.sort_unstable();
    keys.dedup();

    let folder = tempfile::tempdir().expect("a folder for the snapshot");
    let path = folder.path().join("snapshot");
    let begun = Instant::now();
    let mut writer = Writer::create(&path, &Inventory { lists: vec![ListEntry::new("list")] }).expect("a new file");
    let rule = writer.rule(&CompiledRule {
        list: ListId(0),
        scope: Scope::Subdomains,
        action: Action::Sinkhole,
        important: false,
        shadow: false,
        types: TypeFilter::All,
        except: Vec::new(),
        dossier: None,
    });
    for key in &keys {
        writer.insert(key, &[rule]).expect("room for a key");
    }
    let written = writer.finish().expect("room for the rest");
    let writing = begun.elapsed();

    let begun = Instant::now();
    let snapshot = Snapshot::open(&path).expect("what has just been written");
    println!(
        "{count:>9} names: {:>5.2} octets a name, written in {writing:.2?}, opened and verified in {:.2?}",
        written.bytes as f64 / written.names as f64,
        begun.elapsed(),
    );
    (Policy::new(Settings::default(), Some(Arc::new(snapshot)), OverrideSet::default()), names)
}

/// Names one behind the other, as a reader of datagrams has them at hand: drawing one costs no cache miss.
struct Queries {
    octets: Vec<u8>,
    ends: Vec<usize>,
    next: usize,
}

impl Queries {
    fn new(names: impl Iterator<Item = DomainName>) -> Self {
        let (mut octets, mut ends) = (Vec::new(), Vec::new());
        for name in names {
            octets.extend_from_slice(name.as_wire());
            ends.push(octets.len());
        }
        Self { octets, ends, next: 0 }
    }

    fn next(&mut self) -> &Name {
        let start = if self.next == 0 { 0 } else { self.ends[self.next - 1] };
        let name = &self.octets[start..self.ends[self.next]];
        self.next = (self.next + 1) % self.ends.len();
        Name::from_wire(name).expect("names were put in")
    }
}

fn lookup(criterion: &mut Criterion) {
    let mut counts = vec![100_000, 1_000_000];
    if std::env::var_os("QALQAN_BENCH_LARGE").is_some() {
        counts.push(10_000_000);
    }
    let mut group = criterion.benchmark_group("judge");
    for count in counts {
        let (policy, names) = listed(count);
        let mut random = Random(2);
        let mut draw = || names[random.below(names.len())].clone();
        let listed = Queries::new((0..DRAWN).map(|_| draw()));
        let below = Queries::new((0..DRAWN).map(|_| draw().child(b"www").expect("room for a label")));
        let popular = Queries::new(names.iter().take(POPULAR).cloned());
        let mut random = Random(3);
        let unlisted = Queries::new((0..DRAWN).map(|_| random.name()));
        let unlisted_popular = Queries::new((0..POPULAR).map(|_| random.name()));

        for (what, mut queries) in [
            ("listed", listed),
            ("below a listed one", below),
            ("listed and popular", popular),
            ("unlisted", unlisted),
            ("unlisted and popular", unlisted_popular),
        ] {
            group.bench_function(BenchmarkId::new(what, count), |bencher| {
                bencher.iter(|| is_blocked(&policy, queries.next()));
            });
        }
    }
    group.finish();
}

fn is_blocked(policy: &Policy, name: &Name) -> bool {
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let judgement = policy.judge(name, RecordType::A, Trigger::Qname, CLIENT, Now::default());
    matches!(judgement.verdict, Verdict::Block(_))
}

criterion_group!(benches, lookup);
criterion_main!(benches);
