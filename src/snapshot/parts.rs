//! The graph in [parts](super::part): one for each few thousand keys, and a directory to find the right one.
//!
//! Where a part ends is decided by the hashes of keys. So when one name of ten million changes, all parts but one are
//! as they were, and the next generation takes them over from the last instead of building them again, as far as their
//! rule sets keep their numbers. What is built stays a function of the keys alone, and one generation is one file: a
//! second one with the differences would have to be looked into for each query, and be told apart from the first by
//! whoever compares or rolls back. Parts are built side by side, as many as there are processors, and are smaller
//! together than one graph, since addresses in them are short.
//!
//! A part begins with the keys of earlier parts that its first own key begins with, so that the part in which a name
//! would stand has everything that a walk to that name must find: an ancestor of the name that sorts before the first
//! own key is what that key begins with, too.
//!
//! All keys are [`stem`](super::part::stem)s here.
//!
//! The directory is the number of parts, a `u64`; a [`Record`] for each; and their first own keys, each behind its
//! length.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::Snapshot;
use super::filter::SuffixHash;
use super::layout::{blob_at, u32_at, u64_at};
use super::part::{self, Part};
use crate::rule::owner::shared_prefix;

/// One in 2¹³ keys begins a part.
const KEYS_BITS: u32 = 13;
/// A part has so many keys at least: each costs memory and a thread, and hashes may be chosen by who writes a list.
const LEAST_KEYS: usize = 1 << 10;
/// A part ends here at the latest, so that none grows beyond memory.
const MOST_KEYS: usize = 1 << 16;
/// Octets of the keys of a part at which it ends at the latest.
const MOST_OCTETS: usize = 4 << 20;

const COUNT_LEN: usize = 8;

/// What tells parts apart: the beginning of the BLAKE3 hash of their keys and the numbers of their rule sets.
type Digest = [u8; 16];

/// The beginning of a key, filled up with zeros, as a number: numbers are in the order of the keys.
type Prefix = u128;

#[inline]
fn prefix_of(key: &[u8]) -> Prefix {
    let mut prefix = [0; 16];
    let len = key.len().min(prefix.len());
    prefix[..len].copy_from_slice(&key[..len]);
    Prefix::from_be_bytes(prefix)
}

/// What the directory says of a part.
#[derive(Debug, Clone, Copy)]
struct Record {
    /// The beginning of its first own key: most comparisons end with it.
    prefix: Prefix,
    digest: Digest,
    /// Where it ends in the graph section.
    end: u64,
    /// Where its first own key stands in the directory.
    first: u32,
    /// How many keys of earlier parts it begins with.
    repeated: u32,
}

impl Record {
    const LEN: usize = 48;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..16].copy_from_slice(&self.prefix.to_be_bytes());
        bytes[16..32].copy_from_slice(&self.digest);
        bytes[32..40].copy_from_slice(&self.end.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.first.to_le_bytes());
        bytes[44..].copy_from_slice(&self.repeated.to_le_bytes());
        bytes
    }

    #[inline]
    fn read(bytes: &[u8; Self::LEN]) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&bytes[16..32]);
        Self {
            prefix: Self::prefix(bytes),
            digest,
            end: Self::end(bytes),
            first: Self::first(bytes),
            repeated: u32_at(bytes, 44).unwrap_or_default(),
        }
    }

    /// [`Record::prefix`] alone: a look-up needs no more of most records.
    #[inline]
    fn prefix(bytes: &[u8; Self::LEN]) -> Prefix {
        bytes.first_chunk().map_or(0, |prefix| Prefix::from_be_bytes(*prefix))
    }

    /// [`Record::end`] alone.
    #[inline]
    fn end(bytes: &[u8; Self::LEN]) -> u64 {
        u64_at(bytes, 32).unwrap_or_default()
    }

    /// [`Record::first`] alone.
    #[inline]
    fn first(bytes: &[u8; Self::LEN]) -> u32 {
        u32_at(bytes, 40).unwrap_or_default()
    }
}

/// The graph of a snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'s> {
    directory: &'s [u8],
    graph: &'s [u8],
}

impl<'s> Parts<'s> {
    /// The parts in the section `graph` that `directory` describes.
    #[inline]
    pub(super) fn new(directory: &'s [u8], graph: &'s [u8]) -> Self {
        Self { directory, graph }
    }

    /// Whether the directory fits the graph, and each part is framed as it should be.
    pub(super) fn are_sound(self) -> bool {
        let counted = u64_at(self.directory, 0) == Some(self.records().len() as u64);
        let first = |record: &[u8; Record::LEN]| blob_at(self.directory, Record::read(record).first);
        let end = self.records().last().map_or(0, |record| Record::read(record).end);
        counted
            && self.records().iter().all(|record| first(record).is_some())
            && self.records().is_sorted_by(|one, next| first(one) < first(next))
            && end == self.graph.len() as u64
            && (0..self.records().len()).all(|index| self.section(index).is_some_and(Part::is_framed))
    }

    /// Where the part is that has `stem`, if any has, and all keys that it begins with.
    #[inline]
    pub(super) fn section_for(self, stem: &[u8]) -> Option<&'s [u8]> {
        self.section(self.behind(stem).checked_sub(1)?)
    }

    /// Whether a key begins with `octets`.
    pub(super) fn have(self, octets: &[u8]) -> bool {
        let in_part = self.section_for(octets).and_then(Part::new).is_some_and(|part| part.has(octets));
        let next = self.records().get(self.behind(octets));
        let next = next.and_then(|record| blob_at(self.directory, Record::read(record).first));
        in_part || next.is_some_and(|first| first.starts_with(octets))
    }

    /// How many parts begin at `stem` or before it.
    #[inline]
    fn behind(self, stem: &[u8]) -> usize {
        let prefix = prefix_of(stem);
        self.records().partition_point(|bytes| match Record::prefix(bytes).cmp(&prefix) {
            Ordering::Equal => blob_at(self.directory, Record::first(bytes)) <= Some(stem),
            order => order.is_lt(),
        })
    }

    /// All keys with their rule sets, in order.
    pub(super) fn keys(self) -> Keys<'s> {
        Keys { parts: self, next: 0, current: None }
    }

    #[inline]
    fn records(self) -> &'s [[u8; Record::LEN]] {
        let count = u64_at(self.directory, 0).unwrap_or(0) as usize;
        let records = self.directory.get(COUNT_LEN..).unwrap_or(&[]).as_chunks().0;
        records.get(..count).unwrap_or(&[])
    }

    #[inline]
    fn range(self, index: usize) -> Option<Range<usize>> {
        let records = self.records();
        let end = |index: usize| Some(Record::end(records.get(index)?) as usize);
        Some(if index == 0 { 0 } else { end(index - 1)? }..end(index)?)
    }

    #[inline]
    fn section(self, index: usize) -> Option<&'s [u8]> {
        self.graph.get(self.range(index)?)
    }

    /// Where each part is, by what tells it apart.
    fn by_digest(self) -> HashMap<Digest, Range<usize>> {
        let digests = self.records().iter().map(|record| Record::read(record).digest);
        digests.enumerate().filter_map(|(index, digest)| Some((digest, self.range(index)?))).collect()
    }
}

/// The keys of [`Parts`] in ascending order, each lent until the next.
#[derive(Debug)]
pub(super) struct Keys<'s> {
    parts: Parts<'s>,
    next: usize,
    current: Option<part::Keys<'s>>,
}

impl Keys<'_> {
    /// The next key and the number of its rule set.
    pub(super) fn next(&mut self) -> Option<(&[u8], u32)> {
        let set = loop {
            if let Some(set) = self.current.as_mut().and_then(part::Keys::advance) {
                break set;
            }
            let repeated = Record::read(self.parts.records().get(self.next)?).repeated;
            let mut keys = Part::new(self.parts.section(self.next)?)?.keys();
            self.next += 1;
            for _ in 0..repeated {
                keys.advance()?;
            }
            self.current = Some(keys);
        };
        Some((self.current.as_ref()?.key(), set))
    }
}

/// Makes parts from keys that come in order.
///
/// Takes memory for a part on each processor.
pub(super) struct PartsWriter {
    part: Filling,
    /// The last key.
    last: Vec<u8>,
    /// The lengths of the keys that the last key begins with, its own the last, and their rule sets.
    above: Vec<(usize, u32)>,
    /// Parts on their way out, in order.
    queue: VecDeque<Queued>,
    most_queued: usize,
    /// One key in two to the power of this begins a part,
    bits: u32,
    /// if the part before has so many keys.
    least_keys: usize,
    /// Octets of the parts that are out.
    len: u64,
    records: Vec<Record>,
    first_keys: Vec<u8>,
    last_generation: Option<LastGeneration>,
}

/// The generation that parts are taken over from.
struct LastGeneration {
    snapshot: Arc<Snapshot>,
    /// Where its graph has each part.
    places: HashMap<Digest, Range<usize>>,
}

/// A part that is being filled.
#[derive(Default)]
struct Filling {
    keys: Vec<u8>,
    /// Where each key ends, and the number of its rule set.
    entries: Vec<(u32, u32)>,
    repeated: usize,
}

/// A part whose octets are being found.
struct Queued {
    /// All but the places.
    record: Record,
    first_key: Vec<u8>,
    octets: Octets,
}

enum Octets {
    /// The last generation has them.
    TakenOver(Range<usize>),
    /// A thread makes them.
    Made(JoinHandle<io::Result<Vec<u8>>>),
}

impl Filling {
    fn push(&mut self, key: &[u8], set: u32) {
        self.keys.extend_from_slice(key);
        self.entries.push((self.keys.len() as u32, set));
    }

    fn entries(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let mut start = 0;
        self.entries.iter().map(move |&(end, set)| {
            let key = &self.keys[start..end as usize];
            start = end as usize;
            (key, set)
        })
    }

    fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.keys);
        let mut numbers = Vec::with_capacity(8 * self.entries.len());
        for (end, set) in &self.entries {
            numbers.extend_from_slice(&end.to_le_bytes());
            numbers.extend_from_slice(&set.to_le_bytes());
        }
        hasher.update(&numbers);
        let hash = hasher.finalize();
        std::array::from_fn(|at| hash.as_bytes()[at])
    }

    fn build(&self) -> io::Result<Vec<u8>> {
        part::build(&self.entries().collect::<Vec<_>>())
    }
}

impl PartsWriter {
    /// A writer that takes over from `last_generation` the parts that are in it.
    pub(super) fn new(last_generation: Option<Arc<Snapshot>>) -> Self {
        Self {
            part: Filling::default(),
            last: Vec::new(),
            above: Vec::new(),
            queue: VecDeque::new(),
            most_queued: thread::available_parallelism().map_or(1, usize::from),
            bits: KEYS_BITS,
            least_keys: LEAST_KEYS,
            len: 0,
            records: Vec::new(),
            first_keys: Vec::new(),
            last_generation: last_generation.map(|snapshot| {
                let places = snapshot.parts().by_digest();
                LastGeneration { snapshot, places }
            }),
        }
    }

    /// Takes a key that is above the last one, and its hash; writes parts that are finished to `output`.
    pub(super) fn insert(&mut self, key: &[u8], hash: SuffixHash, set: u32, output: &mut impl Write) -> io::Result<()> {
        let shared = shared_prefix(&self.last, key);
        while self.above.pop_if(|(len, _)| *len > shared).is_some() {}
        let keys = self.part.entries.len();
        let is_full = keys >= MOST_KEYS || self.part.keys.len() >= MOST_OCTETS;
        if is_full || keys >= self.least_keys && hash.is_one_in(self.bits) {
            self.close(output)?;
        }
        if self.part.entries.is_empty() {
            for &(len, set) in &self.above {
                self.part.push(&key[..len], set);
            }
            self.part.repeated = self.above.len();
        }
        self.part.push(key, set);
        self.above.push((key.len(), set));
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    /// Writes what is left to `output`, and returns the directory.
    pub(super) fn finish(mut self, output: &mut impl Write) -> io::Result<Vec<u8>> {
        self.close(output)?;
        while let Some(queued) = self.queue.pop_front() {
            self.write(queued, output)?;
        }
        let keys_at = COUNT_LEN + Record::LEN * self.records.len();
        let mut directory = (self.records.len() as u64).to_le_bytes().to_vec();
        for mut record in self.records {
            record.first += keys_at as u32;
            directory.extend_from_slice(&record.to_bytes());
        }
        directory.extend_from_slice(&self.first_keys);
        Ok(directory)
    }

    /// Ends the part that is being filled.
    fn close(&mut self, output: &mut impl Write) -> io::Result<()> {
        let part = std::mem::take(&mut self.part);
        let Some((first_key, _)) = part.entries().nth(part.repeated) else { return Ok(()) };
        let first_key = first_key.to_vec();
        let (prefix, digest, repeated) = (prefix_of(&first_key), part.digest(), part.repeated as u32);
        let place = self.last_generation.as_ref().and_then(|last| last.places.get(&digest));
        let octets = match place {
            Some(range) => Octets::TakenOver(range.clone()),
            None => Octets::Made(thread::Builder::new().name("part".to_owned()).spawn(move || part.build())?),
        };
        let record = Record { prefix, digest, end: 0, first: 0, repeated };
        self.queue.push_back(Queued { record, first_key, octets });
        while self.queue.len() > self.most_queued
            && let Some(queued) = self.queue.pop_front()
        {
            self.write(queued, output)?;
        }
        Ok(())
    }

    fn write(&mut self, queued: Queued, output: &mut impl Write) -> io::Result<()> {
        let Queued { mut record, first_key, octets } = queued;
        let made;
        let octets = match octets {
            Octets::Made(thread) => {
                made = thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that builds panicked")))?;
                &made[..]
            }
            Octets::TakenOver(range) => match &self.last_generation {
                Some(last) => last.snapshot.parts().graph.get(range).unwrap_or_default(),
                None => &[],
            },
        };
        output.write_all(octets)?;
        self.len += octets.len() as u64;
        record.end = self.len;
        record.first = self.first_keys.len() as u32;
        self.first_keys.extend_from_slice(&(first_key.len() as u32).to_le_bytes());
        self.first_keys.extend_from_slice(&first_key);
        self.records.push(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::name::{DomainName, MAX_KEY_LEN, Name};
    use crate::snapshot::layout::Depths;
    use crate::snapshot::part::{Sought, Walk, stem};

    struct Sections {
        directory: Vec<u8>,
        graph: Vec<u8>,
    }

    impl Sections {
        fn parts(&self) -> Parts<'_> {
            Parts::new(&self.directory, &self.graph)
        }
    }

    fn built(keys: &BTreeMap<Vec<u8>, u32>, bits: u32) -> Sections {
        built_with(keys, PartsWriter { bits, least_keys: 1, ..PartsWriter::new(None) })
    }

    fn built_with(keys: &BTreeMap<Vec<u8>, u32>, mut writer: PartsWriter) -> Sections {
        let mut graph = Vec::new();
        for (key, set) in keys {
            writer.insert(stem(key), SuffixHash::of_key(key), *set, &mut graph).unwrap();
        }
        let directory = writer.finish(&mut graph).unwrap();
        Sections { directory, graph }
    }

    fn key(name: &Name) -> Vec<u8> {
        name.reversed_key(&mut [0; MAX_KEY_LEN]).to_vec()
    }

    fn all(parts: Parts<'_>) -> BTreeMap<Vec<u8>, u32> {
        let mut keys = parts.keys();
        let mut all = BTreeMap::new();
        while let Some((key, value)) = keys.next() {
            assert!(all.insert(key.to_vec(), value).is_none(), "{key:?} comes twice");
        }
        all
    }

    fn found(parts: Parts<'_>, name: &Name) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        let key = key(name);
        if let Some(section) = parts.section_for(stem(&key)) {
            let mut walk = Walk::new(section, Sought::names(stem(&key), 0, Depths::ALL));
            while walk.go_on(&mut |labels, set| found.push((labels, set))) {}
        }
        found
    }

    fn names() -> impl Strategy<Value = BTreeMap<Vec<u8>, u32>> {
        let label = proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(b'a'), Just(b'b')], 1..4);
        let name = proptest::collection::vec(label, 0..5)
            .prop_map(|labels| labels.iter().fold(DomainName::root(), |name, label| name.child(label).unwrap()));
        proptest::collection::btree_map(name.prop_map(|name| key(&name)), any::<u32>(), 0..120)
    }

    proptest! {
        #[test]
        fn a_walk_in_one_part_finds_all_ancestors(keys in names(), bits in 0_u32..5) {
            let sections = built(&keys, bits);
            let parts = sections.parts();
            prop_assert!(parts.are_sound());
            prop_assert_eq!(&all(parts), &keys);
            for listed in keys.keys() {
                let listed = DomainName::from_reversed_key(listed).unwrap();
                for asked in [listed.child(b"a").unwrap(), listed.child(&[0, 255]).unwrap(), listed] {
                    let mut expected: Vec<_> = asked.ancestors()
                        .filter_map(|name| Some((name.label_count(), *keys.get(&key(name))?)))
                        .collect();
                    expected.reverse();
                    prop_assert_eq!(found(parts, &asked), expected, "{}", asked);
                }
            }
        }

        #[test]
        fn any_directory_is_refused_or_leads_somewhere(keys in names(), bits in 0_u32..5,
                                                       at in any::<proptest::sample::Index>(), octet: u8) {
            let mut sections = built(&keys, bits);
            *at.get_mut(&mut sections.directory) = octet;
            let parts = sections.parts();
            parts.are_sound();
            found(parts, &"a.b.a".parse::<DomainName>().unwrap());
            let mut streamed = parts.keys();
            for _ in 0..1000 {
                streamed.next();
            }
        }
    }

    #[test]
    fn another_key_changes_the_part_that_it_is_in() {
        let mut keys: BTreeMap<Vec<u8>, u32> =
            (0..3000).map(|number| (format!("example\0name-{number:04}\0").into_bytes(), number % 3)).collect();
        keys.insert(b"example\0".to_vec(), 7);
        let before = built(&keys, 6);
        keys.insert(b"example\0name-1234x\0".to_vec(), 0);
        keys.remove(&b"example\0name-2000\0"[..]);
        let after = built(&keys, 6);

        let known = before.parts().by_digest();
        assert!(known.len() > 20, "{} parts", known.len());
        let fresh = after.parts().by_digest().into_keys().filter(|digest| !known.contains_key(digest)).count();
        assert!((1..=4).contains(&fresh), "two changes make {fresh} parts new");
    }

    #[test]
    fn whatever_the_hashes_are_parts_have_a_size_between() {
        let keys: BTreeMap<Vec<u8>, u32> =
            (0..2 * MOST_KEYS + 10).map(|number| (format!("{number:06}\0").into_bytes(), 0)).collect();
        for (bits, parts) in [(64, 3), (0, 2 * MOST_KEYS / LEAST_KEYS + 1)] {
            let sections = built_with(&keys, PartsWriter { bits, ..PartsWriter::new(None) });
            assert_eq!(sections.parts().records().len(), parts);
            assert_eq!(all(sections.parts()), keys);
        }
    }
}
