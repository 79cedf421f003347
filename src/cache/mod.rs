//! What the world said, in wire form, until its time is over.
//!
//! The cache lies below the filter: it knows nothing of lists, and each hit is
//! judged by the policy of the moment. It is bounded in octets. Room is made by
//! [`quick_cache`]'s relative of S3-FIFO and Clock-PRO: what is asked for once
//! leaves before what is asked for again, so that a scan of random names does
//! not wash out the rest. A look-up takes the read lock of one shard among many
//! for the time of a hash probe, and copies nothing.

mod entry;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ahash::RandomState;
use quick_cache::sync::Cache as Table;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use crate::clock::Now;
use crate::name::Name;
use crate::query::{Question, RecordType};
use crate::recursor::{Resolution, Security};
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
#[derive(Debug, Clone, Copy, Hash)]
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

/// An answer that the cache has.
#[derive(Debug)]
pub enum Found {
    /// Its time is not over.
    Fresh {
        /// The answer.
        entry: Arc<Entry>,
        /// It is in demand and its time is nearly over: ask for the next. Only one caller is told so.
        wants_refresh: bool,
    },
    /// Its time is over, and it may still do when there is nothing better.
    Stale(Arc<Entry>),
}

/// Answers by question. Shared by all threads.
pub struct Cache {
    settings: Settings,
    hasher: RandomState,
    /// Filed under a keyed hash of the question, which each entry then confirms.
    table: Table<u64, Arc<Entry>, Footprint, AsItIs, CountEvictions>,
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
    pub fn find(&self, key: Key<'_>, now: Now) -> Option<Found> {
        let entry = self.table.get(&self.hasher.hash_one(key)).filter(|entry| entry.is_for(key))?;
        if entry.is_fresh(now) {
            let wants_refresh = self.settings.prefetch && entry.wants_refresh(now);
            return Some(Found::Fresh { entry, wants_refresh });
        }
        self.may_serve_stale(&entry, now).then_some(Found::Stale(entry))
    }

    /// A failure is not served past its time, nor is what failed validation.
    fn may_serve_stale(&self, entry: &Entry, now: Now) -> bool {
        entry.is_answer()
            && entry.security() != Security::Bogus
            && u64::from(entry.overdue(now)) < self.settings.stale.window.as_secs()
    }

    /// Whether an answer stays in its place when asking again has ended in `failure`.
    fn outlives(&self, entry: &Entry, failure: &Resolution, now: Now) -> bool {
        let in_time = entry.is_answer() && entry.is_fresh(now);
        in_time || failure.security != Security::Bogus && self.may_serve_stale(entry, now)
    }

    /// Files what the world said, and returns it in the form in which it is sent out.
    ///
    /// A failure does not displace an answer that may be served past its time: that is what it is kept for. What is
    /// bogus does, since the answer may have become what the signatures no longer cover.
    ///
    /// # Errors
    ///
    /// When the message is not one, or not about that question; nothing changes then.
    pub fn keep(&self, key: Key<'_>, resolution: &Resolution, now: Now) -> Result<Arc<Entry>, Malformed> {
        let hash = self.hasher.hash_one(key);
        let before = self.table.peek(&hash).filter(|entry| entry.is_for(key));
        let failed = !entry::is_answer(resolution.rcode);
        let failures = match &before {
            _ if !failed => 0,
            // Failures long past do not count against a name.
            Some(entry) if entry.overdue(now) <= 2 * entry.ttl() => entry.failures().saturating_add(1),
            _ => 1,
        };
        let entry = Arc::new(Entry::new(key, resolution, &self.settings, failures, now)?);
        match before {
            Some(before) if failed && self.outlives(&before, resolution, now) => {
                before.refresh_failed(now.seconds() + self.settings.stale.recheck.as_secs() as u32);
            }
            _ if entry.ttl() > 0 => self.table.insert(hash, entry.clone()),
            _ => {
                self.table.remove(&hash);
            }
        }
        Ok(entry)
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

impl Weighter<u64, Arc<Entry>> for Footprint {
    fn weight(&self, _: &u64, entry: &Arc<Entry>) -> u64 {
        entry.footprint()
    }
}

#[derive(Clone)]
struct CountEvictions(Arc<AtomicU64>);

impl Lifecycle<u64, Arc<Entry>> for CountEvictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: u64, _: Arc<Entry>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The keys are hashes already.
#[derive(Clone, Default)]
struct AsItIs(u64);

impl std::hash::BuildHasher for AsItIs {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl std::hash::Hasher for AsItIs {
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
