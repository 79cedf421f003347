//! The forms of a blocked answer, one for each action.

use smallvec::{SmallVec, smallvec};

use crate::name::{DomainName, Name};
use crate::policy::{ActionRef, Hit};
use crate::query::{Rcode, RecordType};
use crate::recursor::message::{self, RrSet};
use crate::wire::{Header, Malformed};

use super::{Asked, Errors, Settings, Writer, Written};

/// What becomes of a query that a rule blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// The reply is written.
    Written(Written),
    /// It gets no reply.
    Silence,
    /// It is answered with an alias to this name and what the world says about that; see [`redirected`].
    Alias(DomainName),
    /// It goes on as if no rule had matched: the client has come by a stream, as it was told.
    Pass,
}

/// A CNAME record in an answer that somebody else has given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// What it leads to.
    pub target: DomainName,
    /// Its time to live.
    pub ttl: u32,
}

/// What a rule blocks: the name in the question, or one that aliases lead to from there.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'s> {
    question: &'s Name,
    qtype: RecordType,
    aliases: &'s [Alias],
}

impl<'s> Subject<'s> {
    /// What `aliases` lead to from the name in the question; without any, that name.
    pub fn new(question: &'s Name, qtype: RecordType, aliases: &'s [Alias]) -> Self {
        Self { question, qtype, aliases }
    }

    fn name(&self) -> &'s Name {
        self.aliases.last().map_or(self.question, |alias| &alias.target)
    }
}

/// Writes the reply that the action of `hit` asks for. For [`Form::Pass`] it leaves `reply` as it is; after
/// [`Form::Silence`] and [`Form::Alias`] what is in there is of no use.
pub fn blocked(
    settings: &Settings,
    asked: &Asked<'_>,
    subject: Subject<'_>,
    hit: &Hit<'_>,
    reply: &mut Vec<u8>,
) -> Form {
    let qtype = subject.qtype;
    if hit.action == ActionRef::Allow || hit.action == ActionRef::Truncate && !asked.transport.is_datagram() {
        return Form::Pass;
    }
    let rcode = match hit.action {
        ActionRef::NxDomain => Rcode::NXDOMAIN,
        ActionRef::Refused => Rcode::REFUSED,
        _ => Rcode::NOERROR,
    };
    let mut writer = Writer::new(settings, asked, rcode, reply);
    if !matches!(hit.action, ActionRef::Refused | ActionRef::Truncate) {
        subject.aliases.iter().for_each(|alias| writer.alias(alias));
    }
    match (hit.action, qtype) {
        (ActionRef::Sinkhole, RecordType::A) => writer.answer(qtype, hit.ttl, &settings.sinkhole_ipv4.octets()),
        (ActionRef::Sinkhole, RecordType::AAAA) => writer.answer(qtype, hit.ttl, &settings.sinkhole_ipv6.octets()),
        (ActionRef::Sinkhole | ActionRef::NxDomain | ActionRef::NoData, _) => writer.denial(hit.ttl),
        (ActionRef::Refused | ActionRef::Allow, _) => {}
        (ActionRef::Drop, _) => return Form::Silence,
        (ActionRef::Truncate, _) => writer.header.flags |= Header::TC,
        (ActionRef::Cname(target), _) => match alias_target(subject.name(), target) {
            Some(target) if qtype == RecordType::CNAME => writer.answer(qtype, hit.ttl, target.as_wire()),
            Some(target) => return Form::Alias(target),
            // As for a DNAME whose substitution does not fit (RFC 6672, section 2.2).
            None => writer.header.flags |= Rcode::YXDOMAIN.0,
        },
        (ActionRef::Records(records), _) => {
            let mut given = false;
            for record in records.iter().filter(|record| qtype == record.rtype || qtype == RecordType::ANY) {
                writer.answer(record.rtype, record.ttl.unwrap_or(hit.ttl), record.rdata);
                given = true;
            }
            if let Some(translator) = settings.translator.filter(|_| qtype == RecordType::AAAA && !given) {
                for record in records.iter().filter(|record| record.rtype == RecordType::A) {
                    let Ok(address) = <[u8; 4]>::try_from(record.rdata) else { continue };
                    let made = translator.embed(address.into()).octets();
                    writer.answer(qtype, record.ttl.unwrap_or(hit.ttl), &made);
                    given = true;
                }
            }
            let alias = records.iter().find(|record| record.rtype == RecordType::CNAME);
            match alias.and_then(|alias| DomainName::from_wire(alias.rdata).ok()) {
                _ if given => {}
                Some(target) => return Form::Alias(target),
                None => writer.denial(hit.ttl),
            }
        }
    }
    Form::Written(writer.finish(Errors::of_hit(hit)))
}

/// The name that an alias leads to; `*.garden.example` stands for the query name below `garden.example`, as in RPZ.
fn alias_target(name: &Name, target: &Name) -> Option<DomainName> {
    match target.as_wire().strip_prefix(b"\x01*") {
        Some(ending) => name.with_suffix_replaced(Name::root(), Name::from_wire(ending).ok()?).ok(),
        None => Some(target.to_owned()),
    }
}

/// Writes the reply of [`Form::Alias`]: the aliases of the subject, one more to `target`, then what the world said about
/// `target`, which is `found`.
///
/// # Errors
///
/// When what the world said cannot be read.
pub fn redirected(
    settings: &Settings,
    asked: &Asked<'_>,
    subject: Subject<'_>,
    (hit, target): (&Hit<'_>, &Name),
    (rcode, found): (Rcode, &[u8]),
    reply: &mut Vec<u8>,
) -> Result<Written, Malformed> {
    let found = message::parse(found)?;
    let alias = |owner: &Name, target: &Name, ttl| RrSet {
        name: owner.to_owned(),
        rtype: RecordType::CNAME,
        ttl,
        rdata: smallvec![target.as_wire().into()],
        signatures: SmallVec::new(),
    };
    let Subject { question, qtype, aliases } = subject;
    let mut way: Vec<RrSet> = Vec::with_capacity(aliases.len() + 1);
    let mut owner = question;
    for Alias { target, ttl } in aliases {
        way.push(alias(owner, target, *ttl));
        owner = target;
    }
    way.push(alias(owner, target, hit.ttl));
    // Nothing is signed below an alias of our own.
    let answer = way.iter().chain(&found.answer);
    let octets = message::write_answer((question, qtype), rcode, answer, found.authority.iter(), false);

    let mut writer = Writer::new(settings, asked, rcode, reply);
    writer.header.counts = Header::read(&octets)?.counts;
    writer.reply.extend_from_slice(octets.get(writer.reply.len()..).ok_or(Malformed)?);
    Ok(writer.finish(Errors::of_hit(hit)))
}
