//! Many datagrams per system call.
//!
//! `recvmmsg` fills up to [`BATCH`] slots, and one `sendmmsg` sends all their answers. A slot's answer
//! goes back to the slot's sender, with the slot's own control message: the kernel told in it which
//! of our addresses the request came to, and takes from it which to answer from. A machine with
//! several addresses would else answer from another one, and no NAT lets that through.
#![allow(unsafe_code)] // recvmmsg and sendmmsg have no safe form with a control message per datagram.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use nix::libc;

use super::stats::Disposition;
use crate::discovery::CORNERS;
use crate::respond::{MAX_ANSWER, MAX_REQUEST};

/// Datagrams per call: more save little, as a call then costs a thirtieth of what they do.
pub const BATCH: usize = 32;

/// Holds one IP_PKTINFO or IPV6_PKTINFO control message (40 bytes on 64-bit machines).
const CONTROL_LEN: usize = 64;

/// Aligned as `cmsghdr` must be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// What the kernel wrote about a slot.
#[derive(Clone, Copy, Default)]
struct Meta {
    name_len: u32,
    control_len: usize,
    length: usize,
    truncated: bool,
}

/// An answer that waits in its slot.
struct Queued {
    slot: usize,
    length: usize,
    disposition: Disposition,
}

/// The slots of one socket.
pub struct Batch {
    requests: Vec<[u8; MAX_REQUEST]>,
    answers: Vec<[u8; MAX_ANSWER]>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    metas: [Meta; BATCH],
    /// By the corner that they leave from.
    queued: [Vec<Queued>; CORNERS],
}

impl Batch {
    pub fn new() -> Self {
        // SAFETY: a sockaddr_storage is plain bytes, for which zeros are a value.
        let name = unsafe { MaybeUninit::<libc::sockaddr_storage>::zeroed().assume_init() };
        Self {
            requests: vec![[0; MAX_REQUEST]; BATCH],
            answers: vec![[0; MAX_ANSWER]; BATCH],
            names: vec![name; BATCH],
            controls: vec![Control([0; CONTROL_LEN]); BATCH],
            metas: [Meta::default(); BATCH],
            queued: std::array::from_fn(|_| Vec::with_capacity(BATCH)),
        }
    }

    /// Waits for a datagram, then takes what else is there: how many slots are filled. Gives up as
    /// the socket's receive timeout says.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut vectors = [EMPTY_VECTOR; BATCH];
        let mut headers = [EMPTY_HEADER; BATCH];
        for slot in 0..BATCH {
            vectors[slot] = vector(&mut self.requests[slot]);
            let header = &mut headers[slot].msg_hdr;
            header.msg_name = (&raw mut self.names[slot]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[slot];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[slot]).cast();
            header.msg_controllen = CONTROL_LEN as _;
        }
        // SAFETY: each header points to a name, a vector and a control of its own slot, with their
        // lengths; all outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (slot, header) in headers.iter().enumerate().take(count) {
            self.metas[slot] = Meta {
                name_len: header.msg_hdr.msg_namelen,
                control_len: header.msg_hdr.msg_controllen as _,
                length: header.msg_len as usize,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            };
        }
        Ok(count)
    }

    /// A filled slot: who sent it, the datagram, and the memory for the answer. `None`: what came
    /// is no datagram that can be answered.
    pub fn slot(&mut self, slot: usize) -> Option<(SocketAddr, &[u8], &mut [u8; MAX_ANSWER])> {
        let meta = self.metas.get(slot)?;
        if meta.truncated {
            return None;
        }
        let from = address(self.names.get(slot)?, meta.name_len)?;
        let datagram = self.requests.get(slot)?.get(..meta.length)?;
        Some((from, datagram, self.answers.get_mut(slot)?))
    }

    /// The slot's answer goes to another port of its sender.
    pub fn redirect(&mut self, slot: usize, port: u16) {
        let name = &raw mut self.names[slot];
        // SAFETY: sockaddr_in and sockaddr_in6 both begin with the family and then the port, and the
        // storage is larger than either.
        unsafe { (*name.cast::<libc::sockaddr_in>()).sin_port = port.to_be() };
    }

    /// The slot's answer is ready, `length` bytes of it, to leave from a corner.
    pub fn queue(&mut self, slot: usize, length: usize, corner: usize, disposition: Disposition) {
        self.queued[corner].push(Queued {
            slot,
            length: length.min(MAX_ANSWER),
            disposition,
        });
    }

    /// Sends all answers of a corner through its socket, and says what became of each. A full send
    /// buffer drops them, as the network might; the client asks again.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        corner: usize,
        mut done: impl FnMut(Disposition),
    ) {
        if self.queued[corner].is_empty() {
            return;
        }
        let mut vectors = [EMPTY_VECTOR; BATCH];
        let mut headers = [EMPTY_HEADER; BATCH];
        for (queued, (vector_of, header)) in self.queued[corner]
            .iter()
            .zip(vectors.iter_mut().zip(&mut headers))
        {
            let slot = queued.slot;
            let meta = self.metas[slot];
            let control = &mut self.controls[slot];
            *vector_of = vector(&mut self.answers[slot][..queued.length]);
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut self.names[slot]).cast();
            header.msg_namelen = meta.name_len;
            header.msg_iov = vector_of;
            header.msg_iovlen = 1;
            if meta.control_len > 0 {
                header.msg_control = (&raw mut *control).cast();
                header.msg_controllen = meta.control_len as _;
                // SAFETY: the control message is what the kernel wrote there, so many bytes of it.
                unsafe { forget_interface(header) };
            }
        }
        let count = self.queued[corner].len().min(BATCH);
        let mut sent = 0;
        while sent < count {
            let rest = &mut headers[sent..count];
            // SAFETY: each header points to a name, a vector and a control that are there, with
            // their lengths; all outlive the call, which only reads them.
            let result = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            match usize::try_from(result) {
                Ok(more) if more > 0 => {
                    for queued in &self.queued[corner][sent..sent + more] {
                        done(queued.disposition);
                    }
                    sent += more;
                }
                // The first one left cannot be sent, to port 0 for example; the others may.
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() == io::ErrorKind::Interrupted {
                        continue;
                    }
                    let lost = if error.kind() == io::ErrorKind::WouldBlock {
                        count - sent
                    } else {
                        1
                    };
                    (0..lost).for_each(|_| done(Disposition::WriteError));
                    sent += lost;
                }
            }
        }
        self.queued[corner].clear();
    }
}

const EMPTY_VECTOR: libc::iovec = libc::iovec {
    iov_base: null_mut(),
    iov_len: 0,
};

// SAFETY: an mmsghdr is integers and pointers, for which zeros are a value.
const EMPTY_HEADER: libc::mmsghdr = unsafe { MaybeUninit::<libc::mmsghdr>::zeroed().assume_init() };

fn vector(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

fn address(name: &libc::sockaddr_storage, length: u32) -> Option<SocketAddr> {
    let length = length as usize;
    match i32::from(name.ss_family) {
        libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the family says that the storage, which is larger, holds a sockaddr_in.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr));
            Some((ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: the family says that the storage, which is larger, holds a sockaddr_in6.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from_octets(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            let scope = name.sin6_scope_id;
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

/// The address that the request came to is the one to answer from; by which interface is for the
/// routes to say.
///
/// # Safety
/// `msg_control` is a control buffer of `msg_controllen` bytes as the kernel filled it.
unsafe fn forget_interface(header: &mut libc::msghdr) {
    // SAFETY: as the caller promises; CMSG_FIRSTHDR is null for a buffer without a whole header.
    unsafe {
        let Some(message) = libc::CMSG_FIRSTHDR(header).as_mut() else {
            return;
        };
        let data = libc::CMSG_DATA(message);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                (*data.cast::<libc::in_pktinfo>()).ipi_ifindex = 0;
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                (*data.cast::<libc::in6_pktinfo>()).ipi6_ifindex = 0;
            }
            _ => header.msg_controllen = 0,
        }
    }
}
