//! What is known about each server: how fast it answers, what it puts up with, when it was last dead.
//!
//! A [`Server`] is shared by all delegations that lead to it and is nothing but
//! atomics: what one question learns helps all others at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::Now;

use super::cookie;

/// What a server that nobody has asked yet is given to answer (as Unbound does).
const FIRST_TIMEOUT: Duration = Duration::from_millis(376);
/// Servers may think for a moment, however near they are.
const LEAST_TIMEOUT: Duration = Duration::from_millis(150);
/// Nobody waits longer for one try before another server is asked as well.
const MOST_TIMEOUT: Duration = Duration::from_millis(1_200);
/// After this many tries in a row without a reply a server counts as dead.
const DEAD_AFTER: u32 = 3;
/// For how many seconds a dead server is passed over, at first and at most.
const DEAD_FOR: (u32, u32) = (15, 300);
/// How many seconds ago is lately.
const LATELY: u32 = 10;
/// For how many seconds a fault of a server is remembered.
const FAULT_FOR: u32 = 900;

/// All servers that were asked lately.
#[derive(Debug)]
pub struct Servers {
    known: Cache<SocketAddr, Arc<Server>, quick_cache::UnitWeighter, ahash::RandomState>,
}

impl Servers {
    /// Remembers up to `capacity` servers.
    pub fn new(capacity: usize) -> Self {
        let (weighter, hasher) = (quick_cache::UnitWeighter, ahash::RandomState::new());
        Self { known: Cache::with(capacity, capacity as u64, weighter, hasher, Default::default()) }
    }

    /// The server at `address`.
    pub fn at(&self, address: SocketAddr) -> Arc<Server> {
        if let Some(server) = self.known.get(&address) {
            return server;
        }
        let server = Arc::new(Server::new(address));
        self.known.insert(address, server.clone());
        server
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// One address of a name server.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub address: SocketAddr,
    /// Smoothed round-trip time in microseconds; 0 while unknown (RFC 6298, as for TCP).
    round_trip: AtomicU32,
    /// How much it varies.
    variation: AtomicU32,
    /// Tries in a row without a reply.
    silences: AtomicU32,
    /// When the last of them was noted, in milliseconds.
    last_silence: AtomicU32,
    /// Until which second it counts as dead.
    dead_until: AtomicU32,
    /// Until which second it is asked without EDNS; [`EDNS_WORKS`] when it has sent an OPT record.
    edns: AtomicU32,
    /// Until which second letters are sent to it as they are.
    plain_case_until: AtomicU32,
    /// The second in which it was last heard, and one more; 0 for never.
    heard: AtomicU32,
    /// How often a plain query was answered in place of a full one; [`PLAIN_IS_NO_HELP`] when it makes no difference.
    plain_helped: AtomicU32,
    /// Until which second it is asked by streams only.
    stream_until: AtomicU32,
    /// What shows that its replies are its own.
    pub cookie: cookie::Slot,
}

const EDNS_WORKS: u32 = u32::MAX;
const PLAIN_IS_NO_HELP: u32 = u32::MAX;
/// After so many plain queries that were answered in place of full ones, full ones are not sent any more.
const PLAIN_AFTER: u32 = 2;

impl Server {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            round_trip: AtomicU32::new(0),
            variation: AtomicU32::new(0),
            silences: AtomicU32::new(0),
            last_silence: AtomicU32::new(0),
            dead_until: AtomicU32::new(0),
            edns: AtomicU32::new(0),
            plain_case_until: AtomicU32::new(0),
            heard: AtomicU32::new(0),
            plain_helped: AtomicU32::new(0),
            stream_until: AtomicU32::new(0),
            cookie: cookie::Slot::default(),
        }
    }

    /// A reply came, whatever it says: a correct negative answer is no fault.
    pub fn replied(&self, took: Duration, now: Now) {
        self.heard.store(now.seconds() + 1, Relaxed);
        let sample = (took.as_micros() as u32).clamp(1, 10_000_000);
        let (old, variation) = (self.round_trip.load(Relaxed), self.variation.load(Relaxed));
        let (new, variation) = if old == 0 {
            (sample, sample / 2)
        } else {
            ((7 * u64::from(old) + u64::from(sample)).div_ceil(8) as u32, (3 * variation + old.abs_diff(sample)) / 4)
        };
        self.round_trip.store(new, Relaxed);
        self.variation.store(variation, Relaxed);
        if self.silences.load(Relaxed) != 0 {
            self.silences.store(0, Relaxed);
            self.dead_until.store(0, Relaxed);
        }
    }

    /// A reply came over a stream. Who was silent until then is asked by streams for a while.
    pub fn replied_by_stream(&self, now: Now) {
        if self.silences.swap(0, Relaxed) > 0 && !self.was_heard_lately(now) {
            self.stream_until.store(now.seconds().saturating_add(FAULT_FOR), Relaxed);
        }
        self.dead_until.store(0, Relaxed);
    }

    /// Whether datagrams do not reach it, or its replies do not reach us.
    pub fn wants_stream(&self, now: Now) -> bool {
        self.stream_until.load(Relaxed) > now.seconds()
    }

    /// No reply came in time to what was asked at `asked`, or the network says that it cannot be reached.
    ///
    /// Questions that were under way together are one silence: a crowd of them finds out no more than one does.
    pub fn was_silent(&self, asked: Now, now: Now) {
        let milliseconds = |now: Now| now.elapsed.as_millis() as u32;
        let since = milliseconds(asked).wrapping_sub(self.last_silence.load(Relaxed)) as i32;
        if since < 0 && self.silences.load(Relaxed) > 0 {
            return;
        }
        self.last_silence.store(milliseconds(now), Relaxed);
        let silences = self.silences.fetch_add(1, Relaxed) + 1;
        if self.stream_until.load(Relaxed) != 0 {
            self.stream_until.store(0, Relaxed);
        }
        if silences >= DEAD_AFTER {
            let pause = DEAD_FOR.0.saturating_mul(1 << (silences - DEAD_AFTER).min(5)).min(DEAD_FOR.1);
            self.dead_until.store(now.seconds().saturating_add(pause), Relaxed);
        }
    }

    /// Whether it has been silent so often that others come first.
    pub fn is_dead(&self, now: Now) -> bool {
        self.dead_until.load(Relaxed) > now.seconds()
    }

    /// Whether it has been heard within the last seconds: its silence may be about what it was asked.
    pub fn was_heard_lately(&self, now: Now) -> bool {
        let heard = self.heard.load(Relaxed);
        heard != 0 && heard + LATELY > now.seconds()
    }

    /// Whether a reply of it has been seen since it was last silent.
    pub fn is_proven(&self) -> bool {
        self.round_trip.load(Relaxed) != 0 && self.silences.load(Relaxed) == 0
    }

    /// Whether it was asked more than once and has never said anything.
    pub fn is_mute(&self) -> bool {
        self.silences_of_the_unheard() >= 2
    }

    /// How often it was asked when it has never said anything; 0 when it has.
    pub fn silences_of_the_unheard(&self) -> u32 {
        if self.round_trip.load(Relaxed) == 0 { self.silences.load(Relaxed) } else { 0 }
    }

    /// How long to wait before another try is made.
    pub fn patience(&self) -> Duration {
        let silences = self.silences.load(Relaxed);
        let (timeout, doublings) = match self.round_trip.load(Relaxed) {
            // The first silence of a stranger may be about how he was asked.
            0 => (FIRST_TIMEOUT, silences.saturating_sub(1)),
            known => (Duration::from_micros(u64::from(known) + 4 * u64::from(self.variation.load(Relaxed))), silences),
        };
        (timeout.max(LEAST_TIMEOUT) * (1 << doublings.min(2))).min(MOST_TIMEOUT)
    }

    /// What it is expected to take, in microseconds, silence counted in.
    pub fn expected(&self) -> u32 {
        self.usual().saturating_add(self.silences.load(Relaxed).saturating_mul(400_000))
    }

    /// What it takes when it answers, in microseconds; unknown ones lie in between.
    pub fn usual(&self) -> u32 {
        match self.round_trip.load(Relaxed) {
            0 => 100_000,
            known => known,
        }
    }

    /// Whether an OPT record is sent to it.
    pub fn takes_edns(&self, now: Now) -> bool {
        let until = self.edns.load(Relaxed);
        until == EDNS_WORKS || until <= now.seconds()
    }

    /// Whether it is known to understand EDNS.
    pub fn understands_edns(&self) -> bool {
        self.edns.load(Relaxed) == EDNS_WORKS
    }

    /// It has sent an OPT record.
    pub fn sent_edns(&self) {
        if self.edns.load(Relaxed) != EDNS_WORKS {
            self.edns.store(EDNS_WORKS, Relaxed);
        }
    }

    /// It answered without EDNS what it did not answer with it.
    pub fn rejects_edns(&self, now: Now) {
        self.edns.store(now.seconds().saturating_add(FAULT_FOR), Relaxed);
    }

    /// It answered a query with a cookie as one that it does not understand.
    pub fn rejects_cookies(&self, now: Now) {
        self.cookie.refuse_until(now.seconds().saturating_add(FAULT_FOR));
    }

    /// Whether a query without EDNS and in lower case may do what a full one did not.
    pub fn may_want_it_plain(&self) -> bool {
        self.plain_helped.load(Relaxed) != PLAIN_IS_NO_HELP
    }

    /// It has answered a full query well, or a plain one no better.
    pub fn does_not_want_it_plain(&self) {
        if self.plain_helped.load(Relaxed) != PLAIN_IS_NO_HELP {
            self.plain_helped.store(PLAIN_IS_NO_HELP, Relaxed);
        }
    }

    /// It has answered a plain query where a full one did nothing.
    pub fn was_helped_by_plain(&self, now: Now) {
        if self.may_want_it_plain() && self.plain_helped.fetch_add(1, Relaxed) + 1 >= PLAIN_AFTER {
            self.rejects_edns(now);
            self.changes_case(now);
        }
    }

    /// Whether it repeats letters in the case they were sent in.
    pub fn keeps_case(&self, now: Now) -> bool {
        self.plain_case_until.load(Relaxed) <= now.seconds()
    }

    /// It does not.
    pub fn changes_case(&self, now: Now) {
        self.plain_case_until.store(now.seconds().saturating_add(FAULT_FOR), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { elapsed: Duration::from_secs(seconds), wall: 0 }
    }

    fn server() -> Server {
        Server::new("192.0.2.1:53".parse().unwrap())
    }

    #[test]
    fn a_server_is_dead_after_three_silences_and_alive_after_one_reply() {
        let server = server();
        for (silences, dead) in [(1, false), (2, false), (3, true)] {
            server.was_silent(at(10), at(10));
            assert_eq!(server.is_dead(at(10)), dead, "{silences}");
        }
        assert!(!server.is_dead(at(30)), "it is given another chance");
        server.replied(Duration::from_millis(5), at(30));
        assert!(!server.is_dead(at(10)));
    }

    #[test]
    fn patience_follows_the_round_trip_and_doubles_with_silence() {
        let server = server();
        assert_eq!(server.patience(), FIRST_TIMEOUT);
        server.was_silent(at(0), at(0));
        assert_eq!(server.patience(), FIRST_TIMEOUT, "a stranger's first silence may be about the question");
        for _ in 0..50 {
            server.replied(Duration::from_millis(1), at(0));
        }
        assert_eq!(server.patience(), LEAST_TIMEOUT);
        server.was_silent(at(0), at(0));
        assert_eq!(server.patience(), 2 * LEAST_TIMEOUT);
        for _ in 0..50 {
            server.replied(Duration::from_millis(800), at(0));
        }
        assert!(server.patience() >= Duration::from_millis(800) && server.patience() <= MOST_TIMEOUT);
    }

    #[test]
    fn questions_that_are_under_way_together_are_one_silence() {
        let server = server();
        for _ in 0..30 {
            server.was_silent(at(10), at(11));
        }
        assert!(!server.is_dead(at(11)) && server.silences_of_the_unheard() == 1);
        server.was_silent(at(11), at(12));
        assert_eq!(server.silences_of_the_unheard(), 2);
    }

    #[test]
    fn who_was_silent_and_answers_a_stream_is_asked_by_streams_for_a_while() {
        let server = server();
        server.was_silent(at(0), at(0));
        server.replied_by_stream(at(0));
        assert!(server.wants_stream(at(1)) && !server.wants_stream(at(901)));
        server.was_silent(at(2), at(2));
        assert!(!server.wants_stream(at(3)), "streams do not help either");

        server.replied(Duration::from_millis(5), at(10));
        server.was_silent(at(11), at(11));
        server.replied_by_stream(at(11));
        assert!(!server.wants_stream(at(12)), "it was heard by datagrams a moment ago");
    }

    #[test]
    fn faults_are_forgotten_after_a_while() {
        let server = server();
        server.rejects_edns(at(0));
        server.changes_case(at(0));
        assert!(!server.takes_edns(at(1)) && !server.keeps_case(at(1)));
        assert!(server.takes_edns(at(901)) && server.keeps_case(at(901)));
        server.sent_edns();
        assert!(server.takes_edns(at(1)));
    }
}
