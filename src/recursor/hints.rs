//! The root's name servers, as known before anybody is asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::{DomainName, NameError};

/// Names and addresses of the root's servers. Special-purpose addresses here are meant as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootHints {
    /// Each server with its addresses.
    pub servers: Vec<(DomainName, Vec<IpAddr>)>,
}

/// Why text is not a file of root hints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HintsError {
    /// A line is no record.
    #[error("line {line}: expected OWNER [TTL] [IN] NS|A|AAAA DATA")]
    NotARecord {
        /// The line, from 1.
        line: usize,
    },
    /// A name in a line is malformed.
    #[error("line {line}: {error}")]
    Name {
        /// The line, from 1.
        line: usize,
        /// What is wrong with the name.
        error: NameError,
    },
    /// An address in a line is malformed.
    #[error("line {line}: {text:?} is not an address of the type that the line names")]
    Address {
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// There is nothing to ask.
    #[error("no server has an address; add A or AAAA records for the servers")]
    Empty,
}

impl RootHints {
    /// The thirteen of `named.root`, as published by IANA.
    pub fn built_in() -> Self {
        let v6 = |high: [u16; 4], low: [u16; 4]| {
            let [a, b, c, d] = high;
            let [e, f, g, h] = low;
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
        };
        let servers = [
            ('a', [198, 41, 0, 4], v6([0x2001, 0x503, 0xba3e, 0], [0, 0, 2, 0x30])),
            ('b', [170, 247, 170, 2], v6([0x2801, 0x1b8, 0x10, 0], [0, 0, 0, 0xb])),
            ('c', [192, 33, 4, 12], v6([0x2001, 0x500, 2, 0], [0, 0, 0, 0xc])),
            ('d', [199, 7, 91, 13], v6([0x2001, 0x500, 0x2d, 0], [0, 0, 0, 0xd])),
            ('e', [192, 203, 230, 10], v6([0x2001, 0x500, 0xa8, 0], [0, 0, 0, 0xe])),
            ('f', [192, 5, 5, 241], v6([0x2001, 0x500, 0x2f, 0], [0, 0, 0, 0xf])),
            ('g', [192, 112, 36, 4], v6([0x2001, 0x500, 0x12, 0], [0, 0, 0, 0xd0d])),
            ('h', [198, 97, 190, 53], v6([0x2001, 0x500, 1, 0], [0, 0, 0, 0x53])),
            ('i', [192, 36, 148, 17], v6([0x2001, 0x7fe, 0, 0], [0, 0, 0, 0x53])),
            ('j', [192, 58, 128, 30], v6([0x2001, 0x503, 0xc27, 0], [0, 0, 2, 0x30])),
            ('k', [193, 0, 14, 129], v6([0x2001, 0x7fd, 0, 0], [0, 0, 0, 1])),
            ('l', [199, 7, 83, 42], v6([0x2001, 0x500, 0x9f, 0], [0, 0, 0, 0x42])),
            ('m', [202, 12, 27, 33], v6([0x2001, 0xdc3, 0, 0], [0, 0, 0, 0x35])),
        ];
        let name = |letter: char| -> DomainName {
            format!("{letter}.root-servers.net").parse().expect("a letter and a constant make a name")
        };
        let servers = servers.map(|(letter, v4, v6)| (name(letter), vec![IpAddr::V4(Ipv4Addr::from(v4)), v6]));
        Self { servers: servers.into() }
    }

    /// Addresses without names.
    pub fn from_addresses(addresses: &[IpAddr]) -> Self {
        let server = |(index, address): (usize, &IpAddr)| {
            let name = format!("{index}.root-hints.invalid").parse().expect("a number and a constant make a name");
            (name, vec![*address])
        };
        Self { servers: addresses.iter().enumerate().map(server).collect() }
    }

    /// Reads zone-file text as `named.root` has it: NS, A and AAAA records, one a line; `;` begins a comment.
    ///
    /// The owner may be left out as in zone files. NS records only say which names matter; without any, all
    /// addresses count.
    ///
    /// # Errors
    ///
    /// At the first line that is something else, or when no address is left.
    pub fn parse(text: &str) -> Result<Self, HintsError> {
        let mut listed: Vec<DomainName> = Vec::new();
        let mut addresses: BTreeMap<DomainName, Vec<IpAddr>> = BTreeMap::new();
        let mut owner: Option<DomainName> = None;
        for (index, text) in text.lines().enumerate() {
            let line = index + 1;
            let text = text.split(';').next().unwrap_or_default();
            let mut words = text.split_whitespace().peekable();
            if words.peek().is_none() || words.peek().is_some_and(|word| word.starts_with('$')) {
                continue;
            }
            let name = |text: &str| text.parse::<DomainName>().map_err(|error| HintsError::Name { line, error });
            if !text.starts_with(char::is_whitespace) {
                owner = Some(name(words.next().unwrap_or_default())?);
            }
            let mut rest = words.skip_while(|word| word.eq_ignore_ascii_case("IN") || word.parse::<u32>().is_ok());
            let (Some(rtype), Some(data), Some(owner)) = (rest.next(), rest.next(), &owner) else {
                return Err(HintsError::NotARecord { line });
            };
            let wrong = || HintsError::Address { line, text: data.to_owned() };
            match rtype.to_ascii_uppercase().as_str() {
                "NS" if owner.is_root() => listed.push(name(data)?),
                "A" => {
                    let address: Ipv4Addr = data.parse().map_err(|_| wrong())?;
                    addresses.entry(owner.clone()).or_default().push(address.into());
                }
                "AAAA" => {
                    let address: Ipv6Addr = data.parse().map_err(|_| wrong())?;
                    addresses.entry(owner.clone()).or_default().push(address.into());
                }
                _ => return Err(HintsError::NotARecord { line }),
            }
        }
        let servers: Vec<_> =
            addresses.into_iter().filter(|(name, _)| listed.is_empty() || listed.contains(name)).collect();
        if servers.is_empty() { Err(HintsError::Empty) } else { Ok(Self { servers }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_hints_are_thirteen_servers_with_two_addresses_each() {
        let hints = RootHints::built_in();
        assert_eq!(hints.servers.len(), 13);
        assert!(hints.servers.iter().all(|(_, addresses)| addresses.len() == 2));
    }

    #[test]
    fn a_zone_file_of_hints_is_read() {
        let text = "; comment\n$TTL 3600\n. 3600000 IN NS A.ROOT.\n\t\t3600 NS b.root ; and this\n\
                    a.root. 3600 A 127.0.0.1\n AAAA ::1\nother. A 192.0.2.1\n";
        let hints = RootHints::parse(text).unwrap();
        let expected: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(hints.servers, [("a.root".parse().unwrap(), expected)]);
    }

    #[test]
    fn an_error_names_its_line() {
        for (text, error) in [
            ("", HintsError::Empty),
            ("\n. NS", HintsError::NotARecord { line: 2 }),
            ("a. A ::1", HintsError::Address { line: 1, text: "::1".into() }),
            ("a..b A 1.2.3.4", HintsError::Name { line: 1, error: NameError::EmptyLabel }),
        ] {
            assert_eq!(RootHints::parse(text), Err(error), "{text:?}");
        }
    }
}
