//! Many datagrams per system call.

// recvmmsg and sendmmsg have no safe form.
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr::{from_mut, null_mut};

/// Datagrams per call, as many as `ztna-stun` takes.
pub const BATCH: usize = 32;

/// Longest datagram.
const DATAGRAM: usize = 512;

/// Room for the control message that tells which address a datagram came to.
const CONTROL: usize = 64;

/// Slots for one socket.
pub struct Batch {
    data: Box<[[u8; DATAGRAM]; BATCH]>,
    lengths: [usize; BATCH],
    names: Box<[libc::sockaddr_storage; BATCH]>,
    name_lengths: [u32; BATCH],
    controls: Box<[[u64; CONTROL / 8]; BATCH]>,
    control_lengths: [usize; BATCH],
    /// Sender and control message are kept, and used for the answer.
    addressed: bool,
}

impl Batch {
    /// `addressed`: for a socket that is not connected.
    pub fn new(addressed: bool) -> Self {
        Self {
            data: Box::new([[0; DATAGRAM]; BATCH]),
            lengths: [0; BATCH],
            // SAFETY: plain bytes, for which zeros are a value.
            names: Box::new([unsafe { zeroed() }; BATCH]),
            name_lengths: [0; BATCH],
            controls: Box::new([[0; CONTROL / 8]; BATCH]),
            control_lengths: [0; BATCH],
            addressed,
        }
    }

    /// Puts the same datagram into every slot.
    pub fn fill(&mut self, datagram: &[u8]) {
        for (slot, length) in self.data.iter_mut().zip(&mut self.lengths) {
            slot[..datagram.len()].copy_from_slice(datagram);
            *length = datagram.len();
        }
    }

    /// What a slot holds.
    pub fn get(&self, slot: usize) -> &[u8] {
        &self.data[slot][..self.lengths[slot]]
    }

    /// Changes what a slot holds.
    pub fn get_mut(&mut self, slot: usize) -> &mut [u8] {
        &mut self.data[slot][..self.lengths[slot]]
    }

    /// Receives at least one datagram, or fails as the socket does when there is none: how many.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.lengths = [DATAGRAM; BATCH];
        self.name_lengths = [size_of::<libc::sockaddr_storage>() as u32; BATCH];
        self.control_lengths = [CONTROL; BATCH];
        let mut vectors = self.vectors();
        let mut headers = self.headers(&mut vectors);
        // SAFETY: the headers point to memory of `self` and to `vectors`, which live on and are not
        // touched otherwise during the call; their lengths are those of that memory.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (slot, header) in headers[..count].iter().enumerate() {
            self.lengths[slot] = header.msg_len as usize;
            self.name_lengths[slot] = header.msg_hdr.msg_namelen;
            self.control_lengths[slot] = header.msg_hdr.msg_controllen;
        }
        Ok(count)
    }

    /// Sends the first `count` slots: how many went.
    pub fn send(&mut self, socket: &UdpSocket, count: usize) -> io::Result<usize> {
        let mut vectors = self.vectors();
        let mut headers = self.headers(&mut vectors);
        // SAFETY: as in `receive`; the kernel only reads.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count.min(BATCH) as u32,
                0,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    fn vectors(&mut self) -> [libc::iovec; BATCH] {
        std::array::from_fn(|slot| libc::iovec {
            iov_base: self.data[slot].as_mut_ptr().cast(),
            iov_len: self.lengths[slot],
        })
    }

    fn headers(&mut self, vectors: &mut [libc::iovec; BATCH]) -> [libc::mmsghdr; BATCH] {
        std::array::from_fn(|slot| {
            // SAFETY: plain data, for which zeros are a value.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_iov = from_mut(&mut vectors[slot]);
            header.msg_hdr.msg_iovlen = 1;
            if self.addressed {
                header.msg_hdr.msg_name = from_mut(&mut self.names[slot]).cast();
                header.msg_hdr.msg_namelen = self.name_lengths[slot];
                header.msg_hdr.msg_control = self.controls[slot].as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = self.control_lengths[slot];
            }
            header
        })
    }
}

/// Waits until one of the sockets can be read, at most so many milliseconds; which can.
pub fn wait(sockets: &[UdpSocket], milliseconds: i32, ready: &mut Vec<usize>) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> = sockets
        .iter()
        .map(|socket| libc::pollfd {
            fd: socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // SAFETY: the array and its length belong together.
    let result = unsafe {
        libc::poll(
            polled.as_mut_ptr(),
            polled.len() as libc::nfds_t,
            milliseconds,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    ready.clear();
    ready.extend((0..polled.len()).filter(|&at| polled[at].revents != 0));
    Ok(())
}

/// Lets several sockets share an address, and tells which of ours a datagram came to.
pub fn bind_shared(address: std::net::SocketAddrV4) -> io::Result<UdpSocket> {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: plain system calls; the option values and the address are alive and of the size told.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = UdpSocket::from(OwnedFd::from_raw_fd(fd));
        let on: i32 = 1;
        for (level, option) in [
            (libc::SOL_SOCKET, libc::SO_REUSEPORT),
            (libc::IPPROTO_IP, libc::IP_PKTINFO),
        ] {
            let result = libc::setsockopt(
                fd,
                level,
                option,
                (&raw const on).cast(),
                size_of::<i32>() as u32,
            );
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let mut name: libc::sockaddr_in = zeroed();
        name.sin_family = libc::AF_INET as u16;
        name.sin_port = address.port().to_be();
        name.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
        let result = libc::bind(
            fd,
            (&raw const name).cast(),
            size_of::<libc::sockaddr_in>() as u32,
        );
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(socket)
    }
}
