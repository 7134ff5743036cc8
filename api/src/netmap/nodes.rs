//! What the nodes of a deployment tell each other of an org.
//!
//! *Durable* changes are in the database; a node only says that there are some. *Volatile* state is
//! told whole, machine by machine, and the highest version wins. A version is one more than the last,
//! or the time if that is later: so versions grow at any node, whatever its clock says, as long as
//! nodes hear of each other.
//!
//! A machine is connected to one node. Its connection begins with a version of its own, and goes
//! with everything that is said of it: a node that hears of a later connection ends its own, and one
//! that hears something newer from before its connection says how it is.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::netmap::VolatileReport;

/// What channels start with; the org follows.
const CHANNEL: &str = "org:";

/// A machine's volatile state, as one node tells it to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) id: MachineId,
    pub(super) version: u64,
    pub(super) online: bool,
    /// The version at which the connection began that the machine has. `None`: it has none.
    pub(super) stream: Option<u64>,
    /// How long ago it was heard of, in milliseconds. No time of day: nodes' clocks differ.
    pub(super) silent_ms: Option<u64>,
    pub(super) report: Option<VolatileReport>,
}

/// What a node says of an org.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Word {
    /// There are changes, up to this one if that is known.
    Changed { seq: Option<i64> },
    /// These machines' states are new.
    Machines { machines: Vec<Said> },
    /// These machines were heard of again; nothing else is new.
    Alive { machines: Vec<MachineId> },
    /// Something of a newer version.
    #[serde(other)]
    Unknown,
}

/// A word, and who says it.
#[derive(Serialize, Deserialize)]
struct Letter {
    node: Uuid,
    word: Word,
}

/// The channel of an org.
pub(super) fn channel(org: OrgId) -> String {
    format!("{CHANNEL}{org}")
}

/// The org of a channel, if it is one's.
pub(super) fn org_of(channel: &str) -> Option<OrgId> {
    channel.strip_prefix(CHANNEL)?.parse().ok()
}

/// A word as it is sent.
pub(super) fn encode(node: Uuid, word: Word) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Letter { node, word })
}

/// What another node than `me` says. `None`: it is our own word. What cannot be read at all may have
/// been about a change.
pub(super) fn decode(me: Uuid, bytes: &[u8]) -> Option<Word> {
    match serde_json::from_slice::<Letter>(bytes) {
        Ok(letter) => (letter.node != me).then_some(letter.word),
        Err(error) => {
            tracing::debug!(%error, "another node says what cannot be read");
            Some(Word::Changed { seq: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_words_are_no_news_and_odd_ones_no_harm() {
        let (me, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let word = Word::Machines {
            machines: vec![Said {
                id: MachineId::generate(),
                version: 7,
                online: true,
                stream: Some(5),
                silent_ms: Some(0),
                report: Some(VolatileReport::default()),
            }],
        };
        let sent = encode(other, word.clone()).unwrap();
        assert_eq!(decode(me, &sent), Some(word));
        assert_eq!(decode(other, &sent), None);
        let later = format!(r#"{{"node":"{other}","word":{{"type":"later","x":1}}}}"#);
        assert_eq!(decode(me, later.as_bytes()), Some(Word::Unknown));
        let changed = Some(Word::Changed { seq: None });
        assert_eq!(decode(me, b"\xff"), changed);
        let org = OrgId::generate();
        assert_eq!(org_of(&channel(org)), Some(org));
        assert_eq!(org_of("org:x"), None);
    }
}
