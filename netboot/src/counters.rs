//! What Prometheus is told: numbers that only grow, and how many transfers run and wait. No names of machines.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($field:ident, $kind:literal, $name:literal, $help:literal;)*) => {
        /// One number each.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $help] pub $field: Count,)*
        }

        impl Counters {
            /// In the text format of Prometheus.
            pub fn render(&self) -> String {
                let mut text = String::new();
                $(
                    let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {}\n{} {}", $name, $help, $name, $kind, $name, self.$field.get());
                )*
                text
            }
        }
    };
}

counters! {
    discovers, "counter", "ironhook_dhcp_discovers_total", "DISCOVER messages heard.";
    requests, "counter", "ironhook_dhcp_requests_total", "REQUEST messages heard.";
    malformed, "counter", "ironhook_dhcp_malformed_total", "Datagrams on the DHCP ports that are no DHCP.";
    offers, "counter", "ironhook_dhcp_offers_total", "OFFER messages sent with an address.";
    proxy_offers, "counter", "ironhook_dhcp_proxy_offers_total", "OFFER messages sent without an address.";
    acks, "counter", "ironhook_dhcp_acks_total", "ACK messages sent.";
    naks, "counter", "ironhook_dhcp_naks_total", "NAK messages sent.";
    refused, "counter", "ironhook_netboot_refused_total", "Things that were asked for and not given.";
    elsewhere, "counter", "ironhook_dhcp_chose_other_server_total", "Requests to another server from machines that we had offered something.";
    tftp_files, "counter", "ironhook_tftp_files_total", "Files sent to their end.";
    tftp_bytes, "counter", "ironhook_tftp_bytes_total", "Bytes of files that arrived.";
    tftp_broken, "counter", "ironhook_tftp_broken_total", "Transfers that broke off.";
    tftp_running, "gauge", "ironhook_tftp_transfers", "Transfers under way.";
    http_files, "counter", "ironhook_http_files_total", "Files sent to their end.";
    http_bytes, "counter", "ironhook_http_bytes_total", "Bytes of files sent.";
    http_broken, "counter", "ironhook_http_broken_total", "Transfers that broke off.";
    http_running, "gauge", "ironhook_http_transfers", "Transfers of kernels, initramfs and images under way.";
    http_waiting, "gauge", "ironhook_http_transfers_waiting", "Transfers that wait for others to end.";
    scripts, "counter", "ironhook_scripts_total", "Boot scripts handed out.";
    loaders_changed, "counter", "ironhook_loaders_changed_total", "Machines that were sent to the next loader after silence.";
}

/// A number.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.many(1);
    }

    /// More.
    pub fn many(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// One less, for gauges.
    pub fn less(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// As of now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let counters = Counters::default();
        counters.discovers.many(3);
        let text = counters.render();
        assert!(text.contains("# TYPE ironhook_dhcp_discovers_total counter\nironhook_dhcp_discovers_total 3\n"));
        assert!(text.lines().all(|line| line.starts_with('#') || line.split(' ').count() == 2), "{text}");
    }
}
