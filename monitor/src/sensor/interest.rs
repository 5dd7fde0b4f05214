//! What is reported whatever its size: names of credentials, of start-up hooks and of escape
//! primitives, and device nodes through which a workload reaches hardware or a tunnel.
//!
//! The kernel side looks at a name, and at the directory's name where that can matter; which of the
//! reported files is what, the enricher tells by the whole path.

use std::fs;

use monitor_common::{
    DIR_NAMES, DIR_PRIVATE, DIR_WRITTEN, MAJOR_ALL, MAJOR_SOME, NAME_ANY, NAME_IN_DIR,
    NAME_WRITTEN, WatchName,
};

use super::SharedMaps;

/// Names of files and directories with what is to be told of them.
const NAMES: &[(u32, &[&str])] = &[
    (
        NAME_ANY,
        &[
            "id_rsa",
            "id_dsa",
            "id_ecdsa",
            "id_ed25519",
            "id_ecdsa_sk",
            "id_ed25519_sk",
            ".netrc",
            "_netrc",
            ".git-credentials",
            ".dockercfg",
            ".pypirc",
            ".npmrc",
            ".pgpass",
            ".vault-token",
            "wallet.dat",
            "shadow",
            "gshadow",
            "application_default_credentials.json",
            "credentials.db",
            "access_tokens.db",
            "accessTokens.json",
            "azureProfile.json",
            "msal_token_cache.json",
            "msal_token_cache.bin",
            "service_principal_entries.json",
            "stored_tokens",
            "token",
        ],
    ),
    (
        NAME_WRITTEN,
        &[
            "authorized_keys",
            "authorized_keys2",
            "ld.so.preload",
            "crontab",
            "sudoers",
            "passwd",
            "release_agent",
            "core_pattern",
            "cgroup.kill",
            "freezer.state",
            "tracing_on",
            "ftrace_enabled",
            "uevent_helper",
            "modprobe",
            "binfmt_misc",
            "register",
            "sitecustomize.py",
            "usercustomize.py",
            ".bashrc",
            ".bash_profile",
            ".profile",
            ".zshrc",
        ],
    ),
    (
        NAME_IN_DIR,
        &[
            "credentials",
            "config",
            "config.json",
            "hosts.yml",
            "auth.json",
            "admin.conf",
            "kubelet.conf",
            "id.json",
        ],
    ),
    (DIR_NAMES | DIR_PRIVATE, &[".aws", ".kube", ".docker"]),
    (DIR_NAMES, &["git", "gh", "containers", "kubernetes", "solana"]),
    (DIR_PRIVATE, &["keystore", "wallets", "gcloud", ".azure", "cache"]),
    (DIR_PRIVATE | DIR_WRITTEN, &[".ssh"]),
    (
        DIR_WRITTEN,
        &[
            "cron.d",
            "cron.hourly",
            "cron.daily",
            "cron.weekly",
            "cron.monthly",
            "crontabs",
            "system",
            "user",
            "autostart",
            "init.d",
            "profile.d",
            "sudoers.d",
            "ld.so.conf.d",
            "modules-load.d",
            "site-packages",
            "dist-packages",
        ],
    ),
];

/// Drivers whose devices are watched whole, as `/proc/devices` names them. Their numbers are given
/// out when they load, but for the fixed ones below.
const DRIVERS: &[&str] = &[
    "nvidia",
    "nvidia-frontend",
    "nvidia-uvm",
    "nvidia-caps",
    "nvidia-caps-imex-channels",
    "nvidia-fs",
    "nvidia-nvswitch",
    "infiniband_verbs",
    "infiniband_mad",
    "infiniband_cm",
    "rdma_cm",
    "kfd",
    "drm",
    "accel",
    "habanalabs",
];

/// Fixed majors (Documentation/admin-guide/devices.txt): NVIDIA, DRM, InfiniBand.
const MAJORS: &[u32] = &[195, 226, 231];

/// Single nodes: `/dev/net/tun`, `/dev/kvm`, `/dev/vhost-vsock` (10:200, 10:232, 10:241), and
/// `/dev/mem`, `/dev/kmem`, `/dev/port` (1:1, 1:2, 1:4).
const NODES: &[(u32, u32)] = &[(10, 200), (10, 232), (10, 241), (1, 1), (1, 2), (1, 4)];

/// Every watched name once, with all that is to be told of it.
fn names() -> Vec<(&'static str, u32)> {
    let mut names: Vec<(&str, u32)> = Vec::new();
    for (bits, list) in NAMES {
        for name in *list {
            match names.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known |= bits,
                None => names.push((name, *bits)),
            }
        }
    }
    names
}

/// What is told of files and directories of this name whatever the rules are.
pub(super) fn bits_of(name: &str) -> u32 {
    names().iter().find(|(known, _)| *known == name).map_or(0, |(_, bits)| *bits)
}

/// Tells the kernel side what is reported whatever its size. Devices of drivers that load later
/// are found when this is called again.
pub fn tell(maps: &mut SharedMaps) {
    for (name, bits) in names() {
        let told = WatchName::new(name.as_bytes()).is_some_and(|key| maps.watch_name(key, bits));
        if !told {
            tracing::warn!(name, "the kernel side does not take this name");
        }
    }
    tell_devices(maps);
}

/// Tells the kernel side which devices are watched, as far as their drivers are loaded.
pub fn tell_devices(maps: &mut SharedMaps) {
    let loaded = fs::read_to_string("/proc/devices").unwrap_or_default();
    for major in MAJORS.iter().copied().chain(majors(&loaded)) {
        maps.watch_major(major, MAJOR_ALL);
    }
    for (major, minor) in NODES {
        maps.watch_major(*major, MAJOR_SOME);
        maps.watch_node(major << 20 | minor);
    }
}

/// Majors of watched drivers in the text of `/proc/devices`: character devices come first.
fn majors(devices: &str) -> Vec<u32> {
    let lines = devices.lines().take_while(|line| !line.starts_with("Block"));
    let rows = lines.filter_map(|line| {
        let (major, name) = line.trim().split_once(' ')?;
        DRIVERS.contains(&name.trim()).then(|| major.parse().ok())?
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel side's own question, in `monitor-ebpf/src/hook/file.rs`.
    fn is_reported(path: &str, is_written: bool, is_private: bool) -> bool {
        let known = names();
        let bits = |name: &str| {
            known.iter().find(|(known, _)| *known == name).map_or(0, |(_, bits)| *bits)
        };
        let mut parts = path.rsplit('/');
        let name = bits(parts.next().unwrap_or_default());
        let directory = bits(parts.next().unwrap_or_default());
        name & NAME_ANY != 0
            || (is_written && name & NAME_WRITTEN != 0)
            || (is_written && directory & DIR_WRITTEN != 0)
            || (is_private && directory & DIR_PRIVATE != 0)
            || (name & NAME_IN_DIR != 0 && directory & DIR_NAMES != 0)
    }

    #[test]
    fn credentials_are_reported_when_read_and_hooks_when_written() {
        for path in [
            "/home/r/.ssh/id_rsa",
            "/home/a/.aws/credentials",
            "/home/r/.kube/config",
            "/home/r/.docker/config.json",
            "/home/r/.cache/huggingface/token",
            "/run/secrets/kubernetes.io/serviceaccount/..2026/token",
            "/home/a/.config/gcloud/application_default_credentials.json",
            "/home/r/.config/gh/hosts.yml",
            "/etc/shadow",
        ] {
            assert!(is_reported(path, false, false), "{path}");
        }
        assert!(is_reported("/home/r/.ssh/deploy_key", false, true));
        for path in [
            "/usr/lib/python3/dist-packages/x.pth",
            "/opt/venv/lib/python3.12/site-packages/sitecustomize.py",
            "/home/r/.ssh/authorized_keys",
            "/etc/cron.d/job",
            "/etc/systemd/system/x.service",
            "/proc/sys/kernel/core_pattern",
            "/sys/fs/cgroup/rdma/release_agent",
            "/etc/ld.so.preload",
        ] {
            assert!(is_reported(path, true, false), "{path}");
        }
        for path in [
            "/srv/repo/.git/config",
            "/models/llama/config.json",
            "/usr/lib/python3/dist-packages/x.pth",
            "/etc/passwd",
            "/usr/lib/libc.so.6",
        ] {
            assert!(!is_reported(path, false, false), "{path}");
        }
    }

    #[test]
    fn every_name_fits_its_key() {
        for (name, _) in names() {
            assert!(WatchName::new(name.as_bytes()).is_some(), "{name}");
        }
        assert!(names().len() <= monitor_common::WATCH_NAMES_MAX as usize);
    }

    #[test]
    fn drivers_are_found_among_the_character_devices_only() {
        let text = "Character devices:\n  1 mem\n195 nvidia\n511 nvidia-uvm\n226 drm\n\n\
                    Block devices:\n  7 drm\n";
        assert_eq!(majors(text), [195, 511, 226]);
        assert!(majors("").is_empty());
    }
}
