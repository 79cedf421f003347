//! Judges an answer by the same policy as a question.
//!
//! A listed name can hide behind an alias that is not listed, so the names that
//! an answer leads to are judged like the name in the question. The resolver's
//! own questions (keys, delegations, name servers) do not come by here: nothing
//! that lists say can break validation.

use std::net::IpAddr;

use smallvec::SmallVec;

use crate::clock::Now;
use crate::name::{MAX_NAME_LEN, Name};
use crate::policy::{Judgement, Policy, Trigger, Verdict};
use crate::query::RecordType;
use crate::wire::{self, Header, RecordView, Section};

/// Judges every name that `message` leads to as an answer to `name`, in order, until one is to be blocked.
///
/// These are the targets of CNAME records (those that a DNAME makes are among them) and of SVCB and HTTPS records.
/// Allocates nothing.
pub fn judge<'p>(
    policy: &'p Policy,
    message: &[u8],
    (name, qtype): (&Name, RecordType),
    client: IpAddr,
    now: Now,
) -> Judgement<'p> {
    let mut findings = Judgement { verdict: Verdict::Pass, shadow: SmallVec::new(), protected: false };
    let Ok(header) = Header::read(message) else { return findings };
    let answers =
        wire::records(message, header).map_while(Result::ok).take_while(|record| record.section == Section::Answer);
    for record in answers {
        let mut buffer = [0; MAX_NAME_LEN];
        let Some(target) = target(message, &record, &mut buffer) else { continue };
        let judgement = policy.judge(target, qtype, Trigger::Cname, client, now);
        findings.protected |= judgement.protected;
        for list in judgement.shadow {
            if !findings.shadow.contains(&list) {
                findings.shadow.push(list);
            }
        }
        match judgement.verdict {
            // A protected name stays reachable by whatever way it takes.
            Verdict::Block(_) if policy.is_protected(name) => findings.protected = true,
            Verdict::Block(hit) => {
                findings.verdict = Verdict::Block(hit);
                break;
            }
            Verdict::Pass | Verdict::Allow(_) => {}
        }
    }
    findings
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
