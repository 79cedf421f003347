//! Where entries lie: rings of memory, and an index that says what is where.
//!
//! Readers take no lock, so they never wait, whoever else reads or writes: [`Spot::read`] looks at an entry in its
//! place, and then whether it was that entry all the while. What it writes is that an entry was asked for, three times
//! at most, so that processors do not pass the lines of popular ones to and fro. Whoever changes something holds the
//! lock of one shard of many. All memory is atomic words: who comes too late reads nonsense, and throws it away.
//!
//! What leaves to make room is decided as in S3-FIFO ("FIFO queues are all you need for cache eviction", Yang and
//! others, SOSP 2023). A new entry goes into a small ring. When it is the oldest there it moves on into the main ring if
//! it has been asked for again; otherwise it leaves, and only a ghost of it stays, by which it goes straight into the main
//! ring should it come again soon. So a scan of names that are asked for once passes through the small ring alone. In
//! the main ring what has been asked for meanwhile begins again as the newest. As long as the main ring is not full,
//! everything moves on into it.
//!
//! The index grows a bucket at a time (linear hashing, Litwin, 1980), and memory that has never been used is not taken
//! from the system: a cache takes what it holds.

use std::alloc::{Layout, handle_alloc_error};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use prefetch_index::prefetch_index;
use zerocopy::FromZeros;

use super::Statistics;

/// What an entry is filed under: a keyed hash of the question, and which of the entries for it this is, 0 to 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) hash: u64,
    pub(super) variant: u8,
}

/// Where entries of a hash are looked for.
#[derive(Clone, Copy)]
pub(super) struct Spot<'t> {
    hash: u64,
    shard: &'t Shard,
    bucket: &'t [AtomicU64],
}

/// An entry that was there when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    hash: u64,
    slot: Slot,
}

impl Place {
    /// That of no entry.
    pub(super) const NONE: Self = Self { hash: 0, slot: Slot::EMPTY };
}

/// The words of an entry, lent by the table. The first one is the table's own.
pub(super) type Words = [AtomicU64];

/// Entries in words, filed under [`Id`]s, and bounded in octets.
pub(super) struct Table {
    shards: Box<[Shard]>,
}

/// What entries lie in; the places of words count in it.
const UNIT: usize = 2;
/// Octets of a unit.
const UNIT_LEN: usize = UNIT * size_of::<u64>();
/// The most units of an entry: more than the longest message takes.
const MOST_UNITS: usize = u16::MAX as usize;
/// Slots of a bucket, as many as fill two lines of the processor's cache. The first is enough for most look-ups.
const SLOTS: usize = 16;
/// Entries for each bucket of a full table, on average. What a bucket has no room for leaves.
const CROWD: usize = 8;
/// Entries for each bucket at which another is added. Those that have not been divided yet have twice as many, and as
/// good as none of them overflows.
const DIVIDE: usize = 2;
/// Octets of a typical entry, by which memory is divided into rings and index.
const TYPICAL_LEN: usize = 112;
/// The parts of the rings of which one is the small one's.
const SMALL_SHARE: usize = 10;
/// Octets of a bucket of the index, with its share of ghosts, and of the entries that it is for.
const BUCKET_LEN: usize = SLOTS * size_of::<u64>() + CROWD * size_of::<u32>();
const FULL_BUCKET_LEN: usize = BUCKET_LEN + CROWD * TYPICAL_LEN;
/// The most memory of a shard, and what most have about: its index grows to a power of two, and this fills one.
const SHARD_LEN: u64 = (FULL_BUCKET_LEN as u64) << 14;
/// The most shards. Each takes time at the start; those of larger tables are larger.
const MOST_SHARDS: u64 = 256;
/// How many entries of the main ring begin again at most to make room for one: others wait meanwhile.
const MOST_SPARED: usize = 256;

impl Table {
    /// An empty table of at most `max_bytes`.
    pub(super) fn new(max_bytes: u64) -> Self {
        let shards = shards(max_bytes);
        Self { shards: (0..shards).map(|_| Shard::new((max_bytes / shards) as usize)).collect() }
    }

    fn shard(&self, hash: u64) -> &Shard {
        // The highest bits; lower ones choose the bucket.
        &self.shards[((u128::from(hash) * self.shards.len() as u128) >> 64) as usize]
    }

    /// Where entries of this hash are looked for.
    #[inline]
    pub(super) fn spot(&self, hash: u64) -> Spot<'_> {
        let shard = self.shard(hash);
        Spot { hash, shard, bucket: shard.bucket(hash) }
    }

    /// Files `entry` under `id` in place of what is there. The first word is for the table to fill.
    ///
    /// Makes room for it; what is `useless` goes without regard for how often it was asked for. An entry that is too
    /// large for the table is not kept.
    pub(super) fn insert(&self, id: Id, entry: &[u64], useless: impl Fn(&Words) -> bool) {
        self.shard(id.hash).insert(id, entry, &useless);
    }

    /// Removes the entries of `id` that are `meant`.
    pub(super) fn remove(&self, id: Id, meant: impl Fn(&Words) -> bool) {
        self.shard(id.hash).remove(id, meant);
    }

    /// Lets `look` look at the entry of `id`, or change it. That is not what counts as being asked for.
    pub(super) fn visit<T>(&self, id: Id, look: impl FnOnce(&Words) -> T) -> Option<T> {
        self.shard(id.hash).visit(id, look)
    }

    /// Lets `change` change the entry at `place`, if it is still there.
    pub(super) fn update<T>(&self, place: Place, change: impl FnOnce(&Words) -> T) -> Option<T> {
        if place == Place::NONE { None } else { self.shard(place.hash).update(place, change) }
    }

    /// Removes all entries that are `meant`, and says how many. Looks at every entry, a few at a time.
    pub(super) fn remove_all(&self, meant: impl Fn(&Words) -> bool) -> usize {
        self.shards.iter().map(|shard| shard.remove_all(&meant)).sum()
    }

    /// How full it is.
    pub(super) fn statistics(&self) -> Statistics {
        let mut sum = Statistics::default();
        for shard in &self.shards {
            let Statistics { entries, bytes, evictions } = shard.rings.lock().statistics;
            sum.entries += entries;
            sum.bytes += bytes;
            sum.evictions += evictions;
        }
        sum
    }
}

impl<'t> Spot<'t> {
    /// Lets `look` look at the entries of this variant, until it finds in one what it looks for. Allocates nothing.
    ///
    /// While it looks, an entry may be overwritten by another one; what it finds then is thrown away, and it is as if
    /// the entry were not there.
    #[inline(always)]
    pub(super) fn read<T>(self, variant: u8, mut look: impl FnMut(&Words) -> Option<T>) -> Option<(T, Place)> {
        let tag = Slot::tag(Id { hash: self.hash, variant });
        let mut bucket = self.bucket;
        loop {
            for cell in bucket {
                let slot = Slot(cell.load(Ordering::Acquire));
                if !slot.has(tag) {
                    continue;
                }
                let found = look(self.shard.words(slot));
                // What was read was there only if the slot says so now: whoever overwrites an entry clears its slot
                // first.
                fence(Ordering::Acquire);
                let now = Slot(cell.load(Ordering::Acquire));
                if let Some(found) = found.filter(|_| now.is_same_as(slot)) {
                    if now.times() < 3 {
                        // Who loses against another reader or the writer need not try again.
                        let more = now.0 + Slot::ONCE;
                        let _ = cell.compare_exchange(now.0, more, Ordering::Relaxed, Ordering::Relaxed);
                    }
                    return Some((found, Place { hash: self.hash, slot }));
                }
            }
            bucket = self.successor(bucket)?;
        }
    }

    /// Whether there may be an entry.
    pub(super) fn has_any(self) -> bool {
        let mut bucket = Some(self.bucket);
        while let Some(searched) = bucket {
            if searched.iter().any(|cell| self.shows(cell).is_some()) {
                return true;
            }
            bucket = self.successor(searched);
        }
        false
    }

    /// Where entries are looked for now, if `bucket` has been divided since. Who has seen a slot gone for that sees so.
    #[inline]
    fn successor(self, bucket: &[AtomicU64]) -> Option<&'t [AtomicU64]> {
        Some(self.shard.bucket(self.hash)).filter(|now| !std::ptr::eq(*now, bucket))
    }

    /// The entry that a cell shows, if it may be of this hash.
    #[inline]
    fn shows(self, cell: &AtomicU64) -> Option<&'t Words> {
        let slot = Slot(cell.load(Ordering::Acquire));
        let tag = Slot::tag(Id { hash: self.hash, variant: 0 });
        slot.without_variant().has(tag).then(|| self.shard.words(slot))
    }

    /// Has memory fetch what tells where entries are.
    #[inline]
    pub(super) fn fetch_ahead(self) {
        prefetch_index(self.bucket, 0);
    }

    /// Has memory fetch an entry. To be called when the other [has been fetched](Self::fetch_ahead).
    #[inline]
    pub(super) fn fetch_entry_ahead(self) {
        if let Some(words) = self.bucket.iter().find_map(|cell| self.shows(cell)) {
            // Most entries lie in two lines.
            prefetch_index(words, 0);
            prefetch_index(words, 8);
        }
    }
}

impl std::fmt::Debug for Spot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Spot").field(&self.hash).finish()
    }
}

/// Words that are zero until they are written.
struct Memory {
    words: Box<[AtomicU64]>,
    /// The first that begins a line of the processor's cache.
    first: usize,
}

impl Memory {
    /// As large as `len` words; the system gives memory when they are written.
    fn new(len: usize) -> Self {
        const LINE: usize = 64;
        let len = len + LINE / size_of::<u64>();
        // As `Vec` does when there is no memory.
        let no_memory = |_| handle_alloc_error(Layout::array::<u64>(len).unwrap_or(Layout::new::<u64>()));
        let words = <[AtomicU64]>::new_box_zeroed_with_elems(len).unwrap_or_else(no_memory);
        let first = words.as_ptr().align_offset(LINE).min(LINE / size_of::<u64>());
        Self { words, first }
    }

    /// The words from this one on, counted from the beginning of a line.
    #[inline]
    fn from(&self, word: usize) -> &[AtomicU64] {
        self.words.get(self.first + word..).unwrap_or(&[])
    }
}

/// What an index says about an entry; zero: nothing.
///
/// | bits | |
/// |---|---|
/// | 0 to 27 | the unit where it begins |
/// | 28 to 38 | how many entries had been filed before, modulo 2,048 |
/// | 39, 40 | how often it has been asked for, up to three times |
/// | 41, 42 | the variant |
/// | 43 to 62 | a part of the hash |
/// | 63 | one |
///
/// The number tells an entry from another that has come to its unit. They would be taken for each other by a reader that
/// has slept while exactly 2,048 more have been filed, or a multiple of that, and the last of them to answer the same
/// question and at the same unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(u64);

impl Slot {
    const EMPTY: Self = Self(0);
    const MOST_UNITS: usize = 1 << 28;
    const NUMBER_AT: u32 = 28;
    const NUMBERS: u64 = 1 << 11;
    const ONCE: u64 = 1 << 39;
    const TIMES: u64 = 3 * Self::ONCE;
    const VARIANT_AT: u32 = 41;
    const TAG: u64 = !((1 << Self::VARIANT_AT) - 1);

    /// What slots for `id` have alike.
    #[inline]
    fn tag(id: Id) -> u64 {
        const PRESENT: u64 = 1 << 63;
        PRESENT | id.hash >> 44 << 43 | u64::from(id.variant & 3) << Self::VARIANT_AT
    }

    fn new(tag: u64, times: u64, number: u64, unit: usize) -> Self {
        let number = number % Self::NUMBERS;
        Self(tag | (times * Self::ONCE) | number << Self::NUMBER_AT | unit as u64)
    }

    #[inline]
    fn unit(self) -> usize {
        (self.0 & ((1 << Self::NUMBER_AT) - 1)) as usize
    }

    #[inline]
    fn has(self, tag: u64) -> bool {
        self.0 & Self::TAG == tag
    }

    fn without_variant(self) -> Self {
        Self(self.0 & !(3 << Self::VARIANT_AT))
    }

    fn times(self) -> u64 {
        (self.0 & Self::TIMES) / Self::ONCE
    }

    /// Whether both are about the same entry.
    #[inline]
    fn is_same_as(self, other: Self) -> bool {
        (self.0 ^ other.0) & !Self::TIMES == 0
    }
}

/// How many shards a table of at most so many octets has.
fn shards(max_bytes: u64) -> u64 {
    let most = SHARD_LEN * max_bytes.div_ceil(SHARD_LEN * MOST_SHARDS).next_power_of_two();
    max_bytes.div_ceil(most).max(1)
}

/// What an entry of so many units takes, in octets, its share of the index included.
fn account(units: usize) -> u64 {
    (UNIT_LEN * units + SLOTS / CROWD * size_of::<AtomicU64>()) as u64
}

/// A part of the table with a lock of its own.
struct Shard {
    index: Memory,
    /// How many buckets are in use.
    buckets: AtomicUsize,
    most_buckets: usize,
    arena: Memory,
    rings: Mutex<Rings>,
}

/// What changes under the lock.
struct Rings {
    small: Ring,
    main: Ring,
    /// What is left of entries that have left the small ring, where hashes choose; zero: nothing.
    ghosts: Box<[u32]>,
    /// How many entries have been filed.
    filed: u64,
    statistics: Statistics,
}

/// A part of the arena, in which entries lie in the order in which they came. In units.
struct Ring {
    first: usize,
    capacity: usize,
    /// Where the next goes.
    head: usize,
    used: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Small,
    Main,
}

impl Ring {
    fn new(first: usize, capacity: usize) -> Self {
        Self { first, capacity, head: 0, used: 0 }
    }

    fn oldest(&self) -> Option<usize> {
        (self.used > 0).then(|| self.first + (self.head + self.capacity - self.used) % self.capacity)
    }

    /// How many units stay empty at the end if so many are to lie together, when there is room for both.
    fn gap_before(&self, units: usize) -> Option<usize> {
        let gap = if self.head + units > self.capacity { self.capacity - self.head } else { 0 };
        (self.used + gap + units <= self.capacity).then_some(gap)
    }

    /// Takes the next units, and says where they begin.
    fn take(&mut self, units: usize) -> usize {
        let taken = self.first + self.head;
        self.head = (self.head + units) % self.capacity;
        self.used += units;
        taken
    }

    fn give_back(&mut self, units: usize) {
        self.used = self.used.saturating_sub(units);
        if self.used == 0 {
            self.head = 0;
        }
    }
}

impl Rings {
    fn ring(&mut self, which: Which) -> &mut Ring {
        match which {
            Which::Small => &mut self.small,
            Which::Main => &mut self.main,
        }
    }

    /// Takes account of an entry of so many units that is no longer there.
    fn left(&mut self, units: usize) {
        self.statistics.entries = self.statistics.entries.saturating_sub(1);
        self.statistics.bytes = self.statistics.bytes.saturating_sub(account(units));
    }

    /// Where a ghost of this hash is or may be put, and what it is.
    fn ghost(&mut self, hash: u64) -> (&mut u32, u32) {
        let at = (hash >> 16) as u32;
        let cell = (u64::from(at) * self.ghosts.len() as u64) >> 32;
        (&mut self.ghosts[cell as usize], at.reverse_bits() | 1)
    }
}

/// The first word of an entry: what is needed of its hash to find its slot, and how many units it has.
fn first_word(hash: u64, units: usize) -> u64 {
    hash & !0xffff | units as u64
}

/// Which of so many buckets is for a hash: one of the next smaller power of two, as long as its bucket has not come.
#[inline]
fn bucket_of(hash: u64, buckets: usize) -> usize {
    let all = buckets.next_power_of_two();
    let bucket = (hash >> 16) as usize & (all - 1);
    if bucket < buckets { bucket } else { bucket & (all / 2 - 1) }
}

/// The hash and the number of units in the first word of an entry.
fn read_first_word(word: u64) -> (u64, usize) {
    (word & !0xffff, (word & 0xffff) as usize)
}

impl Shard {
    fn new(bytes: usize) -> Self {
        let most_buckets = (bytes / FULL_BUCKET_LEN).next_power_of_two();
        let units = (bytes.saturating_sub(most_buckets * BUCKET_LEN) / UNIT_LEN).min(Slot::MOST_UNITS);
        let small = units / SMALL_SHARE;
        Self {
            index: Memory::new(SLOTS * most_buckets),
            buckets: AtomicUsize::new(1),
            most_buckets,
            arena: Memory::new(UNIT * units),
            rings: Mutex::new(Rings {
                small: Ring::new(0, small),
                main: Ring::new(small, units - small),
                ghosts: vec![0; CROWD * most_buckets].into(),
                filed: 0,
                statistics: Statistics::default(),
            }),
        }
    }

    #[inline]
    fn bucket(&self, hash: u64) -> &[AtomicU64] {
        self.bucket_at(bucket_of(hash, self.buckets.load(Ordering::Acquire)))
    }

    #[inline]
    fn bucket_at(&self, bucket: usize) -> &[AtomicU64] {
        self.index.from(SLOTS * bucket).get(..SLOTS).unwrap_or(&[])
    }

    /// The words from the beginning of an entry to the end of memory.
    #[inline]
    fn words(&self, slot: Slot) -> &[AtomicU64] {
        self.arena.from(UNIT * slot.unit())
    }

    fn insert(&self, id: Id, entry: &[u64], useless: &dyn Fn(&Words) -> bool) {
        let mut rings = self.rings.lock();
        let known = self.filed(id);
        if let Some((cell, _)) = known {
            self.take_out(&mut rings, cell);
        }
        let (cell, ghost) = rings.ghost(id.hash);
        let is_back = *cell == ghost;
        if is_back {
            *cell = 0;
        }
        let units = entry.len().div_ceil(UNIT);
        let which = match known {
            // What comes again in its time stays where it was.
            Some((_, old)) if old.unit() >= rings.main.first => Which::Main,
            _ if is_back || units > rings.small.capacity => Which::Main,
            _ => Which::Small,
        };
        if units > MOST_UNITS.min(rings.main.capacity) {
            return;
        }
        let mut spared = MOST_SPARED;
        let Some(unit) = self.make_room(&mut rings, which, units, &mut spared, useless) else { return };
        let times = known.map_or(0, |(_, old)| old.times());
        rings.filed += 1;
        let slot = Slot::new(Slot::tag(id), times, rings.filed, unit);
        self.write(unit, std::iter::once(first_word(id.hash, units)).chain(entry.iter().skip(1).copied()));
        self.grow(&rings);
        self.free_cell(&mut rings, id.hash).store(slot.0, Ordering::Release);
        rings.statistics.entries += 1;
        rings.statistics.bytes += account(units);
    }

    /// Writes words over what is there, whose slot has been cleared.
    fn write(&self, unit: usize, words: impl Iterator<Item = u64>) {
        // Who reads one of them sees the slot cleared afterwards.
        fence(Ordering::Release);
        self.arena.from(UNIT * unit).iter().zip(words).for_each(|(old, word)| old.store(word, Ordering::Relaxed));
    }

    /// Units that lie together, in one of the rings; `None` when that is not large enough. `spared` says how many entries
    /// of the main ring may still begin again.
    fn make_room(
        &self,
        rings: &mut Rings,
        which: Which,
        units: usize,
        spared: &mut usize,
        useless: &dyn Fn(&Words) -> bool,
    ) -> Option<usize> {
        loop {
            let ring = rings.ring(which);
            if let Some(gap) = ring.gap_before(units) {
                if gap > 0 {
                    self.write(ring.take(gap), std::iter::once(first_word(0, gap)));
                }
                return Some(rings.ring(which).take(units));
            }
            self.give_up_oldest(rings, which, spared, useless)?;
        }
    }

    /// Frees the units of the oldest entry of a ring; `None` when there is none.
    ///
    /// If it moves on, the main ring makes room for it; there it does not go on, for when the oldest has been given up
    /// one of its size fits.
    fn give_up_oldest(
        &self,
        rings: &mut Rings,
        which: Which,
        spared: &mut usize,
        useless: &dyn Fn(&Words) -> bool,
    ) -> Option<()> {
        let unit = rings.ring(which).oldest()?;
        let words = self.arena.from(UNIT * unit);
        let (hash, units) = read_first_word(words.first()?.load(Ordering::Relaxed));
        rings.ring(which).give_back(units.max(1));
        // Gaps and what was replaced have no slot any more.
        let cell = self.bucket(hash).iter().find(|cell| {
            let slot = Slot(cell.load(Ordering::Relaxed));
            slot != Slot::EMPTY && slot.unit() == unit
        });
        let Some(cell) = cell else { return Some(()) };
        let slot = Slot(cell.swap(Slot::EMPTY.0, Ordering::Relaxed));
        let times = slot.times();
        let moves_on = match which {
            Which::Small => times > 0 || rings.main.gap_before(units).is_some(),
            Which::Main => times > 0 && *spared > 0,
        };
        let moves_on = moves_on && !useless(words);
        let times = match which {
            Which::Main if moves_on => {
                *spared -= 1;
                times - 1
            }
            _ => times,
        };
        let moved = moves_on.then(|| self.make_room(rings, Which::Main, units, spared, useless)).flatten();
        if let Some(to) = moved {
            rings.filed += 1;
            let slot = Slot::new(slot.0 & Slot::TAG, times, rings.filed, to);
            // From low to high: where it goes may reach into where it was, which then lies above.
            self.write(to, words[..UNIT * units].iter().map(|word| word.load(Ordering::Relaxed)));
            cell.store(slot.0, Ordering::Release);
            return Some(());
        }
        if which == Which::Small {
            let (cell, ghost) = rings.ghost(hash);
            *cell = ghost;
        }
        rings.statistics.evictions += 1;
        rings.left(units);
        Some(())
    }

    /// Adds a bucket when there are many entries for those that there are.
    fn grow(&self, rings: &Rings) {
        let buckets = self.buckets.load(Ordering::Relaxed);
        if rings.statistics.entries < (DIVIDE * buckets) as u64 || buckets >= self.most_buckets {
            return;
        }
        // The new one takes over from the one that its entries were in, which readers find them in until then.
        let old = self.bucket_at(buckets - (buckets + 1).next_power_of_two() / 2);
        let mut free = self.bucket_at(buckets).iter();
        let is_new = |cell: &AtomicU64| {
            let slot = Slot(cell.load(Ordering::Relaxed));
            slot != Slot::EMPTY && bucket_of(self.first_word(slot).0, buckets + 1) == buckets
        };
        for cell in old.iter().filter(|cell| is_new(cell)) {
            if let Some(free) = free.next() {
                free.store(cell.load(Ordering::Relaxed), Ordering::Release);
            }
        }
        self.buckets.store(buckets + 1, Ordering::Release);
        for cell in old.iter().filter(|cell| is_new(cell)) {
            cell.store(Slot::EMPTY.0, Ordering::Release);
        }
    }

    /// A cell for a slot in the bucket for `hash`; the entry that was least asked for leaves when all are taken.
    fn free_cell(&self, rings: &mut Rings, hash: u64) -> &AtomicU64 {
        let weakest = self.bucket(hash).iter().min_by_key(|cell| match Slot(cell.load(Ordering::Relaxed)) {
            Slot::EMPTY => (0, 0),
            slot => (1 + slot.times(), slot.unit()),
        });
        let cell = weakest.expect("a bucket has cells");
        if Slot(cell.load(Ordering::Relaxed)) != Slot::EMPTY {
            rings.statistics.evictions += 1;
            self.take_out(rings, cell);
        }
        cell
    }

    /// The hash and the number of units of the entry that `slot` is about.
    fn first_word(&self, slot: Slot) -> (u64, usize) {
        read_first_word(self.words(slot).first().map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    /// The slot of the entry of `id`, and its cell.
    fn filed(&self, id: Id) -> Option<(&AtomicU64, Slot)> {
        let hash = read_first_word(id.hash).0;
        let mut slots = self.bucket(id.hash).iter().map(|cell| (cell, Slot(cell.load(Ordering::Relaxed))));
        slots.find(|(_, slot)| slot.has(Slot::tag(id)) && self.first_word(*slot).0 == hash)
    }

    /// Takes an entry out of the index.
    fn take_out(&self, rings: &mut Rings, cell: &AtomicU64) {
        let slot = Slot(cell.swap(Slot::EMPTY.0, Ordering::Relaxed));
        rings.left(self.first_word(slot).1);
    }

    fn remove(&self, id: Id, meant: impl Fn(&Words) -> bool) {
        let mut rings = self.rings.lock();
        if let Some((cell, _)) = self.filed(id).filter(|(_, slot)| meant(self.words(*slot))) {
            self.take_out(&mut rings, cell);
        }
    }

    // Nothing moves while the lock is held.

    fn visit<T>(&self, id: Id, look: impl FnOnce(&Words) -> T) -> Option<T> {
        let _rings = self.rings.lock();
        self.filed(id).map(|(_, slot)| look(self.words(slot)))
    }

    fn update<T>(&self, place: Place, change: impl FnOnce(&Words) -> T) -> Option<T> {
        let _rings = self.rings.lock();
        let mut slots = self.bucket(place.hash).iter().map(|cell| Slot(cell.load(Ordering::Relaxed)));
        let slot = slots.find(|slot| *slot != Slot::EMPTY && slot.is_same_as(place.slot))?;
        Some(change(self.words(slot)))
    }

    fn remove_all(&self, meant: &impl Fn(&Words) -> bool) -> usize {
        let (mut bucket, mut removed) = (0, 0);
        loop {
            // Others take their turns between buckets. What a division moves meanwhile comes to a later one.
            let mut rings = self.rings.lock();
            if bucket == self.buckets.load(Ordering::Relaxed) {
                return removed;
            }
            for cell in self.bucket_at(bucket) {
                let slot = Slot(cell.load(Ordering::Relaxed));
                if slot != Slot::EMPTY && meant(self.words(slot)) {
                    self.take_out(&mut rings, cell);
                    removed += 1;
                }
            }
            bucket += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    /// Spreads small numbers as a hash does.
    fn id(number: u64) -> Id {
        Id { hash: number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15), variant: (number % 3) as u8 }
    }

    /// An entry of so many words that say which it is.
    fn entry(number: u64, version: u64, len: usize) -> Vec<u64> {
        std::iter::once(0).chain([number, version, len as u64]).chain((3..len as u64).map(|at| at ^ version)).collect()
    }

    /// The version of the entry of this number, which must be whole.
    fn version(words: &Words, number: u64) -> Option<u64> {
        let word = |at: usize| words[at].load(Ordering::Relaxed);
        (word(1) == number).then(|| word(2))
    }

    fn read(table: &Table, number: u64) -> Option<u64> {
        table.spot(id(number).hash).read(id(number).variant, |words| version(words, number)).map(|(version, _)| version)
    }

    #[derive(Debug, Clone)]
    enum Act {
        Insert(u64, usize),
        Remove(u64),
        Read(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let number = || 0..300_u64;
        let act = prop_oneof![
            6 => (number(), prop_oneof![9 => 4..40_usize, 1 => 40..900_usize]).prop_map(|(n, len)| Act::Insert(n, len)),
            1 => number().prop_map(Act::Remove),
            6 => number().prop_map(Act::Read),
        ];
        proptest::collection::vec(act, 1..800)
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_filed_last(acts in acts(), max_bytes in 1_000..60_000_u64) {
            let table = Table::new(max_bytes);
            let mut filed = HashMap::new();
            for (version, act) in acts.into_iter().enumerate() {
                let version = version as u64;
                match act {
                    Act::Insert(number, len) => {
                        table.insert(id(number), &entry(number, version, len), |words| {
                            // Some are of no use any more.
                            words[2].load(Ordering::Relaxed) % 7 == 0
                        });
                        filed.insert(number, (version, len));
                    }
                    Act::Remove(number) => {
                        table.remove(id(number), |words| words[1].load(Ordering::Relaxed) == number);
                        prop_assert_eq!(read(&table, number), None);
                        filed.remove(&number);
                    }
                    Act::Read(number) => {
                        let found = read(&table, number);
                        prop_assert!(found.is_none() || found == filed.get(&number).map(|(version, _)| *version));
                    }
                }
            }
            let there: Vec<_> = filed.iter().filter(|(number, _)| read(&table, **number).is_some()).collect();
            let statistics = table.statistics();
            prop_assert_eq!(statistics.entries, there.len() as u64);
            let bytes: u64 = there.iter().map(|(_, (_, len))| account((len + 1).div_ceil(UNIT))).sum();
            prop_assert_eq!(statistics.bytes, bytes);
            prop_assert!(bytes <= max_bytes);
            prop_assert_eq!(table.remove_all(|_| true), there.len());
            prop_assert_eq!(table.statistics(), Statistics { evictions: statistics.evictions, ..Statistics::default() });
        }
    }

    #[test]
    fn what_is_asked_for_again_stays_and_the_rest_leaves_in_turn() {
        let table = Table::new(100_000);
        let mut filed = 0;
        let mut insert = |number| {
            table.insert(id(number), &entry(number, number, 14), |_| false);
            filed += 1;
        };
        (0..50).for_each(&mut insert);
        assert!((0..50).all(|number| read(&table, number) == Some(number)));
        // Several times more than there is room for.
        (1000..4000).for_each(&mut insert);
        let left = (0..50).filter(|number| read(&table, *number).is_some()).count();
        assert!(left >= 48, "{left} of 50 are left");
        let newest = (3950..4000).filter(|number| read(&table, *number).is_some()).count();
        assert!(newest >= 48, "{newest} of the newest 50 are there");
        let Statistics { entries, evictions, .. } = table.statistics();
        assert_eq!(entries + evictions, filed);

        // Of what has left lately a ghost remains: it goes where it is not in the way of a scan.
        let back: Vec<u64> = (3000..3950).filter(|number| read(&table, *number).is_none()).rev().take(20).collect();
        for &number in &back {
            table.insert(id(number), &entry(number, number, 14), |_| false);
        }
        (5000..5400).for_each(|number| table.insert(id(number), &entry(number, number, 14), |_| false));
        let left = back.iter().filter(|number| read(&table, **number).is_some()).count();
        assert!(left >= 18, "{left} of 20 that came back are left");
    }

    #[test]
    fn shards_are_not_too_many_and_fill_their_index() {
        for (max_bytes, expected) in
            [(0, 1), (1 << 20, 1), (256 << 20, 16), (265 << 20, 17), (4 << 30, 249), (8 << 30, 249)]
        {
            assert_eq!(shards(max_bytes), expected, "{max_bytes}");
        }
        for max_bytes in (28..=40).flat_map(|bits| [1_u64 << bits, 3 << (bits - 1)]) {
            let buckets = max_bytes as f64 / shards(max_bytes) as f64 / FULL_BUCKET_LEN as f64;
            let full = buckets / (buckets as usize).next_power_of_two() as f64;
            assert!(shards(max_bytes) <= MOST_SHARDS && full > 0.9, "{max_bytes}: {} of {full}", shards(max_bytes));
        }
    }

    #[test]
    fn a_long_entry_moves_on_what_there_is_room_for() {
        let table = Table::new(1 << 20);
        // Some that are asked for, and more, until the small ring is full and the other is not.
        (0..3000).for_each(|number| {
            table.insert(id(number), &entry(number, number, 14), |_| false);
            assert!(number % 3 > 0 || read(&table, number).is_some());
        });
        assert_eq!(table.statistics().evictions, 0);
        table.insert(id(9999), &entry(9999, 1, 8000), |_| false);
        assert_eq!(read(&table, 9999), Some(1));
        assert_eq!(table.statistics().evictions, 0);
    }

    #[test]
    fn a_change_is_for_the_entry_that_was_read() {
        let table = Table::new(100_000);
        table.insert(id(1), &entry(1, 10, 8), |_| false);
        let (_, place) = table.spot(id(1).hash).read(id(1).variant, |words| version(words, 1)).unwrap();
        let mark = |words: &Words| words[3].swap(77, Ordering::Relaxed);
        assert_eq!(table.update(place, mark), Some(8));
        assert_eq!(table.update(place, mark), Some(77), "to be read twice is no change");
        table.insert(id(1), &entry(1, 11, 8), |_| false);
        assert_eq!(table.update(place, mark), None);
        assert_eq!(table.update(Place::NONE, mark), None);
    }

    /// Whoever reads while others overwrite gets one entry as it was filed, or none.
    #[test]
    fn nobody_sees_half_of_an_entry() {
        const NUMBERS: u64 = 64;
        let table = Table::new(20_000);
        let (done, whole) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for writer in 0..2_u64 {
                let (table, done) = (&table, &done);
                scope.spawn(move || {
                    for round in 0..60_000_u64 {
                        let (number, version) = ((round * 7 + writer * 31) % NUMBERS, 2 * round + writer);
                        table.insert(id(number), &entry(number, version, 4 + (round % 60) as usize), |_| false);
                    }
                    done.store(true, Ordering::Relaxed);
                });
            }
            for reader in 0..2_u64 {
                let (table, done, whole) = (&table, &done, &whole);
                scope.spawn(move || {
                    let mut round = reader;
                    while !done.load(Ordering::Relaxed) {
                        round += 1;
                        let number = round % NUMBERS;
                        let found = table.spot(id(number).hash).read(id(number).variant, |words| {
                            let copy: Vec<u64> = words.iter().take(70).map(|w| w.load(Ordering::Relaxed)).collect();
                            (copy[1] == number).then_some(copy)
                        });
                        if let Some((copy, _)) = found {
                            let (version, len) = (copy[2], copy[3] as usize);
                            assert_eq!(copy[1..=len], entry(number, version, len)[1..], "number {number}");
                            whole.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(whole.into_inner() > 1000, "readers have seen something");
    }
}
