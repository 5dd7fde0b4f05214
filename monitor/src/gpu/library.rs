//! Where the driver's library may be.

use std::path::{Path, PathBuf};

/// The name to load. The unversioned `libnvidia-ml.so` exists only beside a development kit, where
/// it is a stub that answers nothing.
pub const LIBRARY_NAME: &str = "libnvidia-ml.so.1";

/// Directories that are searched after the configured ones: the loader's own path first (the bare
/// name), then where the GPU operator, distributions, GKE and NixOS put it.
const DIRECTORIES: [&str; 8] = [
    "",
    "/run/nvidia/driver/usr/lib/x86_64-linux-gnu",
    "/run/nvidia/driver/usr/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/local/nvidia/lib64",
    "/run/opengl-driver/lib",
];
/// Configured places that are searched; a list longer than this is a mistake.
pub const LIBRARY_PATHS_MAX: usize = 16;

/// Paths to try, in order: those configured (a directory, or the library itself), then the known
/// ones. With `is_exclusive` only the configured ones.
pub fn candidates(configured: &[PathBuf], is_exclusive: bool) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        configured.iter().take(LIBRARY_PATHS_MAX).map(|path| library_in(path)).collect();
    if !is_exclusive {
        found.extend(DIRECTORIES.iter().map(|directory| Path::new(directory).join(LIBRARY_NAME)));
    }
    let mut unique: Vec<PathBuf> = Vec::with_capacity(found.len());
    for path in found {
        if !unique.contains(&path) {
            unique.push(path);
        }
    }
    unique
}

fn library_in(path: &Path) -> PathBuf {
    let names_library =
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(".so"));
    if names_library { path.to_owned() } else { path.join(LIBRARY_NAME) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_places_come_first_and_once() {
        let configured = [PathBuf::from("/opt/driver"), PathBuf::from("/usr/lib64")];
        let found = candidates(&configured, false);
        assert_eq!(found[0], Path::new("/opt/driver/libnvidia-ml.so.1"));
        assert_eq!(found[1], Path::new("/usr/lib64/libnvidia-ml.so.1"));
        assert_eq!(found[2], Path::new("libnvidia-ml.so.1"));
        assert_eq!(found.iter().filter(|path| path.starts_with("/usr/lib64")).count(), 1);
    }

    #[test]
    fn only_the_versioned_name_is_tried() {
        for path in candidates(&[PathBuf::from("/opt/driver")], false) {
            assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(LIBRARY_NAME));
        }
    }

    #[test]
    fn a_library_may_be_named_itself() {
        let named = PathBuf::from("/opt/libnvidia-ml.so.535.1");
        assert_eq!(candidates(std::slice::from_ref(&named), true), [named]);
    }
}
