//! What the world said, in wire form, until its time is over.
//!
//! The cache lies below the filter: it knows nothing of lists, and each hit is
//! judged by the policy of the moment. It is bounded in octets. Room is made by
//! [`quick_cache`]'s relative of S3-FIFO and Clock-PRO: what is asked for once
//! leaves before what is asked for again, so that a scan of random names does
//! not wash out the rest. A look-up takes the read lock of one shard among many
//! for the time of a hash probe, and copies nothing.

mod entry;

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ahash::RandomState;
use quick_cache::sync::Cache as Table;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use crate::clock::Now;
use crate::name::Name;
use crate::query::{Question, RecordType};
use crate::recursor::Resolution;
use crate::wire::Malformed;

pub use entry::{Entry, Lifetime};

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

/// The name says by itself where it ends.
impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.name.as_wire());
        let bits = u32::from(self.dnssec_ok) << 1 | u32::from(self.checking_disabled);
        state.write_u32(u32::from(self.qtype.0) << 16 | bits);
    }
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
}

/// An answer that the cache has.
#[derive(Debug)]
pub enum Found {
    /// Its time is not over.
    Fresh {
        /// The answer.
        entry: Entry,
        /// It is in demand and its time is nearly over: ask for the next. Only one caller is told so.
        wants_refresh: bool,
    },
    /// Its time is over, and it may still do when there is nothing better.
    Stale(Entry),
}

/// Answers by question. Shared by all threads.
pub struct Cache {
    settings: Settings,
    hasher: RandomState,
    /// Filed under a keyed hash of the question, which each entry then confirms.
    table: Table<u64, Entry, Footprint, AsItIs, CountEvictions>,
    evictions: Arc<AtomicU64>,
}

impl Cache {
    /// An empty cache. Takes its memory as it fills.
    pub fn new(settings: Settings) -> Self {
        const TYPICAL_ENTRY: u64 = 256;
        let evictions = Arc::new(AtomicU64::new(0));
        let options = OptionsBuilder::new()
            .shards(64)
            .estimated_items_capacity((settings.max_bytes / TYPICAL_ENTRY) as usize)
            .weight_capacity(settings.max_bytes)
            .ghost_allocation(0.25)
            .build()
            .expect("both capacities are given");
        let table = Table::with_options(options, Footprint, AsItIs(0), CountEvictions(evictions.clone()));
        Self { settings, hasher: RandomState::new(), table, evictions }
    }

    /// What it was told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The answer to the question of `key`, unless there is none or its time is long over.
    ///
    /// One that was kept for other DO and CD bits is taken when it does as well.
    pub fn find(&self, key: Key<'_>, now: Now) -> Option<Found> {
        let own = self.probe(key, now);
        if let Some(Found::Fresh { .. }) = own {
            return own;
        }
        let mut stale = own;
        for other in key.others() {
            match self.probe(other, now) {
                Some(Found::Fresh { entry, wants_refresh }) if entry.stands_in_for(key, false) => {
                    return Some(Found::Fresh { entry, wants_refresh });
                }
                Some(Found::Stale(entry)) if stale.is_none() && entry.stands_in_for(key, true) => {
                    stale = Some(Found::Stale(entry));
                }
                _ => {}
            }
        }
        stale
    }

    /// What is filed under exactly this key.
    fn probe(&self, key: Key<'_>, now: Now) -> Option<Found> {
        let entry = self.table.get(&self.hasher.hash_one(key)).filter(|entry| entry.is_for(key))?;
        if entry.is_fresh(now) {
            let wants_refresh = self.settings.prefetch && entry.wants_refresh(now);
            return Some(Found::Fresh { entry, wants_refresh });
        }
        self.may_serve_stale(&entry, now).then_some(Found::Stale(entry))
    }

    /// A failure is not served past its time.
    fn may_serve_stale(&self, entry: &Entry, now: Now) -> bool {
        entry.is_answer() && u64::from(entry.overdue(now)) < self.settings.stale.window.as_secs()
    }

    /// Whether an answer stays in its place when asking again has failed.
    fn outlives_failure(&self, entry: &Entry, now: Now) -> bool {
        entry.is_answer() && entry.is_fresh(now) || self.may_serve_stale(entry, now)
    }

    /// Files what the world said, and returns it in the form in which it is sent out.
    ///
    /// A failure, of validation too, does not displace an answer that may be served past its time: that is what it is
    /// kept for.
    ///
    /// # Errors
    ///
    /// When the message is not one, or not about that question; nothing changes then.
    pub fn keep(&self, key: Key<'_>, resolution: &Resolution, now: Now) -> Result<Entry, Malformed> {
        let hash = self.hasher.hash_one(key);
        let before = self.table.peek(&hash).filter(|entry| entry.is_for(key));
        let failed = !entry::is_answer(resolution.rcode);
        let failures = match &before {
            _ if !failed => 0,
            // Failures long past do not count against a name.
            Some(entry) if entry.overdue(now) <= 2 * entry.ttl() => entry.failures().saturating_add(1),
            _ => 1,
        };
        let entry = Entry::new(key, resolution, &self.settings, failures, now)?;
        if !failed {
            self.forget_older(key, now);
        }
        match before {
            Some(before) if failed && self.outlives_failure(&before, now) => {
                before.refresh_failed(now.seconds() + self.settings.stale.recheck.as_secs() as u32);
            }
            _ if entry.ttl() > 0 => self.table.insert(hash, entry.clone()),
            _ => {
                self.table.remove(&hash);
            }
        }
        Ok(entry)
    }

    /// Forgets what could stand in for a new answer but is past its time: it would be served when the new one is over.
    fn forget_older(&self, key: Key<'_>, now: Now) {
        for other in key.others() {
            let hash = self.hasher.hash_one(other);
            let older = self.table.peek(&hash).filter(|entry| entry.is_for(other));
            if older.is_some_and(|entry| !entry.is_fresh(now) && entry.stands_in_for(key, true)) {
                self.table.remove(&hash);
            }
        }
    }

    /// Forgets what it has of `name`, with `below` also of all names below it, and says how many answers that were.
    ///
    /// Looks at every entry, shard by shard.
    pub fn flush(&self, name: &Name, below: bool) -> usize {
        let flushed = AtomicUsize::new(0);
        self.table.retain(|_, entry| {
            let keep = !entry.is_about(name, below);
            flushed.fetch_add(usize::from(!keep), Ordering::Relaxed);
            keep
        });
        flushed.into_inner()
    }

    /// How full it is.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            entries: self.table.len() as u64,
            bytes: self.table.weight(),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("settings", &self.settings).field("statistics", &self.statistics()).finish()
    }
}

#[derive(Clone)]
struct Footprint;

impl Weighter<u64, Entry> for Footprint {
    fn weight(&self, _: &u64, entry: &Entry) -> u64 {
        entry.footprint()
    }
}

#[derive(Clone)]
struct CountEvictions(Arc<AtomicU64>);

impl Lifecycle<u64, Entry> for CountEvictions {
    type RequestState = ();

    /// Not `on_evict`, which is also called when a newer answer to the same question comes in.
    fn before_evict(&self, (): &mut (), _: &u64, _: &mut Entry) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The keys are hashes already.
#[derive(Clone, Default)]
struct AsItIs(u64);

impl BuildHasher for AsItIs {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for AsItIs {
    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.0 = self.0.rotate_left(8) ^ u64::from(*octet));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{address, failure, resolution, set, wire_name};
    use crate::query::Rcode;
    use crate::recursor::Security;
    use crate::wire::HEADER_LEN;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Now {
        Now { elapsed: Duration::from_secs(seconds), wall: seconds }
    }

    fn question(name: &str) -> Question {
        Question::new(&name.parse::<crate::name::DomainName>().unwrap(), RecordType::A)
    }

    /// What a look-up finds: nothing, what is fresh, or what is stale.
    fn state(cache: &Cache, question: &Question, now: Now) -> &'static str {
        match cache.find(Key::from(question), now) {
            Some(Found::Fresh { .. }) => "fresh",
            Some(Found::Stale(_)) => "stale",
            None => "none",
        }
    }

    fn keep(cache: &Cache, question: &Question, resolution: &Resolution, now: Now) -> Entry {
        cache.keep(Key::from(question), resolution, now).unwrap()
    }

    /// The TTLs that an entry is sent out with.
    fn ttls(entry: &Entry, question: &Question, lifetime: Lifetime) -> Vec<u32> {
        let mut reply = vec![0; HEADER_LEN];
        reply.extend(question.name.as_wire());
        reply.extend([0, 1, 0, 1]);
        entry.write_records(&mut reply, lifetime);
        let header = crate::wire::Header { id: 0, flags: 0, counts: entry.counts() };
        crate::wire::records(&reply, header).map(|record| record.unwrap().ttl).collect()
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
        let entry = keep(&cache, &question, &resolution(&question, Rcode::NOERROR, &sets), at(0));
        assert_eq!(ttls(&entry, &question, Lifetime::After(0)), [60, 300, 3600]);
        assert_eq!(ttls(&entry, &question, Lifetime::After(59)), [1, 241, 3541]);
        assert_eq!(ttls(&entry, &question, Lifetime::After(100)), [0, 200, 3500]);
        assert_eq!(ttls(&entry, &question, Lifetime::Stale(30)), [30, 30, 30]);
        assert_eq!(state(&cache, &question, at(59)), "fresh", "the least TTL is the answer's");
        assert_eq!(state(&cache, &question, at(60)), "stale");
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
        let Some(Found::Stale(entry)) = cache.find(Key::from(&question), at(400)) else { panic!("not stale") };
        assert!(entry.is_answer());
        assert!(entry.has_failed_lately(at(429)));
        assert!(!entry.has_failed_lately(at(430)));

        let bogus = Resolution { security: Security::Bogus, ..failure(&question) };
        keep(&cache, &question, &bogus, at(440));
        assert_eq!(state(&cache, &question, at(440)), "stale", "what was good is better than what is bogus");
        let off =
            Cache::new(Settings { stale: Stale { window: Duration::ZERO, ..Stale::default() }, ..Settings::default() });
        keep(&off, &question, &address(&question), at(0));
        keep(&off, &question, &failure(&question), at(100));
        assert_eq!(state(&off, &question, at(299)), "fresh");
        keep(&off, &question, &failure(&question), at(300));
        let Some(Found::Fresh { entry, .. }) = off.find(Key::from(&question), at(300)) else { panic!("not fresh") };
        assert_eq!(entry.rcode(), Rcode::SERVFAIL);
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
        let wants_refresh = |seconds| match cache.find(Key::from(&question), at(seconds)) {
            Some(Found::Fresh { wants_refresh, .. }) => wants_refresh,
            other => panic!("{other:?}"),
        };
        assert_eq!([269, 270, 271, 299].map(wants_refresh), [false, true, false, false]);
        keep(&cache, &question, &address(&question), at(280));
        assert_eq!([300, 549, 550, 551].map(wants_refresh), [false, false, true, false], "the next has its own");
        keep(&cache, &question, &failure(&question), at(560));
        assert_eq!(state(&cache, &question, at(560)), "fresh", "a failure does not displace what is good");
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
    fn a_typical_answer_takes_no_more_than_250_octets() {
        let cache = Cache::new(Settings::default());
        let question = question("www.some-example.kz");
        keep(&cache, &question, &address(&question), at(0));
        let Statistics { entries, bytes, .. } = cache.statistics();
        assert_eq!(entries, 1);
        assert!(bytes <= 250, "{bytes}");
    }

    #[test]
    fn a_scan_does_not_wash_out_what_is_asked_for_again() {
        let max_bytes = 2 << 20;
        let cache = Cache::new(Settings { max_bytes, ..Settings::default() });
        let popular: Vec<Question> = (0..500).map(|i| question(&format!("popular{i}.kz"))).collect();
        let mut kept = 0;
        let mut ask = |asked: &Question| {
            if cache.find(Key::from(asked), at(1)).is_none() {
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
        assert!(entries < 12_000, "{entries}");
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
                ttls(&entry, &asked, Lifetime::After(5));
            }
        }
    }
}
