//! Acts on files.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Error, Read as _, Result};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use super::{checked, checked_len};

/// Bytes of one read.
const BLOCK_BYTES: usize = 4096;

pub(super) fn play(name: &str, path: &str, other: &str, bytes: usize) -> Result<()> {
    match name {
        "open" => File::open(path).map(drop),
        "open_int80" => open_int80(path),
        "open_handle" => open_handle(path),
        "read" => read(path, bytes),
        "pread" => {
            let file = File::open(path)?;
            let mut block = [0; BLOCK_BYTES];
            for at in (0..bytes).step_by(BLOCK_BYTES) {
                file.read_exact_at(&mut block, at as u64)?;
            }
            Ok(())
        }
        "readv" => readv(path),
        "preadv2" => preadv2(path),
        "direct" => direct(path, bytes),
        "aio" => aio(path, bytes),
        "read_and_stay" => {
            read(path, bytes)?;
            std::thread::sleep(std::time::Duration::from_secs(30));
            Ok(())
        }
        "sendfile" => sendfile(path, bytes),
        "splice" => splice(path, bytes),
        "mmap" => map(path, bytes, libc::PROT_READ).map(drop),
        "map_exec" => map(path, BLOCK_BYTES, libc::PROT_READ | libc::PROT_EXEC).map(drop),
        "map_fresh" => {
            std::fs::write(path, [7; BLOCK_BYTES])?;
            map(path, BLOCK_BYTES, libc::PROT_READ | libc::PROT_EXEC).map(drop)
        }
        "copy" => copy(path, other),
        "rename" => std::fs::rename(path, other),
        "link" => std::fs::hard_link(path, other),
        "unlink" => std::fs::remove_file(path),
        "truncate" => OpenOptions::new().write(true).open(path)?.set_len(1),
        _ => Err(Error::other("no such act")),
    }
}

fn read(path: &str, bytes: usize) -> Result<()> {
    let mut file = File::open(path)?;
    let mut block = [0; BLOCK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let take = left.min(BLOCK_BYTES);
        file.read_exact(&mut block[..take])?;
        left -= take;
    }
    Ok(())
}

fn readv(path: &str) -> Result<()> {
    let file = File::open(path)?;
    let (mut first, mut second) = ([0u8; 1000], [0u8; 2000]);
    let vectors = [
        libc::iovec { iov_base: first.as_mut_ptr().cast(), iov_len: first.len() },
        libc::iovec { iov_base: second.as_mut_ptr().cast(), iov_len: second.len() },
    ];
    // SAFETY: both vectors point at live buffers of the lengths they name.
    let len = checked_len(unsafe { libc::readv(file.as_raw_fd(), vectors.as_ptr(), 2) })?;
    if len == 3000 { Ok(()) } else { Err(Error::other(format!("{len} bytes"))) }
}

fn preadv2(path: &str) -> Result<()> {
    let file = File::open(path)?;
    let mut block = [0u8; 3000];
    let vector = libc::iovec { iov_base: block.as_mut_ptr().cast(), iov_len: block.len() };
    // SAFETY: the vector points at a live buffer of the length it names.
    let len =
        checked_len(unsafe { libc::preadv2(file.as_raw_fd(), &raw const vector, 1, 4096, 0) })?;
    if len == 3000 { Ok(()) } else { Err(Error::other(format!("{len} bytes"))) }
}

/// Past the page cache: from aligned places to aligned memory.
fn direct(path: &str, bytes: usize) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    #[repr(C, align(4096))]
    struct Page([u8; BLOCK_BYTES]);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)?;
    let mut page = Page([0; BLOCK_BYTES]);
    for at in (0..bytes).step_by(BLOCK_BYTES) {
        file.read_exact_at(&mut page.0, at as u64)?;
    }
    Ok(())
}

/// `IOCB_CMD_PREAD` (`include/uapi/linux/aio_abi.h`).
const AIO_PREAD: u16 = 0;

/// `struct iocb`, little endian.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key: u32,
    flags: u32,
    operation: u16,
    priority: u16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: u64,
    rest: [u64; 2],
}

/// Linux AIO, in two requests that are submitted together.
fn aio(path: &str, bytes: usize) -> Result<()> {
    let file = File::open(path)?;
    let mut buffer = vec![0u8; bytes];
    let half = bytes / 2;
    let at = buffer.as_mut_ptr() as u64;
    let request = |offset: usize, bytes: usize| Request {
        operation: AIO_PREAD,
        fd: file.as_raw_fd().cast_unsigned(),
        buffer: at + offset as u64,
        bytes: bytes as u64,
        offset: offset as u64,
        ..Request::default()
    };
    let (first, second) = (request(0, half), request(half, bytes - half));
    let list = [&raw const first, &raw const second];
    let mut context = 0u64;
    let mut done = [[0u64; 4]; 2];
    // SAFETY: the kernel writes a handle, reads two requests and writes two results (32 bytes
    // each); all of them and the buffer live until both have come.
    unsafe {
        let call = |result: libc::c_long| checked(i32::try_from(result).unwrap_or(-1));
        call(libc::syscall(libc::SYS_io_setup, 2, &raw mut context))?;
        call(libc::syscall(libc::SYS_io_submit, context, 2, list.as_ptr()))?;
        let null = std::ptr::null::<u8>();
        call(libc::syscall(libc::SYS_io_getevents, context, 2, 2, done.as_mut_ptr(), null))?;
    }
    // The third word of a result is the length.
    let read: u64 = done.iter().map(|result| result[2]).sum();
    if read == bytes as u64 { Ok(()) } else { Err(Error::other(format!("{read} bytes"))) }
}

fn sendfile(path: &str, bytes: usize) -> Result<()> {
    let (from, to) = (File::open(path)?, OpenOptions::new().write(true).open("/dev/null")?);
    let mut left = bytes;
    while left > 0 {
        let (source, target) = (from.as_raw_fd(), to.as_raw_fd());
        // SAFETY: a plain system call on two open files.
        let len =
            checked_len(unsafe { libc::sendfile(target, source, std::ptr::null_mut(), left) })?;
        if len == 0 {
            return Err(Error::other("the file is shorter"));
        }
        left -= len;
    }
    Ok(())
}

fn splice(path: &str, bytes: usize) -> Result<()> {
    let from = File::open(path)?;
    let mut pipe = [0; 2];
    // SAFETY: the array has room for both ends.
    checked(unsafe { libc::pipe(pipe.as_mut_ptr()) })?;
    let null = std::ptr::null_mut;
    let mut sink = vec![0u8; 65536];
    let mut left = bytes;
    while left > 0 {
        let take = left.min(sink.len());
        // SAFETY: plain system calls; the buffer is as long as is asked for.
        unsafe {
            let len =
                checked_len(libc::splice(from.as_raw_fd(), null(), pipe[1], null(), take, 0))?;
            left -= len;
            let mut drained = 0;
            while drained < len {
                drained += checked_len(libc::read(pipe[0], sink.as_mut_ptr().cast(), sink.len()))?;
            }
        }
    }
    Ok(())
}

fn map(path: &str, bytes: usize, protection: i32) -> Result<u8> {
    let file = File::open(path)?;
    // SAFETY: a fresh mapping of an open file, at an address of the kernel's choice.
    unsafe {
        let fd = file.as_raw_fd();
        let at = libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_PRIVATE, fd, 0);
        if at == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        Ok(at.cast::<u8>().read_volatile())
    }
}

fn copy(path: &str, other: &str) -> Result<()> {
    let (from, to) = (File::open(path)?, File::create(other)?);
    let len = usize::try_from(from.metadata()?.len()).unwrap_or(0);
    let null = std::ptr::null_mut;
    let (source, target) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: a plain system call on two open files.
    checked_len(unsafe { libc::copy_file_range(source, null(), target, null(), len, 0) })?;
    Ok(())
}

/// `open` as a 32-bit program would call it: number 5 of the 32-bit table, through `int 0x80`.
fn open_int80(path: &str) -> Result<()> {
    let text = CString::new(path)?;
    // SAFETY: a mapping below 4 GiB, long enough for the path, which is copied there whole; the
    // call changes rax only, and rbx is put back.
    let result: i64 = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let low = libc::mmap(std::ptr::null_mut(), BLOCK_BYTES, rights, flags, -1, 0);
        if low == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let bytes = text.as_bytes_with_nul();
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), low.cast(), bytes.len());
        let result: i64;
        std::arch::asm!(
            "xchg rbx, {low}",
            "int 0x80",
            "xchg rbx, {low}",
            low = inout(reg) low as u64 => _,
            inlateout("rax") 5i64 => result,
            in("rcx") 0u64,
            in("rdx") 0u64,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
        result
    };
    if result < 0 { Err(Error::other(format!("int 0x80: {result}"))) } else { Ok(()) }
}

fn open_handle(path: &str) -> Result<()> {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; 128],
    }
    let text = CString::new(path)?;
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let mut mount = 0i32;
    let root = File::open("/tmp")?;
    // SAFETY: the handle has the room that it names; both calls get live pointers.
    unsafe {
        let at = &raw mut handle;
        let path = text.as_ptr();
        let made =
            libc::syscall(libc::SYS_name_to_handle_at, libc::AT_FDCWD, path, at, &raw mut mount, 0);
        checked(i32::try_from(made).unwrap_or(-1))?;
        let opened = libc::syscall(libc::SYS_open_by_handle_at, root.as_raw_fd(), at, 0);
        checked(i32::try_from(opened).unwrap_or(-1))?;
    }
    Ok(())
}
