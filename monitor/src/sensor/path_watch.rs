//! Files that rules ask for by their path. The kernel side knows no paths: it knows directories by
//! inode, and last parts of paths by name. A path is watched by its name, wherever it lies and in
//! whatever mount view; a prefix by the directories below it, as this host and its containers see
//! them.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use monitor_common::{InodeKey, NAME_ANY, WatchName};

use super::{SharedMaps, interest};
use crate::kernel::device;

/// Most directories that prefixes of rules resolve to; what is beyond is not watched, and said.
pub const PATH_DIRECTORIES_MAX: usize = 4_096;
/// Most mount namespaces that prefixes are looked for in, beside the host's: a node runs some
/// hundred containers.
pub const MOUNT_NAMESPACES_MAX: usize = 512;
/// Deepest directory below a prefix that is watched.
const DEPTH_MAX: usize = 16;

/// What is watched because a loaded rule names it.
#[derive(Debug, Default)]
pub struct PathWatch {
    directories: HashSet<InodeKey>,
    names: BTreeSet<String>,
    /// Directories that are watched for another reason.
    kept: HashSet<InodeKey>,
}

impl PathWatch {
    /// Leaves a directory watched, whatever the rules are.
    pub fn keep(&mut self, directory: InodeKey) {
        self.kept.insert(directory);
    }

    /// Watches what rules name now, and no longer what only rules before named. Returns whether the
    /// kernel side takes all of it.
    pub fn apply(
        &mut self,
        paths: &BTreeSet<String>,
        prefixes: &BTreeSet<String>,
        maps: &mut SharedMaps,
    ) -> bool {
        let (directories, fits) = resolve_all(prefixes, &[PathBuf::from("/")]);
        let names: BTreeSet<String> = paths
            .iter()
            .filter_map(|path| path.rsplit('/').next())
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        for gone in self.names.difference(&names) {
            if let Some(key) = WatchName::new(gone.as_bytes()) {
                forget(key, interest::bits_of(gone), maps);
            }
        }
        let taken = self.watch(directories, maps);
        let known = names.iter().all(|name| {
            let bits = NAME_ANY | interest::bits_of(name);
            WatchName::new(name.as_bytes()).is_some_and(|key| maps.watch_name(key, bits))
        });
        self.names = names;
        fits && taken && known
    }

    /// Watches these directories, and no longer those that only a look before had found. Returns
    /// whether the kernel side takes all of them.
    pub fn watch(&mut self, directories: HashSet<InodeKey>, maps: &mut SharedMaps) -> bool {
        for gone in self.directories.difference(&directories).filter(|it| !self.kept.contains(it)) {
            maps.unwatch_directory(*gone);
        }
        let new: Vec<InodeKey> = directories.difference(&self.directories).copied().collect();
        self.directories = directories;
        new.into_iter().all(|directory| maps.watch_directory(directory))
    }
}

/// Takes a name back, to what is told of it whatever the rules are.
fn forget(name: WatchName, bits: u32, maps: &mut SharedMaps) {
    if bits == 0 || !maps.watch_name(name, bits) {
        maps.unwatch_name(name);
    }
}

/// The directories that prefixes mean, seen from the host and from each mount namespace, and
/// whether all of them fit. What can hang (a network disk) hangs whoever calls this.
pub fn directories_of(prefixes: &BTreeSet<String>) -> (HashSet<InodeKey>, bool) {
    if prefixes.is_empty() {
        return (HashSet::new(), true);
    }
    let mut roots = vec![PathBuf::from("/")];
    roots.extend(other_roots());
    resolve_all(prefixes, &roots)
}

/// The root of one process of each mount namespace but ours.
fn other_roots() -> Vec<PathBuf> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let mut known = HashSet::from([namespace(Path::new("/proc/1"))]);
    known.insert(namespace(Path::new("/proc/self")));
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    processes
        .filter(|process| {
            let of = namespace(process);
            of.is_some() && known.insert(of)
        })
        .map(|process| process.join("root"))
        .take(MOUNT_NAMESPACES_MAX)
        .collect()
}

fn resolve_all(prefixes: &BTreeSet<String>, roots: &[PathBuf]) -> (HashSet<InodeKey>, bool) {
    let mut directories = HashSet::new();
    let fits = roots
        .iter()
        .all(|root| prefixes.iter().all(|prefix| resolve(root, prefix, &mut directories)));
    (directories, fits)
}

/// Adds the directories in which a path that starts with `prefix` may lie, below a root. Returns
/// whether all of them fit.
fn resolve(root: &Path, prefix: &str, into: &mut HashSet<InodeKey>) -> bool {
    let Some((base, start)) = prefix.rsplit_once('/') else { return true };
    // The whole tree is no prefix but every file there is.
    if base.is_empty() && start.is_empty() {
        return false;
    }
    let base = root.join(base.trim_start_matches('/'));
    add(&base, into) && below(&base, start, DEPTH_MAX, into)
}

fn below(directory: &Path, start: &str, depth: usize, into: &mut HashSet<InodeKey>) -> bool {
    // What cannot be read, or is not there, holds nothing that could be watched.
    let Ok(entries) = fs::read_dir(directory) else { return true };
    for entry in entries.flatten() {
        let is_below = entry.file_name().to_str().is_some_and(|name| name.starts_with(start));
        if !is_below || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if depth == 0 || !add(&entry.path(), into) || !below(&entry.path(), "", depth - 1, into) {
            return false;
        }
    }
    true
}

fn add(directory: &Path, into: &mut HashSet<InodeKey>) -> bool {
    if into.len() >= PATH_DIRECTORIES_MAX {
        return false;
    }
    if let Ok(meta) = fs::metadata(directory)
        && meta.is_dir()
    {
        device::learn(directory, meta.dev());
        let device = device::kernel_device(meta.dev());
        into.insert(InodeKey { inode: meta.ino(), device, generation: 0 });
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(prefix: &str) -> (bool, usize) {
        let mut directories = HashSet::new();
        (resolve(Path::new("/"), prefix, &mut directories), directories.len())
    }

    #[test]
    fn prefix_is_its_directory_and_those_below_that_go_on_with_it() {
        let dir = tempfile::tempdir().expect("a folder");
        for path in ["keys/a/b", "keys-old", "other/c"] {
            fs::create_dir_all(dir.path().join(path)).expect("created");
        }
        fs::write(dir.path().join("keys.txt"), "").expect("written");
        std::os::unix::fs::symlink(dir.path().join("other"), dir.path().join("keys/link"))
            .expect("linked");
        let root = dir.path().to_str().expect("UTF-8");
        assert_eq!(
            found(&format!("{root}/keys/")),
            (true, 3),
            "keys, a, b; links are not followed"
        );
        assert_eq!(found(&format!("{root}/keys")), (true, 5), "the root, keys, a, b, keys-old");
        assert_eq!(found(&format!("{root}/none/")), (true, 0));
        assert_eq!(found("/"), (false, 0));
        assert_eq!(found("relative"), (true, 0));
    }

    #[test]
    fn prefix_is_looked_for_below_each_root() {
        let (one, other) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
        for path in [one.path().join("srv/keys/deep"), other.path().join("srv/keys")] {
            fs::create_dir_all(path).expect("created");
        }
        let roots = [one.path().to_owned(), other.path().to_owned(), "/nowhere".into()];
        let prefixes = BTreeSet::from(["/srv/keys/".to_owned()]);
        let (found, fits) = resolve_all(&prefixes, &roots);
        assert_eq!((found.len(), fits), (3, true), "keys and deep of one, keys of the other");
    }

    #[test]
    fn directories_of_a_prefix_are_bounded() {
        let dir = tempfile::tempdir().expect("a folder");
        for at in 0..=PATH_DIRECTORIES_MAX {
            fs::create_dir(dir.path().join(at.to_string())).expect("created");
        }
        let prefix = format!("{}/", dir.path().display());
        assert_eq!(found(&prefix), (false, PATH_DIRECTORIES_MAX));
    }
}
