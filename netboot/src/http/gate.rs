//! How many big files are sent at once, in all and to one subnet: a rack that powers on together must not starve the
//! rest of the network. Who comes later waits in order, visibly; small files and scripts never wait.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::counters::Counters;

/// Limits of transfers that run at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// In all.
    pub transfers: usize,
    /// To one /24 (IPv6: /64).
    pub per_subnet: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { transfers: 256, per_subnet: 256 }
    }
}

/// Lets through as many as the caps say.
pub(super) struct Gate {
    all: Arc<Semaphore>,
    subnets: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    caps: Caps,
}

/// Held while bytes flow.
pub(super) struct Pass {
    _permits: Vec<OwnedSemaphorePermit>,
    _subnet: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.counters.http_running.less();
    }
}

/// Counted down however the waiting ends, even when the client goes away.
struct Waiting(Arc<Counters>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.http_waiting.less();
    }
}

impl Gate {
    pub(super) fn new(caps: Caps) -> Self {
        Self { all: Arc::new(Semaphore::new(caps.transfers.max(1))), subnets: Mutex::default(), caps }
    }

    /// Waits for its turn. The subnet comes first, so that a waiting rack holds nothing of what others need.
    pub(super) async fn enter(&self, peer: SocketAddr, counters: &Arc<Counters>) -> Option<Pass> {
        let subnet = self.subnet(peer);
        let waiting = (subnet.available_permits() == 0 || self.all.available_permits() == 0).then(|| {
            counters.http_waiting.one();
            tracing::info!(%peer, transfers = self.caps.transfers, per_subnet = self.caps.per_subnet, "HTTP: waits for others to end");
            Waiting(Arc::clone(counters))
        });
        // Never closed, so never an error.
        let here = Arc::clone(&subnet).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        drop(waiting);
        counters.http_running.one();
        Some(Pass { _permits: vec![here, all], _subnet: subnet, counters: Arc::clone(counters) })
    }

    fn subnet(&self, peer: SocketAddr) -> Arc<Semaphore> {
        let network = match peer.ip().to_canonical() {
            IpAddr::V4(address) => IpAddr::from((address.to_bits() & 0xffff_ff00).to_be_bytes()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        };
        let mut table = self.subnets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = table.get(&network).and_then(Weak::upgrade) {
            return there;
        }
        table.retain(|_, subnet| subnet.strong_count() > 0);
        let new = Arc::new(Semaphore::new(self.caps.per_subnet.max(1)));
        table.insert(network, Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_later_waits_visibly_and_other_subnets_do_not() {
        let counters = Arc::<Counters>::default();
        let gate = Arc::new(Gate::new(Caps { transfers: 3, per_subnet: 1 }));
        let peer = |text: &str| format!("{text}:1").parse::<SocketAddr>().unwrap();
        let first = gate.enter(peer("10.0.0.1"), &counters).await.unwrap();
        let other = gate.enter(peer("10.0.1.1"), &counters).await.unwrap();
        let task = tokio::spawn({
            let (gate, counters) = (Arc::clone(&gate), Arc::clone(&counters));
            async move { gate.enter(peer("10.0.0.2"), &counters).await }
        });
        while counters.http_waiting.get() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(counters.http_running.get(), 2);
        drop(first);
        let second = task.await.unwrap();
        assert_eq!((counters.http_running.get(), counters.http_waiting.get()), (2, 0));
        drop((second, other));
        assert_eq!(counters.http_running.get(), 0);
        gate.subnet(peer("10.0.9.1"));
        assert_eq!(gate.subnets.lock().unwrap().len(), 1, "subnets that nobody uses are forgotten");
    }
}
