//! The TUN device.
//!
//! Segmentation offload is on ([`super::offload`]): both ways one system call carries up to 64 KiB of
//! one flow.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BytesMut;
use tun_rs::{AsyncDevice, DeviceBuilder};

use super::offload::{Coalescer, VNET_HEADER, split};
use crate::platform::TUN_MTU;

/// The largest thing that one read or write carries: a header and an IP packet of full length.
const MAX_FRAME: usize = VNET_HEADER + 65_535;

/// Reading goes on while there is something to read, until a batch holds so many packets …
const BATCH_PACKETS: usize = 128;
/// … or so many frames were read.
const BATCH_FRAMES: usize = 128;
/// Memory for a batch: packets of the last frame may come on top.
const BATCH_BYTES: usize = 256 << 10;

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
            coalescer: Coalescer::new(self.device.udp_gso()),
            device: Arc::clone(&self.device),
        };
        let reader = TunReader {
            device: self.device,
            frame: vec![0; MAX_FRAME].into_boxed_slice(),
            buffer: BytesMut::new(),
        };
        (reader, writer)
    }
}

/// Takes IP packets from the device: what this machine sends.
pub struct TunReader {
    device: Arc<AsyncDevice>,
    frame: Box<[u8]>,
    /// Where packets are cut to. Its memory is used again when they are gone.
    buffer: BytesMut,
}

impl TunReader {
    /// Waits for packets and takes what is there into `packets`, each with room for `room` bytes
    /// behind it. Dropping the future loses none.
    ///
    /// What the kernel handed over and cannot be cut into packets is left out: any program on this
    /// machine can make such a thing.
    ///
    /// # Errors
    /// The device is gone or down.
    pub async fn recv(&mut self, room: usize, packets: &mut Vec<BytesMut>) -> io::Result<()> {
        let mut length = self.device.recv(&mut self.frame).await?;
        // No more than is there already, once the packets of the last batch are gone.
        self.buffer.reserve(BATCH_BYTES);
        for _ in 0..BATCH_FRAMES {
            if split(&self.frame[..length], room, &mut self.buffer, packets).is_err() {
                tracing::debug!(length, "unusable packet from the TUN device");
            }
            if packets.len() >= BATCH_PACKETS {
                break;
            }
            length = match self.device.try_recv(&mut self.frame) {
                Ok(length) => length,
                // Nothing more, or an error that the next call meets again.
                Err(_) => break,
            };
        }
        Ok(())
    }
}

/// Gives IP packets to the device: what this machine receives.
pub struct TunWriter {
    device: Arc<AsyncDevice>,
    coalescer: Coalescer,
}

impl TunWriter {
    /// Writes packets, joining those of one flow. Every packet is tried, whatever became of the
    /// others.
    ///
    /// # Errors
    /// The last error: the device is gone or down, or the kernel refused packets (which are lost).
    pub async fn send(&mut self, packets: impl IntoIterator<Item = BytesMut>) -> io::Result<()> {
        for packet in packets {
            self.coalescer.push(packet);
        }
        let mut result = Ok(());
        let mut slices: Vec<IoSlice<'_>> = Vec::new();
        for frame in self.coalescer.finish() {
            slices.clear();
            frame.slices(&mut slices);
            result = self
                .device
                .send_vectored(&slices)
                .await
                .map(drop)
                .and(result);
        }
        drop(slices);
        self.coalescer.clear();
        result
    }
}
