//! Kernels: which are wanted, which package is the newest of a series, and its image, fetched once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::debian::{Lists, cache};
use super::image::files;
use crate::child;

/// Modules that are taken along with a kernel. None of them needs another one.
pub(super) const MODULES: &[&str] = &["dummy", "loop", "overlay", "veth", "vsock"];

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Series {
    /// `6.12`, or `7` for the newest of all that start with it.
    pub(super) name: String,
    /// Suites in which it is looked for.
    pub(super) suites: Vec<String>,
}

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// As the package names it.
    pub(super) version: String,
    /// The image.
    pub(super) file: PathBuf,
    /// The folder of its [`MODULES`].
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// A kernel of this version in the cache.
    fn of(version: String, folder: &Path) -> Self {
        let (file, modules) = (folder.join(&version), folder.join(format!("{version}.modules")));
        Self { version, file, modules }
    }

    fn is_complete(&self) -> bool {
        self.file.is_file() && MODULES.iter().all(|name| self.module(name).is_file())
    }

    /// The file of a module.
    pub(super) fn module(&self, name: &str) -> PathBuf {
        self.modules.join(name).with_extension("ko")
    }
}

/// Reads the list of series.
pub(super) fn list(file: &Path) -> Result<Vec<Series>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut all = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace().map(str::to_owned);
        let name = words.next().unwrap_or_default();
        let suites: Vec<String> = words.collect();
        if suites.is_empty() {
            bail!("{}: `{line}` names no suite", file.display());
        }
        all.push(Series { name, suites });
    }
    Ok(all)
}

/// Finds the newest kernel of each series, or why there is none.
pub(super) fn find(
    wanted: &[Series],
    logs: &Path,
) -> Result<Vec<(Series, Result<Kernel, String>)>> {
    let folder = cache()?.join("kernels");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut found = Vec::new();
    for series in wanted {
        // A list for each: a suite that is gone one day takes only its own series along.
        let lists = Lists::open(&series.name, &series.suites, "main", &logs.join("apt.log"));
        let kernel = lists
            .and_then(|lists| {
                lists.update()?;
                newest(&lists, series, &folder)
            })
            .or_else(|error| cached(series, &folder).ok_or(error));
        let kernel = kernel.map_err(|error| format!("{error:#}").replace('\n', " "));
        if let Ok(kernel) = &kernel {
            eprintln!("  kernel    {}: {}", series.name, kernel.version);
        }
        found.push((series.clone(), kernel));
    }
    Ok(found)
}

fn newest(lists: &Lists, series: &Series, folder: &Path) -> Result<Kernel> {
    let dots = series.name.replace('.', "\\.");
    let pattern = format!("^linux-(image|binary)-{dots}[.-][^ ]*cloud-amd64$");
    let mut packages = lists.search(&pattern)?;
    packages.retain(|package| !package.contains("rc") && version_of(package).contains('.'));
    // Newest first; of one version the package that has the image and nothing else.
    packages.sort_by_key(|package| {
        std::cmp::Reverse((numbers(version_of(package)), package.contains("-binary-")))
    });
    let best = packages.first().map(|package| version_of(package).to_owned());
    let Some(version) = best else {
        bail!("no package of Linux {} in {}", series.name, series.suites.join(", "));
    };
    let kernel = Kernel::of(version, folder);
    if kernel.is_complete() {
        return Ok(kernel);
    }
    let mut refusals = Vec::new();
    for package in packages.iter().filter(|package| version_of(package) == kernel.version) {
        match fetch(lists, package, &kernel) {
            Ok(()) => return Ok(kernel),
            Err(error) => refusals.push(format!("{package}: {error:#}")),
        }
    }
    bail!("{}", refusals.join("; "))
}

/// Takes image and modules out of a package. From 6.19 on the modules have a package of their own.
fn fetch(lists: &Lists, package: &str, kernel: &Kernel) -> Result<()> {
    let folder = cache()?.join("download");
    let unpacked = folder.join("unpacked");
    let unpack = |package: &str| -> Result<Vec<PathBuf>> {
        let archive = lists.download(package, &folder)?;
        child::capture(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&unpacked))?;
        files(&unpacked, &[])
    };
    let mut found = unpack(package)?;
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let image = found.iter().find(|path| name(path).is_some_and(|it| it.starts_with("vmlinuz")));
    let image = fs::read(image.context("no kernel image in it")?).context("read the image")?;
    if !found.iter().any(|path| name(path).is_some_and(|it| it.contains(".ko"))) {
        found = unpack(&format!("linux-modules-{}", kernel.version))?;
    }
    fs::create_dir_all(&kernel.modules).context("create the folder of modules")?;
    for module in MODULES {
        let is_it = |path: &&PathBuf| {
            name(path).is_some_and(|it| it.split_once(".ko").is_some_and(|it| it.0 == *module))
        };
        let packed = found.iter().find(is_it).with_context(|| format!("no module {module}"))?;
        let bytes = module_bytes(packed)?;
        fs::write(kernel.module(module), bytes).with_context(|| format!("keep {module}"))?;
    }
    let _gone = fs::remove_dir_all(&folder);
    let part = kernel.file.with_extension("part");
    fs::write(&part, image).with_context(|| part.display().to_string())?;
    fs::rename(&part, &kernel.file).with_context(|| kernel.file.display().to_string())
}

/// A module as the kernel takes it; newer packages have them compressed.
fn module_bytes(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension == "ko") {
        return fs::read(file).with_context(|| file.display().to_string());
    }
    let output = Command::new("xz").arg("-dc").arg(file).output().context("start xz")?;
    if !output.status.success() {
        bail!("xz -dc {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// The newest that was fetched before, for a day without an archive.
fn cached(series: &Series, folder: &Path) -> Option<Kernel> {
    let prefix = format!("{}.", series.name);
    let names = fs::read_dir(folder).ok()?.flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with(&prefix) && name.ends_with("-cloud-amd64"))
        .map(|version| Kernel::of(version, folder))
        .filter(Kernel::is_complete)
        .max_by_key(|kernel| numbers(&kernel.version))
}

/// `linux-image-6.1.0-56-cloud-amd64` → `6.1.0-56-cloud-amd64`.
fn version_of(package: &str) -> &str {
    let name = package.strip_prefix("linux-image-").or(package.strip_prefix("linux-binary-"));
    let name = name.unwrap_or(package);
    name.strip_prefix("unsigned-").unwrap_or(name)
}

/// The numbers in a version, in order.
fn numbers(version: &str) -> Vec<u64> {
    let digits = version.split(|letter: char| !letter.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_is_by_number_and_not_by_letter() {
        let mut names = ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.1.0-0.deb11.52"];
        names.sort_by_key(|name| numbers(name));
        assert_eq!(names[2], "6.1.0-56-cloud-amd64");
        assert_eq!(version_of("linux-binary-unsigned-7.3.4-cloud-amd64"), "7.3.4-cloud-amd64");
        assert_eq!(version_of("linux-image-6.12.1-cloud-amd64"), "6.12.1-cloud-amd64");
    }

    #[test]
    fn series_are_read_and_one_without_a_suite_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("kernels.txt");
        fs::write(&file, "# words\n7 a b\n").expect("write");
        let list_read = list(&file).expect("reads");
        assert_eq!(list_read, [Series { name: "7".into(), suites: vec!["a".into(), "b".into()] }]);
        fs::write(&file, "7\n").expect("write");
        assert!(list(&file).is_err());
    }
}
