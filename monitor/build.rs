//! Builds the kernel programs with the toolchain `cargo xtask setup` found, and hands the object to
//! `sensor::loader` through `OUT_DIR`.
//!
//! `AYA_BUILD_SKIP=1` skips the kernel side: the daemon then builds with an empty object and says
//! so when it starts. That is for editing the daemon on a machine without a BPF toolchain.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use aya_build::{Package, Toolchain, build_ebpf};
use object::build::elf::SectionData;

/// The name under which `cargo xtask setup` links a compiler that has a BPF `core`.
const LINKED_TOOLCHAIN: &str = "gpuwarden-bpf";

fn main() -> Result<()> {
    embed_rules()?;
    println!("cargo:rerun-if-env-changed=GPUWARDEN_BPF_TOOLCHAIN");
    println!("cargo:rerun-if-env-changed=AYA_BUILD_SKIP");
    println!("cargo:rerun-if-changed=../monitor-common/src");
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| anyhow!("OUT_DIR is not set"))?;
    let object = Path::new(&out).join("gpuwarden-bpf");
    if std::env::var_os("AYA_BUILD_SKIP").is_some_and(|skip| skip == "1" || skip == "true") {
        for object in ["gpuwarden-bpf", "gpuwarden-floor"] {
            std::fs::write(Path::new(&out).join(object), []).context("write an empty object")?;
        }
        return Ok(());
    }
    let toolchain =
        std::env::var("GPUWARDEN_BPF_TOOLCHAIN").unwrap_or_else(|_| LINKED_TOOLCHAIN.to_owned());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitor-ebpf");
    let root = root.to_str().ok_or_else(|| anyhow!("{} is not UTF-8", root.display()))?;
    build_ebpf(
        [Package { name: "monitor-ebpf", root_dir: root, ..Package::default() }],
        Toolchain::Custom(&toolchain),
    )
    .context("build the kernel programs; `cargo xtask setup` installs what they need")?;
    strip(&object).with_context(|| format!("strip {}", object.display()))
}

/// Takes what is for debuggers out of an object: the kernel reads `.BTF`, and the daemon would
/// carry the rest in its memory.
fn strip(object: &Path) -> Result<()> {
    let bytes = std::fs::read(object)?;
    let mut builder = object::build::elf::Builder::read(&*bytes)?;
    for section in &mut builder.sections {
        let name = section.name.to_vec();
        section.delete = name.starts_with(b".debug") || name.starts_with(b".rel.debug");
    }
    builder.delete_orphans();
    // LLVM writes the names of sections and of symbols into one table; two are as good.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = object::elf::SHT_STRTAB;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    std::fs::write(object, stripped)?;
    Ok(())
}

/// Writes the shipped rules into the binary, as a list of (name, text).
fn embed_rules() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect_yaml(&root, &mut files)?;
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        println!("cargo:rerun-if-changed={}", file.display());
        writeln!(
            list,
            "    ({:?}, include_str!({:?})),",
            format!("shipped/{name}"),
            file.display().to_string()
        )?;
    }
    list.push(']');
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| anyhow!("OUT_DIR is not set"))?;
    std::fs::write(Path::new(&out).join("shipped_rules.rs"), list).context("write the rule list")
}

fn collect_yaml(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect_yaml(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}
