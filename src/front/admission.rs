//! Who may ask, and how much at once.

use ipnet::IpNet;

/// Who may ask. The longest prefix that covers a client decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Clients that are served.
    pub allow: Vec<IpNet>,
    /// Clients that are told REFUSED, as everybody is whom no prefix covers.
    pub refuse: Vec<IpNet>,
    /// Clients that get no reply at all.
    pub ignore: Vec<IpNet>,
    /// Queries that may wait for the world at once.
    pub max_waiting: usize,
    /// The same from one address.
    pub max_waiting_per_client: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"];
        Self {
            allow: loopback.map(|prefix| prefix.parse().expect("a prefix")).to_vec(),
            refuse: Vec::new(),
            ignore: Vec::new(),
            max_waiting: 16_384,
            max_waiting_per_client: 4096,
        }
    }
}
