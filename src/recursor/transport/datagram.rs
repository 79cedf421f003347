//! Queries in datagrams, from ports that nobody can guess.
//!
//! A query leaves from a socket that no other query uses at the moment, on a
//! random port of the whole range, connected to its server, so that the kernel
//! passes on what that server sends and nothing else, and tells at once when the
//! network says that nobody is there (RFC 5452, sections 9.1 and 9.2).
//!
//! Most of the cost of such a query is to open the socket, so a socket may serve
//! a few more queries to the *same* server. That gives nothing away:
//!
//! - who sees a port is the server that was asked from it, or on the way to it,
//!   and needs no guess to forge that server's replies; the port of a query to
//!   one server is never one that another server has seen;
//! - a port stays open for no longer than it would for one query to a slow
//!   server ([`AGE_OF_A_PORT`]), so who scans for open ports gains no time;
//! - chance picks among the ports that wait, and every query has its own
//!   identifier and case of letters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::runtime::{self, Handle};
use tokio::time::{Instant, timeout_at};

use super::{HELD_BACK, MAX_STRAY, answers, keeps_case, unreachable};
use crate::recursor::network::{Exchange, ExchangeError};

/// How many queries a port serves.
const USES_OF_A_PORT: u32 = 16;
/// How long a port serves queries.
const AGE_OF_A_PORT: Duration = Duration::from_secs(2);
/// Sockets that wait for their next query, on one thread.
const IDLE_PORTS: usize = 256;
/// The largest datagram that is read whole; more than we ever ask for.
const LARGEST_DATAGRAM: usize = 4096;
/// What wakes us: a datagram, or the news that there will be none.
const NEWS: Interest = Interest::READABLE.add(Interest::ERROR);

thread_local! {
    static IDLE: RefCell<Idle> = RefCell::default();
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGEST_DATAGRAM].into());
}

/// Sockets that wait for their next query.
///
/// Each thread has its own, so that none waits for another's lock. They belong to the runtime that watches them.
#[derive(Default)]
struct Idle {
    runtime: Option<runtime::Id>,
    ports: HashMap<SocketAddr, Vec<Port>, ahash::RandomState>,
    count: usize,
}

/// A socket on a random port, connected to a server.
struct Port {
    socket: UdpSocket,
    opened: Instant,
    uses: u32,
}

/// Asks over UDP.
pub(super) async fn exchange(server: SocketAddr, exchange: &Exchange<'_>) -> Result<Vec<u8>, ExchangeError> {
    let now = Instant::now();
    let mut deadline = now + exchange.timeout;
    let runtime = Handle::current().id();
    let port = match IDLE.with_borrow_mut(|idle| idle.of(runtime).take(server, now)) {
        Some(port) => Port { uses: port.uses + 1, ..port },
        None => Port { socket: open(server)?, opened: now, uses: 1 },
    };
    // A datagram never waits for room: what the system has none for is lost.
    SockRef::from(&port.socket).send(exchange.query).map_err(unreachable)?;
    let mut held = None;
    for _ in 0..MAX_STRAY {
        let reply = match timeout_at(deadline, port.receive(exchange.query)).await {
            // The port is not used again: the reply may still come.
            Err(_) => break,
            Ok(Err(error)) => return Err(unreachable(error)),
            Ok(Ok(None)) => continue,
            Ok(Ok(Some(reply))) => reply,
        };
        if !keeps_case(exchange.query, &reply) {
            deadline = deadline.min(Instant::now() + HELD_BACK);
            held.get_or_insert(reply);
            continue;
        }
        if held.is_none() {
            IDLE.with_borrow_mut(|idle| idle.of(runtime).put(server, port, now));
        }
        return Ok(reply);
    }
    held.ok_or(ExchangeError::Timeout)
}

impl Port {
    /// The next datagram, if it is a reply to `query`.
    async fn receive(&self, query: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            self.socket.ready(NEWS).await?;
            let received = ROOM.with_borrow_mut(|room| {
                let len = (&*SockRef::from(&self.socket)).read(room)?;
                Ok::<_, io::Error>(answers(query, &room[..len]).then(|| room[..len].to_vec()))
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_news(),
                received => return received,
            }
        }
    }

    /// Forgets that there was something to read, so that the next to ask sleeps until there is.
    fn wait_for_news(&self) {
        for kind in [Interest::READABLE, Interest::ERROR] {
            let _ = self.socket.try_io(kind, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
    }

    /// Whether it may serve another query.
    fn is_fresh(&self, now: Instant) -> bool {
        self.uses < USES_OF_A_PORT && now.saturating_duration_since(self.opened) < AGE_OF_A_PORT
    }
}

impl Idle {
    /// The sockets that `runtime` watches.
    fn of(&mut self, runtime: runtime::Id) -> &mut Self {
        if self.runtime != Some(runtime) {
            *self = Self { runtime: Some(runtime), ..Self::default() };
        }
        self
    }

    fn take(&mut self, server: SocketAddr, now: Instant) -> Option<Port> {
        let ports = self.ports.get_mut(&server)?;
        while !ports.is_empty() {
            let port = ports.swap_remove(rand::random_range(0..ports.len()));
            self.count -= 1;
            if port.is_fresh(now) {
                return Some(port);
            }
        }
        None
    }

    fn put(&mut self, server: SocketAddr, port: Port, now: Instant) {
        if !port.is_fresh(now) {
            return;
        }
        if self.count >= IDLE_PORTS {
            self.ports.retain(|_, ports| {
                ports.retain(|port| port.is_fresh(now));
                !ports.is_empty()
            });
            self.count = self.ports.values().map(Vec::len).sum();
        }
        if self.count < IDLE_PORTS {
            port.wait_for_news();
            self.ports.entry(server).or_default().push(port);
            self.count += 1;
        }
    }
}

/// A socket on a random port of the whole range, not what the system would pick, connected to `server`.
fn open(server: SocketAddr) -> Result<UdpSocket, ExchangeError> {
    let any: IpAddr = if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let resources = |_| ExchangeError::Resources;
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking(), None).map_err(resources)?;
    for attempt in 0..10 {
        // Many taken ports in a row: let the system find one.
        let port = if attempt < 9 { rand::random_range(1024..=u16::MAX) } else { 0 };
        if socket.bind(&SocketAddr::new(any, port).into()).is_ok() {
            socket.connect(&server.into()).map_err(unreachable)?;
            return UdpSocket::from_std(socket.into()).map_err(resources);
        }
    }
    Err(ExchangeError::Resources)
}
