//! What the world said, in wire form, until its time is over.
//!
//! The cache lies below the filter: it knows nothing of lists, and each hit is
//! judged by the policy of the moment. It is bounded in octets, and what is
//! asked for once leaves before what is asked for again. A look-up waits for
//! nobody and copies an answer once, into the reply.

mod entry;
mod table;

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ahash::RandomState;

use crate::clock::Now;
use crate::name::Name;
use crate::query::{Question, RecordType};
use crate::recursor::Resolution;
use crate::wire::Malformed;

use entry::{Facts, Lifetime};
use table::{Id, Table};

pub use entry::{Answer, Entry};

/// What is kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The memory that the entries may take, in octets.
    pub max_bytes: u64,
    /// Ask again for what is still in demand shortly before its time is over.
    pub prefetch: bool,
    /// The least TTL in seconds that an answer is kept and sent out with.
    pub min_ttl: u32,
    /// The largest.
    pub max_ttl: u32,
    /// What may be answered past its time.
    pub stale: Stale,
}

/// Serving past the TTL, when name servers do not answer (RFC 8767).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// How long past its TTL an answer may be used; zero: not at all.
    pub window: Duration,
    /// How long a client waits for a fresh answer before it gets a stale one; zero: not at all.
    pub client_timer: Duration,
    /// The TTL of stale answers in seconds.
    pub ttl: u32,
    /// How long after a failure nobody is asked again.
    pub recheck: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, prefetch: true, min_ttl: 0, max_ttl: 86_400, stale: Stale::default() }
    }
}

/// The values of RFC 8767, section 5, and a day.
impl Default for Stale {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(86_400),
            client_timer: Duration::from_millis(1800),
            ttl: 30,
            recheck: Duration::from_secs(30),
        }
    }
}

/// How full the cache is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Answers that it holds.
    pub entries: u64,
    /// The memory that they take, in octets.
    pub bytes: u64,
    /// Answers that had to make room so far.
    pub evictions: u64,
}

/// What an answer is filed under.
#[derive(Debug, Clone, Copy)]
pub struct Key<'q> {
    /// The name.
    pub name: &'q Name,
    /// The type.
    pub qtype: RecordType,
    /// With DNSSEC records.
    pub dnssec_ok: bool,
    /// Without validation.
    pub checking_disabled: bool,
}

impl<'q> From<&'q Question> for Key<'q> {
    fn from(question: &'q Question) -> Self {
        let Question { name, qtype, dnssec_ok, checking_disabled } = question;
        Self { name, qtype: *qtype, dnssec_ok: *dnssec_ok, checking_disabled: *checking_disabled }
    }
}

impl Key<'_> {
    /// The same question with other DO and CD bits, as far as an answer to it may stand in: what came unvalidated is
    /// not for whoever wants it validated.
    fn others(self) -> impl Iterator<Item = Self> {
        let other = move |dnssec_ok, checking_disabled| Key { dnssec_ok, checking_disabled, ..self };
        let unvalidated = self.checking_disabled.then(|| [other(self.dnssec_ok, false), other(!self.dnssec_ok, false)]);
        std::iter::once(other(!self.dnssec_ok, self.checking_disabled)).chain(unvalidated.into_iter().flatten())
    }

    /// Which of the answers of one hash it is.
    fn variant(self) -> u8 {
        u8::from(self.dnssec_ok) << 1 | u8::from(self.checking_disabled)
    }
}

/// Where answers to questions for a name and type are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Spot<'c>(table::Spot<'c>);

impl Spot<'_> {
    /// Has memory fetch what a look-up will need first.
    #[inline]
    pub fn fetch_ahead(self) {
        self.0.fetch_ahead();
    }

    /// Has memory fetch what a look-up will need then.
    #[inline]
    pub fn fetch_answer_ahead(self) {
        self.0.fetch_entry_ahead();
    }
}

/// An answer that the cache has, put into the reply.
#[derive(Debug)]
pub enum Found {
    /// Its time is not over.
    Fresh {
        /// The answer.
        answer: Answer,
        /// It is in demand and its time is nearly over: ask for the next. Only one caller is told so.
        wants_refresh: bool,
    },
    /// Its time is over, and it may still do when there is nothing better.
    Stale(Answer),
}

/// Answers by question. Shared by all threads.
pub struct Cache {
    settings: Settings,
    hasher: RandomState,
    /// Filed under a keyed hash of the question, which each entry then confirms.
    table: Table,
}

impl Cache {
    /// An empty cache. Takes its memory as it fills.
    pub fn new(settings: Settings) -> Self {
        Self { hasher: RandomState::new(), table: Table::new(settings.max_bytes), settings }
    }

    /// What it was told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn hash(&self, name: &Name, qtype: RecordType) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        // The name says by itself where it ends.
        hasher.write(name.as_wire());
        hasher.write_u16(qtype.0);
        hasher.finish()
    }

    /// Where answers to questions for this name and type are looked for, whatever their DO and CD bits.
    #[inline]
    pub fn spot(&self, name: &Name, qtype: RecordType) -> Spot<'_> {
        Spot(self.table.spot(self.hash(name, qtype)))
    }

    /// Puts the answer to the question of `key` into `reply`, unless there is none or its time is long over. `reply`
    /// holds a header and the question; it is cut back to these first.
    ///
    /// An answer that was kept for other DO and CD bits is taken when it does as well.
    pub fn find(&self, key: Key<'_>, now: Now, reply: &mut Vec<u8>) -> Option<Found> {
        self.find_at(self.spot(key.name, key.qtype), key, now, reply)
    }

    /// The same when the [`spot`](Self::spot) is known.
    #[inline]
    pub fn find_at(&self, Spot(spot): Spot<'_>, key: Key<'_>, now: Now, reply: &mut Vec<u8>) -> Option<Found> {
        if let Some(answer) = fetch(spot, key, |facts| facts.is_fresh(now), |facts| facts.lifetime(now), reply) {
            return Some(self.fresh(answer, now));
        }
        if spot.has_any() { self.find_second_best(spot, key, now, reply) } else { None }
    }

    /// As [`find`](Self::find), when what is filed under the very key is not there, or past its time.
    #[inline(never)]
    fn find_second_best(&self, spot: table::Spot<'_>, key: Key<'_>, now: Now, reply: &mut Vec<u8>) -> Option<Found> {
        for other in key.others() {
            let suits = |facts: &Facts| facts.is_fresh(now) && facts.stand_in_for(key, false);
            if let Some(answer) = fetch(spot, other, suits, |facts| facts.lifetime(now), reply) {
                return Some(self.fresh(answer, now));
            }
        }
        std::iter::once(key).chain(key.others()).find_map(|other| {
            let is_own = other.variant() == key.variant();
            let suits = |facts: &Facts| self.may_serve_stale(facts, now) && (is_own || facts.stand_in_for(key, true));
            let lifetime = |_: &Facts| Lifetime::Stale(self.settings.stale.ttl);
            fetch(spot, other, suits, lifetime, reply).map(Found::Stale)
        })
    }

    #[inline(always)]
    fn fresh(&self, answer: Answer, now: Now) -> Found {
        let wants_refresh = self.settings.prefetch
            && answer.wants_refresh(now)
            && self.table.update(answer.place(), entry::begin_renewal) == Some(true);
        Found::Fresh { answer, wants_refresh }
    }

    /// A failure is not served past its time.
    fn may_serve_stale(&self, facts: &Facts, now: Now) -> bool {
        facts.is_answer()
            && !facts.is_fresh(now)
            && u64::from(facts.overdue(now)) < self.settings.stale.window.as_secs()
    }

    /// Whether it is of use, now or later.
    fn is_useful(&self, facts: &Facts, now: Now) -> bool {
        facts.is_fresh(now) || self.may_serve_stale(facts, now)
    }

    /// Files what the world said, and returns it in the form in which it is sent out.
    ///
    /// A failure, of validation too, is not filed while there is an answer that may be served, past its time if need be:
    /// that is what it is kept for.
    ///
    /// # Errors
    ///
    /// When the message is not one, or not about that question; nothing changes then.
    pub fn keep(&self, key: Key<'_>, resolution: &Resolution, now: Now) -> Result<Entry, Malformed> {
        let hash = self.hash(key.name, key.qtype);
        let id = Id { hash, variant: key.variant() };
        let is_failure = !entry::is_answer(resolution.rcode);
        let failures = if is_failure { self.failures_before(id, key, now).saturating_add(1) } else { 0 };
        let entry = Entry::new(key, resolution, &self.settings, failures, now)?;
        if !is_failure {
            self.forget_older(hash, key, now);
        } else if self.note_failure(hash, key, now) {
            return Ok(entry);
        }
        match entry.facts().ttl() {
            0 => self.table.remove(id, |words| Facts::read(words).are_for(key, words)),
            _ => self.table.insert(id, entry.words(), |words| !self.is_useful(&Facts::read(words), now)),
        }
        Ok(entry)
    }

    /// How often the question has failed in a row. Failures long past do not count against it.
    fn failures_before(&self, id: Id, key: Key<'_>, now: Now) -> u8 {
        let failures = self.table.visit(id, |words| {
            let facts = Facts::read(words);
            let counts = facts.are_for(key, words) && facts.overdue(now) <= 2 * facts.ttl();
            if counts { facts.failures() } else { 0 }
        });
        failures.unwrap_or(0)
    }

    /// Takes note with the answers that may be served meanwhile that there is no newer one. Whether there are any.
    fn note_failure(&self, hash: u64, key: Key<'_>, now: Now) -> bool {
        let until = now.seconds().saturating_add(self.settings.stale.recheck.as_secs().try_into().unwrap_or(u32::MAX));
        let mut have_any = false;
        for other in std::iter::once(key).chain(key.others()) {
            let is_own = other.variant() == key.variant();
            self.table.visit(Id { hash, variant: other.variant() }, |words| {
                let facts = Facts::read(words);
                let is_good = facts.are_for(other, words) && facts.is_answer() && self.is_useful(&facts, now);
                if is_good && (is_own || facts.stand_in_for(key, !facts.is_fresh(now))) {
                    entry::renewal_failed(words, until);
                    have_any = true;
                }
            });
        }
        have_any
    }

    /// Forgets what could stand in for a new answer but is past its time: it would be served when the new one is over.
    fn forget_older(&self, hash: u64, key: Key<'_>, now: Now) {
        for other in key.others() {
            self.table.remove(Id { hash, variant: other.variant() }, |words| {
                let facts = Facts::read(words);
                facts.are_for(other, words) && !facts.is_fresh(now) && facts.stand_in_for(key, true)
            });
        }
    }

    /// Takes note that the policy of this number lets `answer` pass.
    pub fn pass(&self, answer: &Answer, policy: u32, now: Now) {
        self.table.update(answer.place(), |words| entry::pass(words, policy, now));
    }

    /// Forgets what it has of `name`, with `below` also of all names below it, and says how many answers that were.
    ///
    /// Looks at every entry, a few at a time.
    pub fn flush(&self, name: &Name, below: bool) -> usize {
        self.table.remove_all(|words: &[AtomicU64]| {
            let own = Facts::read(words).name(words);
            let own = Name::from_checked(&own);
            own == name || below && own.is_below(name)
        })
    }

    /// How full it is.
    pub fn statistics(&self) -> Statistics {
        self.table.statistics()
    }
}

/// Puts what is filed under exactly this key into `reply`, if it `suits`.
#[inline(always)]
fn fetch(
    spot: table::Spot<'_>,
    key: Key<'_>,
    suits: impl Fn(&Facts) -> bool,
    lifetime: impl Fn(&Facts) -> Lifetime,
    reply: &mut Vec<u8>,
) -> Option<Answer> {
    let found = spot.read(key.variant(), |words| {
        let facts = Facts::read(words);
        let suits = facts.are_for(key, words) && suits(&facts);
        suits.then(|| Answer::put(words, facts, lifetime(&facts), reply))
    });
    found.map(|(answer, place)| answer.at(place))
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("settings", &self.settings).field("statistics", &self.statistics()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{address, failure, resolution, set, wire_name};
    use crate::query::Rcode;
    use crate::recursor::Security;
    use crate::wire::{HEADER_LEN, Header};
    use proptest::prelude::*;

    fn at(seconds: u64) -> Now {
        Now { elapsed: Duration::from_secs(seconds), wall: seconds }
    }

    fn question(name: &str) -> Question {
        Question::new(&name.parse::<crate::name::DomainName>().unwrap(), RecordType::A)
    }

    /// A reply that has been begun.
    fn begun(question: &Question) -> Vec<u8> {
        [&[0; HEADER_LEN][..], &question.to_wire()].concat()
    }

    fn find(cache: &Cache, question: &Question, now: Now) -> Option<Found> {
        cache.find(Key::from(question), now, &mut begun(question))
    }

    /// What a look-up finds: nothing, what is fresh, or what is stale.
    fn state(cache: &Cache, question: &Question, now: Now) -> &'static str {
        match find(cache, question, now) {
            Some(Found::Fresh { .. }) => "fresh",
            Some(Found::Stale(_)) => "stale",
            None => "none",
        }
    }

    fn keep(cache: &Cache, question: &Question, resolution: &Resolution, now: Now) -> Entry {
        cache.keep(Key::from(question), resolution, now).unwrap()
    }

    /// The TTLs in a reply.
    fn ttls(reply: &[u8]) -> Vec<u32> {
        crate::wire::records(reply, Header::read(reply).unwrap()).map(|record| record.unwrap().ttl).collect()
    }

    #[test]
    fn an_answer_is_fresh_for_its_ttl_then_stale_for_a_while_then_gone() {
        let stale = Stale { window: Duration::from_secs(1000), ..Stale::default() };
        let cache = Cache::new(Settings { stale, ..Settings::default() });
        let question = question("www.example.kz");
        keep(&cache, &question, &address(&question), at(50));
        for (seconds, expected) in
            [(50, "fresh"), (349, "fresh"), (350, "stale"), (1349, "stale"), (1350, "none"), (9999, "none")]
        {
            assert_eq!(state(&cache, &question, at(seconds)), expected, "at {seconds} s");
        }
    }

    #[test]
    fn an_answer_is_for_its_own_question_only() {
        let cache = Cache::new(Settings::default());
        let asked = question("www.example.kz");
        keep(&cache, &asked, &address(&asked), at(0));
        for other in
            [question("example.kz"), question("ww.example.kz"), Question { qtype: RecordType::AAAA, ..asked.clone() }]
        {
            assert_eq!(state(&cache, &other, at(0)), "none", "{other:?}");
        }
    }

    #[test]
    fn ttls_count_down_within_their_limits() {
        let cache = Cache::new(Settings { min_ttl: 60, max_ttl: 3600, ..Settings::default() });
        let question = question("www.example.kz");
        let mut sets = [10, 300, 90_000].map(|ttl| crate::recursor::message::RrSet {
            ttl,
            ..set(&format!("t{ttl}.example.kz"), RecordType::A, &[192, 0, 2, 1])
        });
        sets[0].name = question.name.clone();
        let entry = keep(&cache, &question, &resolution(&question, Rcode::NOERROR, &sets), at(100));
        let mut reply = begun(&question);
        entry.put(&mut reply);
        assert_eq!(ttls(&reply), [60, 300, 3600]);
        for (seconds, expected) in [(100, [60, 300, 3600]), (159, [1, 241, 3541]), (160, [30, 30, 30])] {
            // Whatever stood there is cut off.
            reply.extend([1, 2, 3]);
            let found = cache.find(Key::from(&question), at(seconds), &mut reply);
            assert_eq!(matches!(found, Some(Found::Fresh { .. })), seconds < 160, "the least TTL is the answer's");
            assert_eq!(ttls(&reply), expected, "at {seconds} s");
        }
    }

    #[test]
    fn what_may_not_be_reused_is_not_kept() {
        let cache = Cache::new(Settings::default());
        let question = question("www.example.kz");
        keep(&cache, &question, &Resolution { ttl: 0, ..address(&question) }, at(0));
        assert_eq!(state(&cache, &question, at(0)), "none");
        assert_eq!(cache.statistics().entries, 0);
    }

    #[test]
    fn a_failure_leaves_an_answer_in_its_place_and_rests_for_a_while() {
        let cache = Cache::new(Settings::default());
        let question = question("www.example.kz");
        keep(&cache, &question, &address(&question), at(0));
        let failed = keep(&cache, &question, &failure(&question), at(400));
        assert!(!failed.is_answer());
        let Some(Found::Stale(answer)) = find(&cache, &question, at(400)) else { panic!("not stale") };
        assert!(answer.is_answer());
        assert!(answer.has_failed_lately(at(429)));
        assert!(!answer.has_failed_lately(at(430)));

        let bogus = Resolution { security: Security::Bogus, ..failure(&question) };
        keep(&cache, &question, &bogus, at(440));
        assert_eq!(state(&cache, &question, at(440)), "stale", "what was good is better than what is bogus");
        let off =
            Cache::new(Settings { stale: Stale { window: Duration::ZERO, ..Stale::default() }, ..Settings::default() });
        keep(&off, &question, &address(&question), at(0));
        keep(&off, &question, &failure(&question), at(100));
        assert_eq!(state(&off, &question, at(299)), "fresh");
        keep(&off, &question, &failure(&question), at(300));
        let Some(Found::Fresh { answer, .. }) = find(&off, &question, at(300)) else { panic!("not fresh") };
        assert_eq!(answer.rcode(), Rcode::SERVFAIL);
    }

    #[test]
    fn a_failure_leaves_what_stands_in_for_other_bits() {
        let cache = Cache::new(Settings::default());
        let plain = question("www.example.kz");
        let with_do = Question { dnssec_ok: true, ..plain.clone() };
        keep(&cache, &plain, &address(&plain), at(0));
        for (seconds, expected) in [(280, "fresh"), (400, "stale")] {
            keep(&cache, &with_do, &failure(&with_do), at(seconds));
            for question in [&plain, &with_do] {
                assert_eq!(state(&cache, question, at(seconds)), expected);
                let Some(Found::Fresh { answer, .. } | Found::Stale(answer)) = find(&cache, question, at(seconds))
                else {
                    panic!("{seconds}")
                };
                assert_eq!(answer.rcode(), Rcode::NOERROR);
                assert!(answer.has_failed_lately(at(seconds + 29)));
                assert!(!answer.has_failed_lately(at(seconds + 30)));
            }
        }
        // What cannot stand in is no reason to ask again at once.
        let unvalidated = Question { checking_disabled: true, ..question("b.example.kz") };
        let validated = question("b.example.kz");
        keep(&cache, &unvalidated, &address(&unvalidated), at(0));
        keep(&cache, &validated, &failure(&validated), at(0));
        let Some(Found::Fresh { answer, .. }) = find(&cache, &validated, at(0)) else { panic!("not fresh") };
        assert_eq!(answer.rcode(), Rcode::SERVFAIL);
    }

    #[test]
    fn an_older_answer_does_not_come_back_when_a_newer_one_is_over() {
        let cache = Cache::new(Settings::default());
        let plain = question("www.example.kz");
        let with_do = Question { dnssec_ok: true, ..plain.clone() };
        keep(&cache, &plain, &address(&plain), at(0));
        keep(&cache, &with_do, &Resolution { ttl: 0, ..address(&with_do) }, at(400));
        assert_eq!(state(&cache, &plain, at(400)), "none");
        assert_eq!(state(&cache, &with_do, at(400)), "none");
    }

    #[test]
    fn an_answer_does_for_other_bits_when_it_would_be_the_same() {
        let signed = |question: &Question, security| {
            let mut set = set("a.kz", RecordType::A, &[192, 0, 2, 1]);
            set.signatures = std::iter::once(Box::from([0; 20])).collect();
            Resolution { security, ..resolution(question, Rcode::NOERROR, &[set]) }
        };
        let plain = |question: &Question, security| Resolution { security, ..address(question) };
        let with = |dnssec_ok, checking_disabled| Question { dnssec_ok, checking_disabled, ..question("a.kz") };
        // What is kept, with DO and CD; what is asked; found in time and past it.
        use Security::{Bogus, Indeterminate, Insecure, Secure};
        for (kept, is_signed, security, asked, in_time, past) in [
            ((false, false), false, Insecure, (true, false), true, true),
            ((false, false), false, Indeterminate, (true, false), false, true),
            ((false, false), false, Secure, (true, false), false, false),
            ((true, false), false, Insecure, (false, false), true, true),
            ((true, false), true, Secure, (false, false), false, false),
            ((false, false), false, Secure, (false, true), true, true),
            ((true, false), true, Secure, (true, true), true, true),
            ((true, false), true, Bogus, (true, true), false, false),
            ((false, true), false, Indeterminate, (false, false), false, false),
            ((false, false), false, Insecure, (true, true), true, true),
            ((false, false), true, Insecure, (true, false), false, false),
        ] {
            let cache = Cache::new(Settings::default());
            let question = with(kept.0, kept.1);
            let resolution = if is_signed { signed(&question, security) } else { plain(&question, security) };
            keep(&cache, &question, &resolution, at(0));
            let asked = with(asked.0, asked.1);
            let what = format!("{kept:?} {security:?} for {asked:?}");
            assert_eq!(state(&cache, &asked, at(0)), if in_time { "fresh" } else { "none" }, "{what}");
            assert_eq!(state(&cache, &asked, at(400)), if past { "stale" } else { "none" }, "{what}");
        }
    }

    #[test]
    fn repeated_failures_are_kept_for_longer_and_longer() {
        let cache = Cache::new(Settings::default());
        let question = question("www.example.kz");
        let mut now = 0;
        let lives: Vec<u64> = (0..9)
            .map(|_| {
                keep(&cache, &question, &failure(&question), at(now));
                let from = now;
                while state(&cache, &question, at(now)) == "fresh" {
                    now += 1;
                }
                now - from
            })
            .collect();
        assert_eq!(lives, [5, 5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(state(&cache, &question, at(now)), "none", "a failure is never stale");

        keep(&cache, &question, &failure(&question), at(now + 10_000));
        assert_eq!(state(&cache, &question, at(now + 10_005)), "none", "long ago is forgotten");
    }

    #[test]
    fn in_its_last_tenth_an_answer_wants_to_be_asked_for_again_once() {
        let cache = Cache::new(Settings::default());
        let question = question("www.example.kz");
        keep(&cache, &question, &address(&question), at(0));
        let wants_refresh = |seconds| match find(&cache, &question, at(seconds)) {
            Some(Found::Fresh { wants_refresh, .. }) => wants_refresh,
            other => panic!("{other:?}"),
        };
        assert_eq!([269, 270, 271, 299].map(wants_refresh), [false, true, false, false]);
        keep(&cache, &question, &address(&question), at(280));
        assert_eq!([300, 549, 550, 551].map(wants_refresh), [false, false, true, false], "the next has its own");
        keep(&cache, &question, &failure(&question), at(560));
        assert_eq!(state(&cache, &question, at(560)), "fresh", "a failure does not displace what is good");

        // Who has failed to get the next tries again, but not at once.
        keep(&cache, &question, &Resolution { ttl: 3000, ..address(&question) }, at(600));
        assert_eq!([3299, 3300, 3301].map(wants_refresh), [false, true, false]);
        keep(&cache, &question, &failure(&question), at(3310));
        assert_eq!([3311, 3339, 3340, 3341].map(wants_refresh), [false, false, true, false]);
    }

    #[test]
    fn a_flush_takes_a_name_or_all_below_it() {
        let cache = Cache::new(Settings::default());
        for name in ["example.kz", "www.example.kz", "a.b.example.kz", "badexample.kz", "kz"] {
            let asked = question(name);
            keep(&cache, &asked, &address(&asked), at(0));
            let asked = Question { dnssec_ok: true, ..asked };
            keep(&cache, &asked, &address(&asked), at(0));
        }
        let name: crate::name::DomainName = "example.kz".parse().unwrap();
        assert_eq!(cache.flush(&name, false), 2);
        assert_eq!(state(&cache, &question("example.kz"), at(0)), "none");
        assert_eq!(state(&cache, &question("www.example.kz"), at(0)), "fresh");
        assert_eq!(cache.flush(&name, true), 4);
        assert_eq!(state(&cache, &question("badexample.kz"), at(0)), "fresh");
        assert_eq!(cache.statistics().entries, 4);
    }

    #[test]
    fn what_there_is_room_for_stays() {
        let cache = Cache::new(Settings::default());
        let name = |index: usize| question(&format!("name{index}.example.kz"));
        (0..20_000).for_each(|index| drop(keep(&cache, &name(index), &address(&name(index)), at(1))));
        let there = (0..20_000).filter(|index| state(&cache, &name(*index), at(1)) == "fresh").count() as u64;
        let Statistics { entries, evictions, .. } = cache.statistics();
        assert_eq!((entries, evictions), (there, 20_000 - there));
        // By an accident of hashes too many may come to the same place.
        assert!(evictions <= 2, "{evictions}");
    }

    #[test]
    fn a_typical_answer_takes_no_more_than_128_octets() {
        let cache = Cache::new(Settings::default());
        let question = question("www.some-example.kz");
        keep(&cache, &question, &address(&question), at(0));
        let Statistics { entries, bytes, .. } = cache.statistics();
        assert_eq!(entries, 1);
        assert!(bytes <= 128, "{bytes}");
    }

    #[test]
    fn a_scan_does_not_wash_out_what_is_asked_for_again() {
        let max_bytes = 2 << 20;
        let cache = Cache::new(Settings { max_bytes, ..Settings::default() });
        let popular: Vec<Question> = (0..500).map(|i| question(&format!("popular{i}.kz"))).collect();
        let mut kept = 0;
        let mut ask = |asked: &Question| {
            if find(&cache, asked, at(1)).is_none() {
                keep(&cache, asked, &address(asked), at(1));
                kept += 1;
            }
        };
        for _ in 0..3 {
            popular.iter().for_each(&mut ask);
        }
        // More than ten times what the cache holds.
        for i in 0..120_000 {
            ask(&question(&format!("scan{i}.example.kz")));
        }
        let left = popular.iter().filter(|asked| state(&cache, asked, at(1)) == "fresh").count();
        assert!(left >= 475, "{left} of 500 are left");
        let Statistics { entries, bytes, evictions } = cache.statistics();
        assert!(entries < 20_000, "{entries}");
        assert!(bytes <= max_bytes, "{bytes}");
        assert!(bytes > max_bytes / 2, "{bytes}");
        assert_eq!(entries + evictions, kept, "nothing is lost unseen");
    }

    proptest! {
        #[test]
        fn any_bytes_are_kept_or_refused(
            octets in proptest::collection::vec(any::<u8>(), 0..200),
            counts in proptest::array::uniform3(0..3u8),
        ) {
            let cache = Cache::new(Settings::default());
            let asked = question("a.kz");
            let mut message = address(&asked).message;
            let answered = Resolution { message: octets.clone(), ..address(&asked) };
            let _ = cache.keep(Key::from(&asked), &answered, at(0));
            // The same behind a good question.
            message.truncate(HEADER_LEN + wire_name("a.kz").len() + 4);
            message.extend(octets);
            [message[7], message[9], message[11]] = counts;
            let answered = Resolution { message, ..answered };
            if let Ok(entry) = cache.keep(Key::from(&asked), &answered, at(0)) {
                let mut reply = begun(&asked);
                entry.put(&mut reply);
                ttls(&reply);
            }
        }
    }
}
