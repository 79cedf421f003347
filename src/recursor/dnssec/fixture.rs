//! A small signed world for the tests of this folder: zones with Ed25519 keys, and records put together by hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ring::digest;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::{Question, Rcode, RecordType};
use crate::recursor::BoxFuture;
use crate::recursor::message::{Message, Rdata, RrSet};

use super::algorithms::number::ED25519;
use super::anchors::{Anchor, TrustAnchors};
use super::rdata::{Dnskey, Rrsig};
use super::{Attempt, Fetch, FetchFailed, Settings, Validation, Validator, canonical, denial, signature};

/// The time at which everything below is valid.
pub(super) const WALL: u64 = 1_800_000_000;
pub(super) const NOW: Now = Now { elapsed: std::time::Duration::ZERO, wall: WALL };

pub(super) fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

/// A set without signatures.
pub(super) fn set(owner: &str, rtype: RecordType, rdata: impl IntoIterator<Item = Vec<u8>>) -> RrSet {
    let rdata = rdata.into_iter().map(Rdata::from).collect();
    RrSet { name: name(owner), rtype, ttl: 3600, rdata, signatures: Default::default() }
}

pub(super) fn a(owner: &str) -> RrSet {
    set(owner, RecordType::A, [vec![192, 0, 2, 1]])
}

pub(super) fn cname(owner: &str, target: &str) -> RrSet {
    set(owner, RecordType::CNAME, [name(target).as_wire().to_vec()])
}

pub(super) fn dname(owner: &str, target: &str) -> RrSet {
    set(owner, RecordType::DNAME, [name(target).as_wire().to_vec()])
}

pub(super) fn soa(zone: &str) -> RrSet {
    let mut rdata = [name(zone).as_wire(), Name::root().as_wire()].concat();
    rdata.extend([0; 20]);
    set(zone, RecordType::SOA, [rdata])
}

pub(super) fn bitmap(types: &[RecordType]) -> Vec<u8> {
    let mut windows: std::collections::BTreeMap<u8, [u8; 32]> = Default::default();
    for rtype in types {
        let [window, low] = rtype.0.to_be_bytes();
        windows.entry(window).or_default()[usize::from(low / 8)] |= 0x80 >> (low % 8);
    }
    windows.into_iter().flat_map(|(window, bits)| [vec![window, 32], bits.to_vec()].concat()).collect()
}

pub(super) fn nsec(owner: &str, next: &str, types: &[RecordType]) -> RrSet {
    set(owner, RecordType::NSEC, [[name(next).as_wire(), &bitmap(types)].concat()])
}

/// How far from the hash of its name an NSEC3 record begins and ends.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Span {
    /// The record is that of the name.
    Matches,
    /// The record covers the name.
    Covers,
}

/// An NSEC3 record that matches or covers `owner`, with a salt and one iteration.
pub(super) fn nsec3(zone: &str, owner: &str, span: Span, flags: u8, types: &[RecordType]) -> RrSet {
    nsec3_with(zone, owner, span, flags, 1, types)
}

pub(super) fn nsec3_with(
    zone: &str,
    owner: &str,
    span: Span,
    flags: u8,
    iterations: u16,
    types: &[RecordType],
) -> RrSet {
    let salt = [0xaa, 0xbb];
    let hash = denial::hash(&name(owner), &salt, iterations);
    let shifted = |by: i8| {
        let mut hash = hash;
        hash[19] = hash[19].wrapping_add_signed(by);
        // Stays clear of a carry: the hashes of the tests do not end in 0x00 or 0xff.
        assert!(hash[19].abs_diff(denial::hash(&name(owner), &salt, iterations)[19]) == 1);
        hash
    };
    let begin = if span == Span::Matches { hash } else { shifted(-1) };
    let mut rdata = vec![1, flags];
    rdata.extend(iterations.to_be_bytes());
    rdata.push(2);
    rdata.extend(salt);
    rdata.push(20);
    rdata.extend(shifted(1));
    rdata.extend(bitmap(types));
    let mut set = set(zone, RecordType::NSEC3, [rdata]);
    set.name = name(zone).child(base32(&begin).as_bytes()).unwrap();
    set
}

pub(super) fn base32(hash: &[u8; 20]) -> String {
    let digits = b"0123456789abcdefghijklmnopqrstuv";
    hash.chunks(5)
        .flat_map(|five| {
            let bits = five.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
            (0..8).rev().map(move |place| char::from(digits[(bits >> (5 * place) & 31) as usize]))
        })
        .collect()
}

/// One key of a zone, for all its records.
pub(super) struct Signer {
    pub(super) zone: DomainName,
    pub(super) dnskey: Vec<u8>,
    key: Ed25519KeyPair,
}

impl Signer {
    pub(super) fn new(zone: &str) -> Self {
        Self::with_flags(zone, 0, 257)
    }

    pub(super) fn with_flags(zone: &str, variant: u8, flags: u16) -> Self {
        let seed = digest::digest(&digest::SHA256, &[zone.as_bytes(), &[variant]].concat());
        let key = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).unwrap();
        let [f0, f1] = flags.to_be_bytes();
        let dnskey = [&[f0, f1, 3, ED25519], key.public_key().as_ref()].concat();
        Self { zone: name(zone), dnskey, key }
    }

    /// The set with a signature that is valid at [`WALL`].
    pub(super) fn sign(&self, set: RrSet) -> RrSet {
        let (inception, expiration) = (WALL as u32 - 1000, WALL as u32 + 1000);
        self.sign_as(set.clone(), &set.name, inception, expiration)
    }

    /// The set as `expanded` from its owner, a wildcard.
    pub(super) fn sign_expanded(&self, wildcard: RrSet, expanded: &str) -> RrSet {
        RrSet { name: name(expanded), ..self.sign(wildcard) }
    }

    pub(super) fn sign_between(&self, set: RrSet, inception: u64, expiration: u64) -> RrSet {
        self.sign_as(set.clone(), &set.name, inception as u32, expiration as u32)
    }

    fn sign_as(&self, mut set: RrSet, owner: &Name, inception: u32, expiration: u32) -> RrSet {
        let labels = owner.label_count() - usize::from(signature::is_wildcard(owner));
        let mut rdata = set.rtype.0.to_be_bytes().to_vec();
        rdata.extend([ED25519, labels as u8]);
        for long in [3600, expiration, inception] {
            rdata.extend(long.to_be_bytes());
        }
        rdata.extend(Dnskey::parse(&self.dnskey).unwrap().key_tag().to_be_bytes());
        rdata.extend(self.zone.as_wire());
        let unsigned = [&rdata[..], &[0]].concat();
        let data = canonical::signed_data(&Rrsig::parse(&unsigned).unwrap(), owner, &set.rdata);
        rdata.extend(self.key.sign(&data).as_ref());
        set.signatures.push(rdata.into());
        set
    }

    pub(super) fn ds(&self) -> Vec<u8> {
        let tag = Dnskey::parse(&self.dnskey).unwrap().key_tag().to_be_bytes();
        let digest = digest::digest(&digest::SHA256, &[self.zone.as_wire(), &self.dnskey].concat());
        [&tag[..], &[ED25519, 2], digest.as_ref()].concat()
    }

    pub(super) fn dnskey_set(&self) -> RrSet {
        self.sign(set(&self.zone.to_string(), RecordType::DNSKEY, [self.dnskey.clone()]))
    }
}

/// What is there to fetch, and how often it was.
#[derive(Default)]
pub(super) struct World {
    replies: HashMap<(DomainName, RecordType), Vec<Message>>,
    pub(super) fetched: AtomicUsize,
}

impl World {
    /// Adds a reply; the first serves the first attempt, others those after it, the last all that follow.
    pub(super) fn reply(&mut self, owner: &str, rtype: RecordType, reply: Message) -> &mut Self {
        self.replies.entry((name(owner), rtype)).or_default().push(reply);
        self
    }

    /// A zone with its DS signed by its parent.
    pub(super) fn delegate(&mut self, parent: &Signer, child: &Signer) -> &mut Self {
        let zone = child.zone.to_string();
        self.reply(&zone, RecordType::DS, answer([parent.sign(set(&zone, RecordType::DS, [child.ds()]))]));
        self.keys(child)
    }

    pub(super) fn keys(&mut self, signer: &Signer) -> &mut Self {
        self.reply(&signer.zone.to_string(), RecordType::DNSKEY, answer([signer.dnskey_set()]))
    }
}

impl Fetch for World {
    fn fetch<'a>(
        &'a self,
        name: &'a Name,
        rtype: RecordType,
        attempt: Attempt,
    ) -> BoxFuture<'a, Result<Arc<Message>, FetchFailed>> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let replies = self.replies.get(&(name.to_owned(), rtype));
        let reply = replies.and_then(|replies| match attempt {
            Attempt::First | Attempt::Fresh => replies.first(),
            Attempt::Again => replies.last().filter(|_| replies.len() > 1),
        });
        let reply = reply.cloned().map(Arc::new).ok_or(FetchFailed { errors: Vec::new() });
        Box::pin(async move { reply })
    }
}

pub(super) fn answer(sets: impl IntoIterator<Item = RrSet>) -> Message {
    Message { answer: sets.into_iter().collect(), ..Message::default() }
}

pub(super) fn negative(rcode: Rcode, authority: impl IntoIterator<Item = RrSet>) -> Message {
    Message { rcode, authority: authority.into_iter().collect(), ..Message::default() }
}

/// Root, `kz` (by NSEC) and `test` (by NSEC3), with the root's key as the anchor.
pub(super) struct Signed {
    pub(super) world: World,
    pub(super) root: Signer,
    pub(super) kz: Signer,
    pub(super) test: Signer,
    pub(super) validator: Validator,
}

impl Signed {
    pub(super) fn new() -> Self {
        Self::with_settings(Settings::default())
    }

    pub(super) fn with_settings(settings: Settings) -> Self {
        let [root, kz, test] = [".", "kz", "test"].map(Signer::new);
        let mut world = World::default();
        world.keys(&root).delegate(&root, &kz).delegate(&root, &test);
        let mut anchors = TrustAnchors::default();
        anchors.set(&root.zone, Anchor { ds: vec![root.ds().into()], keys: Vec::new() });
        let validator = Validator::new(settings, anchors);
        Self { world, root, kz, test, validator }
    }

    /// Below `kz`: `zone` without DS, by NSEC.
    pub(super) fn unsigned(&mut self, zone: &str) {
        let proof = self.kz.sign(nsec(zone, "zz.kz", &[RecordType::NS, RecordType::RRSIG, RecordType::NSEC]));
        let reply = negative(Rcode::NOERROR, [self.kz.sign(soa("kz")), proof]);
        self.world.reply(zone, RecordType::DS, reply);
    }

    pub(super) async fn ask(&self, owner: &str, qtype: RecordType, message: &Message) -> Validation {
        self.validator.validate(&Question::new(&name(owner), qtype), message, &self.world, NOW).await
    }
}
