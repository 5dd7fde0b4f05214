//! The DRM backend over recordings of `/proc` and `/sys` in the form that the kernel's
//! documentation gives for each driver.
#![expect(clippy::unwrap_used, reason = "a test may end where it finds something wrong")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use monitor::gpu::backend::{GpuBackend, GpuDriver};
use monitor::gpu::fdinfo::{AnyDriver, Client, FdinfoDriver};
use monitor::gpu::round::Rounds;
use monitor::gpu::{GpuError, NvmlDriver};
use monitor::model::{BootNs, Tgid};

const SECOND: u64 = 1_000_000_000;
static NOW: AtomicU64 = AtomicU64::new(0);
/// Another clock, for a test beside the first.
static SLOW: AtomicU64 = AtomicU64::new(0);

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A descriptor of a render node, and what fdinfo says of it.
fn descriptor(root: &Path, pid: u32, fd: u32, fdinfo: &str) {
    let folder = root.join(format!("proc/{pid}/fd"));
    fs::create_dir_all(&folder).unwrap();
    let link = folder.join(fd.to_string());
    if !link.is_symlink() {
        symlink("/dev/dri/renderD128", link).unwrap();
    }
    put(root, &format!("proc/{pid}/fdinfo/{fd}"), fdinfo);
}

fn recording(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/gpu/fdinfo");
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn each_driver_is_read_as_it_writes() {
    let amd = Client::parse(&recording("amdgpu.txt")).unwrap();
    assert_eq!((amd.driver.as_str(), amd.pdev.as_str(), amd.id), ("amdgpu", "0000:03:00.0", 42));
    assert_eq!(amd.busy_ns.get("compute"), Some(&9_000_000_000));
    assert_eq!(amd.memory_bytes, 2_097_152 << 10, "vram and not gtt; once, though told twice");
    let i915 = Client::parse(&recording("i915.txt")).unwrap();
    assert_eq!(i915.busy_ns.get("render"), Some(&25_662_044_495));
    assert!(!i915.busy_ns.contains_key("capacity-video"), "a capacity is no time");
    assert_eq!(i915.capacity.get("video"), Some(&2));
    assert_eq!(i915.memory_bytes, 512 << 20);
    let xe = Client::parse(&recording("xe.txt")).unwrap();
    assert_eq!(xe.cycles.get("ccs"), Some(&(28_257_900, 7_655_183_225)));
    assert_eq!(xe.memory_bytes, 192_512 << 10);
    assert_eq!(Client::parse("pos:\t0\nflags:\t02\nmnt_id:\t13\n"), None, "any other file");
    let foreign = recording("amdgpu.txt").replace("amdgpu", "nouveau");
    assert_eq!(Client::parse(&foreign), None);
}

/// A host with one AMD GPU.
fn host(root: &Path) {
    let device = "sys/class/drm/renderD128/device";
    let uevent = "DRIVER=amdgpu\nPCI_ID=1002:740F\nPCI_SLOT_NAME=0000:03:00.0\n";
    put(root, &format!("{device}/uevent"), uevent);
    put(root, &format!("{device}/unique_id"), "4d0c1f2e3b5a6978\n");
    put(root, &format!("{device}/gpu_busy_percent"), "87\n");
    put(root, &format!("{device}/mem_info_vram_used"), "3221225472\n");
    put(root, &format!("{device}/mem_info_vram_total"), "68702699520\n");
    put(root, &format!("{device}/hwmon/hwmon4/power1_average"), "251000000\n");
    put(root, &format!("{device}/hwmon/hwmon4/temp1_input"), "61000\n");
}

fn driver(root: &Path) -> FdinfoDriver {
    FdinfoDriver { root: root.to_owned(), now_ns: || NOW.load(Ordering::Relaxed) }
}

#[test]
fn processes_are_counted_once_and_their_time_is_a_share() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    host(root);
    let first = recording("amdgpu.txt");
    descriptor(root, 700, 5, &first);
    // A duplicate of the descriptor, and a child that inherited another client.
    descriptor(root, 700, 6, &first);
    descriptor(root, 701, 5, &first.replace("drm-client-id:\t42", "drm-client-id:\t43"));
    put(root, "proc/702/fd/.keep", "");
    let mut rounds = Rounds::default();
    let mut seen = Vec::new();
    let mut work = |backend: &mut dyn GpuBackend| {
        for second in 100..103_u64 {
            NOW.store(second * SECOND, Ordering::Relaxed);
            let later = 9_000_000_000 + (second - 100) * 600_000_000;
            descriptor(root, 700, 5, &first.replace("9000000000 ns", &format!("{later} ns")));
            descriptor(root, 700, 6, &first.replace("9000000000 ns", &format!("{later} ns")));
            seen.push(rounds.next(backend, BootNs(second * SECOND)).unwrap());
        }
    };
    driver(root).with_backend(&mut work).unwrap();
    let last = &seen[2].batch;
    assert_eq!(last.state.to_string(), "active: 1 GPU(s), fdinfo driver amdgpu");
    let reading = &last.devices[0].reading;
    assert_eq!((reading.util_percent, reading.mem_used_bytes), (Some(87.0), Some(3 << 30)));
    assert_eq!((reading.power_watts, reading.temperature_celsius), (Some(251.0), Some(61.0)));
    let of = |pid| last.processes.iter().find(|process| process.pid == Tgid(pid)).unwrap();
    assert_eq!(of(700).mem_used_bytes, Some(2_097_152 << 10), "one client, two descriptors");
    assert_eq!(of(700).proc_util_percent, Some(60.0));
    assert_eq!(of(701).proc_util_percent, Some(0.0));
    assert_eq!(last.processes.len(), 2);
    assert_eq!(of(700).gpu.as_str(), "GPU-4d0c1f2e3b5a6978");
}

/// A GPU of Intel, whose driver counts cycles and has four engines under one name.
#[test]
fn the_time_of_several_engines_of_one_name_is_shared() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let uevent = "DRIVER=xe\nPCI_ID=8086:0BDA\nPCI_SLOT_NAME=0000:03:00.0\n";
    put(root, "sys/class/drm/renderD128/device/uevent", uevent);
    let first = recording("xe.txt");
    let mut rounds = Rounds::default();
    let mut seen = Vec::new();
    let mut work = |backend: &mut dyn GpuBackend| {
        for second in 200..203_u64 {
            SLOW.store(second * SECOND, Ordering::Relaxed);
            let passed = second - 200;
            // Three of four engines at work: 300 % of the cycles that pass.
            let cycles = format!("drm-cycles-ccs:\t{}", 28_257_900 + passed * 3_000);
            let total = format!("drm-total-cycles-ccs:\t{}", 7_655_183_225 + passed * 1_000);
            let now = first
                .replace("drm-cycles-ccs:\t28257900", &cycles)
                .replace("drm-total-cycles-ccs:\t7655183225", &total);
            descriptor(root, 800, 7, &now);
            seen.push(rounds.next(backend, BootNs(second * SECOND)).unwrap());
        }
    };
    let now_ns = || SLOW.load(Ordering::Relaxed);
    FdinfoDriver { root: root.to_owned(), now_ns }.with_backend(&mut work).unwrap();
    let last = &seen[2].batch;
    assert_eq!(last.devices[0].device.model, "xe 8086:0BDA");
    assert_eq!(last.devices[0].device.uuid.as_str(), "PCI-0000:03:00.0");
    assert_eq!(last.processes[0].proc_util_percent, Some(75.0));
    assert_eq!(last.processes[0].mem_used_bytes, Some(192_512 << 10));
}

#[test]
fn without_a_vendor_library_the_kernel_is_asked() {
    let root = tempfile::tempdir().unwrap();
    let nvml = NvmlDriver { paths: vec![root.path().to_owned()], is_exclusive: true };
    let mut any = AnyDriver { nvml, fdinfo: driver(root.path()) };
    let none = any.with_backend(&mut |_| panic!("there is no GPU")).unwrap_err();
    assert!(matches!(none, GpuError::NoLibrary { .. }), "{none}");
    host(root.path());
    let mut name = "";
    any.with_backend(&mut |backend| name = backend.info().name).unwrap();
    assert_eq!(name, "fdinfo");
}
