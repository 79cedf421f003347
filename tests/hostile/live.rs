//! The same worlds on real sockets, with a real resolver in front.
//!
//! Each run has network namespaces of its own (`unshare --net`), in which all
//! of 198.18.0.0/15 and 2001:2::/48 is local, so that every server of a world
//! has its address and port 53. A fresh resolver is started for each scenario.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qalqan::name::DomainName;
use qalqan::query::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::judge::Outcome;
use crate::message::{Answer, ask};
use crate::scenarios::{self, Ask, Scenario};
use crate::server::{Carrier, Reaction, Source};
use crate::world::{ROOTS, World, v4};

/// Where the resolver under test listens.
const RESOLVER: &str = "127.0.0.1:5300";
/// How long we wait for an answer at all.
const WAIT: Duration = Duration::from_secs(6);

/// A resolver that can be put in front of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Qalqan,
    Unbound,
    Bind,
    Knot,
}

impl Peer {
    pub const ALL: [(&str, Self); 4] =
        [("qalqan", Self::Qalqan), ("unbound", Self::Unbound), ("named", Self::Bind), ("kresd", Self::Knot)];

    /// Starts it with its files in `folder`; without validation, otherwise as it comes.
    fn start(self, folder: &Path) -> std::io::Result<Child> {
        let hints = folder.join("root.hints");
        let text: String = ROOTS
            .iter()
            .map(|(name, address)| format!(". 3600000 IN NS {name}.\n{name}. 3600000 IN A {address}\n"))
            .collect();
        std::fs::write(&hints, text)?;
        let (hints, root) = (hints.display(), folder.display());
        let (file, text) = match self {
            Self::Qalqan => (
                "qalqan.toml",
                format!(
                    "[server]\nlisten = [\"{RESOLVER}\"]\nstate-dir = \"{root}/state\"\n[resolver]\ndnssec = \"off\"\n\
                     root-hints = \"{hints}\"\nallow-upstream = [\"198.18.0.0/15\", \"2001:2::/48\"]\n"
                ),
            ),
            Self::Unbound => (
                "unbound.conf",
                format!(
                    "server:\n interface: 127.0.0.1@5300\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n \
                     directory: \"{root}\"\n pidfile: \"\"\n use-syslog: no\n logfile: \"{root}/log\"\n \
                     module-config: \"iterator\"\n root-hints: \"{hints}\"\nremote-control:\n control-enable: no\n"
                ),
            ),
            Self::Bind => (
                "named.conf",
                format!(
                    "options {{ directory \"{root}\"; listen-on port 5300 {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
                     recursion yes; dnssec-validation no; pid-file none; session-keyfile none; \
                     empty-zones-enable no; }};\ncontrols {{ }};\nzone \".\" {{ type hint; file \"{hints}\"; }};\n"
                ),
            ),
            Self::Knot => (
                "kresd.conf",
                format!(
                    "net.listen('127.0.0.1', 5300, {{ kind = 'dns' }})\nmodules.load('hints')\n\
                     hints.root_file('{hints}')\ntrust_anchors.remove('.')\ncache.size = 10 * MB\n"
                ),
            ),
        };
        let file = folder.join(file);
        std::fs::write(&file, text)?;
        let mut command = match self {
            Self::Qalqan => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_qalqan"));
                command.args(["serve", "-c"]);
                command
            }
            Self::Unbound => {
                let mut command = Command::new("unbound");
                command.args(["-d", "-c"]);
                command
            }
            Self::Bind => {
                let mut command = Command::new("named");
                command.args(["-g", "-n", "1", "-c"]);
                command
            }
            Self::Knot => {
                let mut command = Command::new("kresd");
                command.args(["-n", "-c"]);
                command
            }
        };
        command.arg(&file).current_dir(folder).stdin(Stdio::null());
        if self == Self::Knot {
            command.arg(folder);
        }
        let output = std::fs::File::create(folder.join("output"))?;
        command.stdout(output.try_clone()?).stderr(output).spawn()
    }
}

/// Runs the scenarios that `chosen` names before each peer, in `jobs` namespaces at a time; gives each peer's outcomes.
pub fn compare(peer: &str, filter: &str, jobs: usize) -> Vec<Outcome> {
    let program = std::env::current_exe().expect("a test knows its program");
    let workers: Vec<Child> = (0..jobs)
        .map(|job| {
            let mut command = Command::new("unshare");
            command.arg("--net").arg(&program).args(["--inside", peer, &format!("{job}/{jobs}"), filter]);
            command.stdout(Stdio::piped()).spawn().expect("unshare is installed")
        })
        .collect();
    let mut outcomes = Vec::new();
    for mut worker in workers {
        let output = worker.stdout.take().expect("it is piped");
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            outcomes.extend(parse(&line));
        }
        let _ = worker.wait();
    }
    outcomes.sort_by(|a: &Outcome, b| a.name.cmp(&b.name));
    outcomes
}

fn print(outcome: &Outcome) {
    println!(
        "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
        outcome.name,
        outcome.asked,
        outcome.right,
        outcome.queries,
        outcome.limit,
        outcome.slowest.as_millis(),
        outcome.poisoned,
        outcome.notes.join("\t")
    );
}

fn parse(line: &str) -> Option<Outcome> {
    let mut fields = line.split('\t');
    Some(Outcome {
        name: fields.next()?.to_owned(),
        asked: fields.next()?.parse().ok()?,
        right: fields.next()?.parse().ok()?,
        queries: fields.next()?.parse().ok()?,
        limit: fields.next()?.parse().ok()?,
        slowest: Duration::from_millis(fields.next()?.parse().ok()?),
        poisoned: fields.next()?.parse().ok()?,
        notes: fields.filter(|note| !note.is_empty()).map(str::to_owned).collect(),
    })
}

/// Inside a namespace: runs each scenario whose turn it is and prints a line for each.
pub fn inside(peer: Peer, job: usize, jobs: usize, filter: &str) {
    for command in [
        "ip link set lo up",
        "ip route add local 198.18.0.0/15 dev lo",
        "ip -6 route add local 2001:2::/48 dev lo",
        "sysctl -q -w net.ipv6.ip_nonlocal_bind=1",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let status = Command::new(words[0]).args(&words[1..]).status();
        assert!(status.is_ok_and(|status| status.success()), "{command} failed; is this a namespace of ours?");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    for (place, scenario) in scenarios::all().iter().filter(|scenario| scenario.name.contains(filter)).enumerate() {
        if place % jobs == job {
            print(&run(&runtime, peer, scenario));
        }
    }
}

fn run(runtime: &tokio::runtime::Runtime, peer: Peer, scenario: &Scenario) -> Outcome {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut servers = runtime.block_on(serve(scenario.world.clone()));
    let resolver = Running(peer.start(folder.path()).expect("the resolver is installed"));
    wait_until_ready();
    let before = scenario.world.received();

    let mut outcome = Outcome::new(scenario);
    let answer = |id: usize, question: &Ask| {
        std::thread::sleep(question.after);
        let socket = StdUdpSocket::bind("127.0.0.1:0").expect("a socket");
        let started = Instant::now();
        let query = ask(id as u16, &question.name, question.qtype);
        let answer = exchange(&socket, &query, WAIT).and_then(|reply| retry_over_tcp(reply, &query));
        (answer, started.elapsed())
    };
    let questions = || scenario.questions.iter().enumerate();
    let answers: Vec<_> = match scenario.at_once {
        false => questions().map(|(id, question)| answer(id, question)).collect(),
        true => std::thread::scope(|scope| {
            let clients: Vec<_> = questions().map(|(id, question)| scope.spawn(move || answer(id, question))).collect();
            clients.into_iter().map(|client| client.join().expect("a client only waits")).collect()
        }),
    };
    for (question, (answer, took)) in scenario.questions.iter().zip(&answers) {
        outcome.judge(scenario, question, answer.as_ref(), *took);
    }
    let queries = scenario.world.received() - before;
    drop(resolver);
    runtime.block_on(servers.shutdown());
    outcome.finish(queries)
}

/// A resolver that ends with its scenario.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks for its version, which needs no name server, until something comes back.
fn wait_until_ready() {
    let version: DomainName = "version.bind".parse().expect("a name");
    let mut query = ask(0x5151, &version, RecordType::TXT);
    let class = 12 + version.as_wire().len() + 3;
    query[class] = 3;
    for _ in 0..100 {
        let socket = StdUdpSocket::bind("127.0.0.1:0").expect("a socket");
        if exchange(&socket, &query, Duration::from_millis(100)).is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // Some prime the root at once; that is not what is counted.
    std::thread::sleep(Duration::from_millis(300));
}

/// Sends a query to the resolver and waits for its reply.
fn exchange(socket: &StdUdpSocket, query: &[u8], wait: Duration) -> Option<Vec<u8>> {
    socket.send_to(query, RESOLVER).ok()?;
    let deadline = Instant::now() + wait;
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).ok()?;
        match socket.recv_from(&mut buffer) {
            Ok((len, _)) if len > 2 && buffer[..2] == query[..2] => return Some(buffer[..len].to_vec()),
            Ok(_) => {}
            // The port may be closed for as long as the resolver starts.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return None,
            Err(_) => return None,
        }
    }
}

/// Reads a reply; asks again over TCP when it did not fit.
fn retry_over_tcp(reply: Vec<u8>, query: &[u8]) -> Option<Answer> {
    let answer = Answer::read(&reply)?;
    if !answer.truncated {
        return Some(answer);
    }
    let mut stream = std::net::TcpStream::connect(RESOLVER).ok()?;
    stream.set_read_timeout(Some(WAIT)).ok()?;
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], query].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).ok()?;
    Answer::read(&reply)
}

/// Puts every server of the world on its sockets.
async fn serve(world: Arc<World>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let elsewhere = Arc::new(UdpSocket::bind(SocketAddr::new(v4(255, 1), 53)).await.expect("the namespace is ours"));
    for address in world.addresses() {
        let at = SocketAddr::new(address, 53);
        let socket = Arc::new(UdpSocket::bind(at).await.expect("the namespace is ours"));
        let other_port = Arc::new(UdpSocket::bind(SocketAddr::new(address, 0)).await.expect("the namespace is ours"));
        tasks.spawn(serve_datagrams(world.clone(), address, [socket, other_port, elsewhere.clone()]));
        let listener = TcpListener::bind(at).await.expect("the namespace is ours");
        tasks.spawn(serve_streams(world.clone(), address, listener));
    }
    tasks
}

async fn serve_datagrams(world: Arc<World>, address: IpAddr, sockets: [Arc<UdpSocket>; 3]) {
    let mut buffer = [0; 4096];
    let mut pending = JoinSet::new();
    loop {
        let Ok((len, from)) = sockets[0].recv_from(&mut buffer).await else { continue };
        // A socket that is bound cannot say "port unreachable": such servers stay silent here.
        let Reaction::Messages(sent) = world.receive(address, &buffer[..len], Carrier::Udp) else { continue };
        for sent in sent {
            let socket = sockets[match sent.source {
                Source::Server => 0,
                Source::OtherPort => 1,
                Source::OtherAddress => 2,
            }]
            .clone();
            if sent.after.is_zero() {
                let _ = socket.send_to(&sent.bytes, from).await;
            } else {
                pending.spawn(async move {
                    tokio::time::sleep(sent.after).await;
                    let _ = socket.send_to(&sent.bytes, from).await;
                });
            }
        }
        while pending.try_join_next().is_some() {}
    }
}

async fn serve_streams(world: Arc<World>, address: IpAddr, listener: TcpListener) {
    let mut pending = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        pending.spawn(serve_stream(world.clone(), address, stream));
        while pending.try_join_next().is_some() {}
    }
}

async fn serve_stream(world: Arc<World>, address: IpAddr, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    while let Ok(len) = stream.read_u16().await {
        let mut query = vec![0; usize::from(len)];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        match world.receive(address, &query, Carrier::Tcp) {
            Reaction::Unreachable | Reaction::Closed => return,
            Reaction::BrokenOff(bytes) => {
                let framed = [&(bytes.len() as u16).to_be_bytes()[..], &bytes[..bytes.len() / 2]].concat();
                let _ = stream.write_all(&framed).await;
                return;
            }
            Reaction::Messages(sent) => {
                for sent in sent.into_iter().filter(|sent| sent.source == Source::Server) {
                    tokio::time::sleep(sent.after).await;
                    let framed = [&(sent.bytes.len() as u16).to_be_bytes()[..], &sent.bytes].concat();
                    let piece = if sent.pace.is_zero() { framed.len() } else { 1 };
                    for piece in framed.chunks(piece) {
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                        if !sent.pace.is_zero() {
                            tokio::time::sleep(sent.pace).await;
                        }
                    }
                }
            }
        }
    }
}
