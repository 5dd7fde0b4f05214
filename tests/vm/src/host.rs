//! What a host has mounted, and its end.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::system::RebootCommand;

/// File systems: what, where, type.
const MOUNTS: &[(&str, &str, &str)] = &[
    ("proc", "/proc", "proc"),
    ("sys", "/sys", "sysfs"),
    ("dev", "/dev", "devtmpfs"),
    ("devpts", "/dev/pts", "devpts"),
    ("shm", "/dev/shm", "tmpfs"),
    ("tracefs", "/sys/kernel/tracing", "tracefs"),
    ("bpf", "/sys/fs/bpf", "bpf"),
    ("cgroup", "/sys/fs/cgroup", "cgroup2"),
    ("securityfs", "/sys/kernel/security", "securityfs"),
    ("tmp", "/tmp", "tmpfs"),
    ("run", "/run", "tmpfs"),
];

/// Where modules of the kernel lie, and the one that is left for a test or a case to load.
const MODULES: &str = "/modules";
pub(crate) const SPARE_MODULE: &str = "/modules/dummy.ko";
/// The module of overlays, which tests load once the sensors watch.
pub(crate) const OVERLAY_MODULE: &str = "/modules/overlay.ko";

/// Mounts them all, and starts the loopback interface.
pub(crate) fn mount() -> Result<(), String> {
    stack_root().map_err(|error| format!("stack the root: {error}"))?;
    for (source, path, kind) in MOUNTS {
        if !Path::new(path).is_dir() {
            std::fs::create_dir_all(path).map_err(|error| format!("{path}: {error}"))?;
        }
        rustix::mount::mount(*source, *path, *kind, MountFlags::empty(), None)
            .map_err(|error| format!("mount {kind} on {path}: {error}"))?;
    }
    loopback_up().map_err(|error| format!("lo: {error}"))
}

/// Puts a second mount of the first file system over it, as a host has its root over the one that
/// it was started from: nobody can take another root by `pivot_root`(2) in the first one.
fn stack_root() -> std::io::Result<()> {
    let place = "/root";
    std::fs::create_dir_all(place)?;
    rustix::mount::mount_bind("/", place)?;
    std::env::set_current_dir(place)?;
    rustix::mount::mount_move(".", "/")?;
    std::os::unix::fs::chroot(".")?;
    std::env::set_current_dir("/")
}

/// Loads the modules that the image holds, but for the spare one.
fn load_modules() -> Result<(), String> {
    let entries = std::fs::read_dir(MODULES).map_err(|error| format!("{MODULES}: {error}"))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path == Path::new(SPARE_MODULE) {
            continue;
        }
        load_module(&path)?;
    }
    Ok(())
}

/// Loads a module, unless it is loaded.
pub(crate) fn load_module(path: &Path) -> Result<(), String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(format!("load {}: {error}", path.display())),
    }
}

/// `SIOCSIFFLAGS` on `lo` (netdevice(7)).
fn loopback_up() -> std::io::Result<()> {
    // SAFETY: a request of plain integers and bytes; all zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = libc::c_char::from(b'l'.cast_signed());
    request.ifr_name[1] = libc::c_char::from(b'o'.cast_signed());
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(1);
    // SAFETY: plain system calls; the request lives through both.
    let done = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request)
    };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// A word of the kernel's command line: `name=value`.
pub(crate) fn command_line(name: &str) -> Option<String> {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let prefix = format!("{name}=");
    line.split_whitespace().find_map(|word| word.strip_prefix(&prefix)).map(str::to_owned)
}

/// Plays cases of the evasion suite before the monitor that the image holds. `false` when one of
/// them failed; their outcome is one line of JSON.
pub(crate) fn play_cases(cases: &str) -> Result<bool, String> {
    load_modules()?;
    // As service managers leave it; the kernel's own default lets nobody ping.
    let range = "/proc/sys/net/ipv4/ping_group_range";
    std::fs::write(range, "0 2147483647").map_err(|error| format!("{range}: {error}"))?;
    let status = Command::new("/opt/gpuwarden/xtask")
        .args(["evasion", "--inside", "--json", "--keep", "--monitor", "/opt/gpuwarden/gpuwarden"])
        .args(["--only", cases])
        .env("PATH", "/usr/sbin:/usr/bin")
        .env("CARGO_MANIFEST_DIR", "/tree/xtask")
        .env("CARGO_TARGET_DIR", "/tmp/target")
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("start the suite: {error}"))?;
    if !status.success() {
        print_logs(Path::new("/tmp"));
    }
    Ok(status.success())
}

/// Prints what the monitors said about themselves: the machine is gone in a moment.
fn print_logs(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            print_logs(&path);
        } else if path.ends_with("monitor.log") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            println!("{}:\n{}", path.display(), text.trim_end());
        }
    }
}

/// Ends the machine.
pub(crate) fn power_off() -> ExitCode {
    let _flushed = std::io::stdout().flush();
    if let Err(error) = rustix::system::reboot(RebootCommand::PowerOff) {
        eprintln_once(&error.to_string());
    }
    ExitCode::FAILURE
}

fn eprintln_once(text: &str) {
    let _written = writeln!(std::io::stderr(), "power off: {text}");
}
