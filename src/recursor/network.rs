//! The way to name servers and back.

use std::net::SocketAddr;
use std::time::Duration;

use super::BoxFuture;

/// How a query goes out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A datagram from a random port.
    Udp,
    /// A TCP stream, perhaps one that is open already.
    Tcp,
    /// TLS to a server that must prove that it has this name (RFC 8310).
    Tls {
        /// The name in the server's certificate.
        server_name: String,
    },
}

/// One query to one server.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The server. Port 53 unless the configuration says otherwise; the port map of tests lies below this seam.
    pub server: SocketAddr,
    /// How to send.
    pub protocol: Protocol,
    /// The query in wire form, with its final identifier and letters' case.
    pub query: &'a [u8],
    /// How long to wait for a reply.
    pub timeout: Duration,
}

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// Nothing came in time.
    #[error("no reply in time")]
    Timeout,
    /// The network or the host says that the server cannot be reached.
    #[error("the server cannot be reached")]
    Unreachable,
    /// The connection broke off.
    #[error("the connection was closed")]
    Closed,
    /// TLS failed, or the certificate is for another name.
    #[error("the TLS handshake failed")]
    Tls,
    /// No local socket or port is left.
    #[error("no local resources are left")]
    Resources,
}

/// Carries queries to servers: sockets in production, a script in tests.
pub trait Network: Send + Sync + 'static {
    /// Sends the query and waits for its reply.
    ///
    /// The reply is the first message from that server that has QR set, the query's identifier, and no other question
    /// than the query's. One with letters in another case is the reply only if no better one follows within a moment;
    /// the engine compares the case. Other messages are passed over.
    fn exchange<'a>(&'a self, exchange: Exchange<'a>) -> BoxFuture<'a, Result<Vec<u8>, ExchangeError>>;
}
