//! Cookies for name servers: a reply that brings ours back comes from where the query went (RFC 7873).
//!
//! Each server gets a part of its own, drawn by lot, so that no two can tell that they are asked by the same resolver
//! and none can speak for another. What it adds is sent back to it as it is (RFC 9018, section 3).

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::clock::Now;

/// Octets of our part.
const CLIENT_LEN: usize = 8;
/// Octets of both parts: a server adds 8 to 32 (RFC 7873, section 4).
const WHOLE_LEN: std::ops::RangeInclusive<usize> = 16..=40;

/// What is sent to a server: our part, and behind it what the server has added, when it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie(SmallVec<[u8; 24]>);

impl Cookie {
    /// As on the wire.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Whether a server sends this back, and its own part with it.
    pub fn is_in(&self, reply: &[u8]) -> bool {
        WHOLE_LEN.contains(&reply.len()) && reply[..CLIENT_LEN] == self.0[..CLIENT_LEN]
    }
}

/// The cookie of one server.
#[derive(Debug, Default)]
pub struct Slot(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    cookie: Option<Cookie>,
    /// Until which second none is sent.
    refused_until: u32,
}

impl Slot {
    /// What to send, unless the server does not put up with it.
    pub fn cookie(&self, now: Now) -> Option<Cookie> {
        let mut known = self.0.lock();
        if known.refused_until > now.seconds() {
            return None;
        }
        let fresh = || Cookie(SmallVec::from_slice(&rand::random::<[u8; CLIENT_LEN]>()));
        Some(known.cookie.get_or_insert_with(fresh).clone())
    }

    /// The server has sent `reply` back for what it was sent.
    pub fn was_given(&self, sent: &Cookie, reply: &[u8]) {
        let mut known = self.0.lock();
        // What was asked before another part was drawn changes nothing.
        if sent.is_in(reply) && known.cookie.as_ref().is_some_and(|cookie| cookie.is_in(reply)) {
            known.cookie = Some(Cookie(SmallVec::from_slice(reply)));
        }
    }

    /// Whether the server has added a part of its own, so that it is missed in a reply.
    pub fn is_expected(&self) -> bool {
        self.0.lock().cookie.as_ref().is_some_and(|cookie| cookie.0.len() > CLIENT_LEN)
    }

    /// The server has done without, where nobody else could have answered.
    pub fn forget(&self) {
        self.0.lock().cookie = None;
    }

    /// The server does not put up with cookies; none is sent until then.
    pub fn refuse_until(&self, second: u32) {
        *self.0.lock() = Known { cookie: None, refused_until: second };
    }
}
