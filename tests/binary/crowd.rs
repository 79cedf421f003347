//! Many at once: floods of questions that must wait for the world, and streams in numbers.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::server::{Home, PATIENCE, Server, data, ede, query, rcode, read_framed};

/// What a client is told whose question finds no place (RFC 8914, section 4.24).
const NETWORK_ERROR: u16 = 23;

/// A server that all questions are forwarded to. It answers nothing as long as its gate is closed, and then all.
struct Gate {
    address: SocketAddr,
    is_open: Arc<AtomicBool>,
}

impl Gate {
    fn closed() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let gate = Self { address: socket.local_addr().unwrap(), is_open: Arc::default() };
        let is_open = gate.is_open.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((len, client)) = socket.recv_from(&mut buffer) {
                if is_open.load(Ordering::Relaxed) {
                    let mut reply = Message::from_vec(&buffer[..len]).unwrap().into_response();
                    reply.metadata.response_code = ResponseCode::NXDomain;
                    let _ = socket.send_to(&reply.to_vec().unwrap(), client);
                }
            }
        });
        gate
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }
}

/// A server behind `gate` with a blocked name, as much as `limits` say at once, and patience for the whole test.
fn serve(gate: &Gate, limits: &str) -> (Home, Server) {
    let home = Home::new(&format!(
        "[limits]\n{limits}\n\
         [resolver]\nmode = \"forward\"\ndnssec = \"off\"\nclient-timeout = \"5s\"\nallow-upstream = [\"127.0.0.0/8\"]\n\
         [[resolver.forward]]\nzone = \".\"\nto = [\"{}\"]\n\
         [[list]]\nname = \"ads\"\nsource = \"ads.txt\"\nformat = \"domains\"\n",
        gate.address
    ));
    home.write("ads.txt", "ads.example\n");
    let server = home.serve();
    (home, server)
}

/// Somebody who asks from an address of his own.
struct Client(UdpSocket);

impl Client {
    fn at(host: u8, server: &Server) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap();
        socket.connect(server.dns).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn send(&self, name: &str) {
        self.0.send(&query(name, RecordType::A).to_vec().unwrap()).unwrap();
    }

    fn receive(&self) -> Message {
        let mut buffer = [0; 4096];
        let len = self.0.recv(&mut buffer).expect("each question is answered");
        Message::from_vec(&buffer[..len]).unwrap()
    }

    /// Asks for fresh names, each with a question for a blocked one behind it, and takes the replies to all of the
    /// latter and to as many others as there is no place for; says how often each code of the errors came.
    fn flood(&self, word: &str, misses: usize, places: usize) {
        for number in 0..misses {
            self.send(&format!("{word}{number}.example.kz"));
            self.send("ads.example");
        }
        let mut told = BTreeMap::new();
        for _ in 0..2 * misses - places {
            let reply = self.receive();
            let code = ede(&reply).expect("a reason").0;
            assert_eq!(code == NETWORK_ERROR, rcode(&reply) == ResponseCode::ServFail, "{reply}");
            *told.entry(code).or_insert(0) += 1;
        }
        assert_eq!(told, BTreeMap::from([(15, misses), (NETWORK_ERROR, misses - places)]), "{word}");
    }
}

const SHED: &str = "qalqan_dropped_total{reason=\"overload\"}";

#[test]
fn questions_that_wait_for_silent_servers_are_bounded_and_delay_nobody_else() {
    let gate = Gate::closed();
    let (_home, server) = serve(&gate, "waiting = 60\nwaiting-per-client = 40");
    let [greedy, second, late] = [1, 2, 3].map(|host| Client::at(host, &server));

    // The first has its share, the second what is left of the whole, and the third comes too late.
    greedy.flood("a", 100, 40);
    second.flood("b", 100, 20);
    late.flood("c", 10, 0);
    assert_eq!(server.metric(SHED), 60.0 + 80.0 + 10.0);

    // Who waits is answered in the end, and the places are free again.
    for (client, places) in [(&greedy, 40), (&second, 20)] {
        for _ in 0..places {
            assert_eq!(rcode(&client.receive()), ResponseCode::ServFail);
        }
    }
    late.send("late.example.kz");
    assert_ne!(ede(&late.receive()).expect("a reason").0, NETWORK_ERROR, "a place is free");
    assert_eq!(server.metric(SHED), 60.0 + 80.0 + 10.0);
    let responses = |labels: &str| server.metric(&format!("qalqan_dns_responses_total{{proto=\"udp\",{labels}}}"));
    assert_eq!(responses("rcode=\"NOERROR\",source=\"policy\""), 210.0);
    assert_eq!(responses("rcode=\"SERVFAIL\",source=\"error\""), 60.0 + 80.0 + 10.0);
}

#[test]
fn a_flood_of_fresh_names_is_answered_or_told_why_not() {
    let gate = Gate::closed();
    gate.open();
    let (_home, server) = serve(&gate, "waiting = 50");
    let client = Client::at(1, &server);
    let (mut answered, mut shed, mut blocked) = (0, 0, 0);
    for round in 0..20 {
        for number in 0..100 {
            client.send(&format!("r{round}-{number}.example.kz"));
            client.send("ads.example");
        }
        for _ in 0..200 {
            let reply = client.receive();
            match (rcode(&reply), ede(&reply).map(|(code, _)| code)) {
                (ResponseCode::NoError, Some(15)) => blocked += 1,
                (ResponseCode::ServFail, Some(NETWORK_ERROR)) => shed += 1,
                (ResponseCode::NXDomain, None) => answered += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((blocked, answered + shed), (2000, 2000));
    assert!(answered > 0);
    assert_eq!(server.metric(SHED), f64::from(shed));
}

#[test]
fn streams_that_are_idle_slow_or_deaf_cost_little_and_delay_nobody() {
    let gate = Gate::closed();
    let (_home, server) = serve(&gate, "connections-per-client = 300\nidle-timeout = 30");
    let framed = {
        let message = query("ads.example", RecordType::A).to_vec().unwrap();
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    };
    let connect = || {
        let stream = TcpStream::connect(server.dns).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let before = server.anonymous_kilobytes();

    // Some said something once and are idle, some are in the middle of a message, some ask on and on and do not read.
    let mut idle: Vec<TcpStream> = (0..200).map(|_| connect()).collect();
    for stream in &mut idle {
        stream.write_all(&framed).unwrap();
        assert!(read_framed(stream).is_some());
    }
    let mut halting: Vec<TcpStream> = (0..50).map(|_| connect()).collect();
    halting.iter_mut().for_each(|stream| stream.write_all(&framed[..framed.len() - 1]).unwrap());
    let mut deaf: Vec<TcpStream> = (0..8).map(|_| connect()).collect();
    let many = framed.repeat(500);
    for stream in &mut deaf {
        stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        let mut stuck = 0;
        // What is cut in the middle goes on where it was cut.
        while stuck < 20 {
            match stream.write(&many[sent % many.len()..]) {
                Ok(len) => (sent, stuck) = (sent + len, 0),
                Err(_) => {
                    stuck += 1;
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            }
        }
    }
    let grown = server.anonymous_kilobytes().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} kB for 258 connections");

    assert_eq!(data(&server.ask("ads.example", RecordType::A), RecordType::A), ["0.0.0.0"]);
    assert_eq!(data(&server.ask_tcp("ads.example", RecordType::A), RecordType::A), ["0.0.0.0"]);
    for stream in &mut halting {
        stream.write_all(&framed[framed.len() - 1..]).unwrap();
        assert!(read_framed(stream).is_some());
    }
    // There is room for 300 of one client: 258 and 42 more.
    let more: Vec<TcpStream> = (0..42).map(|_| connect()).collect();
    let mut one_too_many = connect();
    let _ = one_too_many.write_all(&framed);
    assert!(read_framed(&mut one_too_many).is_none());
    assert_eq!(server.metric(SHED), 1.0);
    drop(more);
}
