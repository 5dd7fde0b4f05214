//! The only code that touches kernel memory. Every read goes through one list of offsets, and
//! every failure is a [`Fault`] that the caller counts.
//!
//! Rust emits no CO-RE relocations yet; when it does, this module changes and nothing else.

pub(crate) mod bpf;
pub(crate) mod file;
pub(crate) mod ipc;
pub(crate) mod name;
pub(crate) mod path;
pub(crate) mod pid;
pub(crate) mod sock;
pub(crate) mod stream;
pub(crate) mod task;

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};
use monitor_common::{CAST_CALL, OFFSET_ABSENT};

use crate::globals::{OFF_WORD, Place, TYPE_CAST};

/// Kernel memory could not be read, or the kernel does not have the field.
#[derive(Clone, Copy)]
pub(crate) struct Fault;

/// Reads a field of the struct at `base`: by a plain load, which costs a nanosecond where a helper
/// costs ten, if the kernel takes our word for the type; else by the helper.
///
/// The plain load yields zero where the helper would report a fault.
#[inline(always)]
pub(crate) fn field<T: Copy>(base: u64, place: &Place) -> Result<T, Fault> {
    let offset = place.load();
    if offset == OFFSET_ABSENT || base == 0 {
        return Err(Fault);
    }
    if TYPE_CAST.load() == 0 {
        return at(base + u64::from(offset));
    }
    Ok(load(cast(base, place.strukt()) + u64::from(offset)))
}

/// Reads a field as [`field`] does, and takes zero for one that cannot be read.
///
/// Not `field(…).unwrap_or(0)`: the value of an error is no value, and the compiler may let a
/// choice look at it before it is thrown away. Kernels that cannot rule the path out refuse such a
/// program (`R1 !read_ok`); here a value is written on every path.
#[inline(always)]
pub(crate) fn optional(base: u64, place: &Place) -> u64 {
    let offset = place.load();
    if offset == OFFSET_ABSENT || base == 0 {
        return 0;
    }
    if TYPE_CAST.load() != 0 {
        return load(cast(base, place.strukt()) + u64::from(offset));
    }
    let mut value = [0; 8];
    let _zero_on_a_fault = into(base + u64::from(offset), &mut value);
    u64::from_ne_bytes(value)
}

/// A plain load from a struct whose type the verifier knows.
///
/// The offset is a constant to the verifier, because the map it stands in is frozen (from 5.5), so
/// it finds the member and turns the load into one that yields zero on a fault
/// (kernel/bpf/verifier.c, `check_ptr_to_btf_access`). At any other address the program is refused
/// when it is loaded.
#[inline(always)]
fn load<T: Copy>(address: u64) -> T {
    // SAFETY: the verifier accepts this load only at a member of a type that it knows, and guards
    // it against faults; members are aligned.
    unsafe { core::ptr::read_volatile(address as *const T) }
}

/// `bpf_rdonly_cast` (kernel/bpf/helpers.c, 6.2): the same address as a pointer to a struct, which
/// may be read and nothing else. The verifier makes a register move of it.
///
/// It is a function of the kernel and not a helper, and the compiler cannot write the call of one.
/// So this calls a helper with a number that no helper has, and the daemon rewrites the call.
#[inline(always)]
fn cast(address: u64, strukt: u32) -> u64 {
    // SAFETY: as for every helper, the verifier checks the call; a kernel without the function
    // never reaches it, for `TYPE_CAST` is zero there.
    unsafe {
        let call: unsafe extern "C" fn(u64, u32) -> u64 = core::mem::transmute(CAST_CALL as usize);
        call(address, strukt)
    }
}

/// Reads a value at an address.
#[inline(always)]
pub(crate) fn at<T: Copy>(address: u64) -> Result<T, Fault> {
    // SAFETY: bpf_probe_read_kernel accepts any address and reports a fault; the value is plain.
    unsafe { bpf_probe_read_kernel(address as *const T) }.map_err(|_| Fault)
}

/// Reads eight bytes at an address: as [`field`] does, where a struct is known that begins with
/// such a number. What they are is for the caller to say; the kernel only wants to hear of a type.
#[inline(always)]
pub(crate) fn word(address: u64) -> Result<u64, Fault> {
    if TYPE_CAST.load() == 0 || OFF_WORD.load() != 0 {
        return at(address);
    }
    field(address, &OFF_WORD)
}

/// The address of a member that is a struct itself.
#[inline(always)]
pub(crate) fn member(base: u64, offset: &Place) -> Result<u64, Fault> {
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

/// A pointer that the verifier knows, as a number: it allows no arithmetic on those to some sockets
/// ("pointer arithmetic on `sock_common` prohibited").
#[inline(always)]
pub(crate) fn number_of(pointer: u64) -> u64 {
    // SAFETY: a local variable is read, which is that long.
    unsafe { bpf_probe_read_kernel(&raw const pointer) }.unwrap_or(0)
}
