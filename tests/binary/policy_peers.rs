//! One response policy zone, enforced by BIND, by Unbound and by us over the same world: all say the same.
//!
//! Left out is what rules about name servers do: that needs servers on port 53.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::peers::installed;
use crate::server::{Home, ask, free_port, query};

const POLICY: &str = "\
$TTL 60
@ SOA localhost. root.localhost. 1 3600 600 86400 60
@ NS localhost.
nx.world.example CNAME .
nodata.world.example CNAME *.
pass.world.example CNAME rpz-passthru.
drop.world.example CNAME rpz-drop.
tcp.world.example CNAME rpz-tcp-only.
local.world.example A 192.0.2.99
local.world.example A 192.0.2.98
local.world.example TXT \"local\"
*.wild.world.example CNAME .
alias.world.example CNAME garden.world.example.
*.star.world.example CNAME *.garden.world.example.
24.0.100.51.198.rpz-ip CNAME .
28.16.100.51.198.rpz-ip CNAME *.
32.9.100.51.198.rpz-ip CNAME rpz-passthru.
32.33.100.51.198.rpz-ip A 192.0.2.99
32.65.100.51.198.rpz-ip CNAME rpz-tcp-only.
32.97.100.51.198.rpz-ip CNAME rpz-drop.
48.zz.bad.db8.2001.rpz-ip CNAME .
32.2.0.0.127.rpz-client-ip CNAME .
32.3.0.0.127.rpz-client-ip CNAME *.
32.4.0.0.127.rpz-client-ip CNAME rpz-passthru.
32.5.0.0.127.rpz-client-ip CNAME rpz-drop.
32.6.0.0.127.rpz-client-ip CNAME rpz-tcp-only.
32.7.0.0.127.rpz-client-ip A 192.0.2.97
";

const WORLD: &str = "\
$TTL 300
@ SOA ns host 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
plain A 192.0.2.10
plain AAAA 2001:db8::10
nx A 192.0.2.10
nodata A 192.0.2.10
pass A 198.51.100.1
drop A 192.0.2.10
tcp A 192.0.2.10
local A 192.0.2.10
wild A 192.0.2.10
a.wild A 192.0.2.10
b.a.wild A 192.0.2.10
alias A 192.0.2.10
garden A 192.0.2.77
x.star.world.example.garden A 192.0.2.78
x.star A 192.0.2.10
ip-nx A 198.51.100.1
ip-nx AAAA 2001:db8:bad::1
ip-nodata A 198.51.100.17
ip-pass A 198.51.100.9
ip-local A 198.51.100.33
ip-tcp A 198.51.100.65
ip-drop A 198.51.100.97
ip-two A 198.51.100.17
ip-two A 198.51.100.1
ip-mixed A 192.0.2.10
ip-mixed A 198.51.100.9
to-nx CNAME nx
to-local CNAME local
to-wild CNAME a.wild
to-pass CNAME pass
to-ip CNAME ip-nx
to-ip-local CNAME ip-local
";

/// Names with the clients that ask for them.
fn questions() -> Vec<(String, RecordType, Ipv4Addr)> {
    let names = [
        "plain",
        "nx",
        "nodata",
        "pass",
        "drop",
        "tcp",
        "local",
        "wild",
        "a.wild",
        "b.a.wild",
        "alias",
        "x.star",
        "ip-nx",
        "ip-nodata",
        "ip-pass",
        "ip-local",
        "ip-tcp",
        "ip-drop",
        "ip-two",
        "ip-mixed",
        "to-nx",
        "to-local",
        "to-wild",
        "to-pass",
        "to-ip",
        "to-ip-local",
        "absent",
    ];
    let mut questions = Vec::new();
    for name in names {
        for rtype in [RecordType::A, RecordType::AAAA, RecordType::TXT] {
            questions.push((format!("{name}.world.example"), rtype, Ipv4Addr::LOCALHOST));
        }
    }
    for client in 2..=7 {
        for name in ["plain", "nx", "local", "ip-nx", "to-nx"] {
            questions.push((format!("{name}.world.example"), RecordType::A, Ipv4Addr::new(127, 0, 0, client)));
        }
    }
    questions
}

/// What a client gets to see, as far as it matters: the code, whether to come by TCP, and what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Silence,
    Truncated,
    Answer(ResponseCode, BTreeSet<String>),
}

fn ask_from(client: Ipv4Addr, server: SocketAddr, name: &str, rtype: RecordType) -> Seen {
    let socket = UdpSocket::bind((client, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    for _ in 0..3 {
        let asked = query(name, rtype);
        socket.send_to(&asked.to_vec().unwrap(), server).unwrap();
        let mut buffer = [0; 4096];
        let Ok((len, _)) = socket.recv_from(&mut buffer) else { continue };
        let reply = Message::from_vec(&buffer[..len]).unwrap();
        if reply.metadata.truncation {
            return Seen::Truncated;
        }
        let found = reply.answers.iter().filter(|record| record.record_type() == rtype);
        return Seen::Answer(reply.metadata.response_code, found.map(|record| record.data.to_string()).collect());
    }
    Seen::Silence
}

fn seen(server: SocketAddr) -> Vec<Seen> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = questions()
            .into_iter()
            .map(|(name, rtype, client)| scope.spawn(move || ask_from(client, server, &name, rtype)))
            .collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A program that ends with the test.
struct Peer(Child);

impl Peer {
    fn start(home: &Home, program: &str, options: &[&str], config: &str) -> Self {
        let file = format!("{program}.conf");
        home.write(&file, config);
        let child = Command::new(program)
            .args(options)
            .arg(home.path(&file))
            .env("PATH", "/usr/sbin:/usr/bin")
            .current_dir(home.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(server: SocketAddr, name: &str, rcode: ResponseCode) {
    let start = std::time::Instant::now();
    while ask(server, &query(name, RecordType::A)).is_none_or(|reply| reply.metadata.response_code != rcode) {
        assert!(start.elapsed() < Duration::from_secs(30), "{server} does not say {rcode} for {name}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn bind_and_unbound_say_the_same_by_the_same_policy_zone() {
    if !["nsd", "named", "unbound"].map(installed).into_iter().all(|installed| installed) {
        return;
    }
    let [world, bind, unbound] = [(); 3].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let home = Home::new("");
    let folder = home.folder().display().to_string();
    home.configure(&format!(
        "[[list]]\nname = \"rpz\"\nsource = \"policy.zone\"\nformat = \"rpz\"\n[resolver]\ndnssec = \"off\"\n\
         allow-upstream = [\"127.0.0.0/8\"]\n[[resolver.forward]]\nzone = \"world.example\"\nto = [\"{world}\"]\n"
    ));
    home.write("policy.zone", POLICY);
    home.write("world.zone", WORLD);
    let _nsd = Peer::start(
        &home,
        "nsd",
        &["-d", "-c"],
        &format!(
            "server:\n ip-address: 127.0.0.1@{}\n username: \"\"\n zonesdir: \"{folder}\"\n database: \"\"\n pidfile: \"\"\n \
             xfrdfile: \"{folder}/xfrd\"\n zonelistfile: \"{folder}/zones\"\n xfrdir: \"{folder}\"\nremote-control:\n \
             control-enable: no\nzone:\n name: world.example\n zonefile: world.zone\n",
            world.port()
        ),
    );
    let _unbound = Peer::start(
        &home,
        "unbound",
        &["-d", "-c"],
        &format!(
            "server:\n directory: \"{folder}\"\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n interface: 127.0.0.1@{}\n \
             access-control: 127.0.0.0/8 allow\n use-syslog: no\n do-not-query-localhost: no\n do-ip6: no\n \
             module-config: \"respip iterator\"\nrpz:\n name: rpz.local\n zonefile: policy.zone\nstub-zone:\n \
             name: world.example\n stub-addr: 127.0.0.1@{}\nremote-control:\n control-enable: no\n",
            unbound.port(),
            world.port()
        ),
    );
    let _bind = Peer::start(
        &home,
        "named",
        &["-f", "-c"],
        &format!(
            "options {{ directory \"{folder}\"; pid-file none; session-keyfile none; listen-on port {} {{ 127.0.0.1; }}; \
             listen-on-v6 {{ none; }}; allow-query {{ any; }}; allow-recursion {{ any; }}; dnssec-validation no; \
             response-policy {{ zone \"rpz.local\"; }} break-dnssec yes; }};\ncontrols {{ }};\n\
             zone \"rpz.local\" {{ type primary; file \"policy.zone\"; }};\nzone \"world.example\" {{ type forward; \
             forward only; forwarders {{ 127.0.0.1 port {}; }}; }};\n",
            bind.port(),
            world.port()
        ),
    );
    let ours = home.serve();
    wait_for(world, "plain.world.example", ResponseCode::NoError);
    for server in [unbound, bind, ours.dns] {
        // BIND answers without the policy until it has read it.
        wait_for(server, "nx.world.example", ResponseCode::NXDomain);
    }

    // Asked twice: what comes from a cache is no other answer, but for Unbound 1.17.
    for is_cached in [false, true] {
        let [ours, bind, unbound] = std::thread::scope(|scope| {
            [ours.dns, bind, unbound].map(|server| scope.spawn(move || seen(server))).map(|all| all.join().unwrap())
        });
        let mut apart = Vec::new();
        for (at, (name, rtype, client)) in questions().into_iter().enumerate() {
            let passed_over = is_cached || differs_in_unbound(&name, client);
            let alike = ours[at] == bind[at] && (ours[at] == unbound[at] || passed_over);
            if !alike {
                let (ours, bind, unbound) = (&ours[at], &bind[at], &unbound[at]);
                apart.push(format!("{name} {rtype} from {client}: ours {ours:?}, BIND {bind:?}, Unbound {unbound:?}"));
            }
        }
        assert!(apart.is_empty(), "{}", apart.join("\n"));
    }
}

/// Unbound 1.17 goes on to other rules after a passthru for the client, answers where an address says drop, and does not
/// always look at the targets of aliases that are in its cache.
fn differs_in_unbound(name: &str, client: Ipv4Addr) -> bool {
    client == Ipv4Addr::new(127, 0, 0, 4) || name.starts_with("ip-drop.") || name.starts_with("to-")
}
