//! The smallest `io_uring`: one entry, submitted and waited for.

use std::ffi::CString;
use std::io::{Error, Result};

use super::checked;

/// Offsets that `io_uring_setup`(2) tells (`struct io_uring_params`, 120 bytes, as 30 words).
const SQ_TAIL: usize = 11;
const SQ_ARRAY: usize = 16;
const CQ_CQES: usize = 25;

const OP_OPENAT: u8 = 18;
const OP_READ: u8 = 22;

/// `struct io_uring_sqe`, as far as these operations need it.
#[repr(C)]
#[derive(Default)]
struct Entry {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// Opens a file; no system call of the open family is made.
pub(super) fn open(path: &str) -> Result<()> {
    let text = CString::new(path)?;
    submit(Entry {
        opcode: OP_OPENAT,
        fd: libc::AT_FDCWD,
        address: text.as_ptr() as u64,
        ..Entry::default()
    })
    .map(drop)
}

/// Opens and reads a file.
pub(super) fn read(path: &str, bytes: usize) -> Result<()> {
    let text = CString::new(path)?;
    let fd = submit(Entry {
        opcode: OP_OPENAT,
        fd: libc::AT_FDCWD,
        address: text.as_ptr() as u64,
        ..Entry::default()
    })?;
    let mut block = vec![0u8; bytes];
    let len = u32::try_from(bytes).map_err(Error::other)?;
    let read = submit(Entry {
        opcode: OP_READ,
        fd,
        address: block.as_mut_ptr() as u64,
        len,
        ..Entry::default()
    })?;
    if usize::try_from(read) == Ok(bytes) { Ok(()) } else { Err(Error::other("a short read")) }
}

/// Makes a ring for one entry, submits it, and returns its result.
fn submit(entry: Entry) -> Result<i32> {
    let mut params = [0u32; 30];
    // SAFETY: the layout is io_uring's (include/uapi/linux/io_uring.h): the rings are mapped as
    // long as they are asked for, positions are those that the kernel told, one entry is used.
    unsafe {
        let fd = checked(
            i32::try_from(libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()))
                .unwrap_or(-1),
        )?;
        let ring = map(fd, 0)?;
        let completions = map(fd, 0x0800_0000)?;
        let entries = map(fd, 0x1000_0000)?;
        entries.cast::<Entry>().write(entry);
        ring.cast::<u32>().add(params[SQ_ARRAY] as usize / 4).write_volatile(0);
        ring.cast::<u32>().add(params[SQ_TAIL] as usize / 4).write_volatile(1);
        let entered =
            libc::syscall(libc::SYS_io_uring_enter, fd, 1, 1, 1, std::ptr::null::<u8>(), 0);
        checked(i32::try_from(entered).unwrap_or(-1))?;
        // A completion: user data (8), result (4), flags (4).
        let result =
            completions.cast::<i32>().add(params[CQ_CQES] as usize / 4 + 2).read_volatile();
        libc::close(fd);
        if result < 0 { Err(Error::from_raw_os_error(-result)) } else { Ok(result) }
    }
}

/// # Safety
/// `fd` is an `io_uring`, `offset` one of its three regions; each is shorter than a page here.
unsafe fn map(fd: i32, offset: i64) -> Result<*mut u64> {
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let at = unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), 4096, rights, libc::MAP_SHARED, fd, offset)
    };
    if at == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok(at.cast()) }
}
