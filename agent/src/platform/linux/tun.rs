//! The TUN device.
//!
//! Segmentation offload is on ([`ztna_offload`]): both ways one system call carries up to 64 KiB of
//! one flow.
//!
//! The kernel's queue of the device is long and knows no flows. It is emptied first, into a fair one: what
//! a bulk transfer has queued delays nobody else.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use tun_rs::{AsyncDevice, DeviceBuilder};

use ztna_fair_queue::{Bounds, FairQueue, Lost};
use ztna_offload::{Coalescer, Flow, Joins, VNET_HEADER, split};

use crate::platform::TUN_MTU;

/// The largest thing that one read or write carries: a header and an IP packet of full length.
const MAX_FRAME: usize = VNET_HEADER + 65_535;

/// A batch takes frames until it holds so many packets.
const BATCH_PACKETS: usize = 128;
/// Memory for a batch: packets of the last frame may come on top.
const BATCH_BYTES: usize = 256 << 10;
/// What waits to become packets. In bytes it is what a slow machine seals in some 10 ms.
const QUEUE: Bounds = Bounds {
    items: 1024,
    bytes: 4 << 20,
};
/// Frames up to this long wait in memory of their own size, not in that of the longest.
const SHORT_FRAME: usize = 2048;
/// Long frames' memory that is kept for others.
const SPARE_FRAMES: usize = 16;

/// A TUN device. It disappears, with its addresses and routes, when the last half is dropped.
pub struct Tun {
    device: Arc<AsyncDevice>,
}

impl Tun {
    /// Makes the device `name`, down and without addresses.
    ///
    /// # Errors
    /// Not permitted (`CAP_NET_ADMIN`), no `/dev/net/tun`, or the name is in use.
    pub fn create(name: &str) -> io::Result<Self> {
        let device = DeviceBuilder::new()
            .name(name)
            .mtu(TUN_MTU)
            .enable(false)
            .with(|options| {
                options.offload(true);
            })
            .build_async()?;
        Ok(Self {
            device: Arc::new(device),
        })
    }

    /// The name that it got.
    ///
    /// # Errors
    /// The device is gone.
    pub fn name(&self) -> io::Result<String> {
        self.device.name()
    }

    /// Index of the interface.
    ///
    /// # Errors
    /// The device is gone.
    pub fn index(&self) -> io::Result<u32> {
        self.device.if_index()
    }

    /// The two directions, for two tasks or one.
    #[must_use]
    pub fn split(self) -> (TunReader, TunWriter) {
        let writer = TunWriter {
            coalescer: Coalescer::new(Joins {
                tcp: self.device.tcp_gso(),
                udp: self.device.udp_gso(),
            }),
            device: Arc::clone(&self.device),
        };
        let reader = TunReader {
            device: self.device,
            queue: FairQueue::default(),
            lost: Lost::default(),
            frame: vec![0; MAX_FRAME],
            spare: Vec::new(),
            buffer: BytesMut::new(),
        };
        (reader, writer)
    }
}

/// What it means that there is no device, and what to do.
pub fn hint(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            format!("{error}; the daemon needs root, or CAP_NET_ADMIN")
        }
        Some(libc::EBUSY | libc::EEXIST | libc::EINVAL) => {
            format!("{error}; the name is in use: choose another with --tun")
        }
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => format!(
            "{error}; the kernel offers no TUN devices: run `modprobe tun`, and in a container \
             pass /dev/net/tun in"
        ),
        _ => error.to_string(),
    }
}

/// Takes IP packets from the device: what this machine sends.
pub struct TunReader {
    device: Arc<AsyncDevice>,
    /// Frames that were read, with their lengths.
    queue: FairQueue<Flow, (Vec<u8>, usize)>,
    /// Frames that waited too long, or that there was no room for.
    lost: Lost,
    /// Where the next frame is read to.
    frame: Vec<u8>,
    /// Memory of long frames that are gone, each of [`MAX_FRAME`] bytes.
    spare: Vec<Vec<u8>>,
    /// Where packets are cut to. Its memory is used again when they are gone.
    buffer: BytesMut,
}

impl TunReader {
    /// Waits for packets and takes some into `packets`, each with room for `room` bytes behind it.
    /// Dropping the future loses none.
    ///
    /// What the kernel handed over and cannot be cut into packets is left out: any program on this
    /// machine can make such a thing.
    ///
    /// # Errors
    /// The device is gone or down.
    pub async fn recv(&mut self, room: usize, packets: &mut Vec<BytesMut>) -> io::Result<()> {
        if self.queue.is_empty() {
            let length = self.device.recv(&mut self.frame).await?;
            self.push(length, Instant::now());
        }
        let now = Instant::now();
        // No more than that, so that a flood does not keep us here.
        for _ in 0..QUEUE.items {
            match self.device.try_recv(&mut self.frame) {
                Ok(length) => self.push(length, now),
                // Nothing more, or an error that the next call meets again.
                Err(_) => break,
            }
        }
        // No more than is there already, once the packets of the last batch are gone.
        self.buffer.reserve(BATCH_BYTES);
        while packets.len() < BATCH_PACKETS {
            let Some(((frame, length), _)) = self.queue.pop(now, &mut self.lost) else {
                break;
            };
            if split(&frame[..length], room, &mut self.buffer, packets).is_err() {
                tracing::debug!(length, "unusable packet from the TUN device");
            }
            if frame.len() == MAX_FRAME && self.spare.len() < SPARE_FRAMES {
                self.spare.push(frame);
            }
        }
        Ok(())
    }

    /// Queues the frame that was just read.
    fn push(&mut self, length: usize, now: Instant) {
        let flow = Flow::of(&self.frame[..length]);
        let frame = if length <= SHORT_FRAME {
            self.frame[..length].to_vec()
        } else {
            let spare = self.spare.pop();
            let next = spare.unwrap_or_else(|| vec![0; MAX_FRAME]);
            std::mem::replace(&mut self.frame, next)
        };
        let lost = self.queue.push(flow, (frame, length), length, now, QUEUE);
        self.lost.packets += lost.packets;
        self.lost.bytes += lost.bytes;
    }

    /// Frames of up to 64 KiB that were dropped: they waited too long, or there was no room.
    pub fn lost(&self) -> u64 {
        self.lost.packets
    }
}

/// Gives IP packets to the device: what this machine receives.
pub struct TunWriter {
    device: Arc<AsyncDevice>,
    coalescer: Coalescer,
}

impl TunWriter {
    /// Writes packets, joining those of one flow. Every packet is tried, whatever became of the
    /// others. What the kernel refuses joined is not joined again.
    ///
    /// # Errors
    /// The last error: the device is gone or down, or the kernel refused packets (which are lost).
    pub async fn send(&mut self, packets: impl IntoIterator<Item = BytesMut>) -> io::Result<()> {
        for packet in packets {
            self.coalescer.push(packet);
        }
        let mut joins = self.coalescer.joins();
        let mut result = Ok(());
        let mut slices: Vec<IoSlice<'_>> = Vec::new();
        for frame in self.coalescer.finish() {
            slices.clear();
            frame.slices(&mut slices);
            let sent = self.device.send_vectored(&slices).await;
            if let Err(error) = &sent
                && frame.joins() != Joins::default()
                && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
            {
                tracing::info!(%error, refused = ?frame.joins(), "written one by one from now on");
                joins.tcp &= !frame.joins().tcp;
                joins.udp &= !frame.joins().udp;
            }
            result = sent.map(drop).and(result);
        }
        drop(slices);
        self.coalescer.set_joins(joins);
        self.coalescer.clear();
        result
    }
}
