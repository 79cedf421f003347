//! The published precedence, row by row; then every row at once, against a naive judge.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::explain::Outcome;
use super::*;
use crate::rule::{Action, LocalRecord, Owner, Rule, TypeFilter};
use crate::snapshot::testing::{rule, snapshot};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

fn at(wall: u64) -> Now {
    Now { wall, ..Now::default() }
}

fn policy(lists: &[ListEntry], rules: &[(u16, Rule)]) -> Policy {
    Policy::new(Settings::default(), Some(Arc::new(snapshot(lists, rules))), OverrideSet::default())
}

fn protecting(policy: &Policy, names: &[&str]) -> Policy {
    let protected = names.iter().map(|text| name(text)).collect();
    let settings = Settings { protected, ..Settings::default() };
    Policy::new(settings, policy.snapshot.clone(), policy.overrides().clone())
}

fn overriding(policy: &Policy, entries: &[(OverrideKind, &str, u64)]) -> Policy {
    policy.with_overrides(
        entries
            .iter()
            .map(|&(kind, owner, ends_at)| Override {
                name: name(owner),
                kind,
                reason: "a test".into(),
                author: None,
                created_at: 0,
                ends_at,
            })
            .collect(),
    )
}

/// A list by its name and priority.
fn list(name: &str, priority: i32) -> ListEntry {
    ListEntry { priority, ..ListEntry::new(name) }
}

/// A response policy zone.
fn zone(name: &str, priority: i32) -> ListEntry {
    ListEntry { most_specific_wins: true, ..list(name, priority) }
}

fn block(owner: &str) -> Rule {
    rule(owner, Scope::Subdomains)
}

fn allow(owner: &str) -> Rule {
    Rule { action: Some(Action::Allow), ..block(owner) }
}

fn important(rule: Rule) -> Rule {
    Rule { important: true, ..rule }
}

fn with_action(action: Action, rule: Rule) -> Rule {
    Rule { action: Some(action), ..rule }
}

fn with_dossier(rule: Rule, dossier: Dossier) -> Rule {
    Rule { dossier: Some(Box::new(dossier)), ..rule }
}

/// The verdict in short: `pass`, or the word and the list, with `!` behind it when a protected name was hit.
fn said(policy: &Policy, asked: &str, now: Now) -> String {
    let asked = name(asked);
    let judgement = policy.judge(&asked, RecordType::A, Trigger::Qname, CLIENT, now);
    let list = |hit: &Hit<'_>| hit.list.map_or("override", |list| &policy.lists()[list.index()].name).to_owned();
    let mut said = match &judgement.verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Allow(hit) => format!("allow {}", list(hit)),
        Verdict::Block(hit) => format!("block {}", list(hit)),
    };
    if judgement.protected {
        said.push('!');
    }
    for shadow in &judgement.shadow {
        said += &format!(" ({})", policy.lists()[shadow.index()].name);
    }
    let explained = policy.explain(&asked, RecordType::A, CLIENT, now);
    assert!(said.starts_with(explained.verdict), "{said}, but explained as {explained}");
    said
}

#[test]
fn without_lists_everything_passes() {
    let policy = Policy::unfiltered();
    assert_eq!(said(&policy, "ads.example", at(0)), "pass");
    assert_eq!(policy.generation(), "none");
    assert!(policy.lists().is_empty());
    let policy = overriding(&policy, &[(OverrideKind::Block, "ads.example", 10)]);
    assert_eq!(said(&policy, "x.ads.example", at(0)), "block override", "overrides need no lists");
}

#[test]
fn scopes_cover_what_they_say() {
    let policy = policy(
        &[list("l", 0)],
        &[
            (0, rule("exact.example", Scope::Exact)),
            (0, rule("below.example", Scope::Below)),
            (0, rule("all.example", Scope::Subdomains)),
        ],
    );
    for (asked, verdict) in [
        ("exact.example", "block l"),
        ("a.exact.example", "pass"),
        ("below.example", "pass"),
        ("a.below.example", "block l"),
        ("a.b.below.example", "block l"),
        ("all.example", "block l"),
        ("a.b.all.example", "block l"),
        ("ball.example", "pass"),
        ("example", "pass"),
        (".", "pass"),
    ] {
        assert_eq!(said(&policy, asked, at(0)), verdict, "{asked}");
    }
}

#[test]
fn row_1_protected_names_are_never_blocked() {
    let lists = policy(
        &[list("l", 9), zone("z", 5)],
        &[(0, important(block("gov.kz"))), (1, block("gov.kz")), (0, block("kz")), (0, allow("open.gov.kz"))],
    );
    let policy = protecting(&overriding(&lists, &[(OverrideKind::Block, "egov.gov.kz", 10)]), &["gov.kz", "bank.kz"]);
    for (asked, verdict) in [
        ("gov.kz", "pass!"),
        ("a.b.gov.kz", "pass!"),
        ("egov.gov.kz", "pass!"),
        ("bank.kz", "pass!"),
        ("agov.kz", "block l"),
        ("bank.example", "pass"),
    ] {
        assert_eq!(said(&policy, asked, at(0)), verdict, "{asked}");
    }
    assert!(policy.is_protected(&name("x.gov.kz")) && !policy.is_protected(&name("kz")));
}

#[test]
fn row_2_overrides_go_before_lists_and_allow_before_block() {
    let lists = policy(&[list("l", 9)], &[(0, important(block("a.example"))), (0, important(allow("b.example")))]);
    let policy = overriding(
        &lists,
        &[
            (OverrideKind::Allow, "a.example", 100),
            (OverrideKind::Block, "b.example", 100),
            (OverrideKind::Block, "x.a.example", 100),
        ],
    );
    for (asked, wall, verdict) in [
        ("a.example", 0, "allow override"),
        ("x.a.example", 0, "allow override"),
        ("b.example", 0, "block override"),
        ("x.b.example", 99, "block override"),
        ("a.example", 100, "block l"),
        ("b.example", 100, "allow l"),
    ] {
        assert_eq!(said(&policy, asked, at(wall)), verdict, "{asked} at {wall}");
    }
}

#[test]
fn row_3_the_first_tier_with_a_match_decides() {
    let policy = policy(
        &[list("low", -1), list("high", 10), list("middle", 0)],
        &[
            (0, important(block("example"))),
            (1, block("a.example")),
            (1, allow("b.example")),
            (2, important(allow("a.example"))),
            (2, important(block("b.example"))),
            (2, allow("c.example")),
        ],
    );
    for (asked, verdict) in [
        ("a.example", "block high"),
        ("b.example", "allow high"),
        ("c.example", "allow middle"),
        ("d.example", "block low"),
    ] {
        assert_eq!(said(&policy, asked, at(0)), verdict, "{asked}");
    }
}

#[test]
fn row_4_class_goes_before_depth_in_a_tier() {
    let policy = policy(
        &[list("one", 0), list("two", 0)],
        &[
            (0, block("www.free.example")),
            (1, allow("free.example")),
            (0, important(block("held.example"))),
            (1, allow("www.held.example")),
            (0, important(block("www.open.example"))),
            (1, important(allow("open.example"))),
        ],
    );
    for (asked, verdict) in
        [("www.free.example", "allow two"), ("www.held.example", "block one"), ("www.open.example", "allow two")]
    {
        assert_eq!(said(&policy, asked, at(0)), verdict, "{asked}");
    }
}

#[test]
fn row_4_in_a_response_policy_zone_the_most_specific_owner_wins() {
    let policy = policy(
        &[zone("z", 0), list("l", 0)],
        &[
            (0, rule("example", Scope::Below)),
            (0, with_action(Action::Allow, rule("a.example", Scope::Exact))),
            (0, rule("b.example", Scope::Exact)),
            (0, with_action(Action::Allow, rule("b.example", Scope::Below))),
            (0, with_action(Action::Allow, rule("a.c.example", Scope::Below))),
            (0, rule("b.a.c.example", Scope::Exact)),
            (1, important(block("a.example"))),
            (1, important(allow("example"))),
        ],
    );
    for (asked, verdict) in [
        ("example", "allow l"),
        ("x.example", "block z"),
        ("a.example", "allow z"),
        ("x.a.example", "block z"),
        ("b.example", "block z"),
        ("x.b.example", "allow z"),
        ("a.c.example", "block z"),
        ("x.a.c.example", "allow z"),
        ("b.a.c.example", "block z"),
        ("x.b.a.c.example", "allow z"),
    ] {
        assert_eq!(said(&policy, asked, at(0)), verdict, "{asked}");
    }
}

#[test]
fn row_4_a_zone_is_a_tier_of_its_own_among_lists_of_its_priority() {
    // `two` belongs to the tier of `one`, which stands before the zone.
    let policy = policy(
        &[list("one", 0), zone("z", 0), list("two", 0), zone("y", 0)],
        &[
            (1, allow("a.example")),
            (2, block("a.example")),
            (1, allow("b.example")),
            (3, block("b.example")),
            (0, block("c.example")),
            (2, allow("c.example")),
        ],
    );
    for (asked, verdict) in [("a.example", "block two"), ("b.example", "allow z"), ("c.example", "allow two")] {
        assert_eq!(said(&policy, asked, at(0)), verdict, "{asked}");
    }
}

#[test]
fn row_4_a_wildcard_covers_what_lies_below_names_that_exist_only_in_between() {
    // BIND and Unbound let `b.x.com` through: `a.b.x.com` makes it an empty
    // name of the zone, at which the wildcard of `x.com` ends there.
    let policy = policy(
        &[zone("z", 0)],
        &[
            (0, rule("x.com", Scope::Exact)),
            (0, rule("x.com", Scope::Below)),
            (0, rule("a.b.x.com", Scope::Exact)),
            (0, rule("a.b.x.com", Scope::Below)),
        ],
    );
    for asked in ["x.com", "b.x.com", "c.b.x.com", "a.b.x.com", "d.a.b.x.com", "c.x.com"] {
        assert_eq!(said(&policy, asked, at(0)), "block z", "{asked}");
    }
}

#[test]
fn row_5_among_equals_the_most_specific_name_then_the_first_list() {
    let policy = policy(
        &[list("one", 0), list("two", 0)],
        &[
            (0, block("a.example")),
            (1, block("b.a.example")),
            (0, block("same.example")),
            (1, block("same.example")),
            (0, block("exact.example")),
            (1, rule("exact.example", Scope::Exact)),
        ],
    );
    for (asked, verdict) in [
        ("a.example", "block one"),
        ("b.a.example", "block two"),
        ("x.b.a.example", "block two"),
        ("same.example", "block one"),
        ("exact.example", "block two"),
        ("x.exact.example", "block one"),
    ] {
        assert_eq!(said(&policy, asked, at(0)), verdict, "{asked}");
    }
}

#[test]
fn a_shadow_is_counted_and_never_obeyed() {
    let shadow = |name, priority| ListEntry { shadow: true, ..list(name, priority) };
    let policy = policy(
        &[shadow("s", 9), list("l", 0), shadow("t", 9)],
        &[
            (0, important(block("a.example"))),
            (2, block("a.example")),
            (1, block("b.example")),
            (0, block("b.example")),
            (2, allow("b.example")),
            (1, Rule { shadow: true, ..block("c.example") }),
            (0, block("d.example")),
            (0, allow("free.d.example")),
        ],
    );
    for (asked, verdict) in [
        ("a.example", "pass (s) (t)"),
        ("b.example", "block l (s)"),
        ("c.example", "pass (l)"),
        ("d.example", "pass (s)"),
        ("free.d.example", "pass"),
    ] {
        assert_eq!(said(&policy, asked, at(0)), verdict, "{asked}");
    }
}

#[test]
fn an_entry_counts_from_its_first_second_to_its_last() {
    let dossier = Dossier { effective_at: Some(100), expires_at: Some(200), ..Dossier::default() };
    let policy = policy(
        &[list("l", 0), list("m", -1)],
        &[(0, with_dossier(block("a.example"), dossier)), (1, rule("a.example", Scope::Exact))],
    );
    for (wall, verdict) in [(99, "pass"), (100, "block l"), (199, "block l"), (200, "pass")] {
        assert_eq!(said(&policy, "x.a.example", at(wall)), verdict, "{wall}");
    }
    assert_eq!(said(&policy, "a.example", at(200)), "block m", "what has expired hides nothing");
}

#[test]
fn nobody_keeps_a_blocked_answer_longer_than_the_block() {
    let dossier = Dossier { expires_at: Some(200), ..Dossier::default() };
    let slow = ListEntry { ttl: Some(60), ..list("slow", 0) };
    let lists = policy(
        &[list("l", 0), slow],
        &[
            (0, with_dossier(block("a.example"), dossier.clone())),
            (1, with_dossier(block("b.example"), dossier)),
            (1, block("c.example")),
        ],
    );
    let policy = overriding(&lists, &[(OverrideKind::Block, "d.example", 195)]);
    for (asked, wall, expected) in [
        ("a.example", 0, DEFAULT_BLOCK_TTL),
        ("a.example", 193, 7),
        ("b.example", 100, 60),
        ("b.example", 199, 1),
        ("c.example", 199, 60),
        ("d.example", 190, 5),
    ] {
        let judgement = policy.judge(&name(asked), RecordType::A, Trigger::Qname, CLIENT, at(wall));
        let Verdict::Block(hit) = judgement.verdict else { panic!("{asked} is not blocked") };
        assert_eq!(hit.ttl, expected, "{asked} at {wall}");
    }
}

#[test]
fn types_and_exceptions_narrow_a_rule() {
    let policy = policy(
        &[list("l", 0)],
        &[
            (0, Rule { types: TypeFilter::Only(vec![RecordType::AAAA]), ..block("six.example") }),
            (0, Rule { types: TypeFilter::Except(vec![RecordType::AAAA]), ..block("four.example") }),
            (0, Rule { except: vec![name("a.wide.example"), name("elsewhere")], ..block("wide.example") }),
        ],
    );
    for (asked, qtype, blocked) in [
        ("six.example", RecordType::AAAA, true),
        ("six.example", RecordType::A, false),
        ("four.example", RecordType::AAAA, false),
        ("four.example", RecordType::TXT, true),
        ("wide.example", RecordType::A, true),
        ("b.wide.example", RecordType::A, true),
        ("a.wide.example", RecordType::A, false),
        ("x.a.wide.example", RecordType::A, false),
    ] {
        let judgement = policy.judge(&name(asked), qtype, Trigger::Qname, CLIENT, at(0));
        assert_eq!(matches!(judgement.verdict, Verdict::Block(_)), blocked, "{asked} {qtype}");
    }
}

#[test]
fn names_that_are_asked_for_or_led_to_are_judged_by_the_same_rules() {
    let policy = policy(&[list("l", 0)], &[(0, block("a.example"))]);
    for trigger in [Trigger::Qname, Trigger::Cname] {
        let judgement = policy.judge(&name("x.a.example"), RecordType::A, trigger, CLIENT, at(0));
        let Verdict::Block(hit) = judgement.verdict else { panic!("{trigger:?}") };
        assert_eq!(hit.trigger, trigger);
    }
}

fn about(owner: Owner, action: Action) -> Rule {
    Rule { action: Some(action), ..Rule::new(owner, Scope::Exact) }
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// The verdict on an answer for `www.example`, with the trigger and the list that decide.
fn on_answer(policy: &Policy, addresses: &[&str], names: &[&str], servers: &[&str]) -> String {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    let name_servers = NameServers { names: names.iter().map(|text| name(text)).collect(), addresses: parse(servers) };
    let (asked, addresses) = (name("www.example"), parse(addresses));
    let finding = Finding { name: &asked, addresses: &addresses, name_servers: Some(&name_servers) };
    match policy.judge_answer(finding, RecordType::A, Trigger::Qname, CLIENT, at(0)).verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Allow(hit) => format!("allow {} {}", policy.lists()[hit.list.unwrap().index()].name, trigger(hit)),
        Verdict::Block(hit) => format!("block {} {}", policy.lists()[hit.list.unwrap().index()].name, trigger(hit)),
    }
}

fn trigger(hit: Hit<'_>) -> &'static str {
    Trigger::LABELS[hit.trigger as usize]
}

#[test]
fn every_trigger_of_a_policy_zone_has_its_place() {
    // One rule of each kind; what is left when the strongest is taken away decides.
    let triggers = [
        (about(Owner::Client(prefix("192.0.2.0/24")), Action::Drop), "block z client"),
        (about(Owner::Name(name("www.example")), Action::NxDomain), "block z qname"),
        (about(Owner::Answer(prefix("198.51.100.0/24")), Action::NoData), "block z ip"),
        (about(Owner::NameServer(name("ns.example")), Action::NxDomain), "block z nsdname"),
        (about(Owner::NameServerAddress(prefix("203.0.113.0/24")), Action::NxDomain), "block z nsip"),
    ];
    for first in 0..triggers.len() {
        let rules: Vec<_> = triggers[first..].iter().map(|(rule, _)| (0, rule.clone())).collect();
        let policy = policy(&[zone("z", 0)], &rules);
        assert_eq!(on_answer(&policy, &["198.51.100.1"], &["ns.example"], &["203.0.113.1"]), triggers[first].1);
        let about_question = if first < 2 { triggers[first].1 } else { "pass" };
        assert_eq!(on_answer(&policy, &["192.0.2.1"], &["www.ns.example"], &["2001:db8::1"]), about_question);
    }
}

#[test]
fn the_longest_prefix_and_then_the_least_address_decide() {
    let zone_of = |owners: &[&str]| {
        let rule = |(at, text): (usize, &&str)| {
            let record = LocalRecord::a([127, 0, 0, at as u8].into());
            (0, about(Owner::Answer(prefix(text)), Action::Records(vec![record])))
        };
        policy(&[zone("z", 0)], &owners.iter().enumerate().map(rule).collect::<Vec<_>>())
    };
    let decides = |policy: &Policy, addresses: [&str; 2]| {
        let mut addresses = addresses.map(|text| text.parse::<IpAddr>().unwrap());
        addresses.sort();
        let asked = name("www.example");
        let finding = Finding { name: &asked, addresses: &addresses, name_servers: None };
        let judgement = policy.judge_answer(finding, RecordType::A, Trigger::Qname, CLIENT, at(0));
        let Verdict::Block(Hit { action: ActionRef::Records(records), .. }) = judgement.verdict else { panic!() };
        records.iter().next().unwrap().rdata[3]
    };
    let policy = zone_of(&["192.0.2.0/24", "192.0.2.128/25", "192.0.2.9/32", "198.51.100.9/32", "2001:db8::/64"]);
    for (addresses, rule) in [
        (["192.0.2.1", "192.0.2.129"], 1),
        (["192.0.2.1", "192.0.2.2"], 0),
        (["198.51.100.9", "192.0.2.9"], 2),
        (["192.0.2.9", "198.51.100.9"], 2),
        (["2001:db8::1", "192.0.2.200"], 1),
    ] {
        assert_eq!(decides(&policy, addresses), rule, "{addresses:?}");
    }
}

#[test]
fn a_rule_about_the_question_waits_for_those_about_answers_that_go_before() {
    let answers = |list| (list, about(Owner::Answer(prefix("198.51.100.0/24")), Action::NxDomain));
    let question = |list, action| (list, about(Owner::Name(name("www.example")), action));
    let early = |policy: &Policy| {
        let judgement = policy.judge(&name("www.example"), RecordType::A, Trigger::Qname, CLIENT, at(0));
        (matches!(judgement.verdict, Verdict::Pass), judgement.awaits_answer)
    };
    let zones = [zone("one", 1), zone("two", 0)];
    for (rules, awaits, listed, elsewhere) in [
        (vec![answers(0), question(1, Action::Drop)], true, "block one ip", "block two qname"),
        (vec![answers(0), question(1, Action::Allow)], true, "block one ip", "allow two qname"),
        (vec![question(0, Action::Drop), answers(1)], false, "block one qname", "block one qname"),
        (vec![question(0, Action::Allow), answers(1)], false, "allow one qname", "allow one qname"),
        (vec![question(0, Action::Drop), answers(0)], false, "block one qname", "block one qname"),
    ] {
        let policy = policy(&zones, &rules);
        assert_eq!(early(&policy), (false, awaits), "{listed}");
        assert_eq!(on_answer(&policy, &["198.51.100.1"], &[], &[]), listed);
        assert_eq!(on_answer(&policy, &["192.0.2.1"], &[], &[]), elsewhere);
    }
    let shadow = ListEntry { shadow: true, ..zone("one", 1) };
    let policy = policy(&[shadow, zone("two", 0)], &[answers(0), question(1, Action::Drop)]);
    assert_eq!(early(&policy), (false, false), "a shadow decides nothing");
    assert!(policy.judges_answers() && !policy.judges_name_servers());
}

#[test]
fn an_explanation_shows_what_speaks_about_the_client_and_the_answer() {
    let rules = [
        (0, about(Owner::Answer(prefix("198.51.100.0/24")), Action::NxDomain)),
        (0, Rule { scope: Scope::Below, ..about(Owner::NameServer(name("farm.test")), Action::NoData) }),
        (0, about(Owner::NameServerAddress(prefix("2001:db8::/32")), Action::Drop)),
        (1, about(Owner::Client(prefix("192.0.2.0/24")), Action::Allow)),
        (1, about(Owner::Name(name("target.example")), Action::Drop)),
    ];
    let policy = policy(&[zone("one", 1), zone("two", 0)], &rules);
    let (asked, target) = (name("www.example"), name("target.example"));
    let early = policy.explain(&asked, RecordType::A, CLIENT, at(0));
    assert_eq!(early.verdict, "allow");
    assert!(early.why.ends_with("unless a list that goes before has a rule about the answer"), "{}", early.why);
    assert!(early.to_string().contains("clients in 192.0.2.0/24 -> allow"), "{early}");

    let addresses = ["198.51.100.1".parse().unwrap()];
    let servers = NameServers { names: vec![name("a.farm.test")], addresses: vec!["2001:db8::53".parse().unwrap()] };
    let question = Finding { name: &asked, addresses: &addresses, name_servers: Some(&servers) };
    let alias = Finding { name: &target, addresses: &[], name_servers: None };
    let explained = policy.explain_chain(question, &[alias], RecordType::A, CLIENT, at(0));
    let found: Vec<_> = explained.matches.iter().map(|found| (&*found.owner, found.outcome)).collect();
    let outranked = Outcome::Outranked;
    assert_eq!(
        found,
        [
            ("24.0.100.51.198.rpz-ip", Outcome::Decides),
            ("farm.test.rpz-nsdname", outranked),
            ("32.zz.db8.2001.rpz-nsip", outranked),
            ("24.0.2.0.192.rpz-client-ip", outranked),
            ("target.example", outranked),
        ]
    );
    assert_eq!((explained.verdict, &*explained.why), ("block", "list one blocks it"));
    assert!(explained.matches[4].why.contains("chain of aliases"), "{}", explained.matches[4].why);
}

#[test]
fn overrides_and_protected_names_stand_above_rules_about_answers() {
    let rules = [
        (0, about(Owner::Answer(prefix("198.51.100.0/24")), Action::NxDomain)),
        (0, about(Owner::NameServer(name("ns.example")), Action::NxDomain)),
    ];
    let lists = policy(&[zone("z", 0)], &rules);
    let judge = |policy: &Policy| {
        let (asked, addresses) = (name("www.example"), [IpAddr::from([198, 51, 100, 1])]);
        let finding = Finding { name: &asked, addresses: &addresses, name_servers: None };
        let judgement = policy.judge_answer(finding, RecordType::A, Trigger::Qname, CLIENT, at(0));
        (matches!(judgement.verdict, Verdict::Block(_)), judgement.protected)
    };
    assert_eq!(judge(&lists), (true, false));
    assert_eq!(judge(&overriding(&lists, &[(OverrideKind::Allow, "example", 100)])), (false, false));
    assert_eq!(judge(&protecting(&lists, &["example"])), (false, true));
}

#[test]
fn actions_come_out_as_they_went_in() {
    let records = Action::Records(vec![LocalRecord::a(Ipv4Addr::LOCALHOST)]);
    let alias = Action::Cname(name("walled.garden"));
    for action in [
        Action::Sinkhole,
        Action::NxDomain,
        Action::NoData,
        Action::Refused,
        Action::Drop,
        Action::Truncate,
        alias,
        records,
    ] {
        let policy = policy(&[list("l", 0)], &[(0, with_action(action.clone(), block("a.example")))]);
        let judgement = policy.judge(&name("a.example"), RecordType::A, Trigger::Qname, CLIENT, at(0));
        let Verdict::Block(hit) = judgement.verdict else { panic!("{action:?}") };
        assert_eq!((hit.action.to_action(), hit.action.index()), (action.clone(), action.index()));
        assert_eq!(hit.action.label(), action.label());
    }
}

#[test]
fn a_blocked_answer_says_why() {
    let dossier = |ede_text: Option<&str>| Dossier {
        order_id: Some("42".into()),
        authority: Some("Court".into()),
        ede_text: ede_text.map(str::to_owned),
        ede: Some(BlockReason::Censored),
        ..Dossier::default()
    };
    let templated = ListEntry { ede_text: Some("order {order_id} in {list}".into()), ..list("templated", 0) };
    let lists = policy(
        &[templated, list("plain", 0)],
        &[
            (0, with_dossier(block("a.example"), dossier(None))),
            (0, with_dossier(block("own.example"), dossier(Some("see {authority}")))),
            (0, block("bare.example")),
            (1, with_dossier(block("b.example"), dossier(None))),
            (1, block("c.example")),
        ],
    );
    let policy = overriding(&lists, &[(OverrideKind::Block, "d.example", 10)]);
    for (asked, reason, text) in [
        ("a.example", BlockReason::Censored, "order 42 in templated"),
        ("own.example", BlockReason::Censored, "see Court"),
        ("bare.example", BlockReason::Blocked, "order  in templated"),
        ("b.example", BlockReason::Censored, "Court; 42"),
        ("c.example", BlockReason::Blocked, "plain"),
        ("d.example", BlockReason::Blocked, "a test"),
    ] {
        let judgement = policy.judge(&name(asked), RecordType::A, Trigger::Qname, CLIENT, at(0));
        let Verdict::Block(hit) = judgement.verdict else { panic!("{asked}") };
        let mut written = Vec::new();
        hit.write_text(&mut written);
        assert_eq!((hit.reason, str::from_utf8(&written).unwrap()), (reason, text), "{asked}");
    }
}

#[test]
fn an_explanation_shows_every_match_and_what_became_of_it() {
    let later = Dossier { effective_at: Some(1_000), ..Dossier::default() };
    let order = Dossier { order_id: Some("42".into()), issued_at: Some(0), ..Dossier::default() };
    let lists = policy(
        &[list("high", 5), list("low", 0), ListEntry { shadow: true, ..list("s", 9) }],
        &[
            (0, with_dossier(block("example"), order)),
            (0, allow("free.example")),
            (1, block("a.example")),
            (1, with_dossier(rule("a.example", Scope::Exact), later)),
            (2, block("a.example")),
            (1, Rule { types: TypeFilter::Only(vec![RecordType::TXT]), ..block("a.example") }),
            (1, rule("example", Scope::Exact)),
        ],
    );
    let explained = lists.explain(&name("a.example"), RecordType::A, CLIENT, at(10));
    let seen: Vec<_> = explained
        .matches
        .iter()
        .map(|found| (found.list.clone().unwrap_or_default(), found.owner.clone(), found.outcome))
        .collect();
    let expected = [
        ("high", "example", Outcome::Decides),
        ("low", "a.example", Outcome::Outranked),
        ("s", "a.example", Outcome::Shadow),
        ("low", "a.example", Outcome::NotYet),
        ("low", "a.example", Outcome::OtherType),
    ]
    .map(|(list, owner, outcome)| (list.to_owned(), owner.to_owned(), outcome));
    assert_eq!(seen, expected, "{explained}");
    assert_eq!(explained.verdict, "block");
    assert_eq!(explained.matches[1].why, "a list of a higher tier decides");
    assert_eq!(explained.matches[3].why, "it is in force from 1970-01-01T00:16:40Z");

    let text = explained.to_string();
    for line in ["a.example A: block (list high blocks it)", "    order_id: 42", "    issued_at: 1970-01-01T00:00:00Z"]
    {
        assert!(text.lines().any(|other| other == line), "{line:?} is not in\n{text}");
    }
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!(json["matches"][0]["dossier"]["order_id"], "42");
    assert_eq!(json["matches"][2]["outcome"], "shadow");

    let freed = overriding(&lists, &[(OverrideKind::Allow, "a.example", 100)]);
    let explained = freed.explain(&name("a.example"), RecordType::A, CLIENT, at(10));
    assert_eq!((explained.verdict, &*explained.why), ("allow", "an override allows it"));
    assert_eq!(explained.matches[1].why, "an override goes before all lists");

    let explained = protecting(&lists, &["example"]).explain(&name("a.example"), RecordType::A, CLIENT, at(10));
    assert_eq!((explained.verdict, explained.matches[0].outcome), ("pass", Outcome::Protected));
}

#[test]
fn other_overrides_share_the_lists() {
    let lists = policy(&[list("l", 0)], &[(0, block("a.example"))]);
    let freed = overriding(&lists, &[(OverrideKind::Allow, "a.example", 100)]);
    assert!(Arc::ptr_eq(lists.snapshot().unwrap(), freed.snapshot().unwrap()));
    assert_eq!(
        (said(&lists, "a.example", at(0)), said(&freed, "a.example", at(0))),
        ("block l".into(), "allow override".into())
    );
}

#[test]
fn every_list_may_be_configured() {
    let lists: Vec<ListEntry> = (0..300).map(|index| list(&format!("l{index}"), index)).collect();
    let rules: Vec<_> = (0..300).map(|index| (index, block("a.example"))).collect();
    assert_eq!(said(&policy(&lists, &rules), "a.example", at(0)), "block l299");
}

// The naive judge: every rule is looked at, and sorted by the text of the published order.

fn owner(rule: &Rule) -> &Name {
    rule.owner.name().unwrap()
}

fn covers(rule: &Rule, asked: &Name, qtype: RecordType, wall: u64) -> bool {
    let in_scope = match rule.scope {
        Scope::Exact => *asked == *owner(rule),
        Scope::Below => asked.is_below(owner(rule)),
        Scope::Subdomains => asked.is_at_or_below(owner(rule)),
    };
    in_scope
        && rule.types.covers(qtype)
        && !rule.except.iter().any(|except| asked.is_at_or_below(except))
        && rule.dossier.as_ref().is_none_or(|dossier| dossier.in_force(wall))
}

fn naive(
    lists: &[ListEntry],
    rules: &[(u16, Rule)],
    asked: &Name,
    qtype: RecordType,
    wall: u64,
) -> Option<(u16, bool)> {
    let found: Vec<_> = rules
        .iter()
        .filter(|(list, rule)| !lists[usize::from(*list)].shadow && !rule.shadow && covers(rule, asked, qtype, wall))
        .collect();
    let mut priorities: Vec<i32> = found.iter().map(|(list, _)| lists[usize::from(*list)].priority).collect();
    priorities.sort_unstable();
    let highest = priorities.pop()?;
    let found: Vec<_> = found.into_iter().filter(|(list, _)| lists[usize::from(*list)].priority == highest).collect();

    // Tiers of one priority stand where their first list stands, whether that has a match or not.
    let ordinary = lists.iter().position(|list| list.priority == highest && !list.most_specific_wins);
    let place = |list: u16| {
        let list = usize::from(list);
        if lists[list].most_specific_wins { list } else { ordinary.unwrap() }
    };
    let first = found.iter().map(|(list, _)| place(*list)).min()?;
    let mut tier: Vec<_> = found.into_iter().filter(|(list, _)| place(*list) == first).collect();

    let is_allow = |rule: &Rule| rule.action == Some(Action::Allow);
    let specific = |rule: &Rule| (std::cmp::Reverse(owner(rule).label_count()), rule.scope != Scope::Exact);
    let class = |rule: &Rule| match (rule.important, is_allow(rule)) {
        (true, true) => "1 important allow",
        (true, false) => "2 important block",
        (false, true) => "3 allow",
        (false, false) => "4 block",
    };
    if lists[first].most_specific_wins {
        tier.sort_by_key(|(list, rule)| (specific(rule), class(rule), *list));
    } else {
        tier.sort_by_key(|(list, rule)| (class(rule), specific(rule), *list));
    }
    tier.first().map(|(list, rule)| (*list, is_allow(rule)))
}

prop_compose! {
    fn any_rule()(
        owner in "[ab](\\.[ab]){0,3}",
        scope in prop_oneof![Just(Scope::Exact), Just(Scope::Below), Just(Scope::Subdomains)],
        allow: bool,
        important in proptest::bool::weighted(0.2),
        shadow in proptest::bool::weighted(0.1),
        types in prop_oneof![
            4 => Just(TypeFilter::All),
            1 => Just(TypeFilter::Only(vec![RecordType::A])),
            1 => Just(TypeFilter::Except(vec![RecordType::A, RecordType::TXT])),
        ],
        except in prop_oneof![4 => Just(None), 1 => "[ab](\\.[ab]){0,3}".prop_map(Some)],
        times in prop_oneof![4 => Just(None), 1 => (0u64..5, 0u64..5).prop_map(Some)],
    ) -> Rule {
        let dossier = times.map(|(from, until)| Box::new(Dossier {
            effective_at: Some(from), expires_at: Some(until), ..Dossier::default()
        }));
        Rule {
            action: allow.then_some(Action::Allow),
            important,
            shadow,
            types,
            except: except.iter().map(|text| name(text)).collect(),
            dossier,
            ..rule(&owner, scope)
        }
    }
}

prop_compose! {
    fn any_list()(priority in 0..3, shadow in proptest::bool::weighted(0.2), most_specific_wins: bool) -> ListEntry {
        ListEntry { shadow, most_specific_wins, ..list("", priority) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_naive_judge_agrees(
        lists in proptest::collection::vec(any_list(), 1..6),
        rules in proptest::collection::vec((any::<proptest::sample::Index>(), any_rule()), 0..25),
        asked in proptest::collection::vec("[ab](\\.[ab]){0,4}", 20),
        wall in 0u64..5,
    ) {
        let lists: Vec<_> = lists.into_iter().enumerate()
            .map(|(index, list)| ListEntry { name: format!("l{index}"), ..list }).collect();
        let rules: Vec<_> = rules.into_iter().map(|(list, rule)| (list.index(lists.len()) as u16, rule)).collect();
        let policy = policy(&lists, &rules);
        for asked in asked {
            let asked = name(&asked);
            for qtype in [RecordType::A, RecordType::AAAA] {
                let judgement = policy.judge(&asked, qtype, Trigger::Qname, CLIENT, at(wall));
                let verdict = match judgement.verdict {
                    Verdict::Pass => None,
                    Verdict::Allow(hit) => Some((hit.list.unwrap().0, true)),
                    Verdict::Block(hit) => Some((hit.list.unwrap().0, false)),
                };
                prop_assert_eq!(verdict, naive(&lists, &rules, &asked, qtype, wall), "{} {}", asked, qtype);

                // A list is counted as a shadow when its shadow rules alone would block.
                let alone = |list: u16| -> Vec<(u16, Rule)> {
                    let is_shadow = |rule: &Rule| rule.shadow || lists[usize::from(list)].shadow;
                    let own = rules.iter().filter(|(other, rule)| *other == list && is_shadow(rule));
                    own.map(|(list, rule)| (*list, Rule { shadow: false, ..rule.clone() })).collect()
                };
                let lit: Vec<_> = lists.iter().map(|list| ListEntry { shadow: false, ..list.clone() }).collect();
                let shadow: Vec<_> = (0..lists.len() as u16)
                    .filter(|&list| naive(&lit, &alone(list), &asked, qtype, wall).is_some_and(|(_, allow)| !allow))
                    .map(ListId)
                    .collect();
                prop_assert_eq!(judgement.shadow.to_vec(), shadow);

                let explained = policy.explain(&asked, qtype, CLIENT, at(wall));
                let decides = explained.matches.iter().find(|found| found.outcome == Outcome::Decides);
                prop_assert_eq!(decides.and_then(|found| found.list.clone()), verdict.map(|(list, _)| format!("l{list}")));
            }
        }
    }
}
