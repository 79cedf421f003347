//! One part of the graph: an FST as the `fst` crate writes it, which leads from the beginnings of keys to
//! [buckets](super::tails) with the rest of them.
//!
//! A part is its buckets, the FST, and the length of the FST as a `u32`. The FST's value is the place of a bucket. A
//! key with more below it than a bucket takes has one for itself, in the middle of the FST; all other keys are in
//! buckets at its leaves.

use std::io;

use prefetch_index::prefetch_index;

use super::graph::{self, Graph, State};
use super::layout::{Depths, LINE};
use super::tails::{Buckets, Records, put_bucket};

/// A part, read in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'s> {
    graph: Graph<'s>,
    buckets: Buckets<'s>,
}

/// A look-up in a part that is under way.
#[derive(Debug)]
pub(super) struct Walk<'s, 'k> {
    sought: Sought<'k>,
    /// How far along the key it has come.
    at: usize,
    stage: Stage<'s>,
}

/// How far a [`Walk`] has come: what it needs next has been asked for from memory.
#[derive(Debug)]
enum Stage<'s> {
    /// The part is to be opened.
    Section(&'s [u8]),
    /// The graph is walked along.
    Graph(Part<'s>, State),
    /// The rest of the key is searched for.
    Bucket(Records<'s>),
}

/// What is looked for, while it is walked along: a key and those that it begins with.
#[derive(Debug)]
pub(super) struct Sought<'k> {
    /// The [`stem`] of the longest key.
    key: &'k [u8],
    /// Where the labels of names begin.
    names_from: usize,
    /// How many labels the keys may have.
    depths: Depths,
    /// How many labels have been passed.
    labels: usize,
}

impl<'k> Sought<'k> {
    /// The name that stands in `key` from `names_from` on, and those of its ancestors that have as many labels as
    /// `depths` says.
    #[inline]
    pub(super) fn names(key: &'k [u8], names_from: usize, depths: Depths) -> Self {
        Self { key, names_from, depths, labels: 0 }
    }

    /// `key` alone.
    #[inline]
    pub(super) fn exact(key: &'k [u8]) -> Self {
        Self::names(key, key.len(), Depths::ALL)
    }

    /// The longest key.
    #[inline]
    pub(super) fn key(&self) -> &'k [u8] {
        self.key
    }

    /// How many labels the key has that ends at `at`, if it is looked for. Is asked once for each end of a label, in
    /// order.
    #[inline(always)]
    fn ends_at(&mut self, at: usize) -> Option<usize> {
        let is_inside = self.key.get(at).is_some_and(|&octet| octet != 0) && at != self.names_from;
        if is_inside || at < self.names_from {
            return None;
        }
        self.labels += usize::from(at != self.names_from);
        self.depths.may_contain(self.labels).then_some(self.labels)
    }
}

impl<'s> Part<'s> {
    /// Whether `section` has the frame of a part.
    pub(super) fn is_framed(section: &[u8]) -> bool {
        split(section).is_some_and(|(_, graph)| Graph::is_framed(graph))
    }

    /// The part in `section`.
    #[inline]
    pub(super) fn new(section: &'s [u8]) -> Option<Self> {
        let (buckets, graph) = split(section)?;
        Some(Self { graph: Graph::new(graph)?, buckets: Buckets(buckets) })
    }

    /// Whether a key begins with `octets`.
    pub(super) fn has(self, octets: &[u8]) -> bool {
        let mut state = self.graph.start();
        for at in 0..octets.len() {
            if state.is_leaf() {
                let mut tail = Vec::new();
                return self.buckets.at(state.leaf_value()).any(|record| {
                    tail.clear();
                    record.unpack(&mut tail);
                    tail.starts_with(&octets[at..])
                });
            }
            let Some(next) = self.graph.step(state, octets[at]) else { return false };
            state = next;
        }
        true
    }

    /// All keys with their rule sets, in order.
    pub(super) fn keys(self) -> Keys<'s> {
        Keys { graph: self.graph.keys(), buckets: self.buckets, bucket: Records::default(), key: Vec::new() }
    }
}

impl<'s, 'k> Walk<'s, 'k> {
    /// Begins to look for what is `sought` in the part in `section`.
    #[inline]
    pub(super) fn new(section: &'s [u8], sought: Sought<'k>) -> Self {
        // What a part begins to be read with stands at its end, the root of its graph in front of that.
        prefetch_index(section, section.len().wrapping_sub(1));
        prefetch_index(section, section.len().wrapping_sub(LINE));
        Self { sought, at: 0, stage: Stage::Section(section) }
    }

    /// Goes on as far as memory that is at hand reaches, and asks for what it needs next. Whether there is more to do.
    ///
    /// Calls `found` with the number of labels and the rule set of each key that is sought, the shortest first. A name
    /// of which the graph knows nothing may have ancestors that it knows: falling off the graph ends the walk, it does
    /// not undo what was found.
    #[inline]
    pub(super) fn go_on(&mut self, found: &mut impl FnMut(usize, u32)) -> bool {
        let Self { sought, at, stage } = self;
        let key = sought.key;
        let (part, mut state) = match stage {
            Stage::Bucket(records) => {
                records.search(key, *at, |at| sought.ends_at(at), found);
                return false;
            }
            Stage::Section(section) => {
                let Some(part) = Part::new(section) else { return false };
                (part, part.graph.start())
            }
            Stage::Graph(part, state) => (*part, *state),
        };
        let begun = state;
        while !state.is_leaf() {
            part.graph.run(&mut state, key, at);
            if let Some(labels) = sought.ends_at(*at)
                && let Some(record) = part.graph.value(state).and_then(|place| part.buckets.at(place).next())
            {
                found(labels, record.set());
            }
            let Some(next) = key.get(*at).and_then(|&octet| part.graph.step(state, octet)) else { return false };
            state = next;
            *at += 1;
            if !state.is_near(begun) && !state.is_leaf() {
                part.graph.fetch_ahead(state);
                *stage = Stage::Graph(part, state);
                return true;
            }
        }
        let records = part.buckets.at(state.leaf_value());
        records.fetch_ahead();
        *stage = Stage::Bucket(records);
        true
    }
}

/// The key that a part keeps for `key`: all but the zero that closes the last label.
pub(super) fn stem(key: &[u8]) -> &[u8] {
    key.strip_suffix(&[0]).unwrap_or(key)
}

/// The buckets and the FST of a part.
#[inline]
fn split(section: &[u8]) -> Option<(&[u8], &[u8])> {
    let (both, graph_len) = section.split_last_chunk()?;
    both.split_at_checked(both.len().checked_sub(u32::from_le_bytes(*graph_len) as usize)?)
}

/// The keys of a [`Part`] in ascending order.
#[derive(Debug)]
pub(super) struct Keys<'s> {
    graph: graph::Keys<'s>,
    buckets: Buckets<'s>,
    /// What is left of the bucket that `graph` has led to.
    bucket: Records<'s>,
    key: Vec<u8>,
}

impl Keys<'_> {
    /// The key that stands here.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Goes on to the next key, and returns the number of its rule set.
    pub(super) fn advance(&mut self) -> Option<u32> {
        let record = loop {
            if let Some(record) = self.bucket.next() {
                break record;
            }
            self.bucket = self.buckets.at(self.graph.advance()?);
        };
        self.key.clear();
        self.key.extend_from_slice(self.graph.key());
        record.unpack(&mut self.key);
        if !self.key.is_empty() {
            self.key.push(0);
        }
        Some(record.set())
    }
}

/// Makes the part of `keys`, which are in order, each with the number of its rule set.
pub(super) fn build(keys: &[(&[u8], u32)]) -> io::Result<Vec<u8>> {
    let mut builder = Builder { graph: fst::raw::Builder::memory(), buckets: Vec::new() };
    builder.add(keys, 0).map_err(io::Error::other)?;
    let graph = builder.graph.into_inner().map_err(io::Error::other)?;
    let mut part = builder.buckets;
    part.extend_from_slice(&graph);
    part.extend_from_slice(&(graph.len() as u32).to_le_bytes());
    Ok(part)
}

struct Builder {
    graph: fst::raw::Builder<Vec<u8>>,
    buckets: Vec<u8>,
}

impl Builder {
    /// Adds `keys`, whose first `shared` octets are the same.
    fn add(&mut self, keys: &[(&[u8], u32)], shared: usize) -> fst::Result<()> {
        let Some(((first, _), others)) = keys.split_first() else { return Ok(()) };
        let place = self.buckets.len() as u64;
        if put_bucket(&mut self.buckets, keys, shared) {
            return self.graph.insert(&first[..shared], place);
        }
        let mut longer = keys;
        if first.len() == shared {
            put_bucket(&mut self.buckets, &keys[..1], shared);
            self.graph.insert(first, place)?;
            longer = others;
        }
        longer.chunk_by(|one, next| one.0[shared] == next.0[shared]).try_for_each(|keys| self.add(keys, shared + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::name::{DomainName, MAX_KEY_LEN, Name};

    fn label() -> impl Strategy<Value = Vec<u8>> {
        let octet = || prop_oneof![Just(b'a'), Just(b'h'), Just(b'_'), Just(0)];
        prop_oneof![
            4 => proptest::collection::vec(octet(), 1..3),
            1 => (octet(), 30..62_usize, octet()).prop_map(|(most, len, last)| [vec![most; len], vec![last]].concat()),
        ]
    }

    fn key(name: &Name) -> Vec<u8> {
        stem(name.reversed_key(&mut [0; MAX_KEY_LEN])).to_vec()
    }

    proptest! {
        #[test]
        fn keys_of_any_length_are_found_and_streamed(
            names in proptest::collection::btree_map(proptest::collection::vec(label(), 0..4), any::<u32>(), 1..60),
            asked in proptest::collection::vec(label(), 0..4),
        ) {
            let name = |labels: &[Vec<u8>]| {
                labels.iter().fold(DomainName::root(), |name, label| name.child(label).unwrap())
            };
            let sets: BTreeMap<Vec<u8>, u32> = names.iter().map(|(labels, set)| (key(&name(labels)), *set)).collect();
            let section = build(&sets.iter().map(|(key, set)| (&key[..], *set)).collect::<Vec<_>>()).unwrap();
            prop_assert!(Part::is_framed(&section));
            let part = Part::new(&section).unwrap();

            let (mut keys, mut streamed) = (part.keys(), BTreeMap::new());
            while let Some(set) = keys.advance() {
                streamed.insert(stem(keys.key()).to_vec(), set);
            }
            prop_assert_eq!(&streamed, &sets);

            for asked in names.keys().chain([&asked]).map(|labels| name(labels)) {
                let asked_key = key(&asked);
                let mut expected: Vec<_> = asked
                    .ancestors()
                    .filter_map(|name| Some((name.label_count(), *sets.get(&key(name))?)))
                    .collect();
                expected.reverse();
                let mut found = Vec::new();
                let mut walk = Walk::new(&section, Sought::names(&asked_key, 0, Depths::ALL));
                while walk.go_on(&mut |labels, set| found.push((labels, set))) {}
                prop_assert_eq!(found, expected, "{}", asked);

                let mut exact = None;
                let mut walk = Walk::new(&section, Sought::exact(&asked_key));
                while walk.go_on(&mut |_, set| exact = Some(set)) {}
                prop_assert_eq!(exact, sets.get(&asked_key).copied());

                for len in 0..=asked_key.len() {
                    let begun = &asked_key[..len];
                    prop_assert_eq!(part.has(begun), sets.keys().any(|key| key.starts_with(begun)));
                }
            }
        }
    }
}
