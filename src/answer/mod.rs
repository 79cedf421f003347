//! Replies: blocked forms, errors, Extended DNS Errors, EDNS, truncation.

use std::net::{Ipv4Addr, Ipv6Addr};

/// How replies look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address that a blocked name has for the sinkhole's action.
    pub sinkhole_ipv4: Ipv4Addr,
    /// The same for IPv6.
    pub sinkhole_ipv6: Ipv6Addr,
    /// The longest datagram that we send and say that we take (RFC 9715 says 1400 at most; flag day 2020 says 1232).
    pub payload: u16,
    /// What `version.bind` and `version.server` in class CH answer; `None` refuses.
    pub version: Option<String>,
    /// What `hostname.bind` and `id.server` in class CH and NSID (RFC 5001) answer; `None` refuses.
    pub identity: Option<String>,
    /// Extended DNS Errors are sent to those who speak EDNS (RFC 8914).
    pub extended_errors: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sinkhole_ipv4: Ipv4Addr::UNSPECIFIED,
            sinkhole_ipv6: Ipv6Addr::UNSPECIFIED,
            payload: 1232,
            version: Some(concat!("qalqan ", env!("CARGO_PKG_VERSION")).to_owned()),
            identity: None,
            extended_errors: true,
        }
    }
}
