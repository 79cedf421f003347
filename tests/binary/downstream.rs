//! A validating resolver that forwards to the binary: hickory-resolver, which fetches every DS and DNSKEY through it.
//!
//! What it calls secure, insecure or bogus rests on what it was handed: the
//! signatures, the keys up to the root, and the proofs that there is nothing.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use hickory_proto::dnssec::{Proof, TrustAnchors};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use tokio::runtime::Runtime;

use crate::internet::WORLD;
use crate::server::{Home, rcode};

const LISTS: &str = r#"
[sinkhole]
ipv4 = "192.0.2.80"
[[list]]
name = "ads"
inline = "ads.example.com"
format = "domains"
match = "subdomains"
"#;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// A configuration in the test internet; `more` stands in its `[resolver]` table.
fn home(more: &str) -> Home {
    let home = Home::new("");
    let resolver = WORLD.resolver_table(home.folder());
    home.configure(&format!("{LISTS}{resolver}{more}"));
    home
}

/// A resolver that knows no server but `server`. It validates up to `anchors`, or not at all without them.
fn client(server: SocketAddr, anchors: Option<TrustAnchors>) -> TokioResolver {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .map(|mut connection| {
            connection.port = server.port();
            connection
        })
        .to_vec();
    let servers = vec![NameServerConfig::new(server.ip(), true, connections)];
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    if let Some(anchors) = anchors {
        builder.options_mut().validate = true;
        builder = builder.with_trust_anchor(Arc::new(anchors));
    }
    builder.build().unwrap()
}

/// The key of the root of the test internet.
fn anchors() -> TrustAnchors {
    let mut anchors = TrustAnchors::empty();
    anchors.insert(WORLD.root_key.public_key());
    anchors
}

fn lookup(client: &TokioResolver, name: &str, rtype: RecordType) -> Result<Lookup, NetError> {
    RUNTIME.block_on(client.lookup(name, rtype))
}

/// The data of one type in an answer, each with what the resolver says of it.
fn data(found: &Lookup, rtype: RecordType) -> Vec<(String, Proof)> {
    let records = found.answers().iter().filter(|record| record.record_type() == rtype);
    records.map(|record| (record.data.to_string(), record.proof)).collect()
}

#[test]
fn a_signed_name_is_secure_behind_us() {
    let home = home("");
    let server = home.serve();
    let client = client(server.dns, Some(anchors()));
    for (name, rtype, address) in [
        ("www.example.kz.", RecordType::A, "192.0.2.10"),
        ("www.example.kz.", RecordType::AAAA, "2001:db8::10"),
        ("www.gov.kz.", RecordType::A, "192.0.2.40"),
    ] {
        let found = lookup(&client, name, rtype).unwrap_or_else(|error| panic!("{name} {rtype}: {error}"));
        assert_eq!(data(&found, rtype), [(address.to_owned(), Proof::Secure)], "{name} {rtype}");
        assert!(!data(&found, RecordType::RRSIG).is_empty(), "{name} {rtype}: its signature comes along");
    }
}

#[test]
fn a_validator_with_another_root_key_believes_nothing() {
    let home = home("");
    let server = home.serve();
    let client = client(server.dns, Some(TrustAnchors::default()));
    let refused = lookup(&client, "www.example.kz.", RecordType::A);
    assert!(matches!(refused, Err(NetError::Dns(DnsError::DnssecBogus))), "{refused:?}");
}

#[test]
fn a_bogus_zone_is_refused_by_us() {
    let home = home("");
    let server = home.serve();
    let client = client(server.dns, Some(anchors()));
    let refused = lookup(&client, "www.betrayed.kz.", RecordType::A);
    assert!(matches!(refused, Err(NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)))), "{refused:?}");
}

/// With a negative trust anchor we hand out the zone as it is. The resolver asks without CD and offers no way to set
/// it, so this stands for a query that has it (RFC 4035, section 3.2.2).
#[test]
fn a_bogus_zone_that_we_let_pass_is_refused_behind_us() {
    let home = home("negative-trust-anchors = [\"betrayed.kz\"]\n");
    let server = home.serve();
    assert_eq!(rcode(&server.ask("www.betrayed.kz", RecordType::A)), ResponseCode::NoError);
    let client = client(server.dns, Some(anchors()));
    let refused = lookup(&client, "www.betrayed.kz.", RecordType::A);
    assert!(matches!(refused, Err(NetError::Dns(DnsError::DnssecBogus))), "{refused:?}");
}

#[test]
fn an_unsigned_name_is_insecure_behind_us() {
    let home = home("");
    let server = home.serve();
    let client = client(server.dns, Some(anchors()));
    for (name, address) in [("www.plain.kz.", "192.0.2.20"), ("tracker.example.com.", "192.0.2.31")] {
        let found = lookup(&client, name, RecordType::A).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(data(&found, RecordType::A), [(address.to_owned(), Proof::Insecure)], "{name}");
    }
}

#[test]
fn that_there_is_no_such_name_or_type_is_proven_behind_us() {
    let home = home("");
    let server = home.serve();
    let client = client(server.dns, Some(anchors()));
    for (name, rtype, code) in [
        // Denied by NSEC3, and by NSEC.
        ("nobody.example.kz.", RecordType::A, ResponseCode::NXDomain),
        ("nobody.gov.kz.", RecordType::A, ResponseCode::NXDomain),
        ("www.example.kz.", RecordType::MX, ResponseCode::NoError),
        ("www.gov.kz.", RecordType::MX, ResponseCode::NoError),
    ] {
        // A denial that it cannot prove it reports as `DnsError::Nsec` or `DnsError::DnssecBogus`.
        let denied = match lookup(&client, name, rtype) {
            Err(NetError::Dns(DnsError::NoRecordsFound(denied))) => denied,
            other => panic!("{name} {rtype}: {other:?}"),
        };
        assert_eq!(denied.response_code, code, "{name} {rtype}");
        let proof = denied.authorities.expect("a proof");
        assert!(proof.iter().any(|record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3)));
        assert!(proof.iter().all(|record| record.proof == Proof::Secure), "{name} {rtype}: {proof:?}");
    }
}

#[test]
fn a_blocked_name_has_the_address_of_the_sinkhole() {
    let home = home("");
    let server = home.serve();
    let client = client(server.dns, None);
    let found = lookup(&client, "www.ads.example.com.", RecordType::A).unwrap();
    let addresses: Vec<&RData> = found.answers().iter().map(|record| &record.data).collect();
    assert_eq!(addresses, [&RData::A("192.0.2.80".parse().unwrap())]);
    let found = lookup(&client, "tracker.example.com.", RecordType::A).unwrap();
    assert_eq!(data(&found, RecordType::A)[0].0, "192.0.2.31", "what no list names");
}
