//! The same thing is asked once at a time.
//!
//! The first who wants to know asks; whoever comes while it is under way waits
//! for the same reply. Should the first be gone before it comes, each of the
//! others asks for itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

/// Locks, so that questions seldom meet at one.
const SHARDS: usize = 16;

/// Those who wait for what somebody else asks: nobody, most of the time.
type Followers<V> = Option<watch::Sender<Option<V>>>;
/// One part of what is under way.
type Shard<K, V> = Mutex<HashMap<K, Followers<V>, ahash::RandomState>>;

/// What is under way, by what is asked.
#[derive(Debug)]
pub struct Flights<K, V> {
    shards: [Shard<K, V>; SHARDS],
    hasher: ahash::RandomState,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { shards: Default::default(), hasher: ahash::RandomState::new() }
    }
}

/// Takes a flight off the table when its leader is done or gone.
struct Landing<'a, K: Hash + Eq, V> {
    flights: &'a Flights<K, V>,
    key: &'a K,
    is_aloft: bool,
}

impl<K: Hash + Eq, V> Landing<'_, K, V> {
    /// Takes it off, once: who comes next may already fly again.
    fn land(&mut self) -> Followers<V> {
        let is_aloft = std::mem::take(&mut self.is_aloft);
        is_aloft.then(|| self.flights.shard(self.key).lock().remove(self.key))?.flatten()
    }
}

impl<K: Hash + Eq, V> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        // Followers whose sender goes ask for themselves.
        self.land();
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Flights<K, V> {
    /// Does `work`, or waits for at most `patience` for somebody who is doing it already.
    ///
    /// The work is begun in one place only, so that its future is part of this one once.
    pub async fn share<F: Future<Output = V>>(&self, key: &K, patience: Duration, work: impl FnOnce() -> F) -> V {
        let leader = match self.shard(key).lock().entry(key.clone()) {
            Entry::Occupied(mut followers) => {
                Some(followers.get_mut().get_or_insert_with(|| watch::Sender::new(None)).subscribe())
            }
            Entry::Vacant(place) => {
                place.insert(None);
                None
            }
        };
        let mut landing = Landing { flights: self, key, is_aloft: leader.is_none() };
        if let Some(mut leader) = leader {
            let shared = timeout(patience, leader.wait_for(Option::is_some)).await;
            if let Some(value) = shared.ok().and_then(Result::ok).and_then(|value| value.clone()) {
                return value;
            }
        }
        let value = work().await;
        if let Some(followers) = landing.land() {
            followers.send_replace(Some(value.clone()));
        }
        value
    }
}

impl<K: Hash + Eq, V> Flights<K, V> {
    fn shard(&self, key: &K) -> &Shard<K, V> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[tokio::test(start_paused = true)]
    async fn who_comes_second_waits_for_the_first() {
        let flights = Flights::default();
        let done = AtomicU32::new(0);
        let work = || async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            done.fetch_add(1, Relaxed)
        };
        let patience = Duration::from_secs(1);
        let (a, b) = tokio::join!(flights.share(&1, patience, work), flights.share(&1, patience, work));
        assert_eq!((a, b), (0, 0));
        assert_eq!(flights.share(&1, patience, work).await, 1, "what has landed is asked anew");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_or_for_nobody_asks_itself() {
        let flights: Flights<u32, u32> = Flights::default();
        let slow = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            1
        };
        let patience = Duration::from_millis(100);
        let (a, b) = tokio::join!(flights.share(&1, patience, || slow), flights.share(&1, patience, || async { 2 }));
        assert_eq!((a, b), (1, 2));

        let gone = timeout(Duration::from_millis(1), flights.share(&1, patience, std::future::pending));
        let (gone, b) = tokio::join!(gone, flights.share(&1, Duration::from_secs(9), || async { 3 }));
        assert!(gone.is_err());
        assert_eq!(b, 3);
    }
}
