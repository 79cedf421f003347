//! The configuration file as written: one struct for each table, one field for each key.
//!
//! The tables take their defaults from the modules that own the settings, so
//! that a key left out means what the code does without it. What one value
//! alone can get wrong is found while it is read, by its type; what takes more
//! than one is found in [`check`](super::check).

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::units::{Size, Span};
use crate::answer::cookie;
use crate::list::{BadUtcOffset, BareAddress, Format, HostsAddress, ListSettings, MatchScope, Source, UtcOffset};
use crate::name::{self, DomainName};
use crate::recursor::nat64::{Nat64Prefix, Nat64PrefixError};
use crate::recursor::network::Protocol;
use crate::recursor::settings::Minimisation;
use crate::rule::{Action, BlockReason};
use crate::{answer, cache, compile, control, front, pipeline, policy, recursor};

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) server: ServerTable,
    pub(super) limits: LimitsTable,
    pub(super) resolver: ResolverTable,
    pub(super) cache: CacheTable,
    pub(super) sinkhole: SinkholeTable,
    pub(super) protect: ProtectTable,
    pub(super) guard: GuardTable,
    pub(super) list: Vec<ListTable>,
    pub(super) control: ControlTable,
}

/// `[server]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ServerTable {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) allow_clients: Vec<Prefix>,
    pub(super) refuse_clients: Vec<Prefix>,
    pub(super) ignore_clients: Vec<Prefix>,
    pub(super) workers: usize,
    pub(super) state_dir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) watch: Span,
    pub(super) drain: Span,
    pub(super) log: String,
    pub(super) log_format: LogFormat,
    pub(super) version: String,
    pub(super) identity: String,
    pub(super) extended_errors: bool,
    pub(super) cookies: bool,
    pub(super) require_cookies: bool,
    pub(super) cookie_secrets: Vec<CookieSecret>,
}

impl Default for ServerTable {
    fn default() -> Self {
        let (front, answer, daemon) =
            (front::Settings::default(), answer::Settings::default(), super::Server::default());
        Self {
            listen: front.listen,
            allow_clients: front.admission.allow.into_iter().map(Prefix).collect(),
            refuse_clients: front.admission.refuse.into_iter().map(Prefix).collect(),
            ignore_clients: front.admission.ignore.into_iter().map(Prefix).collect(),
            workers: front.workers,
            state_dir: None,
            user: daemon.user,
            watch: Span(daemon.watch),
            drain: Span(daemon.drain),
            log: daemon.log,
            log_format: daemon.log_format,
            version: answer.version.unwrap_or_default(),
            identity: answer.identity.unwrap_or_default(),
            extended_errors: answer.extended_errors,
            cookies: answer.cookies.enabled,
            require_cookies: answer.cookies.required,
            cookie_secrets: answer.cookies.secrets.into_iter().map(CookieSecret).collect(),
        }
    }
}

/// `[limits]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LimitsTable {
    pub(super) waiting: usize,
    pub(super) waiting_per_client: usize,
    pub(super) connections: usize,
    pub(super) connections_per_client: usize,
    pub(super) queries_per_connection: usize,
    pub(super) idle_timeout: Span,
}

impl Default for LimitsTable {
    fn default() -> Self {
        let front::Settings { admission, stream, .. } = front::Settings::default();
        Self {
            waiting: admission.max_waiting,
            waiting_per_client: admission.max_waiting_per_client,
            connections: stream.max_connections,
            connections_per_client: stream.max_connections_per_client,
            queries_per_connection: stream.max_in_flight,
            idle_timeout: Span(stream.idle_timeout),
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
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ResolverTable {
    pub(super) mode: Mode,
    pub(super) dnssec: Dnssec,
    pub(super) root_hints: Option<String>,
    pub(super) trust_anchors: Option<Vec<String>>,
    pub(super) negative_trust_anchors: Vec<PlainName>,
    pub(super) signal_anchors: bool,
    pub(super) accept_sha1: bool,
    pub(super) nsec3_iterations: u16,
    pub(super) signature_skew: Span,
    pub(super) aggressive_denial: bool,
    pub(super) allow_upstream: Vec<Prefix>,
    pub(super) deny_upstream: Vec<Prefix>,
    pub(super) case_randomisation: bool,
    pub(super) cookies: bool,
    pub(super) query_minimisation: Minimisation,
    pub(super) upstream_ipv4: bool,
    pub(super) upstream_ipv6: bool,
    pub(super) nat64: Option<Translator>,
    pub(super) dns64: Option<Dns64Table>,
    pub(super) special_names: bool,
    pub(super) rebinding_protection: bool,
    pub(super) private_domains: Vec<PlainName>,
    pub(super) edns_payload: u16,
    pub(super) client_timeout: Span,
    pub(super) any: pipeline::AnyQueries,
    pub(super) non_recursive: pipeline::NonRecursive,
    pub(super) tls_ca_files: Vec<String>,
    pub(super) standard_port: u16,
    pub(super) port_map: BTreeMap<Endpoint, SocketAddr>,
    pub(super) forward: Vec<ForwardTable>,
}

impl Default for ResolverTable {
    fn default() -> Self {
        let resolver = recursor::Settings::default();
        let pipeline = pipeline::Settings::default();
        Self {
            mode: Mode::Recursive,
            dnssec: if resolver.validate { Dnssec::Validate } else { Dnssec::Off },
            root_hints: None,
            trust_anchors: None,
            negative_trust_anchors: resolver.dnssec.negative_anchors.into_iter().map(PlainName).collect(),
            signal_anchors: resolver.signal_anchors,
            accept_sha1: resolver.dnssec.accept_sha1,
            nsec3_iterations: resolver.dnssec.nsec3_iterations,
            signature_skew: Span(resolver.dnssec.signature_skew),
            aggressive_denial: resolver.aggressive_denial,
            allow_upstream: resolver.allow_upstream.into_iter().map(Prefix).collect(),
            deny_upstream: resolver.deny_upstream.into_iter().map(Prefix).collect(),
            case_randomisation: resolver.case_randomisation,
            cookies: resolver.cookies,
            query_minimisation: resolver.query_minimisation,
            upstream_ipv4: resolver.ipv4,
            upstream_ipv6: resolver.ipv6,
            nat64: resolver.nat64.map(Translator),
            dns64: None,
            special_names: resolver.special_names,
            rebinding_protection: resolver.rebinding_protection,
            private_domains: resolver.private_domains.into_iter().map(PlainName).collect(),
            edns_payload: resolver.edns_payload,
            client_timeout: Span(pipeline.patience.client_timeout),
            any: pipeline.any,
            non_recursive: pipeline.non_recursive,
            tls_ca_files: Vec::new(),
            standard_port: 53,
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

/// `[[resolver.forward]]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ForwardTable {
    pub(super) zone: PlainName,
    pub(super) to: Vec<ForwardTo>,
    /// The servers have the zone themselves; they are asked without RD.
    #[serde(default)]
    pub(super) stub: bool,
    /// The zone's own servers are asked when these do not answer.
    #[serde(default)]
    pub(super) fall_back: bool,
    /// Answers are kept until their TTL ends.
    #[serde(default = "yes")]
    pub(super) cache: bool,
}

fn yes() -> bool {
    true
}

/// `[resolver.dns64]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Dns64Table {
    pub(super) prefix: Translator,
    /// Names whose own IPv6 addresses are passed over, with all below them.
    #[serde(default)]
    pub(super) ignore_aaaa: Vec<PlainName>,
}

/// `[cache]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CacheTable {
    pub(super) max_bytes: Size,
    pub(super) record_bytes: Size,
    pub(super) prefetch: bool,
    pub(super) min_ttl: Span,
    pub(super) max_ttl: Span,
    pub(super) serve_stale: Span,
    pub(super) stale_client_timeout: Span,
    pub(super) stale_ttl: Span,
    pub(super) stale_recheck: Span,
}

impl Default for CacheTable {
    fn default() -> Self {
        let cache::Settings { max_bytes, prefetch, min_ttl, max_ttl, stale } = cache::Settings::default();
        Self {
            max_bytes: Size(max_bytes),
            record_bytes: Size(recursor::Settings::default().cache_bytes),
            prefetch,
            min_ttl: Span::seconds(min_ttl),
            max_ttl: Span::seconds(max_ttl),
            serve_stale: Span(stale.window),
            stale_client_timeout: Span(stale.client_timer),
            stale_ttl: Span::seconds(stale.ttl),
            stale_recheck: Span(stale.recheck),
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
        let answer = answer::Settings::default();
        Self {
            ipv4: answer.sinkhole_ipv4,
            ipv6: answer.sinkhole_ipv6,
            ttl: Span::seconds(policy::Settings::default().block_ttl),
        }
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
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ListTable {
    pub(super) name: String,
    pub(super) source: Option<String>,
    pub(super) inline: Option<String>,
    pub(super) format: Format,
    #[serde(rename = "match")]
    pub(super) match_scope: MatchScope,
    pub(super) wildcard_apex: Option<bool>,
    pub(super) action: ActionValue,
    /// Another way to write `action = { cname = "…" }`.
    pub(super) cname: Option<DomainName>,
    pub(super) override_action: Option<ActionValue>,
    pub(super) ede: BlockReason,
    pub(super) ede_text: Option<String>,
    pub(super) priority: i32,
    pub(super) shadow: bool,
    pub(super) ttl: Option<Span>,
    pub(super) allow_suffix: bool,
    pub(super) hosts_ip: HostsAddress,
    pub(super) bare_ip: BareAddress,
    pub(super) csv_delimiter: char,
    pub(super) utc_offset: Offset,
    pub(super) refresh: Span,
    pub(super) timeout: Span,
    pub(super) tls_ca_files: Vec<String>,
    pub(super) max_bytes: Size,
    pub(super) max_lines: u64,
    pub(super) max_errors: Option<u64>,
    pub(super) max_error_percent: u8,
}

impl Default for ListTable {
    fn default() -> Self {
        let list = ListSettings::new("", Source::Inline(String::new()));
        Self {
            name: list.name,
            source: None,
            inline: None,
            format: list.format,
            match_scope: list.match_scope,
            wildcard_apex: list.wildcard_apex,
            action: ActionValue(list.action),
            cname: None,
            override_action: list.override_action.map(ActionValue),
            ede: list.reason,
            ede_text: list.ede_text,
            priority: list.priority,
            shadow: list.shadow,
            ttl: list.ttl.map(Span::seconds),
            allow_suffix: list.allow_suffix,
            hosts_ip: list.hosts_address,
            bare_ip: list.bare_address,
            csv_delimiter: char::from(list.csv_delimiter),
            utc_offset: Offset(list.utc_offset),
            refresh: Span(list.refresh),
            timeout: Span(list.timeout),
            tls_ca_files: Vec::new(),
            max_bytes: Size(list.limits.max_bytes),
            max_lines: list.limits.max_lines,
            max_errors: list.limits.max_errors,
            max_error_percent: list.limits.max_error_percent,
        }
    }
}

/// `[guard]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct GuardTable {
    pub(super) min_entries: u64,
    pub(super) max_growth_percent: u64,
    pub(super) min_size_percent: u64,
    pub(super) generations: usize,
}

impl Default for GuardTable {
    fn default() -> Self {
        let compile::Settings { guards, keep, .. } = compile::Settings::default();
        Self {
            min_entries: guards.min_entries,
            max_growth_percent: guards.max_growth_percent.unwrap_or(0),
            min_size_percent: guards.min_size_percent.unwrap_or(0),
            generations: keep,
        }
    }
}

/// `[control]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ControlTable {
    pub(super) listen: SocketAddr,
    pub(super) allow_clients: Vec<Prefix>,
    pub(super) hosts: Vec<String>,
}

impl Default for ControlTable {
    fn default() -> Self {
        let control::Settings { listen, allow_clients, hosts } = control::Settings::default();
        Self { listen, allow_clients: allow_clients.into_iter().map(Prefix).collect(), hosts }
    }
}

/// A value that is written as text and read by its [`FromStr`].
macro_rules! written_as_text {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Read by a visitor, so that a fault is told with its place.
                deserializer.deserialize_str(TextVisitor(PhantomData))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
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

/// A secret that cookies are made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CookieSecret(pub(super) cookie::Secret);

written_as_text!(CookieSecret);

impl FromStr for CookieSecret {
    type Err = cookie::BadSecret;

    fn from_str(text: &str) -> Result<Self, cookie::BadSecret> {
        text.parse().map(Self)
    }
}

impl fmt::Display for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The prefix of a translator between IPv4 and IPv6: `64:ff9b::/96`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Translator(pub(super) Nat64Prefix);

written_as_text!(Translator);

impl FromStr for Translator {
    type Err = Nat64PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Translator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A server that queries are forwarded to: `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:53`, over TCP
/// `tcp://192.0.2.1`, or over TLS `tls://192.0.2.1#dns.example` (port 853), `tls://192.0.2.1:8853#dns.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForwardTo {
    pub(super) server: SocketAddr,
    pub(super) protocol: Protocol,
}

written_as_text!(ForwardTo);

impl FromStr for ForwardTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, port, protocol) = match text.split_once("://") {
            Some(("tls", rest)) => match rest.split_once('#') {
                Some((address, name)) if name.parse::<DomainName>().is_ok_and(|name| !name.is_root()) => {
                    (address, 853, Protocol::Tls { server_name: name.trim_end_matches('.').to_owned() })
                }
                _ => {
                    return Err(format!(
                        "{text:?} does not say whom to trust; add the name in the server's certificate: tls://ADDRESS#NAME"
                    ));
                }
            },
            Some(("tcp", rest)) => (rest, 53, Protocol::Tcp),
            _ => (text, 53, Protocol::Udp),
        };
        match endpoint(address, port) {
            Some(server) => Ok(Self { server, protocol }),
            None => Err(format!(
                "{text:?} is no server; write 192.0.2.1, 192.0.2.1:5353, 2001:db8::1, [2001:db8::1]:5353, \
                 tcp://192.0.2.1 or tls://192.0.2.1#dns.example"
            )),
        }
    }
}

impl fmt::Display for ForwardTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.protocol {
            Protocol::Udp => write!(f, "{}", self.server),
            Protocol::Tcp => write!(f, "tcp://{}", self.server),
            Protocol::Tls { server_name } => write!(f, "tls://{}#{server_name}", self.server),
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
        let name = name::to_ascii(text).and_then(|text| text.parse());
        name.map(Self).map_err(|error| format!("{text:?} is no name: {error}"))
    }
}

impl fmt::Display for PlainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset(pub(super) UtcOffset);

written_as_text!(Offset);

impl FromStr for Offset {
    type Err = BadUtcOffset;

    fn from_str(text: &str) -> Result<Self, BadUtcOffset> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
                let action = Action::from_label(word);
                action.map(ActionValue).ok_or_else(|| E::invalid_value(de::Unexpected::Str(word), &self))
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
