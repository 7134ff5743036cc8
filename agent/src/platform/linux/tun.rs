//! The TUN device.
//!
//! Segmentation offload is on: the kernel hands over up to 64 KiB of one TCP or UDP flow at a time,
//! which is cut into packets here, and takes packets of one flow joined together. Both ways a batch
//! costs one system call.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tun_rs::{AsyncDevice, DeviceBuilder, GROTable, IDEAL_BATCH_SIZE, VIRTIO_NET_HDR_LEN};

use crate::platform::TUN_MTU;

/// The largest thing that one read or write carries: a header and an IP packet of full length.
const MAX_SUPER_PACKET: usize = VIRTIO_NET_HDR_LEN + 65_535;

/// Packets that one read may be cut into: 64 KiB in segments of 128 bytes. Every honest TCP takes
/// longer ones (RFC 9293 §3.7.1: 536 bytes); what asks for shorter ones harms its own connection.
const MAX_SEGMENTS: usize = 512;

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
        let reader = TunReader {
            device: Arc::clone(&self.device),
            raw: vec![0; MAX_SUPER_PACKET].into_boxed_slice(),
            packets: (0..MAX_SEGMENTS)
                .map(|_| vec![0; usize::from(TUN_MTU)])
                .collect(),
            sizes: vec![0; MAX_SEGMENTS],
        };
        let writer = TunWriter {
            device: self.device,
            gro: GROTable::new(),
            buffers: Vec::new(),
        };
        (reader, writer)
    }
}

/// Takes IP packets from the device: what this machine sends.
pub struct TunReader {
    device: Arc<AsyncDevice>,
    raw: Box<[u8]>,
    packets: Vec<Vec<u8>>,
    sizes: Vec<usize>,
}

impl TunReader {
    /// Waits for packets and reads one batch. Dropping the future loses none.
    ///
    /// # Errors
    /// The device is gone or down, or the kernel handed over something that is no IP packet.
    pub async fn recv(&mut self) -> io::Result<impl Iterator<Item = &mut [u8]>> {
        let count = self
            .device
            .recv_multiple(&mut self.raw, &mut self.packets, &mut self.sizes, 0)
            .await?;
        Ok(self
            .packets
            .iter_mut()
            .zip(&self.sizes)
            .take(count)
            .map(|(packet, size)| &mut packet[..*size]))
    }
}

/// Gives IP packets to the device: what this machine receives.
pub struct TunWriter {
    device: Arc<AsyncDevice>,
    gro: GROTable,
    /// Kept between calls. Each holds room for the packets that may be joined to its own.
    buffers: Vec<BytesMut>,
}

impl TunWriter {
    /// Writes packets, joining those of one flow. Every packet is tried, whatever became of the
    /// others.
    ///
    /// # Errors
    /// The last error: the device is gone or down, or the kernel refused a packet (which is lost).
    pub async fn send<'a>(
        &mut self,
        packets: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        let mut used = 0;
        let mut result = Ok(());
        for packet in packets {
            if used == self.buffers.len() {
                self.buffers.push(BytesMut::with_capacity(MAX_SUPER_PACKET));
            }
            let buffer = &mut self.buffers[used];
            buffer.clear();
            buffer.resize(VIRTIO_NET_HDR_LEN, 0);
            buffer.extend_from_slice(packet);
            used += 1;
            if used == IDEAL_BATCH_SIZE {
                result = self.flush(used).await.and(result);
                used = 0;
            }
        }
        self.flush(used).await.and(result)
    }

    async fn flush(&mut self, used: usize) -> io::Result<()> {
        self.device
            .send_multiple(&mut self.gro, &mut self.buffers[..used], VIRTIO_NET_HDR_LEN)
            .await
            .map(drop)
    }
}
