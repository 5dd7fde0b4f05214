//! The fake library held against a real one: `libnvidia-ml` of Debian's archive, fetched into the
//! cache of the build tool and never a part of this tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use monitor::gpu::backend::GpuDriver as _;
use monitor::gpu::library::LIBRARY_NAME;
use monitor::gpu::{GpuError, NvmlDriver};
use object::{Object as _, ObjectSymbol};
use serde_json::Value;

use crate::client::binding;
use crate::stage::library;

/// A name that begins every call of the interface.
const LEAD: &str = "nvml";

/// The real library; `None` where none can be had, and then it is said why. Where everything must
/// be tested (`CI=true`) that is a failure.
fn real() -> Option<&'static Path> {
    static FETCHED: OnceLock<Option<PathBuf>> = OnceLock::new();
    let fetched = FETCHED.get_or_init(|| match fetch() {
        Ok(path) => Some(path),
        Err(why) => {
            let must = std::env::var_os("CI").is_some_and(|value| value == "true");
            assert!(!must, "no real driver library: {why}");
            leave_out(&format!("no real driver library could be fetched: {why}"));
            None
        }
    });
    fetched.as_deref()
}

#[expect(clippy::print_stderr, reason = "what was not tested must be seen in the log")]
fn leave_out(why: &str) {
    eprintln!("left out: {why}");
}

fn fetch() -> Result<PathBuf, String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--package", "xtask", "--", "driver"]);
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).stdin(Stdio::null());
    let output = cargo.output().map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(PathBuf::from(path))
}

/// The calls in a library's table of dynamic symbols.
pub(crate) fn exported(path: &Path) -> BTreeSet<String> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = object::File::parse(&*bytes).expect("a shared library");
    let defined = file.dynamic_symbols().filter(ObjectSymbol::is_definition);
    let names = defined.filter_map(|symbol| Some(symbol.name().ok()?.to_owned()));
    names.filter(|name| name.starts_with(LEAD)).collect()
}

/// Words in a text that begin as calls do and follow `before`.
fn words_after(text: &str, before: &str) -> BTreeSet<String> {
    let rests = text.split(before).skip(1);
    let word = |rest: &str| {
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    rests.map(word).filter(|word| word.starts_with(LEAD)).collect()
}

/// What the wrapper looks up, from its bindings.
fn looked_up_by_the_wrapper() -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--offline"]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let bindings = packages.iter().find(|package| package["name"] == "nvml-wrapper-sys");
    let manifest = bindings.and_then(|package| package["manifest_path"].as_str());
    let manifest = Path::new(manifest.expect("the wrapper's bindings are a dependency"));
    let path = manifest.with_file_name("src").join("bindings.rs");
    words_after(&fs::read_to_string(path).expect("the bindings"), "get(b\"")
}

/// What NVIDIA's own Python binding looks up.
fn looked_up_by_the_binding() -> BTreeSet<String> {
    let text = fs::read_to_string(binding()).expect("the binding's source");
    words_after(&text, "_nvmlGetFunctionPointer(\"")
}

#[test]
fn the_fake_exports_what_a_real_driver_does() {
    let Some(real) = real() else { return };
    let (real, fake) = (exported(real), exported(library()));
    assert!(real.len() > 300, "only {} calls in the real library", real.len());
    let invented: Vec<_> = fake.difference(&real).collect();
    assert!(invented.is_empty(), "no driver exports {invented:?}");

    let (wrapper, binding) = (looked_up_by_the_wrapper(), looked_up_by_the_binding());
    for (client, calls) in [("nvml-wrapper", wrapper), ("nvidia-ml-py", binding)] {
        assert!(calls.len() > 300, "only {} calls of {client} found", calls.len());
        let missing: Vec<_> =
            calls.iter().filter(|call| real.contains(*call) && !fake.contains(*call)).collect();
        assert!(missing.is_empty(), "{client} finds in a real driver alone {missing:?}");
    }
}

#[test]
fn the_kept_list_of_calls_is_that_of_the_real_library() {
    let Some(path) = real() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/gpu");
    let version = path.file_name().expect("a file").to_string_lossy();
    let version = version.trim_start_matches("libnvidia-ml.so.").to_owned();
    let list = root.join(format!("nvml-{version}.txt"));
    let Ok(text) = fs::read_to_string(&list) else {
        leave_out(&format!("the archive now has {version}, and no list is kept of it"));
        return;
    };
    let kept: BTreeSet<String> =
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    assert_eq!(kept, exported(path));
}

/// What a host says that has the library and no kernel module, by the vendor's own code.
#[test]
fn the_real_library_without_a_kernel_module_is_no_driver() {
    let Some(real) = real() else { return };
    if Path::new("/proc/driver/nvidia/version").exists() {
        leave_out("this host has a driver");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join(LIBRARY_NAME);
    fs::copy(real, &copy).expect("room for a copy");
    let mut driver = NvmlDriver { paths: vec![folder.path().to_owned()], is_exclusive: true };
    let error = driver.with_backend(&mut |_| panic!("there is no driver")).unwrap_err();
    assert_eq!(error, GpuError::NoDriver { library: copy });
}
