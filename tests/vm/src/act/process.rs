//! Acts on processes and on the kernel.

use std::ffi::CString;
use std::io::{Error, Read as _, Result, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::process::{Child, Command, Stdio};

use super::{checked, checked_len};

/// Executes a copy of this program that has no name in any directory.
pub(super) fn exec_memfd() -> Result<()> {
    // SAFETY: the name lives through the call; the descriptor is owned by the file from here on.
    let mut file =
        unsafe { std::fs::File::from_raw_fd(checked(libc::memfd_create(c"train".as_ptr(), 0))?) };
    file.write_all(&std::fs::read("/init")?)?;
    let [first, second, third] = ["python3", "act", "nothing"].map(CString::new);
    let (first, second, third) = (first?, second?, third?);
    let argv = [first.as_ptr(), second.as_ptr(), third.as_ptr(), std::ptr::null()];
    let envp = [std::ptr::null()];
    // SAFETY: both lists end in a null pointer, and their texts live through the call.
    unsafe { libc::fexecve(file.as_raw_fd(), argv.as_ptr(), envp.as_ptr()) };
    Err(Error::last_os_error())
}

/// Becomes a program that is called like NVIDIA's container tool, and maps a file to run it.
pub(super) fn as_toolkit(path: &str) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let tool = "/tmp/nvidia-container-cli";
    if !std::path::Path::new(tool).exists() {
        std::os::unix::fs::symlink("/init", tool)?;
    }
    Err(Command::new(tool).args(["act", "map_exec", path]).exec())
}

/// A child that is reached into, and that ends with its parent's interest.
struct Target(Child);

impl Target {
    fn start() -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        let child = command.args(["act", "sleep"]).stdin(Stdio::null()).spawn()?;
        // It has its own memory once it has executed.
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(Self(child))
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or(-1)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Reaches into a child by the road named.
pub(super) fn reach(road: &str) -> Result<()> {
    let target = Target::start()?;
    let pid = target.pid();
    match road {
        "ptrace" => {
            let null = std::ptr::null_mut::<libc::c_void>;
            // SAFETY: a plain system call; the child is ours.
            let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, null(), null()) };
            checked(i32::try_from(done).unwrap_or(-1)).map(drop)
        }
        "vm_read" => {
            let at = stack(pid)?;
            let mut block = [0u8; 64];
            let here = libc::iovec { iov_base: block.as_mut_ptr().cast(), iov_len: block.len() };
            let there = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: block.len() };
            // SAFETY: the local buffer is as long as its vector says; the remote address is only
            // looked up in the other process.
            let len =
                unsafe { libc::process_vm_readv(pid, &raw const here, 1, &raw const there, 1, 0) };
            checked_len(len).map(drop)
        }
        "proc_mem" => {
            let mut memory = std::fs::File::open(format!("/proc/{pid}/mem"))?;
            memory.seek(SeekFrom::Start(stack(pid)?))?;
            memory.read_exact(&mut [0; 64])
        }
        _ => {
            // SAFETY: plain system calls.
            unsafe {
                let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
                let stolen = libc::syscall(libc::SYS_pidfd_getfd, pidfd, 1, 0);
                checked(i32::try_from(stolen).unwrap_or(-1)).map(drop)
            }
        }
    }
}

/// An address that is mapped in a process: the start of its stack's mapping's last page.
fn stack(pid: i32) -> Result<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = maps.lines().find(|line| line.ends_with("[stack]"));
    let end = line
        .and_then(|line| line.split(['-', ' ']).nth(1))
        .and_then(|end| u64::from_str_radix(end, 16).ok())
        .ok_or_else(|| Error::other("no stack"))?;
    Ok(end - 4096)
}

/// Asks a process to end.
pub(super) fn signal(pid: usize) -> Result<()> {
    let pid = i32::try_from(pid).map_err(Error::other)?;
    // SAFETY: a plain system call.
    checked(unsafe { libc::kill(pid, libc::SIGTERM) }).map(drop)
}

/// Loads the smallest program: `r0 = 0; exit`.
pub(super) fn bpf_load() -> Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        program: u64,
        license: u64,
        rest: [u64; 16],
    }
    let program: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];
    let load = Load {
        kind: 1,
        count: 2,
        program: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: BPF_PROG_LOAD (5) reads the structure, and what it points at, which all live.
    let loaded =
        unsafe { libc::syscall(libc::SYS_bpf, 5, &raw const load, std::mem::size_of::<Load>()) };
    checked(i32::try_from(loaded).unwrap_or(-1)).map(drop)
}

/// Leaves a namespace, enters one, mounts, or takes another root.
pub(super) fn namespace(how: &str, path: &str) -> Result<()> {
    let text = CString::new(path)?;
    // SAFETY: plain system calls with texts and a file that live through them.
    let done = unsafe {
        match how {
            "unshare" => libc::unshare(libc::CLONE_NEWUTS),
            "setns" => {
                let own = std::fs::File::open("/proc/self/ns/uts")?;
                libc::setns(own.as_raw_fd(), libc::CLONE_NEWUTS)
            }
            "mount" => {
                std::fs::create_dir_all(path)?;
                let kind = c"tmpfs".as_ptr();
                let mounted = libc::mount(kind, text.as_ptr(), kind, 0, std::ptr::null());
                libc::umount(text.as_ptr());
                mounted
            }
            _ => libc::chroot(text.as_ptr()),
        }
    };
    checked(done).map(drop)
}

/// Freezes a cgroup of its own, and lets it go on.
pub(super) fn freeze(directory: &str) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let file = format!("{directory}/cgroup.freeze");
    std::fs::write(&file, "1")?;
    std::fs::write(&file, "0")?;
    std::fs::remove_dir(directory)
}
