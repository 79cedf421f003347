//! What a listed name costs: octets of the file, and time to look it up, beside a plain FST of the same names.
//!
//! Look-ups are timed on 100 k and 1 M near-random names, `QALQAN_BENCH_LARGE=1` adds 10 M: of names drawn from all
//! alike, so that memory is mostly cold, and of a thousand that are asked for again and again. Snapshot, policy and
//! plain FST take turns at a few hundred names each; the snapshot also with sixteen names at once, as a worker asks it.
//! What is shown is the middle of many such rounds, each shorter than a process is let run, so other work on the machine
//! hardly shows. Names come from a seed: two runs on one machine may be compared.

mod common;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Random;
use fst::raw::Fst;
use qalqan::clock::Now;
use qalqan::name::{DomainName, MAX_KEY_LEN, Name};
use qalqan::policy::{OverrideSet, Policy, Settings};
use qalqan::query::RecordType;
use qalqan::rule::Trigger;
use qalqan::snapshot::{Room, Snapshot};

/// Names drawn for a measurement: more than caches remember.
const DRAWN: usize = 1 << 19;

/// Names that are asked for again and again.
const POPULAR: usize = 1000;

/// Names that a worker looks up together.
const TOGETHER: usize = 16;

/// Look-ups between two glances at the clock.
const ROUND: usize = 512;

/// Kinds of names, by how they are made.
#[derive(Clone, Copy)]
enum Kind {
    /// Letters and digits, frequent ones more often; some have one label more.
    NearRandom,
    /// Letters and digits, all alike.
    Random,
    /// Two words and a number.
    Words,
    /// A host below a domain of words, and below that what a tracker makes up.
    Hosts,
}

impl Kind {
    const ALL: [(Self, &str); 4] =
        [(Self::NearRandom, "near-random"), (Self::Random, "random"), (Self::Words, "words"), (Self::Hosts, "hosts")];

    fn name(self, random: &mut Random) -> DomainName {
        const SUFFIXES: [&str; 10] = ["com", "com", "com", "com", "net", "org", "ru", "kz", "info", "xyz"];
        const HOSTS: [&str; 6] = ["www", "cdn", "ads", "track", "static", "api"];
        let suffix = SUFFIXES[random.below(SUFFIXES.len())];
        let text = match self {
            Self::NearRandom => {
                let name = format!("{}.{suffix}", near_random(random, 6..14));
                if random.below(4) == 0 { format!("{}.{name}", near_random(random, 2..7)) } else { name }
            }
            Self::Random => format!("{}.{suffix}", label(random, 5..17, |random| random.below(ALPHABET.len()))),
            Self::Words => format!("{}-{}{}.{suffix}", word(random), word(random), random.below(1000)),
            Self::Hosts => {
                let host = HOSTS[random.below(HOSTS.len())];
                let domain = format!("{host}.{}{}.{suffix}", word(random), random.below(100));
                if random.below(2) == 0 { format!("{:x}.{domain}", random.below(1 << 30)) } else { domain }
            }
        };
        text.parse().expect("labels of letters, and short")
    }
}

const ALPHABET: &[u8] = b"etaoinshrdlcumwfgypbvkxjqz0123456789";

fn label(random: &mut Random, lengths: std::ops::Range<usize>, draw: impl Fn(&mut Random) -> usize) -> String {
    let len = lengths.start + random.below(lengths.len());
    (0..len).map(|_| char::from(ALPHABET[draw(random)])).collect()
}

fn near_random(random: &mut Random, lengths: std::ops::Range<usize>) -> String {
    label(random, lengths, |random| random.below(ALPHABET.len()).min(random.below(ALPHABET.len())))
}

/// One of four thousand words that can be spoken.
fn word(random: &mut Random) -> String {
    const BEGINNINGS: [&str; 16] = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "st", "tr"];
    const ENDINGS: [&str; 4] = ["a", "e", "i", "ou"];
    let mut syllable = || BEGINNINGS[random.below(16)].to_owned() + ENDINGS[random.below(4)];
    syllable() + &syllable()
}

/// The same names in a snapshot and in a plain FST.
struct Listed {
    names: Vec<DomainName>,
    snapshot: Arc<Snapshot>,
    plain: Fst<Vec<u8>>,
}

impl Listed {
    fn new(kind: Kind, called: &str, count: usize) -> Self {
        let mut random = Random(1);
        let mut names: Vec<DomainName> = (0..count).map(|_| kind.name(&mut random)).collect();
        names.sort_unstable();
        names.dedup();

        let folder = tempfile::tempdir().expect("a folder for the snapshot");
        let path = folder.path().join("snapshot");
        let begun = Instant::now();
        let written = common::write(&path, names.iter());
        let writing = begun.elapsed();
        let begun = Instant::now();
        let snapshot = Snapshot::open(&path).expect("what has just been written");
        let opening = begun.elapsed();

        let mut plain = fst::raw::Builder::memory();
        for name in &names {
            plain.add(name.reversed_key(&mut [0; MAX_KEY_LEN])).expect("names in order");
        }
        let plain = Fst::new(plain.into_inner().expect("room in memory")).expect("what has just been written");
        let octets = |octets: usize| octets as f64 / names.len() as f64;
        println!(
            "{count:>9} {called:11} {:>5.2} octets a name (plain FST {:>5.2}), written in {writing:.2?}, opened and \
             verified in {opening:.2?}",
            octets(written.bytes as usize),
            octets(plain.size()),
        );
        Self { names, snapshot: Arc::new(snapshot), plain }
    }

    /// How many rule sets a walk through the plain FST meets: one ends wherever a label does.
    fn walk(&self, name: &Name) -> usize {
        let mut key = [0; MAX_KEY_LEN];
        let mut node = self.plain.root();
        let mut met = 0;
        for &octet in name.reversed_key(&mut key) {
            let Some(index) = node.find_input(octet) else { break };
            node = self.plain.node(node.transition_addr(index));
            met += usize::from(octet == 0 && node.is_final());
        }
        met
    }

    fn find(&self, name: &Name) -> usize {
        self.snapshot.find(name).iter().count()
    }

    /// All at once, as a worker looks up what it has received together.
    fn find_together(&self, names: &[&Name], room: &mut Room) -> usize {
        self.snapshot.find_all(names.iter().copied(), room);
        self.snapshot.found_all(room).count()
    }
}

/// Names one behind the other, as a reader of datagrams has them at hand: drawing one costs no cache miss.
#[derive(Default)]
struct Queries {
    octets: Vec<u8>,
    ends: Vec<usize>,
}

impl Queries {
    fn new(names: impl Iterator<Item = DomainName>) -> Self {
        let mut queries = Self::default();
        for name in names {
            queries.octets.extend_from_slice(name.as_wire());
            queries.ends.push(queries.octets.len());
        }
        queries
    }

    /// The `count` names from `first` on, around and around.
    fn take(&self, first: usize, count: usize) -> impl Iterator<Item = &Name> {
        (first..first + count).map(|place| {
            let place = place % self.ends.len();
            let start = if place == 0 { 0 } else { self.ends[place - 1] };
            Name::from_wire(&self.octets[start..self.ends[place]]).expect("names were put in")
        })
    }
}

/// Looks some names up, and says how much it found.
type Way<'w> = &'w mut dyn FnMut(&[&Name]) -> usize;

/// Nanoseconds of a look-up in each of `ways`, which take turns.
fn time<const N: usize>(queries: &Queries, mut ways: [Way<'_>; N]) -> [f64; N] {
    let mut rounds: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::new());
    let mut names = Vec::with_capacity(ROUND);
    // Whoever is first at a name finds memory cold, so each way has rounds of its own.
    for (round, first) in (0..DRAWN).step_by(ROUND).enumerate() {
        let way = round % N;
        names.clear();
        names.extend(queries.take(first, ROUND));
        let begun = Instant::now();
        black_box(names.chunks(TOGETHER).map(&mut ways[way]).sum::<usize>());
        rounds[way].push(begun.elapsed());
    }
    rounds.map(|mut rounds| {
        rounds.sort_unstable();
        rounds[rounds.len() / 2].as_secs_f64() * 1e9 / ROUND as f64
    })
}

fn main() {
    // `cargo test` asks only whether this runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let counts: &[usize] = match std::env::var_os("QALQAN_BENCH_LARGE") {
        _ if !is_bench => &[1000],
        None => &[100_000, 1_000_000],
        Some(_) => &[100_000, 1_000_000, 10_000_000],
    };
    for &count in counts {
        for (kind, called) in &Kind::ALL[1..] {
            Listed::new(*kind, called, count);
        }
        let (kind, called) = Kind::ALL[0];
        look_up(&Listed::new(kind, called, count), kind);
    }
}

/// Shows a table of times.
fn look_up(listed: &Listed, kind: Kind) {
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let policy = Policy::new(Settings::default(), Some(listed.snapshot.clone()), OverrideSet::default());
    let judge = |name: &Name| {
        black_box(policy.judge(name, RecordType::A, Trigger::Qname, CLIENT, Now::default()));
        1
    };
    let mut random = Random(2);
    let mut drawn = |count| -> Vec<DomainName> {
        (0..count).map(|_| listed.names[random.below(listed.names.len())].clone()).collect()
    };
    let below = |name: &DomainName| name.child(b"www").expect("room for a label");
    let (all, popular) = (drawn(DRAWN), drawn(POPULAR));
    let mut random = Random(3);
    let mut unlisted = |count| Queries::new((0..count).map(|_| kind.name(&mut random)));
    let mut room = Room::default();
    println!("{:>9} {:22}{:>11}{:>11}{:>11}{:>11}", "ns", "a look-up", "together", "alone", "policy", "plain FST");
    for (what, queries) in [
        ("listed, cold", Queries::new(all.iter().cloned())),
        ("listed, warm", Queries::new(popular.iter().cloned())),
        ("below a listed, cold", Queries::new(all.iter().map(below))),
        ("below a listed, warm", Queries::new(popular.iter().map(below))),
        ("unlisted, cold", unlisted(DRAWN)),
        ("unlisted, warm", unlisted(POPULAR)),
    ] {
        let times = time(
            &queries,
            [
                &mut |names| listed.find_together(names, &mut room),
                &mut |names| names.iter().map(|name| listed.find(name)).sum(),
                &mut |names| names.iter().map(|name| judge(name)).sum(),
                &mut |names| names.iter().map(|name| listed.walk(name)).sum(),
            ],
        );
        let [together, find, judge, walk] = times.map(|time| format!("{time:>11.0}"));
        println!("{:>9} {what:22}{together}{find}{judge}{walk}", "");
    }
}
