//! `vm`: the sensors on other kernels. Each is booted in an emulated machine whose first process is
//! the test, and every test is a line on its serial port.
//!
//! Emulated, and not virtual: a device named /dev/kvm may open and still not run an unmodified
//! kernel, and a run that depends on the host says less. KVM is used when it is asked for.

mod debian;
pub(crate) mod driver;
mod guest;
mod image;
mod kernel;
mod machine;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::image::Archive;
use self::kernel::{Kernel, Series};
use self::machine::Machine;
use self::report::BootResult;
use crate::cli::VmArgs;
use crate::tree::Tree;
use crate::{child, setup};

pub(crate) use self::debian::ensure_qemu;
pub(crate) use self::guest::play;

/// Kernels that must have run, or the result says too little to be green.
const KERNELS_MIN: usize = 4;
/// Machines at once.
const JOBS_MAX: usize = 4;
/// Memory of a machine.
const MEMORY_MIB: u32 = 768;
/// How long a machine may take: half a minute on a quiet host, and five times that where three
/// machines and a compiler share two processors.
const PATIENCE: Duration = Duration::from_mins(5);
/// The security modules of a machine that calls LSM programs, and of one that does not.
const LSM_WITH_BPF: &str = "lsm=lockdown,capability,bpf gpuwarden.lsm=yes";
const LSM_WITHOUT_BPF: &str = "lsm=lockdown,capability gpuwarden.lsm=no";

/// The modules that the tests load: one that does nothing, and that of overlays. Neither needs
/// another one.
const TESTED_MODULES: &[&str] = &["dummy", "overlay"];

/// A way to boot one series beside the usual one.
struct Variant {
    series: &'static str,
    name: &'static str,
    command_line: &'static str,
}

const VARIANTS: &[Variant] = &[
    // Debian's own default on this kernel: LSM programs attach and are never called.
    Variant { series: "5.10", name: "no bpf in lsm=", command_line: LSM_WITHOUT_BPF },
    Variant {
        series: "6.12",
        name: "lockdown=integrity",
        command_line: "lsm=lockdown,capability,bpf gpuwarden.lsm=yes lockdown=integrity",
    },
];

/// `cargo xtask vm`.
pub(crate) fn run(tree: &Tree, args: &VmArgs) -> Result<ExitCode> {
    let folder = tree.logs()?.join("vm");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    ensure_qemu(&folder)?;
    let wanted = wanted(tree, &args.kernel)?;
    let found = kernel::find(&wanted, &folder)?;
    let program = build(tree, args.debug, &folder)?;
    let machines = machines(&found, args, &folder, &image::archive(&program)?)?;
    let mut results = boot(&machines, jobs(args.jobs));
    let ran = found.iter().filter(|(_, kernel)| kernel.is_ok()).count();
    for (series, kernel) in &found {
        if let Err(why) = kernel {
            results.push(BootResult::skipped(&series.name, why));
        }
    }
    let needed = KERNELS_MIN.min(wanted.len());
    for machine in machines.iter().filter(|_| !args.keep) {
        let _gone = std::fs::remove_file(&machine.image);
    }
    let is_enough = ran >= needed;
    if !is_enough {
        results.push(BootResult::failed(
            "kernels",
            &format!("{ran} kernels ran, at least {needed} are needed"),
        ));
    }
    Ok(report::print(&results, args.json))
}

/// The series of the list that were asked for.
fn wanted(tree: &Tree, only: &[String]) -> Result<Vec<Series>> {
    let all = kernel::list(&tree.path("tests/vm/kernels.txt"))?;
    if only.is_empty() {
        return Ok(all);
    }
    let known: Vec<String> = all.iter().map(|series| series.name.clone()).collect();
    if let Some(unknown) = only.iter().find(|name| !known.contains(name)) {
        bail!("kernel {unknown} is not in tests/vm/kernels.txt, which has {}", known.join(" "));
    }
    Ok(all.into_iter().filter(|series| only.contains(&series.name)).collect())
}

/// Builds the first process.
fn build(tree: &Tree, is_debug: bool, folder: &Path) -> Result<PathBuf> {
    let toolchain = setup::for_build(tree)?;
    let mut cargo = setup::cargo(tree, Some(&toolchain));
    cargo.args(["build", "--package", "vm-init"]);
    if !is_debug {
        cargo.arg("--release");
    }
    child::must_log("build the first process", &mut cargo, &folder.join("build.log"))?;
    let name = "vm-init";
    Ok(if is_debug { tree.debug(name) } else { tree.release(name) })
}

fn machines(
    found: &[(Series, Result<Kernel, String>)],
    args: &VmArgs,
    folder: &Path,
    system: &Archive,
) -> Result<Vec<Machine>> {
    let mut machines = Vec::new();
    for (series, kernel) in found {
        let Ok(kernel) = kernel else { continue };
        let image = folder.join(format!("init-{}.cpio", series.name));
        let whole = system.clone().with_modules(kernel, TESTED_MODULES)?.finish();
        std::fs::write(&image, whole).with_context(|| image.display().to_string())?;
        let variants = VARIANTS.iter().filter(|variant| variant.series == series.name);
        let ways = std::iter::once(("", LSM_WITH_BPF))
            .chain(variants.map(|variant| (variant.name, variant.command_line)));
        for (variant, words) in ways {
            let name = format!("{} {variant}", series.name).trim().to_owned();
            let log = folder.join(format!("{}.log", name.replace([' ', '='], "-")));
            let mut words = words.to_owned();
            if let Some(only) = &args.test {
                words = format!("{words} gpuwarden.only={only}");
            }
            machines.push(Machine {
                name,
                version: kernel.version.clone(),
                kernel: kernel.file.clone(),
                image: image.clone(),
                command_line: words,
                log,
                use_kvm: args.kvm,
                memory_mib: MEMORY_MIB,
                patience: PATIENCE,
            });
        }
    }
    Ok(machines)
}

/// Boots all, `jobs` at a time.
fn boot(machines: &[Machine], jobs: usize) -> Vec<BootResult> {
    side_by_side(machines, jobs, |machine| {
        let result = machine.boot();
        eprintln!("  {}", result.line());
        result
    })
}

/// How many machines run at once, unless somebody says so: one on a desk, two in a CI.
pub(crate) fn jobs(asked: Option<usize>) -> usize {
    asked.unwrap_or(if child::is_ci() { 2 } else { 1 }).clamp(1, JOBS_MAX)
}

/// Does something with each, `jobs` at a time; results come back in the order of the things.
fn side_by_side<T: Sync, R: Send>(
    things: &[T],
    jobs: usize,
    act: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = Mutex::new(things.iter().enumerate());
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let Some((at, thing)) = next.lock().ok().and_then(|mut next| next.next())
                    else {
                        return;
                    };
                    let result = act(thing);
                    if let Ok(mut results) = results.lock() {
                        results.push((at, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_things() {
        let things: Vec<u64> = (0..20).collect();
        let twice = side_by_side(&things, 3, |thing| {
            std::thread::sleep(Duration::from_millis(20 - thing));
            thing * 2
        });
        assert_eq!(twice, things.iter().map(|thing| thing * 2).collect::<Vec<_>>());
    }
}
