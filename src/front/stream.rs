//! Queries in streams: pipelined, and answered as the answers are ready (RFC 7766).
//!
//! A connection is one task. While it says nothing, it holds no buffer.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::future::{BoxFuture, poll_fn};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::pipeline::{DropReason, Step};
use crate::query::{Client, Transport};
use crate::wire::HEADER_LEN;

use super::admission::{Access, Ticket};
use super::{Service, StreamSettings};

/// What is taken off a stream at once.
const READ_ROOM: usize = 16 * 1024;
/// Replies are sent when they are this long together, also when more could be made.
const WRITE_ROOM: usize = 64 * 1024;
/// How long `accept` rests after an error.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes connections until the service is to stop.
pub(super) async fn listen(service: Arc<Service>, listener: TcpListener, settings: StreamSettings) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = service.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let client = Client { address, transport: Transport::Tcp };
                let Some(ticket) = admit(&service, address) else { continue };
                // Replies are written whole; they need not wait for more.
                let _ = stream.set_nodelay(true);
                let (service_of_it, settings) = (service.clone(), settings.clone());
                let connection = Connection { service: service_of_it, stream, client, settings };
                service.spawn(async move {
                    // Whatever ends a connection ends it for its client alone.
                    let _ = connection.serve().await;
                    drop(ticket);
                });
            }
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn admit(service: &Arc<Service>, address: SocketAddr) -> Option<Ticket> {
    let client = address.ip().to_canonical();
    let reason = match service.admission.access(client) {
        Access::Ignore => DropReason::Denied,
        Access::Allow | Access::Refuse => match service.admission.connect(client) {
            Some(ticket) => return Some(ticket),
            None => DropReason::Overload,
        },
    };
    service.recorder.dropped(reason);
    None
}

struct Connection<S> {
    service: Arc<Service>,
    stream: S,
    client: Client,
    settings: StreamSettings,
}

/// Replies that wait for the world.
type Waiting = FuturesUnordered<BoxFuture<'static, Vec<u8>>>;

/// What a connection waits for.
enum Event {
    Read(usize),
    Wrote(usize),
    Answered(Vec<u8>),
    Idle,
    Stop,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Serves until the client closes, breaks the rules, says nothing or does not read for too long.
    async fn serve(mut self) -> io::Result<()> {
        let mut waiting = Waiting::new();
        let (mut inbox, mut outbox) = (Vec::new(), Vec::new());
        let mut is_open = true;
        let mut active = Instant::now();
        loop {
            let mut served = 0;
            // Who does not read is not read from.
            while outbox.is_empty() {
                let step = self.serve_some(&inbox[served..], &mut outbox, &mut waiting)?;
                if step == 0 {
                    break;
                }
                served += step;
                active = Instant::now();
                // There is room for it, most of the time.
                if !outbox.is_empty()
                    && let Some(wrote) = self.stream.write(&outbox).now_or_never()
                {
                    take_off(&mut outbox, wrote?)?;
                }
            }
            if served > 0 {
                // Whoever waits keeps no more than the beginning of a message.
                inbox = inbox.split_off(served);
            }
            if !is_open && waiting.is_empty() && outbox.is_empty() {
                return Ok(());
            }

            let may_read = is_open && waiting.len() < self.settings.max_in_flight;
            let may_idle = waiting.is_empty() || !outbox.is_empty();
            let is_idle = sleep_until(active + self.settings.idle_timeout);
            let traffic = async {
                match &outbox[..] {
                    [] => read_some(&mut self.stream, &mut inbox).await.map(Event::Read),
                    outbox => self.stream.write(outbox).await.map(Event::Wrote),
                }
            };
            let event = tokio::select! {
                // Also while the client does not read: others may wait for the same answers.
                Some(reply) = waiting.next() => Event::Answered(reply),
                event = traffic, if may_read || !outbox.is_empty() => event?,
                () = is_idle, if may_idle => Event::Idle,
                () = self.service.stop.cancelled(), if is_open => Event::Stop,
            };
            match event {
                // The client may have closed its half only, and want its answers still.
                Event::Read(0) | Event::Stop => is_open = false,
                Event::Read(_) => {}
                Event::Wrote(len) => {
                    take_off(&mut outbox, len)?;
                    if outbox.is_empty() {
                        active = Instant::now();
                    }
                }
                Event::Answered(reply) => {
                    if outbox.is_empty() {
                        active = Instant::now();
                    }
                    post(&reply, &mut outbox);
                }
                Event::Idle => return Ok(()),
            }
        }
    }

    /// Serves the whole messages in `inbox` as long as there is room for replies, and returns how far it has come.
    fn serve_some(&self, inbox: &[u8], outbox: &mut Vec<u8>, waiting: &mut Waiting) -> io::Result<usize> {
        let Service { pipeline, admission, recorder, .. } = &*self.service;
        let round = self.service.round();
        let began = round.began;
        let mut reply = Vec::new();
        let mut rest = inbox;
        while outbox.len() < WRITE_ROOM && waiting.len() < self.settings.max_in_flight {
            let Some((len, after)) = rest.split_first_chunk() else { break };
            let len = usize::from(u16::from_be_bytes(*len));
            if len < HEADER_LEN {
                recorder.dropped(DropReason::Malformed);
                return Err(io::ErrorKind::InvalidData.into());
            }
            let Some((request, after)) = after.split_at_checked(len) else { break };
            rest = after;
            match self.service.answer(&round, request, self.client, &mut reply) {
                Step::Done(outcome) => {
                    post(&reply, outbox);
                    recorder.record(&outcome, began.elapsed());
                }
                Step::Drop(reason) => recorder.dropped(reason),
                Step::Ask(pending) => match admission.wait(self.client.ip()) {
                    Some(ticket) => {
                        let service = self.service.clone();
                        waiting.push(Box::pin(async move {
                            let mut reply = Vec::new();
                            let outcome = service.pipeline.ask(pending, &mut reply).await;
                            drop(ticket);
                            service.recorder.record(&outcome, began.elapsed());
                            reply
                        }));
                    }
                    None => {
                        let outcome = pipeline.shed(pending, &mut reply);
                        post(&reply, outbox);
                        recorder.record(&outcome, began.elapsed());
                    }
                },
            }
        }
        Ok(inbox.len() - rest.len())
    }
}

/// Takes away what was written; an empty `outbox` holds no room.
fn take_off(outbox: &mut Vec<u8>, wrote: usize) -> io::Result<()> {
    if wrote == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    *outbox = outbox.split_off(wrote);
    Ok(())
}

/// Appends a reply behind its length; an empty one is not sent.
fn post(reply: &[u8], outbox: &mut Vec<u8>) {
    if let Ok(len @ 1..) = u16::try_from(reply.len()) {
        outbox.extend_from_slice(&len.to_be_bytes());
        outbox.extend_from_slice(reply);
    }
}

/// Appends what has come to `inbox`, and takes no room before something has.
async fn read_some(stream: &mut (impl AsyncRead + Unpin), inbox: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|context| {
        let mut room = [MaybeUninit::uninit(); READ_ROOM];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut read))?;
        inbox.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
    .await
}
