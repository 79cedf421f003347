//! Zones that are signed as well, or as badly, as a test wants it.
//!
//! Signing tools refuse to make most of what a validator must survive, so the
//! zones are signed here: [`Zone::sign`] makes a chain of denials and all
//! signatures, and everything can be edited before and after. The peers in
//! the comparison are what says that it was done right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use qalqan::name::{DomainName, Name};
use qalqan::query::RecordType;
pub(crate) use qalqan::recursor::dnssec::algorithms::number::{
    ECDSAP256SHA256 as P256, ECDSAP384SHA384 as P384, ED25519, RSASHA1, RSASHA1_NSEC3_SHA1, RSASHA256, RSASHA512,
};
use qalqan::recursor::dnssec::rdata::{Dnskey, Rrsig};
use qalqan::recursor::dnssec::{canonical, denial};
use qalqan::recursor::message::Rdata;
use rand::rngs::SysRng;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair,
};
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, PrivateKey};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::record;

/// The TTL of everything that is made here.
pub(crate) const TTL: u32 = 300;

/// What a key is and does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyPlan {
    pub(crate) algorithm: u8,
    pub(crate) flags: u16,
    pub(crate) protocol: u8,
    /// Whether it stands in the DNSKEY set.
    pub(crate) published: bool,
    pub(crate) signs_keys: bool,
    pub(crate) signs_data: bool,
}

/// A key with its private half; what no library here can sign with signs noise.
pub(crate) struct Key {
    pub(crate) plan: KeyPlan,
    pub(crate) public: Vec<u8>,
    private: Private,
}

enum Private {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(&'static PrivateKey),
    Noise,
}

/// RSA keys are dear to make; all zones share one.
static RSA: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::new(&mut SysRng, 1024).expect("there is randomness"));

impl Key {
    pub(crate) fn new(plan: KeyPlan) -> Self {
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            let random = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("there is randomness");
            EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("made a line above")
        };
        let (public, private) = match plan.algorithm {
            ED25519 => {
                let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("there is randomness");
                let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("made a line above");
                (pair.public_key().as_ref().to_vec(), Private::Ed25519(pair))
            }
            P256 => {
                let pair = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
                (pair.public_key().as_ref()[1..].to_vec(), Private::Ecdsa(pair))
            }
            P384 => {
                let pair = ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING);
                (pair.public_key().as_ref()[1..].to_vec(), Private::Ecdsa(pair))
            }
            RSASHA1 | RSASHA1_NSEC3_SHA1 | RSASHA256 | RSASHA512 => {
                let exponent = RSA.e_bytes();
                let public = [&[exponent.len() as u8][..], &exponent, &RSA.n_bytes()].concat();
                (public, Private::Rsa(&RSA))
            }
            _ => ((0..57u8).collect(), Private::Noise),
        };
        Self { plan, public, private }
    }

    /// The data of its DNSKEY record.
    pub(crate) fn dnskey(&self) -> Rdata {
        let [high, low] = self.plan.flags.to_be_bytes();
        [&[high, low, self.plan.protocol, self.plan.algorithm][..], &self.public].concat().into()
    }

    pub(crate) fn tag(&self) -> u16 {
        Dnskey::parse(&self.dnskey()).expect("just written").key_tag()
    }

    /// The data of a DS record for it.
    pub(crate) fn ds(&self, zone: &Name, digest_type: u8) -> Rdata {
        let signed = [zone.as_wire(), &self.dnskey()].concat();
        let digest = match digest_type {
            1 => Sha1::digest(&signed).to_vec(),
            4 => Sha384::digest(&signed).to_vec(),
            _ => Sha256::digest(&signed).to_vec(),
        };
        [&self.tag().to_be_bytes()[..], &[self.plan.algorithm, digest_type], &digest].concat().into()
    }

    fn sign(&self, data: &[u8]) -> Vec<u8> {
        match &self.private {
            Private::Ed25519(pair) => pair.sign(data).as_ref().to_vec(),
            Private::Ecdsa(pair) => {
                pair.sign(&SystemRandom::new(), data).expect("there is randomness").as_ref().to_vec()
            }
            Private::Rsa(key) => match self.plan.algorithm {
                RSASHA256 => key.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(data)),
                RSASHA512 => key.sign(Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(data)),
                _ => key.sign(Pkcs1v15Sign::new::<Sha1>(), &Sha1::digest(data)),
            }
            .expect("the key is long enough"),
            Private::Noise => vec![7; 114],
        }
    }
}

/// How a zone says what it has not.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chain {
    None,
    Nsec,
    Nsec3 { hash: u8, flags: u8, iterations: u16, salt: &'static [u8] },
}

impl Chain {
    pub(crate) fn opts_out(self) -> bool {
        matches!(self, Self::Nsec3 { flags, .. } if flags & 1 != 0)
    }
}

/// What a signature says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    pub(crate) covered: RecordType,
    pub(crate) algorithm: u8,
    pub(crate) labels: u8,
    pub(crate) original_ttl: u32,
    pub(crate) expiration: u32,
    pub(crate) inception: u32,
    pub(crate) tag: u16,
    pub(crate) signer: DomainName,
}

/// Records of one name and type.
#[derive(Debug, Clone, Default)]
pub(crate) struct Set {
    pub(crate) ttl: u32,
    pub(crate) rdata: Vec<Rdata>,
    pub(crate) signatures: Vec<Rdata>,
}

/// A zone under construction.
pub(crate) struct Zone {
    pub(crate) name: DomainName,
    pub(crate) sets: BTreeMap<(DomainName, RecordType), Set>,
    pub(crate) keys: Vec<Key>,
    pub(crate) chain: Chain,
    /// When signatures begin and end, in seconds from now.
    pub(crate) window: (i64, i64),
}

/// Seconds since 1970, so many seconds from now.
pub(crate) fn time(offset: i64) -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    now.saturating_add_signed(offset) as u32
}

impl Zone {
    /// A zone with the records of `text`, names relative to its own, and the keys of `plans`.
    pub(crate) fn new(name: &Name, text: &str, plans: &[KeyPlan], chain: Chain, window: (i64, i64)) -> Self {
        let keys = plans.iter().copied().map(Key::new).collect();
        let mut zone = Self { name: name.to_owned(), sets: BTreeMap::new(), keys, chain, window };
        zone.add_text(text);
        zone
    }

    pub(crate) fn add_text(&mut self, text: &str) {
        let wire = self.name.as_wire().to_vec();
        let mut context = record::Context { origin: wire.clone(), ttl: TTL, owner: wire };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let read = record::parse_record(line, &mut context).unwrap_or_else(|error| panic!("{line}: {error}"));
            let owner = DomainName::from_wire(&read.owner).expect("it was parsed");
            self.add(&owner, read.rtype, read.data.into());
        }
    }

    pub(crate) fn add(&mut self, owner: &Name, rtype: RecordType, data: Rdata) {
        let set = self.sets.entry((owner.to_owned(), rtype)).or_default();
        set.ttl = TTL;
        set.rdata.push(data);
    }

    /// The name of `label` in the zone; the empty one stands for the apex.
    pub(crate) fn at(&self, label: &str) -> DomainName {
        let labels = if label.is_empty() { Vec::new() } else { label.split('.').rev().collect() };
        labels.iter().fold(self.name.clone(), |name, label| name.child(label.as_bytes()).expect("labels are short"))
    }

    pub(crate) fn set(&mut self, label: &str, rtype: RecordType) -> &mut Set {
        let key = (self.at(label), rtype);
        self.sets.get_mut(&key).unwrap_or_else(|| panic!("no {rtype} at {label:?}"))
    }

    /// All sets of a type.
    pub(crate) fn of_type(&mut self, rtype: RecordType) -> impl Iterator<Item = (&DomainName, &mut Set)> {
        self.sets.iter_mut().filter(move |((_, of), _)| *of == rtype).map(|((owner, _), set)| (owner, set))
    }

    /// Adds keys and the chain of denials, and signs everything.
    pub(crate) fn sign(&mut self) {
        let apex = self.name.clone();
        for key in 0..self.keys.len() {
            if self.keys[key].plan.published {
                self.add(&apex, RecordType::DNSKEY, self.keys[key].dnskey());
            }
        }
        match self.chain {
            Chain::None => {}
            Chain::Nsec => self.link_names(),
            Chain::Nsec3 { hash, flags, iterations, salt } => {
                let parameters = |flags| {
                    let [high, low] = u16::to_be_bytes(iterations);
                    [&[hash, flags, high, low, salt.len() as u8][..], salt].concat()
                };
                self.add(&apex, RecordType::NSEC3PARAM, parameters(0).into());
                self.link_hashes(&parameters(flags), iterations, salt);
            }
        }
        let signed: Vec<_> = self.sets.keys().filter(|(owner, rtype)| self.is_signed(owner, *rtype)).cloned().collect();
        for (owner, rtype) in signed {
            self.sign_set(&owner, rtype, |_| {});
        }
    }

    /// Signs a set with the keys that are for it, in place of the signatures that it has.
    pub(crate) fn sign_set(&mut self, owner: &Name, rtype: RecordType, change: impl Fn(&mut Fields)) {
        let place = (owner.to_owned(), rtype);
        let mut set = self.sets.remove(&place).unwrap_or_else(|| panic!("no {rtype} at {owner}"));
        let keys = self.keys.iter().filter(|key| match rtype {
            RecordType::DNSKEY => key.plan.signs_keys,
            _ => key.plan.signs_data,
        });
        set.signatures = keys.map(|key| self.signature(key, owner, rtype, &set, &change)).collect();
        self.sets.insert(place, set);
    }

    /// As [`sign_set`](Self::sign_set), by a label.
    pub(crate) fn resign(&mut self, label: &str, rtype: RecordType, change: impl Fn(&mut Fields)) {
        let owner = self.at(label);
        self.sign_set(&owner, rtype, change);
    }

    /// Signs everything anew.
    pub(crate) fn resign_all(&mut self, change: impl Fn(&mut Fields)) {
        let signed: Vec<_> =
            self.sets.iter().filter(|(_, set)| !set.signatures.is_empty()).map(|(place, _)| place.clone()).collect();
        for (owner, rtype) in signed {
            self.sign_set(&owner, rtype, &change);
        }
    }

    /// What `key` signs, after `change` had its way with it.
    pub(crate) fn signature(
        &self,
        key: &Key,
        owner: &Name,
        rtype: RecordType,
        set: &Set,
        change: impl Fn(&mut Fields),
    ) -> Rdata {
        let is_wildcard = owner.labels().next() == Some(b"*");
        let mut fields = Fields {
            covered: rtype,
            algorithm: key.plan.algorithm,
            labels: (owner.label_count() - usize::from(is_wildcard)) as u8,
            original_ttl: set.ttl,
            expiration: time(self.window.1),
            inception: time(self.window.0),
            tag: key.tag(),
            signer: self.name.clone(),
        };
        change(&mut fields);
        let mut rdata = fields.covered.0.to_be_bytes().to_vec();
        rdata.extend([fields.algorithm, fields.labels]);
        for long in [fields.original_ttl, fields.expiration, fields.inception] {
            rdata.extend(long.to_be_bytes());
        }
        rdata.extend(fields.tag.to_be_bytes());
        rdata.extend(fields.signer.as_wire());
        let unsigned = [&rdata[..], &[0]].concat();
        let rrsig = Rrsig::parse(&unsigned).expect("all fields are there");
        rdata.extend(key.sign(&canonical::signed_data(&rrsig, owner, &set.rdata)));
        rdata.into()
    }

    /// The cut at or above a name, below the apex.
    fn cut(&self, owner: &Name) -> Option<&Name> {
        owner
            .ancestors()
            .filter(|above| above.is_below(&self.name))
            .filter_map(|above| self.sets.get_key_value(&(above.to_owned(), RecordType::NS)))
            .map(|((cut, _), _)| &**cut)
            .last()
    }

    fn is_signed(&self, owner: &Name, rtype: RecordType) -> bool {
        match self.cut(owner) {
            None => true,
            Some(cut) => cut == owner && matches!(rtype, RecordType::DS | RecordType::NSEC),
        }
    }

    /// The names that are the zone's own, with their types.
    fn names(&self) -> BTreeMap<DomainName, BTreeSet<u16>> {
        let mut names: BTreeMap<DomainName, BTreeSet<u16>> = BTreeMap::new();
        for (owner, rtype) in self.sets.keys() {
            match self.cut(owner) {
                Some(cut) if cut != &**owner => {}
                Some(_) if !matches!(*rtype, RecordType::NS | RecordType::DS) => {}
                _ => {
                    names.entry(owner.clone()).or_default().insert(rtype.0);
                }
            }
        }
        names
    }

    fn link_names(&mut self) {
        let names = self.names();
        let owners: Vec<&DomainName> = names.keys().collect();
        for (place, (owner, types)) in names.iter().enumerate() {
            let next = owners[(place + 1) % owners.len()];
            let mut types = types.clone();
            types.extend([RecordType::RRSIG.0, RecordType::NSEC.0]);
            self.add(owner, RecordType::NSEC, [next.as_wire(), &bitmap(&types)].concat().into());
        }
    }

    fn link_hashes(&mut self, parameters: &[u8], iterations: u16, salt: &[u8]) {
        let (ns, ds) = (RecordType::NS.0, RecordType::DS.0);
        let is_unsigned = |owner: &DomainName, types: &BTreeSet<u16>| {
            *owner != self.name && types.contains(&ns) && !types.contains(&ds)
        };
        let mut names = self.names();
        if self.chain.opts_out() {
            names.retain(|owner, types| !is_unsigned(owner, types));
        }
        // Empty names between others have a record too.
        for owner in names.keys().cloned().collect::<Vec<_>>() {
            for above in owner.ancestors().skip(1).take_while(|above| above.is_at_or_below(&self.name)) {
                names.entry(above.to_owned()).or_default();
            }
        }
        let mut hashes = BTreeMap::new();
        for (owner, mut types) in names {
            if !types.is_empty() && !is_unsigned(&owner, &types) {
                types.insert(RecordType::RRSIG.0);
            }
            hashes.insert(denial::hash(&owner, salt, iterations), types);
        }
        let order: Vec<[u8; 20]> = hashes.keys().copied().collect();
        for (place, (hash, types)) in hashes.iter().enumerate() {
            let next = order[(place + 1) % order.len()];
            let owner = self.name.child(base32(hash).as_bytes()).expect("32 octets");
            let data = [parameters, &[20], &next, &bitmap(types)].concat();
            self.add(&owner, RecordType::NSEC3, data.into());
        }
    }

    /// The owner of the NSEC3 record for a label.
    pub(crate) fn hashed(&self, label: &str) -> DomainName {
        let Chain::Nsec3 { iterations, salt, .. } = self.chain else { panic!("{} has no hashes", self.name) };
        let hash = denial::hash(&self.at(label), salt, iterations);
        self.name.child(base32(&hash).as_bytes()).expect("32 octets")
    }

    /// The zone as a file, in the generic form of RFC 3597 that says nothing about types.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for ((owner, rtype), set) in &self.sets {
            let owner = if owner.is_root() { ".".to_owned() } else { format!("{owner}.") };
            let mut line = |rtype: u16, data: &[u8]| {
                write!(text, "{owner} {} IN TYPE{rtype} \\# {} ", set.ttl, data.len()).expect("text grows");
                data.iter().for_each(|octet| write!(text, "{octet:02x}").expect("text grows"));
                text.push('\n');
            };
            set.rdata.iter().for_each(|data| line(rtype.0, data));
            set.signatures.iter().for_each(|data| line(RecordType::RRSIG.0, data));
        }
        // A server wants to see the start of authority first.
        let (first, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.contains(" TYPE6 "));
        [first, rest].concat().join("\n") + "\n"
    }
}

/// A type bitmap (RFC 4034, section 4.1.2).
pub(crate) fn bitmap(types: &BTreeSet<u16>) -> Vec<u8> {
    let mut windows: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for rtype in types {
        let [window, low] = rtype.to_be_bytes();
        let bits = windows.entry(window).or_default();
        let place = usize::from(low / 8);
        bits.resize(bits.len().max(place + 1), 0);
        bits[place] |= 0x80 >> (low % 8);
    }
    windows.into_iter().flat_map(|(window, bits)| [vec![window, bits.len() as u8], bits].concat()).collect()
}

/// RFC 4648, section 7, in lower case.
pub(crate) fn base32(hash: &[u8; 20]) -> String {
    let digits = b"0123456789abcdefghijklmnopqrstuv";
    hash.chunks(5)
        .flat_map(|five| {
            let bits = five.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
            (0..8).rev().map(move |place| char::from(digits[(bits >> (5 * place) & 31) as usize]))
        })
        .collect()
}
