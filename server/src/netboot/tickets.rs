//! Boot tickets: minted when a script is rendered, known here by their digest only, good for fifteen minutes and once.
//! What they are exchanged for, and where they are demanded, comes with the machines' identity.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use spec::{Mac, Secret};
use uuid::Uuid;

const GOOD_FOR: Duration = Duration::from_secs(15 * 60);
/// Of one machine at the same time: its loader and its kernel may each have asked for a script.
const EACH: usize = 4;

/// A digest, and until when it is good.
type Ticket = (Vec<u8>, Instant);

/// Those that are still good.
#[derive(Default)]
pub struct Tickets(Mutex<HashMap<Mac, Vec<Ticket>>>);

impl Tickets {
    /// A new one.
    pub fn mint(&self, mac: Mac, now: Instant) -> Secret {
        let text = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, list| {
            list.retain(|(_, until)| *until > now);
            !list.is_empty()
        });
        let list = table.entry(mac).or_default();
        if list.len() == EACH {
            list.remove(0);
        }
        list.push((digest(&text), now + GOOD_FOR));
        Secret::new(text)
    }

    /// Whose it is, if it is good; and then never again.
    #[allow(dead_code, reason = "the exchange is the next issue's; its tests hold the promise until then")]
    pub fn redeem(&self, ticket: &Secret, now: Instant) -> Option<Mac> {
        let wanted = digest(ticket.expose());
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.iter_mut().find_map(|(mac, list)| {
            let at = list.iter().position(|(digest, until)| *digest == wanted && *until > now)?;
            list.remove(at);
            Some(*mac)
        })
    }
}

fn digest(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_for_a_quarter_of_an_hour() {
        let (tickets, mac, now) = (Tickets::default(), Mac::new([2, 0, 0, 0, 0, 1]), Instant::now());
        let (first, second) = (tickets.mint(mac, now), tickets.mint(mac, now));
        assert_ne!(first.expose(), second.expose());
        assert_eq!(tickets.redeem(&first, now), Some(mac));
        assert_eq!(tickets.redeem(&first, now), None);
        assert_eq!(tickets.redeem(&second, now + GOOD_FOR), None);
        for _ in 0..100 {
            tickets.mint(mac, now);
        }
        assert_eq!(tickets.0.lock().unwrap()[&mac].len(), EACH);
    }
}
