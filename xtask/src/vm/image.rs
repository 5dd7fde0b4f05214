//! The machine's only file system: an archive in the kernel's own format (cpio "newc",
//! Documentation/driver-api/early-userspace/buffer-format.rst), written here, so that no tool is
//! needed for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::child;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Packs `program` as `/init`, with the libraries that it is linked with where they are here.
pub(super) fn write(program: &Path, image: &Path) -> Result<()> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "tmp", "run"] {
        archive.folder(Path::new(folder));
    }
    // Symbols are of no use there, and an image ten times as long takes longer to unpack.
    let bare = image.with_extension("init");
    child::capture(Command::new("strip").arg("-o").arg(&bare).arg(program))?;
    archive.file(Path::new("init"), &bare)?;
    for library in libraries(&child::capture(Command::new("ldd").arg(program))?) {
        archive.file(library.strip_prefix("/").unwrap_or(&library), &library)?;
    }
    let _gone = std::fs::remove_file(&bare);
    std::fs::write(image, archive.finish()).with_context(|| image.display().to_string())
}

/// The files that ldd(1) names.
fn libraries(text: &str) -> Vec<PathBuf> {
    let path =
        |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    text.lines().filter_map(path).collect()
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<PathBuf>,
    count: u32,
}

impl Archive {
    fn folder(&mut self, path: &Path) {
        let mut above = Vec::new();
        let mut at = Some(path);
        while let Some(folder) = at.filter(|folder| !folder.as_os_str().is_empty()) {
            above.push(folder.to_owned());
            at = folder.parent();
        }
        for folder in above.into_iter().rev() {
            if self.folders.insert(folder.clone()) {
                self.entry(&folder.to_string_lossy(), FOLDER, &[]);
            }
        }
    }

    fn file(&mut self, path: &Path, source: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            self.folder(folder);
        }
        let bytes = std::fs::read(source).with_context(|| source.display().to_string())?;
        self.entry(&path.to_string_lossy(), PROGRAM, &bytes);
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        self.count += 1;
        let links = 1;
        let fields = [
            self.count,
            mode,
            0,
            0,
            links,
            0,
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

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_are_files() {
        let text = "\tlinux-vdso.so.1 (0x7ff)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\
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
}
