//! The only code that touches kernel memory. Every read goes through one list of offsets, and
//! every failure is a [`Fault`] that the caller counts.
//!
//! Rust emits no CO-RE relocations yet; when it does, this module changes and nothing else.

pub(crate) mod bpf;
pub(crate) mod file;
pub(crate) mod name;
pub(crate) mod path;
pub(crate) mod pid;
pub(crate) mod sock;
pub(crate) mod stream;
pub(crate) mod task;

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};
use monitor_common::OFFSET_ABSENT;

/// Kernel memory could not be read, or the kernel does not have the field.
#[derive(Clone, Copy)]
pub(crate) struct Fault;

/// Reads the field at `offset` of the struct at `base`.
#[inline(always)]
pub(crate) fn field<T: Copy>(base: u64, offset: &Global<u32>) -> Result<T, Fault> {
    let offset = offset.load();
    if offset == OFFSET_ABSENT || base == 0 {
        return Err(Fault);
    }
    at(base + u64::from(offset))
}

/// Reads a value at an address.
#[inline(always)]
pub(crate) fn at<T: Copy>(address: u64) -> Result<T, Fault> {
    // SAFETY: bpf_probe_read_kernel accepts any address and reports a fault; the value is plain.
    unsafe { bpf_probe_read_kernel(address as *const T) }.map_err(|_| Fault)
}

/// The address of a member that is a struct itself.
#[inline(always)]
pub(crate) fn member(base: u64, offset: &Global<u32>) -> Result<u64, Fault> {
    let offset = offset.load();
    if offset == OFFSET_ABSENT || base == 0 { Err(Fault) } else { Ok(base + u64::from(offset)) }
}

/// Fills `target` from an address, without a copy on the stack.
#[inline(always)]
pub(crate) fn into<const N: usize>(address: u64, target: &mut [u8; N]) -> Result<(), Fault> {
    // SAFETY: the target is N bytes long; the helper accepts any source address.
    let read = unsafe {
        generated::bpf_probe_read_kernel(
            target.as_mut_ptr().cast(),
            N as u32,
            address as *const core::ffi::c_void,
        )
    };
    if read == 0 { Ok(()) } else { Err(Fault) }
}
