//! A resolver that asks others: over which transport, what it tells them, and what becomes of it when they fail.
//!
//! The others are resolvers of our own with a [`Relay`] before them, which sees
//! what passes and can be made to fail.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::internet::WORLD;
use crate::server::{Home, Server, ask, data, eventually, exchange, query, rcode};
use crate::tls;

/// What a relay does with a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Silent,
    Refuses,
    Fails,
}

/// Stands before a resolver.
#[derive(Clone)]
struct Relay {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    /// Queries that have come.
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Relay {
    /// Over datagrams.
    fn udp(behind: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Self::at(socket.local_addr().unwrap());
        let of_thread = relay.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((len, client)) = socket.recv_from(&mut buffer) {
                if let Some(reply) = of_thread.answer(&buffer[..len], behind) {
                    let _ = socket.send_to(&reply, client);
                }
            }
        });
        relay
    }

    /// Over streams, with TLS when there is a configuration for it; counts connections.
    fn stream(behind: SocketAddr, tls: Option<Arc<ServerConfig>>) -> (Self, Arc<Mutex<u32>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Self::at(listener.local_addr().unwrap());
        let connections = Arc::new(Mutex::new(0));
        let (of_thread, counter) = (relay.clone(), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *counter.lock() += 1;
                let (relay, tls) = (of_thread.clone(), tls.clone());
                // Who does not trust us hangs up in the middle.
                std::thread::spawn(move || match tls {
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        relay.serve(StreamOwned::new(connection, stream), behind)
                    }
                    None => relay.serve::<TcpStream>(stream, behind),
                });
            }
        });
        (relay, connections)
    }

    fn at(address: SocketAddr) -> Self {
        Self { address, mood: Arc::new(Mutex::new(Mood::Well)), seen: Arc::default() }
    }

    fn serve<S: Read + Write>(&self, mut stream: S, behind: SocketAddr) -> std::io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query)?;
            if let Some(reply) = self.answer(&query, behind) {
                stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat())?;
                stream.flush()?;
            }
        }
    }

    fn answer(&self, query: &[u8], behind: SocketAddr) -> Option<Vec<u8>> {
        let message = Message::from_vec(query).unwrap();
        self.seen.lock().push(message.clone());
        let fail = |rcode| {
            let mut reply = message.clone().into_response();
            reply.metadata.response_code = rcode;
            Some(reply.to_vec().unwrap())
        };
        let mood = *self.mood.lock();
        match mood {
            Mood::Well => exchange(behind, query, Duration::from_secs(10)),
            Mood::Silent => None,
            Mood::Refuses => fail(ResponseCode::Refused),
            Mood::Fails => fail(ResponseCode::ServFail),
        }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    fn count(&self) -> usize {
        self.seen.lock().len()
    }
}

/// A resolver that finds its way through the test internet by itself; `dnssec` as configured.
fn far(dnssec: &str) -> (Home, Server) {
    let home = Home::new("");
    let table = WORLD.resolver_table(home.folder());
    home.configure(&format!("{table}dnssec = \"{dnssec}\"\n"));
    let server = home.serve();
    (home, server)
}

/// One that asks `to`, with `more` keys of its `[resolver]`.
fn forwarder(to: &[String], more: &str) -> Home {
    let home = Home::new("");
    std::fs::write(home.path("root.key"), &WORLD.trust_anchor).unwrap();
    home.configure(&format!(
        "[resolver]\nmode = \"forward\"\n{more}\n[[resolver.forward]]\nzone = \".\"\nto = {to:?}\n"
    ));
    home
}

const UNCHECKED: &str = "dnssec = \"off\"";
const VALIDATING: &str = "trust-anchors = [\"root.key\"]";

#[test]
fn tls_servers_are_asked_only_when_they_prove_their_name() {
    let (_home, far) = far("off");
    let (config, authority) = tls::server("dns.example");
    let (relay, connections) = Relay::stream(far.dns, Some(config));
    for (name, more, answered) in [
        ("dns.example", "tls-ca-files = [\"ca.pem\"]", true),
        ("other.example", "tls-ca-files = [\"ca.pem\"]", false),
        ("dns.example", "", false),
    ] {
        let home = forwarder(&[format!("tls://{}#{name}", relay.address)], &format!("{UNCHECKED}\n{more}"));
        home.write("ca.pem", &authority);
        let server = home.serve();
        let before = (relay.count(), *connections.lock());
        let answer = server.ask("www.plain.kz", RecordType::A);
        assert_eq!(data(&answer, RecordType::A) == ["192.0.2.20"], answered, "{name} {more}: {answer}");
        assert_eq!(relay.count() > before.0, answered, "nothing is said to a stranger");
        assert!(*connections.lock() > before.1, "he was given the chance");
        if answered {
            let connected = *connections.lock();
            assert_eq!(data(&server.ask("www.example.kz", RecordType::A), RecordType::A), ["192.0.2.10"]);
            assert_eq!(*connections.lock(), connected, "the connection is used again");
        } else {
            assert_eq!(rcode(&answer), ResponseCode::ServFail);
        }
    }
}

#[test]
fn tcp_servers_are_asked_over_tcp() {
    let (_home, far) = far("off");
    let (relay, _) = Relay::stream(far.dns, None);
    let home = forwarder(&[format!("tcp://{}", relay.address)], UNCHECKED);
    let server = home.serve();
    assert_eq!(data(&server.ask("www.plain.kz", RecordType::A), RecordType::A), ["192.0.2.20"]);
    assert!(relay.count() > 0);
}

#[test]
fn what_others_say_is_validated_whether_or_not_they_do() {
    for dnssec in ["off", "validate"] {
        let (_home, far) = far(dnssec);
        let relay = Relay::udp(far.dns);
        let home = forwarder(&[relay.address.to_string()], VALIDATING);
        let server = home.serve();
        for (name, expected, authentic) in [
            ("www.example.kz", ResponseCode::NoError, true),
            // An insecure delegation is no fault.
            ("www.plain.kz", ResponseCode::NoError, false),
            ("www.example.com", ResponseCode::NoError, false),
            ("nobody.gov.kz", ResponseCode::NXDomain, true),
            ("www.betrayed.kz", ResponseCode::ServFail, false),
        ] {
            let mut asked = query(name, RecordType::A);
            asked.metadata.authentic_data = true;
            let answer = ask(server.dns, &asked).unwrap();
            assert_eq!((rcode(&answer), answer.metadata.authentic_data), (expected, authentic), "{name}: {answer}");
        }
        assert!(relay.seen.lock().iter().all(|query| query.metadata.checking_disabled), "we judge for ourselves");
    }
}

#[test]
fn a_client_that_validates_gets_what_it_needs_through_one_that_does_not() {
    let (_home, far) = far("validate");
    let relay = Relay::udp(far.dns);
    let home = forwarder(&[relay.address.to_string()], UNCHECKED);
    let server = home.serve();
    let with = |name, dnssec_ok, checking_disabled| {
        let mut asked = query(name, RecordType::A);
        asked.edns.as_mut().unwrap().set_dnssec_ok(dnssec_ok);
        asked.metadata.checking_disabled = checking_disabled;
        ask(server.dns, &asked).unwrap()
    };
    assert_eq!(data(&with("www.example.kz", true, false), RecordType::RRSIG).len(), 1);
    assert_eq!(data(&with("www.example.kz", false, false), RecordType::RRSIG).len(), 0);
    // The other one withholds what is bogus, unless it is told not to; and nobody gets it who did not say so.
    assert_eq!(rcode(&with("www.betrayed.kz", true, false)), ResponseCode::ServFail);
    assert_eq!(data(&with("www.betrayed.kz", true, true), RecordType::A), ["192.0.2.66"]);
    assert_eq!(rcode(&with("www.betrayed.kz", true, false)), ResponseCode::ServFail);
}

#[test]
fn no_broken_server_keeps_an_answer_from_a_client() {
    let (_home, far) = far("off");
    let well = Relay::udp(far.dns);
    for mood in [Mood::Silent, Mood::Refuses, Mood::Fails] {
        let broken = Relay::udp(far.dns);
        broken.is(mood);
        let home = forwarder(&[broken.address.to_string(), well.address.to_string()], UNCHECKED);
        let server = home.serve();
        let start = Instant::now();
        for number in 0..30 {
            let answer = server.ask(&format!("n{number}.example.com"), RecordType::A);
            assert_eq!(data(&answer, RecordType::A), ["192.0.2.32"], "{mood:?} {number}: {answer}");
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{mood:?}: {:?}", start.elapsed());
        assert!(broken.count() < 20, "{mood:?}: a broken server is asked {} times", broken.count());
    }
}

#[test]
fn servers_that_come_back_are_noticed() {
    let (_home, far) = far("off");
    let relay = Relay::udp(far.dns);
    relay.is(Mood::Silent);
    let home = forwarder(&[relay.address.to_string()], UNCHECKED);
    let server = home.serve();
    assert_eq!(rcode(&server.ask("www.plain.kz", RecordType::A)), ResponseCode::ServFail);
    relay.is(Mood::Well);
    eventually("the answer", || data(&server.ask("www.plain.kz", RecordType::A), RecordType::A) == ["192.0.2.20"]);
}

#[test]
fn each_zone_goes_its_own_way() {
    let (_home, far) = far("off");
    let (rest, plain) = (Relay::udp(far.dns), Relay::udp(far.dns));
    let home = Home::new("");
    // example.com is asked of its own servers although nothing leads there.
    let example = WORLD.ports["127.1.0.5:53".parse::<SocketAddr>().as_ref().unwrap()];
    home.configure(&format!(
        "[resolver]\nmode = \"forward\"\n{UNCHECKED}\n\
         [[resolver.forward]]\nzone = \".\"\nto = [\"{}\"]\n\
         [[resolver.forward]]\nzone = \"plain.kz\"\nto = [\"{}\"]\n\
         [[resolver.forward]]\nzone = \"example.com\"\nto = [\"{example}\"]\nstub = true\n",
        rest.address, plain.address
    ));
    let server = home.serve();
    let counts = || (rest.count(), plain.count());
    assert_eq!(data(&server.ask("www.plain.kz", RecordType::A), RecordType::A), ["192.0.2.20"]);
    assert_eq!(counts(), (0, 1));
    assert_eq!(data(&server.ask("www.example.com", RecordType::A), RecordType::A), ["192.0.2.30"]);
    assert_eq!(counts(), (0, 1));
    assert_eq!(data(&server.ask("www.example.kz", RecordType::A), RecordType::A), ["192.0.2.10"]);
    assert_eq!(counts(), (1, 1));
}
