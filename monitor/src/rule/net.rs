//! A set of address ranges: sorted, merged, searched by halving.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses, as ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl NetSet {
    /// The set of every address in any of `nets`.
    pub fn of(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self {
            v4: merge(v4, |end: u32| end.checked_add(1)),
            v6: merge(v6, |end: u128| end.checked_add(1)),
        }
    }

    /// Whether `ip` is in the set. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => find(&self.v4, Ipv4Addr::to_bits(ip)),
            IpAddr::V6(ip) => find(&self.v6, Ipv6Addr::to_bits(ip)),
        }
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// A network as people write one: `10.0.0.0/8`, or a bare address for itself.
pub(crate) fn parse_net(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(net) => Some(net),
        Err(_) => text.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical())),
    }
}

fn merge<T: Copy + Ord>(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            Some((_, last)) if after(*last).is_none_or(|next| start <= next) => {
                *last = (*last).max(end);
            }
            _ => merged.push((start, end)),
        }
    }
    merged.into()
}

fn find<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let at = ranges.partition_point(|(start, _)| *start <= value);
    at > 0 && value <= ranges[at - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_networks_are_one_range() {
        let nets = ["10.0.1.0/24", "10.0.0.0/24", "10.0.0.0/25", "255.255.255.255", "0.0.0.0/32"];
        let set = NetSet::of(nets.iter().filter_map(|text| parse_net(text)));
        assert_eq!(set.v4.len(), 3);
        assert!(set.contains("10.0.1.7".parse().expect("an address")));
        assert!(!set.contains("10.0.2.0".parse().expect("an address")));
    }

    #[test]
    fn a_mapped_address_is_found_as_ipv4() {
        let set = NetSet::of(parse_net("10.0.0.0/8"));
        assert!(set.contains("::ffff:10.1.2.3".parse().expect("an address")));
        assert!(!set.contains("::10.1.2.3".parse().expect("an address")));
    }

    proptest::proptest! {
        #[test]
        fn membership_is_that_of_the_networks(
            nets in proptest::collection::vec((0u32..64, 26u8..=32), 0..12),
            address in 0u32..64,
        ) {
            let nets: Vec<IpNet> = nets
                .into_iter()
                .filter_map(|(bits, len)| IpNet::new(Ipv4Addr::from_bits(bits).into(), len).ok())
                .collect();
            let ip = IpAddr::from(Ipv4Addr::from_bits(address));
            let want = nets.iter().any(|net| net.contains(&ip));
            assert_eq!(NetSet::of(nets).contains(ip), want);
        }
    }
}
