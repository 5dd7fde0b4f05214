//! Bytes of labelled files, at the returns of the functions that read: what was moved, not what was
//! asked for. io_uring's own reads are seen where it completes them.

use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use monitor_common::OFFSET_ABSENT;

use crate::globals::{OFF_BACKING_FILE, OFF_INODE_SIZE, OFF_KIOCB_FILE};
use crate::read::{at, field, file};
use crate::reader::{self, Road};

/// match-proto:v6.18:fs/read_write.c:
/// `vfs_read(struct file *file, char *buf, size_t count, loff_t *pos) -> ssize_t`
#[fexit(function = "vfs_read")]
pub fn read_returned(ctx: FExitContext) -> i32 {
    moved(ctx.arg(0), ctx.arg(4))
}

/// match-proto:v6.18:fs/read_write.c: `vfs_readv(struct file *file, const struct iovec *vec,
/// unsigned long vlen, loff_t *pos, rwf_t flags) -> ssize_t`
#[fexit(function = "vfs_readv")]
pub fn readv_returned(ctx: FExitContext) -> i32 {
    moved(ctx.arg(0), ctx.arg(5))
}

/// Whatever moves pages of a file to a pipe: sendfile, splice, `copy_file_range` without a faster
/// way.
///
/// match-proto:v6.18:fs/splice.c: `do_splice_read(struct file *in, loff_t *ppos,
/// struct pipe_inode_info *pipe, size_t len, unsigned int flags) -> ssize_t`; before 6.8
/// `vfs_splice_read`, before 6.5 `do_splice_to`, with the same arguments
#[fexit(function = "do_splice_read")]
pub fn spliced(ctx: FExitContext) -> i32 {
    let bytes: i64 = ctx.arg(5);
    if bytes > 0 {
        // From 6.5 on, which brought `struct backing_file`, an overlay comes by here again for the
        // file in its layer (fs/overlayfs/file.c, `ovl_splice_read`).
        let comes_again = OFF_BACKING_FILE.load() != OFFSET_ABSENT;
        reader::add_once(ctx.arg(0), bytes as u64, Road::Read, comes_again);
    }
    0
}

/// match-proto:v6.18:mm/util.c: `vm_mmap_pgoff(struct file *file, unsigned long addr,
/// unsigned long len, unsigned long prot, unsigned long flag, unsigned long pgoff)
/// -> unsigned long`
#[fexit(function = "vm_mmap_pgoff")]
pub fn mapped(ctx: FExitContext) -> i32 {
    let file: u64 = ctx.arg(0);
    let address: i64 = ctx.arg(6);
    // An error is a small negative number (include/linux/err.h).
    if file != 0 && !(-4095..0).contains(&address) {
        reader::add(file, ctx.arg(2), Road::Mapped);
    }
    0
}

/// `aio_nbytes` and `aio_offset` of a `struct iocb` (include/uapi/linux/aio_abi.h).
const IOCB_BYTES_OFFSET: u64 = 32;
const IOCB_POSITION_OFFSET: u64 = 40;

/// Linux AIO tells its result to nobody but the process: what is asked for is bounded by what there
/// is.
///
/// match-proto:v6.18:fs/aio.c: `aio_read(struct kiocb *req, const struct iocb *iocb, bool vectored,
/// bool compat)`
#[fentry(function = "aio_read")]
pub fn aio_started(ctx: FEntryContext) -> i32 {
    // A vector's length stands in the process's memory.
    let is_vector = ctx.arg::<u64>(2) & 1 != 0;
    let (request, iocb): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let Ok(file) = field::<u64>(request, &OFF_KIOCB_FILE) else { return 0 };
    let Ok(size) = file::inode(file).and_then(|inode| field::<u64>(inode, &OFF_INODE_SIZE)) else {
        return 0;
    };
    let (Ok(asked), Ok(position)) =
        (at::<u64>(iocb + IOCB_BYTES_OFFSET), at::<u64>(iocb + IOCB_POSITION_OFFSET))
    else {
        return 0;
    };
    let left = size.saturating_sub(position);
    let bytes = if is_vector || asked > left { left } else { asked };
    if bytes > 0 {
        reader::add(file, bytes, Road::Read);
    }
    0
}

#[inline(always)]
fn moved(file: u64, bytes: i64) -> i32 {
    if bytes > 0 {
        reader::add(file, bytes as u64, Road::Read);
    }
    0
}
