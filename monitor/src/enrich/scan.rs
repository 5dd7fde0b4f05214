//! The scan for weights at start: walks what the configured globs can match and names every file
//! that is weights. Part of the rim; bounded in depth, entries and files.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobMatcher, GlobSet};

use super::content::{Classes, Format, is_generic_name};
use super::label::{LabelSeed, glob_set, is_weights};
use super::limit::{HEAD_BYTES, SCAN_DEPTH_MAX, SCAN_ENTRIES_PER_FILE};
use super::procfs::read_start;
use crate::config::WatchConfig;
use crate::model::FileId;

/// How far a scan has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanProgress {
    /// Directory entries looked at.
    pub entries: usize,
    /// Weight files found.
    pub files: usize,
    /// Directories that could not be read.
    pub unreadable: usize,
    /// Whether a bound ended the scan before its end.
    pub truncated: bool,
}

/// Finds weight files. Each goes to `found` together with the progress so far; `found` returns
/// whether to go on. Symbolic links to files are followed (a Hugging Face cache is made of them),
/// links to directories are not.
pub fn scan(
    watch: &WatchConfig,
    found: &mut dyn FnMut(LabelSeed, &ScanProgress) -> bool,
) -> ScanProgress {
    let files_max = watch.scan_files_max as usize;
    let mut walk = Walk {
        globs: glob_set(&watch.weights),
        classes: Classes::new(&watch.name_classes),
        files_max,
        entries_max: files_max.saturating_mul(SCAN_ENTRIES_PER_FILE),
        progress: ScanProgress::default(),
        found,
        stopped: false,
    };
    for glob in &watch.weights {
        let parts: Vec<&str> = glob.split('/').filter(|part| !part.is_empty()).collect();
        walk.descend(&PathBuf::from("/"), &parts);
    }
    walk.progress
}

struct Walk<'f> {
    globs: GlobSet,
    classes: Classes,
    files_max: usize,
    entries_max: usize,
    progress: ScanProgress,
    found: &'f mut dyn FnMut(LabelSeed, &ScanProgress) -> bool,
    stopped: bool,
}

impl Walk<'_> {
    /// Follows the parts of a glob one directory at a time, so that `/home/*/x/**` looks into
    /// `x` of each home and nowhere else.
    fn descend(&mut self, directory: &Path, parts: &[&str]) {
        match parts {
            [] => {}
            ["**", ..] => self.below(directory, SCAN_DEPTH_MAX),
            [last] => {
                let matcher = matcher(last);
                self.each(directory, &mut |walk, path, is_directory| {
                    if !is_directory && matches(matcher.as_ref(), path) {
                        walk.file(path);
                    }
                });
            }
            [part, rest @ ..] if is_plain(part) => self.descend(&directory.join(part), rest),
            [part, rest @ ..] => {
                let matcher = matcher(part);
                self.each(directory, &mut |walk, path, is_directory| {
                    if is_directory && matches(matcher.as_ref(), path) {
                        walk.descend(path, rest);
                    }
                });
            }
        }
    }

    fn below(&mut self, directory: &Path, depth: usize) {
        if depth == 0 {
            self.progress.truncated = true;
            return;
        }
        self.each(directory, &mut |walk, path, is_directory| {
            if is_directory {
                walk.below(path, depth - 1);
            } else {
                walk.file(path);
            }
        });
    }

    fn each(&mut self, directory: &Path, visit: &mut dyn FnMut(&mut Self, &Path, bool)) {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                let is_absent = error.kind() == std::io::ErrorKind::NotFound;
                self.progress.unreadable += usize::from(!is_absent);
                return;
            }
        };
        for entry in entries.flatten() {
            if self.stopped {
                return;
            }
            if self.progress.entries >= self.entries_max {
                (self.progress.truncated, self.stopped) = (true, true);
                return;
            }
            self.progress.entries += 1;
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            visit(self, &entry.path(), is_directory);
        }
    }

    fn file(&mut self, path: &Path) {
        let Some(text) = path.to_str() else { return };
        if self.stopped || !self.globs.is_match(path) {
            return;
        }
        let Ok(metadata) = fs::metadata(path) else { return };
        if !metadata.is_file() || metadata.len() == 0 {
            return;
        }
        let mut head = [0; HEAD_BYTES];
        let filled =
            File::open(path).ok().and_then(|file| read_start(file, &mut head)).unwrap_or(0);
        let format = Format::of(head.get(..filled).unwrap_or_default());
        let is_generic = is_generic_name(text);
        if !is_weights(true, self.classes.of(text), is_generic, format, metadata.len()) {
            return;
        }
        if self.progress.files >= self.files_max {
            (self.progress.truncated, self.stopped) = (true, true);
            return;
        }
        self.progress.files += 1;
        let target = fs::canonicalize(path).ok();
        let seed = LabelSeed {
            id: file_id(&metadata),
            path: text.to_owned(),
            size_bytes: metadata.len(),
            format,
            directory: target.as_deref().and_then(Path::parent).and_then(directory_id),
        };
        self.stopped = !(self.found)(seed, &self.progress);
    }
}

/// Identity of what was looked at. The generation is zero: user space has no safe way to ask for
/// it, and the first open tells.
fn file_id(metadata: &fs::Metadata) -> FileId {
    FileId { device: kernel_device(metadata.dev()), inode: metadata.ino(), generation: 0 }
}

fn directory_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().as_ref().map(file_id)
}

/// Finds the directories that files matched by `globs` can lie in, for the kernel's map of watched
/// directories. At most `directories_max`; the flag tells whether there were more.
pub fn scan_directories(globs: &[String], directories_max: usize) -> (Vec<FileId>, bool) {
    let mut walk = DirectoryWalk { directories_max, found: Vec::new(), truncated: false };
    for glob in globs {
        let parts: Vec<&str> = glob.split('/').filter(|part| !part.is_empty()).collect();
        walk.descend(Path::new("/"), &parts, SCAN_DEPTH_MAX);
    }
    walk.found.sort_unstable();
    walk.found.dedup();
    (walk.found, walk.truncated)
}

struct DirectoryWalk {
    directories_max: usize,
    found: Vec<FileId>,
    truncated: bool,
}

impl DirectoryWalk {
    fn descend(&mut self, directory: &Path, parts: &[&str], depth: usize) {
        let rest = match parts {
            [] => return,
            ["**", ..] => parts,
            [_] => return self.add(directory),
            [part, rest @ ..] if is_plain(part) => {
                return self.descend(&directory.join(part), rest, depth);
            }
            [_, rest @ ..] => rest,
        };
        let is_deep = parts.first() == Some(&"**");
        if is_deep {
            self.add(directory);
        }
        if depth == 0 || self.truncated {
            self.truncated = true;
            return;
        }
        let matcher = parts.first().filter(|_| !is_deep).and_then(|part| matcher(part));
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && (is_deep || matches(matcher.as_ref(), &entry.path())) {
                self.descend(&entry.path(), rest, depth - 1);
            }
        }
    }

    fn add(&mut self, directory: &Path) {
        let Some(id) = directory_id(directory) else { return };
        if self.found.len() >= self.directories_max {
            self.truncated = true;
        } else {
            self.found.push(id);
        }
    }
}

/// A device number as stat(2) gives it in the kernel's own encoding (`MKDEV`): major << 20 | minor.
pub fn kernel_device(device: u64) -> u32 {
    rustix::fs::major(device) << 20 | rustix::fs::minor(device) & 0x000f_ffff
}

fn is_plain(part: &str) -> bool {
    !part.contains(['*', '?', '[', '{', '\\'])
}

fn matcher(part: &str) -> Option<GlobMatcher> {
    Glob::new(part).ok().map(|glob| glob.compile_matcher())
}

fn matches(matcher: Option<&GlobMatcher>, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    matcher.is_some_and(|matcher| matcher.is_match(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(watch: &WatchConfig) -> (Vec<LabelSeed>, ScanProgress) {
        let mut seeds = Vec::new();
        let progress = scan(watch, &mut |seed, _| {
            seeds.push(seed);
            true
        });
        seeds.sort_by(|one, other| one.path.cmp(&other.path));
        (seeds, progress)
    }

    fn tree() -> (tempfile::TempDir, WatchConfig) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (path, content) in [
            ("a/hub/m/w.gguf", b"GGUF1234".as_slice()),
            ("a/hub/m/config.json", b"{}"),
            ("a/hub/m/deep/odd", b"GGUF"),
            ("a/other/w.gguf", b"GGUF"),
            ("b/hub/empty.gguf", b""),
        ] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), content).unwrap();
        }
        let glob = format!("{}/*/hub/**", root.display());
        let watch = WatchConfig { weights: vec![glob], ..WatchConfig::default() };
        (directory, watch)
    }

    #[test]
    fn weights_below_the_globs_are_found_and_nothing_else() {
        let (directory, watch) = tree();
        let (seeds, progress) = scanned(&watch);
        let names: Vec<&str> =
            seeds.iter().map(|seed| super::super::content::file_name(&seed.path)).collect();
        assert_eq!(names, ["odd", "w.gguf"]);
        let metadata = fs::metadata(directory.path().join("a/hub/m/w.gguf")).unwrap();
        assert_eq!(seeds[1].id.inode, metadata.ino());
        assert_eq!((seeds[1].size_bytes, seeds[1].format), (8, Format::Gguf));
        assert_eq!((progress.files, progress.truncated), (2, false));
    }

    #[test]
    fn a_link_to_a_file_leads_to_its_inode() {
        let (directory, watch) = tree();
        let link = directory.path().join("b/hub/link.safetensors");
        std::os::unix::fs::symlink(directory.path().join("a/other/w.gguf"), link).unwrap();
        let (seeds, _) = scanned(&watch);
        let target = fs::metadata(directory.path().join("a/other/w.gguf")).unwrap().ino();
        let found = seeds.iter().find(|seed| seed.id.inode == target).unwrap();
        let parent = directory_id(&directory.path().join("a/other"));
        assert_eq!(found.directory, parent, "where the inode is, not where the link is");
    }

    #[test]
    fn directories_of_a_glob_are_found_to_any_depth() {
        let (directory, watch) = tree();
        let id = |path: &str| directory_id(&directory.path().join(path)).unwrap();
        let (found, truncated) = scan_directories(&watch.weights, 100);
        let mut expected = vec![id("a/hub"), id("a/hub/m"), id("a/hub/m/deep"), id("b/hub")];
        expected.sort_unstable();
        assert_eq!((found, truncated), (expected, false));
        assert!(scan_directories(&watch.weights, 2).1, "a bound that was met is told");
        let flat = vec![format!("{}/*/hub/*.gguf", directory.path().display())];
        let (found, _) = scan_directories(&flat, 100);
        assert!(found.contains(&id("a/hub")) && found.contains(&id("b/hub")));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_bound_ends_the_scan_and_says_so() {
        let (_directory, mut watch) = tree();
        watch.scan_files_max = 1;
        let (seeds, progress) = scanned(&watch);
        assert_eq!((seeds.len(), progress.truncated), (1, true));
    }
}
