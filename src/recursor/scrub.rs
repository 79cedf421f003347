//! Understands a reply: what it says to the question, and what of it may be believed.
//!
//! A server is believed about names in the zone that it was asked for, and
//! about nothing else (bailiwick; RFC 5452, section 6). What else a message
//! holds is left out before anybody sees it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;

use crate::name::{DomainName, Name};
use crate::query::{Rcode, RecordType};

use super::delegation::Manner;
use super::dnssec::rdata;
use super::message::{self, Message, Rdata, RrSet};

/// What a reply says.
#[derive(Debug, Clone)]
pub struct Reply {
    /// What it comes down to.
    pub outcome: Outcome,
    /// Aliases in order from the question's name on, and the records asked for at their end.
    pub answer: Vec<RrSet>,
    /// SOA of a negative answer; NSEC, NSEC3 and, in a referral, DS.
    pub authority: Vec<RrSet>,
    /// The zone's own name servers as it names them itself.
    pub own_servers: Option<RrSet>,
    /// Addresses of name servers, fit to reach them.
    pub glue: Vec<(DomainName, IpAddr)>,
    /// Addresses of name servers that this server has no say about; for when nothing else leads to them.
    pub hearsay: Vec<(DomainName, IpAddr)>,
    /// A server that is an authority says so.
    pub authoritative: bool,
    /// Records were left out whose data does not follow the layout of their type.
    pub misshapen: bool,
}

impl Reply {
    /// Whether the reply speaks for `zone` itself, not for one below it that the server has as well, and nothing in
    /// it is signed.
    pub fn lacks_signatures(&self, zone: &Name) -> bool {
        let own = self.own_servers.is_some()
            || self.authority.iter().any(|set| set.rtype == RecordType::SOA && *set.name == *zone)
            || self.answer.iter().any(|set| set.rtype == RecordType::DNSKEY && *set.name == *zone);
        own && self.answer.iter().chain(&self.authority).all(|set| set.signatures.is_empty())
    }
}

/// What a reply comes down to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The records asked for are there.
    Answered,
    /// The name is an alias; go on with this one.
    Alias(DomainName),
    /// The name, perhaps at the end of aliases, has no such records.
    NoData(DomainName),
    /// The name, perhaps at the end of aliases, does not exist.
    NxDomain(DomainName),
    /// A DNAME makes the name too long (RFC 6672, section 2.2).
    TooLong,
    /// Ask the servers of this zone.
    Referral(RrSet),
}

/// What a reply is worth.
#[derive(Debug, Clone)]
pub enum Worth {
    /// It answers.
    Good(Reply),
    /// It may answer, but another server might do better: no authority, or nothing that proves it.
    Poor(Reply),
    /// The server does not serve the zone, or cannot now.
    Lame(Fault),
}

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It answers with this code.
    Rcode(Rcode),
    /// It sends us to where we come from (RFC 1713, section 2.2 calls this a lame delegation).
    UpwardReferral,
    /// It says nothing at all, or nothing that belongs together.
    Empty,
}

/// The longest chain of aliases that is followed inside one message.
const MAX_CHAIN: usize = 12;

/// Reads `message` as the reply of a server of `zone` to `name` and `qtype`.
pub fn read(message: Message, zone: &Name, manner: Manner, name: &Name, qtype: RecordType) -> Worth {
    match message.rcode {
        Rcode::NOERROR | Rcode::NXDOMAIN => {}
        Rcode::YXDOMAIN if message.answer.iter().any(|set| set.rtype == RecordType::DNAME) => {}
        rcode => return Worth::Lame(Fault::Rcode(rcode)),
    }
    // A resolver that we were told to use may speak of everything.
    let trusted = if manner == Manner::Forward { Name::root() } else { zone };
    let mut message = message;
    let leads_away = |set: &RrSet| set.rtype == RecordType::NS && !set.name.is_at_or_below(zone);
    let led_away = message.authority.iter().any(leads_away);
    let hearsay: Vec<RrSet> = message.additional.extract_if(.., |set| !set.name.is_at_or_below(trusted)).collect();
    for section in [&mut message.answer, &mut message.authority, &mut message.additional] {
        section.retain(|set| set.name.is_at_or_below(trusted) && !reaches_beyond(set, trusted));
    }

    let (answer, end) = follow(&mut message.answer, trusted, name, qtype);
    let aliased = !answer.is_empty();
    let mut reply = Reply {
        outcome: Outcome::Answered,
        answer,
        authority: Vec::new(),
        own_servers: None,
        glue: Vec::new(),
        hearsay: Vec::new(),
        authoritative: message.authoritative,
        misshapen: message.misshapen,
    };
    // Somebody else's resolver, misused as an authority, says that it recurses and is none.
    let borrowed = manner != Manner::Forward && message.recursion_available && !message.authoritative;
    let worth = |reply: Reply| if borrowed { Worth::Poor(reply) } else { Worth::Good(reply) };
    let is_proof = |set: &RrSet| matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3);
    // What was found needs no denial beside it, but for what was made from a wildcard.
    let needed = |answer: &[RrSet], mut authority: Vec<RrSet>| {
        let expanded = answer.iter().any(rdata::is_expanded);
        authority.retain(|set| expanded && is_proof(set));
        authority
    };

    let last = match end {
        End::TooLong => {
            reply.outcome = Outcome::TooLong;
            return worth(reply);
        }
        End::Found => {
            let own = |set: &&RrSet| set.rtype == RecordType::NS && *set.name == *zone;
            // Beside an answer, or as one.
            let named = message.authority.iter().chain(&reply.answer).find(own);
            reply.own_servers = named.filter(|_| message.authoritative).cloned();
            reply.glue = glue(&message.additional, reply.own_servers.as_ref());
            reply.authority = needed(&reply.answer, message.authority);
            return worth(reply);
        }
        End::Outside(target) => {
            reply.outcome = Outcome::Alias(target);
            reply.authority = needed(&reply.answer, message.authority);
            return worth(reply);
        }
        End::Missing(last) => last,
    };

    let soa = |set: &RrSet| set.rtype == RecordType::SOA && last.is_at_or_below(&set.name);
    let has_soa = message.authority.iter().any(soa);
    let negative = |reply: &mut Reply, message: Message| {
        reply.authority = message.authority;
        reply.authority.retain(|set| soa(set) || is_proof(set));
    };
    if message.rcode == Rcode::NXDOMAIN && (has_soa || !aliased) {
        reply.outcome = Outcome::NxDomain(last.clone());
        negative(&mut reply, message);
        // Who is no authority and proves nothing may know nothing.
        let hollow = manner != Manner::Forward && !reply.authoritative && reply.authority.is_empty();
        return if hollow { Worth::Poor(reply) } else { worth(reply) };
    }
    if has_soa {
        reply.outcome = Outcome::NoData(last.clone());
        let child = message.authority.iter().any(|set| soa(set) && set.name == last);
        negative(&mut reply, message);
        // The zone below the cut knows nothing of its DS records (RFC 4035, section 3.1.4.1).
        return if qtype == RecordType::DS && child { Worth::Poor(reply) } else { worth(reply) };
    }
    if aliased {
        reply.authority = message.authority;
        reply.authority.retain(is_proof);
        reply.outcome = Outcome::Alias(last);
        return worth(reply);
    }
    if qtype == RecordType::ANY && !message.answer.is_empty() {
        reply.answer = message.answer;
        reply.answer.retain(|set| *set.name == *name && set.rtype != RecordType::RRSIG);
        return if reply.answer.is_empty() { Worth::Lame(Fault::Empty) } else { worth(reply) };
    }

    let servers = message.authority.iter().filter(|set| set.rtype == RecordType::NS);
    if let Some(cut) = servers.clone().find(|set| set.name.is_below(zone) && name.is_at_or_below(&set.name)) {
        if manner == Manner::Forward {
            // A forwarder that refers us elsewhere does not do its work.
            return Worth::Lame(Fault::Empty);
        }
        let cut = cut.clone();
        reply.glue = glue(&message.additional, Some(&cut));
        reply.hearsay = glue(&hearsay, Some(&cut));
        reply.authority = message.authority;
        reply.authority.retain(|set| is_proof(set) || set.rtype == RecordType::DS && set.name == cut.name);
        reply.outcome = Outcome::Referral(cut);
        return Worth::Good(reply);
    }
    // A zone's own servers beside an authoritative nothing mean that there is nothing; elsewhere, that it is elsewhere.
    let led_back = servers.clone().any(|set| *set.name == *zone) && !message.authoritative && !borrowed;
    if (led_away || led_back) && manner != Manner::Forward {
        return Worth::Lame(Fault::UpwardReferral);
    }
    // A proof without an SOA record proves all the same; an authority that says something usually means it.
    let meant = message.authority.iter().any(is_proof) || message.authoritative && !message.authority.is_empty();
    reply.outcome = Outcome::NoData(last.clone());
    negative(&mut reply, message);
    match (meant, manner) {
        (_, Manner::Forward) | (true, _) => Worth::Good(reply),
        // No SOA and no authority: take it only if nobody says better.
        (false, _) => Worth::Poor(reply),
    }
}

/// Whether an NSEC record speaks of names that its zone cannot know.
fn reaches_beyond(set: &RrSet, zone: &Name) -> bool {
    let within = |data: &Rdata| message::leading_name(data).is_some_and(|next| next.is_at_or_below(zone));
    set.rtype == RecordType::NSEC && !set.rdata.iter().all(within)
}

/// Where a chain of aliases ends.
enum End {
    /// At the records asked for.
    Found,
    /// At a name that this server has no say about.
    Outside(DomainName),
    /// At a name that the message has no records for.
    Missing(DomainName),
    /// At a DNAME that makes the name too long.
    TooLong,
}

/// Follows aliases through the answer section as far as they stay below `trusted`.
fn follow(sets: &mut Vec<RrSet>, trusted: &Name, name: &Name, qtype: RecordType) -> (Vec<RrSet>, End) {
    let mut chain: Vec<RrSet> = Vec::new();
    let mut at = name.to_owned();
    let take = |sets: &mut Vec<RrSet>, wanted: &dyn Fn(&RrSet) -> bool| {
        sets.iter().position(wanted).map(|place| sets.remove(place))
    };
    while chain.len() < MAX_CHAIN {
        if !at.is_at_or_below(trusted) {
            return (chain, End::Outside(at));
        }
        let renames = |set: &RrSet| set.rtype == RecordType::DNAME && at.is_below(&set.name);
        // A CNAME that a DNAME stands for is synthesised below, also when it is what was asked for.
        // Where an alias has other records beside it, which it must not, what comes first counts.
        let here = sets.iter().find(|set| set.name == at && (set.rtype == qtype || set.rtype == RecordType::CNAME));
        let found = here.is_some_and(|set| set.rtype == qtype);
        if found
            && !(qtype == RecordType::CNAME && sets.iter().any(renames))
            && let Some(found) = take(sets, &|set| set.rtype == qtype && set.name == at)
        {
            chain.push(found);
            return (chain, End::Found);
        }
        if qtype == RecordType::ANY {
            break;
        }
        let target = if let Some(dname) = take(sets, &renames) {
            let alias = synthesise(&dname, &at);
            chain.push(dname);
            let Some(alias) = alias else { return (chain, End::TooLong) };
            // The server's own synthesis says the same, or is not to be believed.
            take(sets, &|set| set.rtype == RecordType::CNAME && set.name == at);
            let target = alias.targets().next();
            chain.push(alias);
            if qtype == RecordType::CNAME {
                return (chain, End::Found);
            }
            // What stands behind a DNAME is asked for by its own name.
            return match target {
                Some(target) => (chain, End::Outside(target)),
                None => (chain, End::TooLong),
            };
        } else if let Some(alias) = take(sets, &|set| set.rtype == RecordType::CNAME && set.name == at) {
            // One name has one canonical name (RFC 2181, section 10.1).
            let target = alias.targets().next();
            chain.push(RrSet { rdata: alias.rdata.iter().take(1).cloned().collect(), ..alias });
            target
        } else {
            break;
        };
        match target {
            Some(target) => at = target,
            None => break,
        }
    }
    (chain, End::Missing(at))
}

/// The CNAME that `dname` stands for at `name`; `None` when the target would be too long (RFC 6672, section 3.1).
pub fn synthesise(dname: &RrSet, name: &Name) -> Option<RrSet> {
    let target = dname.targets().next()?;
    let alias = name.with_suffix_replaced(&dname.name, &target).ok()?;
    Some(RrSet {
        name: name.to_owned(),
        rtype: RecordType::CNAME,
        ttl: dname.ttl,
        rdata: SmallVec::from_iter([Rdata::from(alias.as_wire())]),
        signatures: SmallVec::new(),
    })
}

/// Addresses in the additional section that belong to servers of `cut`.
fn glue(additional: &[RrSet], cut: Option<&RrSet>) -> Vec<(DomainName, IpAddr)> {
    let Some(cut) = cut else { return Vec::new() };
    let names: Vec<DomainName> = cut.targets().collect();
    let mut glue = Vec::new();
    for set in additional.iter().filter(|set| names.contains(&set.name)) {
        glue.extend(addresses(set).map(|address| (set.name.clone(), address)));
    }
    glue
}

/// The addresses of a set of A or AAAA records.
pub fn addresses(set: &RrSet) -> impl Iterator<Item = IpAddr> + '_ {
    set.rdata.iter().filter_map(|data| match set.rtype {
        RecordType::A => <[u8; 4]>::try_from(&**data).ok().map(|octets| Ipv4Addr::from(octets).into()),
        RecordType::AAAA => <[u8; 16]>::try_from(&**data).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    })
}

/// For how many seconds a negative answer holds: the lesser of the SOA's TTL and its MINIMUM (RFC 2308, section 5).
pub fn negative_ttl(authority: &[RrSet]) -> Option<u32> {
    let soa = authority.iter().find(|set| set.rtype == RecordType::SOA)?;
    let minimum = soa.rdata.first()?.last_chunk().map(|octets| u32::from_be_bytes(*octets))?;
    Some(soa.ttl.min(minimum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recursor::testing::{a, name, set, soa, to};

    /// What an authority of `zone` says to `question A`.
    fn said(zone: &str, question: &str, message: Message) -> Worth {
        let message = Message { authoritative: true, ..message };
        read(message, &name(zone), Manner::Iterate, &name(question), RecordType::A)
    }

    fn good(worth: Worth) -> Reply {
        match worth {
            Worth::Good(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_believed_about_names_outside_the_zone() {
        let reply = good(said(
            "kz",
            "www.a.kz",
            Message {
                answer: vec![to("www.a.kz", RecordType::CNAME, "www.b.com"), a("www.b.com"), a("other.a.kz")],
                authority: vec![to("com", RecordType::NS, "ns.evil.kz"), soa("com")],
                additional: vec![a("ns.evil.kz")],
                ..Message::default()
            },
        ));
        assert_eq!(reply.outcome, Outcome::Alias(name("www.b.com")));
        assert_eq!(reply.answer, [to("www.a.kz", RecordType::CNAME, "www.b.com")]);
        assert!(reply.authority.is_empty() && reply.glue.is_empty() && reply.own_servers.is_none());
    }

    #[test]
    fn a_referral_leads_down_with_glue_for_its_own_servers_alone() {
        let cut = to("a.kz", RecordType::NS, "ns.a.kz");
        let message = Message {
            authority: vec![cut.clone(), set("a.kz", RecordType::DS, [0; 36]), set("b.kz", RecordType::DS, [0; 36])],
            additional: vec![a("ns.a.kz"), a("www.victim.kz")],
            ..Message::default()
        };
        let Worth::Good(reply) = read(message, &name("kz"), Manner::Iterate, &name("www.a.kz"), RecordType::A) else {
            panic!("it is a referral")
        };
        assert_eq!(reply.outcome, Outcome::Referral(cut));
        assert_eq!(reply.glue, [(name("ns.a.kz"), "192.0.2.1".parse().unwrap())]);
        assert_eq!(reply.authority, [set("a.kz", RecordType::DS, [0; 36])]);
    }

    #[test]
    fn referrals_that_do_not_lead_down_are_faults() {
        for (owner, what) in
            [(".", "upwards"), ("kz", "to where we are"), ("b.kz", "sideways"), ("x.www.a.kz", "past it")]
        {
            let authority = vec![to(owner, RecordType::NS, "ns.kz")];
            let worth = read(
                Message { authority, ..Message::default() },
                &name("a.kz"),
                Manner::Iterate,
                &name("www.a.kz"),
                RecordType::A,
            );
            assert!(!matches!(worth, Worth::Good(_)), "{what}: {worth:?}");
        }
    }

    #[test]
    fn a_negative_answer_is_one_by_its_soa_its_proof_or_its_authority() {
        let empty = Message::default;
        for (message, expected) in [
            (Message { authority: vec![soa("a.kz")], ..empty() }, Some(Outcome::NoData(name("www.a.kz")))),
            (
                Message { rcode: Rcode::NXDOMAIN, authority: vec![soa("a.kz")], ..empty() },
                Some(Outcome::NxDomain(name("www.a.kz"))),
            ),
            (Message { rcode: Rcode::NXDOMAIN, ..empty() }, Some(Outcome::NxDomain(name("www.a.kz")))),
            (empty(), None),
            (Message { rcode: Rcode::REFUSED, ..empty() }, None),
        ] {
            let shown = format!("{message:?}");
            match (said("a.kz", "www.a.kz", message), expected) {
                (Worth::Good(reply), Some(expected)) => assert_eq!(reply.outcome, expected),
                (Worth::Poor(_) | Worth::Lame(_), None) => {}
                (worth, _) => panic!("{shown}: {worth:?}"),
            }
        }
    }

    #[test]
    fn aliases_are_followed_in_any_order_and_loops_end() {
        let chain = vec![a("c.kz"), to("b.kz", RecordType::CNAME, "c.kz"), to("a.kz", RecordType::CNAME, "b.kz")];
        let reply = good(said("kz", "a.kz", Message { answer: chain, ..Message::default() }));
        let owners: Vec<String> = reply.answer.iter().map(|set| set.name.to_string()).collect();
        assert_eq!((reply.outcome, owners.len()), (Outcome::Answered, 3), "{owners:?}");

        let round = vec![to("a.kz", RecordType::CNAME, "b.kz"), to("b.kz", RecordType::CNAME, "a.kz")];
        let reply = good(said("kz", "a.kz", Message { answer: round, ..Message::default() }));
        assert_eq!(reply.outcome, Outcome::Alias(name("a.kz")));
    }

    #[test]
    fn a_dname_makes_its_own_alias_whatever_the_server_says() {
        let lie = to("x.old.kz", RecordType::CNAME, "x.evil.kz");
        let answer = vec![lie, to("old.kz", RecordType::DNAME, "new.kz")];
        let reply = good(said("kz", "x.old.kz", Message { answer, ..Message::default() }));
        assert_eq!(reply.outcome, Outcome::Alias(name("x.new.kz")));
        assert_eq!(reply.answer[1], to("x.old.kz", RecordType::CNAME, "x.new.kz"));

        let long = [["l"; 60].concat().as_str(); 4].join(".");
        let answer = vec![to("old.kz", RecordType::DNAME, &long)];
        let far = format!("{}.old.kz", "m".repeat(60));
        let reply = good(said("kz", &far, Message { answer, ..Message::default() }));
        assert_eq!(reply.outcome, Outcome::TooLong);
    }

    #[test]
    fn somebody_elses_resolver_is_believed_only_when_there_is_no_better() {
        let message = Message { answer: vec![a("www.a.kz")], recursion_available: true, ..Message::default() };
        let read = |manner| read(message.clone(), &name("a.kz"), manner, &name("www.a.kz"), RecordType::A);
        assert!(matches!(read(Manner::Iterate), Worth::Poor(_)));
        assert!(matches!(read(Manner::Forward), Worth::Good(_)));
    }

    #[test]
    fn a_child_does_not_answer_for_its_own_ds() {
        let message = Message { authoritative: true, authority: vec![soa("a.kz")], ..Message::default() };
        let worth = read(message, &name("kz"), Manner::Iterate, &name("a.kz"), RecordType::DS);
        assert!(matches!(worth, Worth::Poor(_)), "{worth:?}");
    }

    #[test]
    fn a_zone_names_its_own_servers_beside_an_answer_or_as_one() {
        let servers = to("a.kz", RecordType::NS, "ns.a.kz");
        let additional = vec![a("ns.a.kz"), a("www.victim.kz")];
        let beside = Message {
            answer: vec![a("www.a.kz")],
            authority: vec![servers.clone()],
            additional: additional.clone(),
            ..Message::default()
        };
        let itself = Message { answer: vec![servers.clone()], additional, ..Message::default() };
        for (message, question, qtype) in [(beside, "www.a.kz", RecordType::A), (itself, "a.kz", RecordType::NS)] {
            for authoritative in [true, false] {
                let message = Message { authoritative, ..message.clone() };
                let reply = good(read(message, &name("a.kz"), Manner::Iterate, &name(question), qtype));
                let expected = authoritative.then_some(&servers);
                assert_eq!((reply.own_servers.as_ref(), reply.glue.len()), (expected, authoritative.into()), "{qtype}");
                assert!(reply.authority.is_empty(), "nobody has asked for name servers");
            }
        }
    }

    #[test]
    fn addresses_that_a_server_has_no_say_about_are_kept_apart() {
        let message = Message {
            authority: vec![to("a.kz", RecordType::NS, "ns.elsewhere.net")],
            additional: vec![a("ns.elsewhere.net"), a("www.elsewhere.net")],
            ..Message::default()
        };
        let reply = good(read(message, &name("kz"), Manner::Iterate, &name("www.a.kz"), RecordType::A));
        assert!(reply.glue.is_empty());
        assert_eq!(reply.hearsay, [(name("ns.elsewhere.net"), "192.0.2.1".parse().unwrap())]);
    }

    #[test]
    fn an_nsec_record_that_reaches_out_of_its_zone_proves_nothing() {
        for (next, is_kept) in [("z.a.kz", true), ("a.kz", true), ("b.kz", false), (".", false)] {
            let proof = to("www.a.kz", RecordType::NSEC, next);
            let message = Message { authority: vec![soa("a.kz"), proof.clone()], ..Message::default() };
            let reply = good(said("a.kz", "www.a.kz", message));
            assert_eq!(reply.authority.contains(&proof), is_kept, "{next}");
        }
    }

    #[test]
    fn proofs_stay_beside_an_answer_only_when_it_was_made_from_a_wildcard() {
        for (labels, is_kept) in [(1, true), (2, false)] {
            let mut expanded = a("www.kz");
            // An RRSIG whose number of labels says what was signed (RFC 4034, section 3.1.3).
            let mut signature = vec![0, 1, 15, labels];
            signature.extend([0; 14]);
            signature.extend_from_slice(name("kz").as_wire());
            signature.push(0);
            expanded.signatures.push(signature.into());
            let authority = vec![to("a.kz", RecordType::NSEC, "z.kz"), to("kz", RecordType::NS, "ns.kz")];
            let reply = good(said("kz", "www.kz", Message { answer: vec![expanded], authority, ..Message::default() }));
            let types: Vec<RecordType> = reply.authority.iter().map(|set| set.rtype).collect();
            assert_eq!(types, if is_kept { vec![RecordType::NSEC] } else { vec![] }, "{labels}");
        }
    }

    #[test]
    fn what_a_fault_is_called() {
        let nothing = Message { authority: vec![a("www.kz")], ..Message::default() };
        for (message, manner, expected) in [
            (Message { rcode: Rcode::SERVFAIL, ..nothing.clone() }, Manner::Iterate, Fault::Rcode(Rcode::SERVFAIL)),
            // YXDOMAIN is an answer only where a DNAME makes a name too long.
            (Message { rcode: Rcode::YXDOMAIN, ..nothing.clone() }, Manner::Iterate, Fault::Rcode(Rcode::YXDOMAIN)),
            (
                Message { authority: vec![to(".", RecordType::NS, "ns.kz")], ..nothing.clone() },
                Manner::Iterate,
                Fault::UpwardReferral,
            ),
            (
                Message { authority: vec![to("www.a.kz", RecordType::NS, "ns.kz")], ..nothing },
                Manner::Forward,
                Fault::Empty,
            ),
        ] {
            let worth = read(message, &name("a.kz"), manner, &name("www.a.kz"), RecordType::A);
            assert!(matches!(worth, Worth::Lame(fault) if fault == expected), "{worth:?} is not {expected:?}");
        }
    }

    #[test]
    fn type_any_is_all_that_the_name_has() {
        let answer = vec![a("www.kz"), set("www.kz", RecordType::RRSIG, [0; 20]), a("ftp.kz"), soa("kz")];
        let message = Message { authoritative: true, answer, ..Message::default() };
        let reply = good(read(message, &name("kz"), Manner::Iterate, &name("www.kz"), RecordType::ANY));
        assert_eq!((reply.outcome, reply.answer), (Outcome::Answered, vec![a("www.kz")]));
    }

    #[test]
    fn nxdomain_without_authority_and_proof_may_be_bettered() {
        let worth = |authoritative, authority| {
            let message = Message { rcode: Rcode::NXDOMAIN, authoritative, authority, ..Message::default() };
            let read = |manner| read(message.clone(), &name("kz"), manner, &name("www.kz"), RecordType::A);
            (matches!(read(Manner::Iterate), Worth::Good(_)), matches!(read(Manner::Forward), Worth::Good(_)))
        };
        assert_eq!(worth(false, vec![]), (false, true));
        assert_eq!(worth(false, vec![soa("kz")]), (true, true));
        assert_eq!(worth(true, vec![]), (true, true));
    }

    #[test]
    fn an_alias_to_where_nothing_is_ends_in_what_its_soa_says() {
        let alias = || to("www.kz", RecordType::CNAME, "gone.kz");
        for (rcode, authority, expected) in [
            (Rcode::NXDOMAIN, vec![soa("kz")], Outcome::NxDomain(name("gone.kz"))),
            (Rcode::NOERROR, vec![soa("kz")], Outcome::NoData(name("gone.kz"))),
            // The code alone may be about the alias's target in a zone that this server has not (RFC 6604, section 3).
            (Rcode::NXDOMAIN, vec![], Outcome::Alias(name("gone.kz"))),
        ] {
            let reply =
                good(said("kz", "www.kz", Message { rcode, answer: vec![alias()], authority, ..Message::default() }));
            assert_eq!(reply.outcome, expected);
        }
    }

    #[test]
    fn a_negative_answer_holds_for_the_lesser_of_two_times() {
        let mut soa = soa("kz");
        assert_eq!(negative_ttl(&[soa.clone()]), Some(60));
        soa.ttl = 20;
        assert_eq!(negative_ttl(&[a("kz"), soa]), Some(20));
        assert_eq!(negative_ttl(&[a("kz")]), None);
    }

    const NAMES: [&str; 8] = [".", "kz", "a.kz", "www.kz", "www.a.kz", "com", "www.com", "a.com"];
    const TYPES: [RecordType; 8] = [
        RecordType::A,
        RecordType::NS,
        RecordType::CNAME,
        RecordType::DNAME,
        RecordType::SOA,
        RecordType::NSEC,
        RecordType::DS,
        RecordType::RRSIG,
    ];

    proptest::prop_compose! {
        /// Up to six sets of records about these names that lead to these names.
        fn any_section()(sets in proptest::collection::vec((0..8_usize, 0..8_usize, 0..8_usize), 0..6)) -> Vec<RrSet> {
            sets.into_iter().map(|(owner, rtype, target)| match TYPES[rtype] {
                RecordType::A => a(NAMES[owner]),
                RecordType::SOA => soa(NAMES[owner]),
                rtype => to(NAMES[owner], rtype, NAMES[target]),
            }).collect()
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_server_says_stays_within_its_zone(
            answer in any_section(),
            authority in any_section(),
            additional in any_section(),
            (asked, qtype) in (1..8_usize, 0..8_usize),
            (authoritative, is_nxdomain) in proptest::prelude::any::<(bool, bool)>(),
        ) {
            let rcode = if is_nxdomain { Rcode::NXDOMAIN } else { Rcode::NOERROR };
            let message = Message { rcode, authoritative, answer, authority, additional, ..Message::default() };
            let (zone, asked) = (name("kz"), name(NAMES[asked]));
            let worth = read(message, &zone, Manner::Iterate, &asked, TYPES[qtype]);
            if let Worth::Good(reply) | Worth::Poor(reply) = worth {
                let within = |name: &Name| name.is_at_or_below(&zone);
                proptest::prop_assert!(reply.answer.iter().chain(&reply.authority).all(|set| within(&set.name)));
                proptest::prop_assert!(reply.glue.iter().all(|(server, _)| within(server)));
                proptest::prop_assert!(reply.own_servers.is_none_or(|own| authoritative && own.name == zone));
                if let Outcome::Referral(cut) = reply.outcome {
                    proptest::prop_assert!(cut.name.is_below(&zone) && asked.is_at_or_below(&cut.name));
                }
            }
        }
    }
}
