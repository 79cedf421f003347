//! One answer, as it is kept.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use triomphe::ThinArc;

use crate::clock::Now;
use crate::name::Name;
use crate::query::{ExtendedError, Rcode, RecordType};
use crate::recursor::{Resolution, Security};
use crate::wire::{self, HEADER_LEN, Header, Malformed, Section, option};

use super::{Key, Settings};

/// The longest time between two attempts at a question that fails (RFC 9520, section 3.2).
const LONGEST_FAILURE: u32 = 300;

/// An answer in wire form, with what is needed to send it out again as it is. Clones are one answer.
///
/// One allocation: the octets are the message; then its Extended DNS Errors as EDNS options; then the place of each TTL,
/// two octets each.
#[derive(Debug, Clone)]
pub struct Entry(ThinArc<Facts, u8>);

/// What is known of an answer beside its octets.
#[derive(Debug)]
struct Facts {
    message_len: u16,
    errors_len: u16,
    traits: Traits,
    security: Security,
    /// Failures in a row, this one included.
    failures: u8,
    /// When it came and for how many seconds it is good.
    stored: u32,
    ttl: u32,
    /// Until when nobody is to be asked for a newer one, because that has failed.
    failed_until: AtomicU32,
    /// Somebody is asking for a newer one.
    refreshing: AtomicBool,
    /// The policy that let it pass, and when; see [`Entry::has_passed`].
    passed: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Traits {
    dnssec_ok: bool,
    checking_disabled: bool,
    leads_on: bool,
    /// There are signatures or denials of DNSSEC in it, which nobody gets who did not ask for them.
    has_dnssec: bool,
    /// It holds for its own DO and CD bits alone.
    particular: bool,
    /// There were some, which are left out.
    stripped: bool,
}

/// Which TTLs an answer is sent out with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// What is left of each after so many seconds.
    After(u32),
    /// This one for all: the answer is past its time.
    Stale(u32),
}

impl Lifetime {
    /// What becomes of the TTL that a record had when it came.
    pub fn of(self, ttl: u32) -> u32 {
        match self {
            Self::After(age) => ttl.saturating_sub(age),
            Self::Stale(ttl) => ttl,
        }
    }
}

/// Whether `rcode` says something about the name, and not about the servers.
pub(super) fn is_answer(rcode: Rcode) -> bool {
    matches!(rcode, Rcode::NOERROR | Rcode::NXDOMAIN | Rcode::YXDOMAIN)
}

impl Entry {
    /// Takes over what the world said to the question of `key`.
    ///
    /// # Errors
    ///
    /// When the message is not one, or not about that question.
    pub(super) fn new(
        key: Key<'_>,
        resolution: &Resolution,
        settings: &Settings,
        failures: u8,
        now: Now,
    ) -> Result<Self, Malformed> {
        let message = &resolution.message;
        let mut header = Header::read(message)?;
        header.flags = header.flags & !0x000f | resolution.rcode.0 & 0x000f;
        let (name, question_end) = wire::read_name(message, HEADER_LEN)?;
        let message_len = u16::try_from(message.len()).map_err(|_| Malformed)?;
        if header.counts[0] != 1 || *name != *key.name || question_end + 4 > message.len() {
            return Err(Malformed);
        }

        let mut octets = Vec::with_capacity(message.len() + 24);
        octets.extend_from_slice(&header.to_bytes());
        octets.extend_from_slice(key.name.as_wire());
        octets.extend_from_slice(&message[octets.len()..]);
        resolution.errors.iter().for_each(|error| write_error(&mut octets, error));
        let errors_len = u16::try_from(octets.len() - message.len()).map_err(|_| Malformed)?;
        let (mut leads_on, mut has_dnssec) = (false, false);
        for record in wire::records(message, header) {
            let record = record?;
            if record.rtype == RecordType::OPT {
                return Err(Malformed);
            }
            leads_on |= record.section == Section::Answer
                && matches!(record.rtype, RecordType::CNAME | RecordType::HTTPS | RecordType::SVCB);
            has_dnssec |= matches!(record.rtype, RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3);
            let ttl = record.ttl.clamp(settings.min_ttl.min(settings.max_ttl), settings.max_ttl);
            octets[record.ttl_at..record.ttl_at + 4].copy_from_slice(&ttl.to_be_bytes());
            octets.extend_from_slice(&(record.ttl_at as u16).to_be_bytes());
        }

        let ttl = match failures {
            0 => resolution.ttl.clamp(settings.min_ttl.min(settings.max_ttl), settings.max_ttl),
            // The first repetition may come soon; from then on the time doubles.
            n => resolution.ttl.saturating_mul(1 << (n - 1).saturating_sub(1).min(8)).min(LONGEST_FAILURE),
        };
        let facts = Facts {
            message_len,
            errors_len,
            traits: Traits {
                dnssec_ok: key.dnssec_ok,
                checking_disabled: key.checking_disabled,
                leads_on,
                has_dnssec,
                particular: resolution.particular,
                stripped: resolution.stripped,
            },
            security: resolution.security,
            failures,
            stored: now.seconds(),
            ttl,
            failed_until: AtomicU32::new(0),
            refreshing: AtomicBool::new(false),
            passed: AtomicU64::new(0),
        };
        Ok(Self(ThinArc::from_header_and_slice(facts, &octets)))
    }

    fn facts(&self) -> &Facts {
        &self.0.header.header
    }

    fn octets(&self) -> &[u8] {
        &self.0.slice
    }

    /// The answer: header, question with its name in lower case, records with the TTLs that they had when they came.
    pub fn message(&self) -> &[u8] {
        &self.octets()[..usize::from(self.facts().message_len)]
    }

    /// Its Extended DNS Errors, written as EDNS options.
    pub fn errors(&self) -> &[u8] {
        &self.octets()[usize::from(self.facts().message_len)..][..usize::from(self.facts().errors_len)]
    }

    /// The places of the TTLs in [`Entry::message`].
    fn ttl_places(&self) -> impl Iterator<Item = usize> + '_ {
        let (places, _) =
            self.octets()[usize::from(self.facts().message_len) + usize::from(self.facts().errors_len)..].as_chunks();
        places.iter().map(|place| usize::from(u16::from_be_bytes(*place)))
    }

    /// The response code.
    pub fn rcode(&self) -> Rcode {
        Rcode(u16::from(self.octets()[3] & 0x0f))
    }

    /// Whether the answer is proven.
    pub fn security(&self) -> Security {
        self.facts().security
    }

    /// Whether it says something about the name, and not about the servers.
    pub fn is_answer(&self) -> bool {
        self.facts().failures == 0
    }

    /// Whether it has records that name other names to go to, which policy must judge.
    pub fn leads_on(&self) -> bool {
        self.facts().traits.leads_on
    }

    /// Whether it is the answer to the question of `key`.
    pub(super) fn is_for(&self, key: Key<'_>) -> bool {
        let name = key.name.as_wire();
        let rest = &self.octets()[HEADER_LEN..];
        self.facts().traits.dnssec_ok == key.dnssec_ok
            && self.facts().traits.checking_disabled == key.checking_disabled
            && rest.starts_with(name)
            && rest[name.len()..].starts_with(&key.qtype.0.to_be_bytes())
    }

    /// Whether it also answers the same question with another DO or CD bit.
    ///
    /// What was validated does for whoever would have taken it unvalidated. Without signatures it does for whoever
    /// wants none, and when there can be none also for whoever wants them. Past its time it need not be as good: what
    /// was never validated does then, too.
    pub(super) fn stands_in_for(&self, key: Key<'_>, past_its_time: bool) -> bool {
        let validated = match self.facts().security {
            Security::Secure | Security::Insecure => true,
            Security::Indeterminate => past_its_time,
            Security::Bogus => false,
        };
        let same_checking = self.facts().traits.checking_disabled == key.checking_disabled;
        let checking = same_checking || key.checking_disabled && validated;
        let dnssec = match (self.facts().traits.dnssec_ok, key.dnssec_ok) {
            (true, false) => !self.facts().traits.has_dnssec,
            (false, true) => self.facts().security != Security::Secure && validated && !self.facts().traits.stripped,
            _ => true,
        };
        self.is_answer() && checking && dnssec && !self.facts().traits.particular
    }

    /// Whether its question is about `name`, or with `below` about a name below that.
    pub(super) fn is_about(&self, name: &Name, below: bool) -> bool {
        let mut end = HEADER_LEN;
        while self.octets()[end] != 0 {
            end += 1 + usize::from(self.octets()[end]);
        }
        let own = Name::from_checked(&self.octets()[HEADER_LEN..=end]);
        own == name || below && own.is_below(name)
    }

    /// Seconds since it came.
    pub fn age(&self, now: Now) -> u32 {
        now.seconds().saturating_sub(self.facts().stored)
    }

    /// Whether its time is not over.
    pub fn is_fresh(&self, now: Now) -> bool {
        self.age(now) < self.facts().ttl
    }

    /// For how many seconds its time has been over.
    pub(super) fn overdue(&self, now: Now) -> u32 {
        self.age(now).saturating_sub(self.facts().ttl)
    }

    pub(super) fn failures(&self) -> u8 {
        self.facts().failures
    }

    pub(super) fn ttl(&self) -> u32 {
        self.facts().ttl
    }

    /// Whether a newer one should be asked for now, while this one is still good. Says so once.
    ///
    /// In the last tenth of its time, and never for one that is good for less than ten seconds.
    pub(super) fn wants_refresh(&self, now: Now) -> bool {
        let left = self.facts().ttl.saturating_sub(self.age(now));
        left <= self.facts().ttl / 10 && self.is_answer() && !self.facts().refreshing.swap(true, Ordering::Relaxed)
    }

    /// Remembers that there was no newer one to be had; nobody need try before `until`.
    pub(super) fn refresh_failed(&self, until: u32) {
        self.facts().failed_until.store(until, Ordering::Relaxed);
        self.facts().refreshing.store(false, Ordering::Relaxed);
    }

    /// Whether asking for a newer one has failed not long ago.
    pub fn has_failed_lately(&self, now: Now) -> bool {
        now.seconds() < self.facts().failed_until.load(Ordering::Relaxed)
    }

    /// Whether the policy of this number has let the answer pass within this second.
    ///
    /// Not longer, since rules begin and end by the clock.
    pub fn has_passed(&self, policy: u32, now: Now) -> bool {
        self.facts().passed.load(Ordering::Relaxed) == pass(policy, now)
    }

    /// Remembers that the policy of this number lets the answer pass.
    pub fn mark_passed(&self, policy: u32, now: Now) {
        self.facts().passed.store(pass(policy, now), Ordering::Relaxed);
    }

    /// How many questions and records the message has, section by section.
    pub fn counts(&self) -> [u16; 4] {
        Header::read(self.octets()).map_or([0; 4], |header| header.counts)
    }

    /// Appends the records to `reply`, which holds a header and the question, with TTLs of today. The only copy that a
    /// hit costs.
    pub fn write_records(&self, reply: &mut Vec<u8>, lifetime: Lifetime) {
        let records = reply.len();
        reply.extend_from_slice(self.message().get(records..).unwrap_or_default());
        for at in self.ttl_places() {
            if let Some(place) = reply.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
                *place = lifetime.of(u32::from_be_bytes(*place)).to_be_bytes();
            }
        }
    }

    /// The memory that it takes in the cache, in octets: an allocation with its head, and a place in the table.
    pub(super) fn footprint(&self) -> u64 {
        // Behind the facts' count of clones and length of octets; the allocator's own word comes on top.
        const HEAD: usize = size_of::<Facts>() + 3 * size_of::<usize>();
        (PLACE + (HEAD + self.octets().len()).next_multiple_of(16)) as u64
    }
}

/// What an entry's place in the table takes, in octets: key, pointer, links, its share of the index and of the traces of
/// what was there before. Measured with a full cache.
const PLACE: usize = 72;

/// The longest EXTRA-TEXT that is kept.
const MAX_TEXT: usize = 400;

fn pass(policy: u32, now: Now) -> u64 {
    u64::from(policy) << 32 | u64::from(now.seconds().wrapping_add(1))
}

/// Appends an Extended DNS Error as an EDNS option (RFC 8914, section 2).
fn write_error(octets: &mut Vec<u8>, error: &ExtendedError) {
    let text = &error.text.as_bytes()[..error.text.floor_char_boundary(MAX_TEXT)];
    for word in [option::EXTENDED_ERROR, 2 + text.len() as u16, error.code] {
        octets.extend_from_slice(&word.to_be_bytes());
    }
    octets.extend_from_slice(text);
}
