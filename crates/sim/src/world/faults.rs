//! What goes wrong, and how it is mended.

use std::net::SocketAddr;

use rand::RngExt;

use super::{Event, World};
use crate::machine::{Pause, Waiting};
use crate::scenario::Fault;

/// Datagrams that are sent again at once.
const REPLAYED: usize = 40;

impl World {
    /// Something goes wrong, or is mended.
    pub(super) fn strike(&mut self, fault: Fault) {
        self.trace.note(self.now, "*", format_args!("{fault:?}"));
        let now = self.now;
        match fault {
            Fault::Cut(site, on) => toggle(&mut self.cut, site, on),
            Fault::UdpBlocked(site, on) => toggle(&mut self.udp_blocked, site, on),
            Fault::PairCut(a, b, on) => {
                if a != b {
                    toggle(&mut self.pair_cut, (a.min(b), a.max(b)), on);
                }
            }
            Fault::NatRestart(site) => {
                if let (_, Some(nat)) = self.sites[site] {
                    self.topology.restart_nat(nat);
                }
            }
            Fault::RegionDown(region, on) => self.regions[region].is_down = on,
            Fault::ControlDown(on) => {
                self.control.is_down = on;
                if on {
                    for machine in 0..self.machines.len() {
                        // Nobody is told.
                        let _ = self.control.disconnect(machine);
                    }
                }
            }
            Fault::StreamLost(machine) => self.lose_stream(machine),
            Fault::DeltaLost(machine) => self.control.lose_next(machine),
            Fault::Restart(machine, keeps_netmap) => {
                self.lose_stream(machine);
                self.machines[machine].restart(keeps_netmap, now);
                self.carry_out(machine);
            }
            Fault::NewKey(machine) => {
                self.lose_stream(machine);
                self.machines[machine].new_key(now);
                let key = self.machines[machine].key();
                let outbox = self.control.set_key(machine, key);
                self.tell(outbox);
                self.carry_out(machine);
            }
            Fault::Stop(machine, true) => self.pause(machine, Pause::Stopped),
            Fault::Sleep(machine, true) => self.pause(machine, Pause::Asleep(now)),
            Fault::Stop(machine, false) => self.resume(machine, false),
            Fault::Sleep(machine, false) => self.resume(machine, true),
            Fault::Roam(machine, site) => self.roam(machine, site),
            Fault::Allow(from, to, on) => {
                if on {
                    self.ever_allowed.insert((from, to));
                }
                let outbox = self.control.allow(from, to, on);
                self.tell(outbox);
            }
            Fault::Replay(machine) => self.replay(machine),
        }
    }

    fn pause(&mut self, machine: usize, pause: Pause) {
        let agent = &mut self.machines[machine];
        agent.pause = agent.pause.or(Some(pause));
    }

    fn resume(&mut self, machine: usize, is_sleep: bool) {
        let now = self.now;
        let agent = &mut self.machines[machine];
        match agent.pause {
            Some(Pause::Asleep(since)) if is_sleep => {
                agent.pause = None;
                agent.slept(now - since);
                // Its connections did not outlive that.
                agent.connections.clear();
                self.lose_stream(machine);
                // Not every system says that there was a network change.
                if self.rng.random_bool(0.5) {
                    self.machines[machine].network_changed(now);
                }
                self.carry_out(machine);
            }
            Some(Pause::Stopped) if !is_sleep => {
                agent.pause = None;
                let inbox: Vec<Waiting> = agent.inbox.drain(..).collect();
                for waiting in inbox {
                    self.take(machine, waiting);
                }
            }
            _ => {}
        }
    }

    fn roam(&mut self, machine: usize, site: usize) {
        let now = self.now;
        let old = self.machines[machine].place;
        for addr in old.addrs() {
            self.topology.vacate(old.network, addr.ip());
        }
        let place = self.settle_at(machine, site);
        let agent = &mut self.machines[machine];
        // Connections do not survive a change of address.
        agent.connections.clear();
        agent.moved(site, place, now);
        self.lose_stream(machine);
        self.carry_out(machine);
    }

    /// Somebody who overheard what came to a machine sends it again: from an address of their own or
    /// from where it came, and some of it changed.
    fn replay(&mut self, machine: usize) {
        let stranger = SocketAddr::new(self.topology.public_address(), 4242);
        let old: Vec<_> = self.machines[machine].overheard.iter().cloned().collect();
        for _ in 0..REPLAYED.min(old.len()) {
            let (from, mut datagram) = old[self.rng.random_range(0..old.len())].clone();
            let from = if self.rng.random_bool(0.5) {
                stranger
            } else {
                from
            };
            if self.rng.random_bool(0.3) {
                let at = self.rng.random_range(0..datagram.len());
                datagram[at] ^= 1 << self.rng.random_range(0..8);
            }
            if self.machines[machine].pause.is_none() {
                self.take(machine, Waiting::Udp(from, datagram));
            }
        }
    }

    /// Everything is mended.
    pub(super) fn calm_down(&mut self) {
        self.trace.note(self.now, "*", format_args!("quiet"));
        for region in &mut self.regions {
            region.is_down = false;
        }
        self.cut.clear();
        self.udp_blocked.clear();
        self.pair_cut.clear();
        self.control.is_down = false;
        for machine in 0..self.machines.len() {
            self.resume(machine, true);
            self.resume(machine, false);
        }
        self.is_quiet = true;
        // What the scenario still has to mend is mended already.
        self.events
            .retain(|_, event| !matches!(event, Event::Fault(_)));
    }
}

fn toggle<T: Ord>(set: &mut std::collections::BTreeSet<T>, item: T, on: bool) {
    if on {
        set.insert(item);
    } else {
        set.remove(&item);
    }
}
