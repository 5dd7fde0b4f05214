//! Another end for flows: a network namespace behind a veth pair, with public addresses of
//! TEST-NET-2 (RFC 5737) that nobody else has.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::child;

/// This host's address.
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// A peer that no profile allows.
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// A peer that the demo's profiles allow.
const STORE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 3);
/// This host and the stranger, of the prefix for documentation (RFC 3849).
const HOST6: &str = "2001:db8::1/64";
const STRANGER6: &str = "2001:db8::2/64";
/// Where clouds serve metadata; on the far side only, so that this host's own stays reachable.
const METADATA: &str = "169.254.169.254/32";
/// Last numbers of more strangers.
const CROWD: std::ops::RangeInclusive<u8> = 20..=39;
/// The network of the three.
const NETWORK: &str = "198.51.100.0/24";

/// The namespace and its link.
#[derive(Debug)]
pub(crate) struct Network {
    namespace: String,
    /// Host side of the pair; removing it removes the other side too.
    link: String,
    /// Far side of the pair.
    inner: String,
}

impl Network {
    /// Makes namespace, link and addresses.
    pub(crate) fn create() -> Result<Self> {
        let used = ip(&["-oneline", "addr", "show", "to", NETWORK])?;
        if let Some(line) = used.lines().next() {
            bail!(
                "{NETWORK} is in use on this host, perhaps by another demo: {}; \
                 `ip link delete` it when nobody needs it",
                line.trim()
            );
        }
        // A name of an interface has at most 15 letters (IFNAMSIZ).
        let id = std::process::id();
        let namespace = format!("gpuwarden-{id}");
        let (link, inner) = (format!("gwh{id}"), format!("gwi{id}"));
        ip(&["netns", "add", &namespace])?;
        // From here on, dropping takes down whatever there is.
        let network = Self { namespace, link, inner };
        let Self { namespace, link, inner } = &network;
        ip(&["link", "add", link, "type", "veth", "peer", "name", inner, "netns", namespace])?;
        ip(&["addr", "add", &format!("{HOST}/24"), "dev", link])?;
        ip(&["link", "set", link, "up"])?;
        for address in [STRANGER, STORE] {
            let address = format!("{address}/24");
            ip(&["-netns", namespace, "addr", "add", &address, "dev", inner])?;
        }
        for device in [inner.as_str(), "lo"] {
            ip(&["-netns", namespace, "link", "set", device, "up"])?;
        }
        Ok(network)
    }

    /// This program, as an actor on the far side.
    pub(crate) fn far_actor(&self) -> Result<Command> {
        let own = std::env::current_exe().context("find this program")?;
        let mut command = self.far(own);
        command.arg("actor");
        Ok(command)
    }

    /// A program on the far side.
    pub(crate) fn far(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = child::command("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program.as_ref());
        command
    }

    /// Words before a command that is to run on the far side, but sees this host's files.
    pub(crate) fn enter(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/var/run/netns/{}", self.namespace)]
    }

    /// Adds the second address family, and a crowd of peers that no profile allows.
    pub(crate) fn widen(&self) -> Result<()> {
        // Fast Open in both directions, which a fresh namespace has for clients only.
        let sysctl = "echo 3 > /proc/sys/net/ipv4/tcp_fastopen";
        child::capture(self.far("sh").args(["-c", sysctl]))?;
        let far = |address: &str| {
            let arguments = ["-netns", &self.namespace, "addr", "add", address, "dev", &self.inner];
            ip(&[&arguments[..], if address.contains(':') { &["nodad"] } else { &[] }].concat())
        };
        ip(&["addr", "add", HOST6, "dev", &self.link, "nodad"])?;
        far(STRANGER6)?;
        for last in CROWD {
            far(&format!("198.51.100.{last}/24"))?;
        }
        // A cloud's metadata service, for whoever runs over there.
        ip(&["-netns", &self.namespace, "addr", "add", METADATA, "dev", "lo"])?;
        Ok(())
    }

    /// A port of this host, as the far side reaches it.
    pub(crate) const fn host(port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(HOST, port)
    }

    /// A port of the peer that no profile allows.
    pub(crate) const fn stranger(port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(STRANGER, port)
    }

    /// A port of the peer that the demo's profiles allow.
    pub(crate) const fn store(port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(STORE, port)
    }

    /// The allowed peer as a network.
    pub(crate) fn store_cidr() -> String {
        format!("{STORE}/32")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The link may be missing when its creation failed.
        let _ = ip(&["link", "delete", &self.link]);
        if let Err(error) = ip(&["netns", "delete", &self.namespace]) {
            eprintln!("warning: {error:#}");
        }
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    child::capture(Command::new("ip").args(arguments))
}
