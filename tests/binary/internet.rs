//! A small internet on loopback: name servers for a root, `kz`, `com` and what lies below, signed and unsigned.
//!
//! Every server has an address of its own in 127.1.0.0/24 as far as the zones
//! say, and really listens on a port that the system picked; the resolver is
//! told of that by `resolver.port-map`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS};
use hickory_proto::dnssec::{Algorithm, DigestType, DnssecSigner, SigningKey};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::txt::Parser;
use hickory_server::Server;
use hickory_server::dnssec::NxProofKind;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Runtime;

/// One internet for all tests.
pub(crate) static WORLD: LazyLock<Internet> = LazyLock::new(Internet::start);

type Zone = InMemoryZoneHandler<TokioRuntimeProvider>;

/// How the names of a zone are denied.
#[derive(Clone, Copy, PartialEq)]
enum Signed {
    No,
    Nsec,
    Nsec3,
}

/// A zone before it is served.
struct Plan {
    origin: &'static str,
    server: u8,
    signed: Signed,
    /// The parent's DS is of another key: everything below is bogus.
    betrayed: bool,
    records: &'static str,
}

/// From the leaves to the root, so that a parent can be given the DS records of its children.
const ZONES: [Plan; 8] = [
    Plan {
        origin: "example.kz.",
        server: 4,
        signed: Signed::Nsec3,
        betrayed: false,
        records: "
            @ 300 IN NS ns1
            ns1 300 IN A 127.1.0.4
            www 300 IN A 192.0.2.10
            www 300 IN AAAA 2001:db8::10
            big 300 IN TXT \"a\" \"b\"
            ",
    },
    Plan {
        origin: "betrayed.kz.",
        server: 4,
        signed: Signed::Nsec,
        betrayed: true,
        records: "
            @ 300 IN NS ns1
            ns1 300 IN A 127.1.0.4
            www 300 IN A 192.0.2.66
            ",
    },
    Plan {
        origin: "plain.kz.",
        server: 4,
        signed: Signed::No,
        betrayed: false,
        records: "
            @ 300 IN NS ns1
            ns1 300 IN A 127.1.0.4
            www 300 IN A 192.0.2.20
            ",
    },
    Plan {
        origin: "example.com.",
        server: 5,
        signed: Signed::No,
        betrayed: false,
        records: "
            @ 300 IN NS ns1
            ns1 300 IN A 127.1.0.5
            @ 300 IN A 192.0.2.30
            www 300 IN CNAME example.com.
            shop 300 IN CNAME tracker.example.com.
            tracker 300 IN A 192.0.2.31
            * 300 IN A 192.0.2.32
            ",
    },
    Plan {
        origin: "gov.kz.",
        server: 4,
        signed: Signed::Nsec,
        betrayed: false,
        records: "
            @ 300 IN NS ns1
            ns1 300 IN A 127.1.0.4
            www 300 IN A 192.0.2.40
            ",
    },
    Plan {
        origin: "kz.",
        server: 2,
        signed: Signed::Nsec3,
        betrayed: false,
        records: "
            @ 3600 IN NS ns.nic
            ns.nic 3600 IN A 127.1.0.2
            example 3600 IN NS ns1.example
            ns1.example 3600 IN A 127.1.0.4
            betrayed 3600 IN NS ns1.betrayed
            ns1.betrayed 3600 IN A 127.1.0.4
            plain 3600 IN NS ns1.plain
            ns1.plain 3600 IN A 127.1.0.4
            gov 3600 IN NS ns1.gov
            ns1.gov 3600 IN A 127.1.0.4
            ",
    },
    Plan {
        origin: "com.",
        server: 3,
        signed: Signed::Nsec,
        betrayed: false,
        records: "
            @ 3600 IN NS ns.nic
            ns.nic 3600 IN A 127.1.0.3
            example 3600 IN NS ns1.example
            ns1.example 3600 IN A 127.1.0.5
            ",
    },
    Plan {
        origin: ".",
        server: 1,
        signed: Signed::Nsec,
        betrayed: false,
        records: "
            @ 86400 IN NS a.root-servers.net.
            a.root-servers.net. 86400 IN A 127.1.0.1
            kz. 86400 IN NS ns.nic.kz.
            ns.nic.kz. 86400 IN A 127.1.0.2
            com. 86400 IN NS ns.nic.com.
            ns.nic.com. 86400 IN A 127.1.0.3
            ",
    },
];

/// The name servers, which answer until this is dropped.
pub(crate) struct Internet {
    /// The address that a zone has for a server, and the one where it is.
    pub(crate) ports: BTreeMap<SocketAddr, SocketAddr>,
    /// The root's DS, as a master file has it.
    pub(crate) trust_anchor: String,
    /// The key that it is of.
    pub(crate) root_key: DNSKEY,
    _runtime: Runtime,
}

impl Internet {
    /// Signs the zones and starts their servers.
    pub(crate) fn start() -> Self {
        let (catalogs, trust_anchor, root_key) = sign_all();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let ports = runtime.block_on(async {
            let mut ports = BTreeMap::new();
            for (server, (catalog, glue)) in catalogs {
                let address = SocketAddr::from((Ipv4Addr::new(127, 1, 0, server), 53));
                ports.insert(address, serve(catalog, glue).await);
            }
            ports
        });
        Self { ports, trust_anchor, root_key, _runtime: runtime }
    }

    /// The `[resolver]` table that makes a resolver live in this internet; `folder` gets the files it names.
    pub(crate) fn resolver_table(&self, folder: &std::path::Path) -> String {
        std::fs::write(
            folder.join("root.hints"),
            ". 3600 IN NS a.root-servers.net.\na.root-servers.net. 3600 IN A 127.1.0.1\n",
        )
        .unwrap();
        std::fs::write(folder.join("root.key"), &self.trust_anchor).unwrap();
        let ports: Vec<String> = self.ports.iter().map(|(from, to)| format!("\"{from}\" = \"{to}\"")).collect();
        format!(
            "[resolver]\nroot-hints = \"root.hints\"\ntrust-anchors = [\"root.key\"]\nallow-upstream = [\"127.1.0.0/24\"]\nport-map = {{ {} }}\n",
            ports.join(", ")
        )
    }
}

/// The catalogs and glue by server, and the DS and the key of the root.
fn sign_all() -> (BTreeMap<u8, (Catalog, Glue)>, String, DNSKEY) {
    let mut catalogs: BTreeMap<u8, (Catalog, Glue)> = BTreeMap::new();
    let mut delegations: Vec<(Name, DS, DNSKEY)> = Vec::new();
    for plan in ZONES {
        let origin = Name::from_ascii(plan.origin).unwrap();
        // A line that begins with a blank would speak of the owner before it.
        let records: Vec<&str> = plan.records.lines().map(str::trim).collect();
        let text = format!("@ 300 IN SOA ns. hostmaster. 1 3600 600 86400 60\n{}\n", records.join("\n"));
        let (_, sets) = Parser::new(text, None, Some(origin.clone())).parse().unwrap();
        let records = sets.values().flat_map(|set| set.records_without_rrsigs());
        let glue: Glue = records.filter(|record| record.record_type() == RecordType::A).cloned().collect();
        let proof = match plan.signed {
            Signed::No => None,
            Signed::Nsec => Some(NxProofKind::Nsec),
            Signed::Nsec3 => Some(NxProofKind::Nsec3 {
                algorithm: Default::default(),
                salt: Arc::from([]),
                iterations: 0,
                opt_out: false,
            }),
        };
        let mut zone = Zone::new(origin.clone(), sets, ZoneType::Primary, AxfrPolicy::Deny, proof).unwrap();
        for (child, ds, _) in delegations.iter().filter(|(child, ..)| child.base_name() == origin) {
            let data = RData::DNSSEC(DNSSECRData::DS(ds.clone()));
            zone.upsert_mut(Record::from_rdata(child.clone(), 3600, data), 1);
        }
        if plan.signed != Signed::No {
            let (signer, ds) = key(&origin);
            let dnskey = signer.to_dnskey();
            let ds = if plan.betrayed { key(&origin).1 } else { ds };
            zone.add_zone_signing_key_mut(signer).unwrap();
            zone.secure_zone_mut().unwrap();
            delegations.push((origin.clone(), ds, dnskey));
        }
        let handler: Arc<dyn ZoneHandler> = Arc::new(zone);
        let (catalog, addresses) = catalogs.entry(plan.server).or_insert_with(|| (Catalog::new(), Glue::new()));
        catalog.upsert(origin.into(), vec![handler]);
        addresses.extend(glue);
    }
    let (_, ds, root_key) = delegations.into_iter().find(|(zone, ..)| zone.is_root()).unwrap();
    (catalogs, format!(". 3600 IN DS {ds}\n"), root_key)
}

/// A fresh key for a zone, and the DS that the parent has of it.
fn key(zone: &Name) -> (DnssecSigner, DS) {
    let algorithm = Algorithm::ECDSAP256SHA256;
    let pkcs8 = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
    let key = EcdsaSigningKey::from_pkcs8(&pkcs8, algorithm).unwrap();
    let public = key.to_public_key().unwrap();
    let dnskey = DNSKEY::from_key(&public);
    let ds = DS::from_key(&public, zone, DigestType::SHA256).unwrap();
    (DnssecSigner::new(dnskey, Box::new(key), zone.clone(), Duration::from_secs(86_400)), ds)
}

/// Serves a catalog over UDP and TCP on one free port.
async fn serve(catalog: Catalog, glue: Glue) -> SocketAddr {
    let hidden = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut server = Server::new(catalog);
    let behind = Behind { address: hidden.local_addr().unwrap(), glue: Arc::new(glue) };
    server.register_socket(hidden);
    tokio::spawn(async move { server.block_until_done().await });

    let (udp, tcp) = loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        // Somebody may have the port for TCP; then another one does as well.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (Arc::new(udp), tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let over_udp = behind.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((len, client)) = udp.recv_from(&mut buffer).await {
            let (query, behind, udp) = (buffer[..len].to_vec(), over_udp.clone(), Arc::clone(&udp));
            tokio::spawn(async move {
                if let Some(reply) = behind.answer(&query).await {
                    let _ = udp.send_to(&reply, client).await;
                }
            });
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let behind = behind.clone();
            tokio::spawn(async move {
                while let Ok(len) = stream.read_u16().await {
                    let mut query = vec![0; usize::from(len)];
                    stream.read_exact(&mut query).await?;
                    let Some(reply) = behind.answer(&query).await else { break };
                    stream.write_u16(reply.len() as u16).await?;
                    stream.write_all(&reply).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

/// The addresses of name servers, as the zones have them.
type Glue = Vec<Record>;

/// The name server, reached through what makes its replies those of RFC 1034 and RFC 4035. As hickory-server sends
/// them, referrals claim authority (AA) and have neither addresses nor DS records, and an answer has the NSEC3 record
/// of its name beside it, which hickory-resolver takes for a denial that does not hold. Beside answers, denials belong
/// to those of wildcards alone (RFC 4035, section 3.1.3), and no signed zone here has a wildcard.
#[derive(Clone)]
struct Behind {
    address: SocketAddr,
    glue: Arc<Glue>,
}

impl Behind {
    async fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let reply = self.ask(query).await?;
        let mut message = Message::from_vec(&reply).ok()?;
        if message.authorities.iter().any(|record| record.record_type() == RecordType::SOA) {
            return Some(reply);
        }
        if !message.answers.is_empty() {
            message.authorities.retain(|record| record.record_type() == RecordType::NS);
            return message.to_vec().ok();
        }
        let question = message.queries.first()?;
        let cut = message.authorities.iter().find(|record| record.record_type() == RecordType::NS);
        let Some(cut) = cut.map(|record| record.name.clone()) else { return Some(reply) };
        let mut ds = Message::new(question.name().len() as u16, MessageType::Query, OpCode::Query);
        ds.add_query(Query::query(cut.clone(), RecordType::DS));
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true).set_max_payload(4096);
        ds.set_edns(edns);
        let ds = Message::from_vec(&self.ask(&ds.to_vec().ok()?).await?).ok()?.answers;

        message.metadata.authoritative = false;
        let wants_dnssec = message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        // The delegation itself is not signed; a DS needs no proof that there is none.
        message.authorities.retain(|record| match record.record_type() {
            RecordType::NS => true,
            RecordType::RRSIG => wants_dnssec && ds.is_empty() && record.name != cut,
            _ => wants_dnssec && ds.is_empty(),
        });
        if wants_dnssec {
            message.authorities.extend(ds);
        }
        let servers: Vec<String> = message.authorities.iter().map(|record| record.data.to_string()).collect();
        message.additionals =
            self.glue.iter().filter(|glue| servers.contains(&glue.name.to_string())).cloned().collect();
        message.to_vec().ok()
    }

    async fn ask(&self, query: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
        socket.send_to(query, self.address).await.ok()?;
        let mut buffer = vec![0; 65_535];
        let len = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await.ok()?.ok()?;
        buffer.truncate(len);
        Some(buffer)
    }
}
