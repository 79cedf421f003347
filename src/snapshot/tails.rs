//! Buckets of tails: what the graph leaves out of the keys.
//!
//! Where a key has no company any more, a graph spends an octet on each of its letters, and more on its end: most of
//! the file, if names are random. So the graph holds no more of a key than leads to its *bucket*, in which few keys
//! stand that begin alike: of each the rest, its *tail*, packed into four to six bits a letter, and the number of its
//! rule set. Files of near-random names are a third smaller for it, filter included, those of words a sixth, and a list
//! of which many names end alike is a fifth larger, since a graph shares endings. A look-up is faster: a bucket lies in
//! two or three lines that memory gives together, where a walk would wait for one after the other.
//!
//! Keys are told apart exactly. No code of an octet begins with another one, so a name that is asked for is packed as
//! well, and compared.
//!
//! A bucket is its records, one behind the other, in the order of the keys:
//!
//! | octets | |
//! |---|---|
//! | 1 | `lwwttttt`: whether it is the last, the length of the number, the length of the tail |
//! | 0, 1, 2 or 4 | the number of the rule set, as `ww` says |
//! | 0 to 31 | the tail, filled up with ones |

use prefetch_index::prefetch_index;

use super::layout::LINE;

/// Octets of a bucket at most.
pub(super) const MOST_BUCKET: usize = 128;
/// Octets of a packed tail at most; the graph has more of a key that has a longer one.
const MOST_TAIL: usize = 31;

/// Bit of a record's first octet: no other follows in the bucket.
const LAST: u8 = 0x80;
/// How many octets the number of a rule set has, by two bits of a record's first octet.
const NUMBER_LENS: [usize; 4] = [0, 1, 2, 4];

/// The octets that are packed into 4, 5 and 6 bits: those of host names, by how frequent they are in tails of listed
/// ones. The zero is between labels.
const RANKS: [(u32, &[u8]); 3] = [(4, b"eais"), (5, b"ntor\0wcldmpug"), (6, b"hkbyvfxzjq-0123456789")];
/// Stands in front of each of the other octets; what is left of seven bits, seven ones, is no code.
const ESCAPE: u32 = 0b111_1110;
const ESCAPE_LEN: u32 = 7;

/// For each octet its code and how many bits that has. Part of the file format.
const CODES: [(u32, u32); 256] = {
    let mut codes = [(0, 0); 256];
    let mut octet = 0;
    while octet < codes.len() {
        codes[octet] = (ESCAPE << 8 | octet as u32, ESCAPE_LEN + 8);
        octet += 1;
    }
    let (mut code, mut rank) = (0, 0);
    while rank < RANKS.len() {
        let (bits, octets) = RANKS[rank];
        let mut at = 0;
        while at < octets.len() {
            codes[octets[at] as usize] = (code, bits);
            code += 1;
            at += 1;
        }
        code <<= 1;
        rank += 1;
    }
    assert!(code == ESCAPE, "the code is complete");
    codes
};

/// What seven bits begin with.
#[derive(Debug, Clone, Copy)]
enum Symbol {
    Octet { octet: u8, bits: u32 },
    Escape,
    End,
}

const SYMBOLS: [Symbol; 1 << ESCAPE_LEN] = {
    let mut symbols = [Symbol::End; 1 << ESCAPE_LEN];
    symbols[ESCAPE as usize] = Symbol::Escape;
    let mut octet = 0;
    while octet < CODES.len() {
        let (code, bits) = CODES[octet];
        let mut rest = 0;
        while bits < ESCAPE_LEN && rest < 1 << (ESCAPE_LEN - bits) {
            symbols[(code << (ESCAPE_LEN - bits)) as usize + rest] = Symbol::Octet { octet: octet as u8, bits };
            rest += 1;
        }
        octet += 1;
    }
    symbols
};

/// A tail in the making.
struct Packed {
    octets: [u8; Self::ROOM],
    /// How many octets are full.
    full: usize,
    /// The bits behind them in its low end, as many as `pending` says; what stands above has been put into octets.
    bits: u64,
    pending: u32,
}

impl Packed {
    /// Four octets are written at once.
    const ROOM: usize = MOST_TAIL.next_multiple_of(4);

    #[inline(always)]
    fn new() -> Self {
        Self { octets: [0; Self::ROOM], full: 0, bits: 0, pending: 0 }
    }

    /// Takes the next octet of the tail, unless that is too long already.
    #[inline(always)]
    fn push(&mut self, octet: u8) -> Option<()> {
        let (code, len) = CODES[usize::from(octet)];
        self.bits = self.bits << len | u64::from(code);
        self.pending += len;
        if self.pending >= u32::BITS {
            self.pending -= u32::BITS;
            *self.next_four()? = ((self.bits >> self.pending) as u32).to_be_bytes();
            self.full += 4;
        }
        Some(())
    }

    #[inline(always)]
    fn next_four(&mut self) -> Option<&mut [u8; 4]> {
        self.octets.get_mut(self.full..)?.first_chunk_mut()
    }

    /// The octets of the tail that ends here, unless it is too long.
    #[inline(always)]
    fn octets(&mut self) -> Option<&[u8]> {
        let len = self.full + self.pending.div_ceil(8) as usize;
        if self.pending > 0 {
            let filled_up = !(!self.bits << (u32::BITS - self.pending));
            *self.next_four()? = (filled_up as u32).to_be_bytes();
        }
        self.octets[..MOST_TAIL].get(..len)
    }
}

/// Puts a bucket of `keys`, without their first `shared` octets and with the numbers of their rule sets, behind
/// `octets`, if it does not grow too large.
pub(super) fn put_bucket(octets: &mut Vec<u8>, keys: &[(&[u8], u32)], shared: usize) -> bool {
    let start = octets.len();
    let mut last = start;
    for &(key, set) in keys {
        last = octets.len();
        if put_record(octets, &key[shared..], set).is_none() || octets.len() - start > MOST_BUCKET {
            octets.truncate(start);
            return false;
        }
    }
    if let Some(head) = octets.get_mut(last) {
        *head |= LAST;
    }
    true
}

fn put_record(octets: &mut Vec<u8>, tail: &[u8], set: u32) -> Option<()> {
    let mut packed = Packed::new();
    tail.iter().try_for_each(|&octet| packed.push(octet))?;
    let tail = packed.octets()?;
    let number = set.to_le_bytes();
    let needed = number.len() - set.leading_zeros() as usize / 8;
    let width = NUMBER_LENS.iter().position(|&len| len >= needed)?;
    octets.push((width << 5 | tail.len()) as u8);
    octets.extend_from_slice(&number[..NUMBER_LENS[width]]);
    octets.extend_from_slice(tail);
    Some(())
}

/// The buckets of a part, side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buckets<'s>(pub(super) &'s [u8]);

impl<'s> Buckets<'s> {
    /// The records of the bucket at `place`.
    #[inline]
    pub(super) fn at(self, place: u64) -> Records<'s> {
        let octets = self.0.get(place as usize..).unwrap_or(&[]);
        // A forged bucket does not end by itself.
        Records(&octets[..octets.len().min(MOST_BUCKET)])
    }
}

/// The records of a bucket, in order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Records<'s>(&'s [u8]);

/// A key in a bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'s> {
    number: &'s [u8],
    tail: &'s [u8],
}

impl<'s> Records<'s> {
    /// Has memory fetch it, for whoever will search it.
    #[inline]
    pub(super) fn fetch_ahead(self) {
        for at in [0, LINE, self.0.len().wrapping_sub(1)] {
            prefetch_index(self.0, at);
        }
    }

    /// Calls `found` for each key that `key` is or begins with, the shortest first. The keys of this bucket have the
    /// first `shared` octets of `key`; from there on `ends_at` is asked for each place whether one may end there, and
    /// what it says is handed on.
    #[inline]
    pub(super) fn search<T>(
        self,
        key: &[u8],
        shared: usize,
        mut ends_at: impl FnMut(usize) -> Option<T>,
        mut found: impl FnMut(T, u32),
    ) {
        let mut packed = Packed::new();
        for at in shared.. {
            if let Some(end) = ends_at(at) {
                let Some(tail) = packed.octets() else { return };
                // Most others differ in the first octet.
                let is_it = |record: &Record<'_>| record.tail.first() == tail.first() && record.tail == tail;
                if let Some(record) = { self }.find(is_it) {
                    found(end, record.set());
                }
            }
            if key.get(at).and_then(|&octet| packed.push(octet)).is_none() {
                return;
            }
        }
    }
}

impl<'s> Iterator for Records<'s> {
    type Item = Record<'s>;

    #[inline]
    fn next(&mut self) -> Option<Record<'s>> {
        let (&head, rest) = self.0.split_first()?;
        let (number, rest) = rest.split_at_checked(NUMBER_LENS[usize::from(head >> 5 & 3)])?;
        let (tail, rest) = rest.split_at_checked(usize::from(head) & MOST_TAIL)?;
        self.0 = if head & LAST == 0 { rest } else { &[] };
        Some(Record { number, tail })
    }
}

impl Record<'_> {
    /// The number of the rule set.
    #[inline]
    pub(super) fn set(self) -> u32 {
        self.number.iter().rev().fold(0, |number, &octet| number << 8 | u32::from(octet))
    }

    /// Puts the tail behind `key`.
    pub(super) fn unpack(self, key: &mut Vec<u8>) {
        let octet = |at| u32::from(self.tail.get(at).copied().unwrap_or(0xff));
        let mut at = 0;
        loop {
            let three = octet(at / 8) << 16 | octet(at / 8 + 1) << 8 | octet(at / 8 + 2);
            let ahead = three << (8 + at % 8);
            let (octet, bits) = match SYMBOLS[(ahead >> (u32::BITS - ESCAPE_LEN)) as usize] {
                Symbol::Octet { octet, bits } => (octet, bits),
                Symbol::Escape => ((ahead << ESCAPE_LEN >> (u32::BITS - 8)) as u8, ESCAPE_LEN + 8),
                // Behind the tail are ones only.
                Symbol::End => return,
            };
            key.push(octet);
            at += bits as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn octet() -> impl Strategy<Value = u8> {
        prop_oneof![4 => proptest::sample::select(&b"eais\0nog9-"[..]), 1 => any::<u8>()]
    }

    fn found(bucket: &[u8], key: &[u8], shared: usize) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        Buckets(bucket).at(0).search(key, shared, Some, |at, set| found.push((at, set)));
        found
    }

    #[test]
    fn codes_take_all_the_room_and_none_begins_with_another() {
        let mut taken = vec![false; 1 << 15];
        for (code, bits) in CODES {
            for place in &mut taken[(code << (15 - bits)) as usize..((code + 1) << (15 - bits)) as usize] {
                assert!(!std::mem::replace(place, true), "{code:b}");
            }
        }
        let (escape, end) = ((ESCAPE << 8) as usize, ((ESCAPE + 1) << 8) as usize);
        assert!(taken[..escape].iter().all(|&taken| taken), "each of the other octets has an escaped code");
        assert!(!taken[end..].iter().any(|&taken| taken), "what begins with seven ones is no code");
    }

    #[test]
    fn what_is_too_long_makes_no_bucket() {
        let (fits, too_long) = (vec![b'h'; MOST_TAIL * 8 / 6], vec![b'h'; MOST_TAIL * 8 / 6 + 1]);
        let mut octets = vec![1, 2, 3];
        assert!(!put_bucket(&mut octets, &[(&too_long[..], 0)], 0));
        assert_eq!(octets, [1, 2, 3], "nothing is left of an attempt");
        let four = |set| [(&fits[..], set); 4];
        assert!(!put_bucket(&mut octets, &four(1), 0), "of 132 octets");
        assert_eq!(octets, [1, 2, 3]);
        assert!(put_bucket(&mut octets, &four(0), 0), "of 128 octets");
        assert_eq!(found(&octets[3..], &too_long, 0), [(fits.len(), 0)]);
    }

    proptest! {
        #[test]
        fn a_bucket_has_what_was_put_into_it_and_nothing_else(
            tails in proptest::collection::btree_map(proptest::collection::vec(octet(), 0..12), any::<u32>(), 1..8),
            shared in 0_usize..4, small: bool,
            asked in proptest::collection::vec(octet(), 0..60),
        ) {
            let keys: Vec<_> = tails
                .into_iter()
                .map(|(tail, set)| ([&b"xxx"[..shared], &tail].concat(), if small { set >> (set % 32) } else { set }))
                .collect();
            let mut octets = Vec::new();
            let lent: Vec<_> = keys.iter().map(|(key, set)| (&key[..], *set)).collect();
            if !put_bucket(&mut octets, &lent, shared) {
                return Ok(());
            }
            let mut unpacked = Vec::new();
            // Another bucket, which is not to be read.
            octets.extend([0x61, 1, 0x8f, 4]);
            for record in Buckets(&octets).at(0) {
                let mut key = b"xxx"[..shared].to_vec();
                record.unpack(&mut key);
                unpacked.push((key, record.set()));
            }
            prop_assert_eq!(&unpacked, &keys);

            for asked in keys.iter().map(|(key, _)| [key, &asked[..]].concat()).chain([asked.clone()]) {
                if asked.len() < shared { continue }
                let expected: Vec<_> = (shared..=asked.len())
                    .filter_map(|at| Some((at, keys.iter().find(|(key, _)| key[shared..] == asked[shared..at])?.1)))
                    .collect();
                prop_assert_eq!(found(&octets, &asked, shared), expected);
            }
        }

        #[test]
        fn any_octets_are_a_bucket(octets in proptest::collection::vec(any::<u8>(), 0..200), place: u64,
                                   asked in proptest::collection::vec(octet(), 0..60)) {
            for place in [0, place] {
                for record in Buckets(&octets).at(place) {
                    record.unpack(&mut Vec::new());
                }
                Buckets(&octets).at(place).search(&asked, 0, Some, |_, _| ());
            }
        }
    }
}
