//! The scan at start: walks what the configured globs can match, names every file that is weights,
//! and the directories that files of weights or data can lie in. Part of the rim; bounded in depth,
//! entries, files and directories.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobMatcher, GlobSet};

use super::content::{Classes, Format, is_generic_name};
use super::filesystem;
use super::label::{LabelSeed, glob_set, is_waiting, is_weights};
use super::limit::{
    HEAD_BYTES, SCAN_BROAD_ENTRIES_MAX, SCAN_DEPTH_MAX, SCAN_ENTRIES_PER_FILE, SCAN_QUEUE_MAX,
};
use super::procfs::read_start;
use crate::config::WatchConfig;
use crate::kernel::device;
use crate::model::FileId;

/// How far a scan has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanProgress {
    /// Directory entries looked at.
    pub entries: usize,
    /// Weight files found.
    pub files: usize,
    /// Directories of weights or data found.
    pub directories: usize,
    /// Directories that could not be read.
    pub unreadable: usize,
    /// Whether a bound ended the scan before its end.
    pub truncated: bool,
    /// Whether globs that name no place to begin at (`**/hub/**`) were looked for in a part of the
    /// host only.
    pub is_broad_cut: bool,
}

/// What a scan finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file of weights.
    File(LabelSeed),
    /// A directory that files of weights or data can lie in.
    Directory(FileId),
    /// All that lies in places which globs name was found; broad globs come next.
    Named,
}

/// Finds weight files, and directories of weights and data. Each goes to `found` together with the
/// progress so far; `found` returns whether to go on. Globs that say where to begin come first: the
/// rest of the host must not use up what is meant for the places that were named. Symbolic links
/// to files are followed (a Hugging Face cache is made of them), links to directories are not.
pub fn scan(
    watch: &WatchConfig,
    directories_max: usize,
    found: &mut dyn FnMut(Found, &ScanProgress) -> bool,
) -> ScanProgress {
    let files_max = watch.scan_files_max as usize;
    let all: Vec<&String> = watch.weights.iter().chain(&watch.data).collect();
    let mut walk = Walk {
        weights: glob_set(&watch.weights),
        directories: glob_set(&directory_globs(&all)),
        classes: Classes::new(&watch.name_classes),
        files_max,
        directories_max,
        entries_max: files_max.saturating_mul(SCAN_ENTRIES_PER_FILE),
        is_broad: false,
        broad_entries: 0,
        walked: HashSet::new(),
        progress: ScanProgress::default(),
        found,
        stopped: false,
    };
    for glob in in_order(&all) {
        let parts: Vec<&str> = glob.split('/').filter(|part| !part.is_empty()).collect();
        if parts.first() == Some(&"**") {
            walk.go_broad();
        }
        walk.descend(Path::new("/"), &parts);
    }
    walk.go_broad();
    walk.progress
}

/// Globs once each: those that say most about where to begin first, broad ones last.
fn in_order<'g>(globs: &[&'g String]) -> Vec<&'g str> {
    let plain = |glob: &str| {
        glob.split('/').filter(|part| !part.is_empty()).take_while(|part| is_plain(part)).count()
    };
    let mut globs: Vec<&str> = globs.iter().map(|glob| glob.as_str()).collect();
    globs.sort_by(|one, other| plain(other).cmp(&plain(one)).then_with(|| one.cmp(other)));
    globs.dedup();
    globs
}

/// Globs of the directories that files matched by `globs` lie in.
fn directory_globs(globs: &[&String]) -> Vec<String> {
    let mut directories = Vec::new();
    for glob in globs {
        let Some((parent, last)) = glob.trim_end_matches('/').rsplit_once('/') else { continue };
        if !parent.is_empty() {
            directories.push(parent.to_owned());
        }
        if last == "**" {
            directories.push((*glob).clone());
        }
    }
    directories
}

struct Walk<'f> {
    weights: GlobSet,
    directories: GlobSet,
    classes: Classes,
    files_max: usize,
    directories_max: usize,
    entries_max: usize,
    is_broad: bool,
    broad_entries: usize,
    /// Directories that were walked to the bottom.
    walked: HashSet<PathBuf>,
    progress: ScanProgress,
    found: &'f mut dyn FnMut(Found, &ScanProgress) -> bool,
    stopped: bool,
}

impl Walk<'_> {
    /// From here on globs name no place to begin at.
    fn go_broad(&mut self) {
        if !std::mem::replace(&mut self.is_broad, true) && !self.stopped {
            self.stopped = !(self.found)(Found::Named, &self.progress);
        }
    }

    /// Follows the parts of a glob one directory at a time, so that `/home/*/x/**` looks into
    /// `x` of each home and nowhere else.
    fn descend(&mut self, directory: &Path, parts: &[&str]) {
        match parts {
            [] => {}
            ["**", ..] => self.below(directory),
            [last] => {
                let matcher = matcher(last);
                self.directory(directory);
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

    /// Everything below a directory, the nearest first: a bound cuts off what lies deepest.
    fn below(&mut self, start: &Path) {
        let mut waiting = VecDeque::from([(start.to_owned(), SCAN_DEPTH_MAX)]);
        let mut device = None;
        while let Some((directory, depth)) = waiting.pop_front() {
            if self.stopped || self.is_spent() || !self.walked.insert(directory.clone()) {
                continue;
            }
            let Ok(metadata) = fs::metadata(&directory) else { continue };
            let is_start = directory == start;
            if device.replace(metadata.dev()) != Some(metadata.dev())
                && (!is_start || self.is_broad)
                && self.is_elsewhere(&directory)
            {
                continue;
            }
            self.directory(&directory);
            self.each(&directory, &mut |walk, path, is_directory| {
                if !is_directory {
                    walk.file(path);
                } else if depth == 0 || waiting.len() >= SCAN_QUEUE_MAX {
                    walk.cut();
                } else {
                    waiting.push_back((path.to_owned(), depth - 1));
                }
            });
        }
    }

    /// Whether a file system that the walk has come to is left out: what the kernel makes up, what
    /// mounts when it is looked at, and in a broad walk what another machine serves.
    fn is_elsewhere(&self, directory: &Path) -> bool {
        let Ok(found) = rustix::fs::statfs(directory) else { return true };
        let magic = found.f_type.cast_unsigned();
        filesystem::holds_no_files(magic) || self.is_broad && is_waiting(magic)
    }

    /// Whether the part of the host that a broad walk looks at was looked at.
    const fn is_spent(&self) -> bool {
        self.is_broad && self.broad_entries >= SCAN_BROAD_ENTRIES_MAX
    }

    const fn cut(&mut self) {
        if self.is_broad {
            self.progress.is_broad_cut = true;
        } else {
            self.progress.truncated = true;
        }
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
            if self.is_spent() {
                return self.cut();
            }
            if self.is_broad {
                self.broad_entries += 1;
            } else if self.progress.entries - self.broad_entries >= self.entries_max {
                (self.progress.truncated, self.stopped) = (true, true);
                return;
            }
            self.progress.entries += 1;
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            visit(self, &entry.path(), is_directory);
        }
    }

    /// Names a directory that files of a glob can lie in.
    fn directory(&mut self, path: &Path) {
        if self.stopped || !self.directories.is_match(path) {
            return;
        }
        let Some(id) = directory_id(path) else { return };
        self.watched(id);
    }

    fn watched(&mut self, id: FileId) {
        if self.progress.directories >= self.directories_max {
            self.progress.truncated = true;
            return;
        }
        self.progress.directories += 1;
        self.stopped = !(self.found)(Found::Directory(id), &self.progress);
    }

    fn file(&mut self, path: &Path) {
        let Some(text) = path.to_str() else { return };
        if self.stopped || !self.weights.is_match(path) {
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
        let seed = LabelSeed {
            id: file_id(path, &metadata),
            path: text.to_owned(),
            size_bytes: metadata.len(),
            format,
        };
        self.stopped = !(self.found)(Found::File(seed), &self.progress);
        // Behind a link, the inode stands in another directory, where it is opened by another name.
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
            && let Some(target) = fs::canonicalize(path).ok().as_deref().and_then(Path::parent)
            && !self.directories.is_match(target)
            && let Some(id) = directory_id(target)
        {
            self.watched(id);
        }
    }
}

/// Identity of what was looked at. The generation is zero: user space has no safe way to ask for
/// it, and the first open tells.
fn file_id(path: &Path, metadata: &fs::Metadata) -> FileId {
    device::learn(path, metadata.dev());
    FileId { device: device::kernel_device(metadata.dev()), inode: metadata.ino(), generation: 0 }
}

fn directory_id(path: &Path) -> Option<FileId> {
    Some(file_id(path, &fs::metadata(path).ok()?))
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
mod tests;
