//! Datagrams, many to a system call.
//!
//! The one file of the fronts with unsafe code: `recvmmsg` and `sendmmsg`, with
//! the control messages that say which of our own addresses a datagram was sent
//! to (`IP_PKTINFO`, RFC 3542), so that its reply leaves from there also when
//! the socket is bound to a wildcard.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;

use libc::{c_int, c_uint, cmsghdr, iovec, mmsghdr, msghdr, socklen_t};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Datagrams that are received and sent together at most.
pub(super) const BATCH: usize = 64;
/// Datagrams that there is room made for at least. To make it costs time whether they come or not.
const LEAST_ROOM: usize = 16;
/// A query that is longer is none: we say that we take 1232 octets.
const REQUEST_ROOM: usize = 2048;
/// What most replies fit into; a longer one takes more once.
const REPLY_ROOM: usize = 512;
/// A `sockaddr_in6`, the longer of the two kinds.
const NAME_ROOM: usize = 28;
/// A `cmsghdr` with an `in6_pktinfo`, the longer of the two kinds.
const CONTROL_ROOM: usize = 40;

/// The way back to a client: its address, and our own that it has asked.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct ReturnPath {
    control: [u8; CONTROL_ROOM],
    name: [u8; NAME_ROOM],
    name_len: u8,
    control_len: u8,
}

const NO_PATH: ReturnPath =
    ReturnPath { control: [0; CONTROL_ROOM], name: [0; NAME_ROOM], name_len: 0, control_len: 0 };

impl ReturnPath {
    /// The client's address.
    pub(super) fn client(&self) -> Option<SocketAddr> {
        let name = &self.name[..usize::from(self.name_len)];
        let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
        match c_int::from(u16::from_ne_bytes(*name.first_chunk()?)) {
            libc::AF_INET => Some((Ipv4Addr::from(*name.get(4..)?.first_chunk::<4>()?), port).into()),
            libc::AF_INET6 => {
                let flow = u32::from_ne_bytes(*name.get(4..)?.first_chunk()?);
                let address = Ipv6Addr::from(*name.get(8..)?.first_chunk::<16>()?);
                let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
                Some(SocketAddrV6::new(address, port, flow, scope).into())
            }
            _ => None,
        }
    }

    /// The header of a message to or from there, with `data` as its only part.
    fn header(&mut self, data: *mut iovec) -> msghdr {
        // SAFETY: a msghdr is numbers and pointers; all zero is a valid one.
        let mut header: msghdr = unsafe { mem::zeroed() };
        header.msg_name = self.name.as_mut_ptr().cast();
        header.msg_namelen = socklen_t::from(self.name_len);
        header.msg_iov = data;
        header.msg_iovlen = 1;
        if self.control_len > 0 {
            header.msg_control = self.control.as_mut_ptr().cast();
            header.msg_controllen = usize::from(self.control_len) as _;
        }
        header
    }

    /// Makes the control message that came with a datagram fit for its reply: the interface is left to the routing
    /// table, unless the address has a meaning on one link only.
    fn turn_around(&mut self) {
        const DATA: usize = mem::size_of::<cmsghdr>();
        if usize::from(self.control_len) <= DATA {
            return;
        }
        let kind: [u8; 8] = self.control[DATA - 8..DATA].try_into().expect("eight octets");
        let (level, _) = kind.split_first_chunk::<4>().expect("eight octets");
        match c_int::from_ne_bytes(*level) {
            // in_pktinfo: interface, our address, the destination in the header.
            libc::IPPROTO_IP => self.control[DATA..DATA + 4].fill(0),
            // in6_pktinfo: our address, interface.
            libc::IPPROTO_IPV6 if self.control[DATA..DATA + 2] != [0xfe, 0x80] => {
                self.control[DATA + 16..DATA + 20].fill(0);
            }
            _ => {}
        }
    }
}

/// A reply that was not ready with its batch.
pub(super) struct LateReply {
    pub(super) reply: Vec<u8>,
    pub(super) path: ReturnPath,
}

/// What to do when no datagram is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    /// Sleep until one comes.
    ForOne,
    /// Come back with nothing.
    Not,
}

/// Room for a batch of datagrams and their replies.
pub(super) struct Batch {
    slots: Box<[Slot]>,
    headers: Box<[mmsghdr]>,
    received: usize,
    /// How many the next call may receive.
    room: usize,
    /// The last call received as many as it could.
    is_full: bool,
    /// The socket tells our own address.
    with_control: bool,
}

struct Slot {
    path: ReturnPath,
    request: [u8; REQUEST_ROOM],
    request_len: usize,
    reply: Vec<u8>,
    data: iovec,
}

impl Batch {
    pub(super) fn new(with_control: bool) -> Self {
        let slot = || Slot {
            path: NO_PATH,
            request: [0; REQUEST_ROOM],
            request_len: 0,
            reply: Vec::with_capacity(REPLY_ROOM),
            data: iovec { iov_base: ptr::null_mut(), iov_len: 0 },
        };
        // SAFETY: an mmsghdr is numbers and pointers; all zero is a valid one.
        let header = || unsafe { mem::zeroed() };
        Self {
            slots: (0..BATCH).map(|_| slot()).collect(),
            headers: (0..BATCH).map(|_| header()).collect(),
            received: 0,
            room: LEAST_ROOM,
            is_full: false,
            with_control,
        }
    }

    /// Takes what has come; waits for the first datagram if `wait` says so, and returns with nothing when the socket
    /// was shut down.
    pub(super) fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<()> {
        (self.received, self.is_full) = (0, false);
        let headers = &mut self.headers[..self.room];
        for (slot, header) in self.slots.iter_mut().zip(headers.iter_mut()) {
            slot.path.name_len = NAME_ROOM as u8;
            slot.path.control_len = if self.with_control { CONTROL_ROOM as u8 } else { 0 };
            slot.data = iovec { iov_base: slot.request.as_mut_ptr().cast(), iov_len: REQUEST_ROOM };
            *header = mmsghdr { msg_hdr: slot.path.header(&mut slot.data), msg_len: 0 };
        }
        // SAFETY: the headers are as many as is said, and each was set just now to point to parts of its slot, with
        // their true lengths. The slots lie in a box of their own, which neither moves nor goes while we borrow it.
        let received = unsafe {
            let flags = match wait {
                Wait::ForOne => libc::MSG_WAITFORONE,
                Wait::Not => libc::MSG_DONTWAIT,
            };
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as c_uint,
                flags as _,
                ptr::null_mut(),
            )
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        self.is_full = self.received == self.room;
        // What comes now is more or less what came just before.
        self.room = (4 * self.received).clamp(LEAST_ROOM, BATCH);
        for (slot, header) in self.slots.iter_mut().zip(&self.headers[..self.received]) {
            let message = &header.msg_hdr;
            let is_whole = message.msg_flags & libc::MSG_TRUNC == 0;
            slot.request_len = if is_whole { (header.msg_len as usize).min(REQUEST_ROOM) } else { 0 };
            slot.path.name_len = message.msg_namelen.min(NAME_ROOM as socklen_t) as u8;
            // What did not fit would be another kind of message, which we have not asked for.
            slot.path.control_len = message.msg_controllen.min(CONTROL_ROOM as _) as u8;
            slot.path.turn_around();
        }
        Ok(())
    }

    /// Whether there was room for no more.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether the last call received nothing, or nothing but what a socket reports that was shut down.
    pub(super) fn is_empty(&self) -> bool {
        self.slots[..self.received].iter().all(|slot| slot.request_len == 0)
    }

    /// Each datagram received, the way back, and the room for its reply, which is sent unless it stays empty.
    pub(super) fn exchanges(&mut self) -> impl Iterator<Item = (&[u8], &ReturnPath, &mut Vec<u8>)> {
        self.slots[..self.received].iter_mut().map(|slot| {
            slot.reply.clear();
            (&slot.request[..slot.request_len], &slot.path, &mut slot.reply)
        })
    }

    /// Sends the replies, and returns how many the system did not take. Does not wait.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> usize {
        let mut len = 0;
        for slot in self.slots[..self.received].iter_mut().filter(|slot| !slot.reply.is_empty()) {
            slot.data = iovec { iov_base: slot.reply.as_mut_ptr().cast(), iov_len: slot.reply.len() };
            self.headers[len] = mmsghdr { msg_hdr: slot.path.header(&mut slot.data), msg_len: 0 };
            len += 1;
        }
        // SAFETY: as in `receive`; the parts are the replies, which the system only reads.
        unsafe { transmit(socket, &mut self.headers[..len]) }
    }

    /// Sends replies that were not ready with their batch, and returns how many the system did not take. Does not wait.
    pub(super) fn send_late(&mut self, socket: &UdpSocket, late: &mut [LateReply]) -> usize {
        let mut lost = 0;
        for late in late.chunks_mut(BATCH) {
            let mut parts = [iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
            for ((LateReply { reply, path }, data), header) in late.iter_mut().zip(&mut parts).zip(&mut self.headers) {
                *data = iovec { iov_base: reply.as_mut_ptr().cast(), iov_len: reply.len() };
                *header = mmsghdr { msg_hdr: path.header(data), msg_len: 0 };
            }
            // SAFETY: each header was set just now to point to a path, a part and through it to a reply, with their
            // true lengths; all three outlive the call, which only reads them.
            lost += unsafe { transmit(socket, &mut self.headers[..late.len()]) };
        }
        lost
    }
}

/// Sends messages, and returns how many the system did not take. Does not wait.
///
/// # Safety
///
/// What the headers point to must be there, in the lengths that they tell.
unsafe fn transmit(socket: &UdpSocket, headers: &mut [mmsghdr]) -> usize {
    let (mut next, mut lost) = (0, 0);
    while next < headers.len() {
        let rest = &mut headers[next..];
        // SAFETY: the headers are as many as is said, and the caller vouches for what they point to.
        let sent = unsafe {
            let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _;
            libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as c_uint, flags)
        };
        match usize::try_from(sent) {
            Ok(sent) => next += sent,
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            // It is the first of the rest that failed.
            Err(_) => {
                lost += 1;
                next += 1;
            }
        }
    }
    lost
}

/// Has the socket tell with each datagram which of our addresses it was sent to.
pub(super) fn tell_own_address(socket: &UdpSocket, ipv6: bool) -> io::Result<()> {
    match ipv6 {
        true => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
        false => set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
    }
}

/// Has the system send replies whole or not at all (DF is set), whatever it has been told of paths: a fragment can be
/// forged more easily than a reply, and so can the news that a path is narrow (RFC 9715, section 3.1).
pub(super) fn never_fragment(socket: &UdpSocket, ipv6: bool) -> io::Result<()> {
    match ipv6 {
        true => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        false => set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
    }
}

fn set_option(socket: &UdpSocket, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the option's value is an int of the length that is said, and is only read.
    let done = unsafe {
        let value = ptr::from_ref(&value).cast();
        libc::setsockopt(socket.as_raw_fd(), level, name, value, mem::size_of::<c_int>() as socklen_t)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the runtime that this is called in tell when a datagram has come. Leaves the socket in blocking mode.
pub(super) fn watch(socket: Arc<UdpSocket>) -> io::Result<AsyncFd<Arc<UdpSocket>>> {
    // SAFETY: the descriptor stays open and stays that of the same socket until the `AsyncFd` lets go of its share of
    // the `UdpSocket`, which owns it and gives nobody the means to replace it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// Wakes whoever waits in [`Batch::receive`], for good.
pub(super) fn shut_down(socket: &UdpSocket) {
    // SAFETY: takes a descriptor that is open as long as `socket` lives, and no memory. It reports an error for a
    // socket without a peer, and wakes its readers nevertheless.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RD) };
}
