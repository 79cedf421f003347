//! What a rule is written for, and the key that it is sorted and filed by.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Trigger;
use crate::name::{DomainName, MAX_KEY_LEN, Name};

/// What a rule is written for: the five kinds of triggers of a response policy zone.
///
/// Shown as such a zone has it, relative to its apex: `ads.example`, `ns.example.rpz-nsdname`, `24.0.2.0.192.rpz-ip`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A name that is asked for, or that an answer leads to.
    Name(DomainName),
    /// The name of a name server.
    NameServer(DomainName),
    /// Addresses in answers.
    Answer(IpNet),
    /// Addresses of name servers.
    NameServerAddress(IpNet),
    /// Addresses of clients.
    Client(IpNet),
}

/// The longest key of an owner.
pub const MAX_OWNER_KEY_LEN: usize = MAX_KEY_LEN + NAME_SERVER_KEY.len();

/// What no key of a name begins with: their labels are not empty, and a zero inside is escaped.
const NO_NAME: u8 = 0;

/// What the keys of name servers' names begin with; their [`Name::reversed_key`] follows.
pub const NAME_SERVER_KEY: [u8; 2] = [NO_NAME, Trigger::NsDname as u8];

/// What the keys of the addresses that come up by `trigger` begin with. The length of the prefix follows, its sixteen
/// octets, and a zero; IPv4 is `::ffff:0:0/96`.
pub const fn address_key(trigger: Trigger) -> [u8; 2] {
    [NO_NAME, trigger as u8]
}

/// The octets of an address in a key, as far as a prefix of `length` has them.
pub fn address_octets(address: IpAddr, length: u8) -> [u8; 16] {
    let bits = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
    (bits & mask).to_be_bytes()
}

/// How many octets two keys begin with alike.
#[inline]
pub fn shared_prefix(one: &[u8], other: &[u8]) -> usize {
    let mut shared = 0;
    for (a, b) in one.as_chunks::<8>().0.iter().zip(other.as_chunks().0) {
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return shared + differ.trailing_zeros() as usize / 8;
        }
        shared += 8;
    }
    shared + one[shared..].iter().zip(&other[shared..]).take_while(|(a, b)| a == b).count()
}

/// Whether `key` is that of a name that is asked for.
pub fn is_name_key(key: &[u8]) -> bool {
    key.first() != Some(&NO_NAME)
}

/// What brings up the rules that are filed under `key`.
pub fn trigger_of_key(key: &[u8]) -> Trigger {
    match key {
        [NO_NAME, kind, ..] => [Trigger::Ip, Trigger::NsDname, Trigger::NsIp, Trigger::Client]
            .into_iter()
            .find(|trigger| *trigger as u8 == *kind)
            .unwrap_or(Trigger::Qname),
        _ => Trigger::Qname,
    }
}

impl Owner {
    /// The owner of the addresses of `prefix` that come up by `trigger`; none by one that brings up names.
    pub fn address(trigger: Trigger, prefix: IpNet) -> Option<Self> {
        Some(match trigger {
            Trigger::Ip => Self::Answer(prefix),
            Trigger::NsIp => Self::NameServerAddress(prefix),
            Trigger::Client => Self::Client(prefix),
            Trigger::Qname | Trigger::Cname | Trigger::NsDname => return None,
        })
    }

    /// What brings it up; a name may also be led to, by [`Trigger::Cname`].
    pub fn trigger(&self) -> Trigger {
        match self {
            Self::Name(_) => Trigger::Qname,
            Self::NameServer(_) => Trigger::NsDname,
            Self::Answer(_) => Trigger::Ip,
            Self::NameServerAddress(_) => Trigger::NsIp,
            Self::Client(_) => Trigger::Client,
        }
    }

    /// The name, when it is one.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Name(name) | Self::NameServer(name) => Some(name),
            Self::Answer(_) | Self::NameServerAddress(_) | Self::Client(_) => None,
        }
    }

    /// The addresses, when it is a prefix.
    pub fn prefix(&self) -> Option<IpNet> {
        match self {
            Self::Answer(prefix) | Self::NameServerAddress(prefix) | Self::Client(prefix) => Some(*prefix),
            Self::Name(_) | Self::NameServer(_) => None,
        }
    }

    /// The key: that of a name is its [`Name::reversed_key`], and all others sort apart from those.
    pub fn key<'b>(&self, buffer: &'b mut [u8; MAX_OWNER_KEY_LEN]) -> &'b [u8] {
        let name_at = |buffer: &mut [u8], at: usize, name: &Name| {
            let room = buffer[at..].first_chunk_mut().expect("there is room for both");
            name.reversed_key(room).len()
        };
        let len = match self {
            Self::Name(name) => name_at(buffer, 0, name),
            Self::NameServer(name) => {
                let start = NAME_SERVER_KEY.len();
                buffer[..start].copy_from_slice(&NAME_SERVER_KEY);
                // The key of the root is empty; here it ends like all others with the zero that closes it.
                buffer[start] = 0;
                start + name_at(buffer, start, name).max(1)
            }
            Self::Answer(prefix) | Self::NameServerAddress(prefix) | Self::Client(prefix) => {
                let length = prefix.prefix_len() + if prefix.addr().is_ipv4() { 96 } else { 0 };
                buffer[..2].copy_from_slice(&address_key(self.trigger()));
                buffer[2] = length;
                buffer[3..19].copy_from_slice(&address_octets(prefix.addr(), length));
                buffer[19] = 0;
                20
            }
        };
        &buffer[..len]
    }

    /// The owner that has this key; none has a forged one.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        if is_name_key(key) {
            return DomainName::from_reversed_key(key).ok().map(Self::Name);
        }
        if let Some(key) = key.strip_prefix(&NAME_SERVER_KEY) {
            let key = if key == [0] { &[] } else { key };
            return DomainName::from_reversed_key(key).ok().map(Self::NameServer);
        }
        let [_, _, length, octets @ .., 0] = key else { return None };
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?);
        let prefix = match address.to_ipv4_mapped() {
            Some(v4) if *length >= 96 => IpNet::V4(Ipv4Net::new(v4, length - 96).ok()?),
            _ => IpNet::V6(Ipv6Net::new(address, *length).ok()?),
        };
        Self::address(trigger_of_key(key), prefix)
    }
}

impl From<DomainName> for Owner {
    fn from(name: DomainName) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::NameServer(name) if name.is_root() => f.write_str("rpz-nsdname"),
            Self::NameServer(name) => write!(f, "{name}.rpz-nsdname"),
            Self::Answer(prefix) => write!(f, "{}.rpz-ip", Backwards(*prefix)),
            Self::NameServerAddress(prefix) => write!(f, "{}.rpz-nsip", Backwards(*prefix)),
            Self::Client(prefix) => write!(f, "{}.rpz-client-ip", Backwards(*prefix)),
        }
    }
}

/// A prefix as labels: its length, then the address backwards (draft-vixie-dnsop-dns-rpz-00, section 4.1.1).
struct Backwards(IpNet);

impl fmt::Display for Backwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.prefix_len())?;
        match self.0.addr() {
            IpAddr::V4(v4) => v4.octets().iter().rev().try_for_each(|octet| write!(f, ".{octet}")),
            IpAddr::V6(v6) => {
                let mut words: Vec<String> = v6.segments().iter().map(|word| format!("{word:x}")).collect();
                let run = longest_run_of_zeros(v6.segments());
                if run.len() > 1 {
                    words.splice(run, ["zz".to_owned()]);
                }
                words.iter().rev().try_for_each(|word| write!(f, ".{word}"))
            }
        }
    }
}

fn longest_run_of_zeros(words: [u16; 8]) -> std::ops::Range<usize> {
    let mut longest = 0..0;
    let mut start = 0;
    for (at, word) in words.iter().enumerate() {
        if *word != 0 {
            start = at + 1;
        } else if at + 1 - start > longest.len() {
            longest = start..at + 1;
        }
    }
    longest
}

/// Reads a prefix from labels: `24.0.2.0.192` is 192.0.2.0/24, and `48.zz.db8.2001` is 2001:db8::/48.
///
/// # Errors
///
/// When the labels are something else, in a few words.
pub fn prefix_from_labels(labels: &[&[u8]]) -> Result<IpNet, &'static str> {
    const BAD: &str = "no prefix; write its length, then the address backwards, as in 24.0.2.0.192";
    const LENGTH: &str = "a prefix length is from 1 to 32, or to 128 for IPv6";
    let Some((length, rest)) = labels.split_first() else { return Err(BAD) };
    let decimal = |label: &[u8]| -> Option<u16> {
        let plain = !label.is_empty() && label.len() <= 3 && label.iter().all(u8::is_ascii_digit);
        plain.then(|| label.iter().fold(0, |number, octet| number * 10 + u16::from(octet - b'0')))
    };
    let length = u8::try_from(decimal(length).ok_or(BAD)?).map_err(|_| LENGTH)?;
    let prefix = if rest.len() == 4 && !rest.contains(&&b"zz"[..]) {
        let mut octets = [0; 4];
        for (octet, label) in octets.iter_mut().zip(rest.iter().rev()) {
            *octet = decimal(label).and_then(|number| u8::try_from(number).ok()).ok_or(BAD)?;
        }
        IpNet::V4(Ipv4Net::new(Ipv4Addr::from(octets), length).map_err(|_| LENGTH)?)
    } else {
        let mut words = Vec::new();
        for label in rest.iter().rev() {
            if *label == b"zz" {
                words.extend(std::iter::repeat_n(0, 9_usize.saturating_sub(rest.len())));
            } else {
                let text = std::str::from_utf8(label).ok().filter(|text| text.len() <= 4).ok_or(BAD)?;
                words.push(u16::from_str_radix(text, 16).map_err(|_| BAD)?);
            }
        }
        let words: [u16; 8] = words.try_into().map_err(|_| BAD)?;
        IpNet::V6(Ipv6Net::new(Ipv6Addr::from(words), length).map_err(|_| LENGTH)?)
    };
    if length == 0 {
        return Err(LENGTH);
    }
    if prefix.addr() != prefix.network() {
        return Err("bits are set behind the prefix");
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    #[test]
    fn owners_are_shown_as_a_policy_zone_has_them() {
        for (owner, text) in [
            (Owner::Name(name("a.example")), "a.example"),
            (Owner::NameServer(name("ns.example")), "ns.example.rpz-nsdname"),
            (Owner::Answer("192.0.2.0/24".parse().unwrap()), "24.0.2.0.192.rpz-ip"),
            (Owner::NameServerAddress("2001:db8::/48".parse().unwrap()), "48.zz.db8.2001.rpz-nsip"),
            (Owner::NameServerAddress("::/1".parse().unwrap()), "1.zz.rpz-nsip"),
            (Owner::Client("2001:db8:0:1::1/128".parse().unwrap()), "128.1.zz.1.0.db8.2001.rpz-client-ip"),
        ] {
            assert_eq!(owner.to_string(), text);
            if let Some(prefix) = owner.prefix() {
                let labels: Vec<&[u8]> = text.rsplit_once('.').unwrap().0.split('.').map(str::as_bytes).collect();
                assert_eq!(prefix_from_labels(&labels), Ok(prefix), "{text}");
            }
        }
    }

    fn any_name() -> impl Strategy<Value = DomainName> {
        let label = proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), any::<u8>()], 1..8);
        proptest::collection::vec(label, 0..6)
            .prop_map(|labels| labels.iter().fold(DomainName::root(), |name, label| name.child(label).unwrap()))
    }

    fn any_prefix() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<u32>(), 0..=32_u8).prop_map(|(bits, len)| IpNet::new(Ipv4Addr::from(bits).into(), len));
        let v6 = (any::<u128>(), 0..=128_u8).prop_map(|(bits, len)| IpNet::new(Ipv6Addr::from(bits).into(), len));
        prop_oneof![v4, v6].prop_map(|prefix| prefix.unwrap().trunc())
    }

    fn any_owner() -> impl Strategy<Value = Owner> {
        prop_oneof![
            any_name().prop_map(Owner::Name),
            any_name().prop_map(Owner::NameServer),
            any_prefix().prop_map(Owner::Answer),
            any_prefix().prop_map(Owner::NameServerAddress),
            any_prefix().prop_map(Owner::Client),
        ]
    }

    proptest! {
        #[test]
        fn a_key_says_whose_it_is(one in any_owner(), other in any_owner()) {
            let (mut buffer, mut second) = ([0; MAX_OWNER_KEY_LEN], [0; MAX_OWNER_KEY_LEN]);
            let key = one.key(&mut buffer);
            prop_assert_eq!(Owner::from_key(key), Some(one.clone()));
            prop_assert_eq!(trigger_of_key(key), one.trigger());
            prop_assert_eq!(key == other.key(&mut second), one == other);
        }

        #[test]
        fn any_octets_are_a_key_or_none(key in proptest::collection::vec(prop_oneof![0..6_u8, any::<u8>()], 0..40)) {
            let _ = Owner::from_key(&key);
        }

        #[test]
        fn a_prefix_is_read_as_it_is_shown(prefix in any_prefix().prop_filter("none of all", |p| p.prefix_len() > 0)) {
            let text = Backwards(prefix).to_string();
            let labels: Vec<&[u8]> = text.split('.').map(str::as_bytes).collect();
            prop_assert_eq!(prefix_from_labels(&labels), Ok(prefix));
        }
    }
}
