//! Validation next to Unbound, Knot Resolver and BIND: the same questions about signed and broken zones, the same
//! answers.
//!
//! A small internet of its own, in a network namespace: NSD serves a root, a
//! top-level domain and the [zones](zones) below it, which are signed
//! [here](zone) and then spoilt. Every question goes to the built binary and
//! to three peers: response code, AD, answer and presence of a proof must be
//! what most of them say, and what the zone's kind asks for. A stock
//! validating forwarder behind ours must see what a resolver of its own sees.
//! Skipped where a tool is missing, unless `QALQAN_REQUIRE_PEERS=1`.
//!
//! `QALQAN_PEERS_ZONE=nsec3,wildapex` asks about these zones alone, and
//! `QALQAN_PEERS_FOLDER=dir` leaves zones, configurations and logs there.

mod ask;
mod internet;
#[allow(dead_code, reason = "the scenarios use the rest of it")]
#[path = "../scenario/record.rs"]
mod record;
mod zone;
mod zones;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use qalqan::query::Rcode;

use ask::{Answer, Flags, ask};
use internet::{Internet, RESOLVERS, TOOLS, find};
use zones::{Expected, Plan, ZONES};

/// What is asked in every zone: what stands there, what does not, what wildcards, aliases and cuts make of it.
const QUESTIONS: &[(&str, &str)] = &[
    ("www", "A"),
    ("www", "TXT"),
    ("www", "DS"),
    ("www", "DNSKEY"),
    ("www", "NSEC"),
    ("www", "HTTPS"),
    ("www", "TYPE65280"),
    ("WwW", "A"),
    ("", "SOA"),
    ("", "NS"),
    ("", "DNSKEY"),
    ("", "DS"),
    ("", "MX"),
    ("", "NSEC"),
    ("", "NSEC3PARAM"),
    ("", "CDS"),
    ("", "CDNSKEY"),
    ("mail", "MX"),
    ("mail", "TXT"),
    ("big", "TXT"),
    ("odd", "TYPE65280"),
    ("missing", "A"),
    ("missing", "DS"),
    ("a.b.missing", "A"),
    ("x.www", "A"),
    ("ent", "A"),
    ("ent", "DS"),
    ("b.ent", "A"),
    ("a.b.ent", "A"),
    ("c.b.ent", "A"),
    ("nothing", "TXT"),
    ("x.deep.under.nothing", "TXT"),
    ("x.deep.under.nothing", "A"),
    ("wild", "A"),
    ("x.wild", "A"),
    ("x.wild", "TXT"),
    ("x.wild", "DS"),
    ("y.x.wild", "A"),
    ("*.wild", "A"),
    ("*.wild", "TXT"),
    ("there.wild", "A"),
    ("there.wild", "TXT"),
    ("below.there.wild", "A"),
    ("alias", "A"),
    ("alias", "CNAME"),
    ("alias", "TXT"),
    ("alias", "DS"),
    ("chain1", "A"),
    ("x.wildalias", "A"),
    ("x.wildalias", "TXT"),
    ("x.wildalias", "DS"),
    ("x.wildout", "A"),
    ("dangling", "A"),
    ("towild", "A"),
    ("out", "A"),
    ("tosecure", "A"),
    ("toexpired", "A"),
    ("tomissing3", "A"),
    ("tosafe", "A"),
    ("toplain", "A"),
    ("toisland", "A"),
    ("www.tree", "A"),
    ("www.tree", "TXT"),
    ("missing.tree", "A"),
    ("alias.tree", "A"),
    ("tree", "DNAME"),
    ("tree", "A"),
    ("www.tree", "DS"),
    ("www.plaintree", "A"),
    ("www.brokentree", "A"),
    ("www.plain", "A"),
    ("plain", "DS"),
    ("plain", "NS"),
    ("plain", "SOA"),
    ("plain", "DNSKEY"),
    ("www.plain", "DS"),
    ("missing.plain", "A"),
    ("missing.plain", "DS"),
    ("www.safe", "A"),
    ("www.safe", "TXT"),
    ("missing.safe", "A"),
    ("safe", "DS"),
    ("safe", "DNSKEY"),
    ("safe", "NS"),
    ("www.broken", "A"),
    ("broken", "DS"),
    ("www.strange", "A"),
    ("strange", "DS"),
    ("missing.strange", "A"),
    ("www.island", "A"),
    ("island", "DS"),
    ("island", "DNSKEY"),
];

/// Every way of asking.
const FLAGS: [Flags; 3] = [Flags::Dnssec, Flags::AuthenticData, Flags::CheckingDisabled];

/// Zones in which most peers are wrong, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("revokedzsk", "a revoked key validates nothing but its own revocation (RFC 5011, section 2.1)"),
    ("goodandinvalid", "one good signature is enough, in whatever place it stands (RFC 4035, section 5.3.1)"),
    ("goodandexpired", "as above: others give up after some that have expired"),
    ("brokenkeydata", "a key that makes no sense takes nothing from the others (RFC 4035, section 5.3.1)"),
    ("collision", "keys of one tag are all tried, within a limit (RFC 4034, appendix B; RFC 4035, section 5.3.1)"),
    ("unknownflags", "records with unknown flags prove nothing (RFC 5155, section 8.2)"),
    ("nsecleafascut", "the parent's record at a cut denies nothing of the child's (RFC 6840, section 4.1)"),
    ("soaunsigned3", "an unsigned SOA record is bogus also beside an insecure alias (RFC 4035, section 5.4)"),
];

/// A name, a type and flags.
type Asked = (String, &'static str, Flags);

#[test]
fn validation_agrees_with_its_peers() {
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| find(tool).is_none()).collect();
    if !missing.is_empty() {
        return skip(&format!("{missing:?} not installed"));
    }
    if std::env::var_os("QALQAN_IN_NAMESPACE").is_none() {
        let test = std::env::current_exe().expect("a test knows its own path");
        if !Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|status| status.success()) {
            return skip("no network namespace may be made here");
        }
        let status = Command::new("unshare")
            .arg("-rn")
            .arg(test)
            .args(["--exact", "validation_agrees_with_its_peers", "--nocapture"])
            .env("QALQAN_IN_NAMESPACE", "1")
            .status()
            .expect("unshare ran a moment ago");
        assert!(status.success(), "see the output of the namespace above");
        return;
    }
    let ip = find("ip").expect("looked for above");
    let bind = format!("{}/32", RESOLVERS[3].1);
    // BIND listens only on addresses that an interface has.
    for arguments in [&["link", "set", "lo", "up"][..], &["address", "add", &bind, "dev", "lo"]] {
        let done = Command::new(&ip).args(arguments).status().expect("the tool was found");
        assert!(done.success(), "the namespace has no loopback");
    }

    let kept = std::env::var_os("QALQAN_PEERS_FOLDER");
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = kept.as_deref().map_or(temporary.path(), Path::new);
    let internet = Internet::build(folder);
    let servers = internet.start();
    let only = std::env::var("QALQAN_PEERS_ZONE").unwrap_or_default();
    let zones: Vec<&Plan> =
        ZONES.iter().filter(|zone| only.is_empty() || only.split(',').any(|label| zone.label == label)).collect();
    let answers = ask_everybody(&zones);
    drop(servers);

    let mut differences = String::new();
    let (mut apart, mut apart_behind, mut disputed) = (0, 0, 0);
    for ((name, qtype, flags), answers) in &answers {
        let [ours, peers @ .., behind_us] = &answers[..] else { panic!("somebody was not asked") };
        let most = majority(peers, *flags);
        let zone = name.rsplit('.').nth(1).expect("all names are in zones below one");
        disputed += usize::from(most.is_none());
        if most.is_none() || DIFFERENCES.iter().any(|(label, _)| *label == zone) {
            continue;
        }
        // A forwarder of a peer's make has that peer's ideas.
        let is_apart = most != Some(ours);
        let is_apart_behind = most != Some(behind_us) && peers[0] != *behind_us;
        apart += usize::from(is_apart);
        apart_behind += usize::from(is_apart_behind);
        if is_apart || is_apart_behind {
            writeln!(differences, "{name} {qtype} {flags:?}").expect("text grows");
            for ((resolver, _), answer) in RESOLVERS.iter().zip(answers) {
                writeln!(differences, "  {resolver:9} {answer}").expect("text grows");
            }
        }
    }
    println!(
        "{} questions about {} zones; apart: {apart}, behind us {apart_behind}; disputed: {disputed}",
        answers.len(),
        zones.len()
    );
    assert!(disputed * 20 <= answers.len(), "peers say nothing, or different things, to {disputed} questions");
    assert_eq!(apart, 0, "\n{differences}");
    // What a forwarder has found bogus it holds against other names for a while.
    assert!(apart_behind * 2_000 <= answers.len(), "\n{differences}");

    let mut unexpected = String::new();
    for zone in zones {
        let expected = match zone.expected {
            Expected::Secure => (Rcode::NOERROR, true),
            Expected::Insecure => (Rcode::NOERROR, false),
            Expected::Bogus => (Rcode::SERVFAIL, false),
        };
        let www = (format!("www.{}.kz", zone.label), "A", Flags::Dnssec);
        let (_, answers) = answers.iter().find(|(asked, _)| *asked == www).expect("it was asked");
        if (answers[0].rcode, answers[0].authentic) != expected {
            writeln!(unexpected, "{} is not {:?}: {}", zone.label, zone.expected, answers[0]).expect("text grows");
        }
    }
    assert!(unexpected.is_empty(), "\n{unexpected}");
}

/// What at least two peers say. Nobody who disables checking need hear that something is bogus (RFC 4035, section
/// 3.2.2).
fn majority(peers: &[Answer], flags: Flags) -> Option<&Answer> {
    let counts = |answer: &&Answer| {
        !answer.is_silence() && (flags != Flags::CheckingDisabled || answer.rcode != Rcode::SERVFAIL)
    };
    let votes = |answer: &&Answer| peers.iter().filter(|other| other == answer).count() > 1;
    peers.iter().filter(counts).find(votes)
}

/// Puts every question about `zones` to every resolver.
fn ask_everybody(zones: &[&Plan]) -> Vec<(Asked, Vec<Answer>)> {
    let mut questions: Vec<Asked> = Vec::new();
    for zone in zones {
        for (label, qtype) in QUESTIONS {
            let name =
                if label.is_empty() { format!("{}.kz", zone.label) } else { format!("{label}.{}.kz", zone.label) };
            questions.extend(FLAGS.map(|flags| (name.clone(), *qtype, flags)));
        }
    }
    let next: [AtomicUsize; RESOLVERS.len()] = Default::default();
    let found: Mutex<HashMap<(usize, usize), Answer>> = Mutex::default();
    // Zones about which a resolver has nothing to say, often for as long as one waits.
    let silent: Mutex<HashSet<(usize, &str)>> = Mutex::default();
    std::thread::scope(|scope| {
        for resolver in (0..RESOLVERS.len()).cycle().take(RESOLVERS.len() * ASKERS) {
            let (questions, next, found, silent) = (&questions, &next[resolver], &found, &silent);
            scope.spawn(move || {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some((name, qtype, flags)) = questions.get(place) else { return };
                    let zone = (resolver, name.rsplit('.').nth(1).expect("all names are in zones below one"));
                    if silent.lock().expect("nobody panics with it").contains(&zone) {
                        continue;
                    }
                    let answer = ask(RESOLVERS[resolver].1, name, qtype, *flags);
                    if answer.is_silence() {
                        silent.lock().expect("nobody panics with it").insert(zone);
                    }
                    found.lock().expect("nobody panics with it").insert((resolver, place), answer);
                }
            });
        }
    });
    let mut found = found.into_inner().expect("nobody panics with it");
    let answers = |place| {
        (0..RESOLVERS.len()).map(|resolver| found.remove(&(resolver, place)).unwrap_or_else(Answer::silence)).collect()
    };
    let answers: Vec<Vec<Answer>> = (0..questions.len()).map(answers).collect();
    questions.into_iter().zip(answers).collect()
}

/// Questions under way at each resolver.
const ASKERS: usize = 4;

fn skip(why: &str) {
    assert!(std::env::var_os("QALQAN_REQUIRE_PEERS").is_none(), "peers are required, and {why}");
    println!("skipped: {why}");
}
