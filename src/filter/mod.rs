//! Judges an answer by the same policy as a question.
//!
//! A listed name can hide behind an alias that is not listed, so the names that
//! an answer leads to are judged like the name in the question, and with each of
//! them its addresses and the name servers it is from, when lists have rules
//! about those. The resolver's own questions (keys, delegations, name servers)
//! do not come by here: nothing that lists say can break validation.

use std::net::IpAddr;

use smallvec::SmallVec;

use crate::answer::Alias;
use crate::clock::Now;
use crate::name::{DomainName, MAX_NAME_LEN, Name};
use crate::policy::{Finding, Judgement, Policy, Trigger, Verdict};
use crate::query::{NameServers, RecordType};
use crate::recursor::nat64::Nat64Prefix;
use crate::wire::{self, Header, RecordView, Section};

/// What policy says about an answer.
#[derive(Debug, Default)]
pub struct Findings<'p> {
    /// The first verdict, and what was found on the way to it.
    pub judgement: Judgement<'p>,
    /// How many aliases lead to the name that the verdict is about.
    pub behind: usize,
    /// The verdict is about IPv4 addresses from which those in the answer are made.
    pub translated: bool,
}

/// Judges what `message` says as an answer to `name`, one name after the other that it leads to, until a rule speaks.
///
/// These are the name itself, the targets of CNAME records (those that a DNAME makes are among them) and of SVCB and
/// HTTPS records. Addresses below the prefix of the `translator` count as those that they are made from, too.
/// `name_servers` are those of the name and of each target of a CNAME record, in this order, as far as
/// they are known. Allocates nothing, unless there are rules about answers and many addresses.
pub fn judge<'p>(
    policy: &'p Policy,
    (message, name_servers): (&[u8], &[NameServers]),
    translator: Option<Nat64Prefix>,
    (name, qtype): (&Name, RecordType),
    client: IpAddr,
    now: Now,
) -> Findings<'p> {
    let mut hearing = Hearing { policy, translator, question: name, qtype, client, now, findings: Findings::default() };
    let about_answers = policy.judges_answers();
    let mut buffer = [0; MAX_NAME_LEN];
    let mut reached: Option<&Name> = None;
    let mut addresses = Addresses::new();
    let mut name_servers = name_servers.iter();
    for record in answers(message) {
        if about_answers {
            collect_addresses(message, &record, &mut addresses);
        }
        let mut next_buffer = [0; MAX_NAME_LEN];
        let Some(target) = target(message, &record, &mut next_buffer) else { continue };
        if record.rtype == RecordType::CNAME {
            if hearing.hear(reached, &mut addresses, name_servers.next()) {
                return hearing.findings;
            }
            hearing.findings.behind += 1;
            let len = target.as_wire().len();
            buffer[..len].copy_from_slice(target.as_wire());
            reached = Some(Name::from_checked(&buffer[..len]));
        } else if hearing.hear(Some(target), &mut Addresses::new(), None) {
            return hearing.findings;
        }
    }
    hearing.hear(reached, &mut addresses, name_servers.next());
    hearing.findings
}

/// The aliases in an answer, in order, with the TTLs that they came with.
pub fn aliases(message: &[u8]) -> impl Iterator<Item = Alias> {
    answers(message).filter(|record| record.rtype == RecordType::CNAME).filter_map(|record| {
        let target = target(message, &record, &mut [0; MAX_NAME_LEN])?.to_owned();
        Some(Alias { target, ttl: record.ttl })
    })
}

/// The names that an answer to `name` leads through, each with its addresses: what [`judge`] goes by.
pub fn chain(name: &Name, message: &[u8]) -> Vec<(DomainName, Vec<IpAddr>)> {
    let mut chain = vec![(name.to_owned(), Vec::new())];
    let mut beside = Vec::new();
    for record in answers(message) {
        let mut addresses = Addresses::new();
        collect_addresses(message, &record, &mut addresses);
        if let Some((_, known)) = chain.last_mut() {
            known.extend(addresses);
        }
        match target(message, &record, &mut [0; MAX_NAME_LEN]) {
            Some(target) if record.rtype == RecordType::CNAME => chain.push((target.to_owned(), Vec::new())),
            Some(target) => beside.push((target.to_owned(), Vec::new())),
            None => {}
        }
    }
    chain.append(&mut beside);
    chain
}

type Addresses = SmallVec<[IpAddr; 8]>;

/// What has been found about an answer so far.
struct Hearing<'p, 'q> {
    policy: &'p Policy,
    translator: Option<Nat64Prefix>,
    question: &'q Name,
    qtype: RecordType,
    client: IpAddr,
    now: Now,
    findings: Findings<'p>,
}

impl Hearing<'_, '_> {
    /// Judges a name that was `reached`, none being the one in the question, with what was found there; whether that
    /// decides.
    fn hear(&mut self, reached: Option<&Name>, addresses: &mut Addresses, name_servers: Option<&NameServers>) -> bool {
        // Rules about the question have been heard; only those about answers can say something new about its name.
        if reached.is_none() && !self.policy.judges_answers() {
            return false;
        }
        addresses.sort_unstable();
        let (name, trigger) = reached.map_or((self.question, Trigger::Qname), |name| (name, Trigger::Cname));
        let finding = Finding { name, addresses, name_servers };
        let mut decided = self.judge(finding, trigger);
        let inside = |address: &IpAddr| match address {
            IpAddr::V6(address) => Some(IpAddr::V4(self.translator?.extract(*address)?)),
            IpAddr::V4(_) => None,
        };
        let made_from: Addresses = addresses.iter().filter_map(inside).collect();
        if !decided && !made_from.is_empty() {
            decided = self.judge(Finding { addresses: &made_from, ..finding }, trigger);
            self.findings.translated = decided;
        }
        addresses.clear();
        decided
    }

    fn judge(&mut self, finding: Finding<'_>, trigger: Trigger) -> bool {
        let judgement = self.policy.judge_answer(finding, self.qtype, trigger, self.client, self.now);
        let findings = &mut self.findings.judgement;
        findings.protected |= judgement.protected;
        for list in judgement.shadow {
            if !findings.shadow.contains(&list) {
                findings.shadow.push(list);
            }
        }
        match judgement.verdict {
            // A protected name stays reachable by whatever way it takes.
            Verdict::Block(_) if self.policy.is_protected(self.question) => findings.protected = true,
            Verdict::Pass => {}
            verdict => {
                findings.verdict = verdict;
                return true;
            }
        }
        false
    }
}

fn answers(message: &[u8]) -> impl Iterator<Item = RecordView> {
    let records = Header::read(message).map(|header| wire::records(message, header)).into_iter().flatten();
    records.map_while(Result::ok).take_while(|record| record.section == Section::Answer)
}

/// The name that a record sends its reader to.
fn target<'b>(message: &[u8], record: &RecordView, buffer: &'b mut [u8; MAX_NAME_LEN]) -> Option<&'b Name> {
    let at = match record.rtype {
        RecordType::CNAME => record.rdata,
        // Behind the priority; the root stands for the owner itself (RFC 9460, section 2.5).
        RecordType::SVCB | RecordType::HTTPS => record.rdata + 2,
        _ => return None,
    };
    let (target, _) = wire::read_name_into(message, at, buffer).ok()?;
    (!target.is_root()).then_some(target)
}

/// Takes the address of a record, or the hints of one that has them.
fn collect_addresses(message: &[u8], record: &RecordView, addresses: &mut Addresses) {
    let rdata = record.data(message);
    match record.rtype {
        RecordType::A => take_addresses::<4>(rdata, addresses),
        RecordType::AAAA => take_addresses::<16>(rdata, addresses),
        RecordType::SVCB | RecordType::HTTPS => {
            let Ok((_, parameters)) = wire::read_name_into(message, record.rdata + 2, &mut [0; MAX_NAME_LEN]) else {
                return;
            };
            let mut rest = rdata.get(parameters - record.rdata..).unwrap_or_default();
            // Key, length and value (RFC 9460, section 2.2); keys 4 and 6 are lists of addresses (section 7.3).
            while let Some((head, more)) = rest.split_first_chunk::<4>() {
                let [key, len] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
                let Some((value, more)) = more.split_at_checked(usize::from(len)) else { return };
                match key {
                    4 => take_addresses::<4>(value, addresses),
                    6 => take_addresses::<16>(value, addresses),
                    _ => {}
                }
                rest = more;
            }
        }
        _ => {}
    }
}

fn take_addresses<const LEN: usize>(octets: &[u8], addresses: &mut Addresses)
where
    IpAddr: From<[u8; LEN]>,
{
    addresses.extend(octets.as_chunks::<LEN>().0.iter().map(|address| IpAddr::from(*address)));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use proptest::prelude::*;
    use smallvec::smallvec;

    use super::*;
    use crate::policy::{OverrideSet, Settings};
    use crate::query::Rcode;
    use crate::recursor::message::{self, RrSet};
    use crate::rule::{Action, Owner, Rule, Scope};
    use crate::snapshot::ListEntry;
    use crate::snapshot::testing::snapshot;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    /// A zone that denies what a rule is written for, and lets pass what an `allow` one is.
    fn policy(denied: &[&str], allowed: &[&str]) -> Policy {
        let rule = |text: &&str, action: Action| {
            let owner = text.parse().map_or_else(|_| Owner::Name(name(text)), Owner::Answer);
            (0, Rule { action: Some(action), ..Rule::new(owner, Scope::Exact) })
        };
        let rules: Vec<_> = denied.iter().map(|text| rule(text, Action::NxDomain)).collect();
        let allows = allowed.iter().map(|text| rule(text, Action::Allow));
        let list = ListEntry { most_specific_wins: true, ..ListEntry::new("zone") };
        let snapshot = snapshot(&[list], &rules.into_iter().chain(allows).collect::<Vec<_>>());
        Policy::new(Settings::default(), Some(Arc::new(snapshot)), OverrideSet::default())
    }

    fn set(owner: &str, rtype: RecordType, rdata: &[u8]) -> RrSet {
        let rdata = smallvec![rdata.into()];
        RrSet { name: name(owner), rtype, ttl: 300, rdata, signatures: smallvec![] }
    }

    fn answer(sets: &[RrSet]) -> Vec<u8> {
        let asked = (&*name("www.example"), RecordType::A);
        message::write_answer(asked, Rcode::NOERROR, sets.iter(), [].iter(), false)
    }

    fn alias(owner: &str, target: &str) -> RrSet {
        set(owner, RecordType::CNAME, name(target).as_wire())
    }

    /// `block`, `allow` or `pass`, and behind how many aliases.
    fn said(policy: &Policy, message: &[u8]) -> (&'static str, usize) {
        let question = (&*name("www.example"), RecordType::A);
        let translator = Some(Nat64Prefix::WELL_KNOWN);
        let findings = judge(policy, (message, &[]), translator, question, CLIENT, Now::default());
        let word = match findings.judgement.verdict {
            Verdict::Pass => "pass",
            Verdict::Allow(_) => "allow",
            Verdict::Block(_) => "block",
        };
        (word, findings.behind)
    }

    #[test]
    fn the_first_name_of_a_chain_that_a_rule_is_about_decides() {
        let chain = answer(&[
            alias("www.example", "edge.example"),
            alias("edge.example", "host.example"),
            set("host.example", RecordType::A, &[192, 0, 2, 1]),
        ]);
        for (denied, allowed, verdict) in [
            (&["host.example"][..], &[][..], ("block", 2)),
            (&["192.0.2.0/24"], &[], ("block", 2)),
            (&["192.0.2.0/24"], &["edge.example"], ("allow", 1)),
            (&["edge.example"], &["192.0.2.0/24"], ("block", 1)),
            (&["host.example"], &["192.0.2.1/32"], ("block", 2)),
            (&["other.example", "198.51.100.0/24"], &[], ("pass", 2)),
        ] {
            assert_eq!(said(&policy(denied, allowed), &chain), verdict, "{denied:?} but {allowed:?}");
        }
    }

    #[test]
    fn addresses_are_found_wherever_they_stand() {
        let policy = policy(&["192.0.2.0/24", "2001:db8::/32"], &[]);
        let hints = |parameters: &[u8]| set("www.example", RecordType::HTTPS, &[b"\x00\x01\x00", parameters].concat());
        let made = Nat64Prefix::WELL_KNOWN.embed([192, 0, 2, 1].into()).octets();
        for (set, verdict) in [
            (set("www.example", RecordType::A, &[192, 0, 2, 1]), "block"),
            (set("www.example", RecordType::A, &[192, 0, 3, 1]), "pass"),
            (set("www.example", RecordType::AAAA, &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), "block"),
            (set("www.example", RecordType::AAAA, &made), "block"),
            (hints(b"\x00\x01\x00\x03\x02h2\x00\x04\x00\x08\x0a\x00\x00\x01\xc0\x00\x02\x01"), "block"),
            (hints(b"\x00\x04\x00\x04\xc0\x00\x03\x01\x00\x05\x00\x04\xc0\x00\x02\x01"), "pass"),
            (hints(b"\x00\x06\x00\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"), "block"),
            (hints(b"\x00\x04\xff\xff\xc0\x00\x02\x01"), "pass"),
        ] {
            assert_eq!(said(&policy, &answer(std::slice::from_ref(&set))).0, verdict, "{set:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_can_be_judged(octets in proptest::collection::vec(any::<u8>(), 0..300),
                                    at in any::<proptest::sample::Index>(), octet: u8) {
            static POLICY: LazyLock<Policy> = LazyLock::new(|| policy(&["192.0.2.0/24", "host.example"], &[]));
            said(&POLICY, &octets);
            let mut damaged = answer(&[
                alias("www.example", "edge.example"),
                set("edge.example", RecordType::HTTPS, b"\x00\x01\x04host\x00\x00\x04\x00\x04\xc0\x00\x02\x01"),
            ]);
            *at.get_mut(&mut damaged) = octet;
            said(&POLICY, &damaged);
            chain(&name("www.example"), &damaged);
        }
    }
}
