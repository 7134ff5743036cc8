//! The streams of connected machines: beginning, end, outbox, tickets.

use std::time::Instant;

use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use ztna_netmap::records::RecordSet;
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::{MapDelta, Resume, ServerMessage};

use super::{OrgState, Result};
use crate::netmap::presence::Presence;
use crate::relays;

/// Messages that wait for a machine to read them. A machine that falls behind further is cut off.
pub(in crate::netmap) const OUTBOX: usize = 256;

/// What goes into an outbox. The stream ends when the outbox closes.
pub(in crate::netmap) type Outbox = mpsc::Sender<Utf8Bytes>;

/// A connected machine, and the map that it holds once it has read its outbox.
pub(super) struct Stream {
    pub(super) serial: u64,
    /// The version at which it began, among the nodes.
    pub(super) since: u64,
    pub(super) outbox: Outbox,
    pub(super) map: RecordSet,
    pub(super) seq: u64,
}

impl OrgState {
    /// Registers a stream and puts the first messages into its outbox. `None`: the machine is not
    /// (any more) in the org. A stream that the machine had before ends.
    pub(in crate::netmap) fn connect(
        &mut self,
        id: MachineId,
        outbox: Outbox,
        resume: Option<Resume>,
        now: Instant,
    ) -> Result<Option<u64>> {
        let Some(map) = self.map_of(id) else {
            return Ok(None);
        };
        let seq = self.seq.unsigned_abs();
        let first = [
            Some(self.beginning(id, &map, resume).encode()?),
            self.volatile(map.peers().keys().copied(), true)?,
            self.ticket_of(id)
                .map(|ticket| ServerMessage::RelayTicket(ticket).encode())
                .transpose()?,
        ];
        let presence = self.presence_of(id);
        let came = presence.connect(now);
        let since = presence.stream().unwrap_or_default();
        let serial = self.next_serial;
        self.next_serial += 1;
        let stream = Stream {
            serial,
            since,
            outbox,
            map,
            seq,
        };
        self.streams.insert(id, stream);
        self.send(id, first.into_iter().flatten());
        // Also if peers need not hear of it: another node may hold an old connection of the machine.
        self.say(id);
        if came {
            self.tell_peers(id)?;
        }
        Ok(Some(serial))
    }

    /// What brings a machine to its map: as little as can be told of where it stands.
    fn beginning(&self, id: MachineId, map: &RecordSet, resume: Option<Resume>) -> ServerMessage {
        let seq = self.seq.unsigned_abs();
        let (kind, message) = match resume {
            // Whatever the numbers say: after the database was restored they may say anything.
            Some(held) if held.hash == map.hash() => (
                "in_sync",
                ServerMessage::KeepAlive(Resume {
                    seq,
                    hash: map.hash(),
                }),
            ),
            _ => match resume.and_then(|held| self.missed(id, map, held)) {
                Some(delta) => ("delta", ServerMessage::Delta(delta)),
                None => ("full", ServerMessage::Full(map.full(seq))),
            },
        };
        metrics::counter!("ztna_api_machine_stream_starts_total", "with" => kind).increment(1);
        message
    }

    /// What a machine missed. `None`: only the whole map says it.
    fn missed(&self, id: MachineId, map: &RecordSet, held: Resume) -> Option<MapDelta> {
        let sees = |peer: &MachineId| map.peers().contains_key(peer);
        let missed = self.log.missed(id, held.seq, sees)?;
        map.since(
            held.seq,
            self.seq.unsigned_abs(),
            &missed.changed,
            missed.removed,
        )
    }

    /// A stream has ended. `leaving`: the machine said so, and is offline at once; otherwise it has
    /// the time that a silent machine has to come back.
    pub(in crate::netmap) fn disconnect(
        &mut self,
        id: MachineId,
        serial: u64,
        leaving: bool,
    ) -> Result<()> {
        if self.streams.get(&id).is_none_or(|s| s.serial != serial) {
            return Ok(());
        }
        self.streams.remove(&id);
        if leaving && self.presence.get_mut(&id).is_some_and(Presence::leave) {
            self.news_of(id)?;
        }
        Ok(())
    }

    /// Sends the whole map again.
    pub(in crate::netmap) fn resync(&mut self, id: MachineId, serial: u64) -> Result<()> {
        let seq = self.seq.unsigned_abs();
        let Some(map) = self.map_of(id) else {
            return Ok(());
        };
        let Some(stream) = self.stream(id, serial) else {
            return Ok(());
        };
        let text = ServerMessage::Full(map.full(seq)).encode()?;
        stream.map = map;
        stream.seq = seq;
        self.send(id, [text]);
        Ok(())
    }

    /// Tells a machine where its map should stand.
    pub(in crate::netmap) fn keep_alive(&mut self, id: MachineId, serial: u64) -> Result<()> {
        let Some(stream) = self.stream(id, serial) else {
            return Ok(());
        };
        let text = ServerMessage::KeepAlive(Resume {
            seq: stream.seq,
            hash: stream.map.hash(),
        })
        .encode()?;
        self.send(id, [text]);
        Ok(())
    }

    /// Gives every connected machine a ticket for the regions that there are now.
    pub(super) fn renew_tickets(&mut self) -> Result<()> {
        self.forget_tickets();
        let all = self.streams.iter().map(|(id, stream)| (*id, stream.serial));
        for (id, serial) in all.collect::<Vec<_>>() {
            self.renew_ticket(id, serial)?;
        }
        Ok(())
    }

    /// Sends a machine a fresh ticket.
    pub(in crate::netmap) fn renew_ticket(&mut self, id: MachineId, serial: u64) -> Result<()> {
        if self.stream(id, serial).is_some()
            && let Some(ticket) = self.ticket_of(id)
        {
            let text = ServerMessage::RelayTicket(ticket).encode()?;
            self.send(id, [text]);
        }
        Ok(())
    }

    /// A ticket for the org's relays. `None`: the machine is not (any more) in the org, or kept out of
    /// its network.
    pub(super) fn ticket_of(&self, id: MachineId) -> Option<String> {
        let machine = self.machines.get(&id)?;
        if !machine.row.standing.is_in() {
            return None;
        }
        let signer = &self.shared.signer;
        Some(relays::ticket(
            signer,
            self.id,
            id,
            machine.wg_key,
            &self.regions,
        ))
    }

    /// How many machines are connected.
    pub(in crate::netmap) fn streams(&self) -> usize {
        self.streams.len()
    }

    fn stream(&mut self, id: MachineId, serial: u64) -> Option<&mut Stream> {
        self.streams.get_mut(&id).filter(|s| s.serial == serial)
    }

    /// Puts messages into a machine's outbox. One that is full or closed ends the stream.
    pub(super) fn send(&mut self, id: MachineId, messages: impl IntoIterator<Item = String>) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let mut messages = messages.into_iter();
        let sent = messages.try_for_each(|text| stream.outbox.try_send(text.into()));
        if sent.is_err() {
            tracing::debug!(machine = %id, "a machine does not read its stream; it is cut off");
            self.streams.remove(&id);
        }
    }
}
