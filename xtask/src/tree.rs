//! Where things are: the sources, and what is built from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::child;

/// The source tree and its build directory.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Finds the tree that this tool was built from.
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets the variable for `cargo xtask`; a binary called by hand falls back to where
        // it was compiled.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.parent().context("the package directory has no parent")?.to_path_buf();
        if !root.join("monitor/Cargo.toml").is_file() {
            bail!(
                "{} is not gpuwarden's source tree: monitor/Cargo.toml is missing; \
                 call `cargo xtask` inside the tree",
                root.display()
            );
        }
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |target| root.join(target));
        Ok(Self { root, target })
    }

    /// The top of the sources.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of the sources.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Something built with `--release`.
    pub(crate) fn release(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }

    /// Something built without `--release`.
    pub(crate) fn debug(&self, name: &str) -> PathBuf {
        self.target.join("debug").join(name)
    }

    /// The daemon, built with `--release`.
    pub(crate) fn daemon(&self) -> PathBuf {
        self.release("gpuwarden")
    }

    /// The directory of this tool's logs and results, created when missing.
    pub(crate) fn logs(&self) -> Result<PathBuf> {
        let logs = self.target.join("xtask");
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        Ok(logs)
    }

    /// Files of the sources, relative to the root: tracked, or new and not ignored; without git,
    /// all that is not built.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let mut git = Command::new("git");
        // A CI may run as another user than the one who owns the checkout.
        git.arg("-c").arg(format!("safe.directory={}", self.root.display()));
        git.args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root);
        let mut files: Vec<String> = match child::capture(&mut git) {
            Ok(listing) => listing.lines().map(str::to_owned).collect(),
            Err(_) => self.walk()?,
        };
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    fn walk(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let entries =
                fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
            for path in entries.flatten().map(|entry| entry.path()) {
                let is_link = path.is_symlink();
                if path.is_dir() && !is_link && !self.is_built(&path) {
                    folders.push(path);
                } else if let Ok(relative) = path.strip_prefix(&self.root) {
                    files.push(relative.to_string_lossy().into_owned());
                }
            }
        }
        Ok(files)
    }

    fn is_built(&self, folder: &Path) -> bool {
        folder == self.target || folder == self.root.join("target") || folder.ends_with(".git")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_without_git_too() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for file in ["a.md", "src/b.rs", "target/c.rs", ".git/d", ".ci/run"] {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("create");
            fs::write(path, "").expect("write");
        }
        let root = directory.path().to_path_buf();
        let tree = Tree { target: root.join("target"), root };
        assert_eq!(tree.files().expect("files"), [".ci/run", "a.md", "src/b.rs"]);
    }
}
