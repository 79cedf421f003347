//! The least that an answer over UDP can cost: receive a batch, set QR, send it back.
//!
//! Prints its port and serves until it is ended. `benches/peers/run.py` measures
//! every server beside it.
// A program of its own beside the crate; the crate's batches are `front::batch`.
#![allow(unsafe_code)]

use std::mem::{size_of, zeroed};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

const BATCH: usize = 64;
const ROOM: usize = 2048;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let [address] = &arguments[..] else {
        eprintln!("usage: floor ADDRESS:PORT; see benches/peers/run.py");
        return;
    };
    let socket = UdpSocket::bind(address).expect("a free address");
    println!("ready {}", socket.local_addr().expect("an address"));

    let mut buffers = vec![[0u8; ROOM]; BATCH];
    let mut names: Vec<libc::sockaddr_storage> = vec![
        // SAFETY: a sockaddr_storage is numbers.
        unsafe { zeroed() };
        BATCH
    ];
    let mut parts: Vec<libc::iovec> =
        buffers.iter_mut().map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: ROOM }).collect();
    // SAFETY: an mmsghdr is numbers and pointers.
    let mut headers: Vec<libc::mmsghdr> = (0..BATCH).map(|_| unsafe { zeroed() }).collect();
    for ((header, name), part) in headers.iter_mut().zip(&mut names).zip(&mut parts) {
        header.msg_hdr.msg_name = ptr::from_mut(name).cast();
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
    }
    loop {
        for (header, part) in headers.iter_mut().zip(&mut parts) {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            part.iov_len = ROOM;
        }
        // SAFETY: every header points to a name and a part, every part to a buffer, all of which live on and are as
        // long as is said.
        let received = unsafe {
            let flags = libc::MSG_WAITFORONE as _;
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), BATCH as u32, flags, ptr::null_mut())
        };
        let received = usize::try_from(received).expect("receiving works");
        for at in 0..received {
            parts[at].iov_len = headers[at].msg_len as usize;
            buffers[at][2] |= 0x80;
        }
        // SAFETY: as above.
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), received as u32, 0) };
    }
}
