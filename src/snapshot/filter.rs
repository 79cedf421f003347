//! Says fast that no list has a name: a binary fuse filter over hashed suffixes.
//!
//! Most names that are asked have no rule. The filter knows the hash of every
//! name that has one, in nine bits each, and is asked for the name and each of
//! its ancestors; the walk through the graph is left out when it says no to all
//! of them. It never says no to a name that is there, and yes to one in 256
//! that are not ("Binary Fuse Filters", Graf and Lemire, 2022).

use xorf::{BinaryFuse8, DmaSerializable};

use super::layout::{Depths, u32_at, u64_at};
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

/// Octets before the fingerprints: seed, segment length, mask, all segments' length.
const DESCRIPTOR_LEN: usize = BinaryFuse8::DESCRIPTOR_LEN;

/// Makes the section that [`Plan::read`] and [`Filter::new`] read. Equal hashes are no harm but pay twice.
///
/// Takes some 35 octets of memory for each hash while it runs.
pub(super) fn build(hashes: &[SuffixHash]) -> Option<Vec<u8>> {
    let keys = hashes.iter().map(|hash| hash.0);
    let filter = BinaryFuse8::try_from_iterator(keys).ok()?;
    let mut section = vec![0; DESCRIPTOR_LEN];
    filter.dma_copy_descriptor_to(&mut section);
    section.extend_from_slice(filter.dma_fingerprints());
    Some(section)
}

/// The filter of a snapshot, read in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter<'s> {
    plan: Plan,
    fingerprints: &'s [u8],
}

/// How a filter's fingerprints are cut into segments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    seed: u64,
    segment_length: u32,
    segment_count_length: u32,
}

impl Plan {
    /// Reads the beginning of a filter section, when it fits its fingerprints.
    pub(super) fn read(section: &[u8]) -> Option<Self> {
        let plan = Self {
            seed: u64_at(section, 0)?,
            segment_length: u32_at(section, 8)?,
            segment_count_length: u32_at(section, 16)?,
        };
        let mask = u32_at(section, 12)?;
        let fingerprints = (section.len() - DESCRIPTOR_LEN) as u64;
        let needed = u64::from(plan.segment_count_length) + 2 * u64::from(plan.segment_length);
        let fits = plan.segment_length.is_power_of_two() && mask == plan.segment_length - 1;
        (fits && plan.segment_count_length > 0 && needed == fingerprints).then_some(plan)
    }
}

impl<'s> Filter<'s> {
    /// The filter in `section`, whose plan has been read before.
    #[inline]
    pub(super) fn new(plan: Plan, section: &'s [u8]) -> Self {
        Self { plan, fingerprints: section.get(DESCRIPTOR_LEN..).unwrap_or(&[]) }
    }

    /// Whether a name of this hash may be there.
    #[inline]
    pub(super) fn may_contain(self, hash: SuffixHash) -> bool {
        let Plan { seed, segment_length, segment_count_length } = self.plan;
        // As xorf's `mix`, `hash_of_hash` and `fingerprint`.
        let mut mixed = hash.0.wrapping_add(seed);
        mixed = (mixed ^ mixed >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        mixed ^= mixed >> 33;

        let mask = segment_length - 1;
        let first = ((u128::from(mixed) * u128::from(segment_count_length)) >> 64) as u32;
        let second = (first + segment_length) ^ (mixed >> 18) as u32 & mask;
        let third = (first + 2 * segment_length) ^ mixed as u32 & mask;
        let at = |place: u32| self.fingerprints.get(place as usize).copied().unwrap_or(0);
        (mixed ^ mixed >> 32) as u8 == at(first) ^ at(second) ^ at(third)
    }

    /// Those of `depths` at which `name` or an ancestor of it may be there. The root is not asked for.
    ///
    /// `starts` are the places of the labels in the wire form, left to right.
    #[inline]
    pub(super) fn narrow(self, depths: Depths, name: &Name, starts: &[u8]) -> Depths {
        let wire = name.as_wire();
        let mut hash = SuffixHash::ROOT;
        let mut narrowed = depths.root();
        for (above, &start) in starts.iter().rev().enumerate() {
            let start = usize::from(start);
            hash = hash.child(&wire[start + 1..=start + usize::from(wire[start])]);
            if depths.may_contain(above + 1) && self.may_contain(hash) {
                narrowed.insert(above + 1);
            }
        }
        narrowed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xorf::Filter as _;

    use super::*;
    use crate::name::MAX_KEY_LEN;

    fn hashes(count: u64) -> Vec<SuffixHash> {
        (0..count).map(|index| SuffixHash::ROOT.child(format!("name-{index}").as_bytes())).collect()
    }

    #[test]
    fn every_name_that_is_there_is_known_and_few_others() {
        for count in [0, 1, 2, 3, 10, 1000, 50_000] {
            let section = build(&hashes(count)).unwrap();
            let filter = Filter::new(Plan::read(&section).unwrap(), &section);
            assert!(hashes(count).into_iter().all(|hash| filter.may_contain(hash)), "{count} names");

            let others = (0..10_000).map(|index| SuffixHash::ROOT.child(format!("other.{index}").as_bytes()));
            let wrong = others.filter(|hash| filter.may_contain(*hash)).count();
            assert!(wrong < 100, "{wrong} of 10000 strangers are taken for one of {count} names");
        }
    }

    #[test]
    fn the_filter_is_asked_as_its_maker_asks_it() {
        let all = hashes(5000);
        let theirs = BinaryFuse8::try_from_iterator(all[..2500].iter().map(|hash| hash.0)).unwrap();
        let section = build(&all[..2500]).unwrap();
        let ours = Filter::new(Plan::read(&section).unwrap(), &section);
        for hash in all {
            assert_eq!(ours.may_contain(hash), theirs.contains(&hash.0));
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
        fn any_section_is_a_filter_or_refused(section in proptest::collection::vec(any::<u8>(), 0..200),
                                              hash in any::<u64>()) {
            if let Some(plan) = Plan::read(&section) {
                Filter::new(plan, &section).may_contain(SuffixHash(hash));
            }
        }
    }
}
