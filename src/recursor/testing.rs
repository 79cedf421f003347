//! A small internet for the tests of this folder: servers that say what a test tells them to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::clock::{Clock, Now};
use crate::name::DomainName;
use crate::query::{Question, Rcode, RecordType};
use crate::wire::{self, HEADER_LEN};

use super::hints::RootHints;
use super::message::{self, Message, Rdata, RrSet};
use super::network::{Exchange, ExchangeError, Network};
use super::settings::Minimisation;
use super::{BoxFuture, Recursor, Resolution, Settings, Upstream};

pub(super) fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

/// A set of one record with a TTL of 300.
pub(super) fn set(owner: &str, rtype: RecordType, rdata: impl AsRef<[u8]>) -> RrSet {
    let rdata = SmallVec::from_iter([Rdata::from(rdata.as_ref())]);
    RrSet { name: name(owner), rtype, ttl: 300, rdata, signatures: SmallVec::new() }
}

/// 192.0.2.1.
pub(super) fn a(owner: &str) -> RrSet {
    set(owner, RecordType::A, [192, 0, 2, 1])
}

/// A record that leads to a name.
pub(super) fn to(owner: &str, rtype: RecordType, target: &str) -> RrSet {
    set(owner, rtype, name(target).as_wire())
}

/// With a MINIMUM of 60.
pub(super) fn soa(owner: &str) -> RrSet {
    let numbers = [[0; 16].as_slice(), &60u32.to_be_bytes()].concat();
    set(owner, RecordType::SOA, [name("ns.kz").as_wire(), name("host.kz").as_wire(), &numbers].concat())
}

/// What an authority says that has these records.
pub(super) fn answer(sets: impl IntoIterator<Item = RrSet>) -> Message {
    Message { authoritative: true, answer: sets.into_iter().collect(), ..Message::default() }
}

/// What the authority of `zone` says of a name that has no such records.
pub(super) fn no_data(zone: &str) -> Message {
    Message { authoritative: true, authority: vec![soa(zone)], ..Message::default() }
}

/// What the authority of `zone` says of a name that does not exist.
pub(super) fn nxdomain(zone: &str) -> Message {
    Message { rcode: Rcode::NXDOMAIN, ..no_data(zone) }
}

/// To `zone`, whose server is `host`.
pub(super) fn referral(zone: &str, host: u8) -> Message {
    let server = format!("ns.{zone}");
    let authority = vec![to(zone, RecordType::NS, &server)];
    Message { authority, additional: vec![set(&server, RecordType::A, address(host).octets())], ..Message::default() }
}

fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(193, 0, 0, host)
}

type Say = Box<dyn Fn(u8, &str) -> Option<Message> + Send + Sync>;

/// The servers, and what they were asked.
struct Servers {
    say: Say,
    asked: Mutex<Vec<String>>,
}

impl Network for Servers {
    fn exchange<'a>(&'a self, exchange: Exchange<'a>) -> BoxFuture<'a, Result<Vec<u8>, ExchangeError>> {
        let SocketAddr::V4(server) = exchange.server else { panic!("there is no IPv6 here") };
        let host = server.ip().octets()[3];
        let (asked, end) = wire::read_name(exchange.query, HEADER_LEN).unwrap();
        let qtype = RecordType(u16::from_be_bytes([exchange.query[end], exchange.query[end + 1]]));
        let question = format!("{asked} {qtype}");
        self.asked.lock().push(format!("{host} {question}"));
        let reply = (self.say)(host, &question).map(|message| message::write_reply(exchange.query, &message));
        Box::pin(std::future::ready(reply.ok_or(ExchangeError::Unreachable)))
    }
}

/// Without validation and minimisation.
pub(super) fn settings() -> Settings {
    Settings {
        validate: false,
        query_minimisation: Minimisation::Off,
        root_hints: RootHints::from_addresses(&[IpAddr::from(address(1))]),
        ..Settings::default()
    }
}

/// A resolver among such servers. The root's is 1; the others are where referrals say.
pub(super) struct Internet {
    pub(super) recursor: Recursor,
    servers: Arc<Servers>,
    seconds: Arc<AtomicU64>,
}

impl Internet {
    /// `say` is given the last number of a server's address and a question such as `www.kz A`.
    pub(super) fn new(say: impl Fn(u8, &str) -> Option<Message> + Send + Sync + 'static) -> Self {
        Self::with(settings(), say)
    }

    pub(super) fn with(settings: Settings, say: impl Fn(u8, &str) -> Option<Message> + Send + Sync + 'static) -> Self {
        let servers = Arc::new(Servers { say: Box::new(say), asked: Mutex::default() });
        let seconds = Arc::new(AtomicU64::new(0));
        let time = seconds.clone();
        let clock = Clock::from_fn(move || Now { elapsed: Duration::from_secs(time.load(Relaxed)), wall: 0 });
        Self { recursor: Recursor::new(settings, servers.clone(), clock), servers, seconds }
    }

    pub(super) fn wait(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Relaxed);
    }

    /// What the servers were asked since somebody looked, such as `1 www.kz A`; priming aside.
    pub(super) fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.servers.asked.lock());
        asked.retain(|question| question != "1 . NS");
        asked
    }

    /// How often the root was asked who serves it.
    pub(super) fn primed(&self) -> usize {
        let mut asked = self.servers.asked.lock();
        let all = asked.len();
        asked.retain(|question| question != "1 . NS");
        all - asked.len()
    }

    /// Asks for `name` and `qtype`.
    pub(super) async fn ask(&self, name: &str, qtype: RecordType) -> Resolution {
        let question = Question::new(&self::name(name), qtype);
        self.recursor.resolve(&question, Now::default()).await
    }

    /// As [`ask`](Self::ask): the response code, and the answer's owners and types.
    pub(super) async fn told(&self, name: &str, qtype: RecordType) -> (Rcode, Vec<String>) {
        let resolution = self.ask(name, qtype).await;
        let message = message::parse(&resolution.message).unwrap();
        let sets = message.answer.iter().map(|set| format!("{} {}", set.name, set.rtype)).collect();
        (resolution.rcode, sets)
    }
}
