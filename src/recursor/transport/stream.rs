//! Queries in streams: TCP and TLS, pipelined (RFC 7766, section 6.2.1.1; RFC 7858).
//!
//! A connection is a task that writes what it is given and hands each reply to
//! whom it belongs, in whatever order they come. On the wire each query has an
//! identifier that no other query of the connection has at the moment; its own
//! comes back with the reply. A connection stays for a while after its last
//! query. One that the server closes costs those who waited on it another
//! attempt, if it has answered anything at all: then it was not the server's
//! refusal to talk, but the end of its patience (section 6.2.4).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;

use super::{MAX_STRAY, answers, unreachable};
use crate::recursor::network::{ExchangeError, Protocol};

/// Connections at once, to one server and to all.
const MAX_CONNECTIONS: (usize, usize) = (8, 512);
/// Queries that wait on one connection, before another one is opened and at most.
const MAX_IN_FLIGHT: (usize, usize) = (32, 256);
/// How long a connection on which nothing moves is kept.
const IDLE: Duration = Duration::from_secs(8);
/// What is read at once.
const READ_ROOM: usize = 4096;

type Key = (SocketAddr, Protocol);
type Answer = Result<Vec<u8>, Fault>;

/// The connections of a resolver.
pub(super) struct Streams {
    tls: TlsConnector,
    open: Mutex<HashMap<Key, Vec<Arc<Connection>>, ahash::RandomState>>,
}

/// Why a connection has not answered.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It was closed after it had answered others.
    Worn,
    /// It never worked.
    Failed(ExchangeError),
}

impl Streams {
    pub(super) fn new(tls: TlsConnector) -> Self {
        Self { tls, open: Mutex::default() }
    }

    /// Asks over a connection that is open, or over a new one. Whoever calls does not wait longer than he likes.
    pub(super) async fn exchange(
        &self,
        server: SocketAddr,
        protocol: &Protocol,
        query: &[u8],
    ) -> Result<Vec<u8>, ExchangeError> {
        let key = (server, protocol.clone());
        let mut answer = self.connection(&key, Choice::Any)?.ask(query).await;
        if let Err(Fault::Worn) = answer {
            // Others may have come first on the old one; on a new one we do.
            answer = self.connection(&key, Choice::New)?.ask(query).await;
        }
        answer.map_err(|fault| match fault {
            Fault::Worn => ExchangeError::Closed,
            Fault::Failed(error) => error,
        })
    }

    fn connection(&self, key: &Key, choice: Choice) -> Result<Arc<Connection>, ExchangeError> {
        let mut open = self.open.lock();
        if open.values().map(Vec::len).sum::<usize>() >= MAX_CONNECTIONS.1 {
            open.retain(|_, connections| {
                // Those that nobody waits for make room.
                connections.retain(|connection| connection.is_usable() && connection.load() > 0);
                !connections.is_empty()
            });
            if open.values().map(Vec::len).sum::<usize>() >= MAX_CONNECTIONS.1 {
                return Err(ExchangeError::Resources);
            }
        }
        let connections = open.entry(key.clone()).or_default();
        connections.retain(|connection| connection.is_usable());
        let (enough, most) = MAX_IN_FLIGHT;
        let idlest = connections.iter().min_by_key(|connection| connection.load());
        match idlest.filter(|_| choice == Choice::Any) {
            Some(idlest) if idlest.load() < enough => Ok(idlest.clone()),
            Some(idlest) if connections.len() >= MAX_CONNECTIONS.0 && idlest.load() < most => Ok(idlest.clone()),
            _ if connections.len() >= MAX_CONNECTIONS.0 => Err(ExchangeError::Resources),
            _ => {
                let connection = Connection::start(connect(key.clone(), self.tls.clone()));
                connections.push(connection.clone());
                Ok(connection)
            }
        }
    }
}

/// Which connection will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Any,
    New,
}

/// A connection as those see it who ask over it.
struct Connection {
    inbox: mpsc::Sender<Asked>,
    news: Arc<News>,
}

/// What a connection's task tells about it.
#[derive(Default)]
struct News {
    /// Those who wait for a reply.
    waiting: AtomicUsize,
    /// Replies that have come.
    replies: AtomicUsize,
    /// Somebody has waited in vain while nothing came at all.
    is_mute: AtomicBool,
}

/// A query, and who waits for its reply.
struct Asked {
    query: Vec<u8>,
    reply: oneshot::Sender<Answer>,
}

/// Somebody who waits; what is left of it when he gives up is taken away.
struct Waiting<'a> {
    news: &'a News,
    /// How many replies had come when he began to wait.
    began_at: usize,
}

impl<'a> Waiting<'a> {
    fn begin(news: &'a News) -> Self {
        news.waiting.fetch_add(1, Relaxed);
        Self { news, began_at: news.replies.load(Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.news.waiting.fetch_sub(1, Relaxed);
        if self.news.replies.load(Relaxed) == self.began_at {
            self.news.is_mute.store(true, Relaxed);
        }
    }
}

impl Connection {
    /// A connection that is being made.
    fn start<S: Stream>(connecting: impl Future<Output = Result<S, ExchangeError>> + Send + 'static) -> Arc<Self> {
        let (inbox, asked) = mpsc::channel(MAX_IN_FLIGHT.1);
        let news = Arc::<News>::default();
        tokio::spawn(Traffic::new(asked, news.clone()).run(connecting));
        Arc::new(Self { inbox, news })
    }

    /// Whether it is worth asking over.
    fn is_usable(&self) -> bool {
        !self.inbox.is_closed() && !self.news.is_mute.load(Relaxed)
    }

    fn load(&self) -> usize {
        self.news.waiting.load(Relaxed)
    }

    async fn ask(&self, query: &[u8]) -> Answer {
        let _waiting = Waiting::begin(&self.news);
        let (reply, replied) = oneshot::channel();
        let asked = Asked { query: query.to_vec(), reply };
        self.inbox.send(asked).await.map_err(|_| Fault::Worn)?;
        replied.await.map_err(|_| Fault::Worn)?
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

async fn connect((server, protocol): Key, tls: TlsConnector) -> Result<Box<dyn Stream>, ExchangeError> {
    let stream = TcpStream::connect(server).await.map_err(unreachable)?;
    let _ = stream.set_nodelay(true);
    let Protocol::Tls { server_name } = protocol else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(server_name).map_err(|_| ExchangeError::Tls)?;
    let stream = tls.connect(name, stream).await.map_err(|_| ExchangeError::Tls)?;
    Ok(Box::new(stream))
}

/// What goes over one connection.
struct Traffic {
    asked: mpsc::Receiver<Asked>,
    news: Arc<News>,
    /// Those who wait, by the identifier that their query has on the wire.
    waiting: HashMap<u16, Asked>,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    strays: u32,
}

impl Traffic {
    fn new(asked: mpsc::Receiver<Asked>, news: Arc<News>) -> Self {
        let (waiting, incoming, outgoing) = Default::default();
        Self { asked, news, waiting, incoming, outgoing, strays: 0 }
    }

    /// Carries queries and replies until the connection ends; tells those who are left.
    async fn run<S: Stream>(mut self, connecting: impl Future<Output = Result<S, ExchangeError>>) {
        let error = match tokio::time::timeout(IDLE, connecting).await {
            Ok(Ok(stream)) => {
                self.carry(stream).await;
                ExchangeError::Closed
            }
            Ok(Err(error)) => error,
            Err(_) => ExchangeError::Timeout,
        };
        let has_worked = self.news.replies.load(Relaxed) > 0;
        let fault = if has_worked { Fault::Worn } else { Fault::Failed(error) };
        self.asked.close();
        for (_, asked) in self.waiting.drain() {
            let _ = asked.reply.send(Err(fault));
        }
        while let Some(asked) = self.asked.recv().await {
            let _ = asked.reply.send(Err(fault));
        }
    }

    async fn carry(&mut self, stream: impl Stream) {
        let (mut reader, mut writer) = split(stream);
        let mut is_flushed = true;
        let mut moved = Instant::now();
        loop {
            self.incoming.reserve(READ_ROOM);
            let went = tokio::select! {
                asked = self.asked.recv() => match asked {
                    Some(asked) => {
                        self.send(asked);
                        Ok(1)
                    }
                    // Nobody can ask any more.
                    None => return,
                },
                pushed = push(&mut writer, &mut self.outgoing, &mut is_flushed), if !self.outgoing.is_empty() || !is_flushed => pushed,
                read = reader.read_buf(&mut self.incoming) => read,
                () = sleep_until(moved + IDLE) => return,
            };
            // An error, or the end.
            if !went.is_ok_and(|octets| octets > 0) || self.receive().is_none() {
                return;
            }
            moved = Instant::now();
        }
    }

    /// Puts a query on its way, under an identifier that no other has.
    fn send(&mut self, asked: Asked) {
        let Ok(len) = u16::try_from(asked.query.len()) else { return };
        if self.waiting.len() >= MAX_IN_FLIGHT.1 {
            // Those who have given up wait no more.
            self.waiting.retain(|_, asked| !asked.reply.is_closed());
        }
        let id = loop {
            let id: u16 = rand::random();
            if !self.waiting.contains_key(&id) {
                break id;
            }
        };
        self.outgoing.extend(len.to_be_bytes());
        self.outgoing.extend(id.to_be_bytes());
        self.outgoing.extend(asked.query.get(2..).unwrap_or_default());
        self.waiting.insert(id, asked);
    }

    /// Hands out the replies that have come whole; `None` when the server talks nonsense.
    fn receive(&mut self) -> Option<()> {
        let mut at = 0;
        while let Some(len) = self.incoming.get(at..).and_then(<[u8]>::first_chunk).copied().map(u16::from_be_bytes) {
            let begin = at + 2;
            let Some(message) = self.incoming.get(begin..begin + usize::from(len)) else { break };
            at = begin + usize::from(len);
            let mut message = message.to_vec();
            match take_asked(&mut self.waiting, &mut message) {
                Some(asked) => {
                    self.news.replies.fetch_add(1, Relaxed);
                    // Who asked may be gone.
                    let _ = asked.reply.send(Ok(message));
                }
                None => {
                    self.strays += 1;
                    if self.strays >= MAX_STRAY {
                        return None;
                    }
                }
            }
        }
        self.incoming.drain(..at);
        Some(())
    }
}

/// Writes some of what is to go out, or sees it off when all is written.
async fn push(
    writer: &mut (impl AsyncWrite + Unpin),
    outgoing: &mut VecDeque<u8>,
    is_flushed: &mut bool,
) -> io::Result<usize> {
    *is_flushed = false;
    if !outgoing.is_empty() {
        return writer.write_buf(outgoing).await;
    }
    writer.flush().await?;
    *is_flushed = true;
    Ok(1)
}

/// Who waits for `message`, which gets the identifier that he gave to his query.
fn take_asked(waiting: &mut HashMap<u16, Asked>, message: &mut [u8]) -> Option<Asked> {
    let id = u16::from_be_bytes(*message.first_chunk()?);
    let asked = waiting.get(&id)?;
    message[..2].copy_from_slice(asked.query.get(..2)?);
    answers(&asked.query, message).then(|| waiting.remove(&id))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recursor::transport::tests::{echo, query};
    use proptest::prelude::*;
    use tokio::io::{DuplexStream, duplex};

    /// A connection to ourselves.
    fn connected() -> (Arc<Connection>, DuplexStream) {
        let (ours, theirs) = duplex(1 << 16);
        (Connection::start(async { Ok(ours) }), theirs)
    }

    async fn read(server: &mut DuplexStream) -> Vec<u8> {
        let mut query = vec![0; usize::from(server.read_u16().await.unwrap())];
        server.read_exact(&mut query).await.unwrap();
        query
    }

    async fn write(server: &mut DuplexStream, reply: &[u8]) {
        server.write_u16(reply.len() as u16).await.unwrap();
        server.write_all(reply).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn replies_come_in_any_order_and_find_who_asked() {
        let (connection, mut server) = connected();
        let (slow, quick) = (query("slow.kz"), query("quick.kz"));
        assert_eq!(slow[..2], quick[..2], "who asks need not know of each other");
        let serve = async {
            let (first, second) = (read(&mut server).await, read(&mut server).await);
            assert_ne!(first[..2], second[..2], "on the wire no two are alike (RFC 7766, section 6.2.1)");
            write(&mut server, &echo(&second)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            write(&mut server, &echo(&first)).await;
        };
        let began = Instant::now();
        let timed = async {
            let reply = connection.ask(&quick).await;
            (reply.unwrap(), began.elapsed())
        };
        let (slow_reply, (quick_reply, took), ()) = tokio::join!(connection.ask(&slow), timed, serve);
        assert_eq!((slow_reply.unwrap(), quick_reply), (echo(&slow), echo(&quick)));
        assert!(took < Duration::from_secs(1), "nobody waits for another's reply");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_is_closed() {
        let (connection, mut server) = connected();
        tokio::time::sleep(IDLE - Duration::from_millis(1)).await;
        assert!(connection.is_usable());
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        tokio::task::yield_now().await;
        assert!(!connection.is_usable());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_let_down_learns_whether_it_ever_worked() {
        let (connection, mut server) = connected();
        let query = query("a.kz");
        let serve = async {
            let first = read(&mut server).await;
            write(&mut server, &echo(&first)).await;
            read(&mut server).await;
            drop(server);
        };
        let both = async { (connection.ask(&query).await, connection.ask(&query).await) };
        let ((first, second), ()) = tokio::join!(both, serve);
        assert!(first.is_ok() && matches!(second, Err(Fault::Worn)));

        let (connection, server) = connected();
        drop(server);
        assert!(matches!(connection.ask(&query).await, Err(Fault::Failed(ExchangeError::Closed) | Fault::Worn)));
        let refused = Connection::start(async { Err::<DuplexStream, _>(ExchangeError::Unreachable) });
        assert!(matches!(refused.ask(&query).await, Err(Fault::Failed(ExchangeError::Unreachable))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_not_asked_again() {
        let (connection, _server) = connected();
        let query = query("a.kz");
        assert!(tokio::time::timeout(Duration::from_secs(1), connection.ask(&query)).await.is_err());
        assert!(!connection.is_usable());
        assert_eq!(connection.load(), 0);
    }

    proptest! {
        #[test]
        fn any_octets_from_a_server_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
            let (_inbox, asked) = mpsc::channel(1);
            let mut traffic = Traffic::new(asked, Arc::default());
            let (reply, mut replied) = oneshot::channel();
            traffic.send(Asked { query: query("a.kz"), reply });
            for part in octets.chunks(7) {
                traffic.incoming.extend(part);
                if traffic.receive().is_none() {
                    break;
                }
                prop_assert!(traffic.incoming.len() < 2 + usize::from(u16::MAX));
            }
            prop_assert!(replied.try_recv().is_err(), "nobody guesses an identifier and a question");
        }
    }
}
