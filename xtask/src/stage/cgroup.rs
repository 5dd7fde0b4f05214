//! cgroup v2 directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};

/// Where cgroup v2 may be mounted: alone, or beside v1.
const MOUNTS: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Tries to remove a directory whose last process is just ending.
const REMOVE_TRIES_MAX: u32 = 50;
/// Time between two tries.
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

/// A directory that this process made, with the parents that it made for it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: PathBuf,
    /// What was made, outermost first.
    made: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes `path` (relative, as in `0::/path`) below the v2 mount.
    pub(crate) fn create(path: &str) -> Result<Self> {
        let mount = MOUNTS
            .iter()
            .map(Path::new)
            .find(|mount| mount.join("cgroup.controllers").is_file())
            .ok_or_else(|| anyhow!("no cgroup v2 at {}", MOUNTS.join(" or ")))?;
        let mut group = Self { directory: mount.to_path_buf(), made: Vec::new() };
        for part in path.split('/') {
            group.directory.push(part);
            match fs::create_dir(&group.directory) {
                Ok(()) => group.made.push(group.directory.clone()),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let directory = group.directory.display().to_string();
                    return Err(error).with_context(|| format!("create cgroup {directory}"));
                }
            }
        }
        Ok(group)
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn members(&self) -> Vec<Pid> {
        let text = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Whoever is in here was started for the play: nobody else knows this directory.
        if self.made.contains(&self.directory) {
            for pid in self.members() {
                // It may end by itself in this moment.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for directory in self.made.iter().rev() {
            let mut tries = 0;
            while let Err(error) = fs::remove_dir(directory) {
                tries += 1;
                if tries == REMOVE_TRIES_MAX || error.kind() == std::io::ErrorKind::NotFound {
                    eprintln!("warning: cgroup {} stays: {error}", directory.display());
                    break;
                }
                sleep(REMOVE_PAUSE);
            }
        }
    }
}
