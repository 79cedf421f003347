//! The file's plan: a header, then the sections one behind the other.
//!
//! Numbers are little-endian. The header's last 32 octets are the BLAKE3 hash of
//! what stands before them, and that holds the hash of everything behind the
//! header, so that no octet of the file can change unnoticed. The generation's
//! name is the beginning of the header's hash.
//!
//! | section | what it holds |
//! |---|---|
//! | graph | [parts](super::part) side by side, each with an FST: [key of an owner](crate::rule::owner) → number of a rule set |
//! | directory | which keys are in which part: see [`parts`](super::parts); filled up to a multiple of 64 octets of the file |
//! | filter | a [Bloom filter](super::filter) over the hashes of the names |
//! | set ends | for each rule set the end of its part of the members, a `u32` |
//! | set members | numbers of rules, a `u32` each, the rule sets one behind the other |
//! | rules | [`RuleRecord`]s of 40 octets |
//! | blobs | texts, names, records, dossiers: a `u32` length, then the octets |
//! | inventory | the [`Inventory`](super::Inventory) as JSON |

use std::ops::Range;

/// What the file begins with.
pub(super) const MAGIC: [u8; 8] = *b"QALQAN\x1a\n";
/// Changes with every change that an older build would misread.
pub(super) const VERSION: u32 = 5;
/// Octets of the header; the first section begins here.
pub(super) const HEADER_LEN: usize = 216;
/// What a processor takes from memory at once, in octets.
pub(super) const LINE: usize = 64;
/// Octets of a BLAKE3 hash.
pub(super) const HASH_LEN: usize = 32;
/// How many sections there are.
pub(super) const SECTIONS: usize = 8;

const SECTION_TABLE: usize = 24;
const BODY_HASH: usize = SECTION_TABLE + 16 * SECTIONS;
const HEADER_HASH: usize = BODY_HASH + HASH_LEN;
const _: () = assert!(HEADER_HASH + HASH_LEN == HEADER_LEN);

/// A part of the file, by its place in the section table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Graph,
    Directory,
    Filter,
    SetEnds,
    SetMembers,
    Rules,
    Blobs,
    Inventory,
}

/// The first octets of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// How many names and prefixes have rules.
    pub(super) names: u64,
    /// How many labels the names have that can be asked for.
    pub(super) depths: Depths,
    /// Where each section begins and how long it is.
    pub(super) sections: [(u64, u64); SECTIONS],
    /// The hash of everything behind the header.
    pub(super) body_hash: [u8; HASH_LEN],
}

/// The numbers of labels that names with rules have: a set of bits, the last of which stands for 31 and more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Depths(u32);

impl Depths {
    /// All numbers.
    pub(super) const ALL: Self = Self(u32::MAX);

    /// Takes `labels` in.
    pub(super) fn insert(&mut self, labels: usize) {
        self.0 |= 1 << labels.min(31);
    }

    /// Whether a name of so many `labels` may have rules.
    #[inline]
    pub(super) fn may_contain(self, labels: usize) -> bool {
        self.0 & 1 << labels.min(31) != 0
    }

    /// The root alone, when it is there.
    #[inline]
    pub(super) fn root(self) -> Self {
        Self(self.0 & 1)
    }

    /// Whether there is no name at all.
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The most labels, up to `most`, that there may be names of.
    #[inline]
    pub(super) fn deepest(self, most: usize) -> usize {
        if self.may_contain(31) { most } else { most.min(self.0.checked_ilog2().unwrap_or(0) as usize) }
    }
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Truncated,
    Foreign,
    Version(u32),
    Damaged,
}

impl Header {
    pub(super) fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.depths.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.names.to_le_bytes());
        for (place, (start, len)) in bytes[SECTION_TABLE..BODY_HASH].chunks_exact_mut(16).zip(self.sections) {
            place[..8].copy_from_slice(&start.to_le_bytes());
            place[8..].copy_from_slice(&len.to_le_bytes());
        }
        bytes[BODY_HASH..HEADER_HASH].copy_from_slice(&self.body_hash);
        let hash = blake3::hash(&bytes[..HEADER_HASH]);
        bytes[HEADER_HASH..].copy_from_slice(hash.as_bytes());
        bytes
    }

    /// Reads the header of a file that is `file[..]`, and checks its hash.
    pub(super) fn read(file: &[u8]) -> Result<Self, HeaderFault> {
        if !file.starts_with(&MAGIC[..file.len().min(MAGIC.len())]) {
            return Err(HeaderFault::Foreign);
        }
        let bytes: &[u8; HEADER_LEN] = file.first_chunk().ok_or(HeaderFault::Truncated)?;
        // The version is looked at first: a later one may have another header.
        let version = u32_at(bytes, 8).ok_or(HeaderFault::Truncated)?;
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        if *blake3::hash(&bytes[..HEADER_HASH]).as_bytes() != bytes[HEADER_HASH..] {
            return Err(HeaderFault::Damaged);
        }
        let word = |at| u64_at(bytes, at).ok_or(HeaderFault::Truncated);
        let mut sections = [(0, 0); SECTIONS];
        for (index, section) in sections.iter_mut().enumerate() {
            let at = SECTION_TABLE + 16 * index;
            *section = (word(at)?, word(at + 8)?);
        }
        let mut body_hash = [0; HASH_LEN];
        body_hash.copy_from_slice(&bytes[BODY_HASH..HEADER_HASH]);
        let depths = Depths(u32_at(bytes, 12).ok_or(HeaderFault::Truncated)?);
        Ok(Self { names: word(16)?, depths, sections, body_hash })
    }

    /// The name of the generation that this header begins: sixteen hexadecimal digits.
    pub(super) fn generation(&self) -> String {
        blake3::hash(&self.to_bytes()).to_hex()[..16].to_owned()
    }

    /// Where `section` stands in a file of `file_len` octets, when it does.
    pub(super) fn range(&self, section: Section, file_len: usize) -> Option<Range<usize>> {
        let (start, len) = self.sections[section as usize];
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        (start >= HEADER_LEN && end <= file_len).then_some(start..end)
    }
}

/// The little-endian `u16` at `at`.
#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The little-endian `u32` at `at`.
#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The little-endian `u64` at `at`.
#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The octets of the blob that begins at `at`.
#[inline]
pub(super) fn blob_at(blobs: &[u8], at: u32) -> Option<&[u8]> {
    let at = at as usize;
    let len = u32_at(blobs, at)? as usize;
    blobs.get(at + 4..)?.get(..len)
}

/// The place of a blob that stands for nothing.
pub(super) const NO_BLOB: u32 = u32::MAX;

/// A rule without its variable parts, as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RuleRecord {
    /// The place of the list in the inventory.
    pub(super) list: u16,
    /// 0 exact, 1 below, 2 subdomains.
    pub(super) scope: u8,
    /// [`RuleRecord::IMPORTANT`], [`RuleRecord::SHADOW`].
    pub(super) flags: u8,
    /// The place of the action in [`Action::LABELS`](crate::rule::Action::LABELS).
    pub(super) action: u8,
    /// The reason to give: 0 blocked, 1 censored, 2 filtered, 3 none.
    pub(super) reason: u8,
    /// The alias's target or the records, a blob.
    pub(super) payload: u32,
    /// The query types, a blob.
    pub(super) types: u32,
    /// The names left alone, a blob.
    pub(super) except: u32,
    /// The dossier, a blob.
    pub(super) dossier: u32,
    /// In force from this second on.
    pub(super) effective_at: u64,
    /// Not in force from this second on.
    pub(super) expires_at: u64,
}

impl RuleRecord {
    /// Octets of a record.
    pub(super) const LEN: usize = 40;
    /// Bit of `flags`: wins over rules that are not important.
    pub(super) const IMPORTANT: u8 = 1;
    /// Bit of `flags`: counted, never obeyed.
    pub(super) const SHADOW: u8 = 2;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..2].copy_from_slice(&self.list.to_le_bytes());
        bytes[2..6].copy_from_slice(&[self.scope, self.flags, self.action, self.reason]);
        let blobs = [self.payload, self.types, self.except, self.dossier];
        for (place, blob) in bytes[8..24].chunks_exact_mut(4).zip(blobs) {
            place.copy_from_slice(&blob.to_le_bytes());
        }
        bytes[24..32].copy_from_slice(&self.effective_at.to_le_bytes());
        bytes[32..].copy_from_slice(&self.expires_at.to_le_bytes());
        bytes
    }

    #[inline]
    pub(super) fn read(bytes: &[u8; Self::LEN]) -> Self {
        let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let word = |at: usize| u64::from(half(at + 4)) << 32 | u64::from(half(at));
        Self {
            list: u16::from_le_bytes([bytes[0], bytes[1]]),
            scope: bytes[2],
            flags: bytes[3],
            action: bytes[4],
            reason: bytes[5],
            payload: half(8),
            types: half(12),
            except: half(16),
            dossier: half(20),
            effective_at: word(24),
            expires_at: word(32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let mut sections = [(0, 0); SECTIONS];
        for (index, section) in sections.iter_mut().enumerate() {
            *section = (HEADER_LEN as u64 + index as u64 * 10, 10);
        }
        let header = Header { names: 7, depths: Depths(12), sections, body_hash: [5; HASH_LEN] };
        assert_eq!(Header::read(&header.to_bytes()), Ok(header));
    }

    #[test]
    fn every_damage_to_a_header_is_noticed() {
        let header =
            Header { names: 7, depths: Depths(12), sections: [(1, 2); SECTIONS], body_hash: [5; HASH_LEN] }.to_bytes();
        for at in 0..header.len() {
            for bit in 0..8 {
                let mut damaged = header;
                damaged[at] ^= 1 << bit;
                assert!(Header::read(&damaged).is_err(), "bit {bit} of octet {at}");
            }
        }
        for len in 0..header.len() {
            assert_eq!(Header::read(&header[..len]), Err(HeaderFault::Truncated), "{len} octets");
        }
    }
}
