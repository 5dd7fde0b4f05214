//! `driver`: a real NVIDIA driver library from Debian's archive, to hold the fake one against.
//! It is another company's: it is fetched into the cache and never becomes a part of this tree.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use super::debian::{Lists, cache, codename};
use crate::tree::Tree;

/// How old a fetched library may be before the archive is asked for a newer one.
const LIBRARY_AGE_MAX: Duration = Duration::from_hours(30 * 24);
/// The package.
const PACKAGE: &str = "libnvidia-ml1";
/// The part of the archive that holds it.
const COMPONENT: &str = "non-free";

/// `cargo xtask driver`: prints where the library lies.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    println!("{}", library(&tree.logs()?)?.display());
    Ok(())
}

/// A real `libnvidia-ml.so.<version>`: a young one of the cache, else a new one, else any.
fn library(logs: &Path) -> Result<PathBuf> {
    let folder = cache()?.join("nvidia");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let cached = newest(&folder);
    if let Some((file, age)) = &cached
        && *age < LIBRARY_AGE_MAX
    {
        return Ok(file.clone());
    }
    match (fetch(&folder, &logs.join("driver.log")), cached) {
        (Ok(file), _) => Ok(file),
        (Err(error), Some((file, _))) => {
            eprintln!("  driver    the archive has nothing newer to give ({error:#})");
            Ok(file)
        }
        (Err(error), None) => Err(error),
    }
}

/// The library that was fetched last, and how long ago.
fn newest(folder: &Path) -> Option<(PathBuf, Duration)> {
    let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let aged = files.filter(|path| path.extension().is_some_and(|part| part != "part"));
    let aged = aged.filter_map(|path| {
        let written = std::fs::metadata(&path).ok()?.modified().ok()?;
        Some((path, SystemTime::now().duration_since(written).unwrap_or_default()))
    });
    aged.min_by_key(|(_, age)| *age)
}

fn fetch(folder: &Path, log: &Path) -> Result<PathBuf> {
    let suites = [codename()?];
    let lists = Lists::open("nvidia", &suites, COMPONENT, log)?;
    lists.update()?;
    let download = cache()?.join("download-nvidia");
    let package = lists.download(PACKAGE, &download)?;
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    // libnvidia-ml1_535.261.03-1_amd64.deb
    let version = name.split('_').nth(1).and_then(|version| version.split('-').next());
    let file = folder.join(format!("libnvidia-ml.so.{}", version.unwrap_or("unknown")));
    let script = "dpkg-deb --fsys-tarfile \"$1\" | tar -x -O --wildcards '*/libnvidia-ml.so.*.*'";
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&package)
        .output()
        .context("start dpkg-deb")?;
    let _gone = std::fs::remove_dir_all(&download);
    if output.stdout.is_empty() {
        bail!("{PACKAGE} holds no library: {}", String::from_utf8_lossy(&output.stderr));
    }
    let part = file.with_extension("part");
    std::fs::write(&part, output.stdout).with_context(|| part.display().to_string())?;
    std::fs::rename(&part, &file).with_context(|| file.display().to_string())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_library_is_no_library() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(newest(folder.path()), None);
        std::fs::write(folder.path().join("libnvidia-ml.so.535.261.part"), "half").expect("write");
        assert_eq!(newest(folder.path()), None);
        let whole = folder.path().join("libnvidia-ml.so.535.261.03");
        std::fs::write(&whole, "whole").expect("write");
        assert_eq!(newest(folder.path()).map(|(file, _)| file), Some(whole));
    }
}
