//! A client: one question to one resolver, and what the answer comes to.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use qalqan::name::DomainName;
use qalqan::query::{Rcode, RecordType};
use qalqan::recursor::message::{self, QueryOptions, RrSet};
use qalqan::wire::Header;

/// What a client says that it understands and wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Flags {
    /// DO.
    Dnssec,
    /// AD, and no DO (RFC 6840, section 5.7).
    AuthenticData,
    /// DO and CD.
    CheckingDisabled,
}

/// What an answer comes to, as far as resolvers must agree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Answer {
    pub(crate) rcode: Rcode,
    pub(crate) authentic: bool,
    pub(crate) records: Vec<String>,
    /// Whether a negative answer brings a proof.
    pub(crate) denial: bool,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proof = if self.denial { "proof" } else { "" };
        write!(f, "{:?} {} {proof} {:?}", self.rcode, if self.authentic { "AD" } else { "--" }, self.records)
    }
}

impl Answer {
    /// No answer at all, with a code that none has.
    pub(crate) fn silence() -> Self {
        Self { rcode: Rcode(u16::MAX), authentic: false, records: Vec::new(), denial: false }
    }

    pub(crate) fn is_silence(&self) -> bool {
        self.rcode == Rcode(u16::MAX)
    }
}

/// What `server` says.
pub(crate) fn ask(server: &str, name: &str, qtype: &str, flags: Flags) -> Answer {
    let qtype: RecordType = qtype.parse().expect("the types of the table are known");
    exchange(server, name, qtype, flags, Duration::from_secs(4)).unwrap_or_else(Answer::silence)
}

pub(crate) fn exchange(
    server: &str,
    name: &str,
    qtype: RecordType,
    flags: Flags,
    patience: Duration,
) -> Option<Answer> {
    let name: DomainName = name.parse().expect("the names of the table are names");
    let options = QueryOptions {
        id: 7,
        recursion_desired: true,
        checking_disabled: flags == Flags::CheckingDisabled,
        edns: Some((1232, flags != Flags::AuthenticData)),
        cookie: &[],
        case: None,
    };
    let mut query = message::write_query(&name, qtype, options);
    if flags == Flags::AuthenticData {
        query[3] |= Header::AD as u8;
    }
    let to: SocketAddr = format!("{server}:53").parse().ok()?;
    let mut octets = by_datagram(&query, to, patience)?;
    if Header::read(&octets).ok()?.has(Header::TC) {
        octets = by_stream(&query, to, patience).ok()?;
    }
    let header = Header::read(&octets).ok()?;
    let reply = message::parse(&octets).ok()?;
    let mut records: Vec<String> =
        reply.answer.iter().filter(|set| set.rtype != RecordType::RRSIG).flat_map(lines).collect();
    records.sort_unstable();
    let is_denial = |set: &RrSet| matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3);
    // With CD nobody need validate; AD then tells only whether somebody had asked before (RFC 6840, section 5.9).
    let authentic = header.has(Header::AD) && flags != Flags::CheckingDisabled;
    let denial = flags == Flags::Dnssec && records.is_empty() && reply.authority.iter().any(is_denial);
    Some(Answer { rcode: reply.rcode, authentic, records, denial })
}

fn lines(set: &RrSet) -> impl Iterator<Item = String> + '_ {
    set.rdata.iter().map(|rdata| format!("{} {} {:02x?}", set.name, set.rtype, &rdata[..rdata.len().min(24)]))
}

fn by_datagram(query: &[u8], to: SocketAddr, patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket.set_read_timeout(Some(patience)).ok()?;
    socket.send_to(query, to).ok()?;
    let mut buffer = [0; 4096];
    let (len, _) = socket.recv_from(&mut buffer).ok()?;
    Some(buffer[..len].to_vec())
}

fn by_stream(query: &[u8], to: SocketAddr, patience: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], query].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut octets = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut octets)?;
    Ok(octets)
}
