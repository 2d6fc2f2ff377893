//! One interface as a DHCP client: its socket, and its machine fed with what happens. Sends; decides nothing.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};

use spec::Mac;
use sys::link::{self, LinkError};

use super::client::{Command, Event, Moment, State, Why, step};
use super::interfaces::Interface;
use super::message::{self, Ask, Granted};
use crate::console::Teller;

/// What the service has to do about an interface.
#[derive(Debug)]
pub enum Outcome {
    /// Use this.
    Take(Granted),
    /// Use it no longer.
    Leave(Why),
}

/// An interface that is up.
pub struct Port {
    /// The kernel's name.
    pub name: String,
    /// Its address.
    pub mac: Mac,
    /// Where its client is.
    pub state: State,
    socket: UdpSocket,
}

impl Port {
    /// Brings the interface up. One that is up stays as it is: its link is not bounced.
    pub fn open(interface: &Interface) -> Result<Self, LinkError> {
        link::set_up(&interface.name)?;
        let socket = link::dhcp_socket(&interface.name)?;
        Ok(Self { name: interface.name.clone(), mac: interface.mac, state: State::NoLink, socket })
    }

    /// Lets something happen, and sends what follows from it.
    pub fn feed(&mut self, event: Event, now: Moment, teller: &mut Teller) -> Option<Outcome> {
        let state = std::mem::replace(&mut self.state, State::NoLink);
        let (state, command) = step(state, event, now);
        self.state = state;
        match command {
            Command::Nothing => None,
            Command::Ask(ask) => {
                self.send(&ask, teller);
                None
            }
            Command::Take(granted) => Some(Outcome::Take(granted)),
            Command::Leave(why) => Some(Outcome::Leave(why)),
            Command::Refused(why) => {
                teller.say(format!("network: {}: the dhcp server {}", self.name, describe(&why)));
                None
            }
        }
    }

    /// All that has arrived since the last call. Noise is dropped; answers to us that cannot be used are told once.
    pub fn receive(&self, teller: &mut Teller) -> Vec<Event> {
        let (mut events, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => match message::read(&buffer[..length], self.mac) {
                    Ok(reply) => events.extend(reply.map(Event::Reply)),
                    Err(unusable) => teller.say(format!("network: {}: {unusable}", self.name)),
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return events,
                // An error of the past (the link was down, a server's port closed) is reported once by the kernel
                // and cleared; the question is asked again anyway.
                Err(_) => return events,
            }
        }
    }

    /// What is not sent is as good as lost on the wire: it is sent again.
    fn send(&self, ask: &Ask, teller: &mut Teller) {
        if let Err(error) = self.socket.send_to(&ask.encode(self.mac), (ask.to, 67)) {
            teller.say(format!("network: {}: cannot send to {}: {error}; trying again", self.name, ask.to));
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Why there is no lease, in words.
pub fn describe(why: &Why) -> String {
    match why {
        Why::Expired => "did not prolong the lease before its end".to_owned(),
        Why::Nak(None) => "refused the address".to_owned(),
        Why::Nak(Some(words)) => format!("refused the address: {words}"),
    }
}
