//! A hostile internet: servers that are dead, lame, lossy, slow, broken or lying, and a resolver among them.
//!
//! ```text
//! cargo test --test hostile                     every scenario, in process, on a paused clock
//! cargo test --test hostile -- poison/          those whose names contain this
//! cargo test --test hostile -- --peers unbound,named,kresd,qalqan [--jobs 8] [FILTER]
//! ```
//!
//! `QALQAN_TRACE=1` prints each query and what came of it. Every scenario states what is right for each question, how
//! many queries all of them may cost, and fails when a forged record reaches a client or an answer takes longer than
//! a client waits.
//!
//! ```text
//! scenarios    the table: a world, its faults, the questions
//! world        zones, servers, and what is true
//! server       what a server does with a query, and what it does wrong
//! zone         zone data and honest answers
//! message      octets, apart from the resolver's own
//! paused       a scenario in process, over network
//! live         a scenario on real sockets
//! judge        right or wrong, and the table
//! ```
//!
//! The last one needs root (or `unshare --map-root-user`), `unshare` and `ip`: it puts the same worlds on real
//! sockets in network namespaces of their own and asks the same questions of whole resolvers, our binary among
//! them, so that the worlds can be checked against others and we can be compared with them.

// Nobody is outside a test.
#![allow(unreachable_pub, missing_docs)]

mod judge;
mod live;
mod message;
mod network;
mod paused;
mod scenarios;
mod server;
mod world;
mod zone;

use std::process::ExitCode;

use crate::judge::Outcome;
use crate::live::Peer;

/// Scenarios that do not pass yet. The list may only shrink: one that passes must be taken off it.
const KNOWN_FAILURES: &[&str] = &[];
/// What all questions together may cost upstream, each.
const MOST_QUERIES_PER_QUESTION: f64 = 3.6;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |key: &str| {
        let at = arguments.iter().position(|argument| argument == key)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let named = |name: &str| Peer::ALL.iter().find(|(known, _)| *known == name).map(|(_, peer)| *peer);

    if arguments.first().is_some_and(|first| first == "--inside") {
        let [_, peer, share, filter] = &arguments[..] else { return ExitCode::from(2) };
        let (job, jobs) = share.split_once('/').expect("compare() writes it");
        let number = |text: &str| text.parse().expect("compare() writes numbers");
        live::inside(named(peer).expect("compare() names peers"), number(job), number(jobs), filter);
        return ExitCode::SUCCESS;
    }
    if let Some(peers) = value("--peers") {
        let jobs = value("--jobs").and_then(|jobs| jobs.parse().ok()).unwrap_or(8);
        let filter = arguments.iter().skip(2).rev().take(1).find(|last| !last.starts_with('-'));
        let filter = filter.filter(|last| Some(last.as_str()) != value("--jobs") && Some(last.as_str()) != Some(peers));
        for peer in peers.split(',') {
            let outcomes = live::compare(peer, filter.map_or("", String::as_str), jobs);
            println!("{}", judge::table(peer, &outcomes));
        }
        return ExitCode::SUCCESS;
    }

    if arguments.iter().any(|argument| argument == "--list") {
        scenarios::all().iter().for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    // What else the test runner may pass to a harness is of no use here.
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let outcomes: Vec<Outcome> =
        scenarios::all().iter().filter(|scenario| scenario.name.contains(filter)).map(paused::play).collect();
    println!("{}", judge::table("in process", &outcomes));
    let unexpected = outcomes.iter().filter(|outcome| outcome.passed() == KNOWN_FAILURES.contains(&&*outcome.name));
    let unexpected: Vec<&str> = unexpected.map(|outcome| &*outcome.name).collect();
    if !unexpected.is_empty() {
        println!("not as KNOWN_FAILURES says: {}", unexpected.join(", "));
        return ExitCode::FAILURE;
    }
    if filter.is_empty() && judge::queries_per_question(&outcomes) > MOST_QUERIES_PER_QUESTION {
        println!("more than {MOST_QUERIES_PER_QUESTION} queries a question");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
