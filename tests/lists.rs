//! Lists as text against decisions, compared with a second, plain reading of what the syntaxes mean.
//!
//! The model below knows nothing of reversed keys, tiers kept as numbers or
//! merged rules: it holds every line against every name.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use qalqan::clock::Now;
use qalqan::compile::{Freshness, GuardMode, Settings, compile};
use qalqan::list::{Format, ListSettings, MatchScope, Source};
use qalqan::policy::{self, OverrideSet, Policy, Trigger, Verdict};
use qalqan::query::RecordType;
use qalqan::snapshot::Snapshot;

/// What a line covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Bare,
    Exact,
    Below,
    All,
}

#[derive(Debug, Clone)]
struct Line {
    name: String,
    shape: Shape,
    allow: bool,
    important: bool,
    /// For A only.
    only_a: bool,
}

#[derive(Debug, Clone)]
struct List {
    format: Format,
    priority: i32,
    bare_is_all: bool,
    lines: Vec<Line>,
}

impl List {
    /// The text of the lines that the format can say, and those lines.
    fn written(&self) -> (String, Vec<&Line>) {
        let mut text = String::new();
        let mut lines = Vec::new();
        for line in &self.lines {
            let Line { name, shape, allow, important, only_a } = line;
            let plain = !allow && !important && !only_a;
            let written = match (self.format, shape) {
                (Format::Domains, Shape::Bare) if plain => name.clone(),
                (Format::Hosts, Shape::Bare) if plain => format!("0.0.0.0 {name}"),
                (Format::Wildcard, Shape::Bare) if plain => name.clone(),
                (Format::Wildcard, Shape::Exact) if plain => format!("={name}"),
                (Format::Wildcard, Shape::All) if plain => format!("*.{name}"),
                (Format::Rpz, Shape::Exact | Shape::Below) if !important && !only_a => {
                    let star = if *shape == Shape::Below { "*." } else { "" };
                    format!("{star}{name} CNAME {}", if *allow { "rpz-passthru." } else { "." })
                }
                (Format::Adblock, shape) => {
                    let pattern = match shape {
                        Shape::Bare if plain => name.clone(),
                        Shape::Bare => continue,
                        Shape::Exact => format!("|{name}^"),
                        Shape::Below => format!("||*.{name}^"),
                        Shape::All => format!("||{name}^"),
                    };
                    let modifiers: Vec<&str> = [(*important, "important"), (*only_a, "dnstype=A")]
                        .iter()
                        .filter(|(is, _)| *is)
                        .map(|(_, word)| *word)
                        .collect();
                    let dollar = if modifiers.is_empty() { "" } else { "$" };
                    format!("{}{pattern}{dollar}{}", if *allow { "@@" } else { "" }, modifiers.join(","))
                }
                _ => continue,
            };
            text.push_str(&written);
            text.push('\n');
            lines.push(line);
        }
        (text, lines)
    }
}

/// Allowed or blocked, and by which list; `None` when no line has anything to say.
fn expected(lists: &[List], query: &str, qtype: RecordType) -> Option<(bool, usize)> {
    let mut matches = Vec::new();
    for (index, list) in lists.iter().enumerate() {
        let is_rpz = list.format == Format::Rpz;
        let tier = lists
            .iter()
            .position(|other| !is_rpz && other.priority == list.priority && other.format != Format::Rpz)
            .unwrap_or(index);
        let mut seen = Vec::new();
        for line in list.written().1 {
            // In a policy zone, the first record of an owner stands.
            if is_rpz && seen.contains(&(line.shape, &line.name)) {
                continue;
            }
            seen.push((line.shape, &line.name));
            let is = query == line.name;
            let below = query.ends_with(&format!(".{}", line.name));
            let covers = match line.shape {
                Shape::Bare => is || below && list.bare_is_all,
                Shape::Exact => is,
                Shape::Below => below,
                Shape::All => is || below,
            };
            if !covers || line.only_a && qtype != RecordType::A {
                continue;
            }
            let exact = line.shape == Shape::Exact || line.shape == Shape::Bare && !list.bare_is_all;
            let class = match (line.important, line.allow) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => 3,
            };
            let depth = (Reverse(line.name.split('.').count()), !exact);
            let order = if is_rpz { (Some(depth), class, None) } else { (None, class, Some(depth)) };
            matches.push(((Reverse(list.priority), tier), order, index, line.allow));
        }
    }
    matches.into_iter().min().map(|(_, _, index, allow)| (allow, index))
}

/// What the product does with the same text.
struct Product {
    policy: Policy,
}

impl Product {
    fn of(lists: &[List], folder: &Path) -> Self {
        let mut settings = Settings::default();
        for (index, list) in lists.iter().enumerate() {
            let mut checked = ListSettings::new(format!("list{index}"), Source::Inline(list.written().0));
            checked.format = list.format;
            checked.priority = list.priority;
            checked.match_scope = if list.bare_is_all { MatchScope::Subdomains } else { MatchScope::Exact };
            settings.lists.push(checked);
        }
        let now = Now::default();
        let compiled =
            compile(&settings, None, folder, Freshness::Cached, GuardMode::Enforce, now, &mut |_| ()).unwrap();
        let snapshot = Snapshot::open(compiled.path()).unwrap();
        Self { policy: Policy::new(policy::Settings::default(), Some(Arc::new(snapshot)), OverrideSet::default()) }
    }

    fn decides(&self, query: &str, qtype: RecordType) -> Option<(bool, usize)> {
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let judgement = self.policy.judge(
            &query.parse::<qalqan::name::DomainName>().unwrap(),
            qtype,
            Trigger::Qname,
            client,
            Now::default(),
        );
        match judgement.verdict {
            Verdict::Pass => None,
            Verdict::Allow(hit) => Some((true, hit.list.unwrap().index())),
            Verdict::Block(hit) => Some((false, hit.list.unwrap().index())),
        }
    }
}

/// A name of one to three labels out of few, so that names meet.
fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(vec!["a", "b", "bb", "x-1"]), 1..4)
        .prop_map(|labels| format!("{}.example", labels.join(".")))
}

fn line() -> impl Strategy<Value = Line> {
    let shape = proptest::sample::select(vec![Shape::Bare, Shape::Exact, Shape::Below, Shape::All]);
    let rarely = || proptest::bool::weighted(0.2);
    (name(), shape, rarely(), rarely(), rarely()).prop_map(|(name, shape, allow, important, only_a)| Line {
        name,
        shape,
        allow,
        important,
        only_a,
    })
}

fn list() -> impl Strategy<Value = List> {
    let format =
        proptest::sample::select(vec![Format::Domains, Format::Wildcard, Format::Hosts, Format::Adblock, Format::Rpz]);
    // Policy zones say for each owner what it covers; what a bare one means is for the others.
    (format, 0..2, any::<bool>(), proptest::collection::vec(line(), 0..12)).prop_map(
        |(format, priority, bare_is_all, lines)| List {
            format,
            priority,
            bare_is_all: bare_is_all && format != Format::Rpz,
            lines,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_decision_is_that_of_the_text(
        lists in proptest::collection::vec(list(), 1..5),
        queries in proptest::collection::vec((name(), proptest::sample::select(vec![RecordType::A, RecordType::AAAA])), 40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let product = Product::of(&lists, folder.path());
        for (query, qtype) in queries {
            prop_assert_eq!(product.decides(&query, qtype), expected(&lists, &query, qtype), "{} {}", query, qtype);
        }
    }
}
