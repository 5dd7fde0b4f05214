//! Where rules come from: files below the given paths.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;

/// Largest rule file in bytes; shipped ones have some 5 KiB.
pub(crate) const SOURCE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Deepest folder below a given path; a link that leads back upwards ends here.
pub(crate) const SOURCE_DEPTH_MAX: usize = 16;
/// Most entries of folders that are looked at: who names `/` by mistake is told so at once.
pub(crate) const SOURCE_ENTRIES_MAX: usize = 65_536;
/// Most rule files of one load.
pub(crate) const SOURCES_MAX: usize = 4_096;

/// The text of a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name in messages.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Its folder, in which fixtures are looked for.
    pub dir: Option<PathBuf>,
    /// Whether its tests are left out: those of the rules in the binary are run when it is built.
    pub untested: bool,
}

/// Reads every `*.yaml` file at or below `paths`, in order of name. What cannot be read is told;
/// the rest is returned all the same.
pub(crate) fn read_paths(paths: &[PathBuf]) -> (Vec<Source>, Vec<Diagnostic>) {
    let mut files = Vec::new();
    let mut mistakes = Vec::new();
    let mut left = SOURCE_ENTRIES_MAX;
    for path in paths {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {
                let before = files.len();
                walk(path, 0, &mut left, &mut files, &mut mistakes);
                if left == 0 {
                    let message = format!(
                        "more than {SOURCE_ENTRIES_MAX} entries; name the folder that holds rules"
                    );
                    mistakes.push(Diagnostic::of_file(&name(path), message));
                    return (Vec::new(), mistakes);
                }
                if files.len() == before && mistakes.is_empty() {
                    let message = "no *.yaml file is in this folder";
                    mistakes.push(Diagnostic::of_file(&name(path), message));
                }
            }
            Ok(_) => files.push(path.clone()),
            Err(error) => mistakes.push(unreadable(path, &error)),
        }
    }
    files.sort();
    files.dedup();
    if files.len() > SOURCES_MAX {
        let message = format!("{} rule files, at most {SOURCES_MAX} are read", files.len());
        mistakes.push(Diagnostic::of_file(&name(&files[SOURCES_MAX]), message));
        files.truncate(SOURCES_MAX);
    }
    let mut sources = Vec::with_capacity(files.len());
    for file in files {
        match read(&file) {
            Ok(source) => sources.push(source),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    (sources, mistakes)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::of_file(&name(path), format!("cannot be read: {error}"))
}

fn walk(
    dir: &Path,
    depth: usize,
    left: &mut usize,
    files: &mut Vec<PathBuf>,
    mistakes: &mut Vec<Diagnostic>,
) {
    if depth > SOURCE_DEPTH_MAX {
        let message = format!("deeper than {SOURCE_DEPTH_MAX} folders; is there a link upwards?");
        mistakes.push(Diagnostic::of_file(&name(dir), message));
        return;
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return mistakes.push(unreadable(dir, &error)),
    };
    for entry in entries {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return;
        }
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                mistakes.push(unreadable(dir, &error));
                continue;
            }
        };
        // A ConfigMap volume shows each file twice, once below a folder `..data`.
        if path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            walk(&path, depth + 1, left, files, mistakes);
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            files.push(path);
        }
    }
}

fn read(path: &Path) -> Result<Source, Diagnostic> {
    // To open a pipe waits until somebody writes into it, perhaps for ever.
    if fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo()) {
        return Err(Diagnostic::of_file(&name(path), "a pipe; expected a file"));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    // Read one byte more than is allowed, so that a file that grows meanwhile is noticed too.
    let mut bytes = Vec::new();
    file.take(SOURCE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > SOURCE_BYTES_MAX {
        let message =
            format!("larger than {SOURCE_BYTES_MAX} bytes, the most a rule file may have");
        return Err(Diagnostic::of_file(&name(path), message));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = memchr::memchr_iter(b'\n', &error.as_bytes()[..at]).count();
        let message = format!("not UTF-8 text: line {}, byte {at} of the file", before + 1);
        Diagnostic::of_file(&name(path), message)
    })?;
    Ok(Source {
        name: name(path),
        text,
        dir: path.parent().map(Path::to_path_buf),
        untested: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_order_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().expect("a folder");
        for (path, text) in
            [("b/x.yaml", "b"), ("a.yml", "a"), ("..data/a.yaml", "hidden"), ("n.txt", "no")]
        {
            let full = dir.path().join(path);
            fs::create_dir_all(full.parent().expect("a parent")).expect("created");
            fs::write(full, text).expect("written");
        }
        let (sources, mistakes) = read_paths(&[dir.path().to_path_buf()]);
        let texts: Vec<&str> = sources.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["a", "b"]);
        assert_eq!(mistakes, []);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_rest_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).expect("written");
            path
        };
        let large = file("large.yaml", &vec![b' '; 10 * 1024 * 1024 + 1]);
        let latin = file("latin.yaml", b"a: 1\nb: \xe9\n");
        let good = file("good.yaml", b"a: 1\n");
        let missing = dir.path().join("missing.yaml");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).expect("linked");
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).expect("created");
        let (sources, mistakes) = read_paths(&[empty, large, latin, good, missing]);
        assert_eq!(sources.len(), 1);
        let text: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        for part in [
            "no *.yaml file",
            "missing.yaml: error: cannot be read",
            "larger than",
            "line 2, byte 8",
        ] {
            assert!(text.iter().any(|line| line.contains(part)), "{part}: {text:?}");
        }
        let (_, mistakes) = read_paths(&[dir.path().to_path_buf()]);
        let text: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert!(text.iter().any(|line| line.contains("a link upwards")), "{text:?}");
    }
}
