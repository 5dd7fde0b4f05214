//! Acts on kernel modules: one that is taken and taken out again, and attempts that are refused.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Error, Read as _, Result};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};

use rustix::system::{delete_module, finit_module, init_module};

use super::checked;

/// What the kernel calls the spare module.
pub(crate) const NAME: &CStr = c"dummy";
/// Descriptors that processes around the caller hold open on one file, in a table of their own.
const HELD: usize = 200;
/// How many such processes there are: more than share one slab with the caller's table.
const HOLDERS: usize = 24;
/// How many tables after its own a made-up number is tried for; all in one slab.
pub(crate) const TABLES: usize = 7;

/// Plays the act `way` with the module, or with what is no module, at `path`.
pub(super) fn play(way: &str, path: &str) -> Result<()> {
    match way {
        "module_file" => finit_module(&File::open(path)?, c"", 0)?,
        "module_memory" => init_module(&image(path)?, c"")?,
        "module_refused" => return refused(finit_module(&File::open(path)?, c"", 0)),
        "module_refused_memory" => return refused(init_module(&image(path)?, c"")),
        "module_without_right" => {
            let file = File::open(path)?;
            give_up_rights()?;
            return refused(finit_module(&file, c"", 0));
        }
        _ => return made_up(path),
    }
    Ok(delete_module(NAME, 0)?)
}

fn image(path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refused(result: rustix::io::Result<()>) -> Result<()> {
    match result {
        Ok(()) => Err(Error::other("the kernel took a module that it should have refused")),
        Err(_) => Ok(()),
    }
}

/// Another user has no capabilities.
fn give_up_rights() -> Result<()> {
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: a plain system call.
    checked(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) }).map(drop)
}

/// Processes that hold a file open, ended with their parent's interest.
struct Holders(Vec<Child>);

impl Drop for Holders {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// Names descriptors beyond the own table, where the tables of other processes lie: a look-up
/// without a bound finds the files that those hold.
fn made_up(path: &str) -> Result<()> {
    let file = File::open(path)?;
    let held = i32::try_from(HELD).map_err(Error::other)?;
    // SAFETY: plain system calls on a descriptor of our own and a free number.
    checked(unsafe { libc::dup2(file.as_raw_fd(), held) })?;
    let mut holders = Holders(Vec::new());
    for _ in 0..HOLDERS {
        let mut command = Command::new("/proc/self/exe");
        holders.0.push(command.args(["act", "sleep"]).stdin(Stdio::null()).spawn()?);
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let slots = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    let slots: usize = slots.and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        Error::other("/proc/self/status names no FDSize, the slots of the table of descriptors")
    })?;
    give_up_rights()?;
    for table in 1..=TABLES {
        let number = table * slots + HELD;
        // SAFETY: a plain system call; the text lives through it.
        let done = unsafe { libc::syscall(libc::SYS_finit_module, number, c"".as_ptr(), 0) };
        if done == 0 {
            return Err(Error::other("the kernel took a module by a number that is none"));
        }
    }
    Ok(())
}
