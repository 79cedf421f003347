//! IPv4 addresses inside IPv6 ones (RFC 6052), as translators between the two worlds read them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::Ipv6Net;

/// A prefix below which each IPv4 address has an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat64Prefix(Ipv6Net);

/// Why text is not the prefix of a translator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no prefix of a translator; write an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits")]
pub struct Nat64PrefixError {
    text: String,
}

/// The octet that stays zero in every such address (RFC 6052, section 2.2).
const RESERVED: usize = 8;

impl Nat64Prefix {
    /// The well-known one, `64:ff9b::/96` (RFC 6052, section 2.1).
    pub const WELL_KNOWN: Self = Self(Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96));

    /// The IPv6 address that stands for `address`.
    pub fn embed(self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.0.network().octets();
        for (place, octet) in self.places().zip(address.octets()) {
            octets[place] = octet;
        }
        octets.into()
    }

    /// The IPv4 address that `address` stands for.
    pub fn extract(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = address.octets();
        let mut inside = [0; 4];
        for (octet, place) in inside.iter_mut().zip(self.places()) {
            *octet = octets[place];
        }
        let inside = Ipv4Addr::from(inside);
        (self.embed(inside) == address).then_some(inside)
    }

    /// Where the four octets stand: behind the prefix, around the reserved octet.
    fn places(self) -> impl Iterator<Item = usize> {
        (usize::from(self.0.prefix_len() / 8)..16).filter(|place| *place != RESERVED)
    }
}

impl FromStr for Nat64Prefix {
    type Err = Nat64PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || Nat64PrefixError { text: text.to_owned() };
        let prefix: Ipv6Net = text.parse().map_err(|_| error())?;
        let prefix = prefix.trunc();
        let reserved = prefix.network().octets()[RESERVED];
        let fits = matches!(prefix.prefix_len(), 32 | 40 | 48 | 56 | 64 | 96) && reserved == 0;
        if fits { Ok(Self(prefix)) } else { Err(error()) }
    }
}

impl fmt::Display for Nat64Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_embedded_as_the_standard_shows_and_found_again() {
        // The table of RFC 6052, section 2.4.
        for (prefix, embedded) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let prefix: Nat64Prefix = prefix.parse().unwrap();
            let (inside, embedded) = (Ipv4Addr::new(192, 0, 2, 33), embedded.parse().unwrap());
            assert_eq!(prefix.embed(inside), embedded, "{prefix}");
            assert_eq!(prefix.extract(embedded), Some(inside), "{prefix}");
            assert_eq!(prefix.extract("2001:db9::1".parse().unwrap()), None, "{prefix}");
        }
    }

    #[test]
    fn other_prefixes_are_refused() {
        for text in ["64:ff9b::/95", "64:ff9b::/128", "2001:db8::", "192.0.2.0/24", "2001:db8:0:0:100::/96", ""] {
            assert!(text.parse::<Nat64Prefix>().is_err(), "{text}");
        }
    }
}
