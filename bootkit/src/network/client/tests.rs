//! The client's machine against lost, repeated, foreign and refusing answers.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::super::message::{Ask, Granted, Kind, Reply};
use super::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const XID: u32 = 77;

fn at(ms: u64) -> Moment {
    Moment { ms, random: XID }
}

fn given(server: Ipv4Addr) -> Granted {
    Granted {
        address: ADDRESS,
        prefix: 24,
        gateway: None,
        dns: Vec::new(),
        domain: None,
        hostname: None,
        mtu: None,
        server,
        seconds: 800,
        hints: (None, None),
    }
}

fn reply(kind: Kind) -> Event {
    Event::Reply(Reply { xid: XID, kind })
}

fn nak(server: Option<Ipv4Addr>) -> Event {
    reply(Kind::Nak { server, why: Some("no".into()) })
}

fn selecting() -> State {
    step(State::NoLink, Event::Carrier(true), at(1000)).0
}

fn requesting() -> State {
    step(selecting(), reply(Kind::Offer(given(SERVER))), at(1100)).0
}

fn bound() -> State {
    step(requesting(), reply(Kind::Ack(given(SERVER))), at(1200)).0
}

/// At T1, 400 s after the request of 1.1 s.
fn renewing() -> State {
    step(bound(), Event::Due, at(401_100)).0
}

/// At T2, 700 s after the request.
fn rebinding() -> State {
    step(renewing(), Event::Due, at(701_100)).0
}

#[test]
fn the_straight_way() {
    let (state, command) = step(State::NoLink, Event::Carrier(true), at(1000));
    assert_eq!(command, Command::Ask(Ask::discover(XID, 0)));
    let (state, command) = step(state, reply(Kind::Offer(given(SERVER))), at(3100));
    assert_eq!(command, Command::Ask(Ask::request(XID, 2, ADDRESS, SERVER)));
    let (state, command) = step(state, reply(Kind::Ack(given(SERVER))), at(3200));
    assert_eq!(command, Command::Take(given(SERVER)));
    assert_eq!(state.due(), Some(3100 + 400_000));
}

#[test]
fn nothing_changes_for_replies_that_are_foreign_repeated_or_out_of_turn() {
    let foreign = |kind| Event::Reply(Reply { xid: XID + 1, kind });
    let cases = [
        (State::NoLink, reply(Kind::Offer(given(SERVER)))),
        (selecting(), foreign(Kind::Offer(given(SERVER)))),
        (selecting(), reply(Kind::Ack(given(SERVER)))),
        (selecting(), nak(Some(SERVER))),
        (requesting(), reply(Kind::Offer(given(SERVER)))),
        (requesting(), reply(Kind::Offer(given(OTHER)))),
        (requesting(), reply(Kind::Ack(given(OTHER)))),
        (requesting(), foreign(Kind::Ack(given(SERVER)))),
        (requesting(), nak(Some(OTHER))),
        (bound(), reply(Kind::Ack(given(SERVER)))),
        (bound(), reply(Kind::Offer(given(SERVER)))),
        (bound(), nak(Some(SERVER))),
        (bound(), Event::Carrier(false)),
        (renewing(), foreign(Kind::Ack(given(SERVER)))),
        (renewing(), foreign(Kind::Nak { server: Some(SERVER), why: None })),
        (renewing(), Event::Carrier(false)),
        (rebinding(), Event::Carrier(true)),
    ];
    for (state, event) in cases {
        assert_eq!(step(state.clone(), event.clone(), at(1300)), (state, Command::Nothing), "{event:?}");
    }
}

#[test]
fn an_early_timer_does_nothing() {
    for state in [State::NoLink, selecting(), requesting(), bound(), renewing(), rebinding()] {
        let early = at(state.due().map_or(0, |due| due - 1));
        assert_eq!(step(state.clone(), Event::Due, early), (state, Command::Nothing));
    }
}

#[test]
fn discovers_are_repeated_for_ever_with_capped_waits() {
    let (mut state, mut waits) = (selecting(), Vec::new());
    let mut now = 1000;
    for _ in 0..200 {
        let due = state.due().unwrap();
        waits.push(due - now);
        now = due;
        let command;
        (state, command) = step(state, Event::Due, at(now));
        assert!(matches!(command, Command::Ask(_)));
    }
    assert!(waits[0] <= 1250, "{waits:?}");
    assert!(waits.iter().all(|wait| (750..=10_000).contains(wait)), "{waits:?}");
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert_eq!(state.searching_since(), Some(1000));
}

#[test]
fn jitter_stays_within_a_quarter() {
    for random in [0, 1, 499, u32::MAX] {
        assert!((750..=1250).contains(&wait(1, random)));
        assert!((6000..=10_000).contains(&wait(1_000_000, random)));
    }
}

#[test]
fn a_server_that_offers_and_falls_silent_is_given_up() {
    let mut state = requesting();
    let mut requests = 1;
    loop {
        let (next, command) = step(state.clone(), Event::Due, at(state.due().unwrap()));
        state = next;
        match state {
            State::Requesting(..) => requests += 1,
            _ => break assert_eq!(command, Command::Ask(Ask::discover(XID, 11))),
        }
    }
    assert_eq!(requests, REQUESTS);
    assert_eq!(state.searching_since(), Some(1000));
}

#[test]
fn a_refused_request_starts_over_but_not_at_once() {
    for server in [Some(SERVER), None] {
        let (state, command) = step(requesting(), nak(server), at(1200));
        assert_eq!(command, Command::Refused(Why::Nak(Some("no".into()))));
        assert!(state.due().unwrap() >= 1200 + 750, "{state:?}");
        assert!(matches!(state, State::Selecting(_)));
    }
}

#[test]
fn a_link_that_goes_before_the_lease_starts_over() {
    for state in [selecting(), requesting()] {
        assert_eq!(step(state, Event::Carrier(false), at(1300)), (State::NoLink, Command::Nothing));
    }
}

#[test]
fn renewal_asks_its_server_then_anybody_then_ends() {
    let (state, command) = step(bound(), Event::Due, at(401_100));
    assert_eq!(command, Command::Ask(Ask::prolong(XID, 0, ADDRESS, SERVER)));
    assert_eq!(state.due(), Some(401_100 + 150_000));
    let (state, command) = step(state, Event::Due, at(551_100));
    assert_eq!(command, Command::Ask(Ask::prolong(XID, 150, ADDRESS, SERVER)));
    let (state, command) = step(state, Event::Due, at(701_100));
    assert_eq!(command, Command::Ask(Ask::prolong(XID, 0, ADDRESS, Ipv4Addr::BROADCAST)));
    assert!(matches!(state, State::Rebinding(..)));
    let (state, command) = step(state, Event::Due, at(801_100));
    assert_eq!(command, Command::Leave(Why::Expired));
    assert_eq!(state.due(), Some(801_100));
}

#[test]
fn a_prolonged_lease_counts_from_its_request() {
    let (state, command) = step(renewing(), reply(Kind::Ack(given(SERVER))), at(402_000));
    assert_eq!(command, Command::Take(given(SERVER)));
    assert_eq!(state.due(), Some(401_100 + 400_000));
    // Any server may prolong it once any was asked.
    let (state, command) = step(rebinding(), reply(Kind::Ack(given(OTHER))), at(701_200));
    assert_eq!(command, Command::Take(given(OTHER)));
    assert!(matches!(state, State::Bound(_)));
}

#[test]
fn a_lease_that_is_refused_is_left_at_once() {
    for state in [renewing(), rebinding()] {
        let (state, command) = step(state, nak(None), at(702_000));
        assert_eq!(command, Command::Leave(Why::Nak(Some("no".into()))));
        assert_eq!(state.due(), Some(702_000));
    }
}

#[test]
fn a_lease_without_end_is_never_asked_about() {
    let endless = Granted { seconds: u32::MAX, ..given(SERVER) };
    let (state, _) = step(requesting(), reply(Kind::Ack(endless)), at(1200));
    assert_eq!(state.due(), None);
}

fn any_event() -> impl Strategy<Value = Event> {
    let server = prop_oneof![Just(SERVER), Just(OTHER)];
    let granted = (server, any::<u32>(), any::<(Option<u32>, Option<u32>)>())
        .prop_map(|(server, seconds, hints)| Granted { seconds, hints, ..given(server) });
    let kind = prop_oneof![
        granted.clone().prop_map(Kind::Offer),
        granted.prop_map(Kind::Ack),
        any::<bool>().prop_map(|named| Kind::Nak { server: named.then_some(SERVER), why: None }),
    ];
    prop_oneof![
        any::<bool>().prop_map(Event::Carrier),
        Just(Event::Due),
        (prop_oneof![4 => Just(XID), 1 => any::<u32>()], kind)
            .prop_map(|(xid, kind)| Event::Reply(Reply { xid, kind })),
    ]
}

proptest! {
    /// Whatever happens: a lease is taken before it is left, and only a state without a link or an end stands still.
    #[test]
    fn no_order_of_events_confuses_the_machine(
        events in proptest::collection::vec((any_event(), any::<bool>(), 0..100_000u64), 0..200),
    ) {
        let (mut state, mut now, mut held) = (State::NoLink, 0, false);
        for (event, punctual, later) in events {
            // Time goes on: to the next timer, or anywhere.
            now = if punctual { state.due().unwrap_or(now).max(now) } else { now + later };
            let (next, command) = step(state, event, at(now));
            match command {
                Command::Take(_) => held = true,
                Command::Leave(_) => prop_assert!(std::mem::replace(&mut held, false)),
                _ => {}
            }
            let bound = matches!(next, State::Bound(_) | State::Renewing(..) | State::Rebinding(..));
            prop_assert_eq!(bound, held);
            let endless = matches!(&next, State::Bound(held) if held.granted.seconds == u32::MAX);
            prop_assert_eq!(next.due().is_none(), endless || next == State::NoLink);
            state = next;
        }
    }
}
