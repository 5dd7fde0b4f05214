//! Names for numbers of the network, and the class of a peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a peer is, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerClass {
    /// This host, through loopback.
    Loopback,
    /// The same link.
    LinkLocal,
    /// A private network: RFC 1918, shared address space (RFC 6598), unique local (RFC 4193).
    Private,
    /// The metadata service of a cloud.
    Metadata,
    /// A group.
    Multicast,
    /// Anywhere else.
    Public,
}

impl PeerClass {
    /// The word used in rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
            Self::Private => "private",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Public => "public",
        }
    }

    /// The class of an address. IPv4 inside IPv6 (mapped, or behind the well-known NAT64 prefix)
    /// is classed as the IPv4 address it reaches.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => match embedded_v4(ip) {
                Some(ip) => Self::of_v4(ip),
                None => Self::of_v6(ip),
            },
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        let [a, b, ..] = ip.octets();
        // Link-local on AWS, GCP, Azure, OCI; and the address Alibaba Cloud uses instead.
        if ip == Ipv4Addr::new(169, 254, 169, 254) || ip == Ipv4Addr::new(100, 100, 100, 200) {
            Self::Metadata
        } else if ip.is_loopback() || ip.is_unspecified() {
            // Connecting to 0.0.0.0 reaches this host on Linux.
            Self::Loopback
        } else if ip.is_link_local() {
            Self::LinkLocal
        } else if ip.is_private() || (a == 100 && (64..128).contains(&b)) {
            Self::Private
        } else if ip.is_multicast() || ip.is_broadcast() {
            Self::Multicast
        } else {
            Self::Public
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        if ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254) {
            Self::Metadata
        } else if ip.is_loopback() || ip.is_unspecified() {
            Self::Loopback
        } else if ip.is_unicast_link_local() {
            Self::LinkLocal
        } else if ip.is_unique_local() {
            Self::Private
        } else if ip.is_multicast() {
            Self::Multicast
        } else {
            Self::Public
        }
    }
}

fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = ip.segments() else { return ip.to_ipv4_mapped() };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}

/// Name of an address family (include/linux/socket.h); `None` for one without a name here.
pub const fn family_name(family: u16) -> Option<&'static str> {
    Some(match family {
        1 => "unix",
        2 => "inet",
        4 => "ipx",
        5 => "appletalk",
        10 => "inet6",
        15 => "key",
        16 => "netlink",
        17 => "packet",
        21 => "rds",
        29 => "can",
        30 => "tipc",
        31 => "bluetooth",
        38 => "alg",
        40 => "vsock",
        41 => "kcm",
        42 => "qipcrtr",
        43 => "smc",
        44 => "xdp",
        45 => "mctp",
        _ => return None,
    })
}

/// Name of a socket type (include/linux/net.h); `None` for one without a name here.
pub const fn socket_type_name(socket_type: u16) -> Option<&'static str> {
    // SOCK_NONBLOCK and SOCK_CLOEXEC stand in the higher bits.
    Some(match socket_type & 0xf {
        1 => "stream",
        2 => "dgram",
        3 => "raw",
        4 => "rdm",
        5 => "seqpacket",
        6 => "dccp",
        10 => "packet",
        _ => return None,
    })
}

/// Name of a transport protocol on a socket of a type; `None` for one without a name here.
pub const fn protocol_name(socket_type: u16, protocol: u16) -> Option<&'static str> {
    Some(match (protocol, socket_type & 0xf) {
        (1 | 58, _) => "icmp",
        (6, _) => "tcp",
        (17, _) => "udp",
        (33, _) => "dccp",
        (132, _) => "sctp",
        (136, _) => "udplite",
        (255, _) | (_, 3) => "raw",
        (262, _) => "mptcp",
        _ => return None,
    })
}

/// Name of a DNS record type (IANA, DNS parameters); `None` for one without a name here.
pub(super) const fn query_type_name(query_type: u16) -> Option<&'static str> {
    Some(match query_type {
        1 => "a",
        2 => "ns",
        5 => "cname",
        6 => "soa",
        10 => "null",
        12 => "ptr",
        15 => "mx",
        16 => "txt",
        28 => "aaaa",
        33 => "srv",
        64 => "svcb",
        65 => "https",
        255 => "any",
        _ => return None,
    })
}

/// Suffixes of names that only miners resolve.
const POOL_SUFFIXES: &[&str] = &[
    "nicehash.com",
    "2miners.com",
    "nanopool.org",
    "f2pool.com",
    "herominers.com",
    "woolypooly.com",
    "unmineable.com",
    "hashvault.pro",
    "supportxmr.com",
    "moneroocean.stream",
    "c3pool.com",
    "k1pool.com",
    "ravenminer.com",
    "kryptex.network",
    "minexmr.com",
    "ethermine.org",
    "flexpool.io",
    "miningpoolhub.com",
    "dwarfpool.com",
    "prohashing.com",
    "zpool.ca",
];

/// Whether a name is a known mining pool or below one. The name is lower case.
pub fn is_pool_name(name: &str) -> bool {
    POOL_SUFFIXES.iter().any(|suffix| {
        name.strip_suffix(suffix).is_some_and(|front| front.is_empty() || front.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_classed() {
        for (ip, class) in [
            ("127.0.0.1", "loopback"),
            ("0.0.0.0", "loopback"),
            ("::1", "loopback"),
            ("169.254.169.254", "metadata"),
            ("fd00:ec2::254", "metadata"),
            ("::ffff:169.254.169.254", "metadata"),
            ("64:ff9b::a9fe:a9fe", "metadata"),
            ("169.254.1.1", "link_local"),
            ("fe80::1", "link_local"),
            ("10.1.2.3", "private"),
            ("100.64.0.1", "private"),
            ("100.127.255.255", "private"),
            ("100.128.0.1", "public"),
            ("fd12::1", "private"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "multicast"),
            ("ff02::1", "multicast"),
            ("198.51.100.7", "public"),
            ("64:ff9b::c633:6407", "public"),
            ("2001:db8::1", "public"),
        ] {
            assert_eq!(PeerClass::of(ip.parse().unwrap()).as_str(), class, "{ip}");
        }
    }

    #[test]
    fn pool_names_match_whole_labels_only() {
        assert!(is_pool_name("eth.2miners.com"));
        assert!(is_pool_name("nanopool.org"));
        assert!(!is_pool_name("notnanopool.org"));
        assert!(!is_pool_name("nanopool.org.example.com"));
    }

    #[test]
    fn protocols_have_the_names_of_the_catalogue() {
        assert_eq!(protocol_name(1, 6), Some("tcp"));
        assert_eq!(protocol_name(1, 262), Some("mptcp"));
        assert_eq!(protocol_name(3, 99), Some("raw"));
        assert_eq!(protocol_name(2, 99), None);
        assert_eq!(socket_type_name(2 | 0o4_000), Some("dgram"));
        assert_eq!(family_name(40), Some("vsock"));
    }
}
