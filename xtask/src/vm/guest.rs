//! A machine in which cases of the evasion suite are played, on the full tier: with the monitor,
//! this tool, the scripts, and the programs of this host that they call.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::image::{Archive, files, libraries};
use super::kernel::MODULES;
use super::machine::Machine;
use super::{LSM_WITH_BPF, LSM_WITHOUT_BPF, build, ensure_qemu, kernel, side_by_side, wanted};
use crate::child;
use crate::tree::Tree;

/// Memory of the machine: the image is some 200 MiB and lies in it twice for a moment.
const MEMORY_MIB: u32 = 2048;
/// How long a machine may take to boot, and for each case: all take three minutes on a quiet host,
/// and ten times that on one that does more.
const BOOT_PATIENCE: Duration = Duration::from_mins(5);
const CASE_PATIENCE: Duration = Duration::from_secs(15);
/// Programs of this host that the suite calls.
const PROGRAMS: &[&str] = &[
    "/usr/bin/bash",
    "/usr/bin/cat",
    "/usr/bin/cp",
    "/usr/bin/curl",
    "/usr/bin/dash",
    "/usr/bin/dd",
    "/usr/bin/env",
    "/usr/bin/mkfifo",
    "/usr/bin/mount",
    "/usr/bin/nsenter",
    "/usr/bin/openssl",
    "/usr/bin/perl",
    "/usr/bin/python3",
    "/usr/bin/sleep",
    "/usr/bin/split",
    "/usr/bin/stat",
    "/usr/bin/tar",
    "/usr/bin/umount",
    "/usr/sbin/ip",
    "/usr/sbin/mkfs.ext4",
];
/// What Python has and no script needs.
const LEFT_OUT: &[&str] =
    &["test", "idlelib", "lib2to3", "ensurepip", "tkinter", "pydoc_data", "dist-packages"];
/// Folders that have two names, and the shell.
const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("usr/bin/sh", "dash"),
    ("var/run", "/run"),
    ("etc/mtab", "/proc/self/mounts"),
];
/// Parts of the source tree that are played from.
const SOURCES: &[&str] =
    &["tests/stand", "tests/evasion", "tests/e2e/actors", "monitor/Cargo.toml"];
/// The library of a case that has one made: there is no compiler.
const LIBRARY: &str = "tests/evasion/steal";
/// Where `openssl` looks for its configuration.
const OPENSSL_CONFIG: &str = "/usr/lib/ssl/openssl.cnf";

/// Which security modules a machine has, by its series: 5.10 is there for the other form of the
/// full tier, on entries of functions.
const WITHOUT_BPF_LSM: &[&str] = &["5.10"];

/// What one machine said.
pub(crate) struct Played {
    /// Its kernel.
    pub(crate) kernel: String,
    /// Everything on its serial port, or why there is nothing.
    pub(crate) text: Result<String>,
}

/// The resolver that the machine is configured with: the one that profiles allow, so that any other
/// is a foreign one.
const RESOLVER: &str = "nameserver 198.51.100.3\n";

/// Boots the newest kernel of each of `series`, plays the cases with these ids there before
/// `monitor`, and returns what was said on the serial ports. `jobs` machines run at once, and as
/// many share the cases of a kernel.
pub(crate) fn play(
    tree: &Tree,
    series: &[String],
    monitor: &Path,
    ids: &[String],
    jobs: usize,
) -> Result<Vec<Played>> {
    let folder = tree.logs()?.join("vm");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    ensure_qemu(&folder)?;
    let found = kernel::find(&wanted(tree, series)?, &folder)?;
    let is_debug = monitor.starts_with(tree.debug(""));
    let init = build(tree, is_debug, &folder)?;
    let system = archive(tree, &init, monitor)?;
    let mut machines = Vec::new();
    for name in series {
        let kernel = found.iter().find(|(series, _)| series.name == *name);
        let kernel = match kernel.map(|(_, kernel)| kernel) {
            Some(Ok(kernel)) => kernel,
            Some(Err(why)) => bail!("kernel {name} cannot be had: {why}"),
            None => bail!("kernel {name} was not looked for"),
        };
        let image = folder.join(format!("suite-{name}.cpio"));
        let whole = system.clone().with_modules(kernel, MODULES)?.finish();
        fs::write(&image, whole).with_context(|| image.display().to_string())?;
        let is_without = WITHOUT_BPF_LSM.contains(&name.as_str());
        let modules = if is_without { LSM_WITHOUT_BPF } else { LSM_WITH_BPF };
        for (at, part) in dealt(ids, jobs).into_iter().enumerate() {
            machines.push(Machine {
                name: format!("{name} evasion {at}"),
                version: kernel.version.clone(),
                kernel: kernel.file.clone(),
                image: image.clone(),
                command_line: format!("{modules} gpuwarden.cases={}", part.join(",")),
                log: folder.join(format!("evasion-{name}-{at}.log")),
                use_kvm: false,
                memory_mib: MEMORY_MIB,
                patience: patience(part.len()),
            });
            eprintln!("  machine   {} for {} cases", kernel.version, part.len());
        }
    }
    let played = side_by_side(&machines, jobs, |machine| Played {
        kernel: machine.version.clone(),
        text: said(machine),
    });
    for machine in &machines {
        let _gone = fs::remove_file(&machine.image);
    }
    Ok(played)
}

fn patience(cases: usize) -> Duration {
    BOOT_PATIENCE + CASE_PATIENCE * u32::try_from(cases).unwrap_or(u32::MAX)
}

/// Ids in as many parts, like cards: long cases stand beside each other.
fn dealt(ids: &[String], parts: usize) -> Vec<Vec<String>> {
    let parts = parts.clamp(1, ids.len().max(1));
    let part = |at| ids.iter().skip(at).step_by(parts).cloned().collect();
    (0..parts).map(part).collect()
}

/// Runs a machine to its end. What it said before it was ended is not lost.
fn said(machine: &Machine) -> Result<String> {
    let (log, has_ended) = (&machine.log, machine.run()?);
    if !has_ended {
        let seconds = machine.patience.as_secs();
        bail!("the machine did not end within {seconds} s: {}", log.display());
    }
    let bytes = fs::read(log).with_context(|| log.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// All that the machines have, but for what belongs to their kernels.
fn archive(tree: &Tree, init: &Path, monitor: &Path) -> Result<Archive> {
    let tool = std::env::current_exe().context("find this program")?;
    let library = monitor.with_file_name("libfake_nvml.so");
    let mut archive = Archive::default();
    archive.mounts();
    for folder in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc"] {
        archive.folder(Path::new(folder));
    }
    for (path, target) in LINKS {
        archive.link(Path::new(path), target);
    }
    archive.bare(Path::new("init"), init)?;
    archive.bare(Path::new("opt/gpuwarden/xtask"), &tool)?;
    archive.bare(Path::new("opt/gpuwarden/gpuwarden"), monitor)?;
    archive.bare(Path::new("opt/gpuwarden/libfake_nvml.so"), &library)?;
    let mut linked = vec![init.to_owned(), tool, monitor.to_owned(), library];
    for program in PROGRAMS {
        let own = fs::canonicalize(program).with_context(|| (*program).to_owned())?;
        // A process is known by the name of its file, as python3.11, and not by that of a link.
        archive.file(own.strip_prefix("/").unwrap_or(&own), &own)?;
        if own != Path::new(program) {
            archive.link(Path::new(&program[1..]), &own.to_string_lossy());
        }
        linked.push(own);
    }
    for file in python()?.into_iter().chain(perl()?) {
        archive.file(file.strip_prefix("/").unwrap_or(&file), &file)?;
        if file.extension().is_some_and(|extension| extension == "so") {
            linked.push(file);
        }
    }
    for library in libraries(&child::capture(Command::new("ldd").args(&linked))?)
        .into_iter()
        .map(|path| merged(&path))
        .collect::<BTreeSet<_>>()
    {
        archive.file(library.strip_prefix("/").unwrap_or(&library), &library)?;
    }
    archive.file(Path::new(&OPENSSL_CONFIG[1..]), Path::new(OPENSSL_CONFIG))?;
    archive.text(Path::new("etc/resolv.conf"), RESOLVER);
    for part in SOURCES {
        for file in files(&tree.path(part), &[])? {
            let place = Path::new("tree").join(file.strip_prefix(tree.root()).unwrap_or(&file));
            archive.file(&place, &file)?;
        }
    }
    let folder = tempfile::tempdir().context("create a temporary directory")?;
    let made = folder.path().join("made.so");
    let source = tree.path(LIBRARY).with_extension("c");
    child::capture(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&made).arg(source))?;
    archive.file(&Path::new("tree").join(LIBRARY).with_extension("so"), &made)?;
    Ok(archive)
}

/// Python's own library.
fn python() -> Result<Vec<PathBuf>> {
    let program = fs::canonicalize("/usr/bin/python3").context("find Python")?;
    let name = program.file_name().context("Python has a name")?;
    files(&Path::new("/usr/lib").join(name), LEFT_OUT)
}

/// What Perl can do without a package of its own.
fn perl() -> Result<Vec<PathBuf>> {
    let folders = child::capture(Command::new("perl").args(["-e", "print join q(\n), @INC"]))?;
    let base = folders.lines().map(Path::new).find(|folder| folder.ends_with("perl-base"));
    files(base.context("Perl names no folder perl-base")?, &["unicore"])
}

/// The one name of a library where `/lib` is `/usr/lib`.
fn merged(path: &Path) -> PathBuf {
    let is_short = path.starts_with("/lib") || path.starts_with("/lib64");
    if is_short {
        Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path))
    } else {
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_has_one_name() {
        assert_eq!(merged(Path::new("/lib64/ld.so")), Path::new("/usr/lib64/ld.so"));
        assert_eq!(merged(Path::new("/lib/x/libc.so")), merged(Path::new("/usr/lib/x/libc.so")));
        assert_eq!(merged(Path::new("/libexec/x")), Path::new("/libexec/x"));
    }

    #[test]
    fn every_case_is_dealt_once() {
        let ids: Vec<String> = (0..5).map(|id| id.to_string()).collect();
        assert_eq!(dealt(&ids, 2), [vec!["0", "2", "4"], vec!["1", "3"]]);
        assert_eq!(dealt(&ids[..1], 2), [vec!["0"]]);
    }
}
