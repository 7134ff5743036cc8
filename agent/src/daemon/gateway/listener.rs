//! The socket at which a gateway speaks plain WireGuard with devices.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;
use ztna_mesh::stock::{Device, Stock, StockOutput};
use ztna_mesh::tunnel::WireGuard;
use ztna_proto::MachineId;

use crate::daemon::engine::{Bursts, UdpPort};

/// Packets on their way between the socket and the engines, each way.
const QUEUE: usize = 1024;
/// Packets for devices that are sealed before other things have their turn.
const BATCH: usize = 128;
/// Room behind a packet for WireGuard's padding, so that sealing need not move it.
const PADDING_ROOM: usize = 16;
/// A sealed packet of the 1,280 bytes that devices are configured for (whitepaper §5.4.6: 16 bytes before,
/// 16 behind). What is larger may be cut into fragments of IP on its way.
const WHOLE: usize = 1280 + 32;

/// A listener that runs. Dropping it closes the socket.
pub struct Listener {
    port: u16,
    commands: mpsc::UnboundedSender<Command>,
    packets: mpsc::Sender<(MachineId, BytesMut)>,
    task: AbortHandle,
}

enum Command {
    /// A device, and where what it sends goes.
    Set(MachineId, Device, mpsc::Sender<BytesMut>),
    Remove(MachineId),
}

impl Listener {
    /// Opens the port.
    ///
    /// # Errors
    /// The port is in use, or the system has no sockets left.
    pub fn start(port: u16, wireguard: Box<dyn WireGuard>) -> io::Result<Self> {
        let udp = UdpPort::bind(port)?;
        let (commands, orders) = mpsc::unbounded_channel();
        let (packets, outgoing) = mpsc::channel(QUEUE);
        let running = Running {
            stock: Stock::new(wireguard),
            takers: BTreeMap::new(),
            bursts: Bursts::default(),
            large: Vec::new(),
        };
        let task = tokio::spawn(running.run(udp, orders, outgoing)).abort_handle();
        Ok(Self {
            port,
            commands,
            packets,
            task,
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where packets for devices go.
    pub fn packets(&self) -> mpsc::Sender<(MachineId, BytesMut)> {
        self.packets.clone()
    }

    /// Lets a device in. What it sends comes out of the receiver.
    pub fn set(&self, id: MachineId, device: Device) -> mpsc::Receiver<BytesMut> {
        let (taker, packets) = mpsc::channel(QUEUE);
        // Fails only as everything ends.
        let _ = self.commands.send(Command::Set(id, device, taker));
        packets
    }

    /// Shuts a device out.
    pub fn remove(&self, id: MachineId) {
        let _ = self.commands.send(Command::Remove(id));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Running {
    stock: Stock,
    takers: BTreeMap<MachineId, mpsc::Sender<BytesMut>>,
    bursts: Bursts,
    /// Datagrams that may be cut into fragments.
    large: Vec<(SocketAddr, BytesMut)>,
}

impl Running {
    async fn run(
        mut self,
        mut udp: UdpPort,
        mut orders: mpsc::UnboundedReceiver<Command>,
        mut outgoing: mpsc::Receiver<(MachineId, BytesMut)>,
    ) {
        let mut received: Vec<(SocketAddr, BytesMut)> = Vec::new();
        let mut packets: Vec<(MachineId, BytesMut)> = Vec::new();
        loop {
            self.flush(&udp).await;
            let wake = self.stock.poll_timeout();
            let timer = async {
                match wake {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Command::Set(id, device, taker)) => {
                        self.stock.set_device(id, device, Instant::now());
                        self.takers.insert(id, taker);
                    }
                    Some(Command::Remove(id)) => {
                        self.stock.remove_device(id);
                        self.takers.remove(&id);
                    }
                    None => return,
                },
                result = udp.receive(&mut received) => {
                    if let Err(error) = result {
                        // An ICMP error of an earlier datagram, reported here; the socket is fine.
                        tracing::debug!(%error, "UDP receive");
                    }
                    let now = Instant::now();
                    for (from, datagram) in received.drain(..) {
                        self.stock.handle_udp(from, datagram, now);
                    }
                }
                _ = outgoing.recv_many(&mut packets, BATCH) => {
                    let now = Instant::now();
                    for (to, packet) in packets.drain(..) {
                        self.stock.handle_packet(to, packet, now);
                    }
                }
                () = timer => self.stock.handle_timeout(Instant::now()),
            }
        }
    }

    /// Carries out what the interface wants.
    async fn flush(&mut self, udp: &UdpPort) {
        while let Some(output) = self.stock.poll_output() {
            match output {
                StockOutput::Udp { to, datagram } if datagram.len() > WHOLE => {
                    self.large.push((to, datagram));
                }
                StockOutput::Udp { to, datagram } => {
                    self.bursts.push(to, None, datagram, udp.max_segments());
                }
                StockOutput::Packet { from, packet } => {
                    let Some(taker) = self.takers.get(&from) else {
                        continue;
                    };
                    // A copy: the packet is a part of a batch's memory, and may wait.
                    let mut copy = BytesMut::with_capacity(packet.len() + PADDING_ROOM);
                    copy.extend_from_slice(&packet);
                    // What there is no room for is lost, as in any queue of a network.
                    drop(taker.try_send(copy));
                }
            }
        }
        for (to, datagram) in self.large.drain(..) {
            if let Err(error) = udp.send_in_fragments(to, datagram).await {
                tracing::trace!(%to, %error, "not sent");
            }
        }
        let bursts = self.bursts.take();
        for burst in &bursts {
            if let Err(error) = udp.send(burst).await {
                tracing::trace!(to = %burst.to, %error, "not sent");
            }
        }
        self.bursts.reuse(bursts);
    }
}
