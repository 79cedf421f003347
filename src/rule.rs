//! What an entry in a list can say.
//!
//! A [`Rule`] is a line that a parser of [`list::syntax`](crate::list) has
//! understood; [`compile`](crate::compile) merges rules into a snapshot and
//! [`policy`](crate::policy) decides by them.

pub mod owner;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::name::DomainName;
use crate::query::RecordType;

pub use owner::Owner;

/// A list of the configuration, by its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListId(pub u16);

impl ListId {
    /// The place of the list among the configured ones, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Which names a rule covers, seen from the name it is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The name itself and nothing else: `example.org` in a hosts file.
    Exact,
    /// Every name below it, not the name itself: `*.example.org` in RPZ.
    Below,
    /// The name and every name below it: `||example.org^`.
    Subdomains,
}

/// What brought a name or address before the [`policy`](crate::policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// The name in the question.
    Qname,
    /// The target of an alias in the answer.
    Cname,
    /// An address in the answer.
    Ip,
    /// The name of a name server on the way.
    NsDname,
    /// The address of a name server on the way.
    NsIp,
    /// The client's address.
    Client,
}

impl Trigger {
    /// The closed set of labels that metrics use, in the order of the variants.
    pub const LABELS: [&str; 6] = ["qname", "cname", "ip", "nsdname", "nsip", "client"];
}

/// What is done with a query that a rule decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The sinkhole's addresses for A and AAAA, NODATA for the rest.
    Sinkhole,
    /// The name does not exist.
    NxDomain,
    /// The name has no data of the type.
    NoData,
    /// RCODE REFUSED.
    Refused,
    /// No answer at all.
    Drop,
    /// An empty answer with TC over UDP, so that the client asks by TCP, where it passes (RPZ `rpz-tcp-only`).
    Truncate,
    /// An alias to another name; a target under `*.` has the query name put in place of the star.
    Cname(DomainName),
    /// These records, and NODATA for types that are not among them.
    Records(Vec<LocalRecord>),
    /// Not blocked by this tier or any below it.
    Allow,
}

impl Action {
    /// The closed set of labels that metrics use.
    pub const LABELS: [&str; 9] =
        ["sinkhole", "nxdomain", "nodata", "refused", "drop", "truncate", "cname", "records", "allow"];

    /// The action of this label, of those that need no more said than that.
    pub fn from_label(label: &str) -> Option<Self> {
        Some(match label {
            "sinkhole" => Self::Sinkhole,
            "nxdomain" => Self::NxDomain,
            "nodata" => Self::NoData,
            "refused" => Self::Refused,
            "drop" => Self::Drop,
            "truncate" => Self::Truncate,
            "allow" => Self::Allow,
            _ => return None,
        })
    }

    /// The place of this action in [`Action::LABELS`].
    pub fn index(&self) -> usize {
        match self {
            Self::Sinkhole => 0,
            Self::NxDomain => 1,
            Self::NoData => 2,
            Self::Refused => 3,
            Self::Drop => 4,
            Self::Truncate => 5,
            Self::Cname(_) => 6,
            Self::Records(_) => 7,
            Self::Allow => 8,
        }
    }

    /// The word for this action in the configuration, in lists, metrics and reports.
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cname(target) => write!(f, "cname {target}"),
            other => f.write_str(other.label()),
        }
    }
}

/// A record that a rule answers with; its owner is the query name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalRecord {
    /// The type of the record.
    pub rtype: RecordType,
    /// Its time to live in seconds, when the list gives one.
    pub ttl: Option<u32>,
    /// Its data in uncompressed wire form.
    pub rdata: Box<[u8]>,
}

impl LocalRecord {
    /// An address record without a time to live of its own.
    pub fn a(address: Ipv4Addr) -> Self {
        Self { rtype: RecordType::A, ttl: None, rdata: Box::from(address.octets()) }
    }

    /// An IPv6 address record without a time to live of its own.
    pub fn aaaa(address: Ipv6Addr) -> Self {
        Self { rtype: RecordType::AAAA, ttl: None, rdata: Box::from(address.octets()) }
    }
}

/// The reason that a blocked answer gives (RFC 8914, sections 4.16 to 4.18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockReason {
    /// 15, Blocked: the operator's own decision, for security.
    Blocked,
    /// 16, Censored: an outside authority requires it.
    Censored,
    /// 17, Filtered: the client's side asked for it.
    Filtered,
    /// No Extended DNS Error.
    None,
}

impl BlockReason {
    /// The INFO-CODE, when there is one.
    pub fn code(self) -> Option<u16> {
        match self {
            Self::Blocked => Some(15),
            Self::Censored => Some(16),
            Self::Filtered => Some(17),
            Self::None => None,
        }
    }
}

/// Which query types a rule is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TypeFilter {
    /// Every type.
    #[default]
    All,
    /// Only these.
    Only(Vec<RecordType>),
    /// All but these.
    Except(Vec<RecordType>),
}

impl TypeFilter {
    /// Whether a query for `qtype` is meant.
    pub fn covers(&self, qtype: RecordType) -> bool {
        match self {
            Self::All => true,
            Self::Only(types) => types.contains(&qtype),
            Self::Except(types) => !types.contains(&qtype),
        }
    }
}

/// One entry of a list, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What the entry is written for.
    pub owner: Owner,
    /// Which names it covers; of no meaning for addresses.
    pub scope: Scope,
    /// What to do; `None` leaves it to the list.
    pub action: Option<Action>,
    /// Wins over every rule of its tier that is not important, also over an allow.
    pub important: bool,
    /// Its matches are counted and block nothing (an `inform` zone of Unbound).
    pub shadow: bool,
    /// The query types it is for.
    pub types: TypeFilter,
    /// Names, with all below them, that the rule leaves alone (`$denyallow`).
    pub except: Vec<DomainName>,
    /// Who ordered it, why, and until when.
    pub dossier: Option<Box<Dossier>>,
}

impl Rule {
    /// A plain rule that leaves everything else to its list.
    pub fn new(owner: impl Into<Owner>, scope: Scope) -> Self {
        Self {
            owner: owner.into(),
            scope,
            action: None,
            important: false,
            shadow: false,
            types: TypeFilter::All,
            except: Vec::new(),
            dossier: None,
        }
    }
}

/// What is on file about an entry: the order behind it, and how to answer for it.
///
/// Times are seconds since 1970 in UTC. All texts are as the list has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dossier {
    /// The number of the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// Who gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The law and article it rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legal_basis: Option<String>,
    /// What kind of content it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Where it is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    /// Why, in words for the person who meets the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where to object: a URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// The language of the texts (BCP 47).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// The place of the entry in the register it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<String>,
    /// The reason to give, when it is not the list's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ede: Option<BlockReason>,
    /// The EXTRA-TEXT to give, when it is not the list's template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ede_text: Option<String>,
    /// When the order was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<u64>,
    /// The entry does not match before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_at: Option<u64>,
    /// The entry does not match from this time on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// Columns and keys of the list that have no meaning here, kept as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

impl Dossier {
    /// Its texts by the key that each has in a list, in the order of the snapshot file.
    pub fn texts(&self) -> [(&'static str, &Option<String>); 10] {
        [
            ("order_id", &self.order_id),
            ("authority", &self.authority),
            ("legal_basis", &self.legal_basis),
            ("category", &self.category),
            ("jurisdiction", &self.jurisdiction),
            ("reason", &self.reason),
            ("contact", &self.contact),
            ("lang", &self.lang),
            ("source_ref", &self.source_ref),
            ("ede_text", &self.ede_text),
        ]
    }

    /// Its times by their keys, in the same order.
    pub fn times(&self) -> [(&'static str, Option<u64>); 3] {
        [("issued_at", self.issued_at), ("effective_at", self.effective_at), ("expires_at", self.expires_at)]
    }
}

impl Dossier {
    /// Whether the entry is in force at `wall`, in seconds since 1970.
    pub fn in_force(&self, wall: u64) -> bool {
        self.effective_at.is_none_or(|from| from <= wall) && self.expires_at.is_none_or(|until| wall < until)
    }
}
