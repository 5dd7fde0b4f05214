//! Builds the kernel programs with the toolchain `cargo xtask setup` found, and hands the object to
//! `sensor::loader` through `OUT_DIR`.
//!
//! `AYA_BUILD_SKIP=1` skips the kernel side: the daemon then builds with an empty object and says
//! so when it starts. That is for editing the daemon on a machine without a BPF toolchain.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use aya_build::{Package, Toolchain, build_ebpf};

/// The name under which `cargo xtask setup` links a compiler that has a BPF `core`.
const LINKED_TOOLCHAIN: &str = "gpuwarden-bpf";

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=GPUWARDEN_BPF_TOOLCHAIN");
    println!("cargo:rerun-if-env-changed=AYA_BUILD_SKIP");
    println!("cargo:rerun-if-changed=../monitor-common/src");
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| anyhow!("OUT_DIR is not set"))?;
    let object = Path::new(&out).join("gpuwarden-bpf");
    if std::env::var_os("AYA_BUILD_SKIP").is_some_and(|skip| skip == "1" || skip == "true") {
        std::fs::write(&object, []).context("write the empty BPF object")?;
        return Ok(());
    }
    let toolchain =
        std::env::var("GPUWARDEN_BPF_TOOLCHAIN").unwrap_or_else(|_| LINKED_TOOLCHAIN.to_owned());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitor-ebpf");
    let root = root.to_str().ok_or_else(|| anyhow!("{} is not UTF-8", root.display()))?;
    build_ebpf(
        [Package { name: "monitor-ebpf", root_dir: root, ..Package::default() }],
        Toolchain::Custom(&toolchain),
    )
    .context("build the kernel programs; `cargo xtask setup` installs what they need")
}
