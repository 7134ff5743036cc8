//! DNS messages: what is asked, and the answers that this machine gives by itself.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::zone::{Answer, Kind};

/// How long answers may be remembered, in seconds: a machine that changes is not long another's.
const TTL: u32 = 60;
/// Longest message that is read or passed on: what UDP carries, and TCP may (RFC 1035 §4.2.2).
pub const MAX_MESSAGE: usize = u16::MAX as usize;
/// Largest answer of a query without EDNS (RFC 1035 §4.2.1).
const PLAIN_UDP: usize = 512;

/// A query that can be answered.
pub struct Asked {
    query: Query,
    id: u16,
    recursion_desired: bool,
    /// Largest answer by UDP that the sender takes.
    pub room: usize,
    /// The name, in lower case and without a dot at its end.
    pub name: String,
    /// What it is asked for.
    pub kind: Kind,
}

/// Reads a query. The error is what to answer; without one nothing is.
///
/// # Errors
/// It is no query of one question in the internet's class.
pub fn read(bytes: &[u8]) -> Result<Asked, Option<Vec<u8>>> {
    let message = Message::from_vec(bytes).map_err(|_| None)?;
    let metadata = &message.metadata;
    if metadata.message_type != MessageType::Query {
        return Err(None);
    }
    let refuse = |code| {
        Err(Message::error_msg(metadata.id, metadata.op_code, code)
            .to_vec()
            .ok())
    };
    if metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else {
        return refuse(ResponseCode::FormErr);
    };
    if query.query_class() != DNSClass::IN {
        return refuse(ResponseCode::NotImp);
    }
    let name = query.name().to_lowercase().to_ascii();
    Ok(Asked {
        id: metadata.id,
        recursion_desired: metadata.recursion_desired,
        room: usize::from(message.max_payload()).max(PLAIN_UDP),
        name: name.trim_end_matches('.').to_owned(),
        kind: match query.query_type() {
            RecordType::A => Kind::V4,
            RecordType::AAAA => Kind::V6,
            RecordType::PTR => Kind::Pointer,
            _ => Kind::Other,
        },
        query: query.clone(),
    })
}

impl Asked {
    /// The answer that this machine knows by itself. `None`: others know, or it has no form.
    #[must_use]
    pub fn answer(&self, answer: &Answer) -> Option<Vec<u8>> {
        let mut message = self.response();
        message.metadata.authoritative = true;
        let mut add = |data| {
            let name = self.query.name().clone();
            message.answers.push(Record::from_rdata(name, TTL, data));
        };
        match answer {
            Answer::Addresses(addresses) => {
                for address in addresses {
                    add(match address {
                        IpAddr::V4(address) => RData::A(A(*address)),
                        IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
                    });
                }
            }
            Answer::Name(name) => {
                let name = Name::from_ascii(format!("{name}.")).ok()?;
                add(RData::PTR(PTR(name)));
            }
            Answer::NoSuchName => message.metadata.response_code = ResponseCode::NXDomain,
            Answer::Ask(_) => return None,
        }
        message.to_vec().ok()
    }

    /// That nobody who knows has answered.
    #[must_use]
    pub fn failure(&self) -> Option<Vec<u8>> {
        let mut message = self.response();
        message.metadata.response_code = ResponseCode::ServFail;
        message.to_vec().ok()
    }

    /// An answer that is too long for UDP, as a sender is told: it asks again by TCP.
    #[must_use]
    pub fn truncated(&self) -> Option<Vec<u8>> {
        let mut message = self.response();
        message.metadata.truncation = true;
        message.to_vec().ok()
    }

    fn response(&self) -> Message {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.queries.push(self.query.clone());
        message
    }

    /// Whether bytes are an answer to this question.
    #[must_use]
    pub fn is_answered_by(&self, bytes: &[u8], id: u16) -> bool {
        Message::from_vec(bytes).is_ok_and(|message| {
            message.metadata.id == id
                && message.metadata.message_type == MessageType::Response
                && message.queries.first() == Some(&self.query)
        })
    }

    /// The sender's number for the question.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }
}

/// Gives a message another number (RFC 1035 §4.1.1: its first two bytes).
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(first) = message.get_mut(..2) {
        first.copy_from_slice(&id.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    #[test]
    fn a_question_is_read_and_its_answer_names_it() {
        let bytes = question("DB.acme.ztna.internal.", RecordType::A);
        let asked = read(&bytes).ok().unwrap();
        assert_eq!(
            (asked.name.as_str(), asked.kind),
            ("db.acme.ztna.internal", Kind::V4)
        );
        assert_eq!(asked.room, PLAIN_UDP);
        let answer = Answer::Addresses(vec![[100, 64, 0, 2].into()]);
        let answer = asked.answer(&answer).unwrap();
        assert!(asked.is_answered_by(&answer, asked.id()));
        assert!(!asked.is_answered_by(&answer, asked.id().wrapping_add(1)));
        assert!(
            !asked.is_answered_by(&bytes, asked.id()),
            "a question is no answer"
        );
        let message = Message::from_vec(&answer).unwrap();
        assert_eq!(message.answers.len(), 1);
        assert!(message.metadata.authoritative && message.metadata.recursion_desired);

        let none = asked.answer(&Answer::NoSuchName).unwrap();
        let none = Message::from_vec(&none).unwrap();
        assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
        assert!(asked.answer(&Answer::Ask(Vec::new())).is_none());
        let failed = Message::from_vec(&asked.failure().unwrap()).unwrap();
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        let name = asked.answer(&Answer::Name("db.acme.ztna.internal".to_owned()));
        assert_eq!(Message::from_vec(&name.unwrap()).unwrap().answers.len(), 1);
    }

    #[test]
    fn what_is_no_question_is_refused_or_ignored() {
        assert!(matches!(read(b""), Err(None)));
        assert!(matches!(read(&[0; 11]), Err(None)));
        let mut two = Message::query();
        let query = Query::query(Name::root(), RecordType::A);
        two.add_query(query.clone()).add_query(query);
        assert!(matches!(read(&two.to_vec().unwrap()), Err(Some(_))));
        let answer = Message::response(1, OpCode::Query).to_vec().unwrap();
        assert!(
            matches!(read(&answer), Err(None)),
            "two servers must not talk to each other"
        );
        let update = Message::new(1, MessageType::Query, OpCode::Update);
        assert!(matches!(read(&update.to_vec().unwrap()), Err(Some(_))));
    }
}
