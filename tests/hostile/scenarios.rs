//! What can go wrong, as a table.
//!
//! The first part is made from dimensions: a fault, where in the delegation
//! tree it sits, and how many of the servers there have it. The second part is
//! told one by one. Each scenario asks a fresh resolver its questions in order.

use std::sync::Arc;
use std::time::Duration;

use qalqan::name::DomainName;
use qalqan::query::RecordType;

use crate::message::Record;
use crate::server::{FORMERR, Fault, NOTAUTH, NOTIMP, NXDOMAIN, Part, REFUSED, SERVFAIL, Spoof, When};
use crate::world::{POISON, REVERSE, World, v4, v6};
use crate::zone::Zone;

/// One world and what is asked in it.
#[derive(Debug)]
pub struct Scenario {
    pub name: String,
    pub world: Arc<World>,
    pub questions: Vec<Ask>,
    /// How many queries upstream all questions may cost together.
    pub limit: u32,
    /// All questions come at the same moment, not one after the other.
    pub at_once: bool,
}

/// One question.
#[derive(Debug, Clone)]
pub struct Ask {
    pub name: DomainName,
    pub qtype: RecordType,
    pub expect: Expect,
    /// How long to wait before it is asked.
    pub after: Duration,
}

/// What counts as right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// What the zones say.
    Truth,
    /// SERVFAIL: nobody can know.
    Failure,
    /// What the zones say or SERVFAIL; what matters is that nothing else comes.
    TruthOrFailure,
    /// NOERROR or NXDOMAIN without the records asked for.
    Nothing,
    /// What the zones say, nothing, or SERVFAIL; no falsehood.
    Harmless,
    /// NXDOMAIN, whatever the zones say by now.
    Denied,
}

use Expect::{Failure, Truth, TruthOrFailure};

/// Queries upstream that a question may cost when nothing else is said, beside twelve for finding the way.
const PER_QUESTION: u32 = 6;

impl Scenario {
    fn new(name: impl Into<String>, world: World, questions: Vec<Ask>) -> Self {
        let limit = PER_QUESTION * questions.len() as u32 + 12;
        Self { name: name.into(), world: Arc::new(world), questions, limit, at_once: false }
    }

    fn limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    fn at_once(self) -> Self {
        Self { at_once: true, ..self }
    }
}

impl Ask {
    /// Waits before asking.
    fn later(self, seconds: u64) -> Self {
        Self { after: Duration::from_secs(seconds), ..self }
    }
}

fn ask(name: &str, qtype: RecordType, expect: Expect) -> Ask {
    Ask { name: name.parse().expect("a name"), qtype, expect, after: Duration::ZERO }
}

fn name(text: &str) -> DomainName {
    text.parse().expect("a name")
}

const A: RecordType = RecordType::A;
const AAAA: RecordType = RecordType::AAAA;
const NS: RecordType = RecordType::NS;

/// The name at the far end of the reverse zone.
fn reverse_name() -> String {
    format!("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.{REVERSE}")
}

/// One question of each kind about `leaf.kz`.
fn each_kind(expect: Expect) -> Vec<Ask> {
    vec![
        ask("www.leaf.kz", A, expect),
        ask("www.leaf.kz", AAAA, expect),
        ask("missing.leaf.kz", A, expect),
        ask("www.leaf.kz", RecordType::MX, expect),
        ask("alias.leaf.kz", A, expect),
        ask("far.leaf.kz", A, expect),
        ask("x.old.leaf.kz", A, expect),
        ask("a.b.c.d.e.f.leaf.kz", A, expect),
        ask("any.wild.leaf.kz", A, expect),
        ask(&reverse_name(), RecordType::PTR, expect),
    ]
}

/// A few questions about `leaf.kz`.
fn a_few(expect: Expect) -> Vec<Ask> {
    vec![
        ask("www.leaf.kz", A, expect),
        ask("missing.leaf.kz", A, expect),
        ask("www.leaf.kz", AAAA, expect),
        ask("far.leaf.kz", A, expect),
    ]
}

/// All of it.
pub fn all() -> Vec<Scenario> {
    let mut all = vec![Scenario::new("plain", World::with_leaf(2), each_kind(Truth)).limit(40)];
    all.push(Scenario::new("plain/hosted", World::with_hosted_leaf(2), each_kind(Truth)).limit(44));
    all.extend(matrix());
    all.extend(packets());
    all.extend(delegations());
    all.extend(minimisation());
    all.extend(contents());
    all.extend(chains());
    all.extend(poison());
    all.extend(floods());
    all.extend(everywhere());
    all.extend(crowds());
    all.extend(times());
    all
}

/// Whether a zone can be resolved when all of its servers have a fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenAll {
    Works,
    Fails,
    /// Either, as long as nothing false comes.
    Maybe,
}

use WhenAll::{Fails, Maybe, Works};

/// Faults that a server may have anywhere.
fn faults() -> Vec<(&'static str, WhenAll, Fault)> {
    use Fault::*;
    let tcp_refused = || Unreachable.when([When::Tcp]);
    vec![
        ("silent", Fails, Silent),
        ("unreachable", Fails, Unreachable),
        ("slow-0.7s", Works, Slow(700)),
        ("slow-2s", Maybe, Slow(2000)),
        ("slow-3s", Maybe, Slow(3000)),
        ("first-lost", Works, Silent.when([When::First(1)])),
        ("first-2-lost", Works, Silent.when([When::First(2)])),
        ("each-third-lost", Works, Silent.when([When::Every(3)])),
        ("lossy-30", Maybe, Silent.when([When::Percent(30)])),
        ("refused", Fails, Rcode(REFUSED)),
        ("servfail", Fails, Rcode(SERVFAIL)),
        ("servfail-half-the-time", Maybe, Rcode(SERVFAIL).when([When::Every(2)])),
        ("notimp", Fails, Rcode(NOTIMP)),
        ("notauth", Fails, Rcode(NOTAUTH)),
        ("formerr", Fails, Rcode(FORMERR)),
        ("formerr-header-only", Fails, HeaderOnly(FORMERR)),
        ("rcode-11", Fails, Rcode(11)),
        ("from-elsewhere", Works, FromElsewhere.when([When::Udp])),
        ("lame-nxdomain", Maybe, If(vec![], Box::new(Code(NXDOMAIN)))),
        ("lame-nodata", Maybe, If(vec![], Box::new(Code(0)))),
        ("wrong-id", Fails, WrongId),
        ("wrong-question", Fails, WrongQuestion),
        ("no-question", Maybe, NoQuestion),
        ("not-a-reply", Fails, NotReply),
        ("wrong-opcode", Fails, WrongOpcode),
        ("lower-case", Works, LowerCase),
        ("capitals-dropped", Works, Silent.when([When::Capitals])),
        ("capitals-refused", Works, Rcode(REFUSED).when([When::Capitals])),
        ("edns-formerr", Works, Rcode(FORMERR).when([When::Edns])),
        ("edns-formerr-header-only", Works, HeaderOnly(FORMERR).when([When::Edns])),
        ("edns-notimp", Works, Rcode(NOTIMP).when([When::Edns])),
        ("edns-servfail", Works, Rcode(SERVFAIL).when([When::Edns])),
        ("edns-refused", Works, Rcode(REFUSED).when([When::Edns])),
        ("edns-badvers", Works, BadVersion.when([When::Edns])),
        ("edns-silent", Works, Silent.when([When::Edns])),
        ("edns-ignored", Works, NoOpt),
        ("edns-junk", Works, JunkOpt),
        ("edns-twice", Maybe, TwoOpts),
        ("edns-broken", Maybe, BrokenOpt),
        ("do-silent", Works, Silent.when([When::DnssecOk])),
        ("truncates", Works, Truncates.when([When::Udp])),
        ("truncates/tcp-refused", Fails, If(vec![When::Udp], Box::new(Truncates))),
        ("truncates/tcp-silent", Fails, If(vec![When::Udp], Box::new(Truncates))),
        ("truncates/tcp-closed", Fails, If(vec![When::Udp], Box::new(Truncates))),
        ("truncates/tcp-breaks-off", Fails, If(vec![When::Udp], Box::new(Truncates))),
        ("truncates/tcp-trickles", Works, If(vec![When::Udp], Box::new(Truncates))),
        ("udp-silent", Works, Silent.when([When::Udp])),
        ("each-second-lost", Works, Silent.when([When::Every(2)])),
        ("each-second-truncated", Works, Truncates.when([When::Udp, When::Every(2)])),
        ("each-second-refused", Maybe, Rcode(REFUSED).when([When::Every(2)])),
        ("do-refused", Works, Rcode(REFUSED).when([When::DnssecOk])),
        ("do-formerr", Works, Rcode(FORMERR).when([When::DnssecOk])),
        ("do-servfail", Works, Rcode(SERVFAIL).when([When::DnssecOk])),
        ("large-lost", Works, LosesLarge(512)),
        ("tcp-refused", Works, tcp_refused()),
        ("refers-upward", Fails, RefersUpward),
        ("refers-to-itself", Fails, RefersToItself),
        ("garbage", Fails, Garbage),
        ("garbage-body", Fails, GarbageBody),
        ("half", Fails, Half),
        ("stub", Fails, Stub),
        ("compression-loop", Fails, CompressionLoop),
        ("counts-too-many", Maybe, CountsTooMany),
        ("trailing-junk", Works, TrailingJunk),
        ("thrice", Works, Thrice),
        ("odd-flags", Works, OddFlags),
        ("oversized", Maybe, Oversized),
        ("evil-case-spoof", Works, Spoofed(Spoof::Case)),
    ]
}

/// Fault by place by how many.
fn matrix() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (label, when_all, fault) in faults() {
        let give = |world: &mut World, address| {
            world.fault(address, fault.clone());
            match label {
                "truncates/tcp-refused" => world.fault(address, Fault::Unreachable.when([When::Tcp])),
                "truncates/tcp-silent" => world.fault(address, Fault::Silent.when([When::Tcp])),
                // As a resolver that was made an authority by mistake and knows nothing.
                "lame-nxdomain" | "lame-nodata" => {
                    for fault in [Fault::Empty, Fault::NotAuthoritative] {
                        world.fault(address, fault);
                    }
                }
                "truncates/tcp-closed" => world.fault(address, Fault::TcpClosed),
                "truncates/tcp-breaks-off" => world.fault(address, Fault::BreaksOff),
                "truncates/tcp-trickles" => world.fault(address, Fault::Trickles(1_000)),
                _ => {}
            }
        };
        let expect_all = match when_all {
            Works => Truth,
            Fails => Failure,
            Maybe if label.starts_with("lame") => Expect::Harmless,
            Maybe => TruthOrFailure,
        };

        let mut world = World::with_leaf(2);
        give(&mut world, v4(10, 1));
        all.push(Scenario::new(format!("leaf/one-of-two/{label}"), world, each_kind(Truth)));

        let mut world = World::with_leaf(2);
        for host in 1..=2 {
            give(&mut world, v4(10, host));
        }
        let questions = if when_all == Works { each_kind(Truth) } else { a_few(expect_all) };
        all.push(Scenario::new(format!("leaf/all/{label}"), world, questions));

        for (place, net) in [("root", 0), ("tld", 1), ("hoster", 4)] {
            let mut world = World::with_hosted_leaf(2);
            give(&mut world, v4(net, 1));
            all.push(Scenario::new(format!("{place}/one-of-two/{label}"), world, a_few(Truth)));
            if when_all == Works {
                let mut world = World::with_hosted_leaf(2);
                for host in 1..=2 {
                    give(&mut world, v4(net, host));
                }
                all.push(Scenario::new(format!("{place}/all/{label}"), world, a_few(Truth)));
            }
        }
    }
    // Three of four, five of six: the good one must be found in time.
    for (label, fault) in [
        ("silent", Fault::Silent),
        ("refused", Fault::Rcode(REFUSED)),
        ("servfail", Fault::Rcode(SERVFAIL)),
        ("refers-upward", Fault::RefersUpward),
        ("garbage", Fault::Garbage),
    ] {
        for count in [4, 6] {
            let mut world = World::with_leaf(count);
            for host in 1..count {
                world.fault(v4(10, host), fault.clone());
            }
            all.push(Scenario::new(format!("leaf/all-but-one-of-{count}/{label}"), world, a_few(Truth)));
        }
    }
    for (label, milliseconds) in [("slow-1s", 1000), ("slow-0.6s", 600)] {
        let mut world = World::with_leaf(2);
        for address in world.addresses().collect::<Vec<_>>() {
            world.fault(address, Fault::Slow(milliseconds));
        }
        all.push(Scenario::new(format!("everywhere/{label}"), world, a_few(Truth)));
    }
    for percent in [20, 30] {
        let mut world = World::with_leaf(2);
        for address in world.addresses().collect::<Vec<_>>() {
            world.fault(address, Fault::Silent.when([When::Percent(percent)]));
        }
        all.push(Scenario::new(format!("everywhere/lossy-{percent}"), world, each_kind(Truth)));
    }
    for percent in [40, 50] {
        let mut world = World::with_leaf(4);
        for host in 1..=4 {
            world.fault(v4(10, host), Fault::Silent.when([When::Percent(percent)]));
        }
        all.push(Scenario::new(format!("leaf/all-of-4/lossy-{percent}"), world, each_kind(Truth)));
    }
    // Both families, one of them dead.
    for (label, dead_v4) in [("ipv4-dead", true), ("ipv6-dead", false), ("ipv6-unreachable", false)] {
        let mut world = World::with_leaf(2);
        for host in 1..=2u8 {
            let address = v6(10, u16::from(host));
            for origin in ["kz", "leaf.kz"] {
                world.add(origin, &format!("ns{host}.leaf.kz. AAAA {address}"));
            }
            if label != "ipv6-unreachable" {
                world.serve_with(address, &["leaf.kz", REVERSE], []);
                world.fault(if dead_v4 { v4(10, host) } else { address }, Fault::Silent);
            }
        }
        all.push(Scenario::new(format!("leaf/both-families/{label}"), world, each_kind(Truth)));
    }
    // Two plagues at once.
    let mut world = World::with_leaf(4);
    world.fault(v4(10, 1), Fault::Silent);
    world.fault(v4(10, 2), Fault::Rcode(REFUSED));
    world.fault(v4(10, 3), Fault::Rcode(SERVFAIL));
    world.fault(v4(10, 4), Fault::Silent.when([When::Edns]));
    all.push(Scenario::new("leaf/one-plague-each", world, a_few(Truth)));
    // All servers of everything lose packets.
    let mut world = World::with_hosted_leaf(2);
    for address in world.addresses().collect::<Vec<_>>() {
        world.fault(address, Fault::Silent.when([When::Percent(10)]));
    }
    all.push(Scenario::new("everywhere/lossy-10", world, a_few(Truth)));
    let mut world = World::with_leaf(2);
    for address in world.addresses().collect::<Vec<_>>() {
        world.fault(address, Fault::Slow(300));
    }
    all.push(Scenario::new("everywhere/slow-0.3s", world, a_few(Truth)));
    all
}

/// What is wrong with every server there is, because it is the way to all of them that is broken.
fn everywhere() -> Vec<Scenario> {
    let broken = |label: &str| {
        let (_, _, fault) = faults().into_iter().find(|(known, ..)| *known == label).expect("it is in the table");
        let mut world = World::with_leaf(2);
        for address in world.addresses().filter(|address| *address != POISON).collect::<Vec<_>>() {
            world.fault(address, fault.clone());
        }
        Scenario::new(format!("everywhere/{label}"), world, a_few(Truth)).limit(60)
    };
    [
        "edns-silent",
        "edns-formerr",
        "edns-refused",
        "edns-ignored",
        "do-silent",
        "do-refused",
        "capitals-dropped",
        "lower-case",
        "truncates",
        "each-second-lost",
        "each-third-lost",
        "first-lost",
        "thrice",
        "odd-flags",
        "trailing-junk",
    ]
    .map(broken)
    .into()
}

/// Many clients at once.
fn crowds() -> Vec<Scenario> {
    let same = |count: usize, expect| vec![ask("www.leaf.kz", A, expect); count];
    let different = |count: usize, zone: &str, expect| -> Vec<Ask> {
        (0..count).map(|number| ask(&format!("n{number}.{zone}"), A, expect)).collect()
    };
    let mut all = vec![
        Scenario::new("crowd/same-name", World::with_leaf(2), same(50, Truth)).limit(12),
        Scenario::new("crowd/different-names", World::with_leaf(2), different(50, "wild.leaf.kz", Truth)).limit(75),
        Scenario::new("crowd/hosted", World::with_hosted_leaf(2), different(50, "wild.leaf.kz", Truth)).limit(85),
    ];
    for (label, fault, limit) in [("dead", Fault::Silent, 120), ("broken", Fault::Rcode(SERVFAIL), 240)] {
        let mut world = World::with_leaf(2);
        for host in 1..=2 {
            world.fault(v4(10, host), fault.clone());
        }
        all.push(Scenario::new(format!("crowd/{label}-zone"), world, different(30, "leaf.kz", Failure)).limit(limit));
    }
    let mut world = World::with_leaf(2);
    world.fault(v4(10, 1), Fault::Silent);
    all.push(Scenario::new("crowd/one-of-two-dead", world, different(30, "wild.leaf.kz", Truth)).limit(90));
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::Slow(700));
    }
    all.push(Scenario::new("crowd/slow-zone", world, different(30, "wild.leaf.kz", Truth)).limit(90));
    // Two zones whose servers have names in each other, asked for at the same moment: nobody waits for himself.
    let mut world = World::new();
    world.leaf(&["ns.other.net"]);
    world.zone(Zone::parse("other.net", "@ NS ns.leaf.kz."));
    world.add("kz", "leaf NS ns.other.net.");
    world.add("net", "other NS ns.leaf.kz.");
    let questions = [different(5, "leaf.kz", Failure), different(5, "other.net", Failure)].concat();
    all.push(Scenario::new("crowd/glueless-cycle", world, questions).limit(60));
    all.into_iter().map(Scenario::at_once).collect()
}

/// What changes while time passes.
fn times() -> Vec<Scenario> {
    let mut all = Vec::new();
    let below_leaf = || When::Below(name("leaf.kz"));
    // Servers that come back are noticed.
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::Silent.when([When::Before(10)]));
    }
    let questions = vec![
        ask("www.leaf.kz", A, TruthOrFailure),
        ask("any.wild.leaf.kz", A, Truth).later(20),
        ask("www.leaf.kz", A, Truth),
    ];
    all.push(Scenario::new("time/servers-recover", world, questions));
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::Rcode(SERVFAIL).when([When::Before(5)]));
    }
    let questions = vec![ask("www.leaf.kz", A, TruthOrFailure), ask("www.leaf.kz", A, Truth).later(7)];
    all.push(Scenario::new("time/zone-is-mended", world, questions));
    // An answer past its time is better than none (RFC 8767).
    for (label, fault) in [("silent", Fault::Silent), ("servfail", Fault::Rcode(SERVFAIL))] {
        let mut world = World::with_leaf(2);
        for host in 1..=2 {
            world.fault(v4(10, host), Fault::Ttl(1));
            world.fault(v4(10, host), fault.clone().when([below_leaf(), When::After(1)]));
        }
        let questions = vec![
            ask("www.leaf.kz", A, Truth),
            ask("www.leaf.kz", A, Truth).later(3),
            ask("www.leaf.kz", A, Truth),
            ask("n1.wild.leaf.kz", A, TruthOrFailure),
        ];
        all.push(Scenario::new(format!("time/stale-while-{label}"), world, questions));
    }
    // Servers die one after the other while the zone is in use.
    let mut world = World::with_leaf(3);
    world.fault(v4(10, 1), Fault::Silent.when([When::Udp, When::After(1)]));
    world.fault(v4(10, 2), Fault::Silent.when([When::Udp, When::After(2)]));
    let questions = (0..8).map(|number| ask(&format!("n{number}.wild.leaf.kz"), A, Truth)).collect();
    all.push(Scenario::new("time/servers-die", world, questions));
    all
}

/// What happens to single packets.
fn packets() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (label, spoof) in [
        ("wrong-id", Spoof::Id),
        ("wrong-port", Spoof::Port),
        ("wrong-address", Spoof::Address),
        ("wrong-question", Spoof::Question),
        ("wrong-case", Spoof::Case),
    ] {
        let mut world = World::with_leaf(2);
        for address in world.addresses().filter(|address| *address != POISON).collect::<Vec<_>>() {
            world.fault(address, Fault::Spoofed(spoof).when([When::Udp]));
        }
        all.push(Scenario::new(format!("spoof/{label}"), world, a_few(Truth)));
    }
    // Large answers.
    let mut world = World::with_leaf(2);
    all.push(Scenario::new("big-answer", World::with_leaf(2), vec![ask("big.leaf.kz", RecordType::TXT, Truth)]));
    world.fault(v4(10, 1), Fault::Unreachable.when([When::Tcp]));
    all.push(Scenario::new("big-answer/one-without-tcp", world, vec![ask("big.leaf.kz", RecordType::TXT, Truth)]));
    let mut world = World::with_leaf(2);
    world.fault(v4(10, 1), Fault::Silent.when([When::Tcp]));
    all.push(Scenario::new("big-answer/one-with-silent-tcp", world, vec![ask("big.leaf.kz", RecordType::TXT, Truth)]));
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::Slow(1500).when([When::Tcp]));
    }
    all.push(Scenario::new("big-answer/slow-tcp", world, vec![ask("big.leaf.kz", RecordType::TXT, Truth)]));
    all.push(Scenario::new("huge-answer", World::with_leaf(2), vec![ask("huge.leaf.kz", RecordType::TXT, Truth)]));
    // Large datagrams vanish on the way from servers that are known to be well (RFC 9715).
    for (label, hosts) in [("one-of-two", 1..=1), ("all", 1..=2)] {
        let mut world = World::with_leaf(2);
        for host in hosts {
            world.fault(v4(10, host), Fault::LosesLarge(600));
        }
        let questions = vec![
            ask("www.leaf.kz", A, Truth),
            ask("www.leaf.kz", AAAA, Truth),
            ask("middling.leaf.kz", RecordType::TXT, Truth),
            ask("big.leaf.kz", RecordType::TXT, Truth),
        ];
        all.push(Scenario::new(format!("large-lost-from-the-living/{label}"), world, questions));
    }
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::Half.when([When::Tcp]));
    }
    all.push(Scenario::new("big-answer/half-over-tcp", world, vec![ask("big.leaf.kz", RecordType::TXT, Failure)]));
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::TruncatesNothing.when([When::Udp]));
        world.fault(v4(10, host), Fault::Unreachable.when([When::Tcp]));
    }
    all.push(Scenario::new("truncates-nothing/no-tcp", world, a_few(TruthOrFailure)));
    all
}

/// Delegations that lead astray.
fn delegations() -> Vec<Scenario> {
    let mut all = Vec::new();
    let few = || a_few(Truth);

    // Glue that does not lead to the server.
    for (label, stale) in [
        ("unreachable", v4(99, 1)),
        ("refusing", v4(5, 1)),
        ("loopback", "127.0.0.1".parse().unwrap()),
        ("zero", "0.0.0.0".parse().unwrap()),
        ("private", "10.1.2.3".parse().unwrap()),
    ] {
        let mut world = World::new();
        world.leaf(&["ns1.leaf.kz", "ns2.leaf.kz"]);
        world.add("leaf.kz", &format!("ns1 A {}", v4(10, 1)));
        world.add("leaf.kz", &format!("ns2 A {}", v4(10, 2)));
        for line in ["leaf NS ns1.leaf", "leaf NS ns2.leaf"] {
            world.add("kz", line);
        }
        world.add("kz", &format!("ns1.leaf A {stale}"));
        world.add("kz", &format!("ns2.leaf A {}", v4(10, 2)));
        all.push(Scenario::new(format!("glue/stale-{label}"), world, few()));
    }
    let mut world = World::with_leaf(2);
    world.add("kz", &format!("ns1.leaf.kz. AAAA {}", v6(10, 1)));
    world.add("kz", &format!("ns2.leaf.kz. AAAA {}", v6(10, 2)));
    all.push(Scenario::new("glue/ipv6-unreachable-too", world, few()));
    let mut world = World::new();
    world.leaf(&["ns1.leaf.kz"]);
    world.add("kz", "leaf NS ns1.leaf");
    for origin in ["kz", "leaf.kz"] {
        world.add(origin, &format!("ns1.leaf.kz. AAAA {}", v6(10, 1)));
    }
    world.serve_with(v6(10, 1), &["leaf.kz", REVERSE], []);
    all.push(Scenario::new("glue/ipv6-only", world, few()));

    // Glue for one of two; the other has its name elsewhere.
    let mut world = World::new();
    world.leaf(&["ns1.leaf.kz", "leaf-ns.hoster.net"]);
    for line in
        ["leaf NS ns1.leaf".to_owned(), "leaf NS leaf-ns.hoster.net.".to_owned(), format!("ns1.leaf A {}", v4(10, 1))]
    {
        world.add("kz", &line);
    }
    world.add("leaf.kz", &format!("ns1 A {}", v4(10, 1)));
    world.add("hoster.net", &format!("leaf-ns A {}", v4(10, 2)));
    world.fault(v4(10, 1), Fault::Silent);
    all.push(Scenario::new("glue/dead-and-glueless-alive", world, few()));

    // Servers whose names lead nowhere beside one that lives.
    for (label, dead) in [
        ("missing-name", "gone.hoster.net."),
        ("missing-zone", "ns.gone.net."),
        ("single-label", "localhost."),
        ("address-as-name", "198.18.10.9."),
        ("cname-as-name", "alias.hoster.net."),
    ] {
        let mut world = World::with_leaf(1);
        world.add("hoster.net", "alias CNAME ns1");
        for origin in ["kz", "leaf.kz"] {
            world.add(origin, &format!("leaf.kz. NS {dead}"));
        }
        all.push(Scenario::new(format!("ns-name/{label}"), world, few()));
    }
    // The names of all servers are aliases, which they must not be (RFC 2181, section 10.3).
    let mut world = World::new();
    world.leaf(&["alias1.hoster.net", "alias2.hoster.net"]);
    for host in 1..=2 {
        world.add("kz", &format!("leaf NS alias{host}.hoster.net."));
        world.add("hoster.net", &format!("alias{host} CNAME leaf-ns{host}"));
        world.add("hoster.net", &format!("leaf-ns{host} A {}", v4(10, host)));
    }
    all.push(Scenario::new("ns-name/all-aliases", world, a_few(TruthOrFailure)));
    // Servers that have nothing but IPv6, and names elsewhere.
    let mut world = World::new();
    world.leaf(&["leaf-ns6.hoster.net"]);
    world.add("kz", "leaf NS leaf-ns6.hoster.net.");
    world.add("hoster.net", &format!("leaf-ns6 AAAA {}", v6(10, 1)));
    world.serve_with(v6(10, 1), &["leaf.kz", REVERSE], []);
    all.push(Scenario::new("glueless/ipv6-only", world, few()));
    // All servers' names lead nowhere.
    let mut world = World::new();
    world.add("kz", "leaf NS ns1.gone.net.");
    world.add("kz", "leaf NS ns2.gone.net.");
    all.push(Scenario::new(
        "ns-name/all-missing",
        world,
        vec![ask("www.leaf.kz", A, Failure), ask("x.leaf.kz", A, Failure)],
    ));

    // Glueless, through one, two and four more zones.
    for depth in [1u8, 2, 4] {
        let mut world = World::new();
        world.leaf(&["ns.step0.net"]);
        world.add("kz", "leaf NS ns.step0.net.");
        for step in 0..depth {
            let last = step + 1 == depth;
            let server = if last { format!("own.step{step}.net") } else { format!("ns.step{}.net", step + 1) };
            let origin = format!("step{step}.net");
            let address = v4(if step == 0 { 10 } else { 19 + step }, 1);
            world.zone(Zone::parse(&origin, &format!("@ NS {server}.\nns A {address}")));
            world.add("net", &format!("step{step} NS {server}."));
            if last {
                world.add("net", &format!("{server}. A {}", v4(20 + step, 1)));
                world.add(&origin, &format!("{server}. A {}", v4(20 + step, 1)));
            }
            world.serve_with(v4(20 + step, 1), &[&origin], []);
        }
        all.push(Scenario::new(format!("glueless/{depth}-deep"), world, few()).limit(50));
    }

    // Two zones whose servers have names in each other only.
    let mut world = World::new();
    world.leaf(&["ns.other.net"]);
    world.zone(Zone::parse("other.net", "@ NS ns.leaf.kz."));
    world.add("kz", "leaf NS ns.other.net.");
    world.add("net", "other NS ns.leaf.kz.");
    all.push(
        Scenario::new("glueless/cycle", world, vec![ask("www.leaf.kz", A, Failure), ask("www.other.net", A, Failure)])
            .limit(30),
    );
    // The same with a way out.
    let mut world = World::new();
    world.leaf(&["ns.other.net", "leaf-ns.hoster.net"]);
    world.zone(Zone::parse("other.net", &format!("@ NS ns.leaf.kz.\nns A {}", v4(10, 1))));
    world.add("leaf.kz", &format!("ns A {}", v4(11, 1)));
    world.add("hoster.net", &format!("leaf-ns A {}", v4(10, 2)));
    world.add("kz", "leaf NS ns.other.net.");
    world.add("kz", "leaf NS leaf-ns.hoster.net.");
    world.add("net", "other NS ns.leaf.kz.");
    world.serve_with(v4(11, 1), &["other.net"], []);
    all.push(Scenario::new("glueless/cycle-with-a-way-out", world, few()));
    // A zone whose only server has its name in the zone, and no glue.
    let mut world = World::new();
    world.leaf(&["ns1.leaf.kz"]);
    world.add("kz", "leaf NS ns1.leaf");
    world.add("leaf.kz", &format!("ns1 A {}", v4(10, 1)));
    all.push(
        Scenario::new(
            "glueless/in-its-own-zone",
            world,
            vec![ask("www.leaf.kz", A, Failure), ask("x.leaf.kz", A, Failure)],
        )
        .limit(24),
    );
    // Sibling glue.
    let mut world = World::new();
    world.leaf(&["ns1.sibling.kz"]);
    world.zone(Zone::parse("sibling.kz", &format!("@ NS ns1\nns1 A {}", v4(10, 1))));
    for line in
        ["leaf NS ns1.sibling".to_owned(), "sibling NS ns1.sibling".to_owned(), format!("ns1.sibling A {}", v4(10, 1))]
    {
        world.add("kz", &line);
    }
    world.serve_with(v4(10, 1), &["sibling.kz"], []);
    all.push(Scenario::new("glue/sibling", world, few()));

    // Parent and child name different servers.
    let mut world = World::with_leaf(1);
    world.add("leaf.kz", "@ NS ns-new.leaf.kz.");
    world.add("leaf.kz", &format!("ns-new A {}", v4(10, 7)));
    world.serve_with(v4(10, 7), &["leaf.kz"], [Fault::Silent]);
    all.push(Scenario::new("parent-child/child-adds-a-dead-one", world, few()));
    let mut world = World::with_leaf(2);
    world.serve_lie(v4(10, 9), Zone::parse("gone.kz", ""));
    world.add("kz", "leaf.kz. NS old.leaf.kz.");
    world.add("kz", &format!("old.leaf.kz. A {}", v4(10, 9)));
    all.push(Scenario::new("parent-child/parent-keeps-a-lame-one", world, few()));
    // The child's own NS set names nobody who lives; the parent's is right.
    let mut world = World::new();
    world.leaf(&["gone.hoster.net"]);
    world.add("kz", "leaf NS ns1.leaf");
    world.add("kz", &format!("ns1.leaf A {}", v4(10, 1)));
    all.push(Scenario::new("parent-child/child-names-nobody", world, few()));
    // Addresses of the servers have moved; the parent still knows the old.
    let mut world = World::with_leaf(1);
    world.serve_with(v4(10, 8), &["leaf.kz", REVERSE], []);
    world.add("kz", &format!("ns1.leaf.kz. A {}", v4(99, 8)));
    all.push(Scenario::new("parent-child/one-of-two-glue-addresses-dead", world, few()));

    // Loops of referrals.
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::RefersTo(name("kz"), name("a.nic.kz"), v4(1, 1)));
    }
    all.push(Scenario::new("referral/back-to-the-parent", world, a_few(Failure)[..2].to_vec()).limit(24));
    let mut world = World::with_leaf(1);
    world.fault(v4(10, 1), Fault::RefersTo(name("leaf.kz"), name("ns2.leaf.kz"), v4(10, 2)));
    world.serve_with(v4(10, 2), &["leaf.kz"], [Fault::RefersTo(name("leaf.kz"), name("ns1.leaf.kz"), v4(10, 1))]);
    all.push(Scenario::new("referral/ping-pong", world, a_few(Failure)[..2].to_vec()).limit(24));
    let mut world = World::with_leaf(2);
    world.fault(v4(10, 1), Fault::RefersTo(name("victim.kz"), name("ns.evil.net"), POISON));
    all.push(Scenario::new(
        "referral/sideways-one-of-two",
        world,
        [a_few(Truth), vec![ask("bank.victim.kz", A, Truth)]].concat(),
    ));
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::RefersTo(name("victim.kz"), name("ns.evil.net"), POISON));
    }
    all.push(Scenario::new(
        "referral/sideways-all",
        world,
        vec![ask("www.leaf.kz", A, Failure), ask("bank.victim.kz", A, Truth)],
    ));
    // A referral one level too deep at each step: many cuts on the way.
    let mut world = World::with_leaf(1);
    let mut parent = "leaf.kz".to_owned();
    for depth in 1..=6 {
        let child = format!("d{depth}.{parent}");
        world.zone(Zone::parse(&child, "www A 203.0.113.9"));
        world.add(&child, "@ NS ns1.leaf.kz.");
        world.add(&parent, &format!("{child}. NS ns1.leaf.kz."));
        world.serve_with(v4(10, 1), &[&child], []);
        parent = child;
    }
    all.push(
        Scenario::new(
            "referral/many-cuts-one-server",
            world,
            vec![ask(&format!("www.{parent}"), A, Truth), ask(&format!("none.{parent}"), A, Truth)],
        )
        .limit(24),
    );
    // Delegations where every server of the parent is a lame server for the child.
    let mut world = World::with_leaf(2);
    world.zone(Zone::parse("sub.leaf.kz", "www A 203.0.113.10"));
    world.add("sub.leaf.kz", "@ NS leaf-ns.hoster.net.");
    world.add("leaf.kz", "sub NS leaf-ns.hoster.net.");
    world.add("hoster.net", &format!("leaf-ns A {}", v4(10, 5)));
    world.serve_with(v4(10, 5), &["sub.leaf.kz"], []);
    all.push(Scenario::new(
        "referral/child-elsewhere",
        world,
        vec![ask("www.sub.leaf.kz", A, Truth), ask("no.sub.leaf.kz", A, Truth), ask("www.leaf.kz", A, Truth)],
    ));
    // The parent's server serves the child as well and answers without a referral.
    let mut world = World::with_leaf(2);
    world.serve_with(v4(1, 1), &["leaf.kz", REVERSE], []);
    world.serve_with(v4(1, 2), &["leaf.kz", REVERSE], []);
    all.push(Scenario::new("referral/parent-serves-child", world, few()));
    all
}

/// Servers that are confused by names cut short.
fn minimisation() -> Vec<Scenario> {
    let mut all = Vec::new();
    let deep = || {
        vec![
            ask("a.b.c.d.e.f.leaf.kz", A, Truth),
            ask("z.b.c.d.e.f.leaf.kz", A, Truth),
            ask("a.b.c.d.e.f.leaf.kz", AAAA, Truth),
            ask("www.leaf.kz", A, Truth),
            ask("any.wild.leaf.kz", A, Truth),
        ]
    };
    for (label, fault) in [
        ("nxdomain", Fault::DeniesName.when([When::EmptyNonTerminal])),
        ("refused", Fault::Rcode(REFUSED).when([When::EmptyNonTerminal])),
        ("servfail", Fault::Rcode(SERVFAIL).when([When::EmptyNonTerminal])),
        ("silent", Fault::Silent.when([When::EmptyNonTerminal])),
        ("notimp", Fault::Rcode(NOTIMP).when([When::EmptyNonTerminal])),
        ("empty", Fault::Empty.when([When::EmptyNonTerminal])),
        ("refers-upward", Fault::RefersUpward.when([When::EmptyNonTerminal])),
        ("refers-to-itself", Fault::RefersToItself.when([When::EmptyNonTerminal])),
    ] {
        for count in [1, 2] {
            let mut world = World::with_leaf(2);
            for host in 1..=count {
                world.fault(v4(10, host), fault.clone());
            }
            all.push(Scenario::new(format!("minimised/{label}-at-ent/{count}-of-2"), world, deep()));
        }
    }
    for (label, fault) in [
        ("nxdomain", Fault::DeniesName.when([When::Type(NS)])),
        ("refused", Fault::Rcode(REFUSED).when([When::Type(NS)])),
        ("servfail", Fault::Rcode(SERVFAIL).when([When::Type(NS)])),
        ("silent", Fault::Silent.when([When::Type(NS)])),
        ("empty", Fault::Empty.when([When::Type(NS)])),
        ("notimp", Fault::Rcode(NOTIMP).when([When::Type(NS)])),
    ] {
        let mut world = World::with_leaf(2);
        for host in 1..=2 {
            world.fault(v4(10, host), fault.clone());
        }
        all.push(Scenario::new(format!("minimised/{label}-for-ns"), world, deep()));
    }
    // The parent answers NXDOMAIN for an empty name between it and the cut.
    let mut world = World::new();
    world.leaf(&["ns1.hoster.net"]);
    world.zone(Zone::parse("sub.com.kz", "www A 203.0.113.11\n@ NS ns1.sub.com.kz."));
    world.add("sub.com.kz", &format!("ns1 A {}", v4(10, 1)));
    world.delegate("kz", "sub.com.kz", 10, &["ns1.sub.com.kz"]);
    world.serve_with(v4(10, 1), &["sub.com.kz"], []);
    for host in 1..=2 {
        world.fault(v4(1, host), Fault::DeniesName.when([When::EmptyNonTerminal]));
    }
    all.push(Scenario::new(
        "minimised/nxdomain-at-ent/tld",
        world,
        vec![ask("www.sub.com.kz", A, Truth), ask("no.sub.com.kz", A, Truth)],
    ));
    // As broken load balancers are: A and nothing else.
    for (label, fault) in [
        ("nxdomain", Fault::DeniesName),
        ("servfail", Fault::Rcode(SERVFAIL)),
        ("refused", Fault::Rcode(REFUSED)),
        ("notimp", Fault::Rcode(NOTIMP)),
        ("silent", Fault::Silent),
        ("refers-upward", Fault::RefersUpward),
    ] {
        let mut world = World::with_leaf(2);
        for host in 1..=2 {
            world.fault(v4(10, host), fault.clone().when([When::NotType(A)]));
        }
        let aaaa = ask("www.leaf.kz", AAAA, if label == "nxdomain" { Expect::Nothing } else { Failure });
        let questions = vec![
            ask("www.leaf.kz", A, Truth),
            aaaa,
            ask("any.wild.leaf.kz", A, Truth),
            ask("a.b.c.d.e.f.leaf.kz", A, Truth),
        ];
        all.push(Scenario::new(format!("only-a/{label}-otherwise"), world, questions));
    }
    all
}

/// What stands in replies.
fn contents() -> Vec<Scenario> {
    let mut all = Vec::new();
    let everywhere = |fault: &Fault| {
        let mut world = World::with_leaf(2);
        for host in 1..=2 {
            world.fault(v4(10, host), fault.clone());
        }
        world
    };
    for (label, expect, fault) in [
        ("aa-missing", Truth, Fault::NotAuthoritative),
        ("forwarder", Truth, Fault::Forwarder),
        ("no-soa", Truth, Fault::NoSoa),
        ("soa-of-the-parent", Truth, Fault::ForeignSoa(name("kz"))),
        ("soa-of-a-stranger", Truth, Fault::ForeignSoa(name("example.net"))),
        ("bare", Truth, Fault::Bare),
        ("ttl-0", Truth, Fault::Ttl(0)),
        ("ttl-huge", Truth, Fault::Ttl(0x7fff_ffff)),
        ("ttl-negative", Truth, Fault::Ttl(0xffff_ffff)),
        ("no-cname-synthesis", Truth, Fault::NoSynthesis),
        ("stops-at-cname", Truth, Fault::StopsAtCname),
        ("reversed", Truth, Fault::Reversed),
        ("nxdomain-with-answer", TruthOrFailure, Fault::Code(NXDOMAIN)),
        ("servfail-with-answer", TruthOrFailure, Fault::Code(SERVFAIL)),
    ] {
        let mut questions = each_kind(expect);
        if expect == TruthOrFailure {
            // A name denied and answered at once: whatever is believed, nothing false is.
            questions.truncate(2);
            questions.iter_mut().for_each(|question| question.expect = Failure);
            if label == "nxdomain-with-answer" {
                continue;
            }
        }
        all.push(Scenario::new(format!("contents/{label}"), everywhere(&fault), questions));
    }
    for (label, fault) in [
        ("wrong-type", Fault::WrongType(RecordType::TXT)),
        ("wrong-class", Fault::WrongClass(3)),
        ("wrong-owner", Fault::WrongOwner(name("www.victim.kz"))),
        ("empty", Fault::Empty),
    ] {
        let mut world = World::with_leaf(2);
        world.fault(v4(10, 1), fault.clone().when([When::Type(A), When::Below(name("www.leaf.kz"))]));
        let questions = || {
            vec![
                ask("www.leaf.kz", A, Expect::Harmless),
                ask("www.victim.kz", A, Truth),
                ask("any.wild.leaf.kz", A, Truth),
            ]
        };
        all.push(Scenario::new(format!("contents/{label}-one-of-two"), world, questions()));
        let fault = fault.when([When::Type(A), When::Below(name("www.leaf.kz"))]);
        all.push(Scenario::new(format!("contents/{label}"), everywhere(&fault), questions()));
    }
    // Answers must not outlive their TTL.
    let mut world = World::with_leaf(1);
    world.fault(v4(10, 1), Fault::DeniesType.when([When::Name(name("www.leaf.kz")), When::Type(AAAA)]));
    all.push(Scenario::new(
        "contents/short-ttl",
        world,
        vec![ask("short.leaf.kz", A, Truth), ask("short.leaf.kz", A, Truth).later(3)],
    ));
    // AAAA questions go wrong in ways of their own.
    for (label, expect, fault) in [
        ("nxdomain", Expect::Nothing, Fault::DeniesName),
        ("servfail", Failure, Fault::Rcode(SERVFAIL)),
        ("refused", Failure, Fault::Rcode(REFUSED)),
        ("notimp", Failure, Fault::Rcode(NOTIMP)),
        ("silent", Failure, Fault::Silent),
        ("upward", Failure, Fault::RefersUpward),
    ] {
        let world = everywhere(&fault.when([When::Type(AAAA)]));
        let questions = vec![
            ask("any.wild.leaf.kz", A, Truth),
            ask("any.wild.leaf.kz", AAAA, expect),
            ask("www.leaf.kz", A, Truth),
            ask("www.leaf.kz", AAAA, expect),
            ask("other.wild.leaf.kz", A, Truth),
        ];
        all.push(Scenario::new(format!("aaaa/{label}"), world, questions));
    }
    all
}

/// Aliases.
fn chains() -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut world = World::with_leaf(2);
    for line in [
        "c1 CNAME c2",
        "c2 CNAME c1",
        "self CNAME self",
        "dead CNAME nobody.nowhere.kz.",
        "apexed CNAME other.leaf.kz.",
    ] {
        world.add("leaf.kz", line);
    }
    all.push(
        Scenario::new(
            "cname/loop",
            world,
            vec![
                ask("c1.leaf.kz", A, TruthOrFailure),
                ask("self.leaf.kz", A, TruthOrFailure),
                ask("dead.leaf.kz", A, Truth),
                ask("apexed.leaf.kz", A, Truth),
                ask("www.leaf.kz", A, Truth),
            ],
        )
        .limit(30),
    );
    // Across two zones, with no end.
    let mut world = World::with_leaf(2);
    world.add("leaf.kz", "round CNAME round.victim.kz.");
    world.add("victim.kz", "round CNAME round.leaf.kz.");
    all.push(
        Scenario::new(
            "cname/loop-over-two-zones",
            world,
            vec![ask("round.leaf.kz", A, Expect::Harmless), ask("www.leaf.kz", A, Truth)],
        )
        .limit(40),
    );
    for length in [8, 11] {
        let mut world = World::with_leaf(2);
        for link in 0..length {
            let (here, there) = if link % 2 == 0 { ("leaf.kz", "victim.kz") } else { ("victim.kz", "leaf.kz") };
            world.add(here, &format!("chain{link} CNAME chain{}.{there}.", link + 1));
        }
        let end = if length % 2 == 0 { "leaf.kz" } else { "victim.kz" };
        world.add(end, &format!("chain{length} A 203.0.113.20"));
        all.push(
            Scenario::new(
                format!("cname/chain-of-{length}-over-two-zones"),
                world,
                vec![ask("chain0.leaf.kz", A, Truth)],
            )
            .limit(24),
        );
        let mut world = World::with_leaf(2);
        for link in 0..length {
            world.add("leaf.kz", &format!("chain{link} CNAME chain{}", link + 1));
        }
        world.add("leaf.kz", &format!("chain{length} A 203.0.113.20"));
        all.push(
            Scenario::new(
                format!("cname/chain-of-{length}-in-one-zone"),
                world,
                vec![ask("chain0.leaf.kz", A, Truth), ask("chain3.leaf.kz", A, Truth)],
            )
            .limit(20),
        );
    }
    let mut world = World::with_leaf(2);
    for link in 0..200 {
        let (here, there) = if link % 2 == 0 { ("leaf.kz", "victim.kz") } else { ("victim.kz", "leaf.kz") };
        world.add(here, &format!("chain{link} CNAME chain{}.{there}.", link + 1));
    }
    all.push(
        Scenario::new(
            "cname/chain-of-200",
            world,
            vec![ask("chain0.leaf.kz", A, Failure), ask("www.leaf.kz", A, Truth)],
        )
        .limit(50),
    );
    // A CNAME at the apex, beside SOA and NS.
    let mut world = World::with_leaf(2);
    world.add("leaf.kz", "@ CNAME www");
    all.push(Scenario::new(
        "cname/at-the-apex",
        world,
        vec![ask("leaf.kz", A, Truth), ask("www.leaf.kz", A, Truth), ask("missing.leaf.kz", A, Truth)],
    ));
    // CNAME to a zone that is dead, to one that is lame.
    let mut world = World::with_leaf(2);
    world.add("leaf.kz", "todead CNAME www.dead.kz.");
    world.add("kz", "dead NS ns.dead");
    world.add("kz", &format!("ns.dead A {}", v4(40, 1)));
    world.serve_with(v4(40, 1), &[], [Fault::Silent]);
    all.push(Scenario::new(
        "cname/into-a-dead-zone",
        world,
        vec![ask("todead.leaf.kz", A, Failure), ask("www.leaf.kz", A, Truth)],
    ));
    // DNAME onto itself, and one that makes names too long.
    let mut world = World::with_leaf(2);
    world.add("leaf.kz", "grow DNAME more.grow.leaf.kz.");
    let long = format!("{0}.{0}.{0}", "l".repeat(60));
    world.add("leaf.kz", &format!("wide DNAME {long}.leaf.kz."));
    let far = format!("{0}.wide.leaf.kz", "m".repeat(60));
    all.push(
        Scenario::new(
            "dname/without-end",
            world,
            vec![
                ask("x.grow.leaf.kz", A, Expect::Harmless),
                ask(&far, A, Expect::Harmless),
                ask("www.leaf.kz", A, Truth),
            ],
        )
        .limit(50),
    );
    // A DNAME at the apex of a zone, into another.
    let mut world = World::with_leaf(2);
    world.add("victim.kz", "old.into A 203.0.113.30");
    world.add("leaf.kz", "moved DNAME into.victim.kz.");
    all.push(Scenario::new(
        "dname/into-another-zone",
        world,
        vec![ask("old.moved.leaf.kz", A, Truth), ask("none.moved.leaf.kz", A, Truth), ask("moved.leaf.kz", A, Truth)],
    ));
    let mut world = World::with_leaf(2);
    world.add("victim.kz", "old.into A 203.0.113.30");
    world.add("leaf.kz", "moved DNAME into.victim.kz.");
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::NoSynthesis);
    }
    all.push(Scenario::new(
        "dname/into-another-zone-unsynthesised",
        world,
        vec![ask("old.moved.leaf.kz", A, Truth), ask("none.moved.leaf.kz", A, Truth)],
    ));
    all
}

/// Servers that put more into replies than they know.
fn poison() -> Vec<Scenario> {
    let mut all = Vec::new();
    let record = |owner: &str, rtype: RecordType, rdata: Vec<u8>| Record::new(&name(owner), rtype, 86400, rdata);
    let address = |owner: &str| Record::address(&name(owner), 86400, POISON);
    let server = |owner: &str, target: &str| record(owner, NS, name(target).as_wire().to_vec());
    let cname = |owner: &str, target: &str| record(owner, RecordType::CNAME, name(target).as_wire().to_vec());
    let questions = || {
        vec![
            ask("www.leaf.kz", A, Truth),
            ask("www.victim.kz", A, Truth),
            ask("bank.victim.kz", A, Truth),
            ask("missing.leaf.kz", A, Truth),
            ask("none.victim.kz", A, Truth),
            ask("ns1.hoster.net", A, Truth),
            ask("far.leaf.kz", A, Truth),
        ]
    };
    let lies: Vec<(&str, Vec<(Part, Record)>)> = vec![
        ("answer-address", vec![(Part::Answer, address("www.victim.kz"))]),
        (
            "answer-cname",
            vec![(Part::Answer, cname("bank.victim.kz", "www.evil.net")), (Part::Answer, address("www.evil.net"))],
        ),
        (
            "authority-ns",
            vec![(Part::Authority, server("victim.kz", "ns.evil.net")), (Part::Additional, address("ns.evil.net"))],
        ),
        (
            "authority-ns-of-the-tld",
            vec![(Part::Authority, server("kz", "ns.evil.net")), (Part::Additional, address("ns.evil.net"))],
        ),
        (
            "authority-ns-of-the-root",
            vec![(Part::Authority, server(".", "ns.evil.net")), (Part::Additional, address("ns.evil.net"))],
        ),
        (
            "additional-address",
            vec![(Part::Additional, address("www.victim.kz")), (Part::Additional, address("bank.victim.kz"))],
        ),
        (
            "additional-server-address",
            vec![
                (Part::Additional, address("ns1.victim.kz")),
                (Part::Additional, address("ns2.victim.kz")),
                (Part::Additional, address("a.nic.kz")),
                (Part::Additional, address("b.nic.kz")),
            ],
        ),
        (
            "authority-ns-own-zone-foreign-glue",
            vec![(Part::Authority, server("leaf.kz", "ns1.hoster.net")), (Part::Additional, address("ns1.hoster.net"))],
        ),
        (
            "authority-ns-own-zone-victim-glue",
            vec![(Part::Authority, server("leaf.kz", "www.victim.kz")), (Part::Additional, address("www.victim.kz"))],
        ),
        (
            "answer-dname",
            vec![(Part::Answer, record("victim.kz", RecordType::DNAME, name("evil.net").as_wire().to_vec()))],
        ),
        (
            "answer-ns",
            vec![(Part::Answer, server("victim.kz", "ns.evil.net")), (Part::Additional, address("ns.evil.net"))],
        ),
        ("authority-address", vec![(Part::Authority, address("www.victim.kz"))]),
    ];
    for (label, lie) in lies {
        let mut world = World::with_leaf(2);
        for host in 1..=2 {
            for (part, record) in &lie {
                world.fault(v4(10, host), Fault::Adds(part.clone(), record.clone()));
            }
        }
        all.push(Scenario::new(format!("poison/{label}"), world, questions()));
    }
    // The chain's end is told by whoever owns its beginning.
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(
            v4(10, host),
            Fault::Adds(Part::Answer, address("www.victim.kz")).when([When::Name(name("far.leaf.kz"))]),
        );
    }
    all.push(Scenario::new(
        "poison/end-of-the-chain",
        world,
        vec![ask("far.leaf.kz", A, Truth), ask("www.victim.kz", A, Truth)],
    ));
    // An NXDOMAIN for a victim's name behind one's own alias.
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::Code(NXDOMAIN).when([When::Name(name("far.leaf.kz"))]));
    }
    all.push(Scenario::new(
        "poison/nxdomain-behind-an-alias",
        world,
        vec![ask("far.leaf.kz", A, Truth), ask("www.victim.kz", A, Truth)],
    ));
    // A negative answer whose SOA denies another zone.
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::ForeignSoa(name("victim.kz")));
    }
    all.push(Scenario::new(
        "poison/soa-of-the-victim",
        world,
        vec![ask("missing.leaf.kz", A, Truth), ask("www.victim.kz", A, Truth), ask("bank.victim.kz", A, Truth)],
    ));
    // Glue in a referral for a name that the parent of the zone does not own.
    let mut world = World::with_leaf(2);
    world.zone(Zone::parse("sub.leaf.kz", "www A 203.0.113.12"));
    world.add("sub.leaf.kz", "@ NS ns1.hoster.net.");
    world.add("leaf.kz", "sub NS ns1.hoster.net.");
    world.serve_with(v4(4, 1), &["sub.leaf.kz"], []);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::Adds(Part::Additional, address("ns1.hoster.net")));
    }
    all.push(Scenario::new(
        "poison/glue-for-a-foreign-server",
        world,
        vec![
            ask("www.sub.leaf.kz", A, TruthOrFailure),
            ask("ns1.hoster.net", A, Truth),
            ask("www.hoster.net", A, Truth),
        ],
    ));
    // Ghost domain: the parent has withdrawn the delegation, the child's servers renew it in each reply.
    let mut world = World::with_leaf(2);
    world.fault(v4(1, 2), Fault::Unreachable);
    world.fault(v4(1, 1), Fault::Ttl(2).when([When::Below(name("leaf.kz"))]));
    world.fault(v4(1, 1), Fault::DeniesName.when([When::Below(name("leaf.kz")), When::After(1)]));
    for host in 1..=2 {
        for lie in [server("leaf.kz", "ns1.leaf.kz"), Record::address(&name("ns1.leaf.kz"), 86400, v4(10, 1))] {
            let part = if lie.rtype == NS { Part::Authority } else { Part::Additional };
            world.fault(v4(10, host), Fault::Adds(part, lie));
        }
    }
    let questions = vec![
        ask("www.leaf.kz", A, Truth),
        ask("1.wild.leaf.kz", A, Truth).later(1),
        ask("2.wild.leaf.kz", A, Expect::Denied).later(3),
    ];
    all.push(Scenario::new("poison/ghost-domain", world, questions));
    all
}

/// Zones that make the resolver work for them.
fn floods() -> Vec<Scenario> {
    let mut all = Vec::new();
    // NXNSAttack (CVE-2020-12662): a delegation to many servers that are not there, in a zone of the victim's.
    for count in [20, 60] {
        let mut world = World::with_leaf(1);
        for server in 0..count {
            world.add("leaf.kz", &format!("attack NS ns{server}.no.victim.kz."));
        }
        all.push(
            Scenario::new(
                format!("flood/nxns-{count}"),
                world,
                vec![ask("www.attack.leaf.kz", A, Failure), ask("www.victim.kz", A, Truth)],
            )
            .limit(40),
        );
    }
    // Each of them in a zone of its own, below one that is dead.
    let mut world = World::with_leaf(1);
    world.add("kz", "dead NS ns.dead");
    world.add("kz", &format!("ns.dead A {}", v4(40, 1)));
    world.serve_with(v4(40, 1), &[], [Fault::Silent]);
    for server in 0..30 {
        world.add("leaf.kz", &format!("attack NS ns{server}.dead.kz."));
    }
    all.push(
        Scenario::new(
            "flood/nxns-into-a-dead-zone",
            world,
            vec![ask("www.attack.leaf.kz", A, Failure), ask("www.leaf.kz", A, Truth)],
        )
        .limit(50),
    );
    // A set of many servers, all of them dead; then one alive.
    for (label, alive) in [("all-dead", false), ("one-alive", true)] {
        let mut world = World::new();
        let names: Vec<String> = (1..=14).map(|host| format!("ns{host}.leaf.kz")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        world.leaf(&names);
        world.delegate("kz", "leaf.kz", 10, &names);
        for host in (if alive { 2 } else { 1 })..=14 {
            world.fault(v4(10, host), Fault::Silent);
        }
        let expect = if alive { TruthOrFailure } else { Failure };
        all.push(
            Scenario::new(
                format!("flood/14-servers-{label}"),
                world,
                vec![ask("www.leaf.kz", A, expect), ask("missing.leaf.kz", A, expect)],
            )
            .limit(60),
        );
    }
    // A hundred servers, all of them well; all of them dead.
    let questions = || vec![ask("www.leaf.kz", A, Truth), ask("missing.leaf.kz", A, Truth)];
    all.push(Scenario::new("flood/100-servers", World::with_leaf(100), questions()).limit(12));
    let mut world = World::with_leaf(100);
    for host in 1..=100 {
        world.fault(v4(10, host), Fault::Silent);
    }
    let questions = vec![ask("www.leaf.kz", A, Failure), ask("missing.leaf.kz", A, Failure)];
    all.push(Scenario::new("flood/100-servers-dead", world, questions).limit(60));
    // A wildcard of aliases that leads back below itself.
    let mut world = World::with_leaf(2);
    world.add("leaf.kz", "*.round CNAME x.round");
    world.add("leaf.kz", "*.there CNAME y.back.victim.kz.");
    world.add("victim.kz", "*.back CNAME z.there.leaf.kz.");
    let questions = vec![
        ask("a.round.leaf.kz", A, Expect::Harmless),
        ask("a.there.leaf.kz", A, Expect::Harmless),
        ask("www.leaf.kz", A, Truth),
    ];
    all.push(Scenario::new("flood/wildcard-loop", world, questions).limit(50));
    // Forty servers that refuse.
    let mut world = World::with_leaf(40);
    for host in 1..=40 {
        world.fault(v4(10, host), Fault::Rcode(REFUSED));
    }
    all.push(
        Scenario::new(
            "flood/40-servers-refuse",
            world,
            vec![ask("www.leaf.kz", A, Failure), ask("missing.leaf.kz", A, Failure)],
        )
        .limit(60),
    );
    // A wildcard of delegations: each step leads to another.
    let mut world = World::with_leaf(1);
    for server in 0..10 {
        world.add("leaf.kz", &format!("tree NS ns{server}.branch.leaf.kz."));
        world.add("leaf.kz", &format!("ns{server}.branch NS x{server}.twig.leaf.kz."));
        for twig in 0..10 {
            world.add("leaf.kz", &format!("x{server}.twig NS y{twig}.leafy{server}.kz."));
        }
    }
    all.push(
        Scenario::new(
            "flood/tree-of-delegations",
            world,
            vec![ask("www.tree.leaf.kz", A, Failure), ask("www.leaf.kz", A, Truth)],
        )
        .limit(60),
    );
    // The same dead name again and again costs nothing more (RFC 9520).
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::Silent);
    }
    all.push(
        Scenario::new("flood/dead-zone-asked-ten-times", world, vec![ask("www.leaf.kz", A, Failure); 10]).limit(24),
    );
    let mut world = World::with_leaf(2);
    for host in 1..=2 {
        world.fault(v4(10, host), Fault::Rcode(SERVFAIL));
    }
    all.push(
        Scenario::new("flood/broken-zone-asked-ten-times", world, vec![ask("www.leaf.kz", A, Failure); 10]).limit(20),
    );
    all
}
