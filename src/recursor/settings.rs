//! What the operator decides about resolving; checked.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::name::DomainName;

use super::dns64;
use super::dnssec::{self, TrustAnchors};
use super::hints::RootHints;
use super::nat64::Nat64Prefix;
use super::network::Protocol;

/// The `[resolver]` table.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Zones that are asked elsewhere; the most specific route that covers a name counts.
    pub routes: Vec<Route>,
    /// Whether answers are validated.
    pub validate: bool,
    /// How they are validated.
    pub dnssec: dnssec::Settings,
    /// Where chains of trust begin. Without any, nothing is validated.
    pub trust_anchors: TrustAnchors,
    /// Where the state of trust anchors that roll over is kept (RFC 5011).
    pub state_dir: Option<PathBuf>,
    /// Whether the root is told which of its keys are trusted (RFC 8145).
    pub signal_anchors: bool,
    /// Where resolution begins.
    pub root_hints: RootHints,
    /// Special-purpose addresses that may be asked all the same.
    pub allow_upstream: Vec<IpNet>,
    /// Addresses that are never asked, whoever names them.
    pub deny_upstream: Vec<IpNet>,
    /// Whether letters in queries are sent in random case (draft-vixie-dnsext-dns0x20).
    pub case_randomisation: bool,
    /// Whether queries to name servers carry cookies (RFC 7873).
    pub cookies: bool,
    /// How much of a name a server is shown (RFC 9156).
    pub query_minimisation: Minimisation,
    /// Whether servers are asked over IPv4.
    pub ipv4: bool,
    /// Whether servers are asked over IPv6.
    pub ipv6: bool,
    /// The translator by which IPv4 addresses of servers are reached, where we have only IPv6.
    pub nat64: Option<Nat64Prefix>,
    /// Whether and how addresses are made for clients that have only IPv6 (RFC 6147).
    pub dns64: Option<dns64::Settings>,
    /// Whether names that have no business in the DNS are answered here (RFC 6761, RFC 6303).
    pub special_names: bool,
    /// Whether private addresses are taken out of answers for public names.
    pub rebinding_protection: bool,
    /// What may hold private addresses in spite of the protection.
    pub private_domains: Vec<DomainName>,
    /// Our payload size in queries (RFC 6891, section 6.2.5).
    pub edns_payload: u16,
    /// When a question is given up. Clients have left by then; the work until then fills the caches.
    pub patience: Duration,
    /// The least and the most that a TTL may be.
    pub ttl: TtlBounds,
    /// Whether proofs of absence answer questions for other names too (RFC 8198).
    pub aggressive_denial: bool,
    /// Octets that records may take in the cache.
    pub cache_bytes: u64,
    /// How much work a question may cause.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            validate: true,
            dnssec: dnssec::Settings::default(),
            trust_anchors: TrustAnchors::built_in(),
            state_dir: None,
            signal_anchors: true,
            root_hints: RootHints::built_in(),
            allow_upstream: Vec::new(),
            deny_upstream: Vec::new(),
            case_randomisation: true,
            cookies: false,
            query_minimisation: Minimisation::Relaxed,
            ipv4: true,
            ipv6: true,
            nat64: None,
            dns64: None,
            special_names: true,
            rebinding_protection: false,
            private_domains: Vec::new(),
            edns_payload: 1232,
            patience: Duration::from_secs(8),
            ttl: TtlBounds::default(),
            aggressive_denial: true,
            cache_bytes: 64 << 20,
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// Whether CD in a question makes a difference: we validate, those we ask may, or we make what nobody can validate.
    pub fn heeds_checking_disabled(&self) -> bool {
        let forwards = self.routes.iter().any(|route| route.kind == RouteKind::Forward);
        forwards || self.dns64.is_some() || self.validate && !self.trust_anchors.is_empty()
    }

    /// Where a name server is reached: at port 53 (RFC 1035, section 4.2), at IPv4 addresses by way of the translator,
    /// when there is one.
    pub(super) fn way_to(&self, server: IpAddr) -> SocketAddr {
        let address = match (server, self.nat64) {
            (IpAddr::V4(address), Some(prefix)) => prefix.embed(address).into(),
            _ => server,
        };
        SocketAddr::new(address, 53)
    }
}

/// Where questions for a zone go instead of its own name servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The zone; questions for names at or below it take this route.
    pub zone: DomainName,
    /// The servers.
    pub to: Vec<RouteServer>,
    /// What they are.
    pub kind: RouteKind,
    /// Whether the zone's own servers are asked when these do not answer.
    pub fall_back: bool,
    /// Servers that are known by name only; their addresses are looked up.
    pub names: Vec<DomainName>,
    /// Whether answers are kept; else each question is asked anew.
    pub cache: bool,
}

/// A server of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is asked.
    pub protocol: Protocol,
}

/// What the servers of a route are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Resolvers that do the work for us.
    Forward,
    /// Authorities for the zone that nobody delegates to.
    Stub,
}

/// How much of a name a server is shown (RFC 9156).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Minimisation {
    /// The whole name.
    Off,
    /// One label more than the zone it serves; the whole name when that fails.
    Relaxed,
    /// One label more than the zone it serves, whatever comes.
    Strict,
}

/// The least and the most seconds that records are kept, and negative answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlBounds {
    /// The least for records.
    pub min: u32,
    /// The most for records.
    pub max: u32,
    /// The least for negative answers.
    pub min_negative: u32,
    /// The most for negative answers (RFC 2308, section 5).
    pub max_negative: u32,
}

impl Default for TtlBounds {
    fn default() -> Self {
        Self { min: 0, max: 86_400, min_negative: 0, max_negative: 3_600 }
    }
}

impl TtlBounds {
    /// Brings a TTL of records within the bounds.
    pub fn clamp(&self, ttl: u32) -> u32 {
        ttl.max(self.min).min(self.max)
    }

    /// Brings a TTL of a negative answer within the bounds.
    pub fn clamp_negative(&self, ttl: u32) -> u32 {
        ttl.max(self.min_negative).min(self.max_negative.min(self.max))
    }
}

/// How much work a question may cause, all that it leads to included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queries to servers.
    pub queries: u32,
    /// Aliases that are followed.
    pub aliases: u32,
    /// Zone cuts and minimisation steps on one way down.
    pub steps: u32,
    /// Questions that arise within questions, such as the address of a server of a server.
    pub depth: u32,
    /// Addresses of name servers that are looked up for one delegation (NXNSAttack).
    pub server_lookups: u32,
    /// Addresses of name servers that are looked up for one question.
    pub total_server_lookups: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queries: 100, aliases: 16, steps: 160, depth: 8, server_lookups: 6, total_server_lookups: 24 }
    }
}
