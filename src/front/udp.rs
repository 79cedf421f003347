//! Queries in datagrams: threads that receive, answer and send in batches.
//!
//! A worker sleeps in the kernel until a datagram comes, takes what else has
//! come, answers all that needs no waiting and sends the replies together. What
//! must wait for the world goes to the runtime, which sends that reply itself.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::pipeline::{DropReason, Recorder, Step};
use crate::query::{Client, Transport};

use super::Service;
use super::batch::{self, Batch, ReturnPath};

/// Batches that a worker still serves after it was told to stop, when datagrams keep coming.
const LAST_BATCHES: usize = 64;
/// How long a worker waits when the socket reports an error.
const PAUSE: Duration = Duration::from_millis(50);

/// One thread with a socket of its own.
pub(super) struct Worker {
    pub(super) service: Arc<Service>,
    pub(super) socket: Arc<UdpSocket>,
    pub(super) recorder: Arc<dyn Recorder>,
    /// The socket is bound to a wildcard and tells our own address with each datagram.
    pub(super) is_wildcard: bool,
    pub(super) stop: Arc<AtomicBool>,
}

impl Worker {
    /// Serves until it is told to stop and nothing is left to receive.
    pub(super) fn run(self) {
        let mut batch = Batch::new(self.is_wildcard);
        let mut last = 0..LAST_BATCHES;
        loop {
            let received = batch.receive(&self.socket);
            let is_stopped = self.stop.load(Ordering::Relaxed);
            if is_stopped && (batch.is_empty() || last.next().is_none()) {
                return;
            }
            match received {
                Ok(()) => self.serve(&mut batch),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    warn!(%error, "receiving datagrams failed");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn serve(&self, batch: &mut Batch) {
        let began = Instant::now();
        let now = self.service.pipeline.now();
        for (request, path, reply) in batch.exchanges() {
            let Some(address) = path.client() else { continue };
            let client = Client { address, transport: Transport::Udp };
            match self.service.answer(request, client, now, reply) {
                Step::Done(outcome) => self.recorder.record(&outcome, began.elapsed()),
                Step::Drop(reason) => self.recorder.dropped(reason),
                Step::Ask(pending) => match self.service.admission.wait(client.ip()) {
                    Some(ticket) => {
                        let (service, path) = (self.service.clone(), *path);
                        let socket = self.socket.clone();
                        self.service.spawn(async move {
                            let mut reply = Vec::with_capacity(256);
                            let outcome = service.pipeline.ask(pending, &mut reply).await;
                            // The place is free before the client can know: its next query finds it so.
                            drop(ticket);
                            service.recorder.record(&outcome, began.elapsed());
                            service.reply(&socket, &reply, path);
                        });
                    }
                    None => {
                        let outcome = self.service.pipeline.shed(pending, reply);
                        self.recorder.record(&outcome, began.elapsed());
                    }
                },
            }
        }
        for _ in 0..batch.send(&self.socket) {
            self.recorder.dropped(DropReason::Send);
        }
    }
}

impl Service {
    fn reply(&self, socket: &UdpSocket, reply: &[u8], path: ReturnPath) {
        if !reply.is_empty() && batch::send(socket, reply, path).is_err() {
            self.recorder.dropped(DropReason::Send);
        }
    }
}
