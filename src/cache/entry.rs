//! One answer, as it is kept: a row of words, which the [table](super::table) holds.
//!
//! | word | bits | |
//! |---|---|---|
//! | 0 | | the table's own |
//! | 1 | 0, 16, 32, 40, 48, 52, 56 | type; TTLs; octets of the name; traits; response code; security; failures |
//! | 2 | 0, 32 | when it came; for how many seconds it is good |
//! | 3 | 0, 16, 32, 48 | records in each section; octets of the errors |
//! | 4 | 0, 32 | octets of the records; whether it is being [renewed](UNDER_WAY) |
//! | 5 | | the policy that let it pass, and when; see [`Answer::has_passed`] |
//!
//! Then come the name, the records as they stand behind the question in a message, the places of their TTLs there, two
//! octets each, and the Extended DNS Errors as EDNS options; each filled up to whole words.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Now;
use crate::query::{ExtendedError, Rcode, RecordType};
use crate::recursor::{Resolution, Security};
use crate::wire::{self, HEADER_LEN, Header, Malformed, Section, option};

use super::table::Place;
use super::{Key, Settings};

/// The longest time between two attempts at a question that fails (RFC 9520, section 3.2).
const LONGEST_FAILURE: u32 = 300;
/// The longest EXTRA-TEXT that is kept.
const MAX_TEXT: usize = 400;

/// Words before the name.
const FACTS: usize = 6;
/// Those among them that change.
const RENEWAL_AT: usize = 4;
const PASSED_AT: usize = 5;

/// Words that are read one by one. Behind the last there are zeros.
pub(super) trait Source {
    fn word(&self, at: usize) -> u64;
}

impl Source for [u64] {
    #[inline]
    fn word(&self, at: usize) -> u64 {
        self.get(at).copied().unwrap_or(0)
    }
}

impl Source for [AtomicU64] {
    #[inline]
    fn word(&self, at: usize) -> u64 {
        self.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

/// What is known of an answer beside its octets: the words 1 to 4. Read from a row that is being overwritten, they are
/// nonsense and no harm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts([u64; FACTS - 2]);

/// Bits of the traits.
mod traits {
    pub(super) const DNSSEC_OK: u8 = 1;
    pub(super) const CHECKING_DISABLED: u8 = 1 << 1;
    /// There are records that lead to other names.
    pub(super) const LEADS_ON: u8 = 1 << 2;
    /// There are signatures or denials of DNSSEC in it, which nobody gets who did not ask for them.
    pub(super) const HAS_DNSSEC: u8 = 1 << 3;
    /// It holds for its own DO and CD bits alone.
    pub(super) const PARTICULAR: u8 = 1 << 4;
    /// There were some, which are left out.
    pub(super) const STRIPPED: u8 = 1 << 5;
}

/// The bit of a renewal that says that a newer answer is being asked for: later than any time. The others say until when
/// nobody is to ask because that has failed.
const UNDER_WAY: u32 = 1 << 31;

/// Which TTLs an answer is sent out with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// What is left of each after so many seconds.
    After(u32),
    /// This one for all: the answer is past its time.
    Stale(u32),
}

impl Lifetime {
    /// What becomes of the TTL that a record had when it came.
    fn of(self, ttl: u32) -> u32 {
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

/// An answer that the world has given, in the form in which it is kept.
#[derive(Debug, Clone)]
pub struct Entry(Vec<u64>);

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
        let header = Header::read(message)?;
        let (name, name_end) = wire::read_name(message, HEADER_LEN)?;
        let length = |octets: usize| u16::try_from(octets).map_err(|_| Malformed);
        if header.counts[0] != 1 || *name != *key.name {
            return Err(Malformed);
        }
        let records_at = name_end + 4;
        let mut records = message.get(records_at..).ok_or(Malformed)?.to_vec();
        let records_len = length(records.len())?;

        let limits = settings.min_ttl.min(settings.max_ttl)..=settings.max_ttl;
        let mut traits = key.traits();
        let mut places = Vec::new();
        for record in wire::records(message, header) {
            let record = record?;
            let leads_on = || matches!(record.rtype, RecordType::CNAME | RecordType::HTTPS | RecordType::SVCB);
            match record.rtype {
                RecordType::OPT => return Err(Malformed),
                RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3 => traits |= traits::HAS_DNSSEC,
                _ if record.section == Section::Answer && leads_on() => traits |= traits::LEADS_ON,
                _ => {}
            }
            let at = record.ttl_at - records_at;
            let ttl = record.ttl.clamp(*limits.start(), *limits.end());
            records[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
            places.extend_from_slice(&(at as u16).to_le_bytes());
        }
        for (has, bit) in [(resolution.particular, traits::PARTICULAR), (resolution.stripped, traits::STRIPPED)] {
            traits |= if has { bit } else { 0 };
        }
        let mut errors = Vec::new();
        resolution.errors.iter().for_each(|error| write_error(&mut errors, error));
        let ttl = match failures {
            0 => resolution.ttl.clamp(*limits.start(), *limits.end()),
            // The first repetition may come soon; from then on the time doubles.
            n => resolution.ttl.saturating_mul(1 << (n - 1).saturating_sub(1).min(8)).min(LONGEST_FAILURE),
        };
        let rcode = resolution.rcode.0 as u8 & 0x0f | (resolution.security as u8) << 4;
        let [_, answers, authorities, additionals] = header.counts;
        let octets = u16::from_le_bytes;
        let name_len = key.name.as_wire().len() as u8;
        let facts = [
            [key.qtype.0, length(places.len() / 2)?, octets([name_len, traits]), octets([rcode, failures])],
            [now.seconds() as u16, (now.seconds() >> 16) as u16, ttl as u16, (ttl >> 16) as u16],
            [answers, authorities, additionals, length(errors.len())?],
            [records_len, 0, 0, 0],
        ];
        let facts =
            facts.map(|[a, b, c, d]| u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48);
        let octets = [key.name.as_wire(), &records, &places, &errors];
        let mut words = Vec::with_capacity(FACTS + octets.iter().map(|octets| words_of(octets.len())).sum::<usize>());
        words.push(0);
        words.extend(facts);
        words.push(0);
        octets.into_iter().for_each(|octets| pack(octets, &mut words));
        Ok(Self(words))
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(super) fn facts(&self) -> Facts {
        Facts::read(&self.0[..])
    }

    /// Puts the answer into `reply`, which holds a header and its question; see [`Answer`].
    pub fn put(&self, reply: &mut Vec<u8>) -> Answer {
        Answer::put(&self.0[..], self.facts(), Lifetime::After(0), reply)
    }

    /// Whether it says something about the name, and not about the servers.
    pub fn is_answer(&self) -> bool {
        self.facts().is_answer()
    }
}

impl Key<'_> {
    /// The traits that an answer to this question has by it.
    fn traits(self) -> u8 {
        let of = |has: bool, bit: u8| if has { bit } else { 0 };
        of(self.dnssec_ok, traits::DNSSEC_OK) | of(self.checking_disabled, traits::CHECKING_DISABLED)
    }
}

impl Facts {
    #[inline]
    pub(super) fn read(source: &(impl Source + ?Sized)) -> Self {
        Self(std::array::from_fn(|at| source.word(1 + at)))
    }

    /// Whether these are of the answer to the question of `key`, which `source` has.
    #[inline]
    pub(super) fn are_for(&self, key: Key<'_>, source: &(impl Source + ?Sized)) -> bool {
        const TRAITS: u8 = traits::DNSSEC_OK | traits::CHECKING_DISABLED;
        const MASK: u64 = 0xffff | 0xff << 32 | (TRAITS as u64) << 40;
        let name = key.name.as_wire();
        let wanted = u64::from(key.qtype.0) | (name.len() as u64) << 32 | u64::from(key.traits()) << 40;
        self.0[0] & MASK == wanted && has_octets(source, FACTS, name)
    }

    fn field(&self, word: usize, bit: u32) -> u16 {
        (self.0[word - 1] >> bit) as u16
    }

    fn name_len(&self) -> usize {
        usize::from(self.field(1, 32) as u8)
    }

    fn ttls(&self) -> usize {
        usize::from(self.field(1, 16))
    }

    fn rcode(&self) -> Rcode {
        Rcode(self.field(1, 48) & 0x0f)
    }

    fn security(&self) -> Security {
        const ALL: [Security; 4] = [Security::Secure, Security::Insecure, Security::Bogus, Security::Indeterminate];
        ALL[usize::from(self.field(1, 52) & 3)]
    }

    /// Failures in a row, this one included.
    pub(super) fn failures(&self) -> u8 {
        self.field(1, 56) as u8
    }

    /// When it came, in seconds.
    fn stored(&self) -> u32 {
        self.0[1] as u32
    }

    /// For how many seconds it is good.
    pub(super) fn ttl(&self) -> u32 {
        (self.0[1] >> 32) as u32
    }

    /// How many records each section has.
    fn counts(&self) -> [u16; 3] {
        [self.field(3, 0), self.field(3, 16), self.field(3, 32)]
    }

    fn errors_len(&self) -> usize {
        usize::from(self.field(3, 48))
    }

    fn records_len(&self) -> usize {
        usize::from(self.field(4, 0))
    }

    fn renewal(&self) -> u32 {
        (self.0[RENEWAL_AT - 1] >> 32) as u32
    }

    /// The name, in wire form.
    pub(super) fn name(&self, source: &(impl Source + ?Sized)) -> Vec<u8> {
        let mut name = Vec::new();
        unpack(source, FACTS, self.name_len(), &mut name);
        name
    }

    fn records_at(&self) -> usize {
        FACTS + words_of(self.name_len())
    }

    fn ttls_at(&self) -> usize {
        self.records_at() + words_of(self.records_len())
    }

    fn errors_at(&self) -> usize {
        self.ttls_at() + words_of(2 * self.ttls())
    }

    fn has(&self, trait_: u8) -> bool {
        self.field(1, 40) as u8 & trait_ != 0
    }

    /// Whether it says something about the name, and not about the servers.
    pub(super) fn is_answer(&self) -> bool {
        self.failures() == 0
    }

    /// Whether it also answers the same question with another DO or CD bit.
    ///
    /// What was validated does for whoever would have taken it unvalidated. Without signatures it does for whoever
    /// wants none, and when there can be none also for whoever wants them. Past its time it need not be as good: what
    /// was never validated does then, too.
    pub(super) fn stand_in_for(&self, key: Key<'_>, past_its_time: bool) -> bool {
        let validated = match self.security() {
            Security::Secure | Security::Insecure => true,
            Security::Indeterminate => past_its_time,
            Security::Bogus => false,
        };
        let same_checking = self.has(traits::CHECKING_DISABLED) == key.checking_disabled;
        let checking = same_checking || key.checking_disabled && validated;
        let dnssec = match (self.has(traits::DNSSEC_OK), key.dnssec_ok) {
            (true, false) => !self.has(traits::HAS_DNSSEC),
            (false, true) => self.security() != Security::Secure && validated && !self.has(traits::STRIPPED),
            _ => true,
        };
        self.is_answer() && checking && dnssec && !self.has(traits::PARTICULAR)
    }

    /// Seconds since it came.
    fn age(&self, now: Now) -> u32 {
        now.seconds().saturating_sub(self.stored())
    }

    /// Whether its time is not over.
    pub(super) fn is_fresh(&self, now: Now) -> bool {
        self.age(now) < self.ttl()
    }

    /// For how many seconds its time has been over.
    pub(super) fn overdue(&self, now: Now) -> u32 {
        self.age(now).saturating_sub(self.ttl())
    }

    /// The TTLs that it is sent out with while its time is not over.
    pub(super) fn lifetime(&self, now: Now) -> Lifetime {
        Lifetime::After(self.age(now))
    }

    /// Whether a newer one should be asked for now, while this one is still good, and nobody does or has failed to lately.
    ///
    /// In the last tenth of its time, and never for one that is good for less than ten seconds.
    pub(super) fn want_refresh(&self, now: Now) -> bool {
        let left = self.ttl().saturating_sub(self.age(now));
        left <= self.ttl() / 10 && self.is_answer() && now.seconds() >= self.renewal()
    }
}

/// Takes note that a newer answer is being asked for; whether that is news.
pub(super) fn begin_renewal(words: &[AtomicU64]) -> bool {
    let under_way = u64::from(UNDER_WAY) << 32;
    words.get(RENEWAL_AT).is_some_and(|word| word.fetch_or(under_way, Ordering::Relaxed) & under_way == 0)
}

/// Takes note that there was no newer answer to be had; nobody need try before `until`.
pub(super) fn renewal_failed(words: &[AtomicU64], until: u32) {
    if let Some(word) = words.get(RENEWAL_AT) {
        let until = u64::from(until & !UNDER_WAY) << 32;
        word.store(word.load(Ordering::Relaxed) & u64::from(u32::MAX) | until, Ordering::Relaxed);
    }
}

/// Takes note that the policy of this number lets the answer pass.
pub(super) fn pass(words: &[AtomicU64], policy: u32, now: Now) {
    if let Some(word) = words.get(PASSED_AT) {
        word.store(passed(policy, now), Ordering::Relaxed);
    }
}

fn passed(policy: u32, now: Now) -> u64 {
    u64::from(policy) << 32 | u64::from(now.seconds().wrapping_add(1))
}

/// An answer in a reply: its records stand behind the question, with TTLs of today, and the header says how many there
/// are.
#[derive(Debug)]
pub struct Answer {
    facts: Facts,
    passed: u64,
    errors: Box<[u8]>,
    /// Where the cache has it.
    place: Place,
}

impl Answer {
    /// Puts what `source` has into `reply`. The only copy that a hit costs; allocates nothing, unless there are errors.
    #[inline(always)]
    pub(super) fn put(source: &(impl Source + ?Sized), facts: Facts, lifetime: Lifetime, reply: &mut Vec<u8>) -> Self {
        let records = HEADER_LEN + facts.name_len() + 4;
        reply.truncate(records);
        unpack(source, facts.records_at(), facts.records_len(), reply);
        let ttls_at = facts.ttls_at();
        for at in 0..facts.ttls() {
            let place = (source.word(ttls_at + at / 4) >> (16 * (at % 4))) as u16;
            let octets = reply.get_mut(records + usize::from(place)..).and_then(|rest| rest.first_chunk_mut::<4>());
            if let Some(octets) = octets {
                *octets = lifetime.of(u32::from_be_bytes(*octets)).to_be_bytes();
            }
        }
        if let Some(octets) = reply.get_mut(4..HEADER_LEN) {
            let [answers, authorities, additionals] = facts.counts();
            octets.copy_from_slice([1, answers, authorities, additionals].map(u16::to_be_bytes).as_flattened());
        }
        let mut errors = Vec::new();
        if facts.errors_len() > 0 {
            unpack(source, facts.errors_at(), facts.errors_len(), &mut errors);
        }
        Self { facts, passed: source.word(PASSED_AT), errors: errors.into(), place: Place::NONE }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The same with the place where the cache has it.
    pub(super) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// The response code.
    pub fn rcode(&self) -> Rcode {
        self.facts.rcode()
    }

    /// Its Extended DNS Errors, written as EDNS options.
    pub fn errors(&self) -> &[u8] {
        &self.errors
    }

    /// Whether the answer is proven.
    pub fn security(&self) -> Security {
        self.facts.security()
    }

    /// Whether it says something about the name, and not about the servers.
    pub fn is_answer(&self) -> bool {
        self.facts.is_answer()
    }

    /// Whether a newer one should be asked for; see [`Facts::want_refresh`].
    pub(super) fn wants_refresh(&self, now: Now) -> bool {
        self.facts.want_refresh(now)
    }

    /// Whether it has records that name other names to go to, which policy must judge.
    pub fn leads_on(&self) -> bool {
        self.facts.has(traits::LEADS_ON)
    }

    /// Whether asking for a newer one has failed not long ago.
    pub fn has_failed_lately(&self, now: Now) -> bool {
        now.seconds() < self.facts.renewal() & !UNDER_WAY
    }

    /// Whether the policy of this number has let the answer pass within this second.
    ///
    /// Not longer, since rules begin and end by the clock.
    pub fn has_passed(&self, policy: u32, now: Now) -> bool {
        self.passed == passed(policy, now)
    }
}

/// How many words take so many octets.
fn words_of(octets: usize) -> usize {
    octets.div_ceil(8)
}

/// Appends `octets` to `words`, the last word filled up with zeros.
fn pack(octets: &[u8], words: &mut Vec<u64>) {
    let (whole, rest) = octets.as_chunks();
    words.extend(whole.iter().map(|octets| u64::from_le_bytes(*octets)));
    if !rest.is_empty() {
        words.push(rest.iter().rev().fold(0, |word, octet| word << 8 | u64::from(*octet)));
    }
}

/// Whether `octets` begin with the word at `at`.
#[inline(always)]
fn has_octets(source: &(impl Source + ?Sized), at: usize, octets: &[u8]) -> bool {
    let (whole, rest) = octets.as_chunks::<8>();
    let has_whole = whole.iter().zip(at..).all(|(octets, at)| source.word(at) == u64::from_le_bytes(*octets));
    let last = match octets.last_chunk::<8>() {
        // The last eight at once, without those of them that have been looked at.
        Some(last) => u64::from_le_bytes(*last).checked_shr(64 - 8 * rest.len() as u32).unwrap_or(0),
        None => rest.iter().rev().fold(0, |word, octet| word << 8 | u64::from(*octet)),
    };
    has_whole && (rest.is_empty() || source.word(at + whole.len()) == last)
}

/// Appends `len` octets, which begin with the word at `at`.
#[inline(always)]
fn unpack(source: &(impl Source + ?Sized), at: usize, len: usize, octets: &mut Vec<u8>) {
    let start = octets.len();
    octets.reserve(8 * words_of(len));
    for at in at..at + words_of(len) {
        octets.extend_from_slice(&source.word(at).to_le_bytes());
    }
    octets.truncate(start + len);
}

/// Appends an Extended DNS Error as an EDNS option (RFC 8914, section 2).
fn write_error(octets: &mut Vec<u8>, error: &ExtendedError) {
    let text = &error.text.as_bytes()[..error.text.floor_char_boundary(MAX_TEXT)];
    for word in [option::EXTENDED_ERROR, 2 + text.len() as u16, error.code] {
        octets.extend_from_slice(&word.to_be_bytes());
    }
    octets.extend_from_slice(text);
}
