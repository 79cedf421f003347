//! What the world said, in wire form, until its time is over.

use std::time::Duration;

/// What is kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The memory that the entries may take, in octets.
    pub max_bytes: u64,
    /// Ask again for what is still in demand shortly before its time is over.
    pub prefetch: bool,
    /// The least TTL in seconds that an answer is kept and sent out with.
    pub min_ttl: u32,
    /// The largest.
    pub max_ttl: u32,
    /// What may be answered past its time.
    pub stale: Stale,
}

/// Serving past the TTL, when name servers do not answer (RFC 8767).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// How long past its TTL an answer may be used; zero: not at all.
    pub window: Duration,
    /// How long a client waits for a fresh answer before it gets a stale one; zero: not at all.
    pub client_timer: Duration,
    /// The TTL of stale answers in seconds.
    pub ttl: u32,
    /// How long after a failure nobody is asked again.
    pub recheck: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, prefetch: true, min_ttl: 0, max_ttl: 86_400, stale: Stale::default() }
    }
}

/// The values of RFC 8767, section 5, and a day.
impl Default for Stale {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(86_400),
            client_timer: Duration::from_millis(1800),
            ttl: 30,
            recheck: Duration::from_secs(30),
        }
    }
}

/// How full the cache is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Answers that it holds.
    pub entries: u64,
    /// The memory that they take, in octets.
    pub bytes: u64,
    /// Answers that had to make room so far.
    pub evictions: u64,
}
