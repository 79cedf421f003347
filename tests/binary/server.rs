//! The built binary, started in a folder of its own on ports that the system picks, and ways to talk to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with a configuration and its lists.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// A folder with `qalqan.toml`: listeners on free ports and state in the folder, then `config`.
    pub(crate) fn new(config: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.configure(config);
        home
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, config: &str) {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nstate-dir = \"state\"\nworkers = 2\nwatch = 0\nlog = \"warn\"\n[control]\nlisten = \"127.0.0.1:0\"\n{config}"
        );
        self.write("qalqan.toml", &text);
    }

    /// Writes a file whole, as an editor or a download does.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let fresh = self.path("fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, self.path(name)).unwrap();
    }

    /// A file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command of the binary with this configuration.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qalqan"));
        command.args(args).arg("--config").arg(self.path("qalqan.toml")).env_remove("XDG_STATE_HOME");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts the server and waits until it says that it is ready.
    pub(crate) fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    /// The same with more words on the command line.
    pub(crate) fn serve_with(&self, args: &[&str]) -> Server {
        let args: Vec<&str> = ["serve"].into_iter().chain(args.iter().copied()).collect();
        Server::start(self.command(&args))
    }
}

/// A running server; ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// The first address where it answers, over UDP and TCP.
    pub(crate) dns: SocketAddr,
    /// Where metrics and the API are.
    pub(crate) control: SocketAddr,
}

impl Server {
    /// Starts `command` and waits for the line that says ready.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["ready", dns, .., "control", control] = words[..] else {
            let _ = child.kill();
            panic!("it says {line:?} and ends with {:?}", child.wait());
        };
        Self { dns: dns.parse().unwrap(), control: control.parse().unwrap(), child }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What the system says of the process, as proc_pid_status(5) has it.
    pub(crate) fn process_status(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap()
    }

    /// Its memory that is no file's.
    pub(crate) fn anonymous_kilobytes(&self) -> u64 {
        let status = self.process_status();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Waits for the process to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None => assert!(start.elapsed() < PATIENCE, "the server does not end"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks over UDP, with EDNS.
    pub(crate) fn ask(&self, name: &str, rtype: RecordType) -> Message {
        ask(self.dns, &query(name, rtype)).unwrap_or_else(|| panic!("no answer for {name} {rtype}"))
    }

    /// Asks over a TCP connection of its own.
    pub(crate) fn ask_tcp(&self, name: &str, rtype: RecordType) -> Message {
        let mut stream = TcpStream::connect(self.dns).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        send_framed(&mut stream, &query(name, rtype).to_vec().unwrap());
        read_framed(&mut stream).expect("an answer over TCP")
    }

    /// The page at `path` of the control listener, with its status.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.http(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.control))
    }

    /// Sends a request as it stands, and reads the reply to its end.
    pub(crate) fn http(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let status = reply.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        (status, body)
    }

    /// The value of one line of the metrics.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let (_, page) = self.get("/metrics");
        let found = page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("{line} is not in\n{page}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A query with RD and EDNS.
pub(crate) fn query(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message
}

/// Sends one datagram and waits for the reply; `None` when there is none within the time that blocked queries have.
pub(crate) fn ask(server: SocketAddr, query: &Message) -> Option<Message> {
    exchange(server, &query.to_vec().unwrap(), PATIENCE).map(|reply| Message::from_vec(&reply).unwrap())
}

/// Sends bytes and waits for bytes. They are sent once more if nothing comes and the system has dropped datagrams
/// meanwhile, whosever they were.
pub(crate) fn exchange(server: SocketAddr, bytes: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    let dropped = datagrams_dropped();
    socket.send_to(bytes, server).unwrap();
    let mut buffer = vec![0; 65_535];
    let mut received = socket.recv_from(&mut buffer);
    if received.is_err() && datagrams_dropped() > dropped {
        socket.send_to(bytes, server).unwrap();
        received = socket.recv_from(&mut buffer);
    }
    buffer.truncate(received.ok()?.0);
    Some(buffer)
}

/// How many packets the system has dropped since its start because a processor's queue for those that come in was full.
/// Loopback goes through it as well, and all network namespaces share it: a benchmark beside the tests can fill it.
fn datagrams_dropped() -> u64 {
    let statistics = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let of_processor = |line: &str| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok();
    statistics.lines().filter_map(of_processor).sum()
}

/// Sends a message with its length before it (RFC 1035, section 4.2.2).
pub(crate) fn send_framed(stream: &mut TcpStream, message: &[u8]) {
    let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).unwrap();
}

/// Reads a message with its length before it; `None` when the connection is closed.
pub(crate) fn read_framed(stream: &mut TcpStream) -> Option<Message> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(Message::from_vec(&message).unwrap())
}

/// The data of the answers of one type, as text.
pub(crate) fn data(message: &Message, rtype: RecordType) -> Vec<String> {
    message
        .answers
        .iter()
        .filter(|record| record.record_type() == rtype)
        .map(|record| record.data.to_string())
        .collect()
}

/// The response code.
pub(crate) fn rcode(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

/// The Extended DNS Error of a reply: its code and its text (RFC 8914).
pub(crate) fn ede(message: &Message) -> Option<(u16, String)> {
    match message.edns.as_ref()?.option(EdnsCode::from(15))? {
        EdnsOption::Unknown(_, bytes) => {
            let code = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
            Some((code, String::from_utf8_lossy(&bytes[2..]).into_owned()))
        }
        _ => None,
    }
}

/// Tries until it is so, or time is over.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "it does not come about: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port for a program that must be told of one: none of those that the system gives to whoever asks for any
/// (`ip_local_port_range`, ip(7)), such as the sockets of other tests.
pub(crate) fn free_port() -> u16 {
    let is_free =
        |port: &u16| UdpSocket::bind(("127.0.0.1", *port)).is_ok() && TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..30_000)).find(is_free).unwrap()
}
