//! Says fast that no list has a name: a Bloom filter over hashed suffixes, in blocks.
//!
//! Most names that are asked have no rule. The filter has room for twelve bits of each name that has one, four of which
//! are set, and is asked for the name and each of its ancestors; the walk through the graph is left out when it says no
//! to all of them. It never says no to a name that is there, and yes to some eight in a thousand that are not. All bits of
//! a name are in one block, which is a line of the processor's cache, so that a look-up waits for memory once ("Cache-,
//! Hash- and Space-Efficient Bloom Filters", Putze, Sanders and Singler, 2007).

use prefetch_index::prefetch_index;

use super::layout::{Depths, LINE};
use crate::name::Name;

/// The hash of a name, made label by label from the root.
///
/// Part of the file format. It needs to spread well, not to resist an attacker:
/// who finds names of equal hash finds names for which the graph is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SuffixHash(u64);

impl SuffixHash {
    /// The root's.
    pub(super) const ROOT: Self = Self(0x243f_6a88_85a3_08d3);

    /// The hash of the name that is one `label` below this one.
    #[inline]
    pub(super) fn child(self, label: &[u8]) -> Self {
        let len = label.len();
        let mut state = self.0.wrapping_add((len as u64).wrapping_mul(SPREAD));
        let mut rest = label;
        while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
            state = fold(state ^ u64::from_le_bytes(*chunk));
            rest = tail;
        }
        // What is left are up to seven octets. They are read in two overlapping
        // parts: two loads instead of a loop.
        let last = match rest {
            [] if len > 0 => return Self(state),
            [] => 0,
            [a] => u64::from(*a),
            [a, b] => u64::from(*a) | u64::from(*b) << 8,
            [a, b, c] => u64::from(*a) | u64::from(*b) << 8 | u64::from(*c) << 16,
            _ => {
                let low = rest.first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk));
                let high = rest.last_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk));
                u64::from(low) | u64::from(high) << 32
            }
        };
        Self(fold(state ^ last))
    }

    /// The hashes of `name` and its ancestors, without the root's, from the root down, each with how many labels the name
    /// has that it is of. `starts` are the places of the labels in the wire form, left to right.
    #[inline]
    pub(super) fn of_suffixes<'n>(name: &'n Name, starts: &'n [u8]) -> impl Iterator<Item = (usize, Self)> + 'n {
        let wire = name.as_wire();
        let labels = starts.iter().rev().map(|&start| usize::from(start));
        let hashes = labels.scan(Self::ROOT, |hash, start| {
            *hash = hash.child(&wire[start + 1..=start + usize::from(wire[start])]);
            Some(*hash)
        });
        (1..).zip(hashes)
    }

    /// Whether it is one of those that are one in two to the power of `bits`.
    pub(super) fn is_one_in(self, bits: u32) -> bool {
        self.0.leading_zeros() >= bits
    }

    /// The hash of the name whose [`reversed_key`](Name::reversed_key) is `key`.
    pub(super) fn of_key(key: &[u8]) -> Self {
        let Some(key) = key.strip_suffix(&[0]) else {
            return Self::ROOT;
        };
        let mut unescaped = [0; 64];
        key.split(|&octet| octet == 0).fold(Self::ROOT, |parent, label| {
            if !label.contains(&1) {
                return parent.child(label);
            }
            let (mut len, mut escaped) = (0, false);
            for &octet in label {
                if octet == 1 && !escaped {
                    escaped = true;
                    continue;
                }
                if let Some(place) = unescaped.get_mut(len) {
                    *place = octet - u8::from(escaped);
                    len += 1;
                }
                escaped = false;
            }
            parent.child(&unescaped[..len])
        })
    }
}

/// An odd number with its bits well mixed: 2⁶⁴ divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies and folds both halves of the product into one.
#[inline]
fn fold(value: u64) -> u64 {
    let product = u128::from(value ^ 0x1319_8a2e_0370_7344) * u128::from(SPREAD);
    (product as u64) ^ (product >> 64) as u64
}

/// Octets of a block. The section begins at a multiple of it.
pub(super) const BLOCK_LEN: usize = LINE;
/// Bits of the filter for each name.
const NAME_BITS: usize = 12;

/// Where the bits of a name are: in which of so many blocks, and which bits of two of its words.
#[derive(Debug, Clone, Copy)]
struct Bits {
    block: usize,
    words: [(usize, u64); 2],
}

impl Bits {
    #[inline]
    fn of(hash: SuffixHash, blocks: usize) -> Self {
        let block = (u128::from(hash.0) * blocks as u128) >> 64;
        // Bits that have nothing to do with the block: it is chosen by the highest of the hash itself.
        let drawn = hash.0.wrapping_mul(SPREAD);
        let bit = |at: u32| 1 << (drawn >> at & 63);
        let first = ((drawn >> 61) as usize, bit(52) | bit(46));
        let second = ((drawn >> 58 & 7) as usize, bit(40) | bit(34));
        Self { block: block as usize, words: [first, second] }
    }
}

/// Makes the section that a [`Filter`] reads. Equal hashes are no harm but take room twice.
pub(super) fn build(hashes: &[SuffixHash]) -> Vec<u8> {
    let blocks = (hashes.len() * NAME_BITS).div_ceil(8 * BLOCK_LEN);
    let mut words = vec![0_u64; blocks * BLOCK_LEN / 8];
    for &hash in hashes {
        let Bits { block, words: bits } = Bits::of(hash, blocks);
        bits.into_iter().for_each(|(word, bits)| words[block * BLOCK_LEN / 8 + word] |= bits);
    }
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// The filter of a snapshot, read in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter<'s> {
    blocks: &'s [[u8; BLOCK_LEN]],
}

impl<'s> Filter<'s> {
    /// The filter in `section`.
    #[inline]
    pub(super) fn new(section: &'s [u8]) -> Self {
        Self { blocks: section.as_chunks().0 }
    }

    /// Has memory fetch what [`may_contain`](Self::may_contain) will look at.
    #[inline]
    pub(super) fn fetch_ahead(self, hash: SuffixHash) {
        prefetch_index(self.blocks, Bits::of(hash, self.blocks.len()).block);
    }

    /// Whether a name of this hash may be there.
    #[inline]
    pub(super) fn may_contain(self, hash: SuffixHash) -> bool {
        let Bits { block, words } = Bits::of(hash, self.blocks.len());
        let Some(block) = self.blocks.get(block) else { return false };
        let (all, _) = block.as_chunks();
        let missing = words.map(|(word, bits)| bits & !u64::from_le_bytes(all[word]));
        missing[0] | missing[1] == 0
    }

    /// Those of `depths` at which `name` or an ancestor of it may be there. The root is not asked for.
    ///
    /// `starts` are the places of the labels in the wire form, left to right.
    #[inline]
    pub(super) fn narrow(self, depths: Depths, name: &Name, starts: &[u8]) -> Depths {
        let mut narrowed = depths.root();
        for (labels, hash) in SuffixHash::of_suffixes(name, starts) {
            if depths.may_contain(labels) && self.may_contain(hash) {
                narrowed.insert(labels);
            }
        }
        narrowed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::name::MAX_KEY_LEN;

    fn hashes(count: u64) -> Vec<SuffixHash> {
        (0..count).map(|index| SuffixHash::ROOT.child(format!("name-{index}").as_bytes())).collect()
    }

    #[test]
    fn every_name_that_is_there_is_known_and_few_others() {
        for count in [0, 1, 2, 3, 10, 1000, 50_000] {
            let section = build(&hashes(count));
            let filter = Filter::new(&section);
            assert!(hashes(count).into_iter().all(|hash| filter.may_contain(hash)), "{count} names");

            let others = (0..100_000).map(|index| SuffixHash::ROOT.child(format!("other.{index}").as_bytes()));
            let wrong = others.filter(|hash| filter.may_contain(*hash)).count();
            assert!(wrong < 1000, "{wrong} of 100000 strangers are taken for one of {count} names");
        }
    }

    #[test]
    fn hashes_of_short_labels_differ() {
        let mut seen = std::collections::HashSet::new();
        for len in 0..=3 {
            for number in 0..1u32 << (7 * len) {
                let label: Vec<u8> = (0..len).map(|at| (number >> (7 * at)) as u8 & 0x7f).collect();
                assert!(seen.insert(SuffixHash::ROOT.child(&label).0), "{label:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_hash_of_a_key_is_that_of_its_name(labels in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), any::<u8>()], 1..20), 0..6)) {
            let mut name = crate::name::DomainName::root();
            let mut hash = SuffixHash::ROOT;
            for label in &labels {
                name = name.child(label).unwrap();
                hash = hash.child(&label.to_ascii_lowercase());
            }
            prop_assert_eq!(SuffixHash::of_key(name.reversed_key(&mut [0; MAX_KEY_LEN])), hash);
        }

        #[test]
        fn any_section_is_a_filter(section in proptest::collection::vec(any::<u8>(), 0..200), hash: u64) {
            Filter::new(&section).may_contain(SuffixHash(hash));
        }
    }
}
