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
