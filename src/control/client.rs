//! Calls the API of a running server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Method, Request};

use super::{Problem, ProblemKind};

/// Above the longest compile that a reload may wait for.
const TIMEOUT: Duration = Duration::from_secs(600);
/// How long a server may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No reply is larger.
const MAX_REPLY: u64 = 64 << 20;

/// A connection to the API of one server. Blocks.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    server: SocketAddr,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nobody answers there.
    #[error("{server}: no answer: {reason}; is the server running, and is this its control.listen?")]
    Unreachable {
        /// The address.
        server: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The server answers, but not as this program does.
    #[error("{server}: the reply makes no sense: {reason}; is this another program or version?")]
    Nonsense {
        /// The address.
        server: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The server says no.
    #[error(transparent)]
    Problem(#[from] Problem),
}

impl Client {
    /// A client of the server that serves the API on `address`.
    pub fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .proxy(None)
            .build();
        // A server that listens on all addresses is reached on its own.
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Self { agent: Agent::new_with_config(config), server: SocketAddr::new(ip, address.port()) }
    }

    /// Reads what is at `path`.
    ///
    /// # Errors
    ///
    /// When there is no answer, or none that makes sense, or the server says no.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(Method::GET, path, String::new())
    }

    /// Sends `body` to `path` with POST.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        self.call(Method::POST, path, to_json(body))
    }

    /// Sends `body` to `path` with DELETE.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub fn delete<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        self.call(Method::DELETE, path, to_json(body))
    }

    fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: String) -> Result<T, CallError> {
        let unreachable =
            |error: ureq::Error| CallError::Unreachable { server: self.server, reason: error.to_string() };
        let nonsense = |reason: String| CallError::Nonsense { server: self.server, reason };
        let request = Request::builder()
            .method(&method)
            .uri(format!("http://{}{path}", self.server))
            .header("content-type", "application/json");
        let reply = match method {
            Method::GET => self.agent.run(request.body(()).expect("an address and a path make a URI")),
            _ => {
                let agent = self.agent.configure_request(request.body(body).expect("an address and a path make a URI"));
                self.agent.run(agent.allow_non_standard_methods(true).build())
            }
        };
        let mut reply = reply.map_err(unreachable)?;
        let status = reply.status();
        let text = reply
            .body_mut()
            .with_config()
            .limit(MAX_REPLY)
            .read_to_string()
            .map_err(|error| nonsense(error.to_string()))?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| nonsense(error.to_string()));
        }
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Err(problem.into()),
            Err(_) => Err(nonsense(format!("status {status}"))),
        }
    }
}

impl CallError {
    /// Whether the request did not make sense to the server.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.kind == ProblemKind::Usage)
    }

    /// Whether the server has refused because of a guard.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.kind == ProblemKind::Refused)
    }
}

fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("structs of strings and numbers have a JSON form")
}
