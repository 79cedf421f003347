//! The [`Network`] of production: sockets.
//!
//! Streams are kept open for a while and used again (RFC 7766, section 6.2.1).

mod datagram;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::query::Rcode;
use crate::wire::{HEADER_LEN, Header};

use super::BoxFuture;
use super::network::{Exchange, ExchangeError, Network, Protocol};

/// Streams that wait for their next query, to one server and to all.
const IDLE_STREAMS: (usize, usize) = (8, 512);
/// How long a stream waits for its next query.
const STREAM_IDLE: Duration = Duration::from_secs(8);
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
    tls: TlsConnector,
    streams: Mutex<HashMap<(SocketAddr, Protocol), Vec<Idle>>>,
    counters: Counters,
}

/// A stream that waits for its next query.
struct Idle {
    stream: Box<dyn Stream>,
    since: Instant,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

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
        Self { settings, tls: TlsConnector::from(tls), streams: Mutex::default(), counters: Counters::default() }
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

    async fn stream(&self, server: SocketAddr, exchange: &Exchange<'_>) -> Result<Vec<u8>, ExchangeError> {
        let key = (server, exchange.protocol.clone());
        loop {
            let waiting = self.idle_stream(&key);
            let used = waiting.is_some();
            let mut stream = match waiting {
                Some(stream) => stream,
                None => self.connect(server, &exchange.protocol).await?,
            };
            match ask(&mut *stream, exchange.query).await {
                Ok(reply) => {
                    self.keep_stream(key, stream);
                    return Ok(reply);
                }
                // The server has closed what it had no use for; a new stream tells the truth.
                Err(_) if used => {}
                Err(_) => return Err(ExchangeError::Closed),
            }
        }
    }

    fn idle_stream(&self, key: &(SocketAddr, Protocol)) -> Option<Box<dyn Stream>> {
        let mut streams = self.streams.lock();
        let waiting = streams.get_mut(key)?;
        waiting.retain(|idle| idle.since.elapsed() < STREAM_IDLE);
        let idle = waiting.pop();
        if waiting.is_empty() {
            streams.remove(key);
        }
        Some(idle?.stream)
    }

    fn keep_stream(&self, key: (SocketAddr, Protocol), stream: Box<dyn Stream>) {
        let mut streams = self.streams.lock();
        if streams.len() >= IDLE_STREAMS.1 {
            streams.retain(|_, waiting| {
                waiting.retain(|idle| idle.since.elapsed() < STREAM_IDLE);
                !waiting.is_empty()
            });
        }
        if streams.len() < IDLE_STREAMS.1 {
            let waiting = streams.entry(key).or_default();
            if waiting.len() < IDLE_STREAMS.0 {
                waiting.push(Idle { stream, since: Instant::now() });
            }
        }
    }

    async fn connect(&self, server: SocketAddr, protocol: &Protocol) -> Result<Box<dyn Stream>, ExchangeError> {
        let stream = TcpStream::connect(server).await.map_err(unreachable)?;
        let _ = stream.set_nodelay(true);
        let Protocol::Tls { server_name } = protocol else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(server_name.clone()).map_err(|_| ExchangeError::Tls)?;
        let stream = self.tls.connect(name, stream).await.map_err(|_| ExchangeError::Tls)?;
        Ok(Box::new(stream))
    }
}

impl Network for Sockets {
    fn exchange<'a>(&'a self, exchange: Exchange<'a>) -> BoxFuture<'a, Result<Vec<u8>, ExchangeError>> {
        Box::pin(async move {
            let server = self.place(exchange.server);
            let result = match exchange.protocol {
                Protocol::Udp => datagram::exchange(server, &exchange).await,
                Protocol::Tcp | Protocol::Tls { .. } => {
                    let reply = timeout(exchange.timeout, self.stream(server, &exchange)).await;
                    reply.unwrap_or(Err(ExchangeError::Timeout))
                }
            };
            self.counters.count(&exchange.protocol, result.as_ref().err().copied());
            result
        })
    }
}

/// Sends a query over a stream and reads its reply (RFC 1035, section 4.2.2).
async fn ask(stream: &mut dyn Stream, query: &[u8]) -> io::Result<Vec<u8>> {
    let len = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&len.to_be_bytes(), query].concat()).await?;
    stream.flush().await?;
    for _ in 0..MAX_STRAY {
        let len = usize::from(stream.read_u16().await?);
        let mut reply = Vec::new();
        if (&mut *stream).take(len as u64).read_to_end(&mut reply).await? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if answers(query, &reply) {
            return Ok(reply);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
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
    use super::*;
    use tokio::net::UdpSocket;

    use crate::name::DomainName;
    use crate::query::RecordType;
    use crate::recursor::message::{QueryOptions, write_query};

    fn query() -> Vec<u8> {
        let options =
            QueryOptions { id: 7, recursion_desired: false, checking_disabled: false, edns: None, case: Some(1) };
        write_query(&"www.example.kz".parse::<DomainName>().unwrap(), RecordType::A, options).to_vec()
    }

    /// The reply that repeats its query.
    fn echo(query: &[u8]) -> Vec<u8> {
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        reply
    }

    fn to(server: SocketAddr, protocol: Protocol, query: &[u8]) -> Exchange<'_> {
        Exchange { server, protocol, query, timeout: Duration::from_secs(2) }
    }

    #[test]
    fn only_the_reply_to_the_query_is_taken() {
        let query = query();
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
        let query = query();
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
        let query = query();
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
        let query = query();
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
        let query = query();
        let exchange = Exchange { timeout: Duration::from_millis(30), ..to(address, Protocol::Udp, &query) };
        assert_eq!(sockets.exchange(exchange).await, Err(ExchangeError::Timeout));
        drop(silent);
        assert_eq!(sockets.exchange(to(address, Protocol::Udp, &query)).await, Err(ExchangeError::Unreachable));
        assert_eq!(sockets.exchange(to(address, Protocol::Tcp, &query)).await, Err(ExchangeError::Unreachable));
    }
}
