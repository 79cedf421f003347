//! Cookies: who has had a reply of ours shows with its next query that its address is its own (RFC 7873).
//!
//! The server's part is laid out as RFC 9018 has it, so that servers that share a secret take each other's cookies.
//! Nothing is remembered: what a client sends back is all that it takes to check it.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;
use std::str::FromStr;

use siphasher::sip::SipHasher24;

/// How cookies are made and what depends on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Clients that send a cookie get one back.
    pub enabled: bool,
    /// Clients that send a cookie by datagram, and not a good one of ours, get BADCOOKIE in place of an answer.
    pub required: bool,
    /// The first makes cookies, all of them check. Empty: one that lives as long as the process.
    pub secrets: Vec<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, required: false, secrets: Vec::new() }
    }
}

/// What makes cookies ours.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 16]);

/// A secret is not for logs.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// As the configuration has it.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// The text is no secret. What it is does not stand here: it may be one with a slip of the pen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret has 32 hexadecimal digits, as `openssl rand -hex 16` makes them")]
pub struct BadSecret;

impl FromStr for Secret {
    type Err = BadSecret;

    fn from_str(text: &str) -> Result<Self, BadSecret> {
        let is_hex = text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex);
        number.map(|number| Self(number.to_be_bytes())).ok_or(BadSecret)
    }
}

/// What a client's cookie was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It has none of ours yet.
    New,
    /// It is ours, for this address, and not too old.
    Valid,
    /// It is not.
    Invalid,
}

impl Standing {
    /// The closed set of labels that metrics use, in the order of the variants.
    pub const LABELS: [&str; 3] = ["new", "valid", "invalid"];
}

/// What a reply gives to a client that has sent a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie {
    /// The client's part, then ours.
    pub octets: [u8; CLIENT_LEN + SERVER_LEN],
    /// What the client's was worth.
    pub standing: Standing,
}

/// Octets of the part that is the client's.
const CLIENT_LEN: usize = 8;
/// Octets of ours: version, three in reserve, a time of four, a hash of eight (RFC 9018, section 4).
const SERVER_LEN: usize = 16;
const VERSION: u8 = 1;
/// Octets of a cookie that its hash covers, beside the client's address.
const HASHED_LEN: usize = 16;

// In seconds (RFC 9018, section 4.3).
const OLDEST: i32 = 3600;
const RENEWED_FROM: i32 = 1800;
const CLOCK_SKEW: i32 = 300;

/// Makes and checks cookies.
#[derive(Debug)]
pub struct Jar {
    settings: Settings,
}

impl Jar {
    /// With the secrets of `settings`, or one of its own.
    pub fn new(mut settings: Settings) -> Self {
        if settings.secrets.is_empty() {
            settings.secrets.push(Secret(rand::random()));
        }
        Self { settings }
    }

    /// What to give to `client` for the cookie that it has sent; nothing for none. `wall` is seconds since 1970.
    pub fn cookie(&self, sent: &[u8], client: IpAddr, wall: u64) -> Option<Cookie> {
        let client_part = sent.first_chunk::<CLIENT_LEN>().filter(|_| self.settings.enabled)?;
        // A 32-bit number that begins anew every 136 years (RFC 1982).
        let now = wall as u32;
        let (checked, standing) = match <&[u8; CLIENT_LEN + SERVER_LEN]>::try_from(sent) {
            Ok(whole) => match self.check(whole, client, now) {
                Some(age) => (Some((age, *whole)), Standing::Valid),
                None => (None, Standing::Invalid),
            },
            Err(_) if sent.len() == CLIENT_LEN => (None, Standing::New),
            Err(_) => (None, Standing::Invalid),
        };
        let octets = match checked {
            Some((Age::Young, octets)) => octets,
            _ => self.make(client_part, client, now),
        };
        Some(Cookie { octets, standing })
    }

    /// Whether a client with this cookie must come again before it is answered, to show that its address is its own.
    pub fn is_wanting(&self, cookie: &Cookie) -> bool {
        self.settings.required && cookie.standing != Standing::Valid
    }

    fn make(&self, client_part: &[u8; CLIENT_LEN], client: IpAddr, now: u32) -> [u8; CLIENT_LEN + SERVER_LEN] {
        let mut octets = [0; CLIENT_LEN + SERVER_LEN];
        octets[..CLIENT_LEN].copy_from_slice(client_part);
        octets[CLIENT_LEN] = VERSION;
        octets[12..HASHED_LEN].copy_from_slice(&now.to_be_bytes());
        let hash = self.settings.secrets[0].hash(&octets[..HASHED_LEN], client);
        octets[HASHED_LEN..].copy_from_slice(&hash);
        octets
    }

    /// The age of a cookie, if it is ours. The octets in reserve may be anything (RFC 9018, section 4.2).
    fn check(&self, cookie: &[u8; CLIENT_LEN + SERVER_LEN], client: IpAddr, now: u32) -> Option<Age> {
        let (hashed, hash) = cookie.split_at(HASHED_LEN);
        let made = hashed.last_chunk().map(|time| u32::from_be_bytes(*time))?;
        let age = now.wrapping_sub(made).cast_signed();
        if hashed[CLIENT_LEN] != VERSION || !(-CLOCK_SKEW..=OLDEST).contains(&age) {
            return None;
        }
        let maker = self.settings.secrets.iter().position(|secret| secret.hash(hashed, client) == hash)?;
        Some(if maker == 0 && age < RENEWED_FROM { Age::Young } else { Age::Old })
    }
}

/// Whether a good cookie will do for the next time too.
#[derive(Debug, Clone, Copy)]
enum Age {
    Young,
    Old,
}

impl Secret {
    /// SipHash-2-4 of what a cookie begins with and of the address (RFC 9018, section 4.4).
    fn hash(&self, hashed: &[u8], client: IpAddr) -> [u8; 8] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(hashed);
        match client {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
        hasher.finish().to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn octets(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn jar(secrets: &[&str]) -> Jar {
        let secrets = secrets.iter().map(|text| text.parse().unwrap()).collect();
        Jar::new(Settings { secrets, ..Settings::default() })
    }

    const OLD: &str = "dd3bdf9344b678b185a6f5cb60fca715";
    const NEW: &str = "445536bcd2513298075a5d379663c962";

    #[test]
    fn the_examples_of_rfc_9018_are_met() {
        let ours = "e5e973e5a6b2a43f48e7dc849e37bfcf";
        for (what, secrets, client, wall, sent, given, standing) in [
            (
                "A.1, a new one",
                &[ours][..],
                "198.51.100.100",
                1_559_731_985,
                "2464c4abcf10c957",
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                Standing::New,
            ),
            (
                "A.2, the same that is renewed",
                &[ours],
                "198.51.100.100",
                1_559_734_385,
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
                Standing::Valid,
            ),
            (
                "A.3, octets in reserve, and past its hour",
                &[ours],
                "203.0.113.203",
                1_559_734_700,
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
                Standing::Invalid,
            ),
            (
                "A.4, a new secret",
                &[NEW, OLD],
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                1_559_741_961,
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
                Standing::Valid,
            ),
        ] {
            let cookie = jar(secrets).cookie(&octets(sent), client.parse().unwrap(), wall).unwrap();
            assert_eq!((&cookie.octets[..], cookie.standing), (&octets(given)[..], standing), "{what}");
        }
        let sent = octets("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5");
        let cookie = jar(&[ours]).cookie(&sent, "203.0.113.203".parse().unwrap(), 1_559_727_985 + 3600).unwrap();
        assert_eq!(cookie.standing, Standing::Valid, "A.3 within its hour");
    }

    #[test]
    fn a_cookie_is_good_for_its_client_and_its_time() {
        let (jar, made, home) = (jar(&[NEW]), 1_800_000_000_u64, IpAddr::from([192, 0, 2, 1]));
        let cookie = jar.cookie(b"abcdefgh", home, made).unwrap().octets;
        let standing = |jar: &Jar, sent: &[u8], client, wall| jar.cookie(sent, client, wall).unwrap().standing;
        for (age, expected) in
            [(-301, Standing::Invalid), (-300, Standing::Valid), (0, Standing::Valid), (3600, Standing::Valid)]
        {
            assert_eq!(standing(&jar, &cookie, home, made.wrapping_add_signed(age)), expected, "{age} seconds old");
        }
        assert_eq!(standing(&jar, &cookie, home, made + 3601), Standing::Invalid);
        assert_eq!(standing(&jar, &cookie, IpAddr::from([192, 0, 2, 2]), made), Standing::Invalid, "somebody else's");
        assert_eq!(
            standing(&Jar::new(Settings::default()), &cookie, home, made),
            Standing::Invalid,
            "another server's"
        );
        assert_eq!(standing(&jar, &cookie[..16], home, made), Standing::Invalid, "of another length");
        assert_eq!(jar.cookie(&cookie, home, made + 1799).unwrap().octets, cookie, "kept for half an hour");
        assert_ne!(jar.cookie(&cookie, home, made + 1800).unwrap().octets, cookie, "then renewed");
        assert_eq!(jar.cookie(b"", home, made), None);
        assert_eq!(Jar::new(Settings { enabled: false, ..Settings::default() }).cookie(&cookie, home, made), None);
    }

    #[test]
    fn a_secret_is_32_digits_and_stays_one() {
        assert_eq!(NEW.parse::<Secret>().unwrap().to_string(), NEW);
        assert_eq!(format!("{:?}", NEW.parse::<Secret>().unwrap()), "Secret");
        for text in ["", "12", "+45536bcd2513298075a5d379663c962", "x45536bcd2513298075a5d379663c962", &NEW.repeat(2)] {
            assert_eq!(text.parse::<Secret>(), Err(BadSecret), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_cookie_of_some_standing(sent in proptest::collection::vec(any::<u8>(), 0..50), wall: u64) {
            let cookie = jar(&[NEW, OLD]).cookie(&sent, IpAddr::from([192, 0, 2, 1]), wall);
            prop_assert_eq!(cookie.is_some(), sent.len() >= 8);
            prop_assert!(cookie.is_none_or(|cookie| cookie.standing != Standing::Valid));
        }
    }
}
