//! The [`Network`] of production: sockets.
//!
//! Each way to a server has a file of its own; what makes a message the reply to
//! a query is the same for all and stands here.

mod datagram;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::query::Rcode;
use crate::wire::{HEADER_LEN, Header};

use super::BoxFuture;
use super::network::{Exchange, ExchangeError, Network, Protocol};
use stream::Streams;

/// Datagrams that are not the reply; after so many somebody is guessing, and the port is given up.
const MAX_STRAY: u32 = 100;
/// How long a reply in other letters' case than the query's is held back: whoever guesses does not know the case, and
/// the true reply may be on its way.
const HELD_BACK: Duration = Duration::from_millis(200);

/// How servers are reached.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Servers that are somewhere else than their address says; for tests.
    pub port_map: BTreeMap<SocketAddr, SocketAddr>,
    /// The port that stands for port 53 of every server; for tests.
    pub standard_port: Option<u16>,
    /// How TLS servers prove who they are; the roots of Mozilla when not said.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// The sockets of a resolver. Bound to the runtime that first uses it.
pub struct Sockets {
    settings: Settings,
    streams: Streams,
    counters: Counters,
}

/// What came of exchanges, for metrics.
#[derive(Debug, Default)]
pub struct Counters([[AtomicU64; RESULTS.len()]; PROTOCOLS.len()]);

/// The closed set of protocol labels.
pub const PROTOCOLS: [&str; 3] = ["udp", "tcp", "tls"];
/// The closed set of result labels.
pub const RESULTS: [&str; 6] = ["reply", "timeout", "unreachable", "closed", "tls", "resources"];

impl Counters {
    fn count(&self, protocol: &Protocol, result: Option<ExchangeError>) {
        let protocol = match protocol {
            Protocol::Udp => 0,
            Protocol::Tcp => 1,
            Protocol::Tls { .. } => 2,
        };
        let result = match result {
            None => 0,
            Some(ExchangeError::Timeout) => 1,
            Some(ExchangeError::Unreachable) => 2,
            Some(ExchangeError::Closed) => 3,
            Some(ExchangeError::Tls) => 4,
            Some(ExchangeError::Resources) => 5,
        };
        self.0[protocol][result].fetch_add(1, Relaxed);
    }

    /// Exchanges so far, by protocol and result in the order of [`PROTOCOLS`] and [`RESULTS`].
    pub fn snapshot(&self) -> [[u64; RESULTS.len()]; PROTOCOLS.len()] {
        let mut counts = [[0; RESULTS.len()]; PROTOCOLS.len()];
        for (to, from) in counts.iter_mut().flatten().zip(self.0.iter().flatten()) {
            *to = from.load(Relaxed);
        }
        counts
    }
}

impl Sockets {
    /// No socket is opened before it is needed.
    pub fn new(settings: Settings) -> Self {
        let tls = settings.tls.clone().unwrap_or_else(|| {
            let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring speaks the default versions of TLS");
            Arc::new(config.with_root_certificates(roots).with_no_client_auth())
        });
        Self { settings, streams: Streams::new(TlsConnector::from(tls)), counters: Counters::default() }
    }

    /// What came of exchanges so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where the server at `address` really listens.
    fn place(&self, address: SocketAddr) -> SocketAddr {
        match (self.settings.port_map.get(&address), self.settings.standard_port) {
            (Some(place), _) => *place,
            (None, Some(port)) if address.port() == 53 => SocketAddr::new(address.ip(), port),
            (None, _) => address,
        }
    }
}

impl Network for Sockets {
    fn exchange<'a>(&'a self, exchange: Exchange<'a>) -> BoxFuture<'a, Result<Vec<u8>, ExchangeError>> {
        Box::pin(async move {
            let server = self.place(exchange.server);
            let result = match exchange.protocol {
                Protocol::Udp => datagram::exchange(server, &exchange).await,
                Protocol::Tcp | Protocol::Tls { .. } => {
                    let asking = self.streams.exchange(server, &exchange.protocol, exchange.query);
                    timeout(exchange.timeout, asking).await.unwrap_or(Err(ExchangeError::Timeout))
                }
            };
            self.counters.count(&exchange.protocol, result.as_ref().err().copied());
            result
        })
    }
}

/// Whether `reply` belongs to `query`: a response with its identifier and its question, letters' case aside; an error
/// may come without the question.
pub fn answers(query: &[u8], reply: &[u8]) -> bool {
    let (Ok(asked), Ok(answered)) = (Header::read(query), Header::read(reply)) else { return false };
    if !answered.has(Header::QR) || answered.id != asked.id || answered.opcode() != asked.opcode() {
        return false;
    }
    if answered.counts[0] == 0 {
        return answered.rcode() != Rcode::NOERROR;
    }
    let Ok(name_end) = crate::wire::skip_name(query, HEADER_LEN) else { return false };
    let (name, rest) = (HEADER_LEN..name_end, name_end..name_end + 4);
    let same_name = match (query.get(name.clone()), reply.get(name)) {
        (Some(asked), Some(answered)) => answered.eq_ignore_ascii_case(asked),
        _ => false,
    };
    same_name && query.get(rest.clone()).is_some_and(|asked| reply.get(rest) == Some(asked))
}

/// Whether `reply`, which [`answers`] the query, repeats the letters of its name in their case, or has no name.
fn keeps_case(query: &[u8], reply: &[u8]) -> bool {
    let name = HEADER_LEN..crate::wire::skip_name(query, HEADER_LEN).unwrap_or(query.len());
    Header::read(reply).is_ok_and(|header| header.counts[0] == 0) || reply.get(name.clone()) == query.get(name)
}

fn unreachable(error: io::Error) -> ExchangeError {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => ExchangeError::Resources,
        _ => ExchangeError::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UdpSocket;

    use super::*;
    use crate::name::DomainName;
    use crate::query::RecordType;
    use crate::recursor::message::{QueryOptions, write_query};

    pub(super) fn query(name: &str) -> Vec<u8> {
        let options = QueryOptions {
            id: 7,
            recursion_desired: false,
            checking_disabled: false,
            edns: None,
            cookie: &[],
            case: Some(1),
        };
        write_query(&name.parse::<DomainName>().unwrap(), RecordType::A, options).to_vec()
    }

    /// The reply that repeats its query.
    pub(super) fn echo(query: &[u8]) -> Vec<u8> {
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        reply
    }

    fn to(server: SocketAddr, protocol: Protocol, query: &[u8]) -> Exchange<'_> {
        Exchange { server, protocol, query, timeout: Duration::from_secs(2) }
    }

    #[test]
    fn only_the_reply_to_the_query_is_taken() {
        let query = query("www.example.kz");
        assert!(answers(&query, &echo(&query)));
        assert!(answers(&query, &echo(&query).to_ascii_lowercase()), "case is for the engine to compare");
        assert!(!answers(&query, &query), "no response");
        let mut other = echo(&query);
        other[0] ^= 1;
        assert!(!answers(&query, &other), "another identifier");
        let mut other = echo(&query);
        other[14] ^= 1;
        assert!(!answers(&query, &other), "another name");
        assert!(!answers(&query, &echo(&query)[..20]), "cut off");
    }

    #[tokio::test]
    async fn a_reply_in_other_case_waits_for_a_better_one() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let sockets = Sockets::new(Settings::default());
        let query = query("www.example.kz");
        for better in [true, false] {
            let serve = async {
                let mut buffer = [0; 512];
                let (len, from) = server.recv_from(&mut buffer).await.unwrap();
                let reply = echo(&buffer[..len]);
                server.send_to(&swap_case(&reply), from).await.unwrap();
                if better {
                    server.send_to(&reply, from).await.unwrap();
                }
            };
            let (reply, ()) = tokio::join!(sockets.exchange(to(address, Protocol::Udp, &query)), serve);
            assert_eq!(reply, Ok(if better { echo(&query) } else { swap_case(&echo(&query)) }));
        }
    }

    /// The message with the first letter of its question in the other case.
    fn swap_case(message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        message[HEADER_LEN + 1] ^= 0x20;
        message
    }

    #[tokio::test]
    async fn strays_are_passed_over_and_ports_are_used_again() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let standard = SocketAddr::new(address.ip(), 53);
        let sockets = Sockets::new(Settings { port_map: [(standard, address)].into(), ..Settings::default() });
        let query = query("www.example.kz");
        let mut ports = Vec::new();
        for _ in 0..2 {
            let serve = async {
                let mut buffer = [0; 512];
                let (len, from) = server.recv_from(&mut buffer).await.unwrap();
                let mut stray = echo(&buffer[..len]);
                stray[1] ^= 1;
                server.send_to(&stray, from).await.unwrap();
                server.send_to(&echo(&buffer[..len]), from).await.unwrap();
                from.port()
            };
            let (reply, port) = tokio::join!(sockets.exchange(to(standard, Protocol::Udp, &query)), serve);
            assert_eq!(reply, Ok(echo(&query)));
            ports.push(port);
        }
        assert_eq!(ports[0], ports[1]);
        assert_eq!(sockets.counters().snapshot()[0][0], 2);
    }

    #[tokio::test]
    async fn a_stream_is_used_again_and_replaced_when_the_server_closed_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut accepted = 0;
            // Two queries on the first stream, one on the second.
            for queries in [2, 1] {
                let (mut stream, _) = listener.accept().await.unwrap();
                accepted += 1;
                for _ in 0..queries {
                    let len = usize::from(stream.read_u16().await.unwrap());
                    let mut query = vec![0; len];
                    stream.read_exact(&mut query).await.unwrap();
                    stream.write_u16(len as u16).await.unwrap();
                    stream.write_all(&echo(&query)).await.unwrap();
                }
            }
            accepted
        });
        let sockets = Sockets::new(Settings::default());
        let query = query("www.example.kz");
        for _ in 0..3 {
            assert_eq!(sockets.exchange(to(address, Protocol::Tcp, &query)).await, Ok(echo(&query)));
        }
        assert_eq!(server.await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_dead_port_is_unreachable_and_a_silent_one_times_out() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let sockets = Sockets::new(Settings::default());
        let query = query("www.example.kz");
        let exchange = Exchange { timeout: Duration::from_millis(30), ..to(address, Protocol::Udp, &query) };
        assert_eq!(sockets.exchange(exchange).await, Err(ExchangeError::Timeout));
        drop(silent);
        assert_eq!(sockets.exchange(to(address, Protocol::Udp, &query)).await, Err(ExchangeError::Unreachable));
        assert_eq!(sockets.exchange(to(address, Protocol::Tcp, &query)).await, Err(ExchangeError::Unreachable));
    }
}
