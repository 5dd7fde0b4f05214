//! Which resolvers a host or a workload is configured with: DNS that goes elsewhere is notable.

use std::net::{IpAddr, SocketAddr};

use super::enricher::{Enricher, Observation};
use super::facts::Enriched;
use super::limit::{RESOLVERS_MAX, RESOLVERS_TTL_NS};
use crate::model::{BootNs, Tgid};

/// Ports of DNS (RFC 1035) and of DNS over TLS (RFC 7858).
const DNS_PORTS: [u16; 2] = [53, 853];

/// Resolvers that a workload is configured with, and when that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolvers {
    pub(super) addresses: Vec<IpAddr>,
    read: Option<BootNs>,
}

impl Resolvers {
    /// Whether a resolver's names are believed: it is one of the workload's own, or no
    /// configuration could be read.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.contains(&address.to_canonical())
    }
}

/// Reads `nameserver` lines (resolv.conf(5)) into `found`, bounded and without doubles.
pub(super) fn parse(text: &str, found: &mut Vec<IpAddr>) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") || found.len() >= RESOLVERS_MAX {
            continue;
        }
        // A scope behind `%` names an interface.
        let address = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
        if let Some(address) = address.map(|address| address.to_canonical())
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
}

impl Enricher {
    /// A flow to a resolver's port: then it matters whose resolver it is.
    pub(super) fn resolver_asked(
        &mut self,
        remote: Option<SocketAddr>,
        process: Tgid,
        time: BootNs,
        seen: &Observation,
    ) {
        if remote.is_some_and(|remote| DNS_PORTS.contains(&remote.port())) {
            self.learn_resolvers(process, time, seen);
        }
    }

    /// Reads the resolvers of the host and of the process's own view of its files, once in a
    /// while for each workload.
    pub(super) fn learn_resolvers(&mut self, process: Tgid, time: BootNs, seen: &Observation) {
        let Some(workload) = seen.workload.and_then(|it| self.workloads.get_mut(it)) else {
            return;
        };
        let known = &mut workload.resolvers;
        if known.read.is_some_and(|read| time.since(read) < RESOLVERS_TTL_NS) {
            return;
        }
        known.read = Some(time);
        known.addresses = self.source.resolvers(None);
        for address in self.source.resolvers(Some(process)) {
            if !known.addresses.contains(&address) {
                known.addresses.push(address);
            }
        }
    }
}

impl Enriched<'_> {
    fn is_known_resolver(&self, address: IpAddr) -> Option<bool> {
        let known = &self.workload?.resolvers.addresses;
        (!known.is_empty()).then(|| known.contains(&address.to_canonical()))
    }

    /// Whether the resolver that was asked is one of the workload's own; missing where no
    /// configuration could be read.
    pub(super) fn is_own_resolver(&self) -> Option<bool> {
        self.is_known_resolver(self.dns()?.server?)
    }

    /// Whether the peer of a flow is a resolver of the workload, at a resolver's port.
    pub(super) fn is_resolver(&self) -> Option<bool> {
        let remote = self.flow()?.remote?;
        if !DNS_PORTS.contains(&remote.port()) {
            return Some(false);
        }
        self.is_known_resolver(remote.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_and_nothing_else() {
        let text = "# nameserver 9.9.9.9\nsearch a.test\nnameserver 10.96.0.10\n\
                    nameserver fe80::1%eth0\noptions ndots:5\nnameserver not-one\n\
                    nameserver ::ffff:10.96.0.10\n";
        let mut found = Vec::new();
        parse(text, &mut found);
        let expected: Vec<IpAddr> =
            ["10.96.0.10", "fe80::1"].iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(found, expected);
        for n in 0..50 {
            parse(&format!("nameserver 10.0.0.{n}\n"), &mut found);
        }
        assert_eq!(found.len(), RESOLVERS_MAX);
    }
}
