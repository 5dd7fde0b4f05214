//! What the watched process does: one act a name, by real system calls.

mod file;
mod module;
mod pipe;
mod process;
mod segment;
mod send;
mod uring;

use std::io::{Error, Result};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

pub(crate) use self::module::{NAME as MODULE_NAME, TABLES as MODULE_TABLES};

/// Plays the act `name`.
pub(crate) fn play(name: &str, args: &[String]) -> Result<()> {
    let arg = |index: usize| args.get(index).map_or("", String::as_str);
    let number = |index: usize| arg(index).parse::<usize>().unwrap_or(0);
    match name {
        "nothing" => Ok(()),
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_secs(30));
            Ok(())
        }
        "exec" => Err(Command::new("/init").args(["act", "nothing"]).exec()),
        "memfd" => process::exec_memfd(),
        "thread" => std::thread::spawn(|| ()).join().map_err(|_| Error::other("the thread died")),
        "tcp" => send::tcp(number(0)),
        "tcp_sendfile" => send::sendfile(arg(0), number(1)),
        "udp" => send::udp(number(0), arg(1)),
        "frames" => send::frames(number(0)),
        "raw_socket" => {
            // SAFETY: a plain system call.
            checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP) })?;
            Ok(())
        }
        "packet_socket" => {
            // SAFETY: a plain system call.
            checked(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) })?;
            Ok(())
        }
        way if way.starts_with("pipe_") => pipe::fill(way, arg(0), number(1)),
        "segment" => segment::attach(number(0)),
        way if way.starts_with("module_") => module::play(way, arg(0)),
        "uring_open" => uring::open(arg(0)),
        "uring_read" => uring::read(arg(0), number(1)),
        "ptrace" | "vm_read" | "proc_mem" | "pidfd_getfd" => process::reach(name),
        "signal" => process::signal(number(0)),
        "as_toolkit" => process::as_toolkit(arg(0)),
        "bpf_load" => process::bpf_load(),
        "unshare" | "setns" | "mount" | "chroot" => process::namespace(name, arg(0)),
        "freeze" => process::freeze(arg(0)),
        _ => file::play(name, arg(0), arg(1), number(1)),
    }
}

/// The result of a system call that tells errors as -1.
fn checked(result: i32) -> Result<i32> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// As [`checked`], for calls that return a length.
fn checked_len(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_| Error::last_os_error())
}
