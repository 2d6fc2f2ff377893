//! The DHCPv4 client as a pure machine (RFC 2131 §4.4): no sockets, no clock, no randomness of its own.
//!
//! `NoLink → Selecting → Requesting → Bound → Renewing → Rebinding`; a loss of the link before `Bound`, a NAK, and
//! the end of the lease lead back. Every state but `NoLink` and an endless `Bound` has a time at which it goes on.

use std::net::Ipv4Addr;

use super::message::{Ask, Granted, Kind, Reply};

/// Milliseconds after which the first question is asked again; doubled each time up to [`LONGEST_WAIT`].
const FIRST_WAIT: u64 = 1000;
/// Short, because a switch port that opens after 30 or 45 s has to be noticed soon.
const LONGEST_WAIT: u64 = 8000;
/// A server that has offered and does not answer this many requests is given up.
const REQUESTS: u32 = 4;
/// RFC 2131 §4.4.5.
const RENEW_WAIT: u64 = 60_000;

/// When something happens, and the chance that comes with it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// On a clock that never jumps.
    pub ms: u64,
    /// For transaction ids and jitter.
    pub random: u32,
}

/// A question that is asked until it is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Which replies belong to it.
    pub xid: u32,
    /// Since when.
    pub began: u64,
    /// How often it was asked.
    pub asked: u32,
    /// When last.
    pub asked_at: u64,
    /// When it is asked again, or given up.
    pub due: u64,
}

/// A lease and since when it counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// What the server gave.
    pub granted: Granted,
    /// When it was asked for.
    pub since: u64,
}

/// Where the client is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// No carrier.
    NoLink,
    /// Looking for servers.
    Selecting(Exchange),
    /// Taking an offer.
    Requesting(Exchange, Granted),
    /// Using a lease.
    Bound(Held),
    /// Asking its server for more time.
    Renewing(Exchange, Held),
    /// Asking any server for more time.
    Rebinding(Exchange, Held),
}

/// What happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The link came up, or went down.
    Carrier(bool),
    /// Somebody answered somebody.
    Reply(Reply),
    /// The time of [`State::due`] has come.
    Due,
}

/// What is to be done about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Nothing.
    Nothing,
    /// Send this.
    Ask(Ask),
    /// Use this lease from now on.
    Take(Granted),
    /// Stop using the lease.
    Leave(Why),
    /// A person may want to know that a request was refused.
    Refused(Why),
}

/// Why there is no lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// Nobody prolonged it.
    Expired,
    /// A server said no; with its words, if any.
    Nak(Option<String>),
}

impl State {
    /// When [`Event::Due`] is due.
    pub fn due(&self) -> Option<u64> {
        match self {
            Self::NoLink => None,
            Self::Bound(held) => held.times().map(|times| times.renew),
            Self::Selecting(exchange)
            | Self::Requesting(exchange, _)
            | Self::Renewing(exchange, _)
            | Self::Rebinding(exchange, _) => Some(exchange.due),
        }
    }

    /// Since when there is a link and no lease.
    pub fn searching_since(&self) -> Option<u64> {
        match self {
            Self::Selecting(exchange) | Self::Requesting(exchange, _) => Some(exchange.began),
            _ => None,
        }
    }
}

/// The transition. Replies to somebody else, repeated ones, and early events change nothing.
pub fn step(state: State, event: Event, now: Moment) -> (State, Command) {
    match event {
        Event::Carrier(up) => carrier(state, up, now),
        Event::Due if state.due().is_some_and(|due| due <= now.ms) => due(state, now),
        Event::Reply(reply) => answer(state, reply, now),
        Event::Due => (state, Command::Nothing),
    }
}

fn carrier(state: State, up: bool, now: Moment) -> (State, Command) {
    match (state, up) {
        (State::NoLink, true) => ask(State::Selecting, Exchange::new(now), now),
        (State::Selecting(_) | State::Requesting(..), false) => (State::NoLink, Command::Nothing),
        // A lease outlives a cable that is pulled and put back.
        (state, _) => (state, Command::Nothing),
    }
}

fn due(state: State, now: Moment) -> (State, Command) {
    match state {
        State::NoLink => (State::NoLink, Command::Nothing),
        State::Selecting(exchange) => ask(State::Selecting, exchange, now),
        State::Requesting(exchange, offer) if exchange.asked < REQUESTS => {
            ask(|exchange| State::Requesting(exchange, offer), exchange, now)
        }
        State::Requesting(exchange, _) => {
            ask(State::Selecting, Exchange { began: exchange.began, ..Exchange::new(now) }, now)
        }
        State::Bound(held) => ask(|exchange| State::Renewing(exchange, held), Exchange::new(now), now),
        State::Renewing(exchange, held) => match held.times() {
            Some(times) if now.ms >= times.rebind => {
                ask(|exchange| State::Rebinding(exchange, held), Exchange::new(now), now)
            }
            _ => ask(|exchange| State::Renewing(exchange, held), exchange, now),
        },
        State::Rebinding(exchange, held) => match held.times() {
            Some(times) if now.ms >= times.expiry => {
                (State::Selecting(Exchange::new(now)), Command::Leave(Why::Expired))
            }
            _ => ask(|exchange| State::Rebinding(exchange, held), exchange, now),
        },
    }
}

fn answer(state: State, reply: Reply, now: Moment) -> (State, Command) {
    match (state, reply.kind) {
        (State::Selecting(exchange), Kind::Offer(offer)) if exchange.expects(reply.xid) => {
            let exchange = Exchange { asked: 0, ..exchange };
            ask(|exchange| State::Requesting(exchange, offer), exchange, now)
        }
        (State::Requesting(exchange, offer), Kind::Ack(granted))
            if exchange.expects(reply.xid) && granted.server == offer.server =>
        {
            bind(exchange, granted)
        }
        (State::Requesting(exchange, offer), Kind::Nak { server, why })
            if exchange.expects(reply.xid) && server.is_none_or(|server| server == offer.server) =>
        {
            // Not at once: a server that always offers and refuses must not be flooded.
            let fresh = Exchange { began: exchange.began, due: now.ms + wait(1, now.random), ..Exchange::new(now) };
            (State::Selecting(fresh), Command::Refused(Why::Nak(why)))
        }
        (State::Renewing(exchange, _) | State::Rebinding(exchange, _), Kind::Ack(granted))
            if exchange.expects(reply.xid) =>
        {
            bind(exchange, granted)
        }
        (State::Renewing(exchange, _) | State::Rebinding(exchange, _), Kind::Nak { why, .. })
            if exchange.expects(reply.xid) =>
        {
            (State::Selecting(Exchange::new(now)), Command::Leave(Why::Nak(why)))
        }
        (state, _) => (state, Command::Nothing),
    }
}

/// The time of a lease runs from its request, not from its arrival (RFC 2131 §4.4.1).
fn bind(exchange: Exchange, granted: Granted) -> (State, Command) {
    (State::Bound(Held { granted: granted.clone(), since: exchange.asked_at }), Command::Take(granted))
}

fn ask(into: impl FnOnce(Exchange) -> State, exchange: Exchange, now: Moment) -> (State, Command) {
    let asked = exchange.asked + 1;
    let exchange = Exchange { asked, asked_at: now.ms, due: now.ms + wait(asked, now.random), ..exchange };
    let (xid, secs) = (exchange.xid, u16::try_from((now.ms - exchange.began) / 1000).unwrap_or(u16::MAX));
    let mut state = into(exchange);
    let ask = match &mut state {
        State::NoLink | State::Bound(_) => return (state, Command::Nothing),
        State::Selecting(_) => Ask::discover(xid, secs),
        State::Requesting(_, offer) => Ask::request(xid, secs, offer.address, offer.server),
        State::Renewing(exchange, held) => {
            exchange.due = held.ask_again(now.ms, |times| times.rebind);
            Ask::prolong(xid, secs, held.granted.address, held.granted.server)
        }
        State::Rebinding(exchange, held) => {
            exchange.due = held.ask_again(now.ms, |times| times.expiry);
            Ask::prolong(xid, secs, held.granted.address, Ipv4Addr::BROADCAST)
        }
    };
    (state, Command::Ask(ask))
}

/// Doubling, capped, and a quarter more or less, so that a rack that is switched on does not speak in chorus.
fn wait(asked: u32, random: u32) -> u64 {
    let base = (FIRST_WAIT << asked.saturating_sub(1).min(16)).min(LONGEST_WAIT);
    base * 3 / 4 + u64::from(random) % (base / 2)
}

impl Exchange {
    /// A new question, due at once.
    fn new(now: Moment) -> Self {
        Self { xid: now.random, began: now.ms, asked: 0, asked_at: now.ms, due: now.ms }
    }

    /// Something was asked, and this answers it.
    fn expects(&self, xid: u32) -> bool {
        self.asked > 0 && self.xid == xid
    }
}

/// On the client's clock.
struct Times {
    renew: u64,
    rebind: u64,
    expiry: u64,
}

impl Held {
    /// None for a lease without end.
    fn times(&self) -> Option<Times> {
        let terms = self.granted.terms()?;
        let at = |seconds: u32| self.since + u64::from(seconds) * 1000;
        Some(Times { renew: at(terms.renew), rebind: at(terms.rebind), expiry: at(terms.lease) })
    }

    /// Half of what remains, but no sooner than a minute, and no later than the end of the state.
    fn ask_again(&self, now: u64, end: impl FnOnce(&Times) -> u64) -> u64 {
        let end = self.times().map_or(u64::MAX, |times| end(&times));
        end.min(now + RENEW_WAIT.max(end.saturating_sub(now) / 2))
    }
}

#[cfg(test)]
mod tests;
