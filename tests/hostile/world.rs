//! A small internet: its zones, its name servers, and what is true in it.
//!
//! Addresses of servers are from 198.18.0.0/15 and 2001:2::/48, set aside for
//! such tests (RFC 2544, RFC 5180). The top:
//!
//! ```text
//! .             198.18.0.1, .2      a and b.root-servers.net
//! kz            198.18.1.1, .2      a and b.nic.kz
//! net           198.18.2.1, .2      a and b.nic.net
//! arpa          198.18.3.1, .2      a and b.nic.arpa; serve ip6.arpa too
//! hoster.net    198.18.4.1, .2      whose names other zones' servers have
//! victim.kz     198.18.5.1, .2      whom the poisoners are after
//! leaf.kz       198.18.10.1, ...    whom the questions are about; its reverse zone too
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use qalqan::name::{DomainName, Name};
use qalqan::query::RecordType;
use tokio::time::Instant;

use crate::message::{Record, Reply};
use crate::server::{Carrier, Fault, Reaction, Server};
use crate::zone::Zone;

/// What no answer may ever hold: the address to which every forged record leads.
pub const POISON: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 19, 66, 66));

/// The root servers, as the resolver is told of them.
pub const ROOTS: [(&str, IpAddr); 2] = [("a.root-servers.net", v4(0, 1)), ("b.root-servers.net", v4(0, 2))];

/// 198.18.`net`.`host`
pub const fn v4(net: u8, host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 18, net, host))
}

/// 2001:2::`net`:`host`
pub const fn v6(net: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, net, host))
}

/// The reverse zone of 2001:2:0:abcd::/64, served by leaf.kz's servers.
pub const REVERSE: &str = "d.c.b.a.0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa";

const LEAF: &str = "
    www A 203.0.113.1
    www AAAA 2001:db8::1
    alias CNAME www
    far CNAME www.victim.kz.
    old DNAME new
    x.new A 203.0.113.2
    a.b.c.d.e.f A 203.0.113.3
    *.wild A 203.0.113.4
    short 2 A 203.0.113.5";

/// The zones and the servers.
#[derive(Debug)]
pub struct World {
    /// True zones first; zones that only liars serve are marked so.
    zones: Vec<(Zone, bool)>,
    servers: BTreeMap<IpAddr, Server>,
    /// Queries that any server has received.
    received: AtomicU32,
    random: AtomicU64,
    /// When the first query came.
    began: OnceLock<Instant>,
}

/// What a client should be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    pub rcode: u16,
    /// The data of the records asked for, sorted.
    pub rdata: Vec<Vec<u8>>,
}

impl World {
    /// All of the above but `leaf.kz`.
    pub fn new() -> Self {
        let mut world = Self {
            zones: Vec::new(),
            servers: BTreeMap::new(),
            received: AtomicU32::new(0),
            random: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
            began: OnceLock::new(),
        };
        world.pair(".", 0, ["a.root-servers.net", "b.root-servers.net"], "");
        for (origin, net) in [("kz", 1), ("net", 2), ("arpa", 3)] {
            let names = [format!("a.nic.{origin}"), format!("b.nic.{origin}")];
            let names = names.each_ref().map(String::as_str);
            world.pair(origin, net, names, "");
            world.delegate(".", origin, net, &names);
        }
        world.pair("ip6.arpa", 3, ["a.nic.arpa", "b.nic.arpa"], "");
        world.add("arpa", "ip6 NS a.nic.arpa.");
        world.add("arpa", "ip6 NS b.nic.arpa.");
        world.pair("hoster.net", 4, ["ns1.hoster.net", "ns2.hoster.net"], "");
        world.delegate("net", "hoster.net", 4, &["ns1.hoster.net", "ns2.hoster.net"]);
        world.pair("victim.kz", 5, ["ns1.victim.kz", "ns2.victim.kz"], "www A 203.0.113.77\nbank A 203.0.113.78");
        world.delegate("kz", "victim.kz", 5, &["ns1.victim.kz", "ns2.victim.kz"]);
        // The poisoners' own server tells everyone what they wish.
        world.serve_with(POISON, &[], [Fault::Evil(POISON)]);
        world
    }

    /// With `leaf.kz` on `count` servers that have names in it, glue at the parent.
    pub fn with_leaf(count: u8) -> Self {
        let mut world = Self::new();
        let names: Vec<String> = (1..=count).map(|host| format!("ns{host}.leaf.kz")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        world.leaf(&names);
        world.delegate("kz", "leaf.kz", 10, &names);
        for (name, host) in names.iter().zip(1..) {
            world.add("leaf.kz", &format!("{name}. A {}", v4(10, host)));
        }
        world
    }

    /// With `leaf.kz` on `count` servers that have names in `hoster.net`: the parent has no glue.
    pub fn with_hosted_leaf(count: u8) -> Self {
        let mut world = Self::new();
        let names: Vec<String> = (1..=count).map(|host| format!("leaf-ns{host}.hoster.net")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        world.leaf(&names);
        for (name, host) in names.iter().zip(1..) {
            world.add("kz", &format!("leaf NS {name}."));
            world.add("hoster.net", &format!("{name}. A {}", v4(10, host)));
        }
        world
    }

    /// The zone `leaf.kz` and its reverse zone, on servers with these names, from 198.18.10.1 on; not yet delegated.
    pub fn leaf(&mut self, names: &[&str]) {
        self.zone(Zone::parse("leaf.kz", LEAF));
        self.zone(Zone::parse(REVERSE, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 PTR www.leaf.kz."));
        for (owner, octets) in [("middling", 900), ("big", 2400), ("huge", 60_000)] {
            self.add("leaf.kz", &format!("{owner} TXT {}", "x".repeat(octets)));
        }
        for (name, host) in names.iter().zip(1..) {
            for origin in ["leaf.kz", REVERSE] {
                self.add(origin, &format!("@ NS {name}."));
            }
            self.add("ip6.arpa", &format!("{REVERSE}. NS {name}."));
            self.serve_with(v4(10, host), &["leaf.kz", REVERSE], []);
        }
    }

    /// A zone on two servers with names below their own zone or an ancestor of it.
    fn pair(&mut self, origin: &str, net: u8, names: [&str; 2], text: &str) {
        let mut zone = Zone::parse(origin, text);
        for (name, host) in names.into_iter().zip(1..) {
            zone.add(&format!("@ NS {name}."));
            zone.add(&format!("{name}. A {}", v4(net, host)));
        }
        self.zone(zone);
        for host in 1..=2 {
            self.serve_with(v4(net, host), &[origin], []);
        }
    }

    /// Delegates `child` in `parent` to servers of these names at 198.18.`net`.1 and on, with glue.
    pub fn delegate(&mut self, parent: &str, child: &str, net: u8, names: &[&str]) {
        for (name, host) in names.iter().zip(1..) {
            self.add(parent, &format!("{child}. NS {name}."));
            self.add(parent, &format!("{name}. A {}", v4(net, host)));
        }
    }

    /// Makes a zone part of the truth.
    pub fn zone(&mut self, zone: Zone) {
        self.zones.push((zone, true));
    }

    /// Adds a line to a true zone.
    pub fn add(&mut self, origin: &str, line: &str) {
        self.zone_mut(origin).add(line);
    }

    /// A true zone.
    pub fn zone_mut(&mut self, origin: &str) -> &mut Zone {
        let name: DomainName = origin.parse().expect("a name");
        let found = self.zones.iter_mut().find(|(zone, truth)| *truth && zone.origin == name);
        &mut found.unwrap_or_else(|| panic!("no zone {origin}")).0
    }

    /// Lets the server at `address`, made if there is none, serve these true zones, with these faults more.
    pub fn serve_with(&mut self, address: IpAddr, origins: &[&str], faults: impl IntoIterator<Item = Fault>) {
        let zones: Vec<usize> = origins
            .iter()
            .map(|origin| {
                let name: DomainName = origin.parse().expect("a name");
                let place = self.zones.iter().position(|(zone, truth)| *truth && zone.origin == name);
                place.unwrap_or_else(|| panic!("no zone {origin}"))
            })
            .collect();
        let server = self.servers.entry(address).or_default();
        server.zones.extend(zones);
        server.faults.extend(faults.into_iter().map(|fault| (fault, AtomicU32::new(0))));
    }

    /// Lets the server at `address` serve a zone that is no part of the truth.
    pub fn serve_lie(&mut self, address: IpAddr, zone: Zone) {
        self.zones.push((zone, false));
        self.servers.entry(address).or_default().zones.push(self.zones.len() - 1);
    }

    /// Gives the server at `address` a fault.
    pub fn fault(&mut self, address: IpAddr, fault: Fault) {
        let server = self.servers.get_mut(&address).unwrap_or_else(|| panic!("no server {address}"));
        server.faults.push((fault, AtomicU32::new(0)));
    }

    /// The addresses of all servers.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.servers.keys().copied()
    }

    /// How many queries the servers have received.
    pub fn received(&self) -> u32 {
        self.received.load(Ordering::Relaxed)
    }

    /// A query arrives at `address`.
    pub fn receive(&self, address: IpAddr, bytes: &[u8], carrier: Carrier) -> Reaction {
        self.received.fetch_add(1, Ordering::Relaxed);
        let Some(server) = self.servers.get(&address) else {
            return Reaction::Unreachable;
        };
        // Weyl's sequence through a mixer: the same chances in every run.
        let state = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let age = self.began.get_or_init(Instant::now).elapsed();
        server.react(&self.zones, bytes, carrier, age, (mixed >> 32) as u32)
    }

    /// What is true about a name: chains followed through all true zones.
    pub fn truth(&self, name: &Name, qtype: RecordType) -> Truth {
        let mut name = name.to_owned();
        for _ in 0..64 {
            let enclosing = self.zones.iter().filter(|(zone, truth)| *truth && name.is_at_or_below(&zone.origin));
            let (zone, _) = enclosing.max_by_key(|(zone, _)| zone.origin.label_count()).expect("there is a root");
            let mut reply = Reply::empty();
            zone.answer(&name, qtype, &mut reply);
            let mut rdata: Vec<Vec<u8>> = of_type(&reply.answer, qtype).collect();
            let last = reply.answer.iter().rev().find_map(|record| {
                (record.rtype == RecordType::CNAME && qtype != RecordType::CNAME).then(|| record.target())?
            });
            match last {
                Some(target) if rdata.is_empty() && reply.rcode == 0 && !target.is_at_or_below(&zone.origin) => {
                    name = target;
                }
                _ => {
                    rdata.sort();
                    return Truth { rcode: reply.rcode, rdata };
                }
            }
        }
        Truth { rcode: 2, rdata: Vec::new() }
    }
}

/// The data of all records of this type.
pub fn of_type(records: &[Record], qtype: RecordType) -> impl Iterator<Item = Vec<u8>> {
    records.iter().filter(move |record| record.rtype == qtype).map(|record| record.rdata.clone())
}
