//! A bad path: a point-to-point link of two TUN devices, one in each of two namespaces, and a
//! forwarder between them in this process.
//!
//! ```text
//!   near namespace                this process               far namespace
//!   TUN ──── outward ───▶ queue · line · loss · delay ───▶ TUN
//!   TUN ◀─── delay · loss · line · queue ◀──── inward ──── TUN
//! ```
//!
//! Each direction has a [`Shape`], see [`shape`] for what becomes of a packet. Both can be changed,
//! and the link cut, while it runs. Devices have no offload: what the link counts is what travels
//! on real lines, packets of at most its MTU.

mod forward;
pub mod shape;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::netns::Netns;
use forward::Forwarder;
use shape::{Counts, Direction, Shape};

/// What a device may hold for the forwarder, in packets: what comes while this process waits for a
/// processor, so that packets are dropped by the link's shape and nothing else.
const DEVICE_QUEUE: u32 = 20_000;
/// MTU of a link that names none: Ethernet's.
const DEFAULT_MTU: u16 = 1500;

/// What a link is like.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What happens from the near to the far end.
    pub outward: Shape,
    /// What happens from the far to the near end.
    pub inward: Shape,
    /// Largest packet of IP, in bytes.
    pub mtu: u16,
    /// Decides all chances.
    pub seed: u64,
}

impl Spec {
    /// A link that is alike in both directions.
    #[must_use]
    pub fn both(shape: Shape) -> Self {
        Self {
            outward: shape,
            inward: shape,
            mtu: DEFAULT_MTU,
            seed: 1,
        }
    }

    /// A link that only delays: by half the round trip in each direction.
    #[must_use]
    pub fn round_trip(time: Duration) -> Self {
        Self::both(Shape {
            delay: time / 2,
            ..Shape::CLEAN
        })
    }
}

/// A link that works as long as this value lives.
pub struct Link {
    outward: Way,
    inward: Way,
}

/// One direction and what moves packets through it.
struct Way {
    direction: Arc<Mutex<Direction>>,
    _forwarder: Forwarder,
}

/// What became of the packets of both directions.
#[derive(Clone, Copy, Debug)]
pub struct LinkCounts {
    /// From the near to the far end.
    pub outward: Counts,
    /// From the far to the near end.
    pub inward: Counts,
}

impl Link {
    /// Lays a link between two namespaces; each end has the name of a device to be. The devices are up
    /// and have neither addresses nor routes.
    ///
    /// # Errors
    /// There is no `/dev/net/tun`, or a name is taken.
    pub fn lay(near: (&Netns, &str), far: (&Netns, &str), spec: &Spec) -> Result<Self> {
        let near = Arc::new(device(near.0, near.1, spec.mtu)?);
        let far = Arc::new(device(far.0, far.1, spec.mtu)?);
        let way = |from: &Arc<SyncDevice>, to: &Arc<SyncDevice>, shape: Shape, seed: u64| {
            let direction = Arc::new(Mutex::new(Direction::new(shape, seed)));
            let ends = [Arc::clone(from), Arc::clone(to)];
            let forwarder = Forwarder::start(ends, Arc::clone(&direction))?;
            anyhow::Ok(Way {
                direction,
                _forwarder: forwarder,
            })
        };
        Ok(Self {
            outward: way(&near, &far, spec.outward, spec.seed)?,
            // Another seed, or both directions would lose the same numbers.
            inward: way(&far, &near, spec.inward, !spec.seed)?,
        })
    }

    /// Changes what happens to packets that come from now on, in both directions.
    pub fn set(&self, shape: Shape) {
        self.set_outward(shape);
        self.set_inward(shape);
    }

    /// Changes what happens to packets that go outward from now on.
    pub fn set_outward(&self, shape: Shape) {
        lock(&self.outward.direction).set_shape(shape);
    }

    /// Changes what happens to packets that go inward from now on.
    pub fn set_inward(&self, shape: Shape) {
        lock(&self.inward.direction).set_shape(shape);
    }

    /// Cuts the link, silently: neither end learns of it.
    pub fn cut(&self) {
        lock(&self.outward.direction).cut();
        lock(&self.inward.direction).cut();
    }

    /// Mends a link that was cut.
    pub fn mend(&self) {
        lock(&self.outward.direction).mend();
        lock(&self.inward.direction).mend();
    }

    /// What became of the packets so far.
    #[must_use]
    pub fn counts(&self) -> LinkCounts {
        LinkCounts {
            outward: lock(&self.outward.direction).counts(),
            inward: lock(&self.inward.direction).counts(),
        }
    }

    /// Packets of a length, in bytes of IP, that were lost by chance so far: outward and inward.
    #[must_use]
    pub fn lost_of_length(&self, length: usize) -> [u64; 2] {
        [&self.outward, &self.inward].map(|way| lock(&way.direction).lost_of_length(length))
    }
}

/// A direction is whole between two calls, whatever thread panicked.
fn lock(direction: &Mutex<Direction>) -> MutexGuard<'_, Direction> {
    direction.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A TUN device in a namespace.
fn device(netns: &Netns, name: &str, mtu: u16) -> Result<SyncDevice> {
    let device = netns.within(|| {
        DeviceBuilder::new()
            .name(name)
            .build_sync()
            .with_context(|| format!("cannot make TUN device {name} in {}", netns.name()))
    })?;
    device.set_nonblocking(true)?;
    // The lab is IPv4; the neighbour discovery of IPv6 would be lost by chance as well, and change which
    // of the lab's packets are.
    netns.sysctl(&format!("net.ipv6.conf.{name}.disable_ipv6=1"))?;
    netns.ip(&format!(
        "link set {name} mtu {mtu} txqueuelen {DEVICE_QUEUE} up"
    ))?;
    Ok(device)
}
