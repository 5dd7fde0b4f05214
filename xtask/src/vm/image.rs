//! The machine's only file system: an archive in the kernel's own format (cpio "newc",
//! Documentation/driver-api/early-userspace/buffer-format.rst), written here, so that no tool is
//! needed for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use super::kernel::Kernel;
use crate::child;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
/// Where the first process finds file systems mounted.
const MOUNTS: [&str; 5] = ["proc", "sys", "dev", "tmp", "run"];

/// Where modules of the machine's kernel lie.
const MODULES: &str = "modules";

/// Packs `program` as `/init`, with the libraries that it is linked with where they are here.
pub(super) fn archive(program: &Path) -> Result<Archive> {
    let mut archive = Archive::default();
    archive.mounts();
    archive.bare(Path::new("init"), program)?;
    for library in libraries(&child::capture(Command::new("ldd").arg(program))?) {
        archive.file(library.strip_prefix("/").unwrap_or(&library), &library)?;
    }
    Ok(archive)
}

/// The files that ldd(1) names; of several programs it says whose they are, with a colon.
pub(super) fn libraries(text: &str) -> Vec<PathBuf> {
    let is_file = |word: &&str| word.starts_with('/') && !word.ends_with(':');
    text.lines()
        .filter_map(|line| line.split_whitespace().find(is_file))
        .map(PathBuf::from)
        .collect()
}

/// Files below a folder, or the file itself; folders of these names are left out.
pub(super) fn files(path: &Path, left_out: &[&str]) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let entries = std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))?;
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

/// An archive in the making.
#[derive(Clone, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<PathBuf>,
    count: u32,
}

impl Archive {
    /// The folders that file systems are mounted on.
    pub(super) fn mounts(&mut self) {
        for folder in MOUNTS {
            self.folder(Path::new(folder));
        }
    }

    /// The archive with modules of a kernel.
    pub(super) fn with_modules(mut self, kernel: &Kernel, names: &[&str]) -> Result<Self> {
        for name in names {
            let place = Path::new(MODULES).join(name).with_extension("ko");
            self.file(&place, &kernel.module(name))?;
        }
        Ok(self)
    }

    /// A program without its symbols: they are of no use there, and an image ten times as long
    /// takes longer to unpack.
    pub(super) fn bare(&mut self, path: &Path, program: &Path) -> Result<()> {
        let folder = tempfile::tempdir().context("create a temporary directory")?;
        let bare = folder.path().join("bare");
        child::capture(Command::new("strip").arg("-o").arg(&bare).arg(program))?;
        self.file(path, &bare)
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &Path, target: &str) {
        if let Some(folder) = path.parent() {
            self.folder(folder);
        }
        self.entry(&path.to_string_lossy(), LINK, 0, target.as_bytes());
    }

    /// A file of this text.
    pub(super) fn text(&mut self, path: &Path, text: &str) {
        if let Some(folder) = path.parent() {
            self.folder(folder);
        }
        self.entry(&path.to_string_lossy(), PROGRAM, 0, text.as_bytes());
    }

    /// A folder, with those above it.
    pub(super) fn folder(&mut self, path: &Path) {
        let mut above = Vec::new();
        let mut at = Some(path);
        while let Some(folder) = at.filter(|folder| !folder.as_os_str().is_empty()) {
            above.push(folder.to_owned());
            at = folder.parent();
        }
        for folder in above.into_iter().rev() {
            if self.folders.insert(folder.clone()) {
                self.entry(&folder.to_string_lossy(), FOLDER, 0, &[]);
            }
        }
    }

    /// A file of this host, as old as it is here: Python compiles anew what looks changed.
    pub(super) fn file(&mut self, path: &Path, source: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            self.folder(folder);
        }
        let bytes = std::fs::read(source).with_context(|| source.display().to_string())?;
        let changed = std::fs::metadata(source)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let changed_s = changed.map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(0));
        self.entry(&path.to_string_lossy(), PROGRAM, changed_s, &bytes);
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, changed_s: u32, bytes: &[u8]) {
        self.count += 1;
        let links = 1;
        let fields = [
            self.count,
            mode,
            0,
            0,
            links,
            changed_s,
            u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            0,
            0,
            0,
            0,
            u32::try_from(name.len() + 1).unwrap_or(u32::MAX),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_are_files() {
        let text = "/bin/sh:\n\tlinux-vdso.so.1 (0x7ff)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\
                    \t/lib64/ld-linux.so.2 (0x7f)\n";
        let expected = ["/lib/libc.so.6", "/lib64/ld-linux.so.2"].map(PathBuf::from);
        assert_eq!(libraries(text), expected);
    }

    #[test]
    fn every_entry_starts_at_a_multiple_of_four_and_folders_come_once() {
        let mut archive = Archive::default();
        archive.folder(Path::new("a/b"));
        archive.folder(Path::new("a/c"));
        let bytes = archive.finish();
        let starts: Vec<usize> = bytes
            .windows(6)
            .enumerate()
            .filter(|(_, w)| *w == b"070701")
            .map(|(at, _)| at)
            .collect();
        assert_eq!(starts.len(), 4, "a, a/b, a/c and the end");
        assert!(starts.iter().all(|at| at.is_multiple_of(4)));
    }

    #[test]
    fn folders_are_left_out_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        for file in ["a.py", "test/b.py", "json/c.py"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("create");
            std::fs::write(path, "").expect("write");
        }
        let mut found = files(folder.path(), &["test"]).expect("files");
        found.sort();
        assert_eq!(found, ["a.py", "json/c.py"].map(|file| folder.path().join(file)));
    }
}
