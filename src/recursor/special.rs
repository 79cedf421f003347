//! Names and addresses that have no business in the public DNS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use smallvec::SmallVec;

use crate::name::{DomainName, Name};
use crate::query::{Question, Rcode, RecordType};

use super::message::{self, Rdata, RrSet};
use super::nat64::Nat64Prefix;
use super::{Resolution, Security, scrub};

/// How long clients may keep what is said here (as Unbound and RFC 6303, section 3).
const TTL: u32 = 10_800;

/// Zones that are empty here, so that the root and others are not asked for them.
///
/// RFC 6761 (`invalid`, `test`), RFC 7686 (`onion`), RFC 8375 (`home.arpa`), RFC 6762 leaves `local` to multicast, and
/// RFC 6303 and IANA's registry of locally-served zones name the reverse ones.
static EMPTY_ZONES: LazyLock<Vec<DomainName>> = LazyLock::new(|| {
    let mut zones: Vec<String> = [
        "invalid",
        "test",
        "onion",
        "local",
        "home.arpa",
        "resolver.arpa",
        "service.arpa",
        "10.in-addr.arpa",
        "168.192.in-addr.arpa",
        "0.in-addr.arpa",
        "254.169.in-addr.arpa",
        "2.0.192.in-addr.arpa",
        "100.51.198.in-addr.arpa",
        "113.0.203.in-addr.arpa",
        "255.255.255.255.in-addr.arpa",
        "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
        "d.f.ip6.arpa",
        "8.e.f.ip6.arpa",
        "9.e.f.ip6.arpa",
        "a.e.f.ip6.arpa",
        "b.e.f.ip6.arpa",
        "8.b.d.0.1.0.0.2.ip6.arpa",
    ]
    .map(str::to_owned)
    .into();
    zones.extend((16..32).map(|octet| format!("{octet}.172.in-addr.arpa")));
    zones.extend((64..128).map(|octet| format!("{octet}.100.in-addr.arpa")));
    zones.iter().map(|zone| zone.parse().expect("the table above holds names")).collect()
});

/// Where clients look for the translator's prefix, and the reverse names of its addresses (RFC 7050, RFC 8880).
static IPV4_ONLY: LazyLock<DomainName> = LazyLock::new(|| constant("ipv4only.arpa"));
static IPV4_ONLY_REVERSE: LazyLock<[DomainName; 2]> =
    LazyLock::new(|| ["170.0.0.192.in-addr.arpa", "171.0.0.192.in-addr.arpa"].map(constant));
const IPV4_ONLY_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

static RESOLVER_ARPA: LazyLock<DomainName> = LazyLock::new(|| constant("resolver.arpa"));
static LOCALHOST: LazyLock<DomainName> = LazyLock::new(|| constant("localhost"));
static LOOPBACK_V4: LazyLock<DomainName> = LazyLock::new(|| constant("127.in-addr.arpa"));
static LOOPBACK_V6: LazyLock<DomainName> =
    LazyLock::new(|| constant("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa"));

fn constant(text: &str) -> DomainName {
    text.parse().expect("a constant is a name")
}

/// The answer to a question about a special-use name; `None` for all other names.
///
/// The names by which clients find the `translator` are special only where there is one.
pub(super) fn answer(question: &Question, translator: Option<Nat64Prefix>) -> Option<Resolution> {
    let name = &*question.name;
    // All but a handful of names end here, at the cost of one look at their last label.
    let last = name.suffix(1).labels().next()?;
    if !matches!(last, b"localhost" | b"invalid" | b"test" | b"onion" | b"local" | b"arpa") {
        return None;
    }
    if name.is_at_or_below(&LOCALHOST) {
        // RFC 6761, section 6.3: the name and all below it are the loopback address.
        let data: Option<Rdata> = match question.qtype {
            RecordType::A => Some(Box::new(Ipv4Addr::LOCALHOST.octets())),
            RecordType::AAAA => Some(Box::new(Ipv6Addr::LOCALHOST.octets())),
            _ => None,
        };
        return Some(local(question, &LOCALHOST, data, true));
    }
    if let Some(found) = translator.and_then(|prefix| ipv4_only(question, prefix)) {
        return Some(found);
    }
    if name.is_at_or_below(&LOOPBACK_V4) || name.is_at_or_below(&LOOPBACK_V6) {
        let zone = if name.is_at_or_below(&LOOPBACK_V4) { &*LOOPBACK_V4 } else { &*LOOPBACK_V6 };
        let host = *name == **LOOPBACK_V6 || name.label_count() == 6 && name.labels().next() == Some(b"1");
        let data = (question.qtype == RecordType::PTR && host).then(|| LOCALHOST.as_wire().into());
        return Some(local(question, zone, data, host || name == &**zone));
    }
    let zone = EMPTY_ZONES.iter().find(|zone| name.is_at_or_below(zone))?;
    if is_the_parents(question, zone) {
        return None;
    }
    // That there is nothing is said of every name of a zone by which clients look for something of ours (RFC 9462,
    // section 4).
    Some(local(question, zone, None, name == &**zone || **zone == **RESOLVER_ARPA))
}

/// Whether the parent of `zone` is asked, who is no special name and proves that this one is not signed (RFC 6303,
/// section 7).
fn is_the_parents(question: &Question, zone: &Name) -> bool {
    question.qtype == RecordType::DS && *question.name == *zone
}

/// What a resolver that makes addresses says itself of the names that only it knows the addresses of (RFC 8880,
/// section 7).
fn ipv4_only(question: &Question, translator: Nat64Prefix) -> Option<Resolution> {
    let name = &*question.name;
    let mut zones = std::iter::once(&*IPV4_ONLY).chain(&*IPV4_ONLY_REVERSE);
    let zone = zones.find(|zone| name.is_at_or_below(zone)).filter(|zone| !is_the_parents(question, zone))?;
    let exists = *name == **zone;
    let data: SmallVec<[Rdata; 2]> = match question.qtype {
        _ if !exists => SmallVec::new(),
        RecordType::A if **zone == **IPV4_ONLY => IPV4_ONLY_ADDRESSES.map(|address| address.octets().into()).into(),
        RecordType::AAAA if **zone == **IPV4_ONLY => {
            IPV4_ONLY_ADDRESSES.map(|address| translator.embed(address).octets().into()).into()
        }
        RecordType::PTR if **zone != **IPV4_ONLY => SmallVec::from_iter([IPV4_ONLY.as_wire().into()]),
        _ => SmallVec::new(),
    };
    Some(local(question, zone, data, exists))
}

/// An answer from a zone that holds next to nothing.
fn local(question: &Question, zone: &Name, data: impl IntoIterator<Item = Rdata>, exists: bool) -> Resolution {
    let records = |name: &Name, rtype, rdata| RrSet {
        name: name.to_owned(),
        rtype,
        ttl: TTL,
        rdata,
        signatures: SmallVec::new(),
    };
    let apex = *question.name == *zone;
    let data: SmallVec<[Rdata; 2]> = match question.qtype {
        RecordType::SOA if apex => SmallVec::from_iter([soa()]),
        RecordType::NS if apex => SmallVec::from_iter([LOCALHOST.as_wire().into()]),
        _ => data.into_iter().collect(),
    };
    let rcode = if exists || !data.is_empty() { Rcode::NOERROR } else { Rcode::NXDOMAIN };
    let answer = (!data.is_empty()).then(|| records(&question.name, question.qtype, data));
    let authority = answer.is_none().then(|| records(zone, RecordType::SOA, SmallVec::from_iter([soa()])));
    let message = message::write_answer(
        (&question.name, question.qtype),
        rcode,
        answer.iter(),
        authority.iter(),
        question.dnssec_ok,
    );
    Resolution {
        rcode,
        message,
        security: Security::Indeterminate,
        ttl: TTL,
        errors: Vec::new(),
        particular: false,
        stripped: false,
    }
}

/// `localhost. nobody.invalid. 1 3600 1200 604800 10800` (RFC 6303, section 3).
fn soa() -> Rdata {
    let mut data = LOCALHOST.as_wire().to_vec();
    data.extend_from_slice(b"\x06nobody\x07invalid\0");
    for number in [1, 3600, 1200, 604_800, TTL] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    data.into()
}

/// Whether `address` is for special purposes, so that no public zone has a server there (RFC 6890 and IANA's registries).
pub(super) fn is_special_purpose(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            is_private_v4(address) || {
                let [a, b, c, _] = address.octets();
                matches!((a, b, c), (192, 0, 0 | 2) | (198, 18..=19, _) | (198, 51, 100) | (203, 0, 113) | (224.., ..))
            }
        }
        IpAddr::V6(address) => {
            is_private_v6(address) || {
                let [a, b, ..] = address.segments();
                // Discard-only, documentation, multicast.
                a == 0x0100 && b == 0 || a == 0x2001 && b == 0x0db8 || a & 0xff00 == 0xff00
            }
        }
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    matches!((a, b), (0 | 10 | 127, _) | (100, 64..=127) | (169, 254) | (172, 16..=31) | (192, 168))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    // Unspecified and loopback, unique local, link-local.
    address.is_unspecified() || address.is_loopback() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
}

/// Takes addresses of private networks out of a set (protection against DNS rebinding).
pub(super) fn drop_private_addresses(set: &mut RrSet) {
    let private: SmallVec<[bool; 4]> = scrub::addresses(set)
        .map(|address| match address.to_canonical() {
            IpAddr::V4(address) => is_private_v4(address),
            IpAddr::V6(address) => is_private_v6(address),
        })
        .collect();
    if private.len() == set.rdata.len() {
        let mut private = private.into_iter();
        set.rdata.retain(|_| private.next() == Some(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, qtype: RecordType) -> Option<(Rcode, usize)> {
        let question = Question::new(&name.parse::<DomainName>().unwrap(), qtype);
        let resolution = answer(&question, None)?;
        Some((resolution.rcode, message::parse(&resolution.message).unwrap().answer.len()))
    }

    #[test]
    fn clients_find_the_translator_where_there_is_one() {
        let data = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        let ask = |name: &str, qtype, translator| {
            let question = Question::new(&name.parse::<DomainName>().unwrap(), qtype);
            let resolution = answer(&question, translator)?;
            let message = message::parse(&resolution.message).unwrap();
            let rdata: Vec<_> = message.answer.iter().flat_map(|set| &set.rdata).map(|data| data.to_vec()).collect();
            Some((resolution.rcode, rdata))
        };
        let translator = Some(Nat64Prefix::WELL_KNOWN);
        for (name, qtype, expected) in [
            (
                "ipv4only.arpa",
                RecordType::AAAA,
                Some((Rcode::NOERROR, vec![data("64:ff9b::192.0.0.170"), data("64:ff9b::192.0.0.171")])),
            ),
            ("ipv4only.arpa", RecordType::A, Some((Rcode::NOERROR, vec![vec![192, 0, 0, 170], vec![192, 0, 0, 171]]))),
            ("ipv4only.arpa", RecordType::MX, Some((Rcode::NOERROR, vec![]))),
            ("ipv4only.arpa", RecordType::DS, None),
            ("www.ipv4only.arpa", RecordType::AAAA, Some((Rcode::NXDOMAIN, vec![]))),
            (
                "171.0.0.192.in-addr.arpa",
                RecordType::PTR,
                Some((Rcode::NOERROR, vec![b"\x08ipv4only\x04arpa\0".to_vec()])),
            ),
            ("171.0.0.192.in-addr.arpa", RecordType::A, Some((Rcode::NOERROR, vec![]))),
            ("172.0.0.192.in-addr.arpa", RecordType::PTR, None),
        ] {
            assert_eq!(ask(name, qtype, translator), expected, "{name} {qtype}");
            assert_eq!(ask(name, qtype, None), None, "{name} is a name like others without a translator");
        }
    }

    #[test]
    fn special_names_are_answered_here_and_others_are_not() {
        for (name, qtype, expected) in [
            ("localhost", RecordType::A, Some((Rcode::NOERROR, 1))),
            ("a.localhost", RecordType::AAAA, Some((Rcode::NOERROR, 1))),
            ("localhost", RecordType::MX, Some((Rcode::NOERROR, 0))),
            ("x.onion", RecordType::A, Some((Rcode::NXDOMAIN, 0))),
            ("home.arpa", RecordType::DS, None),
            ("x.home.arpa", RecordType::A, Some((Rcode::NXDOMAIN, 0))),
            ("_dns.resolver.arpa", RecordType::SVCB, Some((Rcode::NOERROR, 0))),
            ("home.arpa", RecordType::SOA, Some((Rcode::NOERROR, 1))),
            ("1.0.0.127.in-addr.arpa", RecordType::PTR, Some((Rcode::NOERROR, 1))),
            ("9.9.168.192.in-addr.arpa", RecordType::PTR, Some((Rcode::NXDOMAIN, 0))),
            ("5.20.172.in-addr.arpa", RecordType::PTR, Some((Rcode::NXDOMAIN, 0))),
            ("5.32.172.in-addr.arpa", RecordType::PTR, None),
            ("example.kz", RecordType::A, None),
            ("localhost.kz", RecordType::A, None),
            (".", RecordType::NS, None),
        ] {
            assert_eq!(ask(name, qtype), expected, "{name} {qtype}");
        }
    }

    #[test]
    fn special_purpose_addresses_are_known() {
        for (address, special) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("100.64.0.1", true),
            ("192.0.2.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("fd00::1", true),
            ("255.255.255.255", true),
            ("193.0.14.129", false),
            ("2001:7fd::1", false),
            ("100.128.0.1", false),
        ] {
            assert_eq!(is_special_purpose(address.parse().unwrap()), special, "{address}");
        }
    }
}
