//! Joins packets of one flow, so that the kernel takes them in one piece.

use std::io::IoSlice;

use bytes::{Buf, BytesMut};

use super::{
    ACK, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, PLAIN, PSH, TCP, TCP_CHECKSUM, UDP,
    UDP_CHECKSUM, VNET_HEADER, checksum, get_u16, get_u32, pseudo_header, put_u16, set_ip_length,
};

/// Longest IP packet.
const MAX_LENGTH: usize = 65_535;
/// Packets in one frame: `UDP_MAX_SEGMENTS` of older kernels; TCP's packets are longer than that
/// many would fill.
const MAX_PACKETS: usize = 64;
/// Frames back that are looked through for a packet's flow.
const OPEN_FRAMES: usize = 8;

/// Packets that are joined as far as they can be, in frames that keep each flow's order.
///
/// Only what the kernel's own receive offload joins is joined: whole segments that follow each other
/// and differ in nothing else. A packet whose checksum is wrong stays alone, for whoever receives it
/// to see.
#[derive(Default)]
pub struct Coalescer {
    frames: Vec<Frame>,
    joins: Joins,
    /// Lists of earlier frames, whose memory is used again.
    spare: Vec<Vec<BytesMut>>,
}

/// What the kernel takes joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joins {
    /// TCP segments.
    pub tcp: bool,
    /// UDP datagrams: since Linux 6.2.
    pub udp: bool,
}

/// One write.
pub struct Frame {
    vnet: [u8; VNET_HEADER],
    first: BytesMut,
    /// The packets after the first, without their headers.
    rest: Vec<BytesMut>,
    /// `None`: nothing can be joined to the first.
    shape: Option<Shape>,
    /// Whether another packet may follow.
    is_open: bool,
    /// Of the joined packet.
    length: usize,
    /// Sequence number of the TCP segment that would come next.
    next: u32,
}

/// A packet that others may be joined to.
#[derive(Clone, Copy)]
struct Shape {
    protocol: u8,
    /// Where the TCP or UDP header begins.
    transport: usize,
    /// Where the payload begins.
    header: usize,
    /// Length of the payload.
    payload: usize,
    /// TCP's, else 0.
    sequence: u32,
    /// Nothing may follow: TCP's PSH.
    is_last: bool,
}

impl Coalescer {
    /// Nothing yet.
    #[must_use]
    pub fn new(joins: Joins) -> Self {
        Self {
            joins,
            ..Self::default()
        }
    }

    /// What is joined.
    #[must_use]
    pub fn joins(&self) -> Joins {
        self.joins
    }

    /// Joins this from now on.
    pub fn set_joins(&mut self, joins: Joins) {
        self.joins = joins;
    }

    /// Adds a packet.
    pub fn push(&mut self, packet: BytesMut) {
        let joins = self.joins;
        let shape = shape(&packet).filter(|shape| match shape.protocol {
            TCP => joins.tcp,
            _ => joins.udp,
        });
        if let Some(shape) = shape
            && let Some(frame) = self.frame_of(&packet, &shape)
        {
            if frame.takes(&shape) {
                return frame.join(packet, &shape);
            }
            frame.is_open = false;
        }
        self.frames.push(Frame {
            vnet: PLAIN,
            length: packet.len(),
            first: packet,
            rest: self.spare.pop().unwrap_or_default(),
            shape,
            is_open: shape.is_some_and(|shape| !shape.is_last),
            next: shape.map_or(0, |shape| shape.end()),
        });
    }

    /// The newest frame of the packet's flow.
    fn frame_of(&mut self, packet: &[u8], shape: &Shape) -> Option<&mut Frame> {
        let mut frames = self.frames.iter_mut().rev().take(OPEN_FRAMES);
        frames.find(|frame| {
            frame.shape.is_some_and(|first| {
                first.protocol == shape.protocol
                    && first.header == shape.header
                    && same_flow(&frame.first, packet, shape)
            })
        })
    }

    /// Completes the frames, in the order in which they are to be written.
    pub fn finish(&mut self) -> &[Frame] {
        for frame in &mut self.frames {
            frame.finish();
        }
        &self.frames
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.spare.extend(self.frames.drain(..).map(|frame| {
            let mut rest = frame.rest;
            rest.clear();
            rest
        }));
    }
}

impl Shape {
    #[allow(clippy::cast_possible_truncation)] // a packet is shorter than 2^16
    fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.payload as u32)
    }
}

impl Frame {
    fn takes(&self, shape: &Shape) -> bool {
        self.is_open
            && (shape.protocol == UDP || shape.sequence == self.next)
            && self
                .shape
                .is_some_and(|first| shape.payload <= first.payload)
            && self.rest.len() + 1 < MAX_PACKETS
            && self.length + shape.payload <= MAX_LENGTH
    }

    fn join(&mut self, mut packet: BytesMut, shape: &Shape) {
        let is_short = self.shape.is_none_or(|first| shape.payload < first.payload);
        if shape.is_last {
            self.first[shape.transport + 13] |= PSH;
        }
        self.is_open = !is_short && !shape.is_last;
        self.length += shape.payload;
        self.next = shape.end();
        packet.advance(shape.header);
        self.rest.push(packet);
    }

    /// Makes the first packet's header that of all.
    #[allow(clippy::cast_possible_truncation)] // lengths below 2^16, types below 2^8
    fn finish(&mut self) {
        let Some(shape) = self.shape.filter(|_| !self.rest.is_empty()) else {
            return;
        };
        let at = shape.transport;
        let packet = &mut self.first;
        set_ip_length(packet, at, self.length);
        let (kind, checksum) = match (shape.protocol, packet[0] >> 4) {
            (TCP, 4) => (GSO_TCPV4, TCP_CHECKSUM),
            (TCP, _) => (GSO_TCPV6, TCP_CHECKSUM),
            _ => (GSO_UDP_L4, UDP_CHECKSUM),
        };
        let length = self.length - at;
        if shape.protocol == UDP {
            put_u16(packet, at + 4, length as u16);
        }
        let sum = checksum::fold(pseudo_header(packet, shape.protocol, length));
        packet[at + checksum..at + checksum + 2].copy_from_slice(&sum);
        self.vnet[0] = NEEDS_CSUM;
        self.vnet[1] = kind;
        let fields = [shape.header, shape.payload, at, checksum];
        for (field, value) in self.vnet[2..].as_chunks_mut::<2>().0.iter_mut().zip(fields) {
            *field = (value as u16).to_ne_bytes();
        }
    }

    /// What the kernel has to take joined, to take this.
    #[must_use]
    pub fn joins(&self) -> Joins {
        let protocol = self.shape.filter(|_| !self.rest.is_empty());
        let protocol = protocol.map(|shape| shape.protocol);
        Joins {
            tcp: protocol == Some(TCP),
            udp: protocol == Some(UDP),
        }
    }

    /// Appends what is to be written.
    pub fn slices<'a>(&'a self, into: &mut Vec<IoSlice<'a>>) {
        into.push(IoSlice::new(&self.vnet));
        into.push(IoSlice::new(&self.first));
        into.extend(self.rest.iter().map(|payload| IoSlice::new(payload)));
    }
}

/// What a packet is, if it can be joined to others: an IP packet without options or fragments, TCP
/// with nothing set but ACK and PSH, or UDP; with payload, and a right checksum.
fn shape(packet: &[u8]) -> Option<Shape> {
    let (protocol, transport) = match packet.first()? {
        // 0x3fff: more fragments, or a later one.
        0x45 if packet.len() >= 28
            && usize::from(get_u16(packet, 2)) == packet.len()
            && get_u16(packet, 6) & 0x3fff == 0 =>
        {
            (packet[9], 20)
        }
        0x60..=0x6f
            if packet.len() >= 48 && usize::from(get_u16(packet, 4)) + 40 == packet.len() =>
        {
            (packet[6], 40)
        }
        _ => return None,
    };
    let (header, sequence, is_last) = match protocol {
        TCP if packet.len() >= transport + 20 => {
            let flags = packet[transport + 13];
            if flags & !PSH != ACK {
                return None;
            }
            let length = usize::from(packet[transport + 12] >> 4) * 4;
            if length < 20 {
                return None;
            }
            let sequence = get_u32(packet, transport + 4);
            (transport + length, sequence, flags & PSH != 0)
        }
        UDP if usize::from(get_u16(packet, transport + 4)) == packet.len() - transport
            && get_u16(packet, transport + UDP_CHECKSUM) != 0 =>
        {
            (transport + 8, 0, false)
        }
        _ => return None,
    };
    let payload = packet
        .len()
        .checked_sub(header)
        .filter(|length| *length > 0)?;
    let pseudo = pseudo_header(packet, protocol, packet.len() - transport);
    let sum = checksum::finish(checksum::add(pseudo, &packet[transport..]));
    (sum == [0, 0]).then_some(Shape {
        protocol,
        transport,
        header,
        payload,
        sequence,
        is_last,
    })
}

/// Whether two packets of one shape are one flow's, and their headers differ only in what a joined
/// packet's header leaves open: lengths, checksums, IPv4's identification, TCP's sequence number and
/// PSH.
fn same_flow(a: &[u8], b: &[u8], shape: &Shape) -> bool {
    let same = |from: usize, to: usize| a[from..to] == b[from..to];
    let at = shape.transport;
    let same_ip = if b[0] >> 4 == 4 {
        a[0] == b[0] && a[1] == b[1] && same(6, 10) && same(12, 20)
    } else {
        same(0, 4) && same(6, 40)
    };
    let same_transport = match shape.protocol {
        // Ports; acknowledgement and data offset; window; urgent pointer and options.
        TCP => {
            same(at, at + 4)
                && same(at + 8, at + 13)
                && same(at + 14, at + 16)
                && same(at + 18, shape.header)
        }
        _ => same(at, at + 4),
    };
    same_ip && same_transport
}
