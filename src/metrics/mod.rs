//! Counts outcomes, and reads everything else when it is scraped.
//!
//! Each worker has a [`Shard`] of its own, so that counting is an addition to a
//! cache line that no other core writes. What other modules count themselves
//! (the cache, the resolver, the lists) is passed in as [`Readings`] when
//! somebody looks. Labels come from enums and from names in the configuration,
//! never from a query.

mod process;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::answer::cookie::Standing;
use crate::pipeline::{DropReason, Lookup, Match, Outcome, Recorder, Source, Writers};
use crate::policy::Trigger;
use crate::query::{Rcode, RecordType, Transport};
use crate::rule::Action;

pub use text::{CONTENT_TYPE, ListReading, Readings};

/// The upper ends of the histogram's buckets, in nanoseconds: from a hit on the fast path to the longest wait.
const BUCKETS: [u64; 18] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
];

/// The query types that have a label of their own; all others share the last one.
const QTYPES: [RecordType; 24] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::HTTPS,
    RecordType::PTR,
    RecordType::TXT,
    RecordType::MX,
    RecordType::NS,
    RecordType::SOA,
    RecordType::SRV,
    RecordType::CNAME,
    RecordType::SVCB,
    RecordType::DS,
    RecordType::DNSKEY,
    RecordType::NAPTR,
    RecordType::CAA,
    RecordType::TLSA,
    RecordType::RRSIG,
    RecordType::NSEC,
    RecordType::NSEC3,
    RecordType::DNAME,
    RecordType::SSHFP,
    RecordType::URI,
    RecordType::LOC,
    RecordType::ANY,
];

/// The response codes that have a label of their own; all others share the last one.
const RCODES: [(Rcode, &str); 10] = [
    (Rcode::NOERROR, "NOERROR"),
    (Rcode::FORMERR, "FORMERR"),
    (Rcode::SERVFAIL, "SERVFAIL"),
    (Rcode::NXDOMAIN, "NXDOMAIN"),
    (Rcode::NOTIMP, "NOTIMP"),
    (Rcode::REFUSED, "REFUSED"),
    (Rcode::YXDOMAIN, "YXDOMAIN"),
    (Rcode::NOTAUTH, "NOTAUTH"),
    (Rcode::BADVERS, "BADVERS"),
    (Rcode::BADCOOKIE, "BADCOOKIE"),
];

const PROTOCOLS: usize = Transport::LABELS.len();
const SOURCES: usize = Source::LABELS.len();
const ACTIONS: usize = Action::LABELS.len();
const TRIGGERS: usize = Trigger::LABELS.len();

/// An array of counters that starts at zero.
type Counters<const N: usize> = [AtomicU64; N];

fn zeros<const N: usize>() -> Counters<N> {
    [const { AtomicU64::new(0) }; N]
}

impl Writers {
    /// Adds to a counter. A lone writer need not lock the line that it stands in, which costs more than all else here.
    #[inline]
    fn bump(self, counter: &AtomicU64, by: u64) {
        match self {
            Self::One => counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed),
            Self::Many => bump(counter, by),
        }
    }
}

/// What one worker has counted. Written by that worker, read by whoever scrapes.
#[repr(align(128))]
pub struct Shard {
    writers: Writers,
    requests: [Counters<{ QTYPES.len() + 1 }>; PROTOCOLS],
    responses: [[Counters<{ RCODES.len() + 1 }>; SOURCES]; PROTOCOLS],
    durations: [Histogram; SOURCES],
    lookups: Counters<{ Lookup::LABELS.len() }>,
    cookies: Counters<{ Standing::LABELS.len() }>,
    dropped: Counters<{ DropReason::LABELS.len() }>,
    protected: AtomicU64,
    /// Hits by run-time overrides, by the action's place in [`Action::LABELS`].
    overrides: Counters<ACTIONS>,
    /// Extended DNS Errors by INFO-CODE; the last is for codes beyond those of RFC 8914.
    extended_errors: Counters<{ EXTENDED_ERRORS + 1 }>,
    /// By the list's place in the generation in force.
    lists: ArcSwap<Vec<Arc<ListHits>>>,
}

/// The INFO-CODEs of RFC 8914 run from 0 to 24.
const EXTENDED_ERRORS: usize = 25;

/// How often one list has decided.
struct ListHits {
    hits: [Counters<TRIGGERS>; ACTIONS],
    shadow: AtomicU64,
}

impl ListHits {
    fn new() -> Self {
        Self { hits: [const { [const { AtomicU64::new(0) }; TRIGGERS] }; ACTIONS], shadow: AtomicU64::new(0) }
    }
}

/// How long answers from one source took.
struct Histogram {
    buckets: Counters<{ BUCKETS.len() + 1 }>,
    nanoseconds: AtomicU64,
}

impl Histogram {
    fn observe(&self, took: Duration, writers: Writers) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|&end| nanoseconds <= end).unwrap_or(BUCKETS.len());
        writers.bump(&self.buckets[bucket], 1);
        writers.bump(&self.nanoseconds, nanoseconds);
    }
}

/// Adds, whoever else does.
fn bump(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}

impl Shard {
    fn new(writers: Writers, lists: Arc<Vec<Arc<ListHits>>>) -> Self {
        Self {
            writers,
            requests: [const { [const { AtomicU64::new(0) }; QTYPES.len() + 1] }; PROTOCOLS],
            responses: [const { [const { [const { AtomicU64::new(0) }; RCODES.len() + 1] }; SOURCES] }; PROTOCOLS],
            durations: [const {
                Histogram { buckets: [const { AtomicU64::new(0) }; BUCKETS.len() + 1], nanoseconds: AtomicU64::new(0) }
            }; SOURCES],
            lookups: zeros(),
            cookies: zeros(),
            dropped: zeros(),
            protected: AtomicU64::new(0),
            overrides: zeros(),
            extended_errors: zeros(),
            lists: ArcSwap::new(lists),
        }
    }

    fn hit(&self, hit: Match) {
        let Some(list) = hit.list else {
            return self.writers.bump(&self.overrides[hit.action], 1);
        };
        if let Some(list) = self.lists.load().get(list.index()) {
            self.writers.bump(&list.hits[hit.action][hit.trigger as usize], 1);
        }
    }
}

impl Recorder for Shard {
    fn record(&self, outcome: &Outcome, took: Duration) {
        let (protocol, source) = (outcome.transport as usize, outcome.source as usize);
        self.writers.bump(&self.requests[protocol][qtype_index(outcome.qtype)], 1);
        if let Some(reason) = outcome.dropped {
            self.writers.bump(&self.dropped[reason as usize], 1);
        }
        // Who is turned away for want of room is told so; all others that are dropped hear nothing.
        if matches!(outcome.dropped, None | Some(DropReason::Overload)) {
            self.writers.bump(&self.responses[protocol][source][rcode_index(outcome.rcode)], 1);
        }
        self.durations[source].observe(took, self.writers);
        if outcome.lookup != Lookup::None {
            self.writers.bump(&self.lookups[outcome.lookup as usize], 1);
        }
        if let Some(standing) = outcome.cookie {
            self.writers.bump(&self.cookies[standing as usize], 1);
        }
        if let Some(hit) = outcome.hit {
            self.hit(hit);
        }
        if !outcome.shadow.is_empty() {
            let lists = self.lists.load();
            for list in outcome.shadow.iter().filter_map(|list| lists.get(list.index())) {
                self.writers.bump(&list.shadow, 1);
            }
        }
        if outcome.protected {
            self.writers.bump(&self.protected, 1);
        }
        if let Some(code) = outcome.ede {
            self.writers.bump(&self.extended_errors[usize::from(code).min(EXTENDED_ERRORS)], 1);
        }
    }

    fn dropped(&self, reason: DropReason) {
        self.writers.bump(&self.dropped[reason as usize], 1);
    }
}

fn qtype_index(qtype: RecordType) -> usize {
    QTYPES.iter().position(|&known| known == qtype).unwrap_or(QTYPES.len())
}

fn rcode_index(rcode: Rcode) -> usize {
    RCODES.iter().position(|&(known, _)| known == rcode).unwrap_or(RCODES.len())
}

/// How an attempt to bring in a new generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReloadResult {
    /// A new generation is in force.
    Changed,
    /// The lists are as they were.
    Unchanged,
    /// Something could not be read or written; the last good generation stays.
    Failed,
    /// A guard has refused the new generation; the last good one stays.
    Refused,
}

impl ReloadResult {
    /// The closed set of labels that metrics use, in the order of the variants.
    pub const LABELS: [&str; 4] = ["changed", "unchanged", "failed", "refused"];
}

/// All counters of the process.
pub struct Metrics {
    inner: Mutex<Inner>,
    reloads: Counters<{ ReloadResult::LABELS.len() }>,
    last_reload: AtomicU64,
    started: u64,
}

struct Inner {
    shards: Vec<Arc<Shard>>,
    /// The names of the lists of the generation in force, by their place there.
    lists: Vec<String>,
}

impl Metrics {
    /// Counters at zero; `wall` is the time of the start in seconds since 1970.
    pub fn new(wall: u64) -> Self {
        Self {
            inner: Mutex::new(Inner { shards: Vec::new(), lists: Vec::new() }),
            reloads: zeros(),
            last_reload: AtomicU64::new(wall),
            started: wall,
        }
    }

    /// A recorder for one more worker, or for those that `writers` says.
    pub fn shard(&self, writers: Writers) -> Arc<Shard> {
        let mut inner = self.inner.lock();
        let lists = inner.lists.iter().map(|_| Arc::new(ListHits::new())).collect();
        let shard = Arc::new(Shard::new(writers, Arc::new(lists)));
        inner.shards.push(Arc::clone(&shard));
        shard
    }

    /// Says which lists the generation in force has. Lists that stay keep their counts.
    ///
    /// To be called right before the policy is replaced. A query that is under
    /// way meanwhile may be counted for a list that has moved to another place.
    pub fn set_lists<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        let mut inner = self.inner.lock();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        if names == inner.lists {
            return;
        }
        for shard in &inner.shards {
            let old = shard.lists.load();
            let known: BTreeMap<&str, &Arc<ListHits>> =
                inner.lists.iter().map(String::as_str).zip(old.iter()).collect();
            let next = names.iter().map(|name| match known.get(name.as_str()) {
                Some(hits) => Arc::clone(hits),
                None => Arc::new(ListHits::new()),
            });
            shard.lists.store(Arc::new(next.collect()));
        }
        inner.lists = names;
    }

    /// Counts an attempt to bring in a new generation, at `wall` seconds since 1970.
    pub fn reloaded(&self, result: ReloadResult, wall: u64) {
        bump(&self.reloads[result as usize], 1);
        if matches!(result, ReloadResult::Changed | ReloadResult::Unchanged) {
            self.last_reload.store(wall, Relaxed);
        }
    }

    /// Queries that came and names that were blocked so far, for people.
    pub fn totals(&self) -> Totals {
        let inner = self.inner.lock();
        let sum = |counters: &[AtomicU64]| counters.iter().map(|counter| counter.load(Relaxed)).sum::<u64>();
        let mut totals = Totals::default();
        for shard in &inner.shards {
            totals.queries += shard.requests.iter().map(|counters| sum(counters)).sum::<u64>();
            for sources in &shard.responses {
                totals.blocked += sum(&sources[Source::Policy as usize]);
                totals.cached += sum(&sources[Source::Cache as usize]);
            }
        }
        totals
    }
}

/// The most asked about figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Queries that came.
    pub queries: u64,
    /// Those that a rule has answered.
    pub blocked: u64,
    /// Those that the cache has answered.
    pub cached: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::ListId;
    use smallvec::smallvec;

    fn outcome() -> Outcome {
        Outcome {
            transport: Transport::Udp,
            qtype: RecordType::A,
            source: Source::Policy,
            rcode: Rcode::NOERROR,
            hit: Some(Match { list: Some(ListId(1)), action: 0, trigger: Trigger::Qname }),
            shadow: smallvec![ListId(0)],
            protected: false,
            lookup: Lookup::None,
            security: None,
            ede: Some(15),
            cookie: None,
            dropped: None,
        }
    }

    fn lists(names: &[&str]) -> Readings {
        let lists = names.iter().map(|name| ListReading { name: (*name).to_owned(), ..ListReading::default() });
        Readings { generation: "abc".to_owned(), lists: lists.collect(), ..Readings::default() }
    }

    #[test]
    fn every_family_is_there_at_zero_from_the_start() {
        let metrics = Metrics::new(1_700_000_000);
        let _shard = metrics.shard(Writers::One);
        metrics.set_lists(["kz", "ads"]);
        let text = metrics.text(&lists(&["kz", "ads"]));
        for line in [
            "qalqan_dns_requests_total{proto=\"udp\",qtype=\"A\"} 0",
            "qalqan_dns_requests_total{proto=\"tcp\",qtype=\"other\"} 0",
            "qalqan_dns_responses_total{proto=\"udp\",rcode=\"NXDOMAIN\",source=\"policy\"} 0",
            "qalqan_dns_request_duration_seconds_count{source=\"cache\"} 0",
            "qalqan_policy_hits_total{list=\"ads\",action=\"sinkhole\",trigger=\"qname\"} 0",
            "qalqan_policy_shadow_hits_total{list=\"kz\"} 0",
            "qalqan_policy_protected_hits_total 0",
            "qalqan_list_entries{list=\"kz\"} 0",
            "qalqan_list_last_success_timestamp_seconds{list=\"kz\"} 0",
            "qalqan_generation_info{generation=\"abc\"} 1",
            "qalqan_cache_entries 0",
            "qalqan_cache_requests_total{result=\"hit\"} 0",
            "qalqan_dropped_total{reason=\"malformed\"} 0",
            "qalqan_dns_cookies_total{standing=\"valid\"} 0",
            "qalqan_reloads_total{result=\"failed\"} 0",
            "process_start_time_seconds 1700000000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn workers_count_apart_and_are_summed() {
        let metrics = Metrics::new(0);
        metrics.set_lists(["kz", "ads"]);
        let shards = [metrics.shard(Writers::One), metrics.shard(Writers::Many)];
        for shard in &shards {
            shard.record(&outcome(), Duration::from_micros(20));
            shard.dropped(DropReason::Overload);
        }
        let text = metrics.text(&lists(&["kz", "ads"]));
        for line in [
            "qalqan_dns_requests_total{proto=\"udp\",qtype=\"A\"} 2",
            "qalqan_dns_responses_total{proto=\"udp\",rcode=\"NOERROR\",source=\"policy\"} 2",
            "qalqan_dns_request_duration_seconds_bucket{source=\"policy\",le=\"0.00001\"} 0",
            "qalqan_dns_request_duration_seconds_bucket{source=\"policy\",le=\"0.000025\"} 2",
            "qalqan_dns_request_duration_seconds_bucket{source=\"policy\",le=\"+Inf\"} 2",
            "qalqan_policy_hits_total{list=\"ads\",action=\"sinkhole\",trigger=\"qname\"} 2",
            "qalqan_policy_shadow_hits_total{list=\"kz\"} 2",
            "qalqan_extended_errors_total{code=\"15\"} 2",
            "qalqan_dropped_total{reason=\"overload\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(metrics.totals(), Totals { queries: 2, blocked: 2, cached: 0 });
    }

    #[test]
    fn a_list_keeps_its_count_when_others_come_and_go() {
        let metrics = Metrics::new(0);
        metrics.set_lists(["kz", "ads"]);
        let shard = metrics.shard(Writers::One);
        shard.record(&outcome(), Duration::ZERO);
        metrics.set_lists(["ads", "new"]);
        shard.record(&outcome(), Duration::ZERO);
        let text = metrics.text(&lists(&["ads", "new"]));
        for line in [
            "qalqan_policy_hits_total{list=\"ads\",action=\"sinkhole\",trigger=\"qname\"} 1",
            "qalqan_policy_hits_total{list=\"new\",action=\"sinkhole\",trigger=\"qname\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("list=\"kz\""), "{text}");
    }

    #[test]
    fn what_has_no_label_of_its_own_shares_one() {
        let metrics = Metrics::new(0);
        let shard = metrics.shard(Writers::One);
        let odd = Outcome { qtype: RecordType(65_280), rcode: Rcode(3000), ede: Some(49_152), hit: None, ..outcome() };
        shard.record(&odd, Duration::from_secs(100));
        let text = metrics.text(&lists(&[]));
        for line in [
            "qalqan_dns_requests_total{proto=\"udp\",qtype=\"other\"} 1",
            "qalqan_dns_responses_total{proto=\"udp\",rcode=\"other\",source=\"policy\"} 1",
            "qalqan_extended_errors_total{code=\"other\"} 1",
            "qalqan_dns_request_duration_seconds_bucket{source=\"policy\",le=\"5\"} 0",
            "qalqan_dns_request_duration_seconds_sum{source=\"policy\"} 100",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
