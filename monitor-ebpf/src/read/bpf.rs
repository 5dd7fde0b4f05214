//! BPF objects behind descriptors (kernel/bpf/syscall.c: a file's private data is the object).

use super::{Fault, field, file, member};
use crate::globals::{
    OFF_BPF_AUX_ID, OFF_BPF_AUX_NAME, OFF_BPF_LINK_ID, OFF_BPF_MAP_ID, OFF_BPF_PROG_AUX,
};

/// Id of the map behind a descriptor of `task`.
#[inline(always)]
pub(crate) fn map_id(task: u64, descriptor: u32) -> Result<u32, Fault> {
    field(file::private(file::from_descriptor(task, descriptor)?)?, &OFF_BPF_MAP_ID)
}

/// Id of the link behind a descriptor of `task`.
#[inline(always)]
pub(crate) fn link_id(task: u64, descriptor: u32) -> Result<u32, Fault> {
    field(file::private(file::from_descriptor(task, descriptor)?)?, &OFF_BPF_LINK_ID)
}

/// The `struct bpf_prog_aux` of the program behind a descriptor of `task`.
#[inline(always)]
pub(crate) fn program_aux(task: u64, descriptor: u32) -> Result<u64, Fault> {
    field(file::private(file::from_descriptor(task, descriptor)?)?, &OFF_BPF_PROG_AUX)
}

/// Id of a program.
#[inline(always)]
pub(crate) fn aux_id(aux: u64) -> Result<u32, Fault> {
    field(aux, &OFF_BPF_AUX_ID)
}

/// Address of a program's name.
#[inline(always)]
pub(crate) fn aux_name(aux: u64) -> Result<u64, Fault> {
    member(aux, &OFF_BPF_AUX_NAME)
}
