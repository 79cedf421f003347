//! Where queries come in and replies go out.
//!
//! [`Sockets::bind`] opens the sockets, so that a wrong address is known before
//! anything is started; [`Front::start`] serves on them.

pub mod admission;
mod batch;
mod stream;
mod udp;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::pipeline::{DropReason, Pipeline, Recorder, Step, View, Writers};
use crate::query::Client;

use admission::{Access, AccessView, Admission};
use udp::Worker;

/// Where to listen, whom to serve, and how much at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The addresses for UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Threads that receive datagrams; 0: one per core.
    pub workers: usize,
    /// Datagrams are sent whole or not at all: for replies that fit every path.
    pub never_fragment: bool,
    /// Who may ask.
    pub admission: admission::Settings,
    /// How streams are limited.
    pub stream: StreamSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 5300))],
            workers: 0,
            never_fragment: true,
            admission: admission::Settings::default(),
            stream: StreamSettings::default(),
        }
    }
}

/// The limits of streams (RFC 7766, section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    /// Connections at once; further ones are closed.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_client: usize,
    /// Queries of one connection that may wait for the world at once; it is not read from meanwhile.
    pub max_in_flight: usize,
    /// How long a connection may say nothing.
    pub idle_timeout: Duration,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_client: 200,
            max_in_flight: 256,
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{address}: cannot listen: {source}; choose another address or end what listens there")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Sockets that are open and not yet served.
#[derive(Debug)]
pub struct Sockets {
    addresses: Vec<SocketAddr>,
    streams: Vec<TcpListener>,
    /// With whether each tells to which of our addresses a datagram was sent.
    datagrams: Vec<(UdpSocket, bool)>,
}

/// What a burst may bring while a worker is busy; the system may grant less.
const SOCKET_BUFFER: usize = 4 << 20;
/// Connections that the system keeps for us until we accept them.
const BACKLOG: i32 = 1024;
/// How often another port is tried when the one chosen for TCP is taken for UDP.
const PORT_ATTEMPTS: usize = 16;

impl Sockets {
    /// Opens TCP and UDP sockets on every address. Port 0 takes a free one, the same for both.
    ///
    /// # Errors
    ///
    /// When one address cannot be opened; nothing stays open then.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        let workers = match settings.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let mut sockets = Self { addresses: Vec::new(), streams: Vec::new(), datagrams: Vec::new() };
        for &address in &settings.listen {
            let bound = |source| BindError { address, source };
            sockets.open(address, workers, settings.never_fragment).map_err(bound)?;
        }
        Ok(sockets)
    }

    fn open(&mut self, address: SocketAddr, workers: usize, never_fragment: bool) -> io::Result<()> {
        let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            // TCP first: it fails when another process listens there, where UDP sockets would share the port with it.
            let stream = open_stream(address)?;
            let chosen = stream.local_addr()?;
            let datagrams: io::Result<Vec<_>> = (0..workers).map(|_| open_datagrams(chosen, never_fragment)).collect();
            match datagrams {
                Ok(datagrams) => {
                    self.addresses.push(chosen);
                    self.streams.push(stream);
                    self.datagrams.extend(datagrams);
                    return Ok(());
                }
                Err(error) if attempts == 0 || error.kind() != io::ErrorKind::AddrInUse => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// The addresses, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

fn open_stream(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn open_datagrams(address: SocketAddr, never_fragment: bool) -> io::Result<(UdpSocket, bool)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Each worker has a socket of its own; the system spreads clients over them.
    socket.set_reuse_port(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    if never_fragment {
        batch::never_fragment(&socket, address.is_ipv6())?;
    }
    let is_wildcard = address.ip().is_unspecified();
    if is_wildcard {
        batch::tell_own_address(&socket, address.is_ipv6())?;
    }
    Ok((socket, is_wildcard))
}

/// What all fronts share.
struct Service {
    pipeline: Arc<Pipeline>,
    admission: Arc<Admission>,
    /// For what the runtime's tasks do; workers have their own.
    recorder: Arc<dyn Recorder>,
    runtime: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What queries that came together have in common, looked up once for all of them.
struct Round {
    began: Instant,
    view: View,
    access: AccessView,
}

impl Service {
    fn round(&self) -> Round {
        let view = self.pipeline.view(self.pipeline.now());
        Round { began: Instant::now(), view, access: self.admission.view() }
    }

    fn answer(&self, round: &Round, message: &[u8], client: Client, reply: &mut Vec<u8>) -> Step {
        self.turn_away(round, message, client, reply)
            .unwrap_or_else(|| self.pipeline.answer(message, client, &round.view, reply))
    }

    /// What becomes of a message of a client that is not served.
    #[inline]
    fn turn_away(&self, round: &Round, message: &[u8], client: Client, reply: &mut Vec<u8>) -> Option<Step> {
        match round.access.find(client.ip()) {
            Access::Allow => None,
            Access::Refuse => Some(self.pipeline.prohibit(message, client, reply)),
            Access::Ignore => Some(Step::Drop(DropReason::Denied)),
        }
    }

    /// Has the runtime do it; [`Front::drain`] waits for it.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }
}

/// The fronts at work.
pub struct Front {
    service: Arc<Service>,
    workers: Vec<JoinHandle<()>>,
    sockets: Vec<Arc<UdpSocket>>,
    stop_workers: Arc<AtomicBool>,
    failed: watch::Receiver<bool>,
}

impl Front {
    /// Serves queries on `sockets`. Must be called within a tokio runtime, which carries streams and what waits.
    ///
    /// `recorder` is asked once for each worker thread and once for the tasks of the runtime.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub fn start(
        sockets: Sockets,
        settings: &Settings,
        pipeline: Arc<Pipeline>,
        recorder: impl Fn(Writers) -> Arc<dyn Recorder>,
    ) -> io::Result<Self> {
        let StreamSettings { max_connections, max_connections_per_client, .. } = settings.stream;
        let admission = Admission::new(&settings.admission, max_connections, max_connections_per_client);
        let service = Arc::new(Service {
            pipeline,
            admission: Arc::new(admission),
            recorder: recorder(Writers::Many),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        for stream in sockets.streams {
            let listener = tokio::net::TcpListener::from_std(stream)?;
            service.spawn(stream::listen(service.clone(), listener, settings.stream.clone()));
        }
        let (failing, failed) = watch::channel(false);
        let mut front =
            Self { service, workers: Vec::new(), sockets: Vec::new(), stop_workers: Arc::default(), failed };
        for (index, (socket, is_wildcard)) in sockets.datagrams.into_iter().enumerate() {
            let socket = Arc::new(socket);
            front.sockets.push(socket.clone());
            let worker = Worker {
                service: front.service.clone(),
                socket,
                recorder: recorder(Writers::One),
                is_wildcard,
                stop: front.stop_workers.clone(),
            };
            let alarm = Alarm { failing: failing.clone(), stop: front.stop_workers.clone() };
            let run = move || {
                let _alarm = alarm;
                worker.run();
            };
            front.workers.push(thread::Builder::new().name(format!("udp-{index}")).spawn(run)?);
        }
        Ok(front)
    }

    /// Serves other clients from now on.
    pub fn replace_admission(&self, settings: &admission::Settings) {
        self.service.admission.replace(settings);
    }

    /// Returns when a worker has ended that nobody told to: a fault in this program.
    pub async fn failed(&self) {
        if self.failed.clone().wait_for(|failed| *failed).await.is_err() {
            // There are no workers, so none can fail.
            std::future::pending().await
        }
    }

    /// Takes nothing new, and waits for at most `grace` until all that was taken is answered.
    pub async fn drain(mut self, grace: Duration) {
        self.stop();
        let workers = std::mem::take(&mut self.workers);
        let tasks = self.service.tasks.clone();
        let ended = async {
            // They wait for nothing but the socket, which is shut down.
            let joined = tokio::task::spawn_blocking(|| workers.into_iter().all(|worker| worker.join().is_ok())).await;
            tasks.close();
            tasks.wait().await;
            joined
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            warn!(left = tasks.len(), "queries are still waiting and the grace period is over");
        }
    }

    fn stop(&self) {
        self.stop_workers.store(true, Ordering::Relaxed);
        self.service.stop.cancel();
        self.sockets.iter().for_each(|socket| batch::shut_down(socket));
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

/// Rings when a worker ends that was not told to.
struct Alarm {
    failing: watch::Sender<bool>,
    stop: Arc<AtomicBool>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.stop.load(Ordering::Relaxed) {
            self.failing.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv6Addr, TcpStream};

    use parking_lot::Mutex;

    use super::*;
    use crate::clock::Clock;
    use crate::pipeline::testing::{World, address, query, read};
    use crate::pipeline::{Outcome, Settings as PipelineSettings};
    use crate::policy::{self, OverrideSet, Policy};
    use crate::query::{Rcode, RecordType};
    use crate::rule::Scope;
    use crate::snapshot::ListEntry;
    use crate::snapshot::testing::{rule, snapshot};

    #[derive(Default)]
    struct Tally(Mutex<(Vec<Outcome>, Vec<DropReason>)>);

    impl Recorder for Tally {
        fn record(&self, outcome: &Outcome, _: Duration) {
            self.0.lock().0.push(outcome.clone());
        }

        fn dropped(&self, reason: DropReason) {
            self.0.lock().1.push(reason);
        }
    }

    struct Served {
        front: Front,
        addresses: Vec<SocketAddr>,
        world: Arc<World>,
        tally: Arc<Tally>,
        runtime: tokio::runtime::Runtime,
    }

    fn serve(change: impl FnOnce(&mut Settings)) -> Served {
        serve_with(Policy::unfiltered(), change, |_| {})
    }

    /// Calls `before` when the sockets are there and nobody looks after them yet.
    fn serve_with(policy: Policy, change: impl FnOnce(&mut Settings), before: impl FnOnce(SocketAddr)) -> Served {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _guard = runtime.enter();
        let world = World::new(address);
        let settings = PipelineSettings::default();
        let pipeline = Pipeline::new(settings, world.clone(), policy, Clock::system());
        let mut settings = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], workers: 1, ..Settings::default() };
        change(&mut settings);
        let sockets = Sockets::bind(&settings).unwrap();
        let addresses = sockets.addresses().to_vec();
        before(addresses[0]);
        let tally = Arc::new(Tally::default());
        let front = Front::start(sockets, &settings, pipeline, |_| tally.clone()).unwrap();
        Served { front, addresses, world, tally, runtime }
    }

    /// Asks from `from` and says who answered.
    fn ask_udp(from: &UdpSocket, to: SocketAddr, request: &[u8]) -> (Vec<u8>, SocketAddr) {
        from.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        from.send_to(request, to).unwrap();
        let mut reply = [0; 4096];
        let (len, peer) = from.recv_from(&mut reply).unwrap();
        (reply[..len].to_vec(), peer)
    }

    fn frame(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u16).to_be_bytes(), message].concat()
    }

    fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).ok()?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut message).ok()?;
        Some(message)
    }

    #[test]
    fn a_datagram_is_answered_from_the_world_and_then_from_the_cache() {
        let served = serve(|_| {});
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..2 {
            let (reply, _) = ask_udp(&client, served.addresses[0], &query("www.example.kz", RecordType::A));
            let reply = read(&reply);
            assert_eq!((reply.header.id, reply.message.rcode), (0x1234, Rcode::NOERROR));
            assert_eq!(&reply.message.answer[0].rdata[0][..], [192, 0, 2, 1]);
        }
        assert_eq!(served.world.times_asked(), 1);
        served.runtime.block_on(served.front.drain(Duration::from_secs(5)));
        assert_eq!(served.tally.0.lock().0.len(), 2);
    }

    #[test]
    fn a_wildcard_answers_from_the_address_that_was_asked() {
        let served = serve(|settings| {
            settings.listen = vec!["0.0.0.0:0".parse().unwrap(), "[::]:0".parse().unwrap()];
            settings.admission.allow.push("::/0".parse().unwrap());
        });
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for to in ["127.0.0.1", "127.8.9.10", "127.0.0.1"] {
            let to = SocketAddr::new(to.parse().unwrap(), served.addresses[0].port());
            // The first is answered by the runtime, the others by the worker.
            let (_, peer) = ask_udp(&client, to, &query("www.example.kz", RecordType::A));
            assert_eq!(peer, to);
        }
        let Ok(client) = UdpSocket::bind("[::1]:0") else {
            eprintln!("skipped: no IPv6 here");
            return;
        };
        let to = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), served.addresses[1].port());
        assert_eq!(ask_udp(&client, to, &query("www.example.kz", RecordType::A)).1, to);
    }

    #[test]
    fn who_may_not_ask_is_refused_or_ignored() {
        let served = serve(|settings| {
            settings.admission.refuse = vec!["127.0.0.2/32".parse().unwrap()];
            settings.admission.ignore = vec!["127.0.0.3/32".parse().unwrap()];
        });
        let to = served.addresses[0];
        let refused = UdpSocket::bind("127.0.0.2:0").unwrap();
        assert_eq!(read(&ask_udp(&refused, to, &query("a.kz", RecordType::A)).0).message.rcode, Rcode::REFUSED);
        let ignored = UdpSocket::bind("127.0.0.3:0").unwrap();
        ignored.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        ignored.send_to(&query("a.kz", RecordType::A), to).unwrap();
        assert!(ignored.recv_from(&mut [0; 512]).is_err());
        assert_eq!(served.tally.0.lock().1, [DropReason::Denied]);
    }

    #[test]
    fn a_stream_is_answered_out_of_order_and_in_full() {
        let served = serve(|_| {});
        let mut stream = TcpStream::connect(served.addresses[0]).unwrap();
        stream.write_all(&frame(&query("known.kz", RecordType::A))).unwrap();
        read_frame(&mut stream).unwrap();

        *served.world.delay.lock() = Duration::from_millis(300);
        let mut slow = query("slow.kz", RecordType::A);
        slow[..2].copy_from_slice(&[0, 1]);
        let mut known = query("known.kz", RecordType::A);
        known[..2].copy_from_slice(&[0, 2]);
        let both = [frame(&slow), frame(&known)].concat();
        // Cut where it hurts.
        stream.write_all(&both[..1]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(&both[1..]).unwrap();
        // The client has said all that it wants to say.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let order = [(); 2].map(|()| read(&read_frame(&mut stream).unwrap()).header.id);
        assert_eq!(order, [2, 1]);
        assert!(read_frame(&mut stream).is_none(), "closed when all is answered");
    }

    /// Asks for what is in the cache until the server reads no more, without reading its replies.
    fn clog(stream: &mut TcpStream) {
        let many = frame(&query("known.kz", RecordType::A)).repeat(500);
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        while stream.write_all(&many).is_ok() {}
    }

    fn connect_with_little_room(to: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&to.into()).unwrap();
        socket.into()
    }

    #[test]
    fn who_does_not_read_holds_up_nobody_who_waits_for_the_same() {
        let served = serve(|_| {});
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        ask_udp(&client, served.addresses[0], &query("known.kz", RecordType::A));
        *served.world.delay.lock() = Duration::from_secs(2);
        let mut stream = connect_with_little_room(served.addresses[0]);
        stream.write_all(&frame(&query("slow.kz", RecordType::A))).unwrap();
        while served.world.times_asked() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        clog(&mut stream);
        let (reply, _) = ask_udp(&client, served.addresses[0], &query("slow.kz", RecordType::A));
        assert_eq!(read(&reply).message.rcode, Rcode::NOERROR);
        assert_eq!(served.world.times_asked(), 2, "it was asked once for both");
    }

    #[test]
    fn who_does_not_read_for_too_long_is_hung_up_on() {
        let served = serve(|settings| {
            settings.stream.idle_timeout = Duration::from_millis(500);
            settings.stream.max_connections_per_client = 1;
        });
        let mut stream = connect_with_little_room(served.addresses[0]);
        clog(&mut stream);
        let begin = Instant::now();
        loop {
            // The only place is free again.
            let mut next = TcpStream::connect(served.addresses[0]).unwrap();
            let _ = next.write_all(&frame(&query("known.kz", RecordType::A)));
            if read_frame(&mut next).is_some() {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "it is never hung up on");
        }
        // One octet at a time is no message either.
        let mut slow = TcpStream::connect(served.addresses[0]).unwrap();
        slow.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let octets = frame(&query("known.kz", RecordType::A)).into_iter().cycle();
        let sent = octets.take(1000).take_while(|octet| {
            let heard = slow.read(&mut [0]);
            let is_quiet = heard.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            is_quiet && slow.write_all(&[*octet]).is_ok()
        });
        assert!(sent.count() < 1000);
    }

    #[test]
    fn a_stream_that_breaks_the_rules_or_sleeps_is_closed() {
        let served = serve(|settings| {
            settings.stream.idle_timeout = Duration::from_millis(200);
            settings.stream.max_connections_per_client = 2;
        });
        for garbage in [&b"\0\x05hello"[..], b"\xff\xff", b""] {
            let mut stream = TcpStream::connect(served.addresses[0]).unwrap();
            stream.write_all(garbage).unwrap();
            assert!(read_frame(&mut stream).is_none());
        }
        let mut streams = [(); 3].map(|()| TcpStream::connect(served.addresses[0]).unwrap());
        let answered = streams.each_mut().map(|stream| {
            let _ = stream.write_all(&frame(&query("a.kz", RecordType::A)));
            read_frame(stream).is_some()
        });
        assert_eq!(answered, [true, true, false], "two connections a client");
    }

    #[test]
    fn what_was_taken_is_answered_before_the_end() {
        let served = serve(|_| {});
        *served.world.delay.lock() = Duration::from_millis(300);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(&query("a.kz", RecordType::A), served.addresses[0]).unwrap();
        let mut stream = TcpStream::connect(served.addresses[0]).unwrap();
        stream.write_all(&frame(&query("b.kz", RecordType::A))).unwrap();
        while served.world.times_asked() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        served.runtime.block_on(served.front.drain(Duration::from_secs(5)));
        assert!(client.recv_from(&mut [0; 512]).is_ok());
        assert!(read_frame(&mut stream).is_some());
        assert!(read_frame(&mut stream).is_none());
    }

    #[test]
    fn too_much_waiting_is_shed_and_leaves_what_needs_no_waiting_alone() {
        let served = serve(|settings| settings.admission.max_waiting = 1);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = served.addresses[0];
        ask_udp(&client, to, &query("known.kz", RecordType::A));
        *served.world.delay.lock() = Duration::from_millis(500);
        let waiting = UdpSocket::bind("127.0.0.1:0").unwrap();
        waiting.send_to(&query("slow.kz", RecordType::A), to).unwrap();
        while served.world.times_asked() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let rcode = |name| read(&ask_udp(&client, to, &query(name, RecordType::A)).0).message.rcode;
        assert_eq!(rcode("other.kz"), Rcode::SERVFAIL);
        assert_eq!(rcode("known.kz"), Rcode::NOERROR);
        let shed = |outcome: &Outcome| outcome.dropped == Some(DropReason::Overload);
        assert_eq!(served.tally.0.lock().0.iter().filter(|outcome| shed(outcome)).count(), 1);
    }

    /// Lulls long enough for the worker to watch its socket no more, misses right after hits and the other way round, a
    /// burst beside them: whatever the order, each question is answered.
    #[test]
    fn no_question_is_forgotten_between_sleeping_and_waking() {
        let served = serve(|_| {});
        let to = served.addresses[0];
        let clients = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        ask_udp(&clients[0], to, &query("known.kz", RecordType::A));
        let ask = |client: &UdpSocket, name: &str| {
            let (reply, _) = ask_udp(client, to, &query(name, RecordType::A));
            assert_eq!(read(&reply).message.rcode, Rcode::NOERROR, "{name}");
        };
        std::thread::scope(|scope| {
            let clients = &clients;
            scope.spawn(move || {
                for round in 0..60 {
                    ask(&clients[0], &format!("first{round}.kz"));
                    // Around the number of batches after which the watch ends.
                    (0..round).for_each(|_| ask(&clients[0], "known.kz"));
                }
            });
            scope.spawn(move || {
                for round in 0..200 {
                    ask(&clients[1], &format!("second{round}.kz"));
                    std::thread::sleep(Duration::from_micros(97 * (round % 40)));
                }
            });
            for round in 0u64..40 {
                *served.world.delay.lock() = Duration::from_micros(500 * (round % 4));
                for number in 0..150 {
                    let name =
                        if number % 3 == 0 { format!("third{round}-{number}.kz") } else { "known.kz".to_owned() };
                    clients[2].send_to(&query(&name, RecordType::A), to).unwrap();
                }
                clients[2].set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                (0..150).for_each(|_| assert!(clients[2].recv(&mut [0; 512]).is_ok(), "round {round}"));
            }
        });
        assert!(served.tally.0.lock().0.iter().all(|outcome| outcome.dropped.is_none()));
    }

    #[test]
    fn what_comes_together_gets_each_its_own_answer() {
        let snapshot = snapshot(&[ListEntry::new("list")], &[(0, rule("listed.kz", Scope::Subdomains))]);
        let policy = Policy::new(policy::Settings::default(), Some(Arc::new(snapshot)), OverrideSet::default());
        let clients = ["127.0.0.1:0", "127.0.0.2:0"].map(|address| UdpSocket::bind(address).unwrap());
        // By its number: who asks, and for what.
        let is_refused = |id: u16| id.is_multiple_of(5);
        let asks_for = |id: u16| match id % 3 {
            0 => format!("n{id}.listed.kz"),
            1 => format!("n{id}.kz"),
            _ => "notify.kz".to_owned(),
        };
        let served = serve_with(
            policy,
            |settings| settings.admission.refuse = vec!["127.0.0.2/32".parse().unwrap()],
            |to| {
                for id in 0..200_u16 {
                    let mut request = query(&asks_for(id), RecordType::A);
                    request[..2].copy_from_slice(&id.to_be_bytes());
                    // NOTIFY, which is not for a resolver.
                    request[2] |= if id % 3 == 2 { 4 << 3 } else { 0 };
                    let client = &clients[usize::from(is_refused(id))];
                    client.send_to(&request, to).unwrap();
                    // And what is no message at all.
                    client.send_to(&request[..5], to).unwrap();
                }
            },
        );
        let mut seen = [false; 200];
        for (client, asked) in clients.iter().zip([160, 40]) {
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            for _ in 0..asked {
                let mut octets = [0; 512];
                let len = client.recv(&mut octets).unwrap();
                let reply = read(&octets[..len]);
                let id = reply.header.id;
                let expected: (_, &[u8]) = match id % 3 {
                    2 => (Rcode::NOTIMP, &[]),
                    _ if is_refused(id) => (Rcode::REFUSED, &[]),
                    0 => (Rcode::NOERROR, &[0, 0, 0, 0]),
                    _ => (Rcode::NOERROR, &[192, 0, 2, 1]),
                };
                let address: Vec<u8> = reply.message.answer.iter().flat_map(|set| set.rdata[0].to_vec()).collect();
                assert_eq!((reply.message.rcode, &address[..]), expected, "{id}");
                assert!(reply.message.answer.iter().all(|set| set.name.to_string() == asks_for(id)), "{id}");
                assert!(!std::mem::replace(&mut seen[usize::from(id)], true), "{id}");
            }
        }
        assert_eq!(served.tally.0.lock().1, [DropReason::Malformed; 200]);
    }

    #[test]
    fn an_address_in_use_is_an_error_that_names_it() {
        let served = serve(|_| {});
        let settings = Settings { listen: served.addresses.clone(), ..Settings::default() };
        let error = Sockets::bind(&settings).unwrap_err();
        assert!(error.to_string().starts_with(&served.addresses[0].to_string()), "{error}");
    }

    #[test]
    fn any_bytes_in_a_datagram_leave_the_worker_alive() {
        let served = serve(|_| {});
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut state = 1u64;
        for len in (0..600).chain([2047, 2048, 2049, 9000, 65_507]) {
            let octets: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) as u8
                })
                .collect();
            let _ = client.send_to(&octets, served.addresses[0]);
        }
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        ask_udp(&other, served.addresses[0], &query("a.kz", RecordType::A));
    }
}
