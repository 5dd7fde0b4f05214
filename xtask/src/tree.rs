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

    /// Files of the sources, relative to the root: tracked, or new and not ignored.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let mut git = Command::new("git");
        git.args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root);
        let listing = child::capture(&mut git).context("list the files of the tree")?;
        let mut files: Vec<String> = listing
            .lines()
            .filter(|file| self.root.join(file).is_file())
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }
}
