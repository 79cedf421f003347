//! The zones of the comparison: what is done to each, and what must come of it.

use qalqan::name::DomainName;
use qalqan::query::RecordType;
use qalqan::recursor::message::Rdata;

use crate::zone::{
    Chain, ED25519, Key, KeyPlan, P256, P384, RSASHA1, RSASHA1_NSEC3_SHA1, RSASHA256, RSASHA512, Zone, bitmap, time,
};

/// What must come of a question for `www A` in a zone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Expected {
    Secure,
    Insecure,
    Bogus,
}
use Expected::{Bogus, Insecure, Secure};

/// A DS record of the parent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DsPlan {
    /// The key that it is for, by its place among the zone's.
    key: usize,
    digest_type: u8,
    /// Another algorithm than the key's.
    algorithm: Option<u8>,
    spoilt: bool,
    tag_shift: u16,
}

/// One zone below the top-level domain.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) label: &'static str,
    pub(crate) keys: &'static [KeyPlan],
    pub(crate) ds: &'static [DsPlan],
    pub(crate) chain: Chain,
    pub(crate) window: (i64, i64),
    pub(crate) expected: Expected,
    /// Whether the zones below it are served by its own server.
    pub(crate) shared_server: bool,
    /// Before it is signed.
    pub(crate) edit: fn(&mut Zone),
    /// After it is signed.
    pub(crate) spoil: fn(&mut Zone),
}

const fn key(algorithm: u8, flags: u16, signs_keys: bool, signs_data: bool) -> KeyPlan {
    KeyPlan { algorithm, flags, protocol: 3, published: true, signs_keys, signs_data }
}

const fn ksk(algorithm: u8) -> KeyPlan {
    key(algorithm, 257, true, false)
}

const fn zsk(algorithm: u8) -> KeyPlan {
    key(algorithm, 256, false, true)
}

/// A key that stands by.
const fn idle(algorithm: u8, flags: u16) -> KeyPlan {
    key(algorithm, flags, false, false)
}

const fn unpublished(mut plan: KeyPlan) -> KeyPlan {
    plan.published = false;
    plan
}

const fn protocol(mut plan: KeyPlan, protocol: u8) -> KeyPlan {
    plan.protocol = protocol;
    plan
}

const fn ds(key: usize, digest_type: u8) -> DsPlan {
    DsPlan { key, digest_type, algorithm: None, spoilt: false, tag_shift: 0 }
}

const fn spoilt(mut plan: DsPlan) -> DsPlan {
    plan.spoilt = true;
    plan
}

const fn of_algorithm(mut plan: DsPlan, algorithm: u8) -> DsPlan {
    plan.algorithm = Some(algorithm);
    plan
}

const fn of_no_key(mut plan: DsPlan) -> DsPlan {
    plan.tag_shift = 1;
    plan
}

impl DsPlan {
    pub(crate) fn record(&self, zone: &Zone) -> Rdata {
        let mut data = zone.keys[self.key].ds(&zone.name, self.digest_type);
        let tag = u16::from_be_bytes([data[0], data[1]]).wrapping_add(self.tag_shift);
        data[..2].copy_from_slice(&tag.to_be_bytes());
        if let Some(algorithm) = self.algorithm {
            data[2] = algorithm;
        }
        if self.spoilt {
            let last = data.len() - 1;
            data[last] ^= 1;
        }
        data
    }
}

const DAY: i64 = 86_400;
const VALID: (i64, i64) = (-3_600, 10 * DAY);

/// A zone as it should be.
pub(crate) const fn zone(label: &'static str) -> Plan {
    const KEYS: &[KeyPlan] = &[ksk(P256), zsk(P256)];
    const FINGERPRINTS: &[DsPlan] = &[ds(0, 2)];
    Plan {
        label,
        keys: KEYS,
        ds: FINGERPRINTS,
        chain: Chain::Nsec,
        window: VALID,
        expected: Secure,
        shared_server: false,
        edit: |_| {},
        spoil: |_| {},
    }
}

impl Plan {
    const fn keys(mut self, keys: &'static [KeyPlan]) -> Self {
        self.keys = keys;
        self
    }

    const fn ds(mut self, ds: &'static [DsPlan]) -> Self {
        self.ds = ds;
        self
    }

    /// Without a salt, opt-out or further rounds of hashing (RFC 9276).
    const fn nsec3(self) -> Self {
        self.hashed(0, 0, b"")
    }

    const fn opt_out(self) -> Self {
        self.hashed(1, 0, b"")
    }

    const fn hashed(mut self, flags: u8, iterations: u16, salt: &'static [u8]) -> Self {
        self.chain = Chain::Nsec3 { hash: 1, flags, iterations, salt };
        self
    }

    const fn chain(mut self, chain: Chain) -> Self {
        self.chain = chain;
        self
    }

    const fn window(mut self, from: i64, to: i64) -> Self {
        self.window = (from, to);
        self
    }

    const fn edit(mut self, edit: fn(&mut Zone)) -> Self {
        self.edit = edit;
        self
    }

    const fn spoil(mut self, spoil: fn(&mut Zone)) -> Self {
        self.spoil = spoil;
        self
    }

    const fn expect(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    const fn shared_server(mut self) -> Self {
        self.shared_server = true;
        self
    }
}

const BOTH: u8 = 200;

pub(crate) const ZONES: &[Plan] = &[
    // Algorithms.
    zone("unsigned").keys(&[]).ds(&[]).expect(Insecure),
    zone("rsasha1").keys(&[ksk(RSASHA1), zsk(RSASHA1)]),
    zone("rsasha1n3").keys(&[ksk(RSASHA1_NSEC3_SHA1), zsk(RSASHA1_NSEC3_SHA1)]).nsec3(),
    zone("rsa256").keys(&[ksk(RSASHA256), zsk(RSASHA256)]),
    zone("rsa512").keys(&[ksk(RSASHA512), zsk(RSASHA512)]).nsec3(),
    zone("p256"),
    zone("p384").keys(&[ksk(P384), zsk(P384)]),
    zone("ed25519").keys(&[ksk(ED25519), zsk(ED25519)]),
    zone("unknownalg").keys(&[ksk(BOTH), zsk(BOTH)]).expect(Insecure),
    zone("privatealg").keys(&[ksk(253), zsk(253)]).nsec3().expect(Insecure),
    zone("dsa").keys(&[ksk(3), zsk(3)]).expect(Insecure),
    zone("twoalgs").keys(&[ksk(P256), zsk(P256), ksk(ED25519), zsk(ED25519)]).ds(&[ds(0, 2), ds(2, 2)]),
    zone("knownandunknown").keys(&[ksk(P256), zsk(P256), ksk(BOTH), zsk(BOTH)]).ds(&[ds(0, 2), ds(2, 2)]),
    zone("onlyunknownds").keys(&[ksk(P256), zsk(P256), ksk(BOTH), zsk(BOTH)]).ds(&[ds(2, 2)]).expect(Insecure),
    zone("dswithoutkey").ds(&[of_algorithm(ds(0, 2), ED25519)]).expect(Bogus),
    zone("dssecondalg").ds(&[ds(0, 2), of_algorithm(of_no_key(ds(0, 2)), ED25519)]),
    zone("kskalgdiffers").keys(&[ksk(ED25519), zsk(P256)]),
    zone("datawithonealg").keys(&[ksk(P256), zsk(P256), ksk(ED25519)]).ds(&[ds(0, 2), ds(2, 2)]),
    zone("keyswithonealg").keys(&[ksk(P256), zsk(P256), idle(ED25519, 257), zsk(ED25519)]).ds(&[ds(0, 2), ds(2, 2)]),
    // Keys and their roll-overs.
    zone("onekey").keys(&[key(P256, 257, true, true)]),
    zone("onekey256").keys(&[key(P256, 256, true, true)]).nsec3(),
    zone("sepclear").keys(&[key(P256, 256, true, false), zsk(P256)]),
    zone("sepset").keys(&[ksk(P256), key(P256, 257, false, true)]),
    zone("prepublish").keys(&[ksk(P256), zsk(P256), idle(P256, 256)]),
    zone("standby").keys(&[ksk(P256), zsk(P256), idle(P256, 257)]).ds(&[ds(0, 2), ds(2, 2)]),
    zone("standbyonly").keys(&[ksk(P256), zsk(P256), idle(P256, 257)]).ds(&[ds(2, 2)]).expect(Bogus),
    zone("doublesign").keys(&[ksk(P256), zsk(P256), zsk(P256)]).nsec3(),
    zone("doubleksk").keys(&[ksk(P256), zsk(P256), ksk(P256)]).ds(&[ds(0, 2), ds(2, 2)]),
    zone("doubledsgone").keys(&[ksk(P256), zsk(P256)]).ds(&[ds(0, 2), of_no_key(ds(0, 2))]),
    zone("revoked").keys(&[ksk(P256), zsk(P256), key(P256, 257 | 128, true, false)]),
    zone("revokedds").keys(&[key(P256, 257 | 128, true, false), zsk(P256)]).expect(Bogus),
    zone("revokedbeside").keys(&[ksk(P256), zsk(P256), key(P256, 256 | 128, false, true)]),
    zone("nozonebit").keys(&[key(P256, 1, true, false), zsk(P256)]).expect(Bogus),
    zone("oddflags").keys(&[key(P256, 257 | 0x4000, true, false), key(P256, 256 | 0x0008, false, true)]),
    zone("protocol2").keys(&[protocol(ksk(P256), 2), zsk(P256)]).expect(Bogus),
    zone("zskds").keys(&[ksk(P256), key(P256, 256, true, true)]).ds(&[ds(1, 2)]),
    zone("zskdsunsigned").ds(&[ds(1, 2)]).expect(Bogus),
    zone("keysunsigned").spoil(|zone| zone.set("", RecordType::DNSKEY).signatures.clear()).expect(Bogus),
    zone("keysexpired").spoil(|zone| zone.resign("", RecordType::DNSKEY, expire)).expect(Bogus),
    zone("keysgone")
        .spoil(|zone| {
            let apex = zone.at("");
            zone.sets.remove(&(apex, RecordType::DNSKEY));
        })
        .expect(Bogus),
    zone("manykeys").keys(&[
        ksk(P256),
        zsk(P256),
        idle(P256, 256),
        idle(P256, 256),
        idle(P384, 256),
        idle(ED25519, 257),
        idle(BOTH, 256),
        idle(P256, 257),
        idle(P256, 256),
        idle(P256, 256),
        idle(P384, 256),
        idle(P384, 257),
    ]),
    zone("brokenkeydata").keys(&[ksk(P256), zsk(P256)]).edit(|zone| {
        let apex = zone.at("");
        zone.add(&apex, RecordType::DNSKEY, Rdata::from([1, 0, 3, P256, 1, 2, 3]));
    }),
    zone("collision").spoil(|zone| collide(zone, 1)),
    zone("keytrap").spoil(|zone| collide(zone, 40)).expect(Bogus),
    // Delegations.
    zone("nods").ds(&[]).expect(Insecure),
    zone("nods3").ds(&[]).nsec3().expect(Insecure),
    zone("wrongds").ds(&[spoilt(ds(0, 2))]).expect(Bogus),
    zone("wrongtag").ds(&[of_no_key(ds(0, 2))]).expect(Bogus),
    zone("wrongalgds").ds(&[of_algorithm(ds(0, 2), P384)]).expect(Bogus),
    zone("sha1ds").ds(&[ds(0, 1)]),
    zone("sha384ds").ds(&[ds(0, 4)]).opt_out(),
    zone("alldigests").ds(&[ds(0, 1), ds(0, 2), ds(0, 4)]),
    zone("sha1anddwrong256").ds(&[ds(0, 1), spoilt(ds(0, 2))]).expect(Bogus),
    zone("sha1wrong").ds(&[spoilt(ds(0, 1)), ds(0, 2)]),
    zone("wrong256good384").ds(&[spoilt(ds(0, 2)), ds(0, 4)]),
    zone("good256wrong384").ds(&[ds(0, 2), spoilt(ds(0, 4))]),
    zone("unknowndigest").ds(&[ds(0, 100)]).expect(Insecure),
    zone("unknownandgood").ds(&[ds(0, 100), ds(0, 2)]),
    zone("unknownandwrong").ds(&[ds(0, 100), spoilt(ds(0, 2))]).expect(Bogus),
    zone("gostandunknown").ds(&[ds(0, 3), of_algorithm(ds(0, 2), BOTH)]).expect(Insecure),
    zone("severalds").ds(&[of_no_key(ds(0, 2)), spoilt(ds(0, 2)), of_algorithm(ds(0, 2), BOTH), ds(0, 2)]),
    zone("shared").shared_server(),
    zone("shared3").shared_server().nsec3(),
    zone("signedforeign").keys(&[ksk(P256), zsk(P256)]).spoil(unsign).expect(Bogus),
    // Signatures.
    zone("expired").window(-10 * DAY, -5 * DAY).expect(Bogus),
    zone("expired3").window(-10 * DAY, -5 * DAY).nsec3().expect(Bogus),
    zone("future").window(5 * DAY, 10 * DAY).expect(Bogus),
    zone("backwards").window(10 * DAY, -10 * DAY).expect(Bogus),
    zone("wwwexpired").spoil(|zone| zone.resign("www", RecordType::A, expire)).expect(Bogus),
    zone("wwwfuture").spoil(|zone| zone.resign("www", RecordType::A, postpone)).expect(Bogus),
    zone("stripped").spoil(|zone| zone.set("www", RecordType::A).signatures.clear()).expect(Bogus),
    zone("strippedall").spoil(unsign).expect(Bogus),
    zone("stripped3").nsec3().spoil(|zone| zone.set("www", RecordType::A).signatures.clear()).expect(Bogus),
    zone("tampered").spoil(tamper).expect(Bogus),
    zone("tampered3").nsec3().spoil(tamper).expect(Bogus),
    zone("morelabels").spoil(|zone| zone.resign("www", RecordType::A, |fields| fields.labels += 1)).expect(Bogus),
    zone("fewerlabels").spoil(|zone| zone.resign("www", RecordType::A, |fields| fields.labels -= 1)).expect(Bogus),
    zone("wrongsigner")
        .spoil(|zone| zone.resign("www", RecordType::A, |fields| fields.signer = "p256.kz".parse().expect("a name")))
        .expect(Bogus),
    zone("signerabove")
        .spoil(|zone| zone.resign("www", RecordType::A, |fields| fields.signer = "kz".parse().expect("a name")))
        .expect(Bogus),
    zone("signerbelow")
        .spoil(|zone| {
            zone.resign("www", RecordType::A, |fields| fields.signer = fields.signer.child(b"www").expect("short"));
        })
        .expect(Bogus),
    zone("wrongtagsig").spoil(|zone| zone.resign("www", RecordType::A, |fields| fields.tag ^= 1)).expect(Bogus),
    zone("wrongalgsig")
        .spoil(|zone| zone.resign("www", RecordType::A, |fields| fields.algorithm = ED25519))
        .expect(Bogus),
    zone("unknownalgsig")
        .spoil(|zone| zone.resign("www", RecordType::A, |fields| fields.algorithm = BOTH))
        .expect(Bogus),
    zone("wrongcovered")
        .spoil(|zone| zone.resign("www", RecordType::A, |fields| fields.covered = RecordType::AAAA))
        .expect(Bogus),
    zone("shortttl").spoil(|zone| zone.resign_all(|fields| fields.original_ttl = 30)),
    zone("longttl").spoil(|zone| zone.sets.values_mut().for_each(|set| set.ttl = 3_000)),
    zone("endssoon").window(-3_600, 600),
    zone("duplicates").spoil(|zone| {
        for set in zone.sets.values_mut() {
            let again = set.signatures.first().cloned();
            set.signatures.extend(again);
        }
    }),
    zone("goodandexpired").spoil(|zone| add_signatures(zone, 1, expire)),
    zone("goodandmany").spoil(|zone| add_signatures(zone, 4, |fields| fields.tag ^= 1)),
    zone("goodandinvalid").spoil(|zone| add_signatures(zone, 2, |fields| fields.signer = DomainName::root())),
    zone("garbagesig")
        .spoil(|zone| {
            for data in &mut zone.set("www", RecordType::A).signatures {
                let last = data.len() - 1;
                data[last] ^= 1;
            }
        })
        .expect(Bogus),
    zone("foreignttl").spoil(|zone| {
        zone.set("www", RecordType::A).ttl = 77;
        zone.set("", RecordType::SOA).ttl = 88;
    }),
    zone("badsoa").spoil(|zone| {
        let soa = &mut zone.set("", RecordType::SOA).rdata[0];
        let last = soa.len() - 1;
        soa[last] ^= 1;
    }),
    zone("soaunsigned3").opt_out().spoil(|zone| zone.set("", RecordType::SOA).signatures.clear()),
    // Denials by NSEC.
    zone("nonsec").chain(Chain::None),
    zone("nsecunsigned").spoil(|zone| zone.of_type(RecordType::NSEC).for_each(|(_, set)| set.signatures.clear())),
    zone("nsecexpired").spoil(|zone| resign_type(zone, RecordType::NSEC, expire)),
    zone("nsectampered").spoil(|zone| spoil_type(zone, RecordType::NSEC)),
    zone("nsecmorebits").spoil(|zone| {
        // Says that `www` has every common type.
        rewrite_nsec(zone, "www", &[1, 2, 5, 6, 15, 16, 28, 43, 46, 47, 65]);
    }),
    zone("nsecfewerbits").spoil(|zone| rewrite_nsec(zone, "www", &[46, 47])),
    zone("nseccname").spoil(|zone| rewrite_nsec(zone, "alias", &[46, 47])),
    zone("nsecnosoa").spoil(|zone| rewrite_nsec(zone, "", &[2, 46, 47, 48])),
    zone("nsecleafascut").spoil(|zone| rewrite_nsec(zone, "www", &[2, 46, 47])),
    zone("nsecleafasdname").spoil(|zone| rewrite_nsec(zone, "www", &[39, 46, 47])),
    zone("blacklies").spoil(shrink_nsec),
    // Denials by NSEC3.
    zone("nsec3").nsec3(),
    zone("salted").hashed(0, 0, b"\xaa\xbb\xcc\xdd"),
    zone("longsalt").hashed(0, 1, &[0x5a; 200]),
    zone("iterated1").hashed(0, 1, b"\xaa\xbb"),
    zone("iterated50").hashed(0, 50, b"\xaa\xbb"),
    zone("iterated100").hashed(0, 100, b""),
    zone("iterated150").hashed(0, 150, b"\xaa\xbb"),
    zone("iterated151").hashed(0, 151, b""),
    zone("iterated500").hashed(0, 500, b"\xaa\xbb"),
    zone("optout").opt_out(),
    zone("optoutsalted").hashed(1, 10, b"\xaa"),
    zone("unknownhash").chain(Chain::Nsec3 { hash: 2, flags: 0, iterations: 0, salt: b"" }),
    zone("unknownflags").hashed(2, 0, b""),
    zone("nsec3unsigned")
        .nsec3()
        .spoil(|zone| zone.of_type(RecordType::NSEC3).for_each(|(_, set)| set.signatures.clear())),
    zone("nsec3expired").nsec3().spoil(|zone| resign_type(zone, RecordType::NSEC3, expire)),
    zone("nsec3tampered").nsec3().spoil(|zone| spoil_type(zone, RecordType::NSEC3)),
    zone("nsec3gone").nsec3().spoil(|zone| zone.sets.retain(|(_, rtype), _| *rtype != RecordType::NSEC3)),
    zone("nsec3apexgone").nsec3().spoil(|zone| {
        let owner = zone.hashed("");
        zone.sets.remove(&(owner, RecordType::NSEC3));
    }),
    zone("nsec3entgone").nsec3().spoil(|zone| {
        let owner = zone.hashed("ent");
        zone.sets.remove(&(owner, RecordType::NSEC3));
    }),
    zone("nsec3wildgone").nsec3().spoil(|zone| {
        let owner = zone.hashed("*.wild");
        zone.sets.remove(&(owner, RecordType::NSEC3));
    }),
    zone("paramgone").nsec3().spoil(|zone| zone.sets.retain(|(_, rtype), _| *rtype != RecordType::NSEC3PARAM)),
    zone("bothchains").nsec3().edit(|zone| {
        let (apex, www) = (zone.at(""), zone.at("www"));
        let types = [1, 2, 6, 16, 46, 47, 48].into();
        zone.add(&apex, RecordType::NSEC, [www.as_wire(), &bitmap(&types)].concat().into());
        zone.add(&www, RecordType::NSEC, [apex.as_wire(), &bitmap(&types)].concat().into());
    }),
    // Contents.
    zone("wildapex").edit(|zone| zone.add_text("* A 192.0.2.77\n* TXT wild")),
    zone("wildapex3").nsec3().edit(|zone| zone.add_text("* A 192.0.2.77\n* TXT wild")),
    zone("wildapexopt").opt_out().edit(|zone| zone.add_text("* A 192.0.2.77\n* TXT wild")),
    zone("wildcnameapex").edit(|zone| zone.add_text("* CNAME www")),
    zone("wildcnameapex3").nsec3().edit(|zone| zone.add_text("* CNAME www")),
    zone("wildstripped").spoil(|zone| zone.set("*.wild", RecordType::A).signatures.clear()),
    zone("cds").edit(|zone| {
        let (apex, key) = (zone.at(""), Key::new(ksk(P256)));
        zone.add(&apex, RecordType::CDS, key.ds(&apex, 2));
        zone.add(&apex, RecordType::CDNSKEY, key.dnskey());
    }),
    zone("dnameapex").edit(|zone| {
        let apex = zone.at("");
        zone.sets.retain(|(owner, rtype), _| *owner == apex && *rtype == RecordType::SOA);
        zone.add_text("@ NS ns.p256.kz.\n@ DNAME p256.kz.");
    }),
    // BIND 9.18 falls silent at keys that may not sign what they sign; these come last.
    zone("zskgone").keys(&[ksk(P256), unpublished(zsk(P256))]).expect(Bogus),
    zone("kskonly").keys(&[ksk(P256), idle(P256, 256)]).expect(Bogus),
    zone("kskgone").keys(&[unpublished(ksk(P256)), zsk(P256)]).expect(Bogus),
    zone("keysbyzsk").keys(&[idle(P256, 257), key(P256, 256, true, true)]).expect(Bogus),
    zone("nozonebitzsk").keys(&[ksk(P256), key(P256, 0, false, true)]).expect(Bogus),
    zone("revokedzsk").keys(&[ksk(P256), key(P256, 256 | 128, false, true)]).expect(Bogus),
    zone("protocolzsk").keys(&[ksk(P256), protocol(zsk(P256), 0)]).expect(Bogus),
];

fn expire(fields: &mut crate::zone::Fields) {
    (fields.inception, fields.expiration) = (time(-10 * DAY), time(-5 * DAY));
}

fn postpone(fields: &mut crate::zone::Fields) {
    (fields.inception, fields.expiration) = (time(5 * DAY), time(10 * DAY));
}

fn unsign(zone: &mut Zone) {
    zone.sets.values_mut().for_each(|set| set.signatures.clear());
}

fn tamper(zone: &mut Zone) {
    zone.set("www", RecordType::A).rdata[0][3] ^= 1;
}

fn spoil_type(zone: &mut Zone, rtype: RecordType) {
    for (_, set) in zone.of_type(rtype) {
        // The last octet of the bitmap.
        let data = &mut set.rdata[0];
        let last = data.len() - 1;
        data[last] ^= 0x40;
    }
}

fn resign_type(zone: &mut Zone, rtype: RecordType, change: fn(&mut crate::zone::Fields)) {
    let owners: Vec<DomainName> = zone.of_type(rtype).map(|(owner, _)| owner.clone()).collect();
    for owner in owners {
        zone.sign_set(&owner, rtype, change);
    }
}

/// Puts signatures of another kind before the good ones.
fn add_signatures(zone: &mut Zone, count: usize, change: fn(&mut crate::zone::Fields)) {
    let good: Vec<_> = zone.sets.iter().map(|(place, set)| (place.clone(), set.signatures.clone())).collect();
    zone.resign_all(change);
    for (place, signatures) in good {
        let set = zone.sets.get_mut(&place).expect("nothing was removed");
        let bad = set.signatures.clone();
        set.signatures = (0..count).flat_map(|_| bad.clone()).chain(signatures).collect();
    }
}

/// Gives the NSEC record of a name other types.
fn rewrite_nsec(zone: &mut Zone, label: &str, types: &[u16]) {
    let data = &mut zone.set(label, RecordType::NSEC).rdata[0];
    let next = DomainName::from_wire(leading(data)).expect("a name stands there");
    *data = [next.as_wire(), &bitmap(&types.iter().copied().collect())].concat().into();
    zone.resign(label, RecordType::NSEC, |_| {});
}

/// Lets every NSEC record reach only as far as the first name after its owner, as servers do that make them up.
fn shrink_nsec(zone: &mut Zone) {
    let owners: Vec<DomainName> = zone.of_type(RecordType::NSEC).map(|(owner, _)| owner.clone()).collect();
    for owner in owners {
        let data = &mut zone.sets.get_mut(&(owner.clone(), RecordType::NSEC)).expect("listed above").rdata[0];
        let types = data[leading(data).len()..].to_vec();
        let next = owner.child(&[0]).expect("owners are short");
        *data = [next.as_wire(), &types].concat().into();
        zone.sign_set(&owner, RecordType::NSEC, |_| {});
    }
}

/// The name that data begins with.
fn leading(data: &[u8]) -> &[u8] {
    let mut end = 0;
    while data[end] != 0 {
        end += 1 + usize::from(data[end]);
    }
    &data[..=end]
}

/// Adds so many keys with the tag of the one that signs the data, and as many signatures that look like its own.
///
/// Two octets of a key exchanged at an even distance leave its tag as it is (RFC 4034, appendix B).
fn collide(zone: &mut Zone, count: usize) {
    let apex = zone.at("");
    let real = zone.keys[1].dnskey();
    let look_alikes: Vec<Rdata> = (0..count)
        .map(|turn| {
            let mut data = real.clone();
            data[4..].rotate_left(2 * (turn + 1) % 62);
            data
        })
        .filter(|data| *data != real)
        .collect();
    let set = zone.set("", RecordType::DNSKEY);
    set.rdata.splice(0..0, look_alikes);
    zone.sign_set(&apex, RecordType::DNSKEY, |_| {});
}
