//! The page that Prometheus reads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::process::Process;
use super::{BUCKETS, EXTENDED_ERRORS, Metrics, QTYPES, RCODES, ReloadResult, Shard};
use crate::answer::cookie::Standing;
use crate::cache;
use crate::list::Reason;
use crate::pipeline::{DropReason, Lookup, Source};
use crate::policy::Trigger;
use crate::query::Transport;
use crate::recursor::transport::{PROTOCOLS, RESULTS};
use crate::recursor::{self, Security};
use crate::rule::Action;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What others count, at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// The generation in force.
    pub generation: String,
    /// Its lists, in the order of the configuration.
    pub lists: Vec<ListReading>,
    /// Run-time overrides in force.
    pub overrides: u64,
    /// How full the cache is.
    pub cache: cache::Statistics,
    /// Queries to name servers, by their places in [`PROTOCOLS`] and [`RESULTS`].
    pub upstream: [[u64; RESULTS.len()]; PROTOCOLS.len()],
    /// What the resolver knows.
    pub resolver: recursor::Statistics,
}

/// One list, at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub struct ListReading {
    /// Its name in the configuration.
    pub name: String,
    /// Names that it has in force.
    pub entries: u64,
    /// When its text was read without fault for the last time, in seconds since 1970; 0: never.
    pub last_success: u64,
    /// Lines refused in the text that is in force, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// The triggers that rules of today's lists can have; the others get a line when one is counted.
const COMMON_TRIGGERS: [Trigger; 2] = [Trigger::Qname, Trigger::Cname];

impl Metrics {
    /// The page that Prometheus reads, in its text format.
    pub fn text(&self, readings: &Readings) -> String {
        let inner = self.inner.lock();
        let mut page = Page::default();
        traffic(&mut page, &inner.shards);
        policy(&mut page, &inner.shards, &inner.lists);
        self.generation(&mut page, readings);
        resolver(&mut page, &inner.shards, readings);
        self.process(&mut page);
        // Without lists there is nothing to say of them, and a family without a line is none.
        page.families.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&page.families).expect("every family has a name and a metric")
    }

    fn generation(&self, page: &mut Page, readings: &Readings) {
        let mut entries = page.gauge("qalqan_list_entries", "Names and prefixes that the list has in force.");
        for list in &readings.lists {
            entries.add(&[("list", &list.name)], list.entries as f64);
        }
        let mut success = page.gauge(
            "qalqan_list_last_success_timestamp_seconds",
            "When the list was read without fault for the last time, in seconds since 1970; 0: never.",
        );
        for list in &readings.lists {
            success.add(&[("list", &list.name)], list.last_success as f64);
        }
        let mut rejected =
            page.gauge("qalqan_list_rejected_lines", "Lines refused in the list as it is in force, by reason.");
        for list in &readings.lists {
            for reason in Reason::LABELS {
                let count = list.refused.get(reason).copied().unwrap_or(0);
                rejected.add(&[("list", &list.name), ("reason", reason)], count as f64);
            }
        }
        page.gauge("qalqan_generation_info", "1 for the generation of the lists that is in force.")
            .add(&[("generation", &readings.generation)], 1.0);
        page.gauge("qalqan_policy_overrides", "Run-time overrides in force.").add(&[], readings.overrides as f64);
        let mut reloads = page.counter("qalqan_reloads_total", "Attempts to bring in a new generation, by result.");
        for (index, result) in ReloadResult::LABELS.iter().enumerate() {
            reloads.add(&[("result", result)], self.reloads[index].load(Relaxed) as f64);
        }
        page.gauge(
            "qalqan_last_reload_success_timestamp_seconds",
            "When configuration and lists were last found in order, in seconds since 1970.",
        )
        .add(&[], self.last_reload.load(Relaxed) as f64);
    }

    fn process(&self, page: &mut Page) {
        page.gauge("qalqan_build_info", "1 for the version that runs.")
            .add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let process = Process::read();
        page.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.")
            .add(&[], self.started as f64);
        if let Some(seconds) = process.cpu_seconds {
            page.counter("process_cpu_seconds_total", "User and system CPU time spent, in seconds.").add(&[], seconds);
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory in bytes.", process.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory in bytes.", process.virtual_bytes),
            ("process_threads", "Threads of the process.", process.threads),
            ("process_open_fds", "Open file descriptors.", process.open_fds),
            ("process_max_fds", "The largest number of open file descriptors.", process.max_fds),
        ] {
            if let Some(value) = value {
                page.gauge(name, help).add(&[], value as f64);
            }
        }
    }
}

fn traffic(page: &mut Page, shards: &[std::sync::Arc<Shard>]) {
    let sum = |counter: &dyn Fn(&Shard) -> &AtomicU64| -> u64 {
        shards.iter().map(|shard| counter(shard).load(Relaxed)).sum()
    };
    let qtypes: Vec<String> =
        QTYPES.iter().map(ToString::to_string).chain(std::iter::once("other".to_owned())).collect();
    let rcodes: Vec<&str> = RCODES.iter().map(|(_, label)| *label).chain(std::iter::once("other")).collect();

    let mut requests = page.counter("qalqan_dns_requests_total", "Queries that came, by protocol and query type.");
    for (p, protocol) in Transport::LABELS.iter().enumerate() {
        for (q, qtype) in qtypes.iter().enumerate() {
            requests.add_if(p < SERVED, &[("proto", protocol), ("qtype", qtype)], sum(&|s| &s.requests[p][q]));
        }
    }
    let mut responses =
        page.counter("qalqan_dns_responses_total", "Replies sent, by protocol, response code and where they are from.");
    for (p, protocol) in Transport::LABELS.iter().enumerate() {
        for (s, source) in Source::LABELS.iter().enumerate() {
            for (r, rcode) in rcodes.iter().enumerate() {
                let labels = [("proto", *protocol), ("rcode", *rcode), ("source", *source)];
                responses.add_if(p < SERVED, &labels, sum(&|shard| &shard.responses[p][s][r]));
            }
        }
    }
    let mut durations = page.family(
        "qalqan_dns_request_duration_seconds",
        "From a query's coming to its reply's going, by where the reply is from.",
        MetricType::HISTOGRAM,
    );
    for (s, source) in Source::LABELS.iter().enumerate() {
        let buckets: Vec<u64> = (0..=BUCKETS.len()).map(|b| sum(&|shard| &shard.durations[s].buckets[b])).collect();
        let nanoseconds = sum(&|shard| &shard.durations[s].nanoseconds);
        durations.add_histogram(&[("source", source)], &buckets, nanoseconds as f64 / 1e9);
    }
    let mut dropped =
        page.counter("qalqan_dropped_total", "Queries that got no reply, or were turned away (overload), by reason.");
    for (d, reason) in DropReason::LABELS.iter().enumerate() {
        dropped.add(&[("reason", reason)], sum(&|shard| &shard.dropped[d]) as f64);
    }
    let mut cookies = page.counter("qalqan_dns_cookies_total", "Queries with a cookie, by what it was worth.");
    for (c, standing) in Standing::LABELS.iter().enumerate() {
        cookies.add(&[("standing", standing)], sum(&|shard| &shard.cookies[c]) as f64);
    }
    let mut errors = page.counter("qalqan_extended_errors_total", "Replies with an Extended DNS Error, by INFO-CODE.");
    for code in 0..=EXTENDED_ERRORS {
        let label = if code < EXTENDED_ERRORS { code.to_string() } else { "other".to_owned() };
        errors.add(&[("code", &label)], sum(&|shard| &shard.extended_errors[code]) as f64);
    }
}

/// How many of [`Transport::LABELS`] have a front: UDP and TCP.
const SERVED: usize = 2;

fn policy(page: &mut Page, shards: &[std::sync::Arc<Shard>], lists: &[String]) {
    let tables: Vec<_> = shards.iter().map(|shard| shard.lists.load_full()).collect();
    let mut hits = page.counter(
        "qalqan_policy_hits_total",
        "Queries that a rule of the list has decided, by action and by what brought it up.",
    );
    for (l, list) in lists.iter().enumerate() {
        for (a, action) in Action::LABELS.iter().enumerate() {
            for (t, trigger) in Trigger::LABELS.iter().enumerate() {
                let count = tables.iter().filter_map(|table| table.get(l)).map(|hits| hits.hits[a][t].load(Relaxed));
                let common = COMMON_TRIGGERS.iter().any(|common| *common as usize == t);
                hits.add_if(common, &[("list", list), ("action", action), ("trigger", trigger)], count.sum());
            }
        }
    }
    let mut shadow = page
        .counter("qalqan_policy_shadow_hits_total", "Queries that the list would have blocked if it were no shadow.");
    for (l, list) in lists.iter().enumerate() {
        let count: u64 = tables.iter().filter_map(|table| table.get(l)).map(|hits| hits.shadow.load(Relaxed)).sum();
        shadow.add(&[("list", list)], count as f64);
    }
    let sum = |counter: &dyn Fn(&Shard) -> &AtomicU64| -> u64 {
        shards.iter().map(|shard| counter(shard).load(Relaxed)).sum()
    };
    page.counter("qalqan_policy_protected_hits_total", "Queries for protected names that a list would have blocked.")
        .add(&[], sum(&|shard| &shard.protected) as f64);
    let mut overrides =
        page.counter("qalqan_policy_override_hits_total", "Queries that a run-time override has decided, by action.");
    for (a, action) in Action::LABELS.iter().enumerate() {
        let common = ["allow", "sinkhole"].contains(action);
        overrides.add_if(common, &[("action", action)], sum(&|shard| &shard.overrides[a]));
    }
}

fn resolver(page: &mut Page, shards: &[std::sync::Arc<Shard>], readings: &Readings) {
    page.gauge("qalqan_cache_entries", "Answers in the cache.").add(&[], readings.cache.entries as f64);
    page.gauge("qalqan_cache_bytes", "Memory that the cache's answers take, in bytes.")
        .add(&[], readings.cache.bytes as f64);
    page.counter("qalqan_cache_evictions_total", "Answers that had to make room for others.")
        .add(&[], readings.cache.evictions as f64);
    let mut lookups = page.counter("qalqan_cache_requests_total", "Look-ups in the cache, by result.");
    for (index, result) in Lookup::LABELS.iter().enumerate().skip(Lookup::None as usize + 1) {
        let count: u64 = shards.iter().map(|shard| shard.lookups[index].load(Relaxed)).sum();
        lookups.add(&[("result", result)], count as f64);
    }
    let mut upstream =
        page.counter("qalqan_upstream_queries_total", "Queries to name servers, by protocol and result.");
    for (protocol, counts) in PROTOCOLS.iter().zip(&readings.upstream) {
        for (result, count) in RESULTS.iter().zip(counts) {
            upstream.add(&[("proto", protocol), ("result", result)], *count as f64);
        }
    }
    let mut validation = page.counter("qalqan_dnssec_validation_total", "Answers validated, by result.");
    for (result, count) in Security::LABELS.iter().zip(&readings.resolver.validations) {
        validation.add(&[("result", result)], *count as f64);
    }
    for (name, help, value) in [
        ("qalqan_resolver_record_sets", "Sets of records that the resolver knows.", readings.resolver.records),
        ("qalqan_resolver_record_bytes", "Memory that they take, in bytes.", readings.resolver.record_bytes),
        ("qalqan_resolver_zones", "Zones whose servers are known.", readings.resolver.zones),
        ("qalqan_resolver_servers", "Name servers that were asked lately.", readings.resolver.servers),
    ] {
        page.gauge(name, help).add(&[], value as f64);
    }
}

/// The families so far.
#[derive(Default)]
struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    fn family(&mut self, name: &str, help: &str, kind: MetricType) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.families.push(family);
        Family(self.families.last_mut().expect("one has just been added"))
    }

    fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::COUNTER)
    }

    fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::GAUGE)
    }
}

/// A family that is being filled.
struct Family<'p>(&'p mut MetricFamily);

impl Family<'_> {
    fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut metric = metric(labels);
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
    }

    /// Adds a line that is there from the start, or one that is there once it counts something.
    fn add_if(&mut self, from_start: bool, labels: &[(&str, &str)], value: u64) {
        if from_start || value > 0 {
            self.add(labels, value as f64);
        }
    }

    fn add_histogram(&mut self, labels: &[(&str, &str)], counts: &[u64], sum: f64) {
        let mut total = 0;
        let buckets = BUCKETS.iter().zip(counts).map(|(&end, &count)| {
            total += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(end as f64 / 1e9);
            bucket.set_cumulative_count(total);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        let mut metric = metric(labels);
        metric.set_histogram(histogram);
        self.0.mut_metric().push(metric);
    }
}

fn metric(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}
