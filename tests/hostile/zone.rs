//! Zones, written in a small master-file syntax, and how an honest server answers from them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use qalqan::name::{DomainName, Name};
use qalqan::query::RecordType;
use qalqan::wire::Header;

use crate::message::{Record, Reply};

/// The TTL of records that do not give one.
pub const TTL: u32 = 3600;
const NXDOMAIN: u16 = 3;
const YXDOMAIN: u16 = 6;

/// One zone's data.
#[derive(Debug, Clone)]
pub struct Zone {
    pub origin: DomainName,
    /// Every owner's records; names between owners are there with none.
    nodes: BTreeMap<DomainName, Vec<Record>>,
}

impl Zone {
    /// Reads lines of `owner [ttl] TYPE data`; names without a dot at the end are below the origin, `@` is the origin.
    ///
    /// An SOA record is made up.
    ///
    /// # Panics
    ///
    /// When a line is wrong: the worlds are part of the tests.
    pub fn parse(origin: &str, text: &str) -> Self {
        let origin: DomainName = origin.parse().expect("the origin is a name");
        let mut zone = Self { nodes: BTreeMap::new(), origin };
        let mut soa = zone.name("ns").as_wire().to_vec();
        soa.extend(zone.name("hostmaster").as_wire());
        for number in [1u32, 7200, 600, 86400, 300] {
            soa.extend(number.to_be_bytes());
        }
        zone.insert(Record::new(&zone.origin.clone(), RecordType::SOA, TTL, soa));
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            zone.add(line);
        }
        zone
    }

    /// Adds one line.
    pub fn add(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("{line:?} is too short"));
        let owner = self.name(word());
        let mut rtype = word();
        let mut ttl = TTL;
        if let Ok(number) = rtype.parse() {
            (ttl, rtype) = (number, word());
        }
        let rtype: RecordType = rtype.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let data = word();
        let rdata = match rtype {
            RecordType::A => data.parse::<Ipv4Addr>().expect("an address").octets().to_vec(),
            RecordType::AAAA => data.parse::<Ipv6Addr>().expect("an address").octets().to_vec(),
            RecordType::NS | RecordType::CNAME | RecordType::DNAME | RecordType::PTR => {
                self.name(data).as_wire().to_vec()
            }
            RecordType::MX => [&10u16.to_be_bytes(), self.name(data).as_wire()].concat(),
            RecordType::TXT => {
                data.as_bytes().chunks(255).flat_map(|part| [&[part.len() as u8][..], part].concat()).collect()
            }
            other => panic!("{line:?}: {other} cannot be written here"),
        };
        self.insert(Record::new(&owner, rtype, ttl, rdata));
    }

    fn insert(&mut self, record: Record) {
        for above in record.name.ancestors().skip(1).take_while(|above| above.is_at_or_below(&self.origin)) {
            self.nodes.entry(above.to_owned()).or_default();
        }
        self.nodes.entry(record.name.clone()).or_default().push(record);
    }

    fn name(&self, text: &str) -> DomainName {
        match text.strip_suffix('.') {
            Some("") => DomainName::root(),
            Some(absolute) => absolute.parse().expect("a name"),
            None if text == "@" => self.origin.clone(),
            None if self.origin.is_root() => text.parse().expect("a name"),
            None => format!("{text}.{}", self.origin).parse().expect("a name"),
        }
    }

    /// All records of this owner and type; all of the owner for ANY.
    pub fn records(&self, name: &Name, rtype: RecordType) -> impl Iterator<Item = &Record> {
        let all = self.nodes.get(name).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(move |record| record.rtype == rtype || rtype == RecordType::ANY)
    }

    /// Whether this name has no records but names below it have.
    pub fn is_empty_non_terminal(&self, name: &Name) -> bool {
        self.nodes.get(name).is_some_and(Vec::is_empty)
    }

    /// The SOA record.
    pub fn soa(&self) -> Record {
        self.records(&self.origin, RecordType::SOA).next().expect("made with the zone").clone()
    }

    /// Answers as RFC 1034, section 4.3.2, and RFC 6672, section 3.2, say, for names in this zone only.
    pub fn answer(&self, name: &Name, qtype: RecordType, reply: &mut Reply) {
        reply.flags |= Header::AA;
        let mut name = name.to_owned();
        for _ in 0..24 {
            match self.step(&name, qtype, reply) {
                Some(target)
                    if target.is_at_or_below(&self.origin)
                        && !reply.answer.iter().any(|record| record.name == target) =>
                {
                    name = target;
                }
                _ => return,
            }
        }
    }

    /// Answers for one name of a chain; says where the chain goes on.
    fn step(&self, name: &Name, qtype: RecordType, reply: &mut Reply) -> Option<DomainName> {
        // From the origin down: delegations and DNAMEs on the way.
        let depth = self.origin.label_count();
        for labels in depth..=name.label_count() {
            let node = name.suffix(labels);
            if labels > depth && self.records(node, RecordType::NS).next().is_some() {
                self.refer(node, reply);
                return None;
            }
            if let Some(dname) = self.records(node, RecordType::DNAME).next().filter(|_| node != name) {
                reply.answer.push(dname.clone());
                let Ok(target) = name.with_suffix_replaced(node, &dname.target().expect("it holds a name")) else {
                    reply.rcode = YXDOMAIN;
                    return None;
                };
                reply.answer.push(Record::new(name, RecordType::CNAME, dname.ttl, target.as_wire().to_vec()));
                return Some(target);
            }
        }
        // The name itself, or the wildcard at its closest encloser (RFC 4592).
        let mut source = name.to_owned();
        if !self.nodes.contains_key(name) {
            let encloser = name.ancestors().find(|above| self.nodes.contains_key(*above)).unwrap_or(&self.origin);
            source = encloser.child(b"*").expect("names in worlds are short");
            if !self.nodes.contains_key(&*source) {
                reply.rcode = NXDOMAIN;
                reply.authority.push(self.soa());
                return None;
            }
        }
        let own = |record: &Record| Record { name: name.to_owned(), ..record.clone() };
        let found: Vec<Record> = self.records(&source, qtype).map(own).collect();
        if found.is_empty() {
            if let Some(cname) = self.records(&source, RecordType::CNAME).next() {
                reply.answer.push(own(cname));
                return cname.target();
            }
            reply.authority.push(self.soa());
            return None;
        }
        if qtype == RecordType::NS {
            self.add_glue(&found, reply);
        }
        reply.answer.extend(found);
        None
    }

    /// Puts the delegation at `cut` into the reply.
    pub fn refer(&self, cut: &Name, reply: &mut Reply) {
        if reply.answer.is_empty() {
            reply.flags &= !Header::AA;
        }
        let servers: Vec<Record> = self.records(cut, RecordType::NS).cloned().collect();
        self.add_glue(&servers, reply);
        reply.authority.extend(servers);
    }

    fn add_glue(&self, servers: &[Record], reply: &mut Reply) {
        for target in servers.iter().filter_map(Record::target) {
            for rtype in [RecordType::A, RecordType::AAAA] {
                reply.additional.extend(self.records(&target, rtype).cloned());
            }
        }
    }
}
