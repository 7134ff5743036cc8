//! Congestion control: BBR, which never stops.
//!
//! BBR goes by what gets through, not by what is lost: at 2 % loss Cubic leaves a link all but idle
//! and its queue full. But every ten seconds it lets four packets out per 200 ms to see the path's
//! round trip, and while packets are lost it may be nearly as timid. For a file that is nothing, for
//! a call it is a gap. What runs inside the tunnels has its own control, so the window keeps a floor.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{BbrConfig, Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// Packets of full size that may always be under way: little more than what any connection begins
/// with (RFC 9002 §7.2: 10).
const FLOOR: u64 = 16;

/// Makes controllers.
#[derive(Default)]
pub(super) struct SteadyBbr(Arc<BbrConfig>);

impl ControllerFactory for SteadyBbr {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Steady {
            bbr: Arc::clone(&self.0).build(now, current_mtu),
            mtu: current_mtu,
        })
    }
}

struct Steady {
    bbr: Box<dyn Controller>,
    mtu: u16,
}

impl Controller for Steady {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.bbr.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.bbr.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.bbr
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.bbr
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.bbr.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.bbr.window().max(FLOOR * u64::from(self.mtu))
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.bbr.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            bbr: self.bbr.clone_box(),
            mtu: self.mtu,
        })
    }

    fn initial_window(&self) -> u64 {
        self.bbr.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persistent_loss_leaves_the_floor() {
        let now = Instant::now();
        let mut controller = Arc::new(SteadyBbr::default()).build(now, 1200);
        controller.on_sent(now, 1200, 1);
        controller.on_congestion_event(now, now, true, 1200);
        assert!(controller.window() >= FLOOR * 1200);
        controller.on_mtu_update(1452);
        assert!(controller.clone_box().window() >= FLOOR * 1452);
    }
}
