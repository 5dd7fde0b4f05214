//! What a reader of weights puts into a pipe, by each call that does.

use std::fs::File;
use std::io::{IoSlice, Result, Write as _};
use std::os::fd::AsRawFd as _;

use super::checked_len;

/// Opens a labelled file, then puts `bytes` into a pipe of its own, fewer than it holds.
pub(super) fn fill(way: &str, weights: &str, bytes: usize) -> Result<()> {
    let from = File::open(weights)?;
    // The sum of a pipe whose inode had the same memory a moment ago goes on, and is told again
    // after a second.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let (_reader, mut writer) = std::io::pipe()?;
    let data = vec![7; bytes];
    let (first, rest) = data.split_at(bytes / 3);
    match way {
        "pipe_write" => writer.write_all(&data),
        "pipe_writev" => {
            writer.write_vectored(&[IoSlice::new(first), IoSlice::new(rest)]).map(drop)
        }
        "pipe_splice" => {
            let null = std::ptr::null_mut;
            // SAFETY: a plain system call without addresses.
            checked_len(unsafe {
                libc::splice(from.as_raw_fd(), null(), writer.as_raw_fd(), null(), bytes, 0)
            })?;
            Ok(())
        }
        "pipe_sendfile" => {
            let null = std::ptr::null_mut;
            // SAFETY: as above.
            checked_len(unsafe {
                libc::sendfile(writer.as_raw_fd(), from.as_raw_fd(), null(), bytes)
            })?;
            Ok(())
        }
        _ => {
            let piece = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: bytes };
            // SAFETY: the piece is alive, and as long as it says; the call reads it.
            checked_len(unsafe { libc::vmsplice(writer.as_raw_fd(), &raw const piece, 1, 0) })?;
            Ok(())
        }
    }
}
