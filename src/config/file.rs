//! The configuration file as written: one struct for each table, one field for each key.
//!
//! The tables take their defaults from the modules that own the settings, so
//! that a key left out means what the code does without it. What one value
//! alone can get wrong is found while it is read, by its type; what takes more
//! than one is found in [`check`](super::check).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::units::{Size, Span};
use crate::name::DomainName;
use crate::rule::{Action, BlockReason};

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) server: ServerTable,
    pub(super) resolver: ResolverTable,
    pub(super) cache: CacheTable,
    pub(super) sinkhole: SinkholeTable,
    pub(super) protect: ProtectTable,
    pub(super) list: Vec<ListTable>,
    pub(super) control: ControlTable,
}

/// `[server]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ServerTable {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) allow_clients: Vec<Prefix>,
    pub(super) workers: usize,
    pub(super) state_dir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) watch: Span,
    pub(super) drain: Span,
    pub(super) log: String,
    pub(super) log_format: LogFormat,
}

impl Default for ServerTable {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 5300))],
            allow_clients: ["127.0.0.0/8", "::1"].map(|text| text.parse().expect("two prefixes")).to_vec(),
            workers: 0,
            state_dir: None,
            user: None,
            watch: Span(std::time::Duration::from_millis(500)),
            drain: Span::seconds(5),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[resolver]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ResolverTable {
    pub(super) mode: Mode,
    pub(super) dnssec: Dnssec,
    pub(super) root_hints: Option<String>,
    pub(super) trust_anchors: Option<Vec<String>>,
    pub(super) negative_trust_anchors: Vec<DomainName>,
    pub(super) allow_upstream: Vec<Prefix>,
    pub(super) case_randomisation: bool,
    pub(super) query_minimisation: Minimisation,
    pub(super) upstream_ipv4: bool,
    pub(super) upstream_ipv6: bool,
    pub(super) special_names: bool,
    pub(super) rebinding_protection: bool,
    pub(super) edns_payload: u16,
    pub(super) client_timeout: Span,
    pub(super) port_map: BTreeMap<Endpoint, SocketAddr>,
    pub(super) forward: Vec<ForwardTable>,
}

impl Default for ResolverTable {
    fn default() -> Self {
        Self {
            mode: Mode::Recursive,
            dnssec: Dnssec::Validate,
            root_hints: None,
            trust_anchors: None,
            negative_trust_anchors: Vec::new(),
            allow_upstream: Vec::new(),
            case_randomisation: true,
            query_minimisation: Minimisation::Relaxed,
            upstream_ipv4: true,
            upstream_ipv6: true,
            special_names: true,
            rebinding_protection: false,
            edns_payload: 1232,
            client_timeout: Span::seconds(4),
            port_map: BTreeMap::new(),
            forward: Vec::new(),
        }
    }
}

/// Where answers come from when no zone says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    Recursive,
    Forward,
}

/// Whether answers are proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Dnssec {
    Validate,
    Off,
}

/// How little of a name each server sees (RFC 9156).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Minimisation {
    Relaxed,
    Strict,
    Off,
}

/// `[[resolver.forward]]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ForwardTable {
    pub(super) zone: DomainName,
    pub(super) to: Vec<ForwardTo>,
}

/// `[cache]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CacheTable {
    pub(super) max_bytes: Size,
    pub(super) prefetch: bool,
    pub(super) min_ttl: Span,
    pub(super) max_ttl: Span,
    pub(super) serve_stale: Span,
}

impl Default for CacheTable {
    fn default() -> Self {
        Self {
            max_bytes: Size(256 << 20),
            prefetch: true,
            min_ttl: Span::seconds(0),
            max_ttl: Span::seconds(86_400),
            serve_stale: Span::seconds(86_400),
        }
    }
}

/// `[sinkhole]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SinkholeTable {
    pub(super) ipv4: Ipv4Addr,
    pub(super) ipv6: Ipv6Addr,
    pub(super) ttl: Span,
}

impl Default for SinkholeTable {
    fn default() -> Self {
        Self { ipv4: Ipv4Addr::UNSPECIFIED, ipv6: Ipv6Addr::UNSPECIFIED, ttl: Span::seconds(10) }
    }
}

/// `[protect]`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ProtectTable {
    pub(super) names: Vec<PlainName>,
    pub(super) files: Vec<String>,
}

/// `[[list]]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ListTable {
    pub(super) name: String,
    pub(super) source: String,
    #[serde(default = "auto")]
    pub(super) format: String,
    #[serde(default = "exact", rename = "match")]
    pub(super) matches: MatchScope,
    pub(super) wildcard_apex: Option<bool>,
    pub(super) action: Option<ActionValue>,
    pub(super) cname: Option<DomainName>,
    #[serde(default = "blocked")]
    pub(super) ede: BlockReason,
    pub(super) ede_text: Option<String>,
    #[serde(default)]
    pub(super) priority: i32,
    #[serde(default)]
    pub(super) shadow: bool,
    pub(super) ttl: Option<Span>,
    #[serde(default)]
    pub(super) allow_suffix: bool,
}

fn auto() -> String {
    "auto".to_owned()
}

fn exact() -> MatchScope {
    MatchScope::Exact
}

fn blocked() -> BlockReason {
    BlockReason::Blocked
}

/// What a bare name in a list means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MatchScope {
    Exact,
    Subdomains,
}

/// `[control]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ControlTable {
    pub(super) listen: SocketAddr,
}

impl Default for ControlTable {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9153)) }
    }
}

/// A value that is written as text and read by its [`FromStr`].
macro_rules! written_as_text {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

/// A prefix of addresses, `192.0.2.0/24`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix(pub(super) IpNet);

written_as_text!(Prefix);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net =
            net.map_err(|_| format!("{text:?} is no address or prefix; write 192.0.2.0/24, 2001:db8::/32 or ::1"))?;
        match net.trunc() == net {
            true => Ok(Self(net)),
            false => Err(format!("{text} has bits set behind its length; write {}", net.trunc())),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => write!(f, "{}", self.0.addr()),
            false => write!(f, "{}", self.0),
        }
    }
}

/// A server that queries are forwarded to: `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:53`, or over TLS
/// `tls://192.0.2.1#dns.example` (port 853), `tls://192.0.2.1:8853#dns.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForwardTo {
    pub(super) server: SocketAddr,
    /// The name in the server's certificate, for TLS.
    pub(super) tls: Option<String>,
}

written_as_text!(ForwardTo);

impl FromStr for ForwardTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, tls) = match text.strip_prefix("tls://") {
            None => (text, None),
            Some(rest) => match rest.split_once('#') {
                Some((address, name)) if name.parse::<DomainName>().is_ok_and(|name| !name.is_root()) => {
                    (address, Some(name.trim_end_matches('.').to_owned()))
                }
                _ => {
                    return Err(format!(
                        "{text:?} does not say whom to trust; add the name in the server's certificate: tls://ADDRESS#NAME"
                    ));
                }
            },
        };
        let port = if tls.is_some() { 853 } else { 53 };
        match endpoint(address, port) {
            Some(server) => Ok(Self { server, tls }),
            None => Err(format!(
                "{text:?} is no server; write 192.0.2.1, 192.0.2.1:5353, 2001:db8::1, [2001:db8::1]:5353 or tls://192.0.2.1#dns.example"
            )),
        }
    }
}

impl fmt::Display for ForwardTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tls {
            Some(name) => write!(f, "tls://{}#{name}", self.server),
            None => write!(f, "{}", self.server),
        }
    }
}

/// An address with a port, 53 when none is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Endpoint(pub(super) SocketAddr);

written_as_text!(Endpoint);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        endpoint(text, 53).map(Self).ok_or_else(|| format!("{text:?} is no address; write 192.0.2.1 or 192.0.2.1:53"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

fn endpoint(text: &str, port: u16) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(address) => Some(SocketAddr::new(address, port)),
        Err(_) => text.parse().ok().filter(|address: &SocketAddr| address.port() != 0),
    }
}

/// A name as people write it, with or without a dot at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlainName(pub(super) DomainName);

written_as_text!(PlainName);

impl FromStr for PlainName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix("*.").unwrap_or(text);
        text.parse().map(Self).map_err(|error| format!("{text:?} is no name: {error}"))
    }
}

impl fmt::Display for PlainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// `action = "nxdomain"`, or `action = { cname = "block.example" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ActionValue(pub(super) Action);

impl<'de> Deserialize<'de> for ActionValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const WORDS: &[&str] = &["sinkhole", "nxdomain", "nodata", "refused", "drop", "truncate", "allow"];

        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ActionValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "one of {}, or {{ cname = \"name\" }}", WORDS.join(", "))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<ActionValue, E> {
                Ok(ActionValue(match word {
                    "sinkhole" => Action::Sinkhole,
                    "nxdomain" => Action::NxDomain,
                    "nodata" => Action::NoData,
                    "refused" => Action::Refused,
                    "drop" => Action::Drop,
                    "truncate" => Action::Truncate,
                    "allow" => Action::Allow,
                    other => return Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<ActionValue, A::Error> {
                let Some((key, target)) = map.next_entry::<String, DomainName>()? else {
                    return Err(de::Error::missing_field("cname"));
                };
                if key != "cname" {
                    return Err(de::Error::unknown_field(&key, &["cname"]));
                }
                match map.next_key::<String>()? {
                    Some(key) => Err(de::Error::unknown_field(&key, &["cname"])),
                    None => Ok(ActionValue(Action::Cname(target))),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for ActionValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Action::Cname(target) => serializer.collect_map([("cname", target)]),
            other => serializer.serialize_str(other.label()),
        }
    }
}
