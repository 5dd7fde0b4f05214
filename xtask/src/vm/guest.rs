//! A machine in which cases of the evasion suite are played, on the full tier: with the monitor,
//! this tool, the scripts, and the programs of this host that they call.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::image::{Archive, libraries};
use super::machine::Machine;
use super::{LSM_WITH_BPF, LSM_WITHOUT_BPF, build, ensure_qemu, kernel, wanted};
use crate::child;
use crate::tree::Tree;

/// Memory of the machine: the image is some 200 MiB and lies in it twice for a moment.
const MEMORY_MIB: u32 = 2048;
/// How long one machine may take: three minutes on a quiet host.
const PATIENCE: Duration = Duration::from_mins(20);
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
    "/usr/bin/openssl",
    "/usr/bin/python3",
    "/usr/bin/sleep",
    "/usr/bin/stat",
    "/usr/sbin/ip",
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
];
/// Parts of the source tree that are played from.
const SOURCES: &[&str] =
    &["tests/stand", "tests/evasion", "tests/e2e/actors", "monitor/Cargo.toml"];
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
/// `monitor`, and returns what was said on the serial ports.
pub(crate) fn play(
    tree: &Tree,
    series: &[String],
    monitor: &Path,
    ids: &[String],
) -> Result<Vec<Played>> {
    let folder = tree.logs()?.join("vm");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    ensure_qemu(&folder)?;
    let found = kernel::find(&wanted(tree, series)?, &folder)?;
    let is_debug = monitor.starts_with(tree.debug(""));
    let init = build(tree, is_debug, &folder)?;
    let image = folder.join("suite.cpio");
    write(tree, &init, monitor, &image)?;
    let mut machines = Vec::new();
    for name in series {
        let kernel = found.iter().find(|(series, _)| series.name == *name);
        let kernel = match kernel.map(|(_, kernel)| kernel) {
            Some(Ok(kernel)) => kernel,
            Some(Err(why)) => bail!("kernel {name} cannot be had: {why}"),
            None => bail!("kernel {name} was not looked for"),
        };
        let is_without = WITHOUT_BPF_LSM.contains(&name.as_str());
        let modules = if is_without { LSM_WITHOUT_BPF } else { LSM_WITH_BPF };
        machines.push(Machine {
            name: format!("{name} evasion"),
            version: kernel.version.clone(),
            kernel: kernel.file.clone(),
            image: image.clone(),
            command_line: format!("{modules} gpuwarden.cases={}", ids.join(",")),
            log: folder.join(format!("evasion-{name}.log")),
            use_kvm: false,
            memory_mib: MEMORY_MIB,
            patience: PATIENCE,
        });
        eprintln!("  booting   {} for {} cases", kernel.version, ids.len());
    }
    let played = said_by_all(&machines);
    let _gone = fs::remove_file(&image);
    Ok(played)
}

/// What each machine says: a CI runs them side by side, a desk one after the other.
fn said_by_all(machines: &[Machine]) -> Vec<Played> {
    let played =
        |machine: &Machine| Played { kernel: machine.version.clone(), text: said(machine) };
    if !child::is_ci() {
        return machines.iter().map(played).collect();
    }
    std::thread::scope(|scope| {
        let all: Vec<_> = machines.iter().map(|it| scope.spawn(move || played(it))).collect();
        all.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

/// Runs a machine to its end. What it said before it was ended is not lost.
fn said(machine: &Machine) -> Result<String> {
    let (log, has_ended) = (&machine.log, machine.run()?);
    if !has_ended {
        let seconds = PATIENCE.as_secs();
        bail!("the machine did not end within {seconds} s: {}", log.display());
    }
    let bytes = fs::read(log).with_context(|| log.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn write(tree: &Tree, init: &Path, monitor: &Path, image: &Path) -> Result<()> {
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
        archive.file(Path::new(&program[1..]), Path::new(program))?;
        linked.push(PathBuf::from(program));
    }
    for file in python()? {
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
    fs::write(image, archive.finish()).with_context(|| image.display().to_string())
}

/// Python's own library.
fn python() -> Result<Vec<PathBuf>> {
    let program = fs::canonicalize("/usr/bin/python3").context("find Python")?;
    let name = program.file_name().context("Python has a name")?;
    files(&Path::new("/usr/lib").join(name), LEFT_OUT)
}

/// Files below a folder, or the file itself; folders of these names are left out.
fn files(path: &Path, left_out: &[&str]) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let entries = fs::read_dir(path).with_context(|| format!("read {}", path.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", path.display()))?.path();
        let is_left_out =
            path.file_name().is_some_and(|name| left_out.iter().any(|out| name == *out));
        if !is_left_out {
            found.append(&mut files(&path, left_out)?);
        }
    }
    Ok(found)
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
    fn folders_are_left_out_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        for file in ["a.py", "test/b.py", "json/c.py"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("create");
            fs::write(path, "").expect("write");
        }
        let mut found = files(folder.path(), &["test"]).expect("files");
        found.sort();
        assert_eq!(found, ["a.py", "json/c.py"].map(|file| folder.path().join(file)));
    }
}
