//! Debian packages of other suites, without a trace in this host's own lists: an apt of our own,
//! with its state and its cache in a folder outside the tree.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use crate::child;

/// How old package lists may be.
const LISTS_AGE_MAX: Duration = Duration::from_hours(24);
/// Where Debian keeps the keys of its archives.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The emulator.
const QEMU: &str = "qemu-system-x86_64";

/// The folder for what is fetched once: `$XDG_CACHE_HOME/gpuwarden`.
pub(super) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|base| !base.is_empty()).map_or_else(
        || std::env::home_dir().unwrap_or_else(|| PathBuf::from("/root")).join(".cache"),
        PathBuf::from,
    );
    let folder = base.join("gpuwarden");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// An apt of our own.
pub(super) struct Lists {
    folder: PathBuf,
    log: PathBuf,
}

impl Lists {
    /// Prepares lists of these suites, in a folder of their own; `component` is the part of the
    /// archive, as `main`.
    pub(super) fn open(name: &str, suites: &[String], component: &str, log: &Path) -> Result<Self> {
        if !Path::new("/usr/bin/apt-get").is_file() {
            bail!("this host has no apt-get, and {name} comes as a Debian package");
        }
        let folder = cache()?.join("apt").join(name);
        for part in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(part);
            std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        let (main, security) = archives()?;
        let line = |suite: &String| {
            let archive = if suite.ends_with("-security") { &security } else { &main };
            format!("deb [signed-by={KEYRING}] {archive} {suite} {component}")
        };
        let text = suites.iter().map(line).collect::<Vec<_>>().join("\n") + "\n";
        let sources = folder.join("sources.list");
        let is_known = std::fs::read_to_string(&sources).is_ok_and(|known| known == text);
        if !is_known {
            std::fs::write(&sources, text).with_context(|| sources.display().to_string())?;
            let _stale = std::fs::remove_file(folder.join("updated"));
        }
        Ok(Self { folder, log: log.to_owned() })
    }

    /// Downloads the lists, unless they are young.
    pub(super) fn update(&self) -> Result<()> {
        let stamp = self.folder.join("updated");
        let age = std::fs::metadata(&stamp)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|then| SystemTime::now().duration_since(then).ok());
        if age.is_some_and(|age| age < LISTS_AGE_MAX) {
            return Ok(());
        }
        let mut apt = self.command("apt-get");
        // A suite that is gone must not hide the others.
        apt.args(["--quiet", "update"]);
        child::must_log("package lists of other suites", &mut apt, &self.log)?;
        std::fs::write(&stamp, "").with_context(|| stamp.display().to_string())
    }

    /// Names of packages that match a regular expression.
    pub(super) fn search(&self, pattern: &str) -> Result<Vec<String>> {
        let text = child::capture(self.command("apt-cache").args(["search", "-n", pattern]))?;
        Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// Downloads a package into `folder`. Returns the file.
    pub(super) fn download(&self, package: &str, folder: &Path) -> Result<PathBuf> {
        let _old = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let mut apt = self.command("apt-get");
        apt.current_dir(folder).args(["--quiet", "download", package]);
        child::must_log(&format!("download {package}"), &mut apt, &self.log)?;
        let mut files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
        files
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("{package} was downloaded, and no file is there"))
    }

    /// Installs a package of `suite` on this host, beside what is there.
    fn install(&self, suite: &str, package: &str) -> Result<()> {
        let mut apt = child::command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["--quiet", "--yes", "--no-remove", "--no-install-recommends"]);
        let option =
            |name: &str, part: &str| format!("{name}={}", self.folder.join(part).display());
        apt.args(["-o", &option("Dir::Etc::SourceList", "sources.list")]);
        apt.args(["-o", "Dir::Etc::SourceParts=-"]);
        apt.args(["-o", &option("Dir::State::Lists", "lists")]);
        apt.args(["-t", suite, "install", package]);
        child::must_log(&format!("apt-get install {package} of {suite}"), &mut apt, &self.log)?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = child::command(program);
        for (name, part) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg("-o").arg(format!("{name}={}", self.folder.join(part).display()));
        }
        // The host's own packages are none of our business here, and neither is its sandbox user.
        command.args(["-o", "Dir::Etc::SourceParts=-", "-o", "Dir::State::status=/dev/null"]);
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }
}

/// Where this host gets its packages from: the archive, and the archive of security updates.
fn archives() -> Result<(String, String)> {
    let format = ["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"];
    let text = child::capture(child::command("apt-get").args(format))?;
    let pair = archives_in(&text);
    pair.context("apt-get knows no Debian archive: its sources name none with a security suite")
}

fn archives_in(text: &str) -> Option<(String, String)> {
    let rows: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let (security, release) = rows.iter().find(|(_, release)| release.ends_with("-security"))?;
    let codename = release.strip_suffix("-security")?;
    let (main, _) = rows.iter().find(|(_, release)| *release == codename)?;
    Some(((*main).to_owned(), (*security).to_owned()))
}

/// The release of this host.
pub(super) fn codename() -> Result<String> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(str::to_owned).context("/etc/os-release names no VERSION_CODENAME")
}

/// Finds or installs the emulator.
pub(crate) fn ensure_qemu(logs: &Path) -> Result<()> {
    if child::capture(Command::new(QEMU).arg("--version")).is_ok() {
        return Ok(());
    }
    if !child::is_root() {
        bail!("{QEMU} is missing, and installing it needs root: apt-get install qemu-system-x86");
    }
    let codename = codename().context("install qemu-system-x86 by hand")?;
    // Backports: the emulator of Debian 12 itself pushes out the tools of a newer one.
    let backports = format!("{codename}-backports");
    let suites = [codename.clone(), format!("{codename}-security"), backports.clone()];
    let lists = Lists::open("qemu", &suites, "main", &logs.join("qemu.log"))?;
    eprintln!("  …         apt-get install qemu-system-x86 (about 20 MB)");
    lists.update()?;
    lists.install(&backports, "qemu-system-x86")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_those_of_the_host() {
        let text = "http://near/debian-security/ bookworm-security\n\
                    http://near/debian/ bookworm\nhttp://else/ nodistro\n";
        let pair = archives_in(text).expect("both");
        assert_eq!(pair, ("http://near/debian/".into(), "http://near/debian-security/".into()));
        assert_eq!(archives_in("http://else/ nodistro\n"), None);
    }
}
