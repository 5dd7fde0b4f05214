//! Debian packages, and why each is wanted. A test that runs against another program adds a row.

/// A Debian package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: &'static str,
    /// What uses it.
    pub(crate) why: &'static str,
}

const fn package(name: &'static str, why: &'static str) -> Package {
    Package { name, why }
}

/// The compiler for the kernel side, as Debian 12 and newer have it (security suite).
pub(crate) const FOR_BPF: &[Package] = &[
    package("rustc-web", "a rustc with BPF targets"),
    package("libstd-rust-web-dev-bpf", "a prebuilt `core` for bpfel-unknown-none"),
    package("rust-web-llvm", "what rustc-web needs to emit bitcode"),
    package("llvm-22-dev", "the LLVM that bpf-linker is built against"),
    package("libpolly-22-dev", "named by llvm-config's link line"),
    package("libzstd-dev", "named by llvm-config's link line"),
    package("zlib1g-dev", "named by llvm-config's link line"),
    package("libxml2-dev", "named by llvm-config's link line"),
];

/// What the demo runs.
pub(crate) const FOR_DEMO: &[Package] = &[
    package("iproute2", "the network namespace with the sink"),
    package("python3", "the training job that is watched"),
];

/// What the test suite runs against. Nothing of it is left running.
pub(crate) const FOR_TESTS: &[Package] = &[
    package("iproute2", "network namespaces"),
    package("python3", "jobs that are watched"),
    package("python3-venv", "NVIDIA's Python binding and schema validators"),
    package("openssl", "certificates and a TLS client for the sinks"),
    package("curl", "/metrics as a person reads it"),
    package("socat", "flows by protocols that nothing else speaks"),
    package("prometheus", "promtool, and scrapes of /metrics"),
    package("prometheus-alertmanager", "the Alertmanager sink"),
    package("rsyslog", "the syslog sink over UDP and TCP"),
    package("rsyslog-gnutls", "the syslog sink over TLS"),
    package("podman", "containers of the suites, as engines make them"),
    package("runc", "containers of the suites, as Kubernetes has them made"),
    package("bpftrace", "the peer in benchmarks"),
    package("xz-utils", "kernel modules as their packages have them"),
    package("e2fsprogs", "a file system in a file"),
    package("btrfs-progs", "a file system that clones files"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_name_each_package_once_and_say_why() {
        for table in [FOR_BPF, FOR_DEMO, FOR_TESTS] {
            let mut names: Vec<_> = table.iter().map(|package| package.name).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "a package is listed twice");
            assert!(table.iter().all(|package| !package.why.is_empty()));
        }
    }

    #[test]
    fn tests_can_run_the_demo() {
        for wanted in FOR_DEMO {
            assert!(FOR_TESTS.iter().any(|package| package.name == wanted.name));
        }
    }
}
