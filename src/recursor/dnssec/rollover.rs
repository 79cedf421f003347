//! Trust anchors that renew themselves (RFC 5011).
//!
//! A [`TrustPoint`] is the state of one zone's anchors: pure, time is an
//! argument. [`Rollover`] keeps the points of all anchored zones across
//! restarts and probes them when they are due. The file of a point has the
//! form that Unbound gives its `auto-trust-anchor-file`, so that one can be
//! taken over.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::RecordType;
use crate::recursor::message::{Rdata, RrSet};

use super::algorithms::Algorithms;
use super::anchors::{self, Anchor, AnchorError, TrustAnchors};
use super::budget::Budget;
use super::rdata::{Dnskey, Ds, Rrsig};
use super::signature::{self, Moment};
use super::{Attempt, Fetch, Validator};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// How long a new key must be seen before it is trusted (RFC 5011, section 2.4.1).
const ADD_HOLD_DOWN: u64 = 30 * DAY;
/// How long a revoked key is remembered after it was last seen (RFC 5011, section 2.4.2).
const REMOVE_HOLD_DOWN: u64 = 30 * DAY;
/// How long a key may be missing, when another is valid; RFC 5011 would keep it forever, Unbound a year.
const KEEP_MISSING: u64 = 366 * DAY;
/// How often a new key must be seen before it is trusted, whatever time has passed.
const LEAST_SIGHTINGS: u32 = 2;
/// How many keys of a zone are followed: more than that is no roll-over.
const MOST_KEYS: usize = 32;

/// The state of a key (RFC 5011, section 4.2). Start and Removed have nothing to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Seen, and not trusted yet.
    AddPending,
    /// Trusted.
    Valid,
    /// Trusted, and not in the zone at present.
    Missing,
    /// Never to be trusted again.
    Revoked,
}

impl KeyState {
    /// The number and word by which the state's file knows it.
    fn label(self) -> (u8, &'static str) {
        match self {
            Self::AddPending => (1, "[ ADDPEND ]"),
            Self::Valid => (2, "[  VALID  ]"),
            Self::Missing => (3, "[ MISSING ]"),
            Self::Revoked => (4, "[ REVOKED ]"),
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::AddPending, Self::Valid, Self::Missing, Self::Revoked]
            .into_iter()
            .find(|state| state.label().0 == number)
    }
}

/// A key that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedKey {
    /// The DNSKEY data as last seen.
    pub rdata: Rdata,
    /// Its state.
    pub state: KeyState,
    /// How often it was seen while pending.
    pub sightings: u32,
    /// When it came into its state, in seconds since 1970; 0 before the first probe.
    pub last_change: u64,
}

impl TrackedKey {
    /// The tag of the key.
    pub fn key_tag(&self) -> u16 {
        Dnskey::parse(&self.rdata).map_or(0, |key| key.key_tag())
    }

    fn turn(&mut self, state: KeyState, wall: u64) {
        (self.state, self.sightings, self.last_change) = (state, 0, wall);
    }

    /// Whether it is this key, revoked or not.
    fn is(&self, key: &Dnskey<'_>) -> bool {
        same_key(&self.rdata, key.rdata)
    }
}

fn same_key(one: &[u8], other: &[u8]) -> bool {
    let [without, other] =
        [one, other].map(|rdata| Dnskey::parse(rdata).map(|key| (key.flags & !Dnskey::REVOKED, key)));
    match (without, other) {
        (Some((flags, a)), Some((other_flags, b))) => {
            flags == other_flags && (a.protocol, a.algorithm, a.public_key) == (b.protocol, b.algorithm, b.public_key)
        }
        _ => false,
    }
}

/// The anchors of one zone and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPoint {
    /// The zone.
    pub zone: DomainName,
    /// Its keys, the newest first.
    pub keys: Vec<TrackedKey>,
    /// Fingerprints that are trusted and whose keys were not seen yet.
    pub ds: Vec<Rdata>,
    /// When the zone's keys were last asked for, in seconds since 1970.
    pub last_queried: u64,
    /// When they last validated.
    pub last_success: u64,
    /// When they are to be asked for next.
    pub next_probe: u64,
    /// How often asking has failed since.
    pub query_failed: u32,
    /// How long to wait after a success, in seconds (RFC 5011, section 2.3).
    pub query_interval: u64,
    /// How long to wait after a failure, in seconds.
    pub retry_time: u64,
    /// The time to live of the zone's keys.
    ttl: u32,
    /// All keys have been revoked: the zone has no anchor until the operator gives another.
    pub revoked: bool,
}

impl TrustPoint {
    /// Begins with what the operator trusts.
    pub fn new(zone: &Name, anchor: &Anchor) -> Self {
        let valid =
            |rdata: &Rdata| TrackedKey { rdata: rdata.clone(), state: KeyState::Valid, sightings: 0, last_change: 0 };
        Self {
            zone: zone.to_owned(),
            keys: anchor.keys.iter().map(valid).collect(),
            ds: anchor.ds.clone(),
            last_queried: 0,
            last_success: 0,
            next_probe: 0,
            query_failed: 0,
            query_interval: HOUR,
            retry_time: HOUR,
            ttl: 0,
            revoked: false,
        }
    }

    /// What is trusted now.
    pub fn anchor(&self) -> Anchor {
        if self.revoked {
            return Anchor::default();
        }
        let trusted = |key: &&TrackedKey| matches!(key.state, KeyState::Valid | KeyState::Missing);
        Anchor { ds: self.ds.clone(), keys: self.keys.iter().filter(trusted).map(|key| key.rdata.clone()).collect() }
    }

    /// Takes note that the zone's keys could not be had at `wall`; `jitter` as in [`TrustPoint::observe`].
    pub fn missed(&mut self, wall: u64, jitter: f64) {
        self.schedule(self.retry_time, wall, jitter);
    }

    /// Takes note of the zone's DNSKEY records as they are at `wall`. `jitter`, from 0 to 1, spreads the next probe.
    ///
    /// Keys that are revoked go first, on their own word; everything else needs the signature of a key that is trusted.
    pub fn observe(&mut self, set: &RrSet, algorithms: &dyn Algorithms, wall: u64, jitter: f64) {
        self.last_queried = wall;
        let entry_point = |key: &Dnskey<'_>| {
            key.flags & Dnskey::SECURE_ENTRY_POINT != 0
                && key.flags & Dnskey::ZONE_KEY != 0
                && key.protocol == 3
                && algorithms.supports(key.algorithm)
        };
        let seen: Vec<Dnskey<'_>> =
            set.rdata.iter().filter_map(|rdata| Dnskey::parse(rdata)).filter(entry_point).collect();

        // What is trusted from now on is not decided by a clock that may be off.
        let at = Moment::exact(wall);
        // Only on its own word is a key revoked (RFC 5011, section 2.1).
        let signed_itself = |key: &&Dnskey<'_>| key.is_revoked() && signature::verify_revoked(set, key, algorithms, at);
        for key in seen.iter().filter(signed_itself) {
            self.revoke(key, algorithms, wall);
        }
        if self.revoked {
            return;
        }

        self.let_time_pass(wall);
        let anchor = self.anchor();
        let by_fingerprint = seen.iter().copied().filter(|key| is_among(&anchor.ds, &self.zone, key, algorithms));
        let signers: Vec<Dnskey<'_>> =
            anchor.keys.iter().filter_map(|rdata| Dnskey::parse(rdata)).chain(by_fingerprint).collect();
        let mut budget = Budget::new(256, 0);
        let signers = signers.iter().copied();
        if signature::verify(set, &self.zone, signers, algorithms, &mut budget, at).is_err() {
            self.query_failed += 1;
            self.schedule(self.retry_time, wall, jitter);
            return;
        }
        (self.last_success, self.query_failed, self.ttl) = (wall, 0, set.ttl);
        self.set_intervals(set, wall);
        self.schedule(self.query_interval, wall, jitter);
        self.follow(&seen, algorithms, wall);
    }

    /// Pending -> valid, for a key that was seen often enough in sets that validated: once its time has come it may
    /// sign the very set that it comes in, or a zone that changes its keys then would be lost.
    fn let_time_pass(&mut self, wall: u64) {
        for key in &mut self.keys {
            if key.state == KeyState::AddPending
                && key.sightings >= LEAST_SIGHTINGS
                && wall.saturating_sub(key.last_change) >= ADD_HOLD_DOWN
            {
                info!(zone = %self.zone, key_tag = key.key_tag(), "a new key is a trust anchor now");
                key.turn(KeyState::Valid, wall);
            }
        }
    }

    /// Valid or missing -> revoked.
    fn revoke(&mut self, key: &Dnskey<'_>, algorithms: &dyn Algorithms, wall: u64) {
        let mut unrevoked = key.rdata.to_vec();
        unrevoked[1] &= !(Dnskey::REVOKED as u8);
        let Some(unrevoked) = Dnskey::parse(&unrevoked) else { return };
        let fingerprints = self.ds.len();
        self.ds.retain(|ds| !is_among(std::slice::from_ref(ds), &self.zone, &unrevoked, algorithms));
        let mut fell = fingerprints != self.ds.len();
        for known in self.keys.iter_mut().filter(|known| known.is(key)) {
            if matches!(known.state, KeyState::Valid | KeyState::Missing) {
                known.rdata = key.rdata.into();
                known.turn(KeyState::Revoked, wall);
                fell = true;
            }
        }
        if fell {
            info!(zone = %self.zone, key_tag = key.key_tag(), "a trust anchor was revoked");
            self.revoked = self.anchor() == Anchor::default();
        }
    }

    /// Moves every key by the table of RFC 5011, section 4.1.
    fn follow(&mut self, seen: &[Dnskey<'_>], algorithms: &dyn Algorithms, wall: u64) {
        let before = self.keys.clone();
        for key in &mut self.keys {
            let here = seen.iter().any(|other| key.is(other));
            match (key.state, here) {
                (KeyState::AddPending, true) => key.sightings = key.sightings.saturating_add(1),
                (KeyState::Valid, false) => key.turn(KeyState::Missing, wall),
                (KeyState::Valid, true) if key.last_change == 0 => key.last_change = wall,
                (KeyState::Missing, true) => key.turn(KeyState::Valid, wall),
                // Still published: the time to forget it begins anew.
                (KeyState::Revoked, true) => key.last_change = wall,
                (KeyState::AddPending | KeyState::Missing | KeyState::Revoked, false) | (KeyState::Valid, true) => {}
            }
        }
        self.let_time_pass(wall);
        for key in seen.iter().filter(|key| !key.is_revoked()) {
            if self.keys.len() >= MOST_KEYS || self.keys.iter().any(|known| known.is(key)) {
                continue;
            }
            // A key that the operator trusts by its fingerprint need not wait.
            let trusted = is_among(&self.ds, &self.zone, key, algorithms);
            let (state, sightings) = if trusted { (KeyState::Valid, 0) } else { (KeyState::AddPending, 1) };
            info!(zone = %self.zone, key_tag = key.key_tag(), trusted, "a new key is there");
            self.keys.insert(0, TrackedKey { rdata: key.rdata.into(), state, sightings, last_change: wall });
        }
        let valid = self.keys.iter().any(|key| key.state == KeyState::Valid);
        let zone = &self.zone;
        self.keys.retain(|key| {
            let gone = |after| !seen.iter().any(|other| key.is(other)) && wall.saturating_sub(key.last_change) >= after;
            // Keys that do not sign keys come with some anchors; this protocol does not carry them on.
            let carries = Dnskey::parse(&key.rdata).is_some_and(|key| key.flags & Dnskey::SECURE_ENTRY_POINT != 0);
            carries
                && match key.state {
                    KeyState::AddPending => !gone(0),
                    KeyState::Revoked => !gone(REMOVE_HOLD_DOWN),
                    KeyState::Missing => !(valid && gone(KEEP_MISSING)),
                    KeyState::Valid => true,
                }
        });
        self.ds.retain(|ds| !seen.iter().any(|key| is_among(std::slice::from_ref(ds), zone, key, algorithms)));
        if self.anchor() == Anchor::default() {
            // Nothing that may be trusted is left, and nothing was revoked: an anchor that this protocol cannot follow.
            self.keys = before;
        }
    }

    /// Half the time to live or signature's life, and a tenth of it after a failure (RFC 5011, section 2.3).
    fn set_intervals(&mut self, set: &RrSet, wall: u64) {
        let rrsigs = || set.signatures.iter().filter_map(|rdata| Rrsig::parse(rdata));
        let ttl = u64::from(rrsigs().map(|rrsig| rrsig.original_ttl).min().unwrap_or(set.ttl));
        let life = |rrsig: Rrsig<'_>| rrsig.expiration.wrapping_sub(wall as u32);
        let life = rrsigs().map(life).filter(|life| *life <= i32::MAX as u32).min().map_or(0, u64::from);
        let least = ttl.min(life);
        self.query_interval = (least / 2).clamp(HOUR, 15 * DAY);
        self.retry_time = (least / 10).clamp(HOUR, DAY);
    }

    fn schedule(&mut self, wait: u64, wall: u64, jitter: f64) {
        let spread = (wait / 10) as f64 * jitter.clamp(0.0, 1.0);
        self.next_probe = wall + wait - spread as u64;
    }

    /// Reads what [`TrustPoint::to_text`] writes, or what Unbound does.
    ///
    /// # Errors
    ///
    /// At the first line that cannot be read, or when there is no key.
    pub fn parse(text: &str) -> Result<Self, AnchorError> {
        let mut point: Option<Self> = None;
        let mut headers = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(header) = line.strip_prefix(";;") {
                headers.push(header);
                continue;
            }
            let error = |problem| AnchorError { line: index + 1, problem };
            let (record, notes) = line.split_at(line.find(';').unwrap_or(line.len()));
            let words: Vec<&str> = record.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            let Some(record) = anchors::read_record(&words).map_err(error)? else { continue };
            let point = point.get_or_insert_with(|| Self::new(&record.owner, &Anchor::default()));
            if point.zone != record.owner {
                return Err(error("a file holds the anchors of one zone"));
            }
            point.ttl = record.ttl.unwrap_or(0);
            match record.rtype {
                RecordType::DS => point.ds.push(record.rdata),
                _ => point.keys.push(read_notes(record.rdata, notes)),
            }
        }
        let mut point = point.ok_or(AnchorError { line: 1, problem: "there is no DS or DNSKEY record" })?;
        for header in headers {
            point.read_header(header);
        }
        Ok(point)
    }

    fn read_header(&mut self, header: &str) {
        let (key, value) = header.split_once(':').unwrap_or((header, ""));
        let number = value.split(";;").next().and_then(|number| number.trim().parse::<u64>().ok());
        match (key.trim(), number) {
            ("REVOKED", _) => self.revoked = true,
            ("last_queried", Some(number)) => self.last_queried = number,
            ("last_success", Some(number)) => self.last_success = number,
            ("next_probe_time", Some(number)) => self.next_probe = number,
            ("query_failed", Some(number)) => self.query_failed = u32::try_from(number).unwrap_or(u32::MAX),
            ("query_interval", Some(number)) => self.query_interval = number.clamp(HOUR, 15 * DAY),
            ("retry_time", Some(number)) => self.retry_time = number.clamp(HOUR, DAY),
            _ => {}
        }
    }

    /// The file of this point.
    pub fn to_text(&self) -> String {
        let mut text = String::from("; autotrust trust anchor file\n");
        if self.revoked {
            text += ";;REVOKED\n; All keys of the zone are revoked: it has no trust anchor.\n";
        }
        let mut header = |key: &str, value: &dyn std::fmt::Display| {
            writeln!(text, ";;{key}: {value}").expect("text grows without error");
        };
        header("id", &format_args!("{} 1", self.zone));
        header("last_queried", &self.last_queried);
        header("last_success", &self.last_success);
        header("next_probe_time", &self.next_probe);
        header("query_failed", &self.query_failed);
        header("query_interval", &self.query_interval);
        header("retry_time", &self.retry_time);
        let dot = if self.zone.is_root() { "" } else { "." };
        for rdata in &self.ds {
            let Some(ds) = Ds::parse(rdata) else { continue };
            let digest: String = ds.digest.iter().map(|octet| format!("{octet:02x}")).collect();
            let fields = format_args!("{} {} {}", ds.key_tag, ds.algorithm, ds.digest_type);
            writeln!(text, "{}{dot}\t{}\tIN\tDS\t{fields} {digest}", self.zone, self.ttl).expect("text grows");
        }
        for tracked in &self.keys {
            let Some(key) = Dnskey::parse(&tracked.rdata) else { continue };
            let fields = format_args!("{} {} {}", key.flags, key.protocol, key.algorithm);
            let (number, word) = tracked.state.label();
            writeln!(
                text,
                "{}{dot}\t{}\tIN\tDNSKEY\t{fields} {} ;{{id = {}}} ;;state={number} {word} ;;count={} ;;lastchange={}",
                self.zone,
                self.ttl,
                anchors::encode_base64(key.public_key),
                key.key_tag(),
                tracked.sightings,
                tracked.last_change,
            )
            .expect("text grows without error");
        }
        text
    }
}

/// The state that stands in the comment behind a key; valid, when there is none.
fn read_notes(rdata: Rdata, notes: &str) -> TrackedKey {
    let number = |key: &str| {
        let value = notes.split_once(&format!(";;{key}="))?.1;
        value.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let state = number("state").and_then(|state| KeyState::from_number(u8::try_from(state).ok()?));
    TrackedKey {
        rdata,
        state: state.unwrap_or(KeyState::Valid),
        sightings: number("count").and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        last_change: number("lastchange").unwrap_or(0),
    }
}

fn is_among(fingerprints: &[Rdata], zone: &Name, key: &Dnskey<'_>, algorithms: &dyn Algorithms) -> bool {
    fingerprints.iter().filter_map(|rdata| Ds::parse(rdata)).any(|ds| {
        (ds.key_tag, ds.algorithm) == (key.key_tag(), key.algorithm)
            && algorithms
                .digest(ds.digest_type, &[zone.as_wire(), key.rdata].concat())
                .is_some_and(|digest| digest == ds.digest)
    })
}

/// The trust points of all anchored zones.
pub struct Rollover {
    dir: Option<PathBuf>,
    points: Mutex<Vec<TrustPoint>>,
}

impl Rollover {
    /// Takes up the points of `configured` zones where the files in `dir` left them.
    ///
    /// A file counts only as long as the operator's anchors are those that it came from; one that cannot be read is
    /// passed over with a warning.
    pub fn open(dir: Option<&Path>, configured: &TrustAnchors) -> Self {
        let point = |(zone, anchor): (&Name, &Anchor)| {
            let fresh = TrustPoint::new(zone, anchor);
            let Some(path) = dir.map(|dir| file(dir, zone)) else { return fresh };
            let Ok(text) = std::fs::read_to_string(&path) else { return fresh };
            if !text.lines().any(|line| line == origin(anchor)) {
                info!(%zone, "the configured trust anchors have changed: their roll-over begins anew");
                return fresh;
            }
            match TrustPoint::parse(&text) {
                Ok(kept) if kept.zone == fresh.zone => kept,
                Ok(_) => fresh,
                Err(error) => {
                    warn!(path = %path.display(), %error, "the state of trust anchors cannot be read and is passed over");
                    fresh
                }
            }
        };
        let points = configured.zones().map(point).collect();
        Self { dir: dir.map(Path::to_owned), points: Mutex::new(points) }
    }

    /// Starts with points as they are, kept nowhere.
    pub fn from_points(points: Vec<TrustPoint>) -> Self {
        Self { dir: None, points: Mutex::new(points) }
    }

    /// The state of every point.
    pub fn points(&self) -> Vec<TrustPoint> {
        self.points.lock().clone()
    }

    /// What is trusted now.
    pub fn anchors(&self) -> TrustAnchors {
        let mut anchors = TrustAnchors::default();
        for point in self.points.lock().iter() {
            anchors.set(&point.zone, point.anchor());
        }
        anchors
    }

    /// When [`Rollover::probe`] should be called next, in seconds since 1970.
    pub fn next_probe(&self) -> Option<u64> {
        self.points.lock().iter().filter(|point| !point.revoked).map(|point| point.next_probe).min()
    }

    /// Asks for the keys of the zones that are due, and gives `validator` the anchors when they have changed.
    pub async fn probe(&self, configured: &TrustAnchors, validator: &Validator, fetch: &dyn Fetch, now: Now) {
        let due = |point: &&TrustPoint| !point.revoked && point.next_probe <= now.wall;
        let zones: Vec<DomainName> = self.points.lock().iter().filter(due).map(|point| point.zone.clone()).collect();
        for zone in zones {
            let reply = fetch.fetch(&zone, RecordType::DNSKEY, Attempt::Fresh).await;
            let is_keys = |set: &&RrSet| set.rtype == RecordType::DNSKEY && set.name == zone;
            let set = reply.as_ref().ok().and_then(|reply| reply.answer.iter().find(is_keys));
            let jitter = rand::random::<f64>();
            let mut points = self.points.lock();
            let Some(point) = points.iter_mut().find(|point| point.zone == zone) else { continue };
            let before = point.anchor();
            match set {
                Some(set) => point.observe(set, validator.algorithms(), now.wall, jitter),
                None => point.missed(now.wall, jitter),
            }
            let (after, ever) = (point.clone(), point.last_success > 0 || point.revoked);
            drop(points);
            // Before the first success there is nothing to keep that the configuration does not say.
            if set.is_some() && ever {
                self.save(&after, configured);
            }
            if after.anchor() != before {
                validator.replace_anchors(self.anchors());
            }
        }
    }

    fn save(&self, point: &TrustPoint, configured: &TrustAnchors) {
        let Some(dir) = &self.dir else { return };
        let origin = configured.of(&point.zone).map(origin).unwrap_or_default();
        let text = format!("{}{origin}\n", point.to_text());
        let path = file(dir, &point.zone);
        let written = tempfile::NamedTempFile::new_in(dir).and_then(|mut temporary| {
            temporary.write_all(text.as_bytes())?;
            temporary.as_file().sync_all()?;
            temporary.persist(&path)?;
            Ok(())
        });
        if let Err(error) = written {
            warn!(path = %path.display(), %error, "the state of trust anchors cannot be kept; make the folder writable");
        }
    }
}

fn file(dir: &Path, zone: &Name) -> PathBuf {
    let zone = if zone.is_root() { "root".to_owned() } else { zone.to_string().replace('/', "%2f") };
    dir.join(format!("trust-anchor.{zone}.key"))
}

/// A line that says which configured anchors a file came from.
fn origin(anchor: &Anchor) -> String {
    let mut all: Vec<&Rdata> = anchor.ds.iter().chain(&anchor.keys).collect();
    all.sort_unstable();
    let mut hash = blake3::Hasher::new();
    for rdata in all {
        hash.update(&(rdata.len() as u64).to_be_bytes()).update(rdata);
    }
    format!(";;configured: {}", &hash.finalize().to_hex()[..32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recursor::dnssec::StandardAlgorithms;
    use crate::recursor::dnssec::fixture::{Signed, Signer, World, answer, name, set};
    use KeyState::{AddPending, Missing, Revoked, Valid};
    use proptest::prelude::*;

    const START: u64 = 1_800_000_000;

    /// The zone's keys in one set, signed by some of them for a day around `wall`.
    fn keys(all: &[&Signer], signers: &[&Signer], wall: u64) -> RrSet {
        let keys = set("kz", RecordType::DNSKEY, all.iter().map(|signer| signer.dnskey.clone()));
        let keys = RrSet { ttl: 10_800, ..keys };
        signers.iter().fold(keys, |set, signer| signer.sign_between(set, wall - DAY, wall + 30 * DAY))
    }

    fn key(variant: u8) -> Signer {
        Signer::with_flags("kz", variant, 257)
    }

    fn revoked(variant: u8) -> Signer {
        Signer::with_flags("kz", variant, 257 | Dnskey::REVOKED)
    }

    fn point(trusted: &[&Signer]) -> TrustPoint {
        let keys = trusted.iter().map(|signer| signer.dnskey.clone().into()).collect();
        TrustPoint::new(&name("kz"), &Anchor { ds: vec![], keys })
    }

    /// Observes and says what became of the keys, the newest first.
    fn observe(point: &mut TrustPoint, all: &[&Signer], signers: &[&Signer], day: u64) -> Vec<(u16, KeyState)> {
        let wall = START + day * DAY;
        point.observe(&keys(all, signers, wall), &StandardAlgorithms::default(), wall, 0.0);
        point.keys.iter().map(|key| (key.key_tag(), key.state)).collect()
    }

    fn tag(signer: &Signer) -> u16 {
        Dnskey::parse(&signer.dnskey).unwrap().key_tag()
    }

    #[test]
    fn a_new_key_is_trusted_after_thirty_days_and_takes_over() {
        let (old, new, gone) = (key(1), key(2), revoked(1));
        let mut point = point(&[&old]);
        assert_eq!(observe(&mut point, &[&old], &[&old], 0), [(tag(&old), Valid)]);
        assert_eq!(observe(&mut point, &[&old, &new], &[&old], 30), [(tag(&new), AddPending), (tag(&old), Valid)]);
        assert_eq!(observe(&mut point, &[&old, &new], &[&old], 59)[0], (tag(&new), AddPending), "a day too early");
        assert_eq!(observe(&mut point, &[&old, &new], &[&old], 60), [(tag(&new), Valid), (tag(&old), Valid)]);
        let after_revocation = observe(&mut point, &[&gone, &new], &[&gone, &new], 90);
        assert_eq!(after_revocation, [(tag(&new), Valid), (tag(&gone), Revoked)]);
        assert_eq!(point.anchor().keys, [Rdata::from(&new.dnskey[..])]);
        assert_eq!(observe(&mut point, &[&new], &[&new], 119).len(), 2, "still remembered");
        assert_eq!(observe(&mut point, &[&new], &[&new], 150), [(tag(&new), Valid)]);
    }

    #[test]
    fn a_pending_key_cannot_vouch_for_itself() {
        let (old, new) = (key(1), key(2));
        let mut point = point(&[&old]);
        observe(&mut point, &[&old], &[&old], 0);
        observe(&mut point, &[&old, &new], &[&old, &new], 30);
        let before = point.keys.clone();
        observe(&mut point, &[&old, &new], &[&new], 61);
        assert_eq!((&point.keys, point.query_failed), (&before, 1));
        assert_eq!(point.next_probe, START + 61 * DAY + point.retry_time);
    }

    #[test]
    fn a_pending_key_must_be_seen_twice_and_starts_anew_when_it_was_away() {
        let (old, new) = (key(1), key(2));
        let mut point = point(&[&old]);
        observe(&mut point, &[&old, &new], &[&old], 0);
        assert_eq!(observe(&mut point, &[&old], &[&old], 10), [(tag(&old), Valid)]);
        assert_eq!(observe(&mut point, &[&old, &new], &[&old], 40)[0].1, AddPending);
        assert_eq!(observe(&mut point, &[&old, &new], &[&old], 71)[0].1, Valid);
    }

    #[test]
    fn a_key_whose_time_has_come_may_sign_the_set_that_it_comes_in() {
        let (old, new) = (key(1), key(2));
        let mut point = point(&[&old]);
        observe(&mut point, &[&old, &new], &[&old], 0);
        observe(&mut point, &[&old, &new], &[&old], 10);
        assert_eq!(observe(&mut point, &[&new], &[&new], 31), [(tag(&new), Valid), (tag(&old), Missing)]);
    }

    #[test]
    fn missing_keys_stay_trusted_and_come_back() {
        let (first, second, zsk) = (key(1), key(2), Signer::with_flags("kz", 3, 256));
        let mut point = point(&[&first, &second]);
        observe(&mut point, &[&first, &second], &[&first], 0);
        // The signature is by a key that is not in the set any more.
        let missing = observe(&mut point, &[&zsk], &[&second], 10);
        assert_eq!(missing.iter().map(|(_, state)| *state).collect::<Vec<_>>(), [Missing, Missing]);
        assert_eq!(observe(&mut point, &[&zsk], &[&second], 400).len(), 2, "nothing else is trusted");
        assert_eq!(observe(&mut point, &[&second], &[&second], 401), [(tag(&second), Valid)]);
    }

    #[test]
    fn a_zone_that_revokes_all_its_keys_has_no_anchor() {
        let mut point = point(&[&key(1), &key(2)]);
        let (one, two) = (revoked(1), revoked(2));
        let forged = observe(&mut point, &[&one, &two], &[&one], 0);
        assert_eq!(forged.iter().map(|(_, state)| *state).collect::<Vec<_>>(), [Revoked, Valid], "one has not signed");
        observe(&mut point, &[&one, &two], &[&one, &two], 1);
        assert!(point.revoked);
        assert_eq!(point.anchor(), Anchor::default());
        assert!(TrustPoint::parse(&point.to_text()).unwrap().revoked);
    }

    #[test]
    fn a_fingerprint_becomes_its_key() {
        let (trusted, other) = (key(1), key(2));
        let anchor = Anchor { ds: vec![trusted.ds().into(), Box::from([9, 9, 15, 2, 1])], keys: vec![] };
        let mut point = TrustPoint::new(&name("kz"), &anchor);
        let states = observe(&mut point, &[&trusted, &other], &[&trusted], 0);
        assert_eq!(states, [(tag(&other), AddPending), (tag(&trusted), Valid)]);
        assert_eq!(point.anchor().ds.len(), 1, "the key of the other fingerprint was not seen yet");
    }

    #[test]
    fn probes_come_at_half_the_time_to_live_and_spread() {
        let old = key(1);
        let mut point = point(&[&old]);
        observe(&mut point, &[&old], &[&old], 0);
        // The fixture signs an original TTL of 3600.
        assert_eq!((point.query_interval, point.retry_time), (HOUR, HOUR));
        assert_eq!(point.next_probe, START + HOUR);
        point.query_interval = 5400;
        point.schedule(5400, START, 1.0);
        assert_eq!(point.next_probe, START + 4860);
    }

    #[test]
    fn a_file_of_unbound_is_taken_over() {
        let line = |key: &Signer| anchors::encode_base64(&key.dnskey[4..]);
        let text = format!(
            "; autotrust trust anchor file\n;;id: kz. 1\n;;last_queried: 1258962400 ;;Mon Nov 23 08:46:40 2009\n\
             ;;last_success: 1258962300 ;;x\n;;next_probe_time: 1258967360 ;;x\n;;query_failed: 2\n\
             ;;query_interval: 5400\n;;retry_time: 3600\n\
             kz.\t10800\tIN\tDNSKEY\t257 3 15 {} ;{{id = 1 (ksk), size = 512b}} ;;state=1 [ ADDPEND ] ;;count=3 \
             ;;lastchange=1258962200 ;;Mon\n\
             kz. 10800 IN DNSKEY 257 3 15 {}\n",
            line(&key(1)),
            line(&key(2)),
        );
        let point = TrustPoint::parse(&text).unwrap();
        assert_eq!((point.last_success, point.next_probe, point.query_failed), (1_258_962_300, 1_258_967_360, 2));
        let states: Vec<_> = point.keys.iter().map(|key| (key.state, key.sightings, key.last_change)).collect();
        assert_eq!(states, [(AddPending, 3, 1_258_962_200), (Valid, 0, 0)]);
        assert_eq!(TrustPoint::parse(&point.to_text()).unwrap(), point);
    }

    #[tokio::test]
    async fn the_state_survives_a_restart_until_the_operator_changes_the_anchors() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (key(1), key(2));
        let mut configured = TrustAnchors::default();
        configured.set(&name("kz"), Anchor { ds: vec![], keys: vec![old.dnskey.clone().into()] });
        let validator = Signed::new().validator;

        let mut wall = START;
        for all in [&[&old][..], &[&old, &new], &[&old, &new], &[&new]] {
            let rollover = Rollover::open(Some(dir.path()), &configured);
            assert!(rollover.next_probe().is_some_and(|at| at <= wall));
            let mut world = World::default();
            world.reply("kz", RecordType::DNSKEY, answer([keys(all, all, wall)]));
            let now = Now { elapsed: Default::default(), wall };
            rollover.probe(&configured, &validator, &world, now).await;
            wall += 31 * DAY;
        }
        let rollover = Rollover::open(Some(dir.path()), &configured);
        let states: Vec<_> = rollover.points()[0].keys.iter().map(|key| key.state).collect();
        assert_eq!(states, [Valid, Missing]);
        assert_eq!(validator.anchors().of(&name("kz")).unwrap().keys.len(), 2);

        configured.set(&name("kz"), Anchor { ds: vec![], keys: vec![key(7).dnskey.into()] });
        let points = Rollover::open(Some(dir.path()), &configured).points();
        assert_eq!(points[0].keys[0].key_tag(), tag(&key(7)));
    }

    #[tokio::test]
    async fn a_zone_that_does_not_answer_is_asked_again_later() {
        let mut configured = TrustAnchors::default();
        configured.set(&name("kz"), Anchor { ds: vec![], keys: vec![key(1).dnskey.into()] });
        let rollover = Rollover::open(None, &configured);
        let now = Now { elapsed: Default::default(), wall: START };
        rollover.probe(&configured, &Signed::new().validator, &World::default(), now).await;
        let next = rollover.next_probe().unwrap();
        assert!((START + 3200..=START + 3600).contains(&next), "{next}");
        assert_eq!(rollover.anchors().zones().count(), 1);
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(
            text in "(;;[a-z_]{0,12}: [0-9]{0,22}\n|kz[.] (IN )?(DS|DNSKEY|A) [0-9a-zA-Z /+=]{0,40}(;;state=[0-9]{1,4})?\n|.{0,20}\n){0,6}",
        ) {
            if let Ok(point) = TrustPoint::parse(&text) {
                let _ = point.to_text();
            }
        }
    }
}
