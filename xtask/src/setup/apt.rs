//! Debian's package manager.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::child;

/// Whether this host has it.
pub(crate) fn is_here() -> bool {
    Path::new("/usr/bin/apt-get").is_file()
}

/// Whether the package lists know `name`, from whatever was last downloaded.
pub(crate) fn knows(name: &str) -> bool {
    let listing =
        child::capture(Command::new("apt-cache").args(["show", "--no-all-versions", name]));
    listing.is_ok_and(|text| text.contains("Package:"))
}

/// Those of `names` that are not installed.
pub(crate) fn missing(names: &[&str]) -> Result<Vec<String>> {
    // dpkg-query fails when it does not know one of the names, and still lists the others.
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(names)
        .output()
        .context("start dpkg-query")?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(missing_from(&listing, names))
}

fn missing_from(listing: &str, names: &[&str]) -> Vec<String> {
    let is_installed =
        |name: &str| listing.lines().any(|line| line.split_once(' ') == Some((name, "installed")));
    names.iter().filter(|name| !is_installed(name)).map(|name| (*name).to_owned()).collect()
}

/// Downloads the package lists.
pub(crate) fn update(log: &Path) -> Result<()> {
    require_root("apt-get update")?;
    child::must_log("apt-get update", &mut apt_get(&["update"]), log)?;
    Ok(())
}

/// Installs packages, and starts none of the services in them.
pub(crate) fn install(names: &[String], log: &Path) -> Result<()> {
    let line = format!("apt-get install --no-install-recommends {}", names.join(" "));
    require_root(&line)?;
    let _quiet = ServiceBan::impose()?;
    // A package that would push out another one is a person's decision.
    let mut arguments = vec!["install", "--yes", "--no-remove", "--no-install-recommends"];
    arguments.extend(names.iter().map(String::as_str));
    // Lists that are old name files that are gone: the first failure brings them up to date.
    let first = child::run_logged("apt-get install", &mut apt_get(&arguments), log)?;
    if first.status.success() {
        return Ok(());
    }
    update(log)?;
    child::must_log(&line, &mut apt_get(&arguments), log)?;
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = child::command("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet").args(arguments);
    command
}

fn require_root(line: &str) -> Result<()> {
    if child::is_root() {
        return Ok(());
    }
    bail!("installing packages needs root; run this, then try again: sudo {line}")
}

/// Debian asks `/usr/sbin/policy-rc.d` before it starts a service of a new package.
struct ServiceBan {
    is_ours: bool,
}

/// Where Debian looks for the policy (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

impl ServiceBan {
    fn impose() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { is_ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("write {POLICY}"))?;
        let ban = Self { is_ours: true };
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("make {POLICY} executable"))?;
        Ok(ban)
    }
}

impl Drop for ServiceBan {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("warning: {POLICY} stays and keeps services from starting: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_that_left_its_configuration_behind_is_missing() {
        let listing = "socat installed\nrunc config-files\n";
        assert_eq!(missing_from(listing, &["socat", "runc", "podman"]), ["runc", "podman"]);
    }
}
