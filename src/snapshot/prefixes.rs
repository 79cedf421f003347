//! Address prefixes with their rules: for addresses in answers, of name servers, and of clients.
//!
//! Records of 24 octets, sorted by trigger, length and address, IPv4 as IPv6
//! (`::ffff:0:0/96`). An address is looked for once for each length that occurs.

use std::net::IpAddr;

use ipnet::IpNet;

use super::layout::u32_at;
use crate::rule::Trigger;

/// A prefix as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrefixRecord {
    trigger: u8,
    length: u8,
    address: u128,
    pub(super) set: u32,
}

/// What prefixes are sorted by.
type Key = (u8, u8, u128);

impl PrefixRecord {
    /// Octets of a record.
    pub(super) const LEN: usize = 24;

    pub(super) fn new(trigger: Trigger, prefix: IpNet, set: u32) -> Self {
        let widen = if prefix.addr().is_ipv4() { 96 } else { 0 };
        let length = prefix.prefix_len() + widen;
        Self { trigger: trigger as u8, length, address: bits(prefix.addr()) & mask(length), set }
    }

    pub(super) fn key(&self) -> Key {
        (self.trigger, self.length, self.address)
    }

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..2].copy_from_slice(&[self.trigger, self.length]);
        bytes[4..20].copy_from_slice(&self.address.to_be_bytes());
        bytes[20..].copy_from_slice(&self.set.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            trigger: *bytes.first()?,
            length: *bytes.get(1)?,
            address: u128::from_be_bytes(*bytes.get(4..)?.first_chunk()?),
            set: u32_at(bytes, 20)?,
        })
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0)
}

/// The kinds of prefixes that occur, each with its length; ascending.
pub(super) type Kinds = Vec<(u8, u8)>;

/// Checks a section and says which kinds of prefixes occur in it.
pub(super) fn kinds(section: &[u8], sets: usize) -> Option<Kinds> {
    let records = section.chunks_exact(PrefixRecord::LEN);
    if !records.remainder().is_empty() {
        return None;
    }
    let mut kinds = Kinds::new();
    let mut last: Option<Key> = None;
    for record in records {
        let record = PrefixRecord::read(record)?;
        let sound = usize::from(record.trigger) < Trigger::LABELS.len()
            && record.length <= 128
            && record.address & !mask(record.length) == 0
            && (record.set as usize) < sets
            && last.is_none_or(|last| last < record.key());
        if !sound {
            return None;
        }
        last = Some(record.key());
        if kinds.last() != Some(&(record.trigger, record.length)) {
            kinds.push((record.trigger, record.length));
        }
    }
    Some(kinds)
}

/// Calls `found` with the length (of an IPv6 prefix) and the rule set of each prefix that `address` lies in, the
/// shortest first.
pub(super) fn find(
    section: &[u8],
    kinds: &[(u8, u8)],
    trigger: Trigger,
    address: IpAddr,
    found: &mut impl FnMut(u8, u32),
) {
    let count = section.len() / PrefixRecord::LEN;
    let record = |index: usize| section.get(index * PrefixRecord::LEN..).and_then(PrefixRecord::read);
    for &(kind, length) in kinds.iter().filter(|(kind, _)| *kind == trigger as u8) {
        let wanted: Key = (kind, length, bits(address) & mask(length));
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low.midpoint(high);
            if record(middle).is_some_and(|record| record.key() < wanted) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if let Some(record) = record(low).filter(|record| record.key() == wanted) {
            found(length, record.set);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_in_every_prefix_that_begins_like_it() {
        let mut records: Vec<PrefixRecord> = [
            (Trigger::Ip, "192.0.2.0/24", 0),
            (Trigger::Ip, "192.0.2.7/32", 1),
            (Trigger::Ip, "0.0.0.0/0", 2),
            (Trigger::Ip, "2001:db8::/32", 3),
            (Trigger::Client, "192.0.2.0/24", 4),
            (Trigger::NsIp, "::/0", 5),
        ]
        .map(|(trigger, prefix, set)| PrefixRecord::new(trigger, prefix.parse().unwrap(), set))
        .into();
        records.sort_by_key(PrefixRecord::key);
        let section: Vec<u8> = records.iter().flat_map(|record| record.to_bytes()).collect();
        let kinds = kinds(&section, 6).unwrap();

        for (trigger, address, sets) in [
            (Trigger::Ip, "192.0.2.7", &[2, 0, 1][..]),
            (Trigger::Ip, "192.0.2.8", &[2, 0]),
            (Trigger::Ip, "198.51.100.1", &[2]),
            (Trigger::Ip, "2001:db8::1", &[3]),
            (Trigger::Ip, "2001:db9::1", &[]),
            (Trigger::Client, "192.0.2.8", &[4]),
            (Trigger::Client, "192.0.3.8", &[]),
            (Trigger::NsIp, "192.0.3.8", &[5]),
            (Trigger::NsDname, "192.0.3.8", &[]),
        ] {
            let mut seen = Vec::new();
            find(&section, &kinds, trigger, address.parse().unwrap(), &mut |_, set| seen.push(set));
            assert_eq!(seen, sets, "{trigger:?} {address}");
        }
    }

    #[test]
    fn a_section_that_is_cut_or_out_of_order_is_refused() {
        let one = PrefixRecord::new(Trigger::Ip, "192.0.2.0/24".parse().unwrap(), 0).to_bytes();
        let two = PrefixRecord::new(Trigger::Ip, "192.0.3.0/24".parse().unwrap(), 0).to_bytes();
        assert_eq!(kinds(&[], 0), Some(vec![]));
        assert_eq!(kinds(&[one, two].concat(), 1), Some(vec![(2, 120)]));
        assert_eq!(kinds(&[two, one].concat(), 1), None);
        assert_eq!(kinds(&[one, one].concat(), 1), None);
        assert_eq!(kinds(&one[..23], 1), None);
        assert_eq!(kinds(&one, 0), None, "a rule set that is not there");
    }
}
