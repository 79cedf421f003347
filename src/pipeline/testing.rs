//! A world to test with: it says what a test tells it to.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Now;
use crate::name::DomainName;
use crate::query::{Client, ExtendedError, Question, Rcode, RecordType, Transport};
use crate::recursor::message::{self, Message, RrSet};
use crate::recursor::{BoxFuture, Resolution, Security, Upstream};
use crate::wire::{self, HEADER_LEN, Header};

type Say = Box<dyn Fn(&Question) -> Resolution + Send>;

/// Answers after `delay` what `say` says, and counts.
pub(crate) struct World {
    pub(crate) asked: AtomicUsize,
    pub(crate) delay: Mutex<Duration>,
    say: Mutex<Say>,
}

impl World {
    pub(crate) fn new(say: impl Fn(&Question) -> Resolution + Send + 'static) -> Arc<Self> {
        Arc::new(Self { asked: 0.into(), delay: Mutex::default(), say: Mutex::new(Box::new(say)) })
    }

    pub(crate) fn says(&self, say: impl Fn(&Question) -> Resolution + Send + 'static) {
        *self.say.lock() = Box::new(say);
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Upstream for World {
    fn resolve<'a>(&'a self, question: &'a Question, _: Now) -> BoxFuture<'a, Resolution> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let delay = *self.delay.lock();
        Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            (self.say.lock())(question)
        })
    }
}

/// A set of records with a TTL of 300.
pub(crate) fn set(name: &str, rtype: RecordType, data: &[u8]) -> RrSet {
    let rdata = smallvec::smallvec![data.into()];
    RrSet { name: name.parse().unwrap(), rtype, ttl: 300, rdata, signatures: Default::default() }
}

pub(crate) fn wire_name(text: &str) -> Vec<u8> {
    text.parse::<DomainName>().unwrap().as_wire().to_vec()
}

/// An answer with these records, good for as long as the least TTL.
pub(crate) fn resolution(question: &Question, rcode: Rcode, answer: &[RrSet]) -> Resolution {
    let asked = (&*question.name, question.qtype);
    Resolution {
        rcode,
        message: message::write_answer(asked, rcode, answer.iter(), [].iter(), question.dnssec_ok),
        security: Security::Insecure,
        ttl: answer.iter().map(|set| set.ttl).min().unwrap_or(300),
        errors: Vec::new(),
        particular: false,
        stripped: !question.dnssec_ok && answer.iter().any(|set| !set.signatures.is_empty()),
    }
}

/// 192.0.2.1 for every name.
pub(crate) fn address(question: &Question) -> Resolution {
    resolution(question, Rcode::NOERROR, &[set(&question.name.to_string(), RecordType::A, &[192, 0, 2, 1])])
}

/// SERVFAIL, for five seconds.
pub(crate) fn failure(question: &Question) -> Resolution {
    let errors = vec![ExtendedError::new(ExtendedError::NO_REACHABLE_AUTHORITY, "all is dark")];
    Resolution { ttl: 5, errors, ..resolution(question, Rcode::SERVFAIL, &[]) }
}

/// A query with RD, without EDNS.
pub(crate) fn query(name: &str, qtype: RecordType) -> Vec<u8> {
    let mut query = Header { id: 0x1234, flags: Header::RD, counts: [1, 0, 0, 0] }.to_bytes().to_vec();
    query.extend(wire_name(name));
    query.extend(qtype.0.to_be_bytes());
    query.extend([0, 1]);
    query
}

/// The same with an OPT record that takes 4096 octets.
pub(crate) fn edns_query(name: &str, qtype: RecordType, dnssec_ok: bool) -> Vec<u8> {
    let mut query = query(name, qtype);
    query[11] = 1;
    query.extend([0, 0, 41, 0x10, 0, 0, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
    query
}

pub(crate) fn client(transport: Transport) -> Client {
    Client { address: (IpAddr::from([127, 0, 0, 1]), 5353).into(), transport }
}

/// A reply, taken apart.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) header: Header,
    pub(crate) message: Message,
    /// Codes and texts of the Extended DNS Errors.
    pub(crate) errors: Vec<(u16, String)>,
    /// The cookie that it gives.
    pub(crate) cookie: Vec<u8>,
}

pub(crate) fn read(reply: &[u8]) -> Reply {
    let header = Header::read(reply).unwrap();
    let mut end = HEADER_LEN;
    let (mut errors, mut cookie) = (Vec::new(), Vec::new());
    for record in wire::records(reply, header) {
        let record = record.unwrap();
        end = record.end();
        let mut options = if record.rtype == RecordType::OPT { record.data(reply) } else { &[] };
        while let [c0, c1, l0, l1, rest @ ..] = options {
            let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
            if [*c0, *c1] == [0, 15] {
                let code = u16::from_be_bytes([value[0], value[1]]);
                errors.push((code, String::from_utf8(value[2..].to_vec()).unwrap()));
            }
            if [*c0, *c1] == [0, 10] {
                cookie = value.to_vec();
            }
            options = rest;
        }
    }
    if header.counts[1..] != [0; 3] {
        assert_eq!(end, reply.len(), "nothing stands behind the last record");
    }
    Reply { header, message: message::parse(reply).unwrap(), errors, cookie }
}
