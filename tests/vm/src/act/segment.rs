//! A segment of System V shared memory, behind as many others as make its number hard to find.

use std::io::{Error, Result};

use super::checked;

/// Segments before it: more than one node of the kernel's tree of numbers has.
const OTHERS: usize = 70;

/// Attaches a segment of so many bytes, to write and then to read only.
pub(super) fn attach(bytes: usize) -> Result<()> {
    let others: Vec<i32> = (0..OTHERS).map(|_| made(4096)).collect::<Result<_>>()?;
    let number = made(bytes)?;
    for flags in [0, libc::SHM_RDONLY] {
        // SAFETY: the kernel chooses the address, where nothing is yet.
        let address = unsafe { libc::shmat(number, std::ptr::null(), flags) };
        if address.addr() == usize::MAX {
            return Err(Error::last_os_error());
        }
    }
    for number in others.into_iter().chain([number]) {
        // SAFETY: a plain system call; nothing is written.
        checked(unsafe { libc::shmctl(number, libc::IPC_RMID, std::ptr::null_mut()) })?;
    }
    Ok(())
}

fn made(bytes: usize) -> Result<i32> {
    // SAFETY: a plain system call.
    checked(unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, libc::IPC_CREAT | 0o600) })
}
