//! Records that name servers sent, kept until their TTL ends.
//!
//! An entry is what is known about one name and type: records, or that there
//! are none. Which of two entries stays is decided by their rank (RFC 2181,
//! section 5.4.1). Glue is not kept here but with the delegation that it came
//! with, so that it never answers a question.

use std::net::SocketAddr;
use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::{Rcode, RecordType};

use super::Security;
use super::message::RrSet;

/// How far records are to be trusted, by how they came (RFC 2181, section 5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Said by a server that does not call itself an authority.
    Answer,
    /// The parent's side of a delegation says so: DS records and their absence.
    Referral,
    /// Said by an authority.
    Authority,
}

/// What is known about a name and type.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The records; `None` when there are none.
    pub set: Option<RrSet>,
    /// NXDOMAIN when the name does not exist.
    pub rcode: Rcode,
    /// What belongs to it in the authority section: the SOA record of a negative answer, and proofs.
    pub authority: Arc<[RrSet]>,
    /// How far it is to be trusted.
    pub rank: Rank,
    /// Whether it is proven; indeterminate while nobody has asked.
    pub security: Security,
    /// When it came, in seconds of the cache's clock.
    pub stored: u32,
    /// For how many seconds from then on it holds.
    pub ttl: u32,
    /// It came with records whose data does not follow the layout of their type.
    pub misshapen: bool,
    /// The server that sent it, and the zone that it was asked about.
    pub from: Option<(SocketAddr, DomainName)>,
}

impl Entry {
    /// Whether it says, from a referral alone, that there are no records.
    pub fn is_bare_referral(&self) -> bool {
        self.rank == Rank::Referral && self.set.is_none()
    }

    /// How many seconds it still holds; `None` when it does not.
    pub fn left(&self, now: Now) -> Option<u32> {
        self.ttl.checked_sub(now.seconds().saturating_sub(self.stored)).filter(|left| *left > 0)
    }

    /// Its records as of `now`, the TTL counted down.
    pub fn set_at(&self, now: Now) -> Option<RrSet> {
        let left = self.left(now)?;
        self.set.as_ref().map(|set| RrSet { ttl: left.min(set.ttl), ..set.clone() })
    }

    /// What belongs to it in the authority section, TTLs counted down.
    pub fn authority_at(&self, now: Now) -> impl Iterator<Item = RrSet> + '_ {
        let age = now.seconds().saturating_sub(self.stored);
        self.authority.iter().map(move |set| RrSet { ttl: set.ttl.saturating_sub(age), ..set.clone() })
    }

    fn weight(&self) -> usize {
        let authority: usize = self.authority.iter().map(RrSet::weight).sum();
        size_of::<Self>() + self.set.as_ref().map_or(0, |set| set.weight() - size_of::<RrSet>()) + authority
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: DomainName,
    rtype: RecordType,
}

#[derive(Hash)]
struct KeyRef<'a> {
    name: &'a Name,
    rtype: RecordType,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.rtype == key.rtype && *self.name == *key.name
    }
}

/// NXDOMAIN is filed under this type, which no record has (RFC 6895, section 3.1).
const ANY_TYPE: RecordType = RecordType(0);

/// The type under which what is known about `rtype` is filed.
fn type_of(entry: &Entry, rtype: RecordType) -> RecordType {
    if entry.rcode == Rcode::NXDOMAIN { ANY_TYPE } else { rtype }
}

#[derive(Debug, Clone)]
struct Octets;

impl Weighter<Key, Arc<Entry>> for Octets {
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        (64 + size_of::<Key>() + key.name.as_wire().len().saturating_sub(40) + entry.weight()) as u64
    }
}

/// The cache of records, bounded in octets.
#[derive(Debug)]
pub struct Store {
    entries: Cache<Key, Arc<Entry>, Octets, ahash::RandomState>,
}

impl Store {
    /// A cache for `octets` octets.
    pub fn new(octets: u64) -> Self {
        let expected = (octets / 512).max(16) as usize;
        Self { entries: Cache::with(expected, octets, Octets, ahash::RandomState::new(), Default::default()) }
    }

    /// What is known about `name` and `rtype`: an entry for them, or that the name does not exist.
    pub fn get(&self, name: &Name, rtype: RecordType, now: Now) -> Option<Arc<Entry>> {
        let live = |rtype| self.entries.get(&KeyRef { name, rtype }).filter(|entry| entry.left(now).is_some());
        live(rtype).or_else(|| live(ANY_TYPE))
    }

    /// The entry for `name` and `rtype` itself.
    pub fn get_exact(&self, name: &Name, rtype: RecordType, now: Now) -> Option<Arc<Entry>> {
        self.entries.get(&KeyRef { name, rtype }).filter(|entry| entry.left(now).is_some())
    }

    /// That `name` does not exist, when that is known.
    pub fn nonexistence(&self, name: &Name, now: Now) -> Option<Arc<Entry>> {
        self.get_exact(name, ANY_TYPE, now)
    }

    /// Keeps `entry`, unless what is there is better and still holds.
    pub fn put(&self, name: &Name, rtype: RecordType, entry: Entry, now: Now) {
        let rtype = type_of(&entry, rtype);
        if entry.ttl == 0 {
            return;
        }
        if self.get_exact(name, rtype, now).is_some_and(|old| old.rank > entry.rank) {
            return;
        }
        self.entries.insert(Key { name: name.to_owned(), rtype }, Arc::new(entry));
    }

    /// Notes what validation found out about an entry, or drops it when it is bogus.
    pub fn judge(&self, name: &Name, rtype: RecordType, security: Security, ttl: u32, now: Now) {
        let Some(old) = self.get_exact(name, rtype, now).or_else(|| self.nonexistence(name, now)) else { return };
        let rtype = type_of(&old, rtype);
        if security == Security::Bogus {
            self.entries.remove(&KeyRef { name, rtype });
        } else if old.security != security {
            let age = now.seconds().saturating_sub(old.stored);
            // What has no time to live is here for a moment of grace.
            let ttl = if ttl == 0 { old.ttl } else { old.ttl.min(age.saturating_add(ttl)) };
            let entry = Entry { security, ttl, ..(*old).clone() };
            self.entries.insert(Key { name: name.to_owned(), rtype }, Arc::new(entry));
        }
    }

    /// Takes out what [`get`](Self::get) finds, and says what it was.
    pub fn take(&self, name: &Name, rtype: RecordType, now: Now) -> Option<Arc<Entry>> {
        let found = self.get(name, rtype, now)?;
        self.entries.remove(&KeyRef { name, rtype: type_of(&found, rtype) });
        Some(found)
    }

    /// Forgets everything about `name`, and about the names below it if `below`; looks at every entry.
    pub fn flush(&self, name: &Name, below: bool) {
        self.entries.retain(|key, _| if below { !key.name.is_at_or_below(name) } else { *key.name != *name });
    }

    /// How many entries there are, and how many octets they take.
    pub fn size(&self) -> (u64, u64) {
        (self.entries.len() as u64, self.entries.weight())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Now {
        Now { elapsed: Duration::from_secs(seconds), wall: 0 }
    }

    fn entry(octet: u8, rank: Rank) -> Entry {
        let name: DomainName = "a.kz".parse().unwrap();
        let set = RrSet {
            name,
            rtype: RecordType::A,
            ttl: 60,
            rdata: [Box::from([octet; 4])].into_iter().collect(),
            signatures: Default::default(),
        };
        Entry {
            set: Some(set),
            rcode: Rcode::NOERROR,
            authority: Arc::new([]),
            rank,
            security: Security::Indeterminate,
            stored: 0,
            ttl: 60,
            misshapen: false,
            from: None,
        }
    }

    fn first_octet(store: &Store, now: Now) -> Option<u8> {
        let name: DomainName = "a.kz".parse().unwrap();
        store.get(&name, RecordType::A, now)?.set.as_ref().map(|set| set.rdata[0][0])
    }

    #[test]
    fn a_lesser_rank_does_not_replace_a_better_one_that_holds() {
        let store = Store::new(1 << 20);
        let name: DomainName = "a.kz".parse().unwrap();
        store.put(&name, RecordType::A, entry(1, Rank::Authority), at(0));
        store.put(&name, RecordType::A, entry(2, Rank::Answer), at(1));
        assert_eq!(first_octet(&store, at(1)), Some(1));
        store.put(&name, RecordType::A, entry(3, Rank::Authority), at(1));
        assert_eq!(first_octet(&store, at(1)), Some(3));
        assert_eq!(first_octet(&store, at(60)), None, "its time is over");
        store.put(&name, RecordType::A, Entry { stored: 60, ..entry(2, Rank::Answer) }, at(60));
        assert_eq!(first_octet(&store, at(61)), Some(2));
    }

    #[test]
    fn a_name_that_does_not_exist_has_no_records_of_any_type() {
        let store = Store::new(1 << 20);
        let name: DomainName = "a.kz".parse().unwrap();
        let none = Entry { set: None, rcode: Rcode::NXDOMAIN, ..entry(0, Rank::Authority) };
        store.put(&name, RecordType::A, none.clone(), at(0));
        assert!(store.get(&name, RecordType::MX, at(1)).is_some());
        assert_eq!(store.take(&name, RecordType::MX, at(1)).map(|entry| entry.rcode), Some(Rcode::NXDOMAIN));
        assert!(store.get(&name, RecordType::A, at(1)).is_none(), "what is taken out is gone for all types");

        store.put(&name, RecordType::A, none, at(1));
        store.flush(&"kz".parse::<DomainName>().unwrap(), true);
        assert!(store.get(&name, RecordType::MX, at(1)).is_none());
    }

    #[test]
    fn what_is_bogus_is_dropped_and_what_is_secure_keeps_the_lesser_ttl() {
        let store = Store::new(1 << 20);
        let name: DomainName = "a.kz".parse().unwrap();
        store.put(&name, RecordType::A, entry(1, Rank::Authority), at(0));
        store.judge(&name, RecordType::A, Security::Secure, 10, at(5));
        assert_eq!(store.get(&name, RecordType::A, at(5)).unwrap().left(at(5)), Some(10));
        store.judge(&name, RecordType::A, Security::Bogus, 0, at(6));
        assert_eq!(first_octet(&store, at(6)), None);
    }
}
