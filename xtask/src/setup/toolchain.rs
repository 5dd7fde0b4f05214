//! The BPF toolchain: a compiler with a `core` for BPF, and bpf-linker.
//!
//! In this order: what `GPUWARDEN_BPF_TOOLCHAIN` names, Debian's packages, rustup's nightly.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;

use super::{Report, apt, package};
use crate::child;
use crate::tree::Tree;

/// The variable that `monitor/build.rs` reads.
const VARIABLE: &str = "GPUWARDEN_BPF_TOOLCHAIN";
/// The name under which rustup knows Debian's compiler; `monitor/build.rs` takes it by default.
const LINKED: &str = "gpuwarden-bpf";
/// The name under which rustup knows the compiler that builds `core` itself.
const NIGHTLY: &str = "nightly";
/// The bpf-linker that aya-build 0.2 works with.
const LINKER_VERSION: &str = "0.13";
/// Where Debian's LLVM 22 is.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// Debian's `core` for BPF.
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

/// A complete toolchain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Toolchain {
    /// rustup's name of the compiler.
    name: String,
    /// Where bpf-linker is.
    linker: PathBuf,
}

impl Toolchain {
    /// One line for people.
    pub(crate) fn describe(&self) -> String {
        format!("rustup toolchain `{}`, {}", self.name, self.linker.display())
    }

    /// Makes a child's build use it.
    pub(crate) fn export(&self, command: &mut Command) {
        command.env(VARIABLE, &self.name).env("PATH", self.path());
    }

    fn path(&self) -> OsString {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let Some(directory) = self.linker.parent() else { return path };
        let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
        if !directories.iter().any(|known| known == directory) {
            directories.insert(0, directory.to_path_buf());
        }
        std::env::join_paths(directories).unwrap_or(path)
    }
}

/// The toolchain that is complete here, if any.
pub(crate) fn find() -> Result<Option<Toolchain>> {
    let Some(linker) = find_linker() else { return Ok(None) };
    if let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
        let name = name.to_string_lossy().into_owned();
        if toolchain_directory(&name).is_none() {
            bail!("{VARIABLE} names `{name}`, which `rustup toolchain list` does not have");
        }
        return Ok(Some(Toolchain { name, linker }));
    }
    for (name, is_complete) in [(LINKED, has_linked()), (NIGHTLY, has_nightly())] {
        if is_complete {
            return Ok(Some(Toolchain { name: name.to_owned(), linker }));
        }
    }
    Ok(None)
}

/// Finds a toolchain, or installs the one that suits this host.
pub(crate) fn ensure(tree: &Tree, report: &mut Report) -> Result<Toolchain> {
    if let Some(toolchain) = find()? {
        report.found("bpf toolchain", &toolchain.describe());
        return Ok(toolchain);
    }
    if child::capture(Command::new("rustup").arg("--version")).is_err() {
        bail!("rustup is missing; install it from https://rustup.rs, then try again");
    }
    let logs = tree.logs()?;
    if debian_can(&logs) {
        ensure_debian(&logs, report)?;
    } else {
        ensure_nightly(&logs, report)?;
    }
    match find()? {
        Some(toolchain) => {
            report.found("bpf toolchain", &toolchain.describe());
            Ok(toolchain)
        }
        None => bail!(
            "every step of the installation succeeded, and still no BPF toolchain is complete: \
             {DEBIAN_CORE}, rustup's `{LINKED}` or `{NIGHTLY}`, bpf-linker {LINKER_VERSION}; \
             logs are in {}",
            logs.display()
        ),
    }
}

fn debian_can(logs: &Path) -> bool {
    if !apt::is_here() {
        return false;
    }
    // A fresh image has no package lists at all.
    apt::knows("libstd-rust-web-dev-bpf")
        || (child::is_root()
            && apt::update(&logs.join("apt.log")).is_ok()
            && apt::knows("libstd-rust-web-dev-bpf"))
}

fn ensure_debian(logs: &Path, report: &mut Report) -> Result<()> {
    let names: Vec<&str> = package::FOR_BPF.iter().map(|package| package.name).collect();
    let missing = apt::missing(&names)?;
    if !missing.is_empty() {
        let start = Instant::now();
        report.begin(&format!("apt-get install {} (about 210 MB)", missing.join(" ")));
        apt::install(&missing, &logs.join("apt.log"))?;
        report.installed("packages", &missing.join(" "), start);
    }
    if !has_linked() {
        let start = Instant::now();
        // /usr has no cargo: rustup then runs another toolchain's cargo with this rustc.
        let mut link = child::command("rustup");
        link.args(["toolchain", "link", LINKED, "/usr"]);
        child::must_log("rustup toolchain link", &mut link, &logs.join("rustup.log"))?;
        report.installed("compiler", &format!("/usr as rustup toolchain `{LINKED}`"), start);
    }
    if find_linker().is_none() {
        let features = ["--no-default-features", "--features", "llvm-22"];
        install_linker(&features, Some(LLVM_PREFIX), logs, report)?;
    }
    Ok(())
}

fn ensure_nightly(logs: &Path, report: &mut Report) -> Result<()> {
    if !has_nightly() {
        let start = Instant::now();
        report.begin("rustup toolchain install nightly");
        let mut install = child::command("rustup");
        install.args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]);
        install.args(["--component", "rust-src"]);
        child::must_log("rustup toolchain install", &mut install, &logs.join("rustup.log"))?;
        report.installed("compiler", "rustup's nightly with rust-src", start);
    }
    if find_linker().is_none() {
        install_linker(&[], None, logs, report)?;
    }
    Ok(())
}

fn install_linker(
    features: &[&str],
    llvm_prefix: Option<&str>,
    logs: &Path,
    report: &mut Report,
) -> Result<()> {
    let start = Instant::now();
    report.begin("cargo install bpf-linker (one to three minutes)");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut install = child::command(cargo);
    let version = format!("^{LINKER_VERSION}");
    install.args(["install", "bpf-linker", "--locked", "--force", "--version", &version]);
    install.args(features);
    // Outside the tree: its `.cargo/config.toml` is about the kernel programs.
    install.current_dir("/").env_remove("CARGO_TARGET_DIR").env_remove("RUSTC_BOOTSTRAP");
    if let Some(prefix) = llvm_prefix {
        install.env("LLVM_PREFIX", prefix);
    }
    child::must_log("cargo install bpf-linker", &mut install, &logs.join("bpf-linker.log"))?;
    report.installed("bpf-linker", &cargo_bin().display().to_string(), start);
    Ok(())
}

fn has_linked() -> bool {
    has_bpf_core(Path::new(DEBIAN_CORE))
        && Path::new("/usr/bin/rustc").is_file()
        && toolchain_directory(LINKED).is_some()
}

fn has_bpf_core(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn has_nightly() -> bool {
    toolchain_directory(NIGHTLY).is_some_and(|directory| {
        directory.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
    })
}

/// The directory of a rustup toolchain; its name may carry the host's triple.
fn toolchain_directory(name: &str) -> Option<PathBuf> {
    let all = home("RUSTUP_HOME", ".rustup").join("toolchains");
    let exact = all.join(name);
    if exact.is_dir() {
        return Some(exact);
    }
    let with_triple = format!("{name}-{}-unknown-linux-gnu", std::env::consts::ARCH);
    Some(all.join(with_triple)).filter(|directory| directory.is_dir())
}

fn cargo_bin() -> PathBuf {
    home("CARGO_HOME", ".cargo").join("bin")
}

fn home(variable: &str, under_home: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(
        || std::env::home_dir().unwrap_or_else(|| PathBuf::from("/")).join(under_home),
        PathBuf::from,
    )
}

/// A bpf-linker of the right version that starts (it does not when its LLVM is gone).
fn find_linker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::iter::once(cargo_bin()).chain(std::env::split_paths(&path));
    candidates.map(|directory| directory.join("bpf-linker")).find(|linker| {
        linker.is_file()
            && child::capture(Command::new(linker).arg("--version"))
                .is_ok_and(|answer| is_right_linker(&answer))
    })
}

fn is_right_linker(answer: &str) -> bool {
    answer
        .trim()
        .strip_prefix("bpf-linker ")
        .and_then(|version| version.strip_prefix(LINKER_VERSION))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linker_of_another_series_is_refused() {
        assert!(is_right_linker("bpf-linker 0.13.0\n"));
        assert!(!is_right_linker("bpf-linker 0.130.0\n"));
        assert!(!is_right_linker("bpf-linker 0.9.15\n"));
        assert!(!is_right_linker("error while loading shared libraries"));
    }

    #[test]
    fn child_finds_the_linker_first() {
        let toolchain =
            Toolchain { name: "any".to_owned(), linker: PathBuf::from("/nowhere/bin/bpf-linker") };
        let path = toolchain.path();
        let first = std::env::split_paths(&path).next();
        assert_eq!(first.as_deref(), Some(Path::new("/nowhere/bin")));
    }

    #[test]
    fn directory_without_core_is_no_toolchain() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert!(!has_bpf_core(directory.path()));
        fs::write(directory.path().join("libcore-0.rlib"), "").expect("write");
        assert!(has_bpf_core(directory.path()));
    }
}
