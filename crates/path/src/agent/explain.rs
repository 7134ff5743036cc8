//! Why packets go this way and not another, for people.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ztna_proto::RegionId;

use super::PathAgent;
use crate::candidate::{Candidate, Origin};
use crate::limits::IDLE_AFTER;
use crate::score::{STICKY_POINTS, lead_over, points};
use crate::types::{Selected, Via};

/// Everything that the choice of a path rests on, at one moment.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The way that traffic goes.
    pub selected: Selected,
    /// The region at whose relay the peer is reached.
    pub relay: Option<RegionId>,
    /// The way by which the peer's last authenticated packet came, and how long ago.
    pub heard: Option<(Via, Duration)>,
    /// Why traffic goes so: one sentence.
    pub why: String,
    /// Every candidate: the one in use first, then the better ones first.
    pub candidates: Vec<CandidateReport>,
}

/// A candidate, how it has done, and what follows from it.
#[derive(Clone, Debug)]
pub struct CandidateReport {
    /// Where the peer may be.
    pub addr: SocketAddr,
    /// Who told us of it first.
    pub origin: Origin,
    /// How long ago it was pinged last.
    pub pinged: Option<Duration>,
    /// How long ago it answered last.
    pub answered: Option<Duration>,
    /// Round-trip time, smoothed over its answers.
    pub latency: Option<Duration>,
    /// Points for its kind ([`crate::score`]).
    pub points: i32,
    /// What it is to us.
    pub state: CandidateState,
    /// Why it is that: one sentence.
    pub why: String,
}

/// What a candidate is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CandidateState {
    /// Traffic goes there.
    InUse,
    /// Traffic goes there and by relay, until it answers or another does.
    Doubted,
    /// It answers, and is not better than the one in use.
    Standby,
    /// It was pinged and did not answer.
    Silent,
    /// It was not pinged.
    Untried,
    /// This machine's network refuses to send there.
    Refused,
}

impl PathAgent {
    /// All candidates.
    pub fn candidates(&self) -> impl Iterator<Item = (&SocketAddr, &Candidate)> {
        self.candidates.iter()
    }

    /// Why packets go the way they go.
    #[must_use]
    pub fn explain(&self, now: Instant) -> Explanation {
        let mut candidates: Vec<CandidateReport> = self
            .candidates
            .iter()
            .map(|(addr, known)| self.report(*addr, known, now))
            .collect();
        candidates.sort_by_key(|candidate| {
            let latency = candidate.latency.unwrap_or(Duration::MAX);
            (candidate.state, latency, candidate.addr)
        });
        Explanation {
            selected: self.selected(),
            relay: self.relay(),
            heard: self.heard.map(|(via, at)| (via, now.duration_since(at))),
            why: self.why(now),
            candidates,
        }
    }

    fn report(&self, addr: SocketAddr, known: &Candidate, now: Instant) -> CandidateReport {
        let (state, why) = self.judge(&addr, known, now);
        let since = |at: Option<Instant>| at.map(|at| now.duration_since(at));
        CandidateReport {
            addr,
            origin: known.origin,
            pinged: since(known.pinged),
            answered: since(known.answered),
            latency: known.latency,
            points: points(&addr, known.in_tunnel()),
            state,
            why,
        }
    }

    fn judge(
        &self,
        addr: &SocketAddr,
        known: &Candidate,
        now: Instant,
    ) -> (CandidateState, String) {
        if let Some(chosen) = self.chosen.filter(|chosen| chosen.addr == *addr) {
            return if chosen.is_trusted(now) {
                let why = "it answers, and no other is better".to_owned();
                (CandidateState::InUse, why)
            } else if !self.is_awake() {
                let why = "it carried the last traffic; the next packet goes there and by relay";
                (CandidateState::InUse, why.to_owned())
            } else {
                let why = "it does not answer as it did; packets go by relay as well";
                (CandidateState::Doubted, why.to_owned())
            };
        }
        if let Some(until) = known.held_until.filter(|until| now < *until) {
            let left = text(until - now);
            let why = format!("this machine has no route there; tried again in {left}");
            return (CandidateState::Refused, why);
        }
        match (known.answered, known.pinged) {
            (Some(answered), pinged) if pinged.is_none_or(|at| at <= answered) => {
                (CandidateState::Standby, self.why_not(addr))
            }
            (Some(answered), _) => {
                let ago = text(now.duration_since(answered));
                let why = format!("it answered {ago} ago, and not since");
                (CandidateState::Silent, why)
            }
            (None, Some(_)) => (
                CandidateState::Silent,
                "it has not answered: nobody is there, or a NAT or firewall is between".to_owned(),
            ),
            (None, None) => (
                CandidateState::Untried,
                "it was not pinged: there was no traffic since it is known".to_owned(),
            ),
        }
    }

    /// Why a candidate that answers is not the one in use.
    fn why_not(&self, addr: &SocketAddr) -> String {
        let Some(chosen) = self.chosen else {
            return "it answered before the path was given up; it has to answer again".to_owned();
        };
        let lead = lead_over(self.contender(*addr), self.contender(chosen.addr));
        match lead {
            i32::MIN..0 => format!(
                "it answers, and is behind the one in use by {} points of kind and speed",
                lead.unsigned_abs()
            ),
            0 => "it answers, and is as good as the one in use, no better".to_owned(),
            lead if lead <= STICKY_POINTS => format!(
                "it answers, and leads the one in use by {lead} points; it takes more than \
                 {STICKY_POINTS} to move"
            ),
            lead => format!("it leads by {lead} points, and takes over with its next answer"),
        }
    }

    fn why(&self, now: Instant) -> String {
        let count = self.candidates.iter().count();
        let relay = if self.relay().is_some() {
            " and by relay"
        } else {
            ""
        };
        match self.chosen {
            Some(chosen) if !self.is_awake() => format!(
                "idle: without traffic for {} nothing is probed; the next packet goes to {}{relay}, \
                 until it answers",
                text(IDLE_AFTER),
                chosen.addr
            ),
            Some(chosen) if chosen.is_trusted(now) => {
                let answered = self.candidates.get(&chosen.addr).and_then(|c| c.answered);
                let ago = answered.map_or_else(String::new, |at| {
                    format!(" {} ago", text(now.duration_since(at)))
                });
                let standby = self.standby(now);
                format!(
                    "direct: {} answered{ago}; of {count} candidates {standby} more answer, and none \
                     is better",
                    chosen.addr
                )
            }
            Some(chosen) => format!(
                "{} has not answered since the network changed or for too long: packets go there\
                 {relay}, until it or another candidate answers",
                chosen.addr
            ),
            None if self.relay().is_none() => {
                "none: the peer reports no relay region, and no address of it answers".to_owned()
            }
            None if !self.is_awake() => format!(
                "idle: without traffic for {} nothing is probed; the next packet goes by relay and \
                 begins the search",
                text(IDLE_AFTER)
            ),
            None if count == 0 => "by relay: the peer reports no address".to_owned(),
            None => {
                let next = self.search.map_or_else(String::new, |search| {
                    let left = search.next().saturating_duration_since(now);
                    format!("; they are tried again in {}", text(left))
                });
                format!("by relay: none of {count} candidates answers{next}")
            }
        }
    }

    /// Candidates that answer, besides the one in use.
    fn standby(&self, now: Instant) -> usize {
        self.candidates
            .iter()
            .filter(|(addr, known)| self.judge(addr, known, now).0 == CandidateState::Standby)
            .count()
    }
}

/// A time as people read it.
fn text(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{seconds:.0} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ztna_proto::netmap::{Endpoint, EndpointKind};

    use crate::types::Output;

    const HERE: &str = "192.0.2.1:1";
    const LAN: &str = "192.168.1.2:1";
    const DEAD: &str = "198.51.100.9:1";

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Answers the pings to these addresses, after so many milliseconds.
    fn answer(agent: &mut PathAgent, who: &[(&str, u64)], now: Instant) {
        let mut pings = Vec::new();
        while let Some(output) = agent.poll_output() {
            if let Output::Ping { to, tx } = output {
                pings.push((to, tx));
            }
        }
        for (to, tx) in pings {
            let found = who.iter().find(|(text, _)| Via::Direct(addr(text)) == to);
            if let Some((_, millis)) = found {
                agent.handle_pong(tx, to, now + Duration::from_millis(*millis));
            }
        }
    }

    fn agent(now: Instant) -> PathAgent {
        let mut agent = PathAgent::new(7, now);
        let endpoints = [HERE, LAN, DEAD].map(|text| Endpoint {
            addr: addr(text),
            kind: EndpointKind::Stun,
        });
        agent.set_relay(Some(RegionId(1)), now);
        agent.set_candidates(&endpoints, now);
        agent
    }

    fn state(explanation: &Explanation, text: &str) -> (CandidateState, String) {
        let found = explanation.candidates.iter().find(|c| c.addr == addr(text));
        let found = found.unwrap();
        (found.state, found.why.clone())
    }

    #[test]
    fn an_idle_peer_says_so() {
        let now = Instant::now();
        let explanation = agent(now).explain(now);
        assert!(explanation.why.starts_with("idle:"), "{}", explanation.why);
        assert_eq!(state(&explanation, HERE).0, CandidateState::Untried);
    }

    #[test]
    fn a_relayed_peer_says_when_it_is_tried_again() {
        let start = Instant::now();
        let mut agent = agent(start);
        agent.data_sent(start);
        let explanation = agent.explain(start + Duration::from_millis(50));
        assert_eq!(
            explanation.why,
            "by relay: none of 3 candidates answers; they are tried again in 0.1 s"
        );
        assert_eq!(state(&explanation, DEAD).0, CandidateState::Silent);
    }

    #[test]
    fn the_path_in_use_and_those_that_are_not_say_why() {
        let start = Instant::now();
        let mut agent = agent(start);
        agent.data_sent(start);
        answer(&mut agent, &[(LAN, 1), (HERE, 3)], start);
        agent.data_received(Via::Direct(addr(LAN)), start + Duration::from_millis(5));
        let explanation = agent.explain(start + Duration::from_millis(100));
        assert_eq!(explanation.candidates[0].addr, addr(LAN));
        assert_eq!(state(&explanation, LAN).0, CandidateState::InUse);
        let (standby, why) = state(&explanation, HERE);
        assert_eq!(standby, CandidateState::Standby);
        assert!(why.contains("behind the one in use by 20 points"), "{why}");
        assert!(
            explanation.why.contains("of 3 candidates 1 more answer"),
            "{}",
            explanation.why
        );
        let (via, ago) = explanation.heard.unwrap();
        assert_eq!(via, Via::Direct(addr(LAN)));
        assert_eq!(ago, Duration::from_millis(95));

        agent.send_failed(addr(DEAD), start + Duration::from_millis(100));
        agent.network_changed(start + Duration::from_millis(100));
        let explanation = agent.explain(start + Duration::from_millis(200));
        assert_eq!(state(&explanation, LAN).0, CandidateState::Doubted);
        assert!(
            explanation
                .why
                .contains("until it or another candidate answers"),
            "{}",
            explanation.why
        );
    }

    #[test]
    fn an_address_without_a_route_is_refused() {
        let start = Instant::now();
        let mut agent = agent(start);
        agent.data_sent(start);
        agent.send_failed(addr(DEAD), start);
        let explanation = agent.explain(start + Duration::from_secs(1));
        let (refused, why) = state(&explanation, DEAD);
        assert_eq!(refused, CandidateState::Refused);
        assert!(why.ends_with("tried again in 4.0 s"), "{why}");
    }
}
