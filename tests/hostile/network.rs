//! Carries the resolver's queries into a [`World`] without a socket, on tokio's paused clock.
//!
//! What the production network promises is kept here as well: only a message
//! from the server that was asked, with the query's identifier and question,
//! is a reply. [`live`](crate::live) puts the real sockets to the proof.

use std::sync::Arc;
use std::time::Duration;

use qalqan::recursor::BoxFuture;
use qalqan::recursor::network::{Exchange, ExchangeError, Network, Protocol};
use qalqan::wire::{self, HEADER_LEN, Header};
use tokio::time::{Instant, sleep};

use crate::message::{Answer, Query};
use crate::server::{Carrier, Reaction, Source};
use crate::world::World;

/// How long a message and its reply travel.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// How long a reply in other letters' case waits for a better one.
const HELD_BACK: Duration = Duration::from_millis(200);

/// The wires of a world.
pub struct Wires {
    world: Arc<World>,
    /// When they were laid, if each message is to be printed.
    traced: Option<Instant>,
}

impl Wires {
    /// Lays the wires; prints what goes over them when `QALQAN_TRACE` is set.
    pub fn new(world: Arc<World>) -> Self {
        Self { world, traced: std::env::var_os("QALQAN_TRACE").map(|_| Instant::now()) }
    }

    fn trace(&self, exchange: &Exchange<'_>, carrier: Carrier, reaction: &Reaction) {
        let (Some(start), Some(query)) = (self.traced, Query::read(exchange.query)) else { return };
        let edns = if query.edns.is_some() { "edns" } else { "plain" };
        let result = match reaction {
            Reaction::Messages(sent) => match sent.last().and_then(|sent| Answer::read(&sent.bytes)) {
                Some(answer) => format!("rcode {}, {} answers", answer.rcode, answer.answer.len()),
                None => format!("{} messages", sent.len()),
            },
            other => format!("{other:?}"),
        };
        let at = start.elapsed().as_secs_f32();
        let server = exchange.server.ip();
        println!("    {at:7.3} {server} {carrier:?} {edns} {} {}: {result}", query.name, query.qtype);
    }
}

impl Network for Wires {
    fn exchange<'a>(&'a self, exchange: Exchange<'a>) -> BoxFuture<'a, Result<Vec<u8>, ExchangeError>> {
        Box::pin(async move {
            let carrier = if exchange.protocol == Protocol::Udp { Carrier::Udp } else { Carrier::Tcp };
            let trips = if carrier == Carrier::Udp { 1 } else { 2 };
            let reaction = self.world.receive(exchange.server.ip(), exchange.query, carrier);
            self.trace(&exchange, carrier, &reaction);
            match reaction {
                Reaction::Unreachable => {
                    sleep(ROUND_TRIP).await;
                    Err(ExchangeError::Unreachable)
                }
                Reaction::Closed | Reaction::BrokenOff(_) => {
                    sleep(ROUND_TRIP * 2).await;
                    Err(ExchangeError::Closed)
                }
                Reaction::Messages(sent) => {
                    let mut replies: Vec<(Duration, Vec<u8>)> = sent
                        .into_iter()
                        .filter(|sent| sent.source == Source::Server && answers(exchange.query, &sent.bytes))
                        .map(|sent| {
                            let pace = if carrier == Carrier::Tcp { sent.pace } else { Duration::ZERO };
                            (sent.after + pace * sent.bytes.len() as u32 + ROUND_TRIP * trips, sent.bytes)
                        })
                        .filter(|(after, _)| *after < exchange.timeout)
                        .collect();
                    replies.sort_by_key(|(after, _)| *after);
                    let exact = replies.iter().position(|(_, bytes)| keeps_case(exchange.query, bytes));
                    let reply = match exact {
                        Some(place) if replies[place].0 <= replies[0].0 + HELD_BACK => Some(replies.swap_remove(place)),
                        _ => replies.into_iter().next().map(|(after, bytes)| (after + HELD_BACK, bytes)),
                    };
                    match reply {
                        Some((after, bytes)) => {
                            sleep(after).await;
                            Ok(bytes)
                        }
                        None => {
                            sleep(exchange.timeout).await;
                            Err(ExchangeError::Timeout)
                        }
                    }
                }
            }
        })
    }
}

/// Whether a message may be a reply to this query, letters' case aside.
fn answers(query: &[u8], message: &[u8]) -> bool {
    let (Ok(asked), Ok(header)) = (Header::read(query), Header::read(message)) else {
        return false;
    };
    let question = |bytes| {
        let (name, end) = wire::read_name(bytes, HEADER_LEN).ok()?;
        Some((name, bytes.get(end..end + 4)?.to_vec()))
    };
    header.has(Header::QR)
        && header.opcode() == asked.opcode()
        && header.id == asked.id
        && (header.counts[0] == 0 || header.counts[0] == 1 && question(message) == question(query))
}

/// Whether a reply repeats the query's name as it was sent, or has none.
fn keeps_case(query: &[u8], reply: &[u8]) -> bool {
    let name = HEADER_LEN..wire::skip_name(query, HEADER_LEN).unwrap_or(query.len());
    Header::read(reply).is_ok_and(|header| header.counts[0] == 0) || reply.get(name.clone()) == query.get(name)
}
