//! What an agent does around its mesh: relays, STUN, the stream of the control plane.

use std::time::Duration;

use rand::RngExt;
use ztna_netmap::RESYNC_INTERVAL;
use ztna_proto::KemKeyHash;
use ztna_proto::netmap::ClientMessage;

use super::{Event, Payload, World};
use crate::control::{Outbox, region_id};
use crate::machine::Waiting;

/// A connection over which nothing comes for this long is given up.
const PATIENCE: Duration = Duration::from_millis(1300);
/// The same for the stream of the control plane.
const STREAM_PATIENCE: Duration = Duration::from_secs(3);
/// A connection to a region that is not home ends when it carried nothing for this long.
const RELAY_IDLE: Duration = Duration::from_secs(60);
/// Pause between two rounds of STUN, at least and at most, as netcheck's.
const STUN_ROUND: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(26)];
/// One-way delay from the middle of the internet to the control plane.
const CONTROL_DISTANCE: Duration = Duration::from_millis(10);
/// Pause between two attempts to connect, at most.
const RETRY: Duration = Duration::from_secs(5);

impl World {
    /// A machine's agent looks around.
    pub(super) fn look(&mut self, machine: usize) {
        if self.machines[machine].pause.is_some() {
            return;
        }
        self.watch_relays(machine);
        self.watch_stream(machine);
        if self.machines[machine].stun_at <= self.now {
            let pause = self.rng.random_range(STUN_ROUND[0]..=STUN_ROUND[1]);
            self.machines[machine].stun_at = self.now + pause;
            for region in 0..self.regions.len() {
                for to in self.regions[region].stun {
                    self.send_datagram(machine, to, Payload::StunRequest);
                }
            }
            self.choose_home(machine, true);
        }
        for hash in self.machines[machine].wanted.clone() {
            self.fetch_key(machine, hash);
        }
        let now = self.now;
        self.machines[machine].rebind_if_due(now);
        self.carry_out(machine);
        self.report(machine);
    }

    fn watch_relays(&mut self, machine: usize) {
        let now = self.now;
        for region in 0..self.regions.len() {
            let is_reached = self.reaches_relay(machine, region);
            let is_home = self.machines[machine].home == Some(region);
            let connections = &mut self.machines[machine].connections;
            let Some(connection) = connections.get_mut(&region) else {
                continue;
            };
            if is_reached {
                connection.silent_since = None;
            }
            let silent = connection.silent_since.unwrap_or(now);
            if !is_reached {
                connection.silent_since = Some(silent);
            }
            let is_idle = !is_home && now >= connection.used + RELAY_IDLE;
            if is_idle || now >= silent + PATIENCE {
                connections.remove(&region);
            }
        }
        self.choose_home(machine, false);
        if let Some(home) = self.machines[machine].home {
            self.connect_relay(machine, home);
        }
    }

    /// Home is the nearest region that works; between two measurements only a home that fails is left.
    fn choose_home(&mut self, machine: usize, is_measured: bool) {
        let home = self.machines[machine].home;
        let works = home.is_some_and(|home| self.machines[machine].connections.contains_key(&home));
        if works && !is_measured {
            return;
        }
        let nearest = (0..self.regions.len())
            .filter(|region| self.reaches_relay(machine, *region))
            .min_by_key(|region| self.regions[*region].distance);
        let Some(nearest) = nearest.filter(|nearest| home != Some(*nearest)) else {
            return;
        };
        self.machines[machine].home = Some(nearest);
        let id = region_id(nearest);
        self.note(machine, format_args!("home is region {id}"));
        self.connect_relay(machine, nearest);
    }

    /// Tells the control plane where a machine is, if that changed.
    pub(super) fn report(&mut self, machine: usize) {
        let now = self.now;
        let Some(report) = self.machines[machine].report(now) else {
            return;
        };
        self.tell_control(machine, ClientMessage::Report(report));
        self.carry_out(machine);
    }

    fn reaches_control(&self, machine: usize) -> bool {
        !self.control.is_down && !self.cut.contains(&self.machines[machine].site)
    }

    fn control_delay(&self, machine: usize) -> Duration {
        self.distance(self.machines[machine].site) + CONTROL_DISTANCE
    }

    fn watch_stream(&mut self, machine: usize) {
        let now = self.now;
        let is_reached = self.reaches_control(machine);
        let theirs = self.control.stream(machine);
        let agent = &mut self.machines[machine];
        let Some(ours) = agent.stream else {
            if now >= agent.retry_at {
                self.generations += 1;
                let generation = self.generations;
                let pause = self.rng.random_range(RETRY / 5..=RETRY);
                self.machines[machine].retry_at = now + pause;
                if is_reached {
                    let delay = self.control_delay(machine) * 4;
                    self.after(delay, Event::StreamUp(machine, generation));
                }
            }
            return;
        };
        if is_reached {
            agent.silent_since = None;
            // The control plane knows nothing of this stream: it says so at once.
            if theirs != Some(ours) {
                self.lose_stream(machine);
            }
            return;
        }
        let silent = *agent.silent_since.get_or_insert(now);
        if now >= silent + STREAM_PATIENCE {
            self.lose_stream(machine);
        }
    }

    /// Both ends give a machine's stream up.
    pub(super) fn lose_stream(&mut self, machine: usize) {
        let now = self.now;
        let agent = &mut self.machines[machine];
        if agent.stream.take().is_some() {
            agent.netmap.disconnected();
            agent.silent_since = None;
            agent.retry_at = now;
            self.note(machine, format_args!("stream lost"));
        }
        let outbox = self.control.disconnect(machine);
        self.tell(outbox);
    }

    pub(super) fn stream_up(&mut self, machine: usize, generation: u64) {
        let is_free = self.machines[machine].stream.is_none();
        if !is_free || !self.reaches_control(machine) || self.machines[machine].pause.is_some() {
            return;
        }
        self.machines[machine].stream = Some(generation);
        self.machines[machine].silent_since = None;
        let outbox = self.control.connect(machine, generation);
        self.note(machine, format_args!("stream stands"));
        self.tell(outbox);
        if let Some(report) = self.machines[machine].reported.clone() {
            self.tell_control(machine, ClientMessage::Report(report));
        }
    }

    fn tell_control(&mut self, machine: usize, message: ClientMessage) {
        let Some(generation) = self.machines[machine].stream else {
            return;
        };
        let at = self.in_order(machine, true);
        self.at(at, Event::ToControl(machine, generation, message));
    }

    /// When a message that is sent now arrives: never before the one before it.
    fn in_order(&mut self, machine: usize, up: bool) -> Duration {
        let late = self
            .rng
            .random_range(Duration::ZERO..=CONTROL_DISTANCE * 10);
        let at = self.now + self.control_delay(machine) + late;
        let busy = self.control_busy.entry((machine, up)).or_default();
        *busy = at.max(*busy);
        *busy
    }

    /// Sends what the control plane has to say.
    pub(super) fn tell(&mut self, outbox: Outbox) {
        for (machine, text) in outbox {
            let Some(generation) = self.control.stream(machine) else {
                continue;
            };
            let at = self.in_order(machine, false);
            self.at(at, Event::FromControl(machine, generation, text));
        }
    }

    pub(super) fn message_from_control(&mut self, machine: usize, generation: u64, text: &str) {
        let now = self.now;
        let agent = &mut self.machines[machine];
        if agent.stream != Some(generation) {
            return;
        }
        if agent.pause.is_some() {
            let waiting = Waiting::Control(generation, text.to_owned());
            return agent.inbox.push_back(waiting);
        }
        match agent.netmap.handle_text(text) {
            Ok(update) => {
                agent.apply(&update, now);
                self.carry_out(machine);
            }
            Err(error) => {
                let is_due = agent.resynced.is_none_or(|at| now >= at + RESYNC_INTERVAL);
                if is_due {
                    agent.resynced = Some(now);
                    self.tell_control(machine, ClientMessage::Resync);
                }
                self.note(machine, format_args!("netmap: {error}"));
            }
        }
    }

    pub(super) fn fetch_key(&mut self, machine: usize, hash: KemKeyHash) {
        if !self.reaches_control(machine) {
            return;
        }
        let Some(key) = self.control.kem_key(hash).cloned() else {
            return;
        };
        let delay = self.control_delay(machine) * 2;
        self.after(delay, Event::KemKey(machine, key));
    }
}
