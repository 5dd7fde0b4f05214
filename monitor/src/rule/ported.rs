//! Peers of a profile that are allowed on some ports only, found by port.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::net::NetSet;

/// One peer as it is written.
#[derive(Clone, Debug)]
pub(super) struct PortedPeer {
    /// Its networks; `None` for any address.
    pub(super) nets: Option<Vec<IpNet>>,
    /// Its ports.
    pub(super) ports: Vec<RangeInclusive<u16>>,
}

/// Whoever may be reached on a port.
#[derive(Clone, Debug, Default)]
struct Reach {
    anybody: bool,
    nets: NetSet,
}

impl Reach {
    fn of(peers: &[&PortedPeer]) -> Self {
        let nets = peers.iter().filter_map(|peer| peer.nets.as_ref()).flatten().copied();
        Self { anybody: peers.iter().any(|peer| peer.nets.is_none()), nets: NetSet::of(nets) }
    }

    fn holds(&self, ip: IpAddr) -> bool {
        self.anybody || self.nets.contains(ip)
    }
}

/// Peers by port: the networks of all that name the same port are one set, however many they are.
#[derive(Clone, Debug, Default)]
pub(super) struct PortedPeers {
    single: HashMap<u16, Reach>,
    /// Ranges of more than one port, each once.
    ranges: Vec<(RangeInclusive<u16>, Reach)>,
}

impl PortedPeers {
    pub(super) fn of(peers: &[PortedPeer]) -> Self {
        let mut by_range: BTreeMap<(u16, u16), Vec<&PortedPeer>> = BTreeMap::new();
        for peer in peers {
            for range in &peer.ports {
                by_range.entry((*range.start(), *range.end())).or_default().push(peer);
            }
        }
        let mut all = Self::default();
        for ((first, last), peers) in by_range {
            let reach = Reach::of(&peers);
            if first == last {
                all.single.insert(first, reach);
            } else {
                all.ranges.push((first..=last, reach));
            }
        }
        all
    }

    pub(super) fn allows(&self, ip: IpAddr, port: u16) -> bool {
        self.single.get(&port).is_some_and(|reach| reach.holds(ip))
            || self
                .ranges
                .iter()
                // In order of their first port.
                .take_while(|(ports, _)| *ports.start() <= port)
                .any(|(ports, reach)| ports.contains(&port) && reach.holds(ip))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer() -> impl Strategy<Value = PortedPeer> {
        let net = (any::<u8>(), 24_u8..=32).prop_map(|(last, len)| {
            IpNet::new(IpAddr::from([10, 0, 0, last]), len).expect("a network").trunc()
        });
        let ports = (0_u16..60, 0_u16..6).prop_map(|(first, more)| first..=first + more);
        (prop::option::of(prop::collection::vec(net, 1..4)), prop::collection::vec(ports, 1..4))
            .prop_map(|(nets, ports)| PortedPeer { nets, ports })
    }

    proptest! {
        #[test]
        fn index_allows_what_some_peer_allows(
            peers in prop::collection::vec(peer(), 0..12),
            last: u8,
            port in 0_u16..70,
        ) {
            let ip = IpAddr::from([10, 0, 0, last]);
            let one_by_one = peers.iter().any(|peer| {
                peer.ports.iter().any(|ports| ports.contains(&port))
                    && peer
                        .nets
                        .as_ref()
                        .is_none_or(|nets| nets.iter().any(|net| net.contains(&ip)))
            });
            prop_assert_eq!(PortedPeers::of(&peers).allows(ip, port), one_by_one);
        }
    }
}
