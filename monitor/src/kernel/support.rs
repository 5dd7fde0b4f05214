//! What must be there at all, checked before anything is loaded: one sentence and an exit code.

use std::path::Path;

use thiserror::Error;

use super::btf::VMLINUX;

/// Why the monitor cannot watch this host. Each has its own exit code.
#[derive(Debug, Error)]
pub enum SupportError {
    /// Not root and without the capabilities.
    #[error(
        "watching needs root (or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_PTRACE and \
         CAP_DAC_READ_SEARCH); this process runs as uid {uid}. Run it with sudo, or use the \
         shipped systemd unit or Helm chart"
    )]
    NotRoot {
        /// Who we are.
        uid: u32,
    },
    /// No type information.
    #[error(
        "{VMLINUX} is not readable: the kernel was built without CONFIG_DEBUG_INFO_BTF=y, or \
         /sys is not mounted; the distribution kernels from 5.10 on have it"
    )]
    NoBtf,
    /// Older than what the programs need.
    #[error("kernel {release} is older than 5.8, the first with ring buffers; use 5.10 or newer")]
    TooOld {
        /// `uname -r`.
        release: String,
    },
    /// The kernel side was left out of this build.
    #[error(
        "this build has no kernel programs (it was made with AYA_BUILD_SKIP=1); \
         build with `cargo xtask build`"
    )]
    NoObject,
    /// No cgroup v2.
    #[error(
        "no cgroup v2 hierarchy is mounted (looked in /proc/self/mounts); mount one with \
         `mount -t cgroup2 none /sys/fs/cgroup/unified` or boot with a unified hierarchy"
    )]
    NoCgroup2,
}

impl SupportError {
    /// The process's exit code for this error.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotRoot { .. } => 77,
            Self::NoBtf => 78,
            Self::TooOld { .. } => 79,
            Self::NoObject => 80,
            Self::NoCgroup2 => 81,
        }
    }
}

/// Checks what must be there, in the order in which a person would mend it.
pub fn check() -> Result<(), SupportError> {
    let uid = rustix::process::geteuid().as_raw();
    if uid != 0 && !has_capabilities() {
        return Err(SupportError::NotRoot { uid });
    }
    let release = release();
    if version(&release).is_some_and(|version| version < (5, 8)) {
        return Err(SupportError::TooOld { release });
    }
    if std::fs::File::open(Path::new(VMLINUX)).is_err() {
        return Err(SupportError::NoBtf);
    }
    Ok(())
}

/// `uname -r`.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Major and minor of a release, `None` when it does not start with two numbers.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Bits of `CapEff` (include/uapi/linux/capability.h): `DAC_READ_SEARCH`, `NET_ADMIN`,
/// `SYS_PTRACE`, `PERFMON`, `BPF`.
const CAPABILITIES: u64 = 1 << 2 | 1 << 12 | 1 << 19 | 1 << 38 | 1 << 39;

fn has_capabilities() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|effective| effective & CAPABILITIES == CAPABILITIES)
}

/// Where the cgroup v2 hierarchy is mounted.
pub fn cgroup2_root() -> Result<std::path::PathBuf, SupportError> {
    let mounts =
        std::fs::read_to_string("/proc/self/mounts").map_err(|_| SupportError::NoCgroup2)?;
    mounts
        .lines()
        .find_map(|line| {
            let mut parts = line.split(' ');
            let (_, at, kind) = (parts.next()?, parts.next()?, parts.next()?);
            (kind == "cgroup2").then(|| at.into())
        })
        .ok_or(SupportError::NoCgroup2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_is_compared_by_number() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.4.0-generic"), Some((5, 4)));
        assert!(version("5.10.0-46").is_some_and(|version| version > (5, 8)));
        assert_eq!(version("mainline"), None);
    }

    #[test]
    fn every_error_has_its_own_exit_code() {
        let codes = [
            SupportError::NotRoot { uid: 1 },
            SupportError::NoBtf,
            SupportError::TooOld { release: String::new() },
            SupportError::NoObject,
            SupportError::NoCgroup2,
        ]
        .map(|error| error.exit_code());
        let unique: std::collections::BTreeSet<_> = codes.into_iter().collect();
        assert_eq!(unique.len(), codes.len());
    }
}
