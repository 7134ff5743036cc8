//! The TUN device: utun on macOS, Wintun on Windows. One packet goes over with each call.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tun_rs::{AsyncDevice, DeviceBuilder};

use crate::platform::TUN_MTU;

/// A batch takes packets until it holds so many.
const BATCH_PACKETS: usize = 128;

/// A TUN device. It disappears, with its addresses and routes, when the last half is dropped.
pub struct Tun {
    device: Arc<AsyncDevice>,
}

impl Tun {
    /// Makes the device `name`, down and without addresses. macOS names its devices utun0, utun1, … and takes
    /// `utun` for the next one.
    ///
    /// # Errors
    /// Not permitted, no driver, or the name is in use.
    pub fn create(name: &str) -> io::Result<Self> {
        let builder = DeviceBuilder::new().mtu(TUN_MTU).enable(false);
        #[cfg(target_os = "macos")]
        let builder = match name {
            crate::platform::TUN_NAME => builder,
            name => builder.name(name),
        }
        // The interface's own routes are set like all others.
        .with(|options| {
            options.associate_route(false);
        });
        #[cfg(windows)]
        let builder = builder.name(name).with(|options| {
            options.wintun_file(crate::platform::windows::wintun_file());
        });
        Ok(Self {
            device: Arc::new(builder.build_async()?),
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

    pub(super) fn device(&self) -> Arc<AsyncDevice> {
        Arc::clone(&self.device)
    }

    /// The two directions, for two tasks or one.
    #[must_use]
    pub fn split(self) -> (TunReader, TunWriter) {
        let writer = TunWriter {
            device: Arc::clone(&self.device),
        };
        let reader = TunReader {
            device: self.device,
            packet: vec![0; usize::from(TUN_MTU)],
        };
        (reader, writer)
    }
}

/// Takes IP packets from the device: what this machine sends.
pub struct TunReader {
    device: Arc<AsyncDevice>,
    /// Where the next packet is read to.
    packet: Vec<u8>,
}

impl TunReader {
    /// Waits for packets and takes some into `packets`, each with room for `room` bytes behind it.
    /// Dropping the future loses none.
    ///
    /// # Errors
    /// The device is gone or down.
    pub async fn recv(&mut self, room: usize, packets: &mut Vec<BytesMut>) -> io::Result<()> {
        let mut length = self.device.recv(&mut self.packet).await?;
        loop {
            let mut packet = BytesMut::with_capacity(length + room);
            packet.extend_from_slice(&self.packet[..length]);
            packets.push(packet);
            if packets.len() >= BATCH_PACKETS {
                return Ok(());
            }
            length = match self.device.try_recv(&mut self.packet) {
                Ok(length) => length,
                // Nothing more, or an error that the next call meets again.
                Err(_) => return Ok(()),
            };
        }
    }

    /// Packets that were dropped before they were read: the system counts its own.
    pub fn lost(&self) -> u64 {
        0
    }
}

/// Gives IP packets to the device: what this machine receives.
pub struct TunWriter {
    device: Arc<AsyncDevice>,
}

impl TunWriter {
    /// Writes packets. Every packet is tried, whatever became of the others.
    ///
    /// # Errors
    /// The last error: the device is gone or down, or the system refused packets (which are lost).
    pub async fn send(&mut self, packets: impl IntoIterator<Item = BytesMut>) -> io::Result<()> {
        let mut result = Ok(());
        for packet in packets {
            let sent = self.device.send(&packet).await;
            result = sent.map(drop).and(result);
        }
        result
    }
}
