//! Where an engine's IP packets come from and go to: the TUN device, or a static peer that this machine
//! carries.

use std::io;

use bytes::BytesMut;
use tokio::sync::mpsc;
use ztna_proto::MachineId;

use crate::platform::{Tun, TunReader, TunWriter};

/// Packets taken at once from a static peer.
const BATCH: usize = 128;

/// A device, whole.
pub enum Device {
    /// The machine's own, up, with addresses and routes.
    Tun(Tun),
    /// A static peer.
    Carried {
        /// Which one.
        id: MachineId,
        /// What it sends.
        from: mpsc::Receiver<BytesMut>,
        /// What it is sent, beside what others are. What there is no room for is lost, as in any queue of a
        /// network.
        to: mpsc::Sender<(MachineId, BytesMut)>,
    },
}

/// What the engine reads from.
pub enum Reader {
    Tun(TunReader),
    Carried(mpsc::Receiver<BytesMut>),
}

/// What the engine writes to.
pub enum Writer {
    Tun(TunWriter),
    Carried(MachineId, mpsc::Sender<(MachineId, BytesMut)>),
}

impl Device {
    /// Its two directions.
    pub fn split(self) -> (Reader, Writer) {
        match self {
            Self::Tun(tun) => {
                let (reader, writer) = tun.split();
                (Reader::Tun(reader), Writer::Tun(writer))
            }
            Self::Carried { id, from, to } => (Reader::Carried(from), Writer::Carried(id, to)),
        }
    }
}

impl Reader {
    /// Waits for packets and takes some into `packets`, each with room for `room` bytes behind it.
    /// Dropping the future loses none.
    ///
    /// # Errors
    /// The device is gone.
    pub async fn recv(&mut self, room: usize, packets: &mut Vec<BytesMut>) -> io::Result<()> {
        match self {
            Self::Tun(tun) => tun.recv(room, packets).await,
            Self::Carried(from) => {
                let first = from.recv().await;
                let mut next = Some(first.ok_or(io::ErrorKind::BrokenPipe)?);
                while let Some(mut packet) = next {
                    packet.reserve(room);
                    packets.push(packet);
                    next = match packets.len() < BATCH {
                        true => from.try_recv().ok(),
                        false => None,
                    };
                }
                Ok(())
            }
        }
    }

    /// Frames that were dropped before they were read.
    pub fn lost(&self) -> u64 {
        match self {
            Self::Tun(tun) => tun.lost(),
            Self::Carried(_) => 0,
        }
    }
}

impl Writer {
    /// Writes packets. Every packet is tried, whatever became of the others.
    ///
    /// # Errors
    /// The last error; packets are lost.
    pub async fn send(&mut self, packets: impl IntoIterator<Item = BytesMut>) -> io::Result<()> {
        match self {
            Self::Tun(tun) => tun.send(packets).await,
            Self::Carried(id, to) => {
                for packet in packets {
                    // A copy: the packet is a part of a batch's memory, and may wait.
                    drop(to.try_send((*id, BytesMut::from(&packet[..]))));
                }
                Ok(())
            }
        }
    }
}
