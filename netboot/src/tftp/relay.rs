//! A link that loses one datagram in twenty and takes 200 ms there and back, in user space: what firmware has across
//! subnets. The pattern of losses is fixed, so that a test that fails fails again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const ONE_WAY: Duration = Duration::from_millis(100);

/// A relay for one client. Ends when dropped.
pub(super) struct Relay {
    pub address: SocketAddr,
    pub lost: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// To a server; the client of the first datagram is the only one.
    pub(super) async fn to(server: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let address = front.local_addr().unwrap();
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let task = tokio::spawn(async move {
            let (mut a, mut b) = ([0; 2048], [0; 2048]);
            let (mut client, mut transfer, mut count) = (None, server, 0_u64);
            loop {
                let (bytes, socket, to) = tokio::select! {
                    Ok((length, from)) = front.recv_from(&mut a) => {
                        client = Some(from);
                        (a[..length].to_vec(), &back, transfer)
                    }
                    Ok((length, from)) = back.recv_from(&mut b) => {
                        transfer = from;
                        let Some(client) = client else { continue };
                        (b[..length].to_vec(), &front, client)
                    }
                };
                count += 1;
                // Spread, and not in step with windows.
                if (count * 7919) % 20 == 3 {
                    counter.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let socket = Arc::clone(socket);
                tokio::spawn(async move {
                    tokio::time::sleep(ONE_WAY).await;
                    socket.send_to(&bytes, to).await.unwrap();
                });
            }
        });
        Self { address, lost, task }
    }
}
