//! Whether rule files have changed: looked at from time to time rather than told by the kernel, so
//! that a swapped link of a config map, a network file system and an editor that renames all look
//! alike.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Most entries below the rule paths that are looked at; loading refuses more than that anyway.
pub const CHANGE_ENTRIES_MAX: usize = 65_536;
/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 16;

/// What the rule files looked like last.
#[derive(Debug)]
pub struct ChangeWatch {
    paths: Vec<PathBuf>,
    loaded: u64,
    last: u64,
}

impl ChangeWatch {
    /// Starts from what is there now, which has just been loaded.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let now = look(&paths);
        Self { paths, loaded: now, last: now }
    }

    /// Whether the files are others than those that were loaded, and nobody is at work on them: a
    /// change counts once it looks the same twice in a row.
    pub fn has_changed(&mut self) -> bool {
        let now = look(&self.paths);
        let is_settled = now == self.last;
        self.last = now;
        if !is_settled || now == self.loaded {
            return false;
        }
        self.loaded = now;
        true
    }

    /// Takes what is there now as loaded: somebody asked for a reload.
    pub fn note_loaded(&mut self) {
        self.loaded = look(&self.paths);
        self.last = self.loaded;
    }
}

fn look(paths: &[PathBuf]) -> u64 {
    let mut hash = DefaultHasher::new();
    let mut left = CHANGE_ENTRIES_MAX;
    for path in paths {
        add(path, 0, &mut left, &mut hash);
    }
    hash.finish()
}

/// Adds what identifies a file's content without reading it, links followed.
fn add(path: &Path, depth: usize, left: &mut usize, hash: &mut DefaultHasher) {
    if *left == 0 || depth > DEPTH_MAX {
        return;
    }
    *left -= 1;
    path.hash(hash);
    let Ok(meta) = fs::metadata(path) else {
        return "gone".hash(hash);
    };
    if meta.is_dir() {
        let Ok(entries) = fs::read_dir(path) else { return };
        let mut entries: Vec<PathBuf> =
            entries.filter_map(Result::ok).map(|entry| entry.path()).take(*left).collect();
        entries.sort_unstable();
        for entry in entries {
            add(&entry, depth + 1, left, hash);
        }
    } else {
        (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()).hash(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(watch: &mut ChangeWatch) -> bool {
        watch.has_changed() | watch.has_changed()
    }

    #[test]
    fn file_that_is_written_made_or_removed_is_a_change_and_told_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("sub/a.yaml");
        fs::create_dir(dir.path().join("sub")).expect("a folder");
        fs::write(&file, "a").expect("written");
        let mut watch = ChangeWatch::new(vec![dir.path().to_owned(), dir.path().join("missing")]);
        assert!(!settled(&mut watch));
        fs::write(&file, "ab").expect("written");
        assert!(settled(&mut watch) && !settled(&mut watch));
        fs::write(dir.path().join("b.yaml"), "").expect("written");
        assert!(settled(&mut watch) && !settled(&mut watch));
        fs::remove_file(&file).expect("removed");
        assert!(settled(&mut watch) && !settled(&mut watch));
        fs::write(dir.path().join("missing"), "").expect("written");
        assert!(settled(&mut watch));
    }

    #[test]
    fn swapped_link_of_a_config_map_is_a_change() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(at(version)).expect("a folder");
            fs::write(at(version).join("a.yaml"), text).expect("written");
        }
        std::os::unix::fs::symlink("..1", at("..data")).expect("a link");
        std::os::unix::fs::symlink("..data/a.yaml", at("a.yaml")).expect("a link");
        let mut watch = ChangeWatch::new(vec![dir.path().to_owned()]);
        std::os::unix::fs::symlink("..2", at("..new")).expect("a link");
        fs::rename(at("..new"), at("..data")).expect("swapped");
        assert!(settled(&mut watch) && !settled(&mut watch));
    }

    #[test]
    fn half_written_file_is_not_taken_for_a_change() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.yaml");
        let mut watch = ChangeWatch::new(vec![dir.path().to_owned()]);
        for text in ["a", "ab", "abc"] {
            fs::write(&file, text).expect("written");
            assert!(!watch.has_changed(), "it still grows");
        }
        assert!(watch.has_changed());
    }
}
