use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::testing::*;
use super::*;
use crate::answer::cookie::Standing;
use crate::policy::{OverrideSet, Settings as PolicySettings};
use crate::query::Transport;
use crate::recursor::message::RrSet;
use crate::recursor::{BoxFuture, Resolution, Security};
use crate::rule::{Action, BlockReason, ListId, LocalRecord, Rule, Scope};
use crate::snapshot::ListEntry;
use crate::snapshot::testing::{rule, snapshot};

/// A pipeline, the world behind it, and a clock that follows tokio's.
struct Bench {
    pipeline: Arc<Pipeline>,
    world: Arc<testing::World>,
}

impl Bench {
    fn new(policy: Policy, change: impl FnOnce(&mut Settings)) -> Self {
        let world = testing::World::new(address);
        let mut settings = Settings::default();
        change(&mut settings);
        let start = Instant::now();
        let clock = Clock::from_fn(move || {
            let elapsed = start.elapsed();
            Now { elapsed, wall: 1_800_000_000 + elapsed.as_secs() }
        });
        Self { pipeline: Pipeline::new(settings, world.clone(), policy, clock), world }
    }

    /// The answer and what happened, over UDP.
    async fn ask(&self, request: &[u8]) -> (Option<Reply>, Outcome) {
        self.ask_by(Transport::Udp, request).await
    }

    async fn ask_by(&self, transport: Transport, request: &[u8]) -> (Option<Reply>, Outcome) {
        let mut octets = b"what was here before".to_vec();
        let outcome = match self.pipeline.answer(
            request,
            client(transport),
            &self.pipeline.view(self.pipeline.now()),
            &mut octets,
        ) {
            Step::Done(outcome) => outcome,
            Step::Ask(pending) => {
                assert!(octets.is_empty(), "a front would send it");
                self.pipeline.ask(pending, &mut octets).await
            }
            Step::Drop(reason) => panic!("dropped: {reason:?}"),
        };
        let reply = (!octets.is_empty()).then(|| read(&octets));
        if let Some(reply) = &reply {
            assert_eq!(reply.header.id, u16::from_be_bytes([request[0], request[1]]));
            assert!(reply.header.has(Header::QR | Header::RA));
            assert!(!reply.header.has(Header::AA));
        }
        (reply, outcome)
    }

    async fn reply(&self, request: &[u8]) -> Reply {
        self.ask(request).await.0.unwrap()
    }
}

fn policy(lists: &[ListEntry], rules: &[(u16, Rule)]) -> Policy {
    Policy::new(PolicySettings::default(), Some(Arc::new(snapshot(lists, rules))), OverrideSet::default())
}

/// One list, `orders`, with these names and actions; each covers its subdomains.
fn orders(rules: &[(&str, Action)]) -> Policy {
    let list =
        ListEntry { reason: BlockReason::Censored, ede_text: Some("by order".into()), ..ListEntry::new("orders") };
    let rules =
        rules.iter().map(|(name, action)| (0, Rule { action: Some(action.clone()), ..rule(name, Scope::Subdomains) }));
    policy(&[list], &rules.collect::<Vec<_>>())
}

fn data(set: &RrSet) -> &[u8] {
    &set.rdata[0]
}

#[tokio::test]
async fn every_action_has_its_form() {
    let records = vec![
        LocalRecord::a([192, 0, 2, 80].into()),
        LocalRecord {
            ttl: Some(77),
            ..LocalRecord { rtype: RecordType::TXT, ttl: None, rdata: Box::from(*b"\x05hello") }
        },
    ];
    let bench = Bench::new(
        orders(&[
            ("sinkhole.kz", Action::Sinkhole),
            ("nxdomain.kz", Action::NxDomain),
            ("nodata.kz", Action::NoData),
            ("refused.kz", Action::Refused),
            ("truncate.kz", Action::Truncate),
            ("records.kz", Action::Records(records)),
            ("alias.kz", Action::Cname("page.example".parse().unwrap())),
        ]),
        |settings| settings.answer.sinkhole_ipv4 = [192, 0, 2, 53].into(),
    );
    // Name, type, code, the data of the answer, and whether an SOA makes it a negative one.
    type Row = (&'static str, RecordType, Rcode, Option<&'static [u8]>, bool);
    let rows: &[Row] = &[
        ("www.sinkhole.kz", RecordType::A, Rcode::NOERROR, Some(&[192, 0, 2, 53]), false),
        ("sinkhole.kz", RecordType::AAAA, Rcode::NOERROR, Some(&[0; 16]), false),
        ("sinkhole.kz", RecordType::HTTPS, Rcode::NOERROR, None, true),
        ("sinkhole.kz", RecordType::SVCB, Rcode::NOERROR, None, true),
        ("sinkhole.kz", RecordType::MX, Rcode::NOERROR, None, true),
        ("sinkhole.kz", RecordType::ANY, Rcode::NOERROR, None, true),
        ("nxdomain.kz", RecordType::A, Rcode::NXDOMAIN, None, true),
        ("nodata.kz", RecordType::A, Rcode::NOERROR, None, true),
        ("refused.kz", RecordType::A, Rcode::REFUSED, None, false),
        ("records.kz", RecordType::A, Rcode::NOERROR, Some(&[192, 0, 2, 80]), false),
        ("records.kz", RecordType::TXT, Rcode::NOERROR, Some(b"\x05hello"), false),
        ("records.kz", RecordType::AAAA, Rcode::NOERROR, None, true),
        ("alias.kz", RecordType::CNAME, Rcode::NOERROR, Some(b"\x04page\x07example\0"), false),
    ];
    for (name, qtype, rcode, answer, is_negative) in rows {
        let (reply, outcome) = bench.ask(&edns_query(name, *qtype, false)).await;
        let reply = reply.unwrap();
        let what = format!("{name} {qtype}");
        assert_eq!(reply.message.rcode, *rcode, "{what}");
        assert_eq!(reply.message.answer.first().map(data), *answer, "{what}");
        assert_eq!(reply.errors, [(16, "by order".to_owned())], "{what}");
        assert_eq!((outcome.source, outcome.rcode, outcome.ede), (Source::Policy, *rcode, Some(16)), "{what}");
        assert_eq!(outcome.hit.unwrap().list, Some(ListId(0)), "{what}");
        let soa = reply.message.authority.first().map(|set| (set.rtype, &*set.name, set.ttl));
        let name: DomainName = name.parse().unwrap();
        assert_eq!(soa, is_negative.then_some((RecordType::SOA, &*name, 10)), "{what}");
        for set in &reply.message.answer {
            assert_eq!((&set.name, set.ttl), (&name, if set.rtype == RecordType::TXT { 77 } else { 10 }), "{what}");
        }
    }
    assert_eq!(bench.world.times_asked(), 0);

    let (reply, _) = bench.ask(&query("truncate.kz", RecordType::A)).await;
    assert!(reply.unwrap().header.has(Header::TC));
    let (reply, outcome) = bench.ask_by(Transport::Tcp, &query("truncate.kz", RecordType::A)).await;
    assert_eq!(data(&reply.unwrap().message.answer[0]), [192, 0, 2, 1], "it passes over TCP");
    assert_eq!((outcome.source, outcome.hit.unwrap().action), (Source::Upstream, 5));
}

#[tokio::test]
async fn a_dropped_query_gets_no_reply() {
    let bench = Bench::new(orders(&[("drop.kz", Action::Drop)]), |_| {});
    let (reply, outcome) = bench.ask(&query("drop.kz", RecordType::A)).await;
    assert!(reply.is_none());
    assert_eq!((outcome.source, outcome.dropped), (Source::Policy, Some(DropReason::Policy)));
}

#[tokio::test]
async fn an_alias_is_followed_and_what_it_leads_to_is_not_judged() {
    let bench = Bench::new(
        orders(&[
            ("alias.kz", Action::Cname("page.blocked.kz".parse().unwrap())),
            ("star.kz", Action::Cname("*.garden.example".parse().unwrap())),
            ("blocked.kz", Action::NxDomain),
        ]),
        |_| {},
    );
    for (asked, target) in [("www.alias.kz", "page.blocked.kz"), ("a.star.kz", "a.star.kz.garden.example")] {
        let (reply, outcome) = bench.ask(&edns_query(asked, RecordType::A, false)).await;
        let reply = reply.unwrap();
        let [alias, found] = &reply.message.answer[..] else { panic!("{reply:?}") };
        assert_eq!((alias.name.to_string(), alias.rtype, alias.ttl), (asked.into(), RecordType::CNAME, 10));
        assert_eq!(data(alias), wire_name(target));
        assert_eq!((found.name.to_string(), data(found)), (target.into(), &[192, 0, 2, 1][..]));
        assert_eq!((outcome.source, outcome.ede), (Source::Policy, Some(16)));
        assert_eq!(reply.errors[0].0, 16);
    }
    bench.world.says(failure);
    let (reply, outcome) = bench.ask(&query("b.star.kz", RecordType::A)).await;
    assert_eq!(reply.unwrap().message.rcode, Rcode::SERVFAIL);
    assert_eq!(outcome.source, Source::Policy);
}

#[tokio::test]
async fn an_alias_too_long_for_a_name_does_not_exist() {
    let bench = Bench::new(orders(&[("star.kz", Action::Cname("*.garden.example".parse().unwrap()))]), |_| {});
    let long = format!("{}star.kz", "a.".repeat(118));
    assert_eq!(bench.reply(&query(&long, RecordType::A)).await.message.rcode, Rcode::YXDOMAIN);
}

/// `www.example.kz` is an alias of `tracker.example`.
fn cloaked(question: &Question) -> Resolution {
    let name = question.name.to_string();
    resolution(
        question,
        Rcode::NOERROR,
        &[
            set(&name, RecordType::CNAME, &wire_name("edge.example")),
            set("edge.example", RecordType::CNAME, &wire_name("tracker.example")),
            set("tracker.example", RecordType::A, &[192, 0, 2, 66]),
        ],
    )
}

#[tokio::test]
async fn a_listed_name_does_not_hide_behind_an_alias() {
    let bench = Bench::new(orders(&[("tracker.example", Action::Sinkhole)]), |_| {});
    bench.world.says(cloaked);
    for lookup in [Lookup::Miss, Lookup::Hit] {
        let (reply, outcome) = bench.ask(&edns_query("www.example.kz", RecordType::A, false)).await;
        let reply = reply.unwrap();
        assert_eq!(reply.message.answer.len(), 1);
        assert_eq!(data(&reply.message.answer[0]), [0; 4]);
        assert_eq!(reply.message.answer[0].name.to_string(), "www.example.kz");
        assert_eq!((outcome.source, outcome.lookup, outcome.ede), (Source::Policy, lookup, Some(16)));
        assert_eq!(outcome.hit.unwrap().trigger, Trigger::Cname);
    }
    // The cache lies below the filter: it has the answer when the lists change their mind.
    bench.pipeline.replace_policy(orders(&[]));
    let (reply, outcome) = bench.ask(&query("www.example.kz", RecordType::A)).await;
    assert_eq!(reply.unwrap().message.answer.len(), 3);
    assert_eq!(outcome.source, Source::Cache);
    bench.pipeline.replace_policy(orders(&[("tracker.example", Action::NxDomain)]));
    assert_eq!(bench.reply(&query("www.example.kz", RecordType::A)).await.message.rcode, Rcode::NXDOMAIN);
    assert_eq!(bench.world.times_asked(), 1);
}

#[tokio::test]
async fn an_alias_to_a_listed_name_may_be_redirected_itself() {
    let bench = Bench::new(orders(&[("tracker.example", Action::Cname("page.kz".parse().unwrap()))]), |_| {});
    bench.world.says(|question| match &*question.name.to_string() {
        "page.kz" => address(question),
        _ => cloaked(question),
    });
    for _ in 0..2 {
        let reply = bench.reply(&query("www.example.kz", RecordType::A)).await;
        let names: Vec<_> = reply.message.answer.iter().map(|set| (set.name.to_string(), set.rtype)).collect();
        assert_eq!(names, [("www.example.kz".into(), RecordType::CNAME), ("page.kz".into(), RecordType::A)]);
    }
}

#[tokio::test]
async fn an_allowed_or_protected_name_is_reached_by_whatever_alias() {
    let allowed = orders(&[("tracker.example", Action::Sinkhole), ("www.example.kz", Action::Allow)]);
    let settings = PolicySettings { protected: vec!["example.kz".parse().unwrap()], ..PolicySettings::default() };
    let lists = orders(&[("tracker.example", Action::Sinkhole)]).snapshot().cloned();
    let protected = Policy::new(settings, lists, OverrideSet::default());
    for (policy, is_protected) in [(allowed, false), (protected, true)] {
        let bench = Bench::new(policy, |_| {});
        bench.world.says(cloaked);
        let (reply, outcome) = bench.ask(&query("www.example.kz", RecordType::A)).await;
        assert_eq!(reply.unwrap().message.answer.len(), 3);
        assert_eq!((outcome.source, outcome.protected), (Source::Upstream, is_protected));
    }
}

#[tokio::test]
async fn a_shadow_list_counts_once_and_blocks_nothing() {
    let list = ListEntry { shadow: true, ..ListEntry::new("trial") };
    let rules = [(0, rule("tracker.example", Scope::Exact)), (0, rule("example.kz", Scope::Subdomains))];
    let bench = Bench::new(policy(&[list], &rules), |_| {});
    bench.world.says(cloaked);
    for source in [Source::Upstream, Source::Cache, Source::Cache] {
        let (reply, outcome) = bench.ask(&query("www.example.kz", RecordType::A)).await;
        assert_eq!(reply.unwrap().message.answer.len(), 3);
        assert_eq!((outcome.source, &outcome.shadow[..]), (source, &[ListId(0)][..]));
        let (_, outcome) = bench.ask(&query("other.kz", RecordType::A)).await;
        assert_eq!(&outcome.shadow[..], [ListId(0)]);
    }
}

#[tokio::test]
async fn equal_questions_are_asked_once_and_each_gets_its_own_reply() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    *bench.world.delay.lock() = Duration::from_millis(20);
    let requests: Vec<Vec<u8>> = (0..50u8)
        .map(|id| {
            let mut request = query(if id % 2 == 0 { "www.example.kz" } else { "wWw.ExAmPlE.kZ" }, RecordType::A);
            if id % 2 == 1 {
                request[13..16].copy_from_slice(b"wWw");
            }
            request[1] = id;
            request
        })
        .collect();
    let replies = futures_util::future::join_all(
        requests.iter().map(|request| bench.pipeline.handle(request, client(Transport::Udp))),
    )
    .await;
    for (request, reply) in requests.iter().zip(replies) {
        let reply = reply.unwrap();
        assert_eq!(reply[..2], request[..2]);
        assert_eq!(reply[12..request.len()], request[12..], "the question comes back letter for letter");
    }
    assert_eq!(bench.world.times_asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn ttls_count_down_in_the_cache() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    for (wait, ttl, source) in [(0, 300, Source::Upstream), (100, 200, Source::Cache), (200, 300, Source::Upstream)] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        let (reply, outcome) = bench.ask(&query("www.example.kz", RecordType::A)).await;
        assert_eq!((reply.unwrap().message.answer[0].ttl, outcome.source), (ttl, source));
    }
}

#[tokio::test(start_paused = true)]
async fn look_ups_are_counted_as_what_they_were() {
    let bench = Bench::new(Policy::unfiltered(), |settings| settings.cache.prefetch = false);
    let mut random = TestRunner::deterministic();
    // When each name was last answered by the world, in seconds; answers are good for 300.
    let mut answered = std::collections::HashMap::new();
    let (mut misses, mut now) = (0, 0);
    for _ in 0..1000 {
        let (number, pause) = (0..60_u32, 0..20_u64).new_tree(&mut random).unwrap().current();
        tokio::time::advance(Duration::from_secs(pause)).await;
        now += pause;
        let expected = match answered.get(&number) {
            Some(since) if now - since < 300 => Lookup::Hit,
            Some(_) => Lookup::Stale,
            None => Lookup::Miss,
        };
        let (_, outcome) = bench.ask(&query(&format!("n{number}.kz"), RecordType::A)).await;
        assert_eq!(outcome.lookup, expected);
        if expected != Lookup::Hit {
            answered.insert(number, now);
            misses += 1;
        }
        let cache::Statistics { entries, evictions, .. } = bench.pipeline.cache_statistics();
        assert_eq!((entries, evictions), (answered.len() as u64, 0));
    }
    assert_eq!(bench.world.times_asked(), misses);
    let bytes = |bench: &Bench| bench.pipeline.cache_statistics().bytes;
    let before = bytes(&bench);
    assert!(before > 0);
    assert_eq!(bench.pipeline.flush(&"kz".parse::<DomainName>().unwrap(), true), answered.len());
    assert_eq!((bytes(&bench), bench.pipeline.cache_statistics().entries), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn popular_names_are_asked_for_again_before_their_time_is_over() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    bench.reply(&query("www.example.kz", RecordType::A)).await;
    tokio::time::sleep(Duration::from_secs(280)).await;
    assert_eq!(bench.reply(&query("www.example.kz", RecordType::A)).await.message.answer[0].ttl, 20);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let (reply, outcome) = bench.ask(&query("www.example.kz", RecordType::A)).await;
    assert_eq!((reply.unwrap().message.answer[0].ttl, outcome.source), (260, Source::Cache));
    assert_eq!(bench.world.times_asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_past_its_time_is_served_when_the_world_is_silent_or_fails() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    let request = edns_query("www.example.kz", RecordType::A, false);
    bench.reply(&request).await;
    tokio::time::sleep(Duration::from_secs(301)).await;

    // Silence: the client waits 1.8 s.
    *bench.world.delay.lock() = Duration::from_secs(60);
    let asked = Instant::now();
    let (reply, outcome) = bench.ask(&request).await;
    let reply = reply.unwrap();
    assert_eq!(asked.elapsed(), Duration::from_millis(1800));
    assert_eq!((reply.message.answer[0].ttl, reply.errors[0].0), (30, ExtendedError::STALE_ANSWER));
    assert_eq!((outcome.source, outcome.lookup), (Source::Stale, Lookup::Stale));

    // Failure: at once; for half a minute nobody asks again.
    tokio::time::sleep(Duration::from_secs(60)).await;
    bench.reply(&request).await;
    bench.world.says(failure);
    *bench.world.delay.lock() = Duration::ZERO;
    tokio::time::sleep(Duration::from_secs(301)).await;
    let before = bench.world.times_asked();
    for _ in 0..3 {
        let (reply, outcome) = bench.ask(&request).await;
        assert_eq!((reply.unwrap().message.rcode, outcome.source), (Rcode::NOERROR, Source::Stale));
    }
    assert_eq!(bench.world.times_asked(), before + 1);
    tokio::time::sleep(Duration::from_secs(30)).await;
    bench.world.says(address);
    assert_eq!(bench.ask(&request).await.1.source, Source::Upstream);
}

#[tokio::test(start_paused = true)]
async fn stale_answers_come_at_once_when_the_client_timer_is_zero() {
    let bench = Bench::new(Policy::unfiltered(), |settings| settings.cache.stale.client_timer = Duration::ZERO);
    let request = query("www.example.kz", RecordType::A);
    bench.reply(&request).await;
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(bench.ask(&request).await.1.source, Source::Stale);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.ask(&request).await.1.source, Source::Cache, "it was asked for meanwhile");
}

#[tokio::test(start_paused = true)]
async fn no_client_waits_longer_than_it_is_said_and_the_answer_is_kept_nevertheless() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    *bench.world.delay.lock() = Duration::from_secs(9);
    let asked = Instant::now();
    let (reply, outcome) = bench.ask(&edns_query("www.example.kz", RecordType::A, false)).await;
    assert_eq!(asked.elapsed(), Duration::from_secs(4));
    let reply = reply.unwrap();
    assert_eq!((reply.message.rcode, reply.errors[0].0), (Rcode::SERVFAIL, ExtendedError::NO_REACHABLE_AUTHORITY));
    assert_eq!(outcome.source, Source::Error);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.ask(&query("www.example.kz", RecordType::A)).await.1.source, Source::Cache);
}

#[tokio::test]
async fn a_failure_says_why_and_is_not_asked_for_again_at_once() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    bench.world.says(failure);
    let request = edns_query("www.example.kz", RecordType::A, false);
    let first = bench.reply(&request).await;
    assert_eq!(first.message.rcode, Rcode::SERVFAIL);
    assert_eq!(first.errors, [(22, "all is dark".to_owned())]);
    let second = bench.reply(&request).await;
    assert_eq!(second.errors, [(22, "all is dark".to_owned()), (13, String::new())]);
    assert_eq!(bench.world.times_asked(), 1);
    let plain = bench.reply(&query("www.example.kz", RecordType::A)).await;
    assert_eq!(plain.header.counts[3], 0, "no OPT for whoever speaks no EDNS");
}

#[tokio::test]
async fn too_many_questions_at_once_are_shed() {
    let bench = Bench::new(Policy::unfiltered(), |settings| settings.patience.max_in_flight = 1);
    *bench.world.delay.lock() = Duration::from_millis(50);
    let first = edns_query("a.kz", RecordType::A, false);
    let second = edns_query("b.kz", RecordType::A, false);
    let (first, second) = tokio::join!(bench.ask(&first), bench.ask(&second));
    assert_eq!(first.1.source, Source::Upstream);
    let reply = second.0.unwrap();
    assert_eq!((reply.message.rcode, reply.errors[0].0), (Rcode::SERVFAIL, ExtendedError::NETWORK_ERROR));
    assert_eq!(second.1.dropped, Some(DropReason::Overload));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_wait_gets_what_is_past_its_time() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    let request = edns_query("www.example.kz", RecordType::A, false);
    bench.reply(&request).await;
    tokio::time::sleep(Duration::from_secs(301)).await;
    for (request, rcode, source, error) in [
        (request, Rcode::NOERROR, Source::Stale, ExtendedError::STALE_ANSWER),
        (edns_query("new.kz", RecordType::A, false), Rcode::SERVFAIL, Source::Error, ExtendedError::NETWORK_ERROR),
    ] {
        let (pipeline, mut reply) = (&bench.pipeline, Vec::new());
        let view = pipeline.view(pipeline.now());
        let Step::Ask(pending) = pipeline.answer(&request, client(Transport::Udp), &view, &mut reply) else {
            panic!("it must wait");
        };
        let outcome = pipeline.shed(pending, &mut reply);
        let reply = read(&reply);
        assert_eq!((reply.message.rcode, reply.errors[0].0, outcome.source), (rcode, error, source));
        assert_eq!(outcome.dropped, (source == Source::Error).then_some(DropReason::Overload));
    }
    assert_eq!(bench.world.times_asked(), 1);
}

#[tokio::test]
async fn a_resolver_that_panics_costs_one_answer() {
    struct Broken(AtomicU64);
    impl Upstream for Broken {
        fn resolve<'a>(&'a self, question: &'a Question, _: Now) -> BoxFuture<'a, Resolution> {
            Box::pin(async move {
                assert!(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0, "a test wants it so");
                address(question)
            })
        }
    }
    let upstream = Arc::new(Broken(0.into()));
    let pipeline = Pipeline::new(Settings::default(), upstream, Policy::unfiltered(), Clock::system());
    let request = query("www.example.kz", RecordType::A);
    for rcode in [Rcode::SERVFAIL, Rcode::NOERROR] {
        let reply = pipeline.handle(&request, client(Transport::Udp)).await.unwrap();
        assert_eq!(read(&reply).message.rcode, rcode);
    }
}

#[tokio::test]
async fn a_cookie_is_answered_on_every_way_through_and_may_be_asked_for() {
    let blocked = orders(&[("ads.kz", Action::Sinkhole)]);
    let bench = Bench::new(blocked, |settings| settings.answer.cookies.required = true);
    let with_cookie = |name: &str, cookie: &[u8]| {
        let mut request = edns_query(name, RecordType::A, false);
        let end = request.len();
        request[end - 1] = 4 + cookie.len() as u8;
        request.extend([0, 10, 0, cookie.len() as u8]);
        request.extend(cookie);
        request
    };
    let (reply, outcome) = bench.ask(&with_cookie("www.example.kz", b"abcdefgh")).await;
    let ours = reply.unwrap().cookie;
    assert_eq!((outcome.rcode, outcome.cookie, ours.len()), (Rcode::BADCOOKIE, Some(Standing::New), 24));
    assert!(ours.starts_with(b"abcdefgh"));
    for name in ["www.example.kz", "www.example.kz", "ads.kz"] {
        let (reply, outcome) = bench.ask(&with_cookie(name, &ours)).await;
        assert_eq!((outcome.rcode, outcome.cookie), (Rcode::NOERROR, Some(Standing::Valid)), "{name}");
        assert_eq!(reply.unwrap().cookie, ours, "{name}");
    }
    let forged = [&ours[..23], &[!ours[23]]].concat();
    let (reply, outcome) = bench.ask(&with_cookie("ads.kz", &forged)).await;
    assert_eq!((outcome.rcode, outcome.cookie), (Rcode::BADCOOKIE, Some(Standing::Invalid)));
    assert_eq!(reply.unwrap().cookie, ours);
    let (_, outcome) = bench.ask_by(Transport::Tcp, &with_cookie("ads.kz", b"abcdefgh")).await;
    assert_eq!(outcome.rcode, Rcode::NOERROR, "a stream shows where the client is");
    let (reply, outcome) = bench.ask(&edns_query("ads.kz", RecordType::A, false)).await;
    assert_eq!((outcome.rcode, outcome.cookie), (Rcode::NOERROR, None), "who sends none is not asked for one");
    assert!(reply.unwrap().cookie.is_empty());
}

#[tokio::test]
async fn what_is_not_about_the_internet_is_answered_here() {
    let bench = Bench::new(Policy::unfiltered(), |settings| settings.answer.identity = Some("almaty-1".into()));
    let with = |name: &str, qtype: u16, class: u16| {
        let mut request = query(name, RecordType(qtype));
        let end = request.len();
        request[end - 2..].copy_from_slice(&class.to_be_bytes());
        request
    };
    let version = concat!("qalqan ", env!("CARGO_PKG_VERSION"));
    for (what, request, rcode, text) in [
        ("version.bind", with("version.bind", 16, 3), Rcode::NOERROR, Some(version)),
        ("version.server", with("Version.Server", 16, 3), Rcode::NOERROR, Some(version)),
        ("id.server", with("id.server", 16, 3), Rcode::NOERROR, Some("almaty-1")),
        ("hostname.bind", with("hostname.bind", 16, 3), Rcode::NOERROR, Some("almaty-1")),
        ("another type", with("id.server", 1, 3), Rcode::REFUSED, None),
        ("another CH name", with("authors.bind", 16, 3), Rcode::REFUSED, None),
        ("class HS", with("a.kz", 1, 4), Rcode::REFUSED, None),
        ("class ANY", with("a.kz", 1, 255), Rcode::REFUSED, None),
        ("AXFR", with("kz", 252, 1), Rcode::REFUSED, None),
        ("IXFR", with("kz", 251, 1), Rcode::REFUSED, None),
        ("OPT as a type", with("kz", 41, 1), Rcode::FORMERR, None),
        ("TSIG as a type", with("kz", 250, 1), Rcode::FORMERR, None),
        ("MAILA", with("kz", 254, 1), Rcode::FORMERR, None),
    ] {
        let mut octets = Vec::new();
        let step =
            bench.pipeline.answer(&request, client(Transport::Udp), &bench.pipeline.view(Now::default()), &mut octets);
        assert!(matches!(step, Step::Done(_)), "{what}");
        let header = Header::read(&octets).unwrap();
        assert_eq!(header.rcode(), rcode, "{what}");
        assert_eq!(octets[12..request.len()], request[12..], "{what}");
        match text {
            Some(text) => {
                assert_eq!(header.counts[1], 1, "{what}");
                assert_eq!(octets[request.len() + 2..][..4], [0, 16, 0, 3], "{what}: TXT in class CH");
                assert!(octets.ends_with(text.as_bytes()), "{what}");
            }
            None => assert_eq!(header.counts[1], 0, "{what}"),
        }
    }
    assert_eq!(bench.world.times_asked(), 0);

    let hidden = Bench::new(Policy::unfiltered(), |settings| settings.answer.version = None);
    let mut octets = Vec::new();
    hidden.pipeline.answer(
        &with("version.bind", 16, 3),
        client(Transport::Udp),
        &hidden.pipeline.view(Now::default()),
        &mut octets,
    );
    assert_eq!(Header::read(&octets).unwrap().rcode(), Rcode::REFUSED);
}

#[tokio::test]
async fn edns_is_done_right() {
    let bench = Bench::new(Policy::unfiltered(), |settings| settings.answer.identity = Some("almaty-1".into()));
    let opt = |reply: &[u8]| {
        let header = Header::read(reply).unwrap();
        let records = crate::wire::records(reply, header).map(Result::unwrap);
        let opts: Vec<_> = records.filter(|record| record.rtype == RecordType::OPT).collect();
        assert!(opts.len() <= 1);
        opts.first().map(|opt| (opt.class.0, opt.ttl, opt.data(reply).to_vec()))
    };
    let handle = async |request: &[u8], transport| bench.pipeline.handle(request, client(transport)).await.unwrap();

    assert_eq!(opt(&handle(&query("a.kz", RecordType::A), Transport::Udp).await), None);
    let reply = handle(&edns_query("a.kz", RecordType::A, true), Transport::Udp).await;
    assert_eq!(opt(&reply), Some((1232, 0x8000, vec![])), "our payload, DO as it was");

    let mut later = edns_query("a.kz", RecordType::A, false);
    let at = later.len() - 5;
    later[at] = 1;
    let reply = handle(&later, Transport::Udp).await;
    assert_eq!(opt(&reply), Some((1232, 0x0100_0000, vec![])), "BADVERS, version 0");
    assert_eq!(Header::read(&reply).unwrap().counts[1], 0);

    // NSID and keepalive.
    let mut options = edns_query("a.kz", RecordType::A, false);
    let end = options.len();
    options[end - 1] = 8;
    options.extend([0, 3, 0, 0, 0, 11, 0, 0]);
    let (_, _, over_udp) = opt(&handle(&options, Transport::Udp).await).unwrap();
    assert_eq!(over_udp, b"\0\x03\0\x08almaty-1");
    let (_, _, over_tcp) = opt(&handle(&options, Transport::Tcp).await).unwrap();
    assert_eq!(over_tcp, b"\0\x03\0\x08almaty-1\0\x0b\0\x02\x01\x2c");

    // Padding, where nobody can count the octets otherwise.
    let end = options.len();
    options[end - 8..].copy_from_slice(&[0, 12, 0, 4, 0, 0, 0, 0]);
    assert_eq!(handle(&options, Transport::Tls).await.len(), 468);
    assert!(handle(&options, Transport::Tcp).await.len() < 100);
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_is_cut_whole() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    // Twenty-byte records: 24 of them fit 512 octets with the question and OPT, 58 fit 1232.
    bench.world.says(|question| {
        let count: u8 = question.name.labels().next().unwrap().len() as u8;
        let mut many = set(&question.name.to_string(), RecordType::A, &[10, 0, 0, 0]);
        many.rdata = (0..count).map(|i| Box::from([10, 0, 0, i])).collect();
        resolution(question, Rcode::NOERROR, &[many])
    });
    let name = |records: usize| format!("{}.kz", "a".repeat(records));
    let ask = async |request: &[u8], transport| bench.ask_by(transport, request).await.0.unwrap();
    for (records, payload, transport, is_cut) in [
        (20, None, Transport::Udp, false),
        (40, None, Transport::Udp, true),
        (40, None, Transport::Tcp, false),
        (40, Some(0), Transport::Udp, true),
        (40, Some(512), Transport::Udp, true),
        (40, Some(1232), Transport::Udp, false),
        (63, Some(1232), Transport::Udp, false),
        (63, Some(700), Transport::Udp, true),
        (63, Some(700), Transport::Tcp, false),
    ] {
        let mut request = query(&name(records), RecordType::A);
        if let Some(payload) = payload {
            request = edns_query(&name(records), RecordType::A, false);
            let at = request.len() - 8;
            request[at..at + 2].copy_from_slice(&u16::to_be_bytes(payload));
        }
        let reply = ask(&request, transport).await;
        let what = format!("{records} records, {payload:?}, {transport:?}");
        assert_eq!(reply.header.has(Header::TC), is_cut, "{what}");
        assert_eq!(reply.header.counts[1], if is_cut { 0 } else { records as u16 }, "{what}");
        assert_eq!(reply.header.counts[3], u16::from(payload.is_some()), "{what}");
    }
}

#[tokio::test]
async fn the_text_of_an_error_goes_before_the_answer_does() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    bench.world.says(|question| {
        let mut many = set("a.kz", RecordType::A, &[10, 0, 0, 0]);
        many.rdata = (0..27).map(|i| Box::from([10, 0, 0, i])).collect();
        let errors = vec![ExtendedError::new(ExtendedError::OTHER, "x".repeat(300))];
        Resolution { errors, ..resolution(question, Rcode::NOERROR, &[many]) }
    });
    let mut request = edns_query("a.kz", RecordType::A, false);
    let at = request.len() - 8;
    request[at..at + 2].copy_from_slice(&512u16.to_be_bytes());
    let reply = bench.reply(&request).await;
    assert!(!reply.header.has(Header::TC));
    assert_eq!((reply.header.counts[1], reply.errors), (27, vec![(0, String::new())]));
}

#[tokio::test]
async fn ad_is_for_those_who_asked_and_only_when_it_is_earned() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    for (security, expected) in
        [(Security::Secure, true), (Security::Insecure, false), (Security::Indeterminate, false)]
    {
        bench.pipeline.flush(Name::root(), true);
        bench.world.says(move |question| Resolution { security, ..address(question) });
        let plain = query("a.kz", RecordType::A);
        let mut with_ad = plain.clone();
        with_ad[3] |= Header::AD as u8;
        let with_do = edns_query("a.kz", RecordType::A, true);
        // From the world, then from the cache.
        for _ in 0..2 {
            assert!(!bench.reply(&plain).await.header.has(Header::AD));
            assert_eq!(bench.reply(&with_ad).await.header.has(Header::AD), expected);
            assert_eq!(bench.reply(&with_do).await.header.has(Header::AD), expected);
        }
    }
}

#[tokio::test]
async fn bits_of_the_query_come_back() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    bench.world.says(move |question| {
        seen.lock().push((question.dnssec_ok, question.checking_disabled));
        address(question)
    });
    let mut request = edns_query("a.kz", RecordType::A, true);
    request[3] |= Header::CD as u8;
    let reply = bench.reply(&request).await;
    assert!(reply.header.has(Header::RD | Header::CD));
    assert!(!bench.reply(&query("a.kz", RecordType::A)).await.header.has(Header::CD));
    assert_eq!(*asked.lock(), [(true, true), (false, false)]);
}

#[tokio::test]
async fn a_query_without_rd_is_refused_unless_a_rule_speaks_or_the_cache_may() {
    let without_rd = |name| {
        let mut request = edns_query(name, RecordType::A, false);
        request[2] = 0;
        request
    };
    let bench = Bench::new(orders(&[("blocked.kz", Action::NxDomain)]), |_| {});
    bench.reply(&edns_query("known.kz", RecordType::A, false)).await;
    let reply = bench.reply(&without_rd("known.kz")).await;
    assert_eq!((reply.message.rcode, reply.errors[0].0), (Rcode::REFUSED, ExtendedError::NOT_AUTHORITATIVE));
    assert_eq!(bench.reply(&without_rd("blocked.kz")).await.message.rcode, Rcode::NXDOMAIN);

    let bench = Bench::new(Policy::unfiltered(), |settings| settings.non_recursive = NonRecursive::FromCache);
    bench.reply(&edns_query("known.kz", RecordType::A, false)).await;
    assert_eq!(bench.reply(&without_rd("known.kz")).await.message.answer.len(), 1);
    assert_eq!(bench.reply(&without_rd("other.kz")).await.message.rcode, Rcode::REFUSED);
    assert_eq!(bench.world.times_asked(), 1);
}

#[tokio::test]
async fn any_may_be_answered_minimally() {
    let bench = Bench::new(Policy::unfiltered(), |settings| settings.any = AnyQueries::Minimal);
    let (reply, outcome) = bench.ask(&query("a.kz", RecordType::ANY)).await;
    let reply = reply.unwrap();
    assert_eq!(
        (reply.message.answer[0].rtype, data(&reply.message.answer[0])),
        (RecordType::HINFO, &b"\x07RFC8482\0"[..])
    );
    assert_eq!((outcome.source, bench.world.times_asked()), (Source::Local, 0));
}

#[tokio::test]
async fn a_prohibited_client_is_told_so() {
    let bench = Bench::new(Policy::unfiltered(), |_| {});
    let mut octets = Vec::new();
    let request = edns_query("a.kz", RecordType::A, false);
    let Step::Done(outcome) = bench.pipeline.prohibit(&request, client(Transport::Udp), &mut octets) else {
        panic!("not done")
    };
    let reply = read(&octets);
    assert_eq!((reply.message.rcode, reply.errors[0].0), (Rcode::REFUSED, ExtendedError::PROHIBITED));
    assert_eq!(outcome.ede, Some(ExtendedError::PROHIBITED));
}

#[test]
fn together_queries_are_answered_as_they_are_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rules =
        [("a.kz", Action::Sinkhole), ("b.a.kz", Action::NxDomain), ("c.kz", Action::Cname("d.kz".parse().unwrap()))];
    let names = ["kz", "a.kz", "b.a.kz", "x.b.a.kz", "c.kz", "d.kz", "www.d.kz", "example", "."];
    let bench = runtime.block_on(async {
        let bench = Bench::new(orders(&rules), |settings| settings.non_recursive = NonRecursive::FromCache);
        for known in ["d.kz", "example", "."] {
            bench.reply(&query(known, RecordType::A)).await;
        }
        bench
    });
    let asked =
        (proptest::sample::select(names.to_vec()), prop_oneof![Just(RecordType::A), any::<u16>().prop_map(RecordType)]);
    let change = proptest::option::of((2..40_usize, any::<u8>()));
    let query_like = (asked, any::<bool>(), change).prop_map(|((name, qtype), with_edns, change)| {
        let mut request = if with_edns { edns_query(name, qtype, true) } else { query(name, qtype) };
        if let Some((at, octet)) = change.filter(|(at, _)| *at < request.len()) {
            request[at] = octet;
        }
        request
    });
    let bytes = proptest::collection::vec(any::<u8>(), 0..60);
    let messages = proptest::collection::vec(prop_oneof![9 => query_like, 1 => bytes], 1..=64);
    let _guard = runtime.enter();
    let room = Mutex::new(crate::policy::Room::default());
    TestRunner::new(ProptestConfig::with_cases(500))
        .run(&messages, |messages| {
            let view = bench.pipeline.view(bench.pipeline.now());
            let mut names = vec![[0; MAX_NAME_LEN]; messages.len()];
            let mut arrivals: Vec<Arrival<'_>> = messages
                .iter()
                .zip(&mut names)
                .map(|(message, name)| Arrival::read(message, client(Transport::Udp), name))
                .collect();
            bench.pipeline.look_up_all(&view, &mut arrivals, &mut room.lock());
            for (arrival, message) in arrivals.iter().zip(&messages) {
                let (mut together, mut alone) = (vec![1], vec![2]);
                let step = bench.pipeline.respond(arrival, &view, &mut together);
                let expected = bench.pipeline.answer(message, client(Transport::Udp), &view, &mut alone);
                prop_assert_eq!(&together, &alone, "{:?}", message);
                prop_assert_eq!(format!("{step:?}"), format!("{expected:?}"), "{:?}", message);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_bytes_are_answered_or_dropped() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = runtime.block_on(async { Bench::new(orders(&[("kz", Action::Sinkhole)]), |_| {}) });
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    let query_like = (prop_oneof![Just("kz"), Just("a.kz"), Just("example")], 0..3u8, bytes()).prop_map(
        |(name, additionals, tail)| {
            let mut request = query(name, RecordType::A);
            request[11] = additionals;
            request.extend(tail);
            request
        },
    );
    let transport = prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)];
    TestRunner::new(ProptestConfig::with_cases(5000))
        .run(&(prop_oneof![bytes(), query_like], transport), |(request, transport)| {
            let Some(reply) = runtime.block_on(bench.pipeline.handle(&request, client(transport))) else {
                prop_assert!(request.len() < 12 || request[2] & 0x80 != 0, "a query got no reply");
                return Ok(());
            };
            prop_assert_eq!(&reply[..2], &request[..2]);
            let header = Header::read(&reply).unwrap();
            prop_assert!(header.has(Header::QR));
            prop_assert!(crate::wire::records(&reply, header).all(|record| record.is_ok()));
            prop_assert!(reply.len() <= 1232 || !transport.is_datagram());
            Ok(())
        })
        .unwrap();
}
